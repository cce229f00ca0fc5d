//! Runs: what comes out for what goes in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::decode::{decode, onsets};
use super::media::Clip;
use crate::config::{EncodeProfile, HlsConfig, LadderConfig, LongGop, MissingRungs, RenditionConfig, RenditionSource};
use crate::ladder::{LadderEvent, RenditionName, RunStart};
use crate::media::{AccessUnit, AudioCodec, Container, MediaTime, Track, TrackFormat};
use crate::metrics::Metrics;
use crate::source::{ChannelName, SourceEvent};
use crate::transcode::traits::VideoTraits;
use crate::transcode::{Latched, Outcome, Setup, SourceEnd, run};

pub(super) fn ladder(heights: &[u32]) -> LadderConfig {
    let rendition = |name: &str, source| RenditionConfig { name: RenditionName::new(name).unwrap(), source };
    let own = rendition("source", RenditionSource::Passthrough { bitrate: None });
    let encoded = heights
        .iter()
        .map(|&height| rendition(&format!("{height}p"), RenditionSource::Encode { height, bitrate: 400_000 }));
    LadderConfig {
        name: "test".to_owned(),
        profile: EncodeProfile::Balanced,
        long_gop: LongGop::Encode,
        missing_rungs: MissingRungs::Encode,
        renditions: [own].into_iter().chain(encoded).collect(),
        audio_bitrate: 96_000,
    }
}

pub(super) fn setup(ladder: LadderConfig, segment_millis: u64) -> Setup {
    Setup {
        channel: ChannelName::new("test").unwrap(),
        ladder: Arc::new(ladder),
        hls: HlsConfig {
            container: Container::Cmaf,
            low_latency: true,
            segment_duration: Duration::from_millis(segment_millis),
            part_duration: Duration::from_millis(500),
            window: Duration::from_secs(60),
            memory: Duration::from_secs(180),
            memory_max: Duration::from_secs(900),
        },
        latched: None::<Latched>,
        metrics: Metrics::default(),
    }
}

/// One run that came out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) start: RunStart,
    pub(super) formats: Vec<Option<TrackFormat>>,
    pub(super) units: Vec<Vec<(AccessUnit, Option<u64>)>>,
    /// Renditions that have no media in it.
    missing: Vec<usize>,
    stopped: bool,
}

impl Run {
    pub(super) fn audio(&self) -> &[(AccessUnit, Option<u64>)] {
        self.units.last().unwrap()
    }

    fn videos(&self) -> &[Vec<(AccessUnit, Option<u64>)>] {
        &self.units[..self.units.len() - 1]
    }

    pub(super) fn cuts(&self, rendition: usize) -> Vec<(u64, i64)> {
        self.units[rendition].iter().filter_map(|(unit, cut)| Some(((*cut)?, unit.pts.as_nanos()))).collect()
    }
}

/// Plays `events` through the stage.
pub(super) async fn play(setup: Setup, events: Vec<SourceEvent>) -> (Outcome, Vec<Run>) {
    // Both as small as can be, so that back-pressure is at work all the time.
    let (source, source_out) = mpsc::channel(1);
    let (out, mut ladder) = mpsc::channel(1);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for event in events {
            if source.send(event).await.is_err() {
                break;
            }
        }
    });
    let collecting = async {
        let mut runs = Vec::new();
        while let Some(event) = ladder.recv().await {
            collect(&mut runs, event);
        }
        runs
    };
    let (outcome, runs) = tokio::join!(run(setup, source_out, out), collecting);
    for run in &runs {
        check(run);
    }
    (outcome, runs)
}

fn collect(runs: &mut Vec<Run>, event: LadderEvent) {
    match event {
        LadderEvent::Start(start) => {
            assert!(runs.last().is_none_or(|run| run.stopped), "a run begins after the last one stopped");
            let count = start.renditions.len();
            let (formats, units) = (vec![None; count], vec![Vec::new(); count]);
            runs.push(Run { start, formats, units, missing: Vec::new(), stopped: false });
        }
        LadderEvent::Format(rendition, format) => {
            let old = runs.last_mut().unwrap().formats[rendition].replace(format);
            assert_eq!(old, None, "a format is told once");
        }
        LadderEvent::Unit { rendition, unit, cut } => {
            let run = runs.last_mut().unwrap();
            assert!(!run.stopped && run.formats[rendition].is_some());
            run.units[rendition].push((unit, cut));
        }
        LadderEvent::Gap { rendition, until: u64::MAX } => runs.last_mut().unwrap().missing.push(rendition),
        LadderEvent::Gap { .. } => panic!("no track is late"),
        LadderEvent::Stop => runs.last_mut().unwrap().stopped = true,
        LadderEvent::Finish => panic!("the stage never ends a programme"),
    }
}

