//! The media of one channel that is listed and not in the store: since when, whether it waits in the spool meanwhile, and
//! when the playlists of the others wait for it no longer.
//!
//! A pure state machine: no I/O; the time is given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::Object;
use super::goal::{Role, Upload};

/// The media; see the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    media: BTreeMap<String, Waiting>,
    /// Segments that the store's playlists list as gaps, as long as they list them: players were told.
    gaps: BTreeSet<String>,
    /// The folders of renditions of which segments were given up, and none was stored since.
    broken: BTreeSet<String>,
    /// When something was put last.
    stored: Option<Instant>,
    /// Since then something was put time and again.
    works: Option<Instant>,
}

/// How long it takes until something is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// The playlists wait for a segment for so long.
    pub(super) segment: Duration,
    /// Where nothing was put for so long, that is not for want of trying, nor because one put was waited for: the store failed.
    pub(super) lull: Duration,
}

impl Patience {
    /// What fails late in the time of a segment is tried again for so long.
    pub(super) fn of_try(self) -> Duration {
        self.segment / TRIED_PART
    }

    /// Where nothing was put for so long, something else than what fails is to be tried, lest it look like a lull.
    fn of_doubt(self) -> Duration {
        self.lull / TRIES_MIN
    }
}

/// An object that is not in the store.
#[derive(Debug)]
struct Waiting {
    object: Object,
    role: Role,
    /// When it was first seen in a playlist.
    since: Instant,
    spool: InSpool,
    /// When it could not be put first, since the store works, and how often it could not.
    failed: Option<Instant>,
    failures: u32,
    /// When something was begun after that which could.
    other: Option<Instant>,
    /// When it was tried last.
    tried: Option<Instant>,
}

/// Whether an object is on local disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InSpool {
    No,
    Coming,
    Kept,
}

/// Objects that the uploader does not put any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// They wait in the spool.
    pub(super) kept: Vec<String>,
    /// Segments that are lost.
    pub(super) lost: u64,
}

impl Backlog {
    /// `listed` is all media of the newest playlists. What is in the store, as `is_stored` says, is none of the backlog's; what
    /// is listed no more leaves it, unless the uploader is at it still.
    pub(super) fn see(
        &mut self,
        listed: impl Iterator<Item = Upload>,
        is_stored: impl Fn(&str) -> bool,
        is_wanted: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Left {
        let mut seen = BTreeSet::new();
        for Upload { object, role, .. } in listed {
            let key = object.key.clone();
            if !is_stored(&key) && !self.gaps.contains(&key) && !self.media.contains_key(&key) {
                self.media.insert(key.clone(), Waiting::new(object, role, now));
            }
            seen.insert(key);
        }
        self.gaps.retain(|key| seen.contains(key));
        let gone = |key: &String, waiting: &mut Waiting| {
            waiting.spool != InSpool::Coming && !seen.contains(key) && !is_wanted(key)
        };
        let mut left = Left::default();
        self.media.extract_if(.., gone).for_each(|(key, waiting)| left.add(key, &waiting));
        left
    }

    /// Nothing of the channel is put any more.
    pub(super) fn leave(&mut self) -> Left {
        let mut left = Left::default();
        std::mem::take(&mut self.media).into_iter().for_each(|(key, waiting)| left.add(key, &waiting));
        left
    }

    /// An object is in the store, by a put that began at `begun`. True where it waits in the spool in vain; one that is on its
    /// way there is told by [`Backlog::kept`].
    pub(super) fn stored(&mut self, key: &str, begun: Instant) -> bool {
        self.broken.remove(folder(key));
        let stored = self.media.remove(key);
        self.proves(begun);
        stored.is_some_and(|stored| stored.spool == InSpool::Kept)
    }

    /// The store did something that began at `begun`: what failed before that, and fails from then on, fails alone.
    pub(super) fn proves(&mut self, begun: Instant) {
        for waiting in self.media.values_mut().filter(|waiting| waiting.failed.is_some_and(|failed| failed < begun)) {
            waiting.other.get_or_insert(begun);
        }
    }

    /// A put of the object begins.
    pub(super) fn tried(&mut self, key: &str, now: Instant) {
        self.media.get_mut(key).into_iter().for_each(|waiting| waiting.tried = Some(now));
    }

    /// The object is listed, and not in the store.
    pub(super) fn has(&self, key: &str) -> bool {
        self.media.contains_key(key)
    }

    /// Something was put, or could have been, while playlists wait since `begun`. What failed in a time in which nothing could be
    /// put has failed with the store.
    pub(super) fn works(&mut self, now: Instant, begun: Instant, patience: Patience) {
        let before = self.idle_since(begun);
        self.stored = Some(now);
        if before.is_none_or(|before| before + patience.lull < now) {
            self.works = Some(now);
            self.broken.clear();
            for waiting in self.media.values_mut() {
                (waiting.failed, waiting.failures, waiting.other) = (None, 0, None);
            }
        }
    }

    /// Since when nothing was put of what was to be, where anything ever was.
    fn idle_since(&self, begun: Instant) -> Option<Instant> {
        self.stored.map(|stored| stored.max(begun))
    }

    /// When, if nothing is put until then, it is to be seen whether anything can be.
    pub(super) fn doubts_at(&self, begun: Instant, patience: Patience) -> Instant {
        self.idle_since(begun).unwrap_or(begun) + patience.of_doubt()
    }

    /// The object could not be put.
    pub(super) fn failed(&mut self, key: &str, now: Instant) {
        if let Some(waiting) = self.media.get_mut(key) {
            waiting.failed.get_or_insert(now);
            waiting.failures = waiting.failures.saturating_add(1);
        }
    }

    /// The object could not be put in time, by a put that began at `begun`: that tells as much as several that failed.
    pub(super) fn hangs(&mut self, key: &str, begun: Instant) {
        self.failed(key, begun);
        self.media.get_mut(key).into_iter().for_each(|waiting| waiting.failures = waiting.failures.max(TRIES_MIN));
    }

    /// The object could not be put before.
    pub(super) fn has_failed(&self, key: &str) -> bool {
        self.media.get(key).is_some_and(|waiting| waiting.failed.is_some())
    }

    /// The segment is of a rendition of which nothing can be put.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        let is_segment = self.media.get(key).is_some_and(|waiting| waiting.role == Role::Segment);
        is_segment && self.broken.contains(folder(key))
    }

