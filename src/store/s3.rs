//! A store in a bucket of S3, or of something compatible with it. The only file that knows the AWS SDK.
//!
//! The SDK's own retries are off: the uploader repeats, because it knows what is still worth repeating.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use http::Uri;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tracing::{error, info};

use super::{At, Classes, Condition, Listed, Object, Store, StoreError, Version, key, probe_object, small_object};
use crate::config::{S3Config, StorageClass};

/// A bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// Bodies are part of the signature. Not over TLS, which protects them already: hashing halves the speed.
    signed_bodies: bool,
    /// For errors: the bucket and where it is.
    place: String,
    /// Whether it knows `If-Match`, once that was asked.
    conditional: Arc<OnceCell<bool>>,
    classes: Arc<Classes>,
    /// It has refused one of them.
    classless: Arc<AtomicBool>,
}

/// An access key, where it does not come from the AWS chain. Never shown: `Debug` hides the secret.
#[derive(Clone)]
pub struct Credentials {
    /// Its public part.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, hidden)", self.access_key_id)
    }
}

impl S3Store {
    /// Makes a client of the bucket, without asking it anything. The credentials are those of the AWS chain
    /// (environment, profile, container or instance role) where none are given.
    ///
    /// # Errors
    /// [`StoreError::Config`] where the endpoint is not a URL, or no region is known.
    pub async fn open(config: &S3Config, credentials: Option<Credentials>) -> Result<Self, StoreError> {
        let place = place(config);
        let signed_bodies = match config.endpoint.as_deref().map(|endpoint| scheme(endpoint, &place)) {
            Some(scheme) => scheme? == http::uri::Scheme::HTTP,
            None => false,
        };
        Ok(Self {
            client: client(config, credentials, &place).await?,
            bucket: config.bucket.clone(),
            prefix: if config.prefix.is_empty() { String::new() } else { format!("{}/", config.prefix) },
            signed_bodies,
            place,
            conditional: Arc::default(),
            classes: Arc::default(),
            classless: Arc::default(),
        })
    }

    /// Puts objects in these storage classes. Where the store refuses one, it says so once and uses its own.
    #[must_use]
    pub fn with_classes(self, classes: Classes) -> Self {
        Self { classes: Arc::new(classes), ..self }
    }

