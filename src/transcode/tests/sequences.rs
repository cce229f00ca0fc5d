//! The sequencer over any source: every picture is in exactly one run, cuts have no holes, sound is contiguous.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::config::{EncodeProfile, LadderConfig, LongGop, MissingRungs, RenditionConfig, RenditionSource};
use crate::ladder::RenditionName;
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat, VideoCodec, VideoCoding, VideoFormat};
use crate::source::SourceEvent;
use crate::transcode::sequence::{Sequencer, Step};
use crate::transcode::silence;
use crate::transcode::traits::X264_640X360;

fn ladder(long_gop: LongGop) -> Arc<LadderConfig> {
    let source = RenditionConfig {
        name: RenditionName::new("source").unwrap(),
        source: RenditionSource::Passthrough { bitrate: None },
    };
    Arc::new(LadderConfig {
        name: "test".to_owned(),
        profile: EncodeProfile::Balanced,
        long_gop,
        missing_rungs: MissingRungs::Encode,
        renditions: vec![source],
        audio_bitrate: 128_000,
    })
}

fn unit(dts: i64, pts: i64, key: bool) -> AccessUnit {
    let (dts, pts) = (MediaTime::from_millis(dts), MediaTime::from_millis(pts));
    AccessUnit { dts, pts, duration: MediaTime::ZERO, key, data: Bytes::from_static(b"picture") }
}

/// GOPs of these numbers of frames at 25 a second, with B-frames or without, and sound beside them.
fn source(gops: &[u32], b_frames: bool) -> Vec<SourceEvent> {
    let format = VideoFormat {
        codec: VideoCodec::H264,
        config: Bytes::from_static(X264_640X360),
        width: 640,
        height: 360,
        coding: VideoCoding::PLAIN,
    };
    let mut events = vec![
        SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format)),
        SourceEvent::Format(Track::Audio, TrackFormat::Audio(silence::lc_format(48_000, 2))),
    ];
    let (mut frame, mut sound) = (0_i64, 0_i64);
    for &gop in gops {
        let first = frame;
        for n in 0..i64::from(gop) {
            let shown = if b_frames { reordered(n, i64::from(gop)) } else { n };
            events.push(SourceEvent::Unit(Track::VIDEO, unit(frame * 40, (first + shown) * 40 + 80, n == 0)));
            frame += 1;
            while sound * 64 / 3 < frame * 40 {
                events.push(SourceEvent::Unit(Track::Audio, unit(sound * 64 / 3, sound * 64 / 3, true)));
                sound += 1;
            }
        }
    }
    events
}

/// In decoding order: the IDR, then pairs of a P and the B before it; a last one alone stays in place.
fn reordered(n: i64, gop: i64) -> i64 {
    match n {
        0 => 0,
        n if n % 2 == 1 && n + 1 < gop => n + 1,
        n if n % 2 == 0 => n - 1,
        n => n,
    }
}

fn sent(events: &[SourceEvent]) -> Vec<i64> {
    let pts = events.iter().filter_map(|event| match event {
        SourceEvent::Unit(Track::VIDEO, unit) => Some(unit.pts.as_millis()),
        _ => None,
    });
    pts.collect()
}

/// Plays the steps like the driver, and checks each run.
fn replay(steps: Vec<Step>) -> Result<Vec<i64>, TestCaseError> {
    let (mut shown, mut open, mut next_cut, mut sound) = (Vec::new(), false, 0, None::<i64>);
    for step in steps {
        match step {
            Step::Begin(run) => {
                prop_assert!(!open);
                prop_assert!(run.lead_in.iter().all(|unit| Some(unit.pts) <= run.shown));
                (open, next_cut) = (true, 0);
            }
            Step::Video(unit, cut) => {
                prop_assert!(open);
                shown.push(unit.pts.as_millis());
                if let Some(cut) = cut {
                    prop_assert!(unit.key && cut.pts == unit.pts && cut.number == next_cut);
                    next_cut += 1;
                }
            }
            Step::Audio(unit) => {
                prop_assert!(open);
                let at = unit.pts.to_ticks(48_000);
                prop_assert!(sound.is_none_or(|before| before + 1024 == at), "{sound:?} {at}");
                sound = Some(at);
            }
            Step::End => {
                prop_assert!(open);
                open = false;
            }
            Step::Follow(_) => return Err(TestCaseError::fail("one track follows nobody")),
            Step::Refuse(sentence) => return Err(TestCaseError::fail(sentence)),
        }
    }
    prop_assert!(!open);
    Ok(shown)
}

proptest! {
    #[test]
    fn every_picture_is_in_one_run(
        gops in prop::collection::vec(prop_oneof![1u32..30, 30u32..100, 100u32..400], 1..8), b_frames: bool, stretch: bool
    ) {
        let long_gop = if stretch { LongGop::Stretch } else { LongGop::Encode };
        let mut sequencer = Sequencer::new(ladder(long_gop), MediaTime::from_millis(4000), None);
        let events = source(&gops, b_frames);
        let pictures = sent(&events);
        let mut steps: Vec<Step> = events.into_iter().flat_map(|event| sequencer.push(event)).collect();
        steps.extend(sequencer.finish());
        prop_assert_eq!(replay(steps)?, pictures);
    }
}
