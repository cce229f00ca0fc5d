//! Whole processes: what a channel costs in CPU and memory, against ffmpeg doing the same, and how soon it can be watched.
//!
//! `cargo bench --bench processes`, with `-- passthrough`, `ladder`, `profiles`, `more`, `start` or `dvr` for one of them. CPU is user and system seconds of the process from `/proc`, so that a busy machine
//! changes it little; quote ratios. Times are of the wall.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the system tests, which use more of it")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::encoders::{self, Encoder};
use support::server::{Builder, Server};
use support::{hls, process};

/// How much media each measurement is taken over, once things have settled.
const MEASURED: Duration = Duration::from_secs(20);

/// How long a pipeline may take to settle before it is measured.
const SETTLE: Duration = Duration::from_secs(10);

/// Alternating runs of Headwater and ffmpeg, of which the median counts.
const PAIRS: usize = 3;

const PATIENCE: Duration = Duration::from_secs(60);

const PASSTHROUGH: &str = "[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let seconds = u32::try_from((MEASURED + SETTLE * 3).as_secs()).unwrap();
    let source = encoders::flash_and_beep(directory.path(), seconds);
    println!("source: 720p30 H.264 at 2.5 Mbit/s with B-frames, AAC at 128 kbit/s\n");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if runs("passthrough") {
        [1, 20].into_iter().for_each(|channels| passthrough(&source, channels));
    }
    if runs("ladder") {
        against_ffmpeg(&source);
    }
    if runs("profiles") {
        ["balanced", "low-latency"].into_iter().for_each(|profile| encode_profile(&source, profile));
    }
    if runs("more") {
        one_more_rendition(&source);
    }
    if runs("start") {
        first_picture(&source);
    }
    if runs("dvr") {
        ["60s", "2h"].into_iter().for_each(|window| dvr(&source, window));
    }
}

/// Channels that pass the source through: CPU seconds for each second of each stream, and memory.
fn passthrough(source: &Path, channels: usize) {
    let list: String =
        (0..channels).map(|i| format!("[[channels]]\nname = \"c{i}\"\nstream_key = \"key{i}\"\n")).collect();
    let server = Builder::new().settings(PASSTHROUGH).settings(&list).variable("RUST_LOG", "info").start();
    let push = |i| encoders::push_file(source, &format!("{}/key{i}", server.rtmp));
    let encoders: Vec<Encoder> = (0..channels).map(push).collect();
    let (cpu, wall) = measure(&server);
    let (rss, peak) = (server.memory_mib("VmRSS"), server.memory_mib("VmHWM"));
    let each = cpu / wall / channels as f64;
    println!("passthrough, {channels} channel(s): {each:.4} CPU s per stream second; RSS {rss} MiB, peak {peak} MiB");
    drop(encoders);
}

/// Two hours of one channel that passes the source through, as fast as the server takes them: what is in memory in the end, and
/// what that cost.
fn dvr(source: &Path, window: &str) {
    let settings = format!("{PASSTHROUGH}[hls]\nwindow = \"{window}\"\n[rtmp]\nrun_ahead_max = \"3h\"\n");
    let server = Builder::new().settings(&settings).variable("RUST_LOG", "info").start();
    let each = u32::try_from((MEASURED + SETTLE * 3).as_secs()).unwrap();
    let begun = Instant::now();
    let encoder = encoders::push_file_again_and_again(source, TWO_HOURS_SECS.div_ceil(each), &server.publish_url());
    assert!(encoder.finish(PATIENCE * 60), "the encoder sends all of it");
    let (cpu, wall) = (process::cpu_seconds(server.pid()), begun.elapsed().as_secs_f64());
    let (rss, peak) = (server.memory_mib("VmRSS"), server.memory_mib("VmHWM"));
    let listed = hls::media(&server, "source").unwrap().segments.len();
    println!(
        "two hours of 2.6 Mbit/s, a window of {window}: RSS {rss} MiB, peak {peak} MiB; {cpu:.1} CPU s in {wall:.0} s; {listed} segments listed"
    );
}

const TWO_HOURS_SECS: u32 = 2 * 3_600;

