//! For tests: a store in memory that does as a script says, and checks after each change that no playlist in it names
//! what is not there; and a programme that makes snapshots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{At, Condition, Listed, Object, Store, StoreError, Version, probe_object};
use crate::ladder::{RenditionKind, RenditionName};
use crate::live::{
    ChannelSnapshot, IFrames, Init, Lazy, Media, Msn, News, Playlist, RenditionSnapshot, Segment, SessionId,
};
use crate::media::{Container, MediaTime};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// Done after this time.
    Done(Duration),
    /// Refused after this time.
    Refused(Duration),
    /// Done after this time, but the answer is an error.
    AnswerLost(Duration),
    /// Done when it has had the uplink for this time, which all that are on their way share.
    Shared(Duration),
    /// Given up at once, and done after this time: puts alone.
    Late(Duration),
}

/// What is asked: an object of this key to be put, one to be deleted or read, what there is, or the probe.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Put(&'a str),
    Delete,
    Get,
    List,
    Probe,
}

/// Later than any test.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How finely the uplink is shared.
const TICK: Duration = Duration::from_millis(100);

type Script = Box<dyn Fn(Request<'_>) -> Outcome + Send + Sync>;

/// A store in memory that does as a script says.
pub(crate) struct ScriptedStore {
    script: Script,
    pub(crate) contents: Arc<Mutex<Contents>>,
    /// Whoever has a part of it counts.
    uplink: Arc<()>,
    /// What is done late.
    late: Mutex<JoinSet<()>>,
}

#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<String, Object>,
    /// When a playlist that named this key was last replaced.
    last_named: BTreeMap<String, Instant>,
    /// Keys that were deleted, and how long after they had last been named.
    pub(crate) deleted: Vec<(String, Duration)>,
    /// Keys in the order of their puts.
    pub(crate) puts: Vec<String>,
    /// The keys that were put in place of a version.
    pub(crate) replaced: BTreeSet<String>,
    /// How often each key was put.
    versions: BTreeMap<String, usize>,
}

impl std::fmt::Debug for ScriptedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScriptedStore")
    }
}

impl ScriptedStore {
    pub(crate) fn new(script: impl Fn(Request<'_>) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            contents: Arc::default(),
            uplink: Arc::default(),
            late: Mutex::default(),
        })
    }

    async fn act<T>(&self, request: Request<'_>, action: impl FnOnce(&mut Contents) -> T) -> Result<T, StoreError> {
        self.act_as((self.script)(request), request, action).await
    }

    async fn act_as<T>(
        &self,
        outcome: Outcome,
        request: Request<'_>,
        action: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, StoreError> {
        match outcome {
            Outcome::Done(time) | Outcome::Refused(time) | Outcome::AnswerLost(time) => sleep(time).await,
            Outcome::Shared(time) => self.share(time).await,
            Outcome::Late(_) => {}
        }
        let error = StoreError::Throttled(At { place: "memory".to_owned(), detail: format!("{request:?}") });
        if matches!(outcome, Outcome::Refused(_) | Outcome::Late(_)) {
            return Err(error);
        }
        let mut contents = self.contents.lock().unwrap();
        let result = action(&mut contents);
        contents.check();
        if matches!(outcome, Outcome::Done(_) | Outcome::Shared(_)) { Ok(result) } else { Err(error) }
    }

    async fn share(&self, mut left: Duration) {
        let part = Arc::clone(&self.uplink);
        while !left.is_zero() {
            sleep(TICK).await;
            // But for the store's own.
            let parts = u32::try_from(Arc::strong_count(&part)).unwrap() - 1;
            left = left.saturating_sub(TICK / parts);
        }
    }
}

