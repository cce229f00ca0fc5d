//! The driver of the RTMP port: accepts connections, owns their tasks, and joins them all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::Ingest;
use super::close::Close;
use super::connection;
use crate::metrics::KindLabel;

/// Accepts until `stop` is cancelled, then drops publishers (their `events` senders close) and joins all connections.
pub async fn serve(listener: TcpListener, ingest: Ingest, stop: CancellationToken) {
    let ingest = Arc::new(ingest);
    // Bounded by `connections_max`.
    let mut connections = JoinSet::new();
    let mut number = 0u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report_panic(&ingest, ended),
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= ingest.config.connections_max => turn_away(&ingest, peer),
                Ok((stream, peer)) => {
                    number += 1;
                    let task = attend(stream, peer, Arc::clone(&ingest), stop.clone());
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
        report_panic(&ingest, ended);
    }
}

/// One connection's task. TCP keepalive is not needed: every stage has a deadline that is shorter.
async fn attend(stream: TcpStream, peer: SocketAddr, ingest: Arc<Ingest>, stop: CancellationToken) {
    debug!(%peer, "RTMP connection");
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let open = OpenGauge::new(&ingest);
    let close = connection::run(stream, peer, &ingest, &stop).await;
    drop(open);
    report(&ingest, peer, &close);
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

/// The one log line of a connection's end.
fn report(ingest: &Ingest, peer: SocketAddr, close: &Close) {
    match close.error_kind() {
        // Health checks do this every few seconds.
        None if matches!(close, Close::Unused) => debug!(%peer, reason = %close, "RTMP connection closed"),
        None => info!(%peer, reason = %close, "RTMP connection closed"),
        Some(kind) => {
            count(ingest, kind);
            match close {
                Close::NotRtmp(_) => info!(%peer, kind, reason = %close, "RTMP connection closed"),
                _ => warn!(%peer, kind, reason = %close, "RTMP connection closed"),
            }
        }
    }
}

fn report_panic(ingest: &Ingest, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        count(ingest, "panic");
        error!(%error, "an RTMP connection's task failed; this is a bug");
    }
}

fn turn_away(ingest: &Ingest, peer: SocketAddr) {
    count(ingest, "connections_max");
    warn!(%peer, max = ingest.config.connections_max, "RTMP connection closed: there are too many");
}

fn count(ingest: &Ingest, kind: &'static str) {
    ingest.metrics.rtmp_errors.get_or_create(&KindLabel { kind }).inc();
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
