//! Brings what waits in the spool to the store, the oldest first but for what was refused, beside what is live and slower than that.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::spell::Spell;
use super::upload::random;
use super::{Spool, Store, StoreError};
use crate::metrics::{KindLabel, Metrics};
use crate::seldom::Seldom;

/// Drains the spool until `stop` is cancelled; what is left waits for the next process. What is on its way then may be put
/// twice.
pub async fn drain(spool: Spool, store: Arc<dyn Store>, metrics: Metrics, stop: CancellationToken) {
    let mut drain = Drain {
        spool,
        store,
        metrics,
        puts: JoinSet::new(),
        spell: Spell::default(),
        next: Instant::now(),
        ebb: None,
        never_taken: Seldom::default(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = drain.run() => {}
    }
    drain.spool.delete_stored().await;
    let objects = drain.spool.waiting();
    if objects > 0 {
        info!(objects, "what is in the spool waits for the next start");
    }
}

struct Drain {
    spool: Spool,
    store: Arc<dyn Store>,
    metrics: Metrics,
    /// At most `PUTS_MAX`.
    puts: JoinSet<Put>,
    spell: Spell,
    /// No put begins before, so that the rate is kept.
    next: Instant,
    /// What went up since something did.
    ebb: Option<Ebb>,
    /// Objects that the store refuses while it takes others.
    never_taken: Seldom,
}

/// A put is over.
struct Put {
    key: String,
    bytes: u64,
    outcome: Outcome,
}

enum Outcome {
    Stored,
    /// There is no such file.
    Vanished,
    Failed(StoreError),
}

/// The spool falls.
struct Ebb {
    began: Instant,
    objects: u64,
    bytes: u64,
}

impl Drain {
    async fn run(&mut self) {
        loop {
            self.spool.delete_stored().await;
            let now = Instant::now();
            self.start(now);
            let wake = self.wake(now);
            tokio::select! {
                Some(put) = self.puts.join_next() => self.over(put),
                () = self.spool.changed() => {}
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    /// Begins what can be begun now: while puts fail, one at a time.
    fn start(&mut self, now: Instant) {
        let parallel = if self.spell.is_on() { 1 } else { PUTS_MAX };
        while self.puts.len() < parallel
            && !self.spell.must_wait(now)
            && self.next <= now
            && let Some((key, bytes)) = self.spool.go(now)
        {
            self.next = now.checked_add(time_of(bytes, self.spool.drain_bitrate())).unwrap_or(now);
            let (spool, store) = (self.spool.clone(), Arc::clone(&self.store));
            self.puts.spawn(async move {
                let outcome = match spool.read(&key).await {
                    Ok(Some(object)) => store.put(object).await.map_or_else(Outcome::Failed, |()| Outcome::Stored),
                    Ok(None) => Outcome::Vanished,
                    Err(error) => Outcome::Failed(error),
                };
                Put { key, bytes, outcome }
            });
        }
    }

    /// When something is due by the clock.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let due = [self.spell.retry(), Some(self.next), self.spool.next_turn()];
        due.into_iter().flatten().filter(|due| *due > now).min().filter(|_| self.spool.waiting() > 0)
    }

    fn over(&mut self, put: Result<Put, JoinError>) {
        let now = Instant::now();
        match put {
            Ok(Put { key, bytes, outcome: Outcome::Stored }) => self.stored(&key, bytes, now),
            Ok(Put { key, outcome: Outcome::Vanished, .. }) => {
                warn!(key, "a file has vanished from the spool: no other process may use that directory");
                self.spool.lost(&key);
            }
            Ok(Put { key, outcome: Outcome::Failed(error), .. }) => self.failed(&key, &error, now),
            // A bug in a store ends the drain, as if it had happened here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn stored(&mut self, key: &str, bytes: u64, now: Instant) {
        debug!(key, bytes, "stored from the spool");
        self.spool.stored(key);
        self.spool.taken(now);
        self.metrics.store_drained.inc();
        self.spell.succeeded(now);
        let ebb = self.ebb.get_or_insert_with(|| {
            let objects = self.spool.waiting().saturating_add(1);
            info!(objects, "what waits in the spool goes to the store");
            Ebb { began: now, objects: 0, bytes: 0 }
        });
        (ebb.objects, ebb.bytes) = (ebb.objects.saturating_add(1), ebb.bytes.saturating_add(bytes));
        if self.spool.waiting() == 0
            && let Some(Ebb { began, objects, bytes }) = self.ebb.take()
        {
            let seconds = now.duration_since(began).as_secs();
            info!(objects, bytes, seconds, "the store has all that waited in the spool");
        }
    }

    /// The object has its turn again later, so that one that the store never takes holds nothing up. That the store fails is
    /// said by the uploaders.
    fn failed(&mut self, key: &str, error: &StoreError, now: Instant) {
        debug!(key, %error, "not stored from the spool");
        self.metrics.store_errors.get_or_create(&KindLabel { kind: error.kind() }).inc();
        let refusals = self.spool.refused(key, now);
        let news = u64::from(refusals == Some(REFUSALS_TOLD));
        if let Some(objects) = self.never_taken.tell(news, now).filter(|_| news > 0) {
            warn!(
                objects, key, %error,
                "the store takes other objects from the spool and not these, of which this is the last; they are tried again and again"
            );
        }
        self.spell.failed(now, random(), &error.to_string());
    }
}

/// How long so many bytes last at so many bits a second.
fn time_of(bytes: u64, bitrate: u64) -> Duration {
    let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(bitrate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// One put hides the other's wait for its answer. An uploader has six: where the uplink is full, what is live gets most of it.
const PUTS_MAX: usize = 2;

/// Refusals of one object after which it is spoken of.
const REFUSALS_TOLD: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        assert_eq!(time_of(1_250_000, 10_000_000), Duration::from_secs(1));
        assert_eq!(time_of(u64::MAX, 1), Duration::from_nanos(u64::MAX));
        assert_eq!(time_of(1_250_000, 30_000_000), Duration::from_nanos(333_333_333));
    }
}
