//! The spool: objects on local disk that the store does not take at present. They outlive this process.
//!
//! Uploaders keep in it what they cannot put in time, and let go of what they will not put any more; [`drain`] brings that to
//! the store when it is back. It holds media alone, of which a key has one content for ever: whoever has the channel by then,
//! and whether there still is such a channel, it does no harm to put it.
//!
//! [`drain`]: super::drain()

mod index;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::goal::media_object;
use super::{FileStore, Object, Store as _, StoreError};
use crate::config::SpoolConfig;
use crate::layout::Resource;
use crate::metrics::Metrics;
use crate::seldom::{Seldom, TELL_EACH};
use crate::source::ChannelName;
pub(super) use index::Waiting;
use index::{Admission, Depth, Index};

/// The spool of a process; clones are the same one.
#[derive(Clone, Debug)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    files: FileStore,
    /// Never held across a wait.
    state: Mutex<State>,
    /// Something may go to the store, or is to be deleted.
    changed: Notify,
    bytes_max: u64,
    drain_bitrate: u64,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    index: Index,
    given_up: Seldom,
    too_large: Seldom,
    /// Writing fails, and that was said; when it failed last.
    failed: Option<Instant>,
    /// Giving up others did not make room on the disk: nothing is given up for that before.
    useless_until: Option<Instant>,
}

impl Spool {
    /// Opens the spool of this configuration, with what a process before this one left in it.
    ///
    /// # Errors
    /// [`StoreError::Config`] where the directory cannot be made or read.
    pub async fn open(config: &SpoolConfig, metrics: Metrics) -> Result<Self, StoreError> {
        let files = FileStore::open(&config.path).await?;
        // What stays takes room; that the disk takes nothing is said below.
        drop(files.remove_unfinished().await);
        let mut found = files.list_all("live/").await?;
        found.retain(|listed| Resource::parse(&listed.key).is_some_and(|(_, resource)| !resource.is_text()));
        found.sort_by_key(|listed| listed.modified);
        let mut index = Index::new(config.bytes_max);
        found.iter().for_each(|listed| index.found(&listed.key, listed.bytes));
        let excess = index.give_up_excess();
        let spool = Self {
            inner: Arc::new(Inner {
                path: config.path.clone(),
                files,
                state: Mutex::new(State {
                    index,
                    given_up: Seldom::default(),
                    too_large: Seldom::default(),
                    failed: None,
                    useless_until: None,
                }),
                changed: Notify::new(),
                bytes_max: config.bytes_max,
                drain_bitrate: config.drain_bitrate,
                metrics,
            }),
        };
        spool.delete_given_up(excess).await;
        let Depth { objects, bytes } = spool.update(|index| index.depth());
        if objects > 0 {
            info!(objects, bytes, path = %config.path.display(), "what a process before this one could not store waits in the spool");
        }
        spool.try_out().await;
        Ok(spool)
    }

    /// So that the operator hears of a disk that takes nothing before the store fails.
    async fn try_out(&self) {
        let tried = self.inner.files.probe().await;
        self.tell(tried.as_ref().err());
    }

    /// Keeps an object until [`Spool::stored`]; its uploader goes on trying to put it until [`Spool::release`]. Where there is no
    /// room the oldest objects are given up for it. False where it cannot be kept, which the operator is told of.
    pub(super) async fn keep(&self, object: Object) -> bool {
        let (key, bytes) = (object.key.clone(), u64::try_from(object.data.len()).unwrap_or(u64::MAX));
        match self.update(|index| index.admit(&key, bytes)) {
            Admission::Known => return true,
            Admission::TooLarge => {
                self.tell_too_large(bytes);
                return false;
            }
            Admission::Write(given_up) => self.delete_given_up(given_up).await,
        }
        let written = self.write(object, bytes).await;
        self.tell(written.as_ref().err());
        self.update(|index| index.written(&key, written.is_ok()));
        if written.is_ok() {
            self.inner.metrics.store_spooled.inc();
        }
        written.is_ok()
    }

    /// Where the disk itself is full, others are given up as well; not all of them, should that not help.
    async fn write(&self, object: Object, bytes: u64) -> Result<(), StoreError> {
        let is_useful = self.state(|state| state.useless_until.is_none_or(|until| until <= Instant::now()));
        let mut written = self.inner.files.put(object.clone()).await;
        for _ in 0..ROOM_TRIES {
            if !is_useful || !matches!(written, Err(StoreError::Full(_))) {
                return written;
            }
            let given_up = self.update(|index| index.give_up(bytes.max(1)));
            self.delete_given_up(given_up).await;
            written = self.inner.files.put(object.clone()).await;
        }
        if matches!(written, Err(StoreError::Full(_))) {
            self.state(|state| state.useless_until = Instant::now().checked_add(USELESS_FOR));
        }
        written
    }

    /// The uploader does not put the object any more: it goes to the store from here. False where it was given up for want of
    /// room meanwhile.
    pub(super) fn release(&self, key: &str) -> bool {
        let waits = self.update(|index| index.release(key));
        self.inner.changed.notify_one();
        waits
    }

