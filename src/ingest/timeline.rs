//! Timeline repair: the timestamps of an encoder, which wrap, jump, repeat and round, become times on the channel's timeline.
//!
//! Pure: timestamps in, times out. The rules:
//!
//! 1. A time is the source's timestamp and an offset. The offset holds until the source's clock jumps (`Source`): then the
//!    track that sees it first chooses another, so that the output goes on, and the others follow when they get there.
//! 2. Further tracks join where their timestamps say; by their arrival, where that cannot be true.
//! 3. Decoding times that do not increase are moved behind the last, and those after them are where they would have been.
//! 4. Sound is placed by counting its samples, and the count follows the timestamps (`sample_grid`).
//!
//! So what leaves strictly increases in each track, keeps the distance of the tracks, and no repair outlasts its fault.
//! Every repair is reported.

use std::collections::BTreeMap;

use super::sample_grid::{Placed, SampleGrid};
use crate::media::MediaTime;

/// What was mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// A decoding time was not later than the one before, and was moved behind it.
    DtsClamped,
    /// A composition time was out of all reason, and was limited.
    CompositionClamped,
    /// The source's clock jumped; the output goes on without a gap.
    TimestampJump,
    /// Sound and picture began too far apart to be true; they were aligned by their arrival.
    AudioAligned,
    /// A further picture began too far from the first to be true; it was aligned by its arrival.
    TrackAligned,
    /// There was more sound than time for it, and the surplus was left out.
    AudioTrimmed,
    /// The sound's timestamps left what its samples add up to; it was placed anew.
    AudioAnchored,
    /// The clock of the sound's samples drifts from that of its timestamps; it was followed by a millisecond.
    AudioDrift,
}

impl Repair {
    /// The word for the metric's label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DtsClamped => "dts_clamped",
            Self::CompositionClamped => "composition_clamped",
            Self::TimestampJump => "timestamp_jump",
            Self::AudioAligned => "audio_aligned",
            Self::TrackAligned => "track_aligned",
            Self::AudioTrimmed => "audio_trimmed",
            Self::AudioAnchored => "audio_anchored",
            Self::AudioDrift => "audio_drift",
        }
    }
}

/// When a picture is decoded and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureTime {
    /// Decoded.
    pub dts: MediaTime,
    /// Shown.
    pub pts: MediaTime,
}

/// What becomes of an audio frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioTime {
    /// The picture has not begun: where the sound belongs is not known yet. Ask again after the first IDR.
    Early,
    /// It is over before the first picture is shown, and not to be sent on.
    BeforeStart,
    /// There is more sound than time: it is not to be sent on.
    Surplus,
    /// It is heard from here.
    At(MediaTime),
}

/// One publisher's timeline.
#[derive(Debug)]
pub struct Timeline {
    start: MediaTime,
    clock: Clock,
    source: Source,
    /// By the track's number; as many as the caller takes.
    pictures: BTreeMap<u8, PictureLane>,
    audio: Lane,
    grid: Option<SampleGrid>,
    repairs: Vec<Repair>,
}

impl Timeline {
    /// A timeline whose first IDR is shown at `start`.
    #[must_use]
    pub fn new(start: MediaTime) -> Self {
        Self {
            start,
            clock: Clock::default(),
            source: Source::default(),
            pictures: BTreeMap::new(),
            audio: Lane::new(MediaTime::from_millis(21)),
            grid: None,
            repairs: Vec::new(),
        }
    }

    /// Says how the audio is sampled: at the start, and again where it changes. `rate` is not 0.
    pub fn set_audio(&mut self, rate: u32) {
        self.grid = match self.grid.take() {
            None => Some(SampleGrid::new(rate)),
            Some(old) => Some(old.converted(rate)),
        };
    }

