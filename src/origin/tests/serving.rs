//! The driver, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cellar::Cellar;
use super::fixture::{Fixture, SEGMENT};
use crate::config::{AccessLog, AddressLimits, AwayConfig, CdnSecret, OriginConfig, PlaybackConfig, Secret};
use crate::guard::Guard;
use crate::metrics::{Metrics, ResponseLabel, render};
use crate::networks::Networks;
use crate::origin::token::tests::{config as one_key, signed};
use crate::origin::{LogFile, Origin, Playback, serve};
use crate::source::ClientConfiguration;

/// Tells what it was asked.
#[derive(Debug)]
struct Echo;

#[async_trait]
impl ClientConfiguration for Echo {
    async fn answer(&self, request: Bytes, peer: SocketAddr, host: Option<&str>) -> Bytes {
        let request = String::from_utf8_lossy(&request);
        Bytes::from(format!("{request} of {} at {}", peer.ip(), host.unwrap_or("no name")))
    }
}

/// An origin that serves a fixture.
pub(super) struct Running {
    pub(super) fixture: Fixture,
    pub(super) address: SocketAddr,
    pub(super) metrics: Metrics,
    pub(super) archive: Arc<Cellar>,
    draining: CancellationToken,
    stop: CancellationToken,
    server: JoinSet<()>,
}

impl Running {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}, PlaybackConfig::default()).await
    }

    async fn start_with(change: impl FnOnce(&mut OriginConfig), playback: PlaybackConfig) -> Self {
        let fixture = Fixture::new();
        let (metrics, draining, stop) = (Metrics::default(), CancellationToken::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, directory) = watch::channel(fixture.directory.clone());
        let (configuration, archive) = (Arc::new(Echo), Arc::new(Cellar::default()));
        let guard = Guard::new(AddressLimits {
            connections_max: 3,
            connects_per_second: 1,
            wrong_keys_per_minute: 1,
            handshakes_per_second: 10,
            exempt: Networks::default(),
        });
        let mut config = OriginConfig {
            listen: address,
            connections_max: 100,
            waiting_max: 3,
            waiting_per_channel_max: 2,
            cdn: None,
            access_log: AccessLog::Off,
            cache_bytes_max: 1 << 20,
            away: AwayConfig { upstream: None, stale_max: Duration::from_secs(60), disk: None },
        };
        change(&mut config);
        let log = LogFile::open(&config.access_log).await.unwrap();
        let origin = Origin {
            config,
            directory,
            archive: archive.clone(),
            away: None,
            playback: Playback::read(&playback).unwrap(),
            configuration: Some(configuration),
            guard,
            metrics: metrics.clone(),
            draining: draining.clone(),
        };
        let mut server = JoinSet::new();
        server.spawn(serve(listener, origin, log, stop.clone()));
        Self { fixture, address, metrics, archive, draining, stop, server }
    }

    pub(super) async fn get(&self, client: &Client<HttpConnector, Empty<Bytes>>, path: &str) -> Response<Incoming> {
        client.request(self.request("GET", path)).await.unwrap()
    }

    fn request(&self, method: &str, path: &str) -> Request<Empty<Bytes>> {
        let uri = format!("http://{}{path}", self.address);
        Request::builder().method(method).uri(uri).body(Empty::new()).unwrap()
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        self.server.join_next().await.unwrap().unwrap();
    }
}

pub(super) fn client(http2: bool) -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

