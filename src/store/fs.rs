//! A store of files below a directory.
//!
//! A file is written beside its place under a name that no key has, synced, and renamed: a reader sees the old or the
//! new one. The data reaches the disk before the name does, so that even after a power cut no playlist names a
//! truncated segment; directories are not synced, because a journalling file system keeps the order of renames.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{At, Condition, Listed, Object, Store, StoreError, Version, key, probe_object};

/// Files below a directory.
#[derive(Debug)]
pub struct FileStore {
    root: Arc<Root>,
}

/// What the blocking threads share.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Makes the names of files that are being written unique.
    writes: AtomicU64,
}

impl FileStore {
    /// Opens the store at `path`, and makes the directory where there is none.
    ///
    /// # Errors
    /// [`StoreError::Config`] where it cannot be made or read.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let root = Arc::new(Root { path: path.to_owned(), writes: AtomicU64::new(0) });
        let at = |error: io::Error| {
            StoreError::Config(At { place: format!("directory {}", path.display()), detail: error.to_string() })
        };
        let opened = Arc::clone(&root);
        blocking(move || fs::create_dir_all(&opened.path).and_then(|()| fs::read_dir(&opened.path)).map(drop))
            .await
            .map_err(at)?;
        Ok(Self { root })
    }

    /// Removes what a process was writing when it was killed. Only where no other process writes.
    ///
    /// # Errors
    /// Where the directory cannot be read or written.
    pub(super) async fn remove_unfinished(&self) -> Result<(), StoreError> {
        let (root, place) = (Arc::clone(&self.root), self.root.path.display());
        blocking(move || remove_unfinished(&root.path)).await.map_err(|error| StoreError::from_io(place, &error))
    }

    /// All objects whose keys begin with `prefix`, which ends with a slash, in no order. What a process was writing below it a day
    /// ago was killed with it, and is removed.
    ///
    /// # Errors
    /// Where it cannot be known what there is.
    pub(super) async fn list_all(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let directory = prefix.trim_end_matches('/').to_owned();
        let name = directory.clone();
        self.run(&directory, move |_, path| {
            let mut found = Vec::new();
            walk(path, &name, &mut found)?;
            Ok(found)
        })
        .await
    }

    /// Runs a file operation on the path of `key`, on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Root, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        key::check(key)?;
        let path = self.root.path.join(key);
        let place = path.display().to_string();
        let root = Arc::clone(&self.root);
        blocking(move || work(&root, &path)).await.map_err(|error| StoreError::from_io(place, &error))
    }
}

#[async_trait]
impl Store for FileStore {
    async fn put(&self, object: Object) -> Result<(), StoreError> {
        self.run(&object.key, move |root, path| root.write(path, &object.data)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.run(key, |_, path| read(path)).await
    }

    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.run(key, |_, path| Ok(read(path)?.map(|data| (data.clone(), version(&data))))).await
    }

    /// Conditions are for what is written seldom: a lock on the whole store is held meanwhile, and there is no version of what is
    /// written without one. A write is waited for until it is done, so that none comes late.
    async fn put_if(&self, object: Object, condition: Condition) -> Result<Option<Version>, StoreError> {
        if matches!(condition, Condition::Any | Condition::Found) {
            return self.put(object).await.map(|()| None);
        }
        let place = self.root.path.join(&object.key).display().to_string();
        let written = self.run(&object.key, move |root, path| root.write_if(path, &object.data, &condition)).await?;
        let changed = || StoreError::Changed(At { place, detail: "its text is another one".to_owned() });
        written.map(Some).ok_or_else(changed)
    }

    async fn is_conditional(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            self.run(key, |root, path| root.remove(path)).await?;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let mut found = self.list_all(prefix).await?;
        found.retain(|listed| after.is_none_or(|after| listed.key.as_str() > after));
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        found.truncate(LISTED_AT_ONCE_MAX);
        Ok(found)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let object = probe_object();
        let key = object.key.clone();
        self.put(object).await?;
        self.delete(&[key]).await
    }
}

