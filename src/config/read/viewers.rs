//! Reads `[origin]` and `[playback]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::HeaderName;

use super::super::reader::Section;
use super::super::viewers::{
    AccessLog, AwayConfig, CdnSecret, DiskConfig, OriginConfig, PlaybackConfig, TokenKey, TokenKeyConfig,
};
use super::super::{Secret, units};
use super::{address, count, nearest, path, text};
use crate::source::ChannelName;

/// The section `origin`.
pub(super) fn origin(mut section: Section<'_>) -> Option<OriginConfig> {
    let listen = section.optional("listen", address);
    let connections_max = section.required("connections_max", 1, count);
    let waiting_max = section.required("waiting_max", 1, count);
    let waiting_per_channel_max = section.required("waiting_per_channel_max", 1, count);
    let access_log = section.optional("access_log", access_log).unwrap_or_default();
    let header = section.optional("cdn_secret_header", header_name);
    let mut values = Vec::new();
    section.texts("cdn_secrets", |text| cdn_secret(text).map(|secret| values.push(secret)));
    if values.len() > CDN_SECRETS_MAX {
        section.complain(
            "cdn_secrets",
            "has more than two values: the one that is used, and the one that takes its place",
        );
    }
    let cache_bytes_max = section.required("cache_max", 1, units::size);
    let away = AwayConfig {
        upstream: section.optional("upstream", upstream),
        stale_max: section.required("stale_max", Duration::ZERO, units::duration),
        disk: disk(section.section("disk_cache")),
    };
    section.close();
    let cdn = header.filter(|_| !values.is_empty()).map(|header| CdnSecret { header, values });
    Some(OriginConfig {
        listen: listen?,
        connections_max,
        waiting_max,
        waiting_per_channel_max,
        cdn,
        access_log,
        cache_bytes_max,
        away,
    })
}

/// The table `origin.disk_cache`: both keys, or none.
fn disk(mut section: Section<'_>) -> Option<DiskConfig> {
    let (path, bytes_max) = (section.optional("path", path), section.optional("max_size", units::size));
    match (section.has("path"), section.has("max_size")) {
        (true, false) => section.complain("max_size", "is missing; say how much may be kept in `path`"),
        (false, true) => section.complain("path", "is missing; say where `max_size` may be kept"),
        _ => {}
    }
    section.close();
    Some(DiskConfig { path: path?, bytes_max: bytes_max? })
}

/// The address of another server, without a path.
fn upstream(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not the address of a server; write it like \"http://ingest.example.net:8080\"");
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let bare = uri.path_and_query().is_none_or(|path| path == "/");
    match (uri.scheme_str(), uri.authority().map(http::uri::Authority::as_str)) {
        (Some(scheme @ ("http" | "https")), Some(server)) if bare && !server.contains('@') => {
            Ok(format!("{scheme}://{server}"))
        }
        _ => Err(wrong()),
    }
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match text {
        "off" => Ok(AccessLog::Off),
        "stdout" => Ok(AccessLog::Stdout),
        _ => path(text).map(AccessLog::File),
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = text.parse().map_err(|_| format!("`{text}` is not the name of a header field"))?;
    match TAKEN_HEADERS.contains(&text.to_ascii_lowercase().as_str()) {
        true => Err(format!("`{text}` has a meaning of its own; choose a name that begins with X-")),
        false => Ok(name),
    }
}

fn cdn_secret(text: &str) -> Result<Secret, &'static str> {
    let sendable = text.bytes().all(|b| b.is_ascii_graphic());
    match text.len() {
        _ if !sendable => Err("has a character that a header field cannot carry safely; use letters and digits"),
        ..CDN_SECRET_BYTES_MIN => Err("is shorter than 16 characters; make one with: openssl rand -hex 24"),
        _ => Ok(Secret::new(text.to_owned())),
    }
}

/// The section `playback`, with what the channels say for themselves.
pub(super) fn playback(mut section: Section<'_>, channels: BTreeMap<ChannelName, bool>) -> PlaybackConfig {
    let required = section.required("tokens", false, required);
    let leeway = section.required("leeway", Duration::ZERO, units::duration);
    let audience = section.optional("audience", text);
    let keys = token_keys(&mut section);
    if keys.is_empty() && (required || channels.values().any(|required| *required)) {
        section.complain("keys", "is missing, and tokens are required; give one with [[playback.keys]]");
    }
    if leeway > LEEWAY_MAX {
        section.complain("leeway", "is longer than 5m; set the clocks instead");
    }
    section.close();
    PlaybackConfig { required, channels, leeway, audience, keys }
}

/// What `tokens` says, of all channels or of one.
pub(super) fn required(text: &str) -> Result<bool, String> {
    match text {
        "off" => Ok(false),
        "required" => Ok(true),
        other => Err(format!("`{other}` is neither \"off\" nor \"required\"{}", nearest(other, &["off", "required"]))),
    }
}

fn token_keys(section: &mut Section<'_>) -> Vec<TokenKeyConfig> {
    let mut ids = BTreeSet::new();
    let mut keys = Vec::new();
    for mut section in section.list("keys") {
        let id = section.optional("id", key_id);
        let secret = section.optional("secret", token_secret).map(TokenKey::Secret);
        let public = section.optional("public_key", path).map(TokenKey::Public);
        if section.has("secret") == section.has("public_key") {
            section.complain("secret", "or public_key is needed, and not both");
        }
        if !ids.insert(id.clone()) {
            section
                .complain("id", "is that of an earlier key; each needs its own, so that tokens can name it as `kid`");
        }
        section.close();
        keys.extend(secret.or(public).map(|key| TokenKeyConfig { id, key }));
    }
    keys
}

fn key_id(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("is not 1 to 128 printable characters without spaces".to_owned()) }
}

fn token_secret(text: &str) -> Result<Secret, String> {
    match text.len() {
        ..TOKEN_SECRET_BYTES_MIN => {
            Err("is shorter than the 32 bytes that HS256 needs (RFC 7518, 3.2); make one with: \
                                         openssl rand -hex 32"
                .to_owned())
        }
        _ => Ok(Secret::new(text.to_owned())),
    }
}

const CDN_SECRETS_MAX: usize = 2;
const CDN_SECRET_BYTES_MIN: usize = 16;
const TOKEN_SECRET_BYTES_MIN: usize = 32;
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Fields that browsers and caches send, or that mean something to them.
const TAKEN_HEADERS: [&str; 10] = [
    "accept-encoding",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "host",
    "if-none-match",
    "origin",
    "range",
    "user-agent",
];
