//! Why a connection ended: for the log, for the counters, and for the encoder.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::handshake::NotRtmp;
use super::intake;
use super::proxy_protocol::ProxyError;
use super::session::SessionError;
use crate::guard::table::TurnedAway;
use crate::source::Refusal;

/// What an encoder had to do in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stage {
    #[error("its PROXY header did not come in time")]
    Proxy,
    #[error("the TLS handshake was not completed in time")]
    Tls,
    #[error("the handshake was not completed in time")]
    Handshake,
    #[error("it did not publish in time")]
    Publish,
    #[error("no keyframe of H.264, HEVC, AV1 or VP9 came in time after it began to publish; sound alone is not taken")]
    FirstMedia,
    #[error("no media came from it any more")]
    Idle,
    #[error("it did not read what was sent to it")]
    Write,
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Close {
    #[error("it stopped publishing")]
    Stopped,
    #[error("it closed the connection without saying that it stops")]
    Left,
    #[error("it closed the connection before the handshake was over, as probes of the port do")]
    Unused,
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    #[error("the server is shutting down")]
    Shutdown,
    #[error("{0}")]
    Timeout(Stage),
    #[error("{0}")]
    NotRtmp(#[from] NotRtmp),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("its TLS handshake failed: {0}")]
    Tls(String),
    #[error("turned away: {reason}")]
    TurnedAway { reason: TurnedAway, peer: SocketAddr },
    #[error("{0}")]
    Protocol(#[from] SessionError),
    #[error("its stream key is empty: enter the one that the server printed for the channel")]
    NoKey,
    #[error("no channel has its stream key: compare it with the one that the server printed for the channel")]
    WrongKey,
    #[error("too many different wrong stream keys came from its address: it may try none for another {} s", .0.as_secs() + 1)]
    Barred(Duration),
    #[error("its stream key has expired: ask the operator of the server for another")]
    ExpiredKey,
    #[error("the webhook refused it: {}", .0.as_deref().unwrap_or("without a reason"))]
    HookRefused(Option<String>),
    #[error("the webhook did not say whether it may publish")]
    HookFailed,
    #[error("the webhook allowed it, but named no channel for it")]
    HookNamesNoChannel,
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}")]
    Unsupported(#[from] intake::Unsupported),
    #[error("{0}")]
    Dismissed(String),
    #[error("the channel takes nothing any more")]
    ChannelGone,
}

impl Close {
    /// How it is to be understood that a connection ended during the handshake.
    pub(crate) fn before_handshake(self) -> Self {
        match self {
            Self::Left => Self::Unused,
            other => other,
        }
    }

    /// The kind for the counter of errors; None for an ordinary end.
    pub(crate) fn error_kind(&self) -> Option<&'static str> {
        match self {
            Self::Stopped | Self::Left | Self::Unused | Self::Shutdown | Self::ChannelGone => None,
            Self::Lost(_) => Some("lost"),
            Self::Timeout(Stage::Proxy) => Some("proxy_timeout"),
            Self::Timeout(Stage::Tls) => Some("tls_timeout"),
            Self::Timeout(Stage::Handshake) => Some("handshake_timeout"),
            Self::Timeout(Stage::Publish) => Some("publish_timeout"),
            Self::Timeout(Stage::FirstMedia) => Some("first_media_timeout"),
            Self::Timeout(Stage::Idle) => Some("idle_timeout"),
            Self::Timeout(Stage::Write) => Some("write_timeout"),
            Self::NotRtmp(NotRtmp::Tls) => Some("tls"),
            Self::NotRtmp(NotRtmp::Http) => Some("http"),
            Self::NotRtmp(NotRtmp::Version(_) | NotRtmp::Malformed) => Some("not_rtmp"),
            Self::Proxy(_) => Some("proxy_header"),
            Self::Tls(_) => Some("tls_handshake"),
            Self::TurnedAway { reason, .. } => Some(reason.kind()),
            Self::Protocol(error) => Some(error.kind()),
            Self::NoKey | Self::WrongKey => Some("wrong_key"),
            Self::Barred(_) => Some("keys_barred"),
            Self::ExpiredKey => Some("expired_key"),
            Self::HookRefused(_) => Some("hook_refused"),
            Self::HookFailed | Self::HookNamesNoChannel => Some("hook_failed"),
            Self::Refused(_) => Some("refused"),
            Self::Unsupported(_) => Some("video_codec"),
            Self::Dismissed(_) => Some("dismissed"),
        }
    }

    /// A guess at a key, perhaps.
    pub(crate) fn is_failed_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::WrongKey | Self::ExpiredKey | Self::HookRefused(_))
    }

    /// The peer, where it was known only after the connection was accepted.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::TurnedAway { peer, .. } => Some(*peer),
            _ => None,
        }
    }

    /// What the encoder is told: the code and the description of an `onStatus`. OBS knows both codes
    /// and shows the description.
    pub(crate) fn status(&self) -> Option<(&'static str, String)> {
        match self {
            Self::NoKey => {
                Some((BAD_NAME, "the stream key is empty: enter the one that the server printed".to_owned()))
            }
            Self::WrongKey => Some((
                BAD_NAME,
                "no channel has this stream key: compare it with the one that the server printed".to_owned(),
            )),
            Self::Barred(left) => Some((
                BAD_NAME,
                format!(
                    "too many wrong stream keys were tried from your address: wait {} min, then enter the one that the \
                     server printed",
                    left.as_secs() / 60 + 1
                ),
            )),
            Self::ExpiredKey => {
                Some((BAD_NAME, "this stream key has expired: ask the operator of the server for another".to_owned()))
            }
            Self::HookRefused(text) => {
                let text =
                    text.clone().unwrap_or_else(|| "the server's operator does not accept this stream key".to_owned());
                Some((BAD_NAME, text))
            }
            Self::HookFailed => {
                Some((BAD_NAME, "the server could not check the stream key; try again in a moment".to_owned()))
            }
            Self::HookNamesNoChannel => {
                Some((BAD_NAME, "the stream key is accepted, but no channel is set up for it".to_owned()))
            }
            Self::Refused(refusal) => Some((BAD_NAME, refusal.to_string())),
            Self::Unsupported(_) | Self::Dismissed(_) | Self::Timeout(Stage::FirstMedia) => {
                Some((REJECTED, self.to_string()))
            }
            _ => None,
        }
    }
}

/// How long a wrong key waits for its answer, so that guessing is slow.
pub(crate) const WRONG_KEY_DELAY: Duration = Duration::from_millis(500);
const BAD_NAME: &str = "NetStream.Publish.BadName";
const REJECTED: &str = "NetStream.Publish.Rejected";
