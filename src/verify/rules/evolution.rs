//! What must hold of two versions of a media playlist, the second read after the first (6.2.1, 6.2.2).

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::finding::Findings;
use super::super::playlist::{MediaPlaylist, Part, Segment};
use super::super::rule::Rule;

/// Fewer segments are too few of a live playlist (Apple 8.11).
const SEGMENTS_MIN: usize = 6;

/// Compares two versions, neither of them a delta update.
pub fn evolution(before: &MediaPlaylist, after: &MediaPlaylist, findings: &mut Findings) {
    if before == after {
        return;
    }
    latched(before, after, findings);
    ended(before, after, findings);
    if after.media_sequence < before.media_sequence {
        let seen = format!("{} after {}", after.media_sequence, before.media_sequence);
        return findings.add(Rule::SequenceDecreased, None, seen);
    }
    segments(before, after, findings);
    discontinuities(before, after, findings);
    if after.media_sequence > before.media_sequence && !after.ended {
        window(after, findings);
    }
    parts(before, after, findings);
}

fn latched(before: &MediaPlaylist, after: &MediaPlaylist, findings: &mut Findings) {
    if let (Some((was, _)), Some((is, line))) = (before.target, after.target)
        && was != is
    {
        findings.add(Rule::TargetDurationChanged, line, format!("{is:?}, before it was {was:?}"));
    }
    if let (Some((was, _)), Some((is, line))) = (before.part_target, after.part_target)
        && was != is
    {
        findings.add(Rule::PartTargetChanged, line, format!("{is:?}, before it was {was:?}"));
    }
}

fn ended(before: &MediaPlaylist, after: &MediaPlaylist, findings: &mut Findings) {
    if before.ended && !after.ended {
        findings.add(Rule::AfterEnd, None, "EXT-X-ENDLIST was there, and is no longer");
    } else if before.ended && after.last_msn() > before.last_msn() {
        findings.add(Rule::AfterEnd, None, format!("it had ended with segment {}", before.last_msn().unwrap_or(0)));
    }
}

fn segments(before: &MediaPlaylist, after: &MediaPlaylist, findings: &mut Findings) {
    for was in before.segments.iter().filter(|was| was.msn >= after.media_sequence) {
        match after.segment(was.msn) {
            Some(is) => {
                if let Some(what) = changed(was, is, is.msn == after.media_sequence) {
                    findings.add(Rule::SegmentChanged, is.line, format!("{what} of segment {}", is.msn));
                }
            }
            None => {
                findings.add(
                    Rule::SegmentRemoved,
                    None,
                    format!("segment {} `{}` is gone from the end", was.msn, was.uri),
                );
            }
        }
    }
}

/// What of a segment is not as it was. `first`: a discontinuity before it may have been removed, if the playlist
/// counts it.
fn changed(was: &Segment, is: &Segment, first: bool) -> Option<String> {
    let differs = |what: &str, was: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
        Some(format!("{what}: {was:?} became {is:?}"))
    };
    if was.uri != is.uri {
        return differs("URI", &was.uri, &is.uri);
    }
    if was.duration != is.duration {
        return differs("EXTINF", &was.duration, &is.duration);
    }
    if was.byte_range != is.byte_range {
        return differs("EXT-X-BYTERANGE", &was.byte_range, &is.byte_range);
    }
    if was.gap != is.gap {
        return differs("EXT-X-GAP", &was.gap, &is.gap);
    }
    // Nothing is loaded of a gap, so no initialisation segment holds for it.
    if was.map != is.map && !is.gap {
        let uri = |segment: &Segment| segment.map.as_ref().map(|map| map.uri.clone()).unwrap_or_default();
        return differs("EXT-X-MAP", &uri(was), &uri(is));
    }
    if was.key != is.key {
        return Some("EXT-X-KEY".to_owned());
    }
    if was.discontinuity != is.discontinuity && !(first && was.discontinuity) {
        return differs("EXT-X-DISCONTINUITY", &was.discontinuity, &is.discontinuity);
    }
    // A date that is written for some segments only may move to the one that has become the first.
    match (was.date, is.date) {
        (Some(was), Some(is)) if was != is => differs("EXT-X-PROGRAM-DATE-TIME", &was.micros, &is.micros),
        (Some(was), None) => differs("EXT-X-PROGRAM-DATE-TIME", &was.micros, &"none"),
        _ => None,
    }
}

