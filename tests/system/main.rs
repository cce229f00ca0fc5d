//! The system as its users meet it: the real binary, real encoders, real stores, a real browser.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod browser;
mod cdn;
mod codecs;
mod crowd;
mod door;
mod dvr;
#[path = "../support/faults.rs"]
#[expect(dead_code, reason = "the tests of the store look at more of a request")]
mod faults;
#[path = "../support/garage.rs"]
mod garage;
mod hooks;
mod hostile;
mod https;
mod lifecycle;
mod long_gop;
mod low_latency;
mod origins;
mod outages;
mod peers;
mod pictures;
mod recordings;
mod restart;
#[path = "../support/s3.rs"]
mod s3;
mod stores;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the measurement of whole processes uses more of it")]
mod support;
mod thumbnails;
mod times;
mod tracks;
mod ts;
mod verify;

use std::time::Duration;

use support::server::{Builder, Server};

/// Long enough for anything on a busy machine, short enough to fail a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Segments of 2 s, to see many of them soon.
const SHORT_SEGMENTS: &str = "[hls]\nsegment_duration = \"2s\"\npart_duration = \"500ms\"\nwindow = \"60s\"\n";

/// The least that a playlist may list, so that much leaves it soon.
const SHORT_WINDOW: &str = "[hls]\nsegment_duration = \"2s\"\npart_duration = \"500ms\"\nwindow = \"6s\"\n";

/// A ladder that costs little: what is pushed, and one small encoding.
const SMALL_LADDER: &str = "[ladders.default]\nrenditions = [\n\
    { name = \"source\", passthrough = true },\n\
    { name = \"180p\", height = 180, bitrate = \"300kbps\" },\n]\n";

/// A server for tests that do not look at the ladder itself.
fn small_server() -> Server {
    Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).start()
}

/// What ffmpeg needs to send a keyframe each second and no B-frames.
const KEYFRAME_EACH_SECOND: [&str; 4] = ["-g", "30", "-bf", "0"];
