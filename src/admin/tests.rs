//! The admin listener: what it answers, and how it serves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::*;
use crate::ladder::{RenditionKind, RenditionName};
use crate::live::{
    ChannelPhase, ChannelSnapshot, ChannelView, Media, Msn, News, PublisherStatus, RenditionSnapshot, Segment,
    SessionId, UploadStatus,
};
use crate::media::{Container, MediaTime};
use crate::metrics::ChannelLabel;
use crate::source::ChannelName;

/// A channel that is live, whose uploads fail, and one that waits for its publisher.
fn directory() -> Directory {
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    let publisher = PublisherStatus {
        peer: ([192, 0, 2, 7], 4000).into(),
        encoder: Some("obs".into()),
        key_name: Some("truck".into()),
        since,
    };
    let (stored, failing) = (Some(Msn(5)), Some("refused".into()));
    let upload = UploadStatus { segments_behind: 3, stored, failing, spooled: 7, ..UploadStatus::default() };
    let demo = view(live(since), ChannelPhase::Publishing(publisher), upload);
    let lost = view(ChannelSnapshot::default(), ChannelPhase::Grace { since }, UploadStatus::default());
    let name = |name| ChannelName::new(name).unwrap();
    Arc::new(BTreeMap::from([(name("demo"), demo), (name("lost"), lost)]))
}

/// A view whose last values stay readable, though their writers are gone.
fn view(live: ChannelSnapshot, phase: ChannelPhase, upload: UploadStatus) -> ChannelView {
    ChannelView {
        window: Duration::from_secs(60),
        live: watch::channel(Arc::new(live)).1,
        phase: watch::channel(phase).1,
        upload: watch::channel(upload).1,
        chronicle: watch::channel(None).1,
        orders: mpsc::channel(1).0,
        thumbnail: watch::channel(None).1,
    }
}

fn live(since: SystemTime) -> ChannelSnapshot {
    let segment = |msn| {
        Arc::new(Segment {
            msn: Msn(msn),
            session: SessionId(1),
            discontinuity: false,
            start: MediaTime::ZERO,
            duration: MediaTime::from_millis(4000),
            program_date_time: since,
            media: Media::Hot { data: Bytes::from_static(&[0; 1000]), parts: vec![] },
        })
    };
    let rendition = RenditionSnapshot {
        name: RenditionName::audio(),
        kind: RenditionKind::Audio,
        container: Container::Cmaf,
        playlist: None,
        i_frames: None,
        low_latency: None,
        news: News::default(),
        inits: vec![],
        segments: Arc::new(VecDeque::from([segment(6), segment(7)])),
        first_listed: Msn(7),
        open: None,
    };
    ChannelSnapshot { target_duration_secs: 4, renditions: vec![Arc::new(rendition)], ..ChannelSnapshot::default() }
}

#[test]
fn the_report_tells_the_state() {
    let report = serde_json::to_value(channels::report(&directory())).unwrap();
    let expected = serde_json::json!({"channels": [
        {
            "name": "demo",
            "phase": "publishing",
            "publisher": {"peer": "192.0.2.7:4000", "encoder": "obs", "key": "truck", "since": "2023-11-14T22:13:20.250Z"},
            "lost_since": null,
            "live": {"playable": false, "ended": false, "target_duration_secs": 4, "renditions": [{
                "name": "audio", "kind": "audio", "first_msn": 7, "last_msn": 7, "segments_listed": 1,
                "segments_kept": 2, "bytes_kept": 2000, "open_parts": 0,
                "last_segment": {"bytes": 1000, "duration_secs": 4.0, "bitrate": 2000, "parts": 0, "gap": false},
            }]},
            "upload": {"segments_behind": 3, "stored_msn": 5, "failing": "refused", "spooled": 7},
        },
        {
            "name": "lost",
            "phase": "grace",
            "publisher": null,
            "lost_since": "2023-11-14T22:13:20.250Z",
            "live": {"playable": false, "ended": false, "target_duration_secs": null, "renditions": []},
            "upload": {"segments_behind": 0, "stored_msn": null, "failing": null, "spooled": 0},
        },
    ]});
    assert_eq!(report, expected);
}

#[tokio::test]
async fn metrics_are_one_exposition() {
    let metrics = Metrics::default();
    metrics.ingest_bytes.get_or_create(&ChannelLabel { channel: "demo".into() }).inc_by(7);
    let text = respond::exposition(&metrics.registry(), &directory(), &process::read().await).unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
    for line in [
        "headwater_ingest_bytes_total{channel=\"demo\"} 7",
        "headwater_channel_publishing{channel=\"demo\"} 1",
        "headwater_channel_publishing{channel=\"lost\"} 0",
        "headwater_channel_store_failing{channel=\"demo\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    for name in
        ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_threads ", "process_open_fds "]
    {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name} in\n{text}");
    }
}

#[test]
fn what_is_not_there_is_refused_in_json() {
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/metrics/", 404),
        (Method::GET, "/api/v1/channels/../channels", 404),
        (Method::POST, "/api/v1/nothing", 404),
        (Method::POST, "/api/v1/channels", 405),
        (Method::DELETE, "/metrics", 405),
        (Method::GET, "/api/v1/channels/demo", 404),
        (Method::GET, "/api/v1/channels/demo/clips", 405),
        (Method::GET, "/api/v1/channels/demo/clips/goal", 405),
        (Method::POST, "/api/v1/channels/demo/recordings", 405),
        (Method::DELETE, "/api/v1/channels/demo/recordings/x", 404),
        (Method::DELETE, "/api/v1/channels/demo/recordings/1/2", 404),
    ] {
        let response = respond::page(&method, path).unwrap_err().response(&method);
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert!(body["error"].is_string());
        assert_eq!(response.headers().contains_key("allow"), status == 405);
    }
}

#[tokio::test]
async fn pages_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut server = JoinSet::new();
    let admin = Admin { directory: tokio::sync::watch::channel(directory()).1, metrics: Metrics::default() };
    server.spawn(serve(listener, admin, stop.clone()));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    for (path, content_type) in [
        ("/healthz", "text/plain; charset=utf-8"),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/api/v1/channels", "application/json"),
    ] {
        let response = client.get(format!("http://{address}{path}").parse().unwrap()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &content_type.parse().unwrap())
        );
        assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    stop.cancel();
    server.join_next().await.unwrap().unwrap();
}
