//! The counters and gauges that the stages keep and the admin listener shows, in Prometheus' terms.
//!
//! Names and units: `headwater_` first, `_total` last on counters, seconds and bytes. Labels are the channel and
//! rendition only: never a peer's address or a connection, which would grow without bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The label of what belongs to one channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabel {
    /// Its name.
    pub channel: String,
}

/// The labels of what belongs to one rendition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RenditionLabel {
    /// The channel's name.
    pub channel: String,
    /// The rendition's name.
    pub rendition: String,
}

/// The label of events that are told apart by kind: a fixed, small set of words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The kind.
    pub kind: &'static str,
}

/// The label of rules of HLS: as many as there are rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabel {
    /// The rule's name.
    pub rule: &'static str,
}

/// The label of HTTP responses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResponseLabel {
    /// What was asked for: `multivariant`, `playlist`, `segment`, `part`, `init`, `thumbnail`, `page`, `other`.
    pub resource: &'static str,
    /// The status code.
    pub status: u16,
}

/// All metrics; clones share the same values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The renditions of each channel of which segments were counted, in all its programmes: as many as there are labels.
    renditions: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
    /// RTMP connections that are open.
    pub rtmp_connections: Gauge,
    /// RTMP connections that were ended by an error, by its kind.
    pub rtmp_errors: Family<KindLabel, Counter>,
    /// Bytes of RTMP received by a channel's publishers.
    pub ingest_bytes: Family<ChannelLabel, Counter>,
    /// Access units received by a channel's publishers.
    pub ingest_units: Family<ChannelLabel, Counter>,
    /// What was mended in the input or left out of it, by kind.
    pub ingest_repairs: Family<KindLabel, Counter>,
    /// Calls of the webhook that failed, by action.
    pub hook_faults: Family<KindLabel, Counter>,
    /// Notices that the webhook was never told.
    pub hook_dropped: Counter,
    /// Runs that began.
    pub runs: Family<ChannelLabel, Counter>,
    /// Pipelines that ended in an error.
    pub transcode_errors: Family<ChannelLabel, Counter>,
    /// Segments completed.
    pub segments: Family<RenditionLabel, Counter>,
    /// Bytes of segments completed.
    pub segment_bytes: Family<RenditionLabel, Counter>,
    /// What was wrong with what the packager was given, by kind.
    pub packager_faults: Family<KindLabel, Counter>,
    /// What the server's own playlists break of the rules of HLS, by rule.
    pub playlist_violations: Family<RuleLabel, Counter>,
    /// Objects written to the store.
    pub store_puts: Family<ChannelLabel, Counter>,
    /// Objects that were written by two attempts, because the first was slow.
    pub store_hedged: Family<ChannelLabel, Counter>,
    /// Writes to the store that failed and were or will be tried again, by kind.
    pub store_errors: Family<KindLabel, Counter>,
    /// Complete segments that are not in the store yet.
    pub store_behind: Family<ChannelLabel, Gauge>,
    /// Segments that left the window before they were stored, and do not wait on local disk either.
    pub store_skipped: Family<ChannelLabel, Counter>,
    /// Segments that the store's playlists list as gaps, as they could not be stored in time while others could.
    pub store_gaps: Family<ChannelLabel, Counter>,
    /// Objects that were kept on local disk because the store failed or was slow.
    pub store_spooled: Counter,
    /// Objects that were stored from local disk.
    pub store_drained: Counter,
    /// Objects that were given up on local disk for want of room.
    pub store_spool_dropped: Counter,
    /// Objects that wait on local disk.
    pub store_spool_objects: Gauge,
    /// And their bytes.
    pub store_spool_bytes: Gauge,
    /// What was asked of the store, and of the server that is followed by an origin without channels of its own, by kind.
    pub archive_fetches: Family<KindLabel, Counter>,
    /// Responses of the origin.
    pub origin_responses: Family<ResponseLabel, Counter>,
    /// Requests of the origin that wait for a part or a playlist that is coming.
    pub origin_waiting: Gauge,
    /// Bytes of response bodies of the origin.
    pub origin_bytes: Counter,
    /// Lines that the access log lost.
    pub origin_log_dropped: Counter,
}

