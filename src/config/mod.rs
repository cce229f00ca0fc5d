//! What the operator says: a TOML file and the environment, checked into a struct for each stage.
//!
//! The stages take these structs and know nothing of files, keys or TOML.

mod environment;
mod read;
mod reader;
mod tree;
mod units;
mod viewers;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::chronicle::Rules;
use crate::ladder::RenditionName;
use crate::media::Container;
use crate::networks::Networks;
use crate::source::ChannelName;

pub use environment::check_environment;
use reader::Problems;
use tree::{Node, Origin};

pub use viewers::{
    AccessLog, AwayConfig, CdnSecret, DiskConfig, OriginConfig, PlaybackConfig, TokenKey, TokenKeyConfig,
};

/// The shipped file: every key's documentation, and every key's default.
pub const SHIPPED: &str = include_str!("../../config/headwater.toml");

/// Loads the shipped defaults, lays `file` over them, and then the `HEADWATER_…` ones among `variables`:
/// `HEADWATER_RTMP__LISTEN` sets `rtmp.listen`, `HEADWATER_CHANNELS__0__STREAM_KEY` that of the first channel.
///
/// # Errors
/// All that is wrong, at once: each with its place, its key and what to do.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let text = file.map(|path| std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))).transpose()?;
    parse(text.as_deref().unwrap_or_default(), variables)
        .map_err(|errors| ConfigErrors { file: file.map(Path::to_owned), errors })
}

/// The same, for a text in place of a file.
fn parse(text: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, Vec<ConfigError>> {
    let mut root = Node::parse(SHIPPED, |_| Origin::Shipped).map_err(|error| vec![error])?;
    root.overlay(Node::parse(text, Origin::Line).map_err(|error| vec![error])?);
    let problems = Problems::default();
    for (name, value) in variables {
        let Some(path) = name.strip_prefix("HEADWATER_") else { continue };
        let path: Vec<_> = path.split("__").map(str::to_ascii_lowercase).collect();
        if let Err(error) = root.set(&path, &Origin::Variable(name), &value) {
            problems.push(&error.origin, error.key, error.problem);
        }
    }
    let config = read::config(root, &problems);
    match (config, problems.into_inner()) {
        (Some(config), errors) if errors.is_empty() => Ok(config),
        (_, errors) => Err(errors),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigErrors {
    let problem = format!("cannot be read: {error}");
    let error = ConfigError { origin: Origin::Shipped, key: String::new(), problem };
    ConfigErrors { file: Some(path.to_owned()), errors: vec![error] }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    origin: Origin,
    key: String,
    problem: String,
}

/// All that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: Option<PathBuf>,
    errors: Vec<ConfigError>,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_ref().map(|file| file.display().to_string());
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match (&error.origin, &file) {
                (Origin::Line(line), Some(file)) => write!(f, "{file}:{line}: ")?,
                (Origin::Variable(name), _) => write!(f, "environment variable {name}: ")?,
                (_, Some(file)) => write!(f, "{file}: ")?,
                (origin, None) => write!(f, "{origin}: ")?,
            }
            match error.key.as_str() {
                "" => write!(f, "{}", error.problem)?,
                key => write!(f, "{key}: {}", error.problem)?,
            }
        }
        Ok(())
    }
}

/// Everything, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where keys that were made are kept, and what players were told of each channel.
    pub data_dir: PathBuf,
    /// `[rtmp]`
    pub rtmp: RtmpConfig,
    /// `[rtmps]`; none where it has no certificate.
    pub rtmps: Option<TlsConfig>,
    /// `[origin]`
    pub origin: OriginConfig,
    /// `[origin_tls]`; none where it has no certificate.
    pub origin_tls: Option<TlsConfig>,
    /// `[playback]`
    pub playback: PlaybackConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[hls]`
    pub hls: HlsConfig,
    /// `[thumbnails]`; none where they are off.
    pub thumbnails: Option<ThumbnailConfig>,
    /// `[recordings]`
    pub recordings: RecordingConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[store.spool]`; none where there is none.
    pub spool: Option<SpoolConfig>,
    /// `[channel]`
    pub channel: ChannelDefaults,
    /// `[hooks]`; none where no hook is given.
    pub hooks: Option<HooksConfig>,
    /// `[ladders]`, by name.
    pub ladders: BTreeMap<String, Arc<LadderConfig>>,
    /// `[[channels]]`
    pub channels: Vec<ChannelConfig>,
}

