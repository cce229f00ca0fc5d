//! Stores: how soon a bucket's playlists name what is complete, and what a server without encoders gives out of its store.
//!
//! `cargo bench --bench stores`, with `-- uploads` or `origin` for one of them; `uploads` takes the numbers of channels too. The
//! bucket is `s3s-fs` in this process, on loopback: what a store far away adds is its own time for two requests, one after the
//! other. Beside it stand those two requests made by the same client while nothing else asks, and while the channels do; and nginx
//! with the same files.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on has failed"
)]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/garage.rs"]
#[expect(dead_code, reason = "shared with the system tests, which start it")]
mod garage;
#[path = "../tests/support/load.rs"]
mod load;
#[path = "../tests/support/s3.rs"]
mod s3;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use headwater::store::{Object, S3Store, Store as _};
use s3::{BUCKET, S3Server};
use support::movie::Movie;
use support::nginx::Nginx;
use support::publisher::{Form, packets};
use support::server::{Builder, Server};
use support::{encoders, hls, process};

const MEASURED: Duration = Duration::from_secs(40);
/// Until all channels have put their first playlists.
const SETTLE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);
const PASSTHROUGH: &str = "[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";
/// How much media the server without encoders serves.
const HOUR_SECS: u32 = 3_600;
/// Connections that ask at the same time.
const CONNECTIONS: usize = 8;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (counts, names): (Vec<&String>, Vec<_>) = wanted.iter().partition(|wanted| wanted.parse::<usize>().is_ok());
    let counts: Vec<usize> = counts.into_iter().filter_map(|count| count.parse().ok()).collect();
    let runs = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if runs("uploads") {
        let directory = tempfile::tempdir().unwrap();
        let movie = load::source(directory.path());
        for count in if counts.is_empty() { vec![1, 20, 100] } else { counts } {
            uploads(&runtime, &movie, count);
        }
    }
    if runs("origin") {
        origin(&runtime);
    }
}

/// From the end of a segment to its name in the bucket's playlist.
fn uploads(runtime: &tokio::runtime::Runtime, movie: &Movie, count: usize) {
    let bucket = runtime.block_on(S3Server::start());
    let client = runtime.block_on(S3Store::open(&bucket.config(), Some(bucket.credentials.clone()))).unwrap();
    let bytes = movie_bytes_a_segment(movie);
    let alone: Vec<Duration> = (0..40).map(|n| runtime.block_on(two_puts(&client, bytes, n))).collect();
    let server = of_bucket(Builder::new(), &bucket)
        .settings(PASSTHROUGH)
        .settings(&load::channels(count))
        .variable("RUST_LOG", "info,headwater::packager=debug,headwater::store=debug")
        .start();
    let packets = packets(movie, Form::Legacy, Form::Legacy);
    let over = AtomicBool::new(false);
    let (publishers, mut beside) = (load::connect(&server.rtmp, count), Vec::new());
    let cpu = std::thread::scope(|scope| {
        let sender = scope.spawn(|| load::send(publishers, &packets, movie.millis, &over));
        std::thread::sleep(SETTLE);
        let (before, started) = (process::cpu_seconds(server.pid()), Instant::now());
        while started.elapsed() < MEASURED {
            beside.push(runtime.block_on(two_puts(&client, bytes, beside.len())));
            std::thread::sleep(Duration::from_millis(200));
        }
        let cpu = (process::cpu_seconds(server.pid()) - before) / started.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        cpu
    });
    let (named, segments) = delays(&server.log());
    assert!(named.len() * 10 >= segments * 9, "{} of {segments} segments were named in the log", named.len());
    println!(
        "{count} channel(s) of 2.6 Mbit/s: from a segment's end to its name in the bucket's playlist {}, of {} segments; two puts in a \
         row by themselves {}, beside the channels {}; {:.4} CPU s per second and channel",
        percentiles(named.clone()),
        named.len(),
        percentiles(alone),
        percentiles(beside),
        cpu / count as f64
    );
}

