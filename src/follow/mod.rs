//! Follows another server of Headwater over HTTP: what that one has, this one has a moment later. Requests that wait there wait here,
//! all who ask for one thing together, so that origins fan out as a tree. Where it cannot be reached, and for what it does not
//! have, there is another archive: the store.

mod reach;
mod reply;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::archive::{Archive, Copies, Copy, Disk, Found, Lack, Limits, Wanted};
use crate::caching::Cache;
use crate::config::CdnSecret;
use crate::layout::Resource;
use crate::metrics::{KindLabel, Metrics};
use crate::source::ChannelName;
use reach::Reach;
use reply::Reply;

/// The server that is followed.
#[derive(Debug)]
pub struct Upstream {
    follower: Arc<Follower>,
    copies: Copies,
}

/// What an upstream is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `http://HOST:PORT` or `https://…`, without a slash at its end.
    pub base: String,
    /// What this server wants to be shown by those who ask it; the one that it follows wants the same.
    pub secret: Option<CdnSecret>,
    /// What copies may take.
    pub limits: Limits,
    /// Where media is kept besides.
    pub disk: Option<Disk>,
    /// Who has what it does not have.
    pub otherwise: Arc<dyn Archive>,
    /// Where fetches are counted.
    pub metrics: Metrics,
}

/// Asks the server.
#[derive(Debug)]
struct Follower {
    base: String,
    /// What it wants to be shown.
    secret: Option<(HeaderName, HeaderValue)>,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Bounds the requests that do not wait for what is coming.
    requests: Semaphore,
    reach: Reach,
    otherwise: Arc<dyn Archive>,
    metrics: Metrics,
}

/// What is asked for, by who asks for it on behalf of others.
#[derive(Clone, Debug)]
struct Question {
    channel: ChannelName,
    resource: Resource,
    directives: Option<String>,
}

impl Upstream {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// Where the server has a certificate, and those that the system trusts cannot be read.
    pub fn new(setup: Setup) -> std::io::Result<Self> {
        let Setup { base, secret, limits, disk, otherwise, metrics } = setup;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector(&base)?);
        let secret = secret.and_then(|CdnSecret { header, values }| {
            let mut value = HeaderValue::from_str(values.first()?.as_str()).ok()?;
            value.set_sensitive(true);
            Some((header, value))
        });
        let stale = metrics.archive_fetches.get_or_create(&KindLabel { kind: "stale" }).clone();
        let (requests, reach) = (Semaphore::new(REQUESTS_MAX), Reach::new(base.clone()));
        let follower = Arc::new(Follower { base, secret, client, requests, reach, otherwise, metrics });
        Ok(Self { follower, copies: Copies::new(limits, stale).with_disk(disk) })
    }
}

/// Connections that are found dead by themselves, as nothing may come over one that waits for a part.
fn connector(base: &str) -> std::io::Result<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(ALIVE));
    tcp.set_keepalive_interval(Some(ALIVE));
    tcp.set_keepalive_retries(Some(2));
    let builder = HttpsConnectorBuilder::new();
    let provider = aws_lc_rs::default_provider();
    let builder = if base.starts_with("https:") {
        builder.with_provider_and_native_roots(provider)?
    } else {
        // A machine that trusts nobody need not.
        let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
        let config = config.map_err(std::io::Error::other)?.with_root_certificates(RootCertStore::empty());
        builder.with_tls_config(config.with_no_client_auth())
    };
    // Of HTTP/2 requests that wait would take all streams of the one connection that there would be.
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

impl Question {
    fn new(wanted: Wanted<'_>) -> Self {
        let (channel, resource) = (wanted.channel.clone(), wanted.resource.clone());
        Self { channel, resource, directives: wanted.directives.map(str::to_owned) }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { channel: &self.channel, resource: &self.resource, directives: self.directives.as_deref() }
    }
}

impl Follower {
    async fn load(self: Arc<Self>, path: String, question: Question) -> Found {
        let waits = question.wanted().waits();
        let found = match self.ask(&path, waits).await {
            Some(reply) => reply.found(&question.resource),
            None => Err(Lack::Failing),
        };
        match found {
            // Of another server, no longer in its memory, or not to be had from there. A part is in no store, which says so at once.
            Err(lack @ (Lack::Absent | Lack::Gone | Lack::Failing)) => {
                let other = self.otherwise.fetch(question.wanted()).await;
                // That it was there, or that nobody knows, says more than that it is not in the store.
                if matches!(other, Err(Lack::Absent)) { Err(lack) } else { other }
            }
            Err(Lack::Busy) if !waits => self.otherwise.fetch(question.wanted()).await,
            found => found,
        }
    }

