//! A channel's supervisor: who may publish, when the programme ends, and where its timeline goes on.
//!
//! It lives as long as the process. Publishers come and go; each is one [`transcode::run`], and what that one
//! fixed (the renditions, the position) is handed to the next within the same programme.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::config::{ChannelConfig, HlsConfig};
use crate::ladder::LadderEvent;
use crate::live::{ChannelPhase, PublisherStatus};
use crate::media::MediaTime;
use crate::metrics::Metrics;
use crate::source::{Admission, PublishRequest, Refusal, SourceEvent};
use crate::transcode::{self, Latched, Outcome, SourceEnd};

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
    /// Counters.
    pub(super) metrics: Metrics,
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
    position: Option<MediaTime>,
    latched: Option<Latched>,
}

/// A publisher's end, seen from the channel.
enum Next {
    /// The programme goes on if somebody comes back in time.
    Grace,
    /// The programme is over, or never began.
    Idle,
}

impl Channel {
    /// Serves publishers until `stop` is cancelled and the last one is gone.
    pub(super) async fn run(mut self) {
        let mut programme = Programme::default();
        while let Some(request) = self.next_request(&mut programme).await {
            let publisher =
                PublisherStatus { peer: request.peer, encoder: request.encoder.clone(), since: wall_clock() };
            let span = info_span!("publish", peer = %publisher.peer);
            let next = self.publish(request, publisher, &mut programme).instrument(span).await;
            let phase = match next {
                Next::Grace => ChannelPhase::Grace { since: wall_clock() },
                Next::Idle => ChannelPhase::Idle,
            };
            self.phase.send_replace(phase);
        }
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
        tokio::select! {
            request = self.requests.recv() => request,
            () = self.stop.cancelled() => None,
        }
    }

    /// Takes one publisher from its admission to its end.
    async fn publish(
        &mut self,
        request: PublishRequest,
        publisher: PublisherStatus,
        programme: &mut Programme,
    ) -> Next {
        let before = if programme.latched.is_some() { Next::Grace } else { Next::Idle };
        let (events, source) = mpsc::channel(SOURCE_QUEUE);
        let (dismiss, dismissed) = oneshot::channel();
        let start = programme.position.unwrap_or(TIMELINE_START);
        if request.reply.send(Ok(Admission { start, events, dismissed })).is_err() {
            return before;
        }
        info!(encoder = publisher.encoder.as_deref().unwrap_or("unknown"), ?start, "publisher admitted");
        self.phase.send_replace(ChannelPhase::Publishing(publisher));
        let admitted = Instant::now();
        let Some(outcome) = self.transcode(source, programme).await else {
            // How far it came is not known: go on past what it can have sent.
            programme.position = Some(start + MediaTime::from(admitted.elapsed()) + RUN_AHEAD_MAX);
            return before;
        };
        programme.position = outcome.position.or(programme.position);
        programme.latched = outcome.latched.or_else(|| programme.latched.take());
        self.after(outcome.end, dismiss, programme).await
    }

    /// Runs the transcoder, refusing whoever else wants to publish meanwhile. None where it panicked.
    async fn transcode(&mut self, source: mpsc::Receiver<SourceEvent>, programme: &Programme) -> Option<Outcome> {
        let setup = transcode::Setup {
            channel: self.config.name.clone(),
            ladder: Arc::clone(&self.config.ladder),
            hls: self.hls,
            latched: programme.latched.clone(),
            metrics: self.metrics.clone(),
        };
        let mut run = JoinSet::new();
        run.spawn(transcode::run(setup, source, self.ladder.clone()).in_current_span());
        loop {
            tokio::select! {
                Some(ended) = run.join_next() => {
                    return ended.inspect_err(|panic| error!(%panic, "the transcoder failed")).ok();
                }
                Some(request) = self.requests.recv() => self.refuse(request),
            }
        }
    }