    /// The object's name in the bucket.
    fn name(&self, key: &str) -> Result<String, StoreError> {
        key::check(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    /// Waits for a request, but not for ever.
    async fn within<T, E>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match timeout(limit, request).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure {
                code: String::new(),
                error: StoreError::Timeout(self.at(format!("no answer within {} s", limit.as_secs()))),
            }),
        }
    }

    async fn write(&self, object: Object, condition: Condition) -> Result<Option<Version>, Failure> {
        let class = self.classes.of(&object.key).filter(|_| !self.classless.load(Ordering::Relaxed));
        let Some(class) = class else { return self.write_in(None, object, condition).await };
        let written = self.write_in(Some(class), object.clone(), condition.clone()).await;
        match written {
            Err(Failure { code, error }) if code == "InvalidStorageClass" => {
                if !self.classless.swap(true, Ordering::Relaxed) {
                    let class = class.as_str();
                    error!(
                        class,
                        "recordings are put in the bucket's own storage class: {error}. Correct recordings_storage_class and \
                         start again"
                    );
                }
                self.write_in(None, object, condition).await
            }
            written => written,
        }
    }

    async fn write_in(
        &self,
        class: Option<&StorageClass>,
        object: Object,
        condition: Condition,
    ) -> Result<Option<Version>, Failure> {
        let limit = body_timeout(object.data.len());
        let name = self.name(&object.key).map_err(|error| Failure { code: String::new(), error })?;
        let put = self.client.put_object().bucket(&self.bucket).key(name);
        let put = put.content_type(object.content_type).cache_control(object.cache_control);
        let put = put.set_storage_class(class.map(|class| class.as_str().into()));
        let put = match condition {
            Condition::Any | Condition::Found => put,
            // A store that gives no tag cannot be asked for one.
            Condition::Is(Version(tag)) if tag.is_empty() => put,
            Condition::Absent => put.if_none_match("*"),
            Condition::Is(Version(tag)) => put.if_match(tag),
        };
        let put = put.body(ByteStream::from(object.data)).customize();
        let put = if self.signed_bodies { put } else { put.disable_payload_signing() };
        let output = self.within(limit, put.send()).await?;
        Ok(output.e_tag().map(|tag| Version(tag.to_owned())))
    }

    async fn delete_batch(&self, names: &[String]) -> Result<(), StoreError> {
        let objects: Result<Vec<_>, BuildError> =
            names.iter().map(|name| ObjectIdentifier::builder().key(name).build()).collect();
        let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
        let delete = delete.map_err(|error| StoreError::Refused(self.at(error.to_string())))?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(delete).send();
        match self.within(REQUEST_TIMEOUT, request).await {
            Ok(output) => self.all_deleted(&output),
            // What is not known to the server at all is worth trying object by object.
            Err(Failure { error: StoreError::Refused(_), .. }) => self.delete_each(names).await,
            Err(failure) => Err(failure.error),
        }
    }

    /// A batch succeeds as a request even where it fails for its objects.
    fn all_deleted(&self, output: &DeleteObjectsOutput) -> Result<(), StoreError> {
        match output.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            None => Ok(()),
            Some(error) => {
                let code = error.code().unwrap_or_default();
                let detail =
                    format!("{}: {code} {}", error.key().unwrap_or_default(), error.message().unwrap_or_default());
                let status = if code == "AccessDenied" { 403 } else { 500 };
                Err(StoreError::from_answer(code, status, self.at(detail)))
            }
        }
    }

    async fn delete_each(&self, names: &[String]) -> Result<(), StoreError> {
        for name in names {
            let request = self.client.delete_object().bucket(&self.bucket).key(name).send();
            match self.within(REQUEST_TIMEOUT, request).await {
                Err(failure) if failure.code != "NoSuchKey" => return Err(failure.error),
                _ => {}
            }
        }
        Ok(())
    }

    fn at(&self, detail: String) -> At {
        At { place: self.place.clone(), detail: one_line(&detail) }
    }

    fn failure<E>(&self, error: &SdkError<E>) -> Failure
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let detail = || self.at(with_causes(error));
        let error = match error {
            SdkError::TimeoutError(_) => StoreError::Timeout(detail()),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => StoreError::Unreachable(detail()),
            SdkError::DispatchFailure(failure) if failure.is_io() => StoreError::Unreachable(detail()),
            SdkError::DispatchFailure(_) if speaks_of_credentials(error) => StoreError::Denied(detail()),
            SdkError::DispatchFailure(_) => StoreError::Unreachable(detail()),
            SdkError::ServiceError(context) => return self.answered(context.err(), context.raw()),
            SdkError::ResponseError(_) => StoreError::Server(detail()),
            _ => StoreError::Refused(detail()),
        };
        Failure { code: String::new(), error }
    }

    /// The server answered with an error.
    fn answered(&self, error: &impl ProvideErrorMetadata, answer: &aws_sdk_s3::config::http::HttpResponse) -> Failure {
        let code = error.code().unwrap_or_default();
        let status = answer.status().as_u16();
        let date = answer.headers().get("date").filter(|_| code == "RequestTimeTooSkewed");
        let said = [Some(code), error.message(), date.map(|_| "its clock says"), date].into_iter().flatten();
        let detail = said.fold(format!("HTTP {status}"), |detail, word| format!("{detail} {word}"));
        Failure { code: code.to_owned(), error: StoreError::from_answer(code, status, self.at(detail)) }
    }
}

/// By what a store refuses conditions that it does not know: as a rule 501, some 400, some without a word.
const UNKNOWN_CONDITION: [&str; 4] = ["NotImplemented", "InvalidArgument", "InvalidRequest", ""];

