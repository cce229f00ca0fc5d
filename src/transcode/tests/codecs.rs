//! Pictures that are not H.264: passed on where players take them, and a ladder of H.264 beside or instead.

use super::decode::decode;
use super::media::{Clip, obus};
use super::runs::{Run, assert_whole, ladder, play, setup, source_pts, units};
use crate::media::{AccessUnit, Colour, MediaTime, Track, TrackFormat, VideoCodec};
use crate::source::SourceEvent;
use crate::transcode::SourceEnd;

const HEVC: &str = "x265enc name=encoder speed-preset=ultrafast key-int-max=30 option-string=scenecut=0:open-gop=0:log-level=none:bframes=2:pools=1 \
                    ! h265parse ! video/x-h265,stream-format=hvc1,alignment=au";
const AV1: &str = "av1enc name=encoder usage-profile=realtime cpu-used=8 keyframe-max-dist=30 lag-in-frames=0 threads=1 \
                   ! av1parse ! video/x-av1,stream-format=obu-stream,alignment=tu";
const VP9: &str = "vp9enc name=encoder deadline=1 cpu-used=8 keyframe-max-dist=30 lag-in-frames=0 threads=1";

fn clip(video: &'static str) -> Clip {
    Clip { size: (320, 180), frames: 90, gop: 30, video: Some(video), ..Clip::default() }
}

fn codecs(run: &Run) -> Vec<VideoCodec> {
    let codec = |format: &Option<TrackFormat>| match format {
        Some(TrackFormat::Video(format)) => Some(format.codec),
        _ => None,
    };
    run.formats.iter().filter_map(codec).collect()
}

/// Two seconds, then the rest of a ladder of one rung: what comes out is whole, aligned, and to be seen.
async fn check(clip: Clip, expected: [VideoCodec; 2]) -> Vec<Run> {
    let events = clip.events();
    let source = source_pts(&events);
    let (outcome, runs) = play(setup(ladder(&[90]), 2000), events).await;
    assert_eq!((outcome.end, runs.len()), (SourceEnd::Lost, 1));
    assert_eq!(codecs(&runs[0]), expected);
    assert_whole(&runs, &source);
    let cuts: Vec<i64> = runs[0].cuts(1).iter().map(|(_, pts)| pts / 1_000_000).collect();
    assert_eq!(cuts, [0, 2000]);
    let pictures = decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1));
    assert_eq!(pictures.len(), source.len());
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_hevc_is_passed_on_beside_a_ladder() {
    let red = Clip { pattern: "red", ..clip(HEVC) };
    let runs = check(red, [VideoCodec::Hevc, VideoCodec::H264]).await;
    let pictures = decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1));
    let colour = pictures[10].colour((160, 90), (80, 44));
    assert!(colour.iter().zip([81_u8, 90, 240]).all(|(a, b)| a.abs_diff(b) <= 4), "{colour:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_hevc_of_ten_bits_is_passed_on_and_its_ladder_has_eight() {
    let red = Clip { pattern: "red", raw: "format=I420_10LE", ..clip(HEVC) };
    let events = red.events();
    let bits = events.iter().find_map(|event| match event {
        SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format)) => Some(format.coding.luma_bits),
        _ => None,
    });
    assert_eq!(bits, Some(10));
    let runs = check(red, [VideoCodec::Hevc, VideoCodec::H264]).await;
    let pictures = decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1));
    let colour = pictures[10].colour((160, 90), (80, 44));
    assert!(colour.iter().zip([81_u8, 90, 240]).all(|(a, b)| a.abs_diff(b) <= 4), "{colour:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_high_dynamic_range_is_passed_on_above_a_ladder_that_says_it_is_standard() {
    let colour = Some(Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false });
    let raw = "format=I420_10LE,colorimetry=bt2100-pq";
    let runs = check(Clip { colour, raw, ..clip(HEVC) }, [VideoCodec::Hevc, VideoCodec::H264]).await;
    let Some(TrackFormat::Video(format)) = &runs[0].formats[0] else { panic!("a format") };
    assert_eq!(format.coding.colour, colour);
    let pictures = decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1));
    assert_eq!(pictures[0].colorimetry.as_deref(), Some("bt709"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_av1_is_passed_on_beside_a_ladder() {
    check(clip(AV1), [VideoCodec::Av1, VideoCodec::H264]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_av1_with_its_sequence_header_in_the_record_alone_is_decoded() {
    let mut events = clip(AV1).events();
    for event in &mut events {
        if let SourceEvent::Unit(Track::VIDEO, unit) = event {
            unit.data =
                obus(&unit.data).into_iter().filter(|obu| obu[0] >> 3 & 15 != 1).collect::<Vec<_>>().concat().into();
        }
    }
    let (_, runs) = play(setup(ladder(&[90]), 2000), events).await;
    assert!(!decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_vp9_is_encoded() {
    check(clip(VP9), [VideoCodec::H264, VideoCodec::H264]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_40_a_source_that_turns_from_hevc_to_h264_keeps_its_renditions_and_their_sizes() {
    let first = clip(HEVC).events();
    let shift = MediaTime::from_millis(3000);
    let second = Clip { size: (480, 360), video: None, ..clip(HEVC) }.events();
    let later = second.into_iter().filter_map(|event| match event {
        SourceEvent::Unit(track, unit) => {
            Some(SourceEvent::Unit(track, AccessUnit { pts: unit.pts + shift, dts: unit.dts + shift, ..unit }))
        }
        SourceEvent::Format(Track::Audio, _) => None,
        other => Some(other),
    });
    let events: Vec<_> = first.into_iter().chain(later).collect();
    let source = source_pts(&events);
    let (_, runs) = play(setup(ladder(&[90]), 2000), events).await;
    assert_eq!(
        runs.iter().map(codecs).collect::<Vec<_>>(),
        [[VideoCodec::Hevc, VideoCodec::H264], [VideoCodec::H264; 2]]
    );
    assert_whole(&runs, &source);
    let sizes = |run: &Run| -> Vec<(u32, u32)> {
        let video = |format: &Option<TrackFormat>| match format {
            Some(TrackFormat::Video(format)) => Some((format.width, format.height)),
            _ => None,
        };
        run.formats.iter().filter_map(video).collect()
    };
    assert_eq!(sizes(&runs[0]), [(320, 180), (160, 90)]);
    assert_eq!(sizes(&runs[0]), sizes(&runs[1]));
}
