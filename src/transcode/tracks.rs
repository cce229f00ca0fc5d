//! Tracks of one encoder: pictures that need no encoding, laid beside each other.
//!
//! An encoder that sends its own ladder (OBS Multitrack Video) gives several pictures of one scene over one connection.
//! Five sentences say what becomes of them:
//!
//! 1. The *reference* is the tallest that every player can show. It is what a single picture would be: it alone decides where
//!    segments begin, it is what is decoded where something must be encoded, and it never waits for another.
//! 2. The others *follow*. Which of them are passed on is decided once, at the end of the probe: those that had begun by then,
//!    that players can show, and whose IDRs fall on the reference's.
//! 3. A follower's IDR within half a frame of a cut is the cut's picture: it gets the cut's number and its time. (Encoders round dts and
//!    composition offset to milliseconds one by one, so that one picture has times 1 ms apart.)
//! 4. A follower that is ahead waits for the reference. One that is behind is waited for by nobody: its segments are complete later.
//! 5. A follower without an IDR at a cut, or without anything until [`LATE_MAX`] after it, has a gap there, and goes on at the next
//!    cut at which it has an IDR.
//!
//! Pure: what comes out follows from the order of what comes in.

use std::collections::{BTreeMap, VecDeque};

use crate::media::{AccessUnit, MediaTime};

use super::cuts::Cut;

/// How far behind the reference a follower's IDR may be at a cut: more than a slower encoder is behind, less than a segment.
pub(super) const LATE_MAX: MediaTime = MediaTime::from_millis(3000);

/// Followers that go on for this long without the reference show that it is gone.
const REFERENCE_SILENCE: MediaTime = MediaTime::from_millis(5000);

/// Bytes of all followers that may wait for the reference, and pictures of each. A follower with more starts afresh.
const WAITING_BYTES_MAX: usize = 64 << 20;
const WAITING_UNITS_MAX: usize = 4096;

/// Cuts that are remembered: more than come within [`LATE_MAX`].
const CUTS_MAX: usize = 64;

/// What a follower gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// A picture of this track. A cut only on the cut's picture.
    Unit(u8, AccessUnit, Option<Cut>),
    /// Of segments before this one the track has nothing more to give.
    Gap(u8, u64),
}

/// The pictures beside the reference, in one run.
#[derive(Debug)]
pub(super) struct Followers {
    timeline: Timeline,
    tracks: BTreeMap<u8, Follower>,
}

/// The reference, as far as it has come.
#[derive(Debug)]
struct Timeline {
    half_frame: MediaTime,
    /// How far it is decoded.
    reached: Option<MediaTime>,
    last_key: Option<MediaTime>,
    cuts: VecDeque<Cut>,
    /// Pictures from here on belong to the next run.
    end: Option<MediaTime>,
}

#[derive(Debug, Default)]
struct Follower {
    passed: bool,
    waiting: VecDeque<AccessUnit>,
    /// Of what waits, and of what comes after.
    bytes: usize,
    /// The segment that its pictures go into; none where it waits for a cut.
    open: Option<u64>,
    /// The first segment that it may yet begin.
    next: u64,
    /// Segments before this one are begun, or told to be gaps.
    told: u64,
    /// How far it is decoded.
    decoded: Option<MediaTime>,
    /// Where it was when the reference was last heard of.
    alone_since: Option<MediaTime>,
    /// What comes now is of the next run: its format changed, or it has come to the run's end.
    left: bool,
    /// Pictures of the next run.
    after: Vec<AccessUnit>,
}

/// What is to be done with a follower's picture.
enum Verdict {
    Hold,
    Drop,
    Begin(Cut),
    Add,
    Leave,
}

impl Followers {
    /// Of a reference with frames of this length; the tracks of `passed` are passed on, others are let go.
    pub(super) fn new(frame: MediaTime, passed: impl Iterator<Item = u8>) -> Self {
        let half_frame = MediaTime::from_nanos(frame.as_nanos() / 2);
        let timeline = Timeline { half_frame, reached: None, last_key: None, cuts: VecDeque::new(), end: None };
        let tracks = passed.map(|track| (track, Follower { passed: true, ..Follower::default() })).collect();
        Self { timeline, tracks }
    }

