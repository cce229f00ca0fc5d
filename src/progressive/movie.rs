//! The file: in which order its tracks' chunks stand, and what of it is where.

use std::ops::Range;

use bytes::Bytes;

use super::head::{self, Placement};
use super::track::{Piece, Track};
use super::{Kind, Unfit};

/// A file of which the head is in memory, and the rest in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movie {
    head: Bytes,
    pieces: Vec<Sourced>,
    length: u64,
    kind: Kind,
}

/// What a range of the file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Head(Bytes),
    /// A range of the bytes of a segment.
    Media {
        /// Which track, in the order in which the file was given them.
        track: usize,
        /// Which of its segments, in the order in which the track was given them.
        segment: usize,
        /// Of its bytes.
        range: Range<usize>,
    },
}

/// A piece, and where it begins in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sourced {
    at: u64,
    piece: Piece,
    track: u8,
}

impl Movie {
    /// Of these tracks: as a rule one of pictures and one of sound, or one of them.
    ///
    /// # Errors
    /// [`Unfit`]: [`Unfit::Empty`] where a track has no samples.
    pub fn new(mut tracks: Vec<Track>) -> Result<Self, Unfit> {
        if tracks.is_empty() || tracks.iter().any(Track::is_empty) {
            return Err(Unfit::Empty);
        }
        tracks.iter_mut().for_each(|track| track.tables.settle());
        let Order { mut pieces, offsets, length } = Order::of(&tracks)?;
        let placement = Placement { offsets, length };
        let head = Bytes::from(head::write(&tracks, placement));
        let begins = count(head.len());
        pieces.iter_mut().for_each(|piece| piece.at = piece.at.saturating_add(begins));
        let has_pictures = tracks.iter().any(|track| track.kind() == Kind::Video);
        let kind = if has_pictures { Kind::Video } else { Kind::Audio };
        Ok(Self { head, pieces, length: begins.saturating_add(length), kind })
    }

    /// How long the file is.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it has pictures.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Everything before the first sample. Whoever has read this knows the sizes and times of all samples.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// About what it takes of memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.head.len().saturating_add(self.pieces.len().saturating_mul(size_of::<Sourced>()))
    }

    /// What the bytes `range` of the file are, one behind the other. What is beyond the end is left out.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> {
        let Range { start, end } = range;
        let begins = count(self.head.len());
        let of_head = position(start.min(begins))..position(end.min(begins));
        let head = (!of_head.is_empty()).then(|| Part::Head(self.head.slice(of_head)));
        let first = self.pieces.partition_point(|piece| piece.end() <= start);
        let within = self.pieces.iter().skip(first).take_while(move |piece| start < end && piece.at < end);
        let of_media = within.filter(|piece| piece.piece.length > 0);
        head.into_iter().chain(of_media.map(move |piece| piece.part(start, end)))
    }
}

impl Sourced {
    fn end(&self) -> u64 {
        self.at.saturating_add(self.piece.length.into())
    }

    /// What of it is from `start` to `end` of the file.
    fn part(&self, start: u64, end: u64) -> Part {
        let skipped = start.saturating_sub(self.at);
        let last = end.min(self.end()).saturating_sub(self.at);
        let begins = u64::from(self.piece.start);
        Part::Media {
            track: self.track.into(),
            segment: usize::try_from(self.piece.segment).unwrap_or(usize::MAX),
            range: position(begins.saturating_add(skipped))..position(begins.saturating_add(last)),
        }
    }
}

/// The chunks of all tracks in the order in which they are played, so that a player need not go back and forth.
struct Order {
    /// With the distance from the first.
    pieces: Vec<Sourced>,
    /// The distance of each track's chunks from the first.
    offsets: Vec<Vec<u64>>,
    length: u64,
}

impl Order {
    fn of(tracks: &[Track]) -> Result<Self, Unfit> {
        let mut order = Self { pieces: Vec::new(), offsets: vec![Vec::new(); tracks.len()], length: 0 };
        let movie = head::movie_scale(tracks);
        let begun = |taken: &[Vec<u64>], index: usize| taken.get(index).map_or(0, Vec::len);
        loop {
            let next = |(index, track): (usize, &Track)| {
                let chunk = track.chunks.get(begun(&order.offsets, index))?;
                Some((head::movie_time(chunk.start, track.timescale(), movie), index))
            };
            // Where two begin together, the one that was given first.
            let Some((_, index)) = tracks.iter().enumerate().filter_map(next).min() else { return Ok(order) };
            let Some(track) = tracks.get(index) else { return Ok(order) };
            order.take(index, track)?;
        }
    }

    /// Takes the next chunk of a track.
    fn take(&mut self, index: usize, track: &Track) -> Result<(), Unfit> {
        let Some(taken) = self.offsets.get_mut(index) else { return Ok(()) };
        let ends = |chunk: usize| track.chunks.get(chunk).map_or(0, |chunk| chunk.pieces_end);
        let pieces = taken.len().checked_sub(1).map_or(0, ends)..ends(taken.len());
        taken.push(self.length);
        let number = u8::try_from(index).map_err(|_| Unfit::TooLong)?;
        for piece in track.pieces.get(pieces).unwrap_or_default() {
            self.pieces.push(Sourced { at: self.length, piece: *piece, track: number });
            self.length = self.length.saturating_add(piece.length.into());
        }
        Ok(())
    }
}

impl Track {
    /// What it shows.
    pub(super) fn kind(&self) -> Kind {
        self.entries().next().map_or(Kind::Video, |init| init.kind)
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