    /// The object could not be put before, and may become a gap.
    pub(super) fn may_be_gap(&self, key: &str) -> bool {
        self.media.get(key).is_some_and(|waiting| waiting.role == Role::Segment && waiting.failed.is_some())
    }

    /// The folders of renditions of which something could not be put before, or was given up.
    pub(super) fn suspects(&self) -> BTreeSet<&str> {
        let failed = self.media.iter().filter(|(_, waiting)| waiting.failed.is_some());
        failed.map(|(key, _)| folder(key)).chain(self.broken.iter().map(String::as_str)).collect()
    }

    /// The object could not be put for a while, in which it was tried time and again.
    pub(super) fn is_stuck(&self, key: &str, now: Instant, patience: Patience) -> bool {
        self.media.get(key).is_some_and(|waiting| waiting.is_stuck(now, patience))
    }

    /// Until when playlists that wait since `begun` go on to; the time in which nothing could be put is not counted.
    pub(super) fn waits_until(&self, begun: Instant, patience: Patience) -> Instant {
        self.works.map_or(begun, |works| begun.max(works)) + patience.segment
    }

    /// Gives up the segments that could not be put for a while although what was begun later could, nor since that was begun, once
    /// the playlists have waited since `begun` for longer than they may: they are gaps from here on. Of a rendition of which nothing
    /// can be put, the next are given up when they have failed. None that `is_tried` just now. How many they are; what became of
    /// them is in `left`.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        begun: Instant,
        patience: Patience,
        is_tried: impl Fn(&str) -> bool,
        left: &mut Left,
    ) -> u64 {
        if self.idle_since(begun).is_none_or(|since| since + patience.lull <= now) {
            return 0;
        }
        let (is_late, broken) = (self.waits_until(begun, patience) <= now, &self.broken);
        let overdue = |key: &String, waiting: &mut Waiting| {
            let has_failed = waiting.role == Role::Segment && waiting.failed.is_some();
            let has_settled = waiting.spool != InSpool::Coming;
            let is_alone = is_late && waiting.is_alone() && waiting.is_stuck(now, patience) && !is_tried(key);
            has_failed && has_settled && (is_alone || broken.contains(folder(key)))
        };
        let given_up: Vec<_> = self.media.extract_if(.., overdue).collect();
        let mut count = 0u64;
        for (key, waiting) in given_up {
            self.broken.insert(folder(&key).to_owned());
            self.gaps.insert(key.clone());
            left.add(key, &waiting);
            count = count.saturating_add(1);
        }
        count
    }

    /// Something that failed would be lost if it were given up now.
    pub(super) fn has_unkept(&self) -> bool {
        let failed = |waiting: &Waiting| waiting.role == Role::Segment && waiting.failed.is_some();
        self.media.values().any(|waiting| failed(waiting) && waiting.spool == InSpool::No)
    }

    /// All of it is in the spool.
    pub(super) fn is_kept(&self) -> bool {
        self.media.values().all(|waiting| waiting.spool == InSpool::Kept)
    }

    /// The segment is a gap in the store's playlists.
    pub(super) fn is_gap(&self, key: &str) -> bool {
        self.gaps.contains(key)
    }

    /// The oldest object that is to be kept in the spool now, because the store fails (`all`) or is slow with it. It is to be
    /// followed by [`Backlog::kept`].
    pub(super) fn keep(&mut self, all: bool, now: Instant) -> Option<Object> {
        let due = |waiting: &&mut Waiting| waiting.spool == InSpool::No && (all || waiting.since + KEEP_AFTER <= now);
        let waiting = self.media.values_mut().filter(due).min_by_key(|waiting| waiting.since)?;
        waiting.spool = InSpool::Coming;
        Some(waiting.object.clone())
    }

    /// An object is in the spool, or could not be kept. False where nobody waits for it any more.
    pub(super) fn kept(&mut self, key: &str, is_kept: bool) -> bool {
        let Some(waiting) = self.media.get_mut(key) else { return false };
        waiting.spool = if is_kept { InSpool::Kept } else { InSpool::No };
        true
    }

    /// When the next object is to be kept because the store is slow with it.
    pub(super) fn next_keep(&self) -> Option<Instant> {
        let unkept = self.media.values().filter(|waiting| waiting.spool == InSpool::No);
        unkept.filter_map(|waiting| waiting.since.checked_add(KEEP_AFTER)).min()
    }
}

