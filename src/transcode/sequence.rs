//! From a source's events to the steps of its runs: pure.
//!
//! It holds the source back until it is known, begins a run, hands out pictures in decoding order with their cuts
//! and sound as far as the picture has come, and ends the run where it must end: with the source, where its format changes,
//! or where IDRs stay away for longer than a segment may last. In the last case the seam is made so that each picture
//! is in exactly one run: the next run's decoder is led in from the last IDR.
//!
//! Of an encoder with several tracks all this is said of the reference; the others follow it ([`tracks`](super::tracks)). Where a run ends,
//! followers that are behind are waited for while the next run's probe goes on.
//!
//! A programme is planned once, by its first run. So a source that changes its format before that run begins is looked at afresh,
//! and what was held of it is let go.
//!
//! Runs end with a changed format, a jump of the source's clock, or lost IDRs; not with a changed frame rate, since a source
//! whose rate varies (a screen capture, a phone) would never have peace, and every rendition keeps the source's own times.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{LadderConfig, LongGop};
use crate::media::{AccessUnit, AudioFormat, Container, MediaTime, Track, TrackFormat, VideoFormat};
use crate::source::SourceEvent;

use super::cuts::{Cut, KeyCuts};
use super::lane::{Lane, Repairs};
use super::latched::Latched;
use super::observed::{Further, Pictures, Source};
use super::plan::Plan;
use super::probe::{Held, Probe};
use super::tracks::{Followed, Followers, LATE_MAX};
use super::traits::VideoTraits;

/// Beyond a segment's length, what an IDR may come late and still be waited for by the probe.
const PROBE_SLACK: MediaTime = MediaTime::from_millis(400);

/// How long a source is held back to learn a GOP that segments may be stretched to.
const STRETCH_MAX: MediaTime = MediaTime::from_millis(12_000);

/// Bytes and frames of a GOP that are kept to lead a decoder in. Beyond it the run is ended and the next IDR awaited.
const GOP_BYTES_MAX: usize = 64 << 20;
const GOP_UNITS_MAX: usize = 4096;

/// Tracks of one connection that are looked at, by number; it is what an encoder can have.
const TRACKS_MAX: u8 = 16;

/// How often a source may change its format before its first run, and what is held be let go, so that the programme is planned
/// by what the source has settled on: metadata of colour that come after the first picture, a phone that is being turned.
const FALSE_STARTS_MAX: u8 = 3;

/// Pictures that are looked at to find the first one of the next run.
const SEAM_UNITS_MAX: usize = 256;

/// A run, as it begins.
#[derive(Clone, Debug)]
pub(super) struct RunPlan {
    pub(super) plan: Plan,
    pub(super) source: Source,
    pub(super) format: VideoFormat,
    /// The formats of tracks that are passed on beside the reference.
    pub(super) further: Vec<(u8, VideoFormat)>,
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
    /// What a track beside the reference gives.
    Follow(Followed),
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
    formats: BTreeMap<u8, VideoFormat>,
    /// The track that the others follow, of the last run.
    reference: u8,
    lane: Lane,
    long_gop_seen: bool,
    /// A new run is to begin with the next IDR.
    renew: bool,
    false_starts: u8,
    state: State,
    closing: Option<Closing>,
    position: Option<MediaTime>,
    steps: Vec<Step>,
    container: Container,
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
    followers: Followers,
    /// The last picture shown so far.
    shown: MediaTime,
}

/// A run whose reference has ended, as long as followers are behind.
#[derive(Debug)]
struct Closing {
    followers: Followers,
    end: MediaTime,
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

/// How a run is entered.
struct Entry {
    start: MediaTime,
    lead_in: Vec<AccessUnit>,
    shown: Option<MediaTime>,
}

impl Sequencer {
    /// For one publish session.
    pub(super) fn new(ladder: Arc<LadderConfig>, segment: MediaTime, latched: Option<Latched>) -> Self {
        let probe = Probe::new(patience(&ladder, segment));
        Self {
            ladder,
            segment,
            latched,
            formats: BTreeMap::new(),
            reference: 0,
            lane: Lane::default(),
            long_gop_seen: false,
            renew: false,
            false_starts: 0,
            state: State::Probing(probe),
            closing: None,
            position: None,
            steps: Vec::new(),
            container: Container::default(),
        }
    }

