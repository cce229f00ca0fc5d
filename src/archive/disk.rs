//! Copies on a disk: media that was fetched, found again after a restart. It is a cache: whatever goes wrong with it costs a fetch,
//! and nothing else.
//!
//! A file is written beside its place and renamed, and holds at its end the hash of what it is the copy of and of its bytes. It is
//! not synced: after a power cut some files are torn, and one that is torn is found out and removed by who reads it.

mod index;

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use index::{Index, Name};

/// The copies on a disk. Clones share them.
#[derive(Clone, Debug)]
pub struct Disk {
    shelf: Arc<Shelf>,
    /// What is to be written. When it is full, as when the disk is slow, more is not kept: nobody waits for it.
    queue: mpsc::Sender<(String, Bytes)>,
}

/// Who writes them.
#[derive(Debug)]
pub struct Keeper {
    shelf: Arc<Shelf>,
    queue: mpsc::Receiver<(String, Bytes)>,
}

/// Where copies are.
#[derive(Debug)]
struct Shelf {
    path: PathBuf,
    bytes_max: u64,
    index: Mutex<Index>,
    /// Bounds the files that are read at a time; more are fetched instead. A disk that hangs holds up so many threads at most.
    reads: Arc<Semaphore>,
    failing: AtomicBool,
    /// How often a copy was read.
    found: Counter,
}

impl Disk {
    /// Copies below the directory `path`, of at most so many bytes. `found` counts those that are read. Nothing is done before the
    /// keeper runs, but to read.
    #[must_use]
    pub fn new(path: PathBuf, bytes_max: u64, found: Counter) -> (Self, Keeper) {
        let (reads, failing) = (Arc::new(Semaphore::new(READS_MAX)), AtomicBool::new(false));
        let shelf = Arc::new(Shelf { path, bytes_max, index: Mutex::default(), reads, failing, found });
        let (sender, queue) = mpsc::channel(WRITES_MAX);
        (Self { shelf: Arc::clone(&shelf), queue: sender }, Keeper { shelf, queue })
    }

    /// The copy of `key`, where there is one, and it is whole.
    pub(super) async fn read(&self, key: &str) -> Option<Bytes> {
        let name = Name::of(key);
        if self.shelf.index().lacks(name) {
            return None;
        }
        let turn = Arc::clone(&self.shelf.reads).try_acquire_owned().ok()?;
        let (shelf, key) = (Arc::clone(&self.shelf), key.to_owned());
        let read = spawn_blocking(move || {
            let _turn = turn;
            shelf.read(name, &key)
        });
        let found = timeout(PATIENCE, read).await.ok()?.ok()?;
        self.shelf.found.inc_by(found.is_some().into());
        found
    }

    /// Keeps `data` as the copy of `key`, soon.
    pub(super) fn keep(&self, key: &str, data: &Bytes) {
        if !self.shelf.index().has(Name::of(key)) && self.queue.try_send((key.to_owned(), data.clone())).is_err() {
            debug!(key, "the disk cache is behind, and does not keep it");
        }
    }
}

