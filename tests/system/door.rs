//! How publishers come in: by TLS with a certificate that changes, and faster than real time.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::server::{Builder, Server};
use crate::support::{encoders, hls, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

/// Writes a self-signed certificate and its key.
fn make_certificate(directory: &Path, days: u32) {
    let made = rcgen::generate_simple_self_signed([format!("host-{days}.test"), "localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

fn rtmps_server(directory: &Path) -> Server {
    let settings = format!(
        "[rtmps]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{0}/chain.pem\"\nkey = \"{0}/key.pem\"\n",
        directory.display()
    );
    Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(&settings).start()
}

#[test]
fn ffmpeg_publishes_by_rtmps_while_the_certificate_is_exchanged() {
    let directory = tempfile::tempdir().unwrap();
    make_certificate(directory.path(), 1);
    let server = rtmps_server(directory.path());
    let url = format!("{}/{}", server.rtmps.as_deref().unwrap(), server.key);
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &url);
    let names = hls::wait_until_live(&server, PATIENCE);

    make_certificate(directory.path(), 2);
    server.signal("-HUP");
    server.wait_for_log("the certificate of [rtmps] was exchanged for the new one", PATIENCE);
    std::fs::write(directory.path().join("key.pem"), "no key").unwrap();
    server.signal("-HUP");
    server.wait_for_log("holds no private key in PEM form", PATIENCE);

    let before = hls::media(&server, "source").unwrap().segments.len();
    let recordings = hls::record(&server, &names, before + 2, PATIENCE);
    let quiet = recordings.values().all(|recording| recording.segments.values().all(|(s, _)| !s.discontinuity));
    assert!(quiet, "the publisher did not notice");
    // The old certificate is still good for others.
    let wrong = format!("{}/wrong", server.rtmps.as_deref().unwrap());
    let second = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &wrong);
    assert!(!second.finish(PATIENCE));
    server.wait_for_log("no channel has its stream key", PATIENCE);
    encoder.stop(PATIENCE);
}

#[test]
fn check_config_says_what_is_wrong_with_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    make_certificate(directory.path(), 1);
    let config = directory.path().join("headwater.toml");
    let check = |key: &str| {
        let path = directory.path().display();
        let rtmps =
            format!("[rtmps]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{path}/chain.pem\"\nkey = \"{path}/{key}\"\n");
        let others =
            "[rtmp]\nlisten = \"127.0.0.1:0\"\n[origin]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        std::fs::write(
            &config,
            format!("data_dir = \"{path}/data\"\n{others}[store]\npath = \"{path}/store\"\n{rtmps}"),
        )
        .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_headwater")).arg("check-config").arg(&config).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check("key.pem"), (true, String::new()));
    let (good, said) = check("none.pem");
    assert!(!good && said.contains("rtmps.key: cannot read"), "{said}");
    let (good, said) = check("chain.pem");
    assert!(!good && said.contains("holds no private key"), "{said}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
fn row_34_ffmpeg_without_re_is_held_up_to_real_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = encoders::flash_and_beep(directory.path(), 14);
    let ahead = "[rtmp]\nrun_ahead_max = \"4s\"\n";
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(ahead).start();
    let begun = Instant::now();
    let encoder = encoders::push_file_at_once(&file, &server.publish_url());
    server.wait_for_log("the encoder sends faster than real time", PATIENCE);
    server.wait_for_log("the encoder stopped: the programme ends", PATIENCE);
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    drop(encoder);
    let media = wait_for("ENDLIST", PATIENCE, || match hls::media(&server, "source")? {
        media if media.end_list => Ok(media),
        _ => Err("none yet".into()),
    });
    let seconds: f32 = media.segments.iter().map(|segment| segment.duration).sum();
    assert!((13.5..14.5).contains(&seconds), "nothing is lost: {seconds} s");
}
