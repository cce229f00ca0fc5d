//! What is published: parts, segments, playlists and the window they form, as immutable snapshots.
//!
//! The packager of a channel is the one writer of its [`ChannelSnapshot`]; the origin and the store's
//! uploader read it through a `watch` channel. Whatever a snapshot's playlist names, the snapshot holds, or says to be in
//! the store: content is always before its reference.

mod gaps;
mod lazy;
mod low_latency;
mod tagged;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::chronicle::{Chronicle, Order};
use crate::ladder::{RenditionKind, RenditionName};
use crate::media::{Container, MediaTime};
use crate::source::ChannelName;

pub use gaps::with_gaps;
pub use lazy::Lazy;
pub use low_latency::{LowLatency, News, Position, wait_max};

/// Names the directory of a run's objects: Unix milliseconds of the run's start, made strictly
/// increasing within a channel, so that no URL is ever used for two different contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A media sequence number. A channel's first is 1; it never goes back while the channel lives,
/// not even from one programme to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Msn(pub u64);

impl std::fmt::Display for Msn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A text as it is served: rendered and compressed once per change, shared by all who ask.
#[derive(Clone, Debug)]
pub struct Playlist {
    /// The text.
    pub text: Bytes,
    /// A strong entity tag, with its quotes, of the identity coding. That of the gzip coding is [`Playlist::gzip_etag`].
    pub etag: String,
    /// When the text last changed.
    pub modified: SystemTime,
    gzip: Lazy<Bytes>,
}

impl Playlist {
    /// A text, and what it is when compressed.
    #[must_use]
    pub fn new(text: Bytes, etag: String, modified: SystemTime, gzip: Lazy<Bytes>) -> Self {
        Self { text, etag, modified, gzip }
    }

    /// The text, compressed by gzip.
    #[must_use]
    pub fn gzip(&self) -> &Bytes {
        &self.gzip
    }

    /// The entity tag of the gzip coding (RFC 9110, 8.8.3.3: codings have tags of their own).
    #[must_use]
    pub fn gzip_etag(&self) -> String {
        format!("{}-gzip\"", self.etag.trim_end_matches('"'))
    }
}

impl PartialEq for Playlist {
    fn eq(&self, other: &Self) -> bool {
        // A long text that is shared need not be read.
        let shared = std::ptr::eq(self.text.as_ptr(), other.text.as_ptr()) && self.text.len() == other.text.len();
        (&self.etag, self.modified) == (&other.etag, other.modified) && (shared || self.text == other.text)
    }
}

impl Eq for Playlist {}

/// An initialisation segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The run it belongs to.
    pub session: SessionId,
    /// `ftyp` and `moov`.
    pub data: Bytes,
}

/// A part of a segment: one CMAF chunk or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `moof` and `mdat`, once or more.
    pub data: Bytes,
    /// The time it covers.
    pub duration: MediaTime,
    /// It holds an IDR (`INDEPENDENT=YES`).
    pub independent: bool,
    /// Nothing was shown in this time but the frame before, and it has no media of its own (`GAP=YES`).
    pub gap: bool,
}

/// A finished segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number, the same in all renditions.
    pub msn: Msn,
    /// The run it belongs to.
    pub session: SessionId,
    /// It is the first of its run, and not of the programme.
    pub discontinuity: bool,
    /// Decode time of its first sample.
    pub start: MediaTime,
    /// The time it covers, to the tick.
    pub duration: MediaTime,
    /// Wall-clock time of its first picture.
    pub program_date_time: SystemTime,
    /// What is shown, and where that is.
    pub media: Media,
}

/// Where the media of a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// In memory.
    Hot {
        /// Its bytes.
        data: Bytes,
        /// Its parts; their data are slices of `data`.
        parts: Vec<Part>,
    },
    /// Not in memory any more, and in the store. Of what has left the playlist only the store knows whether that is so.
    Cold {
        /// How many bytes it has; none where only a process before this one knew.
        bytes: Option<u64>,
    },
    /// Nowhere: the rendition has no media here (`EXT-X-GAP`).
    Gap,
}

impl Segment {
    /// Its bytes, where they are in memory.
    #[must_use]
    pub fn data(&self) -> Option<&Bytes> {
        match &self.media {
            Media::Hot { data, .. } => Some(data),
            Media::Cold { .. } | Media::Gap => None,
        }
    }