    /// The reference gives a picture, with which a segment begins or not.
    pub(super) fn lead(&mut self, unit: &AccessUnit, cut: Option<Cut>) -> Vec<Followed> {
        self.timeline.lead(unit, cut);
        self.tracks.values_mut().for_each(|follower| follower.alone_since = None);
        self.advance()
    }

    /// A follower gives a picture.
    pub(super) fn push(&mut self, track: u8, unit: AccessUnit) -> Vec<Followed> {
        self.hold(track, unit);
        self.advance()
    }

    /// Takes a picture that waits for the reference in any case.
    pub(super) fn hold(&mut self, track: u8, unit: AccessUnit) {
        let bytes: usize = self.tracks.values().map(|follower| follower.bytes).sum();
        let follower = self.tracks.entry(track).or_default();
        let full = bytes.saturating_add(unit.data.len()) > WAITING_BYTES_MAX;
        if full || follower.waiting.len().max(follower.after.len()) >= WAITING_UNITS_MAX {
            follower.start_afresh();
        }
        follower.hold(unit);
    }

    /// The track's format changes: what comes now is of the next run. True where that matters to this one.
    pub(super) fn leave(&mut self, track: u8) -> bool {
        let Some(follower) = self.tracks.get_mut(&track).filter(|follower| follower.passed) else { return false };
        follower.left = true;
        true
    }

    /// Others have gone on for long without the reference.
    pub(super) fn is_reference_lost(&self) -> bool {
        let alone = |follower: &Follower| {
            let (since, last) = (follower.alone_since?, follower.waiting.back()?.dts);
            Some(last - since > REFERENCE_SILENCE)
        };
        self.tracks.values().any(|follower| alone(follower).unwrap_or(false))
    }

    /// The run ends at this time: gives out what came before it.
    pub(super) fn end(&mut self, at: MediaTime) -> Vec<Followed> {
        self.timeline.end = Some(at);
        self.advance()
    }

    /// A picture that comes after the end belongs to the run before it.
    pub(super) fn belongs(&self, track: u8, unit: &AccessUnit) -> bool {
        let late = self.tracks.get(&track).is_some_and(|follower| follower.open.is_some() && !follower.left);
        late && !self.timeline.is_over(unit)
    }

    /// Every follower has come to the run's end, or is not worth waiting for.
    pub(super) fn are_done(&self) -> bool {
        self.tracks.values().all(|follower| follower.left || follower.open.is_none())
    }

    /// What came for the next run, each track in decoding order.
    pub(super) fn take_after(&mut self) -> Vec<(u8, AccessUnit)> {
        let mut after = Vec::new();
        for (&track, follower) in &mut self.tracks {
            after.extend(follower.waiting.drain(..).chain(follower.after.drain(..)).map(|unit| (track, unit)));
            follower.bytes = 0;
        }
        after
    }

    fn advance(&mut self) -> Vec<Followed> {
        let mut out = Vec::new();
        for (&track, follower) in &mut self.tracks {
            follower.advance(track, &self.timeline, &mut out);
        }
        out
    }
}

impl Timeline {
    fn lead(&mut self, unit: &AccessUnit, cut: Option<Cut>) {
        self.reached = self.reached.max(Some(unit.dts));
        if unit.key {
            self.last_key = Some(unit.pts);
        }
        self.cuts.extend(cut);
        if self.cuts.len() > CUTS_MAX {
            self.cuts.pop_front();
        }
    }

    /// The reference has come as far.
    fn has_reached(&self, dts: MediaTime) -> bool {
        self.end.is_some() || self.reached.is_some_and(|reached| dts <= reached)
    }

    /// Whether a segment begins at `pts` is known: the IDR that it would begin with has come, or is past.
    fn is_decided(&self, pts: MediaTime) -> bool {
        self.has_reached(pts + self.half_frame) || self.last_key.is_some_and(|key| key + self.half_frame >= pts)
    }

    fn is_over(&self, unit: &AccessUnit) -> bool {
        self.end.is_some_and(|end| unit.pts + self.half_frame >= end)
    }

    fn cut_near(&self, pts: MediaTime) -> Option<Cut> {
        let near = |cut: &&Cut| cut.pts.max(pts) - cut.pts.min(pts) <= self.half_frame;
        self.cuts.iter().rev().find(near).copied()
    }