    fn refuse(&self, request: PublishRequest) {
        warn!(peer = %request.peer, "refused: the channel is being published to by another encoder");
        let refusal = if self.stop.is_cancelled() {
            Refusal::ShuttingDown
        } else {
            Refusal::Busy { channel: self.config.name.clone() }
        };
        // Where nobody waits for the answer any more, there is nobody to refuse.
        drop(request.reply.send(Err(refusal)));
    }

    async fn after(&self, end: SourceEnd, dismiss: oneshot::Sender<String>, programme: &mut Programme) -> Next {
        match end {
            SourceEnd::Finished => {
                info!("the encoder stopped: the programme ends");
                self.finish(programme).await;
                return Next::Idle;
            }
            SourceEnd::Lost => warn!(grace = ?self.grace, "the publisher was lost; it may return"),
            SourceEnd::Failed(reason) => {
                error!(reason, "the source cannot be shown");
                // The publisher may have left by itself already.
                drop(dismiss.send(reason));
            }
        }
        if programme.latched.is_some() { Next::Grace } else { Next::Idle }
    }

    /// Ends the programme: `EXT-X-ENDLIST`. The timeline goes on, so that nothing of a later programme
    /// can be taken for something of this one.
    async fn finish(&self, programme: &mut Programme) {
        if programme.latched.take().is_some() && self.ladder.send(LadderEvent::Finish).await.is_err() {
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
    use crate::config::{EncodeProfile, LadderConfig, LongGop, MissingRungs};
    use crate::source::ChannelName;

    struct Running {
        requests: mpsc::Sender<PublishRequest>,
        phase: watch::Receiver<ChannelPhase>,
        stop: CancellationToken,
        tasks: JoinSet<()>,
        _ladder: mpsc::Receiver<LadderEvent>,
    }

    fn start() -> Running {
        let ladder = LadderConfig {
            name: "x".into(),
            profile: EncodeProfile::Balanced,
            long_gop: LongGop::Encode,
            missing_rungs: MissingRungs::Encode,
            renditions: Vec::new(),
            audio_bitrate: 128_000,
        };
        let config = ChannelConfig { name: ChannelName::new("demo").unwrap(), ladder: Arc::new(ladder), key: None };
        let second = Duration::from_secs(1);
        let hls = HlsConfig { segment_duration: second, part_duration: second, window: second * 3 };
        // As long as in the server; a test sends fewer.
        let (requests, asked) = mpsc::channel(4);
        let (ladder, ladder_events) = mpsc::channel(4);
        let (phase, phase_view) = watch::channel(ChannelPhase::default());
        let stop = CancellationToken::new();
        let channel = Channel {
            config,
            hls,
            grace: second,
            metrics: Metrics::default(),
            requests: asked,
            ladder,
            phase,
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(channel.run());
        Running { requests, phase: phase_view, stop, tasks, _ladder: ladder_events }
    }

    impl Running {
        async fn ask(&self) -> Result<Admission, Refusal> {
            let (reply, answer) = oneshot::channel();
            let peer = "192.0.2.1:1000".parse().unwrap();
            self.requests.send(PublishRequest { peer, encoder: None, reply }).await.unwrap();
            answer.await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_publisher_at_a_time_and_the_next_when_it_is_gone() {
        let mut running = start();
        let first = running.ask().await.unwrap();
        assert_eq!(first.start, TIMELINE_START);
        assert!(matches!(running.ask().await, Err(Refusal::Busy { .. })));
        drop(first);
        running.phase.wait_for(|phase| *phase == ChannelPhase::Idle).await.unwrap();
        let second = running.ask().await.unwrap();
        assert_eq!(second.start, TIMELINE_START, "without media there is no programme that goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_it_is_stopped_and_its_publisher_is_gone() {
        let mut running = start();
        let publisher = running.ask().await.unwrap();
        running.stop.cancel();
        assert_eq!(running.ask().await.unwrap_err(), Refusal::ShuttingDown);
        drop(publisher);
        running.tasks.join_next().await.unwrap().unwrap();
    }
}
