//! The text of media playlists (RFC 8216bis, 4.4).
//!
//! Written here rather than by `m3u8-rs`, which leaves out sequence numbers that are 0, knows no `EXT-X-GAP`, and can
//! put nothing after the last segment.

use std::fmt::Write;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{Msn, Segment, SessionId};

/// The version that a playlist of fragmented MP4 needs, and no higher: `EXT-X-MAP` outside an I-frame playlist
/// (RFC 8216bis, 8).
const VERSION: u32 = 6;

/// What a media playlist tells besides its segments.
#[derive(Clone, Debug)]
pub struct MediaPlaylist<'a> {
    /// Whose it is.
    pub rendition: &'a RenditionName,
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
        let mut text = String::with_capacity(4096);
        // Writing into memory cannot fail.
        let _ = self.header(&mut text);
        let mut mapped = None;
        for segment in segments {
            let _ = self.segment(&mut text, segment, &mut mapped);
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }

    fn header(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "#EXTM3U")?;
        writeln!(text, "#EXT-X-VERSION:{VERSION}")?;
        writeln!(text, "#EXT-X-TARGETDURATION:{}", self.target_duration_secs)?;
        writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", self.first)?;
        // Always, as a discontinuity may come at any time (Apple's authoring specification, 8.17).
        writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence)?;
        writeln!(text, "#EXT-X-INDEPENDENT-SEGMENTS")
    }

    /// `mapped` is the session whose initialisation segment holds so far.
    fn segment(&self, text: &mut String, segment: &Segment, mapped: &mut Option<SessionId>) -> std::fmt::Result {
        if segment.discontinuity {
            writeln!(text, "#EXT-X-DISCONTINUITY")?;
        }
        // A rendition without media in a run has no initialisation segment there: a gap names none.
        if !segment.gap && *mapped != Some(segment.session) {
            *mapped = Some(segment.session);
            let init = Resource::Init(self.rendition.clone(), segment.session);
            writeln!(text, "#EXT-X-MAP:URI=\"{}\"", init.below_rendition())?;
        }
        writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", date(segment.program_date_time))?;
        if segment.gap {
            writeln!(text, "#EXT-X-GAP")?;
        }
        writeln!(text, "#EXTINF:{:.6},", segment.duration.as_secs_f64())?;
        let resource = Resource::Segment(self.rendition.clone(), segment.session, segment.msn);
        writeln!(text, "{}", resource.below_rendition())
    }
}

/// ISO 8601, UTC, to the millisecond.
fn date(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::testing::{self, golden};

    fn write(segments: &[Segment], ended: bool) -> String {
        let rendition = RenditionName::new("720p").unwrap();
        let playlist = MediaPlaylist {
            rendition: &rendition,
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
