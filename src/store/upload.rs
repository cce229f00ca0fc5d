//! The uploader of one channel: follows the live window and brings it into the store.
//!
//! It takes a snapshot as its goal, puts what the store lacks of it, then the playlists that changed, then the
//! multivariant playlist, and takes the newest snapshot next. So whatever a playlist in the store names is in the
//! store (law 1). A goal is carried through even where the store is slower than the programme: then the playlists in the
//! store skip some of it, but never stand still. Only where requests fail, the goal is given up for the newest, and what
//! failed comes last in that one: while nothing can be put, for a while where other media can, and where nothing but what failed
//! is left of it. A segment that cannot be put in time although others can is a gap in the store's playlists, lest they all wait
//! for it. A put that hangs counts as one that failed, and may end in the background. A goal keeps at most one window of media in
//! memory beyond the live one.
//!
//! Media that cannot be put, or not soon, is kept in the spool meanwhile, so that neither the end of this process nor that of
//! the window loses it. What leaves the window, or becomes a gap, is left to the spool; what does not wait there either is
//! lost, and counted.
//!
//! What a process before this one left behind, because it was killed before it could delete it, is looked for now and then, and
//! deleted by its age.
//!
//! It writes and deletes only where it has the right to ([`Writer`]), and looks whether it still has it before the playlists of each
//! goal and before it deletes; media alone can do no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::backlog::{Backlog, Left, Patience};
use super::goal::{Goal, Upload, listed, same_listing};
use super::hedge::{self, Pace, Written};
use super::ledger::Ledger;
use super::spell::Spell;
use super::spool::Waiting;
use super::{Condition, Holder, Listed, Spool, Standing, Store, StoreError, Version, Writer};
use crate::chronicle::Kept;
use crate::layout::{self, Resource};
use crate::live::{ChannelSnapshot, NamedFrom, RenditionSnapshot, Segment, UploadStatus};
use crate::metrics::{ChannelLabel, KindLabel, Metrics};
use crate::seldom::Seldom;
use crate::source::ChannelName;

/// What an uploader works with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The channel.
    pub channel: ChannelName,
    /// Where to.
    pub store: Arc<dyn Store>,
    /// The right to write there.
    pub writer: Writer,
    /// What is not to be deleted though no live playlist names it; none as long as that is not known, and then nothing is deleted.
    pub kept: watch::Receiver<Option<Arc<Kept>>>,
    /// Where media waits that cannot be put; none where there is no such place.
    pub spool: Option<Spool>,
    /// Where it counts.
    pub metrics: Metrics,
}

/// What an uploader begins with.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    /// The media that it lists is in the store already: a process before this one put it there.
    pub stored: Arc<ChannelSnapshot>,
    /// The right to write the channel was claimed; else that is the first that is done.
    pub claimed: bool,
}

/// Follows the live snapshots of one channel; ends when their sender is dropped and the last of them is stored, or its media is in
/// the spool and the store goes on failing; or at once when `deadline` is cancelled.
///
/// Objects that no playlist in the store names any more are deleted after their duration and that of the longest
/// playlist. What waits for that at the end stays, and is deleted a day later by whoever has the channel then.
pub async fn upload(
    setup: Setup,
    inherited: Inherited,
    live: watch::Receiver<Arc<ChannelSnapshot>>,
    status: watch::Sender<UploadStatus>,
    deadline: CancellationToken,
) {
    let span = info_span!("channel", channel = %setup.channel);
    let mut uploader = Uploader::new(setup, live, status);
    uploader.adopt(inherited);
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
    /// The packager is gone since then: no newer snapshot will come.
    closed: Option<Instant>,
    status: watch::Sender<UploadStatus>,
    snapshot: Arc<ChannelSnapshot>,
    ledger: Ledger,
    /// What the store's playlists may name.
    named: Option<NamedFrom>,
    backlog: Backlog,
    goal: Goal,
    /// The snapshot that is the goal.
    aimed: Arc<ChannelSnapshot>,
    /// When that began which the goal, maybe by way of newer snapshots, is to end.
    begun: Instant,
    /// Something was put since the goal was taken.
    progressed: bool,
    /// Segments that are in neither place.
    lost: Seldom,
    right: Right,
    /// Who has the right is being found out.
    asking: bool,
    /// At most `PUTS_MAX` puts and as many that are overdue, `KEEPS_MAX` writes to the spool, one delete, one probe, and one question for the right.
    requests: JoinSet<Done>,
    /// The media that is being put, in the order in which it was begun.
    flights: BTreeMap<u64, Flight>,
    /// When media was put last.
    last_landed: Option<Instant>,
    /// Objects that are being written to the spool.
    keeping: usize,
    /// Whether the store works is not known yet: it is asked, so that the operator hears of trouble before the show.
    unproven: bool,
    probing: bool,
    /// When it was found out last that the store works although all that is left fails.
    proven: Option<Instant>,
    /// The keys of the delete that is on its way.
    deleting: Vec<String>,
    puts: Spell,
    deletes: Spell,
    keeps: Spell,
    pace: Pace,
    /// Room for second attempts.
    seconds: Arc<Semaphore>,
    leftovers: Leftovers,
}

