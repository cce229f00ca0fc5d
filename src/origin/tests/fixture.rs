//! A directory of two channels: `demo`, whose snapshot a test may change, and `quiet`, which nobody feeds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::ladder::{RenditionKind, RenditionName};
use crate::live::{
    ChannelPhase, ChannelSnapshot, ChannelView, Directory, IFrames, Init, Lazy, LowLatency, Media, Msn, News,
    OpenSegment, Part, Playlist, PublisherStatus, RenditionSnapshot, Segment, SessionId, Thumbnail, UploadStatus,
};
use crate::media::{Container, MediaTime};
use crate::source::ChannelName;

/// The channels, and the ends that the other stages write to.
pub(super) struct Fixture {
    pub(super) directory: Directory,
    pub(super) live: watch::Sender<Arc<ChannelSnapshot>>,
    pub(super) phase: watch::Sender<ChannelPhase>,
    pub(super) upload: watch::Sender<UploadStatus>,
    _quiet: Senders,
}

type Senders = (watch::Sender<Arc<ChannelSnapshot>>, watch::Sender<ChannelPhase>, watch::Sender<UploadStatus>);

/// When everything happens.
pub(super) fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// The bytes of every segment.
pub(super) const SEGMENT: &[u8] = b"part zero+part one";

impl Fixture {
    pub(super) fn new() -> Self {
        let publisher = PublisherStatus {
            peer: ([192, 0, 2, 7], 4000).into(),
            encoder: Some("obs".into()),
            key_name: None,
            since: noon(),
        };
        let (demo, (live, phase, upload)) = view(demo(), ChannelPhase::Publishing(publisher));
        let (quiet, _quiet) = view(ChannelSnapshot::default(), ChannelPhase::Idle);
        let name = |name| ChannelName::new(name).unwrap();
        let directory = Arc::new(BTreeMap::from([(name("demo"), demo), (name("quiet"), quiet)]));
        Self { directory, live, phase, upload, _quiet }
    }

    /// The same with parts: of 500 ms, and to be waited for.
    pub(super) fn low_latency() -> Self {
        let fixture = Self::new();
        fixture.change(|rendition| {
            let text = |kind: &str| {
                let text = playlist(&format!("{kind} {}", rendition.name));
                Lazy::new(move || text)
            };
            if let Some(i_frames) = &mut rendition.i_frames {
                i_frames.low_latency = Some(text("i-frames"));
            }
            let part_target = MediaTime::from_millis(500);
            rendition.low_latency =
                Some(LowLatency { full: text("full"), delta: Some(text("delta")), part_target, blocking: true });
        });
        fixture
    }

    /// Changes each rendition, publishes that, and then tells of it, as the packager does.
    pub(super) fn change(&self, change: impl Fn(&mut RenditionSnapshot)) {
        self.live.send_modify(|live| {
            let live = Arc::make_mut(live);
            live.renditions.iter_mut().for_each(|rendition| change(Arc::make_mut(rendition)));
        });
        self.live.borrow().renditions.iter().for_each(|rendition| rendition.news.tell());
    }

    /// Adds a part to the segment that is being made.
    pub(super) fn add_part(&self) {
        self.change(|rendition| {
            let open = rendition.open.as_mut().unwrap();
            Arc::make_mut(open).parts.push(part(&Bytes::from_static(b"next part")));
        });
    }

    /// Finishes the segment that is being made.
    pub(super) fn finish_segment(&self) {
        self.change(|rendition| {
            let open = Arc::unwrap_or_clone(rendition.open.take().unwrap());
            let next = OpenSegment { msn: Msn(open.msn.0 + 1), parts: vec![], ..open.clone() };
            let media = Media::Hot { data: Bytes::from_static(SEGMENT), parts: open.parts };
            let done = Segment { media, ..(*segment(open.msn.0, false)).clone() };
            Arc::make_mut(&mut rendition.segments).push_back(Arc::new(done));
            rendition.open = Some(Arc::new(next));
        });
    }
}

fn view(snapshot: ChannelSnapshot, phase: ChannelPhase) -> (ChannelView, Senders) {
    let (live_sender, live) = watch::channel(Arc::new(snapshot));
    let (phase_sender, phase) = watch::channel(phase);
    let (upload_sender, upload) = watch::channel(UploadStatus::default());
    let (_, thumbnail) = watch::channel(Some(Arc::new(Thumbnail::new(Bytes::from_static(b"a picture")))));
    let (chronicle, orders, window) = (watch::channel(None).1, mpsc::channel(1).0, Duration::from_secs(60));
    let view = ChannelView { window, live, phase, upload, chronicle, orders, thumbnail };
    (view, (live_sender, phase_sender, upload_sender))
}

/// Session 5 with segments 8 to 10, of which 9 on are listed and 10 is a gap, and an open segment 11 with one part.
fn demo() -> ChannelSnapshot {
    ChannelSnapshot {
        multivariant: Some(playlist("multivariant")),
        target_duration_secs: 5,
        renditions: vec![
            Arc::new(rendition("720p", RenditionKind::Video)),
            Arc::new(rendition("audio", RenditionKind::Audio)),
        ],
        ended: false,
    }
}

/// A playlist whose texts are easily told apart.
pub(super) fn playlist(name: &str) -> Playlist {
    let gzip = Bytes::from(format!("gzip of {name}"));
    Playlist::new(format!("text of {name}").into(), format!("\"{name}-1\""), noon(), Lazy::new(|| gzip))
}

/// Its last entry is number 20.
fn i_frames(name: &str) -> IFrames {
    IFrames { playlist: playlist(&format!("{name}-i-frames")), low_latency: None, delta: None, next: 21 }
}

fn rendition(name: &str, kind: RenditionKind) -> RenditionSnapshot {
    RenditionSnapshot {
        name: RenditionName::new(name).unwrap(),
        kind,
        container: Container::Cmaf,
        playlist: Some(playlist(name)),
        i_frames: (kind == RenditionKind::Video).then(|| i_frames(name)),
        low_latency: None,
        news: News::default(),
        inits: vec![Arc::new(Init { session: SessionId(5), data: Bytes::from_static(b"init") })],
        segments: Arc::new(VecDeque::from([segment(8, false), segment(9, false), segment(10, true)])),
        first_listed: Msn(9),
        open: Some(Arc::new(OpenSegment {
            msn: Msn(11),
            session: SessionId(5),
            discontinuity: false,
            program_date_time: noon(),
            parts: vec![part(&Bytes::from_static(b"open part"))],
        })),
    }
}

fn segment(msn: u64, gap: bool) -> Arc<Segment> {
    let data = Bytes::from_static(SEGMENT);
    let parts = vec![part(&data.slice(..10)), part(&data.slice(10..))];
    Arc::new(Segment {
        msn: Msn(msn),
        session: SessionId(5),
        discontinuity: false,
        start: MediaTime::ZERO,
        duration: MediaTime::from_millis(4000),
        program_date_time: noon(),
        media: if gap { Media::Gap } else { Media::Hot { data, parts } },
    })
}

fn part(data: &Bytes) -> Part {
    Part { data: data.clone(), duration: MediaTime::from_millis(500), independent: true, gap: false }
}