#[async_trait]
impl Store for ScriptedStore {
    async fn put(&self, object: Object) -> Result<(), StoreError> {
        let key = object.key.clone();
        self.act(Request::Put(&key), |contents| contents.put(object)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read(key).await?.map(|(data, _)| data))
    }

    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let found = |contents: &mut Contents| {
            contents.objects.get(key).map(|object| (object.data.clone(), contents.version(key)))
        };
        self.act(Request::Get, found).await
    }

    async fn put_if(&self, object: Object, condition: Condition) -> Result<Option<Version>, StoreError> {
        let key = object.key.clone();
        let condition = match condition {
            Condition::Found => self.read(&key).await?.map_or(Condition::Absent, |(_, version)| Condition::Is(version)),
            condition => condition,
        };
        let outcome = (self.script)(Request::Put(&key));
        if let Outcome::Late(time) = outcome {
            let (contents, object, condition) = (Arc::clone(&self.contents), object.clone(), condition.clone());
            self.late.lock().unwrap().spawn(async move {
                sleep(time).await;
                contents.lock().unwrap().put_if(object, condition);
            });
        }
        let put = self.act_as(outcome, Request::Put(&key), |contents| contents.put_if(object, condition));
        let changed = || StoreError::Changed(At { place: "memory".to_owned(), detail: key.clone() });
        put.await?.map(Some).ok_or_else(changed)
    }

    async fn is_conditional(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            self.act(Request::Delete, |contents| contents.delete(key)).await?;
        }
        Ok(())
    }

    /// Two at a time. Whatever was not put is old.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let page = |contents: &mut Contents| {
            let wanted = |key: &&String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
            let listed = |key: &String| {
                let new = contents.versions.contains_key(key);
                let modified = SystemTime::UNIX_EPOCH + if new { CENTURY } else { Duration::ZERO };
                let bytes = contents.objects.get(key).map_or(0, |object| object.data.len());
                Listed { key: key.clone(), modified, bytes: u64::try_from(bytes).unwrap() }
            };
            contents.objects.keys().filter(wanted).take(2).map(listed).collect()
        };
        self.act(Request::List, page).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        assert_eq!(probe_object().key, "headwater-probe");
        self.act(Request::Probe, |_| {}).await
    }
}

impl Contents {
    fn put(&mut self, object: Object) {
        for name in self.objects.get(&object.key).map(names).unwrap_or_default() {
            self.last_named.insert(name, Instant::now());
        }
        self.puts.push(object.key.clone());
        *self.versions.entry(object.key.clone()).or_default() += 1;
        self.objects.insert(object.key.clone(), object);
    }

    /// The new version, where the condition holds.
    fn put_if(&mut self, object: Object, condition: Condition) -> Option<Version> {
        let (key, is_there) = (object.key.clone(), self.objects.contains_key(&object.key));
        if let Condition::Is(_) = condition {
            self.replaced.insert(key.clone());
        }
        let holds = match condition {
            Condition::Any | Condition::Found => true,
            Condition::Absent => !is_there,
            Condition::Is(version) => is_there && self.version(&key) == version,
        };
        holds.then(|| self.put(object)).map(|()| self.version(&key))
    }

    fn version(&self, key: &str) -> Version {
        Version(self.versions.get(key).copied().unwrap_or_default().to_string())
    }

    fn delete(&mut self, key: &str) {
        if self.objects.remove(key).is_some() {
            let named = self.last_named.get(key).copied().unwrap_or_else(Instant::now);
            self.deleted.push((key.to_owned(), named.elapsed()));
        }
    }

    /// Law 1.
    fn check(&self) {
        for playlist in self.objects.values() {
            for name in names(playlist) {
                assert!(self.objects.contains_key(&name), "{} names {name}, which is not there", playlist.key);
            }
        }
    }
}

/// The keys that an object names, as an independent reader of playlists finds them.
pub(crate) fn names(object: &Object) -> BTreeSet<String> {
    if !object.key.ends_with(".m3u8") {
        return BTreeSet::new();
    }
    let (_, playlist) = m3u8_rs::parse_playlist(&object.data).unwrap();
    let uris: Vec<String> = match playlist {
        m3u8_rs::Playlist::MasterPlaylist(master) => {
            let audio = master.alternatives.iter().filter_map(|media| media.uri.clone());
            master.variants.iter().map(|variant| variant.uri.clone()).chain(audio).collect()
        }
        m3u8_rs::Playlist::MediaPlaylist(media) => {
            let inits = media.segments.iter().filter_map(|segment| Some(segment.map.as_ref()?.uri.clone()));
            let gap = |segment: &m3u8_rs::MediaSegment| segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
            let segments = media.segments.iter().filter(|segment| !gap(segment)).map(|segment| segment.uri.clone());
            segments.chain(inits).collect()
        }
    };
    let (directory, _) = object.key.rsplit_once('/').unwrap();
    uris.iter().map(|uri| resolved(directory, uri)).collect()
}