/// What all media of a rendition is below.
pub(super) fn folder(key: &str) -> &str {
    let session = key.rsplit_once('/').map_or(key, |(session, _)| session);
    session.rsplit_once('/').map_or(session, |(rendition, _)| rendition)
}

impl Waiting {
    fn new(object: Object, role: Role, since: Instant) -> Self {
        Self { object, role, since, spool: InSpool::No, failed: None, failures: 0, other: None, tried: None }
    }

    /// Something else could be put since it failed, and it was tried again since then: so an outage that is over is not held against
    /// it.
    fn is_alone(&self) -> bool {
        self.other.zip(self.tried).is_some_and(|(other, tried)| other <= tried)
    }

    fn is_stuck(&self, now: Instant, patience: Patience) -> bool {
        self.failures >= TRIES_MIN && self.failed.is_some_and(|failed| failed + patience.of_try() <= now)
    }
}

impl Left {
    fn add(&mut self, key: String, waiting: &Waiting) {
        match waiting.spool {
            InSpool::No => self.lost = self.lost.saturating_add(u64::from(waiting.role == Role::Segment)),
            InSpool::Coming | InSpool::Kept => self.kept.push(key),
        }
    }
}

/// For this part of the time that playlists wait for a segment, what fails late in it is tried again.
const TRIED_PART: u32 = 4;

/// And so often.
const TRIES_MIN: u32 = 3;

