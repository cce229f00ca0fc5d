//! The HTTP client of an audit: one request a job, with bounds on its time and its bytes.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::Request;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION, RANGE, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use tokio::time::{Instant, timeout};
use url::Url;

use super::audit::{Failure, Fetched, Job, Outcome, What};
use super::playlist::TEXT_BYTES_MAX;
use super::reference::resolve;

/// The largest segment.
const MEDIA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// From one place to the next, before one gives up.
const REDIRECTS_MAX: usize = 5;

/// Fetches.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    began: Instant,
}

impl Client {
    /// Its clock starts here.
    ///
    /// # Errors
    /// Where the system's certificates cannot be read.
    pub(super) fn new() -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .build();
        Ok(Self { http: HyperClient::builder(TokioExecutor::new()).build(connector), began: Instant::now() })
    }

    /// Since the clock was started.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Fetches what `job` names.
    pub(super) async fn fetch(&self, job: &Job) -> Outcome {
        timeout(job.patience, self.follow(job)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn follow(&self, job: &Job) -> Outcome {
        let mut url = job.url.clone();
        let sent = self.now();
        for hop in 0..=REDIRECTS_MAX {
            let response = self.http.request(request(&url, job)?).await;
            let response = response.map_err(|error| Failure::Other(causes(&error)))?;
            let head = self.now();
            let to = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            if let Some(to) = to {
                let to = to.to_str().ok().and_then(|to| resolve(&url, to));
                url = to.ok_or_else(|| Failure::Other("redirected to no URL".to_owned()))?;
                continue;
            }
            let (parts, body) = response.into_parts();
            let limit = if is_playlist(job) { TEXT_BYTES_MAX } else { MEDIA_BYTES_MAX };
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| Failure::Other(causes(error.as_ref())))?.to_bytes();
            let gzip = parts.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
            return Ok(Fetched {
                status: parts.status,
                version: parts.version,
                body: if gzip { unpack(&body)? } else { body },
                headers: parts.headers,
                redirected: (hop > 0).then_some(url),
                sent,
                head,
                received: self.now(),
            });
        }
        Err(Failure::Other(format!("redirected more than {REDIRECTS_MAX} times")))
    }
}

fn request(url: &Url, job: &Job) -> Result<Request<Empty<Bytes>>, Failure> {
    let agent = concat!("headwater-verify/", env!("CARGO_PKG_VERSION"));
    let mut request = Request::get(url.as_str()).header(USER_AGENT, agent);
    if is_playlist(job) {
        request = request.header(ACCEPT_ENCODING, "gzip");
    }
    if let Some((offset, length)) = job.range.filter(|(_, length)| *length > 0) {
        let last = offset.saturating_add(length - 1);
        request = request.header(RANGE, format!("bytes={offset}-{last}"));
    }
    request.body(Empty::new()).map_err(|error| Failure::Other(causes(&error)))
}

fn is_playlist(job: &Job) -> bool {
    matches!(job.what, What::Start | What::Playlist { .. })
}

fn unpack(packed: &[u8]) -> Result<Bytes, Failure> {
    let mut text = Vec::new();
    let limit = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    let read = GzDecoder::new(packed).take(limit).read_to_end(&mut text);
    read.map_err(|error| Failure::Other(format!("what it says is gzip is not: {error}")))?;
    Ok(text.into())
}

/// An error and what caused it: the outermost alone says too little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
