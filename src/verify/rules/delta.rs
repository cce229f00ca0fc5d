//! Delta updates (6.2.5.1): what they leave out, and the playlist that they stand for.

use std::time::Duration;

use super::super::finding::Findings;
use super::super::playlist::MediaPlaylist;
use super::super::rule::Rule;

/// The playlist that `delta` is short for, for someone who has `base`. None where `base` lacks what was left out, or
/// where nothing was.
#[must_use]
pub fn expand(base: &MediaPlaylist, delta: &MediaPlaylist) -> Option<MediaPlaylist> {
    let skip = delta.skip?;
    let first = delta.media_sequence;
    let end = first.checked_add(skip.segments)?;
    let kept = base.segments.iter().filter(|segment| (first..end).contains(&segment.msn));
    let kept: Vec<_> = kept.cloned().collect();
    if u64::try_from(kept.len()).ok()? != skip.segments {
        return None;
    }
    let mut whole = delta.clone();
    whole.skip = None;
    // A map that still applies is not repeated, as the segment that it stood before was left out.
    let (mut map, mut key) = kept.last().map_or((None, None), |last| (last.map.clone(), last.key.clone()));
    for segment in &mut whole.segments {
        match &segment.map {
            Some(own) => map = Some(own.clone()),
            None => segment.map.clone_from(&map),
        }
        match &segment.key {
            Some(own) => key = Some(own.clone()),
            None => segment.key.clone_from(&key),
        }
    }
    if let Some(open) = whole.open.as_mut().filter(|open| open.map.is_none()) {
        open.map = map;
    }
    whole.segments.splice(0..0, kept);
    Some(whole)
}

/// Checks an answer to `_HLS_skip=YES`, given what the playlist listed before.
pub fn gave_delta(base: &MediaPlaylist, answer: &MediaPlaylist, findings: &mut Findings) {
    let boundary = base.control.as_ref().and_then(|control| control.can_skip_until);
    let Some(boundary) = boundary.filter(|_| !answer.ended) else { return };
    match answer.skip {
        Some(skip) => {
            // A segment that the boundary lies in may be taken for older than it or not, and so may the end be that of
            // the open segment's parts: only what is wrong in any reading is held against the server.
            let open = answer.open.iter().flat_map(|open| &open.parts).map(|part| part.duration);
            let listed = open.fold(answer.duration(), Duration::saturating_add);
            if skip.segments > 0 && listed.saturating_add(answer.target()) < boundary {
                let seen = format!("{listed:?} are listed where CAN-SKIP-UNTIL is {boundary:?}");
                findings.add(Rule::DeltaTooShort, skip.line, seen);
            }
        }
        None => {
            let skippable = beyond(answer, boundary);
            if skippable > 0 {
                findings.add(Rule::DeltaNotGiven, None, format!("{skippable} segments might have been skipped"));
            }
        }
    }
}

/// How many segments lie wholly further from the end than `boundary`.
fn beyond(playlist: &MediaPlaylist, boundary: Duration) -> usize {
    let mut after = Duration::ZERO;
    let mut count = 0;
    for segment in playlist.segments.iter().rev() {
        count += usize::from(after > boundary);
        after = after.saturating_add(segment.duration);
    }
    count
}
