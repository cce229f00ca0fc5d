//! What an audit wants fetched, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use url::Url;

use super::super::playlist::{Hint, Map, Part, Segment};

/// Something to fetch.
#[derive(Clone, Debug)]
pub struct Job {
    /// What for.
    pub what: What,
    /// From where.
    pub url: Url,
    /// Which bytes: the first, and how many.
    pub range: Option<(u64, u64)>,
    /// Not before so long from now.
    pub wait: Duration,
    /// How long it may take.
    pub patience: Duration,
}

/// What something is fetched for.
#[derive(Clone, Debug)]
pub enum What {
    /// What the audit is about.
    Start,
    /// A media playlist.
    Playlist {
        /// Of which track.
        track: usize,
        /// In which way.
        ask: Ask,
    },
    /// An initialisation section.
    Init {
        /// Of which track.
        track: usize,
        /// Which.
        map: Arc<Map>,
    },
    /// A segment.
    Segment {
        /// Of which track.
        track: usize,
        /// As it was listed.
        segment: Arc<Segment>,
    },
    /// A part.
    Part {
        /// Of which track.
        track: usize,
        /// Of which segment.
        msn: u64,
        /// Which of that.
        index: usize,
        /// As it was listed.
        part: Arc<Part>,
    },
    /// What a hint names.
    Hint {
        /// Of which track.
        track: usize,
        /// The hint.
        hint: Arc<Hint>,
    },
    /// What nobody has named.
    Absent {
        /// Of which track.
        track: usize,
    },
}

/// How a media playlist is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Without directives.
    Plain,
    /// Once this is in it.
    Blocking {
        /// The segment.
        msn: u64,
        /// The part of it, counted from 0.
        part: Option<u64>,
    },
    /// As a delta update.
    Delta,
    /// For a part of no segment.
    PartAlone,
    /// For a segment that is far off.
    Future,
    /// For a segment that is there.
    Old,
    /// For the part after the last of this segment.
    Rollover {
        /// The segment, which is complete.
        msn: u64,
    },
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("no directive"),
            Self::Blocking { msn, part: Some(part) } => write!(f, "_HLS_msn={msn}&_HLS_part={part}"),
            Self::Blocking { msn, part: None } => write!(f, "_HLS_msn={msn}"),
            Self::Delta => f.write_str("_HLS_skip=YES"),
            Self::PartAlone => f.write_str("_HLS_part=0 alone"),
            Self::Future => f.write_str("_HLS_msn of ten segments ahead"),
            Self::Old => f.write_str("_HLS_msn of the first segment"),
            Self::Rollover { msn } => write!(f, "_HLS_msn={msn} with the part after its last"),
        }
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// By which version of HTTP it came.
    pub version: Version,
    /// Its body, decoded.
    pub body: Bytes,
    /// Another place had to be asked, which was this one in the end.
    pub redirected: Option<Url>,
    /// When it was asked for, on the audit's clock.
    pub sent: Duration,
    /// When its head was there.
    pub head: Duration,
    /// When the last of it was there.
    pub received: Duration,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not come in time.
    Timeout,
    /// Something else, in words.
    Other(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What came of a job.
pub type Outcome = Result<Fetched, Failure>;
