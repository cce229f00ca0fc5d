//! Audio units wait here until it is known which segment they belong to.

use std::collections::VecDeque;

use super::cuts::Cuts;
use crate::media::{AccessUnit, MediaTime};

/// Units that may wait: a minute and a half of AAC at 48 kHz. When it is full the oldest goes by the cuts that are
/// known, so that a picture that has stopped costs neither sound nor memory.
const WAITING_MAX: usize = 4_096;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Sound {
    waiting: VecDeque<AccessUnit>,
}

/// Where a unit goes.
#[derive(Debug, PartialEq)]
pub(super) enum Placed {
    /// Into this segment of the run.
    In(u64, AccessUnit),
    /// Nowhere: it sounds before the first picture, or so long after the last that its segment would be longer than
    /// the target duration.
    Outside,
}

impl Sound {
    pub(super) fn push(&mut self, unit: AccessUnit) {
        self.waiting.push_back(unit);
    }

    /// The next unit whose segment is known. To be called until it gives none, after each unit of any rendition.
    pub(super) fn next(&mut self, cuts: &Cuts) -> Option<Placed> {
        let full = self.waiting.len() > WAITING_MAX;
        let unit = self.waiting.pop_front_if(|unit| full || cuts.settled(unit.pts))?;
        Some(place(unit, cuts))
    }

    /// The next unit when no more cuts will come; no segment is to be longer than `segment_max`.
    pub(super) fn next_last(&mut self, cuts: &Cuts, segment_max: MediaTime) -> Option<Placed> {
        let unit = self.waiting.pop_front()?;
        let end = unit.pts + unit.duration;
        let start = cuts.segment_at(unit.pts).and_then(|number| cuts.start(number));
        Some(if start.is_some_and(|s| end - s > segment_max) { Placed::Outside } else { place(unit, cuts) })
    }
}

fn place(unit: AccessUnit, cuts: &Cuts) -> Placed {
    cuts.segment_at(unit.pts).map_or(Placed::Outside, |number| Placed::In(number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn unit(millis: i64) -> AccessUnit {
        let time = MediaTime::from_millis(millis);
        AccessUnit { dts: time, pts: time, duration: MediaTime::from_millis(20), key: true, data: Bytes::new() }
    }

    #[test]
    fn units_wait_for_the_picture() {
        let (mut sound, mut cuts) = (Sound::default(), Cuts::default());
        sound.push(unit(990));
        sound.push(unit(1_010));
        assert_eq!(sound.next(&cuts), None);
        cuts.see(&unit(1_000), Some(0));
        assert_eq!(sound.next(&cuts), Some(Placed::Outside));
        assert_eq!(sound.next(&cuts), None);
        cuts.see(&unit(1_040), None);
        assert_eq!(sound.next(&cuts), Some(Placed::In(0, unit(1_010))));
    }

    #[test]
    fn at_the_end_no_segment_grows_past_its_bound() {
        let (mut sound, mut cuts) = (Sound::default(), Cuts::default());
        cuts.see(&unit(1_000), Some(0));
        sound.push(unit(2_980));
        sound.push(unit(2_981));
        let bound = MediaTime::from_millis(2_000);
        assert_eq!(sound.next_last(&cuts, bound), Some(Placed::In(0, unit(2_980))));
        assert_eq!(sound.next_last(&cuts, bound), Some(Placed::Outside));
        assert_eq!(sound.next_last(&cuts, bound), None);
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut sound, mut cuts) = (Sound::default(), Cuts::default());
        cuts.see(&unit(0), Some(0));
        for millis in 1..=i64::try_from(WAITING_MAX).unwrap() + 1 {
            sound.push(unit(millis));
        }
        assert_eq!(sound.next(&cuts), Some(Placed::In(0, unit(1))));
        assert_eq!(sound.next(&cuts), None);
    }
}
