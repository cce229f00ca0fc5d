//! What must hold of media and the playlist that lists them.

use bytes::Bytes;

use super::super::finding::Findings;
use super::super::playlist::{Part, Segment};
use super::super::rule::Rule;
use super::{Format, Measured};

/// Checks a segment against how it is listed and, where that is known, against the one before it.
pub fn segment(listed: &Segment, found: &Measured, before: Option<&Measured>, findings: &mut Findings) {
    let off = found.duration.abs_diff(listed.duration);
    if off > found.frame {
        let seen = format!("EXTINF {:?} of media that last {:?}", listed.duration, found.duration);
        findings.add(Rule::MediaDuration, listed.line, seen);
    }
    if found.video && found.starts_independent == Some(false) {
        findings.add(Rule::MediaKeyframe, listed.line, format!("`{}` does not start with an IDR", listed.uri));
    }
    let Some(before) = before.filter(|_| !listed.discontinuity) else { return };
    let expected = before.end();
    if found.start.abs_diff(expected) > found.frame / 2 {
        let seen = format!("`{}` starts at {:?}, and the one before it ends at {expected:?}", listed.uri, found.start);
        findings.add(Rule::MediaContinuity, listed.line, seen);
    }
}

/// Compares a segment with its parts, all of them. `measure` tells what bytes hold.
pub fn parts(
    listed: &Segment,
    whole: &[u8],
    parts: &[Bytes],
    measure: impl Fn(&[u8]) -> Option<Measured>,
    findings: &mut Findings,
) {
    let joined = parts.concat();
    if joined == whole {
        return;
    }
    let what = |found: Option<Measured>| found.map(|found| (found.start, found.duration, found.samples));
    let (one, other) = (what(measure(&joined)), what(measure(whole)));
    let seen = format!("{} parts of {} bytes, and `{}` of {}", parts.len(), joined.len(), listed.uri, whole.len());
    if Format::of(whole) == Format::Mp4 && one != other {
        findings.add(Rule::PartsMedia, listed.line, format!("{seen}: {one:?} against {other:?}"));
    } else {
        findings.add(Rule::PartsBytes, listed.line, seen);
    }
}

/// Checks what a part says of itself.
pub fn independence(listed: &Part, found: &Measured, findings: &mut Findings) {
    if listed.independent && found.has_independent == Some(false) {
        findings.add(Rule::PartIndependentFalse, listed.line, format!("`{}` holds no IDR", listed.uri));
    }
    if found.video && !listed.independent && found.starts_independent == Some(true) {
        findings.add(Rule::PartIndependent, listed.line, format!("`{}` starts with an IDR", listed.uri));
    }
}
