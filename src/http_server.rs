//! The HTTP plumbing that the origin and the admin listener share: accepting, TLS, deadlines against slow peers,
//! HTTP/1.1 and HTTP/2 (by ALPN, or by prior knowledge), and an orderly end.
//!
//! It knows nothing of what is asked or answered: a function from requests to responses is handed in.

mod body;
mod in_flight;
mod progress;
mod watched;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, error, warn};

use crate::tls::{Offer, TlsPort};
use in_flight::{InFlight, idle};
use progress::bounded;
use watched::Watched;

pub use body::{Body, Broken, Payload, Source};

/// What is offered by ALPN above TLS, the best first.
pub const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Where connections come in, bound by the caller.
#[derive(Debug)]
pub struct Ports {
    /// Without TLS.
    pub plain: TcpListener,
    /// With TLS, where there is a certificate.
    pub tls: Option<TlsPort>,
}

impl From<TcpListener> for Ports {
    fn from(plain: TcpListener) -> Self {
        Self { plain, tls: None }
    }
}

/// What a listener grants its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time, over both ports; more are closed at once.
    pub connections_max: usize,
    /// For the head of a request, from the end of the one before: so also how long a connection may idle. What is sent
    /// beside requests, as pings of HTTP/2 are, does not prolong it.
    pub head_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// For a peer to take what was sent to it, or [`Limits::STALL_BYTES`] of it.
    pub stall_timeout: Duration,
    /// For one response over HTTP/2, from the head of its request to its last byte: a peer that closes the window of
    /// a stream is not seen to stall by the connection. Of a body that comes from a [`Source`] it is the time for
    /// [`Limits::STALL_BYTES`].
    pub stream_timeout: Duration,
    /// For connections to finish what they are at, once the listener stops.
    pub stop_timeout: Duration,
}

impl Limits {
    /// What a peer must take within [`Limits::stall_timeout`], so that nobody holds segments in memory for ever.
    pub const STALL_BYTES: usize = 256 * 1024;

    /// The longest head of a request, in bytes; a longer one is answered 431.
    const HEAD_BYTES_MAX: usize = 16 * 1024;

    /// The same for HTTP/2, as RFC 9113 counts it (6.5.2).
    const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

    /// HTTP/2 streams of one connection at one time.
    const STREAMS_MAX: u32 = 128;

    /// HTTP/2 streams that a peer reset before they were answered, which are still to be taken notice of; with one more the
    /// connection ends. Streams that are opened only to be reset cost a server what they do not cost the peer (CVE-2023-44487).
    const RESETS_MAX: usize = 32;

    /// For the TLS handshake.
    const TLS_TIMEOUT: Duration = Duration::from_secs(10);

    /// For the body of a request, once its head is read.
    const BODY_TIMEOUT: Duration = Duration::from_secs(10);

    /// How long to leave the listener alone when accepting fails, as it does without file descriptors.
    const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(20),
            stream_timeout: Duration::from_secs(120),
            stop_timeout: Duration::from_secs(3),
        }
    }
}

/// A request as it came.
#[derive(Debug)]
pub struct Received {
    /// The request line and the header fields.
    pub head: Parts,
    /// Who sent it.
    pub peer: SocketAddr,
    body: Incoming,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is longer than what was asked for.
    TooLong,
    /// It did not come, or not in time.
    Lost,
}

impl Received {
    /// Reads the body, of at most `bytes_max`.
    ///
    /// # Errors
    /// [`BodyFault`]; whoever sends slower than `Limits::BODY_TIMEOUT` is not waited for.
    pub async fn body(self, bytes_max: usize) -> Result<Bytes, BodyFault> {
        let body = Limited::new(self.body, bytes_max).collect();
        match tokio::time::timeout(Limits::BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLong),
            Ok(Err(_)) | Err(_) => Err(BodyFault::Lost),
        }
    }
}

/// Serves `ports` until `stop`, then lets connections finish within [`Limits::stop_timeout`]; no task
/// outlives the call. A panic in `answer` ends its connection only.
pub async fn serve<A, F, B>(ports: impl Into<Ports>, limits: Limits, answer: A, stop: CancellationToken)
where
    A: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Content,
{
    let Ports { plain, tls } = ports.into();
    let mut door = Door { limits, answer, streams: TaskTracker::new(), connections: JoinSet::new(), stop };
    match &tls {
        None => door.keep(&plain, None).await,
        Some(port) => tokio::select! {
            () = door.keep(&plain, Some(port)) => {}
            () = port.follow() => {}
        },
    }
    drop((plain, tls));
    drain(door.connections, door.streams, limits.stop_timeout).await;
}

/// A body that a response may have.
pub trait Content: hyper::body::Body<Data = Bytes, Error = Broken> + Send + Unpin + 'static {}

impl<B: hyper::body::Body<Data = Bytes, Error = Broken> + Send + Unpin + 'static> Content for B {}

/// Who has just been accepted.
struct Caller {
    socket: TcpStream,
    peer: SocketAddr,
    /// On the port that speaks TLS.
    tls: Option<Offer>,
}

