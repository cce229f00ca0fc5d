//! For tests: ladder events as a transcoder would send them, and what they must lead to.

use bytes::Bytes;
use proptest::prelude::*;

use super::testing;
use crate::config::HlsConfig;
use crate::ladder::{LadderEvent, RenditionKind, RenditionName, RenditionSpec, RunStart};
use crate::media::{AccessUnit, Container, MediaTime};
use std::time::Duration;

/// Two pictures and the sound.
pub(crate) const RENDITIONS: [&str; 3] = ["720p", "360p", "audio"];
pub(crate) const SOUND: usize = 2;
const SMALL_PICTURE: &str = "360p";
/// Samples of an AAC frame, and their rate.
const FRAME: i64 = 1_024;
const RATE: u32 = 48_000;

pub(crate) fn hls() -> HlsConfig {
    HlsConfig {
        container: Container::Cmaf,
        low_latency: true,
        segment_duration: Duration::from_secs(2),
        part_duration: Duration::from_millis(500),
        window: Duration::from_secs(9),
        memory: Duration::from_secs(180),
        memory_max: Duration::from_secs(900),
    }
}

/// One publish session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Durations of frames in milliseconds.
    pub(crate) frames: Vec<i64>,
    /// B-frames between references; 0 for none.
    pub(crate) reorder: usize,
    /// Frames from one IDR to the next within a segment.
    pub(crate) gop: usize,
    /// How much sound there is after the picture's end, in milliseconds.
    pub(crate) tail: i64,
    /// Which rendition each next unit comes from.
    pub(crate) turns: Vec<usize>,
    /// Whether the programme ends with it.
    pub(crate) finish: bool,
    /// By how much the wall clock is off at its start.
    pub(crate) clock_millis: i64,
    /// It lacks the small picture.
    pub(crate) is_small: bool,
}

