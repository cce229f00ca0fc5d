//! What is in segments: how long they are, where they begin, and whether they begin with a picture that needs no other.
//!
//! The readers of fragmented MP4 and of transport streams are its own: small, bounded, and unacquainted with the
//! packager's writer.

mod bitrate;
mod boxes;
mod cursor;
mod rules;
mod transport;

use std::time::Duration;

use super::finding::Findings;
use super::rule::Rule;

pub use bitrate::Rates;
pub use boxes::Init;
pub use rules::{independence, parts, segment};
pub use transport::Counters;

/// What a segment, or a part of one, was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// There are pictures in it.
    pub video: bool,
    /// Decode time of its first sample; in a transport stream the first presentation time.
    pub start: Duration,
    /// The time that its samples cover.
    pub duration: Duration,
    /// The longest that any of them is shown.
    pub frame: Duration,
    /// Samples, of all tracks.
    pub samples: u64,
    /// Its first sample needs no other. Not known of transport streams.
    pub starts_independent: Option<bool>,
    /// Some sample of it needs no other. Not known likewise.
    pub has_independent: Option<bool>,
}

/// What a segment is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Fragmented MP4 (3.1.2).
    Mp4,
    /// MPEG-2 transport stream (3.1.1).
    Transport,
    /// Packed audio (3.1.3): not looked into.
    PackedAudio,
    /// WebVTT (3.1.4): not looked into.
    Text,
    /// None of these.
    Unknown,
}

impl Format {
    /// Looks at the first bytes.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        match data {
            [0x47, ..] => Self::Transport,
            [b'I', b'D', b'3', ..] | [0xff, 0xf0..=0xff, ..] => Self::PackedAudio,
            [_, _, _, _, a, b, c, d, ..] if [*a, *b, *c, *d].iter().all(u8::is_ascii_lowercase) => Self::Mp4,
            _ if data.starts_with(b"WEBVTT") || data.starts_with(b"\xef\xbb\xbfWEBVTT") => Self::Text,
            _ => Self::Unknown,
        }
    }
}

/// Measures `data`, reporting what is wrong with it by itself. None where there is nothing to measure.
pub fn measure(data: &[u8], init: Option<&Init>, counters: &mut Counters, findings: &mut Findings) -> Option<Measured> {
    match Format::of(data) {
        Format::Mp4 => {
            let Some(init) = init else {
                findings.add(Rule::MapMissing, None, "a segment of fragmented MP4 without a readable EXT-X-MAP");
                return None;
            };
            let measured = boxes::measure(data, init);
            if measured.is_none() {
                findings.add(Rule::MediaFormat, None, "its boxes cannot be read, or hold no samples");
            }
            measured
        }
        Format::Transport => transport::measure(data, counters, findings),
        Format::PackedAudio | Format::Text => None,
        Format::Unknown => {
            let start: String = data.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            findings.add(Rule::MediaFormat, None, format!("{} bytes that begin with {start}", data.len()));
            None
        }
    }
}

/// Checks what a playlist of I-frames lists, as far as it is fragmented MP4.
pub fn i_frame(data: &[u8], init: Option<&Init>, findings: &mut Findings) {
    if Format::of(data) != Format::Mp4 {
        return;
    }
    match init.map(|init| boxes::picture(data, init)) {
        None => findings.add(Rule::MapMissing, None, "a picture of fragmented MP4 without a readable EXT-X-MAP"),
        Some(None) => findings.add(Rule::MediaFormat, None, "there is no picture with its moof"),
        Some(Some(false)) => findings.add(Rule::MediaKeyframe, None, "a picture that needs others"),
        Some(Some(true)) => {}
    }
}

/// `ticks` of `scale` in a second. None where the scale is 0.
fn time(ticks: u64, scale: u32) -> Option<Duration> {
    let scale = u64::from(scale);
    let (secs, rest) = (ticks.checked_div(scale)?, ticks.checked_rem(scale)?);
    let nanos = rest.checked_mul(1_000_000_000)?.checked_div(scale)?;
    Some(Duration::new(secs, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests;
