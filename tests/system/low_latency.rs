//! Low-Latency HLS by its clauses of RFC 8216bis, from a real encoder to players that wait at the edge.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::edge::{Edge, Place, Playlist, place};
use crate::support::server::{Builder, Server, tests_path};
use crate::support::{encoders, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER, small_server};

/// Parts that each rendition is followed for.
const PARTS: usize = 14;

#[test]
fn clause_6_2_6_parts_come_as_they_are_hinted_and_make_up_their_segments() {
    let server = small_server();
    let encoder = encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    std::thread::scope(|scope| {
        for rendition in ["source", "180p", "audio"] {
            let edge = Edge { server: &server, rendition };
            scope.spawn(move || follow(&edge));
        }
    });
    refuses_what_means_nothing(&Edge { server: &server, rendition: "source" });
    probe::decode_seconds(&server.live("index.m3u8"), 6);
    assert_eq!(server.complaints(), Vec::<String>::new());
    drop(encoder);
}

/// Follows the edge of a rendition part by part, and compares what was hinted at with what is listed afterwards.
fn follow(edge: &Edge<'_>) {
    let mut playlist = Playlist::read(&edge.ask("").text());
    let mut parts: BTreeMap<Place, Vec<u8>> = BTreeMap::new();
    for _ in 0..PARTS {
        let hint = playlist.hint.clone().expect("a source that sends is waited for");
        // It is asked for before it is there, and comes whole.
        let body = http::get(&edge.url(&hint)).unwrap();
        let next = place(&hint);
        playlist = edge.wait_for(next).unwrap();
        match body.status {
            200 => {
                assert_eq!(playlist.parts[&next.0][next.1], hint, "what was hinted at is what is listed");
                assert_eq!(body.header("content-length"), body.body.len().to_string());
                parts.insert(next, body.body);
            }
            404 => {
                let void = playlist.last().unwrap().0 > next.0 || playlist.gaps.contains(&hint);
                assert!(void, "only the segment's end and a source that holds up make a hint void");
            }
            status => panic!("{status}"),
        }
    }
    for (msn, uri) in &playlist.segments {
        let Some(listed) = playlist.parts.get(msn) else { continue };
        let kept: Vec<_> = (0..listed.len()).filter_map(|part| parts.get(&(*msn, part))).collect();
        if kept.len() == listed.len() {
            let joined: Vec<u8> = kept.into_iter().flatten().copied().collect();
            assert!(joined == http::fetch(&edge.url(uri)).unwrap(), "{} {msn}", edge.rendition);
        }
    }
    let whole = playlist.segments.keys().filter(|msn| parts.contains_key(&(**msn, 0))).count();
    assert!(whole >= 2, "{}: {whole} segments were seen from their first part on", edge.rendition);
}

fn refuses_what_means_nothing(edge: &Edge<'_>) {
    let (msn, part) = Playlist::read(&edge.ask("").text()).last().unwrap();
    for query in [
        "?_HLS_part=0".to_owned(),
        format!("?_HLS_msn={}", msn + 4),
        format!("?_HLS_msn={msn}&_HLS_part={}", part + 20),
    ] {
        let response = edge.ask(&query);
        assert_eq!((response.status, response.header("cache-control")), (400, "public, max-age=1"), "{query}");
    }
    let old = edge.ask("?_HLS_msn=1");
    assert_eq!(old.status, 200, "whatever is asked for that was there is answered by the whole playlist");
    assert!(Playlist::read(&old.text()).last().unwrap() >= (msn, part));
    assert_eq!(http::get(&edge.url("1/1.0.m4s")).unwrap().status, 404);
}

#[test]
fn clause_6_2_5_1_delta_updates_skip_what_is_old() {
    let settings = "[hls]\nsegment_duration = \"1s\"\npart_duration = \"250ms\"\nwindow = \"30s\"\n";
    let server = Builder::new().settings(settings).settings(SMALL_LADDER).start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let edge = Edge { server: &server, rendition: "source" };
    let delta = wait_for("a playlist with something to skip", PATIENCE, || {
        let text = edge.ask("?_HLS_skip=YES").text();
        if text.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=") { Ok(text) } else { Err(text) }
    });
    // What is skipped and what is listed make up what the playlist had before.
    let skipped: usize = delta.split("SKIPPED-SEGMENTS=").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let (delta, full) = (Playlist::read(&delta), Playlist::read(&edge.ask("").text()));
    let first = delta.text.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).unwrap();
    assert_eq!(*delta.segments.keys().next().unwrap(), first.parse::<u64>().unwrap() + skipped as u64);
    assert!(delta.segments.iter().all(|(msn, uri)| full.segments.get(msn) == Some(uri)));
    assert!(delta.text.contains("#EXT-X-VERSION:9\n") && delta.text.contains("CAN-SKIP-UNTIL=6.0"), "{}", delta.text);
    drop(encoder);
}