/// An object of media is on its way.
#[derive(Debug)]
struct Flight {
    upload: Upload,
    begun: Instant,
    /// The goal waits for it; else it may end as it likes.
    is_of_goal: bool,
    request: AbortHandle,
}

impl Flight {
    fn key(&self) -> &str {
        &self.upload.object.key
    }
}

/// How far the search for objects is that nothing names.
#[derive(Debug)]
enum Leftovers {
    /// It begins then.
    Due(Instant),
    /// What is behind this key is to be looked at, and so many were found.
    Behind(Option<String>, usize),
    /// The store was asked.
    Asked(usize),
}

/// Whether this process may write the channel.
#[derive(Debug)]
enum Right {
    /// It is to be claimed before anything is put.
    Unclaimed,
    /// It was claimed, and is to be looked at before anything is put but media.
    Held,
    /// It was looked at, and that holds until then.
    Confirmed(Instant),
    /// Another process has it: nothing is written any more.
    Lost(Holder),
}

/// A request was answered, or given up.
enum Done {
    Put(u64, Result<Written, StoreError>),
    PutText(Upload, Result<Option<Version>, StoreError>),
    /// Whether the object of this key is in the spool.
    Kept(String, bool),
    List(Result<Vec<Listed>, StoreError>),
    /// Who has the right to write; when that was asked.
    Look(Instant, Result<Standing, StoreError>),
    Delete(Vec<String>, Result<(), StoreError>),
    /// Whether the store works; when that was asked.
    Probe(Instant, Result<(), StoreError>),
}

impl Uploader {
    fn new(setup: Setup, live: watch::Receiver<Arc<ChannelSnapshot>>, status: watch::Sender<UploadStatus>) -> Self {
        Self {
            label: ChannelLabel { channel: setup.channel.to_string() },
            ledger: Ledger::new(setup.channel.clone()),
            setup,
            named: None,
            live,
            closed: None,
            status,
            snapshot: Arc::default(),
            backlog: Backlog::default(),
            goal: Goal::default(),
            aimed: Arc::default(),
            begun: Instant::now(),
            progressed: false,
            lost: Seldom::default(),
            right: Right::Unclaimed,
            asking: false,
            requests: JoinSet::new(),
            flights: BTreeMap::new(),
            last_landed: None,
            keeping: 0,
            unproven: true,
            probing: false,
            proven: None,
            deleting: Vec::new(),
            puts: Spell::default(),
            deletes: Spell::default(),
            keeps: Spell::default(),
            pace: Pace::default(),
            seconds: Arc::new(Semaphore::new(SECONDS_MAX)),
            leftovers: Leftovers::Due(Instant::now()),
        }
    }

    fn adopt(&mut self, inherited: Inherited) {
        for upload in Goal::media(&self.setup.channel, &inherited.stored) {
            self.ledger.attempt(&upload);
            self.ledger.stored(upload);
        }
        self.ledger.inherit(&inherited.stored);
        self.named = named_from(&inherited.stored);
        self.right = if inherited.claimed { Right::Held } else { Right::Unclaimed };
    }

    async fn run(&mut self) {
        loop {
            let now = Instant::now();
            self.aim(now);
            self.start(now);
            self.report();
            if self.closed.is_some() && self.keeping == 0 && (self.goal.is_done() || self.is_lost()) {
                return;
            }
            if self.may_leave(now) {
                let Waiting { objects: spooled, .. } = self.spooled();
                warn!(
                    spooled,
                    "the store fails, and nothing more comes: media is left to the spool, and the last playlists are not stored"
                );
                // Not by its playlists, from which the channel would go on.
                self.status.send_modify(|status| status.stored = None);
                return;
            }
            self.event(now).await;
        }
    }

    /// Nothing more comes, nothing can be put for a while, and the spool has all that is not stored: whoever opens the channel
    /// again need not wait for the store.
    fn may_leave(&self, now: Instant) -> bool {
        let is_past = |since: Option<Instant>| since.is_some_and(|since| since + LEAVE_AFTER <= now);
        let is_safe = self.setup.spool.is_some() && self.keeping == 0 && self.backlog.is_kept();
        is_safe
            && is_past(self.closed)
            && is_past(self.puts.began().map(|began| self.proven.unwrap_or(began).max(began)))
    }

    /// How many objects of the channel wait in the spool.
    fn spooled(&self) -> Waiting {
        self.setup.spool.as_ref().map(|spool| spool.of(&self.setup.channel)).unwrap_or_default()
    }

    fn is_lost(&self) -> bool {
        matches!(self.right, Right::Lost(_))
    }

