//! The packager of a channel as a state machine: ladder events in, snapshots and facts out. No clock, no tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::bandwidth::Rates;
use super::cuts::Cuts;
use super::fact::Fact;
use super::former::Former;
use super::init::BadFormat;
use super::lane::{Edge, Lane, Programme, frame_expected, rounded_secs};
use super::multivariant;
use super::part_target::part_target;
use super::run::{Run, session_after};
use super::sound::{Placed, Sound};
use super::text;
use crate::config::HlsConfig;
use crate::ladder::{LadderEvent, RenditionIndex, RenditionKind, RenditionName, RenditionSpec, RunStart};
use crate::live::{ChannelSnapshot, Msn, OpenSegment, Playlist, RenditionSnapshot, Segment, SessionId, StoredUpTo};
use crate::media::{AccessUnit, Container, MediaTime, TrackFormat};

/// The state machine; see the module.
///
/// For each event: call [`Packager::handle`], then publish [`Packager::snapshot`] if it is another one than before.
///
/// What a programme leaves when it ends is served until the next one can be played, and then replaced at once.
#[derive(Debug)]
pub struct Packager {
    hls: HlsConfig,
    /// In the order of the run's renditions.
    lanes: Vec<Lane>,
    /// Of renditions that the present programme lacks; they go when what lingers in them has gone.
    retired: Vec<Lane>,
    /// The number of the open programme's first segment.
    programme: Option<Msn>,
    /// The lanes as the multivariant playlist and the snapshots list them.
    order: Vec<usize>,
    run: Option<Run>,
    sound: Sound,
    /// Where the sound of the run has come to that is in the pictures' own segments.
    heard: Option<MediaTime>,
    units_dropped: u64,
    next: Msn,
    last_session: SessionId,
    /// The discontinuity sequence number that the next programme begins with.
    discontinuity_sequence: u64,
    /// The latest media time of the channel, and the wall-clock time there.
    edge: MediaTime,
    edge_date: Option<SystemTime>,
    multivariant: Option<Playlist>,
    ended: bool,
    /// The source sends nothing.
    stalled: bool,
    /// Players were told that they may wait for parts.
    blocking: bool,
    target_secs: u32,
    snapshot: Arc<ChannelSnapshot>,
}

/// What players were told of a channel, and another process must neither say again nor contradict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The last number, of a segment or of one that has parts.
    pub last: Msn,
    /// How much of it, in the rendition that has come furthest.
    pub lasted: MediaTime,
    /// The discontinuity sequence number of a programme that begins behind it.
    pub discontinuity_sequence: u64,
    /// The directory of the last run.
    pub session: SessionId,
    /// Where media has come to.
    pub edge: MediaTime,
    /// The playlists have an end.
    pub ended: bool,
}

impl Default for Told {
    /// Nothing.
    fn default() -> Self {
        let (lasted, edge) = (MediaTime::ZERO, MediaTime::ZERO);
        Self { last: Msn(0), lasted, discontinuity_sequence: 0, session: SessionId(0), edge, ended: false }
    }
}

impl Packager {
    /// A channel that has published nothing.
    #[must_use]
    pub fn new(hls: HlsConfig) -> Self {
        Self {
            hls,
            lanes: Vec::new(),
            retired: Vec::new(),
            programme: None,
            order: Vec::new(),
            run: None,
            sound: Sound::default(),
            heard: None,
            units_dropped: 0,
            next: Msn(1),
            last_session: SessionId(0),
            discontinuity_sequence: 0,
            edge: MediaTime::ZERO,
            edge_date: None,
            multivariant: None,
            ended: false,
            stalled: false,
            blocking: false,
            target_secs: 0,
            snapshot: Arc::default(),
        }
    }

    /// A channel that goes on where a process before this one ended: with what it left in the store, if anything, and behind
    /// all that it told anybody. Numbers that were told and of which nothing is left are gaps.
    #[must_use]
    pub fn resume(hls: HlsConfig, told: Told, former: Option<Former>, now: SystemTime) -> Self {
        let Told { last, discontinuity_sequence, session: last_session, edge, .. } = told;
        let next = Msn(last.0.saturating_add(1));
        let mut packager = Self { next, discontinuity_sequence, last_session, edge, ..Self::new(hls) };
        if let Some(former) = former {
            packager.take(former, told, now);
            packager.publish(now);
        }
        packager
    }

    fn take(&mut self, former: Former, told: Told, now: SystemTime) {
        let Former { multivariant, target_secs, ended, mixed, first, next, mut renditions } = former;
        renditions.iter_mut().for_each(|rendition| rendition.end_at(told.edge));
        self.target_secs = target_secs;
        let frames: Vec<_> = renditions.iter().map(|rendition| frame_expected(&rendition.spec)).collect();
        let part_target = part_target(self.hls.part_duration.into(), &frames);
        let programme = Programme { target_secs, part_target, first, discontinuity_sequence: 0 };
        let rates: Vec<_> = renditions.iter().map(|rendition| rendition.rates).collect();
        self.lanes = renditions.into_iter().map(|rendition| Lane::resume(rendition, self.hls, programme)).collect();
        self.order = (0..self.lanes.len()).collect();
        self.declare(&rates);
        let sessions = self.lanes.iter().filter_map(Lane::last).map(|last| last.session);
        self.last_session = sessions.max().max(Some(told.session)).unwrap_or(told.session);

        let behind = self.next.max(next);
        // So much has been lost that nobody would find what they had: what follows is another programme.
        let lost = Duration::from_secs(u64::from(target_secs)).saturating_mul(count(behind.0.saturating_sub(next.0)));
        let lost_seams = told.discontinuity_sequence.saturating_sub(self.seams().saturating_add(1));
        self.ended = ended || mixed || told.ended || lost >= self.hls.window || lost_seams > 1;
        if !mixed {
            self.fill(next, if self.ended { next } else { behind }, told, lost_seams > 0);
        }
        self.next = behind;
        self.programme = Some(first).filter(|_| !self.ended);
        self.discontinuity_sequence = self.seams();
        if self.ended {
            self.discontinuity_sequence = told.discontinuity_sequence.max(self.seams().saturating_add(1));
            self.lanes.iter_mut().for_each(Lane::end);
        }
        let text = String::from_utf8_lossy(&multivariant).into_owned();
        self.multivariant = Some(text::playlist(text, None, now));
        self.reach_edge();
    }

