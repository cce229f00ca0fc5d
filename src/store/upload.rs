//! The uploader of one channel: follows the live window and brings it into the store.
//!
//! It takes a snapshot as its goal, puts what the store lacks of it, then the playlists that changed, then the
//! multivariant playlist, and takes the newest snapshot next. So whatever a playlist in the store names is in the
//! store (law 1). A goal is carried through even where the store is slower than the programme: then the copy has
//! holes between its goals, but never stands still. Only where requests fail and all that the goal lists has left the
//! live window meanwhile, the goal is given up for the newest. A goal keeps at most one window of media in memory
//! beyond the live one.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::goal::{Goal, Upload, same_listing};
use super::ledger::Ledger;
use super::spell::Spell;
use super::{Store, StoreError};
use crate::live::{ChannelSnapshot, UploadStatus};
use crate::metrics::{ChannelLabel, KindLabel, Metrics};
use crate::source::ChannelName;

/// What an uploader works with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The channel.
    pub channel: ChannelName,
    /// Where to.
    pub store: Arc<dyn Store>,
    /// Where it counts.
    pub metrics: Metrics,
}

/// Follows the live snapshots of one channel; ends when their sender is dropped and the last of them is stored, or at
/// once when `deadline` is cancelled.
///
/// The media that `stored` lists is in the store already: a process before this one put it there.
///
/// Objects that no playlist in the store names any more are deleted after their duration and that of the longest
/// playlist. What waits for that at the end stays, as does what a process before this one had unlisted.
pub async fn upload(
    setup: Setup,
    stored: Arc<ChannelSnapshot>,
    live: watch::Receiver<Arc<ChannelSnapshot>>,
    status: watch::Sender<UploadStatus>,
    deadline: CancellationToken,
) {
    let span = info_span!("channel", channel = %setup.channel);
    let mut uploader = Uploader::new(setup, live, status);
    uploader.adopt(&stored);
    drop(stored);
    async {
        tokio::select! {
            biased;
            () = deadline.cancelled() => uploader.cut_short(),
            () = uploader.run() => {}
        }
    }
    .instrument(span)
    .await;
}

struct Uploader {
    setup: Setup,
    label: ChannelLabel,
    live: watch::Receiver<Arc<ChannelSnapshot>>,
    /// The packager is gone: no newer snapshot will come.
    closed: bool,
    status: watch::Sender<UploadStatus>,
    snapshot: Arc<ChannelSnapshot>,
    ledger: Ledger,
    goal: Goal,
    /// At most `PUTS_MAX` puts, one delete and one probe.
    requests: JoinSet<Done>,
    /// Whether the store works is not known yet: it is asked, so that the operator hears of trouble before the show.
    unproven: bool,
    probing: bool,
    /// The keys of the delete that is on its way.
    deleting: Vec<String>,
    puts: Spell,
    deletes: Spell,
}

/// A request was answered, or given up.
enum Done {
    Put(Upload, Result<(), StoreError>),
    Delete(Vec<String>, Result<(), StoreError>),
    Probe(Result<(), StoreError>),
}

impl Uploader {
    fn new(setup: Setup, live: watch::Receiver<Arc<ChannelSnapshot>>, status: watch::Sender<UploadStatus>) -> Self {
        Self {
            label: ChannelLabel { channel: setup.channel.to_string() },
            ledger: Ledger::new(setup.channel.clone()),
            setup,
            live,
            closed: false,
            status,
            snapshot: Arc::default(),
            goal: Goal::default(),
            requests: JoinSet::new(),
            unproven: true,
            probing: false,
            deleting: Vec::new(),
            puts: Spell::default(),
            deletes: Spell::default(),
        }
    }

    fn adopt(&mut self, stored: &ChannelSnapshot) {
        for upload in Goal::media(&self.setup.channel, stored) {
            self.ledger.attempt(&upload);
            self.ledger.stored(upload);
        }
    }

    async fn run(&mut self) {
        loop {
            self.aim();
            let now = Instant::now();
            self.start(now);
            self.report();
            if self.closed && self.goal.is_done() {
                return;
            }
            self.event(now).await;
        }
    }

    /// Takes the newest snapshot as the goal, where the present one is reached or not worth reaching.
    fn aim(&mut self) {
        self.snapshot = Arc::clone(&self.live.borrow_and_update());
        let given_up = self.puts.is_on() && self.goal.in_flight() == 0 && self.goal.is_stale(&self.snapshot);
        if !self.goal.is_done() && !given_up || self.snapshot.multivariant.is_none() {
            return;
        }
        let dropped = u64::try_from(self.goal.segments_waiting()).unwrap_or(u64::MAX);
        let skipped = self.ledger.follow(&self.snapshot).saturating_add(dropped);
        if skipped > 0 {
            warn!(skipped, "segments left the window before they were stored: the copy in the store has a hole there");
            self.setup.metrics.store_skipped.get_or_create(&self.label).inc_by(skipped);
        }
        self.goal = Goal::new(&self.setup.channel, &self.snapshot, &self.ledger);
    }

    /// Begins what can be begun now: while requests fail, one at a time.
    fn start(&mut self, now: Instant) {
        if !self.puts.must_wait(now) {
            let parallel = if self.puts.is_on() { 1 } else { PUTS_MAX };
            while self.goal.in_flight() < parallel && self.start_put() {}
            self.start_probe();
        }
        if self.deleting.is_empty() && !self.deletes.must_wait(now) {
            self.start_delete(now);
        }
    }

    fn start_put(&mut self) -> bool {
        let Some(upload) = self.goal.take() else { return false };
        if self.deleting.contains(&upload.object.key) {
            // A playlist comes back: nobody knows which of both requests the store would do last.
            self.goal.put_back(upload);
            return false;
        }
        self.ledger.attempt(&upload);
        let store = Arc::clone(&self.setup.store);
        self.requests.spawn(async move {
            let result = store.put(upload.object.clone()).await;
            Done::Put(upload, result)
        });
        true
    }

