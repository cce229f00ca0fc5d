//! What is answered to what, without a socket.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use proptest::prelude::*;

use super::fixture::{Fixture, SEGMENT, noon};
use crate::live::{ChannelPhase, ChannelSnapshot, UploadStatus};
use crate::media::Container;
use crate::origin::answer::{Asked, Outcome, World, answer};
use crate::origin::route::route;

impl Fixture {
    /// The answer to a request with these header fields.
    fn ask(&self, method: &Method, path: &str, fields: &[(&str, &str)]) -> Response<Bytes> {
        match self.outcome(method, path, fields) {
            Outcome::Answer(response) => response,
            // As where the archive does not have it.
            Outcome::Archived(archived) => archived.absent(&Asked { method, headers: &HeaderMap::new(), reach: None }),
            Outcome::Wait(_) => panic!("{path} is waited for"),
        }
    }

    /// What a request comes to.
    pub(super) fn outcome(&self, method: &Method, path: &str, fields: &[(&str, &str)]) -> Outcome {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let world = World { directory: &self.directory, elsewhere: false, draining: false };
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        answer(&route(method, path), query, &Asked { method, headers: &headers, reach: None }, &world)
    }

    pub(super) fn get(&self, path: &str) -> Response<Bytes> {
        self.ask(&Method::GET, path, &[])
    }
}

pub(super) fn field<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

const SEGMENT_PATH: &str = "/live/demo/720p/5/9.m4s";
const PLAYLIST_PATH: &str = "/live/demo/720p/index.m3u8";

/// Method, path and header fields.
type Request<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

#[test]
fn a_still_picture_is_another_one_soon() {
    let fixture = Fixture::new();
    let picture = fixture.get("/live/demo/thumb.jpg");
    assert_eq!((picture.status().as_u16(), &picture.body()[..]), (200, &b"a picture"[..]));
    assert_eq!(
        (field(&picture, "content-type"), field(&picture, "cache-control")),
        ("image/jpeg", "public, max-age=5")
    );
    let same = fixture.ask(&Method::GET, "/live/demo/thumb.jpg", &[("if-none-match", field(&picture, "etag"))]);
    assert_eq!(same.status(), 304);
    assert_eq!(fixture.get("/live/none/thumb.jpg").status(), 404);
}

#[test]
fn a_transport_stream_is_served_by_its_own_name() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/live/demo/720p/5/9.ts").status(), 404);
    fixture.change(|rendition| {
        rendition.container = Container::Ts;
        rendition.inits.clear();
    });
    let segment = fixture.get("/live/demo/720p/5/9.ts");
    assert_eq!((segment.status().as_u16(), field(&segment, "content-type")), (200, "video/mp2t"));
    assert_eq!(fixture.get(SEGMENT_PATH).status(), 404);
    assert_eq!(fixture.get("/live/demo/720p/5/3.ts").status(), 410);
}

#[test]
fn an_i_frame_playlist_is_served_as_a_media_playlist_is() {
    let fixture = Fixture::new();
    let fields = [("accept-encoding", "gzip")];
    let ask = |path| fixture.ask(&Method::GET, path, &fields);
    let (i_frames, playlist) = (ask("/live/demo/720p/iframes.m3u8"), ask(PLAYLIST_PATH));
    assert_eq!(i_frames.status(), 200);
    assert_eq!(i_frames.body(), "gzip of 720p-i-frames");
    assert_eq!(field(&i_frames, "etag"), "\"720p-i-frames-1-gzip\"");
    for name in ["cache-control", "content-type", "content-encoding", "last-modified", "vary"] {
        assert_eq!(field(&i_frames, name), field(&playlist, name), "{name}");
    }
    assert_eq!(ask("/live/demo/audio/iframes.m3u8").status(), 404, "sound has none");
}