    /// What is passed on is packed in `container`.
    pub(super) fn packed_in(self, container: Container) -> Self {
        Self { container, ..self }
    }

    /// Takes what the source sent, and says what is to be done.
    pub(super) fn push(&mut self, event: SourceEvent) -> Vec<Step> {
        match event {
            SourceEvent::Format(Track::Video(track), TrackFormat::Video(format)) => self.video_format(track, format),
            SourceEvent::Format(Track::Audio, TrackFormat::Audio(format)) => self.audio_format(format),
            SourceEvent::Unit(Track::Video(track), unit) => self.picture(track, unit),
            SourceEvent::Unit(Track::Audio, unit) => self.lane.push(unit),
            // A format of another kind than its track is no format.
            SourceEvent::Format(..) => {}
            SourceEvent::Discontinuity => self.renew = true,
            SourceEvent::End => self.end_all(),
        }
        std::mem::take(&mut self.steps)
    }

    /// The source is over, said or not. Whatever is held is given out.
    pub(super) fn finish(&mut self) -> Vec<Step> {
        self.end_all();
        std::mem::take(&mut self.steps)
    }

    /// The run was lost to an error; the next one begins with the next IDR.
    pub(super) fn lose_run(&mut self) {
        self.steps.clear();
        self.closing = None;
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

    fn video_format(&mut self, track: u8, format: VideoFormat) {
        if track >= TRACKS_MAX || self.formats.get(&track) == Some(&format) {
            return;
        }
        let changes = self.formats.contains_key(&track);
        match changes {
            true if track != self.reference => self.follower_changes(track),
            true if self.is_false_start() => {
                self.false_starts += 1;
                self.state = self.probing();
            }
            true => self.end(None),
            false => {}
        }
        self.formats.insert(track, format);
    }

    /// Nothing was decided for the programme, and it is not too late to wait for another beginning.
    fn is_false_start(&self) -> bool {
        let undecided = self.latched.is_none() && matches!(self.state, State::Probing(_));
        undecided && self.false_starts < FALSE_STARTS_MAX
    }

    /// What comes now of a track beside the reference is of the next run.
    fn follower_changes(&mut self, track: u8) {
        if let Some(closing) = &mut self.closing {
            closing.followers.leave(track);
        }
        match &mut self.state {
            State::Probing(probe) => probe.forget(track),
            State::Running(running) => self.renew |= running.followers.leave(track),
            State::Seaming(seam) => self.renew |= seam.run.followers.leave(track),
        }
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

    fn picture(&mut self, track: u8, unit: AccessUnit) {
        if track >= TRACKS_MAX {
            return;
        }
        match &mut self.state {
            _ if track == self.reference => self.video(unit),
            State::Probing(_) => self.probe(track, unit),
            State::Running(running) | State::Seaming(Seam { run: running, .. }) => {
                let followed = running.followers.push(track, unit);
                let lost = running.followers.is_reference_lost();
                self.follow(followed);
                if lost {
                    self.end(None);
                }
            }
        }
    }

    /// A picture of the reference.
    fn video(&mut self, unit: AccessUnit) {
        if unit.key && self.renew {
            self.end(Some(unit.pts));
        }
        match &mut self.state {
            State::Probing(_) => self.probe(self.reference, unit),
            State::Running(_) => self.running(unit),
            State::Seaming(_) => self.seaming(unit),
        }
    }

    /// Holds a picture back, or gives it to the run that is about to end.
    fn probe(&mut self, track: u8, unit: AccessUnit) {
        let dts = unit.dts;
        match &mut self.closing {
            Some(closing) if closing.followers.belongs(track, &unit) => {
                let followed = closing.followers.push(track, unit);
                self.follow(followed);
            }
            Some(closing) => {
                closing.followers.leave(track);
                self.hold(track, unit);
            }
            None => self.hold(track, unit),
        }
        let close = |closing: &Closing| closing.followers.are_done() || dts >= closing.end + LATE_MAX;
        if self.closing.as_ref().is_some_and(close) {
            self.close();
        }
        let formats = &self.formats;
        if matches!(&self.state, State::Probing(probe) if probe.is_enough(formats.keys().copied())) {
            self.begin();
        }
    }

    fn hold(&mut self, track: u8, unit: AccessUnit) {
        if let State::Probing(probe) = &mut self.state
            && self.formats.contains_key(&track)
        {
            probe.push(track, unit);
        }
    }

    /// Enough is known, or there is no more: the run begins with what was held back.
    fn begin(&mut self) {
        self.close();
        let next = self.probing();
        let State::Probing(probe) = std::mem::replace(&mut self.state, next) else { return };
        let mut held = probe.into_tracks();
        let (track, source) = match self.source(&held) {
            Ok(found) => found,
            Err(sentence) => return self.steps.extend(sentence.map(Step::Refuse)),
        };
        let Some(own) = held.remove(&track) else { return };
        let (Some(start), Some(horizon)) = (own.start(), own.horizon()) else { return };
        let plan = Plan::decide(&self.ladder, self.segment, &source, self.latched.as_ref());
        self.lane.begin(start, horizon, &plan.audio);
        // A jump of the clock among what is held: which IDR is behind it is not known, the next to come is.
        let renew = std::mem::take(&mut self.renew);
        self.reference = track;
        self.enter(plan, source, Entry { start, lead_in: Vec::new(), shown: None });
        if let State::Running(running) = &mut self.state {
            for (track, held) in held {
                held.into_units().into_iter().for_each(|unit| running.followers.hold(track, unit));
            }
        }
        for unit in own.into_units() {
            self.video(unit);
        }
        self.renew |= renew;
    }

    /// The source that is held: the reference is the tallest track that every player can show. No track at all is no error.
    fn source(&self, held: &BTreeMap<u8, Held>) -> Result<(u8, Source), Option<String>> {
        let known = held.iter().filter_map(|(&track, held)| Some((track, held, self.formats.get(&track)?)));
        let readable = known.clone().filter_map(|(track, held, format)| {
            let pictures = Pictures { track, video: self.traits(format)?, measured: held.measured() };
            Some((pictures, held))
        });
        let readable: Vec<(Pictures, &Held)> = readable.collect();
        let rank = |pictures: &Pictures| (pictures.video.is_playable(), pictures.lines(), TRACKS_MAX - pictures.track);
        let Some((own, own_held)) = readable.iter().max_by_key(|(pictures, _)| rank(pictures)) else {
            return Err(known.clone().next().map(|(_, _, format)| unreadable(format)));
        };
        let tolerance = MediaTime::from_nanos(own.measured.frame_rate.interval().as_nanos() / 2);
        let beside = readable.iter().filter(|(pictures, _)| pictures.track != own.track);
        let further = beside.map(|(pictures, held)| Further {
            pictures: pictures.clone(),
            aligned: held.is_aligned(own_held, tolerance),
        });
        let source = Source {
            track: own.track,
            video: own.video,
            measured: own.measured,
            further: further.collect(),
            audio: self.lane.heard().cloned(),
            long_gop_seen: self.long_gop_seen,
        };
        Ok((own.track, source))
    }

    fn traits(&self, format: &VideoFormat) -> Option<VideoTraits> {
        Some(VideoTraits::of(format)?.within(self.container))
    }

    fn enter(&mut self, plan: Plan, source: Source, entry: Entry) {
        let Some(format) = self.formats.get(&source.track).cloned() else { return };
        let Entry { start, lead_in, shown } = entry;
        self.latched.get_or_insert_with(|| Latched::of(&plan, &source));
        let passing =
            plan.passed().map(|_| Passing { cuts: KeyCuts::new(plan.target, plan.gop), gop: Vec::new(), gop_bytes: 0 });
        let passed: Vec<u8> = plan.tracks().filter(|&track| track != source.track).collect();
        let followers = Followers::new(plan.frame_rate.interval(), passed.iter().copied());
        let further = passed.iter().filter_map(|track| Some((*track, self.formats.get(track)?.clone()))).collect();
        let before = MediaTime::from_nanos(start.as_nanos().saturating_sub(1));
        let (plan_kept, source_kept) = (plan.clone(), source.clone());
        self.state = State::Running(Running {
            plan: plan_kept,
            source: source_kept,
            passing,
            followers,
            shown: shown.unwrap_or(before),
        });
        self.steps.push(Step::Begin(Box::new(RunPlan { plan, source, format, further, start, lead_in, shown })));
    }

    fn running(&mut self, unit: AccessUnit) {
        let State::Running(running) = &mut self.state else { return };
        let boundary = unit.pts > running.shown;
        if boundary && running.is_overdue(&unit) {
            self.part(unit);
            return;
        }
        let cut = running.take(&unit);
        let followed = running.followers.lead(&unit, cut);
        let sound_until = running.shown;
        running.shown = running.shown.max(unit.pts);
        self.position = Some(running.end());
        let overfull = running.passing.as_ref().is_some_and(Passing::is_overfull);
        if boundary {
            self.give_sound(|lane, out| lane.release(sound_until, out));
        }
        self.steps.push(Step::Video(unit, cut));
        self.follow(followed);
        if overfull {
            self.end(None);
        }
    }

    fn follow(&mut self, followed: Vec<Followed>) {
        self.steps.extend(followed.into_iter().map(Step::Follow));
    }

    /// The run must end before this picture: an IDR begins a run like the first, another picture one that is encoded.
    fn part(&mut self, unit: AccessUnit) {
        if unit.key {
            self.end(Some(unit.pts));
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
        let State::Seaming(mut seam) = std::mem::replace(&mut self.state, next) else { return };
        let start = seam.start.or(seam.earliest()).unwrap_or(seam.run.end());
        let followed = seam.run.followers.end(start);
        self.follow(followed);
        self.give_sound(|lane, out| lane.finish(start, out));
        self.steps.push(Step::End);
        let source = Source { long_gop_seen: true, ..seam.run.source };
        let plan = Plan::decide(&self.ladder, self.segment, &source, self.latched.as_ref());
        self.lane.begin(start, start, &plan.audio);
        let shown = Some(seam.run.shown);
        self.enter(plan, source, Entry { start, lead_in: seam.lead_in, shown });
        for unit in seam.held {
            self.video(unit);
        }
    }

    /// Ends whatever is going on, with the next run's first picture at `next` if one is known; what comes then begins anew
    /// with an IDR.
    fn end(&mut self, next: Option<MediaTime>) {
        self.renew = false;
        if let State::Probing(probe) = &mut self.state
            && !probe.is_empty()
        {
            next.into_iter().for_each(|key| probe.end(self.reference, key));
            self.begin();
        }
        if let State::Seaming(_) = &self.state {
            self.join();
        }
        let probing = self.probing();
        if let State::Running(mut running) = std::mem::replace(&mut self.state, probing) {
            let end = running.end();
            let followed = running.followers.end(next.unwrap_or(end));
            self.follow(followed);
            for (track, unit) in running.followers.take_after() {
                self.hold(track, unit);
            }
            let closing = Closing { followers: running.followers, end };
            let done = closing.followers.are_done();
            self.closing = Some(closing);
            if done {
                self.close();
            }
        }
    }

    /// Ends whatever is going on, and waits for nothing.
    fn end_all(&mut self) {
        self.end(None);
        self.close();
    }

    /// The run before is over, be followers ever so late.
    fn close(&mut self) {
        if let Some(Closing { end, .. }) = self.closing.take() {
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

fn unreadable(format: &VideoFormat) -> String {
    format!(
        "The picture of {} x {} cannot be read: check the encoder's resolution and profile.",
        format.width, format.height
    )
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
