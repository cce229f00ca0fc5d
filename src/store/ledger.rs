//! What of one channel is in the store, as far as this process put it there: what is complete, what names what, and
//! when what nothing names any more is to be deleted.
//!
//! A pure state machine: no I/O; the time is given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Version;
use super::goal::{Role, Upload, init_key, listed, segment_key};
use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Msn, NamedFrom, RenditionSnapshot, Segment, StoredUpTo};
use crate::source::ChannelName;

/// The objects of one channel.
#[derive(Debug)]
pub(super) struct Ledger {
    channel: ChannelName,
    objects: BTreeMap<String, Entry>,
    /// The longest playlist so far: somebody may hold one for this time.
    longest: Duration,
}

/// One object.
#[derive(Debug, Default)]
struct Entry {
    /// It is known to be stored as it was last put; else a put has begun, and nobody knows.
    stored: bool,
    /// A playlist's text.
    text: Option<Bytes>,
    /// What it names, and what an older text names that may still be the one in the store.
    names: BTreeSet<String>,
    span: Duration,
    expires: Option<Instant>,
    /// The one that this process wrote last, where the store told.
    version: Option<Version>,
}

impl Ledger {
    /// An empty one.
    pub(super) fn new(channel: ChannelName) -> Self {
        Self { channel, objects: BTreeMap::new(), longest: Duration::ZERO }
    }