/// The discontinuity sequence number of each segment stays what it was, whatever was removed before it.
fn discontinuities(before: &MediaPlaylist, after: &MediaPlaylist, findings: &mut Findings) {
    let known: BTreeMap<u64, u64> = before.discontinuities().map(|(segment, number)| (segment.msn, number)).collect();
    let same = after.discontinuities().find_map(|(segment, is)| Some((segment, *known.get(&segment.msn)?, is)));
    if let Some((segment, was, is)) = same
        && was != is
    {
        let seen = format!("segment {} was of discontinuity {was}, and is of {is}", segment.msn);
        return findings.add(Rule::DiscontinuityStep, segment.line, seen);
    }
    let (was, is) = (before.discontinuity_sequence.unwrap_or(0), after.discontinuity_sequence.unwrap_or(0));
    if is < was {
        findings.add(Rule::DiscontinuityStep, None, format!("EXT-X-DISCONTINUITY-SEQUENCE {is} after {was}"));
    }
}

/// What is left once something was removed (6.2.2).
fn window(after: &MediaPlaylist, findings: &mut Findings) {
    if after.playlist_type.is_some() {
        findings.add(Rule::PlaylistType, None, "segments are removed of a playlist with EXT-X-PLAYLIST-TYPE");
    }
    let (duration, least) = (after.duration(), after.target().saturating_mul(3));
    if duration.saturating_add(Duration::from_millis(1)) < least {
        findings.add(Rule::WindowShort, None, format!("{duration:?} are left where {least:?} are due"));
    }
    if after.segments.len() < SEGMENTS_MIN {
        findings.add(Rule::WindowSegments, None, format!("{} segments", after.segments.len()));
    }
}

fn parts(before: &MediaPlaylist, after: &MediaPlaylist, findings: &mut Findings) {
    let numbers = before.segments.iter().filter(|s| !s.parts.is_empty()).map(|s| s.msn);
    let open = before.open.iter().filter(|open| !open.parts.is_empty()).map(|open| open.msn);
    for msn in numbers.chain(open).filter(|msn| *msn >= after.media_sequence) {
        let was = before.parts_of(msn).unwrap_or_default();
        let (is, complete) = (after.parts_of(msn), after.segment(msn).is_some());
        let wrong = match is {
            // All parts of a complete segment may go.
            Some([]) if complete => continue,
            Some(is) => change(was, is),
            None => Some(format!("the {} parts of segment {msn} are gone", was.len())),
        };
        if let Some(what) = wrong {
            findings.add(Rule::PartChanged, is.and_then(<[Part]>::first).map(|part| part.line), what);
        }
    }
}

/// The first may have gone; what is left is what it was, and more may have come.
fn change(was: &[Part], is: &[Part]) -> Option<String> {
    let same = |was: &Part, is: &Part| Part { line: 0, ..was.clone() } == Part { line: 0, ..is.clone() };
    let Some(first) = is.first() else { return Some(format!("{} parts of an open segment are gone", was.len())) };
    let kept = was.iter().skip_while(|part| !same(part, first));
    let kept: Vec<&Part> = kept.collect();
    if kept.is_empty() {
        return Some(format!("a part of `{}` was not there before, or not like this", first.uri));
    }
    if is.len() < kept.len() {
        return Some(format!("there were {} parts up to `{}`", was.len(), kept.last().map_or("", |part| &part.uri)));
    }
    let (part, _) = is.iter().zip(kept).find(|(is, was)| !same(was, is))?;
    Some(format!("`{}` is not what it was", part.uri))
}
