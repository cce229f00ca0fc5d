//! Reading media playlists: tags are kept until the URI comes that they belong to (4.4.4).

use std::sync::Arc;
use std::time::Duration;

use super::super::finding::Findings;
use super::super::rule::Rule;
use super::attribute::Attributes;
use super::line::Line;
use super::media::{
    Control, Hint, HintType, Map, MediaPlaylist, Open, Part, PlaylistType, RenditionReport, Segment, Skip, Start,
};
use super::value::{self, ByteRange, Date};

/// Reads the lines of a media playlist.
pub(super) fn read(lines: &[Line<'_>], findings: &mut Findings) -> MediaPlaylist {
    let mut reader =
        Reader { findings, playlist: MediaPlaylist::default(), next: Next::default(), map: None, key: None };
    reader.playlist.needs = (1, "", 0);
    for line in lines {
        match (line.tag(), line.uri()) {
            (Some((name, value)), _) => reader.tag(name, value, line.number),
            (None, Some(uri)) => reader.uri(uri, line.number),
            (None, None) => {}
        }
    }
    reader.finish()
}

/// What stands before the URI that will be read next.
#[derive(Default)]
struct Next {
    duration: Option<Duration>,
    line: u32,
    byte_range: Option<(u64, Option<u64>, u32)>,
    discontinuity: bool,
    gap: bool,
    date: Option<Date>,
    parts: Vec<Part>,
}

struct Reader<'f> {
    findings: &'f mut Findings,
    playlist: MediaPlaylist,
    next: Next,
    map: Option<Arc<Map>>,
    key: Option<Arc<str>>,
}