pub(super) async fn body(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn both_versions_of_http_get_the_same() {
    let running = Running::start().await;
    for (http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let client = client(http2);
        let segment = running.get(&client, "/live/demo/720p/5/9.m4s").await;
        assert_eq!((segment.version(), segment.status().as_u16()), (version, 200));
        assert!(segment.headers().contains_key("date"));
        assert_eq!(segment.headers()["content-length"], "18");
        assert_eq!(body(segment).await, SEGMENT);
        let head = client.request(running.request("HEAD", "/live/demo/720p/5/9.m4s")).await.unwrap();
        assert_eq!(head.headers()["content-length"], "18");
        assert_eq!(body(head).await.len(), 0);
        assert_eq!(running.get(&client, "/live/demo/720p/5/99.m4s").await.status(), 404);
        let options = client.request(running.request("OPTIONS", "/live/demo/720p/5/9.m4s")).await.unwrap();
        assert_eq!(options.status(), 204);
    }
    running.stop().await;
}

#[tokio::test]
async fn responses_are_counted() {
    let running = Running::start().await;
    let client = client(false);
    body(running.get(&client, "/live/demo/720p/5/9.m4s").await).await;
    body(running.get(&client, "/live/demo/720p/5/99.m4s").await).await;
    let count =
        |status| running.metrics.origin_responses.get_or_create(&ResponseLabel { resource: "segment", status }).get();
    assert_eq!((count(200), count(404)), (1, 1));
    let expected = SEGMENT.len() + "not found\n".len();
    assert_eq!(running.metrics.origin_bytes.get(), u64::try_from(expected).unwrap());
    assert!(render(&running.metrics.registry()).unwrap().contains("resource=\"segment\",status=\"404\"} 1"));
    running.stop().await;
}

#[tokio::test]
async fn draining_shows_before_the_end() {
    let running = Running::start().await;
    let client = client(false);
    assert_eq!(running.get(&client, "/readyz").await.status(), 200);
    running.draining.cancel();
    let response = running.get(&client, "/readyz").await;
    assert_eq!((response.status().as_u16(), body(response).await), (503, Bytes::from_static(b"shutting down\n")));
    assert_eq!(running.get(&client, "/healthz").await.status(), 200);
    assert_eq!(running.get(&client, "/live/demo/index.m3u8").await.status(), 200);
    running.stop().await;
}

#[tokio::test]
async fn a_new_snapshot_is_served_at_once() {
    let running = Running::start().await;
    let client = client(true);
    body(running.get(&client, "/live/demo/index.m3u8").await).await;
    running.fixture.live.send_modify(|live| {
        let multivariant = Some(super::fixture::playlist("another"));
        *live = crate::live::ChannelSnapshot { multivariant, ..(**live).clone() }.into();
    });
    assert_eq!(body(running.get(&client, "/live/demo/index.m3u8").await).await, "text of another");
    running.stop().await;
}

#[tokio::test]
async fn an_encoder_is_answered_and_long_and_frequent_questions_are_not_read() {
    let running = Running::start().await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let ask = async |body: String| {
        let uri = format!("http://{}/api/v3/GetClientConfiguration", running.address);
        client.request(Request::post(uri).body(Full::<Bytes>::from(body)).unwrap()).await.unwrap()
    };
    let response = ask("{}".to_owned()).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, format!("{{}} of 127.0.0.1 at {}", running.address));
    assert_eq!(ask("x".repeat(65 * 1024)).await.status(), 413);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask("{}".to_owned()).await.status().as_u16());
    }
    assert!(statuses.contains(&429), "{statuses:?}: one address asks so often and no more");
    running.stop().await;
}

/// A token that opens `channel` for a minute from now.
fn token_for(channel: &str) -> String {
    signed(&serde_json::json!({"sub": channel, "exp": jsonwebtoken::get_current_timestamp() + 60}))
}

#[tokio::test]
async fn a_channel_that_needs_a_token_is_served_with_one_only() {
    let running = Running::start_with(|_| {}, one_key()).await;
    let client = client(false);
    let token = token_for("demo");
    let other = token_for("other");
    let expired = signed(&serde_json::json!({"sub": "demo", "exp": 1_600_000_000}));
    let refused = async |path: String| {
        let response = running.get(&client, &path).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (403, &"no-store".parse().unwrap())
        );
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "a player can read why");
        body(response).await
    };
    for resource in
        ["index.m3u8", "720p/index.m3u8", "720p/5/9.m4s", "720p/5/9.0.m4s", "720p/5/init.mp4", "720p/5/99.m4s"]
    {
        let bare = format!("/live/demo/{resource}");
        assert_eq!(refused(bare.clone()).await, "a playback token is needed\n");
        assert_eq!(refused(format!("{bare}?token={other}")).await, "the playback token is not for this channel\n");
        assert_eq!(refused(format!("/live/~{expired}/demo/{resource}")).await, "the playback token has expired\n");
        assert_eq!(
            refused(format!("/live/~x/demo/{resource}?token={token}")).await,
            "the playback token cannot be read\n"
        );
        let there = if resource.contains("99") { 404 } else { 200 };
        for path in [format!("{bare}?_HLS_skip=YES&token={token}"), format!("/live/~{token}/demo/{resource}")] {
            assert_eq!(running.get(&client, &path).await.status(), there, "{path}");
        }
    }
    // What tells nothing of a channel's media is open.
    for path in ["/", "/watch/demo", "/channels.json", "/healthz", "/readyz"] {
        assert_eq!(running.get(&client, path).await.status(), 200, "{path}");
    }
    assert_eq!(running.get(&client, &format!("/watch/~{token}/demo")).await.status(), 404);
    let options = client.request(running.request("OPTIONS", "/live/demo/index.m3u8")).await.unwrap();
    assert_eq!(options.status(), 204);
    running.stop().await;
}

