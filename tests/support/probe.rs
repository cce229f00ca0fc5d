//! What ffmpeg and ffprobe say of a file.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A packet as it is in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) pts: f64,
    pub(crate) dts: f64,
    pub(crate) duration: f64,
    pub(crate) key: bool,
}

/// The packets of a file's only stream.
pub(crate) fn packets(file: &Path) -> Vec<Packet> {
    let json = ffprobe(&["-show_entries", "packet=pts_time,dts_time,duration_time,flags"], file);
    let seconds =
        |packet: &Value, key: &str| packet[key].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    let packet = |packet: &Value| Packet {
        pts: seconds(packet, "pts_time"),
        dts: seconds(packet, "dts_time"),
        duration: seconds(packet, "duration_time"),
        key: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
    };
    json["packets"].as_array().unwrap().iter().map(packet).collect()
}

/// The first stream's width and height.
pub(crate) fn size(file: &Path) -> (u64, u64) {
    let json = ffprobe(&["-show_entries", "stream=width,height"], file);
    let stream = &json["streams"][0];
    (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap())
}

/// The first stream's codec and profile, as ffprobe names them.
pub(crate) fn codec(file: &Path) -> (String, String) {
    let json = ffprobe(&["-show_entries", "stream=codec_name,profile"], file);
    let text = |name: &str| json["streams"][0][name].as_str().unwrap_or_default().to_owned();
    (text("codec_name"), text("profile"))
}

/// The codecs of all streams of a file, as ffprobe names them.
pub(crate) fn streams(file: &Path) -> Vec<String> {
    let json = ffprobe(&["-show_entries", "stream=codec_name"], file);
    let streams = json["streams"].as_array().unwrap().iter();
    streams.map(|stream| stream["codec_name"].as_str().unwrap().to_owned()).collect()
}

fn ffprobe(arguments: &[&str], file: &Path) -> Value {
    let output =
        Command::new("ffprobe").args(["-v", "error", "-of", "json"]).args(arguments).arg(file).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "ffprobe of {}: {complaints}", file.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A hash of each access unit of a stream, such as `v` or `a`, as it is, in the order of decoding. `source` is a file or a URL.
pub(crate) fn access_units(source: &str, stream: &str) -> Vec<String> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", source, "-map", &format!("0:{stream}:0")])
        .args(["-c", "copy", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let units = text.lines().filter(|line| !line.starts_with('#'));
    units.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// Decodes everything; panics if the decoder has anything to complain of. `source` is a file or a URL.
pub(crate) fn decode(source: &str) {
    decode_with(source, &[]);
}

/// The same of the first seconds, for what does not end.
pub(crate) fn decode_seconds(source: &str, seconds: u32) {
    decode_with(source, &["-t", &seconds.to_string()]);
}

/// The same of the first seconds of all that a live playlist lists.
pub(crate) fn decode_from_start(source: &str, seconds: u32) {
    decode_by(&["-live_start_index", "0"], source, &["-t", &seconds.to_string()]);
}

fn decode_with(source: &str, options: &[&str]) {
    decode_by(&[], source, options);
}

fn decode_by(input: &[&str], source: &str, options: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "warning", "-xerror"])
        .args(input)
        .args(["-i", source])
        .args(options)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // What ffmpeg says of every EXT-X-MAP but the first, be it the same or not.
    let complaints: Vec<_> = said.lines().filter(|line| !line.contains("Found duplicated MOOV Atom")).collect();
    assert!(output.status.success() && complaints.is_empty(), "decoding {source}: {complaints:?}");
}

/// When the picture flashes: presentation times of frames that are brighter than any other.
pub(crate) fn flashes(file: &Path) -> Vec<f64> {
    let log = filter_log(file, &["-vf", "scale=64:36,showinfo", "-an"]);
    let field = |line: &str, name: &str| -> Option<f64> {
        line.split_once(name)?.1.trim_start_matches('[').split_whitespace().next()?.parse().ok()
    };
    let frames = log.lines().filter(|line| line.contains("pts_time:"));
    frames
        .filter(|line| field(line, "mean:").is_some_and(|mean| mean > 220.0))
        .filter_map(|line| field(line, "pts_time:"))
        .collect()
}

/// When the sound begins after silence, in seconds of presentation time.
pub(crate) fn beeps(file: &Path) -> Vec<f64> {
    let log = filter_log(file, &["-af", "silencedetect=noise=-30dB:d=0.3", "-vn"]);
    let ends = log.lines().filter_map(|line| line.split_once("silence_end: "));
    ends.filter_map(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).collect()
}

/// What a filter says of a file, with the file's own timestamps.
fn filter_log(file: &Path, arguments: &[&str]) -> String {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-copyts", "-i"])
        .arg(file)
        .args(arguments)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "ffmpeg reads {}", file.display());
    String::from_utf8_lossy(&output.stderr).into_owned()
}
