//! What waits in the spool: how much, in which order, and what is given up where there is no room.
//!
//! A pure state machine: no I/O; the time is given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::layout::Resource;
use crate::source::ChannelName;

/// The objects that wait; see the module.
#[derive(Debug)]
pub(super) struct Index {
    bytes_max: u64,
    bytes: u64,
    /// By age, the oldest first.
    entries: BTreeMap<u64, Entry>,
    ages: BTreeMap<String, u64>,
    next: u64,
    channels: BTreeMap<ChannelName, Waiting>,
    /// When the store last took something, from here or from an uploader.
    taken: Option<Instant>,
    /// What waits no more, and is still on the disk.
    doomed: Vec<String>,
}

/// One object.
#[derive(Debug)]
struct Entry {
    key: String,
    bytes: u64,
    at: Place,
    /// An uploader still tries to store it itself.
    held: bool,
    /// The store has refused it, and it is not its turn before.
    not_before: Option<Instant>,
    /// How often it has done so; after the first time only where others were stored since, so that it is not for want of a store.
    refusals: u32,
    /// When it did so first.
    refused: Option<Instant>,
}

/// How many objects of a channel wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Waiting {
    pub(in crate::store) objects: u64,
    /// Of those, the ones that the store has refused again and again while it took others.
    pub(in crate::store) hopeless: u64,
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On its way to the disk.
    Coming,
    /// On the disk.
    Here,
    /// On the disk, and on its way to the store.
    Going,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

/// What becomes of an object that is to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is to be written, once these are deleted, which are given up for it.
    Write(Vec<String>),
    /// It waits already.
    Known,
    /// There is no room for it, whatever is given up.
    TooLarge,
}

