//! For tests: what ffmpeg encodes goes through the packager, and ffmpeg plays what comes out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use mp4_atom::{Atom, Codec, DecodeMaybe, Header, Moov};
use serde_json::Value;

use super::fact::Fact;
use super::{Packager, testing};
use crate::config::HlsConfig;
use crate::ladder::{LadderEvent, RenditionKind, RenditionName, RenditionSpec, RunStart};
use crate::layout::Resource;
use crate::live::ChannelSnapshot;
use crate::media::{
    AccessUnit, AudioCodec, AudioFormat, Container, MediaTime, TrackFormat, VideoCodec, VideoCoding, VideoFormat,
};
use crate::source::ChannelName;

/// Runs a tool that must succeed without a word on its standard error, and gives its output.
pub(super) fn quiet(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().expect("ffmpeg is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{tool} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What ffmpeg encodes with, a cut possible every two seconds; of H.264 with an IDR in between.
pub(super) const H264: &[&str] =
    &["-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-sc_threshold", "0", "-bf", "2", "-threads", "1"];
/// In ten bits, with B-frames and without leading pictures.
pub(super) const HEVC: &[&str] = &[
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-pix_fmt",
    "yuv420p10le",
    "-tag:v",
    "hvc1",
    "-x265-params",
    "keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=2:log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
];
pub(super) const AV1: &[&str] =
    &["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-g", "60", "-keyint_min", "60"];

/// Ten seconds.
pub(super) fn encode(file: &str, video: &[&str]) {
    let source = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=sample_rate=48000"];
    let audio = ["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-t", "10", "-y", file];
    quiet("ffmpeg", &[&["-v", "error"], &source[..], video, &audio[..]].concat());
}

/// The packets of a file or playlist, as ffprobe sees them.
pub(super) fn packets(url: &str) -> Vec<Value> {
    let text = quiet("ffprobe", &["-v", "warning", "-show_packets", "-of", "json", url]);
    serde_json::from_str::<Value>(&text).unwrap()["packets"].as_array().unwrap().clone()
}

pub(super) fn seconds(packet: &Value, field: &str) -> f64 {
    packet[field].as_str().unwrap().parse().unwrap()
}

fn time(packet: &Value, field: &str) -> MediaTime {
    // Six digits after the point, as ffprobe prints them.
    let micros: String = packet[field].as_str().unwrap().chars().filter(|c| *c != '.').collect();
    MediaTime::from_ticks(micros.parse().unwrap(), 1_000_000)
}

pub(super) fn is_video(packet: &Value) -> bool {
    packet["codec_type"] == "video"
}

fn is_key(packet: &Value) -> bool {
    packet["flags"].as_str().unwrap().starts_with('K')
}

fn formats(file: &[u8]) -> [TrackFormat; 2] {
    let mut cursor = std::io::Cursor::new(file);
    let moov = loop {
        let header = Header::decode_maybe(&mut cursor).unwrap().expect("the file has a moov");
        let start = usize::try_from(cursor.position()).unwrap();
        let body = &file[start..start + header.size.unwrap()];
        if header.kind == Moov::KIND {
            break Moov::decode_body(&mut &body[..]).unwrap();
        }
        cursor.set_position(u64::try_from(start + body.len()).unwrap());
    };
    let entry = |index: usize| moov.trak[index].mdia.minf.stbl.stsd.codecs[0].clone();
    let mut config = Vec::new();
    let codec = match entry(0) {
        Codec::Avc1(avc) => avc.avcc.encode_body(&mut config).map(|()| VideoCodec::H264),
        Codec::Hvc1(hevc) => hevc.hvcc.encode_body(&mut config).map(|()| VideoCodec::Hevc),
        Codec::Av01(av1) => av1.av1c.encode_body(&mut config).map(|()| VideoCodec::Av1),
        other => panic!("{other:?}"),
    };
    let codec = codec.unwrap();
    let video = VideoFormat { codec, config: config.into(), width: 320, height: 180, coding: VideoCoding::PLAIN };
    let Codec::Mp4a(aac) = entry(1) else { panic!("AAC") };
    let config = aac.esds.es_desc.dec_config.dec_specific.unwrap().raw.into();
    let audio = AudioFormat { codec: AudioCodec::Aac(2), config, sample_rate: 48_000, channels: 2 };
    [TrackFormat::Video(video), TrackFormat::Audio(audio)]
}

fn events(file: &Bytes, packets: &[Value], start: MediaTime) -> Vec<LadderEvent> {
    let spec = |name: &str, kind, bitrate, frame_rate| RenditionSpec {
        name: RenditionName::new(name).unwrap(),
        kind,
        bitrate_average: bitrate,
        bitrate_peak: bitrate,
        frame_rate,
    };
    let mut events = vec![LadderEvent::Start(RunStart {
        start,
        wall_clock: testing::wall_clock(0),
        target_duration: MediaTime::from_millis(2_000),
        renditions: vec![
            spec("180p", RenditionKind::Video, 100_000, Some(30.0)),
            spec("audio", RenditionKind::Audio, 96_000, None),
        ],
    })];
    let formats = formats(file).into_iter().enumerate();
    events.extend(formats.map(|(rendition, format)| LadderEvent::Format(rendition, format)));
    let (mut cuts, mut cut_from) = (0.., MediaTime::ZERO);
    for packet in packets {
        let at: usize = packet["pos"].as_str().unwrap().parse().unwrap();
        let size: usize = packet["size"].as_str().unwrap().parse().unwrap();
        let unit = AccessUnit {
            dts: start + time(packet, "dts_time"),
            pts: start + time(packet, "pts_time"),
            duration: time(packet, "duration_time"),
            key: is_key(packet),
            data: file.slice(at..at + size),
        };
        let cut = (is_video(packet) && unit.key && unit.pts >= cut_from).then(|| cuts.next().unwrap());
        if cut.is_some() {
            cut_from = unit.pts + MediaTime::from_millis(1_999);
        }
        events.push(LadderEvent::Unit { rendition: usize::from(!is_video(packet)), unit, cut });
    }
    events.push(LadderEvent::Finish);
    events
}

/// Writes all that can be fetched below `root`, by the paths of the contract.
fn store(snapshot: &ChannelSnapshot, root: &Path) {
    let channel = ChannelName::new("demo").unwrap();
    let write = |resource: Resource, data: &[u8]| {
        let path = root.join(resource.path(&channel));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    };
    write(Resource::Multivariant, &snapshot.multivariant.as_ref().unwrap().text);
    for rendition in &snapshot.renditions {
        let name = || rendition.name.clone();
        write(Resource::Playlist(name()), &rendition.playlist.as_ref().unwrap().text);
        if let Some(i_frames) = &rendition.i_frames {
            write(Resource::IFrames(name()), &i_frames.playlist.text);
        }
        for init in &rendition.inits {
            write(Resource::Init(name(), init.session), &init.data);
        }
        for segment in rendition.segments.iter() {
            write(Resource::Segment(name(), segment.session, segment.msn), segment.data().unwrap());
        }
    }
}

/// Every segment after its own initialisation segment: starts with a key frame, and lasts as long as it says.
fn check_segments(snapshot: &ChannelSnapshot, root: &Path) {
    for rendition in &snapshot.renditions {
        let last_msn = rendition.segments.back().unwrap().msn;
        for segment in rendition.segments.iter() {
            let init = rendition.init(segment.session).unwrap();
            let alone = root.join("alone.mp4");
            fs::write(&alone, [&init.data[..], &segment.data().unwrap()[..]].concat()).unwrap();
            let packets = packets(alone.to_str().unwrap());
            assert!(is_key(&packets[0]));
            let last = packets.last().unwrap();
            let end = seconds(last, "dts_time") + seconds(last, "duration_time");
            let lasts = end - seconds(&packets[0], "dts_time");
            // The file says of its last AAC frame that it is cut short; a decoder does not know.
            let shortened = if segment.msn == last_msn { 0.006 } else { 1e-4 };
            let stated = segment.duration.as_secs_f64();
            assert!((lasts - stated).abs() < shortened, "{} {}: {lasts}, not {stated}", rendition.name, segment.msn);
            assert!((seconds(&packets[0], "dts_time") - segment.start.as_secs_f64()).abs() < 1e-4);
        }
    }
}

/// Every entry of the I-frame playlist, alone behind its initialisation segment, is one picture, shown when it should be;
/// and a player of the playlist shows each of them. How many there are.
fn check_i_frames(snapshot: &ChannelSnapshot, root: &Path, before: &[Value]) -> usize {
    let rendition = snapshot.rendition("180p").unwrap();
    let list = m3u8_rs::parse_media_playlist_res(&rendition.i_frames.as_ref().unwrap().playlist.text).unwrap();
    let keys = before.iter().filter(|p| is_video(p) && is_key(p));
    let keys: Vec<f64> = keys.map(|packet| seconds(packet, "pts_time") + 10.0).collect();
    assert_eq!(list.segments.len(), keys.len());
    for (entry, shown) in list.segments.iter().zip(&keys) {
        let segment = fs::read(root.join("live/demo/180p").join(&entry.uri)).unwrap();
        let range = entry.byte_range.as_ref().unwrap();
        let (start, length) = (range.offset.unwrap().try_into().unwrap(), range.length.try_into().unwrap());
        let bytes: Vec<u8> = segment.into_iter().skip(start).take(length).collect();
        let alone = root.join("alone.mp4");
        fs::write(&alone, [&rendition.inits[0].data[..], &bytes].concat()).unwrap();
        let frames = frames(alone.to_str().unwrap());
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0]["pict_type"], "I");
        assert!((seconds(&frames[0], "pts_time") - shown).abs() < 1e-4, "{:?} at {shown}", frames[0]);
    }
    let played = frames(root.join("live/demo/180p/iframes.m3u8").to_str().unwrap());
    let played: Vec<f64> = played.iter().map(|frame| seconds(frame, "pts_time")).collect();
    assert!(played.len() == keys.len() && played.iter().zip(&keys).all(|(a, b)| (a - b).abs() < 1e-4), "{played:?}");
    keys.len()
}

