//! Delivery directives (6.2.5): which are tried, and what their answers must be.

use super::super::finding::Findings;
use super::super::playlist::{self, MediaPlaylist, Playlist};
use super::super::rule::Rule;
use super::super::rules::{self, Kind};
use super::{Ask, Audit, Outcome, head};

/// The directives of a request.
pub(super) fn of(ask: Ask, playlist: Option<&MediaPlaylist>) -> Vec<(&'static str, String)> {
    let msn = |msn: u64| ("_HLS_msn", msn.to_string());
    let part = |part: u64| ("_HLS_part", part.to_string());
    match ask {
        Ask::Plain => Vec::new(),
        Ask::Blocking { msn: segment, part: None } => vec![msn(segment)],
        Ask::Blocking { msn: segment, part: Some(index) } => vec![msn(segment), part(index)],
        Ask::Delta => vec![("_HLS_skip", "YES".to_owned())],
        Ask::PartAlone => vec![part(0)],
        Ask::Future => vec![msn(playlist.and_then(MediaPlaylist::last_msn).unwrap_or_default().saturating_add(10))],
        Ask::Old => vec![msn(playlist.map_or(0, |playlist| playlist.media_sequence))],
        Ask::Rollover { msn: segment } => {
            let parts = playlist.and_then(|playlist| playlist.parts_of(segment)).map_or(0, <[_]>::len);
            vec![msn(segment), part(u64::try_from(parts).unwrap_or(u64::MAX))]
        }
    }
}

/// The request that blocks until there is something new.
pub(super) fn next(playlist: &MediaPlaylist) -> Option<Ask> {
    let (last, parts) = playlist.position()?;
    let open = playlist.open.as_ref().is_some_and(|open| open.msn == last);
    Some(match (playlist.is_low_latency(), open) {
        (true, true) => Ask::Blocking { msn: last, part: u64::try_from(parts).ok() },
        (true, false) => Ask::Blocking { msn: last.checked_add(1)?, part: Some(0) },
        (false, _) => Ask::Blocking { msn: last.checked_add(1)?, part: None },
    })
}

/// What is tried once of a playlist that can be blocked on.
pub(super) fn trials(playlist: &MediaPlaylist) -> Vec<Ask> {
    if !playlist.control.as_ref().is_some_and(|control| control.can_block_reload) {
        return Vec::new();
    }
    let with_parts = playlist.segments.iter().rev().find(|segment| !segment.parts.is_empty());
    let rollover = with_parts.map(|segment| Ask::Rollover { msn: segment.msn });
    [Ask::PartAlone, Ask::Future, Ask::Old].into_iter().chain(rollover).collect()
}

/// The position is in the playlist, or before its end.
fn holds(playlist: &MediaPlaylist, msn: u64, part: Option<u64>) -> bool {
    let complete = playlist.segments.last().is_some_and(|last| last.msn >= msn);
    let index = part.and_then(|part| usize::try_from(part).ok());
    let parts = playlist.open.as_ref().filter(|open| open.msn == msn).map_or(0, |open| open.parts.len());
    complete || playlist.ended || index.is_some_and(|index| index < parts)
}

/// A blocking request was answered. False where that was too early.
pub(super) fn answered(ask: Ask, playlist: &MediaPlaylist, findings: &mut Findings) -> bool {
    // One that no longer offers to block, as nothing is coming, has said so.
    let offers = playlist.control.as_ref().is_some_and(|control| control.can_block_reload);
    if let Ask::Blocking { msn, part } = ask
        && offers
        && !holds(playlist, msn, part)
    {
        let (last, parts) = playlist.position().unwrap_or_default();
        let seen = format!("{ask} answered by a playlist up to segment {last}, of which it lists {parts} parts");
        findings.add(Rule::BlockingEarly, None, seen);
        return false;
    }
    true
}

/// What a delta update stood for, against a whole playlist that was read after it.
pub(super) fn same_as_delta(expanded: &MediaPlaylist, whole: &MediaPlaylist, findings: &mut Findings) {
    let mut differences = Findings::default();
    // One that was read a moment before may be the older one.
    if whole.position() < expanded.position() {
        return;
    }
    rules::evolution(expanded, whole, &mut differences);
    for difference in differences {
        if !matches!(difference.rule, Rule::WindowShort | Rule::WindowSegments | Rule::PlaylistType) {
            findings.add(Rule::DeltaWrong, difference.line, format!("{}: {}", difference.rule.id(), difference.seen));
        }
    }
}

