//! What was published of a channel and is still kept, beyond the live window: which segments there are in the store, of which
//! programmes. From this any range of time, a recording or a clip is listed; the media itself is where it was put while it was live.
//!
//! The index is one object in the store, replaced now and then ([`Resource::Chronicle`]); what is long over is in blocks beside it
//! that never change ([`Resource::Block`]). Pure: no I/O, no clock.
//!
//! [`Resource::Chronicle`]: crate::layout::Resource::Chronicle
//! [`Resource::Block`]: crate::layout::Resource::Block

mod follow;
mod kept;
mod listing;
mod order;
mod retention;
mod span;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ladder::{RenditionKind, RenditionName};
use crate::layout::{Excerpt, Resource};
use crate::live::{Msn, SessionId};
use crate::media::{Container, MediaTime};

pub use kept::Kept;
pub use listing::{Kind, Listed, Sight, Stretch, TooLong};
pub use order::{Order, OrderRefusal};
pub use retention::{Removal, Removed, Rules, SHEETS_MAX};
pub use span::{ClipName, InvalidClipName, InvalidMoment, Moment, Span};

/// The version of the index's form, which whoever reads it must know.
const VERSION: u32 = 1;

/// Entries of a block: some 17 minutes at 4 s.
pub const BLOCK_ENTRIES: usize = 256;

/// The index of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chronicle {
    version: u32,
    /// Which history it is: a copy of another one says nothing of what a store has. 0 before it is known.
    #[serde(default)]
    pub id: u64,
    /// It was stored.
    #[serde(default)]
    pub stored: bool,
    /// Higher in each text than in the one before.
    pub revision: u64,
    /// The last number that was taken in, and its run: what is older is known, or was let go.
    pub last: Option<(SessionId, Msn)>,
    /// Oldest first.
    pub programmes: Vec<Programme>,
    /// In the order in which they were made.
    pub clips: Vec<Clip>,
    /// What is not listed any more, and may still be in the store.
    pub removed: Vec<Removed>,
}

impl Default for Chronicle {
    fn default() -> Self {
        Self {
            version: VERSION,
            id: 0,
            stored: false,
            revision: 0,
            last: None,
            programmes: Vec::new(),
            clips: Vec::new(),
            removed: Vec::new(),
        }
    }
}

/// What holds for all entries of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The longest segment, in seconds.
    pub target_duration_secs: u32,
    /// What segments are packed in.
    pub container: Container,
    /// In the multivariant playlist's order.
    pub renditions: Vec<Rendition>,
    /// The multivariant playlist, without what names playlists of I-frames.
    pub multivariant: String,
    /// The runs that its segments are of.
    pub sessions: BTreeSet<SessionId>,
}

/// A rendition of a programme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendition {
    /// Its name.
    pub name: RenditionName,
    /// What it carries.
    pub kind: RenditionKind,
}

/// A programme, from its first segment to `EXT-X-ENDLIST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programme {
    /// Its first run.
    pub id: SessionId,
    /// It is kept as a recording.
    pub recorded: bool,
    /// Its storyboard is made, as far as it could be.
    #[serde(default)]
    pub drawn: bool,
    /// Where in its life it is.
    pub state: State,
    /// What holds for all of it.
    #[serde(flatten)]
    pub head: Head,
    /// What was moved into blocks, oldest first.
    pub blocks: Vec<BlockSummary>,
    /// Of blocks that were removed: their discontinuities, where there were such blocks.
    pub gone: Option<u64>,
    /// Discontinuities of the programmes right before it that are not listed any more, with the one after each of them.
    #[serde(default)]
    pub before: u64,
    /// What comes after them.
    pub tail: Vec<Entry>,
}

/// Where in its life a programme is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It goes on.
    Open,
    /// It is over.
    Ended,
    /// It is over, and the playlists of its recording are in the store.
    Published,
}

/// What the index says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSummary {
    /// The run of its first segment.
    pub session: SessionId,
    /// Its first number, by which it is found together with the run.
    pub first: Msn,
    /// Its last number.
    pub last: Msn,
    /// When it begins.
    pub begins: Moment,
    /// When it ends.
    pub ends: Moment,
    /// Bytes of its media.
    pub bytes: u64,
    /// Discontinuities in it.
    pub seams: u64,
}

