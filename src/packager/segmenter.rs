//! Gathers the samples of one rendition into parts, and parts into segments, through one run.
//!
//! It is told which segment a unit belongs to, and knows neither media sequence numbers nor wall-clock time.

use bytes::{Bytes, BytesMut};

use super::fragment;
use super::i_frames::IFrame;
use super::part_target::PART_PERCENT_MIN;
use super::sample::{Sample, Sampler};
use crate::live::Part;
use crate::media::{AccessUnit, MediaTime};

/// How a rendition is cut into parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    /// Ticks a second of the rendition's track.
    pub(super) timescale: u32,
    /// `PART-TARGET`: no part is longer. A frame that is shown for longer is followed by parts without media.
    pub(super) part_target: MediaTime,
    /// A guess at a frame's duration.
    pub(super) frame: MediaTime,
    /// Sync samples are chunks of their own, so that each can be fetched and shown alone.
    pub(super) i_frames: bool,
}

/// What a unit completed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Completed {
    /// A part of the open segment became complete.
    pub(super) part: bool,
    /// A segment did.
    pub(super) segment: Option<CutSegment>,
}

/// A segment of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CutSegment {
    /// Which of the run, from 0.
    pub(super) number: u64,
    /// When its first frame is shown.
    pub(super) pts: MediaTime,
    /// When its first frame is decoded.
    pub(super) start: MediaTime,
    /// The time its frames cover.
    pub(super) duration: MediaTime,
    /// Its bytes.
    pub(super) data: Bytes,
    /// Its parts, slices of `data`.
    pub(super) parts: Vec<Part>,
    /// Its sync samples, where they are chunks of their own.
    pub(super) i_frames: Vec<IFrame>,
}

/// The segment that is being made.
#[derive(Debug)]
pub(super) struct Open {
    /// Which of the run, from 0.
    pub(super) number: u64,
    /// When its first frame is shown.
    pub(super) pts: MediaTime,
    /// The parts that are complete.
    pub(super) parts: Vec<Part>,
    i_frames: Vec<IFrame>,
    bytes: usize,
    start: i64,
    end: i64,
}

/// The state machine; see the module.
#[derive(Debug)]
pub(super) struct Segmenter {
    timescale: u32,
    part_ticks: i64,
    i_frames: bool,
    sampler: Sampler,
    sequence: u32,
    open: Option<Open>,
    /// Of the part that is being made.
    samples: Vec<Sample>,
}

impl Segmenter {
    pub(super) fn new(cutting: Cutting) -> Self {
        let Cutting { timescale, part_target, frame, i_frames } = cutting;
        Self {
            timescale,
            part_ticks: ticks_within(part_target, timescale),
            i_frames,
            sampler: Sampler::new(timescale, frame),
            sequence: 1,
            open: None,
            samples: Vec::new(),
        }
    }

    /// Takes the next unit, which belongs to segment `number`: the open one, or a later one, whose cut is at
    /// `boundary`.
    pub(super) fn push(&mut self, number: u64, unit: AccessUnit, boundary: Option<MediaTime>) -> Completed {
        let begins = self.open.as_ref().is_none_or(|o| o.number != number);
        let pts = unit.pts;
        let sample = self.sampler.push(unit, boundary.filter(|_| begins));
        let part = sample.is_some_and(|s| self.add(s));
        if !begins {
            return Completed { part, segment: None };
        }
        let segment = self.finish_segment();
        let start = self.sampler.tick().unwrap_or(0);
        self.open = Some(Open { number, pts, parts: Vec::new(), i_frames: Vec::new(), bytes: 0, start, end: start });
        Completed { part: part || segment.is_some(), segment }
    }

    /// No more units come for a while, or at all: gives out the segment that is open, which ends at `boundary` if one is given.
    pub(super) fn finish(&mut self, boundary: Option<MediaTime>) -> Option<CutSegment> {
        if let Some(sample) = self.sampler.finish(boundary) {
            self.add(sample);
        }
        self.finish_segment()
    }

    /// The segment that is being made.
    pub(super) fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// Adds a sample to the open part. True if that completed a part: this one, or the one before.
    fn add(&mut self, sample: Sample) -> bool {
        let start = self.part_start(&sample);
        // A part that would be too short takes the frame that makes it too long: its rest is told as parts without media.
        let before =
            sample.end() - start > self.part_ticks && self.is_enough(sample.start - start) && self.finish_part();
        let start = self.part_start(&sample);
        let (end, duration) = (sample.end(), i64::from(sample.duration));
        self.samples.push(sample);
        // One more frame like this one would be too many, so there is nothing to wait for. Where the next might just fit, for
        // timestamps of RTMP jitter by a millisecond, or the part would be too short, the next is waited for.
        let too_many = end - start + duration - duration / 8 > self.part_ticks;
        let full = too_many && self.is_enough(end - start) && self.finish_part();
        before || full
    }