impl Config {
    /// What is no error, but is hardly meant at `now`: a sentence for each key that has expired.
    #[must_use]
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let expired = |channel: &ChannelConfig, (i, key): (usize, &KeyConfig)| {
            let expires = key.expires.filter(|_| key.is_expired(now))?;
            let name =
                key.name.as_ref().map_or_else(|| format!("number {}", i.saturating_add(1)), |n| format!("`{n}`"));
            let since = humantime::format_rfc3339_seconds(expires);
            Some(format!(
                "channel {}: its stream key {name} expired at {since} and opens nothing any more",
                channel.name
            ))
        };
        let of = |channel| move |key| expired(channel, key);
        let keys = self.channels.iter().flat_map(|channel| channel.keys.iter().enumerate().filter_map(of(channel)));
        let classes = self.channels.iter().map(|channel| &channel.recording).chain([&self.recordings]);
        let in_vain =
            matches!(self.store, StoreConfig::Fs { .. }) && classes.filter_map(RecordingConfig::class).count() > 0;
        let in_vain =
            in_vain.then(|| "recordings_storage_class does nothing: files have no storage classes".to_owned());
        keys.chain(in_vain).collect()
    }
}

/// The RTMP listener and the deadlines of its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct RtmpConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the handshake to an accepted `publish`.
    pub publish_timeout: Duration,
    /// From `publish` to the first IDR.
    pub first_media_timeout: Duration,
    /// Without media from the encoder, once it publishes.
    pub idle_timeout: Duration,
    /// How far a publisher's media may run ahead of the clock; then its socket is not read.
    pub run_ahead_max: Duration,
    /// Connections at one time, over all ports; more are closed at once.
    pub connections_max: usize,
    /// What one address may do.
    pub limits: AddressLimits,
    /// Load balancers, which say by the PROXY protocol whom they stand for.
    pub proxy_protocol: Networks,
    /// What encoders reach this server under, `rtmp://HOST[:PORT][/APP]`, for encoders that ask for their configuration.
    pub public_url: Option<String>,
}

/// What peers may do, each address (a /64 of IPv6) for itself and all together.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressLimits {
    /// Connections of one address at one time.
    pub connections_max: usize,
    /// New connections of one address a second, after as many at once as it may have open.
    pub connects_per_second: u32,
    /// Different wrong stream keys of one address a minute; after them it may try none for a time that grows.
    pub wrong_keys_per_minute: u32,
    /// New connections of all addresses a second, after twice as many at once.
    pub handshakes_per_second: u32,
    /// Addresses that none of this holds for.
    pub exempt: Networks,
}

/// A listener that speaks TLS: of RTMPS, or of the origin.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    /// The section of the config, by which errors name it.
    pub section: &'static str,
    /// Address and port.
    pub listen: SocketAddr,
    /// The certificate and those that signed it, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
}

/// The webhooks that say who may publish, and hear of who is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct HooksConfig {
    /// The URL that decides.
    pub on_publish: Option<String>,
    /// The URL that is told of publishers that are gone.
    pub on_unpublish: Option<String>,
    /// What calls are signed with.
    pub secret: Option<Secret>,
    /// For a call, with its answer.
    pub timeout: Duration,
    /// Keys of the config need the hook's consent too.
    pub always: bool,
    /// Calls that decide at one time; more wait, within the timeout.
    pub calls_max: usize,
    /// Channels at one time that the hook named and the config does not have.
    pub channels_max: usize,
    /// How long such a channel may be idle before it is removed.
    pub channel_idle: Duration,
}

