//! From a source's events to the steps of its runs: pure.
//!
//! It holds the source back until it is known, begins a run, hands out pictures in decoding order with their cuts
//! and sound as far as the picture has come, and ends the run where it must end: with the source, where its format changes,
//! or where IDRs stay away for longer than a segment may last. In the last case the seam is made so that each picture
//! is in exactly one run: the next run's decoder is led in from the last IDR.

use std::sync::Arc;

use crate::config::{LadderConfig, LongGop};
use crate::media::{AccessUnit, AudioFormat, MediaTime, Track, TrackFormat, VideoFormat};
use crate::source::SourceEvent;

use super::cuts::{Cut, KeyCuts};
use super::lane::{Lane, Repairs};
use super::plan::{Latched, Plan, Source};
use super::probe::Probe;
use super::traits::VideoTraits;

/// Beyond a segment's length, what an IDR may come late and still be waited for by the probe.
const PROBE_SLACK: MediaTime = MediaTime::from_millis(400);

/// How long a source is held back to learn a GOP that segments may be stretched to.
const STRETCH_MAX: MediaTime = MediaTime::from_millis(12_000);

/// Bytes and frames of a GOP that are kept to lead a decoder in. Beyond it the run is ended and the next IDR awaited.
const GOP_BYTES_MAX: usize = 64 << 20;
const GOP_UNITS_MAX: usize = 4096;

/// Pictures that are looked at to find the first one of the next run.
const SEAM_UNITS_MAX: usize = 256;

/// A run, as it begins.
#[derive(Clone, Debug)]
pub(super) struct RunPlan {
    pub(super) plan: Plan,
    pub(super) source: Source,
    pub(super) format: VideoFormat,
    pub(super) start: MediaTime,
    /// Pictures to decode but not to show, since they were shown by the run before.
    pub(super) lead_in: Vec<AccessUnit>,
    /// Pictures up to here were shown by the run before.
    pub(super) shown: Option<MediaTime>,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// A run begins.
    Begin(Box<RunPlan>),
    /// A picture of the source, in decoding order. A cut only where a rendition is passed on.
    Video(AccessUnit, Option<Cut>),
    /// A frame of the lane's format.
    Audio(AccessUnit),
    /// The run ends.
    End,
    /// The source cannot be shown, as this sentence tells the streamer.
    Refuse(String),
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Sequencer {
    ladder: Arc<LadderConfig>,
    segment: MediaTime,
    latched: Option<Latched>,
    format: Option<VideoFormat>,
    lane: Lane,
    long_gop_seen: bool,
    /// A new run is to begin with the next IDR.
    renew: bool,
    state: State,
    position: Option<MediaTime>,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum State {
    Probing(Probe),
    Running(Running),
    Seaming(Seam),
}

#[derive(Debug)]
struct Running {
    plan: Plan,
    source: Source,
    /// Where a rendition is passed on.
    passing: Option<Passing>,
    /// The last picture shown so far.
    shown: MediaTime,
}

#[derive(Debug)]
struct Passing {
    cuts: KeyCuts,
    gop: Vec<AccessUnit>,
    gop_bytes: usize,
}

/// Between two runs: the old one has all pictures up to `run.shown`.
#[derive(Debug)]
struct Seam {
    run: Running,
    lead_in: Vec<AccessUnit>,
    held: Vec<AccessUnit>,
    start: Option<MediaTime>,
}

impl Sequencer {
    /// For one publish session.
    pub(super) fn new(ladder: Arc<LadderConfig>, segment: MediaTime, latched: Option<Latched>) -> Self {
        let probe = Probe::new(patience(&ladder, segment));
        Self {
            ladder,
            segment,
            latched,
            format: None,
            lane: Lane::default(),
            long_gop_seen: false,
            renew: false,
            state: State::Probing(probe),
            position: None,
            steps: Vec::new(),
        }
    }

    /// Takes what the source sent, and says what is to be done.
    pub(super) fn push(&mut self, event: SourceEvent) -> Vec<Step> {
        match event {
            SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format)) => self.video_format(format),
            SourceEvent::Format(Track::Audio, TrackFormat::Audio(format)) => self.audio_format(format),
            SourceEvent::Unit(Track::VIDEO, unit) => self.video(unit),
            SourceEvent::Unit(Track::Audio, unit) => self.lane.push(unit),
            // Only the first picture of a connection is shown.
            SourceEvent::Format(..) | SourceEvent::Unit(..) => {}
            SourceEvent::Discontinuity => self.renew = true,
            SourceEvent::End => self.end(),
        }
        std::mem::take(&mut self.steps)
    }

