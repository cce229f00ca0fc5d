//! Runs: what comes out for what goes in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::media::Clip;
use crate::config::{EncodeProfile, HlsConfig, LadderConfig, LongGop, RenditionConfig, RenditionSource};
use crate::ladder::{LadderEvent, RenditionName, RunStart};
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat};
use crate::metrics::Metrics;
use crate::source::{ChannelName, SourceEvent};
use crate::transcode::{Latched, Outcome, Setup, SourceEnd, run};

fn ladder(heights: &[u32]) -> LadderConfig {
    let rendition = |name: &str, source| RenditionConfig { name: RenditionName::new(name).unwrap(), source };
    let own = rendition("source", RenditionSource::Passthrough { bitrate: None });
    let encoded = heights
        .iter()
        .map(|&height| rendition(&format!("{height}p"), RenditionSource::Encode { height, bitrate: 400_000 }));
    LadderConfig {
        name: "test".to_owned(),
        profile: EncodeProfile::Balanced,
        long_gop: LongGop::Encode,
        renditions: [own].into_iter().chain(encoded).collect(),
        audio_bitrate: 96_000,
    }
}

fn setup(ladder: LadderConfig, segment_millis: u64) -> Setup {
    Setup {
        channel: ChannelName::new("test").unwrap(),
        ladder: Arc::new(ladder),
        hls: HlsConfig {
            segment_duration: Duration::from_millis(segment_millis),
            part_duration: Duration::from_millis(500),
            window: Duration::from_secs(60),
        },
        latched: None::<Latched>,
        metrics: Metrics::default(),
    }
}

/// One run that came out.
#[derive(Debug)]
struct Run {
    start: RunStart,
    formats: Vec<Option<TrackFormat>>,
    units: Vec<Vec<(AccessUnit, Option<u64>)>>,
    stopped: bool,
}

impl Run {
    fn audio(&self) -> &[(AccessUnit, Option<u64>)] {
        self.units.last().unwrap()
    }

    fn videos(&self) -> &[Vec<(AccessUnit, Option<u64>)>] {
        &self.units[..self.units.len() - 1]
    }

    fn cuts(&self, rendition: usize) -> Vec<(u64, i64)> {
        self.units[rendition].iter().filter_map(|(unit, cut)| Some(((*cut)?, unit.pts.as_nanos()))).collect()
    }
}

/// Plays `events` through the stage.
async fn play(setup: Setup, events: Vec<SourceEvent>) -> (Outcome, Vec<Run>) {
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
            runs.push(Run { start, formats: vec![None; count], units: vec![Vec::new(); count], stopped: false });
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
        LadderEvent::Stop => runs.last_mut().unwrap().stopped = true,
        LadderEvent::Finish => panic!("the stage never ends a programme"),
    }
}

/// What holds for every run.
fn check(run: &Run) {
    assert!(run.stopped);
    let cuts = run.cuts(0);
    assert!(cuts.iter().zip(0..).all(|(cut, n)| cut.0 == n), "cuts have no holes: {cuts:?}");
    for (rendition, units) in run.videos().iter().enumerate() {
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

fn source_pts(events: &[SourceEvent]) -> BTreeSet<i64> {
    let pts = events.iter().filter_map(|event| match event {
        SourceEvent::Unit(Track::Video, unit) => Some(unit.pts.as_nanos()),
        _ => None,
    });
    pts.collect()
}

/// Every picture of the source is in each rendition exactly once, over all runs.
fn assert_whole(runs: &[Run], source: &BTreeSet<i64>) {
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
        SourceEvent::Unit(Track::Video, unit) => Some(unit.clone()),
        _ => None,
    });
    assert_eq!(passed, sent.collect::<Vec<_>>(), "what is passed on is untouched");
    let end = outcome.position.unwrap().as_millis();
    assert!((8000..8040).contains(&end), "{end}");
}
