//! The HTTP plumbing that the origin and the admin listener share: accepting, deadlines against slow peers,
//! HTTP/1.1 and HTTP/2 by prior knowledge, and an orderly end.
//!
//! It knows nothing of what is asked or answered: a function from requests to responses is handed in.

mod body;
mod watched;

use std::io::ErrorKind;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, error, warn};

use watched::Watched;

pub use body::Body;

/// What a listener grants its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time; more are closed at once.
    pub connections_max: usize,
    /// For the head of a request, from the end of the one before: so also how long an HTTP/1.1 connection may idle.
    pub head_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// For a peer to take what was sent to it, or [`Limits::STALL_BYTES`] of it.
    pub stall_timeout: Duration,
    /// For one response over HTTP/2, from the head of its request to its last byte: a peer that closes the window of
    /// a stream is not seen to stall by the connection.
    pub stream_timeout: Duration,
    /// For connections to finish what they are at, once the listener stops.
    pub stop_timeout: Duration,
}

impl Limits {
    /// What a peer must take within [`Limits::stall_timeout`], so that nobody holds segments in memory for ever.
    pub const STALL_BYTES: usize = 256 * 1024;

    /// The longest head of a request, in bytes; a longer one is answered 431.
    const HEAD_BYTES_MAX: usize = 16 * 1024;

    /// HTTP/2 streams of one connection at one time.
    const STREAMS_MAX: u32 = 128;

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

/// Serves `listener` until `stop`, then lets connections finish within [`Limits::stop_timeout`]; no task
/// outlives the call. A panic in `answer` ends its connection only.
pub async fn serve<A, F>(listener: TcpListener, limits: Limits, answer: A, stop: CancellationToken)
where
    A: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let streams = TaskTracker::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= limits.connections_max => {
                    debug!(%peer, "closed: all {} connections are taken", limits.connections_max);
                }
                Ok((socket, peer)) => {
                    let connection = Connection { socket, limits, streams: streams.clone(), stop: stop.clone() };
                    let span = debug_span!("http", %peer);
                    connections.spawn(connection.run(peer, answer.clone()).instrument(span));
                }
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => debug!("a peer left before it was accepted"),
                Err(e) => {
                    warn!("cannot accept an HTTP connection: {e}");
                    tokio::time::sleep(Limits::ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drain(connections, streams, limits.stop_timeout).await;
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
struct Connection {
    socket: TcpStream,
    limits: Limits,
    streams: TaskTracker,
    stop: CancellationToken,
}

impl Connection {
    async fn run<A, F>(self, peer: SocketAddr, answer: A)
    where
        A: Fn(Received) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        if let Err(e) = self.socket.set_nodelay(true) {
            debug!(%peer, "cannot set TCP_NODELAY: {e}");
        }
        let builder = protocol(self.limits, self.streams);
        let io = TokioIo::new(Watched::new(self.socket, self.limits.idle_timeout, self.limits.stall_timeout));
        let service = service_fn(move |request: Request<Incoming>| {
            // A body that is left unread closes the connection.
            let (head, body) = request.into_parts();
            let response = answer(Received { head, peer, body });
            async move { Ok::<_, std::convert::Infallible>(response.await) }
        });
        let mut connection = pin!(builder.serve_connection(io, service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
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
        .max_header_list_size(16 * 1024);
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
        let bounded = tokio::time::timeout(self.timeout, stream);
        self.streams.spawn(bounded.in_current_span());
    }
}

#[cfg(test)]
mod tests;