    /// Its parts, as long as they can be had.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        match &self.media {
            Media::Hot { parts, .. } => parts,
            Media::Cold { .. } | Media::Gap => &[],
        }
    }

    /// How many bytes it has; none of a gap, and where nobody knows.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        match &self.media {
            Media::Hot { data, .. } => Some(u64::try_from(data.len()).unwrap_or(u64::MAX)),
            Media::Cold { bytes } => *bytes,
            Media::Gap => None,
        }
    }

    /// The same, and nothing of its media.
    #[must_use]
    pub fn without_media(&self) -> Self {
        let Self { msn, session, discontinuity, start, duration, program_date_time, media: _ } = *self;
        Self { msn, session, discontinuity, start, duration, program_date_time, media: Media::Gap }
    }

    /// The rendition has no media here.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(self.media, Media::Gap)
    }

    /// Its media is in the store, and no longer in memory.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        matches!(self.media, Media::Cold { .. })
    }

    /// Wall-clock time of its end.
    #[must_use]
    pub fn ends_at(&self) -> SystemTime {
        self.program_date_time.checked_add(self.duration.to_duration()).unwrap_or(self.program_date_time)
    }
}

/// The segment that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSegment {
    /// The number it will have.
    pub msn: Msn,
    /// Its run.
    pub session: SessionId,
    /// It is the first of its run, and not of the programme.
    pub discontinuity: bool,
    /// Wall-clock time of its first picture.
    pub program_date_time: SystemTime,
    /// The parts that are complete.
    pub parts: Vec<Part>,
}

/// A rendition's I-frame playlist.
#[derive(Clone, Debug)]
pub struct IFrames {
    /// By itself.
    pub playlist: Playlist,
    /// Beside a playlist with parts: it has to say of the server what that says (RFC 8216bis, 6.2.4).
    pub low_latency: Option<Lazy<Playlist>>,
    /// The same as a delta update, where there is something to skip (RFC 8216bis, 6.2.5.1).
    pub delta: Option<Lazy<Playlist>>,
    /// The number that its next entry will have. Its entries have numbers of their own, as they are not segments.
    pub next: u64,
}

/// One rendition's window.
#[derive(Clone, Debug)]
pub struct RenditionSnapshot {
    /// Its name.
    pub name: RenditionName,
    /// What it carries.
    pub kind: RenditionKind,
    /// What its segments are packed in. In MPEG-TS it has no initialisation segments, parts or I-frame playlist.
    pub container: Container,
    /// The media playlist of whole segments; none before the first is complete.
    pub playlist: Option<Playlist>,
    /// The I-frame playlist, of the same segments; of a picture only.
    pub i_frames: Option<IFrames>,
    /// The playlist with parts, for where parts are offered and there is a playlist.
    pub low_latency: Option<LowLatency>,
    /// Told after each change of what can be fetched of the rendition.
    pub news: News,
    /// The initialisation segments of all runs that `segments` and `open` belong to, oldest first.
    pub inits: Vec<Arc<Init>>,
    /// Complete segments, by their numbers: those that the playlist lists, without holes, and before them
    /// those that have left it and may still be asked for.
    pub segments: Arc<VecDeque<Arc<Segment>>>,
    /// The number of the first segment that the playlist lists.
    pub first_listed: Msn,
    /// The segment that is being made.
    pub open: Option<Arc<OpenSegment>>,
}

impl RenditionSnapshot {
    /// The segment of this number and session, listed or lingering, in memory or in the store. A gap is none.
    #[must_use]
    pub fn segment(&self, session: SessionId, msn: Msn) -> Option<&Arc<Segment>> {
        let position = self.segments.binary_search_by_key(&msn, |s| s.msn).ok()?;
        self.segments.get(position).filter(|s| s.session == session && !s.is_gap())
    }

    /// The initialisation segment of this session.
    #[must_use]
    pub fn init(&self, session: SessionId) -> Option<&Arc<Init>> {
        self.inits.iter().find(|i| i.session == session)
    }

    /// The segments that the playlist lists, oldest first.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().filter(|s| s.msn >= self.first_listed)
    }
}

/// A still picture of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// JPEG.
    pub data: Bytes,
    /// A strong entity tag, with its quotes.
    pub etag: String,
}

