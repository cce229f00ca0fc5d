//! The spool and its drain over files of a temporary directory, on paused time.

use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::super::drain;
use super::super::scripted::{Outcome, Request, ScriptedStore};
use super::*;
use crate::captured_log::capture;

const BITRATE: u64 = 1_000_000_000;

fn config(path: &Path, bytes_max: u64) -> SpoolConfig {
    SpoolConfig { path: path.to_owned(), bytes_max, drain_bitrate: BITRATE }
}

async fn open(path: &Path, bytes_max: u64) -> Spool {
    Spool::open(&config(path, bytes_max), Metrics::default()).await.unwrap()
}

fn key(n: u64) -> String {
    format!("live/demo/720p/1/{n}.m4s")
}

/// Ten bytes.
fn object(n: u64) -> Object {
    let key = key(n);
    let (_, resource) = Resource::parse(&key).unwrap();
    media_object(key, &resource, Bytes::from(format!("{n:010}")))
}

/// Keeps these, of which an uploader lets go at once.
async fn leave(spool: &Spool, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        assert!(spool.keep(object(n)).await, "{n}");
        spool.release(&key(n));
    }
}

fn files(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

fn start(spool: &Spool, store: &Arc<ScriptedStore>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(drain(spool.clone(), store.clone(), spool.inner.metrics.clone(), CancellationToken::new()));
    task
}

/// A store that refuses what `refuses` says.
fn store(refuses: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<ScriptedStore> {
    ScriptedStore::new(move |request| match request {
        Request::Put(key) if refuses(key) => Outcome::Refused(Duration::from_millis(20)),
        _ => Outcome::Done(Duration::from_millis(20)),
    })
}

fn puts(store: &ScriptedStore) -> Vec<String> {
    store.contents.lock().unwrap().puts.clone()
}

/// Two are on their way at a time, and may pass each other.
fn in_order<const N: usize>(stored: &[String], expected: [u64; N]) {
    assert_eq!(stored.len(), N, "{stored:?}");
    for (n, place) in expected.into_iter().zip(0..) {
        let at = stored.iter().position(|stored| *stored == key(n)).unwrap();
        assert!(at.abs_diff(place) <= 1, "{n} is at {at} of {stored:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_goes_up_in_order_with_its_headers_and_leaves_the_disk() {
    let (log, _guard) = capture(Level::INFO);
    let directory = tempfile::tempdir().unwrap();
    let (spool, store) = (open(directory.path(), 1000).await, store(|_| false));
    leave(&spool, [3, 1, 2, 20]).await;
    assert_eq!((files(directory.path()), spool.waiting(), spool.inner.metrics.store_spool_bytes.get()), (4, 4, 40));
    let _drain = start(&spool, &store);
    sleep(Duration::from_secs(10)).await;
    in_order(&puts(&store), [3, 1, 2, 20]);
    assert_eq!(store.contents.lock().unwrap().objects[&key(3)], object(3));
    assert_eq!((files(directory.path()), spool.waiting(), spool.inner.metrics.store_spool_bytes.get()), (0, 0, 0));
    assert_eq!(spool.inner.metrics.store_drained.get(), 4);
    assert!(log.text().contains("objects=4 bytes=40 seconds=0") && log.text().lines().count() == 2, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn another_process_finds_what_was_left_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let before = open(directory.path(), 1000).await;
    for n in [5, 4, 9] {
        assert!(before.keep(object(n)).await);
        // Times of files are of the clock on the wall, and as coarse as its ticks.
        let file = std::fs::File::options().write(true).open(directory.path().join(key(n))).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(100 - n)).unwrap();
    }
    std::fs::write(directory.path().join("live/demo/720p/1/.6.m4s.1.0.tmp"), b"half").unwrap();
    std::fs::write(directory.path().join("live/notes.txt"), b"not ours").unwrap();
    drop(before);
    let (spool, store) = (open(directory.path(), 1000).await, store(|_| false));
    assert_eq!((files(directory.path()), spool.waiting()), (4, 3));
    assert_eq!(spool.of(&ChannelName::new("demo").unwrap()).objects, 3);
    let _drain = start(&spool, &store);
    sleep(Duration::from_secs(10)).await;
    in_order(&puts(&store), [9, 5, 4]);
    assert_eq!(files(directory.path()), 1, "what is not ours stays");
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_bounded_and_an_outage_is_waited_out() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { drain_bitrate: 80, ..config(directory.path(), 1000) };
    let spool = Spool::open(&config, Metrics::default()).await.unwrap();
    let down = Arc::new(Mutex::new(true));
    let store = store({
        let down = Arc::clone(&down);
        move |_| *down.lock().unwrap()
    });
    leave(&spool, 0..20).await;
    let _drain = start(&spool, &store);
    sleep(Duration::from_secs(600)).await;
    let tries = spool.inner.metrics.store_errors.get_or_create(&crate::metrics::KindLabel { kind: "throttled" }).get();
    assert!((60..=140).contains(&tries), "{tries} in ten minutes");
    assert_eq!((puts(&store).len(), files(directory.path())), (0, 20));
    *down.lock().unwrap() = false;
    sleep(Duration::from_secs(15)).await;
    let soon = puts(&store).len();
    assert!((5..=16).contains(&soon), "ten bytes a second: {soon}");
    sleep(Duration::from_secs(40)).await;
    let stored = puts(&store);
    let late = stored.windows(2).filter(|pair| object_number(&pair[0]) > object_number(&pair[1])).count();
    assert!(stored.len() == 20 && late <= 3, "those that were tried last come a little late: {stored:?}");
}

fn object_number(key: &str) -> u64 {
    key.rsplit_once('/').unwrap().1.trim_end_matches(".m4s").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_taken_holds_nothing_up_and_is_spoken_of() {
    let (log, _guard) = capture(Level::WARN);
    let directory = tempfile::tempdir().unwrap();
    let (spool, store) = (open(directory.path(), 10_000).await, store(|asked| asked == key(0)));
    leave(&spool, 0..100).await;
    let _drain = start(&spool, &store);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(puts(&store).len(), 99);
    sleep(Duration::from_secs(300)).await;
    assert_eq!((spool.waiting(), files(directory.path())), (1, 1));
    leave(&spool, 100..110).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(puts(&store).len(), 109);
    let told = log.text().matches("takes other objects from the spool and not these").count();
    assert!(told == 1 && log.text().contains(&key(0)), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn many_that_are_never_taken_hold_nothing_up_either() {
    let (log, _guard) = capture(Level::WARN);
    let directory = tempfile::tempdir().unwrap();
    let (spool, store) = (open(directory.path(), 10_000).await, store(|asked| object_number(asked) < 20));
    leave(&spool, 0..200).await;
    let _drain = start(&spool, &store);
    // Each of them is tried once, and the longest wait between tries is ten seconds.
    sleep(Duration::from_secs(210)).await;
    assert_eq!(puts(&store).len(), 180);
    sleep(Duration::from_secs(600)).await;
    leave(&spool, 200..400).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(puts(&store).len(), 380);
    sleep(Duration::from_secs(1200)).await;
    assert_eq!(spool.waiting(), 20);
    let told = log.text().matches("takes other objects from the spool and not these").count();
    assert!((1..=3).contains(&told), "seldom: {}", log.text());
}

/// A disk that is full of other things.
#[tokio::test(start_paused = true)]
async fn where_giving_up_makes_no_room_little_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path(), 10_000).await;
    leave(&spool, 0..100).await;
    // The names under which the next are written: nothing can be.
    let folder = directory.path().join("live/demo/720p/1");
    for (n, write) in (100..=140).flat_map(|n| (100..160).map(move |write| (n, write))) {
        let name = format!(".{n}.m4s.{}.{write}.tmp", std::process::id());
        std::os::unix::fs::symlink("/dev/full", folder.join(name)).unwrap();
    }
    for n in 100..140 {
        assert!(!spool.keep(object(n)).await);
    }
    assert_eq!(spool.waiting(), 97, "as much as three need, once");
    sleep(USELESS_FOR).await;
    assert!(!spool.keep(object(140)).await);
    assert_eq!(spool.waiting(), 94, "and again after a while");
    leave(&spool, [141]).await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_are_given_up_for_room_and_that_is_said_seldom() {
    let (log, _guard) = capture(Level::WARN);
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path(), 50).await;
    for n in 0..20 {
        leave(&spool, [n]).await;
    }
    assert_eq!((files(directory.path()), spool.waiting()), (5, 5));
    assert!(!spool.release(&key(14)) && spool.release(&key(15)));
    assert_eq!(spool.inner.metrics.store_spool_dropped.get(), 15);
    sleep(Duration::from_secs(61)).await;
    leave(&spool, [20]).await;
    let log = log.text();
    assert_eq!(log.lines().count(), 2, "{log}");
    for (line, objects) in log.lines().zip(["objects=1 ", "objects=15 "]) {
        let words = ["WARN", "the spool is full", objects, "bytes_max=50", "raise store.spool.max_size"];
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_fits_is_refused_with_a_reason() {
    let (log, _guard) = capture(Level::WARN);
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path(), 9).await;
    for n in 0..3 {
        assert!(!spool.keep(object(n)).await);
    }
    assert!(log.text().contains("larger than all that may wait there; raise store.spool.max_size"), "{}", log.text());
    assert_eq!((log.text().lines().count(), spool.waiting(), files(directory.path())), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_written_is_told_once_and_so_is_its_end() {
    let (log, _guard) = capture(Level::INFO);
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path(), 1000).await;
    // Not even for root can there be a directory in place of a file.
    std::fs::write(directory.path().join("live"), b"in the way").unwrap();
    for n in 0..3 {
        assert!(!spool.keep(object(n)).await);
    }
    assert_eq!((log.text().lines().count(), spool.waiting()), (1, 0), "{}", log.text());
    let place = directory.path().display().to_string();
    for words in ["WARN", &place, "takes nothing", "What leaves the window while the store fails is lost"] {
        assert!(log.text().contains(words), "{}", log.text());
    }
    std::fs::remove_file(directory.path().join("live")).unwrap();
    assert!(spool.keep(object(3)).await);
    assert_eq!(log.text().lines().count(), 1, "it may fail again");
    sleep(Duration::from_secs(60)).await;
    assert!(spool.keep(object(4)).await);
    assert!(log.text().contains("takes segments again"), "{}", log.text());
}

#[test]
fn each_failure_of_the_disk_has_its_remedy() {
    let at = super::super::At { place: "/spool/x".to_owned(), detail: "as the system said".to_owned() };
    for (error, words) in [
        (StoreError::Full(at.clone()), ["disk is full: /spool/x (as the system said)", "free space or inodes"]),
        (
            StoreError::ReadOnly(at),
            ["may not be written to: /spool/x (as the system said)", "give this user the right"],
        ),
    ] {
        assert!(words.iter().all(|words| remedy(&error).contains(words)), "{}", remedy(&error));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_vanished_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, store) = (open(directory.path(), 1000).await, store(|_| false));
    leave(&spool, 0..3).await;
    std::fs::remove_file(directory.path().join(key(1))).unwrap();
    let _drain = start(&spool, &store);
    sleep(Duration::from_secs(10)).await;
    in_order(&puts(&store).iter().map(|put| put.replace("2.m4s", "1.m4s")).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(spool.waiting(), 0);
}