impl Index {
    /// Of a spool that takes so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            entries: BTreeMap::new(),
            ages: BTreeMap::new(),
            next: 0,
            channels: BTreeMap::new(),
            taken: None,
            doomed: Vec::new(),
        }
    }

    /// An object that a process before this one left; the oldest first.
    pub(super) fn found(&mut self, key: &str, bytes: u64) {
        self.insert(key, bytes, Place::Here, false);
    }

    /// An object of an uploader is to wait: it is held, and followed by [`Index::written`].
    pub(super) fn admit(&mut self, key: &str, bytes: u64) -> Admission {
        if self.ages.contains_key(key) {
            return Admission::Known;
        }
        let fixed = self.entries.values().filter(|entry| entry.at != Place::Here).map(|entry| entry.bytes);
        if fixed.sum::<u64>().saturating_add(bytes) > self.bytes_max {
            return Admission::TooLarge;
        }
        let excess = self.bytes.saturating_add(bytes).saturating_sub(self.bytes_max);
        let given_up = self.give_up(excess);
        self.insert(key, bytes, Place::Coming, true);
        Admission::Write(given_up)
    }

    /// An admitted object is on the disk, or could not be written.
    pub(super) fn written(&mut self, key: &str, is_there: bool) {
        if !is_there {
            self.remove(key);
        } else if let Some(entry) = self.entry(key) {
            entry.at = Place::Here;
        }
    }

    /// Takes the oldest objects off that have so many bytes together, or as many as there are; they are to be deleted.
    pub(super) fn give_up(&mut self, bytes: u64) -> Vec<String> {
        let mut freed = 0u64;
        let oldest = self.entries.values().filter(|entry| entry.at == Place::Here).take_while(|entry| {
            let more = freed < bytes;
            freed = freed.saturating_add(entry.bytes);
            more
        });
        let given_up: Vec<_> = oldest.map(|entry| entry.key.clone()).collect();
        given_up.iter().for_each(|key| drop(self.remove(key)));
        given_up
    }

    /// What is more than may wait, after the limit was lowered.
    pub(super) fn give_up_excess(&mut self) -> Vec<String> {
        self.give_up(self.bytes.saturating_sub(self.bytes_max))
    }

    /// The uploader leaves an object to the spool. False where it does not wait there any more.
    pub(super) fn release(&mut self, key: &str) -> bool {
        self.entry(key).map(|entry| entry.held = false).is_some()
    }

    /// The object is in the store, by whomever; its file is doomed.
    pub(super) fn stored(&mut self, key: &str) {
        if self.remove(key).is_some() {
            self.doomed.push(key.to_owned());
        }
    }

    /// Files to be deleted.
    pub(super) fn take_doomed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.doomed)
    }

    /// The object that is to go to the store now, and its bytes: of those that were refused least often the oldest. It is to be
    /// followed by [`Index::stored`], [`Index::lost`] or [`Index::refused`].
    pub(super) fn go(&mut self, now: Instant) -> Option<(String, u64)> {
        let is_due = |entry: &Entry| entry.is_free() && entry.not_before.is_none_or(|not_before| not_before <= now);
        let due = || self.entries.iter().filter(|(_, entry)| is_due(entry));
        // Most have never been refused, and then it is one of the first.
        let next =
            due().find(|(_, entry)| entry.refusals == 0).or_else(|| due().min_by_key(|(_, entry)| entry.refusals));
        let age = *next?.0;
        let entry = self.entries.get_mut(&age)?;
        entry.at = Place::Going;
        Some((entry.key.clone(), entry.bytes))
    }

    /// The store has taken an object at `now`.
    pub(super) fn taken(&mut self, now: Instant) {
        self.taken = Some(now);
    }

    /// The store has refused an object at `now`: the others have their turn for a while, and for longer each time. How often it was
    /// refused, where others were taken since the first time.
    pub(super) fn refused(&mut self, key: &str, now: Instant) -> Option<u32> {
        let taken = self.taken;
        let entry = self.entry(key)?;
        let is_alone = entry.refused.is_none_or(|refused| taken.is_some_and(|taken| refused < taken));
        entry.refusals = entry.refusals.saturating_add(u32::from(is_alone));
        let loses_hope = is_alone && entry.refusals == HOPELESS;
        let doubled = 1u32.checked_shl(entry.refusals.saturating_sub(1)).filter(|doubled| *doubled > 0);
        let aside = SET_ASIDE.saturating_mul(doubled.unwrap_or(u32::MAX)).min(SET_ASIDE_MAX);
        (entry.at, entry.not_before) = (Place::Here, now.checked_add(aside));
        entry.refused.get_or_insert(now);
        let refusals = entry.refusals;
        if let Some(waiting) = self.of_key(key).filter(|_| loses_hope) {
            waiting.hopeless = waiting.hopeless.saturating_add(1);
        }
        is_alone.then_some(refusals)
    }

    /// The object's file has vanished.
    pub(super) fn lost(&mut self, key: &str) {
        self.remove(key);
    }

    /// When an object that was refused has its turn again.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| entry.is_free()).filter_map(|entry| entry.not_before).min()
    }

    /// How much waits.
    pub(super) fn depth(&self) -> Depth {
        Depth { objects: u64::try_from(self.entries.len()).unwrap_or(u64::MAX), bytes: self.bytes }
    }

    /// How many objects of a channel wait.
    pub(super) fn of(&self, channel: &ChannelName) -> Waiting {
        self.channels.get(channel).copied().unwrap_or_default()
    }

    /// What is counted for the channel of an object that waits.
    fn of_key(&mut self, key: &str) -> Option<&mut Waiting> {
        let (channel, _) = Resource::parse(key)?;
        Some(self.channels.entry(channel).or_default())
    }

    fn entry(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(self.ages.get(key)?)
    }

    fn insert(&mut self, key: &str, bytes: u64, at: Place, held: bool) {
        let (not_before, refusals, refused) = (None, 0, None);
        let entry = Entry { key: key.to_owned(), bytes, at, held, not_before, refusals, refused };
        self.entries.insert(self.next, entry);
        self.ages.insert(key.to_owned(), self.next);
        self.next = self.next.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(waiting) = self.of_key(key) {
            waiting.objects = waiting.objects.saturating_add(1);
        }
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.entries.remove(&self.ages.remove(key)?)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if let Some(waiting) = self.of_key(key) {
            waiting.objects = waiting.objects.saturating_sub(1);
            waiting.hopeless = waiting.hopeless.saturating_sub(u64::from(entry.refusals >= HOPELESS));
            self.channels.retain(|_, waiting| waiting.objects > 0);
        }
        Some(entry)
    }
}

impl Entry {
    fn is_free(&self) -> bool {
        self.at == Place::Here && !self.held
    }
}

/// Longer than the longest wait between tries, so that the next try is of another object.
const SET_ASIDE: Duration = Duration::from_secs(15);

/// What the store never takes is tried so often.
const SET_ASIDE_MAX: Duration = Duration::from_secs(600);