    /// What the server answers; none where it does not, or not in time. Only where it does not begin to answer is it lost.
    async fn ask(&self, path: &str, waits: bool) -> Option<Reply> {
        self.reach.enter()?;
        let _turn = if waits { None } else { Some(timeout(SHORT, self.requests.acquire()).await.ok()?.ok()?) };
        let patience = if waits { LONG } else { SHORT };
        let begun = tokio::select! {
            begun = timeout(patience, self.begin(path)) => begun,
            // Others have found out meanwhile.
            () = self.reach.lost() => return None,
        };
        let begun = begun.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())));
        self.reach.tell(begun.as_ref().err());
        let reply = match begun {
            Ok(response) => timeout(BODY, whole(response)).await.ok().flatten(),
            Err(_) => None,
        };
        let kind = if reply.is_some() { "upstream" } else { "upstream_failed" };
        self.metrics.archive_fetches.get_or_create(&KindLabel { kind }).inc();
        reply
    }

    /// Asks, and once more where the connection fails: one that was idle may have been closed from there just now.
    async fn begin(&self, path: &str) -> Result<Response<Incoming>, String> {
        match self.request(path).await {
            Err(_) => self.request(path).await,
            answer => answer,
        }
    }

    async fn request(&self, path: &str) -> Result<Response<Incoming>, String> {
        let agent = concat!("headwater/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::get(format!("{}{path}", self.base)).header(USER_AGENT, agent);
        if let Some((name, value)) = &self.secret {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        self.client.request(request).await.map_err(|error| innermost(&error))
    }
}

/// The response with its body, where that comes and is not too long.
async fn whole(response: Response<Incoming>) -> Option<Reply> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BYTES_MAX).collect().await.ok()?.to_bytes();
    // What is small would else keep the whole of a buffer that it was read into.
    let body = if body.len() < BUFFER_BYTES { Bytes::copy_from_slice(&body) } else { body };
    Some(Reply { head, body })
}

#[async_trait]
impl Archive for Upstream {
    fn peek(&self, wanted: Wanted<'_>) -> Option<Found> {
        self.copies.peek(&path(wanted))
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Found {
        let path = path(wanted);
        let load = Arc::clone(&self.follower).load(path.clone(), Question::new(wanted));
        self.copies.get(path, load).await
    }

    async fn listing(&self) -> Option<Bytes> {
        let follower = Arc::clone(&self.follower);
        let load = async move {
            let reply = follower.ask(LISTING, false).await.filter(|reply| reply.head.status == StatusCode::OK);
            Ok(Arc::new(Copy::document(reply.ok_or(Lack::Failing)?.body, Cache::EDGE)))
        };
        self.copies.get(LISTING.to_owned(), load).await.ok().map(|copy| copy.data().clone())
    }

    /// As long as the store can be served in its place, nothing keeps it from answering.
    async fn failing(&self) -> Option<String> {
        self.follower.reach.why()?;
        // Where nobody is sent, nobody asks.
        drop(self.listing().await);
        let why = self.follower.reach.why()?;
        let store = self.follower.otherwise.failing().await?;
        Some(format!("{} cannot be followed: {why}; {store}", self.follower.base))
    }
}

fn path(wanted: Wanted<'_>) -> String {
    let path = wanted.resource.path(wanted.channel);
    match wanted.directives {
        Some(directives) => format!("/{path}?{directives}"),
        None => format!("/{path}"),
    }
}

/// The cause of an error, which says more than that a request failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

/// The channels that are live there.
const LISTING: &str = "/channels.json";
/// For a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For what is there to be answered.
const SHORT: Duration = Duration::from_secs(5);
/// For the rest of an answer that has begun.
const BODY: Duration = Duration::from_secs(30);
/// For what is coming: a little more than the 55 s that a server holds a request at most.
const LONG: Duration = Duration::from_secs(60);
/// Less than the 30 s after which a server closes a connection that nothing is asked by.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// After so long without a byte a connection is asked for life, which may take as long again.
const ALIVE: Duration = Duration::from_secs(3);
/// Requests at one time that do not wait for what is coming.
const REQUESTS_MAX: usize = 64;
/// The largest segment.
const BYTES_MAX: usize = 64 << 20;
/// About what a connection reads at once.
const BUFFER_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests;
