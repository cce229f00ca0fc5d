//! What a rendition declares of its bit rate, and whether that holds (RFC 8216bis, 4.4.6.2).
//!
//! Declared from what the encoder was told, before there is media to measure; raised where media shows more; never
//! lowered, as players that have the old value would not learn of it.

use std::collections::VecDeque;

use crate::live::Segment;
use crate::media::MediaTime;

/// The two rates of a rendition, in bits a second, container included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    /// The largest of any contiguous segments that last between 0.5 and 1.5 target durations.
    pub(super) peak: u64,
    /// That of the segments that a playlist lists.
    pub(super) average: u64,
}

/// What a rendition's rates are first declared from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Of media only.
    pub(super) peak: u64,
    /// Of media only.
    pub(super) average: u64,
    /// Frames a second.
    pub(super) frame_rate: f64,
    /// Parts a second.
    pub(super) part_rate: f64,
}

/// Bits that a frame costs in a `trun`: duration, size, flags and composition offset.
const FRAME_BITS: f64 = 8.0 * 16.0;
/// Bits that a part costs by its boxes, with some to spare.
const PART_BITS: f64 = 8.0 * 128.0;

impl Expected {
    fn rates(self) -> Rates {
        let overhead = whole(self.frame_rate * FRAME_BITS + self.part_rate * PART_BITS);
        let peak = self.peak.max(self.average).saturating_add(overhead);
        Rates { peak, average: self.average.saturating_add(overhead) }
    }
}

/// The measure; see the module.
#[derive(Debug)]
pub(super) struct Bandwidth {
    declared: Rates,
    target: MediaTime,
    /// Bits and duration of the last segments, no longer together than a peak is measured over.
    recent: VecDeque<(u64, MediaTime)>,
}

impl Bandwidth {
    pub(super) fn new(expected: Expected, target: MediaTime) -> Self {
        Self { declared: expected.rates(), target, recent: VecDeque::new() }
    }

    /// Of what nothing is expected: declared is what was measured.
    pub(super) fn unknown(target: MediaTime) -> Self {
        Self { declared: Rates { peak: 0, average: 0 }, target, recent: VecDeque::new() }
    }

    /// A further run expects this.
    pub(super) fn expect(&mut self, expected: Expected) {
        self.declare(expected.rates());
    }

    /// At least this is declared.
    pub(super) fn declare(&mut self, rates: Rates) {
        self.declared.peak = self.declared.peak.max(rates.peak);
        self.declared.average = self.declared.average.max(rates.average);
    }

    pub(super) fn declared(&self) -> Rates {
        self.declared
    }

    /// Measures what was finished, and what the playlist `lists` with it. True if the declaration had to be raised.
    pub(super) fn measure(&mut self, finished: &impl Weighed, listed: impl Iterator<Item = impl Weighed>) -> bool {
        let before = self.declared;
        let Some(weight) = finished.weight() else {
            self.recent.clear();
            return false;
        };
        self.recent.push_back(weight);
        self.raise_peak();
        self.raise_average(listed);
        self.declared.peak = self.declared.peak.max(self.declared.average);
        self.declared != before
    }

    fn raise_peak(&mut self) {
        let (mut bits, mut duration) = (0, MediaTime::ZERO);
        for (position, (segment_bits, segment_duration)) in self.recent.iter().rev().enumerate() {
            (bits, duration) = (bits + segment_bits, duration + *segment_duration);
            let doubled = duration + duration;
            if doubled > self.target + self.target + self.target {
                let keep = self.recent.len() - position.max(1);
                self.recent.drain(..keep);
                return;
            }
            if doubled >= self.target {
                self.declared.peak = raised(self.declared.peak, rate(bits, duration));
            }
        }
    }

    /// An average over less than a playlist may be short of is no average yet: an IDR weighs too much in it.
    fn raise_average(&mut self, listed: impl Iterator<Item = impl Weighed>) {
        let (rate, duration) = average(listed);
        if duration >= self.target + self.target + self.target {
            self.declared.average = raised(self.declared.average, rate);
        }
    }

    /// Measures what a playlist lists in the end, be it ever so short. True if the declaration had to be raised.
    pub(super) fn measure_last(&mut self, listed: impl Iterator<Item = impl Weighed>) -> bool {
        let before = self.declared;
        self.declared.average = raised(self.declared.average, average(listed).0);
        self.declared.peak = self.declared.peak.max(self.declared.average);
        self.declared != before
    }
}

