//! Where segments begin: the one decision that all renditions and the sound obey (law 2).
//!
//! Two pure rules over the source's timestamps. With a rendition that is passed on, cuts can only be at the source's
//! IDRs: [`KeyCuts`]. Without one they follow the clock: [`ClockCuts`]. Cuts are numbered from 0 without holes.

use crate::media::MediaTime;

/// RTMP tells whole milliseconds, so a frame that belongs on a cut may come this much before it.
const TOLERANCE: MediaTime = MediaTime::from_millis(1);

/// How far a segment may exceed the target before its rounded length would: half a second (RFC 8216bis, 4.4.3.1),
/// less what a frame's rounding and the packager's ticks may add.
const ROUNDING_SLACK: MediaTime = MediaTime::from_millis(450);

/// A cut: the segment of this number begins with the picture of this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) number: u64,
    pub(super) pts: MediaTime,
}

/// Cuts at the source's IDRs: as late as [`longest`] allows, given the longest distance between IDRs seen so far.
#[derive(Clone, Debug)]
pub(super) struct KeyCuts {
    target: MediaTime,
    gop_longest: MediaTime,
    last_key: Option<MediaTime>,
    last_cut: MediaTime,
    next: u64,
}

impl KeyCuts {
    /// `gop` is the distance between IDRs as far as it was measured before.
    pub(super) fn new(target: MediaTime, gop: MediaTime) -> Self {
        Self { target, gop_longest: gop, last_key: None, last_cut: MediaTime::ZERO, next: 0 }
    }

    /// An IDR comes; does a segment begin with it?
    pub(super) fn at_key(&mut self, pts: MediaTime) -> Option<Cut> {
        if let Some(last) = self.last_key {
            self.gop_longest = self.gop_longest.max(pts - last);
        }
        self.last_key = Some(pts);
        let length = pts - self.last_cut;
        let is_whole = length + TOLERANCE >= self.target;
        let due = self.next == 0 || is_whole || length + self.gop_longest > longest(self.target);
        if !due || (self.next > 0 && pts <= self.last_cut) {
            return None;
        }
        let cut = Cut { number: self.next, pts };
        self.next = self.next.saturating_add(1);
        self.last_cut = pts;
        Some(cut)
    }

    /// A segment that went on until `end` would be longer than its target, even rounded.
    pub(super) fn is_overdue(&self, end: MediaTime) -> bool {
        self.next > 0 && end - self.last_cut > length_max(self.target)
    }
}

/// How long a segment is planned to be at most: a fortieth over the target, which is 0.1 s of 4. GOPs of 2 s last 2.002 s at
/// 29.97 frames a second, and one that a pause of the encoder's clock made longer must not halve all segments after it.
pub(super) fn longest(target: MediaTime) -> MediaTime {
    let slack = MediaTime::from_nanos(target.as_nanos() / 40);
    (target + slack.max(TOLERANCE)).min(length_max(target))
}

/// What rounds to what `EXT-X-TARGETDURATION` says, or the target itself.
fn length_max(target: MediaTime) -> MediaTime {
    let rounded = MediaTime::from_millis(target.to_ticks(1).saturating_mul(1000));
    (rounded + ROUNDING_SLACK).max(target + TOLERANCE)
}

/// Cuts at the first frame, in presentation order, at or past each multiple of the target.
#[derive(Clone, Debug)]
pub(super) struct ClockCuts {
    target: MediaTime,
    due: MediaTime,
    next: u64,
}

impl ClockCuts {
    /// The run's first frame is shown at `start`.
    pub(super) fn new(start: MediaTime, target: MediaTime) -> Self {
        assert!(target > MediaTime::ZERO, "a segment's target duration is positive");
        Self { target, due: start, next: 0 }
    }

