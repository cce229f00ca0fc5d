//! A second attempt for a write that takes much longer than writes take: one slow server, one lossy path or one connection
//! that hangs must not hold up the whole window (Dean and Barroso, "The Tail at Scale", 2013).
//!
//! Only for media, of which a key has one content for ever, so that both attempts may be done.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{Object, Store, StoreError};

/// How long writes take at present, smoothed as TCP does with round trips (RFC 6298).
#[derive(Debug, Default)]
pub(super) struct Pace {
    smoothed: Option<(Duration, Duration)>,
}

impl Pace {
    /// A write took so long.
    pub(super) fn took(&mut self, time: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (time, time / 2),
            Some((mean, deviation)) => ((mean * 7 + time) / 8, (deviation * 3 + time.abs_diff(mean)) / 4),
        });
    }

    /// What is slow: a write that takes longer is worth another attempt. None before anything is known.
    pub(super) fn slow(&self) -> Option<Duration> {
        self.smoothed.map(|(mean, deviation)| (mean + deviation * 4).max(SLOW_MIN))
    }
}

/// A write that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// How long the attempt took that was first.
    pub(super) took: Duration,
    /// There was a second one.
    pub(super) hedged: bool,
}

/// Writes `object`, and once more by another connection where that takes longer than `slow` and `seconds` has room: whichever is
/// done first counts, and the other is given up. Where everything is slow, second attempts for everything would make it slower.
///
/// # Errors
/// The error of the attempt that ended last, where both fail.
pub(super) async fn put(
    store: Arc<dyn Store>,
    object: Object,
    slow: Option<Duration>,
    seconds: Arc<Semaphore>,
) -> Result<Written, StoreError> {
    let begun = Instant::now();
    let mut first = pin!(store.put(object.clone()));
    let in_time = match slow {
        Some(slow) => timeout(slow, first.as_mut()).await,
        None => Ok(first.as_mut().await),
    };
    if let Ok(result) = in_time {
        return result.map(|()| Written { took: begun.elapsed(), hedged: false });
    }
    let Ok(_room) = seconds.try_acquire() else {
        return first.await.map(|()| Written { took: begun.elapsed(), hedged: false });
    };
    let again = Instant::now();
    let mut second = pin!(store.put(object));
    let (by_first, result) = tokio::select! {
        result = first.as_mut() => (true, result),
        result = second.as_mut() => (false, result),
    };
    let (by_first, result) = match result {
        Ok(()) => (by_first, Ok(())),
        Err(_) if by_first => (false, second.await),
        Err(_) => (true, first.await),
    };
    let took = if by_first { begun.elapsed() } else { again.elapsed() };
    result.map(|()| Written { took, hedged: true })
}

/// Below that a write is not slow, whatever others took.
const SLOW_MIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::scripted::{Outcome, ScriptedStore};
    use super::super::small_object;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A store whose attempts end one after the other as `outcomes` says.
    fn store(outcomes: Vec<Outcome>) -> Arc<ScriptedStore> {
        let attempts = AtomicUsize::new(0);
        ScriptedStore::new(move |_| outcomes[attempts.fetch_add(1, Ordering::Relaxed)])
    }

    async fn hedged(outcomes: Vec<Outcome>) -> (Result<Written, StoreError>, Duration) {
        let begun = Instant::now();
        let seconds = Arc::new(Semaphore::new(1));
        (put(store(outcomes), small_object("media"), Some(SECOND), seconds).await, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_slow_is_put_once() {
        let (written, after) = hedged(vec![Outcome::Done(Duration::from_millis(900))]).await;
        assert_eq!(written, Ok(Written { took: after, hedged: false }));
        let (written, after) = hedged(vec![Outcome::Refused(Duration::from_millis(900))]).await;
        assert!(written.is_err() && after < SECOND, "an error is no slowness: the caller waits before it tries again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_attempt_that_is_first_counts() {
        let quick = Outcome::Done(Duration::from_millis(100));
        for (first, second, took, after) in [
            (Outcome::Done(60 * SECOND), Outcome::Done(SECOND), SECOND, 2 * SECOND),
            (Outcome::Done(3 * SECOND), Outcome::Done(60 * SECOND), 3 * SECOND, 3 * SECOND),
            (Outcome::Done(3 * SECOND), Outcome::Refused(SECOND), 3 * SECOND, 3 * SECOND),
            (Outcome::Refused(2 * SECOND), Outcome::Done(4 * SECOND), 4 * SECOND, 5 * SECOND),
        ] {
            assert_eq!(
                hedged(vec![first, second, quick]).await,
                (Ok(Written { took, hedged: true }), after),
                "{first:?} {second:?}"
            );
        }
        assert!(hedged(vec![Outcome::Refused(2 * SECOND), Outcome::Refused(2 * SECOND)]).await.0.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn where_everything_is_slow_one_second_attempt_is_made_at_a_time() {
        let store = ScriptedStore::new(|_| Outcome::Done(10 * SECOND));
        let seconds = Arc::new(Semaphore::new(1));
        let attempt = || put(Arc::clone(&store) as _, small_object("media"), Some(SECOND), Arc::clone(&seconds));
        let (one, other) = tokio::join!(attempt(), attempt());
        assert_ne!(one.unwrap().hedged, other.unwrap().hedged);
    }

    #[test]
    fn what_is_slow_follows_what_writes_take() {
        let mut pace = Pace::default();
        assert_eq!(pace.slow(), None);
        (0..100).for_each(|_| pace.took(Duration::from_millis(20)));
        assert_eq!(pace.slow(), Some(SLOW_MIN));
        (0..100).for_each(|_| pace.took(3 * SECOND));
        let slow = pace.slow().unwrap();
        assert!(slow > 2 * SECOND && slow < 4 * SECOND, "{slow:?}");
    }
}
