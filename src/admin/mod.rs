//! The admin listener: metrics and the state of the channels, for operators. It is bound to loopback unless the
//! config says otherwise, and knows of the stages only what they publish.

mod channels;
mod process;
mod respond;

use std::sync::Arc;

use http::request::Parts;
use http::{Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span};

use crate::http_server::{self, Body, Limits, Received};
use crate::live::Directory;
use crate::metrics::Metrics;

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
        async move { console.respond(&request.head).await }
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
    async fn respond(&self, request: &Parts) -> Response<Body> {
        let answer = match page(&request.method, request.uri.path()) {
            Ok(Page::Health) => Answer::text("ok\n"),
            Ok(Page::Channels) => Answer::json(StatusCode::OK, &channels::report(&self.directory())),
            Ok(Page::Metrics) => self.metrics().await,
            Err(refusal) => refusal,
        };
        answer.response(&request.method).map(Body::from)
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

#[cfg(test)]
mod tests;