pub(crate) fn session() -> impl Strategy<Value = Session> {
    let frames = prop_oneof![
        prop::collection::vec(33i64..35, 1..700),
        prop::collection::vec(15i64..70, 1..400),
        prop::collection::vec(Just(40i64), 1..500),
    ];
    let turns = prop::collection::vec(0..RENDITIONS.len(), 1..50);
    let chances = (prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    // Now and then the source stands still; without B-frames, whose times would have to wait for it.
    let still = prop_oneof![9 => 33i64..35, 1 => 400i64..1_900];
    let frozen = prop::collection::vec(still, 1..100).prop_map(|frames| (frames, 0));
    let frames = prop_oneof![3 => (frames, 0usize..3), 1 => frozen];
    let gop = prop_oneof![Just(usize::MAX), 5usize..40];
    (frames, gop, 0i64..100, turns, chances, -5_000i64..5_000).prop_map(
        |((frames, reorder), gop, tail, turns, (finish, is_small), clock_millis)| Session {
            frames,
            reorder,
            gop,
            tail,
            turns,
            finish,
            clock_millis,
            is_small,
        },
    )
}

/// So many frames at 25 a second.
pub(crate) fn steady(frames: usize, finish: bool) -> Session {
    Session {
        frames: vec![40; frames],
        reorder: 2,
        gop: usize::MAX,
        tail: 0,
        turns: vec![0, 1, 2],
        finish,
        clock_millis: 0,
        is_small: false,
    }
}

/// A session's units of every rendition, in order of decoding, with the cuts.
pub(crate) type Units = Vec<Vec<(AccessUnit, Option<u64>)>>;

impl Session {
    pub(crate) fn start_event(&self, start: i64) -> LadderEvent {
        LadderEvent::Start(RunStart {
            start: MediaTime::from_millis(start),
            wall_clock: testing::wall_clock(start + self.clock_millis),
            target_duration: MediaTime::from_millis(2_000),
            renditions: specs().into_iter().filter(|spec| self.has(spec.name.as_str())).collect(),
        })
    }

    /// The units, if the first picture is shown at `start` milliseconds.
    pub(crate) fn units(&self, start: i64) -> Units {
        vec![self.video(start, self.reorder, 0), self.video(start, 0, 1), self.audio(start)]
    }

    pub(crate) fn duration(&self) -> i64 {
        self.frames.iter().sum()
    }

    /// All events, the renditions interleaved at random.
    pub(crate) fn events(&self, start: i64) -> Vec<LadderEvent> {
        let mut events = vec![self.start_event(start)];
        for (index, _) in RENDITIONS.iter().enumerate() {
            let format = if index == SOUND { testing::audio_format() } else { testing::video_format() };
            events.push(LadderEvent::Format(index, format));
        }
        let mut queues: Vec<_> = self.units(start).into_iter().map(Vec::into_iter).collect();
        let mut turns = self.turns.iter().cycle();
        while queues.iter().any(|q| q.len() > 0) {
            let rendition = *turns.next().unwrap();
            // Whoever's turn it is sends a few; a queue that is empty passes its turn to the next.
            let rendition = (rendition..rendition + 3).map(|r| r % 3).find(|r| queues[*r].len() > 0).unwrap();
            for (unit, cut) in queues[rendition].by_ref().take(7) {
                events.push(LadderEvent::Unit { rendition, unit, cut });
            }
        }
        events.push(if self.finish { LadderEvent::Finish } else { LadderEvent::Stop });
        events.into_iter().filter_map(|event| self.offered(event)).collect()
    }

    pub(crate) fn has(&self, rendition: &str) -> bool {
        !self.is_small || rendition != SMALL_PICTURE
    }

    /// The event as it is if the small picture is not there.
    fn offered(&self, event: LadderEvent) -> Option<LadderEvent> {
        let index = |rendition: usize| if self.is_small && rendition > 1 { rendition - 1 } else { rendition };
        match event {
            LadderEvent::Format(1, _) | LadderEvent::Unit { rendition: 1, .. } if self.is_small => None,
            LadderEvent::Format(rendition, format) => Some(LadderEvent::Format(index(rendition), format)),
            LadderEvent::Unit { rendition, unit, cut } => {
                Some(LadderEvent::Unit { rendition: index(rendition), unit, cut })
            }
            other => Some(other),
        }
    }

    /// Frames in decoding order. An IDR stands wherever the next cut is due: no segment is longer than 2 s.
    fn video(&self, start: i64, reorder: usize, rendition: u8) -> Vec<(AccessUnit, Option<u64>)> {
        let mut shown = Vec::new();
        let (mut pts, mut cut_at, mut cuts, mut since_key) = (start, start, 0, 0);
        for duration in &self.frames {
            let cut = shown.is_empty() || pts + duration - cut_at > 2_000;
            if cut {
                cut_at = pts;
                cuts += 1;
            }
            since_key = if cut || since_key + 1 == self.gop { 0 } else { since_key + 1 };
            shown.push(Shown { pts, cut: cut.then(|| cuts - 1), key: since_key == 0 });
            pts += duration;
        }
        decoding_order(&shown, reorder)
            .map(|(dts, Shown { pts, cut, key })| (picture(dts, pts, key, rendition), cut))
            .collect()
    }

    fn audio(&self, start: i64) -> Vec<(AccessUnit, Option<u64>)> {
        let first = MediaTime::from_millis(start).to_ticks(RATE);
        let end = MediaTime::from_millis(start + self.duration() + self.tail).to_ticks(RATE);
        (0..).map(|n| first + n * FRAME).take_while(|t| *t < end).map(|t| (sound(t), None)).collect()
    }
}

/// A frame in the order of presentation.
#[derive(Clone, Copy)]
struct Shown {
    pts: i64,
    cut: Option<u64>,
    key: bool,
}

/// Reorders each closed group: every `reorder` frames before a reference are decoded after it. Decode times are
/// the sorted presentation times, shifted so that none is after its presentation.
fn decoding_order(shown: &[Shown], reorder: usize) -> impl Iterator<Item = (i64, Shown)> + use<> {
    let mut order = Vec::new();
    for group in shown.chunk_by(|_, next| !next.key) {
        order.push(group[0]);
        for batch in group[1..].chunks(reorder + 1) {
            order.extend(batch.last());
            order.extend(&batch[..batch.len() - 1]);
        }
    }
    let shift = if reorder > 0 { 70 } else { 0 };
    let dts: Vec<i64> = shown.iter().map(|frame| frame.pts - shift).collect();
    dts.into_iter().zip(order)
}

fn picture(dts: i64, pts: i64, key: bool, rendition: u8) -> AccessUnit {
    // One NAL unit, without bytes that could be taken for a start code.
    let mut nal = vec![if key { 0x65 } else { 0x41 }];
    nal.extend(vec![rendition + 1; 60 + usize::try_from(pts % 7).unwrap()]);
    nal.extend(format!("{pts}").into_bytes());
    let mut data = u32::try_from(nal.len()).unwrap().to_be_bytes().to_vec();
    data.extend(nal);
    let time = MediaTime::from_millis;
    AccessUnit { dts: time(dts), pts: time(pts), duration: MediaTime::ZERO, key, data: data.into() }
}

fn sound(tick: i64) -> AccessUnit {
    let time = MediaTime::from_ticks(tick, RATE);
    let duration = MediaTime::from_ticks(FRAME, RATE);
    AccessUnit { dts: time, pts: time, duration, key: true, data: Bytes::from(tick.to_be_bytes().to_vec()) }
}

pub(crate) fn specs() -> Vec<RenditionSpec> {
    RENDITIONS.map(spec).to_vec()
}

fn spec(name: &str) -> RenditionSpec {
    let is_audio = name == "audio";
    RenditionSpec {
        name: RenditionName::new(name).unwrap(),
        kind: if is_audio { RenditionKind::Audio } else { RenditionKind::Video },
        bitrate_average: 1_000,
        bitrate_peak: 1_000,
        frame_rate: (!is_audio).then_some(30.0),
    }
}
