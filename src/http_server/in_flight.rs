//! The requests of one connection that are not fully answered yet, and how long there was none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::{Broken, Content};

/// Counts requests. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Arc<Count>);

/// Nothing is woken by it, as it changes with every request: [`idle`] looks at it when there is something to be seen.
#[derive(Debug)]
struct Count {
    requests: AtomicUsize,
    opened: Instant,
    /// When a request last began or was answered, in nanoseconds since `opened`.
    changed: AtomicU64,
}

/// One request, from its head to the last byte of its answer, or to the end of its connection.
#[derive(Debug)]
pub(super) struct Turn(InFlight);

impl InFlight {
    /// Of a connection that is opened now.
    pub(super) fn new() -> Self {
        let opened = Instant::now();
        Self(Arc::new(Count { requests: AtomicUsize::new(0), opened, changed: AtomicU64::new(0) }))
    }

    pub(super) fn begin(&self) -> Turn {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.touch();
        Turn(self.clone())
    }

    /// Since when there has been no request, where there is none.
    fn idle_since(&self) -> Option<Instant> {
        let none = self.0.requests.load(Ordering::Acquire) == 0;
        none.then(|| self.0.opened + Duration::from_nanos(self.0.changed.load(Ordering::Relaxed)))
    }
}

impl Count {
    fn touch(&self) {
        let since = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.changed.store(since, Ordering::Relaxed);
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
        let count = &self.0.0;
        count.touch();
        // Whoever sees that there is none sees since when.
        count.requests.fetch_sub(1, Ordering::Release);
    }
}

/// Ends once there was no request for as long as `patience`.
pub(super) async fn idle(in_flight: InFlight, patience: Duration) {
    loop {
        let now = Instant::now();
        // A request that is in flight now is over with no earlier than now, so that looking again in time misses nothing.
        let until = in_flight.idle_since().unwrap_or(now) + patience;
        if until <= now {
            return;
        }
        sleep_until(until).await;
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
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
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
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn idle_is_counted_from_the_end_of_the_last_request() {
        let in_flight = InFlight::new();
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
        assert!(timeout(Duration::from_secs(31), idle(InFlight::new(), Duration::from_secs(30))).await.is_ok());
    }
}
