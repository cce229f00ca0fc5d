//! Whether the server that is followed can be reached: once it cannot, one request at a time finds out whether it can again, and all
//! others go elsewhere at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// What is known of it.
#[derive(Debug)]
pub(super) struct Reach {
    base: String,
    down: Mutex<Option<Down>>,
    /// For those who wait for its answer.
    lost: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Down {
    why: String,
    /// Then it is tried.
    next: Instant,
    pause: Duration,
}

impl Reach {
    /// It can, as far as is known.
    pub(super) fn new(base: String) -> Self {
        Self { base, down: Mutex::default(), lost: watch::Sender::new(false) }
    }

    /// It may be asked now. Of a server that is lost, one may ask after each pause.
    pub(super) fn enter(&self) -> Option<()> {
        let mut down = self.down();
        let Some(lost) = down.as_mut() else { return Some(()) };
        let now = Instant::now();
        (now >= lost.next).then(|| {
            lost.pause = (lost.pause * 2).min(PAUSE_MAX);
            lost.next = now + lost.pause;
            // Who tries waits for the answer, not for the news that it is lost.
            self.lost.send_replace(false);
        })
    }

    /// A request was answered, or was not: `why` then. Says when it is lost, and when it is back.
    pub(super) fn tell(&self, why: Option<&String>) {
        let mut down = self.down();
        match (why, down.as_mut()) {
            (None, None) => return,
            (None, Some(_)) => {
                *down = None;
                info!(upstream = self.base, "is followed again");
            }
            (Some(why), Some(lost)) => lost.why.clone_from(why),
            (Some(why), None) => {
                warn!(upstream = self.base, "cannot be followed: {why}; the store is served meanwhile");
                *down = Some(Down { why: why.clone(), next: Instant::now() + PAUSE, pause: PAUSE });
            }
        }
        self.lost.send_replace(down.is_some());
    }

    /// Ends once it is lost.
    pub(super) async fn lost(&self) {
        // The sender is in `self`.
        drop(self.lost.subscribe().wait_for(|lost| *lost).await);
    }

    /// Why it cannot be reached, where it cannot.
    pub(super) fn why(&self) -> Option<String> {
        self.down().as_ref().map(|down| down.why.clone())
    }

    fn down(&self) -> MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until a server that was lost is tried for the first time; it doubles from there.
const PAUSE: Duration = Duration::from_millis(500);

/// It grows no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_server_that_is_lost_one_asks_at_a_time() {
        let (reach, why) = (Reach::new(String::new()), "why".to_owned());
        assert!(reach.enter().is_some() && reach.enter().is_some());
        reach.tell(Some(&why));
        reach.lost().await;
        assert_eq!((reach.enter(), reach.why()), (None, Some("why".to_owned())));
        for pause in [500, 1_000, 2_000, 4_000, 4_000] {
            advance(Duration::from_millis(pause - 1)).await;
            assert!(reach.enter().is_none(), "{pause}");
            advance(Duration::from_millis(1)).await;
            assert!(reach.enter().is_some() && reach.enter().is_none(), "{pause}");
            reach.tell(Some(&why));
        }
        reach.tell(None);
        assert!(reach.enter().is_some() && reach.enter().is_some() && reach.why().is_none());
    }
}
