//! Where sound lies in time, by counting its samples. Pure; a part of [`timeline`](super::timeline).

use super::timeline::STUCK_MAX;
use crate::media::MediaTime;

/// Audio times by counting samples: exact to the sample, where the timestamps are rounded to milliseconds.
///
/// The timestamps are followed where they say that the count is wrong: at once where samples are missing, after
/// [`BEHIND_FRAMES_MAX`] frames where there are too many (bursts of frames with one timestamp look like that for a moment),
/// after a window of frames that were all off by more than one of them, and by a millisecond at a time where two clocks
/// drift apart.
#[derive(Debug)]
pub(super) struct SampleGrid {
    rate: u32,
    /// The time of the next frame, in samples, and that of the last.
    next: Option<i64>,
    last: Option<i64>,
    /// Frames in a row whose timestamps were behind the count.
    behind: u32,
    /// Frames in a row that were left out; none while there is no surplus.
    surplus: u32,
    window: Window,
}

/// Where a frame is heard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placed {
    /// Behind the frame before it.
    Counted(MediaTime),
    /// There, but for a moment by which the sound's clock drifts.
    Drifted(MediaTime),
    /// Where its timestamp says, since the count was given up.
    Anchored(MediaTime),
    /// Nowhere: there is more sound than time.
    Surplus,
}

/// Frames that were looked at together, and the least and the largest deviation of them.
#[derive(Debug)]
struct Window {
    frames: u32,
    least: MediaTime,
    largest: MediaTime,
}

impl Default for Window {
    fn default() -> Self {
        Self { frames: 0, least: MediaTime::from_nanos(i64::MAX), largest: MediaTime::from_nanos(i64::MIN) }
    }
}

impl SampleGrid {
    /// For sound of this rate, with nothing placed.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), next: None, last: None, behind: 0, surplus: 0, window: Window::default() }
    }

    /// The same place in time, counted at another rate.
    pub(super) fn converted(&self, rate: u32) -> Self {
        let mut converted = Self::new(rate);
        // Rounded up, so that nothing is heard twice.
        let at_new_rate = |ticks| MediaTime::from_ticks(ticks, self.rate).to_ticks(converted.rate).saturating_add(1);
        (converted.next, converted.last) = (self.next.map(at_new_rate), self.last.map(at_new_rate));
        converted
    }

    /// How long so many samples last.
    pub(super) fn span(&self, samples: u32) -> MediaTime {
        MediaTime::from_ticks(i64::from(samples), self.rate)
    }

    /// The time of the next frame, whose timestamp says `measured`.
    pub(super) fn place(&mut self, measured: MediaTime, samples: u32) -> Placed {
        let measured_ticks = measured.to_ticks(self.rate);
        let next = self.next.unwrap_or(measured_ticks);
        let deviation = measured - MediaTime::from_ticks(next, self.rate);
        let frame = self.span(samples);
        if self.is_surplus(deviation, frame) {
            self.window = Window::default();
            return Placed::Surplus;
        }
        let (at, placed): (i64, fn(MediaTime) -> Placed) = match self.correction(deviation, frame) {
            Some(0) => (next, Placed::Counted),
            Some(moved) => (next.saturating_add(moved), Placed::Drifted),
            None => (measured_ticks.max(next), Placed::Anchored),
        };
        // The last may have been shorter than what a drift is moved by.
        let at = self.last.map_or(at, |last| at.max(last.saturating_add(1)));
        (self.last, self.next) = (Some(at), Some(at.saturating_add(i64::from(samples))));
        placed(MediaTime::from_ticks(at, self.rate))
    }

    /// The surplus lasts for longer than any that mends itself.
    pub(super) fn is_stuck(&self) -> bool {
        self.surplus >= STUCK_MAX
    }

    /// There is more sound than time, for long enough to be true.
    fn is_surplus(&mut self, deviation: MediaTime, frame: MediaTime) -> bool {
        let limit = MediaTime::from_millis(DEVIATION_MILLIS_MAX);
        self.behind = if deviation < -limit { self.behind + 1 } else { 0 };
        let begins = self.behind >= BEHIND_FRAMES_MAX;
        let goes_on = self.surplus > 0 && deviation < -frame;
        // What no longer moves is another fault, for the caller to mend.
        self.surplus = if (begins || goes_on) && self.surplus < STUCK_MAX { self.surplus + 1 } else { 0 };
        if self.surplus > 0 {
            self.behind = 0;
        }
        self.surplus > 0
    }

    /// Samples to move by. None where the count is to be given up.
    fn correction(&mut self, deviation: MediaTime, frame: MediaTime) -> Option<i64> {
        if deviation > MediaTime::from_millis(DEVIATION_MILLIS_MAX) {
            self.window = Window::default();
            return None;
        }
        let Window { frames, least, largest } = self.window;
        self.window = Window { frames: frames + 1, least: least.min(deviation), largest: largest.max(deviation) };
        if self.window.frames < DRIFT_WINDOW_FRAMES {
            return Some(0);
        }
        let Window { least, largest, .. } = std::mem::take(&mut self.window);
        self.settle(least, largest, frame)
    }

    /// What a whole window says: a gap, a surplus, or a millisecond's worth of drift.
    fn settle(&mut self, least: MediaTime, largest: MediaTime, frame: MediaTime) -> Option<i64> {
        let limit = MediaTime::from_millis(DRIFT_MILLIS_MAX);
        let millisecond = i64::from(self.rate) / 1_000;
        if least > frame {
            return None;
        }
        if largest < -frame {
            self.surplus = 1;
        }
        Some(if largest > limit {
            millisecond
        } else if largest < -limit {
            -millisecond
        } else {
            0
        })
    }
}

/// How far timestamps and samples may be apart: less than three frames.
pub(super) const DEVIATION_MILLIS_MAX: i64 = 60;
const BEHIND_FRAMES_MAX: u32 = 32;
const DRIFT_WINDOW_FRAMES: u32 = 64;
const DRIFT_MILLIS_MAX: i64 = 10;
