//! The sound's timeline: frames of the source laid end to end, exact to the sample, with silence where there are none.
//!
//! RTMP tells whole milliseconds, encoders stop sending when muted, and some send sound late. Whatever comes in,
//! what goes out is contiguous and keeps pace with the picture. Pure: sound is given out up to a time that the picture
//! has reached, so that a run can end at any picture without a sample lost or doubled.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::media::{AccessUnit, AudioFormat, MediaTime};

use super::audio_plan::AudioPlan;
use super::silence::{self, FRAME_SAMPLES};

/// Frames that wait for the picture, about 40 s. When it is full the oldest is dropped.
const QUEUE_MAX: usize = 2048;

/// How far sound may lag behind the picture, at first and at most, before silence takes its place.
const PATIENCE: MediaTime = MediaTime::from_millis(500);
const PATIENCE_MAX: MediaTime = MediaTime::from_millis(6000);

/// What was mended, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repairs {
    /// Frames of silence put in.
    pub(super) filled: u64,
    /// Frames of the source dropped, which came too late, twice, or before their format was known.
    pub(super) dropped: u64,
}

/// Frames that wait, and how far what went out reaches.
#[derive(Debug, Default)]
pub(super) struct Lane {
    format: Option<AudioFormat>,
    epoch: u64,
    queue: VecDeque<(u64, AccessUnit)>,
    patience: Option<MediaTime>,
    run: Option<Run>,
    repairs: Repairs,
}

#[derive(Debug)]
struct Run {
    /// Frames of this epoch's format are taken; of no other.
    epoch: Option<u64>,
    start: MediaTime,
    rate: u32,
    silent: Bytes,
    /// Of the first frame, once it is known.
    anchor: Option<MediaTime>,
    frames: i64,
    /// The last frame was put in.
    filling: bool,
}

impl Lane {
    /// The source's sound has this format from here on.
    pub(super) fn set_format(&mut self, format: AudioFormat) {
        self.epoch = self.epoch.saturating_add(1);
        self.format = Some(format);
    }

    /// The source's format, where frames of it have come: what a plan may count on.
    pub(super) fn heard(&self) -> Option<&AudioFormat> {
        let heard = self.queue.back().is_some_and(|&(epoch, _)| epoch == self.epoch);
        self.format.as_ref().filter(|_| heard)
    }

    /// Takes a frame of the source.
    pub(super) fn push(&mut self, unit: AccessUnit) {
        if self.format.is_none() || self.queue.len() >= QUEUE_MAX {
            self.repairs.dropped += 1;
        }
        if self.queue.len() >= QUEUE_MAX {
            self.queue.pop_front();
        }
        if self.format.is_some() && !unit.data.is_empty() {
            self.queue.push_back((self.epoch, unit));
        }
    }

    /// A run begins with the picture at `start`; `horizon` is how far the picture has come already.
    /// A run that follows the last without a hole goes on from its last sample.
    pub(super) fn begin(&mut self, start: MediaTime, horizon: MediaTime, plan: &AudioPlan) {
        if let (Some((_, last)), None) = (self.queue.back(), self.patience) {
            let lag = horizon - last.pts;
            self.patience = Some((lag + lag + PATIENCE).clamp(PATIENCE, PATIENCE_MAX));
        }
        let format = plan.lane_format();
        let frame = MediaTime::from_ticks(i64::from(FRAME_SAMPLES), format.sample_rate);
        let before = self.run.take().filter(|run| run.rate == format.sample_rate).and_then(|run| run.position());
        self.run = Some(Run {
            epoch: self.format.as_ref().filter(|format| plan.takes(format)).map(|_| self.epoch),
            start,
            rate: format.sample_rate,
            silent: silence::frame(format.channels),
            anchor: before.filter(|&end| end >= start && end < start + frame),
            frames: 0,
            filling: false,
        });
    }

    /// The run in progress can take frames of the format that was set since.
    pub(super) fn take_up(&mut self) {
        let epoch = self.epoch;
        if let Some(run) = &mut self.run {
            run.epoch = Some(epoch);
        }
    }

    /// The sound that the picture has caught up with: frames that begin before `until`. Where the source is silent for too long,
    /// silence.
    pub(super) fn release(&mut self, until: MediaTime, out: &mut Vec<AccessUnit>) {
        let patience = self.patience.unwrap_or(PATIENCE);
        self.give(until, until - patience, out);
    }

    /// The run is to end at `until`: all sound that begins before, and silence for what is missing.
    pub(super) fn finish(&mut self, until: MediaTime, out: &mut Vec<AccessUnit>) {
        self.give(until, until, out);
    }

