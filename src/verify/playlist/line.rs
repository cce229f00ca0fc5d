//! Lines of a playlist (4.1), and what kind of tag is in them (4.4).

use super::super::finding::Findings;
use super::super::rule::Rule;

/// A line that is not empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u32,
    pub(super) text: &'a str,
}

/// The classes of tags of 4.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Either,
    MediaPlaylist,
    Segment,
    Metadata,
    Multivariant,
}

/// The lines of `text` that are not empty.
pub(super) fn lines<'a>(text: &'a str, findings: &mut Findings) -> Vec<Line<'a>> {
    let mut read = Vec::new();
    for (number, text) in (1_u32..).zip(text.split('\n')) {
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.contains(|c: char| c.is_control() && c != '\t') {
            findings.add(Rule::Encoding, number, format!("control characters in `{text}`"));
        }
        if !text.trim().is_empty() {
            read.push(Line { number, text });
        }
    }
    read
}

impl<'a> Line<'a> {
    /// The tag's name and what follows its colon, where it is a tag.
    pub(super) fn tag(&self) -> Option<(&'a str, &'a str)> {
        let tag = self.text.strip_prefix("#EXT")?;
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        Some((name.strip_prefix("-X-").unwrap_or(name), value))
    }

    /// A resource's name.
    pub(super) fn uri(&self) -> Option<&'a str> {
        (!self.text.starts_with('#')).then_some(self.text.trim())
    }

    /// The class of the tag. None for unknown tags, which are legal and ignored, for comments and for URIs.
    pub(super) fn class(&self) -> Option<Class> {
        Some(match self.tag()?.0 {
            "VERSION" | "INDEPENDENT-SEGMENTS" | "START" | "DEFINE" => Class::Either,
            "TARGETDURATION"
            | "MEDIA-SEQUENCE"
            | "DISCONTINUITY-SEQUENCE"
            | "ENDLIST"
            | "PLAYLIST-TYPE"
            | "I-FRAMES-ONLY"
            | "PART-INF"
            | "SERVER-CONTROL" => Class::MediaPlaylist,
            "INF" | "BYTERANGE" | "DISCONTINUITY" | "KEY" | "MAP" | "PROGRAM-DATE-TIME" | "GAP" | "BITRATE"
            | "PART" => Class::Segment,
            "DATERANGE" | "SKIP" | "PRELOAD-HINT" | "RENDITION-REPORT" => Class::Metadata,
            "MEDIA" | "STREAM-INF" | "I-FRAME-STREAM-INF" | "SESSION-DATA" | "SESSION-KEY" | "CONTENT-STEERING" => {
                Class::Multivariant
            }
            _ => return None,
        })
    }

    /// It may stand in a playlist once only (4.4.1.2, 4.4.2, 4.4.3, 4.4.5, 4.4.6.6).
    pub(super) fn is_single(&self) -> bool {
        match self.class() {
            Some(Class::Either) => !self.text.starts_with("#EXT-X-DEFINE"),
            Some(Class::MediaPlaylist) => true,
            Some(Class::Metadata) => self.text.starts_with("#EXT-X-SKIP"),
            Some(Class::Multivariant) => self.text.starts_with("#EXT-X-CONTENT-STEERING"),
            Some(Class::Segment) | None => false,
        }
    }
}