    /// The object is in the store.
    pub(super) fn stored(&self, key: &str) {
        self.update(|index| index.stored(key));
        self.inner.changed.notify_one();
    }

    /// How many objects of a channel wait.
    pub(super) fn of(&self, channel: &ChannelName) -> Waiting {
        self.state(|state| state.index.of(channel))
    }

    /// How many objects wait.
    pub(super) fn waiting(&self) -> u64 {
        self.state(|state| state.index.depth().objects)
    }

    /// Bits a second at which objects may go to the store.
    pub(super) fn drain_bitrate(&self) -> u64 {
        self.inner.drain_bitrate
    }

    /// The object that is to go to the store now, and its bytes.
    pub(super) fn go(&self, now: Instant) -> Option<(String, u64)> {
        self.update(|index| index.go(now))
    }

    /// The object of this key, from the disk.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) async fn read(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let Some((_, resource)) = Resource::parse(key) else { return Ok(None) };
        let data: Option<Bytes> = self.inner.files.get(key).await?;
        Ok(data.map(|data| media_object(key.to_owned(), &resource, data)))
    }

    /// The store has taken an object at `now`, from here or from an uploader: what it refuses it does not refuse for want of a store.
    pub(super) fn taken(&self, now: Instant) {
        self.state(|state| state.index.taken(now));
    }

    /// The store has refused an object at `now`; it has its turn again later. How often it was refused, where others were taken since
    /// the first time.
    pub(super) fn refused(&self, key: &str, now: Instant) -> Option<u32> {
        self.update(|index| index.refused(key, now))
    }

    /// The object's file has vanished: somebody else took it.
    pub(super) fn lost(&self, key: &str) {
        self.inner.metrics.store_spool_dropped.inc();
        self.update(|index| index.lost(key));
    }

    /// When an object that was refused has its turn again.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        self.state(|state| state.index.next_turn())
    }

    /// Something may be different. Cancel safe.
    pub(super) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// Deletes the files of what is in the store. One that stays does no harm: it is put once more after the next start.
    pub(super) async fn delete_stored(&self) {
        let stored = self.update(Index::take_doomed);
        self.delete(&stored).await;
    }

    async fn delete_given_up(&self, keys: Vec<String>) {
        let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return;
        }
        self.inner.metrics.store_spool_dropped.inc_by(count);
        if let Some(objects) = self.state(|state| state.given_up.tell(count, Instant::now())) {
            let (path, bytes_max) = (self.inner.path.display(), self.inner.bytes_max);
            warn!(
                objects,
                %path,
                bytes_max,
                "the spool is full: the oldest objects were given up for newer ones, and the store will lack them. Mend the store, \
                 or raise store.spool.max_size and free space on that disk"
            );
        }
        self.delete(&keys).await;
    }

    async fn delete(&self, keys: &[String]) {
        if let Err(error) = self.inner.files.delete(keys).await {
            self.tell(Some(&error));
        }
    }

    /// Says once that nothing can be written, and once that for a while everything could.
    fn tell(&self, error: Option<&StoreError>) {
        let (now, path) = (Instant::now(), self.inner.path.display());
        let before = self.state(|state| match error {
            Some(_) => state.failed.replace(now),
            None => state.failed.take_if(|failed| *failed + TELL_EACH <= now),
        });
        match (error, before) {
            (Some(error), None) => warn!(
                "the spool {path} takes nothing: {}. What leaves the window while the store fails is lost",
                remedy(error)
            ),
            (None, Some(_)) => info!("the spool {path} takes segments again"),
            _ => {}
        }
    }

    fn tell_too_large(&self, bytes: u64) {
        if self.state(|state| state.too_large.tell(1, Instant::now())).is_some() {
            let (path, bytes_max) = (self.inner.path.display(), self.inner.bytes_max);
            warn!(
                bytes,
                bytes_max,
                "the spool {path} takes nothing: a segment is larger than all that may wait there; raise store.spool.max_size. \
                 What leaves the window while the store fails is lost"
            );
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        self.state(|state| {
            let result = change(&mut state.index);
            let Depth { objects, bytes } = state.index.depth();
            self.inner.metrics.store_spool_objects.set(objects.try_into().unwrap_or(i64::MAX));
            self.inner.metrics.store_spool_bytes.set(bytes.try_into().unwrap_or(i64::MAX));
            result
        })
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.inner.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What failed on local disk, and what to do: what is said of a store does not fit.
fn remedy(error: &StoreError) -> String {
    match error {
        StoreError::Full(at) => {
            format!(
                "its disk is full: {at}; free space or inodes (df -h, df -i), or set store.spool.path to another disk"
            )
        }
        StoreError::ReadOnly(at) => format!(
            "it may not be written to: {at}; mount it writable and give this user the right to write, or set store.spool.path to \
             another directory"
        ),
        other => other.to_string(),
    }
}

/// How often as much as an object needs is given up for it on a disk that is full.
const ROOM_TRIES: usize = 3;

/// Where that made no room, because the disk is full of other things, nothing is given up again for so long.
const USELESS_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
