//! The encoder's own ladder: several pictures in one connection, as OBS sends them.

use std::collections::BTreeMap;

use crate::support::hls;
use crate::support::movie::Movie;
use crate::support::probe;
use crate::support::publisher::{Form, Packet, Publisher, Push, packets};
use crate::support::server::{Builder, Server};
use crate::{PATIENCE, SHORT_SEGMENTS};

/// A picture of this height with B-frames and a keyframe each second, as all tracks of one encoder have them.
fn track(server: &Server, height: u32, kbps: u32) -> Movie {
    let size = format!("testsrc2=s={}x{height}:r=30", height * 16 / 9);
    let rate = format!("{kbps}k");
    let sound = ["-f", "lavfi", "-i", "sine=1000:r=48000", "-t", "6"];
    let picture = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", "-b:v", &rate];
    let group = ["-g", "30", "-sc_threshold", "0", "-c:a", "aac"];
    let arguments = [&["-f", "lavfi", "-i", &size][..], &sound, &picture, &group].concat();
    Movie::make(server.directory.path(), &format!("{height}"), &arguments)
}

/// Track 0 in FLV's own tags with the sound, the others behind it as one track a message.
fn obs_packets(movies: &[Movie]) -> Vec<Packet> {
    let mut all = Vec::new();
    for (number, movie) in (0u8..).zip(movies) {
        let form = if number == 0 { Form::Legacy } else { Form::OneTrack(number) };
        let wanted = |packet: &Packet| number == 0 || packet.is_video;
        all.extend(packets(movie, form, Form::Legacy).into_iter().filter(wanted));
    }
    all.sort_by_key(|packet| packet.millis);
    all
}

fn server(renditions: &str) -> Server {
    let ladder = format!("[ladders.default]\nrenditions = [{renditions}]\n");
    Builder::new().settings(SHORT_SEGMENTS).settings(&ladder).start()
}

const LADDER: &str = "{ name = \"source\", passthrough = true }, { name = \"360p\", height = 360, bitrate = \"800kbps\" }, \
                      { name = \"180p\", height = 180, bitrate = \"300kbps\" }";

/// All video renditions start each segment with the same picture.
fn check_alignment(server: &Server, recordings: &BTreeMap<String, hls::Recording>) {
    let starts = |name: &str, recording: &hls::Recording| -> BTreeMap<u64, f64> {
        let init = recording.inits.values().next().unwrap();
        let first = |(number, (_, body)): (&u64, &(m3u8_rs::MediaSegment, Vec<u8>))| {
            let file = server.directory.path().join(format!("{name}-{number}.mp4"));
            std::fs::write(&file, [init.as_slice(), body].concat()).unwrap();
            let packet = probe::packets(&file)[0];
            assert!(packet.key, "{name}: segment {number} begins with a keyframe");
            (*number, packet.pts)
        };
        recording.segments.iter().map(first).collect()
    };
    let source = starts("source", &recordings["source"]);
    for (name, recording) in recordings.iter().filter(|(name, _)| !["audio", "source"].contains(&name.as_str())) {
        for (number, start) in starts(name, recording) {
            let Some(reference) = source.get(&number) else { continue };
            assert!(
                (start - reference).abs() < 0.000_02,
                "{name}: segment {number} begins {} s off",
                start - reference
            );
        }
    }
}

