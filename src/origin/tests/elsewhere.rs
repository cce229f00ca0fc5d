//! What is asked of an archive, and what becomes of its answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{sleep, timeout};

use super::answers::field;
use crate::archive::{Archive, Copy, Found, Lack, Wanted};
use crate::caching::Cache;
use crate::layout::Resource;
use crate::origin::archived::{Question, channels};
use crate::origin::parking::{Bounds, Parking};
use crate::origin::representation::Asked;
use crate::source::ChannelName;

/// Notes what it is asked, and answers by the channel's name.
#[derive(Debug, Default)]
struct Scripted {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Archive for Scripted {
    fn peek(&self, wanted: Wanted<'_>) -> Option<Found> {
        (wanted.channel.as_str() == "near").then(|| Ok(copy(wanted.resource, "#EXTM3U\n")))
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Found {
        let (path, directives) = (wanted.resource.path(wanted.channel), wanted.directives.unwrap_or("-"));
        self.asked.lock().unwrap().push(format!("{path} {directives}"));
        match wanted.channel.as_str() {
            "slow" => {
                sleep(Duration::from_secs(9)).await;
                Err(Lack::Busy)
            }
            "stale" => Ok(Arc::new(Copy { stale: true, ..(*copy(wanted.resource, "#EXTM3U\n")).clone() })),
            "ended" if *wanted.resource == Resource::Multivariant => Ok(copy(wanted.resource, "a/index.m3u8\n")),
            "ended" => Ok(copy(wanted.resource, "#EXTM3U\n#EXT-X-ENDLIST\n")),
            "live" if *wanted.resource == Resource::Multivariant => {
                Ok(copy(wanted.resource, "#EXTM3U\nb/index.m3u8\na/index.m3u8\nb/index.m3u8\n"))
            }
            "live" => Ok(copy(wanted.resource, "#EXTM3U\n")),
            "gone" => Err(Lack::Gone),
            "failing" => Err(Lack::Failing),
            "refused" => Err(Lack::Refused("too far".to_owned())),
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

fn copy(resource: &Resource, text: &str) -> Arc<Copy> {
    Arc::new(Copy::new(resource, Bytes::from(text.to_owned()), Cache::Seconds(7), None))
}

fn parking(all_max: usize) -> Parking {
    Parking::new(Bounds { all_max, channel_max: all_max }, Gauge::default())
}

async fn ask(archive: &Scripted, parking: &Parking, url: &str, headers: &HeaderMap) -> Response<Bytes> {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let (channel, resource) = Resource::parse(&format!("live/{path}")).unwrap();
    let asked = Asked { method: &Method::GET, headers, reach: None };
    Question { channel: &channel, resource: &resource, query }.answer(archive, parking, &asked).await
}

async fn get(url: &str) -> Response<Bytes> {
    ask(&Scripted::default(), &parking(9), url, &HeaderMap::new()).await
}

#[tokio::test(start_paused = true)]
async fn directives_are_asked_on_in_one_order_and_of_playlists_only() {
    let archive = Scripted::default();
    for url in [
        "live/b/index.m3u8?x=1&_HLS_part=2&_HLS_skip=v2&_HLS_msn=07",
        "live/index.m3u8?_HLS_msn=1",
        "live/b/1/2.m4s?_HLS_msn=x",
    ] {
        assert_eq!(ask(&archive, &parking(9), url, &HeaderMap::new()).await.status(), 200, "{url}");
    }
    let asked = archive.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "live/live/b/index.m3u8 _HLS_msn=7&_HLS_part=2&_HLS_skip=YES",
            "live/live/index.m3u8 -",
            "live/live/b/1/2.m4s -",
        ]
    );
    assert_eq!(get("live/b/index.m3u8?_HLS_part=1").await.status(), 400);
    assert_eq!(get("ended/b/index.m3u8?_HLS_part=1").await.status(), 200, "after the end they are ignored");
}

#[tokio::test(start_paused = true)]
async fn each_lack_has_its_status_and_its_time() {
    for (channel, status, cache) in [
        ("none", 404, "public, max-age=1"),
        ("gone", 410, "public, max-age=1"),
        ("refused", 400, "public, max-age=1"),
        ("failing", 503, "no-store"),
        ("slow", 503, "no-store"),
    ] {
        let response = get(&format!("{channel}/b/1/2.m4s")).await;
        assert_eq!((response.status().as_u16(), field(&response, "cache-control")), (status, cache), "{channel}");
        assert_eq!(field(&response, "retry-after") == "1", status == 503, "{channel}");
    }
    let stale = get("stale/b/index.m3u8").await;
    assert_eq!(field(&stale, "warning"), "110 headwater \"Response is Stale\"");
    let fresh = get("live/b/index.m3u8").await;
    assert_eq!((field(&fresh, "warning"), field(&fresh, "cache-control")), ("", "public, max-age=7"));
}

#[tokio::test(start_paused = true)]
async fn who_may_wait_takes_a_place_and_what_is_at_hand_takes_none() {
    let (archive, one, none) = (Scripted::default(), parking(1), HeaderMap::new());
    let parked = ask(&archive, &one, "slow/b/1/2.3.m4s", &none);
    let others = async {
        sleep(Duration::from_secs(1)).await;
        let statuses = [
            ask(&archive, &one, "live/b/index.m3u8?_HLS_msn=1", &none).await.status().as_u16(),
            ask(&archive, &one, "near/b/index.m3u8?_HLS_msn=1", &none).await.status().as_u16(),
            ask(&archive, &one, "live/b/index.m3u8", &none).await.status().as_u16(),
        ];
        assert_eq!(statuses, [503, 200, 200]);
    };
    tokio::join!(parked, others);
    // Who goes away leaves it.
    assert!(timeout(Duration::from_secs(1), ask(&archive, &one, "slow/b/1/2.3.m4s", &none)).await.is_err());
    assert_eq!(ask(&archive, &one, "live/b/index.m3u8?_HLS_msn=1", &none).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn compressed_where_that_is_taken_and_tagged_by_what_it_is() {
    let mut headers = HeaderMap::new();
    headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
    let response = ask(&Scripted::default(), &parking(9), "live/b/index.m3u8", &headers).await;
    assert_eq!((field(&response, "content-encoding"), field(&response, "vary")), ("gzip", "Accept-Encoding"));
    for (file, content_type, etag) in [
        ("b/1/2.m4s", "video/mp4", "\"1-2-8\""),
        ("audio/1/2.3.m4s", "audio/mp4", "\"1-2.3-8\""),
        ("b/1/init.mp4", "video/mp4", "\"1-init-8\""),
        ("b/1/2.ts", "video/mp2t", "\"1-2-8\""),
    ] {
        let response = get(&format!("live/{file}")).await;
        assert_eq!((field(&response, "content-type"), field(&response, "etag")), (content_type, etag), "{file}");
    }
}

#[tokio::test(start_paused = true)]
async fn channels_are_those_whose_playlists_go_on() {
    let names = ["live", "ended", "none"].map(|name| ChannelName::new(name).unwrap());
    let archive: Arc<dyn Archive> = Arc::new(Scripted::default());
    let listing = channels(&archive, &names).await;
    assert_eq!(listing.body, r#"{"channels":[{"name":"live","state":"live","renditions":["b","a"]}]}"#);
}
