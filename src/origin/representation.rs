//! What a resource is at this instant, and the response that carries it: caching, preconditions, ranges, `HEAD`, CORS.
//! The one place that writes header fields.

use std::borrow::Cow;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::caching::{Cache, Reach};
use crate::origin::precondition::{has_already, means_another, range_applies};
use crate::origin::range::{self, Requested};

/// The parts of a request that shape its response, once it is known what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// For whom and how long the response may be kept, where a token in the request says so.
    pub reach: Option<Reach>,
}

/// A resource as it is sent: its bytes in the coding chosen, and what is said of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Representation {
    /// 200, or why there is nothing else to send.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache: Cache,
    /// `ETag`, with its quotes, of these very bytes.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub modified: Option<SystemTime>,
    /// `Expires`: when it is to be gone from here.
    pub expires: Option<SystemTime>,
    /// Whether `Accept-Encoding` decides, and what it decided on.
    pub coding: Coding,
    /// It is older than it should be, as nothing newer could be had: `Warning: 110`, which RFC 9111 no longer has (5.5), and which
    /// caches and people still know.
    pub stale: bool,
    /// `Content-Security-Policy`, of a page.
    pub policy: Option<&'static str>,
    /// The name of the file that a browser is to make of it: `Content-Disposition`.
    pub attachment: Option<String>,
    /// The bytes.
    pub body: Bytes,
}

/// The content coding of a [`Representation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// There is no choice.
    Only,
    /// As it is, though it could be had compressed.
    Identity,
    /// Compressed.
    Gzip,
}

impl Representation {
    /// `body`, with nothing else said of it.
    #[must_use]
    pub fn new(content_type: &'static str, cache: Cache, body: Bytes) -> Self {
        let (status, coding) = (StatusCode::OK, Coding::Only);
        let (etag, modified, expires, stale, policy, attachment) = (None, None, None, false, None, None);
        Self { status, content_type, cache, etag, modified, expires, coding, stale, policy, attachment, body }
    }

    /// Why there is nothing to send, as a line of text. One second in a cache takes the crowd off a live edge
    /// and delays nobody: CDNs would else keep an error for ten.
    #[must_use]
    pub fn refusal(status: StatusCode, text: &str) -> Self {
        let body = Bytes::from(format!("{text}\n"));
        Self { status, ..Self::new("text/plain; charset=utf-8", Cache::Seconds(1), body) }
    }

    /// Why this client gets nothing, as a line of text. No cache may tell it to the next one, who may have what it takes.
    #[must_use]
    pub fn denied(text: &str) -> Self {
        Self { cache: Cache::Never, ..Self::refusal(StatusCode::FORBIDDEN, text) }
    }

    /// The response to `asked`.
    #[must_use]
    pub fn reply(self, asked: &Asked<'_>) -> Response<Bytes> {
        let (response, sent) = self.outline(asked, self.body.len());
        match sent {
            Some(range) => response.map(|_| self.body.slice(range)),
            None => response,
        }
    }

