//! Plans of first and of later runs.

use proptest::prelude::*;

use crate::config::{EncodeProfile, LadderConfig, LongGop, MissingRungs, RenditionConfig, RenditionSource};
use crate::ladder::RenditionName;
use crate::media::{AudioCodec, AudioFormat, Container, DynamicRange, MediaTime, VideoCodec};
use crate::transcode::audio_plan::AudioMaking;
use crate::transcode::latched::Latched;
use crate::transcode::observed::Source;
use crate::transcode::plan::{Encoding, Making, Passthrough, Plan};
use crate::transcode::probe::{FrameRate, Measured};
use crate::transcode::silence;
use crate::transcode::traits::VideoTraits;

fn traits(width: u32, height: u32) -> VideoTraits {
    let (profile, level) = (100, 31);
    let (codec, range) = (VideoCodec::H264, DynamicRange::Sdr);
    let (sample_aspect, bits_420) = ((1, 1), Some(8));
    VideoTraits {
        codec,
        width,
        height,
        sample_aspect,
        profile,
        level,
        interlaced: false,
        bits_420,
        range,
        container: Container::Cmaf,
    }
}

fn source(width: u32, height: u32, gop: Option<i64>) -> Source {
    let frame_rate = FrameRate { numerator: 30, denominator: 1 };
    let measured = Measured { frame_rate, gop: gop.map(MediaTime::from_millis), bitrate: 3_000_000 };
    Source {
        track: 0,
        video: traits(width, height),
        measured,
        further: Vec::new(),
        audio: Some(silence::lc_format(48_000, 2)),
        long_gop_seen: false,
    }
}

fn rendition(name: &str, source: RenditionSource) -> RenditionConfig {
    RenditionConfig { name: RenditionName::new(name).unwrap(), source }
}

fn ladder(long_gop: LongGop, passthrough: bool, heights: &[u32]) -> LadderConfig {
    let own = passthrough.then(|| rendition("source", RenditionSource::Passthrough { bitrate: None }));
    let encoded = heights
        .iter()
        .map(|&height| rendition(&format!("{height}p"), RenditionSource::Encode { height, bitrate: 1_000_000 }));
    LadderConfig {
        name: "default".to_owned(),
        profile: EncodeProfile::Balanced,
        long_gop,
        missing_rungs: MissingRungs::Encode,
        renditions: own.into_iter().chain(encoded).collect(),
        audio_bitrate: 128_000,
    }
}

const SEGMENT: MediaTime = MediaTime::from_millis(4000);

fn names(plan: &Plan) -> Vec<&str> {
    plan.videos.iter().map(|video| video.name.as_str()).collect()
}

fn sizes(plan: &Plan) -> Vec<Option<(u32, u32)>> {
    let size = |making| match making {
        Making::Pass(_) | Making::Missing => None,
        Making::Encode(Encoding { width, height, .. }) => Some((width, height)),
    };
    plan.videos.iter().map(|video| size(video.making)).collect()
}

#[test]
fn taller_renditions_are_left_out() {
    let plan = Plan::decide(
        &ladder(LongGop::Encode, true, &[1080, 720, 480, 360]),
        SEGMENT,
        &source(1280, 720, Some(2000)),
        None,
    );
    assert_eq!(names(&plan), ["source", "720p", "480p", "360p"]);
    assert_eq!(sizes(&plan), [None, Some((1280, 720)), Some((854, 480)), Some((640, 360))]);
    assert_eq!(plan.passthrough, Passthrough::Passed);
    assert_eq!(plan.videos[1].peak, 1_250_000);
}

#[test]
fn something_is_always_left() {
    let plan = Plan::decide(&ladder(LongGop::Encode, false, &[1080, 720]), SEGMENT, &source(427, 239, None), None);
    assert_eq!((names(&plan), sizes(&plan)), (vec!["720p"], vec![Some((426, 238))]));
}

#[test]
fn a_long_gop_is_encoded_or_stretches_the_segments() {
    let long = source(1280, 720, Some(8333));
    let plan = Plan::decide(&ladder(LongGop::Encode, true, &[]), SEGMENT, &long, None);
    assert_eq!((plan.passthrough, plan.target, sizes(&plan)), (Passthrough::LongGop, SEGMENT, vec![Some((1280, 720))]));
    let plan = Plan::decide(&ladder(LongGop::Stretch, true, &[]), SEGMENT, &long, None);
    assert_eq!((plan.passthrough, plan.target.as_millis()), (Passthrough::Stretched, 8333));
    let unknown = source(1280, 720, None);
    let plan = Plan::decide(&ladder(LongGop::Stretch, true, &[]), SEGMENT, &unknown, None);
    assert_eq!(plan.passthrough, Passthrough::LongGop, "a GOP without an end stretches nothing");
}

#[test]
fn what_players_cannot_decode_is_encoded() {
    let mut odd = source(1280, 720, Some(2000));
    odd.video.profile = 244;
    assert_eq!(
        Plan::decide(&ladder(LongGop::Encode, true, &[]), SEGMENT, &odd, None).passthrough,
        Passthrough::Unplayable
    );
    odd.video = VideoTraits { interlaced: true, ..traits(1920, 1080) };
    assert!(Plan::decide(&ladder(LongGop::Stretch, true, &[]), SEGMENT, &odd, None).passed().is_none());
}

