//! A channel in MPEG-TS, for old players: whole segments, each picture with the sound in it.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::encoders;
use crate::support::hls;
use crate::support::http;
use crate::support::probe;
use crate::support::server::{Builder, Server};
use crate::{PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

const CHANNEL: &str = "[[channels]]\nname = \"demo\"\ncontainer = \"ts\"\n";

fn server() -> Server {
    Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(CHANNEL).start()
}

#[test]
fn a_channel_in_transport_streams_is_played_in_step() {
    let server = server();
    let directory = server.directory.path();
    let source = encoders::flash_and_beep(directory, 16);
    let encoder = encoders::push_file(&source, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    let offered: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(offered, BTreeSet::from(["180p", "source"]), "the sound is no rendition");
    for variant in hls::multivariant(&server).unwrap().variants {
        let codecs = variant.codecs.unwrap();
        assert!(codecs.starts_with("avc1.") && codecs.ends_with(",mp4a.40.2"), "{codecs}");
    }
    // To the end of the programme, while it goes on.
    probe::decode(&server.live("index.m3u8"));
    assert!(encoder.finish(PATIENCE), "the encoder was content");
    let recordings = hls::record(&server, &names, usize::MAX, PATIENCE);
    for (name, recording) in &recordings {
        assert!(recording.inits.is_empty() && recording.segments.len() >= 7, "{name}");
        let (segment, _) = recording.segments.values().next().unwrap();
        let response = http::get(&server.live(&format!("{name}/{}", segment.uri))).unwrap();
        assert_eq!((response.status, response.header("content-type")), (200, "video/mp2t"));
        let file = recording.write(&directory.join(format!("{name}.ts")));
        probe::decode(file.to_str().unwrap());
        assert_eq!(probe::streams(&file), ["h264", "aac"]);
        let (flashes, beeps) = (probe::flashes(&file), probe::beeps(&file));
        assert!(flashes.len() >= 13 && beeps.len() >= 13, "{name}: {flashes:?} {beeps:?}");
        // The sound ends a little after the picture, which is told as the end of a silence too.
        let last = flashes.last().copied().unwrap_or_default();
        for beep in beeps.iter().skip(1).filter(|beep| **beep < last + 0.5) {
            let apart = flashes.iter().map(|flash| (flash - beep).abs()).fold(f64::MAX, f64::min);
            assert!(apart < 0.05, "{name}: the beep at {beep} is {apart} s from any flash");
        }
    }
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn gstreamer_plays_transport_streams() {
    let server = server();
    let source = encoders::flash_and_beep(server.directory.path(), 10);
    let encoder = encoders::push_file(&source, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    // A rendition's playlist, until its end: what an old box is given.
    let line = format!(
        "souphttpsrc location={} ! hlsdemux ! tsdemux name=d d. ! queue ! h264parse ! avdec_h264 ! fakesink sync=false \
         d. ! queue ! aacparse ! avdec_aac ! fakesink sync=false",
        server.live("180p/index.m3u8")
    );
    let played = Command::new("gst-launch-1.0").arg("-q").args(line.split_whitespace()).output().unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success() && !said.contains("ERROR") && !said.contains("WARN"), "{said}");
    assert!(encoder.finish(PATIENCE), "the encoder was content");
}
