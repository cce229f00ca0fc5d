//! The cache over real directories, below copies whose fetches are counted.

use std::sync::atomic::AtomicUsize;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::archive::{Copies, Copy, Found, Lack, Limits};
use crate::caching::Cache;
use crate::captured_log::capture;
use crate::layout::Resource;

const LIMITS: Limits = Limits { bytes_max: 1 << 20, stale_max: Duration::from_secs(60) };

/// A process: its copies, and how often they were fetched.
struct Process {
    copies: Copies,
    disk: Disk,
    fetches: Arc<AtomicUsize>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Process {
    fn start(path: &Path, bytes_max: u64) -> Self {
        let (disk, keeper) = Disk::new(path.to_owned(), bytes_max, Counter::default());
        let copies = Copies::new(LIMITS, Counter::default()).with_disk(Some(disk.clone()));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(keeper.run(stop.clone()));
        Self { copies, disk, fetches: Arc::default(), stop, tasks }
    }

    /// One that has looked through its disk.
    async fn settled(path: &Path, bytes_max: u64) -> Self {
        let process = Self::start(path, bytes_max);
        process.until(|index| index.lacks(Name::of("nothing"))).await;
        process
    }

    /// Fetches what has so many bytes.
    async fn get(&self, path: &str, bytes: usize) -> Found {
        let (fetches, parsed) = (Arc::clone(&self.fetches), Resource::parse(path).map(|(_, resource)| resource));
        let load = async move {
            fetches.fetch_add(1, Ordering::Relaxed);
            let cache = if parsed == Some(Resource::Multivariant) { Cache::EDGE } else { Cache::Immutable };
            let resource = parsed.ok_or(Lack::Absent)?;
            Ok(Arc::new(Copy::new(&resource, Bytes::from(vec![7; bytes]), cache, None)))
        };
        self.copies.get(path.to_owned(), load).await
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    async fn until(&self, reached: impl Fn(&Index) -> bool) {
        let wait = async {
            while !reached(&self.disk.shelf.index()) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect("the keeper is at work");
    }

    /// What is fetched is kept on the disk.
    async fn kept(&self, path: &str, bytes: usize) {
        self.get(path, bytes).await.unwrap();
        self.until(|index| index.has(Name::of(path))).await;
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

fn segment(number: u32) -> String {
    format!("live/demo/720p/1/{number}.m4s")
}

#[tokio::test]
async fn the_next_process_asks_nobody() {
    let directory = TempDir::new().unwrap();
    let first = Process::settled(&directory.path().join("cache"), 1 << 20).await;
    for number in 0..5 {
        first.kept(&segment(number), 1_000).await;
    }
    first.kept("live/demo/720p/1/init.mp4", 100).await;
    // Those are not kept there: one changes, the other is whole in a segment soon.
    for other in ["live/demo/index.m3u8", "live/demo/720p/1/7.0.m4s", "live/demo/thumb.jpg"] {
        first.get(other, 100).await.unwrap();
    }
    first.kept(&segment(6), 10).await;
    assert_eq!((first.fetches(), first.disk.shelf.index().size().0), (10, 7));
    first.end().await;

    // While it looks through its disk, too.
    let second = Process::start(&directory.path().join("cache"), 1 << 20);
    for number in 0..5 {
        let found = second.get(&segment(number), 1).await.unwrap();
        assert!(found.data()[..] == vec![7; 1_000] && found.cache == Cache::Immutable);
    }
    assert_eq!((second.fetches(), second.disk.shelf.found.get()), (0, 5));
    // From memory then.
    second.get(&segment(0), 1).await.unwrap();
    assert_eq!(second.disk.shelf.found.get(), 5);
    second.get(&segment(9), 1).await.unwrap();
    assert_eq!(second.fetches(), 1);
    second.end().await;
}

#[tokio::test]
async fn what_was_used_longest_ago_makes_room() {
    let directory = TempDir::new().unwrap();
    let first = Process::settled(directory.path(), 4_200).await;
    for number in 0..4 {
        first.kept(&segment(number), 1_000).await;
    }
    // A fifth has no room, but the first was read lately.
    assert!(first.disk.read(&segment(0)).await.is_some());
    first.kept(&segment(4), 1_000).await;
    first.until(|index| index.size().1 <= 4_200).await;
    let there = |process: &Process| (0..6).map(|n| process.disk.shelf.index().has(Name::of(&segment(n)))).collect();
    let kept: Vec<bool> = there(&first);
    assert_eq!(kept, [true, false, true, true, true, false]);
    // One that is greater than all that there may be takes nothing from the others.
    first.get(&segment(5), 5_000).await.unwrap();
    first.kept(&segment(6), 1).await;
    assert_eq!(there(&first), kept);
    first.end().await;
    // With less room, the next process removes what is too much, and leaves what is not its own.
    let stranger = directory.path().join("ab");
    fs::create_dir_all(&stranger).unwrap();
    fs::write(stranger.join("holiday.jpg"), [0; 9_000]).unwrap();
    fs::write(stranger.join(format!("{:032x}.tmp", 1)), [0; 9_000]).unwrap();
    let second = Process::settled(directory.path(), 2_100).await;
    second.until(|index| index.size().1 <= 2_100).await;
    assert!(second.disk.read(&segment(4)).await.is_some());
    let files = walk(directory.path());
    assert!(files.iter().any(|file| file.ends_with("holiday.jpg")));
    assert!(!files.iter().any(|file| file.extension().is_some_and(|kind| kind == TEMPORARY)));
    second.end().await;
}

#[tokio::test]
async fn a_torn_file_is_never_served() {
    let directory = TempDir::new().unwrap();
    let first = Process::settled(directory.path(), 1 << 20).await;
    for number in 0..4 {
        first.kept(&segment(number), 1_000).await;
    }
    first.end().await;
    let file = |number| Name::of(&segment(number)).below(directory.path());
    let whole = fs::read(file(0)).unwrap();
    fs::write(file(0), &whole[..500]).unwrap();
    fs::write(file(1), []).unwrap();
    fs::write(file(2), [&[8][..], &whole[1..]].concat()).unwrap();
    // Whole, but of another key.
    fs::create_dir_all(file(4).parent().unwrap()).unwrap();
    fs::rename(file(3), file(4)).unwrap();
    let second = Process::settled(directory.path(), 1 << 20).await;
    for number in 0..5 {
        assert_eq!(second.get(&segment(number), 900).await.unwrap().data().len(), 900);
    }
    assert_eq!((second.fetches(), second.disk.shelf.found.get()), (5, 0));
    // And what was fetched in their place is.
    second.until(|index| (0..5).all(|number| index.has(Name::of(&segment(number))))).await;
    second.end().await;
    let third = Process::start(directory.path(), 1 << 20);
    assert_eq!(third.get(&segment(2), 1).await.unwrap().data().len(), 900);
    third.end().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_told_of_once_and_harmless() {
    let (log, _captured) = capture(tracing::Level::INFO);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cache");
    fs::write(&path, b"a file").unwrap();
    let process = Process::start(&path, 1 << 20);
    process.until(|_| process.disk.shelf.failing.load(Ordering::Relaxed)).await;
    for number in 0..40 {
        assert_eq!(process.get(&segment(number), 1_000).await.unwrap().data().len(), 1_000);
    }
    assert_eq!(process.fetches(), 40);
    let told = log.text().lines().filter(|line| line.contains("origin.disk_cache")).count();
    assert_eq!(told, 1, "{}", log.text());
    assert!(log.text().contains(&path.display().to_string()), "{}", log.text());
    // Once it can be written it is.
    fs::remove_file(&path).unwrap();
    // What waited is written first.
    process.until(|index| index.has(Name::of(&segment(15)))).await;
    process.kept(&segment(50), 1_000).await;
    assert!(log.text().contains("can be written again"), "{}", log.text());
    process.end().await;
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
