//! The text of media playlists (RFC 8216bis, 4.4).
//!
//! Written here rather than by `m3u8-rs`, which leaves out sequence numbers that are 0, knows no `EXT-X-GAP`, and can
//! put nothing after the last segment.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{Msn, Part, Segment, SessionId};
use crate::media::Container;

/// The version that a playlist of fragmented MP4 needs, and no higher: `EXT-X-MAP` outside an I-frame playlist
/// (RFC 8216bis, 8).
pub(super) const VERSION: u32 = 6;

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
        let version = if self.container == Container::Ts { TS_VERSION } else { VERSION };
        writer.begin(self, version, |_| ());
        for segment in segments {
            writer.segment(segment, &[]);
        }
        writer.end(self.ended)
    }
}

/// Writes a media playlist tag by tag.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    text: String,
    rendition: &'a RenditionName,
    container: Container,
    /// The session whose initialisation segment holds so far.
    mapped: Option<SessionId>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(rendition: &'a RenditionName, container: Container) -> Self {
        Self { text: String::with_capacity(4096), rendition, container, mapped: None }
    }

    /// Adds a line.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing into memory cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// What stands before the first segment; `control` adds what a server that offers parts says of itself.
    pub(super) fn begin(&mut self, playlist: &MediaPlaylist<'_>, version: u32, control: impl FnOnce(&mut Self)) {
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
    pub(super) fn segment(&mut self, segment: &Segment, parts: &[Part]) {
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
        self.line(format_args!("{}", resource.below_rendition()));
    }

    /// The tags that hold for a segment and stand before its first part (RFC 8216bis, 4.4.4.9).
    pub(super) fn opening(&mut self, discontinuity: bool, needs: Option<SessionId>, date: SystemTime) {
        if discontinuity {
            self.line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        if let Some(session) = needs.filter(|session| self.mapped != Some(*session)) {
            self.mapped = Some(session);
            let init = Resource::Init(self.rendition.clone(), session);
            self.line(format_args!("#EXT-X-MAP:URI=\"{}\"", init.below_rendition()));
        }
        self.line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", iso_date(date)));
    }

    /// The parts of a segment.
    pub(super) fn parts(&mut self, session: SessionId, msn: Msn, parts: &[Part]) {
        for (part, index) in parts.iter().zip(0..) {
            let uri = Resource::Part(self.rendition.clone(), session, msn, index).below_rendition();
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let gap = if part.gap { ",GAP=YES" } else { "" };
            let duration = part.duration.as_secs_f64();
            self.line(format_args!("#EXT-X-PART:DURATION={duration:.6},URI=\"{uri}\"{independent}{gap}"));
        }
    }

    /// The text.
    pub(super) fn end(mut self, ended: bool) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::testing::{self, golden};

    fn write(segments: &[Segment], ended: bool) -> String {
        write_in(Container::Cmaf, segments, ended)
    }

    fn write_in(container: Container, segments: &[Segment], ended: bool) -> String {
        let rendition = RenditionName::new("720p").unwrap();
        let playlist = MediaPlaylist {
            rendition: &rendition,
            container,
            target_duration_secs: 4,
            first: segments.first().map_or(Msn(1), |s| s.msn),
            discontinuity_sequence: 3,
            ended,
        };
        playlist.write(segments.iter())
    }

    #[test]
    fn live() {
        golden("media_live.m3u8", &write(&[1, 2, 3].map(|msn| testing::segment(msn, 4_000)), false));
    }

    #[test]
    fn transport_streams_need_nothing_beside_them() {
        let session = SessionId(1_800_000_500_000);
        let gap = Segment { session, discontinuity: true, gap: true, ..testing::segment(2, 4_000) };
        let segments = [testing::segment(1, 1_234), gap, Segment { session, ..testing::segment(3, 4_000) }];
        golden("media_ts.m3u8", &write_in(Container::Ts, &segments, true));
    }

    #[test]
    fn ended() {
        golden("media_ended.m3u8", &write(&[7, 8].map(|msn| testing::segment(msn, 3_967)), true));
    }

    #[test]
    fn a_seam_names_its_own_initialisation_segment() {
        let seam = Segment { session: SessionId(1_800_000_500_000), discontinuity: true, ..testing::segment(2, 4_000) };
        golden("media_seam.m3u8", &write(&[testing::segment(1, 1_234), seam], false));
    }

    #[test]
    fn a_gap_at_a_seam_names_no_initialisation_segment() {
        let session = SessionId(1_800_000_500_000);
        let gap = Segment { session, discontinuity: true, gap: true, ..testing::segment(2, 4_000) };
        let after = Segment { session, ..testing::segment(3, 4_000) };
        golden("media_gap.m3u8", &write(&[testing::segment(1, 4_000), gap, after], false));
    }
}
