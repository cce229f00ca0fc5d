//! The HTTP origin: what players and CDNs fetch.
//!
//! [`mod@route`] says what a request names, [`mod@answer`] what the answer is: plain functions of what was asked and of the
//! snapshots that the packagers publish. This file is the driver: it takes the snapshots, counts and serves.

mod access_line;
mod access_log;
pub mod answer;
mod archived;
mod blocking;
mod cdn_gate;
mod coding;
pub mod directives;
pub mod download;
mod listing;
mod pages;
mod parking;
mod past;
mod playback;
mod precondition;
mod public_key;
mod published;
mod range;
pub mod representation;
pub mod route;
mod status;
mod ticket;
mod token;
mod verified;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Response, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::archive::{Archive, Past, Wanted};
use crate::caching::{Cache, Reach};
use crate::config::OriginConfig;
use crate::guard::Guard;
use crate::http_server::{self, BodyFault, Limits, Payload, Ports, Received};
use crate::ladder::RenditionName;
use crate::layout::Excerpt;
use crate::live::{Directory, News};
use crate::metrics::{Metrics, ResponseLabel};
use crate::networks::plain;
use crate::origin::access_log::{Log, Logged};
use crate::origin::answer::{Archived, Asked, Outcome, World, answer, busy};
use crate::origin::archived::Question;
use crate::origin::cdn_gate::CdnGate;
use crate::origin::parking::{Bounds, Parking};
use crate::origin::past::{Look, Looker};
use crate::origin::representation::Representation;
use crate::origin::route::{Portion, Target, route};
use crate::progressive::Downloads;
use crate::source::{ChannelName, ClientConfiguration};

pub use access_log::LogFile;
pub use playback::Playback;
pub use public_key::TokenKeyError;

/// What the origin serves from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who may ask, and how many at a time. The address is not used: the caller binds the ports.
    pub config: OriginConfig,
    /// The channels of this process.
    pub directory: watch::Receiver<Directory>,
    /// Has what is not in this process: what left the memory of its channels or, in the role in which it has none, everything.
    pub archive: Arc<dyn Archive>,
    /// This process has no channels, and looks for these where nobody knows which there are.
    pub away: Option<Arc<[ChannelName]>>,
    /// Who may watch.
    pub playback: Playback,
    /// Answers encoders that ask for their configuration, where encoders may come.
    pub configuration: Option<Arc<dyn ClientConfiguration>>,
    /// How often one of them may ask, which counts as a connection to publish.
    pub guard: Guard,
    /// Where responses are counted.
    pub metrics: Metrics,
    /// Cancelled once the shutdown began: `/readyz` then says so, and everything else goes on.
    pub draining: CancellationToken,
}

/// Serves `ports` until `stop`, and then lets connections finish for a few seconds; no task outlives the call. Requests are
/// written down in `log`, where there is one.
pub async fn serve(ports: impl Into<Ports>, origin: Origin, log: Option<LogFile>, stop: CancellationToken) {
    let limits = Limits { connections_max: origin.config.connections_max, ..Limits::default() };
    let bounds = Bounds { all_max: origin.config.waiting_max, channel_max: origin.config.waiting_per_channel_max };
    let dropped = origin.metrics.origin_log_dropped.clone();
    let (requests, queue) = access_log::queue(dropped.clone());
    let desk = Arc::new(Desk {
        gate: origin.config.cdn.as_ref().map(CdnGate::new),
        parking: Parking::new(bounds, origin.metrics.origin_waiting.clone()),
        log: log.is_some().then_some(requests),
        past: Past::new(Arc::clone(&origin.archive)),
        downloads: Downloads::new(Arc::clone(&origin.archive), DOWNLOADS_MAX),
        origin,
    });
    let answer = move |request: Received| {
        let desk = Arc::clone(&desk);
        async move { desk.respond(request).await }
    };
    let serve = http_server::serve(ports, limits, answer, stop).instrument(info_span!("origin"));
    match log {
        None => serve.await,
        // The writer ends when the last request has written its line.
        Some(file) => drop(tokio::join!(serve, access_log::write(file, queue, dropped))),
    }
}

/// Where requests are taken.
struct Desk {
    origin: Origin,
    gate: Option<CdnGate>,
    parking: Parking,
    log: Option<Log>,
    past: Past,
    downloads: Downloads,
}

/// Files that are sent at one time: each is as long as the network lets it be.
const DOWNLOADS_MAX: usize = 16;

