//! From the tree of settings to [`Config`]: every key, what it may hold, and what must fit together.

mod viewers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::reader::{Problems, Section, nearest};
use super::tree::Node;
use super::{
    AddressLimits, AdminConfig, ChannelConfig, ChannelDefaults, Config, EncodeProfile, HlsConfig, HooksConfig,
    KeyConfig, LadderConfig, LongGop, MissingRungs, RecordingConfig, RenditionConfig, RenditionSource, RtmpConfig,
    S3Config, Secret, SpoolConfig, StoreConfig, StreamKey, ThumbnailConfig, TlsConfig, units,
};
use crate::chronicle::Rules;
use crate::ladder::RenditionName;
use crate::media::Container;
use crate::networks::Networks;
use crate::source::ChannelName;

/// Reads a whole tree. What it gives back is only to be used where `problems` stayed empty.
pub(super) fn config(root: Node, problems: &Problems) -> Option<Config> {
    let mut root = Section::open(problems, String::new(), root);
    let data_dir = root.required("data_dir", PathBuf::new(), path);
    let rtmp = rtmp(root.section("rtmp"));
    let rtmps = tls("rtmps", root.section("rtmps"));
    let origin = viewers::origin(root.section("origin"));
    let origin_tls = tls("origin_tls", root.section("origin_tls"));
    let admin = AdminConfig { listen: listener(root.section("admin"))? };
    let hls = hls(root.section("hls"));
    let thumbnails = thumbnails(root.section("thumbnails"));
    let recordings = recordings(root.section("recordings"));
    let (store, spool) = store(root.section("store"), &data_dir);
    let channel = channel_defaults(root.section("channel"), rtmp.as_ref());
    let ladders = ladders(root.section("ladders"));
    let mut tokens = BTreeMap::new();
    let channels = channels(root.list("channels"), &ladders, (&hls, &recordings), &mut tokens);
    let playback = viewers::playback(root.section("playback"), tokens);
    let hooks = hooks(root.section("hooks"), rtmp.as_ref());
    root.close();
    Some(Config {
        data_dir,
        rtmp: rtmp?,
        rtmps,
        origin: origin?,
        origin_tls,
        playback,
        admin,
        hls,
        thumbnails,
        recordings,
        store,
        spool,
        channel,
        hooks,
        ladders,
        channels,
    })
}

fn rtmp(mut section: Section<'_>) -> Option<RtmpConfig> {
    let listen = section.optional("listen", address);
    let mut deadline = |key| section.required(key, Duration::ZERO, units::duration);
    let handshake_timeout = deadline("handshake_timeout");
    let publish_timeout = deadline("publish_timeout");
    let first_media_timeout = deadline("first_media_timeout");
    let idle_timeout = deadline("idle_timeout");
    let run_ahead_max = deadline("run_ahead_max");
    let connections_max = section.required("connections_max", 0, count);
    let limits = AddressLimits {
        connections_max: section.required("address_connections_max", 0, count),
        connects_per_second: section.required("address_connects_per_second", 0, count),
        wrong_keys_per_minute: section.required("address_wrong_keys_per_minute", 0, count),
        handshakes_per_second: section.required("handshakes_per_second", 0, count),
        exempt: networks(&mut section, "limits_exempt"),
    };
    let proxy_protocol = networks(&mut section, "proxy_protocol");
    let public_url = section.optional("public_url", public_url);
    section.close();
    Some(RtmpConfig {
        listen: listen?,
        handshake_timeout,
        publish_timeout,
        first_media_timeout,
        idle_timeout,
        run_ahead_max,
        connections_max,
        limits,
        proxy_protocol,
        public_url,
    })
}

