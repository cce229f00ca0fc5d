//! The playlists of what was: recordings, clips and ranges of time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Block, BlockKey, BlockSummary, Chronicle, Clip, ClipName, Entry, Head, Moment, Piece, Programme, Span, State,
};
use crate::ladder::{RenditionKind, RenditionName};
use crate::layout::Resource;
use crate::live::{Msn, SessionId};
use crate::media::{Container, MediaTime};
use crate::playlist::{Listing, MediaPlaylist, Writer};

/// Blocks that one playlist of a range may list: some 36 hours at 4 s.
const BLOCKS_MAX: usize = 128;

/// Segments of a channel's past that are listed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// What holds for all of them.
    #[serde(flatten)]
    pub head: Head,
    /// By their numbers.
    pub entries: Vec<Entry>,
    /// Discontinuities before them that were listed once.
    #[serde(default)]
    pub seams: u64,
    /// Where another programme begins than that of the first: at the first segment of these runs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub programmes: BTreeSet<SessionId>,
}

/// A segment that is to be in one file with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The segment.
    pub resource: Resource,
    /// Which of the programmes in the file it is of: each has a timeline of its own.
    pub programme: usize,
    /// About when it begins, after the beginning of the first one in the file.
    pub begins: MediaTime,
}

/// Whether a list will get longer (`EXT-X-PLAYLIST-TYPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It will.
    Event,
    /// It will, and its beginning goes.
    Sliding,
    /// It will not.
    Vod,
}

/// A range lists more than a playlist should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range is too long for one playlist; ask for a day at most")]
pub struct TooLong;

/// What of a channel can be listed.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The blocks that are needed.
    pub blocks: &'a BTreeMap<BlockKey, Arc<Block>>,
    /// Numbers from here on can be fetched though it may not be known that they are in the store.
    pub at_hand: Option<Msn>,
}

impl Chronicle {
    /// The blocks that `span` needs.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn blocks(&self, span: Span) -> Result<Vec<BlockKey>, TooLong> {
        let blocks = self.programmes.iter().flat_map(|programme| &programme.blocks);
        let needed = blocks.filter(|block| span.overlaps(block.begins, block.ends));
        let needed: Vec<BlockKey> = needed.map(BlockSummary::key).take(BLOCKS_MAX + 1).collect();
        if needed.len() > BLOCKS_MAX { Err(TooLong) } else { Ok(needed) }
    }

    /// What there is of `span`, and whether it will get more; none where there is nothing.
    #[must_use]
    pub fn stretch(&self, span: Span, sight: Sight<'_>) -> Option<(Stretch, Kind)> {
        let in_span = |entry: &&Entry| span.overlaps(entry.begins(), entry.ends());
        let (mut stretch, mut is_cut): (Option<Stretch>, bool) = (None, false);
        let mut seams_before = 0u64;
        for programme in &self.programmes {
            let before = seams_before.saturating_add(programme.before);
            seams_before = before.saturating_add(programme.seams()).saturating_add(1);
            let mut entries: Vec<Entry> = entries(programme, sight.blocks).filter(in_span).cloned().collect();
            if entries.is_empty() {
                continue;
            }
            let listed = stretch.take().filter(|before| before.head.container == programme.head.container);
            let mut next =
                Stretch { head: programme.head.clone(), entries: Vec::new(), seams: 0, programmes: BTreeSet::new() };
            match listed {
                Some(listed) => next.take_over(listed),
                None => {
                    next.seams = before.saturating_add(programme.seams_before(&entries, sight.blocks));
                    let has_lost = programme.gone.is_some() || programme.before > 0;
                    is_cut =
                        !programme.recorded || has_lost && programme.begins().is_some_and(|begins| span.start < begins);
                }
            }
            let seam = !next.entries.is_empty();
            if let Some(first) = entries.first_mut().filter(|_| seam) {
                first.discontinuity = true;
                next.programmes.insert(first.session);
            }
            next.entries.extend(entries);
            stretch = Some(next);
        }
        let mut stretch = stretch?;
        let whole = stretch.leave_out_doubtful(sight.at_hand);
        let kind = match whole && self.is_over(span) {
            true => Kind::Vod,
            // Its beginning goes, with the window or by age.
            false if is_cut => Kind::Sliding,
            false => Kind::Event,
        };
        (!stretch.entries.is_empty()).then_some((stretch, kind))
    }

    /// Nothing of `span` is to come.
    #[must_use]
    pub fn is_over(&self, span: Span) -> bool {
        self.programmes.last().is_none_or(|newest| {
            let has_end = span.end.is_some_and(|end| newest.ends().is_some_and(|known| end <= known));
            has_end || newest.state != State::Open
        })
    }

    /// The blocks that the list of a programme needs: the newest, where there are more than may be listed.
    #[must_use]
    pub fn blocks_of(&self, id: SessionId) -> Vec<BlockKey> {
        let blocks = self.programme(id).map(|programme| programme.blocks.as_slice()).unwrap_or_default();
        blocks.iter().skip(blocks.len().saturating_sub(BLOCKS_MAX)).map(BlockSummary::key).collect()
    }

    /// What there is of a programme, by the blocks that there are, and whether it will get more; none where there is nothing.
    #[must_use]
    pub fn whole(&self, id: SessionId, sight: Sight<'_>) -> Option<(Stretch, Kind)> {
        let programme = self.programme(id)?;
        let listed = |block: &&BlockSummary| sight.blocks.contains_key(&block.key());
        let left_out = programme.blocks.iter().take_while(|block| !listed(block)).map(|block| block.seams);
        let (left_out, more): (u64, bool) = (left_out.clone().sum(), left_out.count() > 0);
        let mut stretch = Stretch {
            head: programme.head.clone(),
            entries: entries(programme, sight.blocks).cloned().collect(),
            seams: programme.gone.unwrap_or(0).saturating_add(left_out),
            programmes: BTreeSet::new(),
        };
        let whole = stretch.leave_out_doubtful(sight.at_hand);
        let kind = match programme.state {
            State::Ended | State::Published if whole => Kind::Vod,
            _ if more || programme.gone.is_some() => Kind::Sliding,
            _ => Kind::Event,
        };
        (!stretch.entries.is_empty()).then_some((stretch, kind))
    }

    /// What holds for the list of `span`, without looking at blocks; none where there is nothing.
    #[must_use]
    pub fn head(&self, span: Span) -> Option<&Head> {
        let overlaps = |programme: &&Programme| {
            let known = programme.begins().zip(programme.ends());
            known.is_some_and(|(begins, ends)| span.overlaps(begins, ends))
        };
        self.programmes.iter().rev().find(overlaps).map(|programme| &programme.head)
    }
}

