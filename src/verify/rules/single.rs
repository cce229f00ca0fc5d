//! What must hold of one version of a media playlist.

use std::time::Duration;

use super::super::finding::Findings;
use super::super::playlist::{MediaPlaylist, PlaylistType};
use super::super::rule::Rule;
use super::parts;

/// How far a date may be from where the durations put it, for clocks are corrected.
const DATE_STEP: Duration = Duration::from_millis(500);

/// How far a segment may begin before the one before it ends (6.2.1).
const DATE_OVERLAP: Duration = Duration::from_secs(1);

/// Playlists longer than this are to offer delta updates (Apple 14.4).
const LONG: Duration = Duration::from_secs(120);

/// Checks one media playlist.
pub fn media_playlist(playlist: &MediaPlaylist, findings: &mut Findings) {
    durations(playlist, findings);
    version(playlist.version, playlist.needs, findings);
    dates(playlist, findings);
    control(playlist, findings);
    if playlist.playlist_type == Some(PlaylistType::Vod) && !playlist.ended {
        findings.add(Rule::PlaylistType, None, "EXT-X-PLAYLIST-TYPE is VOD, and there is no EXT-X-ENDLIST");
    }
    let discontinuity = playlist.segments.iter().find(|segment| segment.discontinuity);
    let slides = !playlist.ended && playlist.playlist_type.is_none();
    if let (Some(segment), None, true) = (discontinuity, playlist.discontinuity_sequence, slides) {
        findings.add(Rule::DiscontinuitySequence, segment.line, "a discontinuity, and no EXT-X-DISCONTINUITY-SEQUENCE");
    }
    parts::check(playlist, findings);
}

fn durations(playlist: &MediaPlaylist, findings: &mut Findings) {
    let Some((target, _)) = playlist.target.filter(|(target, _)| !target.is_zero()) else {
        return findings.add(Rule::TargetDurationMissing, None, "there is none, or it is 0");
    };
    for segment in &playlist.segments {
        let rounded = segment.duration.saturating_add(Duration::from_millis(500)).as_secs();
        let seen = || format!("`{}` of {:?} where the target duration is {target:?}", segment.uri, segment.duration);
        if rounded > target.as_secs() {
            findings.add(Rule::SegmentDuration, segment.line, seen());
        }
        if segment.duration > target.saturating_add(Duration::from_millis(500)) {
            findings.add(Rule::SegmentOverrun, segment.line, seen());
        }
    }
    let near = |offset: Duration| offset < target.saturating_mul(3);
    if let Some(start) = playlist.start.filter(|start| start.from_end && near(start.offset) && !playlist.ended) {
        findings.add(Rule::StartOffset, start.line, format!("{:?} from the end", start.offset));
    }
}

/// Compares `EXT-X-VERSION` with what the playlist needs (8).
fn version(version: Option<(u64, u32)>, needs: (u64, &'static str, u32), findings: &mut Findings) {
    let (said, line) = version.map_or((1, None), |(said, line)| (said, Some(line)));
    let (needed, what, at) = needs;
    if said < needed {
        findings.add(Rule::VersionTooLow, at, format!("version {said}, and {what} needs {needed}"));
    } else if said > needed.max(1) {
        let because =
            if what.is_empty() { "nothing in it needs one".to_owned() } else { format!("{what} needs {needed}") };
        findings.add(Rule::VersionTooHigh, line, format!("version {said}, and {because}"));
    }
}

fn dates(playlist: &MediaPlaylist, findings: &mut Findings) {
    let dated = playlist.segments.iter().any(|segment| segment.date.is_some());
    if !dated && !playlist.ended && !playlist.segments.is_empty() {
        return findings.add(Rule::DateMissing, None, "no segment has EXT-X-PROGRAM-DATE-TIME");
    }
    // Where the segment before ends, once a date was seen.
    let mut end: Option<i64> = None;
    for segment in playlist.segments.iter().filter(|_| dated) {
        if segment.discontinuity && segment.date.is_none() {
            findings.add(Rule::DateAtDiscontinuity, segment.line, "a discontinuity without a date");
        }
        if let (Some(date), Some(end)) = (segment.date, end) {
            let step = Duration::from_micros(date.micros.abs_diff(end));
            let seen = || {
                format!(
                    "{step:?} {} the end of the segment before it",
                    if date.micros < end { "before" } else { "after" }
                )
            };
            if date.micros < end && step > DATE_OVERLAP {
                findings.add(Rule::DateOverlap, segment.line, seen());
            } else if step > DATE_STEP && !segment.discontinuity {
                findings.add(Rule::DateContinuity, segment.line, seen());
            }
        }
        let micros = i64::try_from(segment.duration.as_micros()).unwrap_or(i64::MAX);
        let begins = segment.date.map(|date| date.micros).or(end);
        end = begins.map(|begins| begins.saturating_add(micros));
    }
}

fn control(playlist: &MediaPlaylist, findings: &mut Findings) {
    let target = playlist.target();
    let Some(control) = &playlist.control else { return };
    if let Some(hold_back) = control.hold_back.filter(|hold_back| *hold_back < target.saturating_mul(3)) {
        let seen = format!("HOLD-BACK is {hold_back:?} and the target duration {target:?}");
        findings.add(Rule::HoldBack, control.line, seen);
    }
    match control.can_skip_until {
        Some(until) if until < target.saturating_mul(6) => {
            let seen = format!("CAN-SKIP-UNTIL is {until:?} and the target duration {target:?}");
            findings.add(Rule::SkipBoundary, control.line, seen);
        }
        None if control.can_skip_dateranges => {
            findings.add(Rule::SkipBoundary, control.line, "CAN-SKIP-DATERANGES without CAN-SKIP-UNTIL");
        }
        None if playlist.is_low_latency() && !playlist.ended && playlist.duration() > LONG => {
            findings.add(Rule::DeltaAbsent, control.line, format!("it is {:?} long", playlist.duration()));
        }
        Some(_) | None => {}
    }
}