    /// The source is over, said or not. Whatever is held is given out.
    pub(super) fn finish(&mut self) -> Vec<Step> {
        self.end();
        std::mem::take(&mut self.steps)
    }

    /// The run was lost to an error; the next one begins with the next IDR.
    pub(super) fn lose_run(&mut self) {
        self.steps.clear();
        self.state = self.probing();
    }

    /// What later runs must keep to.
    pub(super) fn latched(&self) -> Option<&Latched> {
        self.latched.as_ref()
    }

    /// Where the timeline goes on: the end of what was given out.
    pub(super) fn position(&self) -> Option<MediaTime> {
        self.position.max(self.lane.position())
    }

    /// What was mended in the sound since the last call.
    pub(super) fn take_repairs(&mut self) -> Repairs {
        self.lane.take_repairs()
    }

    fn probing(&self) -> State {
        State::Probing(Probe::new(patience(&self.ladder, self.segment)))
    }

    fn video_format(&mut self, format: VideoFormat) {
        if self.format.as_ref() == Some(&format) {
            return;
        }
        if self.format.is_some() {
            self.end();
        }
        self.format = Some(format);
    }

    fn audio_format(&mut self, format: AudioFormat) {
        self.lane.set_format(format.clone());
        let running = match &self.state {
            State::Probing(_) => return,
            State::Running(running) => running,
            State::Seaming(seam) => &seam.run,
        };
        if running.plan.audio.takes(&format) {
            self.lane.take_up();
        } else {
            self.renew = true;
        }
    }

    fn video(&mut self, unit: AccessUnit) {
        if unit.key && self.renew {
            self.end();
        }
        match &mut self.state {
            State::Probing(probe) => {
                if probe.push(unit) {
                    self.begin();
                }
            }
            State::Running(_) => self.running(unit),
            State::Seaming(_) => self.seaming(unit),
        }
    }

    /// Enough is known, or there is no more: the run begins with what was held back.
    fn begin(&mut self) {
        let next = self.probing();
        let State::Probing(probe) = std::mem::replace(&mut self.state, next) else { return };
        let (Some(start), Some(horizon), Some(format)) = (probe.start(), probe.horizon(), self.format.clone()) else {
            return;
        };
        let Some(video) = VideoTraits::of(&format) else {
            self.steps.push(Step::Refuse(format!(
                "The picture of {} x {} cannot be read: check the encoder's resolution and profile.",
                format.width, format.height
            )));
            return;
        };
        let source = Source {
            video,
            measured: probe.measured(),
            audio: self.lane.heard().cloned(),
            long_gop_seen: self.long_gop_seen,
        };
        let plan = Plan::decide(&self.ladder, self.segment, &source, self.latched.as_ref());
        self.lane.begin(start, horizon, &plan.audio);
        self.renew = false;
        self.enter(RunPlan { plan, source, format, start, lead_in: Vec::new(), shown: None });
        for unit in probe.into_units() {
            self.video(unit);
        }
    }

    fn enter(&mut self, run: RunPlan) {
        self.latched.get_or_insert_with(|| run.plan.latch(&run.source.video));
        let passing = run.plan.passed().map(|_| Passing {
            cuts: KeyCuts::new(run.plan.target, run.plan.gop),
            gop: Vec::new(),
            gop_bytes: 0,
        });
        let before = MediaTime::from_nanos(run.start.as_nanos().saturating_sub(1));
        self.state = State::Running(Running {
            plan: run.plan.clone(),
            source: run.source.clone(),
            passing,
            shown: run.shown.unwrap_or(before),
        });
        self.steps.push(Step::Begin(Box::new(run)));
    }

    fn running(&mut self, unit: AccessUnit) {
        let State::Running(running) = &mut self.state else { return };
        let boundary = unit.pts > running.shown;
        if boundary && running.is_overdue(&unit) {
            self.part(unit);
            return;
        }
        let cut = running.take(&unit);
        let sound_until = running.shown;
        running.shown = running.shown.max(unit.pts);
        self.position = Some(running.end());
        let overfull = running.passing.as_ref().is_some_and(Passing::is_overfull);
        if boundary {
            self.give_sound(|lane, out| lane.release(sound_until, out));
        }
        self.steps.push(Step::Video(unit, cut));
        if overfull {
            self.end();
        }
    }