impl Metrics {
    /// The registry that renders these values.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("headwater");
        registry.register("rtmp_connections", "RTMP connections that are open", self.rtmp_connections.clone());
        registry.register("rtmp_errors", "RTMP connections ended by an error, by kind", self.rtmp_errors.clone());
        registry.register("ingest_bytes", "Bytes received from publishers", self.ingest_bytes.clone());
        registry.register("ingest_units", "Access units received from publishers", self.ingest_units.clone());
        registry.register(
            "ingest_repairs",
            "What was mended in the input or left out, by kind",
            self.ingest_repairs.clone(),
        );
        registry.register("hook_faults", "Calls of the webhook that failed, by action", self.hook_faults.clone());
        registry.register("hook_dropped", "Notices that the webhook was never told", self.hook_dropped.clone());
        registry.register("runs", "Runs that began", self.runs.clone());
        registry.register("transcode_errors", "Pipelines that ended in an error", self.transcode_errors.clone());
        registry.register("segments", "Segments completed", self.segments.clone());
        registry.register("segment_bytes", "Bytes of segments completed", self.segment_bytes.clone());
        registry.register(
            "packager_faults",
            "Gaps and other faults in renditions, by kind",
            self.packager_faults.clone(),
        );
        registry.register(
            "playlist_violations",
            "Rules of HLS that the server's own playlists break, by rule",
            self.playlist_violations.clone(),
        );
        registry.register("store_puts", "Objects written to the store", self.store_puts.clone());
        registry.register("store_hedged", "Objects put twice as the first put was slow", self.store_hedged.clone());
        registry.register("store_errors", "Writes to the store that failed, by kind", self.store_errors.clone());
        registry.register("store_segments_behind", "Complete segments not in the store yet", self.store_behind.clone());
        registry.register("store_segments_skipped", "Segments never stored", self.store_skipped.clone());
        registry.register("store_gaps", "Segments listed as gaps in the store", self.store_gaps.clone());
        self.register_spool(&mut registry);
        registry.register(
            "archive_fetches",
            "Requests of an origin to what it serves from, and old playlists kept on as these failed, by kind",
            self.archive_fetches.clone(),
        );
        registry.register("origin_responses", "Responses of the origin", self.origin_responses.clone());
        registry.register(
            "origin_waiting",
            "Requests that wait for a part or playlist that is coming",
            self.origin_waiting.clone(),
        );
        registry.register("origin_body_bytes", "Bytes of response bodies of the origin", self.origin_bytes.clone());
        registry.register(
            "origin_access_log_dropped",
            "Lines that the access log lost, because the disk was slow or full",
            self.origin_log_dropped.clone(),
        );
        registry
    }
}

impl Metrics {
    fn register_spool(&self, registry: &mut Registry) {
        registry.register("store_spooled", "Objects kept on local disk", self.store_spooled.clone());
        registry.register("store_drained", "Objects stored from local disk", self.store_drained.clone());
        let dropped = self.store_spool_dropped.clone();
        registry.register("store_spool_dropped", "Objects given up on local disk for want of room", dropped);
        registry.register("store_spool_objects", "Objects that wait on local disk", self.store_spool_objects.clone());
        registry.register("store_spool_bytes", "Bytes that wait on local disk", self.store_spool_bytes.clone());
    }

    /// Counts a segment that was completed.
    pub fn count_segment(&self, channel: &str, rendition: &str, bytes: usize) {
        let label = RenditionLabel { channel: channel.to_owned(), rendition: rendition.to_owned() };
        self.segments.get_or_create(&label).inc();
        self.segment_bytes.get_or_create(&label).inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        let mut renditions = self.renditions.lock().unwrap_or_else(PoisonError::into_inner);
        renditions.entry(label.channel).or_default().insert(label.rendition);
    }

    /// Forgets what belongs to a channel that is no more, so that channels made on the fly leave nothing behind.
    pub fn forget(&self, channel: &str) {
        let label = ChannelLabel { channel: channel.to_owned() };
        for family in [
            &self.ingest_bytes,
            &self.ingest_units,
            &self.runs,
            &self.transcode_errors,
            &self.store_puts,
            &self.store_hedged,
            &self.store_skipped,
            &self.store_gaps,
        ] {
            family.remove(&label);
        }
        self.store_behind.remove(&label);
        let renditions = self.renditions.lock().unwrap_or_else(PoisonError::into_inner).remove(channel);
        for rendition in renditions.into_iter().flatten() {
            let label = RenditionLabel { channel: channel.to_owned(), rendition };
            self.segments.remove(&label);
            self.segment_bytes.remove(&label);
        }
    }
}

/// The text that `/metrics` answers with: OpenMetrics, which Prometheus reads.
///
/// # Errors
/// Only where a metric cannot be written as text, which is a bug in it.
pub fn render(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_41_nothing_of_a_forgotten_channel_is_left_whatever_renditions_it_had() {
        let metrics = Metrics::default();
        for (channel, rendition) in [("gone", "source"), ("gone", "720p"), ("stays", "source")] {
            metrics.count_segment(channel, rendition, 1);
            metrics.ingest_bytes.get_or_create(&ChannelLabel { channel: channel.to_owned() }).inc();
        }
        metrics.forget("gone");
        let text = render(&metrics.registry()).unwrap();
        assert!(!text.contains("gone") && text.contains(r#"rendition="source""#), "{text}");
        assert_eq!(metrics.renditions.lock().unwrap().len(), 1);
    }
}