    /// The first picture has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.source.offset.is_some()
    }

    /// This picture track has begun.
    #[must_use]
    pub fn has_picture(&self, track: u8) -> bool {
        self.pictures.contains_key(&track)
    }

    /// What was mended since the last call.
    pub fn take_repairs(&mut self) -> Vec<Repair> {
        std::mem::take(&mut self.repairs)
    }

    /// Whether the source's clock jumped since the last call: once for each jump, with the first time behind it.
    pub fn take_discontinuity(&mut self) -> bool {
        std::mem::take(&mut self.source.jumped)
    }

    /// Places a picture of a track, shown `composition` after its timestamp. None before the track's first key picture; and of
    /// tracks other than 0 before that of track 0, which begins the timeline.
    pub fn video(&mut self, track: u8, timestamp: u32, composition: MediaTime, key: bool) -> Option<PictureTime> {
        let raw = self.clock.unwrap(timestamp);
        let is_known = self.pictures.contains_key(&track);
        if !is_known && !(key && (track == 0 || self.has_begun())) {
            return None;
        }
        let picture = self.pictures.entry(track).or_default();
        let composition = picture.composition(composition, &mut self.repairs);
        if !self.source.is_begun() {
            self.source.begin(raw, self.start - composition);
        }
        if !is_known && picture.lane.join(raw, &self.source) {
            self.repairs.push(Repair::TrackAligned);
        }
        let time = picture.place(raw, composition, &mut self.source, &mut self.repairs);
        if let Some(audio_raw) = self.audio.early.take() {
            self.join_audio(audio_raw);
        }
        Some(time)
    }

    /// Places `samples` of sound, heard `nanos` nanoseconds after their timestamp. [`Timeline::set_audio`] comes first; without it
    /// everything is early.
    pub fn audio(&mut self, timestamp: u32, nanos: u32, samples: u32) -> AudioTime {
        let raw = self.clock.unwrap(timestamp);
        if !self.has_begun() || self.grid.is_none() {
            self.audio.early = Some(raw);
            return AudioTime::Early;
        }
        if self.audio.offset.is_none() {
            self.join_audio(raw);
        }
        let Some(grid) = &mut self.grid else { return AudioTime::Early };
        let stuck = grid.is_stuck();
        let base = self.audio.place(raw, MediaTime::ZERO, stuck, &mut self.source, &mut self.repairs);
        let measured = base + MediaTime::from_nanos(nanos.into());
        if self.audio.last.is_none() && measured + grid.span(samples) <= self.start {
            return AudioTime::BeforeStart;
        }
        match grid.place(measured, samples) {
            Placed::Counted(time) => self.heard(time),
            Placed::Drifted(time) => {
                self.repairs.push(Repair::AudioDrift);
                self.heard(time)
            }
            Placed::Anchored(time) => {
                self.repairs.push(Repair::AudioAnchored);
                self.heard(time)
            }
            Placed::Surplus => {
                self.repairs.push(Repair::AudioTrimmed);
                AudioTime::Surplus
            }
        }
    }

    fn heard(&mut self, time: MediaTime) -> AudioTime {
        self.audio.sent(time, &mut self.source);
        AudioTime::At(time)
    }

    /// Decides where the audio lies to the video, from the audio's timestamp that arrives now.
    fn join_audio(&mut self, raw: i64) {
        if self.audio.join(raw, &self.source) {
            self.repairs.push(Repair::AudioAligned);
        }
    }
}

/// Makes 64 bits of the 32 of a timestamp, by taking the way that is the shortest; some encoders count in 24 or 31 bits.
#[derive(Debug, Default)]
struct Clock {
    last: Option<(u32, i64)>,
}

impl Clock {
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.last {
            None => i64::from(timestamp),
            Some((last, unwrapped)) => unwrapped.saturating_add(shortest_way(last, timestamp)),
        };
        self.last = Some((timestamp, unwrapped));
        unwrapped
    }
}

fn shortest_way(from: u32, to: u32) -> i64 {
    let forward = i64::from(to.wrapping_sub(from));
    let way = if forward < 1 << 31 { forward } else { forward - (1 << 32) };
    let narrower = [1i64 << 24, 1 << 31].into_iter().flat_map(|wrap| [way + wrap, way - wrap]);
    narrower
        .filter(|w| w.abs() < JUMP_MILLIS_MAX && way.abs() >= JUMP_MILLIS_MAX)
        .min_by_key(|w| w.abs())
        .unwrap_or(way)
}

/// The source's clock, as the tracks have found it.
#[derive(Debug, Default)]
struct Source {
    /// Counts its jumps.
    epoch: u64,
    /// What is added to timestamps behind the last jump; none before the beginning.
    offset: Option<MediaTime>,
    /// The last timestamp behind the last jump.
    raw: i64,
    /// The latest time that was given out.
    head: MediaTime,
    /// It jumped, and nobody asked since.
    jumped: bool,
}

impl Source {
    fn is_begun(&self) -> bool {
        self.offset.is_some()
    }

    /// The timestamp `raw` is at `time`.
    fn begin(&mut self, raw: i64, time: MediaTime) {
        self.raw = raw;
        self.head = time;
        self.offset = Some(time - MediaTime::from_millis(raw));
    }

    fn is_near(&self, raw: i64) -> bool {
        raw.abs_diff(self.raw) < JUMP_MILLIS_MAX.unsigned_abs()
    }
}

