//! Sound that is not AAC: it comes out as AAC, at its moments, whole.

use super::decode::{decode, onsets};
use super::media::Clip;
use super::runs::{Run, ladder, play, setup, units};
use crate::media::{AudioCodec, MediaTime, Track, TrackFormat};
use crate::metrics::KindLabel;
use crate::source::SourceEvent;

/// When `audiotestsrc` ticks at this rate: at the start, and then 1021 samples before each second.
fn tick(second: u32, rate: u32) -> f64 {
    f64::from(second) - 1021.0 / f64::from(rate)
}

/// Five seconds with a tick at each.
fn clip(sound: &'static str) -> Vec<SourceEvent> {
    let clip = Clip { size: (160, 90), frames: 150, gop: 30, sound: Some(sound), ..Clip::default() };
    clip.events_with_wave("ticks")
}

/// When the ticks after the first are heard in what came out, which must be one run.
fn heard(runs: &[Run]) -> Vec<f64> {
    let run = &runs[0];
    let format = run.formats.last().unwrap().as_ref().unwrap();
    let TrackFormat::Audio(audio) = format else { panic!("sound") };
    assert_eq!((runs.len(), audio.codec), (1, AudioCodec::Aac(2)));
    let onsets = onsets(&decode(format, &units(run, run.units.len() - 1)), audio.sample_rate);
    onsets.into_iter().filter(|&onset| onset > 0.5).collect()
}

fn is_sound(event: &SourceEvent) -> bool {
    matches!(event, SourceEvent::Unit(Track::Audio, _))
}

