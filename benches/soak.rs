//! Half an hour of the demo: memory, gaps and warnings.
//!
//! `cargo bench --bench soak`; `MINUTES=5` for a shorter one. Fails where a rendition has a gap or a discontinuity, where the
//! log has a warning, or where the process grows after it has warmed up.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::hls;
use support::server::{Builder, Server};

const PATIENCE: Duration = Duration::from_secs(60);

/// Until the window is full twice over, which is what is kept in memory, and everything is allocated.
const WARM_UP: Duration = Duration::from_secs(240);

/// Between two looks at the memory.
const INTERVAL: Duration = Duration::from_secs(60);

/// Growth after the warm-up that is no growth: the demo's bit rate varies, and with it what a window weighs.
const GROWTH_MAX: f64 = 0.05;

fn main() {
    let minutes: u64 = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let server = Builder::new().argument("--demo").start();
    let names = hls::wait_until_live(&server, PATIENCE);
    let started = Instant::now();
    let mut viewers: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), Viewer::default())).collect();
    let mut samples = Vec::new();
    while started.elapsed() < Duration::from_secs(minutes * 60) {
        std::thread::sleep(Duration::from_secs(2));
        for (name, viewer) in &mut viewers {
            viewer.look(&server, name);
        }
        if started.elapsed() > INTERVAL * u32::try_from(samples.len()).unwrap() {
            samples.push((started.elapsed(), server.memory_mib("VmRSS")));
            println!("{:5} s: RSS {} MiB", samples[samples.len() - 1].0.as_secs(), samples[samples.len() - 1].1);
        }
    }
    for (name, viewer) in &viewers {
        println!("{name}: {} segments, {:.3} s, no gap", viewer.seen, viewer.seconds);
    }
    let warm: Vec<_> = samples.iter().filter(|(at, _)| *at >= WARM_UP).map(|(_, mib)| *mib).collect();
    if let (Some(first), Some(last)) = (warm.first(), warm.last()) {
        let growth = (*last as f64 - *first as f64) / *first as f64;
        println!("RSS from {first} to {last} MiB after the warm-up: {:+.1} %", growth * 100.0);
        assert!(growth < GROWTH_MAX, "it grows");
    }
    assert_eq!(server.complaints(), Vec::<String>::new(), "no warning in the log");
    println!("no warning in the log");
}

/// Follows one rendition.
#[derive(Default)]
struct Viewer {
    next: Option<u64>,
    expected: Option<chrono::DateTime<chrono::FixedOffset>>,
    seen: u64,
    seconds: f64,
}

impl Viewer {
    fn look(&mut self, server: &Server, name: &str) {
        let playlist = hls::media(server, name).unwrap();
        for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
            if self.next.is_some_and(|next| number < next) {
                continue;
            }
            assert!(self.next.is_none_or(|next| number == next), "{name}: {number} comes after {:?}", self.next);
            assert!(!segment.discontinuity, "{name}: {number} is a discontinuity");
            let tag = |tag: &m3u8_rs::ExtTag| tag.tag == "X-GAP";
            assert!(!segment.unknown_tags.iter().any(tag), "{name}: {number} is a gap");
            let time = segment.program_date_time.unwrap();
            let late = self.expected.map(|expected| (time - expected).num_milliseconds().abs());
            assert!(late.is_none_or(|late| late <= 2), "{name}: {number} begins {late:?} ms off");
            let body = support::http::fetch(&server.live(&format!("{name}/{}", segment.uri))).unwrap();
            assert!(!body.is_empty());
            let seconds = f64::from(segment.duration);
            self.expected = Some(time + chrono::Duration::from_std(Duration::from_secs_f64(seconds)).unwrap());
            self.next = Some(number + 1);
            self.seen += 1;
            self.seconds += seconds;
        }
    }
}
