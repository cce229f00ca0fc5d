//! Where one run is cut: learned from the video renditions, looked up by the audio.

use std::collections::VecDeque;

use crate::media::{AccessUnit, MediaTime};

/// Cuts that are remembered: more than any rendition is behind another, as the queues before the packager are bounded.
const CUTS_MAX: usize = 256;

/// The cuts of a run as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// The last cuts, oldest first: number and presentation time.
    known: VecDeque<(u64, MediaTime)>,
    /// Decode time up to which the fastest video rendition has come.
    horizon: Option<MediaTime>,
}

impl Cuts {
    /// Takes note of a video unit.
    pub(super) fn see(&mut self, unit: &AccessUnit, cut: Option<u64>) {
        self.horizon = self.horizon.max(Some(unit.dts));
        let Some(number) = cut.filter(|n| self.known.back().is_none_or(|(last, _)| n > last)) else { return };
        // A presentation time just below the decode time is a rounding; the horizon relies on there being none.
        self.known.push_back((number, unit.pts.max(unit.dts)));
        if self.known.len() > CUTS_MAX {
            self.known.pop_front();
        }
    }

    /// All cuts up to and including `time` are known: a later one is decoded after the horizon, and shown later still.
    pub(super) fn settled(&self, time: MediaTime) -> bool {
        self.horizon.is_some_and(|h| time <= h)
    }

    /// The segment that what is shown at `time` belongs to, by the cuts that are known.
    pub(super) fn segment_at(&self, time: MediaTime) -> Option<u64> {
        let after = self.known.partition_point(|(_, start)| *start <= time);
        self.known.get(after.checked_sub(1)?).map(|(number, _)| *number)
    }

    /// The number of the latest cut that is known.
    pub(super) fn newest(&self) -> u64 {
        self.known.back().map_or(0, |(number, _)| *number)
    }

    /// When segment `number` begins to be shown.
    pub(super) fn start(&self, number: u64) -> Option<MediaTime> {
        let position = self.known.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        self.known.get(position).map(|(_, start)| *start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn unit(dts: i64, pts: i64) -> AccessUnit {
        let time = MediaTime::from_millis;
        AccessUnit { dts: time(dts), pts: time(pts), duration: MediaTime::ZERO, key: true, data: Bytes::new() }
    }

    #[test]
    fn a_time_is_settled_once_a_rendition_has_decoded_up_to_it() {
        let mut cuts = Cuts::default();
        assert!(!cuts.settled(MediaTime::ZERO));
        cuts.see(&unit(1_000, 1_080), Some(0));
        cuts.see(&unit(1_040, 1_200), None);
        assert!(cuts.settled(MediaTime::from_millis(1_040)));
        assert!(!cuts.settled(MediaTime::from_millis(1_041)));
        assert_eq!(cuts.segment_at(MediaTime::from_millis(1_079)), None);
        assert_eq!(cuts.segment_at(MediaTime::from_millis(1_080)), Some(0));
    }

    #[test]
    fn each_cut_is_learned_once_and_the_oldest_are_forgotten() {
        let mut cuts = Cuts::default();
        for number in 0..300 {
            let millis = i64::try_from(number).unwrap() * 1_000;
            cuts.see(&unit(millis, millis), Some(number));
            cuts.see(&unit(millis, millis + 7), Some(number));
        }
        assert_eq!(cuts.start(299), Some(MediaTime::from_millis(299_000)));
        assert_eq!(cuts.start(43), None);
        assert_eq!(cuts.segment_at(MediaTime::from_millis(250_999)), Some(250));
    }
}