    /// A frame comes; does a segment begin with it?
    pub(super) fn at_frame(&mut self, pts: MediaTime) -> Option<Cut> {
        if pts + TOLERANCE < self.due {
            return None;
        }
        let passed = (pts + TOLERANCE - self.due).as_nanos() / self.target.as_nanos().max(1);
        let steps = passed.saturating_add(1).saturating_mul(self.target.as_nanos());
        self.due += MediaTime::from_nanos(steps);
        let cut = Cut { number: self.next, pts };
        self.next = self.next.saturating_add(1);
        Some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn key_cuts(target: i64, gop: i64, keys: &[i64]) -> Vec<i64> {
        let mut cuts = KeyCuts::new(ms(target), ms(gop));
        keys.iter().filter_map(|&k| cuts.at_key(ms(k))).map(|c| c.pts.as_millis()).collect()
    }

    #[test]
    fn row_18_key_frames_are_gathered_up_to_the_target() {
        assert_eq!(key_cuts(4000, 2000, &[0, 2000, 4000, 6000, 8000]), [0, 4000, 8000]);
        assert_eq!(key_cuts(4000, 1000, &[0, 1000, 2000, 3000, 4000, 5000]), [0, 4000]);
        assert_eq!(key_cuts(4000, 3000, &[0, 3000, 6000]), [0, 3000, 6000]);
        assert_eq!(key_cuts(4000, 4000, &[0, 4000, 8001]), [0, 4000, 8001]);
        assert_eq!(key_cuts(4000, 2002, &[0, 2002, 4004, 6006, 8008]), [0, 4004, 8008], "29.97 frames a second");
        let paused = [0, 2000, 4021, 6021, 8021, 10_021, 12_021];
        assert_eq!(key_cuts(4000, 2000, &paused), [0, 4021, 8021, 12_021], "one pause does not halve all segments");
        let every_picture: Vec<i64> = (0..250).map(|n| n * 40).collect();
        assert_eq!(key_cuts(4000, 40, &every_picture), [0, 4000, 8000], "all are IDRs");
    }

    #[test]
    fn a_long_group_makes_the_rule_careful() {
        assert_eq!(key_cuts(4000, 500, &[0, 500, 3500, 4000, 4500, 7500]), [0, 3500, 7500]);
    }

    #[test]
    fn overdue_is_before_the_rounded_length_would_exceed_the_target() {
        let mut cuts = KeyCuts::new(ms(4000), ms(1500));
        assert!(!cuts.is_overdue(ms(9000)), "before the first cut nothing is due");
        cuts.at_key(ms(0));
        assert!(!cuts.is_overdue(ms(4450)));
        assert!(cuts.is_overdue(ms(4451)));
    }

    #[test]
    fn the_clock_forgives_a_millisecond_of_rounding() {
        let mut cuts = ClockCuts::new(ms(0), ms(2000));
        let frames = [0, 33, 1999, 2033, 3998, 4000, 9000, 9033, 10000];
        let at: Vec<_> =
            frames.iter().filter_map(|&f| cuts.at_frame(ms(f))).map(|c| (c.number, c.pts.as_millis())).collect();
        assert_eq!(at, [(0, 0), (1, 1999), (2, 4000), (3, 9000), (4, 10000)]);
    }

    proptest! {
        #[test]
        fn clock_cuts_have_no_holes_and_keep_the_target(
            start in -1_000_000i64..1_000_000, target in 500i64..10_000, deltas in prop::collection::vec(1i64..100, 1..500)
        ) {
            let mut cuts = ClockCuts::new(ms(start), ms(target));
            let (mut now, mut last, mut number) = (start, start, 0);
            for delta in deltas {
                if let Some(cut) = cuts.at_frame(ms(now)) {
                    prop_assert_eq!(cut.number, number);
                    prop_assert!(now - last <= target + 100);
                    (number, last) = (number + 1, now);
                }
                now += delta;
            }
            prop_assert!(number > 0);
        }

        #[test]
        fn key_cuts_keep_the_target_where_the_groups_allow_it(
            target in 1000i64..10_000, groups in prop::collection::vec(100i64..1000, 1..100)
        ) {
            let mut cuts = KeyCuts::new(ms(target), ms(1000));
            let (mut now, mut last, mut number) = (0, 0, 0);
            for group in groups {
                if let Some(cut) = cuts.at_key(ms(now)) {
                    prop_assert_eq!(cut.number, number);
                    prop_assert!(now - last <= longest(ms(target)).as_millis());
                    (number, last) = (number + 1, now);
                }
                now += group;
            }
        }
    }
}
