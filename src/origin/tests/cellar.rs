//! What has left the memory of the channels of this process, and is in an archive.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::fixture::SEGMENT;
use super::serving::{Running, body, client};
use crate::archive::{Archive, Copy, Found, Lack, Wanted};
use crate::caching::Cache;
use crate::live::{Media, RenditionSnapshot, Segment};

/// An archive that has segment 7 of each rendition with its initialisation segment, and number 9 of one; it notes what it is asked.
#[derive(Debug, Default)]
pub(super) struct Cellar {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Archive for Cellar {
    fn peek(&self, _: Wanted<'_>) -> Option<Found> {
        None
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Found {
        let path = wanted.resource.path(wanted.channel);
        assert_eq!(wanted.directives, None, "of media there are none");
        self.asked.lock().unwrap().push(path.clone());
        match path.as_str() {
            "live/demo/720p/4/7.m4s"
            | "live/demo/audio/4/7.m4s"
            | "live/demo/480p/4/7.m4s"
            | "live/demo/720p/4/init.mp4" => {
                Ok(Copy::new(wanted.resource, Bytes::from_static(b"from the store"), Cache::Immutable, None).into())
            }
            "live/demo/720p/5/9.m4s" => {
                Ok(Copy::new(wanted.resource, Bytes::from_static(SEGMENT), Cache::Immutable, None).into())
            }
            "live/demo/720p/4/6.m4s" | "live/demo/720p/5/8.m4s" => Err(Lack::Failing),
            _ => Err(Lack::Absent),
        }
    }

    async fn listing(&self) -> Option<Bytes> {
        None
    }

    async fn failing(&self) -> Option<String> {
        None
    }
}

impl Cellar {
    /// The paths that it was asked for since the last time.
    pub(super) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[tokio::test]
async fn what_left_memory_comes_from_the_archive_as_it_came_from_memory() {
    let running = Running::start().await;
    let client = client(false);
    for (rendition, content_type) in [("720p", "video/mp4"), ("audio", "audio/mp4"), ("480p", "video/mp4")] {
        let response = running.get(&client, &format!("/live/demo/{rendition}/4/7.m4s")).await;
        assert_eq!(response.status(), 200, "{rendition}");
        for (field, value) in [
            ("content-type", content_type),
            ("cache-control", "public, max-age=1209600, immutable"),
            ("etag", "\"4-7-14\""),
            ("access-control-allow-origin", "*"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(response.headers()[field], value, "{rendition}: {field}");
        }
        assert_eq!(body(response).await, "from the store");
    }
    let init = running.get(&client, "/live/demo/720p/4/init.mp4").await;
    assert_eq!((init.status().as_u16(), &init.headers()["etag"]), (200, &"\"4-init-14\"".parse().unwrap()));
    assert_eq!(running.get(&client, "/live/demo/720p/4/5.m4s").await.status(), 404, "nor is it there");
    let failing = running.get(&client, "/live/demo/720p/4/6.m4s").await;
    assert_eq!((failing.status().as_u16(), &failing.headers()["cache-control"]), (503, &"no-store".parse().unwrap()));
    assert_eq!(failing.headers()["retry-after"], "1");
    running.stop().await;
}

#[tokio::test]
async fn a_cold_segment_is_served_as_when_it_was_hot() {
    let running = Running::start().await;
    let client = client(false);
    let get = async |path: &str| running.get(&client, path).await;
    let hot = get("/live/demo/720p/5/9.m4s").await;
    let (hot_head, hot_body) = (hot.headers().clone(), body(hot).await);
    let cool = |rendition: &mut RenditionSnapshot| {
        for segment in Arc::make_mut(&mut rendition.segments).iter_mut().filter(|segment| !segment.is_gap()) {
            let media = Media::Cold { bytes: segment.bytes() };
            *segment = Arc::new(Segment { media, ..segment.without_media() });
        }
    };
    running.fixture.change(cool);
    assert_eq!(running.archive.take_asked(), [""; 0]);
    let cold = get("/live/demo/720p/5/9.m4s").await;
    for field in hot_head.keys().filter(|field| *field != "date") {
        assert_eq!(cold.headers().get(field), hot_head.get(field), "{field}");
    }
    assert!(hot_head.contains_key("expires") && cold.headers().len() == hot_head.len());
    assert_eq!(body(cold).await, hot_body);
    assert_eq!(running.archive.take_asked(), ["live/demo/720p/5/9.m4s"]);
    assert_eq!(get("/live/demo/720p/5/8.m4s").await.status(), 503, "the store fails");
    assert_eq!(get("/live/demo/audio/5/9.m4s").await.status(), 404, "the store has lost it");
    running.archive.take_asked();
    // Its parts are gone, and no store ever had them; nor is it served under another name.
    for (path, status) in [
        ("/live/demo/720p/5/9.0.m4s", 410),
        ("/live/demo/720p/5/9.ts", 404),
        ("/live/demo/720p/4/9.m4s", 404),
        ("/live/demo/720p/5/10.m4s", 404),
        ("/live/demo/720p/5/11.0.m4s", 200),
    ] {
        assert_eq!(get(path).await.status(), status, "{path}");
        assert_eq!(running.archive.take_asked(), [""; 0], "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_nobody_can_have_made_is_not_asked_for() {
    let running = Running::start().await;
    let client = client(false);
    for path in [
        "live/demo/720p/5/9.m4s",
        "live/demo/720p/5/init.mp4",
        // Of a number that is a gap, is being made, or is to come; in a run to come; of the number of another run.
        "live/demo/720p/5/10.m4s",
        "live/demo/720p/5/11.m4s",
        "live/demo/720p/5/99.m4s",
        "live/demo/480p/4/99.m4s",
        "live/demo/720p/6/7.m4s",
        "live/demo/720p/6/init.mp4",
        "live/demo/480p/6/7.m4s",
        "live/demo/720p/4/9.m4s",
        // What is never stored, or is no resource of a channel of this process.
        "live/demo/720p/4/7.0.m4s",
        "live/demo/480p/index.m3u8",
        "live/demo/720p/4/07.m4s",
        "live/other/720p/4/7.m4s",
        "live/other/index.m3u8",
    ] {
        body(running.get(&client, &format!("/{path}")).await).await;
        assert_eq!(running.archive.take_asked(), [""; 0], "{path}");
    }
    for path in ["live/demo/720p/4/3.m4s", "live/demo/720p/4/3.ts", "live/demo/480p/4/9.m4s", "live/quiet/720p/9/9.m4s"]
    {
        body(running.get(&client, &format!("/{path}")).await).await;
        assert_eq!(running.archive.take_asked(), [path]);
    }
    running.stop().await;
}
