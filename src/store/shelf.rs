//! What a store has, for those who only read: copies of its objects, and what is said where it cannot be asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{Store, probe_object};
use crate::archive::{Archive, Copies, Copy, Disk, Found, Lack, Limits, Wanted};
use crate::caching::Cache;
use crate::layout::Resource;
use crate::metrics::{KindLabel, Metrics};

/// The objects of a store.
#[derive(Debug)]
pub struct Shelf {
    reader: Arc<Reader>,
    copies: Copies,
}

/// Asks the store.
#[derive(Debug)]
struct Reader {
    store: Arc<dyn Store>,
    /// Bounds the requests that are on their way.
    requests: Semaphore,
    health: Mutex<Health>,
    metrics: Metrics,
}

/// How the store does.
#[derive(Debug, Default)]
struct Health {
    /// Requests that failed since the last that did not.
    failures: u32,
    /// The last of them, and why.
    last: Option<(Instant, String)>,
}

impl Shelf {
    /// Of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, limits: Limits, metrics: Metrics) -> Self {
        let (requests, health) = (Semaphore::new(REQUESTS_MAX), Mutex::default());
        let stale = metrics.archive_fetches.get_or_create(&KindLabel { kind: "stale" }).clone();
        let reader = Arc::new(Reader { store, requests, health, metrics });
        Self { reader, copies: Copies::new(limits, stale) }
    }

    /// The same, which keeps media on this disk too.
    #[must_use]
    pub fn with_disk(self, disk: Option<Disk>) -> Self {
        Self { copies: self.copies.with_disk(disk), ..self }
    }
}

impl Reader {
    async fn load(self: Arc<Self>, key: String, resource: Resource) -> Found {
        let data = self.read(&key).await?.ok_or(Lack::Absent)?;
        let cache = if resource.is_text() { Cache::EDGE } else { Cache::Immutable };
        Ok(Arc::new(Copy::new(&resource, data, cache, None)))
    }

    /// An object, within [`PATIENCE`] for the store and as long for the wait for its turn; none where there is none.
    async fn read(&self, key: &str) -> Result<Option<Bytes>, Lack> {
        // That many ask does not tell how the store does.
        let Ok(Ok(_turn)) = timeout(PATIENCE, self.requests.acquire()).await else { return Err(Lack::Busy) };
        let patience = PATIENCE.as_secs();
        let answer = timeout(PATIENCE, self.get(key)).await;
        let outcome = answer.unwrap_or_else(|_| Err(format!("the store did not answer within {patience} s")));
        let kind = if outcome.is_ok() { "store" } else { "store_failed" };
        self.metrics.archive_fetches.get_or_create(&KindLabel { kind }).inc();
        self.tell(outcome.as_ref().err());
        outcome.map_err(|_| Lack::Failing)
    }

