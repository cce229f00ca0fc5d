//! What cuts a rendition into segments, by the container that it is packed in.

use super::init::BadFormat;
use super::segmenter::{Completed, CutSegment, Open, Segmenter};
use super::ts::TsSegmenter;
use crate::media::{AccessUnit, AudioFormat, MediaTime};

/// A segmenter of one of both kinds; see there.
#[derive(Debug)]
pub(super) enum Cutter {
    Cmaf(Box<Segmenter>),
    Ts(Box<TsSegmenter>),
}

impl Cutter {
    pub(super) fn push(&mut self, number: u64, unit: AccessUnit, boundary: Option<MediaTime>) -> Completed {
        match self {
            Self::Cmaf(segmenter) => segmenter.push(number, unit, boundary),
            Self::Ts(segmenter) => segmenter.push(number, unit, boundary),
        }
    }

    pub(super) fn finish(&mut self, boundary: Option<MediaTime>) -> Option<CutSegment> {
        match self {
            Self::Cmaf(segmenter) => segmenter.finish(boundary),
            Self::Ts(segmenter) => segmenter.finish(boundary),
        }
    }

    /// What can be fetched of the segment that is being made: of a transport stream nothing.
    pub(super) fn open(&self) -> Option<&Open> {
        match self {
            Self::Cmaf(segmenter) => segmenter.open(),
            Self::Ts(_) => None,
        }
    }

    /// The format of the sound that goes into the same segments.
    ///
    /// # Errors
    /// [`BadFormat`] where it cannot.
    pub(super) fn hear(&mut self, sound: &AudioFormat) -> Result<(), BadFormat> {
        match self {
            Self::Cmaf(_) => Ok(()),
            Self::Ts(segmenter) => segmenter.hear(sound),
        }
    }

    /// Takes sound of segment `number`, which fragmented MP4 has no place for.
    pub(super) fn push_sound(&mut self, number: u64, unit: AccessUnit) {
        match self {
            Self::Cmaf(_) => {}
            Self::Ts(segmenter) => segmenter.push_sound(number, unit),
        }
    }
}
