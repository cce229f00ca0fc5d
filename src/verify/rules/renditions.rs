//! What must hold of the playlists of one presentation at one instant (6.2.4, B.1).

use std::time::Duration;

use super::super::finding::Findings;
use super::super::playlist::{MediaPlaylist, RenditionReport, Segment};
use super::super::rule::Rule;

/// How far the same boundary may lie apart: a frame of picture and a frame of sound.
const APART: Duration = Duration::from_millis(100);

/// Compares `other` with `one`; findings are about `other`.
pub fn renditions(one: &MediaPlaylist, other: &MediaPlaylist, findings: &mut Findings) {
    if let (Some((one, _)), Some((other, line))) = (one.target, other.target)
        && one != other
    {
        findings.add(Rule::RenditionsTargetDuration, line, format!("{other:?} where another has {one:?}"));
    }
    if one.control != other.control {
        let line = other.control.as_ref().map(|control| control.line);
        findings.add(Rule::RenditionsControl, line, format!("{} where another has {}", said(other), said(one)));
    }
    let dated = |playlist: &MediaPlaylist| playlist.segments.iter().any(|segment| segment.date.is_some());
    if dated(one) != dated(other) && !one.segments.is_empty() && !other.segments.is_empty() {
        findings.add(Rule::RenditionsDate, None, "one has EXT-X-PROGRAM-DATE-TIME and another has not");
    }
    let comparable = |playlist: &MediaPlaylist| playlist.skip.is_none() && !playlist.i_frames_only;
    if comparable(one) && comparable(other) {
        aligned(one, other, findings);
    }
}

/// What a playlist says of its server.
fn said(playlist: &MediaPlaylist) -> String {
    let Some(control) = &playlist.control else { return "no EXT-X-SERVER-CONTROL".to_owned() };
    let secs = |name: &str, value: Option<Duration>| value.map(|value| format!("{name}={}", value.as_secs_f64()));
    let yes = |name: &str, value: bool| value.then(|| format!("{name}=YES"));
    let values = [
        yes("CAN-BLOCK-RELOAD", control.can_block_reload),
        secs("CAN-SKIP-UNTIL", control.can_skip_until),
        yes("CAN-SKIP-DATERANGES", control.can_skip_dateranges),
        secs("HOLD-BACK", control.hold_back),
        secs("PART-HOLD-BACK", control.part_hold_back),
    ];
    values.into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// Finds the segments that begin at the same time, by their dates, and compares them. One complaint of each kind says it.
fn aligned(one: &MediaPlaylist, other: &MediaPlaylist, findings: &mut Findings) {
    let mut known: Vec<(i64, &Segment, u64)> =
        one.discontinuities().filter_map(|(segment, number)| Some((segment.date?.micros, segment, number))).collect();
    known.sort_by_key(|(micros, ..)| *micros);
    let (mut told_number, mut told_start) = (false, false);
    for (segment, number) in other.discontinuities() {
        let Some(date) = segment.date else { continue };
        let Some((micros, same, expected)) = nearest(&known, date.micros) else { return };
        let apart = Duration::from_micros(micros.abs_diff(date.micros));
        if apart > same.duration.min(segment.duration) / 2 {
            continue;
        }
        if number != expected && !told_number {
            told_number = true;
            let seen =
                format!("segment {} is of discontinuity {number}, in another playlist of {expected}", segment.msn);
            findings.add(Rule::RenditionsDiscontinuity, segment.line, seen);
        }
        if (apart > APART || segment.msn != same.msn) && !told_start {
            told_start = true;
            let seen =
                format!("segment {} begins {apart:?} from segment {} of another playlist", segment.msn, same.msn);
            findings.add(Rule::RenditionsAligned, segment.line, seen);
        }
    }
}

fn nearest<'a>(known: &[(i64, &'a Segment, u64)], micros: i64) -> Option<(i64, &'a Segment, u64)> {
    let after = known.partition_point(|(other, ..)| *other < micros);
    let around = [after.checked_sub(1), Some(after)].into_iter().flatten().filter_map(|at| known.get(at));
    around.min_by_key(|(other, ..)| other.abs_diff(micros)).copied()
}

/// When a playlist was read, as against the one with a report about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before: the report must not be behind it.
    Before,
    /// After: the report must not be ahead of it.
    After,
    /// At the same instant.
    Same,
}

/// Checks a report in `bearer` against what it is `about`.
pub fn report(
    report: &RenditionReport,
    bearer: &MediaPlaylist,
    about: &MediaPlaylist,
    order: Order,
    findings: &mut Findings,
) {
    let Some((own_msn, own_parts)) = bearer.position() else { return };
    // What is left out is that of the playlist that the report stands in (4.4.5.4).
    let msn = report.last_msn.unwrap_or(own_msn);
    let own_part = u64::try_from(own_parts).ok().and_then(|parts| parts.checked_sub(1));
    let part = report.last_part.or(own_part.filter(|_| bearer.is_low_latency()));
    let Some((last_msn, parts)) = about.position() else { return };
    let behind = about.parts().filter(|(other, index, _)| is_after(*other, *index, msn, part)).count();
    let behind = behind.max(usize::try_from(last_msn.saturating_sub(msn)).unwrap_or(usize::MAX));
    let told = part.map(|part| format!(", part {part}")).unwrap_or_default();
    let seen = || format!("segment {msn}{told} of `{}`, which is at segment {last_msn}, of {parts} parts", report.uri);
    let ahead = match (msn.checked_sub(last_msn), part) {
        (None, _) => false,
        (Some(0), Some(part)) => part > u64::try_from(parts).unwrap_or(u64::MAX),
        (Some(0), None) => false,
        (Some(1), part) => part.is_some_and(|part| part > 0),
        (Some(_), _) => true,
    };
    if (order != Order::After && behind > 1) || (order != Order::Before && ahead) {
        findings.add(Rule::ReportStale, report.line, seen());
    }
}

/// The part comes after the one that was told of.
fn is_after(msn: u64, index: usize, told_msn: u64, told_part: Option<u64>) -> bool {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    msn > told_msn || (msn == told_msn && told_part.is_some_and(|told| index > told))
}