#[test]
fn heads_are_as_agreed() {
    let fixture = Fixture::new();
    let requests: &[Request<'_>] = &[
        ("GET", "/live/demo/index.m3u8", &[]),
        ("GET", "/live/demo/index.m3u8", &[("accept-encoding", "gzip")]),
        ("GET", PLAYLIST_PATH, &[]),
        ("GET", PLAYLIST_PATH, &[("accept-encoding", "br, gzip;q=0.5")]),
        ("HEAD", PLAYLIST_PATH, &[]),
        ("GET", PLAYLIST_PATH, &[("if-none-match", "\"720p-1\"")]),
        ("GET", "/live/demo/720p/5/init.mp4", &[]),
        ("GET", SEGMENT_PATH, &[]),
        ("HEAD", SEGMENT_PATH, &[]),
        ("GET", SEGMENT_PATH, &[("range", "bytes=0-3")]),
        ("GET", SEGMENT_PATH, &[("range", "bytes=99-")]),
        ("GET", SEGMENT_PATH, &[("if-none-match", "W/\"5-9-18\"")]),
        ("GET", SEGMENT_PATH, &[("if-match", "\"5-9-17\"")]),
        ("GET", "/live/demo/720p/5/11.0.m4s", &[]),
        ("GET", "/live/demo/720p/5/3.m4s", &[]),
        ("GET", "/live/demo/720p/5/12.m4s", &[]),
        ("GET", "/live/quiet/index.m3u8", &[]),
        ("GET", "/live/demo/../x", &[]),
        ("OPTIONS", SEGMENT_PATH, &[("origin", "https://player.example")]),
        ("POST", SEGMENT_PATH, &[]),
        ("GET", "/channels.json", &[]),
        ("GET", "/healthz", &[]),
        ("GET", "/readyz", &[]),
    ];
    let mut heads = String::new();
    for (method, path, fields) in requests {
        let response = fixture.ask(&Method::try_from(*method).unwrap(), path, fields);
        writeln!(heads, "{}", head(method, path, fields, &response)).unwrap();
    }
    crate::golden::golden("origin", "heads.txt", &heads);
}

fn head(method: &str, path: &str, fields: &[(&str, &str)], response: &Response<Bytes>) -> String {
    let mut text = format!("> {method} {path}\n");
    for (name, value) in fields {
        writeln!(text, "> {name}: {value}").unwrap();
    }
    writeln!(text, "{}", response.status()).unwrap();
    let mut names: Vec<&HeaderName> = response.headers().keys().collect();
    names.sort_by_key(|name| name.as_str());
    for name in names {
        writeln!(text, "{name}: {}", field(response, name.as_str())).unwrap();
    }
    text
}

#[test]
fn segments_and_parts_add_up() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get(SEGMENT_PATH).body(), SEGMENT);
    let parts = [fixture.get("/live/demo/720p/5/9.0.m4s"), fixture.get("/live/demo/720p/5/9.1.m4s")];
    assert_eq!(parts.map(|part| part.into_body()).concat(), SEGMENT);
    assert_eq!(fixture.get("/live/demo/audio/5/11.0.m4s").body(), "open part");
    assert_eq!(fixture.get("/live/demo/720p/5/init.mp4").body(), "init");
}

#[test]
fn segment_bytes_are_shared_not_copied() {
    let fixture = Fixture::new();
    let kept = fixture.live.borrow().renditions[0].segments[1].data().unwrap().as_ptr();
    assert_eq!(fixture.get(SEGMENT_PATH).body().as_ptr(), kept);
    let ranged = fixture.ask(&Method::GET, SEGMENT_PATH, &[("range", "bytes=4-")]);
    assert_eq!(ranged.body().as_ptr(), kept.wrapping_add(4));
}

#[test]
fn what_is_not_there_is_not_found() {
    let fixture = Fixture::new();
    for path in [
        "/live/demo/720p/5/10.m4s",
        "/live/demo/720p/5/11.m4s",
        "/live/demo/720p/5/11.1.m4s",
        "/live/demo/720p/5/9.2.m4s",
        "/live/demo/720p/6/9.m4s",
        "/live/demo/720p/6/init.mp4",
        "/live/demo/720p/6/1.m4s",
        "/live/demo/1080p/index.m3u8",
        "/live/other/index.m3u8",
        "/live/quiet/720p/index.m3u8",
        "/watch/other",
        "/favicon.ico",
    ] {
        let response = fixture.get(path);
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(field(&response, "cache-control"), "public, max-age=1", "{path}");
        assert_eq!(field(&response, "access-control-allow-origin"), "*", "{path}");
    }
    assert_eq!(fixture.get("/live/demo/720p/5/7.0.m4s").status(), 410);
}

