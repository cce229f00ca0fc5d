//! The uploader against a scripted store, on paused time. The store itself checks law 1 after every change.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tokio::time::{sleep, timeout};
use tracing::Level;

use super::super::Object;
use super::super::scripted::{Outcome, Programme, Request, SEGMENT, ScriptedStore, names};
use super::*;
use crate::captured_log::capture;
use crate::live::{Msn, SessionId};

/// An uploader at work, and the packager's end of it.
pub(super) struct Bench {
    pub(super) store: Arc<ScriptedStore>,
    live: watch::Sender<Arc<ChannelSnapshot>>,
    pub(super) status: watch::Receiver<UploadStatus>,
    deadline: CancellationToken,
    pub(super) metrics: Metrics,
    task: JoinSet<()>,
}

impl Bench {
    fn new(store: Arc<ScriptedStore>) -> Self {
        Self::resume(store, Arc::default())
    }

    /// A process before this one has put `stored`.
    fn resume(store: Arc<ScriptedStore>, stored: Arc<ChannelSnapshot>) -> Self {
        Self::start(store, stored, None)
    }

    pub(super) fn start(store: Arc<ScriptedStore>, stored: Arc<ChannelSnapshot>, spool: Option<Spool>) -> Self {
        let (live, snapshots) = watch::channel(Arc::default());
        let (report, status) = watch::channel(UploadStatus::default());
        let (deadline, metrics) = (CancellationToken::new(), Metrics::default());
        let writer = Writer::new(&channel(), Holder::new(SystemTime::UNIX_EPOCH), store.clone());
        let kept = watch::channel(Some(Arc::default())).1;
        let setup = Setup { channel: channel(), store: store.clone(), writer, kept, spool, metrics: metrics.clone() };
        let mut task = JoinSet::new();
        let inherited = Inherited { stored, claimed: false };
        task.spawn(upload(setup, inherited, snapshots, report, deadline.clone()));
        Self { store, live, status, deadline, metrics, task }
    }

    pub(super) fn publish(&self, programme: &Programme) {
        self.send(programme.snapshot());
    }

    pub(super) fn send(&self, snapshot: Arc<ChannelSnapshot>) {
        self.live.send_replace(snapshot);
    }

    /// So many segments, in the time that they take.
    pub(super) async fn segments(&self, programme: &mut Programme, count: usize) {
        for _ in 0..count {
            programme.segment(false);
            self.publish(programme);
            sleep(SEGMENT).await;
        }
    }

    /// The packager is gone; the uploader ends by itself.
    pub(super) async fn drain(self) -> Drained {
        let Self { store, live, status, metrics, mut task, .. } = self;
        drop(live);
        timeout(Duration::from_secs(3600), task.join_next()).await.expect("it ends").unwrap().unwrap();
        Drained { store, status: status.borrow().clone(), metrics }
    }

    /// The deadline comes.
    pub(super) async fn cut_short(&mut self) {
        self.deadline.cancel();
        timeout(Duration::from_millis(1), self.task.join_next()).await.expect("at once").unwrap().unwrap();
    }

    pub(super) fn skipped(&self) -> u64 {
        skipped(&self.metrics)
    }
}

pub(super) struct Drained {
    store: Arc<ScriptedStore>,
    status: UploadStatus,
    metrics: Metrics,
}