    /// The response to `asked` but for its body, of which there are `length` bytes somewhere: those that are to be sent, or none where
    /// the response is whole without.
    #[must_use]
    pub fn outline(&self, asked: &Asked<'_>, length: usize) -> (Response<Bytes>, Option<Range<usize>>) {
        let found = self.status == StatusCode::OK;
        if found && means_another(asked.headers, self.etag.as_deref()) {
            let refusal = Self::refusal(StatusCode::PRECONDITION_FAILED, "it has changed");
            return (refusal.reply(asked), None);
        }
        let mut fields = self.fields(asked.reach);
        if found && self.etag.as_deref().is_some_and(|etag| has_already(asked.headers, etag)) {
            return (respond(StatusCode::NOT_MODIFIED, fields, Bytes::new()), None);
        }
        say(&mut fields, header::CONTENT_TYPE, self.content_type);
        if self.coding == Coding::Gzip {
            say(&mut fields, header::CONTENT_ENCODING, "gzip");
        }
        let requested = if found { self.requested(asked, length) } else { Requested::Whole };
        let (status, range) = match requested {
            Requested::Whole => (self.status, 0..length),
            Requested::Bytes(range) => {
                let last = range.end.saturating_sub(1);
                set(&mut fields, header::CONTENT_RANGE, &format!("bytes {}-{last}/{length}", range.start));
                (StatusCode::PARTIAL_CONTENT, range)
            }
            Requested::Unsatisfiable => return (unsatisfiable(length, asked.reach), None),
        };
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(range.len()));
        (respond(status, fields, Bytes::new()), (asked.method != Method::HEAD).then_some(range))
    }

    /// The fields that a 304 has too.
    fn fields(&self, reach: Option<Reach>) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(16);
        match reach.map_or_else(|| self.cache.control(), |reach| self.cache.control_within(reach)) {
            Cow::Borrowed(always) => say(&mut fields, header::CACHE_CONTROL, always),
            Cow::Owned(control) => set(&mut fields, header::CACHE_CONTROL, &control),
        }
        if let Some(etag) = &self.etag {
            set(&mut fields, header::ETAG, etag);
        }
        if let Some(modified) = self.modified {
            set(&mut fields, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        }
        if let Some(expires) = self.expires {
            set(&mut fields, header::EXPIRES, &httpdate::fmt_http_date(expires));
        }
        if self.coding != Coding::Only {
            say(&mut fields, header::VARY, "Accept-Encoding");
        }
        if self.stale {
            say(&mut fields, header::WARNING, "110 headwater \"Response is Stale\"");
        }
        if let Some(policy) = self.policy {
            say(&mut fields, header::CONTENT_SECURITY_POLICY, policy);
        }
        if let Some(file) = &self.attachment {
            set(&mut fields, header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{file}\""));
        }
        if self.status == StatusCode::OK {
            say(&mut fields, header::ACCEPT_RANGES, "bytes");
        }
        fields
    }

    /// What of the body is asked for. Only `GET` has ranges (RFC 9110, 14.2).
    fn requested(&self, asked: &Asked<'_>, length: usize) -> Requested {
        let mut ranges = asked.headers.get_all(header::RANGE).iter();
        match (ranges.next().and_then(|r| r.to_str().ok()), ranges.next()) {
            (Some(range), None)
                if asked.method == Method::GET && range_applies(asked.headers, self.etag.as_deref()) =>
            {
                range::requested(range, length)
            }
            _ => Requested::Whole,
        }
    }
}

/// 416, with the length that a range must lie in.
fn unsatisfiable(length: usize, reach: Option<Reach>) -> Response<Bytes> {
    let refusal = Representation::refusal(StatusCode::RANGE_NOT_SATISFIABLE, "no such range");
    let mut fields = refusal.fields(reach);
    say(&mut fields, header::CONTENT_TYPE, refusal.content_type);
    set(&mut fields, header::CONTENT_RANGE, &format!("bytes */{length}"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(refusal.body.len()));
    respond(refusal.status, fields, refusal.body)
}

/// The answer to `OPTIONS`: what may be asked, by whom, from where. Cacheable for a day, because a browser asks it
/// for every URL anew.
#[must_use]
pub fn options() -> Response<Bytes> {
    let mut fields = HeaderMap::with_capacity(16);
    say(&mut fields, header::ALLOW, METHODS);
    say(&mut fields, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    say(
        &mut fields,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Range, If-Range, If-None-Match, Cache-Control, Content-Type",
    );
    say(&mut fields, header::ACCESS_CONTROL_MAX_AGE, "86400");
    respond(StatusCode::NO_CONTENT, fields, Bytes::new())
}

/// The answer to a method that nothing here has.
#[must_use]
pub fn forbidden(asked: &Asked<'_>) -> Response<Bytes> {
    let mut response =
        Representation::refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and OPTIONS").reply(asked);
    say(response.headers_mut(), header::ALLOW, METHODS);
    response
}

const METHODS: &str = "GET, HEAD, OPTIONS";

/// Adds what every response has, errors among them: a player on another site must be able to read why it failed.
fn respond(status: StatusCode, mut fields: HeaderMap, body: Bytes) -> Response<Bytes> {
    say(&mut fields, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    say(&mut fields, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    say(&mut fields, HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
    say(&mut fields, HeaderName::from_static("timing-allow-origin"), "*");
    say(&mut fields, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

const EXPOSED: &str = "Age, Content-Length, Content-Range, Date, ETag, Last-Modified";

/// Sets a field to what it always is, without a copy of it.
fn say(fields: &mut HeaderMap, name: HeaderName, value: &'static str) {
    fields.insert(name, HeaderValue::from_static(value));
}

/// Sets a field; a value that no field can hold leaves it out.
fn set(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}