/// One track's way onto the channel's timeline.
#[derive(Debug)]
struct Lane {
    /// The last timestamp.
    raw: Option<i64>,
    /// A timestamp from before the beginning.
    early: Option<i64>,
    /// What makes this track's timestamps those of the source, where their clocks are unrelated.
    shift: i64,
    /// What is added to a timestamp.
    offset: Option<MediaTime>,
    /// The jumps of the source's clock that this offset takes into account.
    epoch: u64,
    /// The last time that was given out.
    last: Option<MediaTime>,
    /// The distance of the last two.
    interval: MediaTime,
}

impl Lane {
    fn new(interval: MediaTime) -> Self {
        Self { raw: None, early: None, shift: 0, offset: None, epoch: 0, last: None, interval }
    }

    /// Begins where the others are. True where its timestamps are too far from theirs, and it was aligned by its arrival.
    fn join(&mut self, raw: i64, source: &Source) -> bool {
        self.epoch = source.epoch;
        self.offset = source.offset;
        let unrelated = raw.abs_diff(source.raw) > OFFSET_MILLIS_MAX;
        if unrelated {
            self.shift = source.raw.saturating_sub(raw);
        }
        unrelated
    }

    /// Maps a timestamp. Where it jumps, or the track is stuck, the offset changes so that the output goes on. `back` is what
    /// the caller takes off the time.
    fn place(
        &mut self,
        raw: i64,
        back: MediaTime,
        stuck: bool,
        source: &mut Source,
        repairs: &mut Vec<Repair>,
    ) -> MediaTime {
        let shifted = raw.saturating_add(self.shift);
        let step = shifted.saturating_sub(self.raw.unwrap_or(shifted));
        let jumped = step < -JUMP_BACK_MILLIS_MAX || (step > JUMP_MILLIS_MAX && !self.is_with(shifted, source));
        if (jumped || stuck) && !self.follow(raw, source) {
            self.lead(shifted, back, source);
            repairs.push(Repair::TimestampJump);
        }
        let shifted = raw.saturating_add(self.shift);
        self.raw = Some(shifted);
        if self.epoch == source.epoch {
            source.raw = shifted;
        }
        MediaTime::from_millis(shifted) + self.offset.unwrap_or_default()
    }

    /// This track was silent for a while (muted sound, a frozen screen), and is where the others have got to meanwhile.
    fn is_with(&self, raw: i64, source: &Source) -> bool {
        let time = MediaTime::from_millis(raw) + self.offset.unwrap_or_default();
        self.epoch == source.epoch && (time - source.head).as_millis().unsigned_abs() <= OFFSET_MILLIS_MAX
    }

    /// Takes the offset of a track that has made the same jump already, so that they stay together. False where none has.
    fn follow(&mut self, raw: i64, source: &Source) -> bool {
        let shifts = [self.shift, 0];
        let near = shifts.into_iter().find(|shift| source.is_near(raw.saturating_add(*shift)));
        let Some(shift) = near.filter(|_| source.epoch > self.epoch) else { return false };
        self.shift = shift;
        self.epoch = source.epoch;
        self.offset = source.offset;
        true
    }

    /// Makes a new offset, with which this track goes on without a gap, and without falling behind the others for good.
    fn lead(&mut self, raw: i64, back: MediaTime, source: &mut Source) {
        let next = self.last.unwrap_or_default() + self.interval;
        let next = next.max(source.head.min(next + MediaTime::from_millis(JUMP_BACK_MILLIS_MAX)));
        source.epoch += 1;
        source.jumped = true;
        source.offset = Some(next + back - MediaTime::from_millis(raw));
        self.epoch = source.epoch;
        self.offset = source.offset;
    }

    fn sent(&mut self, time: MediaTime, source: &mut Source) {
        if let Some(last) = self.last {
            self.interval = (time - last).clamp(MediaTime::from_millis(1), MediaTime::from_millis(1_000));
        }
        self.last = Some(time);
        source.head = source.head.max(time);
    }
}

/// The way of a picture track.
#[derive(Debug)]
struct PictureLane {
    lane: Lane,
    /// The least composition time seen, never above 0: decoding times are moved back by it, so that none is after its
    /// picture's showing.
    composition_min: MediaTime,
    /// Pictures in a row that were moved behind the last.
    clamped: u32,
}

impl Default for PictureLane {
    fn default() -> Self {
        Self { lane: Lane::new(MediaTime::from_millis(33)), composition_min: MediaTime::ZERO, clamped: 0 }
    }
}

