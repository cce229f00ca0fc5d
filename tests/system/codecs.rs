//! Enhanced RTMP from a publisher written by hand, for Debian's encoders do not speak it: other codecs than H.264 and AAC.

use std::process::Command;

use crate::support::hls;
use crate::support::movie::Movie;
use crate::support::probe;
use crate::support::publisher::{Form, Publisher, Push, packets};
use crate::support::server::{Server, tests_path};
use crate::{PATIENCE, small_server};

/// Segments that each rendition is looked at for.
const SEGMENTS: usize = 4;

/// Six seconds of 640x360 at 30 frames a second with a keyframe each second, and a beep each second.
fn movie(server: &Server, picture: &[&str], sound: &[&str]) -> Movie {
    let beeps = "aevalsrc='if(lt(mod(t,1),0.05),0.8*sin(2*PI*1000*t),0)':s=48000:c=stereo";
    let inputs = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30", "-f", "lavfi", "-i", beeps, "-t", "6", "-c:v"];
    let arguments = [&inputs[..], picture, &["-g", "30", "-c:a"], sound].concat();
    Movie::make(server.directory.path(), "movie", &arguments)
}

fn push(server: &Server, movie: &Movie, picture: Form, sound: Form) -> Push {
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    Push::start(publisher, packets(movie, picture, sound), movie.millis)
}

/// Records the channel; gives what ffprobe calls the picture of `source` and of `180p`, and the codecs of the playlist.
fn watch(server: &Server) -> (String, String, Vec<String>) {
    let names = hls::wait_until_live(server, PATIENCE);
    assert_eq!(names.iter().filter(|name| *name != "audio").count(), 2, "{names:?}");
    let recordings = hls::record(server, &names, SEGMENTS, PATIENCE);
    for (name, recording) in &recordings {
        assert!(recording.segments.values().all(|(segment, _)| !segment.discontinuity), "{name} has no seam");
    }
    let file = |name: &str| recordings[name].write(&server.directory.path().join(format!("{name}.mp4")));
    let (source, encoded) = (file("source"), file("180p"));
    for path in [&source, &encoded, &file("audio")] {
        probe::decode(path.to_str().unwrap());
    }
    assert_eq!(probe::codec(&file("audio")), ("aac".to_owned(), "LC".to_owned()));
    let codecs = hls::multivariant(server).unwrap().variants.iter().map(|v| v.codecs.clone().unwrap()).collect();
    (probe::codec(&source).0, probe::codec(&encoded).0, codecs)
}

/// Chromium's check of names is the one that browsers on Android have too.
fn chromium_takes(codecs: &[String]) {
    let output = Command::new("node").arg(tests_path("browser/types.mjs")).args(codecs).output().unwrap();
    let taken: Vec<bool> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(taken, vec![true; codecs.len()], "{codecs:?}");
}

/// The sound begins where it began in the source: at each full second after the picture's start. Of the first round, for
/// the movie's sound is a little longer than its picture.
fn check_beeps(server: &Server) {
    let file = server.directory.path().join("audio.mp4");
    let start = probe::packets(&server.directory.path().join("source.mp4"))[0].pts;
    let beeps: Vec<f64> = probe::beeps(&file).into_iter().filter(|beep| beep - start < 5.5).collect();
    assert!(beeps.len() >= 4, "{beeps:?}");
    for beep in beeps {
        let off = (beep - start).rem_euclid(1.0);
        assert!(!(0.03..=0.97).contains(&off), "a beep {off} s off at {beep}");
    }
}

#[test]
fn row_31_hevc_by_fourcc_is_passed_on_and_transcoded() {
    let server = small_server();
    let x265 = ["libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=30:open-gop=0"];
    let movie = movie(&server, &x265, &["aac"]);
    let push = push(&server, &movie, Form::Enhanced, Form::Enhanced);
    let (source, encoded, codecs) = watch(&server);
    assert_eq!((source.as_str(), encoded.as_str()), ("hevc", "h264"));
    assert!(codecs.iter().any(|codecs| codecs.starts_with("hvc1.1.6.L")), "{codecs:?}");
    check_beeps(&server);
    push.stop();
    server.wait_for_log("the encoder stopped: the programme ends", PATIENCE);
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn row_31_av1_by_fourcc_with_opus_is_passed_on_and_transcoded() {
    let server = small_server();
    let movie = movie(&server, &["libsvtav1", "-preset", "12"], &["libopus"]);
    let push = push(&server, &movie, Form::Enhanced, Form::Enhanced);
    let (source, encoded, codecs) = watch(&server);
    assert_eq!((source.as_str(), encoded.as_str()), ("av1", "h264"));
    assert!(codecs.iter().any(|codecs| codecs.starts_with("av01.0.")), "{codecs:?}");
    chromium_takes(&codecs);
    check_beeps(&server);
    assert_eq!(server.complaints(), Vec::<String>::new());
    push.stop();
}

#[test]
fn row_31_vp9_is_transcoded_and_never_passed_on() {
    let server = small_server();
    let vp9 = ["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"];
    let movie = movie(&server, &vp9, &["ac3"]);
    let push = push(&server, &movie, Form::Enhanced, Form::Enhanced);
    let (source, encoded, _) = watch(&server);
    assert_eq!((source.as_str(), encoded.as_str()), ("h264", "h264"));
    check_beeps(&server);
    push.stop();
}

#[test]
fn row_23_sounds_that_are_not_aac_become_aac() {
    for sound in ["libmp3lame", "eac3", "flac"] {
        let server = small_server();
        let x264 = ["libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0"];
        let movie = movie(&server, &x264, &[sound]);
        let push = push(&server, &movie, Form::Legacy, Form::Enhanced);
        let (source, encoded, _) = watch(&server);
        assert_eq!((source.as_str(), encoded.as_str()), ("h264", "h264"), "{sound}");
        check_beeps(&server);
        assert_eq!(server.complaints(), Vec::<String>::new(), "{sound}");
        push.stop();
    }
}
