//! For tests: what ffmpeg encodes goes through the packager and into one MP4, and ffmpeg finds the same packets in it.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use super::real_media::{AV1, H264, HEVC, encode, is_video, package, packets, quiet, seconds};
use crate::live::RenditionSnapshot;
use crate::media::MediaTime;
use crate::progressive::{Init, Movie, Part, Placed, Track, scan};

/// What is packaged of a source that ffmpeg encodes, with its first picture at this second.
struct Packaged {
    /// Of pictures and sound, their initialisation segment and their segments.
    renditions: [(Bytes, Vec<Bytes>); 2],
    /// As ffprobe finds them behind one another.
    packets: Vec<Value>,
    /// The hashes of the packets.
    hashes: [Vec<String>; 2],
}

impl Packaged {
    fn new(directory: &Path, encoder: &[&str], start: i64) -> Self {
        let source = directory.join("source.mp4");
        let source = source.to_str().unwrap();
        encode(source, encoder);
        let (packager, _) = package(source, &packets(source), MediaTime::from_millis(start * 1_000));
        let of = |rendition: &RenditionSnapshot| {
            let segments =
                rendition.segments.iter().map(|segment| segment.data().cloned().unwrap_or_default()).collect();
            (rendition.inits[0].data.clone(), segments)
        };
        let snapshot = packager.snapshot();
        let renditions = [of(&snapshot.renditions[0]), of(&snapshot.renditions[1])];
        let mut found = Self { renditions, packets: Vec::new(), hashes: [Vec::new(), Vec::new()] };
        for (index, (init, segments)) in found.renditions.iter().enumerate() {
            let whole = directory.join("whole.mp4");
            fs::write(&whole, [std::slice::from_ref(init), &segments[..]].concat().concat()).unwrap();
            let whole = whole.to_str().unwrap();
            found.packets.extend(packets(whole));
            found.hashes[index] = hashes(whole, "0");
        }
        found
    }

    /// The packets' times, and their hashes, of pictures or of sound.
    fn told(&self, video: bool) -> (Vec<[f64; 2]>, &[String]) {
        (times(&self.packets, video), &self.hashes[usize::from(!video)])
    }
}

/// Decode and presentation times.
fn times(packets: &[Value], video: bool) -> Vec<[f64; 2]> {
    let of_kind = packets.iter().filter(|packet| is_video(packet) == video);
    of_kind.map(|packet| ["dts_time", "pts_time"].map(|field| seconds(packet, field))).collect()
}

/// What ffmpeg finds in the packets of a stream.
fn hashes(url: &str, stream: &str) -> Vec<String> {
    let map = format!("0:{stream}");
    let told = quiet("ffmpeg", &["-v", "warning", "-i", url, "-map", &map, "-c", "copy", "-f", "framehash", "-"]);
    let lines = told.lines().filter(|line| !line.starts_with('#'));
    // The size and the hash. What else is said of the first packet of a session is that its parameter sets are new.
    lines.map(|line| line.split(',').skip(4).take(2).collect()).collect()
}

/// The file of these sources one behind the other, without the first `late` segments of sound.
fn file(sources: &[Packaged], late: usize) -> Vec<u8> {
    let mut segments: Vec<Vec<Bytes>> = Vec::new();
    let mut tracks = Vec::new();
    for (index, late) in [0, late].into_iter().enumerate() {
        let inits = sources.iter().map(|source| Init::read(&source.renditions[index].0).unwrap());
        let mut track = Track::new(inits.collect()).unwrap();
        let mut all = Vec::new();
        for (init, source) in sources.iter().enumerate() {
            for segment in source.renditions[index].1.iter().skip(late) {
                track.push(Placed { init, shift: MediaTime::ZERO }, &scan(segment).unwrap()).unwrap();
                all.push(segment.clone());
            }
        }
        tracks.push(track);
        segments.push(all);
    }
    let movie = Movie::new(tracks).unwrap();
    let bytes = |part| match part {
        Part::Head(bytes) => bytes,
        Part::Media { track, segment, range } => segments[track][segment].slice(range),
    };
    movie.parts(0..movie.length()).flat_map(bytes).collect()
}

/// The file plays, and holds all packets of the sources at their times, the sound without its first `late` seconds.
fn check(directory: &Path, sources: &[Packaged], late: usize) {
    let path = directory.join("file.mp4");
    let data = file(sources, late / 2);
    let place = |name: &[u8]| data.windows(4).position(|four| four == name).unwrap();
    assert!(place(b"ftyp") < place(b"moov") && place(b"moov") < place(b"mdat"));
    fs::write(&path, data).unwrap();
    let url = path.to_str().unwrap();
    quiet("ffmpeg", &["-v", "warning", "-i", url, "-map", "0", "-f", "null", "-"]);
    let found = packets(url);
    let first = sources[0].told(true).0[0][1];
    for video in [true, false] {
        let skipped = |at: &f64| !video && at - first < late as f64 - 0.001;
        let (mut before, mut hashed) = (Vec::new(), Vec::new());
        for source in sources {
            let (times, hashes) = source.told(video);
            let keep = times.iter().zip(hashes).filter(|(times, _)| !skipped(&times[1]));
            let (times, hashes): (Vec<[f64; 2]>, Vec<String>) = keep.map(|(t, hash)| (*t, hash.clone())).unzip();
            before.extend(times);
            hashed.extend(hashes);
        }
        let after = times(&found, video);
        assert_eq!(after.len(), before.len(), "video: {video}");
        for (after, before) in after.iter().zip(&before) {
            // To the last digit that is printed of either.
            let apart = [0, 1].map(|which| (after[which] - (before[which] - first)).abs());
            assert!(apart.iter().all(|apart| *apart < 2.1e-6), "{after:?} {before:?} {first}");
        }
        assert_eq!(hashes(url, if video { "0" } else { "1" }), hashed);
    }
}

#[test]
fn h264_and_aac_are_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let source = [Packaged::new(directory.path(), H264, 10)];
    check(directory.path(), &source, 0);
    // The sound begins when the picture has been there for two seconds.
    check(directory.path(), &source, 2);
}

#[test]
fn hevc_and_av1_are_one_file() {
    for encoder in [HEVC, AV1] {
        let directory = tempfile::tempdir().unwrap();
        check(directory.path(), &[Packaged::new(directory.path(), encoder, 10)], 0);
    }
}

#[test]
fn two_sessions_are_one_file() {
    let directory = tempfile::tempdir().unwrap();
    // The second has other parameter sets, and comes five seconds after the end of the first.
    let other = [H264, &["-level", "4.0"]].concat();
    let sources = [(H264, 10), (&other[..], 25)];
    let sources = sources.map(|(encoder, start)| Packaged::new(directory.path(), encoder, start));
    assert_ne!(sources[0].renditions[0].0, sources[1].renditions[0].0);
    check(directory.path(), &sources, 0);
}