    /// Puts are proof enough where there are any.
    fn start_probe(&mut self) {
        if !self.unproven || self.probing || !self.goal.is_done() {
            return;
        }
        self.probing = true;
        let store = Arc::clone(&self.setup.store);
        self.requests.spawn(async move { Done::Probe(store.probe().await) });
    }

    fn start_delete(&mut self, now: Instant) {
        let keys = self.ledger.expired(now);
        if keys.is_empty() {
            return;
        }
        self.deleting.clone_from(&keys);
        let store = Arc::clone(&self.setup.store);
        self.requests.spawn(async move {
            let result = store.delete(&keys).await;
            Done::Delete(keys, result)
        });
    }

    /// Waits until something is to be done that was not at `now`.
    async fn event(&mut self, now: Instant) {
        let wake = self.wake(now);
        tokio::select! {
            Some(done) = self.requests.join_next() => self.answered(done),
            () = relisted(&mut self.live, &self.snapshot), if !self.closed => {
                self.closed = self.live.has_changed().is_err();
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }

    /// When something is due by the clock: a try after a failure, or a deletion.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let retry = self.puts.retry().filter(|retry| *retry > now);
        let deletion = self.ledger.next_expiry().filter(|_| self.deleting.is_empty());
        let deletion = deletion.map(|expiry| self.deletes.retry().map_or(expiry, |retry| retry.max(expiry)));
        [retry, deletion].into_iter().flatten().min()
    }

    fn answered(&mut self, done: Result<Done, JoinError>) {
        let now = Instant::now();
        match done {
            Ok(Done::Put(upload, Ok(()))) => self.put(upload, now),
            Ok(Done::Put(upload, Err(error))) => {
                debug!(key = upload.object.key, %error, "not stored");
                self.goal.put_back(upload);
                self.failed(&error, now);
            }
            Ok(Done::Probe(result)) => {
                self.probing = false;
                match result {
                    Ok(()) => self.works(now),
                    Err(error) => self.failed(&error, now),
                }
            }
            Ok(Done::Delete(keys, result)) => self.delete_answered(&keys, result, now),
            // A bug in a store ends this channel's uploader, as if it had happened here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn put(&mut self, upload: Upload, now: Instant) {
        debug!(key = upload.object.key, bytes = upload.object.data.len(), "stored");
        self.setup.metrics.store_puts.get_or_create(&self.label).inc();
        self.ledger.stored(upload);
        self.goal.stored();
        self.works(now);
        if self.goal.is_done() {
            self.ledger.sweep(now);
        }
    }

    fn works(&mut self, now: Instant) {
        self.unproven = false;
        if let Some(lasted) = self.puts.succeeded(now) {
            let behind = self.ledger.behind(&self.snapshot);
            info!(behind, seconds = lasted.as_secs(), "the store works again");
        }
    }

    fn failed(&mut self, error: &StoreError, now: Instant) {
        self.count_error(error);
        self.unproven = true;
        // There is always something to be done about it by trying again: the network, the store or the
        // operator may mend it, and the live origin does not depend on it.
        if self.puts.failed(now, random(), &error.to_string()) {
            let behind = self.ledger.behind(&self.snapshot);
            warn!(behind, "{error}; the live origin goes on, uploads are tried again");
        }
    }

    fn delete_answered(&mut self, keys: &[String], result: Result<(), StoreError>, now: Instant) {
        self.deleting.clear();
        match result {
            Ok(()) => {
                debug!(objects = keys.len(), "deleted what had left the window");
                self.ledger.deleted(keys);
                self.deletes.succeeded(now);
            }
            Err(error) => {
                self.count_error(&error);
                if self.deletes.failed(now, random(), &error.to_string()) {
                    warn!("old objects cannot be deleted and pile up in the store: {error}");
                }
            }
        }
        let forgotten = self.ledger.forget_excess();
        if forgotten > 0 {
            debug!(forgotten, "old objects stay in the store: they are more than is kept in mind");
        }
    }

    fn count_error(&self, error: &StoreError) {
        self.setup.metrics.store_errors.get_or_create(&KindLabel { kind: error.kind() }).inc();
    }

    fn report(&self) {
        let segments_behind = self.ledger.behind(&self.snapshot);
        let stored = self.ledger.stored_up_to(&self.snapshot);
        let failing = self.puts.told().map(str::to_owned);
        self.setup.metrics.store_behind.get_or_create(&self.label).set(segments_behind.try_into().unwrap_or(i64::MAX));
        self.status.send_if_modified(|status| {
            let new = UploadStatus { segments_behind, stored: stored.max(status.stored), failing };
            let changed = *status != new;
            *status = new;
            changed
        });
    }

    /// The deadline came first.
    fn cut_short(&self) {
        let behind = self.ledger.behind(&self.snapshot);
        if behind > 0 || !self.goal.is_done() {
            warn!(behind, "the time to stop has come before everything was stored");
        }
    }
}

/// Waits until the playlists differ from those of `seen`, or no snapshot will come any more: the many snapshots that
/// differ in their parts only cost next to nothing. Cancel safe, because the newest snapshot is always at hand.
async fn relisted(live: &mut watch::Receiver<Arc<ChannelSnapshot>>, seen: &ChannelSnapshot) {
    while live.changed().await.is_ok() {
        if !same_listing(&live.borrow(), seen) {
            return;
        }
    }
}

/// For the jitter of waits; without randomness they have none.
fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// Enough to fill an uplink, few enough to leave a store's connections to others.
const PUTS_MAX: usize = 6;

#[cfg(test)]
mod tests;
