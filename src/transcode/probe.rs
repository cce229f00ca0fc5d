//! The first seconds of a source, held back until they have told what it is: pure, bounded in time and bytes.

use std::collections::BTreeMap;

use crate::media::{AccessUnit, MediaTime};

use super::tracks::LATE_MAX;

/// Bytes that may be held back; what comes then must be decided on.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Frames that may be held back, likewise.
const HELD_UNITS_MAX: usize = 4096;

/// A distance between IDRs that is this long, or a multiple of that, is one that an encoder was set to. Another may be a scene cut's (x264
/// puts an IDR there unless told not to, and OBS does not tell it): it must be seen twice to be believed.
const GOP_LONG: MediaTime = MediaTime::from_millis(4000);
const GOP_STEP: MediaTime = MediaTime::from_millis(500);

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
    /// The longest distance between two IDRs; none where it is not known.
    pub(super) gop: Option<MediaTime>,
    /// Bits a second of the picture.
    pub(super) bitrate: u64,
}

/// Holds pictures back, each track from its first IDR on.
#[derive(Debug)]
pub(super) struct Probe {
    patience: MediaTime,
    tracks: BTreeMap<u8, Held>,
}

/// What is held of one track.
#[derive(Debug, Default)]
pub(super) struct Held {
    units: Vec<AccessUnit>,
    bytes: usize,
    /// When the distance of IDRs became known.
    known: Option<MediaTime>,
    /// When the IDR is shown that comes next and is not held.
    next_key: Option<MediaTime>,
}

impl Probe {
    /// Waits until IDRs have shown their distance, but no longer than until `patience` of video is held; of every track, but
    /// not long for those that begin late.
    pub(super) fn new(patience: MediaTime) -> Self {
        Self { patience, tracks: BTreeMap::new() }
    }

    /// Takes a picture of a track; those before its first IDR are dropped.
    pub(super) fn push(&mut self, track: u8, unit: AccessUnit) {
        if unit.key || self.tracks.contains_key(&track) {
            self.tracks.entry(track).or_default().push(unit);
        }
    }

    /// Enough is known. Of several tracks that were `announced`, the slower ones are waited for a little.
    pub(super) fn is_enough(&self, mut announced: impl Iterator<Item = u8>) -> bool {
        let known = |track| self.tracks.get(&track).is_some_and(|held| held.known.is_some());
        self.is_full()
            || self.tracks.values().any(|held| held.since_known() >= LATE_MAX)
            || (!self.is_empty() && (announced.all(known) || self.is_patience_over()))
    }

    fn is_patience_over(&self) -> bool {
        let longest = self.tracks.values().map(Held::duration).max().unwrap_or_default();
        longest >= self.patience + LATE_MAX || self.tracks.values().all(|held| held.duration() >= self.patience)
    }

    fn is_full(&self) -> bool {
        let bytes: usize = self.tracks.values().map(|held| held.bytes).sum();
        bytes >= HELD_BYTES_MAX || self.tracks.values().any(|held| held.units.len() >= HELD_UNITS_MAX)
    }

    /// With the next IDR of a track, shown at `key`, something else begins: what is held ends before it.
    pub(super) fn end(&mut self, track: u8, key: MediaTime) {
        if let Some(held) = self.tracks.get_mut(&track) {
            held.next_key = Some(key);
        }
    }

    /// Nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Lets go of a track, whose format changes.
    pub(super) fn forget(&mut self, track: u8) {
        self.tracks.remove(&track);
    }

    /// What is held, by track.
    pub(super) fn into_tracks(self) -> BTreeMap<u8, Held> {
        self.tracks
    }
}

impl Held {
    fn push(&mut self, unit: AccessUnit) {
        if unit.key && self.known.is_none() && self.tells_gop(unit.pts) {
            self.known = Some(unit.dts);
        }
        self.bytes = self.bytes.saturating_add(unit.data.len());
        self.units.push(unit);
    }