    /// Brings all renditions to the same number, the one before `until`: what one of them has and another lacks is a gap there,
    /// and so is what stood from `lost` on in all, behind a `seam` if that was told and is lost. The last is as long as what was
    /// told of it: players who have its parts have all that is before what follows, and play on without a hole. The others share
    /// the time up to where media had come: were they longer than what was lost, all dates behind them would be late for ever.
    fn fill(&mut self, lost: Msn, until: Msn, told: Told, seam: bool) {
        let listed = self.lanes.iter().flat_map(Lane::listed).map(|segment| (segment.msn, Segment::clone(segment)));
        let mut known: BTreeMap<Msn, Segment> = listed.collect();
        let last = self.lanes.iter().filter_map(Lane::last).max_by_key(|last| last.start + last.duration);
        let Some(mut last) = last.map(|last| Segment::clone(last)) else { return };
        let longest = MediaTime::from_millis(i64::from(self.target_secs) * 1_000);
        let open = u64::from(told.lasted > MediaTime::ZERO);
        let whole = until.0.saturating_sub(lost.0).saturating_sub(open);
        let span = told.edge - (last.start + last.duration);
        let share = MediaTime::from_millis(span.as_millis() / i64::try_from(whole).unwrap_or(i64::MAX).max(1));
        let each = if share > MediaTime::ZERO { share.min(longest) } else { longest };
        for number in lost.0..until.0 {
            let is_open = number.saturating_add(1) == until.0 && told.lasted > MediaTime::ZERO;
            let duration = if is_open { told.lasted.min(longest) } else { each };
            let (start, program_date_time) = (last.start + last.duration, last.ends_at());
            let (msn, discontinuity) = (Msn(number), seam && number == lost.0);
            last = Segment { msn, discontinuity, start, duration, program_date_time, ..last };
            known.insert(msn, last.clone());
        }
        self.lanes.iter_mut().for_each(|lane| lane.lose(until, &known));
    }

    /// What was told of a variant, its sound included, is not taken back.
    fn declare(&mut self, told: &[Option<Rates>]) {
        let sound = self.lanes.iter().find(|lane| lane.kind() == RenditionKind::Audio).map(Lane::rates);
        let sound = sound.unwrap_or(Rates { peak: 0, average: 0 });
        for (lane, told) in self.lanes.iter_mut().zip(told) {
            if let Some(Rates { peak, average }) = told {
                let (peak, average) = (peak.saturating_sub(sound.peak), average.saturating_sub(sound.average));
                lane.declare(Rates { peak, average });
            }
        }
    }

    /// The discontinuities that were told of up to the end of the playlists.
    fn seams(&self) -> u64 {
        self.lanes.iter().map(Lane::seams).max().unwrap_or(0)
    }

    /// The latest media time of the channel.
    #[must_use]
    pub fn edge(&self) -> MediaTime {
        self.edge
    }