#[test]
fn queries_change_nothing_but_playlists() {
    let fixture = Fixture::new();
    for path in ["/live/demo/index.m3u8", SEGMENT_PATH, "/live/demo/720p/5/11.0.m4s", "/healthz"] {
        let plain = fixture.get(path);
        let asked = fixture.get(&format!("{path}?_HLS_msn=18446744073709551615&_HLS_part=-1&token=x"));
        assert_eq!((asked.status(), asked.headers(), asked.body()), (plain.status(), plain.headers(), plain.body()));
    }
}

#[test]
fn playlists_stay_short_in_caches() {
    let fixture = Fixture::new();
    for (secs, multivariant, media) in [(0, 1, 1), (1, 1, 1), (4, 2, 2), (5, 3, 2)] {
        for ended in [false, true] {
            let snapshot = ChannelSnapshot { target_duration_secs: secs, ended, ..(**fixture.live.borrow()).clone() };
            fixture.live.send(snapshot.into()).unwrap();
            let cache = |path| field(&fixture.get(path), "cache-control").to_owned();
            assert_eq!(cache("/live/demo/index.m3u8"), format!("public, max-age={multivariant}"));
            assert_eq!(cache(PLAYLIST_PATH), format!("public, max-age={media}"));
        }
    }
}

#[test]
fn each_coding_has_its_own_tag() {
    let fixture = Fixture::new();
    let gzip = fixture.ask(&Method::GET, PLAYLIST_PATH, &[("accept-encoding", "gzip")]);
    assert_eq!((gzip.body().as_ref(), field(&gzip, "etag")), (b"gzip of 720p".as_slice(), "\"720p-1-gzip\""));
    let both = [("accept-encoding", "gzip"), ("if-none-match", "\"720p-1\"")];
    assert_eq!(fixture.ask(&Method::GET, PLAYLIST_PATH, &both).status(), 200);
    let both = [("accept-encoding", "gzip"), ("if-none-match", "\"720p-1-gzip\"")];
    assert_eq!(fixture.ask(&Method::HEAD, PLAYLIST_PATH, &both).status(), 304);
}

#[test]
fn ranges_give_way_to_what_comes_before_them() {
    let fixture = Fixture::new();
    let ask = |method, fields: &[_]| fixture.ask(&method, SEGMENT_PATH, fields);
    let range = ("range", "bytes=-3");
    assert_eq!(ask(Method::GET, &[range]).body(), "one");
    assert_eq!(ask(Method::GET, &[range, ("if-range", "\"5-9-18\"")]).status(), 206);
    assert_eq!(ask(Method::GET, &[range, ("if-range", "\"5-9-17\"")]).status(), 200);
    assert_eq!(ask(Method::GET, &[range, ("if-none-match", "*")]).status(), 304);
    assert_eq!(ask(Method::HEAD, &[range]).status(), 200);
    assert_eq!(ask(Method::GET, &[("range", "bytes=0-0,2-2")]).body(), SEGMENT);
    assert_eq!(ask(Method::GET, &[range, range]).body(), SEGMENT);
    assert_eq!(fixture.ask(&Method::GET, "/live/demo/720p/5/12.m4s", &[range]).status(), 404);
}

#[test]
fn pages_are_found() {
    let fixture = Fixture::new();
    for path in ["/", "/watch/demo", "/watch/quiet"] {
        let page = fixture.get(path);
        assert_eq!((page.status().as_u16(), field(&page, "content-type")), (200, "text/html; charset=utf-8"), "{path}");
        assert!(field(&page, "content-security-policy").contains("worker-src 'self' blob:"), "{path}");
    }
    let missing = fixture.get("/watch/other");
    assert_eq!(field(&missing, "content-type"), "text/html; charset=utf-8");
}

