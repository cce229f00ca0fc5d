//! `headwater verify` on a running server: what it publishes keeps the rules, as someone reads it who did not write it.

use std::process::{Command, Output};

use crate::support::{encoders, hls, http};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, small_server};

/// What a machine with other work may be too slow for: that is not what is tested here.
const LATE: [&str; 2] = ["part-late", "segment-late"];

#[test]
fn a_running_server_keeps_the_rules() {
    let server = small_server();
    let _encoder = encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let output = verify(&server.live("index.m3u8"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let broken = report["broken"].as_array().unwrap().iter();
    let late = |row: &serde_json::Value| LATE.iter().any(|late| row["rule"] == *late);
    let broken = broken.filter(|row| row["level"] == "error" && !late(row));
    assert_eq!(broken.collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
    assert_eq!(output.status.code(), Some(i32::from(report["errors"] != 0)));
    let checked = |what: &str| report["checked"][what].as_u64().unwrap();
    assert!(checked("segments") >= 9 && checked("parts") >= 36 && checked("hints") >= 9, "{}", report["checked"]);

    let metrics = http::fetch(&format!("{}/metrics", server.admin)).unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(!metrics.contains("headwater_playlist_violations_total{"), "{metrics}");
    let nothing = verify(&format!("{}/live/nobody/index.m3u8", server.origin));
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("404"));
}

fn verify(url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater")).args(["verify", url, "--seconds", "10", "--json"]).output().unwrap()
}
