//! Many publishers at once: what each costs in CPU and memory, beside nginx-rtmp under the same load.
//!
//! `cargo bench --bench publishers`, with `-- COUNT` for another number than 200. Each publisher sends 720p30 H.264 at 2.5 Mbit/s
//! with AAC, in real time, each message in a write of its own. Headwater passes it through: it cuts segments and parts, writes
//! playlists and keeps all in files. nginx-rtmp is measured twice: doing no more than receive, and writing HLS too.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/load.rs"]
mod load;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::movie::Movie;
use support::nginx::Nginx;
use support::process;
use support::publisher::{Form, packets};
use support::server::Builder;

const MEASURED: Duration = Duration::from_secs(30);
/// Longer than Headwater keeps segments in memory, so that it takes no more of that, and frees as much as it fills.
const SETTLE: Duration = Duration::from_secs(40);
const SETTINGS: &str =
    "[hls]\nwindow = \"16s\"\n[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";
const PUBLISHERS: usize = 200;

/// What one publisher costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// CPU seconds for each second of its stream.
    cpu: f64,
    rss_kib: f64,
}

fn main() {
    let count = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(PUBLISHERS);
    let directory = tempfile::tempdir().unwrap();
    let movie = load::source(directory.path());
    let headwater = headwater(&movie, count);
    print("Headwater, passed through to HLS in files", count, headwater);
    for (what, hls) in [("nginx-rtmp, receiving only", false), ("nginx-rtmp, writing HLS", true)] {
        let nginx = nginx(&movie, count, hls, directory.path());
        print(what, count, nginx);
        println!("  Headwater takes {:.2} of its CPU", headwater.cpu / nginx.cpu);
    }
}

fn print(what: &str, count: usize, cost: Cost) {
    let millis = cost.cpu * 1000.0;
    println!(
        "{what}, {count} publishers: {millis:.2} CPU ms per stream second, {:.0} KiB of RSS per stream",
        cost.rss_kib
    );
}

fn headwater(movie: &Movie, count: usize) -> Cost {
    let server =
        Builder::new().settings(SETTINGS).settings(&load::channels(count)).variable("RUST_LOG", "info").start();
    measure(movie, count, &server.rtmp, server.pid(), || assert_eq!(server.complaints(), Vec::<String>::new()))
}

fn nginx(movie: &Movie, count: usize, hls: bool, directory: &Path) -> Cost {
    let address = support::free_address();
    let place = directory.join(if hls { "hls" } else { "live" });
    std::fs::create_dir_all(&place).unwrap();
    let hls = if hls {
        format!("hls on; hls_path {}; hls_fragment 4s; hls_playlist_length 16s;", place.display())
    } else {
        String::new()
    };
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\nevents {{ worker_connections 4096; }}\n\
         rtmp {{ access_log off; server {{ listen {address}; chunk_size 4096; application live {{ live on; {hls} }} }} }}\n"
    );
    let nginx = Nginx::start(&place, &config, address);
    measure(movie, count, &format!("rtmp://{address}/live"), nginx.pid(), || ())
}

/// Publishes, and measures the process that receives; `check` looks at it before the publishers leave.
fn measure(movie: &Movie, count: usize, url: &str, pid: u32, check: impl FnOnce()) -> Cost {
    let idle_kib = process::memory_kib(pid, "VmRSS");
    let publishers = load::connect(url, count);
    let packets = packets(movie, Form::Legacy, Form::Legacy);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| load::send(publishers, &packets, movie.millis, &over));
        std::thread::sleep(SETTLE);
        let (before, started) = (process::cpu_seconds(pid), Instant::now());
        std::thread::sleep(MEASURED);
        let cpu = (process::cpu_seconds(pid) - before) / started.elapsed().as_secs_f64() / count as f64;
        let rss_kib = (process::memory_kib(pid, "VmRSS") as f64 - idle_kib as f64) / count as f64;
        over.store(true, Ordering::Relaxed);
        let publishers = sender.join().unwrap();
        check();
        drop(publishers);
        Cost { cpu, rss_kib }
    })
}