    /// Whether what is there may be replaced or deleted now. Where that is not known, it begins to be found out.
    fn may_replace(&mut self, now: Instant) -> bool {
        match self.right {
            Right::Confirmed(until) if now < until => true,
            _ => {
                self.ask(now);
                false
            }
        }
    }

    /// Takes the newest snapshot as the goal, where the present one is reached or not worth reaching.
    fn aim(&mut self, now: Instant) {
        self.snapshot = Arc::clone(&self.live.borrow_and_update());
        if self.is_lost() {
            return;
        }
        let (mut left, was_done) = (Left::default(), self.goal.is_done());
        self.part(now);
        let may_turn =
            (self.puts.is_on() || self.is_stuck(now)) && self.goal.in_flight() == self.tries(self.stuck(now));
        let gaps = if may_turn { self.give_up(now, &mut left) } else { 0 };
        if self.snapshot.multivariant.is_some() && (was_done || gaps == 0 && may_turn && self.is_outdated(now)) {
            if was_done {
                self.begun = now;
            }
            (self.aimed, self.progressed) = (Arc::clone(&self.snapshot), false);
            self.take_goal();
        } else if gaps > 0 {
            // Not the newest, of which something might fail again, and be waited for.
            self.take_goal();
        }
        self.leave(left, now);
        self.tell_gaps(gaps);
        let left = self.see(now);
        self.leave(left, now);
    }

    /// Makes gaps of what the playlists are not to wait for any longer; not before it is in the spool, where that takes it.
    fn give_up(&mut self, now: Instant, left: &mut Left) -> u64 {
        if self.setup.spool.is_some() && !self.keeps.is_on() && self.backlog.has_unkept() {
            return 0;
        }
        let (patience, flights) = (self.patience(), &self.flights);
        let is_try = |flight: &Flight| flight.is_of_goal && now < flight.begun + patience.of_try();
        let is_tried = |key: &str| flights.values().any(|flight| flight.key() == key && is_try(flight));
        self.backlog.give_up(now, self.begun, patience, is_tried, left)
    }

    /// What is lacking of the snapshot that was aimed at.
    fn take_goal(&mut self) {
        self.goal = Goal::new(&self.setup.channel, &self.aimed, &self.ledger, &self.backlog);
        for flight in self.flights.values_mut().filter(|flight| flight.is_of_goal) {
            flight.is_of_goal = self.goal.adopt(flight.key());
        }
    }

    /// What is on its way for too long is as good as failed: the goal waits for it no longer, and it is put once more.
    fn part(&mut self, now: Instant) {
        let is_overdue = |flight: &Flight| self.overdue_at(flight).is_some_and(|due| due <= now);
        let overdue: BTreeSet<_> =
            self.flights.iter().filter(|(_, flight)| is_overdue(flight)).map(|(id, _)| *id).collect();
        for (_, flight) in self.flights.iter_mut().filter(|(id, _)| overdue.contains(id)) {
            flight.is_of_goal = false;
            self.backlog.hangs(flight.key(), flight.begun);
            self.goal.put_back(flight.upload.clone());
        }
    }

    /// When the goal waits no longer for what is on its way: that takes longer than the playlists wait for a segment, and much longer
    /// than others take. Of a rendition of which nothing can be put, not so long.
    fn overdue_at(&self, flight: &Flight) -> Option<Instant> {
        let longest = match self.backlog.is_broken(flight.key()) {
            true => self.patience().of_try().max(self.pace.slow()?),
            false => self.longest_flight()?,
        };
        flight.is_of_goal.then(|| flight.begun + longest)
    }

    /// Nothing is left of the goal's media but what cannot be put.
    fn is_stuck(&self, now: Instant) -> bool {
        self.goal.is_stuck(self.stuck(now))
    }

    /// Whether an object could not be put for a while.
    fn stuck(&self, now: Instant) -> impl Fn(&str) -> bool {
        let patience = self.patience();
        move |key| self.backlog.is_stuck(key, now, patience)
    }

    /// How many of the objects that are on their way for the goal are what `is_such` says.
    fn tries(&self, is_such: impl Fn(&str) -> bool) -> usize {
        self.flights.values().filter(|flight| flight.is_of_goal && is_such(flight.key())).count()
    }

    /// Nothing is left of the goal's media, begun or not, but segments that failed.
    fn has_failed(&self) -> bool {
        let failed = |key: &str| self.backlog.may_be_gap(key);
        self.goal.is_stuck(failed) && self.goal.in_flight() == self.tries(failed)
    }

    /// When the store is to be asked whether it works: nothing is left of the goal but what failed, and nothing newer is there from
    /// which that could be seen.
    fn proof(&self) -> Option<Instant> {
        let is_last = !self.probing && self.has_failed() && same_listing(&self.aimed, &self.snapshot);
        is_last.then(|| self.doubts_at())
    }