/// A text that is never shown: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of this text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// How media is cut and how much of it is listed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HlsConfig {
    /// What the renditions are packed in; a channel may say otherwise.
    pub container: Container,
    /// The longest a segment should be.
    pub segment_duration: Duration,
    /// Whether the origin offers parts, and players may wait for them.
    pub low_latency: bool,
    /// The longest a part should be.
    pub part_duration: Duration,
    /// How much a live playlist lists; at least three segments. A channel may say otherwise.
    pub window: Duration,
    /// How long a segment stays in memory that is in the store; six target durations at least.
    pub memory: Duration,
    /// How long one stays that is not; then it is lost.
    pub memory_max: Duration,
}

impl HlsConfig {
    /// For a channel in this container. Parts are CMAF's: of a transport stream there are only whole segments.
    #[must_use]
    pub fn packed_in(self, container: Container) -> Self {
        Self { container, low_latency: self.low_latency && container == Container::Cmaf, ..self }
    }

    /// As a channel has it.
    #[must_use]
    pub fn of(self, channel: &ChannelConfig) -> Self {
        Self { window: channel.window, ..self.packed_in(channel.container) }
    }
}

/// Still pictures of channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThumbnailConfig {
    /// From one to the next.
    pub interval: Duration,
    /// Lines of a picture; a smaller one is not made larger.
    pub height: u32,
}

/// What is kept of a channel's programmes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingConfig {
    /// They are kept.
    pub record: bool,
    /// How long, and how much of them.
    pub rules: Rules,
    /// In which class of the bucket; none for the bucket's own.
    pub storage_class: Option<StorageClass>,
}

impl RecordingConfig {
    /// The class of what is recorded; none where nothing is.
    #[must_use]
    pub fn class(&self) -> Option<&StorageClass> {
        self.storage_class.as_ref().filter(|_| self.record)
    }
}

/// A storage class of a bucket, by its name in S3 (`x-amz-storage-class`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageClass(Arc<str>);

impl StorageClass {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for StorageClass {
    type Err = String;

    /// Any name, as stores other than AWS have their own; but for those of AWS out of which nothing can be read before it was
    /// restored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "GLACIER" | "DEEP_ARCHIVE" => {
                Err(format!("`{text}` has to be restored, for hours, before it can be watched; GLACIER_IR has not"))
            }
            _ if (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(format!("`{}` is not the name of a storage class, such as STANDARD_IA", text.escape_debug())),
        }
    }
}

/// Where segments and playlists are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreConfig {
    /// Files below a directory.
    Fs {
        /// The directory.
        path: PathBuf,
    },
    /// A bucket of S3 or of something compatible; credentials by the AWS chain.
    S3(S3Config),
}

/// A bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct S3Config {
    /// Its name.
    pub bucket: String,
    /// Put before every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The region; the AWS chain's where it is not given.
    pub region: Option<String>,
    /// The endpoint's URL, for a store that is not AWS.
    pub endpoint: Option<String>,
    /// `endpoint/bucket/key` in place of `bucket.endpoint/key`.
    pub path_style: bool,
}

/// Where segments wait on local disk while the store fails.
#[derive(Clone, Debug, PartialEq)]
pub struct SpoolConfig {
    /// The directory, this process's alone.
    pub path: PathBuf,
    /// Bytes that may wait there; beyond them the oldest are given up.
    pub bytes_max: u64,
    /// Bits a second at which they go up beside what is live.
    pub drain_bitrate: u64,
}

/// What holds for every channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelDefaults {
    /// How long a lost publisher may take to return before the programme ends.
    pub grace: Duration,
    /// How long a publisher must have sent no media for another to take its place.
    pub takeover_silence: Duration,
}

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// Its public name.
    pub name: ChannelName,
    /// Its renditions.
    pub ladder: Arc<LadderConfig>,
    /// What its renditions are packed in.
    pub container: Container,
    /// What is kept of its programmes.
    pub recording: RecordingConfig,
    /// How much its playlists list.
    pub window: Duration,
    /// Who may publish to it; where there is none, one is made on first start.
    pub keys: Vec<KeyConfig>,
}

