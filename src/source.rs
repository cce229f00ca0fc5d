//! What a publisher hands to its channel: a request to publish, and then its media.
//!
//! Ingest sends [`PublishRequest`]s; the channel answers each once. After that media flows one way,
//! and the only signals upstream are back-pressure and a closed channel.

use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot};

use crate::media::{AccessUnit, MediaTime, Track, TrackFormat};

/// A publisher with a valid key asks a channel to take its media.
#[derive(Debug)]
pub struct PublishRequest {
    /// Who asks, for logs and the channel's status.
    pub peer: SocketAddr,
    /// What the encoder calls itself (`flashVer`, `encoder`), for the channel's status.
    pub encoder: Option<String>,
    /// Answered exactly once; dropped unanswered where the channel is gone.
    pub reply: oneshot::Sender<Result<Admission, Refusal>>,
}

/// The channel takes the publisher.
#[derive(Debug)]
pub struct Admission {
    /// Where on the channel's timeline the publisher's first IDR is to be shown.
    pub start: MediaTime,
    /// Where its media goes. Bounded: while it is full the publisher's socket is not read.
    /// Dropped without [`SourceEvent::End`], it means the connection was lost.
    pub events: mpsc::Sender<SourceEvent>,
    /// Resolves where the channel ends the publisher by itself, with the sentence to tell the streamer.
    pub dismissed: oneshot::Receiver<String>,
}

/// The channel does not take the publisher; the text is shown to the streamer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another publisher feeds the channel and is alive.
    #[error("channel {channel} is already being published to; stop the other encoder first")]
    Busy {
        /// The channel's name.
        channel: ChannelName,
    },
    /// The server is stopping.
    #[error("the server is shutting down; try again in a moment")]
    ShuttingDown,
}

/// A publisher's media, on the channel's timeline: dts strictly increases within a track,
/// a track's format comes before its first unit, and video starts with an IDR. [`Track::VIDEO`] begins first of all
/// pictures; further ones may begin later, end, and lie up to a frame beside it.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// A track's format, new or changed; an unchanged one is never repeated.
    Format(Track, TrackFormat),
    /// The source's clock jumped, and what follows is another recording: the timeline goes on without a gap, and the next IDR
    /// of [`Track::VIDEO`] stands behind a seam.
    Discontinuity,
    /// One frame.
    Unit(Track, AccessUnit),
    /// The encoder said that it stops (`FCUnpublish`, `deleteStream`, `closeStream`). The last event.
    End,
}

/// A channel's public name: 1 to 64 of `a-z A-Z 0-9 - _`, so that it needs no escaping in a URL,
/// an object key or a metric label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(String);

/// A text that is not a [`ChannelName`] or [`RenditionName`](crate::ladder::RenditionName).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 64 of a-z, A-Z, 0-9, - and _")]
pub struct InvalidName(pub String);

impl ChannelName {
    /// Checks `name` against the grammar.
    ///
    /// # Errors
    /// [`InvalidName`] where it does not fit.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if is_name(name) { Ok(Self(name.to_owned())) } else { Err(InvalidName(name.to_owned())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ChannelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The grammar that channel and rendition names share.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
