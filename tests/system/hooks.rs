//! A webhook that names channels, and OBS's question for its tracks.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::support::server::Builder;
use crate::support::{encoders, http, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

/// A hook that sends everybody to the channel `show`. It ends with the process.
fn hook() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = Vec::new();
            let mut bytes = [0; 4096];
            // The document ends the request.
            while !request.ends_with(b"}") {
                let length = socket.read(&mut bytes).unwrap();
                assert!(length > 0, "the call is whole");
                request.extend_from_slice(&bytes[..length]);
            }
            let body = r#"{"code":0,"data":{"channel":"show"}}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            socket.write_all((head + body).as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn a_channel_is_made_on_the_fly_and_goes_when_it_is_idle() {
    let url = hook();
    let hooks = format!("[hooks]\non_publish = \"{url}\"\non_unpublish = \"{url}\"\nchannel_idle = \"1s\"\n");
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(&hooks).start();
    let playlist = format!("{}/live/show/index.m3u8", server.origin);
    assert_eq!(http::get(&playlist).unwrap().status, 404);

    let question = r#"{"authentication":"a-secret","preferences":{"canvases":[{"width":640,"height":360,
        "framerate":{"numerator":30,"denominator":1}}]}}"#;
    let answer = http::post(&format!("{}/api/v3/GetClientConfiguration", server.origin), question).unwrap();
    assert!(answer.contains(r#""result":"success""#) && answer.contains(r#""height":180"#), "{answer}");

    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &format!("{}/a-secret", server.rtmp));
    wait_for("the channel", PATIENCE, || http::fetch(&playlist));
    encoder.stop(PATIENCE);
    server.wait_for_log("channel removed", PATIENCE);
    assert_eq!(http::get(&playlist).unwrap().status, 404);
    assert!(!server.log().contains("a-secret"), "a key is not logged");
}