    /// Asks once more where that may help: a store under load refuses a request now and then.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, String> {
        match self.store.get(key).await {
            Err(error) if error.may_pass() => {
                sleep(PAUSE).await;
                self.store.get(key).await
            }
            answer => answer,
        }
        .map_err(|error| error.to_string())
    }

    /// Says when the store begins to fail, which one request does not tell, and when it is back.
    fn tell(&self, error: Option<&String>) {
        let mut health = self.health();
        let before = health.failures;
        health.failures = error.map_or(0, |_| before.saturating_add(1));
        health.last = error.map(|error| (Instant::now(), error.clone()));
        match error {
            Some(error) if before.saturating_add(1) == FAILURES_TOLD => {
                warn!("what is in the store cannot be served: {error}");
            }
            None if before >= FAILURES_TOLD => info!("the store can be read again"),
            _ => {}
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Archive for Shelf {
    fn peek(&self, wanted: Wanted<'_>) -> Option<Found> {
        // Those are never stored.
        if matches!(wanted.resource, Resource::Part(..) | Resource::Thumbnail) {
            return Some(Err(Lack::Absent));
        }
        self.copies.peek(&wanted.resource.path(wanted.channel))
    }

    /// A store waits for nothing: directives are left out of account, as by any server that does not offer to block.
    async fn fetch(&self, wanted: Wanted<'_>) -> Found {
        if let Some(found) = self.peek(wanted) {
            return found;
        }
        let key = wanted.resource.path(wanted.channel);
        let load = Arc::clone(&self.reader).load(key.clone(), wanted.resource.clone());
        self.copies.get(key, load).await
    }

    async fn listing(&self) -> Option<Bytes> {
        None
    }

    async fn failing(&self) -> Option<String> {
        let old = |at: &Instant| at.elapsed() >= HEALTH_FOR;
        // Where nobody is sent, nobody asks.
        let unsure = self.reader.health().last.as_ref().is_some_and(|(at, _)| old(at));
        if unsure {
            drop(self.reader.read(&probe_object().key).await);
        }
        let health = self.reader.health();
        health.last.as_ref().filter(|_| health.failures >= FAILURES_TOLD).map(|(_, why)| why.clone())
    }
}

/// Requests to the store at one time. Further ones wait.
const REQUESTS_MAX: usize = 64;

/// For one request, and for the wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before a second try.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests in a row that make a store one that fails.
const FAILURES_TOLD: u32 = 2;

/// How long a failure tells of the store.
const HEALTH_FOR: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::time::advance;
    use tracing::Level;

    use super::super::scripted::{Outcome, Request, ScriptedStore};
    use super::super::{Object, small_object};
    use super::*;
    use crate::archive::Content;
    use crate::captured_log::capture;

    const LIMITS: Limits = Limits { bytes_max: 1 << 20, stale_max: Duration::from_secs(60) };

    /// A store that can be made to fail, and how often it was read.
    async fn shelf() -> (Shelf, Arc<AtomicBool>, Arc<AtomicUsize>) {
        let (broken, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (fails, counted) = (Arc::clone(&broken), Arc::clone(&reads));
        let store = ScriptedStore::new(move |request| {
            if matches!(request, Request::Get) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            match fails.load(Ordering::Relaxed) {
                true => Outcome::Refused(Duration::from_millis(20)),
                false => Outcome::Done(Duration::from_millis(20)),
            }
        });
        store.put(small_object("live/demo/720p/1/1.m4s")).await.unwrap();
        let data = Bytes::from_static(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n");
        store.put(Object { data, ..small_object("live/demo/720p/index.m3u8") }).await.unwrap();
        (Shelf::new(store, LIMITS, Metrics::default()), broken, reads)
    }

    async fn fetch(shelf: &Shelf, path: &str) -> Found {
        let (channel, resource) = Resource::parse(&format!("live/demo/{path}")).unwrap();
        shelf.fetch(Wanted { channel: &channel, resource: &resource, directives: None }).await
    }

    #[tokio::test(start_paused = true)]
    async fn media_is_read_once_and_what_is_not_there_once_a_second() {
        let (shelf, _, reads) = shelf().await;
        for _ in 0..3 {
            let segment = fetch(&shelf, "720p/1/1.m4s").await.unwrap();
            assert!(matches!(segment.content, Content::Media(_)) && segment.cache == Cache::Immutable);
            advance(Duration::from_secs(60)).await;
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        for _ in 0..4 {
            assert_eq!(fetch(&shelf, "720p/1/2.m4s").await.unwrap_err(), Lack::Absent);
            advance(Duration::from_millis(500)).await;
        }
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        for never in ["720p/1/2.0.m4s", "thumb.jpg"] {
            assert_eq!(fetch(&shelf, never).await.unwrap_err(), Lack::Absent);
        }
        assert_eq!(reads.load(Ordering::Relaxed), 3, "those are not in a store");
    }

    #[tokio::test(start_paused = true)]
    async fn that_many_ask_is_no_failure_of_the_store() {
        let (log, _guard) = capture(Level::WARN);
        let store = ScriptedStore::new(|_| Outcome::Done(Duration::from_millis(9_900)));
        let shelf = Arc::new(Shelf::new(store, LIMITS, Metrics::default()));
        let mut asking = tokio::task::JoinSet::new();
        for msn in 0..3 * REQUESTS_MAX {
            let shelf = Arc::clone(&shelf);
            asking.spawn(async move { fetch(&shelf, &format!("720p/1/{msn}.m4s")).await.unwrap_err() });
        }
        let answers = asking.join_all().await;
        let busy = answers.iter().filter(|answer| **answer == Lack::Busy).count();
        let absent = answers.iter().filter(|answer| **answer == Lack::Absent).count();
        assert_eq!((busy, absent), (REQUESTS_MAX, 2 * REQUESTS_MAX));
        assert_eq!((log.text().as_str(), shelf.failing().await), ("", None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_leaves_old_playlists_and_says_so() {
        let (shelf, broken, reads) = shelf().await;
        assert!(!fetch(&shelf, "720p/index.m3u8").await.unwrap().stale);
        broken.store(true, Ordering::Relaxed);
        advance(Duration::from_secs(2)).await;
        assert!(fetch(&shelf, "720p/index.m3u8").await.unwrap().stale);
        assert_eq!(reads.load(Ordering::Relaxed), 3, "it is asked once more");
        assert_eq!(shelf.failing().await, None, "once is nothing");
        assert_eq!(fetch(&shelf, "720p/1/1.m4s").await.unwrap_err(), Lack::Failing);
        assert!(shelf.failing().await.unwrap().contains("fewer requests"));
        broken.store(false, Ordering::Relaxed);
        // Nobody asks any more, but whether it is ready.
        advance(Duration::from_secs(1)).await;
        assert_eq!(shelf.failing().await, None);
        advance(Duration::from_secs(1)).await;
        assert!(!fetch(&shelf, "720p/index.m3u8").await.unwrap().stale);
    }
}