    /// When, if nothing is put until then, something else is to be tried.
    fn doubts_at(&self) -> Instant {
        self.backlog.doubts_at(self.begun, self.patience())
    }

    /// What takes longer is waited for no more; nothing as long as it is not known how long puts take.
    fn longest_flight(&self) -> Option<Duration> {
        Some(self.patience().segment.max(self.pace.slow()? * 2))
    }

    /// There is a newer goal, and turning to it loses nothing: either nothing was put of this one, or the playlists have waited
    /// for it no longer than for a segment that cannot be put, or nothing but such segments is left of it, or all of it has left
    /// the window. Playlists that are next are put before. Where nothing was put for a while, and nothing is left of it but playlists
    /// or what failed, its time is over too: else it would not be seen whether the store fails or that alone, and the media that comes
    /// meanwhile would wait in vain.
    fn is_outdated(&self, now: Instant) -> bool {
        let has_texts = self.goal.is_at_texts();
        let may_wait = !self.progressed || now < self.backlog.waits_until(self.begun, self.patience());
        let has_failed = || has_texts || self.goal.is_stuck(|key| self.backlog.has_failed(key));
        let may_turn = may_wait && !has_texts || self.is_stuck(now) || self.doubts_at() <= now && has_failed();
        self.goal.is_stale(&self.snapshot) || may_turn && !same_listing(&self.aimed, &self.snapshot)
    }

    /// The playlists wait for segments that cannot be put for three target durations, and 20 s at least; but not until half of
    /// what they list is another. Before that is a lull of the store, what is waited for has ended and what is tried next too.
    fn patience(&self) -> Patience {
        let target = Duration::from_secs(self.snapshot.target_duration_secs.into());
        let span = |rendition: &RenditionSnapshot| rendition.listed().map(|s| s.duration.to_duration()).sum();
        let listed: Duration =
            self.snapshot.renditions.iter().map(|rendition| span(rendition)).max().unwrap_or_default();
        let longest = (target * 3).max(PATIENCE_MIN);
        let patience = Patience { segment: longest.min((listed / 2).max(target)), lull: longest };
        let longest = longest.max(self.pace.slow().unwrap_or_default() * 2);
        Patience { lull: longest + patience.of_try(), ..patience }
    }

    /// Takes what is newly listed into the backlog; gives what the uploader is done with, put or not.
    fn see(&mut self, now: Instant) -> Left {
        let channel = &self.setup.channel;
        let listed = self.snapshot.multivariant.iter().flat_map(|_| Goal::media(channel, &self.snapshot));
        let (ledger, goal, flights) = (&self.ledger, &self.goal, &self.flights);
        let is_wanted = |key: &str| flights.values().any(|flight| flight.key() == key) || goal.waits_for(key);
        self.backlog.see(listed, |key| ledger.holds(key), is_wanted, now)
    }

    /// The spool puts these, or nobody.
    fn leave(&mut self, left: Left, now: Instant) {
        let mut lost = left.lost;
        for key in left.kept {
            self.ledger.leave(&key);
            let waits = self.setup.spool.as_ref().is_some_and(|spool| spool.release(&key));
            let is_segment = !matches!(Resource::parse(&key), Some((_, Resource::Init(..))));
            lost = lost.saturating_add(u64::from(!waits && is_segment));
        }
        if lost > 0 {
            self.setup.metrics.store_skipped.get_or_create(&self.label).inc_by(lost);
        }
        if let Some(skipped) = self.lost.tell(lost, now) {
            warn!(skipped, "segments left the window before they were stored: the copy in the store has a hole there");
        }
    }

    fn tell_gaps(&self, gaps: u64) {
        if gaps > 0 {
            let waited = self.patience().segment.as_secs();
            warn!(gaps, waited, "segments cannot be put although others can: the store's playlists list them as gaps");
            self.setup.metrics.store_gaps.get_or_create(&self.label).inc_by(gaps);
        }
    }

    /// Begins what can be begun now: while requests fail, one at a time.
    fn start(&mut self, now: Instant) {
        if self.is_lost() {
            return;
        }
        self.start_keeping(now);
        if !self.puts.must_wait(now) {
            let parallel = if self.puts.is_on() { 1 } else { PUTS_MAX };
            while self.goal.in_flight() < parallel && self.start_put(now) {}
            self.start_probe(now);
            // Though nothing is to be put: recordings are completed by whoever may write.
            if matches!(self.right, Right::Unclaimed) && !self.unproven {
                self.ask(now);
            }
        }
        if self.deleting.is_empty() && !self.deletes.must_wait(now) {
            self.start_delete(now);
            self.start_list(now);
        }
    }

    /// Keeps in the spool what cannot be put at present, or not soon.
    fn start_keeping(&mut self, now: Instant) {
        let Some(spool) = &self.setup.spool else { return };
        while self.keeping < KEEPS_MAX
            && !self.keeps.must_wait(now)
            && let Some(object) = self.backlog.keep(self.puts.is_on(), now)
        {
            self.keeping = self.keeping.saturating_add(1);
            let (spool, key) = (spool.clone(), object.key.clone());
            self.requests.spawn(async move { Done::Kept(key, spool.keep(object).await) });
        }
    }

