//! Playlists as a player reads them (RFC 8216bis, 4): all tags of live HLS, with their lines. What is not as it must be
//! is reported, and read as far as it makes sense. It never panics, and reads a bounded length of text.
//!
//! It is written against the specification alone: nothing of the packager, whose playlists it checks, is used here.

mod attribute;
mod line;
mod media;
mod multivariant;
mod reader;
mod value;

use super::finding::Findings;
use super::rule::Rule;
use line::{Class, Line, lines};

pub use media::{
    Control, Hint, HintType, Map, MediaPlaylist, Open, Part, PlaylistType, RenditionReport, Segment, Skip, Start,
};
pub use multivariant::{IFrameVariant, Media, MediaType, Multivariant, Variant};
pub use value::{ByteRange, Date};

/// What a text is.
#[derive(Clone, Debug, PartialEq)]
pub enum Playlist {
    /// It lists segments.
    Media(Box<MediaPlaylist>),
    /// It lists playlists.
    Multivariant(Box<Multivariant>),
}

/// The longest text that is read, in bytes: a day of low latency.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads `text`. None where it is no playlist at all, which is reported too.
#[must_use]
pub fn parse(text: &[u8], findings: &mut Findings) -> Option<Playlist> {
    let text = decode(text, findings);
    let lines = lines(&text, findings);
    if lines.first().is_none_or(|first| first.text != "#EXTM3U") {
        findings.add(Rule::FirstLine, 1, format!("the first line is `{}`", lines.first().map_or("", |l| l.text)));
        if !lines.iter().any(|line| line.class().is_some()) {
            return None;
        }
    }
    let is = |class: Class| lines.iter().find(|line| line.class() == Some(class));
    let multivariant = is(Class::Multivariant);
    let media = [Class::MediaPlaylist, Class::Segment, Class::Metadata].into_iter().find_map(is);
    if let (Some(one), Some(other)) = (multivariant, media) {
        let seen = format!("`{}` and `{}` (line {})", one.text, other.text, other.number);
        findings.add(Rule::PlaylistKind, one.number, seen);
    }
    repeated(&lines, findings);
    Some(if multivariant.is_some() {
        Playlist::Multivariant(Box::new(multivariant::read(&lines, findings)))
    } else {
        Playlist::Media(Box::new(reader::read(&lines, findings)))
    })
}

/// The text, of which what is not UTF-8 is replaced.
fn decode<'a>(text: &'a [u8], findings: &mut Findings) -> std::borrow::Cow<'a, str> {
    let bounded = text.get(..TEXT_BYTES_MAX).unwrap_or(text);
    if bounded.len() < text.len() {
        findings.add(Rule::Unread, None, format!("the playlist has {} bytes", text.len()));
    }
    let unmarked = bounded.strip_prefix("\u{feff}".as_bytes());
    if unmarked.is_some() {
        findings.add(Rule::Encoding, 1, "it begins with a byte order mark");
    }
    let text = String::from_utf8_lossy(unmarked.unwrap_or(bounded));
    if matches!(text, std::borrow::Cow::Owned(_)) {
        findings.add(Rule::Encoding, None, "it is not UTF-8");
    }
    text
}

/// Tags that may stand in a playlist once only.
fn repeated(lines: &[Line<'_>], findings: &mut Findings) {
    let mut seen: Vec<&str> = Vec::new();
    for line in lines.iter().filter(|line| line.is_single()) {
        let Some((name, _)) = line.tag() else { continue };
        if seen.contains(&name) {
            findings.add(Rule::TagDuplicate, line.number, format!("another {name}"));
        } else {
            seen.push(name);
        }
    }
}

#[cfg(test)]
mod tests;
