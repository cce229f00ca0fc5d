//! A channel's supervisor: who may publish, when the programme ends, and where its timeline goes on.
//!
//! It lives as long as the process. Publishers come and go; each is one [`transcode::run`], and what that one
//! fixed (the renditions, the position) is handed to the next within the same programme.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::config::{ChannelConfig, HlsConfig};
use crate::ladder::LadderEvent;
use crate::live::{ChannelPhase, PublisherStatus};
use crate::media::MediaTime;
use crate::metrics::Metrics;
use crate::source::{Admission, PublishRequest, Refusal, SourceEvent};
use crate::transcode::{self, Latched, Outcome, SourceEnd};

use super::recall::Recalled;
use super::takeover::{self, Takeovers, Verdict};

/// Where a channel's timeline begins: late enough that no decoding time before the first picture is negative.
const TIMELINE_START: MediaTime = MediaTime::from_millis(10_000);

/// How far ahead of the clock a publisher's media may have run when its transcoder is lost without a word.
const RUN_AHEAD_MAX: MediaTime = MediaTime::from_millis(60_000);

/// Access units between a publisher and the transcoder. When it is full the publisher's socket is not read.
const SOURCE_QUEUE: usize = 64;

/// One channel's supervisor.
#[derive(Debug)]
pub(super) struct Channel {
    /// What the operator says of it.
    pub(super) config: ChannelConfig,
    /// How media is cut.
    pub(super) hls: HlsConfig,
    /// How long a lost publisher may take to return.
    pub(super) grace: Duration,
    /// How long it may be without publisher and programme before it ends; one of the config never does.
    pub(super) idle_max: Option<Duration>,
    /// Who may take the place of a publisher.
    pub(super) takeovers: Takeovers,
    /// Counters.
    pub(super) metrics: Metrics,
    /// What a process before this one left; nobody is admitted before it is known.
    pub(super) recalled: watch::Receiver<Option<Recalled>>,
    /// Publishers with a valid key.
    pub(super) requests: mpsc::Receiver<PublishRequest>,
    /// The packager's input. Dropped when the supervisor ends, which ends the packager.
    pub(super) ladder: mpsc::Sender<LadderEvent>,
    /// What others may see of it.
    pub(super) phase: watch::Sender<ChannelPhase>,
    /// No further publisher is admitted, and there is no grace, once this is cancelled.
    pub(super) stop: CancellationToken,
}

/// What one publisher leaves to the next of the same programme.
#[derive(Debug, Default)]
struct Programme {
    /// Players have seen something of it, and not its end.
    open: bool,
    position: Option<MediaTime>,
    latched: Option<Latched>,
}

/// The publisher that the channel has.
struct Incumbent {
    peer: SocketAddr,
    last_media: watch::Receiver<Instant>,
    events: mpsc::WeakSender<SourceEvent>,
    /// None once it was used.
    dismiss: Option<oneshot::Sender<String>>,
}

/// A request for a channel that has a publisher.
struct Claim {
    request: PublishRequest,
    asked: Instant,
    /// When more will be known.
    wait_until: Option<Instant>,
}

impl Incumbent {
    fn seen(&mut self) -> takeover::Incumbent {
        let last_media = *self.last_media.borrow_and_update();
        let held_up = self.events.upgrade().is_some_and(|events| events.capacity() == 0);
        takeover::Incumbent { last_media, held_up }
    }

    /// Completes when media comes, or at `until`.
    async fn stirs(&mut self, until: Option<Instant>) {
        tokio::select! {
            Ok(()) = self.last_media.changed() => {}
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            else => std::future::pending().await,
        }
    }

    fn dismiss(&mut self, text: String) {
        if let Some(dismiss) = self.dismiss.take() {
            // It may have left by itself already.
            drop(dismiss.send(text));
        }
    }

    fn is_dismissed(&self) -> bool {
        self.dismiss.is_none()
    }
}

/// A publisher's end, seen from the channel.
enum Next {
    /// The programme goes on if somebody comes back in time.
    Grace,
    /// The programme is over, or never began.
    Idle,
}

