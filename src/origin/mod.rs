//! The HTTP origin: what players and CDNs fetch.
//!
//! [`mod@route`] says what a request names, [`mod@answer`] what the answer is: plain functions of what was asked and of the
//! snapshots that the packagers publish. This file is the driver: it takes the snapshots, counts and serves.

pub mod answer;
mod blocking;
mod coding;
pub mod directives;
mod listing;
mod pages;
mod parking;
mod precondition;
mod published;
mod range;
pub mod representation;
pub mod route;
mod status;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::guard::Guard;
use crate::http_server::{self, Body, BodyFault, Limits, Received};
use crate::live::{Directory, News};
use crate::metrics::{Metrics, ResponseLabel};
use crate::networks::plain;
use crate::origin::answer::{Asked, Outcome, World, answer, busy};
use crate::origin::parking::Parking;
use crate::origin::route::{Target, route};
use crate::source::ClientConfiguration;

/// What the origin serves from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The channels.
    pub directory: watch::Receiver<Directory>,
    /// Answers encoders that ask for their configuration.
    pub configuration: Arc<dyn ClientConfiguration>,
    /// How often one of them may ask, which counts as a connection to publish.
    pub guard: Guard,
    /// How many requests may wait for what is coming.
    pub bounds: Bounds,
    /// Connections at one time.
    pub connections_max: usize,
    /// Where responses are counted.
    pub metrics: Metrics,
    /// Cancelled once the shutdown began: `/readyz` then says so, and everything else goes on.
    pub draining: CancellationToken,
}

/// Serves `listener` until `stop`, and then lets connections finish for a few seconds; no task outlives the call.
pub async fn serve(listener: TcpListener, origin: Origin, stop: CancellationToken) {
    let parking = Parking::new(origin.bounds, origin.metrics.origin_waiting.clone());
    let limits = Limits { connections_max: origin.connections_max, ..Limits::default() };
    let desk = Arc::new(Desk { origin, parking });
    let answer = move |request: Received| {
        let desk = Arc::clone(&desk);
        async move { desk.respond(request).await }
    };
    http_server::serve(listener, limits, answer, stop).instrument(info_span!("origin")).await;
}

/// Where requests are answered.
struct Desk {
    origin: Origin,
    parking: Parking,
}

impl Desk {
    async fn respond(&self, request: Received) -> Response<Body> {
        let target = route(&request.head.method, request.head.uri.path());
        let response = match target {
            Target::ClientConfiguration => self.origin.configure(request).await,
            _ => self.answer(&target, &request.head).await,
        };
        self.origin.count(&target, &response);
        response.map(Body::from)
    }

    /// Answers now, or once what is asked for is there. A request whose client goes away is dropped here, and its place
    /// with it.
    async fn answer(&self, target: &Target, request: &Parts) -> Response<Bytes> {
        let asked = Asked { method: &request.method, headers: &request.headers };
        let wait = match self.origin.look(target, request) {
            Outcome::Answer(response) => return response,
            Outcome::Wait(wait) => wait,
        };
        let Target::Published(channel, _) = target else { return busy(&asked) };
        let Some(_place) = self.parking.enter(channel) else { return busy(&asked) };
        let patience = wait.patience;
        let waited = tokio::time::timeout(patience, self.origin.awaited(target, request, wait.news));
        waited.await.unwrap_or_else(|_| busy(&asked))
    }
}

impl Origin {
    fn look(&self, target: &Target, request: &Parts) -> Outcome {
        let asked = Asked { method: &request.method, headers: &request.headers };
        let directory = Arc::clone(&self.directory.borrow());
        let world = World { directory: &directory, draining: self.draining.is_cancelled() };
        answer(target, request.uri.query(), &asked, &world)
    }

    /// The answer once it is there. Each round takes the next news before it looks, so that none is missed.
    async fn awaited(&self, target: &Target, request: &Parts, mut news: News) -> Response<Bytes> {
        loop {
            let next = news.next();
            match self.look(target, request) {
                Outcome::Answer(response) => return response,
                Outcome::Wait(wait) if wait.news.is(&news) => next.await,
                Outcome::Wait(wait) => news = wait.news,
            }
        }
    }

    /// The one resource that takes a body, and a stream key.
    async fn configure(&self, request: Received) -> Response<Bytes> {
        let peer = plain(request.peer);
        let Ok(_pass) = self.guard.admit(peer.ip()) else { return refused(StatusCode::TOO_MANY_REQUESTS) };
        let of_header = request.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 says it in the request line.
        let host = of_header.or_else(|| request.head.uri.authority().map(Authority::as_str)).map(str::to_owned);
        match request.body(CONFIGURATION_BYTES_MAX).await {
            Ok(body) => json(self.configuration.answer(body, peer, host.as_deref()).await),
            Err(BodyFault::TooLong) => refused(StatusCode::PAYLOAD_TOO_LARGE),
            Err(BodyFault::Lost) => refused(StatusCode::REQUEST_TIMEOUT),
        }
    }

    fn count(&self, target: &Target, response: &Response<Bytes>) {
        let label = ResponseLabel { resource: target.label(), status: response.status().as_u16() };
        self.metrics.origin_responses.get_or_create(&label).inc();
        self.metrics.origin_bytes.inc_by(u64::try_from(response.body().len()).unwrap_or(u64::MAX));
    }
}

fn json(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// The longest question of an encoder; OBS's is about 1 KiB.
const CONFIGURATION_BYTES_MAX: usize = 64 << 10;

pub use crate::origin::parking::Bounds;

#[cfg(test)]
mod tests;
