//! The packager's task of one channel: takes events from its queue, publishes snapshots, logs and counts.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::channel::{Packager, Told};
use super::fact::Fact;
use crate::ladder::{LadderEvent, RenditionName};
use crate::live::{ChannelSnapshot, Msn, RenditionSnapshot, UploadStatus};
use crate::metrics::{KindLabel, Metrics};
use crate::source::ChannelName;

/// What the packager of a channel is made of.
pub struct Setup {
    /// The channel's name, for logs and metrics.
    pub channel: ChannelName,
    /// Where it counts.
    pub metrics: Metrics,
    /// Keeps what players are told, before they are.
    pub keep: Box<dyn FnMut(Told) + Send>,
    /// How far the store is: what it has need not stay in memory.
    pub upload: watch::Receiver<UploadStatus>,
}

/// The packager task of one channel; it lives through all publish sessions. What `packager` begins with is in `live` already.
/// When `events` closes, what is open is finished, and `EXT-X-ENDLIST` is written if a programme is open. `live` is
/// written by nobody else.
pub async fn run(
    mut setup: Setup,
    mut packager: Packager,
    mut events: mpsc::Receiver<LadderEvent>,
    live: watch::Sender<Arc<ChannelSnapshot>>,
) {
    let mut changed = Instant::now();
    let mut stored = None;
    // Set anew only when it rings, which costs less than with each event.
    let mut alarm = pin!(sleep(ALARM));
    loop {
        let before = Arc::clone(packager.snapshot());
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => setup.step(&mut packager, event),
                None => break,
            },
            last = stored_beyond(&mut setup.upload, stored) => {
                stored = Some(last);
                setup.tell_all(&packager.stored(last, wall_clock()));
                // Of the source nothing came.
                setup.publish(&before, &packager, &live);
                continue;
            }
            () = alarm.as_mut() => {
                let now = Instant::now();
                let due = packager.patience().map(|patience| changed + patience);
                if due.is_some_and(|due| due <= now) {
                    packager.stall(wall_clock());
                }
                alarm.as_mut().reset(due.filter(|due| *due > now).unwrap_or(now + ALARM));
            }
        }
        if setup.publish(&before, &packager, &live) {
            changed = Instant::now();
        }
    }
    let before = Arc::clone(packager.snapshot());
    setup.step(&mut packager, LadderEvent::Finish);
    setup.publish(&before, &packager, &live);
}

/// Waits until the store has more than up to `last`. Where nobody tells any more it waits for ever.
async fn stored_beyond(upload: &mut watch::Receiver<UploadStatus>, last: Option<Msn>) -> Msn {
    let stored = upload.wait_for(|status| status.stored > last).await.ok().and_then(|status| status.stored);
    match stored {
        Some(stored) => stored,
        None => std::future::pending().await,
    }
}

/// How often a stall is looked for, where nothing says when it could be next.
const ALARM: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "playlists are dated by when they change, and the core has no clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

impl Setup {
    /// Publishes the snapshot, if it is another one, and then tells of the renditions that changed: whoever hears of them
    /// sees them.
    fn publish(
        &mut self,
        before: &Arc<ChannelSnapshot>,
        packager: &Packager,
        live: &watch::Sender<Arc<ChannelSnapshot>>,
    ) -> bool {
        let now = packager.snapshot();
        if Arc::ptr_eq(before, now) {
            return false;
        }
        (self.keep)(packager.told());
        live.send_replace(Arc::clone(now));
        let same = |one: &Arc<RenditionSnapshot>, other: &ChannelSnapshot| {
            other.renditions.iter().any(|rendition| Arc::ptr_eq(one, rendition))
        };
        now.renditions.iter().filter(|rendition| !same(rendition, before)).for_each(|rendition| rendition.news.tell());
        before.renditions.iter().filter(|rendition| !same(rendition, now)).for_each(|rendition| rendition.news.tell());
        true
    }

    fn step(&self, packager: &mut Packager, event: LadderEvent) {
        self.tell_all(&packager.handle(event, wall_clock()));
    }

    fn tell_all(&self, facts: &[Fact]) {
        facts.iter().for_each(|fact| self.tell(fact));
    }