/// A URI, relative to a directory (RFC 3986, 5.2).
fn resolved(directory: &str, uri: &str) -> String {
    let mut steps: Vec<&str> = directory.split('/').collect();
    for step in uri.split('/') {
        match step {
            ".." => steps.truncate(steps.len() - 1),
            step => steps.push(step),
        }
    }
    steps.join("/")
}

/// A channel's programmes: three renditions, four seconds a segment.
#[derive(Debug)]
pub(crate) struct Programme {
    msn: u64,
    session: u64,
    segments: VecDeque<(u64, u64, bool)>,
    /// The runs that are not the first of their programme.
    seams: BTreeSet<u64>,
    /// Segments listed.
    window: usize,
    /// Those that have left memory.
    cold: BTreeSet<u64>,
    ended: bool,
    /// The small picture is not part of the programme: nothing of it is offered.
    is_small: bool,
}

/// Of each segment.
pub(crate) const SEGMENT: Duration = Duration::from_secs(4);
const RENDITIONS: [&str; 3] = ["720p", "360p", "audio"];
/// Segments that stay in a snapshot after they have left the playlist.
const LINGERING: usize = 2;

impl Programme {
    pub(crate) fn new(window: usize) -> Self {
        Self {
            msn: 0,
            session: 1,
            segments: VecDeque::new(),
            seams: BTreeSet::new(),
            window,
            cold: BTreeSet::new(),
            ended: false,
            is_small: false,
        }
    }

    /// One more segment in each rendition; a gap in the first one, where said.
    pub(crate) fn segment(&mut self, gap: bool) {
        self.msn += 1;
        self.segments.push_back((self.msn, self.session, gap));
        while self.segments.len() > self.window + LINGERING {
            self.segments.pop_front();
        }
    }

    /// What is listed and stored leaves memory, but for the newest.
    pub(crate) fn cool(&mut self, stored: Option<Msn>) {
        let lingering = self.segments.len().saturating_sub(self.window);
        let listed = self.segments.iter().skip(lingering).map(|(msn, ..)| *msn);
        self.cold.extend(listed.filter(|msn| Some(Msn(*msn)) <= stored && *msn < self.msn));
    }

    /// The publisher returns: another run.
    pub(crate) fn run(&mut self) {
        self.session += 1;
        self.seams.insert(self.session);
    }

    /// `EXT-X-ENDLIST`.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Another programme: an empty window, and the numbers go on.
    pub(crate) fn restart(&mut self) {
        self.session += 1;
        self.segments.clear();
        self.ended = false;
    }

    /// Another programme, with or without the small picture.
    pub(crate) fn change(&mut self) {
        self.restart();
        self.is_small = !self.is_small;
    }

    pub(crate) fn snapshot(&self) -> Arc<ChannelSnapshot> {
        let renditions: Vec<_> = RENDITIONS.iter().map(|name| Arc::new(self.rendition(name))).collect();
        let multivariant = (!self.segments.is_empty()).then(|| playlist(self.multivariant()));
        Arc::new(ChannelSnapshot { multivariant, target_duration_secs: 4, renditions, ended: self.ended })
    }

    fn make_segment(&self, name: &str, segment: (u64, u64, bool)) -> Segment {
        let (msn, session, _) = segment;
        let gap = is_gap(name, segment);
        Segment {
            msn: Msn(msn),
            session: SessionId(session),
            discontinuity: self.seams.contains(&session) && self.is_first_of_run(segment),
            start: MediaTime::ZERO,
            duration: SEGMENT.into(),
            program_date_time: SystemTime::UNIX_EPOCH,
            media: match gap {
                true => Media::Gap,
                false if self.cold.contains(&msn) => Media::Cold { bytes: None },
                false => Media::Hot { data: format!("media {name} {session} {msn}").into(), parts: Vec::new() },
            },
        }
    }