    /// The object of this key is in the store.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.objects.get(key).is_some_and(|entry| entry.stored)
    }

    /// The playlist of this key is in the store, with this text.
    pub(super) fn holds_text(&self, key: &str, text: &Bytes) -> bool {
        self.objects.get(key).is_some_and(|entry| entry.stored && entry.text.as_ref() == Some(text))
    }

    /// A put begins: until it is known to have succeeded, the old object may be in the store or the new one.
    pub(super) fn attempt(&mut self, upload: &Upload) {
        let entry = self.objects.entry(upload.object.key.clone()).or_default();
        entry.stored = false;
        // A playlist that comes back is wanted, though nothing names it before the multivariant playlist does.
        entry.expires = None;
        entry.names.extend(upload.names.iter().cloned());
        entry.span = upload.span;
    }

    /// The put has succeeded.
    pub(super) fn stored(&mut self, upload: Upload) {
        if upload.role == Role::Playlist {
            self.longest = self.longest.max(upload.span);
        }
        let entry = self.objects.entry(upload.object.key).or_default();
        entry.stored = true;
        entry.text = upload.role.is_text().then_some(upload.object.data);
        entry.names = upload.names;
    }

    /// What `snapshot` lists and does not have in memory is in the store: a process before this one put it there.
    pub(super) fn inherit(&mut self, snapshot: &ChannelSnapshot) {
        for (rendition, segment) in listed(snapshot).filter(|(_, segment)| segment.is_cold()) {
            let entry = Entry { stored: true, span: segment.duration.to_duration(), ..Entry::default() };
            self.objects.insert(segment_key(&self.channel, rendition, segment), entry);
        }
    }

    /// The multivariant playlist is in the store as this process put it, so that what the store names is known.
    pub(super) fn has_root(&self) -> bool {
        self.holds(&Resource::Multivariant.path(&self.channel))
    }

    /// The version of the object of this key that this process wrote last, where that is known.
    pub(super) fn version(&self, key: &str) -> Option<Version> {
        self.objects.get(key).and_then(|entry| entry.version.clone())
    }

    /// The object of this key is of this version, or nobody knows of which.
    pub(super) fn set_version(&mut self, key: &str, version: Option<Version>) {
        if let Some(entry) = self.objects.get_mut(key) {
            entry.version = version;
        }
    }

    /// A snapshot is in the store whole. What no stored playlist names will be deleted after the time that it covers
    /// and that of the longest playlist (RFC 8216bis, 6.2.2). What leaves together goes together: an initialisation
    /// segment not before the last segment that needs it.
    pub(super) fn sweep(&mut self, now: Instant) {
        let unnamed = self.unnamed();
        let leaving = self.objects.iter_mut().filter(|(key, entry)| entry.expires.is_none() && unnamed.contains(*key));
        let mut leaving: Vec<_> = leaving.map(|(_, entry)| entry).collect();
        let span = leaving.iter().map(|entry| entry.span).max().unwrap_or_default();
        let expires = now.checked_add(span.saturating_add(self.longest));
        for entry in &mut leaving {
            entry.expires = expires;
        }
    }

    /// The keys that nothing in the store names, nor ever was told to; the multivariant playlist is no such key.
    fn unnamed(&self) -> BTreeSet<String> {
        let named: BTreeSet<&String> = self.objects.values().flat_map(|entry| &entry.names).collect();
        let root = Resource::Multivariant.path(&self.channel);
        self.objects.keys().filter(|key| **key != root && !named.contains(key)).cloned().collect()
    }

    /// Where the media begins that playlists in the store may name; none where they name none.
    pub(super) fn named_from(&self) -> Option<NamedFrom> {
        let named = self.objects.values().flat_map(|entry| &entry.names);
        let segments = named.filter_map(|key| match Resource::parse(key)?.1 {
            Resource::Segment(_, session, msn) | Resource::TsSegment(_, session, msn) => {
                Some(NamedFrom { session, msn })
            }
            _ => None,
        });
        segments.reduce(NamedFrom::min)
    }

    /// An object is in the store that nobody may need: where nothing is known of it, and nothing names it, it is to be deleted
    /// after `linger`, and the time of the longest playlist. True where that is so.
    pub(super) fn found(&mut self, key: &str, now: Instant, linger: Duration) -> bool {
        let known = self.objects.contains_key(key) || self.objects.values().any(|entry| entry.names.contains(key));
        if !known {
            self.objects.insert(
                key.to_owned(),
                Entry { stored: true, expires: now.checked_add(linger.max(self.longest)), ..Entry::default() },
            );
        }
        !known
    }

    /// What is to be deleted now.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<String> {
        if self.next_expiry().is_none_or(|next| next > now) {
            return Vec::new();
        }
        let unnamed = self.unnamed();
        for (_, entry) in self.objects.iter_mut().filter(|(key, _)| !unnamed.contains(*key)) {
            entry.expires = None;
        }
        let due = self.objects.iter().filter(|(_, entry)| entry.expires.is_some_and(|expires| expires <= now));
        due.map(|(key, _)| key.clone()).take(DELETED_AT_ONCE_MAX).collect()
    }

    /// When the next object expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.objects.values().filter_map(|entry| entry.expires).min()
    }

    /// These are gone, or somebody else's to delete.
    pub(super) fn dismiss(&mut self, keys: &[String]) {
        for key in keys {
            self.objects.remove(key);
        }
    }

    /// Forgets the oldest of what expired and could not be deleted, where it is several windows' worth: memory is
    /// bounded even where the right to delete is missing. How many were forgotten; they stay in the store.
    pub(super) fn forget_excess(&mut self) -> usize {
        let mut expiring: Vec<_> =
            self.objects.iter().filter_map(|(key, entry)| Some((entry.expires?, key.clone()))).collect();
        let live = self.objects.len().saturating_sub(expiring.len());
        let excess = expiring.len().saturating_sub(live.saturating_mul(EXPIRING_WINDOWS_MAX).max(EXPIRING_MIN));
        expiring.sort_unstable();
        for (_, key) in expiring.iter().take(excess) {
            self.objects.remove(key);
        }
        excess
    }

    /// The object of this key is put by the spool from here on: what that brings late is not deleted with what has left the
    /// window, but found later by its age.
    pub(super) fn leave(&mut self, key: &str) {
        if !self.holds(key) {
            self.objects.remove(key);
        }
    }

    /// Segments that `snapshot` lists and the store does not have; those that are gaps there are waited for no more.
    pub(super) fn behind(&self, snapshot: &ChannelSnapshot, is_gap: impl Fn(&str) -> bool) -> u64 {
        let in_memory = listed(snapshot).filter(|(_, segment)| !segment.is_cold());
        let is_missing = |(rendition, segment): &(&RenditionSnapshot, &Segment)| {
            !self.can_be_read(rendition, segment) && !is_gap(&segment_key(&self.channel, rendition, segment))
        };
        u64::try_from(in_memory.filter(is_missing).count()).unwrap_or(u64::MAX)
    }

    /// The segment is in the store, and what is needed to read it.
    fn can_be_read(&self, rendition: &RenditionSnapshot, segment: &Segment) -> bool {
        let init = rendition.init(segment.session).map(|init| init_key(&self.channel, rendition, init));
        init.is_none_or(|init| self.holds(&init)) && self.holds(&segment_key(&self.channel, rendition, segment))
    }

    /// The highest number up to which every rendition that `snapshot` offers is stored, from its first listed on.
    pub(super) fn stored_up_to(&self, snapshot: &ChannelSnapshot) -> Option<Msn> {
        let of = |rendition: &RenditionSnapshot| {
            let is_stored =
                |segment: &&Arc<Segment>| segment.is_gap() || segment.is_cold() || self.can_be_read(rendition, segment);
            rendition.listed().take_while(is_stored).last().map(|segment| segment.msn)
        };
        snapshot.offered().map(|rendition| of(rendition)).min().flatten()
    }

    /// How far each rendition that `snapshot` offers is stored, from its first listed on, but for those that are gaps in the store.
    pub(super) fn progress(
        &self,
        snapshot: &ChannelSnapshot,
        is_gap: impl Fn(&str) -> bool,
    ) -> BTreeMap<RenditionName, StoredUpTo> {
        let of = |rendition: &RenditionSnapshot| {
            let (mut last, mut lacks) = (None, BTreeSet::new());
            for segment in rendition.listed() {
                if !segment.is_gap() && !segment.is_cold() {
                    let key = segment_key(&self.channel, rendition, segment);
                    let lacking = is_gap(&key);
                    if !lacking && !self.can_be_read(rendition, segment) {
                        break;
                    }
                    lacks.extend(lacking.then_some(segment.msn));
                }
                last = Some(segment.msn);
            }
            last.map(|last| (rendition.name.clone(), StoredUpTo { last, lacks }))
        };
        snapshot.offered().filter_map(|rendition| of(rendition)).collect()
    }
}