    /// With this IDR, the source's distance of IDRs is known.
    fn tells_gop(&self, key: MediaTime) -> bool {
        let mut before = self.keys().rev();
        let Some(last) = before.next() else { return false };
        let gop = key - last;
        is_usual(gop) || before.next().is_some_and(|first| is_near(gop, last - first))
    }

    /// When the first picture is shown.
    pub(super) fn start(&self) -> Option<MediaTime> {
        self.units.first().map(|unit| unit.pts)
    }

    /// How far the held pictures reach.
    pub(super) fn horizon(&self) -> Option<MediaTime> {
        self.units.iter().map(|unit| unit.pts).max()
    }

    fn duration(&self) -> MediaTime {
        match (self.units.first(), self.units.last()) {
            (Some(first), Some(last)) => last.dts - first.dts,
            _ => MediaTime::ZERO,
        }
    }

    /// How much came after that.
    fn since_known(&self) -> MediaTime {
        match (self.known, self.units.last()) {
            (Some(key), Some(last)) => last.dts - key,
            _ => MediaTime::ZERO,
        }
    }

    /// What the held pictures tell.
    pub(super) fn measured(&self) -> Measured {
        Measured { frame_rate: frame_rate(&self.units), gop: self.gop(), bitrate: self.bitrate() }
    }

    /// Each IDR of `reference` that this track might have is one of this track too: times differ by at most `tolerance`.
    pub(super) fn is_aligned(&self, reference: &Self, tolerance: MediaTime) -> bool {
        let (Some(start), Some(horizon)) = (self.start(), self.horizon()) else { return false };
        let within = |key: &MediaTime| *key + tolerance >= start && *key <= horizon;
        let is_shared = |key: MediaTime| self.keys().any(|own| own.max(key) - own.min(key) <= tolerance);
        let mut shared = reference.keys().filter(within).map(is_shared).peekable();
        shared.peek().is_some() && shared.all(|is_shared| is_shared)
    }

    fn keys(&self) -> impl DoubleEndedIterator<Item = MediaTime> {
        self.units.iter().filter(|unit| unit.key).map(|unit| unit.pts)
    }

    /// The longest distance of IDRs. None where there is but one, and where the last has lasted longer than any before it.
    fn gop(&self) -> Option<MediaTime> {
        let keys: Vec<MediaTime> = self.keys().chain(self.next_key).collect();
        let longest = keys.iter().zip(keys.iter().skip(1)).map(|(&a, &b)| b - a).max()?;
        let open = self.horizon()? - *keys.last()?;
        (open <= longest).then_some(longest)
    }