    /// A part of so many ticks is not too short.
    fn is_enough(&self, ticks: i64) -> bool {
        ticks.saturating_mul(100) >= self.part_ticks.saturating_mul(PART_PERCENT_MIN)
    }

    /// Where the open part starts, if `next` is to be in it.
    fn part_start(&self, next: &Sample) -> i64 {
        self.samples.first().map_or(next.start, |s| s.start)
    }

    fn finish_part(&mut self) -> bool {
        let (Some(open), Some(first), Some(last)) = (&mut self.open, self.samples.first(), self.samples.last()) else {
            return false;
        };
        let (start, end) = (first.start, last.end());
        let mut data = Vec::with_capacity(capacity(&self.samples));
        for chunk in chunks(&self.samples, self.i_frames) {
            let at = open.bytes + data.len();
            fragment::append(&mut data, self.sequence, chunk);
            self.sequence = self.sequence.wrapping_add(1);
            if let Some(key) = chunk.first().filter(|first| self.i_frames && first.key) {
                let offset = span(open.start, key.start, self.timescale);
                open.i_frames.push(IFrame { offset, bytes: at..open.bytes + data.len() });
            }
        }
        open.bytes += data.len();
        let length = (end - start).min(self.part_ticks);
        let part = Part {
            data: data.into(),
            duration: span(start, start + length, self.timescale),
            independent: self.samples.iter().any(|sample| sample.key),
            gap: false,
        };
        open.end = end;
        open.parts.push(part);
        open.parts.extend(still(start + length, end, self.part_ticks, self.timescale));
        self.samples.clear();
        true
    }

    fn finish_segment(&mut self) -> Option<CutSegment> {
        self.finish_part();
        let open = self.open.take()?;
        let (data, parts) = join(open.parts);
        Some(CutSegment {
            number: open.number,
            pts: open.pts,
            start: MediaTime::from_ticks(open.start, self.timescale),
            duration: span(open.start, open.end, self.timescale),
            data,
            parts,
            i_frames: open.i_frames,
        })
    }
}

/// What is written as a chunk each: a sync sample alone, where that is asked for, and what is between.
fn chunks(samples: &[Sample], i_frames: bool) -> impl Iterator<Item = &[Sample]> {
    samples.chunk_by(move |before, after| !i_frames || !(before.key || after.key))
}

/// Room for samples and two chunks' boxes.
fn capacity(samples: &[Sample]) -> usize {
    samples.iter().map(|sample| sample.data.len() + 16).sum::<usize>() + 320
}

/// The time between two ticks.
fn span(start: i64, end: i64, timescale: u32) -> MediaTime {
    MediaTime::from_ticks(end, timescale) - MediaTime::from_ticks(start, timescale)
}

/// The most ticks that do not last longer than `time`; at least one.
fn ticks_within(time: MediaTime, timescale: u32) -> i64 {
    let nearest = time.to_ticks(timescale);
    let longer = MediaTime::from_ticks(nearest, timescale) > time;
    (nearest - i64::from(longer)).max(1)
}

/// The time in which a frame is still shown after its part has reached `PART-TARGET`, as parts without media: a frozen
/// source must not make a part longer than that (RFC 8216bis, 4.4.4.9), and players have nothing to fetch.
fn still(start: i64, end: i64, part_ticks: i64, timescale: u32) -> impl Iterator<Item = Part> {
    let starts = std::iter::successors(Some(start), move |at| at.checked_add(part_ticks));
    starts.take_while(move |at| *at < end).take(STILL_PARTS_MAX).map(move |at| Part {
        data: Bytes::new(),
        duration: span(at, end.min(at.saturating_add(part_ticks)), timescale),
        independent: false,
        gap: true,
    })
}

/// Parts without media in a row: more than a segment has that is not longer than its target duration.
const STILL_PARTS_MAX: usize = 1_000;

