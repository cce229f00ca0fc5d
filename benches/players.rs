//! Low-latency players that wait: what they cost, and how soon each of them has what it waits for.
//!
//! `cargo bench --bench players`, with `-- COUNT...` for other numbers than 2000 and 10000. Each player keeps one connection and
//! asks, as hls.js does, for the playlist that holds the next part, compressed, as soon as it has the one before. They all want the
//! same at the same moment: the worst that an origin can be asked. Times run from when the first of them has its
//! answer; CPU and memory are the server's, and what it takes without players is told beside.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use support::movie::Movie;
use support::publisher::{Form, Publisher, Push, packets};
use support::server::{Builder, Server};
use support::{http, process, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MEASURED: Duration = Duration::from_secs(20);
/// Until all players have caught up with the edge.
const SETTLE: Duration = Duration::from_secs(5);
/// As many connections as the system's limit of open files leaves for each side.
const SETTINGS: &str = "[origin]\nconnections_max = 15000\nwaiting_max = 15000\nwaiting_per_channel_max = 15000\n\
                        [ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";
const PLAYLIST: &str = "/live/demo/source/index.m3u8";

fn main() {
    let counts: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(hard.max(soft), hard).unwrap();
    let server = Builder::new().settings(SETTINGS).variable("RUST_LOG", "info").start();
    let movie = Movie::make(
        server.directory.path(),
        "source",
        &["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30", "-t", "8", "-c:v", "libx264", "-preset", "veryfast"]
            .into_iter()
            .chain(["-b:v", "2500k", "-g", "60", "-sc_threshold", "0", "-bf", "0", "-pix_fmt", "yuv420p"])
            .collect::<Vec<_>>(),
    );
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let push = Push::start(publisher, packets(&movie, Form::Legacy, Form::Legacy), movie.millis);
    let first = wait_for("a playlist with parts", Duration::from_secs(30), || {
        let text = http::fetch(&format!("{}{PLAYLIST}", server.origin))?;
        next_of(&String::from_utf8_lossy(&text)).ok_or_else(|| "no hint".to_owned())
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let idle = cpu_over(server.pid(), MEASURED);
    println!("without players: {idle:.3} CPU s per second");
    for count in if counts.is_empty() { vec![2_000, 10_000] } else { counts } {
        runtime.block_on(measure(&server, count, &first));
    }
    push.stop();
}

/// CPU seconds a second that the process takes.
fn cpu_over(pid: u32, time: Duration) -> f64 {
    let (before, started) = (process::cpu_seconds(pid), Instant::now());
    std::thread::sleep(time);
    (process::cpu_seconds(pid) - before) / started.elapsed().as_secs_f64()
}

/// Where a player is: the segment and the part that it wants next.
type Place = (u64, u32);

/// What the players have seen.
#[derive(Default)]
struct Seen {
    /// When each had what it waited for.
    answers: Mutex<BTreeMap<Place, Vec<Instant>>>,
    failures: AtomicUsize,
    bytes: AtomicUsize,
}

async fn measure(server: &Server, count: usize, first: &Place) {
    let rss_before = process::memory_kib(server.pid(), "VmRSS");
    let seen = Arc::new(Seen::default());
    let mut players = JoinSet::new();
    let address = server.origin.trim_start_matches("http://").to_owned();
    for started in 0..count {
        players.spawn(play(address.clone(), *first, Arc::clone(&seen)));
        if started % 200 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(SETTLE).await;
    seen.answers.lock().unwrap().clear();
    seen.bytes.store(0, Ordering::Relaxed);
    let pid = server.pid();
    let cpu = tokio::task::spawn_blocking(move || cpu_over(pid, MEASURED)).await.unwrap();
    let rss_kib = process::memory_kib(pid, "VmRSS").saturating_sub(rss_before);
    players.shutdown().await;
    report(count, &seen, cpu, rss_kib);
}

fn report(count: usize, seen: &Seen, cpu: f64, rss_kib: u64) {
    let answers = seen.answers.lock().unwrap();
    let mut late: Vec<Duration> = Vec::new();
    // The first and the last are seen in part only.
    let whole = answers.values().skip(1).take(answers.len().saturating_sub(2));
    for times in whole {
        let first = times.iter().min().unwrap();
        late.extend(times.iter().map(|time| *time - *first));
    }
    late.sort();
    let at = |percent: usize| late.get(late.len() * percent / 100).copied().unwrap_or_default();
    let (failures, bytes) = (seen.failures.load(Ordering::Relaxed), seen.bytes.load(Ordering::Relaxed));
    let answered = answers.values().map(Vec::len).sum::<usize>();
    println!(
        "{count} players: {cpu:.3} CPU s per second, {:.1} us an answer; from the first player's answer to each other's last byte \
         p50 {:.1} ms, p99 {:.1} ms; {:.1} KiB of RSS a player; {answered} answers of {} bytes, {failures} failures",
        cpu * MEASURED.as_secs_f64() / answered as f64 * 1e6,
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        rss_kib as f64 / count as f64,
        bytes / answered.max(1),
    );
}

/// Follows the edge until it is dropped.
async fn play(address: String, mut next: Place, seen: Arc<Seen>) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let (msn, part) = next;
        let request = format!(
            "GET {PLAYLIST}?_HLS_msn={msn}&_HLS_part={part} HTTP/1.1\r\nhost: {address}\r\naccept-encoding: gzip\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let Some(body) = answer(&mut stream, &mut buffer).await else {
            seen.failures.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let at = Instant::now();
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).unwrap();
        seen.bytes.fetch_add(body.len(), Ordering::Relaxed);
        let Some(after) = next_of(&text) else { return };
        // Whoever was behind has been told the newest, not what it asked for.
        seen.answers.lock().unwrap().entry(after).or_default().push(at);
        next = after;
    }
}

/// The body of the next response, if it is one of 200.
async fn answer<'b>(stream: &mut TcpStream, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(buffer.get(..head)?).ok()?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
        let good = text.starts_with("HTTP/1.1 200");
        if buffer.len() >= head + 4 + length {
            return buffer.get(head + 4..).filter(|_| good);
        }
    }
}

/// The part that a playlist hints at: `PRELOAD-HINT:TYPE=PART,URI="SESSION/MSN.PART.m4s"`.
fn next_of(playlist: &str) -> Option<Place> {
    let (_, hint) = playlist.rsplit_once("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"")?;
    let (msn, rest) = hint.split_once('/')?.1.split_once('.')?;
    Some((msn.parse().ok()?, rest.split_once('.')?.0.parse().ok()?))
}