fn tls(name: &'static str, mut section: Section<'_>) -> Option<TlsConfig> {
    let listen = section.optional("listen", address);
    let certificate = section.optional("certificate", path);
    let key = section.optional("key", path);
    match (&certificate, &key) {
        (Some(_), None) => {
            section.complain("certificate", "is given without `key`; give the path of its private key too")
        }
        (None, Some(_)) => {
            section.complain("key", "is given without `certificate`; give the path of the certificate too")
        }
        _ => {}
    }
    section.close();
    Some(TlsConfig { section: name, listen: listen?, certificate: certificate?, key: key? })
}

fn networks(section: &mut Section<'_>, key: &'static str) -> Networks {
    let mut networks = Networks::default();
    section.texts(key, |text| networks.add(text));
    networks
}

fn listener(mut section: Section<'_>) -> Option<SocketAddr> {
    let listen = section.optional("listen", address);
    section.close();
    listen
}

fn hls(mut section: Section<'_>) -> HlsConfig {
    let container = section.optional("container", container).unwrap_or_default();
    let low_latency = section.required("low_latency", true, truth);
    let mut duration = |key| section.required(key, Duration::from_secs(1), units::duration);
    let hls = HlsConfig {
        container,
        low_latency,
        segment_duration: duration("segment_duration"),
        part_duration: duration("part_duration"),
        window: duration("window"),
        memory: duration("memory"),
        memory_max: duration("memory_max"),
    };
    if hls.memory_max < hls.memory {
        section.complain("memory_max", "is shorter than memory, for which segments stay there in any case");
    }
    if hls.segment_duration < Duration::from_secs(1) {
        section.complain("segment_duration", "is shorter than 1s, the shortest that EXT-X-TARGETDURATION can say");
    }
    if hls.part_duration < Duration::from_millis(100) {
        section.complain("part_duration", "is shorter than 100ms, about the time of three pictures");
    }
    if hls.part_duration > hls.segment_duration {
        section.complain("part_duration", "is longer than segment_duration; a segment is made of parts");
    }
    check_window(&section, hls.window, &hls);
    section.close();
    hls
}

fn check_window(section: &Section<'_>, window: Duration, hls: &HlsConfig) {
    if window < hls.segment_duration * 3 {
        section.complain("window", "is shorter than three segments, the least that a live playlist may list");
    }
    if window > WINDOW_MAX {
        section.complain(
            "window",
            "is longer than 24h; what is to be watched for longer is recorded (docs/recordings.md)",
        );
    }
}

/// A longer one is too much to be listed again and again, and to be read back at each start.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);

fn thumbnails(mut section: Section<'_>) -> Option<ThumbnailConfig> {
    let off_or = |text: &str| if text == "off" { Ok(None) } else { units::duration(text).map(Some) };
    let interval = section.required("interval", None, off_or);
    let height: u32 = section.required("height", 16, count);
    if interval.is_some_and(|interval| interval < Duration::from_secs(1)) {
        section.complain("interval", "is shorter than 1s");
    }
    if !(16..=1080).contains(&height) {
        section.complain("height", "is not 16 to 1080 lines");
    }
    section.close();
    Some(ThumbnailConfig { interval: interval?, height })
}

fn recordings(mut section: Section<'_>) -> RecordingConfig {
    let recording = recording(&mut section, &RecordingConfig::default());
    section.close();
    recording
}

/// What a section says of recordings, and the `usual` where it says nothing.
fn recording(section: &mut Section<'_>, usual: &RecordingConfig) -> RecordingConfig {
    let age = |text: &str| if text == "off" { Ok(None) } else { units::duration(text).map(Some) };
    let size = |text: &str| if text == "off" { Ok(None) } else { units::size(text).map(Some) };
    let class = |text: &str| if text == "off" { Ok(None) } else { text.parse().map(Some) };
    RecordingConfig {
        record: section.optional("record", truth).unwrap_or(usual.record),
        rules: Rules {
            age_max: section.optional("recordings_max_age", age).unwrap_or(usual.rules.age_max),
            bytes_max: section.optional("recordings_max_size", size).unwrap_or(usual.rules.bytes_max),
        },
        storage_class: section
            .optional("recordings_storage_class", class)
            .unwrap_or_else(|| usual.storage_class.clone()),
    }
}