impl Root {
    fn write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let temporary = self.temporary(path);
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(data)?;
            file.sync_data()?;
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            // Best effort: the error that is told is the first one.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Writes where `condition` holds, with all other processes that do the same kept out; none where it does not.
    fn write_if(&self, path: &Path, data: &[u8], condition: &Condition) -> io::Result<Option<Version>> {
        let lock = File::create(self.path.join(LOCK))?;
        match lock.lock() {
            // Some file systems of networks have no locks: there two processes in the same instant are not told apart.
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            locked => locked?,
        }
        let present = read(path)?.map(|data| version(&data));
        let holds = match condition {
            Condition::Any | Condition::Found => true,
            Condition::Absent => present.is_none(),
            Condition::Is(version) => present.as_ref() == Some(version),
        };
        if !holds {
            return Ok(None);
        }
        self.write(path, data)?;
        Ok(Some(version(data)))
    }

    /// A name beside `path` that no key, no other write and no other process has.
    fn temporary(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        path.with_file_name(format!(".{name}.{}.{write}{UNFINISHED}", std::process::id()))
    }

    /// Removes a file, and the directories that it leaves empty.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
        let above = path.ancestors().skip(1).take_while(|directory| *directory != self.path);
        for directory in above {
            // Whatever the reason, a directory that stays does no harm; the usual one is that it is not empty.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The file that is locked while a condition is looked at; no key has its name.
const LOCK: &str = ".lock";

/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".tmp";

/// No file takes so long to be written.
const UNFINISHED_AGE: Duration = Duration::from_secs(24 * 3600);

/// As many objects as one request of S3 gives.
const LISTED_AT_ONCE_MAX: usize = 1000;

/// A version of a file is what is in it.
fn version(data: &[u8]) -> Version {
    Version(Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Creates a file and the directories above it. A delete may remove a directory, empty as yet, between the two steps:
/// then again, and as often as there are deletes that could do so at one time.
fn create(path: &Path) -> io::Result<File> {
    let mut created = File::create(path);
    for _ in 0..CREATE_TRIES {
        match &created {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => break,
        }
        match path.parent().map_or(Ok(()), fs::create_dir_all) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => created = File::create(path),
        }
    }
    created
}

/// Adds the objects below a directory whose key is `name`. What vanishes meanwhile is not there.
fn walk(directory: &Path, name: &str, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let key = format!("{name}/{}", entry.file_name().to_string_lossy());
        let about = match entry.metadata() {
            Err(error) if is_absent(&error) => continue,
            about => about?,
        };
        if about.is_dir() {
            walk(&entry.path(), &key, found)?;
        } else if is_unfinished(&entry) {
            let age = about.modified()?.elapsed().unwrap_or_default();
            if age >= UNFINISHED_AGE {
                // One that stays does no harm.
                let _ = fs::remove_file(entry.path());
            }
        } else if about.is_file() && key::check(&key).is_ok() {
            found.push(Listed { key, modified: about.modified()?, bytes: about.len() });
        }
    }
    Ok(())
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_unfinished(&entry.path())?;
        } else if is_unfinished(&entry) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// It is being written, or was when its process was killed.
fn is_unfinished(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

fn read(path: &Path) -> io::Result<Option<Bytes>> {
    match fs::read(path) {
        Ok(data) => Ok(Some(data.into())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// There is no object here: nothing at all, a directory, or a file where a directory would have to be.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory)
}

/// Runs `work` on a thread that may block. What is begun is finished, even where the caller does not wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(io::Error::other("the server is stopping")),
    }
}

const CREATE_TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, data: &'static [u8]) -> Object {
        Object { key: key.to_owned(), data: Bytes::from_static(data), ..probe_object() }
    }

    fn entries(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[tokio::test]
    async fn empty_directories_go_with_their_last_file() {
        let root = tempfile::tempdir().unwrap();
        let store = FileStore::open(root.path()).await.unwrap();
        store.put(object("live/a/1.m4s", b"1")).await.unwrap();
        store.put(object("live/b/1.m4s", b"2")).await.unwrap();
        store.delete(&["live/a/1.m4s".to_owned()]).await.unwrap();
        assert_eq!(entries(&root.path().join("live")), 1);
        assert_eq!(store.get("live/b").await.unwrap(), None, "a directory is no object");
        store.delete(&["live/b/1.m4s".to_owned()]).await.unwrap();
        assert_eq!(entries(root.path()), 0, "and the root stays");
    }

    #[tokio::test]
    async fn nothing_is_left_beside_what_was_written() {
        let root = tempfile::tempdir().unwrap();
        let store = FileStore::open(root.path()).await.unwrap();
        store.put(object("a", b"1")).await.unwrap();
        store.put(object("a", b"22")).await.unwrap();
        store.put(object("a/b", b"3")).await.unwrap_err();
        assert_eq!(entries(root.path()), 1);
        assert_eq!(fs::read(root.path().join("a")).unwrap(), b"22");
    }

    #[tokio::test]
    async fn what_a_killed_process_was_writing_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = FileStore::open(root.path()).await.unwrap();
        store.put(object("a/b/1.m4s", b"1")).await.unwrap();
        fs::write(root.path().join("a/b/.2.m4s.99.0.tmp"), b"half").unwrap();
        fs::write(root.path().join(".3.m4s.99.1.tmp"), b"half").unwrap();
        store.remove_unfinished().await.unwrap();
        assert_eq!((entries(root.path()), entries(&root.path().join("a/b"))), (1, 1));
        assert_eq!(store.list("a/", None).await.unwrap().first().map(|listed| listed.bytes), Some(1));
    }

    #[tokio::test]
    async fn what_a_process_was_writing_long_ago_goes_when_somebody_looks() {
        let root = tempfile::tempdir().unwrap();
        let store = FileStore::open(root.path()).await.unwrap();
        store.put(object("a/b/1.m4s", b"1")).await.unwrap();
        for (name, age) in [("old", UNFINISHED_AGE), ("new", UNFINISHED_AGE / 2)] {
            let path = root.path().join(format!("a/b/.{name}.m4s.99.0.tmp"));
            let file = File::create(&path).unwrap();
            let now = fs::metadata(&path).unwrap().modified().unwrap();
            file.set_modified(now.checked_sub(age).unwrap()).unwrap();
        }
        assert_eq!(store.list("a/", None).await.unwrap().len(), 1);
        assert_eq!(entries(&root.path().join("a/b")), 2, "another process may be at the newer");
    }

    #[tokio::test]
    async fn what_there_is_is_listed_page_by_page() {
        let root = tempfile::tempdir().unwrap();
        let store = FileStore::open(root.path()).await.unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        (0..2500).for_each(|n| fs::write(root.path().join(format!("a/{n:04}")), b"").unwrap());
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let page = store.list("a/", after.as_deref()).await.unwrap();
            let Some(last) = page.last() else { break };
            (after, pages) = (Some(last.key.clone()), [pages, vec![page.len()]].concat());
        }
        assert_eq!((pages, after.as_deref()), (vec![1000, 1000, 500], Some("a/2499")));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn puts_survive_deletes_in_the_same_directory() {
        let root = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::open(root.path()).await.unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..4 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for _ in 0..50 {
                    let key = format!("deep/er/{worker}");
                    store.put(object(&key, b"x")).await.unwrap();
                    store.delete(&[key]).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(entries(root.path()), 0);
    }

    #[tokio::test]
    async fn a_path_that_is_no_directory_is_a_configuration_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = FileStore::open(&path).await.unwrap_err();
            assert_eq!(error.kind(), "config");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
