//! Hot content: requests a second and CPU per GB of the origin, which serves from memory, beside nginx with the same bytes
//! on disk, over HTTP/1.1 with and without TLS.
//!
//! `cargo bench --bench hot` needs `wrk` and `nginx` (`scripts/install-packages bench`). The two take turns; the median of three
//! runs counts. Each has one thread to serve with, for the other core asks.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that cannot go on has failed")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::certificate;
use support::movie::Movie;
use support::nginx::Nginx;
use support::publisher::{Form, Publisher, Push, packets};
use support::server::{Builder, Server};
use support::{http, process, wait_for};

const SECONDS: u32 = 5;
const ROUNDS: usize = 3;
const CONNECTIONS: u32 = 64;
const SETTINGS: &str = "[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";

fn main() {
    let directory = tempfile::tempdir().unwrap();
    certificate::make(directory.path());
    let settings = [SETTINGS, &certificate::origin_settings(directory.path())].concat();
    let builder = Builder::new().settings(&settings).variable("RUST_LOG", "info");
    let server = builder.variable("TOKIO_WORKER_THREADS", "1").start();
    let paths = publish(&server);
    let copies = directory.path().join("copies");
    for (_, path) in &paths {
        let file = copies.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, http::fetch(&format!("{}/{path}", server.origin)).unwrap()).unwrap();
    }
    let addresses = [support::free_address(), support::free_address()];
    let nginx = nginx(directory.path(), &copies, addresses);
    let secure = server.origin_tls.clone().unwrap();
    let origins = [
        ("without TLS", server.origin.clone(), format!("http://{}", addresses[0])),
        ("with TLS", secure, format!("https://{}", addresses[1])),
    ];
    for (protocol, of_headwater, of_nginx) in &origins {
        for (what, path) in &paths {
            let bytes = std::fs::metadata(copies.join(path)).unwrap().len();
            println!("{what}, {bytes} bytes, {protocol}");
            compare(
                bytes,
                (&format!("{of_headwater}/{path}"), server.pid()),
                (&format!("{of_nginx}/{path}"), nginx.pid()),
            );
        }
    }
}

/// Lets both serve the same bytes, in turns; each by its URL and process.
fn compare(bytes: u64, headwater: (&str, u32), nginx: (&str, u32)) {
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (runs, (url, pid)) in runs.iter_mut().zip([headwater, nginx]) {
            runs.push(run(url, pid, bytes));
        }
    }
    let [headwater, nginx] = runs.map(median);
    for (name, run) in [("Headwater", headwater), ("nginx", nginx)] {
        println!(
            "  {name}: {:.0} requests/s, {:.1} us of CPU a request, {:.3} CPU s per GB",
            run.rate, run.cpu_micros, run.cpu_per_gb
        );
    }
    println!(
        "  Headwater's rate is {:.2} of nginx's, its CPU {:.2}",
        headwater.rate / nginx.rate,
        headwater.cpu_micros / nginx.cpu_micros
    );
}

/// Publishes for a while and ends the programme, which stays: a playlist and a segment that do not change any more.
fn publish(server: &Server) -> [(&'static str, String); 3] {
    let arguments =
        ["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30,noise=alls=12:allf=t", "-t", "14", "-c:v", "libx264"];
    let rate = ["-preset", "veryfast", "-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k", "-g", "60"];
    let arguments = [&arguments[..], &rate, &["-sc_threshold", "0", "-bf", "0", "-pix_fmt", "yuv420p"]].concat();
    let movie = Movie::make(server.directory.path(), "source", &arguments);
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let push = Push::start(publisher, packets(&movie, Form::Legacy, Form::Legacy), movie.millis);
    let playlist = "live/demo/source/index.m3u8".to_owned();
    let text =
        || http::fetch(&format!("{}/{playlist}", server.origin)).map(|b| String::from_utf8_lossy(&b).into_owned());
    wait_for("three segments", Duration::from_secs(40), || {
        let text = text()?;
        if text.matches("#EXTINF").count() >= 3 { Ok(()) } else { Err(text) }
    });
    push.stop();
    let ended = wait_for("the end", Duration::from_secs(20), || {
        let text = text()?;
        if text.contains("#EXT-X-ENDLIST") { Ok(text) } else { Err(text) }
    });
    let segment = ended.lines().find(|line| line.ends_with("/2.m4s")).unwrap();
    let part = ended.lines().rev().find_map(|line| line.strip_prefix("#EXT-X-PART:")?.split('"').nth(1)).unwrap();
    [
        ("playlist", playlist.clone()),
        ("part", format!("live/demo/source/{part}")),
        ("segment", format!("live/demo/source/{segment}")),
    ]
}

/// nginx that serves files by `sendfile`, at the second address over TLS with the certificate in `directory`.
fn nginx(directory: &Path, root: &Path, [plain, tls]: [SocketAddr; 2]) -> Nginx {
    let (root, certificate) = (root.display(), directory.display());
    let config = format!(
        "events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=100;\n\
         types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}\n\
         ssl_certificate {certificate}/chain.pem; ssl_certificate_key {certificate}/key.pem;\n\
         server {{ listen {plain}; listen {tls} ssl; root {root}; add_header cache-control max-age=2; }} }}\n"
    );
    Nginx::start(directory, &config, plain)
}

#[derive(Clone, Copy)]
struct Run {
    rate: f64,
    cpu_micros: f64,
    cpu_per_gb: f64,
}

fn run(url: &str, pid: u32, bytes: u64) -> Run {
    let before = process::cpu_seconds(pid);
    let mut command = Command::new("wrk");
    let command = command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{SECONDS}s"), url]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let cpu = process::cpu_seconds(pid) - before;
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let requests: f64 =
        text.lines().find_map(|line| line.trim().split_once(" requests in")).unwrap().0.parse().unwrap();
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).unwrap().trim().parse().unwrap();
    Run { rate, cpu_micros: cpu / requests * 1e6, cpu_per_gb: cpu / (requests * bytes as f64 / 1e9) }
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    runs[runs.len() / 2]
}
