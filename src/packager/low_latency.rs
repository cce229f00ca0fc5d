//! The text of Low-Latency media playlists (RFC 8216bis, 4.4 and 6.2; B.1).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::text;
use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{Lazy, LowLatency, Msn, OpenSegment, Part, Position, Segment, SessionId};
use crate::media::{Container, MediaTime};
use crate::playlist::{MediaPlaylist, VERSION, Writer};

/// The version that a playlist delta update needs: `EXT-X-SKIP` (RFC 8216bis, 8).
pub(super) const SKIP_VERSION: u32 = 9;

/// Everything that a rendition's Low-Latency playlist says at one instant.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) rendition: RenditionName,
    pub(super) target_duration_secs: u32,
    pub(super) discontinuity_sequence: u64,
    pub(super) ended: bool,
    /// Parts are coming.
    pub(super) blocking: bool,
    pub(super) part_target: MediaTime,
    /// Complete segments, listed or lingering.
    pub(super) segments: Arc<VecDeque<Arc<Segment>>>,
    /// The first that is listed.
    pub(super) first: Msn,
    /// The lines of the first ones, up to where parts may be told.
    pub(super) whole: Whole,
    pub(super) open: Option<Arc<OpenSegment>>,
    /// How far the other renditions are.
    pub(super) reports: Arc<[Report]>,
    /// When what is said here became true.
    pub(super) modified: SystemTime,
}

/// The lines of segments that are told without their parts, out of the playlist of whole segments: of a long window almost all.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// That playlist.
    pub(super) text: Bytes,
    /// Where they stand in it.
    pub(super) lines: Range<usize>,
    /// The first segment that is not among them.
    pub(super) until: Msn,
    /// The session whose initialisation segment holds behind them.
    pub(super) mapped: Option<SessionId>,
}

/// How far a rendition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) rendition: RenditionName,
    pub(super) last: Position,
}

impl Source {
    /// The playlists, to be rendered when they are asked for.
    pub(super) fn playlists(self) -> LowLatency {
        let (part_target, blocking) = (self.part_target, self.blocking);
        let source = Arc::new(self);
        let lazy = |source: Arc<Self>, skipped| {
            Lazy::new(move || text::playlist(source.write(skipped), None, source.modified))
        };
        let skipped = source.skippable();
        let delta = (skipped > 0).then(|| lazy(Arc::clone(&source), skipped));
        LowLatency { full: lazy(source, 0), delta, part_target, blocking }
    }

    /// The text, without the first `skipped` segments.
    fn write(&self, skipped: usize) -> String {
        let mut writer = Writer::new(&self.rendition, Container::Cmaf);
        let version = if skipped > 0 { SKIP_VERSION } else { VERSION };
        writer.begin(&self.head(), version, |writer| self.control(writer));
        if skipped > 0 {
            writer.line(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        }
        let Whole { text, lines, until, mapped } = &self.whole;
        let mut from = self.listed_from().saturating_add(skipped);
        if skipped == 0 && *until > self.first {
            let lines = text.get(lines.clone()).and_then(|lines| std::str::from_utf8(lines).ok());
            writer.append(lines.unwrap_or_default(), *mapped);
            from = self.segments.partition_point(|segment| segment.msn < *until);
        }
        let parts_from = self.end() - parts_span(self.target_duration_secs);
        for segment in self.segments.iter().skip(from) {
            let told: &[Part] = if segment.start >= parts_from { segment.parts() } else { &[] };
            writer.segment(&segment.as_ref().into(), told);
        }
        if !self.ended {
            self.edge(&mut writer);
        }
        writer.end(self.ended)
    }

    fn head(&self) -> MediaPlaylist<'_> {
        MediaPlaylist {
            rendition: &self.rendition,
            container: Container::Cmaf,
            target_duration_secs: self.target_duration_secs,
            first: self.first,
            discontinuity_sequence: self.discontinuity_sequence,
            ended: self.ended,
        }
    }

    /// What the server does for players. Blocking is promised only while parts are coming: of a source that stands
    /// still players poll, and go on by themselves when it does.
    fn control(&self, writer: &mut Writer<'_>) {
        writer.line(format_args!("{}", self.server_control()));
        writer.line(format_args!("#EXT-X-PART-INF:PART-TARGET={}", secs(self.part_target)));
    }