/// Puts the parts' bytes together, and lets the parts share them.
fn join(parts: Vec<Part>) -> (Bytes, Vec<Part>) {
    let mut data = BytesMut::with_capacity(parts.iter().map(|p| p.data.len()).sum());
    for part in &parts {
        data.extend_from_slice(&part.data);
    }
    let data = data.freeze();
    let mut rest = data.clone();
    let share = |part: Part| Part { data: rest.split_to(part.data.len()), ..part };
    (data, parts.into_iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::readback;
    use proptest::prelude::*;

    const SCALE: u32 = 90_000;

    fn segmenter() -> Segmenter {
        Segmenter::new(Cutting {
            timescale: SCALE,
            part_target: MediaTime::from_millis(500),
            frame: MediaTime::from_millis(40),
            i_frames: true,
        })
    }

    fn unit(dts: MediaTime, key: bool) -> AccessUnit {
        AccessUnit { dts, pts: dts, duration: MediaTime::ZERO, key, data: Bytes::from_static(b"12345") }
    }

    /// Feeds frames of these durations in milliseconds, a cut each `gop` frames.
    fn cut(durations: &[i64], gop: usize) -> Vec<CutSegment> {
        let mut segmenter = segmenter();
        let mut dts = 10_000;
        let mut segments = Vec::new();
        for (index, duration) in durations.iter().enumerate() {
            let number = u64::try_from(index / gop).unwrap();
            let frame = unit(MediaTime::from_millis(dts), index % gop == 0);
            segments.extend(segmenter.push(number, frame, None).segment);
            dts += duration;
        }
        segments.extend(segmenter.finish(None));
        segments
    }

    #[test]
    fn parts_are_as_long_as_they_may_be() {
        let segments = cut(&[40; 100], 50);
        assert_eq!(segments.len(), 2);
        let millis: Vec<i64> = segments[0].parts.iter().map(|p| p.duration.as_millis()).collect();
        assert_eq!(millis, [480, 480, 480, 480, 80]);
        let independent: Vec<bool> = segments[0].parts.iter().map(|p| p.independent).collect();
        assert_eq!(independent, [true, false, false, false, false]);
        assert_eq!(segments[1].start, MediaTime::from_millis(12_000));
        assert_eq!(segments[1].duration, MediaTime::from_millis(2_000));
    }

    #[test]
    fn frames_that_jitter_by_a_millisecond_fill_a_part_as_if_they_did_not() {
        let thirds: Vec<i64> = (1..=120).map(|i| (i * 100 + 1) / 3 - ((i - 1) * 100 + 1) / 3).collect();
        let segments = cut(&[&thirds[..], &thirds].concat(), 120);
        let millis: Vec<i64> = segments[0].parts.iter().map(|p| p.duration.as_millis()).collect();
        assert_eq!(millis, [500; 8]);
    }

    #[test]
    fn a_frozen_source_makes_no_part_too_long() {
        let mut segmenter = segmenter();
        for (index, millis) in [0, 40, 80, 1_400, 1_440].into_iter().enumerate() {
            segmenter.push(0, unit(MediaTime::from_millis(10_000 + millis), index == 0), None);
        }
        let parts = segmenter.finish(Some(MediaTime::from_millis(11_480))).unwrap().parts;
        let told: Vec<_> = parts.iter().map(|part| (part.duration.as_millis(), part.gap)).collect();
        assert_eq!(told, [(500, false), (500, true), (400, true), (80, false)]);
        assert_eq!(
            readback::chunks(&parts[0].data)[1].1[1].duration,
            90 * 1_320,
            "the frame itself is shown all the time"
        );
        assert!(parts.iter().filter(|part| part.gap).all(|part| part.data.is_empty()));
    }

    #[test]
    fn a_part_is_complete_as_soon_as_no_frame_more_fits() {
        let mut segmenter = segmenter();
        let done: Vec<bool> = (0..26)
            .map(|i| segmenter.push(0, unit(MediaTime::from_millis(10_000 + i * 40), i == 0), None).part)
            .collect();
        // Twelve frames of 40 ms are 480 ms; the twelfth's duration is known when the thirteenth comes.
        assert_eq!(done.iter().enumerate().filter(|(_, d)| **d).map(|(i, _)| i).collect::<Vec<_>>(), [12, 24]);
    }

    proptest! {
        #[test]
        fn parts_add_up(durations in prop::collection::vec(5i64..75, 1..300), gop in 1usize..80) {
            let segments = cut(&durations, gop);
            let mut sequence = 1;
            let mut next = 900_000;
            for segment in &segments {
                prop_assert_eq!(segment.start.to_ticks(SCALE), next);
                prop_assert_eq!(segment.parts.iter().map(|p| p.duration.as_nanos()).sum::<i64>(), segment.duration.as_nanos());
                let bytes: Vec<u8> = segment.parts.iter().flat_map(|p| p.data.to_vec()).collect();
                prop_assert_eq!(&bytes, &segment.data);
                for (index, part) in segment.parts.iter().enumerate() {
                    prop_assert!(part.duration <= MediaTime::from_millis(500));
                    let last = index + 1 == segment.parts.len();
                    prop_assert!(last || part.duration >= MediaTime::from_millis(425), "{:?}", part.duration);
                    prop_assert_eq!(part.independent, index == 0);
                }
                for (number, samples) in readback::chunks(&segment.data) {
                    prop_assert_eq!(number, sequence);
                    sequence += 1;
                    for sample in samples {
                        prop_assert_eq!(i64::try_from(sample.start).unwrap(), next);
                        next += i64::from(sample.duration);
                    }
                }
            }
            let frames: usize = segments.iter().flat_map(|s| readback::chunks(&s.data)).map(|c| c.1.len()).sum();
            prop_assert_eq!(frames, durations.len());
        }
    }
}