    /// The programme is open: a run that comes is a further one of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.programme.is_some()
    }

    /// What was told to players, so that another process can go on behind it. To be kept before a snapshot is published.
    #[must_use]
    pub fn told(&self) -> Told {
        let behind = Msn(self.next.0.saturating_sub(1));
        let furthest = self.snapshot.renditions.iter().filter_map(|rendition| last_told(rendition)).max();
        let (last, lasted) = furthest.unwrap_or((Msn(0), MediaTime::ZERO)).max((behind, MediaTime::ZERO));
        let seam = self.run.as_ref().is_some_and(|run| run.seam && run.first <= last);
        let open = self.programme.is_some();
        Told {
            last,
            lasted,
            discontinuity_sequence: self.discontinuity_sequence.saturating_add(u64::from(seam) + u64::from(open)),
            session: self.last_session,
            edge: self.edge,
            ended: self.snapshot.ended,
        }
    }

    /// What can be fetched now. Another `Arc` after each event that changed it.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<ChannelSnapshot> {
        &self.snapshot
    }

    /// Takes one event. `now` is what playlists that change are dated by.
    pub fn handle(&mut self, event: LadderEvent, now: SystemTime) -> Vec<Fact> {
        let mut facts = Vec::new();
        match event {
            LadderEvent::Start(start) => self.start(&start, now, &mut facts),
            LadderEvent::Format(rendition, format) => self.format(rendition, &format, &mut facts),
            LadderEvent::Unit { rendition, unit, cut } => self.unit(rendition, unit, cut, &mut facts),
            LadderEvent::Gap { rendition, until } => self.gap(rendition, until, &mut facts),
            LadderEvent::Stop => self.stop(&mut facts),
            LadderEvent::Finish => self.finish(&mut facts),
        }
        if facts.iter().any(|fact| matches!(fact, Fact::Segment { .. })) {
            self.reach_edge();
        }
        self.publish(now);
        facts
    }

    /// How long nothing may come of a run until [`Packager::stall`] is to be called: the time within which a new segment
    /// has to follow the one before (RFC 8216bis, 6.2.1). None where nothing is waited for.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.blocking.then(|| Duration::from_millis(u64::from(self.target_secs).saturating_mul(1_500)))
    }

    /// The source has sent nothing for so long that players should not wait for parts: they are told to poll, until
    /// there is one.
    pub fn stall(&mut self, now: SystemTime) {
        self.stalled = true;
        self.publish(now);
    }

    /// So far is what the playlists list in the store: what of that is older than the hot end need not stay in memory.
    pub fn stored(&mut self, renditions: &BTreeMap<RenditionName, StoredUpTo>, now: SystemTime) -> Vec<Fact> {
        let mut facts = Vec::new();
        for lane in &mut self.lanes {
            if let Some(stored) = renditions.get(lane.name()) {
                lane.stored(stored, &mut facts);
            }
        }
        // The source may stand still all the same.
        self.refresh(now);
        facts
    }

    fn start(&mut self, start: &RunStart, now: SystemTime, facts: &mut Vec<Fact>) {
        self.stop(facts);
        let start = &self.offered(start);
        if self.programme.is_some() && !self.continues(start) {
            facts.push(Fact::ProgrammeCut);
            self.finish(facts);
            self.publish(now);
        }
        if self.programme.is_none() {
            self.begin_programme(start);
        }
        self.line_up(start);
        let run = self.next_run(start);
        self.heard = None;
        self.last_session = run.session;
        for (lane, spec) in self.lanes.iter_mut().zip(&start.renditions) {
            lane.begin_run(spec);
        }
        facts.push(Fact::RunStarted { session: run.session, first: run.first });
        self.run = Some(run);
    }

    /// The run as it is offered: where the sound is in the pictures' own segments it is no rendition.
    fn offered(&self, start: &RunStart) -> RunStart {
        let mut start = start.clone();
        if self.is_muxed() {
            let is_sound = |spec: &RenditionSpec| spec.kind == RenditionKind::Audio;
            let sound = start.renditions.iter().find(|spec| is_sound(spec)).cloned();
            start.renditions.retain(|spec| !is_sound(spec));
            for spec in &mut start.renditions {
                spec.bitrate_average += sound.as_ref().map_or(0, |sound| sound.bitrate_average);
                spec.bitrate_peak += sound.as_ref().map_or(0, |sound| sound.bitrate_peak);
            }
        }
        start
    }

    /// The sound is in the pictures' own segments.
    fn is_muxed(&self) -> bool {
        self.hls.container == Container::Ts
    }

    /// What the units of a rendition are; none where there is no such rendition.
    fn kind(&self, rendition: RenditionIndex) -> Option<RenditionKind> {
        // The sound stands last in a run, whether or not it is offered by itself.
        let muxed = self.is_muxed() && rendition == self.lanes.len();
        self.lanes.get(rendition).map(Lane::kind).or(muxed.then_some(RenditionKind::Audio))
    }

    fn next_run(&self, start: &RunStart) -> Run {
        Run {
            session: session_after(self.last_session, start.wall_clock),
            first: self.next,
            seam: self.programme.is_some_and(|first| self.next > first),
            start: start.start,
            // `EXT-X-PROGRAM-DATE-TIME` never says two things of one moment, even where the clock was set back.
            wall_clock: self.edge_date.map_or(start.wall_clock, |edge| edge.max(start.wall_clock)),
            target_duration: start.target_duration,
            cuts: Cuts::default(),
            edge: self.edge,
        }
    }

    /// Brings the lanes into the run's order, which a process before this one did not tell; what was told of theirs stays.
    fn line_up(&mut self, start: &RunStart) {
        let place = |lane: &Lane| start.renditions.iter().position(|spec| lane.is(spec));
        if self.lanes.is_sorted_by_key(place) {
            return;
        }
        let told: Vec<_> = self.order.iter().filter_map(|index| Some(self.lanes.get(*index)?.name().clone())).collect();
        self.lanes.sort_by_key(place);
        let index = |name: &RenditionName| self.lanes.iter().position(|lane| lane.name() == name);
        self.order = told.iter().filter_map(index).collect();
    }

    /// `start` may be a further run of the open programme: what is latched stays (law 7).
    fn continues(&self, start: &RunStart) -> bool {
        let same = self.lanes.len() == start.renditions.len()
            && self.lanes.iter().all(|lane| start.renditions.iter().any(|spec| lane.is(spec)));
        same && target_secs(start.target_duration) <= self.target_secs
    }

    fn begin_programme(&mut self, start: &RunStart) {
        self.target_secs = target_secs(start.target_duration);
        self.ended = false;
        self.multivariant = None;
        let frames: Vec<_> = start.renditions.iter().map(frame_expected).collect();
        let programme = Programme {
            target_secs: self.target_secs,
            part_target: part_target(self.hls.part_duration.into(), &frames),
            first: self.next,
            discontinuity_sequence: self.discontinuity_sequence,
        };
        let mut known = std::mem::take(&mut self.lanes);
        known.append(&mut self.retired);
        for spec in &start.renditions {
            let position = known.iter().position(|lane| lane.is(spec));
            let mut lane = position.map_or_else(|| Lane::new(spec.clone(), self.hls), |p| known.swap_remove(p));
            lane.begin_programme(spec, programme);
            self.lanes.push(lane);
        }
        known.retain(|lane| start.renditions.iter().all(|spec| spec.name != *lane.name()));
        known.iter_mut().for_each(Lane::leave);
        self.retired = known;
        self.programme = Some(self.next);
        self.order = order(&start.renditions);
    }

    fn format(&mut self, rendition: RenditionIndex, format: &TrackFormat, facts: &mut Vec<Fact>) {
        if let (true, Some(RenditionKind::Audio), TrackFormat::Audio(sound)) =
            (self.is_muxed() && self.run.is_some(), self.kind(rendition), format)
        {
            let bad = self.lanes.iter_mut().filter_map(|lane| lane.hear(sound).err()).next();
            let fact = |bad: BadFormat| Fact::BadFormat { rendition: RenditionName::audio(), reason: bad.to_string() };
            return facts.extend(bad.map(fact));
        }
        let (Some(run), Some(lane)) = (&self.run, self.lanes.get_mut(rendition)) else { return };
        let fits = matches!(
            (format, lane.kind()),
            (TrackFormat::Video(_), RenditionKind::Video) | (TrackFormat::Audio(_), RenditionKind::Audio)
        );
        let reason = match () {
            () if lane.has_format() => "a second format in one run".to_owned(),
            () if !fits => "a format of another kind".to_owned(),
            () => match lane.format(format, run) {
                Ok(()) => return,
                Err(bad) => bad.to_string(),
            },
        };
        facts.push(Fact::BadFormat { rendition: lane.name().clone(), reason });
    }

    fn unit(&mut self, rendition: RenditionIndex, unit: AccessUnit, cut: Option<u64>, facts: &mut Vec<Fact>) {
        match self.kind(rendition).filter(|_| self.run.is_some()) {
            None => self.units_dropped += 1,
            Some(RenditionKind::Audio) => self.sound.push(unit),
            Some(RenditionKind::Video) => self.picture(rendition, unit, cut, facts),
        }
        while let Some(placed) = self.run.as_ref().and_then(|run| self.sound.next(&run.cuts)) {
            self.place_sound(placed, facts);
        }
        if self.is_muxed() {
            (0..self.lanes.len()).for_each(|rendition| self.release(rendition, self.heard, facts));
        }
    }

    fn picture(&mut self, rendition: RenditionIndex, unit: AccessUnit, cut: Option<u64>, facts: &mut Vec<Fact>) {
        let (Some(run), Some(lane)) = (&mut self.run, self.lanes.get_mut(rendition)) else { return };
        run.cuts.see(&unit, cut);
        lane.waiting().push(unit, cut);
        self.release(rendition, if self.is_muxed() { self.heard } else { EVER }, facts);
        if let Some(run) = self.run.as_ref().filter(|_| cut.is_some()) {
            self.lanes.iter_mut().for_each(|lane| lane.list_gaps(run, facts));
        }
    }

    /// Takes the pictures of a rendition that need not wait for more sound than was `heard`.
    fn release(&mut self, rendition: RenditionIndex, heard: Option<MediaTime>, facts: &mut Vec<Fact>) {
        let (Some(run), Some(lane)) = (&self.run, self.lanes.get_mut(rendition)) else { return };
        while let Some((unit, cut)) = lane.waiting().next(heard, &run.cuts) {
            let taken = lane.place(cut).is_some_and(|number| lane.push(number, unit, run, facts));
            self.units_dropped += u64::from(!taken);
        }
    }

    fn place_sound(&mut self, placed: Placed, facts: &mut Vec<Fact>) {
        let muxed = self.is_muxed();
        let lane = self.lanes.iter_mut().find(|lane| lane.kind() == RenditionKind::Audio);
        let taken = match (placed, lane, &self.run) {
            (Placed::In(number, unit), Some(lane), Some(run)) => lane.push(number, unit, run, facts),
            (Placed::In(number, unit), None, Some(_)) if muxed => {
                self.heard = self.heard.max(Some(unit.pts + unit.duration));
                self.lanes.iter_mut().for_each(|lane| lane.push_sound(number, unit.clone()));
                true
            }
            _ => false,
        };
        self.units_dropped += u64::from(!taken);
    }

    /// A rendition lacks segments before `until`.
    fn gap(&mut self, rendition: RenditionIndex, until: u64, facts: &mut Vec<Fact>) {
        self.release(rendition, EVER, facts);
        let (Some(run), Some(lane)) = (&self.run, self.lanes.get_mut(rendition)) else { return };
        if lane.kind() == RenditionKind::Video {
            lane.skip(until);
            lane.list_gaps(run, facts);
        }
    }

    /// Ends the run that is open: all renditions get segments up to the same number.
    fn stop(&mut self, facts: &mut Vec<Fact>) {
        let segment_max = MediaTime::from_millis(i64::from(self.target_secs) * 1_000 + ROUNDING_MILLIS);
        while let Some(placed) = self.run.as_ref().and_then(|run| self.sound.next_last(&run.cuts, segment_max)) {
            self.place_sound(placed, facts);
        }
        (0..self.lanes.len()).for_each(|rendition| self.release(rendition, EVER, facts));
        let Some(mut run) = self.run.take() else { return };
        for lane in &mut self.lanes {
            lane.finish_run(&run, facts);
        }
        self.reach_edge();
        // Pictures are shown later than they are decoded.
        let shown = self.lanes.iter().filter_map(Lane::last).map(|last| run.shown(last.ends_at()));
        run.edge = shown.max().unwrap_or(self.edge);
        let count = self.lanes.iter().map(Lane::next).max().unwrap_or(0);
        for lane in &mut self.lanes {
            lane.fill(count, &run, facts);
        }
        self.discontinuity_sequence += u64::from(count > 0 && run.seam);
        self.next = run.msn(count);
        let units_dropped = std::mem::take(&mut self.units_dropped);
        facts.push(Fact::RunStopped { session: run.session, units_dropped });
    }

    fn finish(&mut self, facts: &mut Vec<Fact>) {
        self.stop(facts);
        let Some(first) = self.programme.take() else { return };
        if self.next > first {
            // Between this programme and the next there is a discontinuity that no tag stands for.
            self.discontinuity_sequence += 1;
            self.ended = true;
            self.lanes.iter_mut().for_each(Lane::end);
        }
        facts.push(Fact::Finished);
    }

    /// Moves the edge to the end of the last segments, and lets go of what has lingered long enough by then.
    fn reach_edge(&mut self) {
        for last in self.lanes.iter().filter_map(Lane::last) {
            self.edge = self.edge.max(last.start + last.duration);
            self.edge_date = self.edge_date.max(Some(last.ends_at()));
        }
        self.retired.retain_mut(|lane| !lane.expire(self.edge));
    }

    /// Brings playlists and snapshots up to date with what came of the source.
    fn publish(&mut self, now: SystemTime) {
        self.stalled &= !self.lanes.iter().any(Lane::is_changed);
        self.refresh(now);
    }

    /// Brings playlists and snapshots up to date.
    fn refresh(&mut self, now: SystemTime) {
        for lane in &mut self.lanes {
            lane.render(self.ended, now);
        }
        self.promise();
        let mut changed = self.render_multivariant(now);
        if self.multivariant.is_none() && self.snapshot.multivariant.is_some() {
            // Nobody could play this programme yet, and viewers of the one before may not have seen its end.
            return;
        }
        if changed {
            self.lanes.iter_mut().chain(&mut self.retired).for_each(|lane| lane.replaced(self.edge));
            // From here on each has to tell of all others (RFC 8216bis, B.1), which had no playlist when it was made.
            self.lanes.iter_mut().for_each(Lane::touch);
        }
        if !changed && !self.lanes.iter().chain(&self.retired).any(Lane::is_changed) {
            return;
        }
        let run = self.run.as_ref();
        let offered = self.order.iter().filter_map(|index| self.lanes.get(*index));
        let reports: Arc<[_]> = offered.filter_map(|lane| lane.report(run)).collect();
        let edge = Edge { run, ended: self.ended, blocking: self.blocking, reports: &reports, now };
        for lane in self.lanes.iter_mut().chain(&mut self.retired) {
            changed |= lane.update_snapshot(&edge);
        }
        if changed {
            self.snapshot = Arc::new(self.assemble());
        }
    }

    /// Tells players to wait for parts as long as parts are coming, and only then; in all playlists at once, as they have to
    /// say the same (RFC 8216bis, 6.2.4).
    fn promise(&mut self) {
        let blocking = self.run.is_some() && !self.stalled && !self.ended;
        if blocking != self.blocking {
            self.blocking = blocking;
            self.lanes.iter_mut().for_each(Lane::touch);
        }
    }

    fn assemble(&self) -> ChannelSnapshot {
        let lanes = self.order.iter().filter_map(|index| self.lanes.get(*index)).chain(&self.retired);
        ChannelSnapshot {
            multivariant: self.multivariant.clone(),
            target_duration_secs: self.target_secs,
            renditions: lanes.filter_map(Lane::snapshot).cloned().collect(),
            ended: self.ended,
        }
    }

    /// Brings the multivariant playlist up to date, once every rendition has a media playlist. True if it changed.
    fn render_multivariant(&mut self, now: SystemTime) -> bool {
        let mut stale = self.multivariant.is_none();
        for lane in &mut self.lanes {
            stale |= lane.take_declaration_change();
        }
        if !stale || self.lanes.is_empty() || !self.lanes.iter().all(Lane::has_playlist) {
            return false;
        }
        let lanes = self.order.iter().filter_map(|index| self.lanes.get(*index));
        let variants: Vec<_> = lanes.filter_map(Lane::variant).collect();
        if variants.is_empty() {
            return false;
        }
        let written = multivariant::write(&variants, self.lanes.iter().find_map(Lane::sound).as_ref());
        let playlist = text::playlist(written, self.multivariant.as_ref(), now);
        let changed = self.multivariant.as_ref() != Some(&playlist);
        self.multivariant = Some(playlist);
        changed
    }
}

