//! What has to be put so that the store holds one snapshot, and in which order: media, media playlists, multivariant.
//!
//! A pure state machine: no I/O, no clock.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::Object;
use super::ledger::Ledger;
use crate::caching::{Cache, PLAYLIST_TYPE, media_type};
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Init, Msn, Playlist, RenditionSnapshot, Segment};
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
    /// What `snapshot` needs beyond what is in the store. Nothing as long as it has no multivariant playlist:
    /// before that nobody could play it.
    pub(super) fn new(channel: &ChannelName, snapshot: &ChannelSnapshot, ledger: &Ledger) -> Self {
        let Some(multivariant) = &snapshot.multivariant else { return Self::default() };
        let media = media(channel, snapshot).filter(|(_, upload)| !ledger.holds(&upload.object.key));
        let mut media: Vec<_> = media.collect();
        media.sort_by_key(|(msn, _)| *msn);
        let changed = |upload: &Upload| !ledger.holds_text(&upload.object.key, &upload.object.data);
        let playlists: Vec<_> = playlists(channel, snapshot).collect();
        let multivariant = multivariant_upload(channel, snapshot, multivariant, &playlists);
        let steps = [
            media.into_iter().map(|(_, upload)| upload).collect(),
            playlists.into_iter().filter(changed).collect(),
            Some(multivariant).into_iter().filter(changed).collect::<VecDeque<_>>(),
        ];
        Self { steps: VecDeque::from(steps), in_flight: 0, last: listed(snapshot).map(|(_, s)| s.msn).max() }
    }

    /// All media that the playlists of `snapshot` name.
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

    /// One of the objects taken could not be put: it is the next again.
    pub(super) fn put_back(&mut self, upload: Upload) {
        self.stored();
        match self.steps.front_mut() {
            Some(step) => step.push_front(upload),
            None => self.steps.push_front(VecDeque::from([upload])),
        }
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

    /// Segments that are still to be begun.
    pub(super) fn segments_waiting(&self) -> usize {
        self.steps.iter().flatten().filter(|upload| upload.role == Role::Segment).count()
    }
}

/// The segments that a snapshot's playlists list and that have media.
pub(super) fn listed(snapshot: &ChannelSnapshot) -> impl Iterator<Item = (&RenditionSnapshot, &Segment)> {
    let of = |rendition| RenditionSnapshot::listed(rendition).map(move |segment| (rendition, &**segment));
    snapshot.renditions.iter().flat_map(move |rendition| of(&**rendition)).filter(|(_, segment)| !segment.gap)
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
    Resource::segment(rendition.container, rendition.name.clone(), segment.session, segment.msn).path(channel)
}

/// The initialisation segments that a rendition's playlist names, each with the first number that needs it.
fn named_inits(rendition: &RenditionSnapshot) -> impl Iterator<Item = (Msn, &Init)> {
    rendition.inits.iter().filter_map(|init| {
        let first = rendition.listed().find(|segment| segment.session == init.session)?;
        Some((first.msn, &**init))
    })
}

fn init_key(channel: &ChannelName, rendition: &RenditionSnapshot, init: &Init) -> String {
    Resource::Init(rendition.name.clone(), init.session).path(channel)
}

/// All media that the playlists name, with the number that each is needed for; inits before segments.
fn media(channel: &ChannelName, snapshot: &ChannelSnapshot) -> impl Iterator<Item = (Msn, Upload)> {
    let inits = snapshot.renditions.iter().flat_map(|rendition| {
        named_inits(rendition).map(|(msn, init)| {
            let upload = media_upload(init_key(channel, rendition, init), rendition, &init.data, Role::Init);
            (msn, upload)
        })
    });
    let segments = listed(snapshot).map(|(rendition, segment)| {
        let key = segment_key(channel, rendition, segment);
        let upload = media_upload(key, rendition, &segment.data, Role::Segment);
        (segment.msn, Upload { span: segment.duration.to_duration(), ..upload })
    });
    inits.chain(segments)
}

