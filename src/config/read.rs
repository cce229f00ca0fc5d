//! From the tree of settings to [`Config`]: every key, what it may hold, and what must fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Problems, Section, nearest};
use super::tree::Node;
use super::{
    AdminConfig, ChannelConfig, ChannelDefaults, Config, EncodeProfile, HlsConfig, LadderConfig, LongGop, MissingRungs,
    OriginConfig, RenditionConfig, RenditionSource, RtmpConfig, S3Config, StoreConfig, StreamKey, units,
};
use crate::ladder::RenditionName;
use crate::source::ChannelName;

/// Reads a whole tree. What it gives back is only to be used where `problems` stayed empty.
pub(super) fn config(root: Node, problems: &Problems) -> Option<Config> {
    let mut root = Section::open(problems, String::new(), root);
    let data_dir = root.required("data_dir", PathBuf::new(), path);
    let rtmp = rtmp(root.section("rtmp"));
    let origin = OriginConfig { listen: listener(root.section("origin"))? };
    let admin = AdminConfig { listen: listener(root.section("admin"))? };
    let hls = hls(root.section("hls"));
    let store = store(root.section("store"));
    let channel = channel_defaults(root.section("channel"));
    let ladders = ladders(root.section("ladders"));
    let channels = channels(root.list("channels"), &ladders);
    root.close();
    Some(Config { data_dir, rtmp: rtmp?, origin, admin, hls, store, channel, channels })
}

fn rtmp(mut section: Section<'_>) -> Option<RtmpConfig> {
    let listen = section.optional("listen", address);
    let mut deadline = |key| section.required(key, Duration::ZERO, units::duration);
    let handshake_timeout = deadline("handshake_timeout");
    let publish_timeout = deadline("publish_timeout");
    let first_media_timeout = deadline("first_media_timeout");
    let idle_timeout = deadline("idle_timeout");
    let connections_max = section.required("connections_max", 0, count);
    section.close();
    Some(RtmpConfig {
        listen: listen?,
        handshake_timeout,
        publish_timeout,
        first_media_timeout,
        idle_timeout,
        connections_max,
    })
}

fn listener(mut section: Section<'_>) -> Option<SocketAddr> {
    let listen = section.optional("listen", address);
    section.close();
    listen
}

fn hls(mut section: Section<'_>) -> HlsConfig {
    let mut duration = |key| section.required(key, Duration::from_secs(1), units::duration);
    let hls = HlsConfig {
        segment_duration: duration("segment_duration"),
        part_duration: duration("part_duration"),
        window: duration("window"),
    };
    if hls.segment_duration < Duration::from_secs(1) {
        section.complain("segment_duration", "is shorter than 1s, the shortest that EXT-X-TARGETDURATION can say");
    }
    if hls.part_duration < Duration::from_millis(100) {
        section.complain("part_duration", "is shorter than 100ms, about the time of three pictures");
    }
    if hls.part_duration > hls.segment_duration {
        section.complain("part_duration", "is longer than segment_duration; a segment is made of parts");
    }
    if hls.window < hls.segment_duration * 3 {
        section.complain("window", "is shorter than three segments, the least that a live playlist may list");
    }
    section.close();
    hls
}

fn store(mut section: Section<'_>) -> StoreConfig {
    let kind = section.required("kind", "fs", |text| match text {
        "fs" => Ok("fs"),
        "s3" => Ok("s3"),
        other => Err(format!("`{other}` is not a kind of store{}", nearest(other, &["fs", "s3"]))),
    });
    let path = section.optional("path", path);
    let s3 = S3Config {
        bucket: section.optional("bucket", text).unwrap_or_default(),
        prefix: section.optional("prefix", prefix).unwrap_or_default(),
        region: section.optional("region", text),
        endpoint: section.optional("endpoint", endpoint),
        path_style: section.optional("path_style", truth).unwrap_or(false),
    };
    if kind == "s3" && s3.bucket.is_empty() {
        section.complain("bucket", "is missing; a store of kind \"s3\" needs one");
    }
    if kind == "fs" && (!s3.bucket.is_empty() || s3.endpoint.is_some()) {
        section.complain("kind", "is \"fs\", but a bucket or an endpoint is given; did you mean kind = \"s3\"?");
    }
    section.close();
    if kind == "s3" { StoreConfig::S3(s3) } else { StoreConfig::Fs { path: path.unwrap_or_default() } }
}

fn channel_defaults(mut section: Section<'_>) -> ChannelDefaults {
    let grace = section.required("grace", Duration::ZERO, units::duration);
    section.close();
    ChannelDefaults { grace }
}

fn ladders(mut section: Section<'_>) -> BTreeMap<String, Arc<LadderConfig>> {
    let read = |(name, section): (String, _)| (name.clone(), Arc::new(ladder(name, section)));
    section.named_sections().into_iter().map(read).collect()
}