impl Desk {
    async fn respond(&self, request: Received) -> Response<Logged> {
        let record = self.log.as_ref().map(|log| log.begin(&request.head, plain(request.peer).ip()));
        let (target, admitted) = self.admit(&request.head);
        let version = request.head.version;
        let response = match (&target, admitted) {
            (Target::Download(channel, portion, rendition), Ok(reach)) => {
                self.download(channel, portion, rendition, &asked(&request.head, reach)).await
            }
            (_, Err(reason)) => Representation::denied(&reason).reply(&asked(&request.head, None)).map(Payload::from),
            (Target::ClientConfiguration, Ok(_)) => match &self.origin.configuration {
                Some(configuration) => self.origin.configure(&**configuration, request).await.map(Payload::from),
                None => self.origin.answer_now(&target, &asked(&request.head, None)).map(Payload::from),
            },
            (_, Ok(reach)) => self.serve(&target, &request.head, reach).await.map(Payload::from),
        };
        self.origin.count(&target, &response);
        Logged::response(response, version, record)
    }

    async fn serve(&self, target: &Target, request: &Parts, reach: Option<Reach>) -> Response<Bytes> {
        match Look::read(target, request.uri.query()) {
            Err(error) => past::refused(&error, &asked(request, reach)),
            Ok(Some(look)) => self.look_back(&look, &asked(request, reach)).await,
            Ok(None) => match &self.origin.away {
                None => self.answer(target, request, reach).await,
                Some(names) => self.ask(names, target, request, reach).await,
            },
        }
    }

    #[expect(clippy::disallowed_methods, reason = "ranges of time are those of the calendar")]
    async fn look_back(&self, look: &Look, asked: &Asked<'_>) -> Response<Bytes> {
        let directory = Arc::clone(&self.origin.directory.borrow());
        let looker = Looker { past: &self.past, directory: &directory, now: SystemTime::now() };
        looker.answer(look, asked).await
    }

    /// Answers with one file, which is put together while it is sent.
    #[expect(clippy::disallowed_methods, reason = "ranges of time are those of the calendar")]
    async fn download(
        &self,
        channel: &ChannelName,
        portion: &Portion,
        rendition: &RenditionName,
        asked: &Asked<'_>,
    ) -> Response<Payload> {
        let directory = Arc::clone(&self.origin.directory.borrow());
        let looker = Looker { past: &self.past, directory: &directory, now: SystemTime::now() };
        match looker.contents(channel, portion, rendition).await {
            Ok((contents, file)) => {
                // Clips' names are used again, and a range may get more when another programme begins.
                let never_changes = matches!(portion, Portion::Excerpt(Excerpt::Recording(_)));
                let cache = if never_changes { Cache::Immutable } else { Cache::OVER };
                download::answer(self.downloads.open(contents).await, &file, cache, asked)
            }
            Err(lack) => archived::lacking(lack, asked).map(Payload::from),
        }
    }

    /// What a request names, and whether it is to be answered: for whom and how long then, or why not.
    #[expect(clippy::disallowed_methods, reason = "tokens are valid by the wall clock")]
    fn admit(&self, head: &Parts) -> (Target, Result<Option<Reach>, String>) {
        let (path, ticket) = ticket::part(head.uri.path(), head.uri.query());
        let target = match route(&head.method, &path) {
            target @ (Target::Published(..)
            | Target::Range(..)
            | Target::Download(..)
            | Target::Options
            | Target::Forbidden) => target,
            target if path == head.uri.path() => target,
            // Nothing else has a token in its path.
            _ => Target::Unknown,
        };
        if !target.is_open() && self.gate.as_ref().is_some_and(|gate| !gate.lets_in(&head.headers)) {
            return (target, Err("this server is asked by way of its CDN only".to_owned()));
        }
        let admitted = match &target {
            Target::Published(channel, _) | Target::Range(channel, ..) | Target::Download(channel, ..) => {
                self.origin.playback.admit(channel, ticket, SystemTime::now())
            }
            _ => Ok(None),
        };
        (target, admitted.map_err(|fault| fault.to_string()))
    }