/// No more sound is waited for.
const EVER: Option<MediaTime> = Some(MediaTime::from_nanos(i64::MAX));

/// What may be added to the target duration before it rounds to the next second, less a frame.
const ROUNDING_MILLIS: i64 = 450;

/// The last number that players were told of a rendition, and how much of it.
fn last_told(rendition: &RenditionSnapshot) -> Option<(Msn, MediaTime)> {
    let parts = |open: &OpenSegment| open.parts.iter().fold(MediaTime::ZERO, |sum, part| sum + part.duration);
    let open = rendition.open.as_ref().filter(|open| !open.parts.is_empty()).map(|open| (open.msn, parts(open)));
    open.max(rendition.segments.back().map(|segment| (segment.msn, segment.duration)))
}

fn count(segments: u64) -> u32 {
    u32::try_from(segments).unwrap_or(u32::MAX)
}

/// `EXT-X-TARGETDURATION` for segments of at most `longest`. A rendition's segment may be a frame longer than the
/// picture's, and must not round to more; no AAC frame at a usual rate is longer than this.
fn target_secs(longest: MediaTime) -> u32 {
    let secs = rounded_secs(longest + MediaTime::from_millis(FRAME_MILLIS_MAX));
    u32::try_from(secs).unwrap_or(u32::MAX).max(1)
}

