//! Timeline repair: the timestamps of an encoder, which wrap, jump, repeat and round, become times on the channel's timeline.
//!
//! Pure: timestamps in, times out. What leaves strictly increases in each track, is continuous where the input jumps,
//! and keeps the distance between sound and picture. Every repair is reported.

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
    /// The sound's timestamps left what its samples add up to; it was placed anew.
    AudioAnchored,
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
            Self::AudioAnchored => "audio_anchored",
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
    /// It is heard from here.
    At(MediaTime),
}

/// One publisher's timeline.
#[derive(Debug)]
pub struct Timeline {
    start: MediaTime,
    clock: Clock,
    video: Lane,
    audio: Lane,
    /// The least composition time seen, never above 0: decoding times are moved back by it, so that none is after its
    /// picture's showing.
    composition_min: i64,
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
            video: Lane::new(MediaTime::from_millis(33)),
            audio: Lane::new(MediaTime::from_millis(21)),
            composition_min: 0,
            grid: None,
            repairs: Vec::new(),
        }
    }

    /// Says how the audio is sampled: at the start, and again where it changes. `rate` is not 0.
    pub fn set_audio(&mut self, rate: u32, frame_samples: u32) {
        self.grid = match self.grid.take() {
            None => Some(SampleGrid::new(rate, frame_samples)),
            Some(old) => Some(old.converted(rate, frame_samples)),
        };
    }

    /// The picture has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.video.offset.is_some()
    }

    /// What was mended since the last call.
    pub fn take_repairs(&mut self) -> Vec<Repair> {
        std::mem::take(&mut self.repairs)
    }

    /// Places a picture. None before the first IDR, which begins the timeline.
    pub fn video(&mut self, timestamp: u32, composition_millis: i32, idr: bool) -> Option<PictureTime> {
        let raw = self.clock.unwrap(timestamp);
        if !self.has_begun() && !idr {
            return None;
        }
        let composition = self.composition(composition_millis);
        if !self.has_begun() {
            self.begin(raw, composition);
        }
        let base = self.video.place(raw, &self.audio, &mut self.repairs);
        let dts = self.increasing(base + MediaTime::from_millis(self.composition_min));
        let pts = (base + MediaTime::from_millis(composition)).max(dts);
        self.video.sent(dts);
        Some(PictureTime { dts, pts })
    }

    /// Places an audio frame. [`Timeline::set_audio`] comes first; without it everything is early.
    pub fn audio(&mut self, timestamp: u32) -> AudioTime {
        let raw = self.clock.unwrap(timestamp);
        if !self.has_begun() || self.grid.is_none() {
            self.audio.raw = Some(raw);
            return AudioTime::Early;
        }
        if self.audio.offset.is_none() {
            self.join_audio(raw);
        }
        let measured = self.audio.place(raw, &self.video, &mut self.repairs);
        let Some(grid) = &mut self.grid else { return AudioTime::Early };
        if self.audio.last.is_none() && measured + grid.frame() <= self.start {
            return AudioTime::BeforeStart;
        }
        let (time, anchored) = grid.place(measured);
        if anchored {
            self.repairs.push(Repair::AudioAnchored);
        }
        self.audio.sent(time);
        AudioTime::At(time)
    }

    fn composition(&mut self, millis: i32) -> i64 {
        let limited = i64::from(millis).clamp(-COMPOSITION_MILLIS_BACK_MAX, COMPOSITION_MILLIS_MAX);
        if limited != i64::from(millis) {
            self.repairs.push(Repair::CompositionClamped);
        }
        self.composition_min = self.composition_min.min(limited);
        limited
    }

    fn begin(&mut self, raw: i64, composition: i64) {
        self.video.raw = Some(raw);
        self.video.offset = Some(self.start - MediaTime::from_millis(raw.saturating_add(composition)));
        if let Some(audio_raw) = self.audio.raw.take() {
            self.join_audio(audio_raw);
        }
    }

    /// Decides where the audio lies to the video, from the audio's timestamp that arrives now.
    fn join_audio(&mut self, raw: i64) {
        let Some(video_raw) = self.video.raw else { return };
        self.audio.epoch = self.video.epoch;
        self.audio.offset = self.video.offset;
        if raw.abs_diff(video_raw) > OFFSET_MILLIS_MAX {
            self.audio.offset = Some(self.video.last.unwrap_or(self.start) - MediaTime::from_millis(raw));
            self.repairs.push(Repair::AudioAligned);
        }
    }

    fn increasing(&mut self, dts: MediaTime) -> MediaTime {
        match self.video.last {
            Some(last) if dts <= last => {
                self.repairs.push(Repair::DtsClamped);
                last + MediaTime::from_millis(1)
            }
            _ => dts,
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

/// One track's way onto the channel's timeline.
#[derive(Debug)]
struct Lane {
    /// The last timestamp.
    raw: Option<i64>,
    /// What is added to a timestamp.
    offset: Option<MediaTime>,
    /// Counts the jumps of the source's clock that this offset takes into account.
    epoch: u64,
    /// The last time that was given out.
    last: Option<MediaTime>,
    /// The distance of the last two.
    interval: MediaTime,
}

impl Lane {
    fn new(interval: MediaTime) -> Self {
        Self { raw: None, offset: None, epoch: 0, last: None, interval }
    }

    /// Maps a timestamp. Where it jumps, the offset changes so that the output goes on: to that of the other track, if
    /// that has made the same jump already, so that the two stay together.
    fn place(&mut self, raw: i64, other: &Self, repairs: &mut Vec<Repair>) -> MediaTime {
        let step = raw.saturating_sub(self.raw.unwrap_or(raw));
        let jumped = step < -JUMP_BACK_MILLIS_MAX || (step > JUMP_MILLIS_MAX && !self.is_with(raw, other));
        if jumped {
            self.follow_jump(raw, other);
            repairs.push(Repair::TimestampJump);
        }
        self.raw = Some(raw);
        MediaTime::from_millis(raw) + self.offset.unwrap_or_default()
    }

    /// This track was silent for a while (muted sound, a frozen screen), and is where the other has got to meanwhile.
    fn is_with(&self, raw: i64, other: &Self) -> bool {
        let time = MediaTime::from_millis(raw) + self.offset.unwrap_or_default();
        let apart = other.last.map(|last| (time - last).as_millis().unsigned_abs());
        self.epoch == other.epoch && apart.is_some_and(|apart| apart <= OFFSET_MILLIS_MAX)
    }

    fn follow_jump(&mut self, raw: i64, other: &Self) {
        let near = other.raw.is_some_and(|o| raw.abs_diff(o) < JUMP_MILLIS_MAX.unsigned_abs());
        if other.epoch > self.epoch && near {
            self.epoch = other.epoch;
            self.offset = other.offset;
            return;
        }
        let next = self.last.unwrap_or_default() + self.interval;
        let next = next.max(other.last.unwrap_or(next).min(next + MediaTime::from_millis(JUMP_BACK_MILLIS_MAX)));
        self.epoch = self.epoch.max(other.epoch) + 1;
        self.offset = Some(next - MediaTime::from_millis(raw));
    }

    fn sent(&mut self, time: MediaTime) {
        if let Some(last) = self.last {
            self.interval = (time - last).clamp(MediaTime::from_millis(1), MediaTime::from_millis(1_000));
        }
        self.last = Some(time);
    }
}

/// Audio times by counting samples: exact to the sample, where the timestamps are rounded to milliseconds.
///
/// The timestamps are followed where they say that the count is wrong: at once where samples are missing, after
/// [`BEHIND_FRAMES_MAX`] frames where there are too many (bursts of frames with one timestamp look like that for a moment),
/// and by a millisecond at a time where two clocks drift apart.
#[derive(Debug)]
struct SampleGrid {
    rate: u32,
    frame_samples: u32,
    /// The time of the last frame and of the next, in samples.
    ticks: Option<(i64, i64)>,
    /// Frames in a row whose timestamps were behind the count.
    behind: u32,
    /// Frames in this window, and the largest deviation in it.
    window: (u32, MediaTime),
}

impl SampleGrid {
    fn new(rate: u32, frame_samples: u32) -> Self {
        Self { rate: rate.max(1), frame_samples, ticks: None, behind: 0, window: EMPTY_WINDOW }
    }

    /// The same place in time, counted at another rate.
    fn converted(&self, rate: u32, frame_samples: u32) -> Self {
        let mut converted = Self::new(rate, frame_samples);
        let convert = |ticks| MediaTime::from_ticks(ticks, self.rate).to_ticks(converted.rate);
        converted.ticks = self.ticks.map(|(last, next)| (convert(last), convert(next)));
        converted
    }

    fn frame(&self) -> MediaTime {
        MediaTime::from_ticks(i64::from(self.frame_samples), self.rate)
    }

    /// The time of the next frame, whose timestamp says `measured`; true where the count was given up for it.
    fn place(&mut self, measured: MediaTime) -> (MediaTime, bool) {
        let measured_ticks = measured.to_ticks(self.rate);
        let (at, anchored) = match self.ticks {
            None => (measured_ticks, false),
            Some((last, next)) => {
                let deviation = measured - MediaTime::from_ticks(next, self.rate);
                if self.is_lost(deviation) {
                    (measured_ticks.max(last.saturating_add(1)), true)
                } else {
                    (next.saturating_add(self.drift(deviation)), false)
                }
            }
        };
        self.ticks = Some((at, at.saturating_add(i64::from(self.frame_samples))));
        (MediaTime::from_ticks(at, self.rate), anchored)
    }

    fn is_lost(&mut self, deviation: MediaTime) -> bool {
        let limit = MediaTime::from_millis(DEVIATION_MILLIS_MAX);
        self.behind = if deviation < -limit { self.behind + 1 } else { 0 };
        let lost = deviation > limit || self.behind >= BEHIND_FRAMES_MAX;
        if lost {
            // Frames never overlap by more than one, so a step back takes several goes, which need not wait as long.
            self.behind = self.behind.min(BEHIND_FRAMES_MAX - BEHIND_FRAMES_MAX / 4);
            self.window = EMPTY_WINDOW;
        }
        lost
    }

    /// Samples to move by: a millisecond's worth where a whole window was off to one side.
    fn drift(&mut self, deviation: MediaTime) -> i64 {
        let (frames, largest) = (self.window.0 + 1, self.window.1.max(deviation));
        self.window = (frames, largest);
        if frames < DRIFT_WINDOW_FRAMES {
            return 0;
        }
        self.window = EMPTY_WINDOW;
        let limit = MediaTime::from_millis(DRIFT_MILLIS_MAX);
        let millisecond = i64::from(self.rate) / 1_000;
        if largest > limit {
            millisecond
        } else if largest < -limit {
            -millisecond
        } else {
            0
        }
    }
}

const EMPTY_WINDOW: (u32, MediaTime) = (0, MediaTime::from_nanos(i64::MIN));
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
/// How far timestamps and samples may be apart: less than three frames.
const DEVIATION_MILLIS_MAX: i64 = 60;
const BEHIND_FRAMES_MAX: u32 = 32;
const DRIFT_WINDOW_FRAMES: u32 = 64;
const DRIFT_MILLIS_MAX: i64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: MediaTime = MediaTime::from_millis(60_000);

    fn begun(timestamp: u32) -> Timeline {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000, 1024);
        assert!(timeline.video(timestamp, 0, true).is_some());
        timeline
    }

    fn dts(timeline: &mut Timeline, timestamp: u32) -> i64 {
        (timeline.video(timestamp, 0, false).unwrap().dts - START).as_millis()
    }

    fn audio(timeline: &mut Timeline, timestamp: u32) -> i64 {
        match timeline.audio(timestamp) {
            AudioTime::At(time) => (time - START).as_millis(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn row_11_the_first_idr_is_shown_at_the_start_wherever_the_source_begins() {
        for first in [0, 5, 0xff_fff0, 0x7fff_fff0, 0xffff_fff0] {
            let mut timeline = Timeline::new(START);
            assert_eq!(timeline.video(first, 66, false), None);
            let time = timeline.video(first, 66, true).unwrap();
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
            assert_eq!(jumps, 2, "once for each track");
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
    fn row_15_negative_composition_times_move_decoding_back_not_showing() {
        let mut timeline = begun(0);
        for n in 1..100u32 {
            let composition = [0, -33, 66, -33][n as usize % 4];
            let time = timeline.video(n * 33, composition, false).unwrap();
            assert!(time.pts >= time.dts);
            if n > 4 {
                assert_eq!((time.pts - START).as_millis(), i64::from(n) * 33 + i64::from(composition));
            }
        }
    }

    #[test]
    fn row_15_what_comes_before_the_first_idr_moves_nothing_and_absurd_times_are_limited() {
        let mut timeline = Timeline::new(START);
        assert_eq!(timeline.video(0, -400, false), None);
        assert_eq!(timeline.video(0, 0, true), Some(PictureTime { dts: START, pts: START }));
        let time = timeline.video(1_000, 8_000_000, false).unwrap();
        assert_eq!((time.pts - time.dts).as_millis(), COMPOSITION_MILLIS_MAX);
        assert_eq!(timeline.take_repairs(), [Repair::CompositionClamped]);
    }

    #[test]
    fn row_14_audio_before_the_picture_is_early_and_then_dropped_unless_it_covers_the_start() {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000, 1024);
        assert_eq!(timeline.audio(1_000), AudioTime::Early);
        timeline.video(1_100, 0, true).unwrap();
        assert_eq!(timeline.audio(1_000), AudioTime::BeforeStart);
        assert_eq!(timeline.audio(1_090), AudioTime::At(START - MediaTime::from_millis(10)));
    }

    #[test]
    fn row_11_tracks_with_unrelated_clocks_are_aligned_by_arrival() {
        let mut timeline = Timeline::new(START);
        timeline.set_audio(48_000, 1024);
        timeline.audio(1_000_000);
        timeline.video(0, 0, true).unwrap();
        assert_eq!(audio(&mut timeline, 1_000_000), 0);
        assert_eq!(timeline.take_repairs(), [Repair::AudioAligned]);
    }

    #[test]
    fn audio_is_exact_to_the_sample_under_rounding_and_bursts() {
        let mut timeline = begun(0);
        let mut ticks = Vec::new();
        for n in 0..1600u32 {
            // Sixteen frames come under one timestamp, rounded to milliseconds.
            let AudioTime::At(time) = timeline.audio((n / 16 * 16) * 1024 / 48) else { panic!() };
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
    fn audio_that_falls_behind_is_caught_up_with() {
        let mut timeline = begun(0);
        let mut behind = 0;
        for n in 0..400i64 {
            let timestamp = n * 1024 / 48 - if n > 20 { 300 } else { 0 };
            behind = audio(&mut timeline, u32::try_from(timestamp).unwrap()) - timestamp;
        }
        assert!(behind.abs() <= DEVIATION_MILLIS_MAX, "{behind}");
    }

    #[test]
    fn a_drifting_sound_clock_is_followed() {
        for drift_ppm in [-300i64, 300] {
            let mut timeline = begun(0);
            let mut off = 0;
            for n in 0..100_000i64 {
                let timestamp = n * 1024 * (1_000_000 + drift_ppm) / 48_000_000;
                off = audio(&mut timeline, u32::try_from(timestamp).unwrap()) - timestamp;
                assert!(off.abs() <= 15, "{off} at {n}");
            }
            assert_eq!(timeline.take_repairs(), [], "{off}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_times_increase(
            packets in prop::collection::vec((any::<bool>(), prop_oneof![any::<u32>(), 0u32..2000], -9_000i32..9_000, any::<bool>()), 1..300)
        ) {
            let mut timeline = Timeline::new(START);
            timeline.set_audio(44_100, 1024);
            let (mut video_last, mut audio_last) = (None, None);
            for (is_video, timestamp, composition, idr) in packets {
                if is_video {
                    if let Some(time) = timeline.video(timestamp, composition, idr) {
                        prop_assert!(video_last.is_none_or(|last| last < time.dts));
                        prop_assert!(time.pts >= time.dts);
                        video_last = Some(time.dts);
                    }
                } else if let AudioTime::At(time) = timeline.audio(timestamp) {
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
                if let AudioTime::At(time) = timeline.audio(timestamp) {
                    prop_assert!(((time - START).as_millis() - sound_at).abs() <= DEVIATION_MILLIS_MAX + 1);
                }
            }
        }
    }
}