/// What holds for every run.
fn check(run: &Run) {
    assert!(run.stopped);
    let cuts = (0..run.videos().len()).map(|rendition| run.cuts(rendition)).find(|cuts| !cuts.is_empty()).unwrap();
    assert!(cuts.iter().zip(0..).all(|(cut, n)| cut.0 == n), "cuts have no holes: {cuts:?}");
    for (rendition, units) in run.videos().iter().enumerate() {
        if run.missing.contains(&rendition) {
            assert!(units.is_empty() && run.formats[rendition].is_none());
            continue;
        }
        assert_eq!(run.cuts(rendition), cuts, "rendition {rendition} is cut like the first");
        assert_eq!(units[0].1, Some(0));
        assert_eq!(units[0].0.pts, run.start.start);
        assert!(units.iter().all(|(unit, cut)| cut.is_none() || unit.key), "cuts are IDRs");
        assert!(units.iter().zip(&units[1..]).all(|(a, b)| a.0.dts < b.0.dts), "dts increases");
        assert!(units.iter().all(|(unit, _)| unit.dts <= unit.pts + MediaTime::from_millis(1)));
    }
    let Some(TrackFormat::Audio(format)) = run.formats.last().unwrap() else { panic!("the sound has a format") };
    let first = run.audio()[0].0.pts.to_ticks(format.sample_rate);
    for ((unit, cut), n) in run.audio().iter().zip(0i64..) {
        assert_eq!((unit.pts.to_ticks(format.sample_rate), *cut), (first + n * 1024, None), "sound is continuous");
    }
}

pub(super) fn source_pts(events: &[SourceEvent]) -> BTreeSet<i64> {
    let pts = events.iter().filter_map(|event| match event {
        SourceEvent::Unit(Track::VIDEO, unit) => Some(unit.pts.as_nanos()),
        _ => None,
    });
    pts.collect()
}

