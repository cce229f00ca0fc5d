//! The driver of the RTMP and RTMPS ports: accepts connections, learns whose they are, owns their tasks, and joins them all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::Ingest;
use super::close::{Close, Stage};
use super::connection::{self, Arrival, End};
use super::proxy_protocol::{self, Progress, Source};
use super::throttle::{SharedThrottle, Throttle};
use crate::guard::Pass;
use crate::metrics::KindLabel;
use crate::networks::plain;
use crate::tls::{HandshakeError, Offer, TlsPort};

/// Where encoders come in, bound by the caller.
#[derive(Debug)]
pub struct Listeners {
    /// Of RTMP.
    pub rtmp: TcpListener,
    /// Of RTMPS, where there is a certificate.
    pub rtmps: Option<TlsPort>,
}

impl From<TcpListener> for Listeners {
    fn from(rtmp: TcpListener) -> Self {
        Self { rtmp, rtmps: None }
    }
}

/// What the connections share.
struct Port {
    ingest: Ingest,
    /// Of the lines about strangers.
    throttle: SharedThrottle,
}

/// Accepts until `stop` is cancelled, then drops publishers (their `events` senders close) and joins all connections.
pub async fn serve(listeners: impl Into<Listeners>, ingest: Ingest, stop: CancellationToken) {
    let Listeners { rtmp, rtmps } = listeners.into();
    let port = Arc::new(Port { ingest, throttle: SharedThrottle::default() });
    let mut door = Door { port, stop, connections: JoinSet::new(), number: 0, errors: Throttle::sparing() };
    match rtmps {
        None => door.keep(&rtmp, None).await,
        Some(rtmps) => tokio::select! {
            () = door.keep(&rtmp, Some(&rtmps)) => {}
            () = rtmps.follow() => {}
        },
    }
    drop(rtmp);
    door.close().await;
}

/// Lets connections in.
struct Door {
    port: Arc<Port>,
    stop: CancellationToken,
    /// Bounded by `connections_max`.
    connections: JoinSet<()>,
    /// Of the last connection.
    number: u64,
    /// Of the lines about failures to accept.
    errors: Throttle,
}

impl Door {
    async fn keep(&mut self, rtmp: &TcpListener, rtmps: Option<&TlsPort>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(ended) = self.connections.join_next() => report_panic(&self.port.ingest, ended),
                accepted = accept(rtmp) => self.answer(accepted).await,
                accepted = accept_tls(rtmps) => self.answer(accepted).await,
            }
        }
    }

    async fn answer(&mut self, accepted: io::Result<Caller>) {
        match accepted {
            Ok(Caller { remote, .. }) if self.connections.len() >= self.port.ingest.config.connections_max => {
                turn_away(&self.port, remote);
            }
            Ok(caller) => self.attend(caller),
            // One that has gone again is no fault of this side, and must not make others wait.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(left_out) = self.errors.pass(Instant::now()) {
                    warn!(%error, left_out, "cannot accept RTMP connections");
                }
                // Out of file descriptors, most likely: let some be closed.
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn attend(&mut self, caller: Caller) {
        self.number += 1;
        let span = info_span!("rtmp", conn = self.number, channel = Empty);
        self.connections.spawn(attend(caller, Arc::clone(&self.port), self.stop.clone()).instrument(span));
    }

    async fn close(mut self) {
        while let Some(ended) = self.connections.join_next().await {
            report_panic(&self.port.ingest, ended);
        }
    }
}

/// Waits for a connection to the RTMP port.
async fn accept(port: &TcpListener) -> io::Result<Caller> {
    port.accept().await.map(|(stream, remote)| Caller { stream, remote: plain(remote), tls: None })
}

/// Waits for a connection to the RTMPS port; for ever where there is none.
async fn accept_tls(port: Option<&TlsPort>) -> io::Result<Caller> {
    let Some(port) = port else { return std::future::pending().await };
    port.accept().await.map(|(stream, remote, tls)| Caller { stream, remote: plain(remote), tls: Some(tls) })
}

/// Who has just been accepted.
struct Caller {
    stream: TcpStream,
    /// The other end of the socket: the peer, or the load balancer before it.
    remote: SocketAddr,
    /// On the RTMPS port.
    tls: Option<Offer>,
}

/// One connection's task.
async fn attend(mut caller: Caller, port: Arc<Port>, stop: CancellationToken) {
    debug!(peer = %caller.remote, tls = caller.tls.is_some(), "RTMP connection");
    set_options(&caller, port.ingest.config.idle_timeout);
    let open = OpenGauge::new(&port.ingest);
    let deadline = Instant::now() + port.ingest.config.handshake_timeout;
    let come_in = timeout_at(deadline, caller.come_in(&port.ingest));
    let come_in = tokio::select! {
        come_in = come_in => come_in.unwrap_or(Err(Close::Timeout(Stage::Proxy))),
        () = stop.cancelled() => Err(Close::Shutdown),
    };
    let (peer, end) = match come_in {
        Ok((peer, _pass)) => (peer, caller.run(Arrival { peer, deadline }, &port.ingest, &stop).await),
        Err(close) => (caller.remote, End { close, published: false }),
    };
    drop(open);
    report(&port, peer, &end);
}