impl Keeper {
    /// Looks through what is there, and writes what is to be kept, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let work = async {
            // How much is there has to be known before there is more.
            while !self.open().await {
                sleep(PAUSE).await;
            }
            while let Some((key, data)) = self.queue.recv().await {
                let shelf = Arc::clone(&self.shelf);
                if !self.work(move || shelf.write(&key, &data)).await {
                    sleep(PAUSE).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn open(&self) -> bool {
        let shelf = Arc::clone(&self.shelf);
        self.work(move || shelf.open()).await
    }

    /// Does what blocks, and says when the disk begins to fail, and when it does so no longer.
    async fn work(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> bool {
        let outcome = spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let failing = outcome.is_err();
        let before = self.shelf.failing.swap(failing, Ordering::Relaxed);
        let path = self.shelf.path.display();
        match outcome {
            Err(error) if !before => {
                warn!("origin.disk_cache: {path} cannot be written, and nothing new is kept there: {error}");
            }
            Ok(()) if before => info!("origin.disk_cache: {path} can be written again"),
            _ => {}
        }
        !failing
    }
}

impl Shelf {
    /// Makes the directory, and learns what is in it.
    fn open(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let mut files = Vec::new();
        for directory in fs::read_dir(&self.path)? {
            let directory = directory?.path();
            if Name::is_directory(&directory) && directory.is_dir() {
                survey(&directory, &mut files)?;
            }
        }
        files.sort_unstable();
        self.index().learn(files.into_iter().map(|(_, name, bytes)| (name, bytes)));
        self.make_room()?;
        let (count, bytes) = self.index().size();
        debug!("origin.disk_cache: {count} copies of {bytes} bytes are there");
        Ok(())
    }

    fn read(&self, name: Name, key: &str) -> Option<Bytes> {
        let path = name.below(&self.path);
        let outcome = fs::read(&path);
        let found = match outcome {
            Ok(data) => whole(key, data),
            // It is asked of others, who tell of their own faults; a disk that is broken is told of by who writes.
            Err(_) => None,
        };
        match &found {
            // Best effort: after a restart it is thought to have been used less lately than it was.
            Some(_) => drop(touch(&path)),
            None => drop(fs::remove_file(&path)),
        }
        self.index().used(name, found.is_some());
        found
    }

    fn write(&self, key: &str, data: &Bytes) -> io::Result<()> {
        let name = Name::of(key);
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX).saturating_add(HASH_BYTES);
        if bytes > self.bytes_max || self.index().has(name) {
            return Ok(());
        }
        let path = name.below(&self.path);
        let temporary = path.with_extension(format!("{}.{TEMPORARY}", std::process::id()));
        let directory = path.parent().unwrap_or(&self.path);
        let written = fs::create_dir_all(directory).and_then(|()| {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(data)?;
            file.write_all(&hash(key, data))?;
            fs::rename(&temporary, &path)
        });
        if written.is_err() {
            // Best effort: the error that is told is the first one.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        self.index().add(name, bytes);
        self.make_room()
    }

    /// Removes what was used longest ago, while there is more than may be.
    fn make_room(&self) -> io::Result<()> {
        loop {
            let Some(name) = self.index().pop_beyond(self.bytes_max) else { return Ok(()) };
            match fs::remove_file(name.below(&self.path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the copies in a directory, with when they were used last. What else is there is left alone, but for what was not written to
/// its end.
fn survey(directory: &Path, files: &mut Vec<(SystemTime, Name, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        match (Name::read(&path), entry.metadata()) {
            (Some(name), Ok(about)) if about.is_file() => files.push((about.modified()?, name, about.len())),
            (None, _) if path.extension().is_some_and(|kind| kind == TEMPORARY) => drop(fs::remove_file(&path)),
            _ => {}
        }
    }
    Ok(())
}

/// The bytes that were kept of `key`, where this is a file of them, and all of it.
fn whole(key: &str, data: Vec<u8>) -> Option<Bytes> {
    let data = Bytes::from(data);
    let end = data.len().checked_sub(usize::try_from(HASH_BYTES).unwrap_or(usize::MAX))?;
    let bytes = data.slice(..end);
    (data.slice(end..) == hash(key, &bytes)[..]).then_some(bytes)
}

fn hash(key: &str, data: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update("\n").chain_update(data).finalize().into()
}

fn touch(path: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the time of a file is the system's")]
    let now = SystemTime::now();
    fs::File::options().append(true).open(path)?.set_modified(now)
}

/// At the end of each file.
const HASH_BYTES: u64 = 32;

/// What the names of files end with that are being written.
const TEMPORARY: &str = "tmp";

/// Files that are read at a time.
const READS_MAX: usize = 32;

/// Copies that wait to be written: as a rule they are in memory anyway.
const WRITES_MAX: usize = 16;

/// For a file to be read; then it is fetched.
const PATIENCE: Duration = Duration::from_secs(1);

/// After a write that failed there is none for a while.
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
