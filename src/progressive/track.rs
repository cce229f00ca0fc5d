//! The sample tables of one track, filled as its segments are scanned.

use std::ops::Range;

use mp4_atom::{CttsEntry, SttsEntry};

use super::Unfit;
use super::init::Init;
use super::scan::{Run, Sample, Scan};
use crate::media::MediaTime;

/// A track that is being put together.
///
/// Its tables are as long as those of the file: some bytes a sample, of durations and of offsets only where they change.
#[derive(Clone, Debug)]
pub struct Track {
    inits: Vec<Init>,
    /// The different sample entries among those of `inits`, in the order of their first use.
    entries: Vec<usize>,
    /// Of the file: a multiple of those of all sessions.
    timescale: u32,
    segments: usize,
    pub(super) tables: Tables,
    pub(super) chunks: Vec<Chunk>,
    pub(super) pieces: Vec<Piece>,
}

/// Where a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its initialisation segment: which of those that the track was given.
    pub init: usize,
    /// What is to be added to its times to have them on the file's timeline: the same for the pictures and the sound of a programme,
    /// which stay in step by it.
    pub shift: MediaTime,
}

/// What is said of samples. Times are ticks of the track.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Without the last sample's, until [`Tables::settle`].
    pub(super) durations: Vec<SttsEntry>,
    pub(super) offsets: Vec<CttsEntry>,
    pub(super) sizes: Vec<u32>,
    /// The samples at which decoding may start, from 1.
    pub(super) sync: Vec<u32>,
    /// When the first is decoded.
    pub(super) start: i64,
    /// When the last has been decoded for as long as it lasts.
    pub(super) end: i64,
    /// The duration of the last, which may still change.
    last: u32,
    /// When the first is shown, and until when the last.
    pub(super) shown: Range<i64>,
}

/// Samples of one description that stand together in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// When its first sample is decoded.
    pub(super) start: i64,
    pub(super) samples: u32,
    /// Its sample entry, from 1.
    pub(super) description: u32,
    /// Of which pieces it is: up to this one, from that where the one before ends.
    pub(super) pieces_end: usize,
    segment: usize,
}

/// A range of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) segment: u32,
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Track {
    /// Of sessions with these initialisation segments.
    ///
    /// # Errors
    /// [`Unfit::Empty`] without any, [`Unfit::Changes`] or [`Unfit::Timescales`] where they cannot be in one track.
    pub fn new(inits: Vec<Init>) -> Result<Self, Unfit> {
        let first = inits.first().ok_or(Unfit::Empty)?;
        if let Some(other) = inits.iter().find(|other| (other.kind, other.codec()) != (first.kind, first.codec())) {
            return Err(Unfit::Changes(first.told(), other.told()));
        }
        let timescale = inits.iter().try_fold(1, |all, init| common(all, init.timescale)).ok_or(Unfit::Timescales)?;
        let (entries, tables) = (Vec::new(), Tables::default());
        Ok(Self { inits, entries, timescale, segments: 0, tables, chunks: Vec::new(), pieces: Vec::new() })
    }

    /// Adds the next segment. What a segment lacks to the next one, the sample before lasts longer.
    ///
    /// # Errors
    /// [`Unfit`], after which the track is of no use.
    pub fn push(&mut self, placed: Placed, segment: &Scan) -> Result<(), Unfit> {
        let description = self.describe(placed.init)?;
        let times = Times::new(self.inits.get(placed.init), self.timescale, placed.shift)?;
        for run in &segment.runs {
            self.tables.continue_at(times.of(run)?, self.timescale)?;
            let mut at = run.at;
            for sample in &run.samples {
                let sample = times.scaled(*sample)?;
                self.place(description, at, sample.size)?;
                self.tables.push(sample)?;
                at = at.saturating_add(usize::try_from(sample.size).unwrap_or(usize::MAX));
            }
        }
        self.segments += 1;
        Ok(())
    }

    /// When a segment of a session begins to be shown, by that session's clock.
    pub(super) fn begins(&self, init: usize, segment: &Scan) -> Option<MediaTime> {
        let (init, run) = self.inits.get(init).zip(segment.runs.first())?;
        let shown = i64::try_from(run.start).ok()?.checked_add(i64::from(run.samples.first()?.offset))?;
        Some(MediaTime::from_ticks(shown, init.timescale))
    }

    /// The number of the sample entry of this initialisation segment, from 1. The same entry is written once: where an encoder
    /// has come back as it was, players need not begin anew.
    fn describe(&mut self, init: usize) -> Result<u32, Unfit> {
        let wanted = self.inits.get(init).ok_or_else(|| Unfit::unreadable("it has no initialisation segment"))?;
        let same = |known: &usize| self.inits.get(*known).is_some_and(|known| known.entry == wanted.entry);
        let found = self.entries.iter().position(same);
        let index = found.unwrap_or(self.entries.len());
        if found.is_none() {
            self.entries.push(init);
        }
        u32::try_from(index + 1).map_err(|_| Unfit::TooLong)
    }

    /// Finds the next sample its place: in the chunk before, as long as that is short and of the same segment.
    fn place(&mut self, description: u32, at: usize, size: u32) -> Result<(), Unfit> {
        let now = self.tables.end;
        let fits = |chunk: &&mut Chunk| {
            let lasts = now.saturating_sub(chunk.start);
            (chunk.segment, chunk.description) == (self.segments, description) && lasts < i64::from(self.timescale)
        };
        let (too_long, pieces) = (|_| Unfit::TooLong, self.pieces.len());
        let (segment, start) = (u32::try_from(self.segments).map_err(too_long)?, u32::try_from(at).map_err(too_long)?);
        let chunk = match self.chunks.last_mut().filter(fits) {
            Some(chunk) => chunk,
            None => {
                self.chunks.push(Chunk {
                    start: now,
                    samples: 0,
                    description,
                    pieces_end: pieces,
                    segment: self.segments,
                });
                self.chunks.last_mut().ok_or(Unfit::Empty)?
            }
        };
        let is_new = chunk.samples == 0;
        chunk.samples += 1;
        match self.pieces.last_mut().filter(|piece| !is_new && piece.start.saturating_add(piece.length) == start) {
            Some(piece) => piece.length = piece.length.saturating_add(size),
            None => {
                self.pieces.push(Piece { segment, start, length: size });
                chunk.pieces_end = self.pieces.len();
            }
        }
        Ok(())
    }

    /// About what it takes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let Tables { durations, offsets, sizes, sync, .. } = &self.tables;
        let tables = size_of_val(&durations[..]) + size_of_val(&offsets[..]) + size_of_val(&sizes[..]);
        tables + size_of_val(&sync[..]) + size_of_val(&self.chunks[..]) + size_of_val(&self.pieces[..])
    }

    pub(super) fn timescale(&self) -> u32 {
        self.timescale
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The sample entries of the file, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Init> {
        self.entries.iter().filter_map(|index| self.inits.get(*index))
    }
}

