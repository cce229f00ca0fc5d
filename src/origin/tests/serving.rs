//! The driver, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

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

use super::fixture::{Fixture, SEGMENT};
use crate::config::AddressLimits;
use crate::guard::Guard;
use crate::metrics::{Metrics, ResponseLabel, render};
use crate::networks::Networks;
use crate::origin::{Bounds, Origin, serve};
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
    draining: CancellationToken,
    stop: CancellationToken,
    server: JoinSet<()>,
}

impl Running {
    pub(super) async fn start() -> Self {
        let fixture = Fixture::new();
        let (metrics, draining, stop) = (Metrics::default(), CancellationToken::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, directory) = watch::channel(fixture.directory.clone());
        let configuration = Arc::new(Echo);
        let guard = Guard::new(AddressLimits {
            connections_max: 3,
            connects_per_second: 1,
            wrong_keys_per_minute: 1,
            handshakes_per_second: 10,
            exempt: Networks::default(),
        });
        let origin = Origin {
            directory,
            configuration,
            guard,
            bounds: Bounds { all_max: 3, channel_max: 2 },
            connections_max: 100,
            metrics: metrics.clone(),
            draining: draining.clone(),
        };
        let mut server = JoinSet::new();
        server.spawn(serve(listener, origin, stop.clone()));
        Self { fixture, address, metrics, draining, stop, server }
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