    /// All sound that begins before `until` has come, or it is not worth waiting for it any longer.
    pub(super) fn covers(&self, until: MediaTime, horizon: MediaTime) -> bool {
        let come = self.queue.back().is_some_and(|(_, unit)| unit.pts >= until);
        come || horizon - until > self.patience.unwrap_or(PATIENCE)
    }

    /// How far what went out reaches.
    pub(super) fn position(&self) -> Option<MediaTime> {
        self.run.as_ref().and_then(Run::position)
    }

    /// What was mended since the last call.
    pub(super) fn take_repairs(&mut self) -> Repairs {
        std::mem::take(&mut self.repairs)
    }

    /// Gives out frames that begin before `until`; missing ones are filled up to `fill`.
    fn give(&mut self, until: MediaTime, fill: MediaTime, out: &mut Vec<AccessUnit>) {
        loop {
            self.drop_unusable(until);
            let Some(run) = &mut self.run else { return };
            let head = self.queue.front().map(|(_, unit)| unit.pts);
            let Some(next) = run.next(head, fill) else { return };
            if next >= until {
                return;
            }
            match head {
                Some(pts) if pts <= next + run.tolerance() => {
                    if let Some((_, unit)) = self.queue.pop_front() {
                        run.filling = false;
                        out.push(run.place(unit.data));
                    }
                }
                Some(_) => out.push(run.fill(&mut self.repairs)),
                None if next < fill => out.push(run.fill(&mut self.repairs)),
                None => return,
            }
        }
    }

    /// Drops frames of other formats and frames whose time is past. What came too late teaches patience.
    fn drop_unusable(&mut self, horizon: MediaTime) {
        let Some(run) = &self.run else { return };
        let earliest = run.position().map_or(run.start, |next| next - run.tolerance());
        while let Some((epoch, unit)) = self.queue.front() {
            if run.epoch == Some(*epoch) && unit.pts >= earliest {
                return;
            }
            if run.epoch != Some(*epoch) && unit.pts >= horizon {
                return;
            }
            if run.epoch == Some(*epoch) && run.frames > 0 {
                let lag = horizon - unit.pts + PATIENCE;
                self.patience = Some(self.patience.unwrap_or(PATIENCE).max(lag.min(PATIENCE_MAX)));
                self.repairs.dropped += 1;
            }
            self.queue.pop_front();
        }
    }
}

impl Run {
    fn ticks(&self, frames: i64) -> MediaTime {
        MediaTime::from_ticks(frames.saturating_mul(i64::from(FRAME_SAMPLES)), self.rate)
    }

    /// Half as long again as a frame: nearer than a picture at 30 a second, wider than the jitter of RTMP times.
    /// After a hole the source's next frame goes to the nearest place.
    fn tolerance(&self) -> MediaTime {
        let frame = self.ticks(1);
        let half = MediaTime::from_nanos(frame.as_nanos() / 2);
        if self.filling { half } else { frame + half }
    }

    fn position(&self) -> Option<MediaTime> {
        self.anchor.map(|anchor| anchor + self.ticks(self.frames))
    }

    /// When the next frame begins. The first one, so that the source's frames fall on the grid: `head` is the time of one.
    fn next(&mut self, head: Option<MediaTime>, fill: MediaTime) -> Option<MediaTime> {
        if self.anchor.is_none() {
            self.anchor = match head {
                Some(head) => {
                    let frame = self.ticks(1).as_nanos().max(1);
                    Some(self.start + MediaTime::from_nanos((head - self.start).as_nanos().rem_euclid(frame)))
                }
                None if fill > self.start => Some(self.start),
                None => None,
            };
        }
        self.position()
    }

    fn place(&mut self, data: Bytes) -> AccessUnit {
        let at = self.position().unwrap_or(self.start);
        self.frames = self.frames.saturating_add(1);
        let end = self.position().unwrap_or(at);
        AccessUnit { dts: at, pts: at, duration: end - at, key: true, data }
    }

