//! The plumbing over real sockets: bounds, deadlines, TLS and the end. Hostile clients of HTTP/2 are in [`mod@hostile`].

mod hostile;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;
use crate::tls;

/// Half of a body of a hundred bytes.
struct Half(bool);

#[async_trait::async_trait]
impl Source for Half {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        let first = std::mem::replace(&mut self.0, false);
        // What there is is sent meanwhile.
        tokio::task::yield_now().await;
        Some(if first { Ok(Bytes::from_static(&[b'x'; 50])) } else { Err(Broken("as asked".to_owned())) })
    }
}

/// A server that answers `/panic` with a panic, `/wait` once `released` says so, `/broken` with half a body, and everything else with
/// 64 MiB.
struct Running {
    address: SocketAddr,
    /// A body is no longer held.
    let_go: Arc<Notify>,
    /// A request for `/wait` has arrived.
    reached: Arc<Notify>,
    /// Lets one request for `/wait` go on.
    released: Arc<Notify>,
    stop: CancellationToken,
    server: JoinSet<()>,
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const BODY_BYTES: usize = 64 * 1024 * 1024;

/// A body that says when it is no longer held.
struct Held {
    bytes: Vec<u8>,
    let_go: Arc<Notify>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go.notify_one();
    }
}

impl Running {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, None).await
    }

    async fn start_with(limits: Limits, tls: Option<TlsPort>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [let_go, reached, released] = [(); 3].map(|()| Arc::new(Notify::new()));
        let gates = [&let_go, &reached, &released].map(Arc::clone);
        let answer = move |request: Received| {
            let [let_go, reached, released] = gates.clone();
            async move {
                match request.head.uri.path() {
                    "/panic" => panic!("as asked"),
                    "/wait" => {
                        reached.notify_one();
                        released.notified().await;
                        Response::new(Body::from(Bytes::from_static(b"waited")))
                    }
                    "/broken" => {
                        Response::new(Body::from(Payload::Streamed { length: 100, source: Box::new(Half(true)) }))
                    }
                    _ => Response::new(Body::from(Bytes::from_owner(Held { bytes: vec![0; BODY_BYTES], let_go }))),
                }
            }
        };
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(serve(Ports { plain: listener, tls }, limits, answer, stop.clone()));
        Self { address, let_go, reached, released, stop, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, request: &[u8]) -> TcpStream {
        let mut socket = self.connect().await;
        socket.write_all(request).await.unwrap();
        socket
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.server.join_next().await.unwrap().unwrap();
    }
}

/// Everything until the server closes, however it does.
async fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    bytes
}

fn impatient() -> Limits {
    let soon = Duration::from_millis(100);
    Limits {
        head_timeout: soon,
        idle_timeout: soon,
        stall_timeout: soon,
        stream_timeout: soon,
        stop_timeout: soon,
        ..Limits::default()
    }
}