    fn kept(&mut self, key: &str, is_kept: bool, now: Instant) {
        self.keeping = self.keeping.saturating_sub(1);
        if is_kept {
            self.keeps.succeeded(now);
        } else {
            // The spool has said why.
            self.keeps.failed(now, random(), "");
        }
        if let (false, true, Some(spool)) = (self.backlog.kept(key, is_kept), is_kept, &self.setup.spool) {
            // It was stored meanwhile, or this process has lost the channel.
            match self.ledger.holds(key) {
                true => spool.stored(key),
                false => _ = spool.release(key),
            }
        }
    }

    fn start_put(&mut self, now: Instant) -> bool {
        let Some(is_text) = self.goal.next().map(|upload| upload.role.is_text()) else { return false };
        let harmless = !is_text && matches!(self.right, Right::Held | Right::Confirmed(_));
        if !harmless && !self.may_replace(now) {
            return false;
        }
        if !is_text && !self.make_room() {
            return false;
        }
        let Some(upload) = self.goal.take() else { return false };
        if self.deleting.contains(&upload.object.key) {
            // A playlist comes back: nobody knows which of both requests the store would do last.
            self.goal.put_back(upload);
            return false;
        }
        self.ledger.attempt(&upload);
        let (store, object) = (Arc::clone(&self.setup.store), upload.object.clone());
        if is_text {
            // So that a write of this process that was given up, and is done late, does not replace a newer one.
            let condition = self.ledger.version(&object.key).map_or(Condition::Found, Condition::Is);
            self.requests.spawn(async move {
                let result = store.put_if(object, condition).await;
                Done::PutText(upload, result)
            });
        } else {
            let slow = self.pace.slow().filter(|_| !self.puts.is_on());
            let seconds = Arc::clone(&self.seconds);
            let id = self.flights.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
            self.backlog.tried(&object.key, now);
            let put = async move { Done::Put(id, hedge::put(store, object, slow, seconds).await) };
            let request = self.requests.spawn(put);
            self.flights.insert(id, Flight { upload, begun: now, is_of_goal: true, request });
        }
        true
    }

    /// What hangs for so long that many others hang too is given up for another, where something was put since it was begun: else all
    /// are slow together, and what is given up is lost time. False where there is no room.
    fn make_room(&mut self) -> bool {
        if self.flights.len() < FLIGHTS_MAX {
            return true;
        }
        let oldest = self.flights.iter().find(|(_, flight)| !flight.is_of_goal).map(|(id, _)| *id);
        let hangs = |id: &u64| self.flights.get(id).is_some_and(|flight| Some(flight.begun) < self.last_landed);
        let Some(given_up) = oldest.filter(hangs).and_then(|id| self.flights.remove(&id)) else { return false };
        given_up.request.abort();
        self.count_error(&StoreError::slow(given_up.begun.elapsed()));
        true
    }

    /// Begins to find out who has the right to write.
    fn ask(&mut self, now: Instant) {
        if self.asking || self.is_lost() || self.puts.must_wait(now) {
            return;
        }
        self.asking = true;
        let (writer, claim) = (self.setup.writer.clone(), matches!(self.right, Right::Unclaimed));
        self.requests.spawn(async move {
            Done::Look(now, if claim { writer.claim_late().await } else { writer.standing().await })
        });
    }

    /// Puts are proof enough where there are any.
    fn start_probe(&mut self, now: Instant) {
        let is_due = self.unproven && self.goal.is_done() || self.proof().is_some_and(|due| due <= now);
        if self.probing || !is_due {
            return;
        }
        self.probing = true;
        let store = Arc::clone(&self.setup.store);
        self.requests.spawn(async move { Done::Probe(now, store.probe().await) });
    }

