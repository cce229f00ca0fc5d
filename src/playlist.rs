//! The text of media playlists (RFC 8216bis, 4.4).
//!
//! The packager writes those of live channels with it, and the chronicle those of what was.
//!
//! Written here rather than by `m3u8-rs`, which leaves out sequence numbers that are 0, knows no `EXT-X-GAP`, and can
//! put nothing after the last segment.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{Msn, Part, Segment, SessionId};
use crate::media::{Container, MediaTime};

/// The version that a playlist of fragmented MP4 needs, and no higher: `EXT-X-MAP` outside an I-frame playlist
/// (RFC 8216bis, 8).
pub const VERSION: u32 = 6;

/// The same of transport streams: durations that are no whole seconds.
const TS_VERSION: u32 = 3;

/// What a media playlist tells besides its segments.
#[derive(Clone, Debug)]
pub struct MediaPlaylist<'a> {
    /// Whose it is.
    pub rendition: &'a RenditionName,
    /// What the segments are packed in.
    pub container: Container,
    /// `EXT-X-TARGETDURATION`, in seconds.
    pub target_duration_secs: u32,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub first: Msn,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
}

impl MediaPlaylist<'_> {
    /// The playlist that lists `segments`.
    #[must_use]
    pub fn write<'s>(&self, segments: impl Iterator<Item = &'s Segment>) -> String {
        let mut writer = Writer::new(self.rendition, self.container);
        writer.begin(self, self.version(), |_| ());
        for segment in segments {
            writer.segment(&segment.into(), &[]);
        }
        writer.end(self.ended)
    }

    /// The version that its tags need, where it has no others than those of [`MediaPlaylist::write`].
    #[must_use]
    pub fn version(&self) -> u32 {
        if self.container == Container::Ts { TS_VERSION } else { VERSION }
    }
}

/// A segment as a playlist lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its number.
    pub msn: Msn,
    /// The run that it belongs to.
    pub session: SessionId,
    /// It does not go on from the one before.
    pub discontinuity: bool,
    /// Wall-clock time of its first picture.
    pub program_date_time: SystemTime,
    /// The time it covers.
    pub duration: MediaTime,
    /// There is no media.
    pub gap: bool,
}

impl From<&Segment> for Listing {
    fn from(segment: &Segment) -> Self {
        Self {
            msn: segment.msn,
            session: segment.session,
            discontinuity: segment.discontinuity,
            program_date_time: segment.program_date_time,
            duration: segment.duration,
            gap: segment.is_gap(),
        }
    }
}

/// Writes a media playlist tag by tag.
#[derive(Debug)]
pub struct Writer<'a> {
    text: String,
    rendition: &'a RenditionName,
    container: Container,
    /// Put before each URI.
    base: &'a str,
    /// The session whose initialisation segment holds so far.
    mapped: Option<SessionId>,
}

impl<'a> Writer<'a> {
    /// Of a playlist that stands in its rendition's directory.
    #[must_use]
    pub fn new(rendition: &'a RenditionName, container: Container) -> Self {
        Self::based("", rendition, container)
    }

    /// Of a playlist that stands elsewhere: `base` leads from there to its rendition's directory, and ends with a slash.
    #[must_use]
    pub fn based(base: &'a str, rendition: &'a RenditionName, container: Container) -> Self {
        Self { text: String::with_capacity(4096), rendition, container, base, mapped: None }
    }

    /// What was written so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whose playlist it is.
    #[must_use]
    pub fn rendition(&self) -> &RenditionName {
        self.rendition
    }

    /// The session whose initialisation segment holds so far.
    #[must_use]
    pub fn mapped(&self) -> Option<SessionId> {
        self.mapped
    }

    /// The initialisation segment of this session holds already.
    pub fn set_mapped(&mut self, mapped: Option<SessionId>) {
        self.mapped = mapped;
    }

    /// Adds lines, behind which the initialisation segment of this session holds.
    pub fn append(&mut self, lines: &str, mapped: Option<SessionId>) {
        self.text.push_str(lines);
        self.mapped = mapped.or(self.mapped);
    }

    /// Adds a line.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing into memory cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// What stands before the first segment; `control` adds what a server that offers parts says of itself.
    pub fn begin(&mut self, playlist: &MediaPlaylist<'_>, version: u32, control: impl FnOnce(&mut Self)) {
        self.line(format_args!("#EXTM3U"));
        self.line(format_args!("#EXT-X-VERSION:{version}"));
        self.line(format_args!("#EXT-X-TARGETDURATION:{}", playlist.target_duration_secs));
        control(self);
        self.line(format_args!("#EXT-X-MEDIA-SEQUENCE:{}", playlist.first));
        // Always, as a discontinuity may come at any time (Apple's authoring specification, 8.17).
        self.line(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", playlist.discontinuity_sequence));
        self.line(format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    }

    /// A whole segment, and before it the parts that are to be told.
    pub fn segment(&mut self, segment: &Listing, parts: &[Part]) {
        // A rendition without media in a run has no initialisation segment there: a gap names none. A transport stream has
        // its tables in itself.
        let needs = (!segment.gap && self.container == Container::Cmaf).then_some(segment.session);
        self.opening(segment.discontinuity, needs, segment.program_date_time);
        self.parts(segment.session, segment.msn, parts);
        if segment.gap {
            self.line(format_args!("#EXT-X-GAP"));
        }
        self.line(format_args!("#EXTINF:{:.6},", segment.duration.as_secs_f64()));
        let resource = Resource::segment(self.container, self.rendition.clone(), segment.session, segment.msn);
        let base = self.base;
        self.line(format_args!("{base}{}", resource.below_rendition()));
    }

    /// The tags that hold for a segment and stand before its first part (RFC 8216bis, 4.4.4.9).
    pub fn opening(&mut self, discontinuity: bool, needs: Option<SessionId>, date: SystemTime) {
        if discontinuity {
            self.line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        if let Some(session) = needs.filter(|session| self.mapped != Some(*session)) {
            self.mapped = Some(session);
            let init = Resource::Init(self.rendition.clone(), session);
            let base = self.base;
            self.line(format_args!("#EXT-X-MAP:URI=\"{base}{}\"", init.below_rendition()));
        }
        self.line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", iso_date(date)));
    }

    /// The parts of a segment.
    pub fn parts(&mut self, session: SessionId, msn: Msn, parts: &[Part]) {
        for (part, index) in parts.iter().zip(0..) {
            let uri = Resource::Part(self.rendition.clone(), session, msn, index).below_rendition();
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let gap = if part.gap { ",GAP=YES" } else { "" };
            let duration = part.duration.as_secs_f64();
            self.line(format_args!("#EXT-X-PART:DURATION={duration:.6},URI=\"{uri}\"{independent}{gap}"));
        }
    }

    /// The text.
    #[must_use]
    pub fn end(mut self, ended: bool) -> String {
        if ended {
            self.line(format_args!("#EXT-X-ENDLIST"));
        }
        self.text
    }
}

/// ISO 8601, UTC, to the millisecond.
fn iso_date(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
