//! Against a server of a few lines, and an archive in place of the store.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// The store: it has playlists and the segment 1.
#[derive(Debug)]
struct Store;

#[async_trait]
impl Archive for Store {
    fn peek(&self, _: Wanted<'_>) -> Option<Found> {
        None
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Found {
        let has = wanted.resource.is_text() || wanted.resource.below_rendition() == "1/1.m4s";
        let copy = || Copy::new(wanted.resource, Bytes::from_static(b"stored"), Cache::EDGE, None);
        if has { Ok(Arc::new(copy())) } else { Err(Lack::Absent) }
    }

    async fn listing(&self) -> Option<Bytes> {
        None
    }

    async fn failing(&self) -> Option<String> {
        Some("the store fails".to_owned())
    }
}

/// A server that answers with one status, and what it was asked; 0 is no answer at all.
struct Server {
    status: Arc<AtomicU16>,
    asked: Arc<Mutex<Vec<String>>>,
    upstream: Upstream,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (status, asked) = (Arc::new(AtomicU16::new(status)), Arc::<Mutex<Vec<String>>>::default());
        let (says, notes) = (Arc::clone(&status), Arc::clone(&asked));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (says, notes) = (Arc::clone(&says), Arc::clone(&notes));
                let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let secret = request.headers().get("x-origin-secret").map(|s| s.to_str().unwrap().to_owned());
                    notes.lock().unwrap().push(format!("{} {}", request.uri(), secret.unwrap_or_default()));
                    let status = says.load(Ordering::Relaxed);
                    async move {
                        if status == 0 {
                            std::future::pending::<()>().await;
                        }
                        let response = Response::builder().status(status).header("cache-control", "public, max-age=24");
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(b"live"))).unwrap())
                    }
                });
                connections.spawn(async move {
                    drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await);
                });
            }
        });
        Self { status, asked, upstream: upstream(base), _tasks: tasks }
    }

    async fn fetch(&self, path: &str) -> Result<String, Lack> {
        fetch(&self.upstream, path).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn upstream(base: String) -> Upstream {
    let header = HeaderName::from_static("x-origin-secret");
    let values = vec![crate::config::Secret::new("first".to_owned()), crate::config::Secret::new("second".to_owned())];
    let limits = Limits { bytes_max: 1 << 20, stale_max: Duration::from_secs(60) };
    let (secret, otherwise) = (Some(CdnSecret { header, values }), Arc::new(Store));
    Upstream::new(Setup { base, secret, limits, disk: None, otherwise, metrics: Metrics::default() }).unwrap()
}

async fn fetch(upstream: &Upstream, path: &str) -> Result<String, Lack> {
    let (path, directives) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let (channel, resource) = Resource::parse(&format!("live/demo/{path}")).unwrap();
    let found = upstream.fetch(Wanted { channel: &channel, resource: &resource, directives }).await;
    found.map(|copy| String::from_utf8_lossy(copy.data()).into_owned())
}

#[tokio::test]
async fn it_is_asked_once_for_each_url_and_shown_the_secret() {
    let server = Server::start(200).await;
    for _ in 0..3 {
        assert_eq!(server.fetch("a/index.m3u8?_HLS_msn=7&_HLS_part=1").await.unwrap(), "live");
        assert_eq!(server.fetch("a/1/1.m4s").await.unwrap(), "live");
    }
    assert_eq!(server.asked(), ["/live/demo/a/index.m3u8?_HLS_msn=7&_HLS_part=1 first", "/live/demo/a/1/1.m4s first"]);
    assert_eq!(server.upstream.listing().await.unwrap(), "live");
}

#[tokio::test]
async fn what_it_does_not_give_is_asked_of_the_store_and_it_goes_on_being_followed() {
    for status in [404, 410, 403, 500, 301] {
        let server = Server::start(status).await;
        for path in ["index.m3u8", "a/index.m3u8", "a/index.m3u8?_HLS_msn=7", "a/1/1.m4s"] {
            assert_eq!(server.fetch(path).await, Ok("stored".to_owned()), "{status} {path}");
        }
        assert_eq!(server.asked().len(), 4, "{status}: each once");
        let lacking = match status {
            404 => Lack::Absent,
            410 => Lack::Gone,
            _ => Lack::Failing,
        };
        assert_eq!(server.fetch("a/1/2.m4s").await, Err(lacking), "{status}");
        server.status.store(200, Ordering::Relaxed);
        assert_eq!(server.fetch("a/1/3.m4s").await.unwrap(), "live", "{status}");
        assert_eq!(server.upstream.failing().await, None);
    }
    // A question that is none, and one that was waited for in vain.
    let server = Server::start(400).await;
    assert_eq!(server.fetch("a/index.m3u8?_HLS_msn=7").await, Err(Lack::Refused("live".to_owned())));
    server.status.store(503, Ordering::Relaxed);
    assert_eq!(server.fetch("a/index.m3u8?_HLS_msn=8").await, Err(Lack::Busy));
    assert_eq!(server.fetch("a/index.m3u8").await.unwrap(), "stored");
}

#[tokio::test]
async fn who_waits_for_a_server_that_is_lost_gets_what_the_store_has() {
    let server = Server::start(0).await;
    let waiting = server.fetch("a/index.m3u8?_HLS_msn=7");
    // Another request finds out that it does not answer.
    let (waited, asked) = tokio::join!(waiting, server.fetch("a/index.m3u8"));
    assert_eq!([waited.unwrap(), asked.unwrap()], ["stored", "stored"]);
    assert!(server.upstream.failing().await.unwrap().contains("no answer within 5 s; the store fails"));
    // Whether it is back is found out by whoever asks whether this one is ready.
    server.status.store(200, Ordering::Relaxed);
    while server.upstream.failing().await.is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.fetch("a/1/1.m4s").await.unwrap(), "live");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_server() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = upstream(format!("http://{nobody}"));
    assert_eq!(fetch(&upstream, "a/index.m3u8?_HLS_msn=7").await.unwrap(), "stored");
    assert!(upstream.failing().await.unwrap().contains("refused"));
    assert_eq!(fetch(&upstream, "a/1/2.m4s").await, Err(Lack::Failing), "nobody knows whether there is such a segment");
}
