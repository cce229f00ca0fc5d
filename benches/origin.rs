//! How long the origin takes from a request line to a response, without the network.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use headwater::ladder::{RenditionKind, RenditionName};
use headwater::live::{
    ChannelPhase, ChannelSnapshot, ChannelView, Directory, Lazy, Media, Msn, News, Playlist, RenditionSnapshot,
    Segment, SessionId, UploadStatus,
};
use headwater::media::{Container, MediaTime};
use headwater::origin::answer::{Asked, World, answer};
use headwater::origin::route::route;
use headwater::source::ChannelName;
use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::{mpsc, watch};

fn bench(c: &mut Criterion) {
    let directory = directory();
    let world = World { directory: &directory, elsewhere: false, draining: false };
    for (name, path, field) in [
        ("playlist", "/live/demo/720p/index.m3u8", (ACCEPT_ENCODING, "gzip, deflate, br")),
        ("playlist, not modified", "/live/demo/720p/index.m3u8", (IF_NONE_MATCH, "\"x\"")),
        ("segment of 1.4 MB", "/live/demo/720p/1700000000000/12.m4s", (ACCEPT_ENCODING, "identity")),
        ("range of a segment", "/live/demo/720p/1700000000000/12.m4s", (RANGE, "bytes=1000-99999")),
        ("not found", "/live/demo/720p/1700000000000/99.m4s", (ACCEPT_ENCODING, "identity")),
    ] {
        let headers = headers(field);
        let asked = Asked { method: &Method::GET, headers: &headers, reach: None };
        c.bench_function(name, |b| b.iter(|| answer(&route(&Method::GET, black_box(path)), None, &asked, &world)));
    }
}

/// What a browser sends, and `field`.
fn headers(field: (HeaderName, &'static str)) -> HeaderMap {
    let browser = [("host", "localhost:8080"), ("accept", "*/*"), ("user-agent", "Mozilla/5.0"), ("origin", "null")];
    let browser = browser.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    browser.into_iter().chain([(field.0, HeaderValue::from_static(field.1))]).collect()
}

fn directory() -> Directory {
    let live = watch::channel(Arc::new(snapshot())).1;
    let view = ChannelView {
        window: Duration::from_secs(60),
        live,
        phase: watch::channel(ChannelPhase::Idle).1,
        upload: watch::channel(UploadStatus::default()).1,
        chronicle: watch::channel(None).1,
        orders: mpsc::channel(1).0,
        thumbnail: watch::channel(None).1,
    };
    let name = ChannelName::new("demo").into_iter();
    Arc::new(name.map(|name| (name, view.clone())).collect::<BTreeMap<_, _>>())
}

fn snapshot() -> ChannelSnapshot {
    let data = Bytes::from(vec![0; 1_400_000]);
    let rendition = RenditionName::new("720p").into_iter().map(|name| {
        Arc::new(RenditionSnapshot {
            name,
            kind: RenditionKind::Video,
            container: Container::Cmaf,
            playlist: Some(playlist()),
            i_frames: None,
            low_latency: None,
            news: News::default(),
            inits: vec![],
            segments: Arc::new((1..=15).map(|msn| segment(msn, &data)).collect::<VecDeque<_>>()),
            first_listed: Msn(1),
            open: None,
        })
    });
    ChannelSnapshot { target_duration_secs: 4, renditions: rendition.collect(), ..ChannelSnapshot::default() }
}

fn playlist() -> Playlist {
    let (text, gzip) = (Bytes::from(vec![b'#'; 2048]), Bytes::from(vec![0; 512]));
    Playlist::new(text, "\"x\"".to_owned(), SystemTime::UNIX_EPOCH, Lazy::new(|| gzip))
}

fn segment(msn: u64, data: &Bytes) -> Arc<Segment> {
    Arc::new(Segment {
        msn: Msn(msn),
        session: SessionId(1_700_000_000_000),
        discontinuity: false,
        start: MediaTime::ZERO,
        duration: MediaTime::from_millis(4000),
        program_date_time: SystemTime::UNIX_EPOCH,
        media: Media::Hot { data: data.clone(), parts: vec![] },
    })
}

criterion_group!(benches, bench);
criterion_main!(benches);