    fn bitrate(&self) -> u64 {
        let millis = u64::try_from(self.duration().as_millis()).unwrap_or(0).max(1);
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

/// A distance that an encoder was set to.
fn is_usual(gop: MediaTime) -> bool {
    let step = GOP_STEP.as_nanos();
    let steps = gop.as_nanos().saturating_add(step / 2) / step;
    gop >= GOP_LONG || (steps > 0 && is_near(gop, MediaTime::from_nanos(steps.saturating_mul(step))))
}

/// The same but for rounding to milliseconds, and for rates like 29.97.
fn is_near(gop: MediaTime, other: MediaTime) -> bool {
    let tolerance = MediaTime::from_nanos(other.as_nanos() / 500) + MediaTime::from_millis(2);
    gop.max(other) - gop.min(other) <= tolerance
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

    /// Of a source of one track.
    fn push(probe: &mut Probe, track: u8, unit: AccessUnit) -> bool {
        probe.push(track, unit);
        probe.is_enough([0].into_iter())
    }

    #[test]
    fn the_second_idr_ends_the_wait() {
        let mut probe = Probe::new(MediaTime::from_millis(4400));
        assert!(!push(&mut probe, 0, unit(0, false)));
        assert!(probe.is_empty(), "what comes before an IDR cannot be decoded");
        assert!(!push(&mut probe, 0, unit(40, true)));
        assert!(!push(&mut probe, 0, unit(80, false)));
        assert!(push(&mut probe, 0, unit(2040, true)));
        let held = probe.into_tracks().remove(&0).unwrap();
        assert_eq!(held.measured().gop, Some(MediaTime::from_millis(2000)));
        assert_eq!(held.measured().bitrate, 1200);
        assert_eq!(held.into_units().len(), 3);
    }

    #[test]
    fn patience_ends_the_wait_for_a_second_idr() {
        let mut probe = Probe::new(MediaTime::from_millis(4400));
        assert!(!push(&mut probe, 0, unit(0, true)));
        assert!(!push(&mut probe, 0, unit(4399, false)));
        assert!(push(&mut probe, 0, unit(4400, false)));
        assert_eq!(probe.into_tracks()[&0].measured().gop, None);
    }

    #[test]
    fn a_scene_cut_does_not_pass_for_a_gop() {
        // OBS at its defaults: a scene cut at 0.7 s, and the next IDR at 9.03 s.
        let mut probe = Probe::new(MediaTime::from_millis(4400));
        assert!(!push(&mut probe, 0, unit(0, true)));
        assert!(!push(&mut probe, 0, unit(700, true)));
        assert!(!push(&mut probe, 0, unit(4360, false)));
        assert!(push(&mut probe, 0, unit(4400, false)));
        assert_eq!(probe.into_tracks()[&0].measured().gop, None, "the second group has not ended");
    }

    #[test]
    fn an_odd_gop_is_believed_when_it_comes_again() {
        let known = |keys: &[i64]| {
            let mut probe = Probe::new(MediaTime::from_millis(20_000));
            keys.iter().position(|&at| push(&mut probe, 0, unit(at, true)))
        };
        assert_eq!(known(&[0, 40, 80]), Some(2), "all IDRs");
        assert_eq!(known(&[0, 1600, 3200]), Some(2));
        assert_eq!(known(&[0, 1000]), Some(1));
        assert_eq!(known(&[0, 2002]), Some(1), "60 frames at 29.97");
        assert_eq!(known(&[0, 700, 9033]), Some(2));
        assert_eq!(known(&[0, 700, 2300, 3900]), Some(3));
    }

    #[test]
    fn row_32_announced_tracks_are_waited_for_but_not_for_long() {
        let mut probe = Probe::new(MediaTime::from_millis(9000));
        let announced = || [0, 1].into_iter();
        for (track, at) in [(0, 0), (1, 0), (0, 2000)] {
            probe.push(track, unit(at, true));
            assert!(!probe.is_enough(announced()), "{track} at {at}");
        }
        let mut other = Probe::new(MediaTime::from_millis(9000));
        [0, 2000].iter().for_each(|&at| other.push(0, unit(at, true)));
        other.push(0, unit(4999, false));
        assert!(!other.is_enough(announced()), "the other may only be slower");
        other.push(0, unit(5000, false));
        assert!(other.is_enough(announced()));
        probe.push(1, unit(2001, true));
        assert!(probe.is_enough(announced()));
    }

    #[test]
    fn row_32_alignment_is_judged_by_the_reference() {
        let held = |keys: &[i64], until: i64| {
            let mut held = Held::default();
            (0..=until).step_by(40).for_each(|at| held.push(unit(at, keys.contains(&at))));
            held
        };
        let tolerance = MediaTime::from_millis(20);
        let reference = held(&[0, 2000], 2400);
        assert!(held(&[0, 2000], 2400).is_aligned(&reference, tolerance));
        assert!(held(&[0, 1000, 2000], 2400).is_aligned(&reference, tolerance), "it may have more");
        assert!(held(&[0], 1960).is_aligned(&reference, tolerance), "the second may be to come");
        assert!(!held(&[0], 2000).is_aligned(&reference, tolerance));
        assert!(!held(&[0, 1600], 2400).is_aligned(&reference, tolerance));
    }
}
