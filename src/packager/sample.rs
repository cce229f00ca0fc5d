//! From access units to samples: times become ticks, and durations become known.
//!
//! A sample lasts until the next one's decode time, so each is given out one unit late. Ticks are rounded from
//! absolute times: durations add up to differences of decode times, and no rounding error adds up.

use bytes::Bytes;

use crate::media::{AccessUnit, MediaTime};

/// One frame in a track's own ticks, as boxes describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Decode time.
    pub start: i64,
    /// How long it lasts in decode time.
    pub duration: u32,
    /// Presentation time after decode time; not negative.
    pub offset: i32,
    /// Decoding may start here.
    pub key: bool,
    /// The frame.
    pub data: Bytes,
}

impl Sample {
    /// The decode time at which it ends.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.start.saturating_add(i64::from(self.duration))
    }
}

/// Times the units of one track.
#[derive(Debug)]
pub(super) struct Sampler {
    timescale: u32,
    waiting: Option<Waiting>,
    /// The duration of the last sample that the source did not hold up; for one of which nothing better is known.
    usual: u32,
    /// Where the last stretch of units ended.
    ended: i64,
}

/// A unit whose duration is not known yet.
#[derive(Debug)]
struct Waiting {
    tick: i64,
    unit: AccessUnit,
}

impl Sampler {
    /// `frame` is a guess at a frame's duration, for a track of one frame only.
    pub(super) fn new(timescale: u32, frame: MediaTime) -> Self {
        Self { timescale, waiting: None, usual: duration(frame.to_ticks(timescale)), ended: 0 }
    }

    /// Takes the next unit and gives out the one before. Where a stretch of units is missing between the two, the one
    /// before ends at `boundary` at the latest.
    pub(super) fn push(&mut self, unit: AccessUnit, boundary: Option<MediaTime>) -> Option<Sample> {
        let mut tick = unit.dts.to_ticks(self.timescale).max(self.ended);
        let Some(before) = self.waiting.take() else {
            self.waiting = Some(Waiting { tick, unit });
            return None;
        };
        // Decode times strictly increase; rounding, or an encoder's slip, must not make a sample of no duration.
        tick = tick.max(before.tick.saturating_add(1));
        let end = boundary.map_or(tick, |b| self.end_before_hole(&before, tick, b));
        self.waiting = Some(Waiting { tick, unit });
        Some(self.sample(before, end))
    }

    /// Gives out the last unit, which lasts until `boundary`; else as long as it says, or as long as the one before it.
    pub(super) fn finish(&mut self, boundary: Option<MediaTime>) -> Option<Sample> {
        let last = self.waiting.take()?;
        let end = last.tick.saturating_add(i64::from(self.nominal(&last.unit)));
        let usual = self.usual;
        self.ended = boundary.map_or(end, |boundary| end.max(boundary.to_ticks(self.timescale)));
        let sample = self.sample(last, self.ended);
        self.usual = usual;
        Some(sample)
    }

    /// The tick of the unit that was pushed last.
    pub(super) fn tick(&self) -> Option<i64> {
        self.waiting.as_ref().map(|w| w.tick)
    }

    /// Where `before` ends if the next unit is at `tick` in another segment, which begins at `boundary`.
    fn end_before_hole(&self, before: &Waiting, tick: i64, boundary: MediaTime) -> i64 {
        let nominal = before.tick.saturating_add(i64::from(self.nominal(&before.unit)));
        let hole = tick.saturating_sub(nominal) > i64::from(self.nominal(&before.unit));
        if hole { tick.min(nominal.max(boundary.to_ticks(self.timescale))) } else { tick }
    }

    /// A unit's duration by itself.
    fn nominal(&self, unit: &AccessUnit) -> u32 {
        let said = duration(unit.duration.to_ticks(self.timescale));
        if unit.duration > MediaTime::ZERO { said } else { self.usual }
    }

    fn sample(&mut self, waiting: Waiting, end: i64) -> Sample {
        let Waiting { tick, unit } = waiting;
        let duration = duration(end.saturating_sub(tick));
        // A picture that stood still is not usual.
        if duration <= self.usual.saturating_mul(STILL) {
            self.usual = duration;
        }
        let offset = unit.pts.to_ticks(self.timescale).saturating_sub(tick).max(0);
        Sample {
            start: tick,
            duration,
            offset: i32::try_from(offset).unwrap_or(i32::MAX),
            key: unit.key,
            data: unit.data,
        }
    }
}

/// How many times longer than the one before a sample is that the source held up.
const STILL: u32 = 4;

/// A span as a box holds it; at least a tick.
fn duration(ticks: i64) -> u32 {
    u32::try_from(ticks.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(dts_millis: i64, pts_millis: i64) -> AccessUnit {
        AccessUnit {
            dts: MediaTime::from_millis(dts_millis),
            pts: MediaTime::from_millis(pts_millis),
            duration: MediaTime::ZERO,
            key: false,
            data: Bytes::from_static(b"frame"),
        }
    }

    #[test]
    fn durations_are_differences_and_the_last_repeats() {
        let mut sampler = Sampler::new(90_000, MediaTime::from_millis(40));
        assert_eq!(sampler.push(unit(10_000, 10_067), None), None);
        let first = sampler.push(unit(10_033, 10_033), None).unwrap();
        assert_eq!((first.start, first.duration, first.offset), (900_000, 2_970, 6_030));
        let last = sampler.finish(None).unwrap();
        assert_eq!((last.start, last.duration, last.offset), (902_970, 2_970, 0));
    }

    #[test]
    fn rounding_makes_no_negative_offset_and_no_empty_sample() {
        let mut sampler = Sampler::new(90_000, MediaTime::from_millis(40));
        sampler.push(unit(10_000, 9_999), None);
        let first = sampler.push(unit(10_000, 10_000), None).unwrap();
        assert_eq!((first.duration, first.offset), (1, 0));
    }

    #[test]
    fn a_hole_ends_at_the_boundary() {
        let mut sampler = Sampler::new(48_000, MediaTime::from_millis(20));
        sampler.push(unit(1_000, 1_000), None);
        let before = sampler.push(unit(9_000, 9_000), Some(MediaTime::from_millis(4_000))).unwrap();
        assert_eq!(before.end(), 4 * 48_000);
        assert_eq!(sampler.tick(), Some(9 * 48_000));
    }
}
