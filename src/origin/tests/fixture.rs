//! A directory of two channels: `demo`, whose snapshot a test may change, and `quiet`, which nobody feeds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;

use crate::ladder::{RenditionKind, RenditionName};
use crate::live::{
    ChannelPhase, ChannelSnapshot, ChannelView, Directory, Init, Msn, OpenSegment, Part, Playlist, PublisherStatus,
    RenditionSnapshot, Segment, SessionId, UploadStatus,
};
use crate::media::MediaTime;
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
}

fn view(snapshot: ChannelSnapshot, phase: ChannelPhase) -> (ChannelView, Senders) {
    let (live_sender, live) = watch::channel(Arc::new(snapshot));
    let (phase_sender, phase) = watch::channel(phase);
    let (upload_sender, upload) = watch::channel(UploadStatus::default());
    (ChannelView { live, phase, upload }, (live_sender, phase_sender, upload_sender))
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
    Playlist {
        text: Bytes::from(format!("text of {name}")),
        gzip: Bytes::from(format!("gzip of {name}")),
        etag: format!("\"{name}-1\""),
        modified: noon(),
    }
}

fn rendition(name: &str, kind: RenditionKind) -> RenditionSnapshot {
    RenditionSnapshot {
        name: RenditionName::new(name).unwrap(),
        kind,
        playlist: Some(playlist(name)),
        inits: vec![Arc::new(Init { session: SessionId(5), data: Bytes::from_static(b"init") })],
        segments: VecDeque::from([segment(8, false), segment(9, false), segment(10, true)]),
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
    let data = if gap { Bytes::new() } else { Bytes::from_static(SEGMENT) };
    let parts = if gap { vec![] } else { vec![part(&data.slice(..10)), part(&data.slice(10..))] };
    Arc::new(Segment {
        msn: Msn(msn),
        session: SessionId(5),
        discontinuity: false,
        start: MediaTime::ZERO,
        duration: MediaTime::from_millis(4000),
        program_date_time: noon(),
        data,
        parts,
        gap,
    })
}

fn part(data: &Bytes) -> Part {
    Part { data: data.clone(), duration: MediaTime::from_millis(500), independent: true }
}