    /// The tag that all playlists of the rendition have.
    pub(super) fn server_control(&self) -> String {
        let block = if self.blocking { "CAN-BLOCK-RELOAD=YES," } else { "" };
        let skip = secs(self.target_durations(SKIP_TARGET_DURATIONS));
        let hold_back = secs(self.target_durations(HOLD_BACK_TARGET_DURATIONS));
        let part_hold_back = secs(self.part_target + self.part_target + self.part_target);
        format!(
            "#EXT-X-SERVER-CONTROL:{block}CAN-SKIP-UNTIL={skip},HOLD-BACK={hold_back},PART-HOLD-BACK={part_hold_back}"
        )
    }

    /// The segment that is being made, what comes next, and where the other renditions are.
    fn edge(&self, writer: &mut Writer<'_>) {
        if let Some(open) = &self.open {
            if !open.parts.is_empty() {
                writer.opening(open.discontinuity, Some(open.session), open.program_date_time);
                writer.parts(open.session, open.msn, &open.parts);
            }
            // A hint at a part behind a seam would not say that there is one.
            let is_seam = open.discontinuity && open.parts.is_empty();
            if let (true, Ok(next)) = (self.blocking && !is_seam, u32::try_from(open.parts.len())) {
                let hint = Resource::Part(self.rendition.clone(), open.session, open.msn, next);
                writer.line(format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}\"", hint.below_rendition()));
            }
        }
        for report in self.reports.iter().filter(|report| report.rendition != self.rendition) {
            let uri = Resource::Playlist(report.rendition.clone()).below_channel();
            let msn = report.last.msn;
            // Left out, it would be that of this playlist (RFC 8216bis, 4.4.5.4); a segment without media has no part.
            let part = report.last.part.unwrap_or(0);
            writer.line(format_args!("#EXT-X-RENDITION-REPORT:URI=\"../{uri}\",LAST-MSN={msn},LAST-PART={part}"));
        }
    }

    /// Where the listed segments begin.
    fn listed_from(&self) -> usize {
        self.segments.partition_point(|segment| segment.msn < self.first)
    }

    /// The media time at which the playlist ends.
    fn end(&self) -> MediaTime {
        let complete = self.segments.back().map_or(MediaTime::ZERO, |last| last.start + last.duration);
        let open = self.open.iter().flat_map(|open| &open.parts);
        open.fold(complete, |end, part| end + part.duration)
    }

    /// The listed segments that end before the skip boundary (RFC 8216bis, 4.4.5.2).
    fn skippable(&self) -> usize {
        let boundary = self.end() - skip_span(self.target_duration_secs);
        let ends_before = self.segments.partition_point(|segment| segment.start + segment.duration <= boundary);
        if self.ended { 0 } else { ends_before.saturating_sub(self.listed_from()) }
    }

    fn target_durations(&self, count: i64) -> MediaTime {
        target_durations(self.target_duration_secs, count)
    }
}

fn target_durations(secs: u32, count: i64) -> MediaTime {
    MediaTime::from_millis(i64::from(secs).saturating_mul(1_000).saturating_mul(count))
}

/// How far behind the end of a playlist a delta update begins to skip.
pub(super) fn skip_span(target_duration_secs: u32) -> MediaTime {
    target_durations(target_duration_secs, SKIP_TARGET_DURATIONS)
}

/// How far behind the end of a playlist parts are told.
pub(super) fn parts_span(target_duration_secs: u32) -> MediaTime {
    target_durations(target_duration_secs, PARTS_TARGET_DURATIONS)
}

/// Parts leave the playlist when they are further from its end (RFC 8216bis, 6.2.2).
const PARTS_TARGET_DURATIONS: i64 = 3;
/// `CAN-SKIP-UNTIL`, the least that is allowed (RFC 8216bis, 4.4.3.8).
const SKIP_TARGET_DURATIONS: i64 = 6;
/// `HOLD-BACK`, the least that is allowed.
const HOLD_BACK_TARGET_DURATIONS: i64 = 3;