async fn check(sound: &'static str, rate: u32, codec: AudioCodec) {
    let events = clip(sound);
    let is_it = |event: &SourceEvent| matches!(event, SourceEvent::Format(Track::Audio, TrackFormat::Audio(format)) if format.codec == codec);
    assert!(events.iter().any(is_it), "the source is what it should be");
    let setup = setup(ladder(&[]), 2000);
    let metrics = setup.metrics.clone();
    let (_, runs) = play(setup, events).await;
    let ticks = heard(&runs);
    assert_eq!(ticks.len(), 5, "{codec:?}: {ticks:?}");
    for (heard, second) in ticks.iter().zip(1..) {
        assert!((heard - tick(second, rate)).abs() < 0.03, "{codec:?}: {ticks:?}");
    }
    let end = runs[0].audio().last().unwrap().0.pts;
    assert!((4960..5060).contains(&end.as_millis()), "{codec:?} ends at {end:?}");
    for kind in ["audio_silence", "audio_dropped", "audio_undecodable"] {
        let count = metrics.ingest_repairs.get_or_create(&KindLabel { kind }).get();
        assert!(count <= 2, "{codec:?}: {count} {kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_opus_becomes_aac() {
    check("audio/x-raw,rate=48000,channels=2 ! opusenc", 48_000, AudioCodec::Opus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_mp3_becomes_aac() {
    check("audio/x-raw,rate=44100,channels=2 ! lamemp3enc ! mpegaudioparse", 44_100, AudioCodec::Mp3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_ac3_of_six_channels_becomes_aac_of_two() {
    let six = "audio/x-raw,rate=48000,channels=1 ! audioconvert ! audio/x-raw,channels=6,channel-mask=(bitmask)0x3f ! avenc_ac3";
    check(six, 48_000, AudioCodec::Ac3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_eac3_becomes_aac() {
    check("audio/x-raw,rate=48000,channels=2 ! avenc_eac3", 48_000, AudioCodec::Eac3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_flac_becomes_aac() {
    check("audio/x-raw,rate=48000,channels=2 ! audioconvert ! flacenc ! flacparse", 48_000, AudioCodec::Flac).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_g711_becomes_aac() {
    check(
        "audio/x-raw,rate=48000,channels=1 ! audioresample ! audio/x-raw,rate=8000 ! alawenc",
        48_000,
        AudioCodec::Alaw,
    )
    .await;
    check(
        "audio/x-raw,rate=48000,channels=1 ! audioresample ! audio/x-raw,rate=8000 ! mulawenc",
        48_000,
        AudioCodec::Mulaw,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_pcm_becomes_aac() {
    check("audio/x-raw,format=S16LE,rate=44100,channels=2", 44_100, AudioCodec::Pcm16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_speex_becomes_aac() {
    check(
        "audio/x-raw,rate=48000,channels=1 ! audioresample ! audio/x-raw,rate=16000 ! speexenc",
        48_000,
        AudioCodec::Speex,
    )
    .await;
}

const OPUS: &str = "audio/x-raw,rate=48000,channels=2 ! opusenc";

#[tokio::test(flavor = "multi_thread")]
async fn row_21_a_gap_in_opus_stays_where_it_was() {
    for (from, to) in [(1500, 1800), (1300, 2700)] {
        let (from, to) = (MediaTime::from_millis(from), MediaTime::from_millis(to));
        let is_lost = |event: &SourceEvent| matches!(event, SourceEvent::Unit(Track::Audio, unit) if unit.pts >= from && unit.pts < to);
        let events: Vec<_> = clip(OPUS).into_iter().filter(|event| !is_lost(event)).collect();
        let (_, runs) = play(setup(ladder(&[]), 2000), events).await;
        let ticks = heard(&runs);
        let expected: &[u32] = if to.as_millis() > 2000 { &[1, 3, 4, 5] } else { &[1, 2, 3, 4, 5] };
        assert_eq!(ticks.len(), expected.len(), "{ticks:?}");
        assert!(ticks.iter().zip(expected).all(|(a, b)| (a - tick(*b, 48_000)).abs() < 0.03), "{ticks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_cannot_be_decoded_costs_itself_alone() {
    for sound in [OPUS, "audio/x-raw,rate=48000,channels=2 ! avenc_ac3"] {
        let mut events = clip(sound);
        for event in events.iter_mut().filter(|event| is_sound(event)).step_by(10) {
            if let SourceEvent::Unit(_, unit) = event {
                unit.data = vec![0xff; 9].into();
            }
        }
        let setup = setup(ladder(&[]), 2000);
        let metrics = setup.metrics.clone();
        let (_, runs) = play(setup, events).await;
        let ticks = heard(&runs);
        let near = |heard: &&f64| (1..6).any(|second| (*heard - tick(second, 48_000)).abs() < 0.03);
        assert!(ticks.iter().filter(near).count() >= 4, "{ticks:?}");
        let kind = KindLabel { kind: "audio_undecodable" };
        assert!(metrics.ingest_repairs.get_or_create(&kind).get() > 0, "it is counted");
        assert_eq!(runs[0].units[0].len(), 150, "the picture goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_sound_may_turn_from_opus_to_aac() {
    let (opus, aac) = (clip(OPUS), clip(super::media::AAC_48));
    let middle = MediaTime::from_millis(2500);
    let is_before = |event: &SourceEvent| matches!(event, SourceEvent::Unit(_, unit) if unit.dts < middle);
    let format = aac.iter().find(|event| matches!(event, SourceEvent::Format(Track::Audio, _))).cloned();
    let before = opus.iter().filter(|event| matches!(event, SourceEvent::Format(..)) || is_before(event));
    let after =
        opus.iter().filter(|event| !is_sound(event) && !matches!(event, SourceEvent::Format(..)) && !is_before(event));
    let sound = aac.iter().filter(|event| is_sound(event) && !is_before(event));
    let mut later: Vec<SourceEvent> = after.chain(sound).cloned().collect();
    later.sort_by_key(|event| match event {
        SourceEvent::Unit(_, unit) => unit.dts,
        _ => MediaTime::ZERO,
    });
    let events: Vec<_> = before.cloned().chain(format).chain(later).collect();
    let (_, runs) = play(setup(ladder(&[]), 2000), events).await;
    let mut ticks = Vec::new();
    for run in &runs {
        let format = run.formats.last().unwrap().as_ref().unwrap();
        ticks.extend(onsets(&decode(format, &units(run, run.units.len() - 1)), 48_000));
    }
    let near = |heard: &&f64| (1..6).any(|second| (*heard - tick(second, 48_000)).abs() < 0.03);
    assert_eq!(ticks.iter().filter(near).count(), 5, "{ticks:?}");
}