#[test]
fn players_are_told_to_poll_while_the_publisher_is_away() {
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).start();
    let push = || encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let first = push();
    hls::wait_until_live(&server, PATIENCE);
    let edge = Edge { server: &server, rendition: "source" };
    assert!(edge.ask("").text().contains("CAN-BLOCK-RELOAD=YES"));
    std::thread::scope(|scope| {
        // Far enough ahead that it does not come any more.
        let waiting = scope.spawn(|| {
            let (msn, _) = Playlist::read(&edge.ask("").text()).last().unwrap();
            edge.ask(&format!("?_HLS_msn={}&_HLS_part=3", msn + 1))
        });
        wait_for("a request that waits", PATIENCE, || match server.metric("headwater_origin_waiting") {
            Some(waiting) if waiting > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        first.kill();
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    server.wait_for_log("the publisher was lost; it may return", PATIENCE);
    let still = edge.ask("").text();
    assert!(!still.contains("CAN-BLOCK-RELOAD") && !still.contains("PRELOAD-HINT"), "{still}");
    let next = *Playlist::read(&still).segments.keys().next_back().unwrap() + 1;
    let answer = edge.ask(&format!("?_HLS_msn={next}&_HLS_part=0"));
    assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=1"), "answered, and not kept");

    let second = push();
    let back = wait_for("parts of the second publisher", PATIENCE, || {
        let text = edge.ask("").text();
        if text.contains("CAN-BLOCK-RELOAD=YES") && text.contains("#EXT-X-DISCONTINUITY\n") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let seam = back.split("#EXT-X-DISCONTINUITY\n").nth(1).unwrap();
    assert!(seam.starts_with("#EXT-X-MAP:"), "the new initialisation segment is told first: {seam}");
    drop(second);
}

/// Both players at the edge of the demo, its clock read from the decoded picture. How far behind they are is measured by
/// the bench `latency`; here they only must not fail.
#[test]
fn hls_js_and_shaka_play_at_the_edge() {
    let ladder =
        "[ladders.default]\nprofile = \"low-latency\"\nrenditions = [{ name = \"source\", passthrough = true }]\n";
    let server = Builder::new().argument("--demo").settings(ladder).start();
    hls::wait_until_live(&server, PATIENCE);
    for player in ["hls.js", "shaka"] {
        let report = play(&server, player, 10);
        // Waiting for the buffer is what a busy machine brings about, and is measured elsewhere.
        let errors = report["errors"].as_array().unwrap().iter();
        let failures = errors.filter(|error| !error.as_str().unwrap_or_default().starts_with("buffer"));
        assert_eq!(failures.count(), 0, "{report}");
        assert!(report["samples"].as_u64().unwrap() >= 20, "its clock can be read: {report}");
        let median = report["latencyMillis"]["median"].as_u64().unwrap();
        assert!(median < 6_000, "nearer than whole segments would allow: {report}");
    }
    assert_eq!(server.complaints(), Vec::<String>::new());
}

fn play(server: &Server, player: &str, seconds: u32) -> serde_json::Value {
    let mut command = Command::new("node");
    command.arg(tests_path("browser/latency.mjs")).arg(server.live("index.m3u8")).args([player, &seconds.to_string()]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{player}: {said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// GStreamer's `hlsdemux2`, which knows of parts, to as many decoded pictures as five seconds have.
#[test]
fn gstreamer_plays_the_same_url() {
    let server = small_server();
    let encoder = encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let uri = format!("uri={}", server.live("index.m3u8"));
    let pipeline = ["uridecodebin3", &uri, "name=in", "in.", "!", "queue", "!", "video/x-raw", "!"];
    let output = Command::new("timeout")
        .args([&PATIENCE.as_secs().to_string(), "gst-launch-1.0", "--quiet"])
        .args(pipeline)
        .args(["fakesink", "num-buffers=150", "sync=true"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.complaints(), Vec::<String>::new());
    drop(encoder);
}
