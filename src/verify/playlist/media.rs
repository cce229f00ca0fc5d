//! Media playlists: segments, parts, and what is said of them (4.4.3 to 4.4.5).

use std::sync::Arc;
use std::time::Duration;

use super::value::{ByteRange, Date};

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaPlaylist {
    /// `EXT-X-VERSION`, and its line.
    pub version: Option<(u64, u32)>,
    /// The lowest version that allows what is in it, what that is, and its line (8).
    pub needs: (u64, &'static str, u32),
    /// `EXT-X-TARGETDURATION`, and its line.
    pub target: Option<(Duration, u32)>,
    /// `EXT-X-MEDIA-SEQUENCE`; 0 where it is not there.
    pub media_sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: Option<u64>,
    /// `EXT-X-PLAYLIST-TYPE`.
    pub playlist_type: Option<PlaylistType>,
    /// `EXT-X-I-FRAMES-ONLY`.
    pub i_frames_only: bool,
    /// `EXT-X-INDEPENDENT-SEGMENTS`, by its line.
    pub independent_segments: Option<u32>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
    /// `EXT-X-START`.
    pub start: Option<Start>,
    /// `PART-TARGET`, and its line.
    pub part_target: Option<(Duration, u32)>,
    /// `EXT-X-SERVER-CONTROL`.
    pub control: Option<Control>,
    /// `EXT-X-SKIP`.
    pub skip: Option<Skip>,
    /// Those that are listed, oldest first.
    pub segments: Vec<Segment>,
    /// What is listed of the segment that is being made.
    pub open: Option<Open>,
    /// `EXT-X-PRELOAD-HINT`, of known types.
    pub hints: Vec<Hint>,
    /// `EXT-X-RENDITION-REPORT`.
    pub reports: Vec<RenditionReport>,
}

/// What may still change of a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistType {
    /// Segments are added only.
    Event,
    /// Nothing.
    Vod,
}

/// `EXT-X-START`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its line.
    pub line: u32,
    /// Counted from the end.
    pub from_end: bool,
    /// So far from the beginning, or the end.
    pub offset: Duration,
}

/// `EXT-X-SERVER-CONTROL`.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Its line.
    pub line: u32,
    /// `CAN-SKIP-UNTIL`.
    pub can_skip_until: Option<Duration>,
    /// `CAN-SKIP-DATERANGES`.
    pub can_skip_dateranges: bool,
    /// `HOLD-BACK`.
    pub hold_back: Option<Duration>,
    /// `PART-HOLD-BACK`.
    pub part_hold_back: Option<Duration>,
    /// `CAN-BLOCK-RELOAD`.
    pub can_block_reload: bool,
}

impl PartialEq for Control {
    /// Wherever it stands.
    fn eq(&self, other: &Self) -> bool {
        let values =
            |c: &Self| (c.can_skip_until, c.can_skip_dateranges, c.hold_back, c.part_hold_back, c.can_block_reload);
        values(self) == values(other)
    }
}

/// `EXT-X-SKIP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Its line.
    pub line: u32,
    /// How many segments it stands for.
    pub segments: u64,
}

/// `EXT-X-MAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Whose resource, as it is written.
    pub uri: String,
    /// What of it.
    pub byte_range: Option<ByteRange>,
}

/// A segment that is complete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// The line of its URI.
    pub line: u32,
    /// Its media sequence number.
    pub msn: u64,
    /// As it is written.
    pub uri: String,
    /// `EXTINF`.
    pub duration: Duration,
    /// What of the resource it is.
    pub byte_range: Option<ByteRange>,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// There is no media.
    pub gap: bool,
    /// `EXT-X-PROGRAM-DATE-TIME`.
    pub date: Option<Date>,
    /// What it needs to be read.
    pub map: Option<Arc<Map>>,
    /// The `EXT-X-KEY` that applies to it; none where it is not encrypted.
    pub key: Option<Arc<str>>,
    /// Its parts, where they are listed.
    pub parts: Vec<Part>,
}

