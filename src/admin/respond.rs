//! Which page a request is for, and how an answer is put: plain functions.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::admin::channels;
use crate::admin::process::ProcessFacts;
use crate::chronicle::ClipName;
use crate::live::{Directory, SessionId};
use crate::source::ChannelName;

/// The pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
    /// `/api/v1/channels`
    Channels,
    /// `/api/v1/channels/CHANNEL/recordings`
    Recordings(ChannelName),
    /// `POST /api/v1/channels/CHANNEL/clips`
    Clip(ChannelName),
    /// `DELETE /api/v1/channels/CHANNEL/clips/NAME`
    RemoveClip(ChannelName, ClipName),
    /// `DELETE /api/v1/channels/CHANNEL/recordings/ID`
    RemoveRecording(ChannelName, SessionId),
}

/// Reads a request line.
///
/// # Errors
/// The answer that refuses it.
pub(super) fn page(method: &Method, path: &str) -> Result<Page, Answer> {
    let page = match path {
        "/healthz" => Some(Page::Health),
        "/metrics" => Some(Page::Metrics),
        "/api/v1/channels" => Some(Page::Channels),
        _ => path.strip_prefix("/api/v1/channels/").and_then(of_channel),
    };
    let page = page.ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, "not found"))?;
    let (allowed, fits) = match page {
        Page::Clip(_) => ("POST", method == Method::POST),
        Page::RemoveClip(..) | Page::RemoveRecording(..) => ("DELETE", method == Method::DELETE),
        _ => (GET_HEAD, matches!(*method, Method::GET | Method::HEAD)),
    };
    if fits { Ok(page) } else { Err(Answer::not_allowed(allowed)) }
}

fn of_channel(path: &str) -> Option<Page> {
    let steps: Vec<&str> = path.splitn(4, '/').collect();
    let channel = ChannelName::new(steps.first()?).ok()?;
    match *steps.get(1..)? {
        ["recordings"] => Some(Page::Recordings(channel)),
        ["clips"] => Some(Page::Clip(channel)),
        ["clips", name] => Some(Page::RemoveClip(channel, ClipName::new(name).ok()?)),
        ["recordings", id] => Some(Page::RemoveRecording(channel, SessionId(id.parse().ok()?))),
        _ => None,
    }
}

const GET_HEAD: &str = "GET, HEAD";

/// An answer: never cached, never to be read by a page from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    /// The methods that there are, of an answer to another.
    allowed: Option<&'static str>,
    body: Bytes,
}

impl Answer {
    pub(super) fn text(text: &'static str) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; charset=utf-8",
            allowed: None,
            body: Bytes::from_static(text.as_bytes()),
        }
    }

    /// The exposition that Prometheus scrapes.
    pub(super) fn metrics(text: String) -> Self {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Self { status: StatusCode::OK, content_type, allowed: None, body: Bytes::from(text) }
    }

    pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        let mut json = serde_json::to_vec_pretty(document).unwrap_or_default();
        json.push(b'\n');
        Self { status, content_type: "application/json", allowed: None, body: Bytes::from(json) }
    }

    pub(super) fn error(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        #[derive(Serialize)]
        struct Error {
            error: Cow<'static, str>,
        }
        Self::json(status, &Error { error: text.into() })
    }

    /// The page has other methods.
    fn not_allowed(allowed: &'static str) -> Self {
        let refusal = Self::error(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}"));
        Self { allowed: Some(allowed), ..refusal }
    }

    /// The response to a request of this method.
    pub(super) fn response(self, method: &Method) -> Response<Bytes> {
        let length = HeaderValue::from(self.body.len());
        let mut response = Response::new(if method == Method::HEAD { Bytes::new() } else { self.body });
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        fields.insert(header::CONTENT_LENGTH, length);
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allowed) = self.allowed {
            fields.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

/// All metrics as text: those of the stages, of the channels at this instant, and of the process.
///
/// # Errors
/// Only where a metric cannot be written, which is a bug in it.
pub(super) fn exposition(
    stages: &Registry,
    directory: &Directory,
    process: &ProcessFacts,
) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, stages)?;
    encode_registry(&mut text, &channels::gauges(directory))?;
    encode_registry(&mut text, &process.registry())?;
    encode_eof(&mut text)?;
    Ok(text)
}