impl Channel {
    /// Serves publishers until `stop` is cancelled or it was idle for too long, and the last one is gone.
    pub(super) async fn run(mut self) {
        let mut programme = self.recall().await;
        let mut successor = None;
        while let Some(request) = match successor.take() {
            Some(request) => Some(request),
            None => self.next_request(&mut programme).await,
        } {
            let publisher = PublisherStatus {
                peer: request.peer,
                encoder: request.encoder.clone(),
                key_name: request.key_name.clone(),
                since: wall_clock(),
            };
            let span = info_span!("publish", peer = %publisher.peer);
            let next;
            (next, successor) = self.publish(request, publisher, &mut programme).instrument(span).await;
            let phase = match next {
                Next::Grace => ChannelPhase::Grace { since: wall_clock() },
                Next::Idle => ChannelPhase::Idle,
            };
            self.phase.send_replace(phase);
        }
    }

    /// The programme that a process before this one left open: its publisher may return, as if it had been lost just now.
    async fn recall(&mut self) -> Programme {
        let recalled = tokio::select! {
            // Without a packager nothing comes back.
            recalled = self.recalled.wait_for(Option::is_some) => recalled.ok().and_then(|recalled| *recalled),
            () = self.stop.cancelled() => None,
        };
        let Some(Recalled { open, position }) = recalled else { return Programme::default() };
        if open {
            self.phase.send_replace(ChannelPhase::Grace { since: wall_clock() });
        }
        Programme { open, position, latched: None }
    }

    /// Waits for a publisher; ends the programme when its grace is over.
    async fn next_request(&mut self, programme: &mut Programme) -> Option<PublishRequest> {
        let in_grace = matches!(*self.phase.borrow(), ChannelPhase::Grace { .. });
        if in_grace {
            let deadline = Instant::now() + self.grace;
            tokio::select! {
                request = self.requests.recv() => return request,
                () = self.stop.cancelled() => return None,
                () = sleep_until(deadline) => info!(grace = ?self.grace, "the publisher did not return: the programme ends"),
            }
            self.finish(programme).await;
            self.phase.send_replace(ChannelPhase::Idle);
        }
        let idle_max = self.idle_max.unwrap_or_default();
        tokio::select! {
            request = self.requests.recv() => request,
            () = self.stop.cancelled() => None,
            () = sleep(idle_max), if self.idle_max.is_some() => None,
        }
    }

    /// Takes one publisher from its admission to its end. With it comes who took over from it, if somebody did.
    async fn publish(
        &mut self,
        request: PublishRequest,
        publisher: PublisherStatus,
        programme: &mut Programme,
    ) -> (Next, Option<PublishRequest>) {
        let before = if programme.open { Next::Grace } else { Next::Idle };
        let (events, source) = mpsc::channel(SOURCE_QUEUE);
        let (dismiss, dismissed) = oneshot::channel();
        let start = programme.position.unwrap_or(TIMELINE_START);
        let mut incumbent = Incumbent {
            peer: request.peer,
            last_media: request.last_media,
            events: events.downgrade(),
            dismiss: Some(dismiss),
        };
        if request.reply.send(Ok(Admission { start, events, dismissed })).is_err() {
            return (before, None);
        }
        let encoder = publisher.encoder.as_deref().unwrap_or("unknown");
        info!(encoder, key = publisher.key_name, ?start, "publisher admitted");
        self.phase.send_replace(ChannelPhase::Publishing(publisher));
        let admitted = Instant::now();
        let (outcome, successor) = self.transcode(source, programme, &mut incumbent).await;
        let Some(outcome) = outcome else {
            // How far it came is not known: go on past what it can have sent.
            programme.position = Some(start + MediaTime::from(admitted.elapsed()) + RUN_AHEAD_MAX);
            return (before, successor);
        };
        programme.position = outcome.position.or(programme.position);
        programme.latched = outcome.latched.or_else(|| programme.latched.take());
        programme.open |= programme.latched.is_some();
        (self.after(outcome.end, incumbent, programme).await, successor)
    }

