//! From an encoder to segments: what was pushed comes out in every rendition, aligned, continuous and in step.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::encoders;
use crate::support::hls::{self, Recording};
use crate::support::probe::{self, Packet};
use crate::support::server::Builder;
use crate::{PATIENCE, SHORT_SEGMENTS};

/// A tick of the video's 90 kHz clock is 11 µs; anything further apart is another time.
const SAME: f64 = 0.000_02;

/// Samples a second of all sources here.
const AUDIO_RATE: f64 = 48_000.0;

#[test]
fn row_16_ffmpeg_with_b_frames_becomes_an_aligned_ladder_in_step() {
    let server = Builder::new().settings(SHORT_SEGMENTS).start();
    let source = encoders::flash_and_beep(server.directory.path(), 24);
    let encoder = encoders::push_file(&source, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    assert_eq!(names.len(), 5, "source, 720p, 480p, 360p and audio: {names:?}");
    let recordings = hls::record(&server, &names, 10, PATIENCE);
    assert!(encoder.finish(PATIENCE), "the encoder was content");

    let directory = server.directory.path();
    let first_pictures: BTreeMap<_, _> =
        recordings.iter().map(|(name, recording)| (name, check_segments(directory, name, recording))).collect();
    for (name, starts) in first_pictures.iter().filter(|(name, _)| name.as_str() != "audio") {
        for (number, start) in starts {
            let aligned = (start - first_pictures[&"source".to_owned()][number]).abs();
            assert!(aligned < SAME, "{name}: segment {number} begins {aligned} s off");
        }
    }
    check_step(directory, &source, &recordings);
    check_bandwidth(&hls::multivariant(&server).unwrap(), &recordings);
    assert_eq!(probe::size(&recordings["480p"].write(&directory.join("480p.mp4"))), (854, 480));
    assert_eq!(probe::size(&recordings["360p"].write(&directory.join("360p.mp4"))), (640, 360));

    let ended = hls::record(&server, &names, usize::MAX, PATIENCE);
    assert!(ended.values().all(|recording| recording.ended), "the encoder's goodbye ends all playlists");
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn gstreamer_without_b_frames_is_taken() {
    let server = Builder::new().settings(SHORT_SEGMENTS).start();
    let encoder = encoders::push_gstreamer(&server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    assert_eq!(names, ["source", "360p", "audio"], "nothing is taller than the source");
    let recordings = hls::record(&server, &names, 4, PATIENCE);
    for (name, recording) in &recordings {
        check_segments(server.directory.path(), name, recording);
    }
    encoder.stop(PATIENCE);
}

/// Every segment begins with an IDR, its EXTINF is the media's, and each follows the one before without a gap.
/// Gives the time of each segment's first picture.
fn check_segments(directory: &Path, name: &str, recording: &Recording) -> BTreeMap<u64, f64> {
    let init = recording.inits.values().next().unwrap();
    let mut starts = BTreeMap::new();
    let mut end: Option<f64> = None;
    for (number, (segment, body)) in &recording.segments {
        let file = directory.join(format!("{name}-{number}.mp4"));
        std::fs::write(&file, [init.as_slice(), body].concat()).unwrap();
        let packets = probe::packets(&file);
        let (first, last) = (packets[0], packets[packets.len() - 1]);
        assert!(first.key, "{name}: segment {number} begins with a keyframe");
        let listed = f64::from(segment.duration);
        let media = last.dts + last.duration - first.dts;
        assert!((media - listed).abs() < 0.002, "{name}: segment {number} lasts {media} and is listed with {listed}");
        assert!(listed.round() <= 2.0, "{name}: segment {number} is longer than the target duration");
        if let Some(end) = end {
            assert!((first.dts - end).abs() < SAME, "{name}: segment {number} begins at {} and not {end}", first.dts);
        }
        end = Some(first.dts + listed);
        check_cadence(name, *number, &packets);
        starts.insert(*number, packets.iter().map(|packet| packet.pts).fold(f64::INFINITY, f64::min));
    }
    starts
}

/// Shown one after another without holes: RTMP's whole milliseconds are the only unevenness.
fn check_cadence(name: &str, number: u64, packets: &[Packet]) {
    let mut shown: Vec<_> = packets.iter().map(|packet| packet.pts).collect();
    shown.sort_by(f64::total_cmp);
    let usual = if name == "audio" { 1024.0 / AUDIO_RATE } else { 1.0 / 30.0 };
    for pair in shown.windows(2) {
        let step = pair[1] - pair[0];
        assert!((step - usual).abs() < 0.002, "{name}: segment {number} has a step of {step} s at {}", pair[0]);
    }
}

/// A flash and the beep that belongs to it are as far apart as they were in the source, within a frame.
fn check_step(directory: &Path, source: &Path, recordings: &BTreeMap<String, Recording>) {
    let offset = |flashes: &[f64], beeps: &[f64]| {
        // The first and last of each may be cut off: compare each flash with the beep nearest to it.
        let nearest = |flash: &f64| {
            let apart = |beep: &&f64| (**beep - flash).abs();
            beeps.iter().min_by(|a, b| apart(a).total_cmp(&apart(b))).map(|beep| beep - flash)
        };
        let mut offsets: Vec<_> = flashes.iter().skip(2).filter_map(nearest).collect();
        offsets.sort_by(f64::total_cmp);
        assert!(offsets.len() > 10, "flashes and beeps are seen: {flashes:?} {beeps:?}");
        offsets[offsets.len() / 2]
    };
    let before = offset(&probe::flashes(source), &probe::beeps(source));
    let beeps = probe::beeps(&recordings["audio"].write(&directory.join("audio.mp4")));
    for (name, recording) in recordings.iter().filter(|(name, _)| name.as_str() != "audio") {
        let flashes = probe::flashes(&recording.write(&directory.join(format!("{name}.mp4"))));
        let after = offset(&flashes, &beeps);
        println!("{name}: sound is {:.1} ms after the picture, {:.1} ms in the source", after * 1e3, before * 1e3);
        assert!((after - before).abs() < 1.0 / 30.0, "{name}: {after} s, {before} s in the source");
    }
}

/// No segment of a variant and its sound together exceeds BANDWIDTH, and all of them together not AVERAGE-BANDWIDTH by more
/// than the tenth that Apple's authoring specification allows (1.28).
fn check_bandwidth(playlist: &m3u8_rs::MasterPlaylist, recordings: &BTreeMap<String, Recording>) {
    let rates = |recording: &Recording| -> Vec<f64> {
        let rate =
            |(segment, body): &(m3u8_rs::MediaSegment, Vec<u8>)| body.len() as f64 * 8.0 / f64::from(segment.duration);
        recording.segments.values().map(rate).collect()
    };
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let audio = rates(&recordings["audio"]);
    for variant in &playlist.variants {
        let video = rates(&recordings[variant.uri.trim_end_matches("/index.m3u8")]);
        let peak = video.iter().zip(&audio).map(|(video, audio)| video + audio).fold(0.0, f64::max);
        let average = mean(&video) + mean(&audio);
        let declared = variant.average_bandwidth.unwrap() as f64;
        println!("{}: peak {peak:.0} of {}, average {average:.0} of {declared}", variant.uri, variant.bandwidth);
        assert!(peak <= variant.bandwidth as f64, "{}: BANDWIDTH holds", variant.uri);
        assert!(average <= declared * 1.1, "{}: AVERAGE-BANDWIDTH holds", variant.uri);
    }
}