    fn tell(&self, fact: &Fact) {
        let channel = self.channel.as_str();
        match fact {
            Fact::RunStarted { session, first } => info!(channel, %session, msn = %first, "run started"),
            Fact::ProgrammeCut => {
                warn!(channel, "the source's ladder or segment length changed: the programme ends and another begins");
            }
            Fact::BadFormat { rendition, reason } => {
                self.fault("bad_format");
                warn!(channel, %rendition, reason, "format not taken");
            }
            Fact::Segment { rendition, msn, duration, bytes, gap, too_long } => {
                self.count(rendition, *bytes);
                debug!(channel, %rendition, %msn, ?duration, bytes, gap, "segment complete");
                if *gap {
                    self.fault("gap");
                    warn!(channel, %rendition, %msn, "the rendition has no media here: listed as a gap");
                }
                if *too_long {
                    self.fault("segment_too_long");
                    warn!(channel, %rendition, %msn, ?duration, "segment longer than the target duration");
                }
            }
            Fact::NotStored { rendition, msn } => {
                self.fault("not_stored");
                warn!(
                    channel, %rendition, %msn,
                    "not in the store after hls.memory_max, and no longer in memory: listed as a gap; see why uploads fail"
                );
            }
            Fact::RunStopped { session, units_dropped } => {
                info!(channel, %session, units_dropped, "run stopped");
            }
            Fact::Finished => info!(channel, "programme finished"),
        }
    }

    fn count(&self, rendition: &RenditionName, bytes: usize) {
        self.metrics.count_segment(self.channel.as_str(), rendition.as_str(), bytes);
    }

    fn fault(&self, kind: &'static str) {
        self.metrics.packager_faults.get_or_create(&KindLabel { kind }).inc();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::metrics::RenditionLabel;
    use crate::packager::simulate;

    fn setup() -> Setup {
        let channel = ChannelName::new("demo").unwrap();
        let (_, upload) = watch::channel(UploadStatus::default());
        Setup { channel, metrics: Metrics::default(), keep: Box::new(|_| ()), upload }
    }

    fn packager() -> Packager {
        Packager::new(simulate::hls())
    }

    fn counted(metrics: &Metrics, rendition: &str) -> (u64, u64) {
        let label = RenditionLabel { channel: "demo".to_owned(), rendition: rendition.to_owned() };
        (metrics.segments.get_or_create(&label).get(), metrics.segment_bytes.get_or_create(&label).get())
    }

    #[tokio::test]
    async fn a_closed_queue_ends_the_programme() {
        let setup = setup();
        let metrics = setup.metrics.clone();
        // A bound of one: the sender waits for the packager after each event.
        let (sender, events) = mpsc::channel(1);
        let (live, mut view) = watch::channel(Arc::default());
        let send = async move {
            for event in
                simulate::steady(100, false).events(10_000).into_iter().filter(|e| !matches!(e, LadderEvent::Stop))
            {
                sender.send(event).await.unwrap();
            }
        };
        tokio::join!(run(setup, packager(), events, live), send);
        let snapshot = view.borrow_and_update().clone();
        assert!(snapshot.ended);
        let segments: Vec<_> = snapshot.renditions.iter().map(|r| r.listed().count()).collect();
        assert_eq!(segments, [2, 2, 2]);
        let (count, bytes) = counted(&metrics, "audio");
        let listed: usize =
            snapshot.rendition("audio").unwrap().listed().filter_map(|s| s.data()).map(Bytes::len).sum();
        assert_eq!((count, bytes), (2, u64::try_from(listed).unwrap()));
        assert_eq!(metrics.packager_faults.get_or_create(&KindLabel { kind: "gap" }).get(), 0);
    }

    #[tokio::test]
    async fn parts_are_published_as_they_are_made() {
        let (sender, events) = mpsc::channel(1);
        let (live, mut view) = watch::channel(Arc::<ChannelSnapshot>::default());
        let send = async move {
            for event in simulate::steady(100, true).events(10_000) {
                sender.send(event).await.unwrap();
            }
        };
        let watch = async {
            let mut parts = Vec::new();
            while view.changed().await.is_ok() {
                let snapshot = view.borrow_and_update().clone();
                let Some(open) = snapshot.rendition("720p").and_then(|r| r.open.clone()) else { continue };
                parts.push((open.msn.0, open.parts.len()));
            }
            parts
        };
        let ((), (), mut parts) = tokio::join!(run(setup(), packager(), events, live), send, watch);
        parts.dedup();
        // Four parts of twelve frames are as good as full; the fifth ends with the segment.
        for seen in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 4)] {
            assert!(parts.contains(&seen), "{seen:?} in {parts:?}");
        }
    }
}