impl Reader<'_> {
    fn tag(&mut self, name: &str, value: &str, line: u32) {
        match name {
            "VERSION" => self.playlist.version = self.integer(name, value, line).map(|version| (version, line)),
            "DEFINE" => {
                let version = if value.contains("QUERYPARAM=") { 11 } else { 8 };
                self.playlist.needs(version, "EXT-X-DEFINE", line);
            }
            "INDEPENDENT-SEGMENTS" => self.playlist.independent_segments = Some(line),
            "START" => self.start(value, line),
            "TARGETDURATION" => {
                let secs = self.integer(name, value, line);
                self.playlist.target = secs.map(|secs| (Duration::from_secs(secs.min(1_000_000_000)), line));
            }
            "MEDIA-SEQUENCE" => {
                self.before_segments(name, line);
                self.playlist.media_sequence = self.integer(name, value, line).unwrap_or_default();
            }
            "DISCONTINUITY-SEQUENCE" => {
                self.before_segments(name, line);
                self.playlist.discontinuity_sequence = self.integer(name, value, line);
            }
            "ENDLIST" => self.playlist.ended = true,
            "PLAYLIST-TYPE" => self.playlist_type(value, line),
            "I-FRAMES-ONLY" => {
                self.playlist.i_frames_only = true;
                self.playlist.needs(4, "EXT-X-I-FRAMES-ONLY", line);
            }
            "PART-INF" => self.part_inf(value, line),
            "SERVER-CONTROL" => self.control(value, line),
            _ => self.segment_tag(name, value, line),
        }
    }

    fn segment_tag(&mut self, name: &str, value: &str, line: u32) {
        if matches!(name, "DISCONTINUITY" | "KEY" | "MAP" | "PROGRAM-DATE-TIME") && !self.next.parts.is_empty() {
            self.findings.add(Rule::PartTagsLate, line, format!("EXT-X-{name} after a part of its segment"));
        }
        match name {
            "INF" => self.inf(value, line),
            "BYTERANGE" => self.byte_range(value, line),
            "DISCONTINUITY" => self.next.discontinuity = true,
            "KEY" => self.key(value, line),
            "MAP" => self.map(value, line),
            "PROGRAM-DATE-TIME" => self.date(value, line),
            "GAP" => self.next.gap = true,
            "BITRATE" => drop(self.integer(name, value, line)),
            "PART" => self.part(value, line),
            "SKIP" => self.skip(value, line),
            "PRELOAD-HINT" => self.hint(value, line),
            "RENDITION-REPORT" => self.report(value, line),
            _ => {}
        }
    }

    fn integer(&mut self, name: &str, value: &str, line: u32) -> Option<u64> {
        let number = value::integer(value);
        if number.is_none() {
            self.findings.add(Rule::TagSyntax, line, format!("EXT-X-{name} is `{value}`, which is no number"));
        }
        number
    }

    fn before_segments(&mut self, name: &str, line: u32) {
        let playlist = &self.playlist;
        if !playlist.segments.is_empty() || playlist.skip.is_some() || self.next.discontinuity {
            self.findings.add(Rule::TagPlace, line, format!("EXT-X-{name} after a segment"));
        }
    }

    fn start(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("START", line, value, self.findings);
        attributes.require("TIME-OFFSET", self.findings);
        let offset = attributes.bare("TIME-OFFSET", self.findings).and_then(value::signed_seconds);
        self.playlist.start = offset.map(|(from_end, offset)| Start { line, from_end, offset });
    }

    fn playlist_type(&mut self, value: &str, line: u32) {
        self.playlist.playlist_type = match value {
            "EVENT" => Some(PlaylistType::Event),
            "VOD" => Some(PlaylistType::Vod),
            _ => {
                self.findings.add(Rule::TagSyntax, line, format!("EXT-X-PLAYLIST-TYPE is `{value}`"));
                None
            }
        };
    }

    fn part_inf(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("PART-INF", line, value, self.findings);
        attributes.require("PART-TARGET", self.findings);
        self.playlist.part_target = attributes.seconds("PART-TARGET", self.findings).map(|target| (target, line));
    }

    fn control(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("SERVER-CONTROL", line, value, self.findings);
        self.playlist.control = Some(Control {
            line,
            can_skip_until: attributes.seconds("CAN-SKIP-UNTIL", self.findings),
            can_skip_dateranges: attributes.yes("CAN-SKIP-DATERANGES", self.findings),
            hold_back: attributes.seconds("HOLD-BACK", self.findings),
            part_hold_back: attributes.seconds("PART-HOLD-BACK", self.findings),
            can_block_reload: attributes.yes("CAN-BLOCK-RELOAD", self.findings),
        });
    }

    fn inf(&mut self, value: &str, line: u32) {
        let (duration, _title) = value.split_once(',').unwrap_or((value, ""));
        self.next.duration = value::seconds(duration);
        self.next.line = line;
        if self.next.duration.is_none() || !value.contains(',') {
            self.findings.add(Rule::TagSyntax, line, format!("EXTINF is `{value}` and should be DURATION,TITLE"));
        }
        if duration.contains('.') {
            self.playlist.needs(3, "a fraction in EXTINF", line);
        }
    }

    fn byte_range(&mut self, value: &str, line: u32) {
        self.playlist.needs(4, "EXT-X-BYTERANGE", line);
        self.next.byte_range = ByteRange::parse(value).map(|(length, offset)| (length, offset, line));
        if self.next.byte_range.is_none() {
            self.findings.add(Rule::TagSyntax, line, format!("EXT-X-BYTERANGE is `{value}`"));
        }
    }

    fn key(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("KEY", line, value, self.findings);
        attributes.require("METHOD", self.findings);
        let encrypts = attributes.bare("METHOD", self.findings) != Some("NONE");
        if encrypts {
            attributes.require("URI", self.findings);
        }
        if attributes.has("IV") {
            self.playlist.needs(2, "IV of EXT-X-KEY", line);
        }
        if attributes.has("KEYFORMAT") || attributes.has("KEYFORMATVERSIONS") {
            self.playlist.needs(5, "KEYFORMAT of EXT-X-KEY", line);
        }
        self.key = encrypts.then(|| Arc::from(value));
    }

    fn map(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("MAP", line, value, self.findings);
        attributes.require("URI", self.findings);
        let uri = attributes.quoted("URI", self.findings).unwrap_or_default().to_owned();
        let range = attributes.byte_range(self.findings);
        if let Some((_, None)) = range {
            self.findings.add(Rule::AttributeValue, line, "BYTERANGE of EXT-X-MAP has no offset");
        }
        let byte_range = range.map(|(length, offset)| ByteRange { length, offset: offset.unwrap_or_default() });
        self.map = Some(Arc::new(Map { uri, byte_range }));
    }

    fn date(&mut self, value: &str, line: u32) {
        self.next.date = Date::parse(value);
        match self.next.date {
            None => self.findings.add(Rule::TagSyntax, line, format!("EXT-X-PROGRAM-DATE-TIME is `{value}`")),
            Some(date) if !date.exact => self.findings.add(Rule::DateForm, line, format!("`{value}`")),
            Some(_) => {}
        }
    }

    fn part(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("PART", line, value, self.findings);
        attributes.require("URI", self.findings);
        attributes.require("DURATION", self.findings);
        let uri = attributes.quoted("URI", self.findings).unwrap_or_default().to_owned();
        let range = attributes.byte_range(self.findings);
        let part = Part {
            line,
            duration: attributes.seconds("DURATION", self.findings).unwrap_or_default(),
            independent: attributes.yes("INDEPENDENT", self.findings),
            gap: attributes.yes("GAP", self.findings),
            byte_range: range.map(|(length, offset)| ByteRange { length, offset: self.part_offset(&uri, offset) }),
            uri,
        };
        self.next.parts.push(part);
    }

    /// Where a part begins in its resource: where it is not said, after the part before it of the same segment.
    fn part_offset(&self, uri: &str, offset: Option<u64>) -> u64 {
        let before = self.next.parts.last().filter(|before| before.uri == uri);
        let end = before.and_then(|before| before.byte_range).map(ByteRange::end);
        offset.or(end).unwrap_or_default()
    }

    fn skip(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("SKIP", line, value, self.findings);
        attributes.require("SKIPPED-SEGMENTS", self.findings);
        let segments = attributes.integer("SKIPPED-SEGMENTS", self.findings).unwrap_or_default();
        let dates = attributes.has("RECENTLY-REMOVED-DATERANGES");
        self.playlist.needs(if dates { 10 } else { 9 }, "EXT-X-SKIP", line);
        if !self.playlist.segments.is_empty() {
            self.findings.add(Rule::TagPlace, line, "EXT-X-SKIP after a segment");
        } else if self.playlist.skip.is_none() {
            self.playlist.skip = Some(Skip { line, segments });
        }
    }

    fn hint(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("PRELOAD-HINT", line, value, self.findings);
        attributes.require("TYPE", self.findings);
        attributes.require("URI", self.findings);
        // Unknown types are for others (6.3.8).
        let kind = match attributes.bare("TYPE", self.findings) {
            Some("PART") => HintType::Part,
            Some("MAP") => HintType::Map,
            _ => return,
        };
        let uri = attributes.quoted("URI", self.findings).unwrap_or_default().to_owned();
        let start = attributes.integer("BYTERANGE-START", self.findings);
        let length = attributes.integer("BYTERANGE-LENGTH", self.findings);
        self.playlist.hints.push(Hint { line, kind, uri, start, length });
    }

    fn report(&mut self, value: &str, line: u32) {
        let attributes = Attributes::parse("RENDITION-REPORT", line, value, self.findings);
        attributes.require("URI", self.findings);
        let uri = attributes.quoted("URI", self.findings).unwrap_or_default().to_owned();
        let last_msn = attributes.integer("LAST-MSN", self.findings);
        let last_part = attributes.integer("LAST-PART", self.findings);
        self.playlist.reports.push(RenditionReport { line, uri, last_msn, last_part });
    }

    fn uri(&mut self, uri: &str, line: u32) {
        let next = std::mem::take(&mut self.next);
        if next.duration.is_none() {
            self.findings.add(Rule::SegmentWithoutDuration, line, format!("`{uri}` has no EXTINF"));
        }
        if self.map.is_some() {
            let i_frames = self.playlist.i_frames_only;
            self.playlist.needs(if i_frames { 5 } else { 6 }, "EXT-X-MAP", line);
        }
        let segment = Segment {
            line,
            msn: self.next_msn(),
            uri: uri.to_owned(),
            duration: next.duration.unwrap_or_default(),
            byte_range: self.segment_range(uri, next.byte_range),
            discontinuity: next.discontinuity,
            gap: next.gap,
            date: next.date,
            map: self.map.clone(),
            key: self.key.clone(),
            parts: next.parts,
        };
        self.playlist.segments.push(segment);
    }

    fn segment_range(&mut self, uri: &str, range: Option<(u64, Option<u64>, u32)>) -> Option<ByteRange> {
        let (length, offset, line) = range?;
        let before = self.playlist.segments.last().filter(|before| before.uri == uri);
        let offset = offset.or_else(|| before.and_then(|before| before.byte_range).map(ByteRange::end));
        if offset.is_none() {
            self.findings.add(Rule::ByterangeOffset, line, format!("`{length}` of `{uri}`"));
        }
        Some(ByteRange { length, offset: offset.unwrap_or_default() })
    }

    fn next_msn(&self) -> u64 {
        let skipped = self.playlist.skip.map_or(0, |skip| skip.segments);
        let listed = u64::try_from(self.playlist.segments.len()).unwrap_or(u64::MAX);
        self.playlist.media_sequence.saturating_add(skipped).saturating_add(listed)
    }

    fn finish(mut self) -> MediaPlaylist {
        let next = std::mem::take(&mut self.next);
        if next.duration.is_some() {
            self.findings.add(Rule::DanglingTag, next.line, "EXTINF without a URI");
        }
        if !next.parts.is_empty() || next.discontinuity || next.date.is_some() {
            let Next { discontinuity, date, parts, .. } = next;
            let (msn, map) = (self.next_msn(), self.map.clone());
            self.playlist.open = Some(Open { msn, discontinuity, date, map, parts });
        }
        self.playlist
    }
}