#[tokio::test]
async fn what_a_token_opened_is_kept_no_longer_than_it_is_valid_and_shared_only_by_its_own_url() {
    let playback = PlaybackConfig { required: false, channels: [(demo(), true)].into(), ..one_key() };
    let running = Running::start_with(|_| {}, playback).await;
    let client = client(false);
    let cache =
        async |path: String| running.get(&client, &path).await.headers()["cache-control"].to_str().unwrap().to_owned();
    let token = token_for("*");
    let seconds = |control: &str| -> u64 {
        control.split_once("max-age=").unwrap().1.trim_end_matches(", immutable").parse().unwrap()
    };
    let segment = cache(format!("/live/~{token}/demo/720p/5/9.m4s")).await;
    assert!(segment.starts_with("public, ") && segment.ends_with(", immutable"), "{segment}");
    assert!((50..=60).contains(&seconds(&segment)), "{segment}");
    assert_eq!(running.get(&client, "/live/demo/720p/4/7.m4s").await.status(), 403);
    assert_eq!(running.archive.take_asked(), [""; 0], "nor does it cost the archive a request");
    let segment = cache(format!("/live/~{token}/demo/720p/4/7.m4s")).await;
    assert!(segment.starts_with("public, ") && (50..=60).contains(&seconds(&segment)), "{segment}");
    let segment = cache(format!("/live/demo/720p/5/9.m4s?token={token}")).await;
    assert!(segment.starts_with("private, ") && (50..=60).contains(&seconds(&segment)), "{segment}");
    assert_eq!(cache(format!("/live/~{token}/demo/720p/index.m3u8")).await, "public, max-age=2");
    // The other channel needs none; one in its path is looked at all the same, and one in the query is not.
    assert_eq!(running.get(&client, "/live/quiet/index.m3u8?token=x").await.status(), 404);
    assert_eq!(running.get(&client, "/live/~x/quiet/index.m3u8").await.status(), 403);
    running.stop().await;
}

fn demo() -> crate::source::ChannelName {
    crate::source::ChannelName::new("demo").unwrap()
}

#[tokio::test]
async fn behind_a_cdn_nobody_else_is_answered() {
    let header = http::HeaderName::from_static("x-origin-secret");
    let values = ["first value of two", "second value of two"].map(|value| Secret::new(value.to_owned())).to_vec();
    let secret = CdnSecret { header: header.clone(), values };
    let running = Running::start_with(|config| config.cdn = Some(secret), PlaybackConfig::default()).await;
    let client = client(false);
    let ask = async |path: &str, value: Option<&'static str>| {
        let mut request = running.request("GET", path);
        if let Some(value) = value {
            request.headers_mut().insert(&header, http::HeaderValue::from_static(value));
        }
        client.request(request).await.unwrap()
    };
    let archived = "/live/demo/720p/4/7.m4s";
    for path in
        ["/live/demo/index.m3u8", "/live/demo/720p/5/9.m4s", archived, "/live/demo/720p/5/99.m4s", "/", "/nothing"]
    {
        for value in [None, Some("first value of twp")] {
            let refused = ask(path, value).await;
            assert_eq!(
                (refused.status().as_u16(), &refused.headers()["cache-control"]),
                (403, &"no-store".parse().unwrap())
            );
            assert_eq!(running.archive.take_asked(), [""; 0]);
        }
        let shown = [ask(path, Some("first value of two")).await, ask(path, Some("second value of two")).await];
        assert!(shown.iter().all(|response| [200, 404].contains(&response.status().as_u16())), "{path}");
        assert_eq!(running.archive.take_asked().len(), if path == archived { 2 } else { 0 });
    }
    assert_eq!(ask("/healthz", None).await.status(), 200);
    assert_eq!(ask("/readyz", None).await.status(), 200);
    running.stop().await;
}

#[tokio::test]
async fn requests_are_written_down_without_their_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let file = AccessLog::File(path.clone());
    let running = Running::start_with(|config| config.access_log = file, one_key()).await;
    let client = client(true);
    let token = token_for("demo");
    body(running.get(&client, &format!("/live/~{token}/demo/720p/5/9.m4s")).await).await;
    body(running.get(&client, &format!("/live/demo/index.m3u8?token={token}")).await).await;
    body(running.get(&client, "/live/demo/index.m3u8").await).await;
    running.stop().await;
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("\"GET /live/~-/demo/720p/5/9.m4s HTTP/2.0\" 200 18 \"-\" \"-\" 0."), "{text}");
    assert!(lines[1].contains("\"GET /live/demo/index.m3u8?token=- HTTP/2.0\" 200 "), "{text}");
    assert!(lines[2].contains("\"GET /live/demo/index.m3u8 HTTP/2.0\" 403 27 "), "{text}");
    assert_eq!(lines.len(), 3);
}
