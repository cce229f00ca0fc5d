//! The packager's hot path: a channel's segmenting, box writing, and the text of a media playlist.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use headwater::config::HlsConfig;
use headwater::ladder::{LadderEvent, RenditionKind, RenditionName, RenditionSpec, RunStart};
use headwater::live::{Media, Msn, Segment, SessionId};
use headwater::media::{
    AccessUnit, AudioCodec, AudioFormat, Container, MediaTime, TrackFormat, VideoCodec, VideoCoding, VideoFormat,
};
use headwater::packager::sample::Sample;
use headwater::packager::{Packager, fragment};
use headwater::playlist::MediaPlaylist;

const AVCC: &[u8] = &[1, 100, 0, 31, 255, 225, 0, 4, 0x67, 100, 0, 31, 1, 0, 2, 0x68, 0xee];
const HLS: HlsConfig = HlsConfig {
    container: Container::Cmaf,
    low_latency: true,
    segment_duration: Duration::from_secs(4),
    part_duration: Duration::from_millis(500),
    window: Duration::from_secs(60),
    memory: Duration::from_secs(180),
    memory_max: Duration::from_secs(900),
};
/// Frames of a minute at 30 frames a second, and bytes of each: 2.9 Mbit/s.
const FRAMES: u64 = 1_800;
const FRAME_BYTES: usize = 12_000;

fn start() -> RunStart {
    let spec = |name: &str, kind, frame_rate| RenditionSpec {
        name: RenditionName::new(name).expect("a name"),
        kind,
        bitrate_average: 2_900_000,
        bitrate_peak: 2_900_000,
        frame_rate,
    };
    RunStart {
        start: MediaTime::from_millis(10_000),
        wall_clock: SystemTime::UNIX_EPOCH,
        target_duration: MediaTime::from_millis(4_000),
        renditions: vec![spec("720p", RenditionKind::Video, Some(30.0)), spec("audio", RenditionKind::Audio, None)],
    }
}

fn formats() -> [LadderEvent; 2] {
    let video = VideoFormat {
        codec: VideoCodec::H264,
        config: Bytes::from_static(AVCC),
        width: 1280,
        height: 720,
        coding: VideoCoding::PLAIN,
    };
    let config = Bytes::from_static(&[0x11, 0x90]);
    let audio = AudioFormat { codec: AudioCodec::Aac(2), config, sample_rate: 48_000, channels: 2 };
    [LadderEvent::Format(0, TrackFormat::Video(video)), LadderEvent::Format(1, TrackFormat::Audio(audio))]
}

fn unit(tick: i64, timescale: u32, key: bool, data: &Bytes) -> AccessUnit {
    let time = MediaTime::from_millis(10_000) + MediaTime::from_ticks(tick, timescale);
    AccessUnit { dts: time, pts: time, duration: MediaTime::ZERO, key, data: data.clone() }
}

/// A minute of one picture and the sound.
fn minute() -> Vec<LadderEvent> {
    let (picture, sound) = (Bytes::from(vec![7; FRAME_BYTES]), Bytes::from(vec![7; 341]));
    let mut events = vec![LadderEvent::Start(start())];
    events.extend(formats());
    let mut heard = 0;
    for frame in 0..FRAMES {
        let tick = i64::try_from(frame).unwrap_or(0) * 3_000;
        let cut = (frame % 120 == 0).then_some(frame / 120);
        events.push(LadderEvent::Unit { rendition: 0, unit: unit(tick, 90_000, cut.is_some(), &picture), cut });
        while heard * 1_024 * 90_000 < tick * 48_000 {
            events.push(LadderEvent::Unit { rendition: 1, unit: unit(heard * 1_024, 48_000, true, &sound), cut: None });
            heard += 1;
        }
    }
    events.push(LadderEvent::Finish);
    events
}

fn segmenting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packager");
    group.throughput(Throughput::Elements(FRAMES));
    group.bench_function("a minute of 720p30 and AAC", |bencher| {
        let package = |events: Vec<LadderEvent>| {
            let mut packager = Packager::new(HLS);
            for event in events {
                black_box(packager.handle(event, SystemTime::UNIX_EPOCH));
            }
            packager
        };
        bencher.iter_batched(minute, package, BatchSize::LargeInput);
    });
    group.finish();
}

