//! The requests of one connection that are not fully answered yet, and how long there was none.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use super::Content;

/// Counts requests. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<watch::Sender<usize>>);

/// One request, from its head to the last byte of its answer, or to the end of its connection.
#[derive(Debug)]
pub(super) struct Turn(InFlight);

impl InFlight {
    pub(super) fn begin(&self) -> Turn {
        self.0.send_modify(|count| *count = count.saturating_add(1));
        Turn(self.clone())
    }
}

impl Turn {
    /// The request is answered with `body`, and goes on until that is sent.
    pub(super) fn of<B>(self, body: B) -> Answering<B> {
        Answering { body, _turn: self }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Ends once there was no request for as long as `patience`.
pub(super) async fn idle(in_flight: InFlight, patience: Duration) {
    let mut count = in_flight.0.subscribe();
    // It is over only together with the connection.
    while count.wait_for(|count| *count == 0).await.is_ok() {
        // A request that comes and goes at once is seen by the change alone.
        if tokio::time::timeout(patience, count.changed()).await.is_err() {
            return;
        }
    }
}

/// A body whose request is in flight while it is being sent.
#[derive(Debug)]
pub(super) struct Answering<B> {
    body: B,
    _turn: Turn,
}

impl<B: Content> hyper::body::Body for Answering<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn idle_is_counted_from_the_end_of_the_last_request() {
        let in_flight = InFlight::default();
        let patience = Duration::from_secs(30);
        let begun = Instant::now();
        let requests = async {
            sleep(Duration::from_secs(20)).await;
            let slow = in_flight.begin();
            drop(in_flight.begin());
            sleep(Duration::from_secs(100)).await;
            drop(slow);
            sleep(Duration::from_secs(29)).await;
            drop(in_flight.begin());
        };
        tokio::join!(idle(in_flight.clone(), patience), requests);
        assert_eq!(begun.elapsed().as_secs(), 20 + 100 + 29 + 30);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_idle_from_the_start() {
        assert!(timeout(Duration::from_secs(31), idle(InFlight::default(), Duration::from_secs(30))).await.is_ok());
    }
}