/// One channel with the default ladder, and ffmpeg making the same renditions of the same source.
fn against_ffmpeg(source: &Path) {
    let mut ratios = Vec::new();
    for _ in 0..PAIRS {
        let server = Builder::new().variable("RUST_LOG", "info").start();
        let encoder = encoders::push_file(source, &server.publish_url());
        let (cpu, wall) = measure(&server);
        let peak = server.memory_mib("VmHWM");
        let like = similarity(source, &first_segments(&server, "360p"), "640:360");
        drop((encoder, server));
        let (ffmpeg, ffmpeg_peak, ffmpeg_like) = ffmpeg_ladder(source);
        let headwater = cpu / wall;
        println!(
            "default ladder: {headwater:.3} CPU s per media second, peak {peak} MiB, SSIM of 360p {like:.4}; \
             ffmpeg {ffmpeg:.3}, peak {ffmpeg_peak:.0} MiB, SSIM {ffmpeg_like:.4}; ratio of CPU {:.2}",
            headwater / ffmpeg
        );
        ratios.push(headwater / ffmpeg);
    }
    ratios.sort_by(f64::total_cmp);
    println!("default ladder: Headwater takes {:.2} times ffmpeg's CPU (median of {PAIRS})", ratios[PAIRS / 2]);
}

/// CPU seconds per media second, peak MiB and the likeness of 360p of ffmpeg for the default ladder of a 720p source: the source copied, 720,
/// 480 and 360 lines encoded with the same preset, bit rates and keyframes, and the sound copied.
fn ffmpeg_ladder(source: &Path) -> (f64, f64, f64) {
    let graph = "[0:v]split=2[a][s];[s]scale=-2:480:flags=bicubic,split=2[b][t];[t]scale=-2:360:flags=bicubic[c]";
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-y", "-benchmark", "-re", "-threads", "1"]);
    command.args(["-t", &MEASURED.as_secs().to_string(), "-i"]).arg(source).args(["-filter_complex", graph]);
    let renditions = [("[a]", "superfast", "2800k"), ("[b]", "veryfast", "1400k"), ("[c]", "veryfast", "800k")];
    let directory = tempfile::tempdir().unwrap();
    let output = |name: &str| directory.path().join(name);
    command.args(["-map", "0:v", "-map", "0:a", "-c", "copy"]).arg(output("source.mp4"));
    for (label, preset, rate) in renditions {
        command.args(["-map", label, "-c:v", "libx264", "-preset", preset, "-b:v", rate, "-maxrate", rate]);
        command.args([
            "-fps_mode",
            "passthrough",
            "-bufsize",
            rate,
            "-bf",
            "2",
            "-threads",
            "1",
            "-force_key_frames",
            "expr:gte(t,n_forced*4)",
        ]);
        command.args(["-x264-params", "mbtree=1:rc-lookahead=10:scenecut=0:keyint=infinite"]);
        command.arg(output(&format!("{}.mp4", label.trim_matches(['[', ']']))));
    }
    let said = command.output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr);
    let number = |label: &str| -> f64 {
        let rest = said.rsplit_once(label).map(|(_, rest)| rest).unwrap_or_default();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest[..digits].parse().unwrap_or_else(|_| panic!("ffmpeg says its {label}: {said}"))
    };
    let cpu = number("utime=") + number("stime=");
    let like = similarity(source, &output("c.mp4"), "640:360");
    (cpu / MEASURED.as_secs_f64(), number("maxrss=") / 1024.0, like)
}

/// A ladder's profile: CPU, how late an encoded rendition is behind the one that is passed through, and how like the
/// source it looks.
fn encode_profile(source: &Path, profile: &str) {
    let ladder = format!(
        "[ladders.default]\nprofile = \"{profile}\"\nrenditions = [\n{{ name = \"source\", passthrough = true }},\n\
         {{ name = \"720p\", height = 720, bitrate = \"2.8Mbps\" }},\n]\n"
    );
    let server = Builder::new().settings(&ladder).start();
    let encoder = encoders::push_file(source, &server.publish_url());
    let (cpu, wall) = measure(&server);
    let encoded = first_segments(&server, "720p");
    println!(
        "profile {profile}, one 720p30 rendition at 2.8 Mbit/s: {:.3} CPU s per media second, {:.2} s behind, SSIM {:.4}",
        cpu / wall,
        behind(&server.log()),
        similarity(source, &encoded, "1280:720")
    );
    drop(encoder);
}

