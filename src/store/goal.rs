//! What has to be put so that the store holds one snapshot, and in which order: media, media playlists, multivariant.
//!
//! A pure state machine: no I/O, no clock.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::Object;
use super::backlog::{Backlog, folder};
use super::ledger::Ledger;
use crate::caching::{Cache, PLAYLIST_TYPE, type_of};
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Init, Msn, Playlist, RenditionSnapshot, Segment, with_gaps};
use crate::source::ChannelName;

/// An object to be put, and what the ledger has to know of it.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// The object.
    pub(super) object: Object,
    /// The keys that it names; none for media.
    pub(super) names: BTreeSet<String>,
    /// The time that it covers: of a media playlist that of all its segments; zero for the rest.
    pub(super) span: Duration,
    /// What it is.
    pub(super) role: Role,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Segment,
    Playlist,
    Multivariant,
}

impl Role {
    /// It is replaced again and again; media of one key never changes.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Playlist | Self::Multivariant)
    }
}

/// The uploads that a snapshot still needs, in steps: one begins when all of the step before are stored.
#[derive(Debug, Default)]
pub(super) struct Goal {
    steps: VecDeque<VecDeque<Upload>>,
    in_flight: usize,
    /// The highest number that the snapshot lists.
    last: Option<Msn>,
}

impl Goal {
    /// What `snapshot` needs beyond what is in the store; what could not be put before comes behind the other media, and before it
    /// what is of the same rendition, so that it is soon seen whether anything can be put. Nothing as long as it has no multivariant
    /// playlist: before that nobody could play it.
    pub(super) fn new(channel: &ChannelName, snapshot: &ChannelSnapshot, ledger: &Ledger, backlog: &Backlog) -> Self {
        let Some(multivariant) = &snapshot.multivariant else { return Self::default() };
        let is_needed = |key: &str| !ledger.holds(key) && !backlog.is_gap(key);
        let mut media: Vec<_> = media(channel, snapshot).filter(|(_, upload)| is_needed(&upload.object.key)).collect();
        let suspects = backlog.suspects();
        media.sort_by_key(|(msn, Upload { object: Object { key, .. }, .. })| {
            (backlog.has_failed(key), suspects.contains(folder(key)), *msn)
        });
        let changed = |upload: &Upload| !ledger.holds_text(&upload.object.key, &upload.object.data);
        let playlists: Vec<_> = playlists(channel, snapshot, backlog).collect();
        let multivariant = multivariant_upload(channel, snapshot, multivariant, &playlists);
        let steps = [
            media.into_iter().map(|(_, upload)| upload).collect(),
            playlists.into_iter().filter(changed).collect(),
            Some(multivariant).into_iter().filter(changed).collect::<VecDeque<_>>(),
        ];
        Self { steps: VecDeque::from(steps), in_flight: 0, last: listed(snapshot).map(|(_, s)| s.msn).max() }
    }

    /// All media that the playlists of `snapshot` name and that is in memory.
    pub(super) fn media(channel: &ChannelName, snapshot: &ChannelSnapshot) -> impl Iterator<Item = Upload> {
        media(channel, snapshot).map(|(_, upload)| upload)
    }

    /// The next object to put, where one can be begun now. Each is to be followed by [`Goal::stored`] or
    /// [`Goal::put_back`].
    pub(super) fn take(&mut self) -> Option<Upload> {
        self.skip_done();
        let upload = self.steps.front_mut()?.pop_front()?;
        self.in_flight = self.in_flight.saturating_add(1);
        Some(upload)
    }

    /// What [`Goal::take`] would give.
    pub(super) fn next(&mut self) -> Option<&Upload> {
        self.skip_done();
        self.steps.front()?.front()
    }

    fn skip_done(&mut self) {
        while self.in_flight == 0 && self.steps.front().is_some_and(VecDeque::is_empty) {
            self.steps.pop_front();
        }
    }

