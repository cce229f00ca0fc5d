//! The driver of the RTMP port: accepts connections, owns their tasks, and joins them all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::Ingest;
use super::close::Close;
use super::connection::{self, End};
use super::throttle::Throttle;
use crate::metrics::KindLabel;

/// What the connections share.
struct Port {
    ingest: Ingest,
    /// Of the lines about strangers.
    throttle: Mutex<Throttle>,
}

/// Accepts until `stop` is cancelled, then drops publishers (their `events` senders close) and joins all connections.
pub async fn serve(listener: TcpListener, ingest: Ingest, stop: CancellationToken) {
    let port = Arc::new(Port { ingest, throttle: Mutex::default() });
    // Bounded by `connections_max`.
    let mut connections = JoinSet::new();
    let mut number = 0u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report_panic(&port.ingest, ended),
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= port.ingest.config.connections_max => turn_away(&port, peer),
                Ok((stream, peer)) => {
                    number += 1;
                    let task = attend(stream, peer, Arc::clone(&port), stop.clone());
                    connections.spawn(task.instrument(info_span!("rtmp", conn = number, channel = Empty)));
                }
                Err(error) => {
                    warn!(%error, "cannot accept an RTMP connection");
                    // Out of file descriptors, most likely: let some be closed.
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report_panic(&port.ingest, ended);
    }
}

/// One connection's task. TCP keepalive is not needed: every stage has a deadline that is shorter.
async fn attend(stream: TcpStream, peer: SocketAddr, port: Arc<Port>, stop: CancellationToken) {
    debug!(%peer, "RTMP connection");
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let open = OpenGauge::new(&port.ingest);
    let end = connection::run(stream, peer, &port.ingest, &stop).await;
    drop(open);
    report(&port, peer, &end);
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
        let passed = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now());
        if let Some(left_out @ 1..) = passed {
            info!(left_out, "there were more RTMP connections of strangers than is logged");
        }
        passed.is_some()
    }
}

/// Counts how a connection ended, and writes its one log line; for strangers only if there are not too many.
fn report(port: &Port, peer: SocketAddr, end: &End) {
    let (close, kind) = (&end.close, end.close.error_kind());
    if let Some(kind) = kind {
        count(&port.ingest, kind);
    }
    // Health checks leave it unused every few seconds.
    if matches!(close, Close::Unused) || !(end.published || port.may_log()) {
        return debug!(%peer, kind, reason = %close, "RTMP connection closed");
    }
    match kind {
        None => info!(%peer, reason = %close, "RTMP connection closed"),
        Some(kind) if matches!(close, Close::NotRtmp(_)) => {
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
