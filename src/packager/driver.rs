//! The packager's task of one channel: takes events from its queue, publishes snapshots, logs and counts.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::channel::{Packager, Told};
use super::fact::Fact;
use crate::ladder::{LadderEvent, RenditionName};
use crate::live::{ChannelSnapshot, RenditionSnapshot, StoredUpTo, UploadStatus};
use crate::metrics::{KindLabel, Metrics};
use crate::seldom::Seldom;
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
    let mut stored = Arc::default();
    let mut often = Often::default();
    // Set anew only when it rings, which costs less than with each event.
    let mut alarm = pin!(sleep(ALARM));
    loop {
        let before = Arc::clone(packager.snapshot());
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => setup.step(&mut packager, event, &mut often),
                None => break,
            },
            now = stored_beyond(&mut setup.upload, &stored) => {
                setup.tell_all(&packager.stored(&now, wall_clock()), &mut often);
                stored = now;
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
    setup.step(&mut packager, LadderEvent::Finish, &mut often);
    setup.publish(&before, &packager, &live);
}

/// What comes with each segment of each rendition, where it comes.
#[derive(Default)]
struct Often {
    gaps: Seldom,
    not_stored: Seldom,
}

/// What of each rendition is in the store.
type Stored = Arc<BTreeMap<RenditionName, StoredUpTo>>;

/// Waits until something else is in the store than `before`. Where nobody tells any more it waits for ever.
async fn stored_beyond(upload: &mut watch::Receiver<UploadStatus>, before: &Stored) -> Stored {
    let stored = upload.wait_for(|status| status.renditions != *before).await;
    match stored.ok().map(|status| Arc::clone(&status.renditions)) {
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

    fn step(&self, packager: &mut Packager, event: LadderEvent, often: &mut Often) {
        self.tell_all(&packager.handle(event, wall_clock()), often);
    }

    fn tell_all(&self, facts: &[Fact], often: &mut Often) {
        let now = Instant::now();
        facts.iter().for_each(|fact| self.tell(fact, often, now));
    }

    fn tell(&self, fact: &Fact, often: &mut Often, now: Instant) {
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
                    if let Some(segments) = often.gaps.tell(1, now) {
                        warn!(channel, %rendition, %msn, segments, "a rendition has no media: listed as gaps, of which this is the last");
                    }
                }
                if *too_long {
                    self.fault("segment_too_long");
                    warn!(channel, %rendition, %msn, ?duration, "segment longer than the target duration");
                }
            }
            Fact::NotStored { rendition, msn } => {
                self.fault("not_stored");
                if let Some(segments) = often.not_stored.tell(1, now) {
                    warn!(
                        channel, %rendition, %msn, segments,
                        "not in the store after hls.memory_max, and no longer in memory: listed as gaps, of which this is the last; \
                         see why uploads fail"
                    );
                }
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
    use tracing::Level;

    use super::*;
    use crate::captured_log::capture;
    use crate::live::Msn;
    use crate::media::MediaTime;
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

    #[tokio::test(start_paused = true)]
    async fn what_comes_with_each_segment_is_said_seldom() {
        let (log, _guard) = capture(Level::WARN);
        let (setup, mut often) = (setup(), Often::default());
        let rendition = RenditionName::new("720p").unwrap();
        for msn in 1..=20 {
            let (rendition, msn) = (rendition.clone(), Msn(msn));
            let (duration, bytes) = (MediaTime::ZERO, 0);
            let gap = Fact::Segment { rendition: rendition.clone(), msn, duration, bytes, gap: true, too_long: false };
            setup.tell_all(&[gap, Fact::NotStored { rendition, msn }], &mut often);
            sleep(Duration::from_secs(4)).await;
        }
        assert_eq!(log.text().lines().count(), 4, "{}", log.text());
        assert_eq!(log.text().matches("segments=15").count(), 2, "{}", log.text());
        assert_eq!(setup.metrics.packager_faults.get_or_create(&KindLabel { kind: "not_stored" }).get(), 20);
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