/// Lets connections in.
struct Door<A> {
    limits: Limits,
    answer: A,
    streams: TaskTracker,
    /// Bounded by [`Limits::connections_max`].
    connections: JoinSet<()>,
    stop: CancellationToken,
}

impl<A, F, B> Door<A>
where
    A: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Content,
{
    async fn keep(&mut self, plain: &TcpListener, tls: Option<&TlsPort>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                Some(ended) = self.connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = accept(plain) => accepted,
                accepted = accept_tls(tls) => accepted,
            };
            match accepted {
                Ok(caller) => self.attend(caller),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => debug!("a peer left before it was accepted"),
                Err(e) => {
                    warn!("cannot accept an HTTP connection: {e}");
                    tokio::time::sleep(Limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn attend(&mut self, caller: Caller) {
        let peer = caller.peer;
        if self.connections.len() >= self.limits.connections_max {
            return debug!(%peer, "closed: all {} connections are taken", self.limits.connections_max);
        }
        let connection = Connection {
            peer,
            limits: self.limits,
            answer: self.answer.clone(),
            streams: self.streams.clone(),
            stop: self.stop.clone(),
        };
        self.connections.spawn(connection.run(caller).instrument(debug_span!("http", %peer)));
    }
}

/// Waits for a connection without TLS.
async fn accept(port: &TcpListener) -> io::Result<Caller> {
    port.accept().await.map(|(socket, peer)| Caller { socket, peer, tls: None })
}

/// Waits for a connection with TLS; for ever where there is no such port.
async fn accept_tls(port: Option<&TlsPort>) -> io::Result<Caller> {
    let Some(port) = port else { return std::future::pending().await };
    port.accept().await.map(|(socket, peer, tls)| Caller { socket, peer, tls: Some(tls) })
}

/// Waits for all tasks; those that take longer than `patience` are aborted.
async fn drain(mut connections: JoinSet<()>, streams: TaskTracker, patience: Duration) {
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(patience, finished).await.is_err() {
        debug!("{} connections did not finish in time and are cut", connections.len());
    }
    connections.shutdown().await;
    // A stream ends with its connection: this only collects them.
    streams.close();
    streams.wait().await;
}

/// Tells of a connection that panicked.
fn report(ended: Result<(), JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        error!("a bug ended an HTTP connection: {e}");
    }
}

/// One accepted connection.
struct Connection<A> {
    peer: SocketAddr,
    limits: Limits,
    answer: A,
    streams: TaskTracker,
    stop: CancellationToken,
}

impl<A, F, B> Connection<A>
where
    A: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Content,
{
    async fn run(self, caller: Caller) {
        let Caller { socket, tls, .. } = caller;
        if let Err(e) = socket.set_nodelay(true) {
            debug!("cannot set TCP_NODELAY: {e}");
        }
        let socket = Watched::new(socket, self.limits.idle_timeout, self.limits.stall_timeout);
        let Some(tls) = tls else { return self.speak(socket).await };
        let patience = self.limits.head_timeout.min(Limits::TLS_TIMEOUT);
        let shaken = tokio::select! {
            shaken = timeout(patience, tls.shake_hands(socket)) => shaken,
            () = self.stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(e)) => debug!("the TLS handshake failed: {e}"),
            Err(_) => debug!("the TLS handshake took too long"),
        }
    }

    /// Speaks HTTP over `stream`, until either side ends it.
    async fn speak<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = protocol(self.limits, self.streams);
        let (peer, answer, in_flight) = (self.peer, self.answer, InFlight::new());
        let idle = idle(in_flight.clone(), self.limits.head_timeout);
        let service = service_fn(move |request: Request<Incoming>| {
            // A body that is left unread closes the connection.
            let (head, body) = request.into_parts();
            let turn = in_flight.begin();
            let response = answer(Received { head, peer, body });
            async move { Ok::<_, Infallible>(response.await.map(|body| turn.of(body))) }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let over = async {
            tokio::select! {
                () = idle => {}
                () = self.stop.cancelled() => {}
            }
        };
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = over => {
                connection.as_mut().graceful_shutdown();
                // What is still asked for has its own bound, and the peer that does not hang up has this one.
                timeout(self.limits.stream_timeout, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(e) = outcome {
            debug!("connection ended: {e}");
        }
    }
}

/// HTTP as this server speaks it.
fn protocol(limits: Limits, streams: TaskTracker) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(StreamExecutor { streams, timeout: limits.stream_timeout });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(Limits::HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(limits.stall_timeout)
        .max_concurrent_streams(Limits::STREAMS_MAX)
        .max_pending_accept_reset_streams(Limits::RESETS_MAX)
        .max_header_list_size(Limits::HEADER_LIST_BYTES_MAX);
    builder
}

/// Where hyper runs the streams of an HTTP/2 connection: tracked, so that [`drain`] can wait for them, and bounded
/// in time. A stream that is dropped is reset.
#[derive(Clone)]
struct StreamExecutor {
    streams: TaskTracker,
    timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.streams.spawn(bounded(stream, self.timeout).in_current_span());
    }
}

#[cfg(test)]
mod tests;