/// What blocks are found by: the run of the first segment, and its number.
pub type BlockKey = (SessionId, Msn);

impl BlockSummary {
    /// What it is found by.
    #[must_use]
    pub fn key(&self) -> BlockKey {
        (self.session, self.first)
    }
}

/// Entries that do not change any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// By their numbers.
    pub entries: Vec<Entry>,
}

/// One media sequence number, in all renditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number.
    #[serde(rename = "n")]
    pub msn: Msn,
    /// The run that it is of.
    #[serde(rename = "s")]
    pub session: SessionId,
    /// It does not go on from the one before.
    #[serde(rename = "d", default, skip_serializing_if = "is_false")]
    pub discontinuity: bool,
    /// Nobody has seen yet that all of it is in the store.
    #[serde(rename = "u", default, skip_serializing_if = "is_false")]
    pub unproven: bool,
    /// Its segments, in the order of the programme's renditions.
    #[serde(rename = "m")]
    pub pieces: Vec<Piece>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_false(it: &bool) -> bool {
    !it
}

/// A segment of one rendition: when it begins, the microseconds that it lasts, and its bytes, of which a gap has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(pub Moment, pub u64, pub u64);

impl Piece {
    /// There is no media.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.2 == 0
    }

    /// The time it covers.
    #[must_use]
    pub fn duration(&self) -> MediaTime {
        MediaTime::from(Duration::from_micros(self.1))
    }

    fn ends(&self) -> Moment {
        self.0.after(Duration::from_micros(self.1))
    }
}

impl Entry {
    /// When it begins, in the rendition that is first.
    #[must_use]
    pub fn begins(&self) -> Moment {
        self.pieces.iter().map(|piece| piece.0).min().unwrap_or(Moment(0))
    }

    /// When it ends, in the rendition that is last.
    #[must_use]
    pub fn ends(&self) -> Moment {
        self.pieces.iter().map(Piece::ends).max().unwrap_or(Moment(0))
    }

    /// Bytes of all its segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.2).fold(0, u64::saturating_add)
    }

    /// Its media in the store.
    fn media<'a>(&'a self, head: &'a Head) -> impl Iterator<Item = Resource> + 'a {
        let of =
            |rendition: &Rendition| Resource::segment(head.container, rendition.name.clone(), self.session, self.msn);
        self.with_media(head).map(of)
    }

    /// What is needed to read its media.
    fn inits<'a>(&'a self, head: &'a Head) -> impl Iterator<Item = Resource> + 'a {
        self.with_media(head).filter_map(|rendition| head.init(rendition, self.session))
    }

    /// The renditions in which it is no gap.
    fn with_media<'a>(&'a self, head: &'a Head) -> impl Iterator<Item = &'a Rendition> {
        let renditions = head.renditions.iter().zip(&self.pieces);
        renditions.filter(|(_, piece)| !piece.is_gap()).map(|(rendition, _)| rendition)
    }
}

/// A part of a channel's past that somebody gave a name, and that is kept until it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clip {
    /// Its name.
    pub name: ClipName,
    /// When its first segment begins.
    pub begins: Moment,
    /// When its last segment ends.
    pub ends: Moment,
    /// Its first number.
    pub first: Msn,
    /// Its last number.
    pub last: Msn,
    /// The runs that its segments are of.
    pub sessions: BTreeSet<SessionId>,
    /// Bytes of its media.
    pub bytes: u64,
}

/// Why a text is no index that can be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not what an index looks like.
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Another version of Headwater wrote it.
    #[error("it is of version {0}, and this server knows version {VERSION} only")]
    Version(u32),
}

