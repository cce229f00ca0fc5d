//! One MP4 that plays while it is being fetched, out of CMAF segments: `ftyp`, `moov` with the sample tables, and then the samples
//! as they were encoded.
//!
//! [`scan()`] reads where a segment's samples are, a [`Track`] takes what was scanned in order, and a [`Movie`] is the file: its
//! head in memory, and of which ranges of which segments the rest is made. That is pure, and the same segments always give the
//! same bytes, so that a range of them can be asked for at any time. [`Downloads`] is the driver: it reads segments from an
//! archive, once for the head and once to be sent. It knows nothing of HTTP.

mod contents;
mod download;
mod head;
mod init;
mod movie;
mod scan;
mod survey;
#[cfg(test)]
mod tests;
mod track;

use crate::media::MediaTime;

pub use contents::Contents;
pub use download::{Download, Downloads, Fault, Reader};
pub use init::{Init, Kind};
pub use movie::{Movie, Part};
pub use scan::{Scan, scan};
pub use track::{Placed, Track};

/// Why segments do not make a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Something is not what the packager writes.
    #[error("a segment cannot be read: {0}")]
    Unreadable(String),
    /// MPEG-TS.
    #[error("the segments are MPEG-TS, which no MP4 can be made of; hls.container = \"cmaf\" makes those that can")]
    MpegTs,
    /// The sessions of a track are not of one kind and codec, which no player follows within a track.
    #[error("a track changes from {0} to {1}, which no MP4 player follows; fetch the part before or after")]
    Changes(String, String),
    /// The sessions' clocks have no common one that a file could hold.
    #[error("the sample rates of the sessions of a track do not go into one file; fetch the part before or after")]
    Timescales,
    /// A segment begins before the one before it has ended.
    #[error("a segment begins {0:?} before the one before it has ended")]
    Overlap(MediaTime),
    /// More is missing between two segments than a field can hold.
    #[error("{0:?} are missing between two segments, more than a file can hold; fetch the part before or after")]
    Hole(MediaTime),
    /// There are more samples than a head in memory may have.
    #[error("it is too long for one file; fetch it in parts")]
    TooLong,
    /// There are no samples.
    #[error("there is nothing in it")]
    Empty,
}

impl Unfit {
    fn unreadable(why: impl std::fmt::Display) -> Self {
        Self::Unreadable(why.to_string())
    }
}
