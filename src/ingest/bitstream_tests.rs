//! What real encoders write, in Enhanced RTMP's tags made by hand: FFmpeg of Debian 12 is too old to make them.

use std::process::{Command, Stdio};

use bytes::Bytes;

use super::intake::Intake;
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat, VideoCodec, VideoFormat};
use crate::source::SourceEvent;

/// Forty pictures of 320x180 with a key picture every ten, as this encoder writes them.
fn encoded(arguments: &[&str]) -> Vec<u8> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-frames:v", "40", "-g", "10"]);
    let output = ffmpeg.args(arguments).arg("-").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The frames of an IVF file.
fn ivf(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (&file[32..], Vec::new());
    while let [a, b, c, d, ..] = *rest {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        frames.push(rest[12..12 + length].to_vec());
        rest = &rest[12 + length..];
    }
    frames
}

/// The access units of a byte stream of HEVC, each of which begins with a delimiter.
fn access_units(stream: &[u8]) -> Vec<Vec<u8>> {
    const DELIMITER: &[u8] = &[0, 0, 0, 1, 0x46, 1];
    let mut starts: Vec<_> = stream.windows(6).enumerate().filter(|(_, w)| *w == DELIMITER).map(|(at, _)| at).collect();
    starts.push(stream.len());
    starts.windows(2).map(|w| stream[w[0]..w[1]].to_vec()).collect()
}

/// A message of Enhanced RTMP with a picture without composition time.
pub(super) fn tag(fourcc: &str, frame: &[u8]) -> Vec<u8> {
    [&[0x93][..], fourcc.as_bytes(), frame].concat()
}

/// What becomes of frames that come every 40 ms.
pub(super) fn taken(fourcc: &str, frames: &[Vec<u8>]) -> (VideoFormat, Vec<AccessUnit>) {
    let (mut intake, mut events) = (Intake::new(MediaTime::ZERO), Vec::new());
    for (frame, timestamp) in frames.iter().zip((0..).step_by(40)) {
        intake.video(timestamp, Bytes::from(tag(fourcc, frame)), &mut events).unwrap();
    }
    assert_eq!(intake.take_notes(), []);
    let mut events = events.into_iter();
    let Some(SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format))) = events.next() else {
        panic!("the format comes first")
    };
    let unit = |event| match event {
        SourceEvent::Unit(Track::VIDEO, unit) => unit,
        other => panic!("{other:?}"),
    };
    (format, events.map(unit).collect())
}

fn keys(units: &[AccessUnit]) -> Vec<usize> {
    units.iter().enumerate().filter(|(_, unit)| unit.key).map(|(n, _)| n).collect()
}

pub(super) fn hevc_of_x265() -> Vec<Vec<u8>> {
    let parameters = "keyint=10:min-keyint=10:open-gop=0:aud=1:repeat-headers=1:bframes=0:log-level=error";
    access_units(&encoded(&["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", parameters, "-f", "hevc"]))
}

pub(super) fn av1_of_libaom() -> Vec<Vec<u8>> {
    ivf(&encoded(&["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-lag-in-frames", "0", "-f", "ivf"]))
}

pub(super) fn vp9_of_libvpx() -> Vec<Vec<u8>> {
    ivf(&encoded(&["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-f", "ivf"]))
}

#[test]
fn row_31_hevc_of_x265() {
    let (format, units) = taken("hvc1", &hevc_of_x265());
    assert_eq!((format.codec, format.width, format.height), (VideoCodec::Hevc, 320, 180));
    assert_eq!((units.len(), keys(&units)), (40, vec![0, 10, 20, 30]));
}

#[test]
fn row_31_av1_of_libaom() {
    let (format, units) = taken("av01", &av1_of_libaom());
    assert_eq!((format.codec, format.width, format.height), (VideoCodec::Av1, 320, 180));
    assert_eq!((units.len(), keys(&units)), (40, vec![0, 10, 20, 30]));
    assert!(units.iter().all(|unit| unit.data[0] >> 3 != 2), "no delimiters");
}

#[test]
fn row_31_vp9_of_libvpx() {
    let (format, units) = taken("vp09", &vp9_of_libvpx());
    assert_eq!((format.codec, format.width, format.height), (VideoCodec::Vp9, 320, 180));
    assert_eq!((units.len(), keys(&units)), (40, vec![0, 10, 20, 30]));
}