    /// Answers now, or once what is asked for is there. A request whose client goes away is dropped here, and its place
    /// with it.
    async fn answer(&self, target: &Target, request: &Parts, reach: Option<Reach>) -> Response<Bytes> {
        let asked = asked(request, reach);
        let query = request.uri.query();
        let wait = match self.origin.look(target, query, &asked) {
            Outcome::Answer(response) => return response,
            Outcome::Archived(archived) => return self.origin.fetch(target, archived, &asked).await,
            Outcome::Wait(wait) => wait,
        };
        let Target::Published(channel, _) = target else { return busy(&asked) };
        let Some(_place) = self.parking.enter(channel) else { return busy(&asked) };
        let patience = wait.patience;
        let waited = tokio::time::timeout(patience, self.origin.awaited(target, query, &asked, wait.news));
        waited.await.unwrap_or_else(|_| busy(&asked))
    }

    /// Answers where the channels are elsewhere.
    async fn ask(
        &self,
        names: &[ChannelName],
        target: &Target,
        request: &Parts,
        reach: Option<Reach>,
    ) -> Response<Bytes> {
        let asked = asked(request, reach);
        let archive = &self.origin.archive;
        match target {
            Target::Published(channel, resource) => {
                let question = Question { channel, resource, query: request.uri.query() };
                question.answer(&**archive, &self.parking, &asked).await
            }
            Target::Channels => archived::channels(archive, names).await.reply(&asked),
            Target::Ready if !self.origin.draining.is_cancelled() => {
                status::unless(archive.failing().await).reply(&asked)
            }
            _ => self.origin.answer_now(target, &asked),
        }
    }
}

fn asked(request: &Parts, reach: Option<Reach>) -> Asked<'_> {
    Asked { method: &request.method, headers: &request.headers, reach }
}

impl Origin {
    fn look(&self, target: &Target, query: Option<&str>, asked: &Asked<'_>) -> Outcome {
        let directory = Arc::clone(&self.directory.borrow());
        let draining = self.draining.is_cancelled();
        let world = World { directory: &directory, elsewhere: self.away.is_some(), draining };
        answer(target, query, asked, &world)
    }

    /// The answer to what nobody waits for.
    fn answer_now(&self, target: &Target, asked: &Asked<'_>) -> Response<Bytes> {
        match self.look(target, None, asked) {
            Outcome::Answer(response) => response,
            Outcome::Archived(archived) => archived.absent(asked),
            Outcome::Wait(_) => busy(asked),
        }
    }

    /// The answer from the archive.
    async fn fetch(&self, target: &Target, archived: Archived, asked: &Asked<'_>) -> Response<Bytes> {
        let Target::Published(channel, resource) = target else { return archived.absent(asked) };
        let wanted = Wanted { channel, resource, directives: None };
        archived.answer(&*self.archive, wanted, asked).await
    }

    /// The answer once it is there. Each round takes the next news before it looks, so that none is missed.
    async fn awaited(
        &self,
        target: &Target,
        query: Option<&str>,
        asked: &Asked<'_>,
        mut news: News,
    ) -> Response<Bytes> {
        loop {
            let next = news.next();
            match self.look(target, query, asked) {
                Outcome::Answer(response) => return response,
                Outcome::Archived(archived) => return self.fetch(target, archived, asked).await,
                Outcome::Wait(wait) if wait.news.is(&news) => next.await,
                Outcome::Wait(wait) => news = wait.news,
            }
        }
    }

    /// The one resource that takes a body, and a stream key.
    async fn configure(&self, configuration: &dyn ClientConfiguration, request: Received) -> Response<Bytes> {
        let peer = plain(request.peer);
        let Ok(_pass) = self.guard.admit(peer.ip()) else { return refused(StatusCode::TOO_MANY_REQUESTS) };
        let of_header = request.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 says it in the request line.
        let host = of_header.or_else(|| request.head.uri.authority().map(Authority::as_str)).map(str::to_owned);
        match request.body(CONFIGURATION_BYTES_MAX).await {
            Ok(body) => json(configuration.answer(body, peer, host.as_deref()).await),
            Err(BodyFault::TooLong) => refused(StatusCode::PAYLOAD_TOO_LARGE),
            Err(BodyFault::Lost) => refused(StatusCode::REQUEST_TIMEOUT),
        }
    }

    fn count(&self, target: &Target, response: &Response<Payload>) {
        let label = ResponseLabel { resource: target.label(), status: response.status().as_u16() };
        self.metrics.origin_responses.get_or_create(&label).inc();
        self.metrics.origin_bytes.inc_by(response.body().length());
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

#[cfg(test)]
mod tests;