impl Programme {
    /// Discontinuities of it before the first of `listed`, as far back as there ever was something.
    fn seams_before(&self, listed: &[Entry], blocks: &BTreeMap<BlockKey, Arc<Block>>) -> u64 {
        let is_before = |msn: Msn| listed.first().is_some_and(|first| msn < first.msn);
        let absent = self.blocks.iter().filter(|block| !blocks.contains_key(&block.key()) && is_before(block.last));
        let passed = entries(self, blocks).filter(|entry| entry.discontinuity && is_before(entry.msn));
        let passed = passed.map(|_| 1);
        absent.map(|block| block.seams).chain(passed).fold(self.gone.unwrap_or(0), u64::saturating_add)
    }
}

/// All entries of a programme; those of blocks that are not at hand are left out.
fn entries<'a>(
    programme: &'a Programme,
    blocks: &'a BTreeMap<BlockKey, Arc<Block>>,
) -> impl Iterator<Item = &'a Entry> + 'a {
    let in_blocks = programme.blocks.iter().filter_map(|block| blocks.get(&block.key()));
    in_blocks.flat_map(|block| &block.entries).chain(&programme.tail)
}

impl Stretch {
    /// What came before is listed first, as far as there are the same renditions.
    fn take_over(&mut self, before: Self) {
        let of = |name: &RenditionName| before.head.renditions.iter().position(|rendition| rendition.name == *name);
        let positions: Vec<Option<usize>> = self.head.renditions.iter().map(|rendition| of(&rendition.name)).collect();
        for mut entry in before.entries {
            let Some(known) = entry.pieces.first().copied() else { continue };
            let gap = Piece(known.0, known.1, 0);
            let piece = |position: &Option<usize>| position.and_then(|at| entry.pieces.get(at)).copied().unwrap_or(gap);
            entry.pieces = positions.iter().map(piece).collect();
            self.entries.push(entry);
        }
        self.seams = before.seams;
        self.programmes = before.programmes;
        self.head.sessions.extend(before.head.sessions);
        self.head.target_duration_secs = self.head.target_duration_secs.max(before.head.target_duration_secs);
    }

    /// What nobody has seen in the store, and is not at hand: at the end it is left out, as it is about to come there; before that it
    /// may be lost, and is a gap. True where all of it was seen in the store: what is only at hand may be lost yet.
    fn leave_out_doubtful(&mut self, at_hand: Option<Msn>) -> bool {
        let doubtful = |entry: &Entry| entry.unproven && at_hand.is_none_or(|first| entry.msn < first);
        let whole = !self.entries.iter().any(|entry| entry.unproven);
        while self.entries.pop_if(|last| doubtful(last)).is_some() {}
        for entry in self.entries.iter_mut().filter(|entry| doubtful(entry)) {
            entry.pieces.iter_mut().for_each(|piece| piece.2 = 0);
        }
        whole
    }

