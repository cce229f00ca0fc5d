//! Gathers the pictures of one rendition, and the sound, into segments of transport streams through one run.

use std::collections::VecDeque;

use super::muxer::Muxer;
use super::packets::TIMESCALE;
use crate::media::{AccessUnit, AudioFormat, MediaTime, VideoFormat};
use crate::packager::init::BadFormat;
use crate::packager::sample::{Sample, Sampler};
use crate::packager::segmenter::{Completed, CutSegment};

/// Frames of sound that wait for their segment to be written: a minute and a half of AAC at 48 kHz. When it is full the
/// oldest goes, so that a rendition whose picture has stopped costs no memory.
pub(super) const SOUND_MAX: usize = 4_096;

/// The state machine.
#[derive(Debug)]
pub(in crate::packager) struct TsSegmenter {
    muxer: Muxer,
    sampler: Sampler,
    open: Option<Open>,
    pictures: Vec<Sample>,
    /// With the segment that each belongs to, in rising order.
    sound: VecDeque<(u64, AccessUnit)>,
}

/// The segment that is being gathered.
#[derive(Debug)]
struct Open {
    number: u64,
    pts: MediaTime,
    start: i64,
}

impl TsSegmenter {
    /// `frame` is a guess at a picture's duration.
    ///
    /// # Errors
    /// [`BadFormat`] where the picture cannot be written into a transport stream.
    pub(in crate::packager) fn new(picture: &VideoFormat, frame: MediaTime) -> Result<Self, BadFormat> {
        Ok(Self {
            muxer: Muxer::new(picture)?,
            sampler: Sampler::new(TIMESCALE, frame),
            open: None,
            pictures: Vec::new(),
            sound: VecDeque::new(),
        })
    }

    /// The sound's format.
    ///
    /// # Errors
    /// [`BadFormat`] where it cannot be written into a transport stream, which then has none.
    pub(in crate::packager) fn hear(&mut self, sound: &AudioFormat) -> Result<(), BadFormat> {
        self.muxer.hear(sound)
    }

    /// Takes the next picture, which belongs to segment `number`: the open one, or a later one, whose cut is at `boundary`.
    pub(in crate::packager) fn push(
        &mut self,
        number: u64,
        unit: AccessUnit,
        boundary: Option<MediaTime>,
    ) -> Completed {
        let begins = self.open.as_ref().is_none_or(|open| open.number != number);
        let pts = unit.pts;
        self.pictures.extend(self.sampler.push(unit, boundary.filter(|_| begins)));
        if !begins {
            return Completed::default();
        }
        let segment = self.finish_segment();
        self.open = Some(Open { number, pts, start: self.sampler.tick().unwrap_or(0) });
        Completed { part: false, segment }
    }

    /// Takes the next frame of sound, which belongs to segment `number`, or to the open one if that is later.
    pub(in crate::packager) fn push_sound(&mut self, number: u64, unit: AccessUnit) {
        let last = self.sound.back().map(|(of, _)| *of);
        let number = self.open.as_ref().map(|open| open.number).max(last).map_or(number, |least| least.max(number));
        self.sound.push_back((number, unit));
        if self.sound.len() > SOUND_MAX {
            self.sound.pop_front();
        }
    }

    /// No more pictures come for a while, or at all: gives out the segment that is open, which ends at `boundary` if one
    /// is given.
    pub(in crate::packager) fn finish(&mut self, boundary: Option<MediaTime>) -> Option<CutSegment> {
        self.pictures.extend(self.sampler.finish(boundary));
        self.finish_segment()
    }

    fn finish_segment(&mut self) -> Option<CutSegment> {
        let Open { number, pts, start } = self.open.take()?;
        let pictures = std::mem::take(&mut self.pictures);
        let sound = self.sound_of(number);
        let time = |tick| MediaTime::from_ticks(tick, TIMESCALE);
        let end = pictures.last().map_or(start, Sample::end);
        Some(CutSegment {
            number,
            pts,
            start: time(start),
            duration: time(end) - time(start),
            data: self.muxer.write(&pictures, &sound),
            parts: Vec::new(),
            i_frames: Vec::new(),
        })
    }

    /// That of segments before, which had no picture, is let go.
    fn sound_of(&mut self, number: u64) -> Vec<AccessUnit> {
        let until = self.sound.partition_point(|(of, _)| *of <= number);
        self.sound.drain(..until).filter(|(of, _)| *of == number).map(|(_, unit)| unit).collect()
    }
}
