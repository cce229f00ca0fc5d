//! A window that is longer than what is in memory: viewers go back into what only the store has.

use std::time::Duration;

use m3u8_rs::MediaPlaylist;

use crate::support::http::Response;
use crate::support::server::{Builder, Server};
use crate::support::{encoders, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE};

/// Segments of a second: six of them are the hot end.
const LONG_WINDOW: &str = "[hls]\nsegment_duration = \"1s\"\npart_duration = \"500ms\"\nmemory = \"1s\"\n\
    [ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n\
    [[channels]]\nname = \"demo\"\nstream_key = \"key\"\nwindow = \"10m\"\n";

/// Segments after which one is surely not in memory any more.
const COLD_AFTER: u64 = 12;

fn start(data: &std::path::Path) -> Server {
    let store = format!("{}/store", data.display());
    let data = data.display().to_string();
    Builder::new()
        .settings(LONG_WINDOW)
        .variable("HEADWATER_DATA_DIR", &data)
        .variable("HEADWATER_STORE__PATH", &store)
        .start()
}

fn publish(server: &Server) -> encoders::Encoder {
    encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &format!("{}/key", server.rtmp))
}

/// Waits until the rendition lists so many segments.
fn listing(server: &Server, rendition: &str, count: u64) -> MediaPlaylist {
    wait_for("segments", PATIENCE, || {
        let playlist = hls::media(server, rendition)?;
        let listed = u64::try_from(playlist.segments.len()).unwrap();
        if listed >= count { Ok(playlist) } else { Err(format!("{rendition} lists {listed}")) }
    })
}

fn get(server: &Server, path: &str) -> Response {
    http::get(&server.live(path)).unwrap()
}

fn same(one: &Response, other: &Response) {
    assert_eq!((one.status, &one.body), (other.status, &other.body));
    for field in one.headers.keys().filter(|field| *field != "date") {
        assert_eq!(one.headers.get(field), other.headers.get(field), "{field}");
    }
}

#[test]
fn viewers_go_back_into_what_only_the_store_has() {
    let data = tempfile::tempdir().unwrap();
    let mut server = start(data.path());
    let encoder = publish(&server);
    let mut hot = Vec::new();
    for rendition in ["source", "audio"] {
        let playlist = listing(&server, rendition, 3);
        assert_eq!(playlist.media_sequence, 1);
        let path = format!("{rendition}/{}", playlist.segments[1].uri);
        let response = get(&server, &path);
        assert_eq!(response.status, 200);
        hot.push((path, response));
    }
    let fetches = |server: &Server| server.metric("headwater_archive_fetches_total{kind=\"store\"}").unwrap_or(0.0);
    assert_eq!(fetches(&server), 0.0, "all of it was in memory");

    let playlist = listing(&server, "source", COLD_AFTER);
    let part = format!("source/{}", playlist.segments[1].uri.replace(".m4s", ".0.m4s"));
    wait_for("a part that is gone", PATIENCE, || match get(&server, &part).status {
        410 => Ok(()),
        status => Err(status.to_string()),
    });
    for _ in 0..2 {
        hot.iter().for_each(|(path, response)| same(response, &get(&server, path)));
    }
    assert_eq!(fetches(&server), 2.0, "each is read once");
    // Beside what is listed nothing can be had, and nothing is asked for.
    for path in ["source/1/2.m4s", "source/9999999999999/2.m4s"] {
        get(&server, path);
    }
    let ranged = http::get_with(&server.live(&hot[0].0), &[("range", "bytes=4-7")]).unwrap();
    assert_eq!((ranged.status, &ranged.body[..]), (206, &hot[0].1.body[4..8]));

    server.signal("-KILL");
    server.wait(PATIENCE);
    drop((server, encoder));
    let server = start(data.path());
    let encoder = publish(&server);
    let playlist = wait_for("a segment of the second run", PATIENCE, || {
        let playlist = hls::media(&server, "source")?;
        let seams = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
        if seams == 1 { Ok(playlist) } else { Err(format!("{seams} seams")) }
    });
    assert_eq!(playlist.media_sequence, 1, "what is not in memory is listed");
    hot.iter().for_each(|(path, response)| same(response, &get(&server, path)));
    let mut init = None;
    for segment in &playlist.segments {
        init = segment.map.as_ref().map(|map| map.uri.clone()).or(init);
        if segment.unknown_tags.iter().all(|tag| tag.tag != "X-GAP") {
            for uri in [&segment.uri, init.as_ref().unwrap()] {
                assert_eq!(get(&server, &format!("source/{uri}")).status, 200, "{uri} is listed");
            }
        }
    }
    // As a viewer who goes back to the beginning.
    probe::decode_from_start(&server.live("source/index.m3u8"), 8);
    encoder.stop(PATIENCE);
    let loud = server.complaints().into_iter().filter(|line| !line.contains("publisher was lost"));
    assert_eq!(loud.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn memory_holds_the_hot_end_and_the_window_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let encoder = publish(&server);
    listing(&server, "source", 2 * COLD_AFTER);
    let kept = wait_for("segments that are not in memory", Duration::from_secs(10), || {
        let status: serde_json::Value =
            serde_json::from_slice(&http::fetch(&format!("{}/api/v1/channels", server.admin))?)
                .map_err(|e| e.to_string())?;
        let rendition = &status["channels"][0]["live"]["renditions"][0];
        let (bytes, last) =
            (rendition["bytes_kept"].as_u64().unwrap(), rendition["last_segment"]["bytes"].as_u64().unwrap());
        let listed = rendition["segments_listed"].as_u64().unwrap();
        if bytes <= 9 * last { Ok(listed) } else { Err(format!("{bytes} of segments of {last}")) }
    });
    assert!(kept >= 2 * COLD_AFTER);
    encoder.stop(PATIENCE);
}
