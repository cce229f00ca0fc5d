//! The settings of the side that viewers see: the origin, who may ask it, and who may watch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::Secret;
use crate::source::ChannelName;

/// The HTTP origin.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginConfig {
    /// Address and port, without TLS.
    pub listen: SocketAddr,
    /// Connections at one time, over both ports; more are closed at once.
    pub connections_max: usize,
    /// Requests that may wait for what is coming.
    pub waiting_max: usize,
    /// The same, of one channel.
    pub waiting_per_channel_max: usize,
    /// What requests must show; none where anybody may ask.
    pub cdn: Option<CdnSecret>,
    /// Where requests are written down.
    pub access_log: AccessLog,
    /// Memory for copies of what is not in this process, in bytes; of the store and of the server that is followed each.
    pub cache_bytes_max: u64,
    /// What holds in the role in which it has no channels of its own.
    pub away: AwayConfig,
}

/// An origin without channels of its own (`--role origin`).
#[derive(Clone, Debug, PartialEq)]
pub struct AwayConfig {
    /// The server that is followed, `http://HOST:PORT`; the store alone where there is none.
    pub upstream: Option<String>,
    /// How old a playlist may be that is served because nothing newer can be had.
    pub stale_max: Duration,
    /// Where copies of media are kept besides.
    pub disk: Option<DiskConfig>,
}

/// Copies of media on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The directory.
    pub path: PathBuf,
    /// What may be in it, in bytes.
    pub bytes_max: u64,
}

/// A header field that the CDN alone knows to send.
#[derive(Clone, Debug, PartialEq)]
pub struct CdnSecret {
    /// Its name.
    pub header: HeaderName,
    /// What it may hold: one value, or two while they are exchanged.
    pub values: Vec<Secret>,
}

/// Where the origin's requests are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    Off,
    /// On the standard output.
    Stdout,
    /// At the end of this file.
    File(PathBuf),
}

/// Who may watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaybackConfig {
    /// Channels that do not say otherwise can be watched with a token only.
    pub required: bool,
    /// What channels say for themselves.
    pub channels: BTreeMap<ChannelName, bool>,
    /// How far the clock of who makes tokens may be beside this one.
    pub leeway: Duration,
    /// What `aud` must name in tokens that have it; none where a token that has it is for somebody else.
    pub audience: Option<String>,
    /// What tokens are signed with: all that are valid while keys are exchanged.
    pub keys: Vec<TokenKeyConfig>,
}

/// A key that tokens are signed with.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenKeyConfig {
    /// Its `kid`; none for tokens that name no key.
    pub id: Option<String>,
    /// What signatures are checked with.
    pub key: TokenKey,
}

/// What signatures of tokens are checked with.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKey {
    /// A secret that both sides know (HS256).
    Secret(Secret),
    /// The file of a public key, PEM. Its kind says the algorithm.
    Public(PathBuf),
}
