//! How far behind the encoder players show the demo's picture, by the clock that is burnt into it, read from decoded frames.
//!
//! `cargo bench --bench latency`, with `-- MINUTES` for another time than one minute each. hls.js and Shaka play in Chromium, one
//! after the other, with parts of 500 ms and of 200 ms; the picture is passed through. The time from the camera to the encoder
//! and from the decoder to the eye is not in it, and neither is a network.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::process::Command;
use std::time::Duration;

use support::hls;
use support::server::{Builder, tests_path};

const LADDER: &str = "[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";

fn main() {
    let minutes = std::env::args().filter_map(|argument| argument.parse::<u32>().ok()).next().unwrap_or(1);
    for part in ["500ms", "200ms"] {
        let settings = format!("[hls]\npart_duration = \"{part}\"\n");
        let server = Builder::new().argument("--demo").settings(LADDER).settings(&settings).start();
        hls::wait_until_live(&server, Duration::from_secs(60));
        for player in ["hls.js", "shaka"] {
            let mut command = Command::new("node");
            command.arg(tests_path("browser/latency.mjs")).arg(server.live("index.m3u8"));
            let output = command.args([player, &(minutes * 60).to_string()]).output().unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let behind = report.get("latencyMillis").unwrap_or(&serde_json::Value::Null);
            let field = |name: &str| report.get(name).map(ToString::to_string).unwrap_or_default();
            println!("parts of {part}, {minutes} min of {}: behind, in ms: {behind}", field("player"));
            println!("  stalls {}, errors {}, {} frames", field("stalls"), field("errors"), field("frames"));
        }
        for line in server.complaints() {
            println!("  the log: {line}");
        }
    }
}
