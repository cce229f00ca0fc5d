//! What the packager has to tell besides its snapshots: for logs and metrics.

use crate::ladder::RenditionName;
use crate::live::{Msn, SessionId};
use crate::media::MediaTime;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A run began.
    RunStarted {
        /// Its directory.
        session: SessionId,
        /// The number of its first segment.
        first: Msn,
    },
    /// A programme ended early, because the run that begins has other renditions or a longer target duration.
    ProgrammeCut,
    /// A rendition has no media in this run, because its format cannot be shown.
    BadFormat {
        /// Whose.
        rendition: RenditionName,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment was completed.
    Segment {
        /// Whose.
        rendition: RenditionName,
        /// Its number.
        msn: Msn,
        /// The time it covers.
        duration: MediaTime,
        /// Its size; 0 for a gap.
        bytes: usize,
        /// It stands for missing media.
        gap: bool,
        /// It is longer than `EXT-X-TARGETDURATION` allows: a cut was missing in the rendition.
        too_long: bool,
    },
    /// A segment was not in the store for so long that memory has no room for it any more: it is a gap from here on.
    NotStored {
        /// Whose.
        rendition: RenditionName,
        /// Its number.
        msn: Msn,
    },
    /// A run ended.
    RunStopped {
        /// Its directory.
        session: SessionId,
        /// Units that belonged to no segment: before the first cut, after the last, or without a format or a run.
        units_dropped: u64,
    },
    /// The programme ended.
    Finished,
}