fn ladder(name: String, mut section: Section<'_>) -> LadderConfig {
    let profile = section.optional("profile", |text| match text {
        "balanced" => Ok(EncodeProfile::Balanced),
        "low-latency" => Ok(EncodeProfile::LowLatency),
        other => Err(format!("`{other}` is not a profile{}", nearest(other, &["balanced", "low-latency"]))),
    });
    let long_gop = section.optional("long_gop", |text| match text {
        "encode" => Ok(LongGop::Encode),
        "stretch" => Ok(LongGop::Stretch),
        other => Err(format!("`{other}` is not an answer to long GOPs{}", nearest(other, &["encode", "stretch"]))),
    });
    let missing_rungs = section.optional("missing_rungs", |text| match text {
        "encode" => Ok(MissingRungs::Encode),
        "leave-out" => Ok(MissingRungs::LeaveOut),
        other => {
            Err(format!("`{other}` is not an answer to missing rungs{}", nearest(other, &["encode", "leave-out"])))
        }
    });
    let mut audio = section.section("audio");
    let audio_bitrate = audio.optional("bitrate", units::bitrate).unwrap_or(128_000);
    audio.close();
    let renditions: Vec<_> = section.list("renditions").into_iter().filter_map(rendition).collect();
    if renditions.is_empty() {
        section.complain("renditions", "has no rendition that can be used; give at least one");
    }
    let mut names = BTreeSet::new();
    for twice in renditions.iter().filter(|rendition| !names.insert(&rendition.name)) {
        section.complain("renditions", format!("has two renditions of the name `{}`", twice.name));
    }
    section.close();
    LadderConfig {
        name,
        profile: profile.unwrap_or_default(),
        long_gop: long_gop.unwrap_or_default(),
        missing_rungs: missing_rungs.unwrap_or_default(),
        renditions,
        audio_bitrate,
    }
}

fn rendition(mut section: Section<'_>) -> Option<RenditionConfig> {
    let name = section.required("name", None, rendition_name);
    let passthrough = section.optional("passthrough", truth).unwrap_or(false);
    let height = section.optional("height", |text| match text.parse() {
        Ok(height @ 64..=4320) => Ok(height),
        _ => Err(format!("`{text}` is not a height in lines from 64 to 4320")),
    });
    let bitrate = section.optional("bitrate", units::bitrate);
    let source = match (passthrough, height, bitrate) {
        (true, None, bitrate) => Some(RenditionSource::Passthrough { bitrate }),
        (true, Some(_), _) => {
            section.complain("height", "has no meaning with passthrough, which keeps the source's size; leave one out");
            None
        }
        (false, Some(height), Some(bitrate)) => Some(RenditionSource::Encode { height, bitrate }),
        (false, height, bitrate) => {
            if height.is_none() {
                section.complain("height", "is missing; give a height in lines, or passthrough = true");
            }
            if bitrate.is_none() {
                section.complain("bitrate", "is missing; give one like \"2.8Mbps\", or passthrough = true");
            }
            None
        }
    };
    section.close();
    Some(RenditionConfig { name: name?, source: source? })
}

fn channels(sections: Vec<Section<'_>>, ladders: &BTreeMap<String, Arc<LadderConfig>>) -> Vec<ChannelConfig> {
    let mut names = BTreeSet::new();
    let mut channels = Vec::new();
    for mut section in sections {
        let name = section.required("name", None, |text| ChannelName::new(text).map(Some).map_err(|e| e.to_string()));
        if let Some(name) = name.as_ref().filter(|name| !names.insert((*name).clone())) {
            section.complain("name", format!("`{name}` is the name of an earlier channel"));
        }
        let ladder = section.optional("ladder", text).unwrap_or_else(|| "default".to_owned());
        let ladder = ladders.get(&ladder).cloned().ok_or(ladder).map_err(|missing| {
            let valid: Vec<_> = ladders.keys().map(String::as_str).collect();
            section.complain("ladder", format!("there is no ladder `{missing}`{}", nearest(&missing, &valid)));
        });
        let key = key(&mut section);
        section.close();
        if let (Some(name), Ok(ladder)) = (name, ladder) {
            channels.push(ChannelConfig { name, ladder, key });
        }
    }
    channels
}

fn key(section: &mut Section<'_>) -> Option<StreamKey> {
    let plain = section.optional("stream_key", |text| match text {
        "" => Err("is empty; leave it out to have one made".to_owned()),
        _ if !text.bytes().all(|b| b.is_ascii_graphic() && !b"/?&#".contains(&b)) => {
            Err("has a character that encoders cannot send; use letters, digits, - and _".to_owned())
        }
        _ => Ok(StreamKey::Plain(text.to_owned())),
    });
    let hashed = section.optional("stream_key_sha256", sha256);
    if plain.is_some() && hashed.is_some() {
        section.complain("stream_key", "and stream_key_sha256 are both given; leave one out");
    }
    plain.or(hashed)
}

fn sha256(text: &str) -> Result<StreamKey, String> {
    let wrong = || "is not the 64 hexadecimal digits of a SHA-256".to_owned();
    let mut digest = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(wrong());
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(StreamKey::Sha256(digest))
}

fn rendition_name(text: &str) -> Result<Option<RenditionName>, String> {
    let name = RenditionName::new(text).map_err(|error| error.to_string())?;
    if name == RenditionName::audio() {
        return Err("`audio` is the name of the audio rendition; choose another".to_owned());
    }
    Ok(Some(name))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address and port; write it like \"0.0.0.0:1935\""))
}

fn endpoint(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not a URL; write it like \"https://s3.example.net\"")),
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{text}` is not a whole number above zero"))
}

fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty; give a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn prefix(text: &str) -> Result<String, String> {
    Ok(text.trim_matches('/').to_owned())
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}
