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
        let composition = self.composition(composition_millis);
        if !self.has_begun() {
            if !idr {
                return None;
            }
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
        let step = raw - self.raw.unwrap_or(raw);
        if !(-JUMP_BACK_MILLIS_MAX..=JUMP_MILLIS_MAX).contains(&step) {
            self.follow_jump(raw, other);
            repairs.push(Repair::TimestampJump);
        }
        self.raw = Some(raw);
        MediaTime::from_millis(raw) + self.offset.unwrap_or_default()
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
/// The most that a picture is shown before its nominal decoding.
const COMPOSITION_MILLIS_BACK_MAX: i64 = 1_000;
/// How far timestamps and samples may be apart: less than three frames.
const DEVIATION_MILLIS_MAX: i64 = 60;
const BEHIND_FRAMES_MAX: u32 = 32;
const DRIFT_WINDOW_FRAMES: u32 = 64;
const DRIFT_MILLIS_MAX: i64 = 10;
