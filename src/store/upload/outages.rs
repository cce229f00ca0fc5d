//! The uploader with a spool and its drain, on paused time: whatever fails, and whenever the process is killed, all that was
//! listed comes to the store, and no playlist there names what is not there, which the store itself checks.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::sleep;
use tracing::Level;

use super::super::scripted::{Outcome, Programme, Request, SEGMENT, ScriptedStore, names};
use super::super::{Object, drain};
use super::tests::{Bench, Step, channel, failing, outcomes, steps};
use super::*;
use crate::captured_log::capture;
use crate::config::SpoolConfig;

/// A process: an uploader and the drain of its spool. Killed when dropped.
struct Process {
    bench: Bench,
    spool: Spool,
    _drain: JoinSet<()>,
}

impl Process {
    async fn start(store: &Arc<ScriptedStore>, directory: &TempDir, bytes_max: u64) -> Self {
        let path = directory.path().to_owned();
        let metrics = Metrics::default();
        let config = SpoolConfig { path, bytes_max, drain_bitrate: 1_000_000_000 };
        let spool = Spool::open(&config, metrics.clone()).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(drain(spool.clone(), store.clone(), metrics, CancellationToken::new()));
        Self { bench: Bench::start(store.clone(), Arc::default(), Some(spool.clone())), spool, _drain: task }
    }

    /// What the store lacks of all that was ever listed.
    fn lacks(&self, listed: &BTreeSet<String>) -> Vec<String> {
        let contents = self.bench.store.contents.lock().unwrap();
        let put: BTreeSet<_> = contents.puts.iter().collect();
        listed.iter().filter(|key| !put.contains(key)).cloned().collect()
    }

    fn gaps(&self) -> u64 {
        self.bench.metrics.store_gaps.get_or_create(&ChannelLabel { channel: channel().to_string() }).get()
    }
}

/// The keys of all media that a programme lists.
fn listed(programme: &Programme) -> BTreeSet<String> {
    Goal::media(&channel(), &programme.snapshot()).map(|upload| upload.object.key).collect()
}

/// All media of the segments of one session.
fn media(session: u64, segments: std::ops::RangeInclusive<u64>) -> BTreeSet<String> {
    let of = |name| segments.clone().map(move |msn| format!("live/demo/{name}/{session}/{msn}.m4s"));
    ["720p", "360p", "audio"].into_iter().flat_map(of).collect()
}

fn breakable() -> (Arc<ScriptedStore>, Arc<Mutex<bool>>) {
    let down = Arc::new(Mutex::new(false));
    let store = failing({
        let down = down.clone();
        move |_| *down.lock().unwrap()
    });
    (store, down)
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_window_leaves_no_hole() {
    let (log, _guard) = capture(Level::WARN);
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 5).await;
    assert_eq!(process.spool.waiting(), 0, "what goes well is not kept");
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 150).await;
    assert_eq!(process.bench.status.borrow().spooled, 450);
    assert!(process.lacks(&media(1, 6..=155)).len() == 450);
    *down.lock().unwrap() = false;
    process.bench.segments(&mut programme, 10).await;
    assert_eq!(process.lacks(&media(1, 1..=165)), Vec::<String>::new());
    assert_eq!((process.spool.waiting(), process.bench.skipped()), (0, 0));
    let status = process.bench.status.borrow().clone();
    assert_eq!((status.spooled, status.stored, status.failing), (0, Some(crate::live::Msn(165)), None));
    let late = media(1, 6..=150);
    let deleted = store.contents.lock().unwrap().deleted.iter().filter(|(key, _)| late.contains(key)).count();
    assert_eq!(deleted, 0, "what came late is not deleted with a window that it was not in");
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn what_is_live_comes_first_when_the_store_is_back() {
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 3).await;
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 300).await;
    *down.lock().unwrap() = false;
    // The longest wait between tries, and the segments that are listed.
    sleep(Duration::from_secs(11)).await;
    let stored = process.bench.status.borrow().stored;
    assert_eq!(stored, Some(crate::live::Msn(303)));
    let contents = store.contents.lock().unwrap();
    let again = contents.puts.len() - contents.puts.iter().collect::<BTreeSet<_>>().len();
    let media = contents.puts.iter().filter(|key| key.ends_with(".m4s")).count();
    assert!(again < 20 && media <= 909, "what was put by the uploader is not put by the spool: {media}, {again}");
}

