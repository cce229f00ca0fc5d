//! Copies in memory, and of media on a disk where there is one: each thing is fetched once however many ask, what never changes is kept as long as there is room, and where
//! nothing newer can be had a playlist is given out for a while longer.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{Content, Copy, Disk, Found, Lack};
use crate::caching::Cache;
use crate::layout::Resource;

/// What copies may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of memory, for media; an eighth of it more for all else. What was not asked for lately makes room.
    pub bytes_max: u64,
    /// How old a playlist may be that is given out because nothing newer can be had.
    pub stale_max: Duration,
}

/// The copies. Clones share them.
#[derive(Clone, Debug)]
pub struct Copies {
    limits: Limits,
    media: Moka<String, Kept>,
    /// Playlists, and that there is nothing: however much is asked for that there is not, it takes no room from segments.
    other: Moka<String, Kept>,
    /// What is being fetched.
    flights: Arc<Mutex<Flights>>,
    tasks: TaskTracker,
    /// How often an old playlist took the place of a new one.
    stale: Counter,
    /// Where media is kept besides.
    disk: Option<Disk>,
}

type Flights = BTreeMap<String, watch::Sender<Option<Found>>>;

/// An answer, which may be that there is nothing.
#[derive(Clone, Debug)]
struct Kept {
    found: Found,
    /// From then on it is to be fetched anew; never where none is given.
    until: Option<Instant>,
}

impl Copies {
    /// None yet. `stale` counts how often an old playlist is kept on, as nothing newer can be had.
    #[must_use]
    pub fn new(limits: Limits, stale: Counter) -> Self {
        let (media, other) = (limits.bytes_max, limits.bytes_max / 8);
        let [media, other] = [media, other].map(|bytes_max| {
            // By what was asked for last, not by how often: the newest segment is worth more than one that was popular.
            Moka::builder()
                .max_capacity(bytes_max)
                .weigher(|key: &String, kept: &Kept| u32::try_from(kept.bytes() + key.len()).unwrap_or(u32::MAX))
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(Spent { stale_max: limits.stale_max })
                .build()
        });
        Self { limits, media, other, flights: Arc::default(), tasks: TaskTracker::new(), stale, disk: None }
    }

    /// The same, which keep segments and their initialisation segments on this disk too.
    #[must_use]
    pub fn with_disk(self, disk: Option<Disk>) -> Self {
        Self { disk, ..self }
    }

    /// The copy of `key`, where it is not too old.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<Found> {
        let now = Instant::now();
        self.kept(key).filter(|kept| !kept.is_over(now)).map(|kept| kept.found)
    }

    /// The copy of `key`; where there is none, or it is too old, what `load` gives. Others who ask meanwhile wait for the same, and
    /// `load` goes on until it is done or nobody waits any more, whoever asked first.
    pub async fn get(&self, key: String, load: impl Future<Output = Found> + Send + 'static) -> Found {
        if let Some(found) = self.peek(&key) {
            return found;
        }
        let mut flight = match self.board(key, load) {
            Ok(flight) => flight,
            Err(found) => return found,
        };
        let landed = flight.wait_for(Option::is_some).await.map(|found| (*found).clone());
        // A bug ended it.
        landed.ok().flatten().unwrap_or(Err(Lack::Failing))
    }

    /// The flight that fetches `key`: one that is on its way, or a new one. What has landed in this instant is given as it is.
    fn board(
        &self,
        key: String,
        load: impl Future<Output = Found> + Send + 'static,
    ) -> Result<watch::Receiver<Option<Found>>, Found> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.subscribe());
        }
        // What is found is kept before its flight leaves the board.
        if let Some(found) = self.peek(&key) {
            return Err(found);
        }
        let (flight, passenger) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        drop(flights);
        let (copies, on_disk) = (self.clone(), self.clone().by_way_of_disk(key.clone(), load));
        let fly = async move {
            let _end = End { copies: &copies, key: &key, flight: &flight };
            let mut load = pin!(on_disk);
            loop {
                tokio::select! {
                    found = load.as_mut() => {
                        let found = copies.keep(&key, found);
                        flight.send_replace(Some(found));
                        return;
                    }
                    () = flight.closed() => {}
                }
                if copies.is_left(&key, &flight) {
                    return;
                }
            }
        };
        self.tasks.spawn(fly.in_current_span());
        Ok(passenger)
    }

    /// What the disk has of `key`; else what `load` gives, of which the disk is given what it keeps.
    async fn by_way_of_disk(self, key: String, load: impl Future<Output = Found>) -> Found {
        // The same thing has one name, whoever is asked for it.
        let path = key.trim_start_matches('/');
        let (Some(disk), Some(resource)) = (&self.disk, kept_on_disk(path)) else { return load.await };
        if let Some(data) = disk.read(path).await {
            return Ok(Arc::new(Copy::new(&resource, data, Cache::Immutable, None)));
        }
        let found = load.await;
        if let Ok(copy) = &found
            && copy.cache == Cache::Immutable
        {
            disk.keep(path, copy.data());
        }
        found
    }

    /// Nobody waits for this flight any more, and nobody will: it is off the board.
    fn is_left(&self, key: &str, flight: &watch::Sender<Option<Found>>) -> bool {
        let mut flights = self.flights();
        // Somebody may have come in between.
        let left = flight.receiver_count() == 0;
        if left {
            flights.remove(key);
        }
        left
    }

    /// Keeps what was found, or gives what was there before in its place.
    fn keep(&self, key: &str, found: Found) -> Found {
        let old = self.kept(key).and_then(|kept| kept.found.ok());
        let kept = Kept::new(renew(found, old, self.limits.stale_max));
        let is_media = kept.found.as_ref().is_ok_and(|copy| matches!(copy.content, Content::Media(_)));
        if kept.found.as_ref().is_ok_and(|copy| copy.stale) {
            self.stale.inc();
        }
        let pool = if is_media { &self.media } else { &self.other };
        pool.insert(key.to_owned(), kept.clone());
        kept.found
    }

    fn kept(&self, key: &str) -> Option<Kept> {
        self.media.get(key).or_else(|| self.other.get(key))
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the board when it ends, however it does.
struct End<'a> {
    copies: &'a Copies,
    key: &'a str,
    flight: &'a watch::Sender<Option<Found>>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut flights = self.copies.flights();
        // Another may have begun in its place.
        if flights.get(self.key).is_some_and(|flight| flight.same_channel(self.flight)) {
            flights.remove(self.key);
        }
    }
}

