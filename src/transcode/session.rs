//! The driver of one publish session: takes the steps that the sequencer decides on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::{EncodeProfile, HlsConfig, LadderConfig};
use crate::ladder::{LadderEvent, RunStart};
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat};
use crate::metrics::{ChannelLabel, KindLabel, Metrics};
use crate::source::{ChannelName, SourceEvent};

use super::audio_plan::AudioMaking;
use super::cuts::Cut;
use super::decoder;
use super::latched::Latched;
use super::pipeline::{Pipeline, PipelineError};
use super::plan::{Making, Passthrough, Plan};
use super::sequence::{RunPlan, Sequencer, Step};
use super::sound::Door;
use super::tracks::Followed;

/// So many failures of the pipeline within this time, and the source is given up.
const FAILURES_MAX: usize = 3;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// What a publish session is run with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The channel's name, for logs and metrics.
    pub channel: ChannelName,
    /// The renditions to make.
    pub ladder: Arc<LadderConfig>,
    /// How long segments are to be.
    pub hls: HlsConfig,
    /// What the programme's first run fixed, where this is not the first.
    pub latched: Option<Latched>,
    /// Where runs, repairs and errors are counted.
    pub metrics: Metrics,
}

/// How a publish session ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Why.
    pub end: SourceEnd,
    /// Where the channel's timeline continues: the end of the last unit sent. None where none was.
    pub position: Option<MediaTime>,
    /// What the programme's next run must keep to.
    pub latched: Option<Latched>,
}

/// Why a publish session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEnd {
    /// The encoder said so.
    Finished,
    /// The connection was lost.
    Lost,
    /// The source cannot be transcoded, as this sentence tells the streamer.
    Failed(String),
}

/// Runs one publish session to its end: `source` closing or [`SourceEvent::End`]. Sends `Start`, `Format`, `Unit` and `Stop`,
/// never `Finish`: that is the channel's decision. Where `out` is closed it stops at once.
/// [`super::init`] must have succeeded before.
pub async fn run(setup: Setup, source: mpsc::Receiver<SourceEvent>, out: mpsc::Sender<LadderEvent>) -> Outcome {
    let segment = MediaTime::from(setup.hls.segment_duration);
    let source = Door::new(source, setup.channel.clone(), setup.ladder.audio_bitrate, setup.metrics.clone());
    let sequencer = Sequencer::new(Arc::clone(&setup.ladder), segment, setup.latched).packed_in(setup.hls.container);
    let session = Session {
        channel: setup.channel,
        profile: setup.ladder.profile,
        metrics: setup.metrics,
        sequencer,
        out,
        run: None,
        first: None,
        failures: Vec::new(),
    };
    session.run(source).await
}

struct Session {
    channel: ChannelName,
    profile: EncodeProfile,
    metrics: Metrics,
    sequencer: Sequencer,
    out: mpsc::Sender<LadderEvent>,
    run: Option<ActiveRun>,
    /// When the session's first picture came, and its time on the timeline.
    first: Option<(MediaTime, SystemTime)>,
    failures: Vec<Instant>,
}

/// Between a run's `Start` and its `Stop`.
struct ActiveRun {
    plan: Plan,
    /// The rendition that the source's picture, of several the reference, is passed on as.
    passed: Option<usize>,
    encodes_audio: bool,
    pipeline: Option<Pipeline>,
}

/// Why the session cannot go on as it was.
enum Interruption {
    /// Nobody takes the ladder.
    Closed,
    /// The pipeline failed.
    Pipeline(String),
    /// The source cannot be shown.
    Refused(String),
}

impl From<PipelineError> for Interruption {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Closed => Self::Closed,
            PipelineError::Failed(text) => Self::Pipeline(text),
            PipelineError::Undecodable(sentence) => Self::Refused(sentence),
        }
    }
}

impl Session {
    async fn run(mut self, mut source: Door) -> Outcome {
        loop {
            let (steps, end) = match self.next(&mut source).await {
                Ok(Some(SourceEvent::End)) => (self.sequencer.finish(), Some(SourceEnd::Finished)),
                Ok(None) => (self.sequencer.finish(), Some(SourceEnd::Lost)),
                Ok(Some(event)) => (self.accept(event), None),
                Err(interruption) => match self.interrupted(interruption).await {
                    Some(end) => return self.outcome(end).await,
                    None => continue,
                },
            };
            let taken = self.take(steps).await;
            self.count_repairs();
            let end = match taken {
                Ok(()) => end,
                Err(interruption) => self.interrupted(interruption).await.or(end),
            };
            if let Some(end) = end {
                return self.outcome(end).await;
            }
        }
    }