/// One of a channel's stream keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// The key.
    pub key: StreamKey,
    /// What logs and the status call it, in place of the key.
    pub name: Option<String>,
    /// When it stops to open the channel; who publishes by then goes on.
    pub expires: Option<SystemTime>,
}

impl KeyConfig {
    /// It opens nothing at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl From<StreamKey> for KeyConfig {
    fn from(key: StreamKey) -> Self {
        Self { key, name: None, expires: None }
    }
}

/// A stream key as the config knows it. Never shown: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum StreamKey {
    /// In clear.
    Plain(String),
    /// Its SHA-256.
    Sha256([u8; 32]),
}

impl StreamKey {
    /// Its SHA-256.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Plain(text) => Sha256::digest(text).into(),
            Self::Sha256(digest) => *digest,
        }
    }
}

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamKey(hidden)")
    }
}

/// A ladder: the renditions that a channel offers.
#[derive(Clone, Debug, PartialEq)]
pub struct LadderConfig {
    /// Its name in `[ladders]`.
    pub name: String,
    /// What encoded renditions trade latency and quality for.
    pub profile: EncodeProfile,
    /// What becomes of a passthrough rendition whose source has keyframes further apart than a segment.
    pub long_gop: LongGop,
    /// What becomes of renditions that an encoder with a ladder of its own does not send.
    pub missing_rungs: MissingRungs,
    /// Video renditions, best first.
    pub renditions: Vec<RenditionConfig>,
    /// Bits a second of encoded audio.
    pub audio_bitrate: u64,
}

/// One video rendition of a ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct RenditionConfig {
    /// Its name, and its directory in URLs.
    pub name: RenditionName,
    /// What is shown.
    pub source: RenditionSource,
}

/// Where a rendition's pictures come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RenditionSource {
    /// The encoder's own, untouched where they allow it; else encoded at the source's size.
    Passthrough {
        /// Bits a second where it must be encoded; chosen by picture size where none is given.
        bitrate: Option<u64>,
    },
    /// Encoded.
    Encode {
        /// Lines. The width follows from the source's aspect ratio.
        height: u32,
        /// Bits a second, of video.
        bitrate: u64,
    },
}

/// What the encoder settings are chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodeProfile {
    /// B-frames and a short look-ahead: about 0.4 s of delay at 30 fps for five VMAF points.
    #[default]
    Balanced,
    /// No look-ahead, no B-frames.
    LowLatency,
}

/// What to do about keyframes further apart than a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongGop {
    /// Encode the source's own rendition too.
    #[default]
    Encode,
    /// Make the session's segments as long as the source's groups of pictures.
    Stretch,
}

