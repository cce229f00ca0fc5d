//! The state of the channels: as JSON for operators, and as gauges.

use std::time::SystemTime;

use bytes::Bytes;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::ladder::RenditionKind;
use crate::live::{ChannelPhase, ChannelSnapshot, ChannelView, Directory, RenditionSnapshot, UploadStatus};
use crate::metrics::ChannelLabel;

/// What `GET /api/v1/channels` answers.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    channels: Vec<Channel>,
}

#[derive(Debug, Serialize)]
struct Channel {
    name: String,
    /// `idle`, `publishing` or `grace`.
    phase: &'static str,
    /// Who feeds it, while somebody does.
    publisher: Option<Publisher>,
    /// Since when the publisher is lost, within the grace. RFC 3339.
    lost_since: Option<String>,
    live: Live,
    upload: Upload,
}

#[derive(Debug, Serialize)]
struct Publisher {
    peer: String,
    encoder: Option<String>,
    /// What its stream key is called.
    key: Option<String>,
    since: String,
}

#[derive(Debug, Serialize)]
struct Live {
    /// The multivariant playlist can be fetched.
    playable: bool,
    /// The playlists carry `EXT-X-ENDLIST`.
    ended: bool,
    /// `EXT-X-TARGETDURATION`; none before the first run.
    target_duration_secs: Option<u32>,
    renditions: Vec<Rendition>,
}

#[derive(Debug, Serialize)]
struct Rendition {
    name: String,
    /// `video` or `audio`.
    kind: &'static str,
    /// The first number that the playlist lists.
    first_msn: Option<u64>,
    /// The last number that is complete.
    last_msn: Option<u64>,
    /// Segments that the playlist lists.
    segments_listed: usize,
    /// Segments in memory, those that have left the playlist among them.
    segments_kept: usize,
    /// Bytes of them.
    bytes_kept: usize,
    last_segment: Option<LastSegment>,
    /// Parts of the segment that is being made.
    open_parts: usize,
}

#[derive(Debug, Serialize)]
struct LastSegment {
    bytes: u64,
    duration_secs: f64,
    /// Bits a second over its duration.
    bitrate: u64,
    parts: usize,
    gap: bool,
}

#[derive(Debug, Serialize)]
struct Upload {
    segments_behind: u64,
    stored_msn: Option<u64>,
    /// The error that uploads fail with at present.
    failing: Option<String>,
    /// Objects that wait on local disk until the store takes them.
    spooled: u64,
}

/// The channels as they are at this instant.
pub(super) fn report(directory: &Directory) -> Report {
    let channel = |(name, view): (&crate::source::ChannelName, &ChannelView)| Channel {
        publisher: publisher(&view.phase.borrow()),
        phase: phase(&view.phase.borrow()),
        lost_since: lost_since(&view.phase.borrow()),
        live: live(&view.live.borrow()),
        upload: upload(&view.upload.borrow()),
        name: name.to_string(),
    };
    Report { channels: directory.iter().map(channel).collect() }
}

fn phase(phase: &ChannelPhase) -> &'static str {
    match phase {
        ChannelPhase::Idle => "idle",
        ChannelPhase::Publishing(_) => "publishing",
        ChannelPhase::Grace { .. } => "grace",
    }
}

fn publisher(phase: &ChannelPhase) -> Option<Publisher> {
    let ChannelPhase::Publishing(publisher) = phase else { return None };
    let (peer, encoder) = (publisher.peer.to_string(), publisher.encoder.clone());
    Some(Publisher { peer, encoder, key: publisher.key_name.clone(), since: rfc3339(publisher.since) })
}

fn lost_since(phase: &ChannelPhase) -> Option<String> {
    let ChannelPhase::Grace { since } = phase else { return None };
    Some(rfc3339(*since))
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn live(snapshot: &ChannelSnapshot) -> Live {
    Live {
        playable: snapshot.multivariant.is_some(),
        ended: snapshot.ended,
        target_duration_secs: (snapshot.target_duration_secs > 0).then_some(snapshot.target_duration_secs),
        renditions: snapshot.renditions.iter().map(|r| rendition(r)).collect(),
    }
}

fn rendition(rendition: &RenditionSnapshot) -> Rendition {
    Rendition {
        name: rendition.name.to_string(),
        kind: match rendition.kind {
            RenditionKind::Video => "video",
            RenditionKind::Audio => "audio",
        },
        first_msn: rendition.listed().next().map(|segment| segment.msn.0),
        last_msn: rendition.segments.back().map(|segment| segment.msn.0),
        segments_listed: rendition.listed().count(),
        segments_kept: rendition.segments.len(),
        bytes_kept: rendition.segments.iter().filter_map(|segment| segment.data()).map(Bytes::len).sum(),
        last_segment: last_segment(rendition),
        open_parts: rendition.open.as_ref().map_or(0, |open| open.parts.len()),
    }
}

fn last_segment(rendition: &RenditionSnapshot) -> Option<LastSegment> {
    let last = rendition.segments.back()?;
    let millis = u64::try_from(last.duration.as_millis()).unwrap_or(0);
    let bytes = last.bytes().unwrap_or(0);
    Some(LastSegment {
        bytes,
        duration_secs: last.duration.as_secs_f64(),
        bitrate: bytes.saturating_mul(8_000).checked_div(millis).unwrap_or(0),
        parts: last.parts().len(),
        gap: last.is_gap(),
    })
}

fn upload(status: &UploadStatus) -> Upload {
    Upload {
        segments_behind: status.segments_behind,
        stored_msn: status.stored.map(|msn| msn.0),
        failing: status.failing.clone(),
        spooled: status.spooled,
    }
}

/// What of the channels' state is worth an alert, as gauges of 0 and 1.
pub(super) fn gauges(directory: &Directory) -> Registry {
    let publishing = Family::<ChannelLabel, Gauge>::default();
    let live = Family::<ChannelLabel, Gauge>::default();
    let failing = Family::<ChannelLabel, Gauge>::default();
    for (name, view) in directory.iter() {
        let label = ChannelLabel { channel: name.to_string() };
        let fed = matches!(*view.phase.borrow(), ChannelPhase::Publishing(_));
        publishing.get_or_create(&label).set(fed.into());
        live.get_or_create(&label).set(view.live.borrow().is_live().into());
        failing.get_or_create(&label).set(view.upload.borrow().failing.is_some().into());
    }
    let mut registry = Registry::with_prefix("headwater");
    registry.register("channel_publishing", "A publisher feeds the channel", publishing);
    registry.register("channel_live", "The channel can be watched and has not ended", live);
    registry.register("channel_store_failing", "Uploads of the channel fail at present", failing);
    registry
}
