//! One run: the numbers and dates that all its renditions share.

use std::time::{Duration, SystemTime};

use super::cuts::Cuts;
use crate::live::{Media, Msn, Segment, SessionId};
use crate::media::MediaTime;

/// A run; see the module.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) session: SessionId,
    /// The number of its first segment.
    pub(super) first: Msn,
    /// The programme has segments of an earlier run.
    pub(super) seam: bool,
    /// When its first picture is shown.
    pub(super) start: MediaTime,
    /// Wall-clock time of `start`; not before the end of the run before.
    pub(super) wall_clock: SystemTime,
    /// No segment is longer.
    pub(super) target_duration: MediaTime,
    pub(super) cuts: Cuts,
    /// The latest media time of the channel.
    pub(super) edge: MediaTime,
}

impl Run {
    /// The media sequence number of segment `number` of the run: the same in all renditions.
    pub(super) fn msn(&self, number: u64) -> Msn {
        Msn(self.first.0.saturating_add(number))
    }

    /// Segment `number` is the first after a seam.
    pub(super) fn discontinuity(&self, number: u64) -> bool {
        self.seam && number == 0
    }

    /// The wall-clock time at which what is shown at `pts` was shown.
    pub(super) fn date(&self, pts: MediaTime) -> SystemTime {
        let shift = pts - self.start;
        let date = if shift < MediaTime::ZERO {
            self.wall_clock.checked_sub((-shift).to_duration())
        } else {
            self.wall_clock.checked_add(shift.to_duration())
        };
        date.unwrap_or(self.wall_clock)
    }

    /// What was shown at `date` is shown at this time.
    pub(super) fn shown(&self, date: SystemTime) -> MediaTime {
        match date.duration_since(self.wall_clock) {
            Ok(behind) => self.start + behind.into(),
            Err(before) => self.start - before.duration().into(),
        }
    }

    /// A segment for a rendition that has no media in segment `number` (RFC 8216bis, 6.2.1).
    pub(super) fn gap(&self, number: u64) -> Segment {
        let start = self.cuts.start(number).unwrap_or(self.start);
        Segment {
            msn: self.msn(number),
            session: self.session,
            discontinuity: self.discontinuity(number),
            start,
            duration: self.gap_duration(number, start),
            program_date_time: self.date(start),
            media: Media::Gap,
        }
    }

    /// To the next cut; for the last of the run, to where its media ends.
    fn gap_duration(&self, number: u64, start: MediaTime) -> MediaTime {
        let end = self.cuts.start(number.saturating_add(1)).unwrap_or(self.edge);
        let known = (end - start).min(self.target_duration);
        if known > MediaTime::ZERO { known } else { self.target_duration }
    }
}

/// The session of a run that begins at `wall_clock`, later than any before.
pub(super) fn session_after(last: SessionId, wall_clock: SystemTime) -> SessionId {
    let since = wall_clock.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    SessionId(millis.max(last.0.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_strictly_increase() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000);
        assert_eq!(session_after(SessionId(0), time), SessionId(1_000));
        assert_eq!(session_after(SessionId(1_000), time), SessionId(1_001));
        assert_eq!(session_after(SessionId(5_000), time), SessionId(5_001));
    }
}