/// The pictures of a file or playlist, decoded.
fn frames(url: &str) -> Vec<Value> {
    let text = quiet("ffprobe", &["-v", "warning", "-select_streams", "v", "-show_frames", "-of", "json", url]);
    serde_json::from_str::<Value>(&text).unwrap()["frames"].as_array().unwrap().clone()
}

#[test]
fn what_ffmpeg_encodes_ffmpeg_plays() {
    plays(H264, "avc1.", 10);
}

#[test]
fn row_31_hevc_is_played_as_hvc1() {
    plays(HEVC, "hvc1.2.4.L60.90,", 5);
}

#[test]
fn row_31_av1_is_played_as_av01() {
    plays(AV1, "av01.0.00M.08,", 5);
}

/// What the packager makes of a file, with the first picture at `start`.
pub(super) fn package(file: &str, packets: &[Value], start: MediaTime) -> (Packager, Vec<Fact>) {
    let (part_duration, window) = (Duration::from_millis(500), Duration::from_secs(60));
    let mut packager = Packager::new(HlsConfig {
        container: Container::Cmaf,
        low_latency: true,
        segment_duration: Duration::from_secs(2),
        part_duration,
        window,
        memory: window,
        memory_max: window,
    });
    let file = Bytes::from(fs::read(file).unwrap());
    let events = events(&file, packets, start).into_iter();
    let facts = events.flat_map(|event| packager.handle(event, testing::wall_clock(0))).collect();
    (packager, facts)
}

