//! The packager of a channel as a state machine: ladder events in, snapshots and facts out. No clock, no tasks.

use std::sync::Arc;
use std::time::SystemTime;

use super::cuts::Cuts;
use super::fact::Fact;
use super::lane::{Lane, Programme, rounded_secs};
use super::multivariant;
use super::run::{Run, session_after};
use super::sound::{Placed, Sound};
use super::text;
use crate::config::HlsConfig;
use crate::ladder::{LadderEvent, RenditionIndex, RenditionKind, RenditionSpec, RunStart};
use crate::live::{ChannelSnapshot, Msn, Playlist, SessionId};
use crate::media::{AccessUnit, MediaTime, TrackFormat};

/// The state machine; see the module.
///
/// For each event: call [`Packager::handle`], then publish [`Packager::snapshot`] if it is another one than before.
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
    target_secs: u32,
    snapshot: Arc<ChannelSnapshot>,
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
            units_dropped: 0,
            next: Msn(1),
            last_session: SessionId(0),
            discontinuity_sequence: 0,
            edge: MediaTime::ZERO,
            edge_date: None,
            multivariant: None,
            ended: false,
            target_secs: 0,
            snapshot: Arc::default(),
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
            LadderEvent::Start(start) => self.start(start, now, &mut facts),
            LadderEvent::Format(rendition, format) => self.format(rendition, &format, &mut facts),
            LadderEvent::Unit { rendition, unit, cut } => self.unit(rendition, unit, cut, &mut facts),
            LadderEvent::Stop => self.stop(&mut facts),
            LadderEvent::Finish => self.finish(&mut facts),
        }
        if facts.iter().any(|fact| matches!(fact, Fact::Segment { .. })) {
            self.reach_edge();
        }
        self.publish(now);
        facts
    }

    fn start(&mut self, start: RunStart, now: SystemTime, facts: &mut Vec<Fact>) {
        self.stop(facts);
        if self.programme.is_some() && !self.continues(&start) {
            facts.push(Fact::ProgrammeCut);
            self.finish(facts);
            self.publish(now);
        }
        if self.programme.is_none() {
            self.begin_programme(&start);
        }
        let first = self.programme.unwrap_or(self.next);
        let session = session_after(self.last_session, start.wall_clock);
        self.last_session = session;
        for (lane, spec) in self.lanes.iter_mut().zip(&start.renditions) {
            lane.begin_run(spec);
        }
        self.run = Some(Run {
            session,
            first: self.next,
            seam: self.next > first,
            start: start.start,
            // `EXT-X-PROGRAM-DATE-TIME` never says two things of one moment, even where the clock was set back.
            wall_clock: self.edge_date.map_or(start.wall_clock, |edge| edge.max(start.wall_clock)),
            target_duration: start.target_duration,
            cuts: Cuts::default(),
            edge: self.edge,
        });
        facts.push(Fact::RunStarted { session, first: self.next });
    }

    /// `start` may be a further run of the open programme: what is latched stays (law 7).
    fn continues(&self, start: &RunStart) -> bool {
        let same = self.lanes.len() == start.renditions.len()
            && self.lanes.iter().zip(&start.renditions).all(|(lane, spec)| lane.is(spec));
        same && target_secs(start.target_duration) <= self.target_secs
    }

    fn begin_programme(&mut self, start: &RunStart) {
        self.target_secs = target_secs(start.target_duration);
        self.ended = false;
        self.multivariant = None;
        let programme = Programme {
            target_secs: self.target_secs,
            first: self.next,
            discontinuity_sequence: self.discontinuity_sequence,
        };
        let mut known = std::mem::take(&mut self.lanes);
        known.append(&mut self.retired);
        for spec in &start.renditions {
            let position = known.iter().position(|lane| lane.is(spec));
            let mut lane = position.map_or_else(|| Lane::new(spec.clone(), self.hls), |p| known.swap_remove(p));
            lane.begin_programme(spec, programme, self.edge);
            self.lanes.push(lane);
        }
        known.retain(|lane| start.renditions.iter().all(|spec| spec.name != *lane.name()));
        known.iter_mut().for_each(|lane| lane.leave(self.next, self.edge));
        self.retired = known;
        self.programme = Some(self.next);
        self.order = order(&start.renditions);
    }

    fn format(&mut self, rendition: RenditionIndex, format: &TrackFormat, facts: &mut Vec<Fact>) {
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
        let (Some(run), Some(lane)) = (&mut self.run, self.lanes.get_mut(rendition)) else {
            self.units_dropped += 1;
            return;
        };
        if lane.kind() == RenditionKind::Audio {
            self.sound.push(unit);
        } else {
            run.cuts.see(&unit, cut);
            let taken = lane.place(cut).is_some_and(|number| lane.push(number, unit, run, facts));
            self.units_dropped += u64::from(!taken);
        }
        while let Some(placed) = self.run.as_ref().and_then(|run| self.sound.next(&run.cuts)) {
            self.place_sound(placed, facts);
        }
    }

    fn place_sound(&mut self, placed: Placed, facts: &mut Vec<Fact>) {
        let lane = self.lanes.iter_mut().find(|lane| lane.kind() == RenditionKind::Audio);
        let taken = match (placed, lane, &self.run) {
            (Placed::In(number, unit), Some(lane), Some(run)) => lane.push(number, unit, run, facts),
            _ => false,
        };
        self.units_dropped += u64::from(!taken);
    }

    /// Ends the run that is open: all renditions get segments up to the same number.
    fn stop(&mut self, facts: &mut Vec<Fact>) {
        let segment_max = MediaTime::from_millis(i64::from(self.target_secs) * 1_000 + ROUNDING_MILLIS);
        while let Some(placed) = self.run.as_ref().and_then(|run| self.sound.next_last(&run.cuts, segment_max)) {
            self.place_sound(placed, facts);
        }
        let Some(mut run) = self.run.take() else { return };
        for lane in &mut self.lanes {
            lane.finish_run(&run, facts);
        }
        self.reach_edge();
        run.edge = self.edge;
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
            self.edge_date = self.edge_date.max(last.program_date_time.checked_add(last.duration.to_duration()));
        }
        self.retired.retain_mut(|lane| !lane.expire(self.edge));
    }

    /// Brings playlists and snapshots up to date.
    fn publish(&mut self, now: SystemTime) {
        for lane in &mut self.lanes {
            lane.render(self.ended, now);
        }
        let mut changed = self.render_multivariant(now);
        for lane in &mut self.lanes {
            changed |= lane.update_snapshot(self.run.as_ref());
        }
        for lane in &mut self.retired {
            changed |= lane.update_snapshot(None);
        }
        if changed {
            self.snapshot = Arc::new(self.assemble());
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

/// What may be added to the target duration before it rounds to the next second, less a frame.
const ROUNDING_MILLIS: i64 = 450;

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