impl Drained {
    /// The store's playlists are those of the snapshot, but for gaps, and what they name has the snapshot's bytes.
    pub(super) fn holds(&self, programme: &Programme) {
        let snapshot = programme.snapshot();
        let contents = self.store.contents.lock().unwrap();
        let text = |key: &str| contents.objects[key].data.clone();
        assert_eq!(text("live/demo/index.m3u8"), snapshot.multivariant.as_ref().unwrap().text);
        let mut gaps = false;
        for rendition in snapshot.renditions.iter().filter(|rendition| rendition.playlist.is_some()) {
            let directory = format!("live/demo/{}", rendition.name);
            let key = format!("{directory}/index.m3u8");
            assert_eq!(without_gaps(&text(&key)), without_gaps(&rendition.playlist.as_ref().unwrap().text));
            let named = names(&contents.objects[&key]);
            for segment in rendition.listed().filter(|segment| !segment.is_gap()) {
                let key = format!("{directory}/{}/{}.m4s", segment.session, segment.msn);
                let same = || segment.data().is_none_or(|data| *data == text(&key));
                assert!(!named.contains(&key) || same(), "{key}");
                gaps |= !named.contains(&key);
            }
        }
        assert_eq!(self.status.segments_behind, 0);
        let last = snapshot.renditions[0].segments.back().map(|segment| segment.msn);
        assert!(self.status.stored == last || gaps && self.status.stored < last, "{:?}", self.status);
        assert_eq!(self.status.failing, None);
    }
}

fn without_gaps(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap().replace("#EXT-X-GAP\n", "")
}

pub(super) fn channel() -> ChannelName {
    ChannelName::new("demo").unwrap()
}

pub(super) fn skipped(metrics: &Metrics) -> u64 {
    metrics.store_skipped.get_or_create(&ChannelLabel { channel: channel().to_string() }).get()
}

pub(super) fn prompt() -> Arc<ScriptedStore> {
    ScriptedStore::new(|_| Outcome::Done(Duration::from_millis(20)))
}

