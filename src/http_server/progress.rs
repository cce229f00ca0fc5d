//! The time of a stream of HTTP/2. A body that is long may take long, as long as its peer takes enough of it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::Limits;

tokio::task_local! {
    /// The peer of this stream has taken enough since that was last looked at.
    static TAKEN: Arc<AtomicBool>;
}

/// Runs a stream for as long as `patience`, and again as often as its peer has taken [`Limits::STALL_BYTES`] meanwhile of a body
/// that comes from a source.
pub(super) async fn bounded(stream: impl Future, patience: Duration) {
    let taken = Arc::new(AtomicBool::new(false));
    let mut stream = pin!(TAKEN.scope(Arc::clone(&taken), stream));
    while timeout(patience, stream.as_mut()).await.is_err() {
        if !taken.swap(false, Ordering::Relaxed) {
            return;
        }
    }
}

/// What was sent of a body since that was last told.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: usize,
}

impl Progress {
    /// So many bytes more were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= Limits::STALL_BYTES {
            self.bytes = 0;
            // Over HTTP/1.1 there are no streams, and the socket is watched.
            let _ = TAKEN.try_with(|taken| taken.store(true, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);

    /// How long a stream may last that sends so much in each of ten minutes.
    async fn lasts(bytes: usize) -> u64 {
        let begun = Instant::now();
        let stream = async {
            let mut progress = Progress::default();
            for _ in 0..10 {
                sleep(Duration::from_secs(60)).await;
                progress.sent(bytes);
            }
        };
        bounded(stream, PATIENCE).await;
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lasts_as_long_as_its_peer_takes_enough() {
        assert_eq!(lasts(Limits::STALL_BYTES / 2 + 1).await, 600);
        assert_eq!(lasts(Limits::STALL_BYTES / 5).await, 120);
        assert_eq!(lasts(0).await, 120);
    }
}