/// What is under this path, where it never changes and may be asked for for long: of parts their segment is.
fn kept_on_disk(path: &str) -> Option<Resource> {
    let (_, resource) = Resource::parse(path)?;
    let lasting = matches!(resource, Resource::Init(..) | Resource::Segment(..) | Resource::TsSegment(..));
    lasting.then_some(resource)
}

/// What takes the place of `old`.
fn renew(found: Found, old: Option<Arc<Copy>>, stale_max: Duration) -> Found {
    let usable = |old: &Arc<Copy>| matches!(old.content, Content::Text(_)) && old.fetched.elapsed() < stale_max;
    match (found, old.filter(usable)) {
        (Err(Lack::Failing), Some(old)) => Ok(Arc::new(Copy { stale: true, cache: Cache::EDGE, ..(*old).clone() })),
        (found, _) => found,
    }
}

impl Kept {
    fn new(found: Found) -> Self {
        let until = fresh_for(&found).map(|time| Instant::now() + time);
        Self { found, until }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn bytes(&self) -> usize {
        self.found.as_ref().map_or(0, |copy| copy.data().len()).saturating_add(OVERHEAD_BYTES)
    }
}

/// How long an answer is kept. Of a playlist half the time that others may keep it: a copy of a copy is to be hardly older than a copy.
fn fresh_for(found: &Found) -> Option<Duration> {
    match found {
        Ok(copy) if copy.stale => Some(AGAIN),
        Ok(copy) => match copy.cache {
            Cache::Immutable => None,
            Cache::Seconds(seconds) => Some(Duration::from_secs(seconds.into()) / 2),
            Cache::Never => Some(Duration::ZERO),
        },
        // Who waited together for what did not come is told so, and nobody else.
        Err(Lack::Busy) => Some(Duration::ZERO),
        Err(_) => Some(AGAIN),
    }
}

/// When what is kept is of no use any more.
struct Spent {
    stale_max: Duration,
}

impl Expiry<String, Kept> for Spent {
    fn expire_after_create(&self, _: &String, kept: &Kept, _: std::time::Instant) -> Option<Duration> {
        let fresh = fresh_for(&kept.found)?;
        let text = kept.found.as_ref().is_ok_and(|copy| matches!(copy.content, Content::Text(_)));
        Some(if text { fresh + self.stale_max } else { fresh })
    }

    fn expire_after_update(
        &self,
        key: &String,
        kept: &Kept,
        at: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, kept, at)
    }
}

/// How long nobody asks again for what is not there, or cannot be had.
const AGAIN: Duration = Duration::from_secs(1);