impl Chronicle {
    /// Reads what [`Chronicle::text`] has written.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(text: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }
        let Any { version } = serde_json::from_slice(text)?;
        if version == VERSION { Ok(serde_json::from_slice(text)?) } else { Err(Unreadable::Version(version)) }
    }

    /// The index as JSON.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        // Names, numbers and texts can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The programme of this name.
    #[must_use]
    pub fn programme(&self, id: SessionId) -> Option<&Programme> {
        self.programmes.iter().find(|programme| programme.id == id)
    }

    /// The clip of this name.
    #[must_use]
    pub fn clip(&self, name: &ClipName) -> Option<&Clip> {
        self.clips.iter().find(|clip| clip.name == *name)
    }

    /// There is such a recording, clip or block: what else is asked for is not in the store, or about to be deleted.
    #[must_use]
    pub fn lists(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Excerpt(Excerpt::Recording(id), _) | Resource::Storyboard(id) | Resource::Sheet(id, _) => {
                self.programme(*id).is_some_and(|programme| programme.recorded)
            }
            Resource::Excerpt(Excerpt::Clip(name), _) | Resource::Clip(name) => self.clip(name).is_some(),
            Resource::Block(session, first) => {
                let mut blocks = self.programmes.iter().flat_map(|programme| &programme.blocks);
                blocks.any(|block| block.key() == (*session, *first))
            }
            _ => true,
        }
    }

    /// All that is kept for other reasons than that a live playlist names it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept::of(self)
    }
}

impl Programme {
    /// Its first number that is still known.
    #[must_use]
    pub fn first(&self) -> Option<Msn> {
        let of_tail = || self.tail.first().map(|entry| entry.msn);
        self.blocks.first().map(|block| block.first).or_else(of_tail)
    }

    /// Its last number.
    #[must_use]
    pub fn last(&self) -> Option<Msn> {
        let of_blocks = || self.blocks.last().map(|block| block.last);
        self.tail.last().map(|entry| entry.msn).or_else(of_blocks)
    }

    /// When what is known of it begins.
    #[must_use]
    pub fn begins(&self) -> Option<Moment> {
        let of_tail = || self.tail.first().map(Entry::begins);
        self.blocks.first().map(|block| block.begins).or_else(of_tail)
    }

    /// When it ends, as far as it is known.
    #[must_use]
    pub fn ends(&self) -> Option<Moment> {
        let of_blocks = || self.blocks.last().map(|block| block.ends);
        self.tail.last().map(Entry::ends).or_else(of_blocks)
    }

    /// Discontinuities in it that were ever listed.
    fn seams(&self) -> u64 {
        let blocks = self.blocks.iter().map(|block| block.seams);
        let seams = blocks.chain(self.tail.iter().map(|entry| entry.discontinuity.into()));
        seams.fold(self.gone.unwrap_or(0), u64::saturating_add)
    }

    /// Bytes of its media.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let blocks = self.blocks.iter().map(|block| block.bytes);
        blocks.chain(self.tail.iter().map(Entry::bytes)).fold(0, u64::saturating_add)
    }

    /// All of it is seen to be in the store, or lost.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        !self.tail.iter().any(|entry| entry.unproven)
    }
}

impl Head {
    /// The keys, below the channel, of the playlists of an excerpt with this head: the multivariant playlist first.
    #[must_use]
    pub fn playlists(&self, excerpt: &Excerpt) -> Vec<Resource> {
        let of = |rendition: Option<&Rendition>| {
            Resource::Excerpt(excerpt.clone(), rendition.map(|rendition| rendition.name.clone()))
        };
        std::iter::once(None).chain(self.renditions.iter().map(Some)).map(of).collect()
    }

    /// What is needed to read the segments of a run of `rendition`, where its container has that.
    fn init(&self, rendition: &Rendition, session: SessionId) -> Option<Resource> {
        (self.container == Container::Cmaf).then(|| Resource::Init(rendition.name.clone(), session))
    }
}

impl Block {
    /// What the index says of it; none of an empty one.
    #[must_use]
    pub fn summary(&self) -> Option<BlockSummary> {
        let (first, last) = (self.entries.first()?, self.entries.last()?);
        let begins = self.entries.iter().map(Entry::begins).min()?;
        let ends = self.entries.iter().map(Entry::ends).max()?;
        let bytes = self.entries.iter().map(Entry::bytes).fold(0, u64::saturating_add);
        let seams = self.entries.iter().map(|entry| u64::from(entry.discontinuity)).sum();
        Some(BlockSummary { session: first.session, first: first.msn, last: last.msn, begins, ends, bytes, seams })
    }
}

#[cfg(test)]
mod tests;