    /// Runs the transcoder. Whoever else wants to publish meanwhile is refused, or has the run ended and comes next:
    /// each run has a queue of its own, so that nothing of the one publisher can reach the run of the other.
    /// No outcome where the transcoder panicked.
    async fn transcode(
        &mut self,
        source: mpsc::Receiver<SourceEvent>,
        programme: &Programme,
        incumbent: &mut Incumbent,
    ) -> (Option<Outcome>, Option<PublishRequest>) {
        let setup = transcode::Setup {
            channel: self.config.name.clone(),
            ladder: Arc::clone(&self.config.ladder),
            hls: self.hls,
            latched: programme.latched.clone(),
            metrics: self.metrics.clone(),
        };
        let mut run = JoinSet::new();
        run.spawn(transcode::run(setup, source, self.ladder.clone()).in_current_span());
        let mut claim: Option<Claim> = None;
        loop {
            tokio::select! {
                Some(ended) = run.join_next() => {
                    let outcome = ended.inspect_err(|panic| error!(%panic, "the transcoder failed")).ok();
                    return (outcome, claim.map(|claim| claim.request));
                }
                Some(request) = self.requests.recv() => claim = self.claim(request, claim, incumbent),
                () = incumbent.stirs(claim.as_ref().and_then(|claim| claim.wait_until)), if claim.is_some() => {}
            }
            claim = claim.and_then(|claim| self.consider(claim, incumbent));
        }
    }

    /// Of several that wait for a silent publisher's place, the last is the likeliest to be still there.
    fn claim(&self, request: PublishRequest, older: Option<Claim>, incumbent: &Incumbent) -> Option<Claim> {
        if self.stop.is_cancelled() {
            self.refuse(request, Refusal::ShuttingDown, incumbent);
            return older;
        }
        if incumbent.is_dismissed() && older.is_some() {
            self.refuse(request, self.busy(), incumbent);
            return older;
        }
        if let Some(older) = older {
            self.refuse(older.request, self.busy(), incumbent);
        }
        Some(Claim { request, asked: Instant::now(), wait_until: None })
    }

    /// What becomes of a claim now; None where that is settled.
    fn consider(&mut self, claim: Claim, incumbent: &mut Incumbent) -> Option<Claim> {
        if incumbent.is_dismissed() {
            return Some(claim);
        }
        let now = Instant::now();
        match self.takeovers.judge(incumbent.seen(), claim.asked, now) {
            Verdict::Wait(until) => return Some(Claim { wait_until: Some(until), ..claim }),
            Verdict::TakeOver if claim.request.reply.is_closed() => {}
            Verdict::TakeOver => {
                warn!(silent = %incumbent.peer, by = %claim.request.peer, "the publisher is silent and another asks: it takes over");
                self.takeovers.note(now);
                incumbent.dismiss("another encoder took over, because nothing came from this one any more".to_owned());
                return Some(Claim { wait_until: None, ..claim });
            }
            Verdict::Busy => self.refuse(claim.request, self.busy(), incumbent),
            Verdict::Held => {
                error!(
                    publisher = %incumbent.peer, other = %claim.request.peer,
                    "encoders take the channel from each other: the one that has it stays; find out who else uses its key"
                );
                let refusal = Refusal::Contested { channel: self.config.name.clone() };
                self.refuse(claim.request, refusal, incumbent);
            }
        }
        None
    }

    fn busy(&self) -> Refusal {
        Refusal::Busy { channel: self.config.name.clone() }
    }

    fn refuse(&self, request: PublishRequest, refusal: Refusal, incumbent: &Incumbent) {
        if !matches!(refusal, Refusal::ShuttingDown) {
            let (peer, publisher) = (request.peer, incumbent.peer);
            warn!(%peer, %publisher, "refused: the channel is being published to by another encoder");
        }
        // Where nobody waits for the answer any more, there is nobody to refuse.
        drop(request.reply.send(Err(refusal)));
    }

