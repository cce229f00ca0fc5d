//! What must hold of the head of a response (RFC 9110, RFC 9111; RFC 8216bis 4, 6.2.1, B.1; Apple 8.18, 8.24, 10).

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, LAST_MODIFIED, SET_COOKIE, VARY};
use http::{HeaderMap, Version};

use super::super::finding::Findings;
use super::super::rule::Rule;

/// The head of a response, and of the request what matters here.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// The path that was asked for.
    pub path: &'a str,
    /// By which version of HTTP it came.
    pub version: Version,
    /// It came over TLS.
    pub tls: bool,
    /// Another place had to be asked.
    pub redirected: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A multivariant playlist.
    Multivariant,
    /// A media playlist.
    Playlist {
        /// Its target duration.
        target: Duration,
        /// It has not ended.
        live: bool,
        /// It has parts.
        low_latency: bool,
        /// It was asked for by `_HLS_msn`.
        blocking: bool,
    },
    /// Media that stay listed for so long.
    Media {
        /// The length of the playlist.
        listed: Duration,
    },
    /// Something that is not there.
    Error {
        /// The target duration of the stream.
        target: Duration,
    },
}

/// Media must be kept for as long as they are listed, but no longer than this is asked for.
const LISTED_MAX: Duration = Duration::from_secs(3_600);

/// The types of Apple 10.4.
const MEDIA_TYPES: [&str; 12] = [
    "video/mp4",
    "audio/mp4",
    "video/iso.segment",
    "video/mp2t",
    "audio/aac",
    "audio/mpeg",
    "audio/ac3",
    "audio/eac3",
    "text/vtt",
    "text/plain",
    "application/mp4",
    "image/jpeg",
];
const PLAYLIST_TYPES: [&str; 2] = ["application/vnd.apple.mpegurl", "audio/mpegurl"];

/// Checks the head of a response.
pub fn response(head: Head<'_>, kind: Kind, findings: &mut Findings) {
    if head.redirected {
        findings.add(Rule::Redirect, None, "another place had to be asked");
    }
    if head.headers.contains_key(SET_COOKIE) {
        findings.add(Rule::Cookie, None, "Set-Cookie");
    }
    caching(head, kind, findings);
    match kind {
        Kind::Multivariant => playlist(head, findings),
        Kind::Playlist { target, live, low_latency, .. } => {
            playlist(head, findings);
            if live {
                age(head.headers, target, findings);
            }
            if low_latency && head.tls && head.version < Version::HTTP_2 {
                findings.add(Rule::Http2, None, format!("{:?} over TLS", head.version));
            }
        }
        Kind::Media { .. } => {
            let media_type = media_type(head.headers);
            if !MEDIA_TYPES.contains(&media_type.as_str()) {
                findings.add(Rule::Mime, None, format!("Content-Type: {media_type}"));
            }
        }
        Kind::Error { .. } => {}
    }
}

fn playlist(head: Head<'_>, findings: &mut Findings) {
    let media_type = media_type(head.headers);
    let by_path = head.path.ends_with(".m3u8") || head.path.ends_with(".m3u");
    if !PLAYLIST_TYPES.contains(&media_type.as_str()) {
        let rule = if by_path { Rule::Mime } else { Rule::PlaylistMime };
        findings.add(rule, None, format!("Content-Type: {media_type}"));
    }
    let coding = text(head.headers, CONTENT_ENCODING).to_ascii_lowercase();
    if coding.is_empty() || coding == "identity" {
        findings.add(Rule::Gzip, None, "sent uncompressed to who accepts gzip");
    } else if !all_text(head.headers, VARY).split(',').any(|f| matches!(f.trim(), "accept-encoding" | "*")) {
        findings.add(Rule::Vary, None, format!("Content-Encoding: {coding} without Vary: Accept-Encoding"));
    }
}

fn caching(head: Head<'_>, kind: Kind, findings: &mut Findings) {
    let control = all_text(head.headers, CACHE_CONTROL);
    if control.is_empty() {
        if !matches!(kind, Kind::Error { .. }) {
            findings.add(Rule::CacheControl, None, "no Cache-Control");
        }
        return;
    }
    let kept = lifetime(&control);
    let seen = format!("Cache-Control: {control}");
    match kind {
        Kind::Playlist { target, live: true, blocking, .. } => {
            let half = Duration::from_secs(target.as_secs().div_ceil(2).max(1));
            if kept > if blocking { target.saturating_mul(6) } else { half } {
                findings.add(Rule::CachePlaylist, None, seen);
            }
        }
        Kind::Media { listed } if kept < listed.min(LISTED_MAX) => findings.add(Rule::CacheMedia, None, seen),
        Kind::Error { target } if kept > target.max(Duration::from_secs(1)) => {
            findings.add(Rule::CacheError, None, seen);
        }
        _ => {}
    }
}

/// How long a shared cache may keep it.
fn lifetime(control: &str) -> Duration {
    let mut shared = None;
    let mut own = None;
    for directive in control.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = value.trim_matches('"').parse().ok().map(Duration::from_secs);
        match name {
            "no-store" | "no-cache" | "private" => return Duration::ZERO,
            "s-maxage" => shared = seconds,
            "max-age" => own = seconds,
            _ => {}
        }
    }
    shared.or(own).unwrap_or_default()
}

/// `Last-Modified` against `Date` (Apple 8.24).
fn age(headers: &HeaderMap, target: Duration, findings: &mut Findings) {
    let date = |name| httpdate::parse_http_date(&text(headers, name)).ok();
    let (Some(modified), Some(now)) = (date(LAST_MODIFIED), date(DATE)) else { return };
    let age = now.duration_since(modified).unwrap_or_default();
    if age > target.saturating_mul(3) {
        findings.add(Rule::PlaylistOld, None, format!("last modified {age:?} ago"));
    }
}

/// Without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> String {
    text(headers, CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// All fields of this name, joined, in lower case.
fn all_text(headers: &HeaderMap, name: HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",").to_ascii_lowercase()
}