    /// One of the objects taken is in the store.
    pub(super) fn stored(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// One of the objects taken could not be put. A playlist is the next again; with media the others have their turn first,
    /// so that it is seen whether they can be put.
    pub(super) fn put_back(&mut self, upload: Upload) {
        self.stored();
        match self.steps.front_mut() {
            Some(step) if upload.role.is_text() => step.push_front(upload),
            Some(step) => step.push_back(upload),
            None => self.steps.push_front(VecDeque::from([upload])),
        }
    }

    /// An object of media is on its way since before the goal was taken. True where the goal wants it: it counts as taken.
    pub(super) fn adopt(&mut self, key: &str) -> bool {
        let is_wanted = self.forget(key);
        self.in_flight = self.in_flight.saturating_add(usize::from(is_wanted));
        is_wanted
    }

    /// An object need not be begun any more. True where it was to be.
    pub(super) fn forget(&mut self, key: &str) -> bool {
        let before = self.to_begin();
        self.steps.iter_mut().for_each(|step| step.retain(|upload| upload.object.key != key));
        self.to_begin() < before
    }

    fn to_begin(&self) -> usize {
        self.steps.iter().map(VecDeque::len).sum()
    }

    /// All that is still to be begun of the present step is media of which `is_stuck` says that it cannot be put.
    pub(super) fn is_stuck(&self, is_stuck: impl Fn(&str) -> bool) -> bool {
        let step = self.steps.iter().find(|step| self.in_flight > 0 || !step.is_empty());
        step.is_some_and(|step| step.iter().all(|upload| !upload.role.is_text() && is_stuck(&upload.object.key)))
    }

    /// All that is still to be begun, and something is, are playlists.
    pub(super) fn is_at_texts(&self) -> bool {
        let mut steps = self.steps.iter().flatten().peekable();
        steps.peek().is_some() && steps.all(|upload| upload.role.is_text())
    }

    /// Objects that were taken and not answered for.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The store holds the snapshot.
    pub(super) fn is_done(&self) -> bool {
        self.in_flight == 0 && self.steps.iter().all(VecDeque::is_empty)
    }

    /// Everything that the goal's snapshot lists has left the window of `live`.
    pub(super) fn is_stale(&self, live: &ChannelSnapshot) -> bool {
        let first = listed(live).map(|(_, segment)| segment.msn).min();
        self.last.zip(first).is_some_and(|(last, first)| last < first)
    }

    /// The object of this key is still to be begun.
    pub(super) fn waits_for(&self, key: &str) -> bool {
        self.steps.iter().flatten().any(|upload| upload.object.key == key)
    }
}

/// The segments that a snapshot's playlists list and that have media.
pub(super) fn listed(snapshot: &ChannelSnapshot) -> impl Iterator<Item = (&RenditionSnapshot, &Segment)> {
    let of = |rendition| RenditionSnapshot::listed(rendition).map(move |segment| (rendition, &**segment));
    snapshot.renditions.iter().flat_map(move |rendition| of(&**rendition)).filter(|(_, segment)| !segment.is_gap())
}

/// Both snapshots' playlists are the same, and list the same: what differs is not for the store, such as parts.
pub(super) fn same_listing(one: &ChannelSnapshot, other: &ChannelSnapshot) -> bool {
    let last = |rendition: &RenditionSnapshot| rendition.segments.back().map(|segment| segment.msn);
    let same = |one: &RenditionSnapshot, other: &RenditionSnapshot| {
        one.playlist == other.playlist
            && i_frames(one) == i_frames(other)
            && one.first_listed == other.first_listed
            && last(one) == last(other)
    };
    one.multivariant == other.multivariant
        && one.renditions.len() == other.renditions.len()
        && one.renditions.iter().zip(&other.renditions).all(|(one, other)| same(one, other))
}

/// The key of a segment.
pub(super) fn segment_key(channel: &ChannelName, rendition: &RenditionSnapshot, segment: &Segment) -> String {
    segment_resource(rendition, segment).path(channel)
}

fn segment_resource(rendition: &RenditionSnapshot, segment: &Segment) -> Resource {
    Resource::segment(rendition.container, rendition.name.clone(), segment.session, segment.msn)
}

/// The initialisation segments that a rendition's playlist names, each with the first number that needs it.
fn named_inits(rendition: &RenditionSnapshot) -> impl Iterator<Item = (Msn, &Init)> {
    rendition.inits.iter().filter_map(|init| {
        let first = rendition.listed().find(|segment| segment.session == init.session)?;
        Some((first.msn, &**init))
    })
}

pub(super) fn init_key(channel: &ChannelName, rendition: &RenditionSnapshot, init: &Init) -> String {
    Resource::Init(rendition.name.clone(), init.session).path(channel)
}

/// All media that the playlists name and that is in memory, with the number that each is needed for; inits before segments.
fn media(channel: &ChannelName, snapshot: &ChannelSnapshot) -> impl Iterator<Item = (Msn, Upload)> {
    let inits = snapshot.renditions.iter().flat_map(|rendition| {
        named_inits(rendition).map(|(msn, init)| {
            let resource = Resource::Init(rendition.name.clone(), init.session);
            (msn, media_upload(channel, &resource, &init.data, Role::Init))
        })
    });
    // What is not in memory any more is in the store.
    let segments = listed(snapshot).filter_map(|(rendition, segment)| {
        let data = segment.data()?;
        let upload = media_upload(channel, &segment_resource(rendition, segment), data, Role::Segment);
        Some((segment.msn, Upload { span: segment.duration.to_duration(), ..upload }))
    });
    inits.chain(segments)
}

fn media_upload(channel: &ChannelName, resource: &Resource, data: &Bytes, role: Role) -> Upload {
    let object = media_object(resource.path(channel), resource, data.clone());
    Upload { object, names: BTreeSet::new(), span: Duration::ZERO, role }
}

/// The object of this key, which is the path of `resource`.
pub(super) fn media_object(key: String, resource: &Resource, data: Bytes) -> Object {
    let cache_control = Cache::Immutable.control().into_owned();
    Object { key, data, content_type: type_of(resource), cache_control }
}

fn playlists(channel: &ChannelName, snapshot: &ChannelSnapshot, backlog: &Backlog) -> impl Iterator<Item = Upload> {
    let cache = Cache::playlist(snapshot.target_duration_secs);
    snapshot.renditions.iter().flat_map(move |rendition| {
        let texts = [
            (Resource::Playlist(rendition.name.clone()), rendition.playlist.as_ref()),
            (Resource::IFrames(rendition.name.clone()), i_frames(rendition)),
        ];
        let texts = texts.into_iter().filter_map(|(resource, text)| Some((resource.path(channel), text?)));
        let gaps = gaps(channel, rendition, backlog);
        texts.map(move |(key, text)| Upload {
            object: playlist_object(key, with_gaps(&text.text, &gaps), cache),
            names: named(channel, rendition, backlog),
            span: rendition.listed().map(|segment| segment.duration.to_duration()).sum(),
            role: Role::Playlist,
        })
    })
}

fn i_frames(rendition: &RenditionSnapshot) -> Option<&Playlist> {
    rendition.i_frames.as_ref().map(|i_frames| &i_frames.playlist)
}

/// The segments that a rendition's playlists list and the store lacks, as they are named there.
fn gaps(channel: &ChannelName, rendition: &RenditionSnapshot, backlog: &Backlog) -> BTreeSet<String> {
    let missing = rendition.listed().map(|segment| segment_resource(rendition, segment));
    let missing = missing.filter(|resource| backlog.is_gap(&resource.path(channel)));
    missing.map(|resource| resource.below_rendition()).collect()
}

/// The media that a rendition's playlists name.
fn named(channel: &ChannelName, rendition: &RenditionSnapshot, backlog: &Backlog) -> BTreeSet<String> {
    let segments = rendition.listed().filter(|s| !s.is_gap()).map(|segment| segment_key(channel, rendition, segment));
    let segments = segments.filter(|key| !backlog.is_gap(key));
    named_inits(rendition).map(|(_, init)| init_key(channel, rendition, init)).chain(segments).collect()
}

fn multivariant_upload(
    channel: &ChannelName,
    snapshot: &ChannelSnapshot,
    playlist: &Playlist,
    media_playlists: &[Upload],
) -> Upload {
    let cache = Cache::multivariant(snapshot.target_duration_secs);
    let object = playlist_object(Resource::Multivariant.path(channel), playlist.text.clone(), cache);
    let names = media_playlists.iter().map(|upload| upload.object.key.clone()).collect();
    Upload { object, names, span: Duration::ZERO, role: Role::Multivariant }
}

fn playlist_object(key: String, text: Bytes, cache: Cache) -> Object {
    Object { key, data: text, content_type: PLAYLIST_TYPE, cache_control: cache.control().into_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::backlog::{Left, Patience};
    use super::super::scripted::{Programme, names};
    use super::*;

    fn channel() -> ChannelName {
        ChannelName::new("demo").unwrap()
    }

    fn programme(segments: usize) -> Programme {
        let mut programme = Programme::new(5);
        (0..segments).for_each(|_| programme.segment(false));
        programme
    }

    fn goal(snapshot: &ChannelSnapshot) -> Goal {
        Goal::new(&channel(), snapshot, &Ledger::new(channel()), &Backlog::default())
    }

    /// Takes all that can be taken before something is stored.
    fn step(goal: &mut Goal) -> Vec<String> {
        std::iter::from_fn(|| goal.take()).map(|upload| upload.object.key).collect()
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let mut goal = goal(&programme(2).snapshot());
        let media = step(&mut goal);
        let mut expected = Vec::new();
        for file in ["init.mp4", "1.m4s", "2.m4s"] {
            expected.extend(["720p", "360p", "audio"].map(|rendition| format!("live/demo/{rendition}/1/{file}")));
        }
        assert_eq!(media, expected, "what is needed first is put first");
        media.iter().skip(1).for_each(|_| goal.stored());
        assert_eq!(step(&mut goal), [""; 0], "one is still on its way");
        goal.stored();
        let playlists = ["720p/index", "720p/iframes", "360p/index", "360p/iframes", "audio/index"];
        assert_eq!(step(&mut goal), playlists.map(|name| format!("live/demo/{name}.m3u8")));
        (0..5).for_each(|_| goal.stored());
        assert_eq!(step(&mut goal), ["live/demo/index.m3u8"]);
        assert!(!goal.is_done());
        goal.stored();
        assert!(goal.is_done());
    }

    #[test]
    fn what_could_not_be_put_comes_behind_the_other_media_and_before_the_playlists() {
        let mut goal = goal(&programme(1).snapshot());
        let first = goal.take().unwrap();
        let key = first.object.key.clone();
        assert!(!goal.waits_for(&key));
        goal.put_back(first);
        assert!(goal.waits_for(&key) && goal.in_flight() == 0);
        let media = step(&mut goal);
        assert_eq!((media.len(), media.last()), (6, Some(&key)));
        media.iter().for_each(|_| goal.stored());
        let playlist = goal.take().unwrap();
        let key = playlist.object.key.clone();
        goal.put_back(playlist);
        assert_eq!(goal.take().unwrap().object.key, key, "a playlist is the next");
    }

    #[test]
    fn what_is_of_a_rendition_of_which_something_could_not_be_put_comes_behind_the_others() {
        let (snapshot, mut backlog) = (programme(2).snapshot(), Backlog::default());
        let begin = Instant::now();
        backlog.see(Goal::media(&channel(), &snapshot), |_| false, |_| false, begin);
        backlog.failed("live/demo/720p/1/init.mp4", begin);
        let media = step(&mut Goal::new(&channel(), &snapshot, &Ledger::new(channel()), &backlog));
        assert!(media.iter().take(6).all(|key| !key.contains("720p")), "{media:?}");
        assert_eq!(media[6..], ["1.m4s", "2.m4s", "init.mp4"].map(|file| format!("live/demo/720p/1/{file}")));
    }

    #[test]
    fn what_could_not_be_put_in_time_is_a_gap_in_both_playlists_of_its_rendition() {
        let (snapshot, mut backlog) = (programme(4).snapshot(), Backlog::default());
        let begin = Instant::now();
        let patience = Patience { segment: Duration::from_secs(20), lull: Duration::from_secs(20) };
        let key = "live/demo/720p/1/2.m4s";
        let late = begin + patience.segment;
        backlog.see(Goal::media(&channel(), &programme(3).snapshot()), |_| false, |_| false, begin);
        backlog.works(begin, begin, patience);
        (0..3).for_each(|_| backlog.failed(key, begin));
        backlog.see(Goal::media(&channel(), &snapshot), |_| false, |_| false, late);
        backlog.stored("live/demo/360p/1/4.m4s", late);
        backlog.tried(key, late);
        backlog.works(late, late, patience);
        assert_eq!(backlog.give_up(late, begin, patience, |_| false, &mut Left::default()), 1);
        let goal = Goal::new(&channel(), &snapshot, &Ledger::new(channel()), &backlog);
        assert!(!goal.waits_for(key));
        let uploads: Vec<_> = goal.steps.iter().flatten().collect();
        for (file, gaps) in [("720p/index", 1), ("720p/iframes", 1), ("360p/index", 0), ("audio/index", 0)] {
            let upload = uploads.iter().find(|upload| upload.object.key.ends_with(&format!("{file}.m3u8"))).unwrap();
            let text = std::str::from_utf8(&upload.object.data).unwrap();
            assert_eq!(text.matches("#EXT-X-GAP\n1/2.m4s\n").count(), gaps, "{file}: {text}");
            assert_eq!(upload.names, names(&upload.object), "what is named is what the ledger is told of");
        }
    }

    #[test]
    fn nothing_is_put_before_it_can_be_played() {
        let snapshot = ChannelSnapshot { multivariant: None, ..(*programme(1).snapshot()).clone() };
        assert!(goal(&snapshot).is_done());
    }

    #[test]
    fn only_what_is_listed_makes_a_difference() {
        let (one, two) = (programme(1), programme(2));
        assert!(same_listing(&one.snapshot(), &one.snapshot()));
        assert!(!same_listing(&one.snapshot(), &two.snapshot()));
        assert!(!same_listing(&one.snapshot(), &ChannelSnapshot::default()));
        let mut ended = programme(1);
        ended.end();
        assert!(!same_listing(&one.snapshot(), &ended.snapshot()));
    }

    #[test]
    fn headers_follow_the_policy() {
        let snapshot = ChannelSnapshot { target_duration_secs: 5, ..(*programme(1).snapshot()).clone() };
        let goal = goal(&snapshot);
        let immutable = "public, max-age=1209600, immutable";
        for (key, content_type, cache_control) in [
            ("live/demo/index.m3u8", "application/vnd.apple.mpegurl", "public, max-age=3"),
            ("live/demo/720p/index.m3u8", "application/vnd.apple.mpegurl", "public, max-age=2"),
            ("live/demo/720p/iframes.m3u8", "application/vnd.apple.mpegurl", "public, max-age=2"),
            ("live/demo/720p/1/init.mp4", "video/mp4", immutable),
            ("live/demo/720p/1/1.m4s", "video/mp4", immutable),
            ("live/demo/audio/1/1.m4s", "audio/mp4", immutable),
        ] {
            let upload = goal.steps.iter().flatten().find(|upload| upload.object.key == key).unwrap();
            assert_eq!(upload.object.content_type, content_type, "{key}");
            assert_eq!(upload.object.cache_control, cache_control, "{key}");
        }
    }
}
