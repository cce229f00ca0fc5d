//! What must hold of the parts, the hints and the reports of one version of a media playlist.

use std::time::Duration;

use super::super::finding::Findings;
use super::super::playlist::{HintType, MediaPlaylist, Part, Segment};
use super::super::rule::Rule;

/// Durations are written with a few decimals: so far they may be off by rounding.
const ROUNDING: Duration = Duration::from_micros(500);

/// Checks what is low-latency in it.
pub(super) fn check(playlist: &MediaPlaylist, findings: &mut Findings) {
    hints(playlist, findings);
    reports(playlist, findings);
    if !playlist.is_low_latency() {
        return;
    }
    hold_back(playlist, findings);
    profile(playlist, findings);
    match playlist.part_target {
        Some((target, _)) => lengths(playlist, target, findings),
        None => findings.add(Rule::PartInfMissing, None, "parts, and no EXT-X-PART-INF"),
    }
    for segment in playlist.segments.iter().filter(|segment| !segment.parts.is_empty()) {
        sum(segment, findings);
    }
    old(playlist, findings);
    if let (true, Some((.., part))) = (playlist.i_frames_only, playlist.parts().next()) {
        findings.add(Rule::PartsInIFrames, part.line, "a part");
    }
}

fn hold_back(playlist: &MediaPlaylist, findings: &mut Findings) {
    let Some((target, line)) = playlist.part_target else { return };
    let control = playlist.control.as_ref();
    let Some(hold_back) = control.and_then(|control| control.part_hold_back) else {
        return findings.add(Rule::PartHoldBack, line, "EXT-X-PART-INF, and no PART-HOLD-BACK");
    };
    let seen = format!("PART-HOLD-BACK is {hold_back:?} and PART-TARGET {target:?}");
    let line = control.map(|control| control.line);
    if hold_back < target.saturating_mul(2) {
        findings.add(Rule::PartHoldBack, line, seen);
    } else if hold_back < target.saturating_mul(3) {
        findings.add(Rule::PartHoldBackThree, line, seen);
    }
}

/// What the low-latency profile (B.1) wants of a live playlist with parts.
fn profile(playlist: &MediaPlaylist, findings: &mut Findings) {
    if playlist.ended || playlist.parts().next().is_none() {
        return;
    }
    if !playlist.control.as_ref().is_some_and(|control| control.can_block_reload) {
        findings.add(Rule::BlockingAbsent, playlist.control.as_ref().map(|c| c.line), "no CAN-BLOCK-RELOAD=YES");
    }
    if !playlist.hints.iter().any(|hint| hint.kind == HintType::Part) {
        findings.add(Rule::HintAbsent, None, "no EXT-X-PRELOAD-HINT of TYPE=PART");
    }
}

/// The parts of each segment against PART-TARGET (4.4.4.9).
fn lengths(playlist: &MediaPlaylist, target: Duration, findings: &mut Findings) {
    for segment in &playlist.segments {
        short(&segment.parts, target, findings);
    }
    if let Some(open) = &playlist.open {
        short(&open.parts, target, findings);
    }
    for (_, _, part) in playlist.parts().filter(|(.., part)| part.duration > target.saturating_add(ROUNDING)) {
        let seen = format!("`{}` of {:?} where PART-TARGET is {target:?}", part.uri, part.duration);
        findings.add(Rule::PartTooLong, part.line, seen);
    }
}

/// The last one listed of an open segment may turn out to be the last of the segment, and is excused like it.
fn short(parts: &[Part], target: Duration, findings: &mut Findings) {
    let least = target.mul_f64(0.85).saturating_sub(ROUNDING);
    let followers = parts.iter().skip(1).map(Some).chain([None]);
    for (part, next) in parts.iter().zip(followers) {
        let last = next.is_none();
        let excused = part.independent || part.gap || next.is_some_and(|next| next.gap) || last;
        if part.duration < least && !excused {
            let seen = format!("`{}` of {:?} where PART-TARGET is {target:?}", part.uri, part.duration);
            findings.add(Rule::PartTooShort, part.line, seen);
        }
    }
}

fn sum(segment: &Segment, findings: &mut Findings) {
    let sum = segment.parts.iter().fold(Duration::ZERO, |sum, part| sum.saturating_add(part.duration));
    let count = u32::try_from(segment.parts.len()).unwrap_or(u32::MAX);
    if sum.abs_diff(segment.duration) > Duration::from_millis(1).saturating_mul(count.saturating_add(1)) {
        let seen = format!("{count} parts of {sum:?} in `{}` of {:?}", segment.uri, segment.duration);
        findings.add(Rule::PartsSum, segment.line, seen);
    }
}

/// Parts of segments that lie wholly more than three target durations before the end.
fn old(playlist: &MediaPlaylist, findings: &mut Findings) {
    let Some((target, _)) = playlist.target else { return };
    let open = playlist.open.iter().flat_map(|open| &open.parts);
    let mut after = open.fold(Duration::ZERO, |sum, part| sum.saturating_add(part.duration));
    for segment in playlist.segments.iter().rev() {
        if let (Some(part), true) = (segment.parts.first(), after > target.saturating_mul(3)) {
            let seen = format!("parts of a segment that ended {after:?} before the end");
            return findings.add(Rule::PartsOld, part.line, seen);
        }
        after = after.saturating_add(segment.duration);
    }
}

fn hints(playlist: &MediaPlaylist, findings: &mut Findings) {
    for (index, hint) in playlist.hints.iter().enumerate() {
        if playlist.ended {
            findings.add(Rule::HintAfterEnd, hint.line, format!("a hint at `{}`", hint.uri));
        }
        if playlist.hints.iter().take(index).any(|before| before.kind == hint.kind) {
            findings.add(Rule::HintDuplicate, hint.line, format!("another hint, at `{}`", hint.uri));
        }
        let start = hint.start.unwrap_or_default();
        let is_listed = |part: &Part| {
            part.uri == hint.uri && part.byte_range.is_none_or(|range| range.offset <= start && start < range.end())
        };
        if hint.kind == HintType::Part && playlist.parts().any(|(.., part)| is_listed(part)) {
            findings.add(Rule::HintListed, hint.line, format!("`{}` is listed", hint.uri));
        }
    }
}

fn reports(playlist: &MediaPlaylist, findings: &mut Findings) {
    let absolute =
        |uri: &str| uri.starts_with("//") || uri.split(['/', '?', '#']).next().is_some_and(|s| s.contains(':'));
    for report in playlist.reports.iter().filter(|report| absolute(&report.uri)) {
        findings.add(Rule::ReportUri, report.line, format!("`{}`", report.uri));
    }
}