    fn start_delete(&mut self, now: Instant) {
        if self.ledger.next_expiry().is_none_or(|expiry| expiry > now) {
            return;
        }
        let Some(kept) = self.retained() else {
            self.ledger.forget_excess();
            return;
        };
        if !self.may_replace(now) {
            return;
        }
        let is_kept = |key: &String| Resource::parse(key).is_some_and(|(_, resource)| kept.holds(&resource));
        let (others, keys): (Vec<String>, Vec<String>) = self.ledger.expired(now).into_iter().partition(is_kept);
        self.ledger.dismiss(&others);
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

    /// What is not to be deleted, where that is known.
    fn retained(&self) -> Option<Arc<Kept>> {
        self.setup.kept.borrow().clone()
    }

    /// Looks for what was left behind, once the store has this process's playlists, so that it is known what is named; page by
    /// page.
    fn start_list(&mut self, now: Instant) {
        let after = match &self.leftovers {
            Leftovers::Due(due) if *due <= now => None,
            Leftovers::Behind(after, _) => after.clone(),
            Leftovers::Due(_) | Leftovers::Asked(_) => return,
        };
        let found = if let Leftovers::Behind(_, found) = &self.leftovers { *found } else { 0 };
        if !self.goal.is_done() || !self.ledger.has_root() || !self.deleting.is_empty() || self.retained().is_none() {
            return;
        }
        if !self.may_replace(now) {
            return;
        }
        self.leftovers = Leftovers::Asked(found);
        let (store, prefix) = (Arc::clone(&self.setup.store), layout::key(&self.setup.channel, ""));
        self.requests.spawn(async move { Done::List(store.list(&prefix, after.as_deref()).await) });
    }

    fn listed(&mut self, result: Result<Vec<Listed>, StoreError>, now: Instant) {
        let Leftovers::Asked(mut found) = self.leftovers else { return };
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                debug!(%error, "what was left behind cannot be looked for now");
                self.leftovers = Leftovers::Due(now + LEFTOVERS_EACH);
                return;
            }
        };
        let (today, kept) = (wall_clock(), self.retained().unwrap_or_default());
        for listed in &page {
            let old = today.duration_since(listed.modified).is_ok_and(|age| age >= LEFTOVER_AGE);
            // What is not of the tree is not this server's.
            let may_go = Resource::parse(&listed.key).is_some_and(|(_, resource)| !kept.holds(&resource));
            if old && may_go && self.ledger.found(&listed.key, now, LEFTOVER_LINGER) {
                found = found.saturating_add(1);
            }
        }
        self.leftovers = match page.last() {
            Some(last) => Leftovers::Behind(Some(last.key.clone()), found),
            None => {
                self.tell_leftovers(found);
                Leftovers::Due(now + LEFTOVERS_EACH)
            }
        };
        if let (Leftovers::Behind(..), true) = (&self.leftovers, found >= LEFTOVERS_MAX) {
            self.tell_leftovers(found);
            self.leftovers = Leftovers::Due(now + LEFTOVERS_EACH);
        }
    }

    fn tell_leftovers(&self, found: usize) {
        if found > 0 {
            info!(objects = found, "a process before this one left behind what nothing names: it will be deleted");
        }
    }

    /// Waits until something is to be done that was not at `now`.
    async fn event(&mut self, now: Instant) {
        let wake = self.wake(now);
        tokio::select! {
            Some(done) = self.requests.join_next() => self.answered(done),
            // What is to be deleted may be deleted now.
            Ok(()) = self.setup.kept.changed() => {}
            () = relisted(&mut self.live, &self.snapshot), if self.closed.is_none() => {
                self.closed = self.live.has_changed().is_err().then(Instant::now);
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }

    /// When something is due by the clock: a try after a failure, a deletion, or a search.
    fn wake(&self, now: Instant) -> Option<Instant> {
        if self.is_lost() {
            return None;
        }
        let retry = self.puts.retry().filter(|retry| *retry > now);
        // Else what is on its way wakes it.
        let idle = self.deleting.is_empty() && !self.asking && self.retained().is_some();
        let deletion = self.ledger.next_expiry().filter(|_| idle);
        let deletion = deletion
            .and_then(|expiry| [self.deletes.retry(), self.puts.retry(), Some(expiry)].into_iter().flatten().max());
        let search = match self.leftovers {
            Leftovers::Due(due) => Some(due).filter(|due| *due > now),
            Leftovers::Behind(..) | Leftovers::Asked(_) => None,
        };
        let has_room = self.setup.spool.is_some() && self.keeping < KEEPS_MAX;
        let keep =
            self.backlog.next_keep().filter(|_| has_room).map(|keep| keep.max(self.keeps.retry().unwrap_or(keep)));
        // One that has just become due, as its rendition did, is parted next.
        let overdue = self.flights.values().filter_map(|flight| self.overdue_at(flight)).min();
        let tries = self.flights.values().filter(|flight| flight.is_of_goal && self.backlog.has_failed(flight.key()));
        let of_try = self.patience().of_try();
        let tried = tries.map(|flight| flight.begun + of_try).filter(|due| *due > now).min();
        // Others empty the spool.
        let look = self.status.borrow().spooled > 0;
        let look = look.then(|| now + LOOK_EACH);
        let later = |due: &Instant| *due > now;
        let proof = self.proof().filter(later);
        [retry, deletion, search, keep.filter(later), overdue, tried, proof, look].into_iter().flatten().min()
    }

    fn answered(&mut self, done: Result<Done, JoinError>) {
        let now = Instant::now();
        match done {
            Ok(Done::Put(id, result)) => self.landed(id, result, now),
            Ok(Done::PutText(upload, Ok(version))) => {
                let key = upload.object.key.clone();
                debug!(key, bytes = upload.object.data.len(), "stored");
                self.ledger.stored(upload);
                self.ledger.set_version(&key, version);
                self.goal.stored();
                self.progressed = true;
                self.backlog.works(now, self.begun, self.patience());
                self.put(now);
            }
            Ok(Done::PutText(upload, Err(error))) => {
                debug!(key = upload.object.key, %error, "not stored");
                self.not_put(Some(upload), &error, now);
            }
            Ok(Done::Kept(key, is_kept)) => self.kept(&key, is_kept, now),
            Ok(Done::List(result)) => self.listed(result, now),
            Ok(Done::Look(asked, result)) => self.looked(asked, result, now),
            Ok(Done::Probe(begun, result)) => {
                self.probing = false;
                match result {
                    // What fails is tried no sooner for that.
                    Ok(()) if self.has_failed() => {
                        self.proven = Some(now);
                        self.backlog.works(now, self.begun, self.patience());
                        self.backlog.proves(begun);
                    }
                    Ok(()) => self.works(now),
                    Err(error) => self.failed(&error, now),
                }
            }
            Ok(Done::Delete(keys, result)) => self.delete_answered(&keys, result, now),
            Err(error) if error.is_cancelled() => {}
            // A bug in a store ends this channel's uploader, as if it had happened here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// A put of media is over.
    fn landed(&mut self, id: u64, result: Result<Written, StoreError>, now: Instant) {
        let Some(Flight { upload, begun, is_of_goal, .. }) = self.flights.remove(&id) else { return };
        let key = upload.object.key.clone();
        let Written { took, hedged } = match result {
            Ok(written) => written,
            Err(error) => {
                debug!(key, %error, "not stored");
                self.backlog.failed(&key, now);
                return self.not_put(Some(upload).filter(|_| is_of_goal), &error, now);
            }
        };
        debug!(key, bytes = upload.object.data.len(), "stored");
        self.last_landed = Some(now);
        self.pace.took(took);
        if hedged {
            self.setup.metrics.store_hedged.get_or_create(&self.label).inc();
        }
        // What was given up meanwhile is the spool's; that it came is no reason to delete it with the window.
        let is_late = !is_of_goal && !self.backlog.has(&key);
        if !is_late {
            self.ledger.stored(upload);
        }
        if is_of_goal {
            self.goal.stored();
            self.progressed = true;
        } else {
            self.settle(&key);
        }
        self.backlog.works(now, self.begun, self.patience());
        if let (true, Some(spool)) = (self.backlog.stored(&key, begun) || is_late, &self.setup.spool) {
            spool.stored(&key);
        }
        self.put(now);
    }

    /// The goal need not wait for what was stored by a put that it did not wait for.
    fn settle(&mut self, key: &str) {
        self.goal.forget(key);
        for flight in self.flights.values_mut().filter(|flight| flight.is_of_goal && flight.key() == key) {
            flight.is_of_goal = false;
            self.goal.stored();
        }
    }

    /// Something could not be put, which the goal still waits for, where it is given.
    fn not_put(&mut self, upload: Option<Upload>, error: &StoreError, now: Instant) {
        if self.is_lost() {
            return;
        }
        if matches!(self.right, Right::Confirmed(_)) {
            self.right = Right::Held;
        }
        let key = upload.as_ref().map(|upload| upload.object.key.clone());
        upload.into_iter().for_each(|upload| self.goal.put_back(upload));
        // By another process, which a look will tell, or by a write of this one whose answer was lost: then it is put again, as
        // nobody knows in place of what.
        let versioned = key.filter(|key| self.ledger.version(key).is_some());
        if let (StoreError::Changed(_), Some(key)) = (error, versioned) {
            self.count_error(error);
            self.ledger.set_version(&key, None);
        } else {
            self.failed(error, now);
        }
    }

    fn looked(&mut self, asked: Instant, result: Result<Standing, StoreError>, now: Instant) {
        self.asking = false;
        match result {
            // The answer may be as old as the question; but something is done by each.
            Ok(Standing::Own) => self.right = Right::Confirmed((asked + CONFIRMED_FOR).max(now + CONFIRMED_MIN)),
            Ok(Standing::Nobody) => self.right = Right::Unclaimed,
            Ok(Standing::Other(holder)) => {
                error!(
                    by = %holder,
                    "another process took the channel over: this one stores nothing more of it. Stop one of the two, or give them \
                     different channels or prefixes; whichever is started last has the channel"
                );
                (self.goal, self.aimed) = Default::default();
                self.right = Right::Lost(holder);
                self.leave_all();
            }
            Err(error) => self.failed(&error, now),
        }
    }

    /// The spool has all that waits there; the rest was listed by a process that has the channel no more, and is forgotten.
    fn leave_all(&mut self) {
        for key in self.backlog.leave().kept {
            self.setup.spool.iter().for_each(|spool| _ = spool.release(&key));
        }
    }

    /// Something was put.
    fn put(&mut self, now: Instant) {
        self.setup.metrics.store_puts.get_or_create(&self.label).inc();
        self.setup.spool.iter().for_each(|spool| spool.taken(now));
        self.works(now);
        if self.goal.is_done() {
            self.ledger.sweep(now);
            // What is put next names nothing older.
            self.named = self.ledger.named_from().or(self.named);
        }
    }

    fn works(&mut self, now: Instant) {
        self.unproven = false;
        if let Some(lasted) = self.puts.succeeded(now) {
            let behind = self.behind();
            info!(behind, seconds = lasted.as_secs(), "the store works again");
        }
    }

    fn failed(&mut self, error: &StoreError, now: Instant) {
        self.count_error(error);
        self.unproven = true;
        // There is always something to be done about it by trying again: the network, the store or the
        // operator may mend it, and the live origin does not depend on it.
        if self.puts.failed(now, random(), &error.to_string()) {
            let behind = self.behind();
            warn!(behind, "{error}; the live origin goes on, uploads are tried again");
        }
    }

    fn delete_answered(&mut self, keys: &[String], result: Result<(), StoreError>, now: Instant) {
        self.deleting.clear();
        match result {
            Ok(()) => {
                debug!(objects = keys.len(), "deleted what had left the window");
                self.ledger.dismiss(keys);
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

    fn behind(&self) -> u64 {
        self.ledger.behind(&self.snapshot, |key| self.backlog.is_gap(key))
    }

    fn report(&self) {
        let segments_behind = self.behind();
        let stored = self.ledger.stored_up_to(&self.snapshot);
        let renditions = Arc::new(self.ledger.progress(&self.snapshot, |key| self.backlog.is_gap(key)));
        let failing = match &self.right {
            Right::Lost(holder) => {
                Some(format!("{holder} took the channel over: this process stores nothing more of it"))
            }
            _ => self.puts.told().map(str::to_owned),
        };
        let waiting = self.spooled();
        self.setup.metrics.store_behind.get_or_create(&self.label).set(segments_behind.try_into().unwrap_or(i64::MAX));
        self.status.send_if_modified(|status| {
            let (stored, seen) = (stored.max(status.stored), self.snapshot.last());
            let Waiting { objects: spooled, hopeless } = waiting;
            let named = self.named;
            let new = UploadStatus { segments_behind, stored, failing, spooled, hopeless, seen, renditions, named };
            let changed = *status != new;
            *status = new;
            changed
        });
    }

    /// The deadline came first.
    fn cut_short(&self) {
        if self.is_lost() {
            return;
        }
        let behind = self.behind();
        if behind > 0 || !self.goal.is_done() {
            let Waiting { objects: spooled, .. } = self.spooled();
            warn!(behind, spooled, "the time to stop has come before everything was stored");
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.leave_all();
    }
}

/// What the playlists of a snapshot name.
fn named_from(snapshot: &ChannelSnapshot) -> Option<NamedFrom> {
    let named = |(_, segment): (_, &Segment)| NamedFrom { session: segment.session, msn: segment.msn };
    listed(snapshot).map(named).reduce(NamedFrom::min)
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

#[expect(clippy::disallowed_methods, reason = "the age of objects is told by the calendar")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// For the jitter of waits; without randomness they have none.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// Enough to fill an uplink, few enough to leave a store's connections to others.
const PUTS_MAX: usize = 6;

/// Puts at one time, with those that are overdue.
const FLIGHTS_MAX: usize = 2 * PUTS_MAX;

/// Writes to the spool at one time: they share one disk with all channels.
const KEEPS_MAX: usize = 2;

/// The least time that playlists wait for a segment that cannot be put while others can, where they list twice as much: enough
/// for several tries, little enough that players have not given up.
const PATIENCE_MIN: Duration = Duration::from_secs(20);

/// A store that fails for so long may go on failing: a channel that is over waits for it no longer.
const LEAVE_AFTER: Duration = Duration::from_secs(30);

/// How often it is looked how much waits in the spool, where something does.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// What nothing names is left alone for so long: whoever is at something with it is done by then.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// And after it was found for so long at least: an old playlist may have named it until just now.
const LEFTOVER_LINGER: Duration = Duration::from_secs(3600);

/// So many are found at once; the others the next time.
const LEFTOVERS_MAX: usize = 1000;

/// A look holds for so long from when it was begun: the playlists of one goal share one.
const CONFIRMED_FOR: Duration = Duration::from_secs(3);

/// And for so long at least behind an answer that took longer.
const CONFIRMED_MIN: Duration = Duration::from_millis(250);

/// How often what was left behind is looked for.
const LEFTOVERS_EACH: Duration = Duration::from_secs(6 * 3600);

/// Second attempts at one time.
const SECONDS_MAX: usize = 1;

#[cfg(test)]
mod outages;
#[cfg(test)]
mod tests;