/// What a bit rate is measured over.
pub(super) trait Weighed {
    /// Bits, and how long they last; none of a gap, and where nobody knows.
    fn weight(&self) -> Option<(u64, MediaTime)>;
}

impl Weighed for Segment {
    fn weight(&self) -> Option<(u64, MediaTime)> {
        Some((self.bytes()?.saturating_mul(8), self.duration))
    }
}

impl<W: Weighed> Weighed for &W {
    fn weight(&self) -> Option<(u64, MediaTime)> {
        W::weight(self)
    }
}

/// The bit rate of what is listed, and how long it lasts.
fn average(listed: impl Iterator<Item = impl Weighed>) -> (u64, MediaTime) {
    let media = listed.filter_map(|one| one.weight());
    let (bits, duration) = media.fold((0, MediaTime::ZERO), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (rate(bits, duration), duration)
}

/// `declared`, or where it was exceeded enough more than `measured` that it is not exceeded again at once.
fn raised(declared: u64, measured: u64) -> u64 {
    if measured > declared { (measured + measured / 20).next_multiple_of(1_000) } else { declared }
}

/// Bits a second, rounded up.
fn rate(bits: u64, duration: MediaTime) -> u64 {
    let nanos = u128::from(duration.as_nanos().max(1).unsigned_abs());
    u64::try_from((u128::from(bits) * 1_000_000_000).div_ceil(nanos)).unwrap_or(u64::MAX)
}

/// The next whole number, of a rate that is small and positive; 0 for what is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer saturates, and is meant to"
)]
fn whole(bits: f64) -> u64 {
    bits.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Media;
    use crate::packager::testing;

    const TARGET: MediaTime = MediaTime::from_millis(4_000);

    fn bandwidth() -> Bandwidth {
        let expected = Expected { peak: 1_000_000, average: 800_000, frame_rate: 30.0, part_rate: 2.0 };
        Bandwidth::new(expected, TARGET)
    }

    fn segment(millis: i64, bits_a_second: i64) -> Segment {
        let bytes = usize::try_from(millis * bits_a_second / 8_000).unwrap();
        let media = Media::Hot { data: vec![0; bytes].into(), parts: Vec::new() };
        Segment { media, ..testing::segment(1, millis) }
    }

    #[test]
    fn the_container_is_declared_too() {
        assert_eq!(bandwidth().declared(), Rates { peak: 1_005_888, average: 805_888 });
    }

    #[test]
    fn a_peak_raises_what_is_declared_and_nothing_lowers_it() {
        let mut bandwidth = bandwidth();
        let large = segment(4_000, 1_200_000);
        assert!(bandwidth.measure(&large, [&large].into_iter()));
        assert_eq!(bandwidth.declared(), Rates { peak: 1_260_000, average: 805_888 });
        let small = segment(4_000, 1_000);
        assert!(!bandwidth.measure(&small, [&small].into_iter()));
    }

    #[test]
    fn a_short_segment_counts_with_its_neighbour() {
        let mut bandwidth = bandwidth();
        let short = segment(1_000, 3_000_000);
        assert!(!bandwidth.measure(&short, std::iter::empty::<&Segment>()), "shorter than half a target duration");
        assert!(bandwidth.measure(&segment(1_500, 900_000), std::iter::empty::<&Segment>()));
        assert_eq!(bandwidth.declared().peak, 1_827_000);
    }

    #[test]
    fn a_long_average_raises() {
        let mut bandwidth = bandwidth();
        let segments = [segment(4_000, 900_000), segment(4_000, 900_000), segment(4_000, 900_000)];
        assert!(!bandwidth.measure(&segments[0], segments[..2].iter()));
        assert!(bandwidth.measure(&segments[2], segments.iter()));
        assert_eq!(bandwidth.declared().average, 945_000);
    }

    #[test]
    fn in_the_end_a_short_average_counts() {
        let mut bandwidth = bandwidth();
        let only = segment(1_000, 2_000_000);
        assert!(!bandwidth.measure(&only, [&only].into_iter()));
        assert!(bandwidth.measure_last([&only].into_iter()));
        assert_eq!(bandwidth.declared(), Rates { peak: 2_100_000, average: 2_100_000 });
    }
}
