//! Where decoded samples belong: on a grid that is exact over days and follows the source's times. Pure.
//!
//! A source tells when a packet begins, in whole milliseconds and not evenly. Samples are laid end to end while that fits,
//! and put right by silence or by leaving some out where it does not.

use crate::media::MediaTime;

/// A packet that is this far from its place is put right at once.
const OFF_MAX: MediaTime = MediaTime::from_millis(60);

/// Where all packets of a second are at least this far from their places, to the same side, they are put right: a packet was lost,
/// or the source's two clocks drift apart.
const DRIFT_MAX: MediaTime = MediaTime::from_millis(20);

/// A longer gap is not filled: the grid begins anew after it.
const FILLED_MAX: MediaTime = MediaTime::from_millis(500);

/// What is to be done with a block of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    /// The grid begins with it.
    Anew,
    /// It goes on: after this many samples of silence, and without this many of its first.
    On {
        /// Samples, of each channel.
        silence: i64,
        /// Samples, of each channel; no more than the block has.
        skip: i64,
    },
}

/// The grid.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    rate: u32,
    anchor: Option<MediaTime>,
    /// Since the anchor.
    samples: i64,
    /// Samples are known to be missing before the next block.
    torn: bool,
    drift: Drift,
}

/// How far off the packets of the last second were: the least and the most, and how many samples they had.
#[derive(Clone, Copy, Debug, Default)]
struct Drift {
    seen: Option<(MediaTime, MediaTime)>,
    samples: i64,
}

impl Grid {
    /// Of so many samples a second, without a place yet.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, anchor: None, samples: 0, torn: false, drift: Drift::default() }
    }

    /// When the first sample of the grid is heard.
    pub(super) fn anchor(&self) -> Option<MediaTime> {
        self.anchor
    }

    /// Where what was placed ends.
    pub(super) fn end(&self) -> Option<MediaTime> {
        self.anchor.map(|anchor| anchor + MediaTime::from_ticks(self.samples, self.rate))
    }

    /// The next block begins a grid.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.rate);
    }

    /// A packet was lost: whatever is missing before the next one is put right with it.
    pub(super) fn tear(&mut self) {
        self.torn = true;
    }

    /// Takes a block of `samples` that the source says begins at `at`.
    pub(super) fn place(&mut self, at: MediaTime, samples: i64) -> Placing {
        let Some(end) = self.end() else { return self.begin(at, samples) };
        let off = at - end;
        if off > FILLED_MAX {
            return self.begin(at, samples);
        }
        let mend = match std::mem::take(&mut self.torn) {
            true if off > MediaTime::ZERO => off,
            _ => self.drift.mend(off, samples, i64::from(self.rate)),
        };
        let mend = mend.to_ticks(self.rate);
        let (silence, skip) = (mend.max(0), mend.saturating_neg().clamp(0, samples));
        self.samples = self.samples.saturating_add(samples - skip).saturating_add(silence);
        Placing::On { silence, skip }
    }

    fn begin(&mut self, at: MediaTime, samples: i64) -> Placing {
        *self = Self { anchor: Some(at), samples, ..Self::new(self.rate) };
        Placing::Anew
    }
}

impl Drift {
    /// By how much to put right now, with a block that is `off` by this.
    fn mend(&mut self, off: MediaTime, samples: i64, second: i64) -> MediaTime {
        if off > OFF_MAX || off < -OFF_MAX {
            *self = Self::default();
            return off;
        }
        let (least, most) = self.seen.map_or((off, off), |(least, most)| (least.min(off), most.max(off)));
        (self.seen, self.samples) = (Some((least, most)), self.samples.saturating_add(samples));
        if self.samples < second {
            return MediaTime::ZERO;
        }
        *self = Self::default();
        match (least, most) {
            (least, _) if least > DRIFT_MAX => least,
            (_, most) if most < -DRIFT_MAX => most,
            _ => MediaTime::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: u32 = 48_000;
    const BLOCK: i64 = 960;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn at(grid: &Grid) -> MediaTime {
        grid.end().unwrap()
    }

    #[test]
    fn row_23_uneven_times_leave_the_sound_whole_for_days() {
        let mut grid = Grid::new(RATE);
        assert_eq!(grid.place(ms(7), BLOCK), Placing::Anew);
        for n in 1..3 * 24 * 3600 * 50_i64 {
            let jitter = [0, 15, -11, 3][usize::try_from(n % 4).unwrap()];
            assert_eq!(grid.place(ms(7 + n * 20 + jitter), BLOCK), Placing::On { silence: 0, skip: 0 });
        }
        assert_eq!(at(&grid), ms(7 + 3 * 24 * 3_600_000));
    }

    #[test]
    fn a_gap_is_filled_and_a_long_one_begins_anew() {
        let mut grid = Grid::new(RATE);
        grid.place(ms(0), BLOCK);
        assert_eq!(grid.place(ms(320), BLOCK), Placing::On { silence: 300 * 48, skip: 0 });
        assert_eq!(grid.place(ms(340), BLOCK), Placing::On { silence: 0, skip: 0 });
        assert_eq!(grid.place(ms(5000), BLOCK), Placing::Anew);
        assert_eq!(grid.anchor(), Some(ms(5000)));
    }

    #[test]
    fn what_overlaps_is_left_out() {
        let mut grid = Grid::new(RATE);
        grid.place(ms(0), 48_000);
        assert_eq!(grid.place(ms(20), 48_000), Placing::On { silence: 0, skip: 980 * 48 });
        assert_eq!(grid.place(ms(40), BLOCK), Placing::On { silence: 0, skip: BLOCK });
    }

    #[test]
    fn a_lost_packet_is_made_up_for_within_a_second() {
        let mut grid = Grid::new(RATE);
        grid.place(ms(0), BLOCK);
        for n in 2..100 {
            grid.place(ms(n * 21), 1008);
        }
        assert!((at(&grid) - ms(100 * 21)).as_millis().abs() <= 1, "{:?}", at(&grid));
        grid.tear();
        assert_eq!(grid.place(ms(101 * 21), 1008), Placing::On { silence: 1008, skip: 0 });
    }

    proptest! {
        #[test]
        fn the_grid_stays_near_the_source(drift in -20i64..20, jitter in prop::collection::vec(0i64..20, 1..400)) {
            let mut grid = Grid::new(RATE);
            for (n, jitter) in (0i64..).zip(jitter) {
                let time = ms(n * (20_000 + drift * 10) / 1000 + jitter);
                grid.place(time, BLOCK);
                let off = at(&grid) - time - ms(20);
                prop_assert!(off <= ms(61) && off >= -ms(61), "{off:?}");
            }
        }
    }
}
