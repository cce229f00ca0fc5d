//! What the transcoder hands to the packager: the renditions of a run, and their access units.
//!
//! A *run* is a stretch of media with one source format and one set of decisions: a publish session is
//! one run, or several where the source changes in mid-stream. Cut points are decided once, before the
//! renditions part ways, and travel with the units.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::media::{AccessUnit, MediaTime, TrackFormat};
use crate::source::{InvalidName, is_name};

/// A rendition's name within its channel, a part of its URLs. The grammar is that of channel names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RenditionName(String);

impl RenditionName {
    /// Checks `name` against the grammar.
    ///
    /// # Errors
    /// [`InvalidName`] where it does not fit.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if is_name(name) { Ok(Self(name.to_owned())) } else { Err(InvalidName(name.to_owned())) }
    }

    /// The name of the one audio rendition of every channel.
    #[must_use]
    pub fn audio() -> Self {
        Self("audio".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RenditionName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<RenditionName> for String {
    fn from(name: RenditionName) -> Self {
        name.0
    }
}

impl std::fmt::Display for RenditionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rendition carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RenditionKind {
    /// A picture.
    Video,
    /// The sound, shared by all video renditions.
    Audio,
}

/// A rendition as it is known before its first unit.
#[derive(Clone, Debug, PartialEq)]
pub struct RenditionSpec {
    /// Its name.
    pub name: RenditionName,
    /// What it carries.
    pub kind: RenditionKind,
    /// Mean bits a second that its media is expected to have, without container overhead.
    pub bitrate_average: u64,
    /// Bits a second that no segment is expected to exceed, without container overhead.
    pub bitrate_peak: u64,
    /// Frames a second as measured at the source, for video; what `FRAME-RATE` shows.
    pub frame_rate: Option<f64>,
}

/// A run begins: what it will carry. The renditions of a channel's programme are latched by its first run;
/// a later run of the same programme has the same names in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// When the run's first picture is shown, on the channel's timeline.
    pub start: MediaTime,
    /// Wall-clock time of `start`, for `EXT-X-PROGRAM-DATE-TIME`.
    pub wall_clock: SystemTime,
    /// No segment of the run is longer than this; `EXT-X-TARGETDURATION` is its rounding.
    pub target_duration: MediaTime,
    /// Video renditions, best first, and last the audio.
    pub renditions: Vec<RenditionSpec>,
}

/// The position of a rendition in [`RunStart::renditions`].
pub type RenditionIndex = usize;

/// What flows from the transcoder into the packager of one channel. Units of one rendition arrive in
/// decoding order; those of different renditions interleave as they are ready.
#[derive(Clone, Debug)]
pub enum LadderEvent {
    /// A run begins. Everything until [`LadderEvent::Stop`] belongs to it.
    Start(RunStart),
    /// A rendition's format; before its first unit, once a run.
    Format(RenditionIndex, TrackFormat),
    /// One frame of a rendition.
    Unit {
        /// Whose.
        rendition: RenditionIndex,
        /// The frame.
        unit: AccessUnit,
        /// On a video unit that begins a segment: which of the run, counted from 0 without holes. The same
        /// number stands on the unit with the same pts of every other video rendition, which is an IDR in all.
        /// Audio carries none: it is cut at the first frame at or after the cut's pts.
        cut: Option<u64>,
    },
    /// A video rendition has no more units for segments of the run before this one: those that it lacks are gaps, each as soon
    /// as the next has begun in another rendition. It may never be told of a rendition that is only slow.
    Gap {
        /// Whose.
        rendition: RenditionIndex,
        /// The number of the first segment that it may still have, as on the cuts; the largest of all where it has no media
        /// in the run.
        until: u64,
    },
    /// The run is over: what is open is to be finished. The programme goes on if another run starts.
    Stop,
    /// The programme is over: `EXT-X-ENDLIST`. A later run begins a new programme.
    Finish,
}