#[test]
fn assets_are_for_ever() {
    let fixture = Fixture::new();
    let html = String::from_utf8(fixture.get("/watch/demo").into_body().to_vec()).unwrap();
    let script = html.split('"').find(|text| text.ends_with("/hls.min.js")).unwrap();
    let plain = fixture.get(script);
    assert_eq!(field(&plain, "cache-control"), "public, max-age=1209600, immutable");
    assert_eq!(field(&plain, "content-type"), "text/javascript; charset=utf-8");
    let gzip = fixture.ask(&Method::GET, script, &[("accept-encoding", "gzip")]);
    assert_eq!(field(&gzip, "content-encoding"), "gzip");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip.body().as_ref()), &mut unpacked).unwrap();
    assert_eq!(unpacked, *plain.body());
}

#[test]
fn the_listing_has_what_can_be_watched() {
    let fixture = Fixture::new();
    let listing = || serde_json::from_slice::<serde_json::Value>(fixture.get("/channels.json").body()).unwrap();
    let live =
        serde_json::json!({"name": "demo", "state": "live", "since": "2023-11-14T22:13:20Z", "renditions": ["720p"]});
    assert_eq!(listing(), serde_json::json!({"channels": [live]}));
    fixture.phase.send(ChannelPhase::Grace { since: noon() }).unwrap();
    let interrupted = serde_json::json!({"name": "demo", "state": "interrupted", "renditions": ["720p"]});
    assert_eq!(listing(), serde_json::json!({"channels": [interrupted]}));
    fixture.live.send_modify(|live| *live = ChannelSnapshot { ended: true, ..(**live).clone() }.into());
    assert_eq!(listing(), serde_json::json!({"channels": []}));
}

#[test]
fn readiness_names_what_fails() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/readyz").status(), 200);
    let failing = UploadStatus { failing: Some("bucket `x`: connection refused".into()), ..UploadStatus::default() };
    fixture.upload.send(failing).unwrap();
    let response = fixture.get("/readyz");
    assert_eq!(response.status(), 503);
    assert_eq!(response.body(), "channel demo: the store fails: bucket `x`: connection refused\n");
    assert_eq!(fixture.get("/healthz").status(), 200);
    let world = World { directory: &fixture.directory, elsewhere: false, draining: true };
    let asked = Asked { method: &Method::GET, headers: &HeaderMap::new(), reach: None };
    let outcome = answer(&route(&Method::GET, "/readyz"), None, &asked, &world);
    let Outcome::Answer(draining) = outcome else { panic!("{outcome:?}") };
    assert_eq!((draining.status().as_u16(), draining.body().as_ref()), (503, b"shutting down\n".as_slice()));
}

proptest! {
    #[test]
    fn no_request_panics(path in "/(live/)?(demo/)?(720p/)?(5/)?[ -~]{0,16}", names in prop::collection::vec(0usize..5, 0..4), value in "[ -~]{0,40}") {
        let known = ["range", "if-range", "if-none-match", "accept-encoding", "origin"];
        let fields: Vec<(&str, &str)> = names.into_iter().map(|i| (known[i], value.as_str())).collect();
        let response = Fixture::new().ask(&Method::GET, &path, &fields);
        let length = field(&response, "content-length").parse::<usize>().unwrap_or(0);
        prop_assert_eq!(length, response.body().len());
        prop_assert!([200, 206, 304, 400, 404, 410, 416].contains(&response.status().as_u16()));
    }

    #[test]
    fn a_range_is_a_slice(first in 0usize..20, last in 0usize..30) {
        let range = format!("bytes={first}-{last}");
        let response = Fixture::new().ask(&Method::GET, SEGMENT_PATH, &[("range", range.as_str())]);
        match response.status().as_u16() {
            206 => prop_assert_eq!(response.body(), &SEGMENT[first..SEGMENT.len().min(last + 1)]),
            416 => prop_assert!(first >= SEGMENT.len()),
            _ => prop_assert!(first > last),
        }
    }
}