/// What is listed of the segment that is being made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// The number that it will have.
    pub msn: u64,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// `EXT-X-PROGRAM-DATE-TIME`.
    pub date: Option<Date>,
    /// What its parts need to be read.
    pub map: Option<Arc<Map>>,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// `EXT-X-PART`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Its line.
    pub line: u32,
    /// As it is written.
    pub uri: String,
    /// `DURATION`.
    pub duration: Duration,
    /// `INDEPENDENT`.
    pub independent: bool,
    /// There is no media.
    pub gap: bool,
    /// What of the resource it is.
    pub byte_range: Option<ByteRange>,
}

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintType {
    /// A part.
    Part,
    /// A media initialisation section.
    Map,
}

/// `EXT-X-PRELOAD-HINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Its line.
    pub line: u32,
    /// `TYPE`.
    pub kind: HintType,
    /// As it is written.
    pub uri: String,
    /// `BYTERANGE-START`.
    pub start: Option<u64>,
    /// `BYTERANGE-LENGTH`.
    pub length: Option<u64>,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenditionReport {
    /// Its line.
    pub line: u32,
    /// As it is written.
    pub uri: String,
    /// `LAST-MSN`; where it is not there, it is that of the playlist with the report.
    pub last_msn: Option<u64>,
    /// `LAST-PART`; likewise.
    pub last_part: Option<u64>,
}

impl MediaPlaylist {
    /// All parts that are listed, with the numbers of their segments and in them.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = (u64, usize, &Part)> {
        fn numbered(msn: u64, parts: &[Part]) -> impl DoubleEndedIterator<Item = (u64, usize, &Part)> {
            parts.iter().enumerate().map(move |(index, part)| (msn, index, part))
        }
        let closed = self.segments.iter().flat_map(|s| numbered(s.msn, &s.parts));
        closed.chain(self.open.iter().flat_map(|open| numbered(open.msn, &open.parts)))
    }

    /// It is live, and lists parts or says how long they are.
    #[must_use]
    pub fn is_low_latency(&self) -> bool {
        self.part_target.is_some() || self.parts().next().is_some()
    }

    /// The number of the last segment, whether it is complete or has its first parts.
    #[must_use]
    pub fn last_msn(&self) -> Option<u64> {
        let open = self.open.as_ref().filter(|open| !open.parts.is_empty()).map(|open| open.msn);
        open.or_else(|| self.segments.last().map(|segment| segment.msn))
    }

    /// Where it ends: the last segment and how many parts of it are listed.
    #[must_use]
    pub fn position(&self) -> Option<(u64, usize)> {
        let open = self.open.as_ref().filter(|open| !open.parts.is_empty());
        let last = self.segments.last();
        open.map(|open| (open.msn, open.parts.len())).or_else(|| last.map(|last| (last.msn, last.parts.len())))
    }

    /// The time that the segments cover; of those that are listed.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.segments.iter().fold(Duration::ZERO, |sum, segment| sum.saturating_add(segment.duration))
    }

    /// The segments with their discontinuity sequence numbers. Of use where nothing was skipped.
    pub fn discontinuities(&self) -> impl Iterator<Item = (&Segment, u64)> {
        let mut number = self.discontinuity_sequence.unwrap_or_default();
        self.segments.iter().map(move |segment| {
            number = number.saturating_add(u64::from(segment.discontinuity));
            (segment, number)
        })
    }

    /// The segment of this number.
    #[must_use]
    pub fn segment(&self, msn: u64) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&msn, |segment| segment.msn).ok()?;
        self.segments.get(at)
    }

    /// The parts of the segment of this number, complete or not.
    #[must_use]
    pub fn parts_of(&self, msn: u64) -> Option<&[Part]> {
        let open = self.open.as_ref().filter(|open| open.msn == msn).map(|open| open.parts.as_slice());
        open.or_else(|| self.segment(msn).map(|segment| segment.parts.as_slice()))
    }

    /// The target duration, 0 where there is none.
    #[must_use]
    pub fn target(&self) -> Duration {
        self.target.map_or(Duration::ZERO, |(target, _)| target)
    }

    pub(super) fn needs(&mut self, version: u64, what: &'static str, line: u32) {
        if version > self.needs.0 {
            self.needs = (version, what, line);
        }
    }
}