/// What to do about renditions of a ladder that an encoder does not send, where it sends several itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingRungs {
    /// Encode them from the tallest picture that it sends.
    #[default]
    Encode,
    /// Do without: nothing is encoded.
    LeaveOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let errors = parse(text, []).expect_err("the text is wrong");
        ConfigErrors { file: Some("h.toml".into()), errors }.to_string()
    }

    #[test]
    fn the_shipped_file_is_what_the_defaults_are() {
        let config = parse("", []).unwrap();
        assert_eq!(config.rtmp.listen.port(), 1935);
        assert!(config.admin.listen.ip().is_loopback());
        assert_eq!(config.hls.segment_duration, Duration::from_secs(4));
        assert_eq!(config.channels.len(), 1);
        assert_eq!(config.channels[0].ladder.renditions.len(), 4);
        assert_eq!(config.channels[0].keys, []);
        assert_eq!(config.channel.grace, Duration::from_secs(30));
    }

    #[test]
    fn the_file_and_then_the_environment_override() {
        let file = "[hls]\nwindow = \"30s\"\nsegment_duration = \"2s\"\n[[channels]]\nname = \"a\"\n[[channels]]\nname = \"b\"";
        let variables = [("HEADWATER_HLS__WINDOW", "40s"), ("HEADWATER_CHANNELS__1__STREAM_KEY", "k"), ("PATH", "x")];
        let config = parse(file, variables.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap();
        assert_eq!(config.hls.window, Duration::from_secs(40));
        assert_eq!(config.hls.segment_duration, Duration::from_secs(2));
        assert_eq!(config.channels[1].keys, [StreamKey::Plain("k".into()).into()]);
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_valid_one() {
        assert_eq!(
            wrong("[hls]\n\nprat_duration = \"1s\"\n"),
            "h.toml:3: hls.prat_duration: unknown key `prat_duration`; did you mean `part_duration`?"
        );
        assert!(wrong("[hsl]\n").contains("h.toml:1: hsl: unknown key `hsl`; did you mean `hls`?"));
        let variables = [("HEADWATER_HLS__WINDOWS".to_owned(), "1m".to_owned())];
        let errors = ConfigErrors { file: None, errors: parse("", variables).unwrap_err() }.to_string();
        assert!(errors.starts_with("environment variable HEADWATER_HLS__WINDOWS: hls.windows: "), "{errors}");
        assert!(errors.contains("did you mean `window`?"), "{errors}");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = wrong("[rtmp]\nlisten = 1935\n[hls]\npart_duration = \"5s\"\nwindow = \"4\"\n");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("h.toml:2: rtmp.listen: `1935` is not an address and port"), "{text}");
        assert!(text.contains("hls.part_duration: is longer than segment_duration"), "{text}");
        assert!(text.contains("h.toml:5: hls.window: `4` is not a duration"), "{text}");
    }

    #[test]
    fn rtmps_is_off_until_both_files_are_given() {
        assert_eq!(parse("", []).unwrap().rtmps, None);
        assert!(wrong("[rtmps]\ncertificate = \"c.pem\"").contains("rtmps.certificate: is given without `key`"));
        assert!(wrong("[rtmps]\nkey = \"k.pem\"").contains("rtmps.key: is given without `certificate`"));
        let rtmps = parse("[rtmps]\ncertificate = \"c.pem\"\nkey = \"k.pem\"", []).unwrap().rtmps.unwrap();
        assert_eq!(rtmps.listen.port(), 1936);
    }

    #[test]
    fn the_origin_speaks_tls_once_both_files_are_given() {
        assert_eq!(parse("", []).unwrap().origin_tls, None);
        assert!(wrong("[origin_tls]\nkey = \"k.pem\"").contains("origin_tls.key: is given without `certificate`"));
        let tls = parse("[origin_tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"", []).unwrap().origin_tls.unwrap();
        assert_eq!((tls.section, tls.listen.port()), ("origin_tls", 8443));
    }

    #[test]
    fn what_a_cdn_shows_is_one_secret_or_two() {
        let cdn = |text: &str| parse(&format!("[origin]\n{text}"), []).map(|config| config.origin.cdn);
        assert_eq!(cdn(""), Ok(None));
        let both = cdn("cdn_secrets = [\"0123456789abcdef\", \"fedcba9876543210\"]").unwrap().unwrap();
        assert_eq!((both.header.as_str(), both.values.len()), ("x-origin-secret", 2));
        let variables = [("HEADWATER_ORIGIN__CDN_SECRETS".to_owned(), "0123456789abcdef".to_owned())];
        assert_eq!(parse("", variables).unwrap().origin.cdn.unwrap().values.len(), 1);
        let complaint = |text: &str| wrong(&format!("[origin]\n{text}"));
        assert!(complaint("cdn_secrets = [\"short\"]").contains("h.toml:2: origin.cdn_secrets: is shorter than 16"));
        assert!(complaint("cdn_secrets = [\"0123456789abcdef g\"]").contains("cannot carry safely"));
        let three = "cdn_secrets = [\"0123456789abcdef\", \"0123456789abcdeg\", \"0123456789abcdeh\"]";
        assert!(complaint(three).contains("has more than two values"));
        assert!(complaint("cdn_secret_header = \"a b\"").contains("is not the name of a header field"));
        assert!(complaint("cdn_secret_header = \"Range\"").contains("has a meaning of its own"));
    }

    #[test]
    fn the_access_log_is_off_or_goes_somewhere() {
        let log = |text: &str| {
            parse(&format!("[origin]\naccess_log = \"{text}\""), []).map(|config| config.origin.access_log)
        };
        assert_eq!(parse("", []).unwrap().origin.access_log, AccessLog::Off);
        assert_eq!(log("stdout"), Ok(AccessLog::Stdout));
        assert_eq!(log("/var/log/x"), Ok(AccessLog::File("/var/log/x".into())));
        assert!(log("").is_err());
    }

    #[test]
    fn playback_tokens_need_keys_that_can_be_told_apart() {
        let key = |id: &str, rest: &str| format!("[[playback.keys]]\nid = \"{id}\"\n{rest}\n");
        let secret = format!("secret = \"{}\"", "s".repeat(32));
        let channel = "[[channels]]\nname = \"a\"\nplayback_tokens = \"required\"\n";
        let config = parse(&[channel, &key("1", &secret), &key("2", "public_key = \"p.pem\"")].concat(), []).unwrap();
        assert!(!config.playback.required);
        assert_eq!(config.playback.channels, [(ChannelName::new("a").unwrap(), true)].into());
        assert_eq!(config.playback.keys.len(), 2);
        assert!(!format!("{config:?}").contains("ssss"), "a secret is not shown");
        assert!(wrong(channel).contains("playback.keys: is missing, and tokens are required"));
        assert!(wrong("[playback]\ntokens = \"on\"").contains("neither \"off\" nor \"required\""));
        assert!(wrong("[playback]\nleeway = \"1h\"").contains("is longer than 5m"));
        assert!(wrong(&[key("1", &secret), key("1", &secret)].concat()).contains("is that of an earlier key"));
        assert!(
            wrong(&key("1", "secret = \"short\"")).contains("playback.keys[0].secret: is shorter than the 32 bytes")
        );
        assert!(wrong(&key("1", "")).contains("or public_key is needed"));
        assert!(wrong(&key("1", &format!("{secret}\npublic_key = \"p.pem\""))).contains("and not both"));
        assert!(wrong(&key("a b", &secret)).contains("without spaces"));
    }

    #[test]
    fn networks_are_lists_and_in_the_environment_texts_with_commas() {
        let config = parse("[rtmp]\nproxy_protocol = [\"10.0.0.0/8\", \"::1\"]", []).unwrap();
        assert!(config.rtmp.proxy_protocol.contains("10.1.1.1".parse().unwrap()));
        assert!(config.rtmp.limits.exempt.contains("127.0.0.1".parse().unwrap()), "as it is shipped");
        let variables = [("HEADWATER_RTMP__LIMITS_EXEMPT".to_owned(), "192.0.2.0/24, 2001:db8::1".to_owned())];
        let exempt = parse("", variables).unwrap().rtmp.limits.exempt;
        assert!(["192.0.2.9", "2001:db8::1"].iter().all(|text| exempt.contains(text.parse().unwrap())));
        let text = wrong("[rtmp]\nproxy_protocol = [\"10.0.0.0/8\",\n\"lb\"]");
        assert!(text.starts_with("h.toml:3: rtmp.proxy_protocol: `lb` is neither an address nor a network"), "{text}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let ladder = |renditions: &str| wrong(&format!("[ladders.x]\nrenditions = [{renditions}]"));
        assert!(ladder("").contains("give at least one"));
        assert!(ladder("{ name = \"a\", height = 720 }").contains("ladders.x.renditions[0].bitrate: is missing"));
        let twice = ladder("{ name = \"a\", passthrough = true }, { name = \"a\", passthrough = true }");
        assert!(twice.contains("two renditions of the name `a`"), "{twice}");
        assert!(ladder("{ name = \"audio\", passthrough = true }").contains("the audio rendition"));
        assert!(wrong("[[channels]]\nname = \"a\"\nladder = \"defualt\"").contains("did you mean `default`?"));
        assert!(wrong("[[channels]]\nname = \"a b\"").contains("is not a name"));
        assert!(wrong("[store]\nkind = \"s3\"").contains("store.bucket: is missing"));
        assert!(wrong("[store]\nkind = \"fs\"\nbucket = \"b\"").contains("did you mean kind = \"s3\"?"));
        let spool = wrong("[store]\npath = \"a/b\"\n[store.spool]\npath = \"a\"");
        assert!(spool.starts_with("h.toml:4: store.spool.path: is above or below store.path"), "{spool}");
        assert!(wrong("[hls]\nwindow = \"8s\"").contains("shorter than three segments"));
        assert!(
            wrong("[hls]\nwindow = \"25h\"").contains("longer than 24h; what is to be watched for longer is recorded")
        );
        assert!(wrong("[channel]\ntakeover_silence = \"10s\"").contains("is not shorter than rtmp.publish_timeout"));
        assert!(
            wrong("[hooks]\non_publish = \"http://a/\"\ntimeout = \"1m\"")
                .contains("is not shorter than rtmp.publish_timeout")
        );
        let unasked = wrong("[hooks]\non_unpublish = \"http://h/\"\nalways = true");
        assert!(unasked.contains("h.toml:3: hooks.always: has no meaning without on_publish"), "{unasked}");
        assert!(wrong("[hooks]\non_publish = \"hook\"").contains("hooks.on_publish: `hook` is not a URL"));
        assert!(wrong("[rtmp]\npublic_url = \"http://x\"").contains("is not an RTMP URL"));
        assert!(wrong("x = [1").contains("h.toml:1: "));
        assert!(wrong("hls = 4").contains("hls: is a table"));
    }

    #[test]
    fn a_bucket_has_a_spool_and_files_have_one_where_it_has_a_path() {
        let spool = |text: &str| parse(text, []).unwrap().spool;
        let bucket = "data_dir = \"d\"\n[store]\nkind = \"s3\"\nbucket = \"b\"\n";
        let expected = SpoolConfig { path: "d/spool".into(), bytes_max: 10 << 30, drain_bitrate: 100_000_000 };
        assert_eq!(spool(bucket), Some(expected.clone()));
        let own = format!("{bucket}[store.spool]\npath = \"/s\"\nmax_size = \"1GiB\"\ndrain_bitrate = \"8Mbps\"");
        let own_expected = SpoolConfig { path: "/s".into(), bytes_max: 1 << 30, drain_bitrate: 8_000_000 };
        assert_eq!(spool(&own), Some(own_expected));
        assert_eq!(spool(&format!("{bucket}[store.spool]\npath = \"off\"")), None);
        assert_eq!(spool(""), None);
        assert_eq!(spool("[store.spool]\npath = \"d/spool\""), Some(expected));
    }

    #[test]
    fn a_channel_may_be_packed_in_another_container_than_the_rest() {
        let text = "[[channels]]\nname = \"a\"\n[[channels]]\nname = \"b\"\ncontainer = \"ts\"\n";
        let containers = |text: &str| {
            let config = parse(text, []).unwrap();
            config.channels.iter().map(|channel| channel.container).collect::<Vec<_>>()
        };
        assert_eq!(containers(text), [Container::Cmaf, Container::Ts]);
        assert_eq!(containers(&format!("[hls]\ncontainer = \"ts\"\n{text}")), [Container::Ts, Container::Ts]);
        let hls = parse(text, []).unwrap().hls;
        assert!(hls.packed_in(Container::Cmaf).low_latency && !hls.packed_in(Container::Ts).low_latency);
        let wrong = wrong("[[channels]]\nname = \"a\"\ncontainer = \"tls\"\n");
        assert_eq!(wrong, "h.toml:3: channels[0].container: `tls` is not a container; did you mean `ts`?");
    }

    #[test]
    fn a_channel_may_list_more_or_less_than_the_rest() {
        let text = "[[channels]]\nname = \"a\"\nwindow = \"2h\"\n[[channels]]\nname = \"b\"\n";
        let config = parse(text, []).unwrap();
        let windows = || config.channels.iter().map(|channel| config.hls.of(channel).window.as_secs());
        assert_eq!(windows().collect::<Vec<_>>(), [7_200, 60]);
        let short = wrong("[[channels]]\nname = \"a\"\nwindow = \"8s\"\n");
        assert_eq!(
            short,
            "h.toml:3: channels[0].window: is shorter than three segments, the least that a live playlist may list"
        );
        assert!(wrong("[hls]\nmemory = \"1h\"").contains("hls.memory_max: is shorter than memory"));
    }

    #[test]
    fn a_channel_has_several_keys_with_names_and_ends() {
        let digest = "2".repeat(64);
        let text = format!(
            "[[channels]]\nname = \"a\"\nstream_key = \"first\"\n[[channels.keys]]\nkey = \"second\"\nname = \"truck\"\n\
             expires = \"2026-12-31T18:00:00Z\"\n[[channels.keys]]\nsha256 = \"{digest}\"\nexpires = 2020-01-01T00:00:00+01:00\n"
        );
        let config = parse(&text, []).unwrap();
        let [first, second, third] = config.channels[0].keys.as_slice() else { panic!("three keys") };
        assert_eq!(*first, StreamKey::Plain("first".into()).into());
        assert_eq!((second.name.as_deref(), &second.key), (Some("truck"), &StreamKey::Plain("second".into())));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(second.expires, Some(at(1_798_740_000)));
        assert_eq!((&third.key, third.expires), (&StreamKey::Sha256([0x22; 32]), Some(at(1_577_833_200))));
        assert_eq!(config.warnings(at(0)), Vec::<String>::new());
        let warned = config.warnings(at(1_798_740_000));
        assert_eq!(warned.len(), 2);
        assert!(warned[0].contains("channel a: its stream key `truck` expired at 2026-12-31T18:00:00Z"), "{warned:?}");
        assert!(warned[1].contains("number 3"), "{warned:?}");
    }

    #[test]
    fn a_key_of_two_channels_is_refused_in_whatever_form() {
        let digest: String =
            StreamKey::Plain("same".into()).digest().iter().map(|byte| format!("{byte:02x}")).collect();
        let of = |other: &str, name: &str| {
            format!("[[channels]]\nname = \"a\"\nstream_key = \"same\"\n[[channels]]\nname = \"{name}\"\n{other}")
        };
        for other in ["stream_key = \"same\"".to_owned(), format!("[[channels.keys]]\nsha256 = \"{digest}\"")] {
            let text = wrong(&of(&other, "b"));
            assert!(text.contains("channels[1]") && text.contains("a key of channel `a` too"), "{text}");
        }
        assert!(parse(&of("stream_key = \"another\"", "b"), []).is_ok());
    }

    #[test]
    fn a_key_that_cannot_be_meant_is_refused() {
        let key = |text: &str| wrong(&format!("[[channels]]\nname = \"a\"\n[[channels.keys]]\n{text}"));
        assert!(key("name = \"x\"").contains("channels[0].keys[0].key: is missing"));
        let both = key(&format!("key = \"k\"\nsha256 = \"{}\"", "a".repeat(64)));
        assert!(both.contains("and sha256 are both given"), "{both}");
        assert!(key("key = \"k\"\nexpires = \"tomorrow\"").contains("write it like \"2026-12-31T18:00:00Z\""));
        assert!(key("key = \"a b\"").contains("encoders cannot send"));
        assert!(key("key = \"k\"\nname = \"a\\nb\"").contains("is not a name"));
    }
}