/// About what a segment of 4 s has.
fn movie_bytes_a_segment(movie: &Movie) -> usize {
    let bytes: usize = movie.picture.iter().flat_map(|picture| &picture.samples).map(|sample| sample.data.len()).sum();
    bytes * 4_000 / usize::try_from(movie.millis).unwrap()
}

/// A segment and a playlist, one after the other, as nobody may name what is not there.
async fn two_puts(client: &S3Store, bytes: usize, number: usize) -> Duration {
    let object = |key: String, data: Vec<u8>| Object {
        key,
        data: data.into(),
        content_type: "video/mp4",
        cache_control: "no-store".to_owned(),
    };
    let begun = Instant::now();
    client.put(object(format!("beside/{number}.m4s"), vec![0; bytes])).await.unwrap();
    client.put(object("beside/index.m3u8".to_owned(), vec![b'#'; 1_500])).await.unwrap();
    begun.elapsed()
}

fn of_bucket(builder: Builder, bucket: &S3Server) -> Builder {
    let store = format!(
        "[store]\nkind = \"s3\"\nbucket = \"{BUCKET}\"\nregion = \"{}\"\nendpoint = \"http://{}\"\npath_style = true\n",
        bucket.region, bucket.address
    );
    let builder = builder.settings(&store).variable("AWS_ACCESS_KEY_ID", &bucket.credentials.access_key_id);
    builder.variable("AWS_SECRET_ACCESS_KEY", &bucket.credentials.secret_access_key)
}

/// What the server's log says: how long each segment took from its end to the first put of its playlist behind its own, and how many
/// segments there were.
fn delays(log: &str) -> (Vec<Duration>, usize) {
    let mut complete = BTreeMap::new();
    let mut stored = BTreeMap::<String, Vec<(String, f64)>>::new();
    for line in log.lines() {
        let Some(at) = line.get(11..26).and_then(seconds_of_day) else { continue };
        if line.contains("segment complete") {
            let path = [field(line, "channel="), field(line, "rendition=")].join("/");
            complete.insert((path, field(line, "msn=").to_owned()), at);
        } else if line.contains("stored key=") && !line.contains("not stored") {
            let key = field(line, "key=").trim_start_matches("live/");
            let path: Vec<&str> = key.splitn(3, '/').collect();
            if let [channel, rendition, file] = path[..] {
                stored.entry([channel, rendition].join("/")).or_default().push((file.to_owned(), at));
            }
        }
    }
    let segments = complete.len();
    let named = complete.into_iter().filter_map(|((path, msn), complete)| {
        let puts = &stored.get(&path)?;
        let file = format!("/{msn}.m4s");
        let media = puts.iter().position(|(name, _)| name.ends_with(&file))?;
        let named = puts.iter().skip(media).find(|(name, _)| name == "index.m3u8")?.1;
        Some(Duration::from_secs_f64((named - complete).max(0.0)))
    });
    (named.collect(), segments)
}

/// The value behind `name` in a line of the log.
fn field<'l>(line: &'l str, name: &str) -> &'l str {
    let rest = line.rsplit_once(&format!(" {name}")).map_or("", |(_, rest)| rest);
    rest.split(' ').next().unwrap_or_default().trim_matches('"')
}

/// `HH:MM:SS.ffffff` in seconds.
fn seconds_of_day(clock: &str) -> Option<f64> {
    clock.split(':').try_fold(0.0, |sum, field| Some(sum * 60.0 + field.parse::<f64>().ok()?))
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
}