/// Everything of a channel that can be fetched at one instant.
#[derive(Clone, Debug, Default)]
pub struct ChannelSnapshot {
    /// The multivariant playlist; none before every rendition has a media playlist.
    pub multivariant: Option<Playlist>,
    /// Seconds of `EXT-X-TARGETDURATION`, on which caching times depend; 0 before the first run.
    pub target_duration_secs: u32,
    /// In the multivariant playlist's order.
    pub renditions: Vec<Arc<RenditionSnapshot>>,
    /// The playlists carry `EXT-X-ENDLIST`.
    pub ended: bool,
}

impl ChannelSnapshot {
    /// The rendition of this name.
    #[must_use]
    pub fn rendition(&self, name: &str) -> Option<&Arc<RenditionSnapshot>> {
        self.renditions.iter().find(|r| r.name.as_str() == name)
    }

    /// The renditions that have a playlist: those that the multivariant playlist names.
    pub fn offered(&self) -> impl Iterator<Item = &Arc<RenditionSnapshot>> {
        self.renditions.iter().filter(|rendition| rendition.playlist.is_some())
    }

    /// The first number that all playlists list.
    #[must_use]
    pub fn first(&self) -> Option<Msn> {
        self.offered().map(|rendition| rendition.first_listed).max()
    }

    /// The last number that is complete in any of the renditions that are offered.
    #[must_use]
    pub fn last(&self) -> Option<Msn> {
        self.offered().filter_map(|rendition| rendition.segments.back()).map(|last| last.msn).max()
    }

    /// Somebody can start to watch now, and there is or will soon be more.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.multivariant.is_some() && !self.ended
    }
}

/// Who feeds a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct PublisherStatus {
    /// Its address.
    pub peer: SocketAddr,
    /// What it calls itself.
    pub encoder: Option<String>,
    /// What its stream key is called, where it has a name.
    pub key_name: Option<String>,
    /// Since when it publishes.
    pub since: SystemTime,
}

/// Where in its life a channel is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ChannelPhase {
    /// No publisher, no programme.
    #[default]
    Idle,
    /// A publisher feeds it.
    Publishing(PublisherStatus),
    /// The publisher was lost, and may return until the grace is over.
    Grace {
        /// When it was lost.
        since: SystemTime,
    },
}

/// How far the store is behind the live window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UploadStatus {
    /// Complete segments, over all renditions, that are not in the store yet.
    pub segments_behind: u64,
    /// The last number that is in the store in every rendition.
    pub stored: Option<Msn>,
    /// The error that uploads fail with at present.
    pub failing: Option<String>,
    /// Objects of the channel that wait on local disk until the store takes them.
    pub spooled: u64,
    /// Those of them that the store has refused so often while it took others that they are not waited for.
    pub hopeless: u64,
    /// [`ChannelSnapshot::last`] of the snapshot that all this is said of.
    pub seen: Option<Msn>,
    /// How far each rendition is in the store.
    pub renditions: Arc<BTreeMap<RenditionName, StoredUpTo>>,
    /// What the live playlists in the store may name; none as long as that is not known.
    pub named: Option<NamedFrom>,
}

/// From where on playlists name media. Runs and numbers only grow within a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFrom {
    /// The first run.
    pub session: SessionId,
    /// The first number.
    pub msn: Msn,
}

impl NamedFrom {
    /// What either names.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { session: self.session.min(other.session), msn: self.msn.min(other.msn) }
    }
}

/// What of a rendition is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUpTo {
    /// All that it lists up to this number.
    pub last: Msn,
    /// But for these, which the store's playlists list as gaps.
    pub lacks: BTreeSet<Msn>,
}

/// What others may read of one channel.
#[derive(Clone, Debug)]
pub struct ChannelView {
    /// How much its playlists list.
    pub window: Duration,
    /// What can be fetched. Written by the packager.
    pub live: watch::Receiver<Arc<ChannelSnapshot>>,
    /// Who feeds it. Written by the channel's supervisor.
    pub phase: watch::Receiver<ChannelPhase>,
    /// How far the store is. Written by the uploader.
    pub upload: watch::Receiver<UploadStatus>,
    /// What is kept of it beyond that, where that is known. Written by a task of its own.
    pub chronicle: watch::Receiver<Option<Arc<Chronicle>>>,
    /// To whoever writes that. When it is full, who asks waits.
    pub orders: mpsc::Sender<Order>,
    /// What it looks like. Written by a task of its own.
    pub thumbnail: watch::Receiver<Option<Arc<Thumbnail>>>,
}

/// All channels that there are at one instant, by name. The supervisor alone publishes them.
pub type Directory = Arc<BTreeMap<ChannelName, ChannelView>>;
