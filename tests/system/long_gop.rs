//! Encoders left at their defaults: keyframes further apart than a segment.

use crate::support::server::Builder;
use crate::support::{encoders, hls, probe};
use crate::{PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

/// As OBS sends at its defaults: a keyframe each 250 frames, B-frames.
const OBS_DEFAULTS: [&str; 8] = ["-g", "250", "-bf", "2", "-sc_threshold", "0", "-preset", "veryfast"];

#[test]
fn row_17_is_encoded_for_its_own_rendition_too() {
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).start();
    let encoder = encoders::push_live("640x360", 30, &OBS_DEFAULTS, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    assert_eq!(names, ["source", "180p", "audio"]);
    let recordings = hls::record(&server, &names, 6, PATIENCE);
    for (name, recording) in &recordings {
        let longest = recording.segments.values().map(|(segment, _)| segment.duration).fold(0.0, f32::max);
        assert!(longest < 2.1, "{name}: segments of {longest} s");
    }
    let source = recordings["source"].write(&server.directory.path().join("source.mp4"));
    assert_eq!(probe::size(&source), (640, 360));
    probe::decode(source.to_str().unwrap());
    let log = server.log();
    assert!(log.contains("Keyframe Interval"), "the log says what to set in OBS: {log}");
    drop(encoder);
}

#[test]
fn row_17_or_stretches_the_segments() {
    let stretch = "long_gop = \"stretch\"\n";
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(stretch).start();
    let encoder =
        encoders::push_live("640x360", 30, &["-g", "150", "-bf", "2", "-sc_threshold", "0"], &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    let recordings = hls::record(&server, &names, 3, PATIENCE);
    for (name, recording) in &recordings {
        let durations: Vec<_> = recording.segments.values().map(|(segment, _)| segment.duration).collect();
        assert!(durations.iter().all(|seconds| (seconds - 5.0).abs() < 0.05), "{name}: {durations:?}");
    }
    assert!(hls::media(&server, "180p").unwrap().target_duration >= 5);
    drop(encoder);
}