/// After so many refusals, in some 25 minutes, nobody waits for an object any more, though it is tried on.
const HOPELESS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> String {
        format!("live/demo/720p/1/{n}.m4s")
    }

    /// Takes what there is, of 10 bytes each, and lets go of it.
    fn with(bytes_max: u64, count: u64) -> Index {
        let mut index = Index::new(bytes_max);
        for n in 0..count {
            index.admit(&key(n), 10);
            index.written(&key(n), true);
            index.release(&key(n));
        }
        index
    }

    fn of_demo(index: &Index) -> Waiting {
        index.of(&ChannelName::new("demo").unwrap())
    }

    fn go(index: &mut Index) -> Option<String> {
        index.go(Instant::now()).map(|(key, _)| key)
    }

    #[test]
    fn the_oldest_is_given_up_for_the_newest() {
        let mut index = with(30, 3);
        assert_eq!(index.admit(&key(3), 15), Admission::Write(vec![key(0), key(1)]));
        assert_eq!(index.depth(), Depth { objects: 2, bytes: 25 });
        assert_eq!(index.admit(&key(4), 31), Admission::TooLarge);
        assert_eq!(index.admit(&key(4), 16), Admission::TooLarge, "what is being written cannot be given up");
        assert_eq!(index.admit(&key(2), 10), Admission::Known);
        index.written(&key(3), false);
        assert_eq!(
            (index.depth(), of_demo(&index)),
            (Depth { objects: 1, bytes: 10 }, Waiting { objects: 1, hopeless: 0 })
        );
        assert_eq!(index.give_up(1), [key(2)]);
        assert_eq!((index.depth(), of_demo(&index)), (Depth::default(), Waiting::default()));
    }

    #[test]
    fn they_go_in_order_and_who_was_refused_waits_for_its_turn() {
        let mut index = with(100, 3);
        assert_eq!([go(&mut index), go(&mut index)], [Some(key(0)), Some(key(1))]);
        let now = Instant::now();
        let later = now + Duration::from_secs(15);
        assert_eq!(index.refused(&key(0), now), Some(1));
        assert_eq!(index.next_turn(), Some(later));
        assert_eq!([go(&mut index), go(&mut index)], [Some(key(2)), None]);
        assert_eq!(index.go(later), Some((key(0), 10)));
        index.stored(&key(0));
        assert_eq!((index.take_doomed(), index.take_doomed()), (vec![key(0)], vec![]));
        assert_eq!(index.depth().objects, 2);
    }

    #[test]
    fn who_was_refused_often_comes_last_and_waits_longer() {
        let mut index = with(100, 3);
        let mut now = Instant::now();
        // In the last three others had been stored.
        for (refused, is_stored, expected, aside) in [
            (0, false, Some(1), 15),
            (0, false, None, 15),
            (0, true, Some(2), 30),
            (0, true, Some(3), 60),
            (1, true, Some(1), 15),
        ] {
            if is_stored {
                index.taken(now);
            }
            assert_eq!(index.refused(&key(refused), now), expected);
            let due = index.entry(&key(refused)).unwrap().not_before;
            assert_eq!(due, Some(now + Duration::from_secs(aside)), "{refused}");
            now += Duration::from_secs(aside);
        }
        let turns: Vec<_> = (0..3).filter_map(|_| index.go(now).map(|(key, _)| key)).collect();
        assert_eq!(turns, [key(2), key(1), key(0)], "the newest was never refused");
        index.taken(now);
        assert_eq!(of_demo(&index), Waiting { objects: 3, hopeless: 0 });
        (0..20).for_each(|_| _ = index.refused(&key(0), now));
        assert_eq!(of_demo(&index), Waiting { objects: 3, hopeless: 1 });
        assert_eq!(index.entry(&key(0)).unwrap().not_before, Some(now + SET_ASIDE_MAX));
        index.stored(&key(0));
        assert_eq!(of_demo(&index), Waiting { objects: 2, hopeless: 0 });
    }

    #[test]
    fn what_an_uploader_holds_or_is_not_written_yet_does_not_go() {
        let mut index = Index::new(100);
        index.admit(&key(1), 10);
        assert!(index.release(&key(1)) && go(&mut index).is_none());
        index.written(&key(1), true);
        index.admit(&key(2), 10);
        index.written(&key(2), true);
        assert_eq!([go(&mut index), go(&mut index)], [Some(key(1)), None]);
        index.stored(&key(2));
        assert!(!index.release(&key(2)), "it is not there any more");
    }
}