impl PictureLane {
    fn composition(&mut self, composition: MediaTime, repairs: &mut Vec<Repair>) -> MediaTime {
        let least = MediaTime::from_millis(-COMPOSITION_MILLIS_BACK_MAX);
        let limited = composition.clamp(least, MediaTime::from_millis(COMPOSITION_MILLIS_MAX));
        if limited != composition {
            repairs.push(Repair::CompositionClamped);
        }
        self.composition_min = self.composition_min.min(limited);
        limited
    }

    fn place(
        &mut self,
        raw: i64,
        composition: MediaTime,
        source: &mut Source,
        repairs: &mut Vec<Repair>,
    ) -> PictureTime {
        let stuck = self.clamped >= STUCK_MAX;
        let base = self.lane.place(raw, -self.composition_min, stuck, source, repairs);
        let dts = base + self.composition_min;
        let clamped = self.lane.last.map(|last| last + MediaTime::from_millis(1)).filter(|least| dts < *least);
        self.clamped = if clamped.is_some() && !stuck { self.clamped + 1 } else { 0 };
        if clamped.is_some() {
            repairs.push(Repair::DtsClamped);
        }
        let dts = clamped.unwrap_or(dts);
        self.lane.sent(dts, source);
        PictureTime { dts, pts: (base + composition).max(dts) }
    }
}