    async fn after(&self, end: SourceEnd, mut incumbent: Incumbent, programme: &mut Programme) -> Next {
        match end {
            // Its goodbye, too, comes too late: the programme is its successor's.
            SourceEnd::Finished | SourceEnd::Lost if incumbent.is_dismissed() => {}
            SourceEnd::Finished => {
                info!("the encoder stopped: the programme ends");
                self.finish(programme).await;
                return Next::Idle;
            }
            SourceEnd::Lost => warn!(grace = ?self.grace, "the publisher was lost; it may return"),
            SourceEnd::Failed(reason) => {
                error!(reason, "the source cannot be shown");
                incumbent.dismiss(reason);
            }
        }
        if programme.open { Next::Grace } else { Next::Idle }
    }

    /// Ends the programme: `EXT-X-ENDLIST`. The timeline goes on, so that nothing of a later programme
    /// can be taken for something of this one.
    async fn finish(&self, programme: &mut Programme) {
        programme.latched = None;
        if std::mem::take(&mut programme.open) && self.ladder.send(LadderEvent::Finish).await.is_err() {
            error!("the packager is gone");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "for display: since when a publisher is here or gone")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EncodeProfile, LadderConfig, LongGop, MissingRungs, RecordingConfig};
    use crate::media::Container;
    use crate::source::ChannelName;

    const SILENCE: Duration = Duration::from_secs(2);

    struct Running {
        requests: mpsc::Sender<PublishRequest>,
        phase: watch::Receiver<ChannelPhase>,
        stop: CancellationToken,
        tasks: JoinSet<()>,
        ladder: mpsc::Receiver<LadderEvent>,
    }

    fn start() -> Running {
        start_from(Recalled { position: None, open: false })
    }