    /// The media playlist of a rendition, from which `root` leads to the channel's directory; none where there is no such rendition.
    #[must_use]
    pub fn playlist(&self, rendition: &RenditionName, root: &str, kind: Kind) -> Option<String> {
        let position = self.head.renditions.iter().position(|candidate| candidate.name == *rendition)?;
        let first = self.entries.first();
        let playlist = MediaPlaylist {
            rendition,
            container: self.head.container,
            target_duration_secs: self.head.target_duration_secs,
            first: first.map_or(Msn(0), |entry| entry.msn),
            // Before the first segment nobody is told of one.
            discontinuity_sequence: self.seams.saturating_add(first.map_or(0, |entry| entry.discontinuity.into())),
            ended: kind == Kind::Vod,
        };
        let base = format!("{root}{rendition}/");
        let mut writer = Writer::based(&base, rendition, self.head.container);
        writer.begin(&playlist, playlist.version(), |writer| match kind {
            Kind::Vod => writer.line(format_args!("#EXT-X-PLAYLIST-TYPE:VOD")),
            Kind::Event => writer.line(format_args!("#EXT-X-PLAYLIST-TYPE:EVENT")),
            Kind::Sliding => {}
        });
        let mut expected = playlist.first;
        for (entry, piece) in self.entries.iter().filter_map(|entry| Some((entry, entry.pieces.get(position)?))) {
            // Numbers that are not known any more were used up.
            let hole = entry.msn != expected;
            let listing = Listing {
                msn: entry.msn,
                session: entry.session,
                discontinuity: (entry.discontinuity && entry.msn != playlist.first) || hole,
                program_date_time: piece.0.time(),
                duration: piece.duration(),
                gap: piece.is_gap(),
            };
            writer.segment(&listing, &[]);
            expected = Msn(entry.msn.0.saturating_add(1));
        }
        Some(writer.end(playlist.ended))
    }

    /// The segments of a rendition, and those of the sound beside it where it has none of its own; none where there is no such rendition.
    /// Of several programmes the next begins where the one before ends.
    #[must_use]
    pub fn tracks(&self, rendition: &RenditionName) -> Option<Vec<Vec<Listed>>> {
        let of = |name: &RenditionName| self.head.renditions.iter().position(|candidate| candidate.name == *name);
        let own = of(rendition)?;
        let kind = self.head.renditions.get(own)?.kind;
        let mut sound = self.head.renditions.iter().enumerate().filter(|(_, other)| other.kind == RenditionKind::Audio);
        let beside = sound.next().map(|(position, _)| position);
        let beside = beside.filter(|_| kind == RenditionKind::Video && self.head.container == Container::Cmaf);
        let segments = |position: usize| -> Option<Vec<Listed>> {
            let name = &self.head.renditions.get(position)?.name;
            let (mut listed, mut before) = (Vec::new(), MediaTime::ZERO);
            // Run by run: what was waited for between them is not in the media.
            for run in self.entries.chunk_by(|one, next| one.session == next.session) {
                let begins = run.first().map_or(Moment(0), Entry::begins);
                let of = |entry: &Entry| {
                    let piece = entry.pieces.get(position).filter(|piece| !piece.is_gap())?;
                    Some(Listed {
                        resource: Resource::segment(self.head.container, name.clone(), entry.session, entry.msn),
                        programme: self.programmes.range(..=entry.session).count(),
                        begins: before + MediaTime::from(piece.0.since(begins)),
                    })
                };
                listed.extend(run.iter().filter_map(of));
                let ends = run.iter().map(Entry::ends).max().unwrap_or(begins);
                before += MediaTime::from(ends.since(begins));
            }
            Some(listed)
        };
        std::iter::once(own).chain(beside).map(segments).collect()
    }

    /// What the index says of it as a clip; none of an empty one.
    #[must_use]
    pub fn clip(&self, name: ClipName) -> Option<Clip> {
        let summary = Block { entries: self.entries.clone() }.summary()?;
        let sessions = self.entries.iter().map(|entry| entry.session).collect();
        let BlockSummary { first, last, begins, ends, bytes, .. } = summary;
        Some(Clip { name, begins, ends, first, last, sessions, bytes })
    }
}

impl Head {
    /// The multivariant playlist, from which `prefix` leads to the directories of its renditions' playlists.
    #[must_use]
    pub fn multivariant(&self, prefix: &str) -> String {
        let line = |line: &str| match line.split_once("URI=\"") {
            _ if prefix.is_empty() => format!("{line}\n"),
            Some((before, uri)) if line.starts_with('#') => format!("{before}URI=\"{prefix}{uri}\n"),
            _ if line.starts_with('#') => format!("{line}\n"),
            _ => format!("{prefix}{line}\n"),
        };
        self.multivariant.lines().map(line).collect()
    }
}
