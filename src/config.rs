//! What the operator says: a TOML file and the environment, checked into a struct for each stage.
//!
//! The stages take these structs and know nothing of files, keys or TOML.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ladder::RenditionName;
use crate::source::ChannelName;

/// Everything, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where keys that were made are kept.
    pub data_dir: PathBuf,
    /// `[rtmp]`
    pub rtmp: RtmpConfig,
    /// `[origin]`
    pub origin: OriginConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[hls]`
    pub hls: HlsConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[channel]`
    pub channel: ChannelDefaults,
    /// `[[channels]]`
    pub channels: Vec<ChannelConfig>,
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
    /// Without a byte from the encoder, once it publishes.
    pub idle_timeout: Duration,
    /// Connections at one time; more are closed at once.
    pub connections_max: usize,
}

/// The HTTP origin.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginConfig {
    /// Address and port.
    pub listen: SocketAddr,
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
    /// The longest a segment should be.
    pub segment_duration: Duration,
    /// The longest a part should be.
    pub part_duration: Duration,
    /// How much a live playlist lists; at least three segments.
    pub window: Duration,
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

/// What holds for every channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelDefaults {
    /// How long a lost publisher may take to return before the programme ends.
    pub grace: Duration,
}

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// Its public name.
    pub name: ChannelName,
    /// Its renditions.
    pub ladder: Arc<LadderConfig>,
    /// Who may publish to it; where none is given, one is made on first start.
    pub key: Option<StreamKey>,
}

/// A stream key as the config knows it. Never shown: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum StreamKey {
    /// In clear.
    Plain(String),
    /// Its SHA-256.
    Sha256([u8; 32]),
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
