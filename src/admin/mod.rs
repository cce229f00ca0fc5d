//! The admin listener: metrics and the state of the channels, for operators. It is bound to loopback unless the
//! config says otherwise, and knows of the stages only what they publish.

mod channels;
mod process;
mod recordings;
mod respond;

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span};

use crate::http_server::{self, Body, BodyFault, Limits, Received};
use crate::live::{ChannelView, Directory};
use crate::metrics::Metrics;
use crate::source::ChannelName;

use respond::{Answer, Page, page};

/// What the admin listener shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The channels.
    pub directory: watch::Receiver<Directory>,
    /// The metrics of all stages.
    pub metrics: Metrics,
}

/// Operators and their tools are few.
const CONNECTIONS_MAX: usize = 64;

/// Serves `listener` until `stop`, and then lets connections finish for a few seconds; no task outlives the call.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let console = Arc::new(Console { registry: admin.metrics.registry(), directory: admin.directory });
    let answer = move |request: Received| {
        let console = Arc::clone(&console);
        async move { console.respond(request).await }
    };
    let limits = Limits { connections_max: CONNECTIONS_MAX, ..Limits::default() };
    http_server::serve(listener, limits, answer, stop).instrument(info_span!("admin")).await;
}

/// The driver: gathers what a page shows, and answers.
struct Console {
    directory: watch::Receiver<Directory>,
    registry: Registry,
}

impl Console {
    async fn respond(&self, request: Received) -> Response<Body> {
        let method = request.head.method.clone();
        let answer = match page(&method, request.head.uri.path()) {
            Ok(Page::Health) => Answer::text("ok\n"),
            Ok(Page::Channels) => Answer::json(StatusCode::OK, &channels::report(&self.directory())),
            Ok(Page::Metrics) => self.metrics().await,
            Ok(Page::Recordings(channel)) => match self.channel(&channel) {
                Ok(view) => recordings::report(&channel, view.chronicle.borrow().as_deref()),
                Err(refusal) => refusal,
            },
            Ok(Page::Clip(channel)) => match self.channel(&channel) {
                Ok(view) => clip(&channel, &view, request).await,
                Err(refusal) => refusal,
            },
            Ok(Page::RemoveClip(channel, name)) => match self.channel(&channel) {
                Ok(view) => recordings::remove_clip(&view, name).await,
                Err(refusal) => refusal,
            },
            Ok(Page::RemoveRecording(channel, id)) => match self.channel(&channel) {
                Ok(view) => recordings::remove_recording(&view, id).await,
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        answer.response(&method).map(Body::from)
    }

    fn channel(&self, name: &ChannelName) -> Result<ChannelView, Answer> {
        let view = self.directory().get(name).cloned();
        view.ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, format!("there is no channel `{name}`")))
    }

    fn directory(&self) -> Directory {
        Arc::clone(&self.directory.borrow())
    }

    async fn metrics(&self) -> Answer {
        let process = process::read().await;
        match respond::exposition(&self.registry, &self.directory(), &process) {
            Ok(text) => Answer::metrics(text),
            Err(e) => {
                error!("a metric cannot be written: {e}");
                Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be written")
            }
        }
    }
}

/// A clip, of a request that no page of elsewhere can have sent: a browser asks before it sends JSON to another site, and gets no leave.
async fn clip(channel: &ChannelName, view: &ChannelView, request: Received) -> Answer {
    let content_type = request.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        return Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON, with Content-Type: application/json");
    }
    match request.body(WISH_BYTES_MAX).await {
        Ok(wish) => recordings::clip(channel, view, &wish).await,
        Err(BodyFault::TooLong) => Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "that is no clip"),
        Err(BodyFault::Lost) => Answer::error(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
    }
}

/// What describes a clip takes a few hundred.
const WISH_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