/// A put that takes longer may fail in the end, or this process be gone by then.
const KEEP_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::goal::Goal;
    use super::super::scripted::Programme;
    use super::*;
    use crate::source::ChannelName;

    const PATIENCE: Patience = Patience { segment: Duration::from_secs(20), lull: Duration::from_secs(20) };
    const SECOND: Duration = Duration::from_secs(1);
    const KEY: &str = "live/demo/720p/1/1.m4s";

    fn media(programme: &Programme) -> Vec<Upload> {
        Goal::media(&ChannelName::new("demo").unwrap(), &programme.snapshot()).collect()
    }

    /// One segment in three renditions, with what each needs.
    fn backlog(now: Instant) -> (Backlog, Programme) {
        let (mut backlog, mut programme) = (Backlog::default(), Programme::new(40));
        programme.segment(false);
        assert_eq!(see(&mut backlog, &programme, now), Left::default());
        (backlog, programme)
    }

    fn see(backlog: &mut Backlog, programme: &Programme, now: Instant) -> Left {
        backlog.see(media(programme).into_iter(), |_| false, |_| false, now)
    }

    /// It is tried and refused at once.
    fn refused(backlog: &mut Backlog, key: &str, now: Instant) {
        backlog.tried(key, now);
        backlog.failed(key, now);
    }

    fn given_up(backlog: &mut Backlog, begun: Instant, now: Instant) -> u64 {
        backlog.give_up(now, begun, PATIENCE, |_| false, &mut Left::default())
    }

    #[test]
    fn what_leaves_the_window_is_lost_or_in_the_spool() {
        let now = Instant::now();
        let (mut backlog, mut programme) = backlog(now);
        let kept = backlog.keep(true, now).unwrap().key;
        assert!(backlog.kept(&kept, true));
        let coming = backlog.keep(true, now).unwrap().key;
        let unkept = backlog.keep(true, now).unwrap().key;
        assert!(backlog.kept(&unkept, false));
        programme.restart();
        let left = see(&mut backlog, &programme, now);
        assert_eq!(left.kept, [kept]);
        assert!((2..=3).contains(&left.lost), "segments alone are counted: {left:?}");
        assert!(backlog.kept(&coming, true), "it is waited for");
        assert_eq!(see(&mut backlog, &programme, now).kept, [coming]);
    }

    #[test]
    fn what_the_uploader_is_at_stays_and_what_is_stored_goes() {
        let now = Instant::now();
        let (mut backlog, mut programme) = backlog(now);
        assert!(!backlog.stored(KEY, now), "it is not in the spool");
        let [kept, coming] = [(); 2].map(|()| backlog.keep(true, now).unwrap().key);
        assert!(backlog.kept(&kept, true) && backlog.stored(&kept, now), "that one is");
        assert!(!backlog.stored(&coming, now) && !backlog.kept(&coming, true), "that one will be, in vain");
        programme.restart();
        let left = backlog.see(media(&programme).into_iter(), |_| false, |_| true, now);
        assert_eq!(left, Left::default());
    }

    #[test]
    fn what_is_slow_is_kept_after_a_while() {
        let now = Instant::now();
        let (mut backlog, _) = backlog(now);
        assert!(backlog.keep(false, now).is_none());
        assert_eq!(backlog.next_keep(), Some(now + KEEP_AFTER));
        assert!(backlog.keep(false, now + KEEP_AFTER).is_some());
    }

    /// One more segment is listed, and can be put in one rendition.
    fn another(backlog: &mut Backlog, programme: &mut Programme, now: Instant) {
        programme.segment(false);
        see(backlog, programme, now);
        let last = programme.snapshot().renditions[0].segments.back().unwrap().msn;
        backlog.stored(&format!("live/demo/360p/1/{last}.m4s"), now);
        backlog.works(now, now, PATIENCE);
    }

    #[test]
    fn a_segment_that_alone_cannot_be_put_becomes_a_gap() {
        let begin = Instant::now();
        let (mut backlog, mut programme) = backlog(begin);
        backlog.works(begin, begin, PATIENCE);
        for second in 1..30 {
            let now = begin + SECOND * second;
            refused(&mut backlog, KEY, now);
            another(&mut backlog, &mut programme, now);
            assert_eq!(given_up(&mut backlog, begin, now), u64::from(second == 20), "after {second} s");
        }
        assert!(backlog.is_gap(KEY) && !backlog.is_gap("live/demo/360p/1/1.m4s"));
        see(&mut backlog, &programme, begin);
        assert!(backlog.is_gap(KEY), "as long as it is listed");
        (0..30).for_each(|_| programme.segment(false));
        see(&mut backlog, &programme, begin);
        assert!(!backlog.is_gap(KEY));
    }

    #[test]
    fn what_fails_late_is_tried_for_a_while() {
        let begin = Instant::now();
        let (mut backlog, mut programme) = backlog(begin);
        for second in 1..40 {
            let now = begin + SECOND * second;
            if second >= 30 {
                refused(&mut backlog, KEY, now);
            }
            another(&mut backlog, &mut programme, now);
            assert_eq!(given_up(&mut backlog, begin, now), u64::from(second == 35), "after {second} s");
        }
    }

    #[test]
    fn what_was_on_its_way_when_an_object_failed_proves_nothing() {
        let begin = Instant::now();
        let (mut backlog, _) = backlog(begin);
        backlog.works(begin, begin, PATIENCE);
        let failed = begin + SECOND;
        (0..TRIES_MIN).for_each(|_| backlog.failed(KEY, failed));
        for other in ["360p", "audio"] {
            backlog.tried(KEY, failed);
            backlog.stored(&format!("live/demo/{other}/1/1.m4s"), failed);
            backlog.works(begin + SECOND * 19, begin, PATIENCE);
            assert_eq!(given_up(&mut backlog, begin, begin + SECOND * 30), 0, "{other}");
        }
        backlog.proves(failed + SECOND);
        assert_eq!(given_up(&mut backlog, begin, begin + SECOND * 30), 0, "it was not tried since");
        backlog.tried(KEY, failed + SECOND);
        assert_eq!(given_up(&mut backlog, begin, begin + SECOND * 30), 1);
    }

    #[test]
    fn of_a_rendition_that_is_broken_nothing_is_waited_for_until_it_works() {
        let begin = Instant::now();
        let (mut backlog, mut programme) = backlog(begin);
        let key = |msn: u64| format!("live/demo/720p/1/{msn}.m4s");
        backlog.works(begin, begin, PATIENCE);
        (0..TRIES_MIN).for_each(|_| backlog.failed(KEY, begin));
        another(&mut backlog, &mut programme, begin + SECOND * 19);
        backlog.tried(KEY, begin + SECOND * 19);
        let now = begin + SECOND * 20;
        assert_eq!(given_up(&mut backlog, begin, now), 1);
        for (msn, expected) in [(3, 1), (4, 1), (5, 0)] {
            programme.segment(false);
            see(&mut backlog, &programme, now);
            if msn == 5 {
                backlog.stored(&key(2), now);
            }
            assert_eq!(given_up(&mut backlog, now, now), 0, "before it has failed");
            backlog.failed(&key(msn), now);
            backlog.failed("live/demo/720p/1/init.mp4", now);
            assert_eq!(given_up(&mut backlog, now, now), expected, "{msn}");
        }
    }

    #[test]
    fn while_nothing_can_be_put_nothing_becomes_a_gap() {
        let begin = Instant::now();
        let (mut backlog, mut programme) = backlog(begin);
        backlog.works(begin, begin, PATIENCE);
        backlog.failed(KEY, begin);
        let hasty = Patience { segment: SECOND * 5, ..PATIENCE };
        for second in 5..100 {
            let now = begin + SECOND * second;
            assert_eq!(backlog.give_up(now, begin, hasty, |_| false, &mut Left::default()), 0, "after {second} s");
        }
        // The store is back: there is as much time again, and what failed before is not held against it.
        let back = begin + SECOND * 100;
        backlog.works(back, begin, PATIENCE);
        assert!(!backlog.has_failed(KEY));
        for second in 1..25 {
            let now = back + SECOND * second;
            refused(&mut backlog, KEY, now);
            another(&mut backlog, &mut programme, now);
            assert_eq!(given_up(&mut backlog, begin, now), u64::from(second == 20), "after {second} s");
        }
    }

    #[test]
    fn a_header_is_waited_for() {
        let begin = Instant::now();
        let (mut backlog, mut programme) = backlog(begin);
        let init = "live/demo/720p/1/init.mp4";
        for second in 1..25 {
            let now = begin + SECOND * second;
            backlog.failed(init, now);
            another(&mut backlog, &mut programme, now);
            assert_eq!(given_up(&mut backlog, begin, now), 0);
        }
        assert!(backlog.has_failed(init) && !backlog.has_failed(KEY));
    }
}