    fn fill(&mut self, repairs: &mut Repairs) -> AccessUnit {
        if self.epoch.is_some() {
            repairs.filled += 1;
        }
        self.filling = true;
        self.place(self.silent.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::audio_plan::AudioMaking;
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn plan(making: AudioMaking) -> AudioPlan {
        AudioPlan { format: silence::lc_format(48_000, 2), making, average: 128_000 }
    }

    fn frame(at: MediaTime) -> AccessUnit {
        AccessUnit { dts: at, pts: at, duration: MediaTime::ZERO, key: true, data: Bytes::from_static(b"sound") }
    }

    /// The time of the source's frame `n`, rounded to milliseconds as RTMP does.
    fn rtmp(n: i64) -> MediaTime {
        ms(MediaTime::from_ticks(n * 1024, 48_000).to_ticks(1000))
    }

    fn lane() -> Lane {
        let mut lane = Lane::default();
        lane.set_format(silence::lc_format(48_000, 2));
        lane
    }

    fn assert_contiguous(units: &[AccessUnit]) {
        let first = units[0].pts.to_ticks(48_000);
        for (n, unit) in (0i64..).zip(units) {
            assert_eq!(unit.pts.to_ticks(48_000), first + n * 1024, "frame {n}");
        }
    }

    #[test]
    fn millisecond_times_become_exact() {
        let mut lane = lane();
        (0..500).for_each(|n| lane.push(frame(rtmp(n))));
        lane.begin(ms(0), ms(0), &plan(AudioMaking::Pass));
        let mut out = Vec::new();
        lane.release(ms(5000), &mut out);
        assert_eq!(out.len(), 235);
        assert_contiguous(&out);
        assert_eq!(lane.take_repairs(), Repairs::default());
    }

    #[test]
    fn row_21_a_hole_is_filled_and_an_overlap_dropped() {
        let mut lane = lane();
        for n in (0..20).chain(40..60) {
            lane.push(frame(rtmp(n)));
        }
        lane.begin(ms(0), ms(0), &plan(AudioMaking::Pass));
        let mut out = Vec::new();
        lane.release(rtmp(60), &mut out);
        assert_eq!(out.len(), 60);
        assert_contiguous(&out);
        assert_eq!(out.iter().filter(|unit| unit.data == b"sound"[..]).count(), 40);
        assert!((18..=20).contains(&lane.take_repairs().filled));
        (50..70).for_each(|n| lane.push(frame(rtmp(n))));
        lane.release(rtmp(70), &mut out);
        assert_contiguous(&out);
        assert!(lane.take_repairs().dropped >= 8);
    }

    #[test]
    fn row_21_a_muted_source_does_not_hold_up_the_picture() {
        let mut lane = lane();
        (0..20).for_each(|n| lane.push(frame(rtmp(n))));
        lane.begin(ms(0), ms(400), &plan(AudioMaking::Pass));
        let mut out = Vec::new();
        lane.release(ms(3000), &mut out);
        assert!(lane.position().unwrap() >= ms(2400));
        assert_contiguous(&out);
    }

    #[test]
    fn row_14_late_sound_teaches_patience() {
        let mut lane = lane();
        lane.begin(ms(0), ms(0), &plan(AudioMaking::Pass));
        let mut out = Vec::new();
        for step in 0..200 {
            lane.release(ms(step * 100), &mut out);
            for n in 0..5 {
                let at = step * 100 - 2000 + n * 20;
                if at >= 0 {
                    lane.push(frame(ms(at)))
                }
            }
        }
        let tail = &out[out.len() - 100..];
        assert!(tail.iter().filter(|unit| unit.data == b"sound"[..]).count() > 80, "the source is heard again");
        assert_contiguous(&out);
    }

    #[test]
    fn row_20_without_a_source_there_is_silence_from_the_start() {
        let mut lane = Lane::default();
        lane.begin(ms(700), ms(700), &plan(AudioMaking::Silence));
        let mut out = Vec::new();
        lane.release(ms(2000), &mut out);
        lane.finish(ms(2000), &mut out);
        assert_eq!(out[0].pts, ms(700));
        assert_contiguous(&out);
        assert!(lane.position().unwrap() >= ms(2000));
        assert_eq!(lane.take_repairs(), Repairs::default(), "nothing was missing");
    }

    proptest! {
        #[test]
        fn what_goes_out_is_contiguous_and_a_seam_loses_nothing(
            jitter in prop::collection::vec(-10i64..10, 300), seam in 500i64..3000, steps in prop::collection::vec(1i64..200, 1..40)
        ) {
            let mut lane = lane();
            for (n, jitter) in (0i64..).zip(&jitter) { lane.push(frame(rtmp(n) + ms(*jitter))); }
            lane.begin(ms(0), ms(6000), &plan(AudioMaking::Pass));
            let mut out = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                if now < seam { lane.release(ms(now), &mut out); }
            }
            lane.finish(ms(seam), &mut out);
            lane.begin(ms(seam), ms(6000), &plan(AudioMaking::Pass));
            lane.finish(ms(5000), &mut out);
            assert_contiguous(&out);
            prop_assert!(out.iter().all(|unit| unit.data == b"sound"[..]));
        }
    }
}