/// A server with one thread that only serves: each segment of an hour once, out of files and out of a bucket, and again out of memory;
/// beside nginx with the files.
fn origin(runtime: &tokio::runtime::Runtime) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    record(directory.path(), &store);
    let paths = listed(&store);
    let bytes: u64 = paths.iter().map(|path| std::fs::metadata(store.join(path)).unwrap().len()).sum();
    println!("{} segments of {:.0} KB:", paths.len(), bytes as f64 / paths.len() as f64 / 1e3);
    let files = || Builder::new().variable("HEADWATER_STORE__PATH", &store.display().to_string());
    let bucket = runtime.block_on(S3Server::start());
    copy(&store.join("live"), &bucket.directory.path().join(BUCKET).join("live"));
    for (what, builder) in [("files", files()), ("a bucket", of_bucket(Builder::new(), &bucket))] {
        let server = only_serving(builder);
        let address = server.origin.clone();
        tell(&format!("out of {what}, cold"), &paths, bytes, server.pid(), &address);
        (0..2).for_each(|_| tell("out of memory, warm", &paths, bytes, server.pid(), &address));
        println!("    RSS {} MiB", server.memory_mib("VmRSS"));
        assert_eq!(server.complaints(), Vec::<String>::new());
    }
    let address = support::free_address();
    let config = format!(
        "events {{ worker_connections 1024; }}\nhttp {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
         server {{ listen {address}; root {}; }} }}\n",
        store.display()
    );
    let nginx = Nginx::start(directory.path(), &config, address);
    (0..2).for_each(|_| tell("nginx, files", &paths, bytes, nginx.pid(), &format!("http://{address}")));
}

fn only_serving(builder: Builder) -> Server {
    let builder = builder.argument("--role").argument("origin").settings("[origin]\ncache_max = \"4GiB\"\n");
    builder.variable("RUST_LOG", "info").variable("TOKIO_WORKER_THREADS", "1").start()
}

/// An hour of one channel, as fast as the server takes it.
fn record(directory: &Path, store: &Path) {
    let settings = format!("{PASSTHROUGH}[hls]\nwindow = \"2h\"\n[rtmp]\nrun_ahead_max = \"3h\"\n");
    let builder = Builder::new().settings(&settings).variable("RUST_LOG", "info");
    let server = builder.variable("HEADWATER_STORE__PATH", &store.display().to_string()).start();
    let source = encoders::flash_and_beep(directory, 50);
    let encoder = encoders::push_file_again_and_again(&source, HOUR_SECS.div_ceil(50), &server.publish_url());
    assert!(encoder.finish(PATIENCE * 20), "the encoder sends all of it");
    support::wait_for("the end in the store", PATIENCE, || {
        let text = std::fs::read_to_string(store.join("live/demo/source/index.m3u8")).map_err(|e| e.to_string())?;
        if text.contains("#EXT-X-ENDLIST") { Ok(()) } else { Err("it goes on".to_owned()) }
    });
    assert!(hls::media(&server, "source").is_ok());
}

/// The segments of the picture, by their paths.
fn listed(store: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(store.join("live/demo/source/index.m3u8")).unwrap();
    let segments = text.lines().filter(|line| line.ends_with(".m4s"));
    segments.map(|segment| format!("live/demo/source/{segment}")).collect()
}

/// The same files in another folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Asks for each path once.
fn tell(what: &str, paths: &[String], bytes: u64, pid: u32, origin: &str) {
    let (before, begun) = (process::cpu_seconds(pid), Instant::now());
    fetch_all(paths, bytes, origin);
    let (cpu, wall) = (process::cpu_seconds(pid) - before, begun.elapsed().as_secs_f64());
    println!(
        "  {what}: {:.0} requests/s, {:.0} us of CPU a request, {:.3} CPU s per GB",
        paths.len() as f64 / wall,
        cpu / paths.len() as f64 * 1e6,
        cpu / (bytes as f64 / 1e9)
    );
}

fn fetch_all(paths: &[String], bytes: u64, origin: &str) {
    let (next, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut answer = agent.get(format!("{origin}/{path}")).call().unwrap();
                    let got = std::io::copy(&mut answer.body_mut().as_reader(), &mut std::io::sink()).unwrap();
                    read.fetch_add(usize::try_from(got).unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(u64::try_from(read.into_inner()).unwrap(), bytes, "all of it came");
}