fn boxes(criterion: &mut Criterion) {
    let data = Bytes::from(vec![7; FRAME_BYTES]);
    let sample = |n: i64| Sample { start: n * 3_000, duration: 3_000, offset: 6_000, key: n == 0, data: data.clone() };
    let samples: Vec<Sample> = (0..15).map(sample).collect();
    let mut group = criterion.benchmark_group("boxes");
    group.throughput(Throughput::Bytes(15 * 12_000));
    group.bench_function("a part of 15 frames", |bencher| bencher.iter(|| fragment::write(1, black_box(&samples))));
    group.finish();
}

fn playlist(criterion: &mut Criterion) {
    let rendition = RenditionName::new("720p").expect("a name");
    let segment = |n: u64| Segment {
        msn: Msn(n),
        session: SessionId(1_800_000_000_000),
        discontinuity: false,
        start: MediaTime::ZERO,
        duration: MediaTime::from_millis(4_000),
        program_date_time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + 4 * n),
        media: Media::Hot { data: Bytes::new(), parts: Vec::new() },
    };
    let segments: Vec<Segment> = (1..=15).map(segment).collect();
    let text = MediaPlaylist {
        rendition: &rendition,
        container: Container::Cmaf,
        target_duration_secs: 4,
        first: Msn(1),
        discontinuity_sequence: 0,
        ended: false,
    };
    criterion.bench_function("playlist text of 15 segments", |bencher| {
        bencher.iter(|| text.write(black_box(&segments).iter()));
    });
}

/// A packager in whose window as much is listed as `window` says, but for the last part, and the events of that and a few more.
fn long_programme(window: Duration) -> (Packager, Vec<LadderEvent>) {
    let hls = HlsConfig { window, ..HLS };
    let mut packager = Packager::new(hls);
    let frames = window.as_secs() * 30 + FRAMES;
    let picture = Bytes::from_static(&[7; 64]);
    let unit_at = |frame: u64| {
        let cut = frame.is_multiple_of(120).then_some(frame / 120);
        let unit = unit(i64::try_from(frame).unwrap_or(0) * 3_000, 90_000, cut.is_some(), &picture);
        LadderEvent::Unit { rendition: 0, unit, cut }
    };
    let mut spec = start();
    spec.renditions.truncate(1);
    let begin = [LadderEvent::Start(spec), formats().into_iter().next().expect("a picture's")];
    for event in begin.into_iter().chain((0..frames).map(unit_at)) {
        packager.handle(event, SystemTime::UNIX_EPOCH);
    }
    (packager, (frames..frames + 240).map(unit_at).collect())
}

/// What the length of the window costs: of each segment, and of each part where somebody asks for the whole playlist.
fn windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two segments in sixteen parts");
    for (name, window) in [("of 60 s", Duration::from_secs(60)), ("of 2 h", Duration::from_secs(7_200))] {
        for asked in [false, true] {
            let (mut packager, events) = long_programme(window);
            let mut shift = 0i64;
            let what = if asked { "and the playlist of each" } else { "that nobody asks for" };
            group.bench_function(format!("{name}, {what}"), |bencher| {
                bencher.iter(|| {
                    for event in &events {
                        let LadderEvent::Unit { rendition, unit, cut } = event.clone() else { continue };
                        let later = MediaTime::from_ticks(shift * 720_000, 90_000);
                        let (dts, pts) = (unit.dts + later, unit.pts + later);
                        let cut = cut.map(|cut| cut + u64::try_from(shift).unwrap_or(0) * 2);
                        let unit = AccessUnit { dts, pts, ..unit };
                        let before = std::sync::Arc::clone(packager.snapshot());
                        packager.handle(LadderEvent::Unit { rendition, unit, cut }, SystemTime::UNIX_EPOCH);
                        if asked && !std::sync::Arc::ptr_eq(&before, packager.snapshot()) {
                            let low = packager.snapshot().renditions.iter().filter_map(|r| r.low_latency.as_ref());
                            let lengths = low.map(|low| low.full.text.len());
                            black_box(lengths.sum::<usize>());
                        }
                    }
                    shift += 1;
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, segmenting, boxes, playlist, windows);
criterion_main!(benches);