    /// The source's next event, unless something fails before it comes.
    async fn next(&mut self, source: &mut Door) -> Result<Option<SourceEvent>, Interruption> {
        let failure = async {
            match self.run.as_mut().and_then(|run| run.pipeline.as_mut()) {
                Some(pipeline) => pipeline.failure().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.out.closed() => Err(Interruption::Closed),
            error = failure => Err(error.into()),
            event = source.recv() => Ok(event),
        }
    }

    fn accept(&mut self, event: SourceEvent) -> Vec<Step> {
        if let (None, SourceEvent::Unit(Track::Video(_), unit)) = (self.first, &event) {
            self.first = Some((unit.pts, now()));
        }
        self.sequencer.push(event)
    }

    async fn take(&mut self, steps: Vec<Step>) -> Result<(), Interruption> {
        for step in steps {
            match step {
                Step::Begin(run) => self.begin(*run).await?,
                Step::Video(unit, cut) => self.video(unit, cut).await?,
                Step::Follow(followed) => self.follow(followed).await?,
                Step::Audio(unit) => self.audio(unit).await?,
                Step::End => self.end().await?,
                Step::Refuse(sentence) => return Err(Interruption::Refused(sentence)),
            }
        }
        Ok(())
    }

    async fn begin(&mut self, run: RunPlan) -> Result<(), Interruption> {
        self.report(&run);
        self.metrics.runs.get_or_create(&self.label()).inc();
        let plan = &run.plan;
        let start = RunStart {
            start: run.start,
            wall_clock: self.wall_clock(run.start),
            target_duration: plan.target,
            renditions: plan.specs(),
        };
        self.send(LadderEvent::Start(start)).await?;
        let mut active = ActiveRun {
            plan: plan.clone(),
            passed: plan.passed_as(run.source.track),
            encodes_audio: matches!(plan.audio.making, AudioMaking::Encode(_)),
            pipeline: None,
        };
        let own = active.passed.map(|index| (index, TrackFormat::Video(run.format.clone())));
        let further = run
            .further
            .iter()
            .filter_map(|(track, format)| Some((plan.passed_as(*track)?, TrackFormat::Video(format.clone()))));
        let sound = TrackFormat::Audio(plan.audio.format.clone());
        let sound = (!active.encodes_audio).then(|| (plan.audio_index(), sound));
        let formats: Vec<_> = own.into_iter().chain(further).chain(sound).collect();
        active.pipeline = match self.start_pipeline(&run).await {
            Ok(pipeline) => pipeline,
            Err(error) => {
                self.run = Some(active);
                return Err(error.into());
            }
        };
        self.run = Some(active);
        for (index, format) in formats {
            self.send(LadderEvent::Format(index, format)).await?;
        }
        for rendition in run.plan.missing() {
            self.send(LadderEvent::Gap { rendition, until: u64::MAX }).await?;
        }
        for unit in &run.lead_in {
            self.decode(unit, None).await?;
        }
        Ok(())
    }

    async fn start_pipeline(&self, run: &RunPlan) -> Result<Option<Pipeline>, PipelineError> {
        let (run, profile, out) = (run.clone(), self.profile, self.out.clone());
        let started = tokio::task::spawn_blocking(move || Pipeline::start(&run, profile, &out)).await;
        started.unwrap_or_else(|error| Err(PipelineError::Failed(format!("the pipeline's start failed: {error}"))))
    }

    async fn video(&mut self, unit: AccessUnit, cut: Option<Cut>) -> Result<(), Interruption> {
        self.decode(&unit, cut).await?;
        let Some(rendition) = self.run.as_ref().and_then(|run| run.passed) else { return Ok(()) };
        self.send(LadderEvent::Unit { rendition, unit, cut: cut.map(|cut| cut.number) }).await
    }

    /// Sends what a track beside the reference gives.
    async fn follow(&mut self, followed: Followed) -> Result<(), Interruption> {
        let (Followed::Unit(track, ..) | Followed::Gap(track, _)) = followed;
        let Some(rendition) = self.run.as_ref().and_then(|run| run.plan.passed_as(track)) else { return Ok(()) };
        self.send(match followed {
            Followed::Unit(_, unit, cut) => LadderEvent::Unit { rendition, unit, cut: cut.map(|cut| cut.number) },
            Followed::Gap(_, until) => LadderEvent::Gap { rendition, until },
        })
        .await
    }

    async fn decode(&mut self, unit: &AccessUnit, cut: Option<Cut>) -> Result<(), Interruption> {
        match self.run.as_mut().and_then(|run| run.pipeline.as_mut()) {
            Some(pipeline) => Ok(pipeline.push_video(unit, cut).await?),
            None => Ok(()),
        }
    }

    async fn audio(&mut self, unit: AccessUnit) -> Result<(), Interruption> {
        let Some(run) = &mut self.run else { return Ok(()) };
        match &mut run.pipeline {
            Some(pipeline) if run.encodes_audio => Ok(pipeline.push_audio(&unit).await?),
            _ => {
                let rendition = run.plan.audio_index();
                self.send(LadderEvent::Unit { rendition, unit, cut: None }).await
            }
        }
    }

    /// Lets the encoders finish, and ends the run.
    async fn end(&mut self) -> Result<(), Interruption> {
        let Some(run) = &mut self.run else { return Ok(()) };
        if let Some(pipeline) = &mut run.pipeline {
            tokio::select! {
                () = self.out.closed() => return Err(Interruption::Closed),
                drained = pipeline.drain() => drained?,
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Ends the run as it stands.
    async fn stop(&mut self) {
        let Some(run) = self.run.take() else { return };
        if let Some(pipeline) = run.pipeline {
            pipeline.stop().await;
        }
        // Fails only where nobody takes the ladder, which the next step sees.
        let _ = self.send(LadderEvent::Stop).await;
    }

    /// What an interruption leads to: the end of the session, or a new run with the next IDR.
    async fn interrupted(&mut self, interruption: Interruption) -> Option<SourceEnd> {
        match interruption {
            Interruption::Closed => Some(SourceEnd::Lost),
            Interruption::Refused(sentence) => {
                warn!(channel = %self.channel, "{sentence}");
                Some(SourceEnd::Failed(sentence))
            }
            Interruption::Pipeline(cause) => {
                error!(channel = %self.channel, "the pipeline failed: {cause}");
                self.metrics.transcode_errors.get_or_create(&self.label()).inc();
                self.stop().await;
                self.sequencer.lose_run();
                self.given_up()
            }
        }
    }

    fn given_up(&mut self) -> Option<SourceEnd> {
        let now = Instant::now();
        self.failures.retain(|&at| now.saturating_duration_since(at) < FAILURES_WITHIN);
        self.failures.push(now);
        (self.failures.len() >= FAILURES_MAX).then(|| {
            let sentence = "The server could not transcode this stream; check the encoder's settings and try again.";
            SourceEnd::Failed(sentence.to_owned())
        })
    }

    async fn outcome(mut self, end: SourceEnd) -> Outcome {
        self.stop().await;
        Outcome { end, position: self.sequencer.position(), latched: self.sequencer.latched().cloned() }
    }

    async fn send(&self, event: LadderEvent) -> Result<(), Interruption> {
        self.out.send(event).await.map_err(|_| Interruption::Closed)
    }

    fn label(&self) -> ChannelLabel {
        ChannelLabel { channel: self.channel.to_string() }
    }

    /// Linear over the session, so that seams leave no jump in `EXT-X-PROGRAM-DATE-TIME`.
    fn wall_clock(&self, at: MediaTime) -> SystemTime {
        let Some((first, came)) = self.first else { return SystemTime::UNIX_EPOCH };
        let (ahead, behind) = ((at - first).to_duration(), (first - at).to_duration());
        came.checked_add(ahead).and_then(|time| time.checked_sub(behind)).unwrap_or(came)
    }

    fn count_repairs(&mut self) {
        let repairs = self.sequencer.take_repairs();
        let kinds = [("audio_silence", repairs.filled), ("audio_dropped", repairs.dropped)];
        for (kind, count) in kinds.into_iter().filter(|&(_, count)| count > 0) {
            self.metrics.ingest_repairs.get_or_create(&KindLabel { kind }).inc_by(count);
        }
    }

    fn report(&self, run: &RunPlan) {
        let (plan, channel) = (&run.plan, &self.channel);
        let names: Vec<&str> = plan.videos.iter().map(|video| video.name.as_str()).collect();
        let rate = plan.frame_rate.per_second();
        info!(%channel, start = ?run.start, target = ?plan.target, rate, sound = plan.audio.making.word(), "run begins: {}", names.join(", "));
        if let Some(sentence) = advice(plan.passthrough) {
            info!(%channel, "{sentence}");
        }
        let encodes = plan.videos.iter().any(|video| matches!(video.making, Making::Encode(_)));
        if encodes && decoder::is_flattened(&run.format) {
            info!(%channel, "the source is in high dynamic range, which is not mapped to standard: its encoded renditions look flat");
        }
        for further in &run.source.further {
            let track = further.pictures.track;
            match (further.fault(), plan.passed_as(track)) {
                (Some(fault), _) => warn!(%channel, track, "the encoder's track is left out: {fault}"),
                (None, Some(_)) => {}
                (None, None) => {
                    info!(%channel, track, "the encoder's track is left out: it has no rendition in the programme")
                }
            }
        }
    }
}

/// What the streamer may want to change.
fn advice(passthrough: Passthrough) -> Option<&'static str> {
    match passthrough {
        Passthrough::None | Passthrough::Passed => None,
        Passthrough::LongGop => Some(
            "keyframes are further apart than a segment, so the source's own rendition is encoded too; \
             to save that, set Keyframe Interval to 2 s in OBS (Settings, Output, Streaming)",
        ),
        Passthrough::Stretched => Some(
            "keyframes are further apart than a segment, so segments are stretched to them and latency grows; \
             to avoid that, set Keyframe Interval to 2 s in OBS (Settings, Output, Streaming)",
        ),
        Passthrough::Unplayable => Some(
            "not every player can decode the source's codec, profile, colour format or interlacing, so its own rendition is encoded; \
             to save that, use H.264 in OBS, with Profile set to high and Color Format to NV12",
        ),
        Passthrough::Changed => {
            Some("the source is not what the programme began with, so its own rendition is encoded to the size it had")
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where media time is tied to the wall clock, for PROGRAM-DATE-TIME"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