#[tokio::test(start_paused = true)]
async fn killed_in_an_outage_and_started_in_it_nothing_is_lost() {
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 4).await;
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 12).await;
    programme.segment(false);
    process.bench.publish(&programme);
    // While the store fails, nothing is kept waiting for what might become of it.
    sleep(Duration::from_millis(100)).await;
    drop(process);
    let process = Process::start(&store, &directory, 1 << 20).await;
    assert_eq!(process.spool.waiting(), 3 * 13);
    programme.restart();
    process.bench.segments(&mut programme, 12).await;
    assert_eq!(process.spool.waiting(), 3 * 25 + 3, "and what each run begins with");
    *down.lock().unwrap() = false;
    process.bench.segments(&mut programme, 10).await;
    let all = media(1, 1..=17).into_iter().chain(media(2, 18..=39)).collect();
    assert_eq!((process.lacks(&all), process.spool.waiting()), (Vec::new(), 0));
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_put_is_a_gap_for_good_and_comes_later() {
    const KEY: &str = "live/demo/720p/1/4.m4s";
    let (log, _guard) = capture(Level::WARN);
    let refused = Arc::new(Mutex::new(true));
    let store = failing({
        let refused = refused.clone();
        move |request| matches!(request, Request::Put(KEY)) && *refused.lock().unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(12);
    process.bench.segments(&mut programme, 3).await;
    let text = |file: &str| {
        let data = store.contents.lock().unwrap().objects[&format!("live/demo/{file}.m3u8")].data.clone();
        String::from_utf8(data.to_vec()).unwrap()
    };
    let mut waited = 0;
    while !text("720p/index").contains("#EXT-X-GAP\n1/4.m4s\n") {
        assert!(waited < 7, "within 28 s: {}", text("720p/index"));
        assert!(!text("360p/index").contains("1/4.m4s"), "all renditions wait for it");
        process.bench.segments(&mut programme, 1).await;
        waited += 1;
    }
    assert!(waited >= 3, "not before half of the window, which has just begun");
    assert!(text("720p/iframes").contains("#EXT-X-GAP\n1/4.m4s\n"));
    assert!(text("360p/index").contains("1/4.m4s") && !text("360p/index").contains("GAP"), "for others it is none");
    assert!(!programme.snapshot().renditions[0].playlist.as_ref().unwrap().text.ends_with(b"GAP\n"));
    *refused.lock().unwrap() = false;
    process.bench.segments(&mut programme, 1).await;
    assert!(log.text().contains("list them as gaps gaps=1"), "{}", log.text());
    let (status, last) = (process.bench.status.borrow().clone(), programme.snapshot().last().unwrap());
    assert_eq!((status.stored, status.renditions.len()), (Some(crate::live::Msn(3)), 3));
    for (name, stored) in status.renditions.iter() {
        let lacks = if name.as_str() == "720p" { vec![crate::live::Msn(4)] } else { vec![] };
        assert_eq!((stored.last, stored.lacks.iter().copied().collect()), (last, lacks), "{name}");
    }
    for _ in 0..10 {
        let text = text("720p/index");
        assert!(!text.contains("1/4.m4s") || text.contains("#EXT-X-GAP\n1/4.m4s\n"), "once a gap always a gap");
        process.bench.segments(&mut programme, 1).await;
    }
    assert_eq!((process.lacks(&[KEY.to_owned()].into()), process.bench.skipped()), (Vec::new(), 0));
    let gaps = process.gaps();
    assert_eq!(gaps, 1);
    process.bench.drain().await.holds(&programme);
}

/// The number up to which the playlist in the store lists a rendition.
fn last_stored(store: &ScriptedStore, rendition: &str) -> u64 {
    let data = store.contents.lock().unwrap().objects[&format!("live/demo/{rendition}/index.m3u8")].data.clone();
    let text = String::from_utf8(data.to_vec()).unwrap();
    text.lines().last().unwrap().trim_start_matches("1/").trim_end_matches(".m4s").parse::<u64>().unwrap()
}

/// How many segments behind the store's playlists are at most from here on, after each of so many segments.
async fn latest(process: &Process, programme: &mut Programme, segments: usize) -> Vec<u64> {
    let (mut late, mut made) = (Vec::new(), programme.snapshot().last().map_or(0, |last| last.0));
    for _ in 0..segments {
        process.bench.segments(programme, 1).await;
        made += 1;
        late.push(made - last_stored(&process.bench.store, "360p"));
    }
    late
}

/// A goal that takes longer than playlists wait for one segment, in which one is refused for good when the others are put.
#[tokio::test(start_paused = true)]
async fn a_segment_that_is_refused_late_in_a_long_goal_holds_nothing_up() {
    const LAST: &str = "live/demo/audio/1/92.m4s";
    let down = Arc::new(Mutex::new(false));
    let store = ScriptedStore::new({
        let down = down.clone();
        move |request| match request {
            _ if *down.lock().unwrap() => Outcome::Refused(Duration::from_millis(20)),
            Request::Put(LAST) => Outcome::Refused(Duration::from_secs(1)),
            Request::Put(_) => Outcome::Done(Duration::from_secs(1)),
            _ => Outcome::Done(Duration::from_millis(20)),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(900);
    process.bench.segments(&mut programme, 4).await;
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 88).await;
    *down.lock().unwrap() = false;
    while process.bench.status.borrow().failing.is_some() {
        sleep(Duration::from_millis(100)).await;
    }
    let late = latest(&process, &mut programme, 60).await;
    // The try, a goal of 44 s, the time for several tries, and what came meanwhile.
    assert!(late.iter().skip(22).all(|late| *late <= 3), "{late:?}");
    let gaps = process.gaps();
    assert_eq!(gaps, 1);
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_hangs_holds_nothing_up() {
    let store = ScriptedStore::new(|request| {
        let hangs = matches!(request, Request::Put("live/demo/720p/1/20.m4s"));
        if hangs { Outcome::Refused(Duration::from_secs(110)) } else { Outcome::Done(Duration::from_millis(20)) }
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(900);
    let late = latest(&process, &mut programme, 90).await;
    assert!(late.iter().all(|late| *late <= 8), "28 s at most: {late:?}");
    assert!(late.iter().skip(30).all(|late| *late <= 1), "and then no more: {late:?}");
    process.bench.drain().await.holds(&programme);
}

/// A store that refuses the puts of which `refuses` says so after this time.
fn refusing(time: Duration, refuses: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<ScriptedStore> {
    ScriptedStore::new(move |request| match request {
        Request::Put(key) if refuses(key) => Outcome::Refused(time),
        _ => Outcome::Done(Duration::from_millis(20)),
    })
}

/// Each of the one with each of the other.
fn product<A: Copy, B: Copy>(one: &[A], other: &[B]) -> impl Iterator<Item = (A, B)> {
    one.iter().flat_map(move |a| other.iter().map(move |b| (*a, *b)))
}

/// That nothing is put meanwhile is not the store's fault: nothing else is tried.
#[tokio::test(start_paused = true)]
async fn a_put_that_fails_late_holds_nothing_up_for_long() {
    for seconds in [6, 11, 15, 19] {
        let store = refusing(Duration::from_secs(seconds), |key| key == "live/demo/720p/1/20.m4s");
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&store, &directory, 1 << 20).await;
        let mut programme = Programme::new(900);
        let late = latest(&process, &mut programme, 60).await;
        assert!(late.iter().all(|late| *late <= 16), "three tries, 64 s at most: {seconds} s {late:?}");
        assert!(late.iter().skip(37).all(|late| *late <= 1), "and then no more: {seconds} s {late:?}");
        assert_eq!(process.gaps(), 1);
        process.bench.drain().await.holds(&programme);
    }
}

/// How far behind the others are at most at first, and then.
async fn rendition_whose_puts_take(time: Duration, first: u64, then: u64) {
    let broken = Arc::new(Mutex::new(false));
    let store = refusing(time, {
        let broken = broken.clone();
        move |key| key.starts_with("live/demo/720p/") && key.ends_with(".m4s") && *broken.lock().unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(900);
    process.bench.segments(&mut programme, 14).await;
    *broken.lock().unwrap() = true;
    let late = latest(&process, &mut programme, 90).await;
    assert!(late.iter().all(|late| *late <= first), "{time:?} {late:?}");
    assert!(late.iter().skip(20).all(|late| *late <= then), "{time:?} {late:?}");
    *broken.lock().unwrap() = false;
    process.bench.segments(&mut programme, 60).await;
    assert_eq!((process.lacks(&media(1, 1..=164)), process.bench.skipped()), (Vec::new(), 0));
    assert_eq!(last_stored(&store, "720p"), 164);
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_rendition_whose_puts_fail_late_holds_the_others_up_once() {
    rendition_whose_puts_take(Duration::from_secs(11), 16, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_rendition_whose_puts_hang_holds_the_others_up_once() {
    rendition_whose_puts_take(Duration::from_secs(19), 20, 4).await;
    rendition_whose_puts_take(Duration::from_secs(110), 20, 4).await;
}

/// Nothing else is put with it from which it could be seen that the store works, and nothing was for a while before.
#[tokio::test(start_paused = true)]
async fn a_put_that_hangs_alone_holds_nothing_up_for_long() {
    for seconds in [11, 19, 110] {
        let store = refusing(Duration::from_secs(seconds), |key| key == "live/demo/720p/1/20.m4s");
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&store, &directory, 1 << 20).await;
        let mut programme = Programme::new(900);
        process.bench.segments(&mut programme, 19).await;
        let before = programme.snapshot();
        sleep(SEGMENT * 3).await;
        programme.segment(false);
        let mut alone = (*programme.snapshot()).clone();
        alone.renditions.iter_mut().zip(&before.renditions).skip(1).for_each(|(new, old)| new.clone_from(old));
        process.bench.send(Arc::new(alone));
        sleep(Duration::from_millis(500)).await;
        let late = latest(&process, &mut programme, 40).await;
        assert!(late.iter().all(|late| *late <= 17), "64 s at most: {seconds} s {late:?}");
        assert!(late.iter().skip(17).all(|late| *late <= 1), "and then no more: {seconds} s {late:?}");
        assert_eq!(process.gaps(), 1);
        process.bench.drain().await.holds(&programme);
    }
}

/// A store that, while it is down, refuses everything after this time.
fn breakable_in(time: Duration) -> (Arc<ScriptedStore>, Arc<Mutex<bool>>) {
    let down = Arc::new(Mutex::new(false));
    let store = ScriptedStore::new({
        let down = down.clone();
        move |_| match *down.lock().unwrap() {
            true => Outcome::Refused(time),
            false => Outcome::Done(Duration::from_millis(20)),
        }
    });
    (store, down)
}

#[tokio::test(start_paused = true)]
async fn however_long_everything_fails_and_however_it_does_there_are_no_gaps() {
    let ways = [20, 6_000, 11_000, 19_000, 110_000].map(|millis| [(millis, 12), (millis, 900)]);
    for (outage, (millis, window)) in product(&[12, 21, 23, 25, 27, 240], ways.as_flattened()) {
        let (store, down) = breakable_in(Duration::from_millis(millis));
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&store, &directory, 1 << 20).await;
        let mut programme = Programme::new(window);
        process.bench.segments(&mut programme, 15).await;
        *down.lock().unwrap() = true;
        let begun = Instant::now();
        process.bench.segments(&mut programme, outage / 4).await;
        sleep(Duration::from_secs(u64::try_from(outage).unwrap()).saturating_sub(begun.elapsed())).await;
        *down.lock().unwrap() = false;
        let late = latest(&process, &mut programme, 45).await;
        let how = format!("{outage} s, each {millis} ms, window {window}: {late:?}");
        assert_eq!((process.gaps(), process.bench.skipped()), (0, 0), "{how}");
        assert!(late.last().is_some_and(|late| *late <= 1), "{how}");
        process.bench.drain().await.holds(&programme);
    }
}

/// A window in which nothing else would make the goal turn.
#[tokio::test(start_paused = true)]
async fn media_goes_up_while_a_playlist_cannot_be_put_or_nobody_can_tell_who_has_the_channel() {
    for is_look in [false, true] {
        let down = Arc::new(Mutex::new(false));
        let store = failing({
            let down = down.clone();
            move |request| {
                let fails = match request {
                    Request::Put(key) => !is_look && key == "live/demo/360p/index.m3u8",
                    request => is_look && matches!(request, Request::Get),
                };
                fails && *down.lock().unwrap()
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&store, &directory, 1 << 20).await;
        let mut programme = Programme::new(900);
        process.bench.segments(&mut programme, 3).await;
        *down.lock().unwrap() = true;
        process.bench.segments(&mut programme, 60).await;
        // But for what came in the longest wait between tries, and before that was over again.
        assert_eq!(process.lacks(&media(1, 1..=57)), Vec::<String>::new(), "{is_look}");
        *down.lock().unwrap() = false;
        process.bench.segments(&mut programme, 5).await;
        process.bench.drain().await.holds(&programme);
    }
}

fn is_ended(store: &ScriptedStore) -> bool {
    let texts = ["720p", "360p", "audio"].map(|name| format!("live/demo/{name}/index.m3u8"));
    let contents = store.contents.lock().unwrap();
    texts.iter().all(|key| contents.objects[key].data.ends_with(b"#EXT-X-ENDLIST\n"))
}

/// No other media comes from which it could be seen that the store works.
#[tokio::test(start_paused = true)]
async fn the_end_is_stored_though_the_last_segment_cannot_be() {
    for (millis, is_closed) in product(&[20, 6_000, 11_000, 110_000], &[false, true]) {
        let store = refusing(Duration::from_millis(millis), |key| key == "live/demo/720p/1/20.m4s");
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&store, &directory, 1 << 20).await;
        let mut programme = Programme::new(900);
        process.bench.segments(&mut programme, 19).await;
        programme.segment(false);
        programme.end();
        process.bench.publish(&programme);
        if !is_closed {
            sleep(Duration::from_secs(60)).await;
            assert!(is_ended(&store), "tried for {millis} ms");
            assert_eq!(process.gaps(), 1);
        }
        process.bench.drain().await.holds(&programme);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_the_end_makes_no_gaps() {
    for (outage, millis) in product(&[12, 25, 27, 240], &[20, 6_000, 11_000, 110_000]) {
        let (store, down) = breakable_in(Duration::from_millis(millis));
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&store, &directory, 1 << 20).await;
        let mut programme = Programme::new(900);
        process.bench.segments(&mut programme, 19).await;
        *down.lock().unwrap() = true;
        programme.segment(false);
        programme.end();
        process.bench.publish(&programme);
        sleep(Duration::from_secs(outage)).await;
        *down.lock().unwrap() = false;
        sleep(Duration::from_secs(120)).await;
        assert!(is_ended(&store), "{outage} s, each {millis} ms");
        assert_eq!(process.gaps(), 0, "{outage} s, each {millis} ms");
        process.bench.drain().await.holds(&programme);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_it_was_given_up_is_not_deleted_with_its_window() {
    const KEY: &str = "live/demo/720p/1/20.m4s";
    let store = ScriptedStore::new(|request| {
        Outcome::Done(if matches!(request, Request::Put(KEY)) {
            Duration::from_secs(110)
        } else {
            Duration::from_millis(20)
        })
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(40);
    process.bench.segments(&mut programme, 200).await;
    let gaps = process.gaps();
    assert_eq!((gaps, process.spool.waiting()), (1, 0));
    {
        let contents = store.contents.lock().unwrap();
        let deleted: BTreeSet<_> = contents.deleted.iter().map(|(key, _)| key.as_str()).collect();
        assert!(deleted.contains("live/demo/720p/1/21.m4s") && !deleted.contains(KEY));
    }
    process.bench.drain().await.holds(&programme);
}

/// What hangs for a while is put by another request meanwhile.
#[tokio::test(start_paused = true)]
async fn what_comes_late_is_not_waited_for() {
    let hung = Mutex::new(0);
    let store = ScriptedStore::new(move |request| {
        let hangs = matches!(request, Request::Put("live/demo/720p/1/20.m4s"));
        let mut hung = hung.lock().unwrap();
        *hung += usize::from(hangs);
        let hangs = hangs && *hung <= 2;
        Outcome::Done(if hangs { Duration::from_secs(110) } else { Duration::from_millis(20) })
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(900);
    let late = latest(&process, &mut programme, 60).await;
    assert!(late.iter().all(|late| *late <= 7), "24 s at most: {late:?}");
    let gaps = process.gaps();
    assert_eq!((gaps, process.spool.waiting()), (0, 0), "by a second attempt");
    process.bench.drain().await.holds(&programme);
}

/// Some fail now and then, on a store that is slow: that is no reason for gaps.
#[tokio::test(start_paused = true)]
async fn what_fails_once_late_in_a_long_goal_is_put() {
    let tries = Mutex::new(0u32);
    let store = ScriptedStore::new(move |request| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        let fails = matches!(request, Request::Put(_)) && tries.is_multiple_of(7);
        if fails { Outcome::Refused(Duration::from_secs(1)) } else { Outcome::Done(Duration::from_secs(7)) }
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(900);
    process.bench.segments(&mut programme, 200).await;
    let gaps = process.gaps();
    assert!(gaps <= 2, "what fails three times in a row by chance: {gaps}");
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_over_does_not_wait_for_a_store_that_fails() {
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 3).await;
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 2).await;
    programme.end();
    process.bench.publish(&programme);
    let Process { bench, spool, _drain } = process;
    let (closed, status) = (Instant::now(), bench.status.clone());
    drop(bench.drain().await);
    assert!(closed.elapsed() >= LEAVE_AFTER && closed.elapsed() <= LEAVE_AFTER * 2, "{:?}", closed.elapsed());
    assert_eq!((spool.waiting(), status.borrow().stored), (6, None));
    *down.lock().unwrap() = false;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(spool.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rendition_of_which_nothing_can_be_put_holds_the_others_up_once() {
    let broken = Arc::new(Mutex::new(false));
    let store = failing({
        let broken = broken.clone();
        let of_it = |key: &str| key.starts_with("live/demo/720p/") && key.ends_with(".m4s");
        move |request| matches!(request, Request::Put(key) if of_it(key)) && *broken.lock().unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(12);
    process.bench.segments(&mut programme, 14).await;
    *broken.lock().unwrap() = true;
    let late = latest(&process, &mut programme, 26).await;
    assert!(late.iter().all(|late| *late <= 6), "24 s at most: {late:?}");
    assert!(late.iter().skip(7).all(|late| *late <= 1), "and then no more: {late:?}");
    *broken.lock().unwrap() = false;
    process.bench.segments(&mut programme, 12).await;
    let text = store.contents.lock().unwrap().objects["live/demo/720p/index.m3u8"].data.clone();
    assert!(!String::from_utf8(text.to_vec()).unwrap().contains("GAP"), "it is whole again");
    assert_eq!((process.lacks(&media(1, 1..=52)), process.bench.skipped()), (Vec::new(), 0));
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_gaps() {
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(30);
    process.bench.segments(&mut programme, 3).await;
    for _ in 0..4 {
        *down.lock().unwrap() = true;
        process.bench.segments(&mut programme, 15).await;
        *down.lock().unwrap() = false;
        process.bench.segments(&mut programme, 4).await;
    }
    let gaps = process.gaps();
    assert_eq!((gaps, process.bench.skipped()), (0, 0));
    let process = process.bench.drain().await;
    process.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_has_no_holes_either() {
    let store = ScriptedStore::new(|_| Outcome::Done(Duration::from_secs(11)));
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 40).await;
    assert_eq!(process.bench.skipped(), 0);
    programme.end();
    process.bench.publish(&programme);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((process.lacks(&media(1, 1..=40)), process.spool.waiting()), (Vec::new(), 0));
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_kept_before_it_is_known_to_fail() {
    let store = ScriptedStore::new(|_| Outcome::Done(Duration::from_secs(100_000)));
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 2).await;
    assert_eq!(process.spool.waiting(), 3 * 2 + 3);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_tell_who_has_the_channel_its_media_is_kept() {
    let down = Arc::new(Mutex::new(false));
    let store = failing({
        let down = down.clone();
        move |request| matches!(request, Request::Get) && *down.lock().unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 3).await;
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 30).await;
    assert_eq!(process.bench.skipped(), 0);
    // But for the window, and what came in the longest wait between tries.
    assert_eq!(process.lacks(&media(1, 1..=25)), Vec::<String>::new(), "media goes up without the right to playlists");
    *down.lock().unwrap() = false;
    process.bench.segments(&mut programme, 5).await;
    process.bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn what_a_process_kept_that_has_lost_the_channel_goes_up_without_playlists() {
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    let old = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    old.bench.segments(&mut programme, 3).await;
    *down.lock().unwrap() = true;
    old.bench.segments(&mut programme, 20).await;
    *down.lock().unwrap() = false;
    // Before the older's next try.
    let young = Bench::start(store.clone(), Arc::default(), None);
    let mut other = Programme::new(5);
    (0..30).for_each(|_| other.segment(false));
    other.restart();
    young.segments(&mut other, 5).await;
    assert!(old.bench.status.borrow().failing.as_ref().unwrap().contains("took the channel over"));
    old.bench.segments(&mut programme, 5).await;
    assert_eq!((old.lacks(&media(1, 1..=23)), old.spool.waiting(), old.bench.skipped()), (Vec::new(), 0, 0));
    young.drain().await.holds(&other);
}

#[tokio::test(start_paused = true)]
async fn what_an_uploader_held_goes_up_when_it_is_cut_short() {
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    *down.lock().unwrap() = true;
    let mut process = Process::start(&store, &directory, 1 << 20).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 3).await;
    process.bench.cut_short().await;
    *down.lock().unwrap() = false;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((process.lacks(&media(1, 1..=3)), process.spool.waiting()), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_small_spool_gives_up_is_counted_and_the_newest_is_kept() {
    let (log, _guard) = capture(Level::WARN);
    let (directory, (store, down)) = (tempfile::tempdir().unwrap(), breakable());
    // For about twenty segments in three renditions.
    let process = Process::start(&store, &directory, 1000).await;
    let mut programme = Programme::new(5);
    process.bench.segments(&mut programme, 3).await;
    *down.lock().unwrap() = true;
    process.bench.segments(&mut programme, 60).await;
    *down.lock().unwrap() = false;
    process.bench.segments(&mut programme, 10).await;
    let lacks = process.lacks(&media(1, 1..=73));
    assert!(process.lacks(&media(1, 50..=73)).is_empty() && lacks.len() > 60, "{lacks:?}");
    assert!(log.text().contains("the spool is full: the oldest objects were given up"), "{}", log.text());
    process.bench.drain().await.holds(&programme);
}

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Step(Step),
    Kill,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let of =
        |(step, kill): (Step, bool)| if kill { vec![Fate::Step(step), Fate::Kill] } else { vec![Fate::Step(step)] };
    let kills = prop::collection::vec(prop::bool::weighted(0.1), 40);
    (steps(), kills).prop_map(move |(steps, kills)| steps.into_iter().zip(kills).flat_map(of).collect())
}

async fn play(outcomes: Vec<Outcome>, fates: Vec<Fate>, window: usize) {
    let script = Mutex::new(VecDeque::from(outcomes));
    let store = ScriptedStore::new(move |_| {
        script.lock().unwrap().pop_front().unwrap_or(Outcome::Done(Duration::from_millis(10)))
    });
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(&store, &directory, 1 << 20).await;
    let (mut programme, mut all) = (Programme::new(window), BTreeSet::new());
    for fate in fates {
        match fate {
            Fate::Step(Step::Segment) => programme.segment(false),
            Fate::Step(Step::Gap) => programme.segment(true),
            Fate::Step(Step::Run) => programme.run(),
            Fate::Step(Step::Restart) => programme.restart(),
            Fate::Step(Step::Change) => programme.change(),
            Fate::Kill => {
                drop(process);
                process = Process::start(&store, &directory, 1 << 20).await;
                programme.restart();
            }
        }
        all.extend(listed(&programme));
        process.bench.publish(&programme);
        sleep(SEGMENT).await;
    }
    programme.segment(false);
    programme.end();
    all.extend(listed(&programme));
    process.bench.publish(&programme);
    // What is refused again and again while others are taken is tried each ten minutes in the end.
    sleep(Duration::from_secs(4 * 3600)).await;
    assert_eq!((process.lacks(&all), process.bench.skipped()), (Vec::new(), 0));
    assert_eq!(process.spool.waiting(), 0);
    process.bench.drain().await.holds(&programme);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_fails_and_whenever_it_is_killed_all_that_was_listed_is_stored(
        outcomes in outcomes(), fates in fates(), window in 3usize..8
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(outcomes, fates, window));
    }
}

#[test]
fn the_independent_reader_leaves_gaps_out() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\n#EXT-X-GAP\n1/4.m4s\n#EXTINF:4.0,\n1/5.m4s\n";
    let key = "live/demo/720p/index.m3u8".to_owned();
    let object = Object { key, data: text.into(), content_type: "", cache_control: String::new() };
    assert_eq!(names(&object), ["live/demo/720p/1/5.m4s".to_owned()].into());
}