/// A step forward beyond this is a jump of the source's clock; up to it, a pause.
const JUMP_MILLIS_MAX: i64 = 10_000;
/// A step back beyond this is a jump; up to it, disorder.
const JUMP_BACK_MILLIS_MAX: i64 = 1_000;
/// Sound and picture that begin further apart than this are taken to have unrelated clocks; a slow interleave has been seen to
/// reach 5 s.
const OFFSET_MILLIS_MAX: u64 = 5_000;
/// The most that a picture is shown after its decoding: 16 pictures of reordering at 3 fps.
const COMPOSITION_MILLIS_MAX: i64 = 5_000;
/// The most that a picture is shown before its nominal decoding: encoders with such times shift them by a reordering of
/// two or three pictures.
const COMPOSITION_MILLIS_BACK_MAX: i64 = 500;
/// Pictures, or frames of sound, that a fault may last which mends itself; after that the clock is taken to have jumped.
pub(super) const STUCK_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::super::sample_grid::DEVIATION_MILLIS_MAX;
    use super::*;
    use proptest::prelude::*;

    const START: MediaTime = MediaTime::from_millis(60_000);

    /// A picture of the first track.
    fn video(timeline: &mut Timeline, timestamp: u32, composition: i32, key: bool) -> Option<PictureTime> {
        timeline.video(0, timestamp, MediaTime::from_millis(composition.into()), key)
    }

    fn begun(timestamp: u32) -> Timeline {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000);
        assert!(video(&mut timeline, timestamp, 0, true).is_some());
        timeline
    }

    fn dts(timeline: &mut Timeline, timestamp: u32) -> i64 {
        (video(timeline, timestamp, 0, false).unwrap().dts - START).as_millis()
    }

    fn audio(timeline: &mut Timeline, timestamp: u32) -> i64 {
        match timeline.audio(timestamp, 0, 1024) {
            AudioTime::At(time) => (time - START).as_millis(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn row_11_the_first_idr_is_shown_at_the_start_wherever_the_source_begins() {
        for first in [0, 5, 0xff_fff0, 0x7fff_fff0, 0xffff_fff0] {
            let mut timeline = Timeline::new(START);
            assert_eq!(video(&mut timeline, first, 66, false), None);
            let time = video(&mut timeline, first, 66, true).unwrap();
            assert_eq!((time.pts, time.dts), (START, START - MediaTime::from_millis(66)));
        }
    }

    #[test]
    fn row_10_wraps_at_24_31_and_32_bits_are_no_jumps() {
        for bits in [24, 31, 32] {
            let wrap = 1u64 << bits;
            let mut timeline = begun(u32::try_from(wrap - 100).unwrap());
            for step in 1..20u32 {
                let time = u32::try_from((wrap - 100 + u64::from(step) * 33) % wrap).unwrap();
                assert_eq!(dts(&mut timeline, time), i64::from(step) * 33, "{bits} bits");
                let sound = audio(&mut timeline, time);
                assert!((sound - i64::from(step) * 33).abs() <= DEVIATION_MILLIS_MAX);
            }
            assert!(!timeline.take_repairs().contains(&Repair::TimestampJump));
        }
    }

    #[test]
    fn row_12_jumps_leave_no_gap_and_keep_sound_and_picture_together() {
        for jump in [3_600_000i64, -3_000, -50_000] {
            let mut timeline = begun(50_000);
            for n in 1..=200i64 {
                let now = |ahead: i64| u32::try_from(50_000 + n * 40 + ahead + if n > 100 { jump } else { 0 }).unwrap();
                assert_eq!(dts(&mut timeline, now(0)), n * 40, "jump of {jump}");
                let sound = audio(&mut timeline, now(0));
                assert!((sound - n * 40).abs() <= DEVIATION_MILLIS_MAX, "{sound} at {n}");
            }
            let jumps = timeline.take_repairs().iter().filter(|r| **r == Repair::TimestampJump).count();
            assert_eq!(jumps, 1, "once for both tracks");
            assert!(timeline.take_discontinuity() && !timeline.take_discontinuity());
        }
    }

    #[test]
    fn row_12_pauses_are_kept() {
        let mut timeline = begun(0);
        assert_eq!(dts(&mut timeline, 9_000), 9_000);
        assert_eq!(timeline.take_repairs(), []);
    }

    #[test]
    fn row_21_a_track_that_was_silent_comes_back_where_the_other_is() {
        let mut timeline = begun(0);
        for n in 0..100u32 {
            audio(&mut timeline, n * 40);
            dts(&mut timeline, (n + 1) * 40);
        }
        for n in 101..1_000 {
            dts(&mut timeline, n * 40);
        }
        assert_eq!(audio(&mut timeline, 40_000), 40_000, "muted for 36 s");
        for n in 0..2_000u32 {
            audio(&mut timeline, 40_000 + n * 1024 / 48);
        }
        assert_eq!(dts(&mut timeline, 82_000), 82_000, "frozen for 42 s");
        assert!(!timeline.take_repairs().contains(&Repair::TimestampJump));
    }

    #[test]
    fn row_13_equal_and_earlier_dts_are_moved_behind_the_last() {
        let mut timeline = begun(0);
        assert_eq!([33, 33, 32, 66].map(|t| dts(&mut timeline, t)), [33, 34, 35, 66]);
        assert_eq!(timeline.take_repairs(), [Repair::DtsClamped; 2]);
    }

    #[test]
    fn lesson_1_a_rounding_of_a_millisecond_is_mended_and_leaves_no_trace() {
        let mut timeline = begun(0);
        let times = [17, 33, 33, 50, 49, 67, 83].map(|timestamp| dts(&mut timeline, timestamp));
        assert_eq!(times, [17, 33, 34, 50, 51, 67, 83]);
        assert_eq!(timeline.take_repairs(), [Repair::DtsClamped; 2]);
        assert!(!timeline.take_discontinuity());
    }

    #[test]
    fn lesson_2_no_picture_is_shown_before_its_decoding() {
        let mut timeline = begun(0);
        for n in 1..200u32 {
            let composition = [-80, 120, 0, -40, 40][n as usize % 5];
            let time = video(&mut timeline, n * 33 - n % 3, composition, false).unwrap();
            assert!(time.pts >= time.dts, "{time:?}");
        }
    }

    #[test]
    fn row_35_what_was_held_up_keeps_its_true_times() {
        let mut timeline = begun(0);
        // Twenty seconds of sound arrive at once, and then those of the picture: within what interleaving allows, or not.
        for n in 0..937u32 {
            assert_eq!(audio(&mut timeline, n * 64 / 3), i64::from(n) * 64 / 3);
        }
        for n in 1..500u32 {
            assert_eq!(dts(&mut timeline, n * 40), i64::from(n) * 40);
        }
        assert_eq!(timeline.take_repairs(), []);
    }

    #[test]
    fn row_15_negative_composition_times_move_decoding_back_not_showing() {
        let mut timeline = begun(0);
        for n in 1..100u32 {
            let composition = [0, -33, 66, -33][n as usize % 4];
            let time = video(&mut timeline, n * 33, composition, false).unwrap();
            assert!(time.pts >= time.dts);
            if n > 4 {
                assert_eq!((time.pts - START).as_millis(), i64::from(n) * 33 + i64::from(composition));
            }
        }
    }

    #[test]
    fn row_15_what_comes_before_the_first_idr_moves_nothing_and_absurd_times_are_limited() {
        let mut timeline = Timeline::new(START);
        assert_eq!(video(&mut timeline, 0, -400, false), None);
        assert_eq!(video(&mut timeline, 0, 0, true), Some(PictureTime { dts: START, pts: START }));
        let time = video(&mut timeline, 1_000, 8_000_000, false).unwrap();
        assert_eq!((time.pts - time.dts).as_millis(), COMPOSITION_MILLIS_MAX);
        assert_eq!(timeline.take_repairs(), [Repair::CompositionClamped]);
    }

    #[test]
    fn row_14_audio_before_the_picture_is_early_and_then_dropped_unless_it_covers_the_start() {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000);
        assert_eq!(timeline.audio(1_000, 0, 1024), AudioTime::Early);
        video(&mut timeline, 1_100, 0, true).unwrap();
        assert_eq!(timeline.audio(1_000, 0, 1024), AudioTime::BeforeStart);
        assert_eq!(timeline.audio(1_090, 0, 1024), AudioTime::At(START - MediaTime::from_millis(10)));
    }

    #[test]
    fn row_11_tracks_with_unrelated_clocks_are_aligned_by_arrival() {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000);
        timeline.audio(1_000_000, 0, 1024);
        video(&mut timeline, 0, 0, true).unwrap();
        assert_eq!(audio(&mut timeline, 1_000_000), 0);
        assert_eq!(timeline.take_repairs(), [Repair::AudioAligned]);
    }

    #[test]
    fn audio_is_exact_to_the_sample_under_rounding_and_bursts() {
        let mut timeline = begun(0);
        let mut ticks = Vec::new();
        for n in 0..1600u32 {
            // Sixteen frames come under one timestamp, rounded to milliseconds.
            let AudioTime::At(time) = timeline.audio((n / 16 * 16) * 1024 / 48, 0, 1024) else { panic!() };
            ticks.push((time - START).to_ticks(48_000));
        }
        assert!(ticks.iter().zip(0..).all(|(t, n): (_, i64)| *t == n * 1024));
        assert_eq!(timeline.take_repairs(), []);
    }

    #[test]
    fn missing_audio_leaves_a_gap() {
        let mut timeline = begun(0);
        assert_eq!([0, 21, 43, 500].map(|t| audio(&mut timeline, t)), [0, 21, 42, 500]);
        assert_eq!(timeline.take_repairs(), [Repair::AudioAnchored]);
    }

    #[test]
    fn lesson_14_more_sound_than_time_is_trimmed() {
        let mut timeline = begun(0);
        let (mut behind, mut next) = (0, MediaTime::ZERO);
        for n in 0..400i64 {
            let timestamp = n * 1024 / 48 - if n > 20 { 300 } else { 0 };
            match timeline.audio(u32::try_from(timestamp).unwrap(), 0, 1024) {
                AudioTime::At(time) => {
                    assert!(time >= next, "nothing is heard twice");
                    next = time + MediaTime::from_ticks(1023, 48_000);
                    behind = (time - START).as_millis() - timestamp;
                }
                other => assert_eq!(other, AudioTime::Surplus),
            }
        }
        assert!(behind.abs() <= 22, "{behind}");
        let trimmed = timeline.take_repairs().iter().filter(|repair| **repair == Repair::AudioTrimmed).count();
        assert!((12..=16).contains(&trimmed), "300 ms: {trimmed}");
    }

    #[test]
    fn row_13_a_clock_that_stands_still_is_taken_to_have_jumped() {
        let mut timeline = begun(5_000);
        for n in 1..1_000i64 {
            let timestamp = u32::try_from(5_000 + n % 20 * 40).unwrap();
            let time = dts(&mut timeline, timestamp);
            let sound = timeline.audio(timestamp, 0, 1024);
            assert!(matches!(sound, AudioTime::At(_) | AudioTime::Surplus), "{sound:?}");
            assert!(n < 100 || time > n * 3, "{time} at {n}");
        }
        assert!(timeline.take_discontinuity());
    }

    #[test]
    fn row_19_a_frozen_picture_beside_sound_is_no_jump() {
        let mut timeline = begun(0);
        for n in 0..1_500u32 {
            audio(&mut timeline, n * 1024 / 48);
        }
        assert_eq!(dts(&mut timeline, 32_000), 32_000);
        assert!(!timeline.take_discontinuity());
        assert_eq!(timeline.take_repairs(), []);
    }

    #[test]
    fn row_21_two_lost_frames_of_sound_leave_their_gap() {
        let mut timeline = begun(0);
        for n in 0..400i64 {
            let timestamp = n * 1024 / 48 + if n > 20 { 43 } else { 0 };
            let off = audio(&mut timeline, u32::try_from(timestamp).unwrap()) - timestamp;
            assert!(n < 150 || off.abs() <= 2, "{off} at {n}");
        }
        // The window in which they are missing looks like drift.
        assert_eq!(timeline.take_repairs(), [Repair::AudioDrift, Repair::AudioAnchored]);
    }

    #[test]
    fn row_12_sound_of_an_unrelated_clock_makes_the_same_jump() {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000);
        video(&mut timeline, 0, 0, true).unwrap();
        for jump in [0, 3_600_000] {
            for n in 0..100 {
                let now = jump + n * 40;
                let at = dts(&mut timeline, now + 1);
                let sound = audio(&mut timeline, now + 500_000);
                assert!((sound - at).abs() <= DEVIATION_MILLIS_MAX + 40, "{sound} beside {at}");
            }
        }
        assert!(timeline.take_discontinuity());
        let jumps = timeline.take_repairs().iter().filter(|repair| **repair == Repair::TimestampJump).count();
        assert_eq!(jumps, 1);
    }

    #[test]
    fn row_32_further_tracks_lie_beside_the_first() {
        let mut timeline = begun(1_000);
        let further = |timeline: &mut Timeline, timestamp, key| timeline.video(1, timestamp, MediaTime::ZERO, key);
        assert_eq!(further(&mut timeline, 1_040, false), None);
        dts(&mut timeline, 1_080);
        let time = further(&mut timeline, 1_080, true).unwrap();
        assert_eq!((time.dts - START).as_millis(), 80);
        // The further track sees the jump first.
        let first = further(&mut timeline, 900_000, true).unwrap();
        assert!(timeline.take_discontinuity());
        assert_eq!(dts(&mut timeline, 900_000), (first.dts - START).as_millis());
        assert!(!timeline.take_discontinuity());
    }

    #[test]
    fn a_drifting_sound_clock_is_followed() {
        for drift_ppm in [-300i64, 300] {
            let mut timeline = begun(0);
            for n in 0..100_000i64 {
                let timestamp = n * 1024 * (1_000_000 + drift_ppm) / 48_000_000;
                let off = audio(&mut timeline, u32::try_from(timestamp).unwrap()) - timestamp;
                assert!(off.abs() <= 15, "{off} at {n}");
            }
            let repairs = timeline.take_repairs();
            assert!(repairs.len() > 500 && repairs.iter().all(|repair| *repair == Repair::AudioDrift), "{repairs:?}");
        }
    }

    #[test]
    fn sound_in_tiny_packets_is_not_moved_behind_the_last() {
        let mut timeline = begun(0);
        let mut last = MediaTime::ZERO;
        for n in 0..300 {
            let timestamp = if n < 64 { 1_000 } else { 970 };
            if let AudioTime::At(time) = timeline.audio(timestamp, 0, 1) {
                assert!(time > last, "{time:?} after {last:?}, packet {n}");
                last = time;
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_times_increase(
            packets in prop::collection::vec((any::<bool>(), prop_oneof![any::<u32>(), 0u32..2000], -9_000i32..9_000, any::<bool>()), 1..300)
        ) {
            let mut timeline = Timeline::new(START);
            timeline.set_audio(44_100);
            let (mut video_last, mut audio_last) = (None, None);
            for (is_video, timestamp, composition, idr) in packets {
                if is_video {
                    if let Some(time) = video(&mut timeline, timestamp, composition, idr) {
                        prop_assert!(video_last.is_none_or(|last| last < time.dts));
                        prop_assert!(time.pts >= time.dts);
                        video_last = Some(time.dts);
                    }
                } else if let AudioTime::At(time) = timeline.audio(timestamp, 0, 1024) {
                    prop_assert!(audio_last.is_none_or(|last| last < time));
                    audio_last = Some(time);
                }
            }
        }

        #[test]
        fn steady_input_keeps_the_distance_of_sound_and_picture(first: u32, offset in -2_000i64..2_000, frames in 20u32..200) {
            let mut timeline = begun(first);
            for n in 1..frames {
                let now = first.wrapping_add(n * 40);
                prop_assert_eq!(dts(&mut timeline, now), i64::from(n) * 40);
                let sound_at = i64::from(n) * 40 + offset;
                let timestamp = first.wrapping_add_signed(i32::try_from(sound_at).unwrap());
                if let AudioTime::At(time) = timeline.audio(timestamp, 0, 1024) {
                    prop_assert!(((time - START).as_millis() - sound_at).abs() <= DEVIATION_MILLIS_MAX + 1);
                }
            }
        }

        #[test]
        fn rows_10_to_14_19_to_21_no_repair_outlasts_its_fault(session in session()) {
            session.check()?;
        }
    }

    /// What goes wrong at the start of a stretch of media.
    #[derive(Clone, Debug)]
    enum Fault {
        /// The source's clock jumps by this many milliseconds.
        Jump(i64),
        /// There is no picture, or no sound, for so many milliseconds.
        Freeze(i64),
        Mute(i64),
        /// So many pictures have the timestamp of the one before, less as many milliseconds.
        Repeat(i64, i64),
        /// Sound comes sixteen frames at a time, with one timestamp.
        Bursts,
    }

    /// Stretches of media, with the fault that each begins with.
    #[derive(Clone, Debug)]
    struct Session {
        first: u32,
        sound_late: i64,
        faults: Vec<Fault>,
    }

    fn session() -> impl Strategy<Value = Session> {
        let fault = prop_oneof![
            (12_000i64..9_000_000).prop_map(Fault::Jump),
            (-9_000_000i64..-4_000).prop_map(Fault::Jump),
            (0i64..30_000).prop_map(Fault::Freeze),
            (0i64..30_000).prop_map(Fault::Mute),
            (1i64..20, 0i64..20).prop_map(|(count, back)| Fault::Repeat(count, back)),
            Just(Fault::Bursts),
        ];
        let faults = prop::collection::vec(fault, 1..6);
        (any::<u32>(), -2_000i64..2_000, faults).prop_map(|(first, sound_late, faults)| Session {
            first,
            sound_late,
            faults,
        })
    }

    /// A packet on its way: when it comes, when it truly belongs, its timestamp.
    struct Sent {
        comes: i64,
        is_sound: bool,
        micros: i64,
        timestamp: i64,
        stretch: usize,
    }

    const STRETCH_MILLIS: i64 = 45_000;

    impl Session {
        fn packets(&self) -> Vec<Sent> {
            let (mut packets, mut jumped) = (Vec::new(), i64::from(self.first));
            let (mut pictures, mut sounds) = (0i64, 0i64);
            for (stretch, fault) in self.faults.iter().enumerate() {
                let start = stretch as i64 * STRETCH_MILLIS;
                jumped += if let Fault::Jump(by) = fault { *by } else { 0 };
                let frozen = if let Fault::Freeze(millis) = fault { *millis } else { -1 };
                let muted = if let Fault::Mute(millis) = fault { *millis } else { -1 };
                while pictures * 40 < start + STRETCH_MILLIS {
                    let (at, number) = (pictures * 40, pictures - start / 40);
                    let timestamp = match fault {
                        Fault::Repeat(count, back) if (1..=*count).contains(&number) => start - back,
                        _ => at,
                    };
                    if at - start >= frozen {
                        let sent = Sent {
                            comes: at,
                            is_sound: false,
                            micros: at * 1000,
                            timestamp: timestamp + jumped,
                            stretch,
                        };
                        packets.push(sent);
                    }
                    pictures += 1;
                }
                while sounds * 64 / 3 < start + STRETCH_MILLIS {
                    let at = sounds * 64 / 3;
                    let stamped =
                        if matches!(fault, Fault::Bursts) { (sounds / 16 * 16 * 64 / 3).max(start) } else { at };
                    if at - start >= muted {
                        let (comes, micros) = (at + self.sound_late, sounds * 64_000 / 3);
                        packets.push(Sent { comes, is_sound: true, micros, timestamp: stamped + jumped, stretch });
                    }
                    sounds += 1;
                }
            }
            packets.sort_by_key(|sent| sent.comes);
            packets
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let mut timeline = Timeline::new(START);
            timeline.set_audio(48_000);
            let jumps = self.faults.iter().filter(|fault| matches!(fault, Fault::Jump(_))).count();
            let (mut seen, mut last) = (0, [None; 2]);
            // How far each track's last time is from the truth, by stretch.
            let mut off = vec![[0i64; 2]; self.faults.len()];
            for sent in self.packets() {
                let timestamp = u32::try_from(sent.timestamp.rem_euclid(1 << 32)).unwrap();
                let time = if sent.is_sound {
                    match timeline.audio(timestamp, 0, 1024) {
                        AudioTime::At(time) => Some(time),
                        _ => None,
                    }
                } else {
                    video(&mut timeline, timestamp, 0, true).map(|time| time.dts)
                };
                seen += usize::from(timeline.take_discontinuity());
                let Some(time) = time else { continue };
                let track = usize::from(sent.is_sound);
                prop_assert!(last[track].is_none_or(|last| last < time), "times increase");
                last[track] = Some(time);
                off[sent.stretch][track] = (time - START).as_nanos() / 1000 - sent.micros;
            }
            for (stretch, [picture, sound]) in off.iter().enumerate() {
                prop_assert!((picture - sound).abs() <= 40_000, "{picture} {sound} in {stretch} of {self:?}");
            }
            let first_jump = usize::from(matches!(self.faults[0], Fault::Jump(_)));
            prop_assert_eq!(seen, jumps - first_jump, "{:?}", self);
            Ok(())
        }
    }
}