    /// The run must end before this picture: an IDR begins a run like the first, another picture one that is encoded.
    fn part(&mut self, unit: AccessUnit) {
        if unit.key {
            self.end();
            self.video(unit);
            return;
        }
        self.long_gop_seen = true;
        let next = self.probing();
        if let State::Running(mut run) = std::mem::replace(&mut self.state, next) {
            let lead_in = run.passing.take().map(|passing| passing.gop).unwrap_or_default();
            self.state = State::Seaming(Seam { run, lead_in, held: vec![unit], start: None });
        }
    }

    fn seaming(&mut self, unit: AccessUnit) {
        let State::Seaming(seam) = &mut self.state else { return };
        let start = seam.look(&unit);
        let sound_is_there = start.is_some_and(|start| self.lane.covers(start, unit.pts));
        if unit.key || sound_is_there || seam.held.len() >= SEAM_UNITS_MAX {
            self.join();
            self.video(unit);
        } else {
            seam.held.push(unit);
        }
    }

    /// Ends the run before the seam and begins the one after it.
    fn join(&mut self) {
        let next = self.probing();
        let State::Seaming(seam) = std::mem::replace(&mut self.state, next) else { return };
        let Some(format) = self.format.clone() else { return };
        let start = seam.start.or(seam.earliest()).unwrap_or(seam.run.end());
        self.give_sound(|lane, out| lane.finish(start, out));
        self.steps.push(Step::End);
        let source = Source { long_gop_seen: true, ..seam.run.source };
        let plan = Plan::decide(&self.ladder, self.segment, &source, self.latched.as_ref());
        self.lane.begin(start, start, &plan.audio);
        let shown = Some(seam.run.shown);
        self.enter(RunPlan { plan, source, format, start, lead_in: seam.lead_in, shown });
        for unit in seam.held {
            self.video(unit);
        }
    }

    /// Ends whatever is going on; what comes then begins anew with an IDR.
    fn end(&mut self) {
        self.renew = false;
        if let State::Probing(probe) = &self.state
            && !probe.is_empty()
        {
            self.begin();
        }
        if let State::Seaming(_) = &self.state {
            self.join();
        }
        let next = self.probing();
        if let State::Running(running) = std::mem::replace(&mut self.state, next) {
            let end = running.end();
            self.give_sound(|lane, out| lane.finish(end, out));
            self.steps.push(Step::End);
        }
    }

    fn give_sound(&mut self, give: impl FnOnce(&mut Lane, &mut Vec<AccessUnit>)) {
        let mut out = Vec::new();
        give(&mut self.lane, &mut out);
        self.steps.extend(out.into_iter().map(Step::Audio));
    }
}

/// How long the source is held back at most.
fn patience(ladder: &LadderConfig, segment: MediaTime) -> MediaTime {
    match ladder.long_gop {
        LongGop::Encode => segment + PROBE_SLACK,
        LongGop::Stretch => STRETCH_MAX.max(segment + PROBE_SLACK),
    }
}

impl Running {
    /// When the last picture ends.
    fn end(&self) -> MediaTime {
        self.shown + self.plan.frame_rate.interval()
    }

    /// With this picture, the segment would be too long.
    fn is_overdue(&self, unit: &AccessUnit) -> bool {
        let interval = if unit.key { MediaTime::ZERO } else { self.plan.frame_rate.interval() };
        self.passing.as_ref().is_some_and(|passing| passing.cuts.is_overdue(unit.pts + interval))
    }

    /// Keeps the picture for a seam, and decides whether it begins a segment.
    fn take(&mut self, unit: &AccessUnit) -> Option<Cut> {
        let passing = self.passing.as_mut()?;
        if unit.key {
            (passing.gop, passing.gop_bytes) = (Vec::new(), 0);
        }
        passing.gop_bytes = passing.gop_bytes.saturating_add(unit.data.len());
        passing.gop.push(unit.clone());
        if unit.key { passing.cuts.at_key(unit.pts) } else { None }
    }
}

impl Passing {
    fn is_overfull(&self) -> bool {
        self.gop_bytes > GOP_BYTES_MAX || self.gop.len() > GOP_UNITS_MAX
    }
}

impl Seam {
    fn earliest(&self) -> Option<MediaTime> {
        self.held.iter().map(|unit| unit.pts).filter(|&pts| pts > self.run.shown).min()
    }

    /// The first picture of the next run is known once one comes that is shown after all that are held.
    fn look(&mut self, unit: &AccessUnit) -> Option<MediaTime> {
        let latest = self.held.iter().map(|unit| unit.pts).max();
        if self.start.is_none() && latest.is_some_and(|latest| unit.pts > latest) {
            self.start = self.earliest();
        }
        self.start
    }
}