/// What each further encoded rendition adds to a channel.
fn one_more_rendition(source: &Path) {
    let rungs = [("720p", 720, "2.8Mbps"), ("480p", 480, "1.4Mbps"), ("360p", 360, "0.8Mbps")];
    let mut before = None;
    for count in 0..=rungs.len() {
        let rung = |(name, height, rate): &(&str, u32, &str)| {
            format!("{{ name = \"{name}\", height = {height}, bitrate = \"{rate}\" }},\n")
        };
        let encoded: String = rungs.iter().take(count).map(rung).collect();
        let source_rung = "{ name = \"source\", passthrough = true },\n";
        let ladder = format!("[ladders.default]\nrenditions = [\n{source_rung}{encoded}]\n");
        let server = Builder::new().settings(&ladder).variable("RUST_LOG", "info").start();
        let encoder = encoders::push_file(source, &server.publish_url());
        let (cpu, wall) = measure(&server);
        let now = (cpu / wall, server.memory_mib("VmRSS"));
        let (cpu_more, rss_more) =
            before.map_or((0.0, 0), |(cpu, rss): (f64, u64)| (now.0 - cpu, now.1 - rss.min(now.1)));
        println!(
            "passed through and {count} encoded: {:.3} CPU s per media second (+{cpu_more:.3}), RSS {} MiB (+{rss_more})",
            now.0, now.1
        );
        before = Some(now);
        drop(encoder);
    }
}

/// The median time from a segment of the source's rendition being complete to the same segment of `720p`.
fn behind(log: &str) -> f64 {
    let complete = |rendition: &str| -> Vec<f64> {
        let lines = log.lines().filter(|line| line.contains("segment complete") && line.contains(rendition));
        lines.filter_map(|line| seconds_of_day(line.get(11..26)?)).collect()
    };
    let mut late: Vec<_> = complete("rendition=720p")
        .iter()
        .zip(complete("rendition=source"))
        .map(|(encoded, passed)| encoded - passed)
        .collect();
    late.sort_by(f64::total_cmp);
    late[late.len() / 2]
}

/// `HH:MM:SS.ffffff` in seconds.
fn seconds_of_day(clock: &str) -> Option<f64> {
    clock.split(':').try_fold(0.0, |sum, field| Some(sum * 60.0 + field.parse::<f64>().ok()?))
}

/// A rendition from its first picture on, as a file.
fn first_segments(server: &Server, rendition: &str) -> PathBuf {
    let recordings = hls::record(server, &[rendition.to_owned()], 7, PATIENCE);
    assert!(recordings[rendition].segments.contains_key(&1), "from the first on");
    recordings[rendition].write(&server.directory.path().join(rendition))
}

/// The structural similarity of a rendition to its source at that size, both from their first pictures on.
fn similarity(source: &Path, encoded: &Path, size: &str) -> f64 {
    let graph =
        format!("[0:v]setpts=N/30/TB[a];[1:v]scale={size}:flags=lanczos,setpts=N/30/TB[b];[a][b]ssim=shortest=1");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(encoded)
        .arg("-i")
        .arg(source)
        .args(["-lavfi", &graph, "-an", "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let all = said.rsplit_once("All:").map(|(_, rest)| rest).unwrap_or_default();
    all.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("ffmpeg compares: {said}"))
}

/// From the publisher's admission to a first segment of every rendition that can be fetched.
fn first_picture(source: &Path) {
    let server = Builder::new().start();
    let encoder = encoders::push_file(source, &server.publish_url());
    server.wait_for_log("publisher admitted", PATIENCE);
    let admitted = Instant::now();
    let names = hls::wait_until_live(&server, PATIENCE);
    hls::record(&server, &names, 1, PATIENCE);
    println!(
        "first segment of every rendition playable {:.1} s after the publisher was admitted",
        admitted.elapsed().as_secs_f64()
    );
    drop(encoder);
}

/// Lets a server settle, and then measures its CPU seconds over a stretch of wall time.
fn measure(server: &Server) -> (f64, f64) {
    std::thread::sleep(SETTLE);
    let (before, started) = (process::cpu_seconds(server.pid()), Instant::now());
    std::thread::sleep(MEASURED);
    (process::cpu_seconds(server.pid()) - before, started.elapsed().as_secs_f64())
}
