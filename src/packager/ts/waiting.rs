//! Where pictures of a transport stream wait for the sound: one that begins a segment may only go on when all sound of the
//! segment before has come, as that is written then. And where sound waits until the picture's format is known.

use std::collections::VecDeque;

use super::segmenter::SOUND_MAX;
use crate::media::{AccessUnit, MediaTime};
use crate::packager::cuts::Cuts;

/// How long a picture waits, in media time, for sound that may not come at all. The queues before the packager hold less;
/// sound that comes later still is in the next segment, and late.
const WAIT_MAX: MediaTime = MediaTime::from_millis(1_500);

/// A picture with its cut.
type Picture = (AccessUnit, Option<u64>);

/// The pictures of one rendition in one run.
#[derive(Debug, Default)]
pub(in crate::packager) struct Waiting {
    pictures: VecDeque<Picture>,
    sound: VecDeque<(u64, AccessUnit)>,
}

impl Waiting {
    /// Keeps sound of segment `number` until [`Waiting::sound`]. When there is too much of it the oldest goes: a picture
    /// that never comes has no use for it.
    pub(in crate::packager) fn keep(&mut self, number: u64, unit: AccessUnit) {
        self.sound.push_back((number, unit));
        if self.sound.len() > SOUND_MAX {
            self.sound.pop_front();
        }
    }

    /// The sound that was kept.
    pub(in crate::packager) fn sound(&mut self) -> impl Iterator<Item = (u64, AccessUnit)> {
        self.sound.drain(..)
    }

    pub(in crate::packager) fn push(&mut self, unit: AccessUnit, cut: Option<u64>) {
        self.pictures.push_back((unit, cut));
    }

    /// The next picture that may go on, if the sound has come as far as `heard`. To be called until it gives none.
    pub(in crate::packager) fn next(&mut self, heard: Option<MediaTime>, cuts: &Cuts) -> Option<Picture> {
        let newest = self.pictures.back()?.0.dts;
        self.pictures.pop_front_if(|(unit, cut)| {
            // Before the first of a run there is none to be written.
            let boundary = cut.filter(|number| *number > 0).and_then(|number| cuts.start(number));
            let boundary = boundary.map(|start| start - ROUNDING);
            boundary.is_none_or(|boundary| heard >= Some(boundary)) || newest - unit.dts > WAIT_MAX
        })
    }
}

/// Sound that ends so little before a cut ends there.
const ROUNDING: MediaTime = MediaTime::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn unit(millis: i64) -> AccessUnit {
        let time = MediaTime::from_millis(millis);
        AccessUnit { dts: time, pts: time, duration: MediaTime::ZERO, key: true, data: Bytes::new() }
    }

    #[test]
    fn what_begins_a_segment_waits_for_the_sound() {
        let (mut waiting, mut cuts) = (Waiting::default(), Cuts::default());
        for (millis, cut) in [(1_000, Some(0)), (1_040, None), (1_080, Some(1)), (1_120, None)] {
            cuts.see(&unit(millis), cut);
            waiting.push(unit(millis), cut);
        }
        let mut next = |heard| waiting.next(heard, &cuts).map(|(unit, _)| unit.dts.as_millis());
        let heard = |millis| Some(MediaTime::from_millis(millis));
        assert_eq!((next(None), next(None), next(None)), (Some(1_000), Some(1_040), None));
        assert_eq!(next(heard(1_078)), None);
        assert_eq!((next(heard(1_079)), next(heard(1_079))), (Some(1_080), Some(1_120)));
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let (mut waiting, mut cuts) = (Waiting::default(), Cuts::default());
        for (millis, cut) in [(0, Some(1)), (1_500, None), (1_501, None)] {
            assert_eq!(waiting.next(None, &cuts), None);
            cuts.see(&unit(millis), cut);
            waiting.push(unit(millis), cut);
        }
        assert_eq!(waiting.next(None, &cuts), Some((unit(0), Some(1))));
    }
}