impl Audit {
    /// The answer to `_HLS_skip=YES`.
    pub(super) fn delta(&mut self, at: usize, outcome: Outcome, findings: &mut Findings) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        let Some(base) = track.playlist.clone() else { return };
        let fetched = match outcome {
            Ok(fetched) if fetched.status.is_success() => fetched,
            Ok(fetched) => return findings.add(Rule::DeltaNotGiven, None, format!("{}", fetched.status)),
            Err(failure) => return findings.add(Rule::DeltaNotGiven, None, failure.to_string()),
        };
        let Some(Playlist::Media(delta)) = playlist::parse(&fetched.body, findings) else {
            return findings.add(Rule::DeltaNotGiven, None, "no media playlist");
        };
        self.report.checked.deltas += 1;
        rules::gave_delta(&base, &delta, findings);
        if let Some((said, _)) = delta.version
            && said < delta.needs.0
        {
            let seen = format!("a delta update of version {said}, and {} needs {}", delta.needs.1, delta.needs.0);
            findings.add(Rule::VersionTooLow, delta.needs.2, seen);
        }
        let Some(skip) = delta.skip else { return };
        match rules::expand(&base, &delta) {
            Some(expanded) => {
                same_as_delta(&base, &expanded, findings);
                track.expanded = Some(expanded);
            }
            None => {
                let seen = format!("{} segments from {} on are left out", skip.segments, delta.media_sequence);
                findings.add(Rule::DeltaWrong, skip.line, format!("{seen}, not all of which were listed"));
            }
        }
    }

    /// The answer to something that was tried.
    pub(super) fn directive(&mut self, at: usize, ask: Ask, outcome: Outcome, findings: &mut Findings) {
        let Some(track) = self.tracks.get(at) else { return };
        let Some(before) = &track.playlist else { return };
        let status = outcome.as_ref().map(|fetched| fetched.status.as_u16());
        let said = match &outcome {
            Ok(fetched) => fetched.status.to_string(),
            Err(failure) => failure.to_string(),
        };
        match ask {
            Ask::PartAlone if status != Ok(400) => {
                findings.add(Rule::BlockingPartAlone, None, format!("{ask}: {said}"))
            }
            Ask::Future if status != Ok(400) => findings.add(Rule::BlockingFuture, None, format!("{ask}: {said}")),
            Ask::PartAlone | Ask::Future => {
                if let Ok(fetched) = &outcome {
                    let kind = Kind::Error { target: before.target() };
                    rules::response(head(fetched, &track.url), kind, findings);
                }
            }
            Ask::Old => {
                let fetched = outcome.ok().filter(|fetched| fetched.status.is_success());
                let read = fetched.as_ref().and_then(|f| playlist::parse(&f.body, &mut Findings::default()));
                let whole = |playlist: &MediaPlaylist| {
                    playlist.skip.is_none() && playlist.last_msn() >= before.segments.last().map(|last| last.msn)
                };
                let held = fetched.map(|fetched| fetched.received.saturating_sub(fetched.sent));
                let late = held.is_some_and(|held| held > track.target() / 2 + track.round_trip().saturating_mul(2));
                if late || !matches!(&read, Some(Playlist::Media(playlist)) if whole(playlist)) {
                    let after = held.map(|held| format!(" after {held:?}")).unwrap_or_default();
                    findings.add(Rule::BlockingOld, None, format!("_HLS_msn={}: {said}{after}", before.media_sequence));
                }
            }
            Ask::Rollover { msn } => {
                let read = outcome.as_ref().ok().and_then(|f| playlist::parse(&f.body, &mut Findings::default()));
                let next = |playlist: &MediaPlaylist| holds(playlist, msn.saturating_add(1), Some(0));
                if !matches!(&read, Some(Playlist::Media(playlist)) if next(playlist)) {
                    findings.add(
                        Rule::BlockingRollover,
                        None,
                        format!("{ask}: {said}, without the next segment's first"),
                    );
                }
            }
            Ask::Plain | Ask::Blocking { .. } | Ask::Delta => {}
        }
    }
}
