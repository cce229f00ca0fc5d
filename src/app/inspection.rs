//! The server's own playlists, held against the rules of live HLS: a task for each channel.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Msn, RenditionSnapshot};
use crate::metrics::{Metrics, RuleLabel};
use crate::source::ChannelName;
use crate::verify::{Inspector, Rule};

/// Looks at the playlists of a channel once a segment, until their writer is gone.
pub(super) async fn inspect(channel: ChannelName, mut live: watch::Receiver<Arc<ChannelSnapshot>>, metrics: Metrics) {
    let mut inspection = Inspection::new(channel, metrics);
    let mut seen = None;
    while live.changed().await.is_ok() {
        let snapshot = Arc::clone(&live.borrow_and_update());
        let newest = newest(&snapshot);
        // Before there is a multivariant playlist nobody plays it, and the last rendition is still to come.
        if snapshot.multivariant.is_some() && seen.replace(newest) != Some(newest) {
            inspection.look(&texts(&snapshot));
        }
    }
}

/// What is broken in one channel: all of it is counted, and of each rule the first time is logged.
struct Inspection {
    channel: ChannelName,
    metrics: Metrics,
    inspector: Inspector,
    logged: BTreeSet<Rule>,
}

impl Inspection {
    fn new(channel: ChannelName, metrics: Metrics) -> Self {
        Self { channel, metrics, inspector: Inspector::default(), logged: BTreeSet::new() }
    }

    fn look(&mut self, playlists: &[(String, &[u8])]) {
        for violation in self.inspector.see(playlists) {
            let rule = violation.finding.rule;
            self.metrics.playlist_violations.get_or_create(&RuleLabel { rule: rule.id() }).inc();
            if self.logged.insert(rule) {
                let (playlist, seen) = (&violation.path, &violation.finding.seen);
                let (channel, name, clause) = (&self.channel, rule.id(), rule.clause());
                warn!(%channel, rule = name, clause, playlist, seen, "a playlist breaks a rule");
            }
        }
    }
}

/// The oldest segment that all renditions have come to: when it changes, all have a new one.
fn newest(snapshot: &ChannelSnapshot) -> (Option<Msn>, bool) {
    let last = |rendition: &Arc<RenditionSnapshot>| rendition.segments.back().map(|segment| segment.msn);
    (snapshot.renditions.iter().map(last).min().flatten(), snapshot.ended)
}

/// The media playlists as the origin serves them, by their paths in the multivariant playlist.
fn texts(snapshot: &ChannelSnapshot) -> Vec<(String, &[u8])> {
    let media = |r: &RenditionSnapshot| Resource::Playlist(r.name.clone()).below_channel();
    let i_frames = |r: &RenditionSnapshot| Resource::IFrames(r.name.clone()).below_channel();
    let of = |r| [(media(r), served(r)), (i_frames(r), served_i_frames(r))];
    let all = snapshot.renditions.iter().flat_map(|rendition| of(rendition));
    all.filter_map(|(path, text)| Some((path, text?))).collect()
}

fn served(rendition: &RenditionSnapshot) -> Option<&[u8]> {
    match &rendition.low_latency {
        Some(low_latency) => Some(&low_latency.full.text),
        None => rendition.playlist.as_ref().map(|playlist| playlist.text.as_ref()),
    }
}

fn served_i_frames(rendition: &RenditionSnapshot) -> Option<&[u8]> {
    let i_frames = rendition.i_frames.as_ref()?;
    Some(i_frames.low_latency.as_ref().map_or(&i_frames.playlist.text, |playlist| &playlist.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured_log::capture;

    /// A playlist of so many segments, each of `secs`, where 4 s are allowed.
    fn playlist(segments: u64, secs: u64) -> String {
        let date = |n: u64| format!("#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:{:02}.000Z", n * secs);
        let listed: String = (1..=segments).map(|n| format!("{}\n#EXTINF:{secs},\n{n}\n", date(n))).collect();
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n{listed}")
    }

    #[test]
    fn what_is_broken_is_counted_each_time_and_logged_once() {
        let (log, _guard) = capture(tracing::Level::WARN);
        let metrics = Metrics::default();
        let mut inspection = Inspection::new(ChannelName::new("demo").unwrap(), metrics.clone());
        let mut look = |text: String| inspection.look(&[("720p/index.m3u8".to_owned(), text.as_bytes())]);
        look(playlist(3, 4));
        look(playlist(4, 4));
        assert_eq!(log.text(), "");
        look(playlist(5, 9));
        look(playlist(6, 9));
        let count = |rule| metrics.playlist_violations.get_or_create(&RuleLabel { rule }).get();
        assert_eq!(count("segment-duration"), 6, "each segment once");
        assert_eq!(count("segment-changed"), 4);
        let text = log.text();
        assert_eq!(text.matches("segment-duration").count(), 1, "{text}");
        assert!(text.contains("channel=demo") && text.contains("clause=\"4.4.3.1\""), "{text}");
    }

    #[tokio::test]
    async fn it_ends_with_the_writer_of_the_playlists() {
        let (writer, live) = watch::channel(Arc::<ChannelSnapshot>::default());
        writer.send_replace(Arc::default());
        drop(writer);
        inspect(ChannelName::new("demo").unwrap(), live, Metrics::default()).await;
    }
}
