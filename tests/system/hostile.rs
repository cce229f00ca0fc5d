//! Peers that are no encoders, while somebody else is live.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{encoders, hls, http, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, small_server};

#[test]
fn strangers_on_the_rtmp_port_disturb_nobody() {
    let server = small_server();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    let address = server.rtmp.trim_start_matches("rtmp://").trim_end_matches("/live");
    let garbage: Vec<u8> = (0..100_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut handshake = vec![3];
    handshake.extend_from_slice(&garbage[..1536 * 2]);
    let bodies: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &garbage, &{
            let mut bytes = handshake.clone();
            bytes.extend_from_slice(&garbage);
            bytes
        }];
    for body in bodies {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may close before it has read all of it.
        drop(peer.write_all(body));
        let mut rest = Vec::new();
        let closed = match peer.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(closed, "the connection is closed");
    }
    let before = hls::media(&server, "source").unwrap().segments.len();
    let recordings = hls::record(&server, &names, before + 2, PATIENCE);
    let quiet = recordings.values().all(|recording| recording.segments.values().all(|(s, _)| !s.discontinuity));
    assert!(quiet, "the channel did not notice");
    drop(encoder);
}

#[test]
fn odd_requests_are_answered_as_the_origin_promises() {
    let server = small_server();
    for path in ["live/../index.m3u8", "live/%2e%2e/x", "live/demo/../../etc/passwd", "x", "live/nobody/index.m3u8"] {
        let url = format!("{}/{path}", server.origin);
        let response = http::get(&url).unwrap();
        assert_eq!((response.status, response.header("cache-control")), (404, "public, max-age=1"), "{url}");
        assert_eq!(response.header("access-control-allow-origin"), "*", "{url}");
    }
    assert_eq!(http::get(&format!("{}/healthz", server.origin)).unwrap().status, 200);
    wait_for("readiness", PATIENCE, || http::fetch(&format!("{}/readyz", server.origin)));
}