fn container(text: &str) -> Result<Container, String> {
    match text {
        "cmaf" => Ok(Container::Cmaf),
        "ts" => Ok(Container::Ts),
        other => Err(format!("`{other}` is not a container{}", nearest(other, &["cmaf", "ts"]))),
    }
}

fn store(mut section: Section<'_>, data_dir: &Path) -> (StoreConfig, Option<SpoolConfig>) {
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
    let config = if kind == "s3" { StoreConfig::S3(s3) } else { StoreConfig::Fs { path: path.unwrap_or_default() } };
    let spool = spool(section.section("spool"), &config, data_dir);
    section.close();
    (config, spool)
}

/// A bucket has a spool unless it is off; files have one where they are told its path.
fn spool(mut section: Section<'_>, store: &StoreConfig, data_dir: &Path) -> Option<SpoolConfig> {
    let given = section.optional("path", |text| if text == "off" { Ok(None) } else { path(text).map(Some) });
    let bytes_max = section.required("max_size", 1, units::size);
    let drain_bitrate = section.required("drain_bitrate", 1, units::bitrate);
    let path = match (given, store) {
        (Some(given), _) => given,
        (None, StoreConfig::S3(_)) => Some(data_dir.join("spool")),
        (None, StoreConfig::Fs { .. }) => None,
    };
    if let (Some(spool), StoreConfig::Fs { path: store }) = (&path, store)
        && (spool.starts_with(store) || store.starts_with(spool))
    {
        section.complain("path", "is above or below store.path; what waits there is deleted when the store has it");
    }
    section.close();
    Some(SpoolConfig { path: path?, bytes_max, drain_bitrate })
}

fn channel_defaults(mut section: Section<'_>, rtmp: Option<&RtmpConfig>) -> ChannelDefaults {
    let grace = section.required("grace", Duration::ZERO, units::duration);
    let takeover_silence = section.required("takeover_silence", Duration::ZERO, units::duration);
    if rtmp.is_some_and(|rtmp| takeover_silence >= rtmp.publish_timeout) {
        section.complain(
            "takeover_silence",
            "is not shorter than rtmp.publish_timeout, within which the new encoder waits for it",
        );
    }
    section.close();
    ChannelDefaults { grace, takeover_silence }
}

fn hooks(mut section: Section<'_>, rtmp: Option<&RtmpConfig>) -> Option<HooksConfig> {
    let hooks = HooksConfig {
        on_publish: section.optional("on_publish", endpoint),
        on_unpublish: section.optional("on_unpublish", endpoint),
        secret: section.optional("secret", secret),
        timeout: section.required("timeout", Duration::ZERO, units::duration),
        always: section.optional("always", truth).unwrap_or(false),
        calls_max: section.required("calls_max", 1, count),
        channels_max: section.required("channels_max", 1, count),
        channel_idle: section.required("channel_idle", Duration::ZERO, units::duration),
    };
    if hooks.on_publish.is_some() && rtmp.is_some_and(|rtmp| hooks.timeout >= rtmp.publish_timeout) {
        section.complain("timeout", "is not shorter than rtmp.publish_timeout, within which the encoder waits for it");
    }
    if hooks.always && hooks.on_publish.is_none() {
        section.complain("always", "has no meaning without on_publish; give the URL that is to be asked");
    }
    section.close();
    let given = hooks.on_publish.is_some() || hooks.on_unpublish.is_some();
    given.then_some(hooks)
}

fn secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        Err("is empty; leave it out for calls without a signature".to_owned())
    } else {
        Ok(Secret::new(text.to_owned()))
    }
}

fn public_url(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("rtmp" | "rtmps")) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not an RTMP URL; write it like \"rtmp://live.example.net/live\"")),
    }
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