impl Tables {
    /// The next sample is decoded at `at`: the one before lasts until then.
    fn continue_at(&mut self, at: i64, timescale: u32) -> Result<(), Unfit> {
        if self.sizes.is_empty() {
            (self.start, self.end) = (at, at);
            return Ok(());
        }
        let began = self.end.saturating_sub(i64::from(self.last));
        let lasts = at.saturating_sub(began);
        let late = 1_i64.saturating_sub(lasts);
        if late > i64::from(timescale / LATE_MAX) {
            return Err(Unfit::Overlap(MediaTime::from_ticks(self.end.saturating_sub(at), timescale)));
        }
        self.last = u32::try_from(lasts.max(1)).map_err(|_| Unfit::Hole(MediaTime::from_ticks(lasts, timescale)))?;
        self.end = began.saturating_add(i64::from(self.last));
        Ok(())
    }

    fn push(&mut self, sample: Sample) -> Result<(), Unfit> {
        if !self.sizes.is_empty() {
            self.settle();
        }
        let Sample { size, duration, offset, sync } = sample;
        self.sizes.push(size);
        let number = u32::try_from(self.sizes.len()).ok().filter(|number| *number <= SAMPLES_MAX);
        let number = number.ok_or(Unfit::TooLong)?;
        if sync {
            self.sync.push(number);
        }
        let sample_offset = i64::from(offset);
        match self.offsets.last_mut().filter(|run| run.sample_offset == sample_offset) {
            Some(run) => run.sample_count += 1,
            None => self.offsets.push(CttsEntry { sample_count: 1, sample_offset }),
        }
        let shown = self.end.saturating_add(sample_offset);
        let until = shown.saturating_add(i64::from(duration));
        self.shown = match number {
            1 => shown..until,
            _ => self.shown.start.min(shown)..self.shown.end.max(until),
        };
        self.last = duration;
        self.end = self.end.saturating_add(i64::from(duration));
        Ok(())
    }

    /// The duration of the last sample stays as it is.
    pub(super) fn settle(&mut self) {
        match self.durations.last_mut().filter(|run| run.sample_delta == self.last) {
            Some(run) => run.sample_count += 1,
            None => self.durations.push(SttsEntry { sample_count: 1, sample_delta: self.last }),
        }
    }
}

/// From a session's clock to the track's.
struct Times {
    /// Ticks of the track in one of the session.
    factor: u32,
    shift: i64,
}

impl Times {
    fn new(init: Option<&Init>, timescale: u32, shift: MediaTime) -> Result<Self, Unfit> {
        let factor = init.and_then(|init| timescale.checked_div(init.timescale)).ok_or(Unfit::Timescales)?;
        Ok(Self { factor, shift: shift.to_ticks(timescale) })
    }

    /// When a run begins.
    fn of(&self, run: &Run) -> Result<i64, Unfit> {
        let start = i64::try_from(run.start).ok().and_then(|start| start.checked_mul(i64::from(self.factor)));
        start.and_then(|start| start.checked_add(self.shift)).ok_or_else(|| Unfit::unreadable("its time is too great"))
    }

    fn scaled(&self, sample: Sample) -> Result<Sample, Unfit> {
        let too_great = || Unfit::unreadable("a duration is too great");
        let duration = sample.duration.checked_mul(self.factor).ok_or_else(too_great)?;
        let offset = i64::from(sample.offset).saturating_mul(i64::from(self.factor));
        let offset = i32::try_from(offset).map_err(|_| too_great())?;
        Ok(Sample { duration, offset, ..sample })
    }
}

/// The least clock of which both are a part.
pub(super) fn common(one: u32, other: u32) -> Option<u32> {
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor.checked_rem(rest)?);
    }
    one.checked_div(divisor)?.checked_mul(other)
}

/// A sample that would be decoded before the one before it may be late by this part of a second: a seam is as exact as the
/// encoder's clock. What comes after it is in step again.
const LATE_MAX: u32 = 10;

/// 19 hours at 60 frames a second.
const SAMPLES_MAX: u32 = 4 << 20;