/// Every picture of the source is in each rendition exactly once, over all runs.
pub(super) fn assert_whole(runs: &[Run], source: &BTreeSet<i64>) {
    for rendition in 0..runs[0].videos().len() {
        let pts: Vec<i64> =
            runs.iter().flat_map(|run| &run.units[rendition]).map(|(unit, _)| unit.pts.as_nanos()).collect();
        assert_eq!(pts.len(), source.len(), "rendition {rendition}");
        assert_eq!(&pts.into_iter().collect::<BTreeSet<_>>(), source, "rendition {rendition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_on_and_encoded_renditions_are_aligned() {
    let events = Clip::default().events();
    let source = source_pts(&events);
    let given = events.clone();
    let (outcome, runs) =
        play(setup(ladder(&[240, 180]), 4000), events.into_iter().chain([SourceEvent::End]).collect()).await;
    assert_eq!(outcome.end, SourceEnd::Finished);
    assert_eq!(runs.len(), 1);
    assert_whole(&runs, &source);
    let cuts: Vec<i64> = runs[0].cuts(0).iter().map(|(_, pts)| pts / 1_000_000).collect();
    assert_eq!(cuts, [0, 4000]);
    let passed: Vec<_> = runs[0].units[0].iter().map(|(unit, _)| unit.clone()).collect();
    let sent = given.iter().filter_map(|event| match event {
        SourceEvent::Unit(Track::VIDEO, unit) => Some(unit.clone()),
        _ => None,
    });
    assert_eq!(passed, sent.collect::<Vec<_>>(), "what is passed on is untouched");
    let end = outcome.position.unwrap().as_millis();
    assert!((8000..8040).contains(&end), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_an_encoders_own_ladder_is_passed_on_and_filled() {
    let large = Clip::default().events();
    let small =
        Clip { size: (320, 180), sound: None, ..Clip::default() }.events().into_iter().map(|event| match event {
            SourceEvent::Format(_, format) => SourceEvent::Format(Track::Video(1), format),
            SourceEvent::Unit(_, unit) => SourceEvent::Unit(Track::Video(1), unit),
            event => event,
        });
    let mut events: Vec<SourceEvent> = large.iter().cloned().chain(small).collect();
    events.sort_by_key(|event| match event {
        SourceEvent::Unit(_, unit) => unit.dts,
        _ => MediaTime::from_nanos(i64::MIN),
    });
    let (outcome, runs) = play(setup(ladder(&[240, 180]), 4000), events.clone()).await;
    assert_eq!(runs.len(), 1);
    assert_whole(&runs, &source_pts(&events));
    let names: Vec<&str> = runs[0].start.renditions.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["source", "240p", "180p", "audio"]);
    let source = events.clone();
    let own = |track| {
        source.iter().filter_map(move |event| match event {
            SourceEvent::Unit(of, unit) if *of == track => Some(unit.clone()),
            _ => None,
        })
    };
    assert!(
        units(&runs[0], 0).into_iter().eq(own(Track::VIDEO)) && units(&runs[0], 2).into_iter().eq(own(Track::Video(1)))
    );
    let Some(TrackFormat::Video(filled)) = &runs[0].formats[1] else { panic!("a format") };
    assert_eq!((filled.width, filled.height, runs[0].cuts(1).len()), (426, 240, 2));

    // It comes back with another picture in the place of its largest, which is not to be encoded.
    let other = Clip { size: (480, 270), ..Clip::default() }.events();
    let is_small = |event: &SourceEvent| {
        matches!(event, SourceEvent::Format(Track::Video(1), _) | SourceEvent::Unit(Track::Video(1), _))
    };
    let mut events: Vec<SourceEvent> = events.iter().filter(|event| is_small(event)).cloned().chain(other).collect();
    events.sort_by_key(|event| match event {
        SourceEvent::Unit(_, unit) => unit.dts,
        _ => MediaTime::from_nanos(i64::MIN),
    });
    let ladder = LadderConfig { missing_rungs: MissingRungs::LeaveOut, ..ladder(&[240, 180]) };
    let (_, runs) = play(Setup { latched: outcome.latched, ..setup(ladder, 4000) }, events).await;
    assert_eq!((runs.len(), &runs[0].missing[..]), (1, &[0][..]), "the server has nothing for it from the start");
    assert!(units(&runs[0], 2).into_iter().eq(own(Track::Video(1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_long_gop_is_encoded_too_and_cut_by_the_clock() {
    let events = Clip { gop: 250, frames: 270, ..Clip::default() }.events();
    let source = source_pts(&events);
    let (outcome, runs) = play(setup(ladder(&[180]), 2000), events).await;
    assert_eq!((outcome.end, runs.len()), (SourceEnd::Lost, 1));
    assert_whole(&runs, &source);
    let cuts: Vec<i64> = runs[0].cuts(0).iter().map(|(_, pts)| pts / 1_000_000).collect();
    assert_eq!(cuts, [0, 2000, 4000, 6000, 8000]);
    assert!(
        matches!(&runs[0].formats[0], Some(TrackFormat::Video(format)) if (format.width, format.height) == (640, 360))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_long_gop_may_stretch_the_segments() {
    let events = Clip { gop: 150, frames: 330, ..Clip::default() }.events();
    let source = source_pts(&events);
    let ladder = LadderConfig { long_gop: LongGop::Stretch, ..ladder(&[180]) };
    let (_, runs) = play(setup(ladder, 2000), events).await;
    assert_eq!(runs.len(), 1);
    assert_whole(&runs, &source);
    assert_eq!(runs[0].start.target_duration.as_millis(), 5000);
    let cuts: Vec<i64> = runs[0].cuts(1).iter().map(|(_, pts)| pts / 1_000_000).collect();
    assert_eq!(cuts, [0, 5000, 10000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_fooled_probe_leads_to_a_second_run_without_loss() {
    let events = Clip { gop: 10_000, keys: &[1500], frames: 270, ..Clip::default() }.events();
    let source = source_pts(&events);
    let (outcome, runs) = play(setup(ladder(&[180]), 4000), events).await;
    assert_eq!(runs.len(), 2);
    assert_whole(&runs, &source);
    let last = runs[0].units[0].iter().map(|(unit, _)| unit.pts).max().unwrap();
    let length = (last - runs[0].start.start).as_millis();
    assert!((4200..4450).contains(&length), "the segment before the seam still rounds to its target: {length}");
    assert!(runs[1].start.start > last && (runs[1].start.start - last).as_millis() < 40);
    assert_eq!(
        runs[1].start.wall_clock.duration_since(runs[0].start.wall_clock).unwrap(),
        (runs[1].start.start - runs[0].start.start).to_duration(),
        "wall-clock time is linear over the seam"
    );
    let names = |run: &Run| run.start.renditions.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&runs[0]), names(&runs[1]));
    let end_of_sound = runs[0].audio().last().unwrap();
    assert_eq!(end_of_sound.0.pts + end_of_sound.0.duration, runs[1].audio()[0].0.pts, "sound goes on to the sample");
    let (profile, level) = {
        let Some(TrackFormat::Video(format)) = &runs[0].formats[0] else { panic!("a format") };
        (format.config[1], format.config[3])
    };
    let Some(TrackFormat::Video(stand_in)) = &runs[1].formats[0] else { panic!("a format") };
    assert_eq!((stand_in.config[1], stand_in.config[3]), (profile, level), "CODECS stays true");
    assert!(outcome.position.unwrap().as_millis() >= 9000);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_a_source_without_sound_gets_silence() {
    let events = Clip { sound: None, frames: 120, ..Clip::default() }.events();
    let (outcome, runs) = play(setup(ladder(&[]), 4000), events).await;
    let audio = runs[0].audio();
    assert_eq!(audio[0].0.pts, runs[0].start.start);
    assert_eq!(audio.len(), 188, "4 s of 1024 samples at 48 kHz");
    assert_eq!(outcome.position.unwrap().as_millis(), 4010);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_a_picture_ends_nothing() {
    let mut events = Clip::default().events();
    for (number, event) in events.iter_mut().enumerate() {
        if let (0, SourceEvent::Unit(Track::VIDEO, unit)) = (number % 7, event) {
            let mut data = unit.data.to_vec();
            data.iter_mut().skip(5).step_by(3).for_each(|byte| *byte ^= 0xa5);
            unit.data = data.into();
        }
    }
    let source = source_pts(&events);
    let (outcome, runs) = play(setup(ladder(&[180]), 4000), events).await;
    assert_eq!(outcome.end, SourceEnd::Lost);
    assert_eq!(runs[0].units[0].len(), source.len(), "what is passed on is not looked into");
    assert!(!runs[0].units[1].is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_a_new_format_is_a_new_run_of_the_same_renditions() {
    let first = Clip { frames: 90, gop: 30, ..Clip::default() }.events();
    let shift = MediaTime::from_millis(3000);
    let second = Clip { size: (480, 360), frames: 90, gop: 30, ..Clip::default() }.events();
    let later = second.into_iter().filter_map(|event| match event {
        SourceEvent::Unit(track, unit) => {
            Some(SourceEvent::Unit(track, AccessUnit { pts: unit.pts + shift, dts: unit.dts + shift, ..unit }))
        }
        SourceEvent::Format(Track::Audio, TrackFormat::Audio(_)) => None,
        other => Some(other),
    });
    let events: Vec<_> = first.into_iter().chain(later).collect();
    let source = source_pts(&events);
    let (outcome, runs) = play(setup(ladder(&[180]), 2000), events).await;
    assert_eq!(runs.len(), 2);
    assert_whole(&runs, &source);
    for run in &runs {
        let sizes = run.formats.iter().filter_map(|format| match format {
            Some(TrackFormat::Video(format)) => Some((format.width, format.height)),
            _ => None,
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [(640, 360), (320, 180)]);
    }
    assert!(outcome.latched.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_odd_sizes_rates_and_shapes() {
    let clips = [
        Clip { size: (853, 479), raw: "format=Y444", frames: 60, gop: 30, ..Clip::default() },
        Clip { rate: (30000, 1001), frames: 120, ..Clip::default() },
        Clip { rate: (60, 1), frames: 240, ..Clip::default() },
        Clip { size: (480, 360), raw: "format=I420,pixel-aspect-ratio=4/3", frames: 60, gop: 30, ..Clip::default() },
    ];
    let expected = [(320, 180, 30.0), (320, 180, 30_000.0 / 1001.0), (320, 180, 60.0), (320, 180, 30.0)];
    for (clip, (width, height, rate)) in clips.iter().zip(expected) {
        let events = clip.events();
        let source = source_pts(&events);
        let (_, runs) = play(setup(ladder(&[180]), 2000), events).await;
        assert_whole(&runs, &source);
        let Some(TrackFormat::Video(format)) = &runs[0].formats[1] else { panic!("a format") };
        assert_eq!((format.width, format.height, runs[0].start.renditions[1].frame_rate), (width, height, Some(rate)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_other_sound_is_encoded_in_step() {
    let first = Clip { frames: 90, gop: 30, ..Clip::default() };
    let (outcome, _) = play(setup(ladder(&[]), 2000), first.events()).await;
    let other = Clip { sound: Some("audio/x-raw,rate=44100,channels=1 ! avenc_aac"), ..first };
    let (_, runs) = play(Setup { latched: outcome.latched, ..setup(ladder(&[]), 2000) }, other.events()).await;
    let Some(TrackFormat::Audio(format)) = &runs[0].formats[1] else { panic!("a format") };
    assert_eq!((format.sample_rate, format.channels, &format.config[..2]), (48_000, 2, &[0x11, 0x90][..]));
    let audio = runs[0].audio();
    let (start, end) = (audio[0].0.pts.as_millis(), audio.last().unwrap().0.pts.as_millis());
    assert!((0..24).contains(&start) && (2930..3050).contains(&end), "{start} {end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_receiver_ends_the_session() {
    let events = Clip { frames: 120, ..Clip::default() }.events();
    let (source, source_out) = mpsc::channel(4096);
    let (out, mut ladder_out) = mpsc::channel(4);
    for event in events {
        source.send(event).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(run(setup(ladder(&[180]), 2000), source_out, out));
    assert!(matches!(ladder_out.recv().await, Some(LadderEvent::Start(_))));
    drop(ladder_out);
    let outcome = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(outcome.end, SourceEnd::Lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_picture_is_told_to_the_streamer() {
    let mut events = Clip { frames: 60, ..Clip::default() }.events();
    for event in &mut events {
        if let SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format)) = event {
            (format.width, format.height) = (16_384, 16_384);
        }
    }
    let (outcome, runs) = play(setup(ladder(&[180]), 2000), events).await;
    assert!(matches!(outcome.end, SourceEnd::Failed(sentence) if sentence.contains("16384")));
    assert!(runs.is_empty() && outcome.position.is_none());
}

/// The units of a rendition.
pub(super) fn units(run: &Run, rendition: usize) -> Vec<AccessUnit> {
    run.units[rendition].iter().map(|(unit, _)| unit.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_and_moments_stay_what_they_are() {
    let red = Clip { pattern: "red", frames: 30, gop: 30, ..Clip::default() };
    let (_, runs) = play(setup(ladder(&[180]), 2000), red.events()).await;
    let pictures = decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1));
    assert_eq!(pictures.len(), 30);
    for at in [(2, 2), (160, 90), (317, 177)] {
        let colour = pictures[10].colour((320, 180), at);
        let near = colour.iter().zip([81_u8, 90, 240]).all(|(a, b)| a.abs_diff(b) <= 4);
        assert!(near, "{colour:?} at {at:?}");
    }

    let ball = Clip { pattern: "ball", frames: 60, gop: 30, ..Clip::default() };
    let (_, runs) = play(setup(ladder(&[180]), 2000), ball.events()).await;
    let source = decode(runs[0].formats[0].as_ref().unwrap(), &units(&runs[0], 0));
    let small = decode(runs[0].formats[1].as_ref().unwrap(), &units(&runs[0], 1));
    for (large, small) in source.iter().zip(&small) {
        let ((x, y), (u, v)) = (large.bright_middle((640, 360)), small.bright_middle((320, 180)));
        assert_eq!(large.pts, small.pts);
        assert!((x - u).abs() < 0.005 && (y - v).abs() < 0.005, "at {:?}: {x} {y} and {u} {v}", large.pts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_sound_is_heard_when_the_source_sounds() {
    const TICKS: &str = "audio/x-raw,rate=44100,channels=2 ! avenc_aac";
    let clip = Clip { frames: 150, gop: 30, sound: Some(TICKS), ..Clip::default() };
    let events = clip.events_with_wave("ticks");
    let (silent, _) =
        play(setup(ladder(&[]), 2000), Clip { sound: None, frames: 60, gop: 30, ..Clip::default() }.events()).await;
    let (_, passed) = play(setup(ladder(&[]), 2000), events.clone()).await;
    let (_, encoded) = play(Setup { latched: silent.latched, ..setup(ladder(&[]), 2000) }, events).await;
    let heard = |run: &Run, rate| {
        let rendition = run.units.len() - 1;
        onsets(&decode(run.formats[rendition].as_ref().unwrap(), &units(run, rendition)), rate)
    };
    let (source, result) = (heard(&passed[0], 44_100), heard(&encoded[0], 48_000));
    assert!(source.len() >= 4, "{source:?}");
    assert_eq!(source.len(), result.len(), "{source:?} {result:?}");
    for (a, b) in source.iter().zip(&result) {
        assert!((a - b).abs() < 0.005, "{source:?} {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_valid_and_silent() {
    super::super::init().unwrap();
    for channels in [1, 2, 6] {
        let format = crate::transcode::silence::lc_format(48_000, channels);
        let unit = |n: i64| AccessUnit {
            dts: MediaTime::from_ticks(n * 1024, 48_000),
            pts: MediaTime::from_ticks(n * 1024, 48_000),
            duration: MediaTime::ZERO,
            key: true,
            data: crate::transcode::silence::frame(channels),
        };
        let blocks = decode(&TrackFormat::Audio(format), &(0..50).map(unit).collect::<Vec<_>>());
        let bytes: Vec<u8> = blocks.into_iter().flat_map(|block| block.bytes).collect();
        assert_eq!(bytes.len(), 50 * 1024 * 4, "{channels} channels");
        let loudest =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).abs()).fold(0.0, f32::max);
        assert!(loudest < 1e-6, "{channels} channels: {loudest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_fails_again_and_again_ends_the_session_with_a_sentence() {
    let mut events = Clip { gop: 30, ..Clip::default() }.events();
    for event in &mut events {
        if let SourceEvent::Format(Track::Audio, TrackFormat::Audio(format)) = event {
            (format.codec, format.config) = (AudioCodec::Aac(42), vec![0xff, 0xff, 0xff].into());
        }
    }
    let setup = setup(ladder(&[]), 2000);
    let metrics = setup.metrics.clone();
    let (source, source_out) = mpsc::channel(1024);
    let (out, mut ladder_out) = mpsc::channel(1024);
    for event in events {
        source.send(event).await.unwrap();
    }
    let outcome = run(setup, source_out, out).await;
    assert!(matches!(outcome.end, SourceEnd::Failed(sentence) if sentence.contains("could not transcode")));
    let label = crate::metrics::ChannelLabel { channel: "test".to_owned() };
    assert_eq!(metrics.transcode_errors.get_or_create(&label).get(), 3);
    let (mut starts, mut stops) = (0, 0);
    while let Some(event) = ladder_out.recv().await {
        starts += u32::from(matches!(event, LadderEvent::Start(_)));
        stops += u32::from(matches!(event, LadderEvent::Stop));
    }
    assert_eq!((starts, stops), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn low_latency_is_aligned_too() {
    let events = Clip { frames: 120, gop: 30, ..Clip::default() }.events();
    let source = source_pts(&events);
    let ladder = LadderConfig { profile: EncodeProfile::LowLatency, ..ladder(&[240, 180]) };
    let (_, runs) = play(setup(ladder, 1000), events).await;
    assert_whole(&runs, &source);
    assert_eq!(runs[0].cuts(2).len(), 4);
    assert!(runs[0].units[1].iter().all(|(unit, _)| unit.pts == unit.dts), "there are no B-frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_an_interlaced_source_is_encoded_and_its_pictures_kept_in_time() {
    let events =
        Clip { raw: "format=I420,interlace-mode=interleaved", frames: 60, gop: 30, ..Clip::default() }.events();
    let source = source_pts(&events);
    let fields = events.iter().any(|event| {
        matches!(event, SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format)) if VideoTraits::of(format).unwrap().interlaced)
    });
    assert!(fields, "the source has fields");
    let (_, runs) = play(setup(ladder(&[180]), 1000), events).await;
    assert_whole(&runs, &source);
    let Some(TrackFormat::Video(format)) = &runs[0].formats[0] else { panic!("a format") };
    assert!(VideoTraits::of(format).unwrap().is_playable());
    let decoded = decode(runs[0].formats[0].as_ref().unwrap(), &units(&runs[0], 0));
    assert!(!decoded.is_empty() && decoded.iter().all(|picture| !picture.interlaced), "what is sent has frames only");
    assert_eq!((format.width, format.height, runs[0].cuts(0).len()), (640, 360, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_a_frozen_source_does_not_stretch_a_segment() {
    let mut events = Clip { gop: 250, frames: 150, sound: None, ..Clip::default() }.events();
    let (mut latest, mut shift) = (MediaTime::ZERO, MediaTime::ZERO);
    for event in &mut events {
        if let SourceEvent::Unit(_, unit) = event {
            // Between two groups of B-frames, so that no picture overtakes another.
            if unit.pts > latest && unit.dts.as_millis() > 3000 {
                shift = MediaTime::from_millis(7000);
            }
            latest = latest.max(unit.pts);
            (unit.dts, unit.pts) = (unit.dts + shift, unit.pts + shift);
        }
    }
    let source = source_pts(&events);
    let (_, runs) = play(setup(ladder(&[180]), 2000), events).await;
    let cuts: Vec<i64> = runs[0].cuts(1).iter().map(|(_, pts)| pts / 1_000_000).collect();
    assert!(cuts.iter().zip(&cuts[1..]).all(|(a, b)| b - a < 2500), "{cuts:?}");
    let shown: BTreeSet<i64> = runs[0].units[1].iter().map(|(unit, _)| unit.pts.as_nanos()).collect();
    assert!(shown.is_superset(&source));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_intra_refresh_without_a_second_idr_is_encoded_and_cut_by_the_clock() {
    const REFRESH: &str = "x264enc name=encoder speed-preset=ultrafast intra-refresh=true key-int-max=30 bframes=0 threads=1 \
                           ! video/x-h264,stream-format=avc,alignment=au";
    let mut events = Clip { video: Some(REFRESH), frames: 270, ..Clip::default() }.events();
    let pictures = events.iter_mut().filter_map(|event| match event {
        SourceEvent::Unit(Track::VIDEO, unit) => Some(unit),
        _ => None,
    });
    // GStreamer takes recovery points for starts; ingest does not.
    pictures.skip(1).for_each(|unit| unit.key = false);
    let source = source_pts(&events);
    let (outcome, runs) = play(setup(ladder(&[180]), 2000), events).await;
    assert_eq!((outcome.end, runs.len()), (SourceEnd::Lost, 1));
    assert_whole(&runs, &source);
    let cuts: Vec<i64> = runs[0].cuts(0).iter().map(|(_, pts)| pts / 1_000_000).collect();
    assert_eq!(cuts, [0, 2000, 4000, 6000, 8000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_a_frame_rate_that_varies_keeps_every_pictures_time() {
    // A second at 30 pictures a second, then one of 7.5, then 60, and so on: as screens and phones send.
    let varied = |time: MediaTime| {
        let whole = time.as_nanos().div_euclid(1_000_000_000);
        let lasts = |second: i64| [1_000, 4_000, 500, 2_000][usize::try_from(second.rem_euclid(4)).unwrap()];
        let before: i64 = (0..whole).map(lasts).sum();
        MediaTime::from_millis(before + (time.as_millis() - whole * 1_000) * lasts(whole) / 1_000)
    };
    let mut events = Clip { gop: 30, frames: 240, sound: None, ..Clip::default() }.events();
    for event in &mut events {
        if let SourceEvent::Unit(_, unit) = event {
            (unit.dts, unit.pts) = (varied(unit.dts.max(MediaTime::ZERO)), varied(unit.pts));
        }
    }
    let mut last = MediaTime::from_millis(-1);
    for event in &mut events {
        if let SourceEvent::Unit(_, unit) = event {
            unit.dts = unit.dts.max(last + MediaTime::from_millis(1));
            last = unit.dts;
        }
    }
    let source = source_pts(&events);
    let (_, runs) = play(setup(ladder(&[180]), 4000), events).await;
    assert_whole(&runs, &source);
}

/// The sound of these events from `from` on, its format before it.
fn sound_from(events: Vec<SourceEvent>, from: MediaTime) -> Vec<SourceEvent> {
    let (format, mut rest): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| matches!(event, SourceEvent::Format(Track::Audio, _)));
    rest.retain(|event| !matches!(event, SourceEvent::Unit(Track::Audio, unit) if unit.pts < from));
    let first = rest.iter().position(|event| matches!(event, SourceEvent::Unit(Track::Audio, _))).unwrap();
    rest.splice(first..first, format);
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_sound_that_comes_later_joins_the_rendition_that_was_silent() {
    let late = MediaTime::from_millis(6_500);
    let clip = |sound| Clip { frames: 360, gop: 30, sound: Some(sound), ..Clip::default() }.events();
    let events = sound_from(clip(super::media::AAC_48), late);
    let heard = |data: &AccessUnit| data.data != crate::transcode::silence::frame(2);
    let sent = events.iter().filter(|event| matches!(event, SourceEvent::Unit(Track::Audio, _))).count();
    let (_, runs) = play(setup(ladder(&[]), 2000), events).await;
    assert_eq!(runs.len(), 1, "the same format needs no seam");
    let sounding: Vec<MediaTime> = units(&runs[0], 1).iter().filter(|unit| heard(unit)).map(|unit| unit.pts).collect();
    assert!((sounding[0] - late).as_millis().abs() < 50 && sounding.len() + 3 > sent, "{:?}", sounding[0]);

    let other = sound_from(clip("audio/x-raw,rate=44100,channels=1 ! avenc_aac"), late);
    let source = source_pts(&other);
    let (_, runs) = play(setup(ladder(&[]), 2000), other).await;
    assert_eq!(runs.len(), 2, "one seam, at the next IDR");
    assert_whole(&runs, &source);
    let formats: Vec<_> = runs.iter().map(|run| run.formats.last().unwrap().clone()).collect();
    let Some(TrackFormat::Audio(format)) = &formats[1] else { panic!("a format") };
    assert_eq!((format.sample_rate, format.channels), (48_000, 2), "it is encoded in the format of the silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_sound_that_changes_its_rate_goes_on_in_the_first_format() {
    let first = Clip { frames: 90, gop: 30, ..Clip::default() };
    let second = Clip { sound: Some("audio/x-raw,rate=44100,channels=1 ! avenc_aac"), ..first };
    let mut shift = MediaTime::from_millis(3_000);
    let mut events = first.events();
    for clip in [second, Clip { frames: 90, gop: 30, ..Clip::default() }] {
        events.extend(clip.events().into_iter().filter_map(|event| match event {
            SourceEvent::Unit(track, unit) => {
                Some(SourceEvent::Unit(track, AccessUnit { pts: unit.pts + shift, dts: unit.dts + shift, ..unit }))
            }
            SourceEvent::Format(Track::VIDEO, _) => None,
            other => Some(other),
        }));
        shift = shift + shift;
    }
    let source = source_pts(&events);
    let (_, runs) = play(setup(ladder(&[180]), 2000), events).await;
    assert_whole(&runs, &source);
    assert_eq!(runs.len(), 3, "a seam at each change, and none else");
    for run in &runs {
        let Some(TrackFormat::Audio(format)) = run.formats.last().unwrap() else { panic!("a format") };
        assert_eq!((format.sample_rate, format.channels), (48_000, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_samples_of_full_range_stay_so_and_say_so() {
    let full = "format=I420,colorimetry=(string)1:3:5:1";
    let clip = Clip { pattern: "white", raw: full, frames: 30, gop: 30, sound: None, ..Clip::default() };
    let (_, runs) = play(setup(ladder(&[180]), 2000), clip.events()).await;
    let picture = |rendition: usize| {
        let format = runs[0].formats[rendition].as_ref().unwrap();
        decode(format, &units(&runs[0], rendition)).swap_remove(10)
    };
    let (source, small) = (picture(0), picture(1));
    assert!(source.colorimetry.as_ref().is_some_and(|said| said.starts_with("1:")), "{:?}", source.colorimetry);
    assert_eq!(small.colorimetry, source.colorimetry);
    let (white, smaller) = (source.colour((640, 360), (320, 180)), small.colour((320, 180), (160, 90)));
    assert!(white.iter().zip(smaller).all(|(a, b)| a.abs_diff(b) <= 3), "{white:?} {smaller:?}");
}