/// The channels; `tokens` is told which of them say for themselves whether they need playback tokens.
fn channels(
    sections: Vec<Section<'_>>,
    ladders: &BTreeMap<String, Arc<LadderConfig>>,
    usual: (&HlsConfig, &RecordingConfig),
    tokens: &mut BTreeMap<ChannelName, bool>,
) -> Vec<ChannelConfig> {
    let mut names = BTreeSet::new();
    let mut holders = BTreeMap::new();
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
        let container = section.optional("container", container).unwrap_or(usual.0.container);
        let window = section.optional("window", units::duration);
        window.iter().for_each(|window| check_window(&section, *window, usual.0));
        let recording = recording(&mut section, usual.1);
        let keys = keys(&mut section);
        for key in &keys {
            let earlier = holders.insert(key.key.digest(), name.clone()).flatten();
            if let Some(other) = earlier.filter(|other| name.as_ref() != Some(other)) {
                section.complain("keys", format!("has a key of channel `{other}` too; a key opens one channel"));
            }
        }
        tokens.extend(name.clone().zip(section.optional("playback_tokens", viewers::required)));
        section.close();
        if let (Some(name), Ok(ladder)) = (name, ladder) {
            let window = window.unwrap_or(usual.0.window);
            channels.push(ChannelConfig { name, ladder, container, window, recording, keys });
        }
    }
    channels
}

/// The key that stands in the channel's own table, and those of `[[channels.keys]]`.
fn keys(section: &mut Section<'_>) -> Vec<KeyConfig> {
    let own = key(section, "stream_key", "stream_key_sha256").map(KeyConfig::from);
    let further = section.list("keys").into_iter().filter_map(|mut section| {
        let key = key(&mut section, "key", "sha256");
        if key.is_none() && !section.has("key") && !section.has("sha256") {
            section.complain("key", "is missing; give a key, or its sha256");
        }
        let name = section.optional("name", key_name);
        let expires = section.optional("expires", instant);
        section.close();
        Some(KeyConfig { key: key?, name, expires })
    });
    own.into_iter().chain(further).collect()
}

fn key(section: &mut Section<'_>, plain: &'static str, hashed: &'static str) -> Option<StreamKey> {
    let clear = section.optional(plain, |text| match text {
        "" => Err("is empty; leave it out to have one made".to_owned()),
        _ if !text.bytes().all(|b| b.is_ascii_graphic() && !b"/?&#".contains(&b)) => {
            Err("has a character that encoders cannot send; use letters, digits, - and _".to_owned())
        }
        _ => Ok(StreamKey::Plain(text.to_owned())),
    });
    let digest = section.optional(hashed, sha256);
    if clear.is_some() && digest.is_some() {
        section.complain(plain, format!("and {hashed} are both given; leave one out"));
    }
    clear.or(digest)
}

fn key_name(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(format!("`{}` is not a name: 1 to 64 bytes", text.escape_debug())) }
}

fn instant(text: &str) -> Result<SystemTime, String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text).ok();
    let instant =
        parsed.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at.timestamp().try_into().ok()?)));
    instant
        .ok_or_else(|| format!("`{text}` is not a date and time with its zone; write it like \"2026-12-31T18:00:00Z\""))
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
    if RESERVED_NAMES.contains(&name.as_str()) {
        return Err(format!("`{name}` is a directory of every channel; choose another"));
    }
    Ok(Some(name))
}

/// Directories beside those of renditions.
const RESERVED_NAMES: [&str; 4] = ["chronicle", "clips", "range", "recordings"];

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address and port; write it like \"0.0.0.0:1935\""))
}

fn endpoint(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not a URL; write it like \"https://s3.example.net\"")),
    }
}

fn count<N: FromStr + PartialOrd + Default>(text: &str) -> Result<N, String> {
    text.parse().ok().filter(|n| *n > N::default()).ok_or_else(|| format!("`{text}` is not a whole number above zero"))
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