/// A source that ffmpeg encodes so goes through the packager, and ffmpeg gets the same packets at the same times out of it.
fn plays(encoder: &[&str], codec: &str, i_frames: usize) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source.mp4");
    let source = source.to_str().unwrap();
    encode(source, encoder);
    let before = packets(source);

    let (packager, facts) = package(source, &before, MediaTime::from_millis(10_000));
    // The encoder's priming, before the first picture.
    assert!(facts.iter().any(|f| matches!(f, Fact::RunStopped { units_dropped: 1, .. })));
    let multivariant = packager.snapshot().multivariant.clone().unwrap();
    let multivariant = String::from_utf8_lossy(&multivariant.text);
    assert!(multivariant.contains(&format!("CODECS=\"{codec}")), "{multivariant}");
    store(packager.snapshot(), directory.path());
    check_segments(packager.snapshot(), directory.path());
    assert_eq!(check_i_frames(packager.snapshot(), directory.path(), &before), i_frames);

    let url = directory.path().join("live/demo/index.m3u8");
    let url = url.to_str().unwrap();
    quiet("ffmpeg", &["-v", "warning", "-i", url, "-map", "0", "-f", "null", "-"]);
    let after = packets(url);
    for video in [true, false] {
        let of = |packets: &[Value]| -> Vec<(f64, f64)> {
            let times = |p: &Value| (seconds(p, "pts_time"), seconds(p, "dts_time"));
            packets.iter().filter(|p| is_video(p) == video).map(times).filter(|(pts, _)| *pts >= 0.0).collect()
        };
        let (before, after) = (of(&before), of(&after));
        assert_eq!(before.len(), after.len());
        for (b, a) in before.iter().zip(&after) {
            assert!((b.0 + 10.0 - a.0).abs() < 1e-4 && (b.1 + 10.0 - a.1).abs() < 1e-4, "{b:?} {a:?}");
        }
    }
}