/// What one look at the time removes; the store asks for a part of them at a time.
const DELETED_AT_ONCE_MAX: usize = 1000;
/// In steady state what expires is about a window's worth.
const EXPIRING_WINDOWS_MAX: usize = 4;
const EXPIRING_MIN: usize = 1000;

#[cfg(test)]
mod tests {
    use super::super::Object;
    use super::super::goal::Goal;
    use super::super::scripted::Programme;
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(ChannelName::new("demo").unwrap())
    }

    fn segment(key: &str) -> Upload {
        upload(key, &[], Role::Segment)
    }

    fn upload(key: &str, names: &[&str], role: Role) -> Upload {
        let data = Bytes::from(names.concat());
        let object = Object { key: key.to_owned(), data, content_type: "", cache_control: String::new() };
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Upload { object, names, span: Duration::from_secs(4), role }
    }

    fn put(ledger: &mut Ledger, upload: Upload) {
        ledger.attempt(&upload);
        ledger.stored(upload);
    }

    #[test]
    fn what_an_older_text_may_still_name_stays() {
        let mut ledger = ledger();
        put(&mut ledger, segment("1"));
        put(&mut ledger, segment("2"));
        put(&mut ledger, upload("playlist", &["1"], Role::Playlist));
        ledger.attempt(&upload("playlist", &["2"], Role::Playlist));
        let now = Instant::now();
        ledger.sweep(now);
        // Nothing names the playlist itself; when it is gone, so are its claims.
        let later = now + Duration::from_secs(8);
        assert_eq!(ledger.expired(later), ["playlist"]);
        ledger.dismiss(&["playlist".to_owned()]);
        ledger.sweep(later);
        assert_eq!(ledger.expired(later + Duration::from_secs(8)), ["1", "2"]);
    }

    #[test]
    fn what_comes_back_does_not_expire_before_it_is_named() {
        let mut ledger = ledger();
        put(&mut ledger, upload("playlist", &["1"], Role::Playlist));
        let now = Instant::now();
        ledger.sweep(now);
        put(&mut ledger, upload("playlist", &["2"], Role::Playlist));
        assert_eq!(ledger.expired(now + Duration::from_secs(3600)), [""; 0]);
    }

    #[test]
    fn a_put_that_has_begun_makes_a_text_uncertain() {
        let mut ledger = ledger();
        let first = upload("playlist", &["1"], Role::Playlist);
        put(&mut ledger, first.clone());
        assert!(ledger.holds_text("playlist", &first.object.data));
        ledger.attempt(&upload("playlist", &["2"], Role::Playlist));
        assert!(!ledger.holds_text("playlist", &first.object.data));
    }

    #[test]
    fn a_segment_without_its_initialisation_segment_is_not_stored() {
        let (mut ledger, mut programme) = (ledger(), Programme::new(5));
        (0..3).for_each(|_| programme.segment(false));
        let snapshot = programme.snapshot();
        let is_init = |upload: &Upload| upload.object.key.ends_with("init.mp4");
        let (inits, segments): (Vec<_>, Vec<_>) = Goal::media(&ledger.channel, &snapshot).partition(is_init);
        segments.into_iter().for_each(|upload| put(&mut ledger, upload));
        let stored = |ledger: &Ledger| {
            let progress = ledger.progress(&snapshot, |_| false);
            let (behind, all) = (ledger.behind(&snapshot, |_| false), ledger.stored_up_to(&snapshot));
            (progress.values().map(|rendition| rendition.last.0).collect::<Vec<_>>(), behind, all)
        };
        assert_eq!(stored(&ledger), (vec![], 9, None));
        inits.into_iter().for_each(|upload| put(&mut ledger, upload));
        assert_eq!(stored(&ledger), (vec![3, 3, 3], 0, Some(Msn(3))));
    }

    #[test]
    fn what_cannot_be_deleted_is_forgotten_in_the_end() {
        let mut ledger = ledger();
        let now = Instant::now();
        for n in 0..EXPIRING_MIN + 10 {
            put(&mut ledger, segment(&n.to_string()));
            ledger.sweep(now + Duration::from_secs(u64::try_from(n).unwrap()));
        }
        assert_eq!(ledger.forget_excess(), 10);
        assert!(!ledger.holds("9") && ledger.holds("10"), "the oldest first");
        assert_eq!(ledger.forget_excess(), 0);
    }
}