/// A store whose requests fail while `fails` says so.
pub(super) fn failing(fails: impl Fn(Request<'_>) -> bool + Send + Sync + 'static) -> Arc<ScriptedStore> {
    ScriptedStore::new(move |request| {
        let time = Duration::from_millis(20);
        if fails(request) { Outcome::Refused(time) } else { Outcome::Done(time) }
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_process_before_had_put_is_not_put_again_and_goes_when_it_should() {
    let store = prompt();
    let mut programme = Programme::new(3);
    let bench = Bench::new(store.clone());
    bench.segments(&mut programme, 3).await;
    bench.drain().await;
    let before = store.contents.lock().unwrap().puts.len();

    let stored = programme.snapshot();
    let bench = Bench::resume(store.clone(), Arc::clone(&stored));
    programme.run();
    bench.segments(&mut programme, 20).await;
    let contents = |of: fn(&str) -> bool| {
        let contents = store.contents.lock().unwrap();
        contents.puts[before..].iter().filter(|key| of(key)).cloned().collect::<BTreeSet<_>>()
    };
    assert!(contents(|key| key.contains("/2/")).len() > 60, "the new run");
    assert_eq!(contents(|key| key.contains("/1/")), BTreeSet::new(), "and nothing of the old");
    let left = store.contents.lock().unwrap().objects.keys().filter(|key| key.contains("/1/")).count();
    assert_eq!(left, 0, "it is deleted when it has left the window");
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_memory_is_not_put_and_is_deleted_when_it_has_left_the_window() {
    let store = prompt();
    let mut programme = Programme::new(6);
    let bench = Bench::new(store.clone());
    bench.segments(&mut programme, 6).await;
    bench.drain().await;
    // Another process knows of the first four by the playlists only.
    programme.cool(Some(Msn(4)));
    let before = store.contents.lock().unwrap().puts.len();
    let bench = Bench::resume(store.clone(), programme.snapshot());
    bench.publish(&programme);
    sleep(SEGMENT).await;
    assert_eq!(bench.status.borrow().stored, Some(Msn(6)));
    assert_eq!(bench.status.borrow().segments_behind, 0);
    programme.run();
    bench.segments(&mut programme, 20).await;
    let of_before = |key: &String| key.contains("/1/");
    {
        let contents = store.contents.lock().unwrap();
        assert!(!contents.puts[before..].iter().any(of_before), "it is there, and its bytes are not here");
        assert!(!contents.objects.keys().any(of_before), "until it has left the window");
    }
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn the_store_follows_and_holds_the_end() {
    let bench = Bench::new(prompt());
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 12).await;
    assert_eq!(bench.status.borrow().stored, Some(Msn(12)));
    programme.end();
    bench.publish(&programme);
    let drained = bench.drain().await;
    drained.holds(&programme);
    assert_eq!(skipped(&drained.metrics), 0);
    let contents = drained.store.contents.lock().unwrap();
    assert_eq!(contents.puts.iter().filter(|key| *key == "live/demo/index.m3u8").count(), 1, "put when changed only");
    assert_eq!(contents.puts.iter().filter(|key| *key == "live/demo/720p/1/3.m4s").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_left_the_playlists_lingers_and_goes() {
    let bench = Bench::new(prompt());
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 10).await;
    programme.run();
    bench.segments(&mut programme, 30).await;
    let contents = bench.store.contents.lock().unwrap();
    let linger = SEGMENT * 6;
    for (key, lingered) in &contents.deleted {
        assert!(*lingered >= linger && *lingered < linger + SEGMENT, "{key} lingered for {lingered:?}");
    }
    let deleted: BTreeSet<_> = contents.deleted.iter().map(|(key, _)| key.as_str()).collect();
    assert!(deleted.contains("live/demo/audio/1/init.mp4") && deleted.contains("live/demo/720p/1/10.m4s"));
    // Two playlists' worth of segments in three renditions, their inits and playlists.
    assert!(contents.objects.len() <= 3 * (5 + 7 + 1 + 1) + 1, "{}", contents.objects.len());
}

#[tokio::test(start_paused = true)]
async fn another_programme_replaces_the_last() {
    let bench = Bench::new(prompt());
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 4).await;
    programme.end();
    bench.publish(&programme);
    sleep(Duration::from_secs(600)).await;
    assert!(bench.store.contents.lock().unwrap().deleted.is_empty(), "what is listed stays");
    programme.restart();
    bench.publish(&programme);
    sleep(Duration::from_secs(60)).await;
    assert!(bench.store.contents.lock().unwrap().deleted.is_empty(), "the old playlists are still there");
    bench.segments(&mut programme, 12).await;
    assert!(bench.store.contents.lock().unwrap().deleted.iter().any(|(key, _)| key == "live/demo/720p/1/1.m4s"));
    assert_eq!(bench.skipped(), 0);
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_rendition_may_leave_with_a_programme_and_come_back() {
    let bench = Bench::new(prompt());
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 4).await;
    programme.end();
    bench.publish(&programme);
    sleep(SEGMENT).await;
    programme.change();
    bench.segments(&mut programme, 3).await;
    assert_eq!(bench.status.borrow().stored, Some(Msn(7)), "what is not offered is not waited for");
    programme.end();
    programme.change();
    bench.segments(&mut programme, 3).await;
    assert_eq!(bench.skipped(), 0, "what was not offered was not passed over");
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_and_made_good() {
    let down = Arc::new(Mutex::new(false));
    let bench = Bench::new(failing({
        let down = down.clone();
        move |_| *down.lock().unwrap()
    }));
    let mut programme = Programme::new(10);
    bench.segments(&mut programme, 5).await;
    *down.lock().unwrap() = true;
    bench.segments(&mut programme, 5).await;
    let status = bench.status.borrow().clone();
    assert_eq!((status.segments_behind, status.stored), (15, Some(Msn(5))));
    assert!(status.failing.unwrap().contains("fewer requests"));
    *down.lock().unwrap() = false;
    bench.segments(&mut programme, 4).await;
    let stored = Some(Msn(14));
    let status = bench.status.borrow().clone();
    let all = status.renditions.values().all(|of| Some(of.last) == stored && of.lacks.is_empty());
    assert!(all && status.renditions.len() == 3, "{status:?}");
    let renditions = status.renditions.clone();
    let named = Some(NamedFrom { session: SessionId(1), msn: Msn(5) });
    assert_eq!(status, UploadStatus { stored, seen: stored, renditions, named, ..UploadStatus::default() });
    assert_eq!(bench.skipped(), 0);
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn the_log_has_one_line_for_a_beginning_and_one_for_an_end() {
    let (log, _logged) = capture(Level::INFO);
    let down = Arc::new(Mutex::new(false));
    let bench = Bench::new(failing({
        let down = down.clone();
        move |_| *down.lock().unwrap()
    }));
    let mut programme = Programme::new(20);
    bench.segments(&mut programme, 3).await;
    *down.lock().unwrap() = true;
    bench.segments(&mut programme, 10).await;
    *down.lock().unwrap() = false;
    bench.segments(&mut programme, 5).await;
    bench.drain().await.holds(&programme);
    let log = log.text();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, words) in lines.iter().zip([
        [
            "WARN channel{channel=demo}",
            "the store asks for fewer requests: memory",
            "uploads are tried again",
            "behind=3",
        ],
        ["INFO channel{channel=demo}", "the store works again", "behind=", "seconds="],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_in_trouble_is_asked_seldom() {
    let asked = Arc::new(Mutex::new(0));
    let bench = Bench::new(failing({
        let asked = asked.clone();
        move |_| {
            *asked.lock().unwrap() += 1;
            true
        }
    }));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 30).await;
    let asked = *asked.lock().unwrap();
    // Two minutes at waits of 5 to 10 s, and the shorter ones at the beginning.
    assert!((12..=40).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_window_leaves_a_hole() {
    let down = Arc::new(Mutex::new(false));
    let bench = Bench::new(failing({
        let down = down.clone();
        move |_| *down.lock().unwrap()
    }));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 5).await;
    *down.lock().unwrap() = true;
    bench.segments(&mut programme, 20).await;
    *down.lock().unwrap() = false;
    bench.segments(&mut programme, 5).await;
    let skipped = bench.skipped();
    assert!((3 * 14..=3 * 20).contains(&skipped), "{skipped}");
    assert_eq!(bench.status.borrow().stored, Some(Msn(30)));
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_has_holes_but_never_stands_still() {
    let bench = Bench::new(ScriptedStore::new(|_| Outcome::Done(Duration::from_secs(11))));
    let mut programme = Programme::new(5);
    let mut texts = BTreeSet::new();
    for _ in 0..75 {
        bench.segments(&mut programme, 1).await;
        let contents = bench.store.contents.lock().unwrap();
        texts.extend(contents.objects.get("live/demo/720p/index.m3u8").map(|object| object.data.clone()));
    }
    assert!(texts.len() >= 4, "{}", texts.len());
    assert!(bench.skipped() > 0);
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_always_refused_is_given_up_and_a_gap_until_it_leaves_the_window() {
    let bench = Bench::new(failing(|request| matches!(request, Request::Put(key) if key == "live/demo/720p/1/3.m4s")));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 4).await;
    assert!(bench.status.borrow().failing.is_some());
    bench.segments(&mut programme, 16).await;
    assert_eq!(bench.skipped(), 1, "and nothing else is");
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_before_the_first_programme() {
    let down = Arc::new(Mutex::new(true));
    let mut bench = Bench::new(failing({
        let down = down.clone();
        move |_| *down.lock().unwrap()
    }));
    timeout(Duration::from_secs(60), bench.status.wait_for(|status| status.failing.is_some())).await.unwrap().unwrap();
    *down.lock().unwrap() = false;
    timeout(Duration::from_secs(60), bench.status.wait_for(|status| status.failing.is_none())).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn missing_rights_to_delete_do_not_hold_up_puts() {
    let bench = Bench::new(failing(|request| matches!(request, Request::Delete)));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 600).await;
    assert_eq!(bench.status.borrow().failing, None);
    assert_eq!(bench.skipped(), 0);
    assert!(bench.metrics.store_errors.get_or_create(&KindLabel { kind: "throttled" }).get() > 0);
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_it_at_once() {
    let mut bench = Bench::new(ScriptedStore::new(|_| Outcome::Done(Duration::from_secs(100_000))));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 2).await;
    bench.cut_short().await;
}

#[tokio::test(start_paused = true)]
async fn draining_outlasts_an_outage() {
    let down = Arc::new(Mutex::new(true));
    let bench = Bench::new(failing({
        let down = down.clone();
        move |_| *down.lock().unwrap()
    }));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 3).await;
    programme.end();
    bench.publish(&programme);
    let mut mending = JoinSet::new();
    mending.spawn(async move {
        sleep(Duration::from_secs(300)).await;
        *down.lock().unwrap() = false;
    });
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn the_older_of_two_writers_stops_and_says_so() {
    let (log, _guard) = capture(Level::ERROR);
    let store = prompt();
    let old = Bench::new(store.clone());
    let mut programme = Programme::new(5);
    old.segments(&mut programme, 4).await;

    let young = Bench::resume(store.clone(), programme.snapshot());
    programme.run();
    young.segments(&mut programme, 1).await;
    let puts = || store.contents.lock().unwrap().puts.len();
    let before = puts();
    let mut stale = Programme::new(5);
    (0..4).for_each(|_| stale.segment(false));
    old.segments(&mut stale, 20).await;
    let by_old: Vec<_> = store.contents.lock().unwrap().puts.iter().skip(before).cloned().collect();
    assert!(by_old.iter().all(|key| key.ends_with(".m4s")), "media that was begun, and no playlist: {by_old:?}");
    assert!(by_old.len() <= 3, "of one segment: {by_old:?}");
    assert!(store.contents.lock().unwrap().deleted.is_empty());
    assert_eq!(log.text().matches("another process took the channel over").count(), 1, "{}", log.text());
    let failing = old.status.borrow().failing.clone().unwrap();
    assert!(failing.contains("took the channel over"), "{failing}");

    young.segments(&mut programme, 3).await;
    drop(old.drain().await);
    young.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn who_has_lost_the_channel_holds_nothing_of_it() {
    let store = prompt();
    let old = Bench::new(store.clone());
    let (mut programme, mut stale) = (Programme::new(5), Programme::new(5));
    old.segments(&mut programme, 4).await;
    let young = Bench::resume(store.clone(), programme.snapshot());
    programme.run();
    young.segments(&mut programme, 1).await;
    stale.segment(false);
    let aimed = stale.snapshot();
    let held = Arc::downgrade(&aimed);
    old.live.send_replace(aimed);
    sleep(SEGMENT).await;
    assert!(old.status.borrow().failing.as_ref().unwrap().contains("took the channel over"));
    old.segments(&mut stale, 2).await;
    assert!(held.upgrade().is_none(), "a window of media");
    drop((old.drain().await, young.drain().await));
}

#[tokio::test(start_paused = true)]
async fn a_look_holds_from_when_it_was_begun() {
    let looks = Arc::new(Mutex::new(0));
    let bench = Bench::new(ScriptedStore::new({
        let looks = looks.clone();
        move |request| {
            let is_look = matches!(request, Request::Get);
            *looks.lock().unwrap() += usize::from(is_look);
            Outcome::Done(if is_look { Duration::from_secs(2) } else { Duration::from_millis(20) })
        }
    }));
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 20).await;
    let looks = *looks.lock().unwrap();
    assert!(looks >= 20, "one for each segment: {looks}");
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_given_up_and_is_done_late_replaces_nothing_newer() {
    let store = prompt();
    let bench = Bench::new(store.clone());
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 3).await;
    let key = "live/demo/720p/index.m3u8";
    assert!(store.contents.lock().unwrap().replaced.contains(key), "it says what it is to replace");
    // Such a put that stays on its way for long:
    let (stale, version) = store.read(key).await.unwrap().unwrap();
    bench.segments(&mut programme, 1).await;
    let object = Object { data: stale, ..store.contents.lock().unwrap().objects[key].clone() };
    let late = store.put_if(object.clone(), Condition::Is(version)).await;
    assert!(matches!(late, Err(StoreError::Changed(_))), "{late:?}");
    // One that another process has done is replaced, as this process has the channel.
    store.put(object).await.unwrap();
    bench.segments(&mut programme, 2).await;
    assert_eq!(bench.status.borrow().failing, None);
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn the_first_write_of_a_process_replaces_nothing_newer_either() {
    let is_first = Mutex::new(true);
    let key = "live/demo/720p/index.m3u8";
    let store = ScriptedStore::new(move |request| match request {
        Request::Put(put) if put == key && std::mem::take(&mut *is_first.lock().unwrap()) => {
            Outcome::Late(Duration::from_secs(30))
        }
        _ => Outcome::Done(Duration::from_millis(5)),
    });
    let bench = Bench::new(store.clone());
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 3).await;
    programme.end();
    let last = programme.snapshot();
    bench.live.send_replace(Arc::clone(&last));
    sleep(Duration::from_secs(60)).await;
    let stored = store.contents.lock().unwrap().objects[key].data.clone();
    let text = last.renditions[0].playlist.as_ref().unwrap().text.clone();
    assert_eq!(stored, text, "the last one stays");
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn what_was_left_behind_is_found_by_its_age() {
    let (log, _guard) = capture(Level::INFO);
    let store = prompt();
    let leave = |key: &str| {
        let object =
            Object { key: key.to_owned(), data: "left".into(), content_type: "", cache_control: String::new() };
        store.contents.lock().unwrap().objects.insert(key.to_owned(), object);
    };
    let foreign = ["live/demo/notes.txt", "live/demo2/720p/0/1.m4s", "live/demo/720p/0/1.2.3.m4s"];
    let left: Vec<_> = (1..8).map(|n| format!("live/demo/720p/0/{n}.m4s")).collect();
    foreign.iter().chain(&["live/demo/720p/0/init.mp4", "live/demo/1080p/0/9.ts"]).for_each(|key| leave(key));
    left.iter().for_each(|key| leave(key));

    let bench = Bench::new(store.clone());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(store.contents.lock().unwrap().deleted.len(), 0, "before it is known what is in use, nothing goes");
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 2).await;
    assert_eq!(store.contents.lock().unwrap().deleted.len(), 0, "an old playlist may have named it");
    bench.segments(&mut programme, 3700 / 4).await;
    let old = || {
        store.contents.lock().unwrap().objects.keys().filter(|key| key.contains("/0/") || key.contains("notes")).count()
    };
    assert_eq!(old(), foreign.len());
    assert!(log.text().contains("left behind") && log.text().contains("objects=9"), "{}", log.text());

    leave("live/demo/720p/0/10.m4s");
    bench.segments(&mut programme, 8 * 3600 / 4).await;
    assert_eq!(old(), foreign.len(), "and again after some hours");
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn one_slow_put_holds_nothing_up() {
    let first = Mutex::new(true);
    let store = ScriptedStore::new(move |request| {
        let is_first =
            matches!(request, Request::Put("live/demo/720p/1/8.m4s")) && std::mem::take(&mut *first.lock().unwrap());
        Outcome::Done(if is_first { Duration::from_secs(3600) } else { Duration::from_millis(20) })
    });
    let bench = Bench::new(store);
    let mut programme = Programme::new(5);
    bench.segments(&mut programme, 8).await;
    assert_eq!(bench.status.borrow().stored, Some(Msn(8)), "by a second attempt");
    assert_eq!(bench.metrics.store_hedged.get_or_create(&ChannelLabel { channel: channel().to_string() }).get(), 1);
    bench.drain().await.holds(&programme);
}

#[tokio::test(start_paused = true)]
async fn where_the_uplink_is_too_narrow_for_all_something_comes_through_all_the_time() {
    let way = Arc::new(Mutex::new(Outcome::Done(Duration::from_millis(20))));
    let present = Arc::clone(&way);
    let store = ScriptedStore::new(move |request| match (*present.lock().unwrap(), request) {
        (Outcome::Shared(time), Request::Put(key)) if key.ends_with(".m4s") => Outcome::Shared(time),
        (Outcome::Shared(_), _) => Outcome::Done(Duration::from_millis(20)),
        (outcome, _) => outcome,
    });
    let bench = Bench::new(store);
    let mut programme = Programme::new(10);
    bench.segments(&mut programme, 15).await;
    // An outage, behind which many are put at one time: an object takes six seconds of the uplink, so that the twelve that may be
    // on their way take more than any is waited for.
    *way.lock().unwrap() = Outcome::Refused(Duration::from_millis(20));
    bench.segments(&mut programme, 15).await;
    *way.lock().unwrap() = Outcome::Shared(SEGMENT * 3 / 2);
    let stored = || {
        let contents = bench.store.contents.lock().unwrap();
        let media = contents.puts.iter().filter(|key| key.ends_with(".m4s")).count();
        (media, contents.objects["live/demo/720p/index.m3u8"].data.clone())
    };
    let mut moved = Vec::new();
    for _ in 0..5 {
        let (media, text) = stored();
        bench.segments(&mut programme, 75).await;
        let (more, another) = stored();
        moved.push((more - media, another != text));
    }
    // In each round 50 can be put, and a goal has 30. It takes a while until it is known how long puts take.
    let comes = |(media, moves): &(usize, bool)| *media >= 30 && *moves;
    assert!(moved[0].0 >= 30 && moved.iter().skip(1).all(comes), "{moved:?}");
    bench.drain().await.holds(&programme);
}

/// What the packager does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Segment,
    Gap,
    Run,
    Restart,
    Change,
}

pub(super) fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let time = || (0u64..9000).prop_map(Duration::from_millis);
    let outcome = prop_oneof![
        6 => time().prop_map(Outcome::Done),
        2 => time().prop_map(Outcome::Refused),
        1 => time().prop_map(Outcome::AnswerLost),
        1 => time().prop_map(Outcome::Late),
    ];
    prop::collection::vec(outcome, 0..150)
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Segment), 1 => Just(Step::Gap), 1 => Just(Step::Run), 1 => Just(Step::Restart), 2 => Just(Step::Change)
    ];
    prop::collection::vec(step, 1..40)
}

async fn play(outcomes: Vec<Outcome>, steps: Vec<Step>, window: usize) {
    let script = Mutex::new(VecDeque::from(outcomes));
    let bench = Bench::new(ScriptedStore::new(move |_| {
        script.lock().unwrap().pop_front().unwrap_or(Outcome::Done(Duration::from_millis(10)))
    }));
    let mut programme = Programme::new(window);
    for step in steps {
        match step {
            Step::Segment => programme.segment(false),
            Step::Gap => programme.segment(true),
            Step::Run => programme.run(),
            Step::Restart => programme.restart(),
            Step::Change => programme.change(),
        }
        bench.publish(&programme);
        sleep(SEGMENT).await;
        programme.cool(bench.status.borrow().stored);
    }
    programme.segment(false);
    programme.end();
    bench.publish(&programme);
    bench.drain().await.holds(&programme);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_fails_no_stored_playlist_names_what_is_not_there(
        outcomes in outcomes(), steps in steps(), window in 3usize..8
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(outcomes, steps, window));
    }
}

#[test]
fn the_independent_reader_finds_what_playlists_name() {
    let mut programme = Programme::new(3);
    programme.segment(true);
    programme.segment(false);
    let text = programme.snapshot().renditions[0].playlist.as_ref().unwrap().text.clone();
    let key = "live/demo/720p/index.m3u8".to_owned();
    let object = Object { key, data: text, content_type: "", cache_control: String::new() };
    let expected = ["live/demo/720p/1/2.m4s", "live/demo/720p/1/init.mp4"];
    assert_eq!(names(&object).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