/// Whether a write was refused by its condition.
fn changed(written: Result<Option<Version>, StoreError>) -> Result<bool, StoreError> {
    match written {
        Ok(_) => Ok(false),
        Err(StoreError::Changed(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// An error, and the server's own word for it, if it had one.
struct Failure {
    code: String,
    error: StoreError,
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, object: Object) -> Result<(), StoreError> {
        self.write(object, Condition::Any).await.map(drop).map_err(|failure| failure.error)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read(key).await?.map(|(data, _)| data))
    }

    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.name(key)?).send();
        let output = match self.within(REQUEST_TIMEOUT, request).await {
            Ok(output) => output,
            Err(failure) if failure.code == "NoSuchKey" => return Ok(None),
            Err(failure) => return Err(failure.error),
        };
        let version = Version(output.e_tag().unwrap_or_default().to_owned());
        let length = usize::try_from(output.content_length().unwrap_or(0)).unwrap_or(0);
        match timeout(body_timeout(length), output.body.collect()).await {
            Ok(Ok(body)) => Ok(Some((body.into_bytes(), version))),
            Ok(Err(error)) => Err(StoreError::Unreachable(self.at(with_causes(&error)))),
            Err(_) => Err(StoreError::Timeout(self.at(format!("the body of {key} stopped")))),
        }
    }

    async fn put_if(&self, object: Object, condition: Condition) -> Result<Option<Version>, StoreError> {
        if condition == Condition::Found {
            let (found, denied) = match self.read(&object.key).await {
                Ok(found) => (found, None),
                // Without the right to list, so is what is not there.
                Err(error @ StoreError::Denied(_)) => (None, Some(error)),
                Err(error) => return Err(error),
            };
            let condition = found.map_or(Condition::Absent, |(_, version)| Condition::Is(version));
            return match (self.put_if(object, condition).await, denied) {
                (Err(StoreError::Changed(_)), Some(denied)) => Err(denied),
                (written, _) => written,
            };
        }
        match self.write(object.clone(), condition.clone()).await {
            // A store may refuse what it does not know; what else is refused is not written in any case.
            Err(Failure { code, error: StoreError::Refused(_) })
                if condition != Condition::Any && UNKNOWN_CONDITION.contains(&code.as_str()) =>
            {
                self.write(object, Condition::Any).await.map_err(|failure| failure.error)
            }
            Err(Failure { code, error: StoreError::NoBucket(at) }) if code == "NoSuchKey" => {
                Err(StoreError::Changed(at))
            }
            written => written.map_err(|failure| failure.error),
        }
    }

    async fn is_conditional(&self) -> Result<bool, StoreError> {
        let ask = || async {
            let object = || small_object("headwater-conditions");
            // The first time there is none.
            let absent = || self.put_if(object(), Condition::Absent);
            let made_anew = changed(absent().await)? || changed(absent().await)?;
            let other = Condition::Is(Version("\"00000000000000000000000000000000\"".to_owned()));
            if made_anew && changed(self.put_if(object(), other).await)? {
                return Ok(true);
            }
            info!(
                "{} knows no conditional writes: of two processes for one channel the older stops before its next playlist, but \
                 what it has on its way then may still replace a newer one",
                self.place
            );
            Ok(false)
        };
        self.conditional.get_or_try_init(ask).await.copied()
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for batch in keys.chunks(DELETE_KEYS_MAX) {
            let names: Vec<_> = batch.iter().map(|key| self.name(key)).collect::<Result<_, _>>()?;
            self.delete_batch(&names).await?;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        key::check(prefix.trim_end_matches('/'))?;
        // It may be no key of this server's.
        let after = after.map(|after| format!("{}{after}", self.prefix));
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{}{prefix}", self.prefix));
        let output = self.within(REQUEST_TIMEOUT, request.set_start_after(after).send()).await;
        let output = output.map_err(|failure| failure.error)?;
        let listed = output.contents().iter().filter_map(|object| {
            let key = object.key()?.strip_prefix(&self.prefix)?.to_owned();
            let bytes = object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
            Some(Listed { key, modified: SystemTime::try_from(*object.last_modified()?).ok()?, bytes })
        });
        Ok(listed.collect())
    }

    /// The right to delete is not asked for: without it the probe's object stays.
    async fn probe(&self) -> Result<(), StoreError> {
        let object = probe_object();
        let key = object.key.clone();
        self.put(object).await?;
        self.delete(&[key]).await.or(Ok(()))
    }
}

fn place(config: &S3Config) -> String {
    match (&config.endpoint, &config.region) {
        (Some(endpoint), _) => format!("bucket `{}` at {endpoint}", config.bucket),
        (None, Some(region)) => format!("bucket `{}` of AWS in {region}", config.bucket),
        (None, None) => format!("bucket `{}` of AWS", config.bucket),
    }
}

/// The scheme of the endpoint, which must be a URL of a host.
fn scheme(endpoint: &str, place: &str) -> Result<http::uri::Scheme, StoreError> {
    let invalid = |detail: &str| StoreError::Config(At { place: place.to_owned(), detail: detail.to_owned() });
    let uri: Uri = endpoint.parse().map_err(|_| invalid("store.endpoint is not a URL"))?;
    match (uri.scheme(), uri.host()) {
        (Some(scheme), Some(_)) if ["http", "https"].contains(&scheme.as_str()) => Ok(scheme.clone()),
        _ => Err(invalid("store.endpoint must begin with http:// or https:// and a host")),
    }
}

async fn client(config: &S3Config, credentials: Option<Credentials>, place: &str) -> Result<Client, StoreError> {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region(config))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL_TIMEOUT).build());
    let loader = match credentials {
        Some(own) => loader.credentials_provider(aws_sdk_s3::config::Credentials::new(
            own.access_key_id,
            own.secret_access_key,
            None,
            None,
            "headwater",
        )),
        None => loader,
    };
    let shared = loader.load().await;
    if shared.region().is_none() {
        let detail = "no region is known: set store.region or AWS_REGION".to_owned();
        return Err(StoreError::Config(At { place: place.to_owned(), detail }));
    }
    let mut builder = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(config.path_style)
        // Stores that are merely compatible refuse the newer trailing checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(builder.build()))
}