#[tokio::test]
async fn slow_heads_are_not_waited_for() {
    let running = Running::start(impatient()).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let answer = rest(running.ask(beginning.as_bytes()).await).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{beginning:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_left() {
    let limits =
        Limits { idle_timeout: Duration::from_secs(600), head_timeout: Duration::from_secs(600), ..impatient() };
    let running = Running::start(limits).await;
    let mut socket = running.ask(REQUEST).await;
    let mut beginning = [0; 15];
    socket.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200 OK");
    // Nothing is read until the server has given up; what it had sent by then is all there is.
    running.let_go.notified().await;
    assert!(rest(socket).await.len() < BODY_BYTES);
    running.stop().await;
}

#[tokio::test]
async fn half_a_body_ends_its_connection() {
    let running = Running::start(Limits::default()).await;
    let answer = rest(running.ask(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-length: 100"), "{answer}");
    assert!(answer.ends_with(&"x".repeat(50)) && !answer.ends_with(&"x".repeat(51)), "{answer}");
    let client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let socket = TokioIo::new(running.connect().await);
    let (mut sender, connection) = client.handshake(socket).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    for _ in 0..2 {
        let request = Request::get("http://x/broken").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        // The stream is reset, and the connection stays.
        response.into_body().collect().await.unwrap_err();
    }
    drop(sender);
    running.stop().await;
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_is_left() {
    let limits = Limits { stream_timeout: Duration::from_millis(100), ..Limits::default() };
    let running = Running::start(limits).await;
    let mut client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let socket = TokioIo::new(running.connect().await);
    let (mut sender, connection) = client.initial_stream_window_size(16).handshake(socket).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get("http://x/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    running.let_go.notified().await;
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(body.is_err(), "the stream was reset");
    running.stop().await;
}

#[tokio::test]
async fn garbage_and_long_heads_are_refused() {
    let running = Running::start(Limits::default()).await;
    for (request, answer) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_vec(), "HTTP/1.1 400"),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024)).into_bytes(), "HTTP/1.1 431"),
    ] {
        let mut socket = running.connect().await;
        // The server may close before it has read everything.
        let _ = socket.write_all(&request).await;
        let mut head = [0; 12];
        socket.read_exact(&mut head).await.unwrap();
        assert_eq!(std::str::from_utf8(&head).unwrap(), answer);
    }
    running.stop().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let running = Running::start(Limits { connections_max: 2, ..Limits::default() }).await;
    let wait = b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let first = running.ask(wait).await;
    running.reached.notified().await;
    let second = running.ask(wait).await;
    running.reached.notified().await;
    assert_eq!(rest(running.ask(wait).await).await, b"");
    running.released.notify_waiters();
    assert!(rest(first).await.ends_with(b"waited"));
    assert!(rest(second).await.ends_with(b"waited"));
    running.stop().await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_only() {
    let running = Running::start(Limits::default()).await;
    assert_eq!(rest(running.ask(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await).await, b"");
    let mut head = [0; 12];
    running.ask(REQUEST).await.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    running.stop().await;
}

#[tokio::test]
async fn stopping_lets_answers_finish_and_idle_connections_go() {
    let mut running = Running::start(Limits::default()).await;
    let idle = running.connect().await;
    let waiting = running.ask(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    running.reached.notified().await;
    running.stop.cancel();
    assert_eq!(rest(idle).await, b"");
    assert!(TcpStream::connect(running.address).await.is_err(), "the listener is closed");
    running.released.notify_one();
    assert!(rest(waiting).await.ends_with(b"waited"));
    running.server.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let running = Running::start(Limits { stop_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    let waiting = running.ask(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    running.reached.notified().await;
    running.stop().await;
    assert_eq!(rest(waiting).await, b"");
}

#[tokio::test]
async fn tls_offers_both_versions_of_http_by_alpn() {
    let (port, certificate) = tls::tests::port(PROTOCOLS).await;
    let address = port.local_addr().unwrap();
    let running = Running::start_with(Limits::default(), Some(port)).await;
    let connect = async |protocols: &[&[u8]]| {
        tls::tests::connect(TcpStream::connect(address).await.unwrap(), &certificate, protocols).await
    };
    let first = connect(&[b"http/1.1", b"h2"]).await.unwrap();
    assert_eq!(tls::tests::chosen(&first), Some(&b"h2"[..]), "the better one");
    let client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let (mut sender, connection) = client.handshake(TokioIo::new(first)).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    running.released.notify_one();
    let request = Request::get("https://localhost/wait").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));

    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let mut stream = connect(protocols).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }
    let error = connect(&[b"spdy/3"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_left() {
    let (port, _) = tls::tests::port(PROTOCOLS).await;
    let address = port.local_addr().unwrap();
    let running = Running::start_with(impatient(), Some(port)).await;
    // The beginning of a record of TLS that is never completed; and what is none.
    for beginning in [&b""[..], b"\x16\x03\x01\x01\x00\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(beginning).await.unwrap();
        assert!(!rest(socket).await.starts_with(b"HTTP/"));
    }
    running.stop().await;
}