/// Seconds, to the millisecond, as short as they can be said.
fn secs(time: MediaTime) -> String {
    let millis = time.as_millis();
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

/// The last of a rendition: of the segment that is being made, given by its number and its parts so far, else of the last
/// that is complete.
pub(super) fn last_position(open: Option<(Msn, &[Part])>, last: Option<&Segment>) -> Option<Position> {
    let begun = open.filter(|(_, parts)| !parts.is_empty());
    let (msn, parts) = begun.or_else(|| last.map(|last| (last.msn, last.parts())))?;
    Some(Position { msn, part: parts.len().checked_sub(1).and_then(|part| u32::try_from(part).ok()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Media;
    use crate::packager::testing::{self, golden};

    fn parts(count: usize) -> Vec<Part> {
        let part = |index| Part {
            data: Bytes::from_static(b"x"),
            duration: MediaTime::from_millis(500),
            independent: index == 0,
            gap: false,
        };
        (0..count).map(part).collect()
    }

    fn media() -> Media {
        Media::Hot { data: Bytes::new(), parts: parts(8) }
    }

    /// Numbers 3 to 10 of 4 s, of which 4 on are listed, and three parts of number 11.
    fn source() -> Source {
        let segment = |msn| Arc::new(Segment { media: media(), ..testing::segment(msn, 4_000) });
        let name = |name| RenditionName::new(name).unwrap();
        let report = |rendition, part| Report { rendition, last: Position { msn: Msn(11), part } };
        Source {
            rendition: name("720p"),
            target_duration_secs: 4,
            discontinuity_sequence: 2,
            ended: false,
            blocking: true,
            part_target: MediaTime::from_millis(500),
            segments: Arc::new((3..=10).map(segment).collect()),
            first: Msn(4),
            whole: Whole { text: Bytes::new(), lines: 0..0, until: Msn(4), mapped: None },
            open: Some(Arc::new(OpenSegment {
                msn: Msn(11),
                session: testing::SESSION,
                discontinuity: false,
                program_date_time: testing::wall_clock(40_000),
                parts: parts(3),
            })),
            reports: [report(name("720p"), Some(2)), report(name("360p"), Some(1)), report(name("audio"), None)].into(),
            modified: testing::wall_clock(41_500),
        }
    }

    fn text(playlist: &crate::live::Playlist) -> &str {
        std::str::from_utf8(&playlist.text).unwrap()
    }

    #[test]
    fn live() {
        let playlists = source().playlists();
        golden("low_latency.m3u8", text(&playlists.full));
        golden("low_latency_delta.m3u8", text(playlists.delta.as_ref().unwrap()));
    }

    #[test]
    fn a_source_that_stands_still_promises_nothing() {
        let still = Source { blocking: false, open: None, ..source() };
        golden("low_latency_still.m3u8", text(&still.playlists().full));
    }

    #[test]
    fn after_the_end_there_is_nothing_to_wait_for() {
        let ended = Source { ended: true, blocking: false, open: None, ..source() }.playlists();
        golden("low_latency_ended.m3u8", text(&ended.full));
        assert!(ended.delta.is_none(), "RFC 8216bis, 6.2.5.1");
    }

    #[test]
    fn a_seam_stands_before_the_first_part() {
        let mut source = source();
        let open = Arc::make_mut(source.open.as_mut().unwrap());
        (open.discontinuity, open.session) = (true, crate::live::SessionId(1_800_000_500_000));
        open.parts[1].gap = true;
        golden("low_latency_seam.m3u8", text(&source.playlists().full));
        // With no part yet, the seam is not told, but what comes is.
        let mut source = self::source();
        Arc::make_mut(source.open.as_mut().unwrap()).parts.clear();
        let playlists = source.playlists();
        assert!(text(&playlists.full).contains("11.0.m4s"));
        assert!(!text(&playlists.full).contains("EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:40.000Z"));
    }

    #[test]
    fn positions() {
        let segment = Segment { media: media(), ..testing::segment(10, 4_000) };
        let at = |msn, part| Some(Position { msn: Msn(msn), part });
        assert_eq!(last_position(Some((Msn(11), &parts(3))), Some(&segment)), at(11, Some(2)));
        assert_eq!(last_position(Some((Msn(11), &[])), Some(&segment)), at(10, Some(7)));
        assert_eq!(last_position(None, Some(&testing::segment(10, 4_000))), at(10, None));
        assert_eq!(last_position(None, None), None);
    }

    #[test]
    fn seconds_are_short() {
        assert_eq!(
            [24_000, 500, 1_510, 167].map(|millis| secs(MediaTime::from_millis(millis))),
            ["24.0", "0.5", "1.51", "0.167"]
        );
    }
}
