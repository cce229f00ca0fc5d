//! SIGHUP, by which operators and their tools ask that files be opened or read again.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// Hears the signal. Each that is open hears each.
#[derive(Debug)]
pub struct Hangup(Option<Signal>);

impl Hangup {
    /// Listens from now on.
    #[must_use]
    pub fn listen() -> Self {
        Self(signal(SignalKind::hangup()).inspect_err(|error| warn!(%error, "cannot listen for SIGHUP")).ok())
    }

    /// Waits for the signal; for ever where it cannot be heard. Nothing is lost where this is dropped.
    pub async fn heard(&mut self) {
        let signal = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if signal.is_none() {
            std::future::pending().await
        }
    }
}