/// An encoder's machine that is gone without a word is to be noticed also while its socket is not read.
fn set_options(caller: &Caller, idle_timeout: Duration) {
    let socket = SockRef::from(&caller.stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(idle_timeout)));
    if let Err(error) = set {
        debug!(peer = %caller.remote, %error, "cannot set the socket's options");
    }
}

impl Caller {
    /// Learns who it is, and whether it may come in.
    async fn come_in(&mut self, ingest: &Ingest) -> Result<(SocketAddr, Option<Pass>), Close> {
        let peer = match ingest.config.proxy_protocol.contains(self.remote.ip()) {
            true => match self.read_proxy_header().await? {
                Source::Peer(peer) => peer,
                // The load balancer is no peer whose limits could be used up.
                Source::Itself => return Ok((self.remote, None)),
            },
            false => self.remote,
        };
        let pass = ingest.guard.admit(peer.ip()).map_err(|reason| Close::TurnedAway { reason, peer })?;
        Ok((peer, Some(pass)))
    }

    async fn read_proxy_header(&mut self) -> Result<Source, Close> {
        let mut header = Vec::new();
        loop {
            match proxy_protocol::read(&header)? {
                Progress::Done(source) => return Ok(source),
                Progress::More(count) => {
                    let read = (&mut self.stream).take(count as u64).read_buf(&mut header).await;
                    if read.map_err(Close::Lost)? == 0 {
                        return Err(Close::Unused);
                    }
                }
            }
        }
    }

    async fn run(self, arrival: Arrival, ingest: &Ingest, stop: &CancellationToken) -> End {
        let Some(tls) = self.tls else { return connection::run(self.stream, arrival, ingest, stop).await };
        let shaken = tokio::select! {
            shaken = timeout_at(arrival.deadline, tls.shake_hands(self.stream)) => shaken,
            () = stop.cancelled() => return End { close: Close::Shutdown, published: false },
        };
        let close = match shaken {
            Ok(Ok(stream)) => return connection::run(stream, arrival, ingest, stop).await,
            Ok(Err(error)) => failed_handshake(error),
            Err(_) => Close::Timeout(Stage::Tls),
        };
        End { close, published: false }
    }
}

/// How it is to be understood that a TLS handshake failed.
fn failed_handshake(error: HandshakeError) -> Close {
    match error {
        HandshakeError::NotTls => Close::Tls(format!("{error}: use rtmps:// on this port, or the port of rtmp://")),
        HandshakeError::Refused(error) => Close::Tls(error.to_string()),
        HandshakeError::Left => Close::Unused,
        HandshakeError::Lost(error) => Close::Lost(error),
    }
}

/// Counts an open connection while it lives, also where its task panics.
struct OpenGauge<'a>(&'a Ingest);

impl<'a> OpenGauge<'a> {
    fn new(ingest: &'a Ingest) -> Self {
        ingest.metrics.rtmp_connections.inc();
        Self(ingest)
    }
}

impl Drop for OpenGauge<'_> {
    fn drop(&mut self) {
        self.0.metrics.rtmp_connections.dec();
    }
}

impl Port {
    /// Whether a line about a stranger may be written; says how many were not.
    fn may_log(&self) -> bool {
        let passed = self.throttle.pass(Instant::now());
        if let Some(left_out @ 1..) = passed {
            info!(left_out, "there were more RTMP connections of strangers than is logged");
        }
        passed.is_some()
    }
}

/// Counts how a connection ended, and writes its one log line; for strangers only if there are not too many.
fn report(port: &Port, peer: SocketAddr, end: &End) {
    let (close, kind) = (&end.close, end.close.error_kind());
    let peer = close.peer().unwrap_or(peer);
    if let Some(kind) = kind {
        count(&port.ingest, kind);
    }
    // Health checks leave it unused every few seconds.
    if matches!(close, Close::Unused) || !(end.published || port.may_log()) {
        return debug!(%peer, kind, reason = %close, "RTMP connection closed");
    }
    match kind {
        None => info!(%peer, reason = %close, "RTMP connection closed"),
        Some(kind) if matches!(close, Close::NotRtmp(_) | Close::Tls(_)) => {
            info!(%peer, kind, reason = %close, "RTMP connection closed")
        }
        Some(kind) => warn!(%peer, kind, reason = %close, "RTMP connection closed"),
    }
}

fn report_panic(ingest: &Ingest, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        count(ingest, "panic");
        error!(%error, "an RTMP connection's task failed; this is a bug");
    }
}

fn turn_away(port: &Port, peer: SocketAddr) {
    count(&port.ingest, "connections_max");
    if port.may_log() {
        warn!(%peer, max = port.ingest.config.connections_max, "RTMP connection closed: there are too many");
    }
}

fn count(ingest: &Ingest, kind: &'static str) {
    ingest.metrics.rtmp_errors.get_or_create(&KindLabel { kind }).inc();
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