#[test]
fn what_a_transport_stream_cannot_hold_is_encoded() {
    let mut hevc = source(1280, 720, Some(2000));
    hevc.video = VideoTraits { codec: VideoCodec::Hevc, profile: 1, ..hevc.video };
    let plan = |source: &Source| Plan::decide(&ladder(LongGop::Encode, true, &[360]), SEGMENT, source, None);
    assert_eq!(plan(&hevc).passthrough, Passthrough::Passed);
    hevc.video = hevc.video.within(Container::Ts);
    assert_eq!(plan(&hevc).passthrough, Passthrough::Unplayable);
    assert_eq!(sizes(&plan(&hevc)), [Some((1280, 720)), Some((640, 360))]);
    let h264 = source(1280, 720, Some(2000));
    let within = Source { video: h264.video.within(Container::Ts), ..h264 };
    assert_eq!(plan(&within).passthrough, Passthrough::Passed);
}

#[test]
fn row_40_what_began_as_hevc_goes_on_as_h264_of_its_size_and_comes_back() {
    let ladder = ladder(LongGop::Encode, true, &[360]);
    let mut first = source(1280, 720, Some(2000));
    first.video = VideoTraits { codec: VideoCodec::Hevc, profile: 2, bits_420: Some(10), ..first.video };
    let plan = Plan::decide(&ladder, SEGMENT, &first, None);
    assert_eq!(plan.passthrough, Passthrough::Passed);
    let latched = Latched::of(&plan, &first);
    let other = Plan::decide(&ladder, SEGMENT, &source(1280, 720, Some(2000)), Some(&latched));
    assert_eq!(other.passthrough, Passthrough::Changed);
    assert_eq!(sizes(&other), [Some((1280, 720)), Some((640, 360))]);
    assert!(matches!(other.videos[0].making, Making::Encode(Encoding { stands_in: None, .. })));
    assert_eq!(Plan::decide(&ladder, SEGMENT, &first, Some(&latched)).passed(), Some(0));
    let mut bright = first.clone();
    bright.video.range = DynamicRange::Pq;
    assert_eq!(Plan::decide(&ladder, SEGMENT, &bright, Some(&latched)).passthrough, Passthrough::Changed);
}

#[test]
fn wide_samples_are_folded_in() {
    let mut wide = source(1440, 1080, Some(2000));
    wide.video.sample_aspect = (4, 3);
    let plan = Plan::decide(&ladder(LongGop::Encode, true, &[1080, 720]), SEGMENT, &wide, None);
    assert_eq!(sizes(&plan), [None, Some((1920, 1080)), Some((1280, 720))]);
}

#[test]
fn a_later_run_keeps_names_sizes_and_order() {
    let ladder = ladder(LongGop::Encode, true, &[720, 360]);
    let first = source(1280, 720, Some(2000));
    let latched = Latched::of(&Plan::decide(&ladder, SEGMENT, &first, None), &first);
    let small = source(640, 480, Some(1000));
    let plan = Plan::decide(&ladder, SEGMENT, &small, Some(&latched));
    assert_eq!(names(&plan), ["source", "720p", "360p"]);
    assert_eq!(sizes(&plan), [Some((1280, 720)), Some((1280, 720)), Some((640, 360))]);
    assert_eq!(plan.passthrough, Passthrough::Changed);
    let again = Plan::decide(&ladder, SEGMENT, &first, Some(&latched));
    assert_eq!(again.passed(), Some(0));
    let long = Plan::decide(&ladder, SEGMENT, &source(1280, 720, Some(9000)), Some(&latched));
    assert_eq!(long.passthrough, Passthrough::LongGop);
    assert!(matches!(long.videos[0].making, Making::Encode(Encoding { stands_in: Some((100, 31)), .. })));
}

#[test]
fn sound_is_passed_on_made_or_encoded() {
    let ladder = ladder(LongGop::Encode, true, &[]);
    let mut from = source(640, 360, Some(2000));
    assert_eq!(Plan::decide(&ladder, SEGMENT, &from, None).audio.making, AudioMaking::Pass);
    from.audio = None;
    let silent = Plan::decide(&ladder, SEGMENT, &from, None);
    assert_eq!(silent.audio.making, AudioMaking::Silence);
    from.audio = Some(silence::lc_format(44_100, 2));
    let later = Plan::decide(&ladder, SEGMENT, &from, Some(&Latched::of(&silent, &from)));
    assert_eq!(later.audio.format.sample_rate, 48_000);
    assert!(matches!(later.audio.making, AudioMaking::Encode(_)));
    from.audio = Some(AudioFormat { codec: AudioCodec::Aac(5), sample_rate: 22_050, ..silence::lc_format(22_050, 2) });
    let he = Plan::decide(&ladder, SEGMENT, &from, None);
    assert_eq!((he.audio.format.sample_rate, he.audio.format.codec), (44_100, AudioCodec::Aac(2)));
}

proptest! {
    #[test]
    fn sizes_are_even_and_never_above_the_source(
        width in 16u32..4096, height in 16u32..2400, aspect in (1u32..5, 1u32..5), passthrough: bool, gop in 0i64..9000,
        heights in prop::collection::vec(prop::sample::select(vec![1080u32, 720, 480, 361, 360, 240]), 1..5)
    ) {
        let mut from = source(width, height, Some(gop));
        from.video.sample_aspect = aspect;
        let (display_width, display_height) = from.video.display_size();
        let plan = Plan::decide(&ladder(LongGop::Encode, passthrough, &heights), SEGMENT, &from, None);
        prop_assert!(!plan.videos.is_empty());
        for (width, height) in sizes(&plan).into_iter().flatten() {
            prop_assert!(width.is_multiple_of(2) && height.is_multiple_of(2));
            prop_assert!(width <= display_width.max(16) && height <= display_height.max(16));
        }
    }
}
