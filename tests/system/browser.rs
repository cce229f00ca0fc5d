//! The watch page in a real browser.

use std::path::PathBuf;
use std::process::Command;

use crate::PATIENCE;
use crate::support::hls;
use crate::support::server::{Builder, tests_path};

#[test]
fn chromium_plays_the_demo_in_every_quality() {
    let server = Builder::new().argument("--demo").start();
    let names = hls::wait_until_live(&server, PATIENCE);
    assert_eq!(names.len(), 5, "{names:?}");
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("watch.png");
    let output = Command::new("node")
        .arg(tests_path("browser/watch.mjs"))
        .arg(format!("{}/watch/demo", server.origin))
        .arg(&screenshot)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let report: serde_json::Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["errors"], serde_json::json!([]));
    assert!(report["advanced"].as_f64().unwrap() >= 3.0, "time advances");
    assert!(report["pictures"].as_u64().unwrap() >= 4, "the decoded picture changes");
    let heights: Vec<_> = report["qualities"].as_array().unwrap().iter().filter_map(|q| q["height"].as_u64()).collect();
    for height in [720, 480, 360] {
        assert!(heights.contains(&height), "{height} lines can be chosen: {heights:?}");
    }
    assert_eq!(server.complaints(), Vec::<String>::new());
}