    fn multivariant(&self) -> String {
        let small = |text: String, line: &&str| text.replace(line, "");
        let without = if self.is_small { SMALL_PICTURE } else { &[] };
        without.iter().fold(MULTIVARIANT.to_owned(), small)
    }

    fn rendition(&self, name: &str) -> RenditionSnapshot {
        if self.is_small && name == "360p" {
            return self.retired(name);
        }
        let lingering = self.segments.len().saturating_sub(self.window);
        let sessions: BTreeSet<_> = self.segments.iter().map(|(_, session, _)| *session).collect();
        let init = |session| {
            Arc::new(Init { session: SessionId(session), data: Bytes::from(format!("init {name} {session}")) })
        };
        RenditionSnapshot {
            name: RenditionName::new(name).unwrap(),
            kind: if name == "audio" { RenditionKind::Audio } else { RenditionKind::Video },
            container: Container::Cmaf,
            playlist: (!self.segments.is_empty()).then(|| playlist(self.text(name, lingering, ""))),
            i_frames: (!self.segments.is_empty() && name != "audio")
                .then(|| self.text(name, lingering, "#EXT-X-I-FRAMES-ONLY\n"))
                .map(|text| IFrames { playlist: playlist(text), low_latency: None, delta: None, next: self.msn + 1 }),
            low_latency: None,
            news: News::default(),
            inits: sessions.into_iter().map(init).collect(),
            segments: Arc::new(
                self.segments.iter().map(|segment| Arc::new(self.make_segment(name, *segment))).collect(),
            ),
            first_listed: Msn(self.segments.get(lingering).map_or(self.msn + 1, |segment| segment.0)),
            open: None,
        }
    }

    /// A rendition that is not offered any more.
    fn retired(&self, name: &str) -> RenditionSnapshot {
        RenditionSnapshot {
            name: RenditionName::new(name).unwrap(),
            kind: RenditionKind::Video,
            container: Container::Cmaf,
            playlist: None,
            i_frames: None,
            low_latency: None,
            news: News::default(),
            inits: Vec::new(),
            segments: Arc::default(),
            first_listed: Msn(self.msn + 1),
            open: None,
        }
    }

    fn text(&self, name: &str, lingering: usize, tag: &str) -> String {
        let mut text = format!("#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:4\n{tag}");
        let mut mapped = None;
        for segment in self.segments.iter().skip(lingering) {
            let (msn, session, _) = *segment;
            if mapped.is_none() {
                text += &format!("#EXT-X-MEDIA-SEQUENCE:{msn}\n");
            }
            if mapped != Some(session) {
                text += if mapped.is_some() { "#EXT-X-DISCONTINUITY\n" } else { "" };
                text += &format!("#EXT-X-MAP:URI=\"{session}/init.mp4\"\n");
                mapped = Some(session);
            }
            text += if is_gap(name, *segment) { "#EXT-X-GAP\n" } else { "" };
            text += &format!("#EXTINF:4.0,\n{session}/{msn}.m4s\n");
        }
        text + if self.ended { "#EXT-X-ENDLIST\n" } else { "" }
    }

    /// A first segment that has left the window is not asked for any more.
    fn is_first_of_run(&self, (msn, session, _): (u64, u64, bool)) -> bool {
        !self.segments.iter().any(|other| other.1 == session && other.0 < msn)
    }
}

fn is_gap(name: &str, (_, _, gap): (u64, u64, bool)) -> bool {
    gap && name == "720p"
}

fn playlist(text: String) -> Playlist {
    let modified = SystemTime::UNIX_EPOCH;
    Playlist::new(text.into(), String::new(), modified, Lazy::new(Bytes::new))
}

/// What the multivariant playlist lacks without it.
const SMALL_PICTURE: &[&str] = &[
    "#EXT-X-STREAM-INF:BANDWIDTH=1000000,AUDIO=\"audio\"\n360p/index.m3u8\n",
    "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=100000,URI=\"360p/iframes.m3u8\"\n",
];

const MULTIVARIANT: &str = "#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",URI=\"audio/index.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=3000000,AUDIO=\"audio\"
720p/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1000000,AUDIO=\"audio\"
360p/index.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=300000,URI=\"720p/iframes.m3u8\"
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=100000,URI=\"360p/iframes.m3u8\"
";