/// About what a copy takes besides its bytes and its key.
const OVERHEAD_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const LIMITS: Limits = Limits { bytes_max: 1 << 20, stale_max: Duration::from_secs(30) };

    fn playlist(text: &'static str, cache: Cache) -> Found {
        Ok(Arc::new(Copy::new(&Resource::Multivariant, Bytes::from_static(text.as_bytes()), cache, None)))
    }

    fn text(found: &Found) -> String {
        String::from_utf8_lossy(found.as_ref().unwrap().data()).into_owned()
    }

    /// Something that takes three seconds to be fetched, and how often that is begun.
    async fn slow(fetches: Arc<AtomicUsize>) -> Found {
        fetches.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(3)).await;
        playlist("it", Cache::Seconds(2))
    }

    async fn get(copies: &Copies, found: Found) -> Found {
        copies.get("key".to_owned(), async move { found }).await
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_each_thing_is_fetched_once() {
        let (copies, fetches) = (Copies::new(LIMITS, Counter::default()), Arc::new(AtomicUsize::new(0)));
        let mut asking = JoinSet::new();
        for _ in 0..100 {
            let (copies, fetches) = (copies.clone(), Arc::clone(&fetches));
            asking.spawn(async move { copies.get("key".to_owned(), slow(fetches)).await });
        }
        assert!(asking.join_all().await.iter().all(|found| text(found) == "it"));
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        // It is kept for half of what is said.
        advance(Duration::from_millis(999)).await;
        assert_eq!(text(&get(&copies, playlist("new", Cache::EDGE)).await), "it");
        advance(Duration::from_millis(1)).await;
        assert_eq!(text(&get(&copies, playlist("new", Cache::EDGE)).await), "new");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_has_just_landed_is_not_fetched_again() {
        let copies = Copies::new(LIMITS, Counter::default());
        for key in 0..2_000 {
            let fetches = Arc::new(AtomicUsize::new(0));
            let mut asking = JoinSet::new();
            for _ in 0..4 {
                let (copies, fetches) = (copies.clone(), Arc::clone(&fetches));
                let load = async move {
                    fetches.fetch_add(1, Ordering::Relaxed);
                    playlist("it", Cache::Immutable)
                };
                asking.spawn(async move { copies.get(key.to_string(), load).await });
            }
            assert!(asking.join_all().await.iter().all(Result::is_ok));
            assert_eq!(fetches.load(Ordering::Relaxed), 1, "{key}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_go_away_take_nothing_from_the_others() {
        let (copies, fetches) = (Copies::new(LIMITS, Counter::default()), Arc::new(AtomicUsize::new(0)));
        let ask = || copies.get("key".to_owned(), slow(Arc::clone(&fetches)));
        let survivor = async {
            sleep(Duration::from_millis(500)).await;
            ask().await
        };
        let leave = async {
            for _ in 0..500 {
                assert!(timeout(Duration::from_millis(2), ask()).await.is_err());
            }
        };
        let first = timeout(Duration::from_secs(1), ask());
        let (found, (), left) = tokio::join!(survivor, leave, first);
        assert!(left.is_err());
        assert_eq!((text(&found), fetches.load(Ordering::Relaxed)), ("it".to_owned(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_not_fetched_to_the_end() {
        let (copies, fetches) = (Copies::new(LIMITS, Counter::default()), Arc::new(AtomicUsize::new(0)));
        assert!(
            timeout(Duration::from_secs(1), copies.get("key".to_owned(), slow(Arc::clone(&fetches)))).await.is_err()
        );
        sleep(Duration::from_millis(1)).await;
        assert!(copies.peek("key").is_none() && copies.flights().is_empty());
        assert_eq!(text(&get(&copies, playlist("next", Cache::EDGE)).await), "next");
        assert!(copies.flights().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_playlist_is_better_than_none_for_a_while() {
        let copies = Copies::new(LIMITS, Counter::default());
        assert!(get(&copies, playlist("old", Cache::EDGE)).await.is_ok());
        advance(Duration::from_secs(20)).await;
        let stale = get(&copies, Err(Lack::Failing)).await.unwrap();
        assert!(stale.stale && stale.cache == Cache::EDGE);
        assert_eq!(copies.stale.get(), 1);
        // It does not become younger by being given out.
        advance(Duration::from_secs(10)).await;
        assert_eq!(get(&copies, Err(Lack::Failing)).await.unwrap_err(), Lack::Failing);
        // And what is known to be gone is gone at once.
        advance(Duration::from_secs(1)).await;
        assert!(get(&copies, playlist("new", Cache::EDGE)).await.is_ok());
        advance(Duration::from_secs(1)).await;
        assert_eq!(get(&copies, Err(Lack::Absent)).await.unwrap_err(), Lack::Absent);
        assert_eq!(get(&copies, playlist("again", Cache::EDGE)).await.unwrap_err(), Lack::Absent, "for a second");
    }

    #[tokio::test]
    async fn what_was_asked_for_last_is_kept_however_popular_the_rest_is() {
        let copies = Copies::new(Limits { bytes_max: 100_000, ..LIMITS }, Counter::default());
        let segment = Resource::parse("live/a/b/1/1.m4s").unwrap().1;
        for key in 0..50 {
            let copy = Copy::new(&segment, Bytes::from(vec![0; 30_000]), Cache::Immutable, None);
            copies.get(key.to_string(), async { Ok(Arc::new(copy)) }).await.unwrap();
            copies.media.run_pending_tasks();
            assert!(copies.media.weighted_size() <= 100_000, "{}", copies.media.weighted_size());
            for _ in 0..20 {
                assert!(copies.peek(&key.to_string()).is_some());
            }
            // However much is asked for that there is not.
            for none in 0..100 {
                copies.get(format!("{key} {none}"), async { Err(Lack::Absent) }).await.unwrap_err();
            }
        }
        assert_eq!(copies.media.entry_count(), 3);
    }
}
