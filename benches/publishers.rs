//! Many publishers at once: what each costs in CPU and memory, beside nginx-rtmp under the same load.
//!
//! `cargo bench --bench publishers`, with `-- COUNT` for another number than 200. Each publisher sends 720p30 H.264 at 2.5 Mbit/s
//! with AAC, in real time, each message in a write of its own. Headwater passes it through: it cuts segments and parts, writes
//! playlists and keeps all in files. nginx-rtmp is measured twice: doing no more than receive, and writing HLS too.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::movie::Movie;
use support::nginx::Nginx;
use support::process;
use support::publisher::{Form, Packet, Publisher, packets};
use support::server::Builder;

const MEASURED: Duration = Duration::from_secs(30);
/// Longer than Headwater keeps segments in memory, so that it takes no more of that, and frees as much as it fills.
const SETTLE: Duration = Duration::from_secs(40);
const SETTINGS: &str =
    "[hls]\nwindow = \"16s\"\n[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";
const PUBLISHERS: usize = 200;
/// How often the load is looked at: messages that are due within it go out one right after the other.
const TICK: Duration = Duration::from_millis(2);

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
    let movie = source(directory.path());
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

fn source(directory: &Path) -> Movie {
    let picture = "testsrc2=s=1280x720:r=30,noise=alls=12:allf=t";
    let rate = ["-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k", "-g", "60", "-sc_threshold", "0"];
    let mut arguments = vec!["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=1000:r=48000", "-t", "20"];
    arguments.extend(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-pix_fmt", "yuv420p"]);
    arguments.extend(rate);
    arguments.extend(["-c:a", "aac", "-b:a", "128k"]);
    Movie::make(directory, "source", &arguments)
}

fn headwater(movie: &Movie, count: usize) -> Cost {
    let channels: String =
        (0..count).map(|i| format!("[[channels]]\nname = \"c{i}\"\nstream_key = \"key{i}\"\n")).collect();
    let server = Builder::new().settings(SETTINGS).settings(&channels).variable("RUST_LOG", "info").start();
    load(movie, count, &server.rtmp, server.pid(), || assert_eq!(server.complaints(), Vec::<String>::new()))
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
    load(movie, count, &format!("rtmp://{address}/live"), nginx.pid(), || ())
}

/// Publishes, and measures the process that receives; `check` looks at it before the publishers leave.
fn load(movie: &Movie, count: usize, url: &str, pid: u32, check: impl FnOnce()) -> Cost {
    let idle_kib = process::memory_kib(pid, "VmRSS");
    let publishers: Vec<Publisher> = (0..count).map(|i| Publisher::start(url, &format!("key{i}")).unwrap()).collect();
    let packets = packets(movie, Form::Legacy, Form::Legacy);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(publishers, &packets, movie.millis, &over));
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

/// One thread sends for all, each a little after the one before; tells how far it fell behind.
fn send(mut publishers: Vec<Publisher>, packets: &[Packet], millis: u32, over: &AtomicBool) -> Vec<Publisher> {
    let started = Instant::now();
    let mut next = vec![(0u32, 0usize); publishers.len()];
    let mut late = 0;
    while !over.load(Ordering::Relaxed) {
        let now = u32::try_from(started.elapsed().as_millis()).unwrap();
        for (number, (publisher, (round, position))) in (0u32..).zip(publishers.iter_mut().zip(&mut next)) {
            let own = now.saturating_sub(number * 17 % 2000);
            while let Some(packet) = packets.get(*position).filter(|p| *round * millis + p.millis <= own) {
                let at = *round * millis + packet.millis;
                late = late.max(own - at);
                if packet.is_video {
                    publisher.video(at, &packet.body)
                } else {
                    publisher.audio(at, &packet.body)
                }
                publisher.flush().unwrap();
                *position += 1;
                if *position == packets.len() {
                    (*round, *position) = (*round + 1, 0);
                }
            }
        }
        std::thread::sleep(TICK);
    }
    println!("  (the load was at most {late} ms late)");
    publishers
}
