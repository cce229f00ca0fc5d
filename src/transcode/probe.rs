//! The first seconds of a source, held back until they have told what it is: pure, bounded in time and bytes.

use crate::media::{AccessUnit, MediaTime};

/// Bytes that may be held back; what comes then must be decided on.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Frames that may be held back, likewise.
const HELD_UNITS_MAX: usize = 4096;

/// Frame rates that a measured one is taken for when it is this near, as a fraction.
const RATE_TOLERANCE: f64 = 0.002;

/// The frame rates of the field, as fractions.
const RATES: [(u32, u32); 12] = [
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
    (15, 1),
    (10, 1),
    (120, 1),
];

/// Frames a second, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameRate {
    pub(super) numerator: u32,
    pub(super) denominator: u32,
}

impl FrameRate {
    /// The usual rate near to `interval` between frames, else the measured one to the thousandth.
    fn of_interval(nanos: f64) -> Self {
        let measured = if nanos > 0.0 { 1e9 / nanos } else { 30.0 };
        let near = |&&(n, d): &&(u32, u32)| (f64::from(n) / f64::from(d) - measured).abs() <= measured * RATE_TOLERANCE;
        let distance = |&(n, d): &(u32, u32)| (f64::from(n) / f64::from(d) - measured).abs();
        let best = RATES.iter().filter(near).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        best.map_or_else(|| Self::thousandths(measured), |&(numerator, denominator)| Self { numerator, denominator })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=300000 before")]
    fn thousandths(measured: f64) -> Self {
        Self { numerator: (measured * 1000.0).round().clamp(1000.0, 300_000.0) as u32, denominator: 1000 }
    }

    /// Frames a second.
    pub(super) fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// The same, but for what measuring a few seconds may get wrong.
    pub(super) fn is_near(self, other: Self) -> bool {
        (self.per_second() - other.per_second()).abs() <= 0.02 * self.per_second()
    }

    /// The time from one frame to the next.
    pub(super) fn interval(self) -> MediaTime {
        MediaTime::from_ticks(i64::from(self.denominator), self.numerator)
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Frames a second.
    pub(super) frame_rate: FrameRate,
    /// The longest distance between two IDRs; none where a second one did not come.
    pub(super) gop: Option<MediaTime>,
    /// Bits a second of the picture.
    pub(super) bitrate: u64,
}

/// Holds video back from the first IDR on.
#[derive(Debug)]
pub(super) struct Probe {
    patience: MediaTime,
    units: Vec<AccessUnit>,
    bytes: usize,
    second_key: bool,
}

impl Probe {
    /// Waits for a second IDR, but no longer than until `patience` of video is held.
    pub(super) fn new(patience: MediaTime) -> Self {
        Self { patience, units: Vec::new(), bytes: 0, second_key: false }
    }

    /// Takes a picture; those before the first IDR are dropped. True when enough is known.
    pub(super) fn push(&mut self, unit: AccessUnit) -> bool {
        if self.units.is_empty() && !unit.key {
            return false;
        }
        self.second_key |= unit.key && !self.units.is_empty();
        self.bytes = self.bytes.saturating_add(unit.data.len());
        self.units.push(unit);
        self.second_key
            || self.held() >= self.patience
            || self.bytes >= HELD_BYTES_MAX
            || self.units.len() >= HELD_UNITS_MAX
    }

    /// Nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// When the first picture is shown.
    pub(super) fn start(&self) -> Option<MediaTime> {
        self.units.first().map(|unit| unit.pts)
    }

    /// How far the held pictures reach.
    pub(super) fn horizon(&self) -> Option<MediaTime> {
        self.units.iter().map(|unit| unit.pts).max()
    }

    fn held(&self) -> MediaTime {
        match (self.units.first(), self.units.last()) {
            (Some(first), Some(last)) => last.dts - first.dts,
            _ => MediaTime::ZERO,
        }
    }

    /// What the held pictures tell.
    pub(super) fn measured(&self) -> Measured {
        Measured { frame_rate: frame_rate(&self.units), gop: gop(&self.units), bitrate: self.bitrate() }
    }

    fn bitrate(&self) -> u64 {
        let millis = u64::try_from(self.held().as_millis()).unwrap_or(0).max(1);
        let bits = u64::try_from(self.bytes).unwrap_or(u64::MAX).saturating_mul(8);
        bits.saturating_mul(1000) / millis.max(100)
    }

    /// The held pictures, in decoding order.
    pub(super) fn into_units(self) -> Vec<AccessUnit> {
        self.units
    }
}

/// The mean of those distances between pictures that are near the median: so neither a gap nor the rounding
/// of single timestamps to milliseconds tells.
fn frame_rate(units: &[AccessUnit]) -> FrameRate {
    let mut times: Vec<i64> = units.iter().map(|unit| unit.pts.as_nanos()).collect();
    times.sort_unstable();
    let mut steps: Vec<i64> =
        times.iter().zip(times.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a)).filter(|&step| step > 0).collect();
    steps.sort_unstable();
    let Some(&median) = steps.get(steps.len() / 2) else {
        return FrameRate { numerator: 30, denominator: 1 };
    };
    let margin = (median / 10).max(1_600_000);
    let near: Vec<f64> =
        steps.iter().filter(|&&step| (step - median).abs() <= margin).map(|&step| step as f64).collect();
    FrameRate::of_interval(near.iter().sum::<f64>() / (near.len().max(1) as f64))
}

fn gop(units: &[AccessUnit]) -> Option<MediaTime> {
    let keys: Vec<MediaTime> = units.iter().filter(|unit| unit.key).map(|unit| unit.pts).collect();
    keys.iter().zip(keys.iter().skip(1)).map(|(&a, &b)| b - a).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn unit(millis: i64, key: bool) -> AccessUnit {
        let at = MediaTime::from_millis(millis);
        AccessUnit { dts: at, pts: at, duration: MediaTime::ZERO, key, data: Bytes::from_static(&[0; 100]) }
    }

    /// Two seconds at `numerator / denominator` frames a second, in whole milliseconds.
    fn rate(numerator: u32, denominator: i64) -> FrameRate {
        let at = |n: i64| MediaTime::from_ticks(n * denominator, numerator).to_ticks(1000);
        let units: Vec<_> = (0..120).map(|n| unit(at(n), n == 0)).collect();
        frame_rate(&units)
    }

    #[test]
    fn usual_rates_are_told_apart_through_millisecond_rounding() {
        assert_eq!(rate(30_000, 1001), FrameRate { numerator: 30_000, denominator: 1001 });
        assert_eq!(rate(30, 1), FrameRate { numerator: 30, denominator: 1 });
        assert_eq!(rate(60_000, 1001), FrameRate { numerator: 60_000, denominator: 1001 });
        assert_eq!(rate(60, 1), FrameRate { numerator: 60, denominator: 1 });
        assert_eq!(rate(24_000, 1001), FrameRate { numerator: 24_000, denominator: 1001 });
        assert_eq!(rate(25, 2), FrameRate { numerator: 12_500, denominator: 1000 });
    }

    #[test]
    fn the_second_idr_ends_the_wait() {
        let mut probe = Probe::new(MediaTime::from_millis(4400));
        assert!(!probe.push(unit(0, false)));
        assert!(probe.is_empty(), "what comes before an IDR cannot be decoded");
        assert!(!probe.push(unit(40, true)));
        assert!(!probe.push(unit(80, false)));
        assert!(probe.push(unit(2040, true)));
        assert_eq!(probe.measured().gop, Some(MediaTime::from_millis(2000)));
        assert_eq!(probe.measured().bitrate, 1200);
        assert_eq!(probe.into_units().len(), 3);
    }

    #[test]
    fn patience_ends_the_wait_for_a_second_idr() {
        let mut probe = Probe::new(MediaTime::from_millis(4400));
        assert!(!probe.push(unit(0, true)));
        assert!(!probe.push(unit(4399, false)));
        assert!(probe.push(unit(4400, false)));
        assert_eq!(probe.measured().gop, None);
    }
}