/// The region that is configured; else that of the AWS chain. With an endpoint of one's own the chain ends before the
/// question to the cloud's metadata service, which would take seconds elsewhere; such stores mostly take any region.
fn region(config: &S3Config) -> RegionProviderChain {
    let configured = RegionProviderChain::first_try(config.region.clone().map(Region::new));
    if config.endpoint.is_none() {
        return configured.or_default_provider();
    }
    configured
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::from_static("us-east-1"))
}

/// The error or one of its causes is about finding credentials.
fn speaks_of_credentials(error: &(dyn Error + 'static)) -> bool {
    with_causes(error).contains("credential")
}

/// An error and its causes, each told once.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// What a server says is for a line of the log: without line breaks and other control characters, and of bounded length.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(DETAIL_CHARS_MAX).collect()
}

/// How long a request with a body of this length may take: as long as at 1 Mbit/s, because a slow uplink that many
/// uploads share is not an error; one that stands still is found by the SDK's protection against that.
fn body_timeout(bytes: usize) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    REQUEST_TIMEOUT.saturating_add(Duration::from_millis(bytes / BYTES_PER_MILLISECOND_MIN))
}

const DETAIL_CHARS_MAX: usize = 600;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
const BYTES_PER_MILLISECOND_MIN: u64 = 125;
/// Keys that one batch deletes. S3 takes ten times as many, but a store on several machines may take tens of milliseconds for each,
/// and has to answer within [`REQUEST_TIMEOUT`]: asked again it begins anew.
const DELETE_KEYS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_stays_on_its_line() {
        assert_eq!(one_line("a\r\n  WARN forged\x1b[2J "), "a WARN forged [2J");
        assert_eq!(one_line(&"ä".repeat(5000)).chars().count(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn large_bodies_may_take_longer() {
        assert_eq!(body_timeout(0), Duration::from_secs(10));
        assert_eq!(body_timeout(1_250_000), Duration::from_secs(20));
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_url_is_a_configuration_error() {
        for endpoint in ["", "localhost", "localhost:9000", "ftp://host", "http://"] {
            let config = S3Config {
                bucket: "live".to_owned(),
                prefix: String::new(),
                region: None,
                endpoint: Some(endpoint.to_owned()),
                path_style: true,
            };
            let error = S3Store::open(&config, None).await.unwrap_err();
            assert_eq!(error.kind(), "config", "{endpoint}");
        }
    }

    #[tokio::test]
    async fn bodies_are_signed_only_where_nothing_else_protects_them() {
        for (endpoint, signed) in [(Some("http://127.0.0.1:1"), true), (Some("https://s3.test"), false), (None, false)]
        {
            let config = S3Config {
                bucket: "live".to_owned(),
                prefix: String::new(),
                region: Some("eu-central-1".to_owned()),
                endpoint: endpoint.map(str::to_owned),
                path_style: true,
            };
            let store = S3Store::open(&config, None).await.unwrap();
            assert_eq!(store.signed_bodies, signed, "{endpoint:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials { access_key_id: "public".to_owned(), secret_access_key: "hush".to_owned() };
        assert_eq!(format!("{credentials:?}"), "Credentials(public, hidden)");
    }
}