    fn start_from(recalled: Recalled) -> Running {
        let ladder = LadderConfig {
            name: "x".into(),
            profile: EncodeProfile::Balanced,
            long_gop: LongGop::Encode,
            missing_rungs: MissingRungs::Encode,
            renditions: Vec::new(),
            audio_bitrate: 128_000,
        };
        let config = ChannelConfig {
            name: ChannelName::new("demo").unwrap(),
            ladder: Arc::new(ladder),
            container: Container::Cmaf,
            recording: RecordingConfig::default(),
            window: Duration::from_secs(3),
            keys: Vec::new(),
        };
        let second = Duration::from_secs(1);
        let hls = HlsConfig {
            container: Container::Cmaf,
            low_latency: true,
            segment_duration: second,
            part_duration: second,
            window: second * 3,
            memory: second * 3,
            memory_max: second * 3,
        };
        // As long as in the server; a test sends fewer.
        let (requests, asked) = mpsc::channel(4);
        let (ladder, ladder_events) = mpsc::channel(4);
        let (phase, phase_view) = watch::channel(ChannelPhase::default());
        let stop = CancellationToken::new();
        let channel = Channel {
            config,
            hls,
            grace: second,
            idle_max: None,
            takeovers: Takeovers::new(SILENCE),
            metrics: Metrics::default(),
            recalled: watch::channel(Some(recalled)).1,
            requests: asked,
            ladder,
            phase,
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(channel.run());
        Running { requests, phase: phase_view, stop, tasks, ladder: ladder_events }
    }

    /// A publisher, seen from its connection.
    struct Publisher {
        admission: Admission,
        last_media: watch::Sender<Instant>,
    }

    impl Publisher {
        fn sends_media(&self) {
            self.last_media.send_replace(Instant::now());
        }
    }

    impl Running {
        fn request(&self) -> impl Future<Output = Result<Publisher, Refusal>> + use<> {
            let (reply, answer) = oneshot::channel();
            let (last_media, seen) = watch::channel(Instant::now());
            let peer = "192.0.2.1:1000".parse().unwrap();
            let request = PublishRequest { peer, encoder: None, key_name: None, last_media: seen, reply };
            self.requests.try_send(request).unwrap();
            async move { Ok(Publisher { admission: answer.await.unwrap()?, last_media }) }
        }

        async fn ask(&self) -> Result<Publisher, Refusal> {
            self.request().await
        }
    }

    /// Dismissed as its connection is, which then lets go of its queue.
    async fn dismissed(publisher: Publisher) -> String {
        let Publisher { admission, last_media: _last } = publisher;
        admission.dismissed.await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_publisher_at_a_time_and_the_next_when_it_is_gone() {
        let mut running = start();
        let first = running.ask().await.unwrap();
        assert_eq!(first.admission.start, TIMELINE_START);
        let second = running.request();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(33)).await;
        first.sends_media();
        assert!(matches!(second.await, Err(Refusal::Busy { .. })), "as soon as the first is heard");
        drop(first);
        running.phase.wait_for(|phase| *phase == ChannelPhase::Idle).await.unwrap();
        let second = running.ask().await.unwrap();
        assert_eq!(second.admission.start, TIMELINE_START, "without media there is no programme that goes on");
    }

    /// As a process before this one left it, which was killed while its encoder sent.
    fn killed() -> Recalled {
        Recalled { position: Some(MediaTime::from_millis(90_000)), open: true }
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_returns_to_the_programme_of_a_process_that_was_killed() {
        let mut running = start_from(killed());
        running.phase.wait_for(|phase| matches!(phase, ChannelPhase::Grace { .. })).await.unwrap();
        let publisher = running.ask().await.unwrap();
        assert_eq!(publisher.admission.start, MediaTime::from_millis(90_000));
        drop(publisher);
        running.phase.wait_for(|phase| matches!(phase, ChannelPhase::Grace { .. })).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_programme_of_a_process_that_was_killed_ends_with_its_grace() {
        let mut running = start_from(killed());
        let started = Instant::now();
        assert!(matches!(running.ladder.recv().await, Some(LadderEvent::Finish)));
        assert_eq!(started.elapsed(), Duration::from_secs(1));
        running.phase.wait_for(|phase| *phase == ChannelPhase::Idle).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn row_38_a_silent_publisher_gives_way() {
        let running = start();
        let first = running.ask().await.unwrap();
        let heard = Instant::now();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let second = running.request();
        let text = dismissed(first).await;
        assert_eq!(heard.elapsed(), SILENCE, "held until the silence is complete");
        assert!(text.contains("another encoder took over"), "{text}");
        let second = second.await.unwrap();
        assert!(!second.admission.events.is_closed());
        assert!(matches!(&*running.phase.borrow(), ChannelPhase::Publishing(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn row_38_nothing_of_the_old_publisher_reaches_the_new_run() {
        let running = start();
        let first = running.ask().await.unwrap();
        tokio::time::sleep(SILENCE).await;
        let second = running.request();
        let Publisher { admission: Admission { events, dismissed, .. }, last_media } = first;
        dismissed.await.unwrap();
        // It wakes up too late.
        last_media.send_replace(Instant::now());
        events.send(SourceEvent::End).await.unwrap();
        drop(events);
        let second = second.await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!second.admission.events.is_closed(), "the goodbye ended the run of the first only");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_wait_the_later_gets_the_place() {
        let running = start();
        let first = running.ask().await.unwrap();
        let (second, third) = (running.request(), running.request());
        assert!(matches!(second.await, Err(Refusal::Busy { .. })));
        dismissed(first).await;
        assert!(third.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_lost_while_another_waits_leaves_it_the_place() {
        let running = start();
        let first = running.ask().await.unwrap();
        let second = running.request();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
        let lost = Instant::now();
        assert!(second.await.is_ok());
        assert!(lost.elapsed() < Duration::from_millis(100), "{:?}", lost.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn row_39_lesson_10_encoders_that_fight_are_held_off() {
        let running = start();
        let mut holder = running.ask().await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(SILENCE).await;
            let next = running.request();
            dismissed(holder).await;
            holder = next.await.unwrap();
        }
        tokio::time::sleep(SILENCE).await;
        assert!(matches!(running.ask().await, Err(Refusal::Contested { .. })));
        tokio::time::sleep(Duration::from_secs(30)).await;
        let next = running.request();
        dismissed(holder).await;
        assert!(next.await.is_ok(), "not for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_it_is_stopped_and_its_publisher_is_gone() {
        let mut running = start();
        let publisher = running.ask().await.unwrap();
        running.stop.cancel();
        assert!(matches!(running.ask().await, Err(Refusal::ShuttingDown)));
        drop(publisher);
        running.tasks.join_next().await.unwrap().unwrap();
    }
}