    /// The cut of this number, if it is known; of those that are forgotten, the first that is not.
    fn cut(&self, number: u64) -> Option<Cut> {
        self.cuts.iter().find(|cut| cut.number >= number).copied()
    }

    fn newest(&self) -> u64 {
        self.cuts.back().map_or(0, |cut| cut.number)
    }

    /// A follower that is decoded up to there can no longer begin a segment at this cut.
    fn is_missed(&self, cut: Cut, decoded: Option<MediaTime>) -> bool {
        let past = decoded.is_some_and(|decoded| decoded > cut.pts + self.half_frame);
        past || self.reached.is_some_and(|reached| reached >= cut.pts + LATE_MAX)
    }
}

impl Follower {
    fn hold(&mut self, unit: AccessUnit) {
        self.bytes = self.bytes.saturating_add(unit.data.len());
        if self.left {
            self.after.push(unit);
        } else {
            self.alone_since.get_or_insert(unit.dts);
            self.waiting.push_back(unit);
        }
    }

    /// Lets go of what waits: the next that counts is an IDR.
    fn start_afresh(&mut self) {
        self.waiting.clear();
        self.after.clear();
        (self.bytes, self.open) = (0, None);
    }

    fn advance(&mut self, track: u8, timeline: &Timeline, out: &mut Vec<Followed>) {
        while let Some(unit) = self.waiting.front() {
            let cut = match self.judge(unit, timeline) {
                Verdict::Hold => break,
                Verdict::Leave => {
                    self.leave();
                    break;
                }
                Verdict::Drop => {
                    self.open = None;
                    self.pop();
                    continue;
                }
                Verdict::Begin(cut) => Some(cut),
                Verdict::Add => None,
            };
            if let Some(unit) = self.pop() {
                out.push(self.place(track, unit, cut));
            }
        }
        self.give_up(timeline);
        out.extend(self.gap(timeline).map(|until| Followed::Gap(track, until)));
    }

    fn judge(&self, unit: &AccessUnit, timeline: &Timeline) -> Verdict {
        if timeline.is_over(unit) {
            return Verdict::Leave;
        }
        if !timeline.has_reached(unit.dts) {
            return Verdict::Hold;
        }
        if !self.passed {
            return Verdict::Drop;
        }
        if unit.key {
            match timeline.cut_near(unit.pts) {
                Some(cut) if cut.number >= self.next => return Verdict::Begin(cut),
                None if !timeline.is_decided(unit.pts) => return Verdict::Hold,
                _ => {}
            }
        }
        let fits = |open: u64| timeline.cut(open.saturating_add(1)).is_none_or(|next| unit.pts < next.pts);
        if self.open.is_some_and(fits) { Verdict::Add } else { Verdict::Drop }
    }

    /// It has come to the run's end: all that waits is of the next.
    fn leave(&mut self) {
        self.left = true;
        let waiting = std::mem::take(&mut self.waiting);
        self.after.splice(0..0, waiting);
    }

    fn pop(&mut self) -> Option<AccessUnit> {
        let unit = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(unit.data.len());
        self.decoded = self.decoded.max(Some(unit.dts));
        Some(unit)
    }

    fn place(&mut self, track: u8, unit: AccessUnit, cut: Option<Cut>) -> Followed {
        let Some(cut) = cut else { return Followed::Unit(track, unit, None) };
        self.open = Some(cut.number);
        self.next = cut.number.saturating_add(1);
        self.told = cut.number;
        Followed::Unit(track, AccessUnit { pts: cut.pts, ..unit }, Some(cut))
    }

    /// Segments whose cut it missed are gaps.
    fn give_up(&mut self, timeline: &Timeline) {
        while let Some(cut) =
            timeline.cut(self.next).filter(|&cut| self.passed && timeline.is_missed(cut, self.decoded))
        {
            self.open = None;
            self.next = cut.number.saturating_add(1);
        }
    }

    /// A gap can be told once the segment after it has begun.
    fn gap(&mut self, timeline: &Timeline) -> Option<u64> {
        let until = self.next.min(timeline.newest());
        let news = self.passed && self.open.is_none() && until > self.told;
        news.then(|| {
            self.told = until;
            until
        })
    }
}