const FRAME_MILLIS_MAX: i64 = 50;

/// What a player on an unknown network should begin with (Apple's authoring specification, 1.32): the first variant
/// is where AVPlayer and hls.js start before they have measured anything.
const FIRST_VARIANT_BITRATE: u64 = 2_000_000;

/// The variant to begin with, the others best first, and the sound last.
fn order(specs: &[RenditionSpec]) -> Vec<usize> {
    let distance = |spec: &RenditionSpec| spec.bitrate_average.abs_diff(FIRST_VARIANT_BITRATE);
    let videos = specs.iter().enumerate().filter(|(_, spec)| spec.kind == RenditionKind::Video);
    let first = videos.min_by_key(|(_, spec)| distance(spec)).map(|(index, _)| index);
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|index| {
        let is_audio = specs.get(*index).is_some_and(|spec| spec.kind == RenditionKind::Audio);
        (is_audio, Some(*index) != first)
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::rules::Watcher;
    use crate::packager::simulate::{self, RENDITIONS, Session, steady};
    use crate::packager::testing::{self, golden};
    use proptest::prelude::*;

    /// Feeds the events, and checks every snapshot on the way.
    fn feed(packager: &mut Packager, watcher: &mut Watcher, events: Vec<LadderEvent>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for event in events {
            facts.extend(packager.handle(event, testing::wall_clock(0)));
            watcher.see(packager.snapshot());
        }
        facts
    }

    /// Sessions one after the other, with a second between them.
    fn play(sessions: &[Session]) -> (Packager, Watcher) {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut start = 10_000;
        for session in sessions {
            feed(&mut packager, &mut watcher, session.events(start));
            start += session.duration() + 1_000;
        }
        (packager, watcher)
    }

    fn text(packager: &Packager, rendition: &str) -> String {
        let snapshot = packager.snapshot();
        let playlist = snapshot.rendition(rendition).unwrap().playlist.as_ref().unwrap();
        String::from_utf8(playlist.text.to_vec()).unwrap()
    }

    /// The lines of a playlist that start with `tag`.
    fn tags(packager: &Packager, rendition: &str, tag: &str) -> Vec<String> {
        text(packager, rendition).lines().filter(|l| l.starts_with(tag)).map(str::to_owned).collect()
    }

    fn only(events: Vec<LadderEvent>, keep: impl Fn(usize, &Option<u64>) -> bool) -> Vec<LadderEvent> {
        let keeps = |event: &LadderEvent| match event {
            LadderEvent::Unit { rendition, cut, .. } => keep(*rendition, cut),
            _ => true,
        };
        events.into_iter().filter(keeps).collect()
    }

    #[test]
    fn a_return_within_the_programme_is_one_seam_in_every_rendition() {
        let (packager, _) = play(&[steady(100, false), steady(100, false)]);
        for rendition in RENDITIONS {
            let listed = text(&packager, rendition);
            assert_eq!(listed.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
            assert!(listed.contains("#EXT-X-DISCONTINUITY\n#EXT-X-MAP"), "{listed}");
            assert!(!listed.contains("#EXT-X-ENDLIST"));
        }
        golden("channel_return.m3u8", &text(&packager, "720p"));
        golden("channel_return_audio.m3u8", &text(&packager, "audio"));
    }

    #[test]
    fn a_new_programme_goes_on_with_the_numbers() {
        let sessions = [steady(100, false), steady(100, true), steady(100, false)];
        let (packager, watcher) = play(&sessions);
        let snapshot = packager.snapshot();
        assert!(snapshot.is_live());
        // Two segments a session: the first programme had 1 to 4 with one seam, and ended.
        assert_eq!(tags(&packager, "audio", "#EXT-X-MEDIA-SEQUENCE"), ["#EXT-X-MEDIA-SEQUENCE:5"]);
        assert_eq!(tags(&packager, "audio", "#EXT-X-DISCONTINUITY"), ["#EXT-X-DISCONTINUITY-SEQUENCE:2"]);
        assert_eq!(snapshot.rendition("360p").unwrap().segments.front().unwrap().msn, Msn(1), "the old ones linger");
        watcher.check_alignment();
    }

    #[test]
    fn an_ended_programme_is_served_until_the_next_can_be_played() {
        for next in [steady(100, false), Session { is_small: true, ..steady(100, false) }] {
            let (mut packager, mut watcher) = play(&[steady(100, true)]);
            let ended = Arc::clone(packager.snapshot());
            let mut waited = 0;
            for event in next.events(20_000) {
                feed(&mut packager, &mut watcher, vec![event]);
                waited += usize::from(Arc::ptr_eq(packager.snapshot(), &ended));
            }
            // Two seconds of picture, twice at most, and of sound.
            assert!(waited > 100, "{waited}");
            let offered = packager.snapshot().renditions.iter().filter(|r| r.playlist.is_some()).count();
            assert_eq!((packager.snapshot().is_live(), offered), (true, if next.is_small { 2 } else { 3 }));
        }
    }

    #[test]
    fn a_programme_that_is_cut_tells_its_end() {
        let (mut packager, mut watcher) = play(&[steady(100, false)]);
        let next = Session { is_small: true, ..steady(100, false) };
        feed(&mut packager, &mut watcher, vec![next.start_event(20_000)]);
        for rendition in RENDITIONS {
            assert!(text(&packager, rendition).ends_with("#EXT-X-ENDLIST\n"));
        }
    }

    #[test]
    fn a_programme_without_media_does_not_take_the_last_one_away() {
        let (mut packager, mut watcher) = play(&[steady(100, true)]);
        let ended = Arc::clone(packager.snapshot());
        feed(&mut packager, &mut watcher, vec![steady(1, true).start_event(20_000), LadderEvent::Finish]);
        assert!(Arc::ptr_eq(packager.snapshot(), &ended));
        feed(&mut packager, &mut watcher, steady(100, false).events(30_000));
        assert!(packager.snapshot().is_live());
    }

    #[test]
    fn finish_ends_every_list() {
        let (packager, _) = play(&[steady(100, true)]);
        assert!(packager.snapshot().ended && !packager.snapshot().is_live());
        for rendition in RENDITIONS {
            assert!(text(&packager, rendition).ends_with("#EXT-X-ENDLIST\n"));
        }
    }

    #[test]
    fn finish_without_media_ends_nothing() {
        let mut packager = Packager::new(simulate::hls());
        packager.handle(steady(1, true).start_event(10_000), testing::wall_clock(0));
        assert_eq!(packager.handle(LadderEvent::Finish, testing::wall_clock(0)).last(), Some(&Fact::Finished));
        assert!(!packager.snapshot().ended);
        assert_eq!(packager.handle(LadderEvent::Finish, testing::wall_clock(0)), []);
    }

    #[test]
    fn a_start_in_a_run_stops_it() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut events = steady(100, false).events(10_000);
        events.pop();
        feed(&mut packager, &mut watcher, events);
        let facts = feed(&mut packager, &mut watcher, steady(50, false).events(20_000));
        assert!(facts.iter().any(|f| matches!(f, Fact::RunStopped { units_dropped: 0, .. })));
        assert_eq!(tags(&packager, "720p", "#EXT-X-DISCONTINUITY\n").len(), 0);
        assert_eq!(text(&packager, "720p").matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    }

    #[test]
    fn a_rendition_that_misses_cuts_or_ends_early_has_gaps() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        // The small picture is there up to the second cut, and then not from the third on.
        let ends_early = std::cell::Cell::new(false);
        let events = only(steady(200, false).events(10_000), |rendition, cut| {
            ends_early.set(ends_early.get() || (rendition == 1 && *cut == Some(2)));
            rendition != 1 || !ends_early.get()
        });
        feed(&mut packager, &mut watcher, events);
        assert_eq!(tags(&packager, "720p", "#EXT-X-GAP").len(), 0);
        assert_eq!(tags(&packager, "360p", "#EXT-X-GAP").len(), 2);
        assert_eq!(tags(&packager, "360p", "#EXTINF"), tags(&packager, "720p", "#EXTINF"));
    }

    #[test]
    fn row_32_a_rendition_that_stops_has_gaps_while_the_run_goes_on() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let away = MediaTime::from_millis(13_000)..MediaTime::from_millis(18_000);
        let mut events = steady(300, false).events(10_000);
        events.retain(|event| match event {
            LadderEvent::Unit { rendition, unit, .. } => *rendition != 1 || !away.contains(&unit.pts),
            event => !matches!(event, LadderEvent::Stop),
        });
        for number in [2, 3, 4] {
            let begins = |event: &LadderEvent| matches!(event, LadderEvent::Unit { rendition: 0, cut: Some(n), .. } if *n == number);
            let at = events.iter().position(begins).unwrap() + 1;
            events.insert(at, LadderEvent::Gap { rendition: 1, until: number });
        }
        feed(&mut packager, &mut watcher, events);
        assert_eq!(tags(&packager, "360p", "#EXT-X-GAP").len(), 2);
        assert_eq!(tags(&packager, "360p", "#EXTINF"), tags(&packager, "720p", "#EXTINF"));
        watcher.check_alignment();
        let before = Arc::clone(packager.snapshot());
        feed(&mut packager, &mut watcher, vec![LadderEvent::Gap { rendition: 1, until: 99 }]);
        assert!(Arc::ptr_eq(&before, packager.snapshot()), "of what has not begun nothing is told");
    }

    #[test]
    fn row_32_a_rendition_that_never_comes_holds_up_nobody() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut events = only(steady(100, false).events(10_000), |rendition, _| rendition != 1);
        events.pop();
        feed(&mut packager, &mut watcher, events);
        assert!(packager.snapshot().multivariant.is_none());
        feed(&mut packager, &mut watcher, vec![LadderEvent::Gap { rendition: 1, until: 1 }]);
        assert!(packager.snapshot().is_live());
        assert_eq!(tags(&packager, "360p", "#EXT-X-GAP").len(), 1);
    }

    #[test]
    fn row_32_b_frames_behind_a_gap_are_shown_when_they_should_be() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let session = steady(300, false);
        // It lacks a whole segment, or the end of one only; and what follows comes late.
        for (start, back) in [(10_000, 16_000), (30_000, 34_000)] {
            let away = MediaTime::from_millis(start + 3_000)..MediaTime::from_millis(back);
            let mut events = session.events(start);
            events.retain(|e| !matches!(e, LadderEvent::Unit { rendition: 0, unit, .. } if away.contains(&unit.pts)));
            let stop = events.pop();
            let is_late =
                |e: &LadderEvent| matches!(e, LadderEvent::Unit { rendition: 0, unit, .. } if unit.pts >= away.end);
            let (late, mut events): (Vec<_>, Vec<_>) = events.into_iter().partition(is_late);
            let until = u64::try_from((back - start) / 2_000).unwrap();
            events.push(LadderEvent::Gap { rendition: 0, until });
            feed(&mut packager, &mut watcher, events.into_iter().chain(late).chain(stop).collect());
            let read = watcher.samples("720p", packager.last_session);
            assert!(read.iter().zip(&read[1..]).all(|(a, b)| a.start + u64::from(a.duration) <= b.start));
            let at = |sample: &crate::packager::readback::Read| i64::try_from(sample.start).unwrap() + sample.offset;
            let shown: Vec<i64> = read.iter().map(|sample| at(sample) / 90).collect();
            let sent = session.units(start).swap_remove(0).into_iter().map(|(unit, _)| unit.pts);
            let sent = sent.filter(|pts| !away.contains(pts));
            assert_eq!(shown, sent.map(MediaTime::as_millis).collect::<Vec<_>>());
        }
        watcher.check_alignment();
    }

    #[test]
    fn row_32_a_rendition_without_media_in_a_run_has_gaps_as_the_others_go_on() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        feed(&mut packager, &mut watcher, steady(100, false).events(10_000));
        let mut events = only(steady(120, false).events(20_000), |rendition, _| rendition != 1);
        // Told before anything has begun, and never again.
        events.insert(1, LadderEvent::Gap { rendition: 1, until: u64::MAX });
        events.pop();
        feed(&mut packager, &mut watcher, events);
        assert_eq!(tags(&packager, "360p", "#EXT-X-GAP").len(), 2);
        assert_eq!(tags(&packager, "360p", "#EXTINF"), tags(&packager, "720p", "#EXTINF"));
        watcher.check_alignment();
    }

    #[test]
    fn sound_that_drops_out_leaves_a_gap_and_no_long_segment() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut events = steady(300, false).events(10_000);
        let silent = MediaTime::from_millis(11_000)..MediaTime::from_millis(17_000);
        events.retain(|e| !matches!(e, LadderEvent::Unit { rendition: 2, unit, .. } if silent.contains(&unit.pts)));
        let facts = feed(&mut packager, &mut watcher, events);
        assert!(!facts.iter().any(|f| matches!(f, Fact::Segment { too_long: true, .. })));
        assert_eq!(tags(&packager, "audio", "#EXT-X-GAP").len(), 2);
        let lasts = tags(&packager, "audio", "#EXTINF");
        // The first segment lasts to its cut, and has left the list; two gaps; then from the first frame after 17 s.
        assert_eq!(packager.snapshot().rendition("audio").unwrap().segments[0].duration.as_millis(), 2_000);
        assert_eq!(&lasts[..3], ["#EXTINF:2.000000,", "#EXTINF:2.000000,", "#EXTINF:0.981333,"]);
    }

    #[test]
    fn a_rendition_without_a_format_is_all_gaps() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut events = steady(100, false).events(10_000);
        events.retain(|e| !matches!(e, LadderEvent::Format(1, _)));
        let facts = feed(&mut packager, &mut watcher, events);
        assert!(facts.iter().any(|f| matches!(f, Fact::RunStopped { units_dropped: 100, .. })));
        assert_eq!(tags(&packager, "360p", "#EXT-X-GAP").len(), 2);
        let multivariant = packager.snapshot().multivariant.as_ref().unwrap().text.clone();
        assert!(!String::from_utf8_lossy(&multivariant).contains("360p"));
    }

    #[test]
    fn another_ladder_begins_another_programme() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        feed(&mut packager, &mut watcher, steady(100, false).events(10_000));
        let mut facts = Vec::new();
        let mut lingered = false;
        for event in (Session { is_small: true, ..steady(400, false) }).events(20_000) {
            facts.extend(feed(&mut packager, &mut watcher, vec![event]));
            let left = packager.snapshot().rendition("360p");
            lingered |= left.is_some_and(|r| r.playlist.is_none() && r.segments.len() == 2);
        }
        assert!(facts.contains(&Fact::ProgrammeCut));
        assert!(lingered, "what was listed can still be fetched");
        assert!(packager.snapshot().rendition("360p").is_none(), "for as long as it must");
        assert_eq!(packager.snapshot().renditions.len(), 2);
        // And the rendition may come back.
        feed(&mut packager, &mut watcher, steady(100, true).events(60_000));
        assert_eq!(packager.snapshot().renditions.len(), 3);
    }

    #[test]
    fn a_longer_target_begins_another_programme() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        feed(&mut packager, &mut watcher, steady(100, false).events(10_000));
        let mut events = steady(100, false).events(20_000);
        let LadderEvent::Start(start) = &mut events[0] else { unreachable!() };
        start.target_duration = MediaTime::from_millis(8_333);
        let facts = feed(&mut packager, &mut watcher, events);
        assert!(facts.contains(&Fact::ProgrammeCut));
        assert_eq!(packager.snapshot().target_duration_secs, 8);
    }

    #[test]
    fn a_missing_cut_is_told() {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut events = steady(200, false).events(10_000);
        for event in &mut events {
            if let LadderEvent::Unit { rendition: 0 | 1, cut, .. } = event {
                *cut = cut.filter(|n| *n == 0);
            }
        }
        let mut facts = Vec::new();
        for event in events {
            facts.extend(packager.handle(event, testing::wall_clock(0)));
        }
        watcher.seen.clear();
        assert!(facts.iter().any(|f| matches!(f, Fact::Segment { too_long: true, .. })));
        assert_eq!(packager.snapshot().target_duration_secs, 2);
    }

    #[test]
    fn the_first_variant_is_near_two_megabits() {
        let video = simulate::specs().remove(0);
        let spec = |bitrate_average| RenditionSpec { bitrate_average, ..video.clone() };
        let audio = simulate::specs().remove(2);
        let specs = [spec(6_000_000), spec(2_800_000), spec(1_400_000), spec(800_000), audio];
        assert_eq!(order(&specs), [2, 0, 1, 3, 4]);
    }

    #[test]
    fn the_target_has_room_for_a_frame() {
        let secs = |millis| target_secs(MediaTime::from_millis(millis));
        assert_eq!([4_000, 4_400, 4_490, 4_500, 8_333, 100].map(secs), [4, 4, 5, 5, 8, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn nothing_is_lost_and_every_playlist_keeps_the_rules(sessions in prop::collection::vec(simulate::session(), 1..5)) {
            let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
            let mut start = 10_000;
            for session in &sessions {
                feed(&mut packager, &mut watcher, session.events(start));
                for (name, units) in RENDITIONS.iter().zip(session.units(start)).filter(|(name, _)| session.has(name)) {
                    let read = watcher.samples(name, packager.last_session);
                    let data: Vec<_> = read.iter().map(|s| &s.data).collect();
                    prop_assert!(data == units.iter().map(|(u, _)| &u.data).collect::<Vec<_>>(), "{}", name);
                    for (before, after) in read.iter().zip(&read[1..]) {
                        prop_assert_eq!(before.start + u64::from(before.duration), after.start);
                    }
                }
                start += session.duration() + 1_000;
            }
            watcher.check_alignment();
            let offered = packager.snapshot().renditions.iter().filter(|r| r.playlist.is_some());
            let last = offered.map(|r| r.segments.back().map(|s| s.msn)).collect::<Vec<_>>();
            prop_assert!(last.iter().all(|l| *l == last[0] && l.is_some()));
        }
    }
}
