//! The HTTP origin: what players and CDNs fetch.
//!
//! [`mod@route`] says what a request names, [`mod@answer`] what the answer is: plain functions of what was asked and of the
//! snapshots that the packagers publish. This file is the driver: it takes the snapshots, counts and serves.

pub mod answer;
mod coding;
mod listing;
mod pages;
mod precondition;
mod published;
mod range;
pub mod representation;
pub mod route;
mod status;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::http_server::{self, Body, Limits};
use crate::live::Directory;
use crate::metrics::{Metrics, ResponseLabel};
use crate::origin::answer::{Asked, World, answer};
use crate::origin::route::{Target, route};

/// What the origin serves from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The channels.
    pub directory: Directory,
    /// Where responses are counted.
    pub metrics: Metrics,
    /// Cancelled once the shutdown began: `/readyz` then says so, and everything else goes on.
    pub draining: CancellationToken,
}

/// Serves `listener` until `stop`, and then lets connections finish for a few seconds; no task outlives the call.
pub async fn serve(listener: TcpListener, origin: Origin, stop: CancellationToken) {
    let origin = Arc::new(origin);
    let answer = move |request: Parts| std::future::ready(origin.respond(&request));
    http_server::serve(listener, Limits::default(), answer, stop).instrument(info_span!("origin")).await;
}

impl Origin {
    fn respond(&self, request: &Parts) -> Response<Body> {
        let target = route(&request.method, request.uri.path());
        let asked = Asked { method: &request.method, headers: &request.headers };
        let response =
            answer(&target, &asked, &World { directory: &self.directory, draining: self.draining.is_cancelled() });
        self.count(&target, &response);
        response.map(Body::from)
    }

    fn count(&self, target: &Target, response: &Response<Bytes>) {
        let label = ResponseLabel { resource: target.label(), status: response.status().as_u16() };
        self.metrics.origin_responses.get_or_create(&label).inc();
        self.metrics.origin_bytes.inc_by(u64::try_from(response.body().len()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests;
