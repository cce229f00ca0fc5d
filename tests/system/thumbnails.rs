//! Still pictures of channels, as browsers get them.

use std::process::Command;

use crate::support::server::{Builder, Server};
use crate::support::{encoders, hls, http, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

const EACH_SECOND: &str = "[thumbnails]\ninterval = \"1s\"\nheight = 90\n";

#[test]
fn a_live_channel_has_a_picture_that_changes() {
    for container in ["cmaf", "ts"] {
        let settings = format!("{SHORT_SEGMENTS}container = \"{container}\"\n");
        let server = Builder::new().settings(&settings).settings(SMALL_LADDER).settings(EACH_SECOND).start();
        let url = server.live("thumb.jpg");
        assert_eq!(http::get(&url).unwrap().status, 404);
        let encoder = encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
        hls::wait_until_live(&server, PATIENCE);
        let first = wait_for("a picture", PATIENCE, || match http::get(&url)? {
            answer if answer.status == 200 => Ok(answer),
            answer => Err(answer.text()),
        });
        assert_eq!((first.header("content-type"), first.header("cache-control")), ("image/jpeg", "public, max-age=5"));
        assert_eq!(look(&server, &first.body), "160x90", "{container}");
        let again = http::get_with(&url, &[("if-none-match", first.header("etag"))]).unwrap();
        assert!(matches!(again.status, 200 | 304));
        wait_for("another picture", PATIENCE, || match http::get(&url)? {
            answer if answer.status == 200 && answer.body != first.body => Ok(()),
            answer => Err(format!("{} and the same", answer.status)),
        });
        drop(encoder);
        assert_eq!(server.complaints(), Vec::<String>::new(), "{container}");
    }
}

/// Its size; it is decoded, and is not of one colour.
fn look(server: &Server, picture: &[u8]) -> String {
    let file = server.directory.path().join("thumb.jpg");
    std::fs::write(&file, picture).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-i"]).arg(&file).args(["-vf", "signalstats,metadata=print", "-f", "null", "-"]);
    let said = String::from_utf8_lossy(&ffmpeg.output().unwrap().stderr).into_owned();
    let value = |name: &str| {
        let after = said.split_once(&format!("signalstats.{name}=")).unwrap_or_else(|| panic!("{said}")).1;
        after.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("YMAX") - value("YMIN") > 50.0, "{said}");
    let size =
        said.split([' ', ',']).find(|word| word.contains('x') && word.split('x').all(|n| n.parse::<u32>().is_ok()));
    size.unwrap_or_default().to_owned()
}