#[test]
fn row_32_the_tracks_of_obs_become_renditions_without_any_encoding() {
    let server = server(LADDER);
    let movies = [track(&server, 720, 2000), track(&server, 360, 700), track(&server, 180, 250)];
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let push = Push::start(publisher, obs_packets(&movies), movies[0].millis);
    let names = hls::wait_until_live(&server, PATIENCE);
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, ["180p", "360p", "audio", "source"]);
    let recordings = hls::record(&server, &names, 4, PATIENCE);
    check_alignment(&server, &recordings);
    for (name, movie) in [("source", &movies[0]), ("360p", &movies[1]), ("180p", &movies[2])] {
        let recording = &recordings[name];
        probe::decode(recording.write(&server.directory.path().join(format!("{name}.mp4"))).to_str().unwrap());
        // The encoder's own bytes: its largest frame is somewhere in the segments as it was.
        let largest = movie.picture.as_ref().unwrap().samples.iter().max_by_key(|s| s.data.len()).unwrap();
        let tail = &largest.data[largest.data.len() - 200..];
        let passed = recording.segments.values().any(|(_, body)| body.windows(200).any(|window| window == tail));
        assert!(passed, "{name} is the encoder's own track");
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let names: Vec<_> = threads.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok()).collect();
    assert!(!names.iter().any(|name| name.contains("encoder")), "nothing is encoded: {names:?}");
    push.stop();
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn row_32_a_missing_rung_is_filled_by_transcoding() {
    let server = server(LADDER);
    let movies = [track(&server, 720, 2000), track(&server, 180, 250)];
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let push = Push::start(publisher, obs_packets(&movies), movies[0].millis);
    let names = hls::wait_until_live(&server, PATIENCE);
    let recordings = hls::record(&server, &names, 4, PATIENCE);
    check_alignment(&server, &recordings);
    assert_eq!(probe::size(&recordings["360p"].write(&server.directory.path().join("360p.mp4"))), (640, 360));
    drop(push);
}

#[test]
fn row_32_a_track_that_stops_leaves_gaps_and_the_others_go_on() {
    let server = server(LADDER);
    let movies = [track(&server, 720, 2000), track(&server, 360, 700), track(&server, 180, 250)];
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let mut packets = obs_packets(&movies);
    // Two seconds of the six lack the last track.
    packets.retain(|packet| !(packet.millis >= 2000 && packet.millis < 4000 && packet.body.get(6) == Some(&2)));
    let push = Push::start(publisher, packets, movies[0].millis);
    let names = hls::wait_until_live(&server, PATIENCE);
    let video: Vec<_> = names.iter().filter(|name| ["source", "360p"].contains(&name.as_str())).cloned().collect();
    let recordings = hls::record(&server, &video, 8, PATIENCE);
    check_alignment(&server, &recordings);
    let playlist = String::from_utf8(crate::support::http::fetch(&server.live("180p/index.m3u8")).unwrap()).unwrap();
    assert!(playlist.contains("#EXT-X-GAP"), "{playlist}");
    drop(push);
}

#[test]
fn row_40_another_codec_in_mid_stream_is_one_aligned_discontinuity() {
    let server = server(LADDER);
    let first = track(&server, 720, 2000);
    let hevc = ["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30", "-f", "lavfi", "-i", "sine=1000:r=48000", "-t", "6"];
    let x265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=30:open-gop=0"];
    let second = Movie::make(server.directory.path(), "hevc", &[&hevc[..], &x265, &["-c:a", "aac"]].concat());
    let mut all = packets(&first, Form::Legacy, Form::Legacy);
    let after = packets(&second, Form::Enhanced, Form::Legacy).into_iter();
    all.extend(after.map(|packet| Packet { millis: packet.millis + first.millis, ..packet }));
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let push = Push::start(publisher, all, first.millis + second.millis + 60_000);
    let names = hls::wait_until_live(&server, PATIENCE);
    let recordings = hls::record(&server, &names, 5, PATIENCE);
    let seams: Vec<Vec<u64>> = recordings
        .values()
        .map(|recording| recording.segments.iter().filter(|(_, (s, _))| s.discontinuity).map(|(n, _)| *n).collect())
        .collect();
    assert!(seams.iter().all(|seam| seam.len() == 1 && *seam == seams[0]), "one seam, the same in all: {seams:?}");
    assert!(recordings.values().all(|recording| recording.inits.len() == 2));
    drop(push);
}
