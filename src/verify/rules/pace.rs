//! Whether segments and parts come in time (6.2.1), as far as someone who only reads playlists can tell.
//!
//! Of each thing one knows until when it was certainly not there, and from when it was. What is held against the server
//! is the shortest time that agrees with both, so that neither slow reading nor a slow network count against it.

use std::time::Duration;

use super::super::finding::Findings;
use super::super::playlist::MediaPlaylist;
use super::super::rule::Rule;

/// When a version of a playlist was asked for and came, on the reader's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// It was asked for.
    pub sent: Duration,
    /// It was there.
    pub received: Duration,
    /// The server held the answer back until there was something new.
    pub blocked: bool,
    /// How long the network takes for a question and its answer.
    pub round_trip: Duration,
    /// How old the answer was, where a cache gave it.
    pub age: Duration,
}

/// Follows one playlist.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    segment: Awaited,
    part: Awaited,
}

/// Something that has to come again and again.
#[derive(Clone, Debug, Default)]
struct Awaited {
    /// The last one, and when it was first seen; none before anything is known of when it came.
    last: Option<(Option<(u64, usize)>, Duration)>,
    /// It was still not there.
    absent_until: Option<Duration>,
    /// The first one seen may be of any age.
    dated: bool,
}

impl Awaited {
    /// Sees how far the playlist has come. Where that is further than before, gives the shortest time that it can have
    /// taken since the one before.
    fn see(&mut self, position: Option<(u64, usize)>, seen: Sighting) -> Option<Duration> {
        let Some((last, since)) = self.last else {
            self.last = Some((position, seen.received));
            return None;
        };
        if position <= last {
            // The answer may have been made any time between; it is as old as it says on top.
            self.absent_until = Some(seen.sent.saturating_sub(seen.age));
            return None;
        }
        if seen.blocked {
            self.absent_until = Some(seen.received.saturating_sub(seen.round_trip));
        }
        let took = self.absent_until.take().map(|absent| absent.saturating_sub(since));
        let was_dated = std::mem::replace(&mut self.dated, true);
        self.last = Some((position, seen.received));
        took.filter(|_| was_dated)
    }
}

impl Awaited {
    /// The shortest time since the last one.
    fn waited(&self) -> Option<Duration> {
        Some(self.absent_until?.saturating_sub(self.last?.1))
    }
}

impl Pace {
    /// The reading ends: what has not come by now, and is late already, will not be seen to come.
    pub fn finish(&mut self, playlist: &MediaPlaylist, findings: &mut Findings) {
        let target = playlist.target();
        if playlist.ended {
            return;
        }
        if let Some(took) = self.segment.waited().filter(|took| *took > target.mul_f64(1.5)) {
            let seen = format!("{took:?} without one, where the target duration is {target:?}");
            findings.add(Rule::SegmentLate, None, seen);
        }
    }

    /// Sees the next version of the playlist.
    pub fn see(&mut self, playlist: &MediaPlaylist, seen: Sighting, findings: &mut Findings) {
        let target = playlist.target();
        let last = playlist.segments.last().map(|segment| (segment.msn, 0));
        if let Some(took) = self.segment.see(last, seen)
            && !playlist.ended
            && took > target.mul_f64(1.5)
        {
            let line = playlist.segments.last().map(|segment| segment.line);
            findings.add(Rule::SegmentLate, line, format!("{took:?} where the target duration is {target:?}"));
        }
        let Some((part_target, _)) = playlist.part_target else { return };
        let last = playlist.parts().next_back().map(|(msn, index, _)| (msn, index));
        if let Some(took) = self.part.see(last, seen)
            && !playlist.ended
            && took > part_target.mul_f64(1.5)
        {
            let line = playlist.parts().next_back().map(|(.., part)| part.line);
            findings.add(Rule::PartLate, line, format!("{took:?} where PART-TARGET is {part_target:?}"));
        }
    }
}