fn media_upload(key: String, of: &RenditionSnapshot, data: &Bytes, role: Role) -> Upload {
    let cache_control = Cache::Immutable.control().into_owned();
    let object = Object { key, data: data.clone(), content_type: media_type(of.container, of.kind), cache_control };
    Upload { object, names: BTreeSet::new(), span: Duration::ZERO, role }
}

fn playlists(channel: &ChannelName, snapshot: &ChannelSnapshot) -> impl Iterator<Item = Upload> {
    let cache = Cache::playlist(snapshot.target_duration_secs);
    snapshot.renditions.iter().flat_map(move |rendition| {
        let texts = [
            (Resource::Playlist(rendition.name.clone()), rendition.playlist.as_ref()),
            (Resource::IFrames(rendition.name.clone()), i_frames(rendition)),
        ];
        let texts = texts.into_iter().filter_map(|(resource, text)| Some((resource.path(channel), text?)));
        texts.map(move |(key, text)| Upload {
            object: playlist_object(key, text, cache),
            names: named(channel, rendition),
            span: rendition.listed().map(|segment| segment.duration.to_duration()).sum(),
            role: Role::Playlist,
        })
    })
}

fn i_frames(rendition: &RenditionSnapshot) -> Option<&Playlist> {
    rendition.i_frames.as_ref().map(|i_frames| &i_frames.playlist)
}

/// The media that a rendition's playlists name.
fn named(channel: &ChannelName, rendition: &RenditionSnapshot) -> BTreeSet<String> {
    let segments = rendition.listed().filter(|s| !s.gap).map(|segment| segment_key(channel, rendition, segment));
    named_inits(rendition).map(|(_, init)| init_key(channel, rendition, init)).chain(segments).collect()
}

fn multivariant_upload(
    channel: &ChannelName,
    snapshot: &ChannelSnapshot,
    playlist: &Playlist,
    media_playlists: &[Upload],
) -> Upload {
    let cache = Cache::multivariant(snapshot.target_duration_secs);
    let object = playlist_object(Resource::Multivariant.path(channel), playlist, cache);
    let names = media_playlists.iter().map(|upload| upload.object.key.clone()).collect();
    Upload { object, names, span: Duration::ZERO, role: Role::Multivariant }
}

fn playlist_object(key: String, playlist: &Playlist, cache: Cache) -> Object {
    Object {
        key,
        data: playlist.text.clone(),
        content_type: PLAYLIST_TYPE,
        cache_control: cache.control().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Programme;
    use super::*;

    fn channel() -> ChannelName {
        ChannelName::new("demo").unwrap()
    }

    fn programme(segments: usize) -> Programme {
        let mut programme = Programme::new(5);
        (0..segments).for_each(|_| programme.segment(false));
        programme
    }

    /// Takes all that can be taken before something is stored.
    fn step(goal: &mut Goal) -> Vec<String> {
        std::iter::from_fn(|| goal.take()).map(|upload| upload.object.key).collect()
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let mut goal = Goal::new(&channel(), &programme(2).snapshot(), &Ledger::new(channel()));
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
    fn what_could_not_be_put_is_the_next() {
        let mut goal = Goal::new(&channel(), &programme(1).snapshot(), &Ledger::new(channel()));
        let first = goal.take().unwrap();
        let key = first.object.key.clone();
        goal.put_back(first);
        assert_eq!((goal.in_flight(), goal.take().unwrap().object.key), (0, key));
    }

    #[test]
    fn nothing_is_put_before_it_can_be_played() {
        let snapshot = ChannelSnapshot { multivariant: None, ..(*programme(1).snapshot()).clone() };
        assert!(Goal::new(&channel(), &snapshot, &Ledger::new(channel())).is_done());
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
        let goal = Goal::new(&channel(), &snapshot, &Ledger::new(channel()));
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
