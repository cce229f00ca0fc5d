//! Whether what a player asks for is there, will come, or never will (RFC 8216bis, 6.2.5.2 and 6.2.6). Pure.

use crate::live::{IFrames, LowLatency, Msn, Part, Position, RenditionSnapshot, SessionId};

/// When a request for a playlist is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now.
    Now {
        /// The playlist holds what was asked for, and has just come to: this answer may be kept for its URL.
        settled: bool,
    },
    /// When the rendition has changed.
    Later,
    /// Never: it is too far ahead.
    TooFar,
}

/// The turn of a request for a playlist that is to hold `wanted`, of a rendition whose programme has not ended.
pub(super) fn turn(rendition: &RenditionSnapshot, low: &LowLatency, wanted: Position) -> Turn {
    let next = next_segment(rendition);
    if wanted.msn.0 < next {
        // Not settled are answers to questions for what is long gone: they would be old when the next one asks.
        return match roll_over(rendition, wanted) {
            None => Turn::Now { settled: wanted.msn.0.saturating_add(1) >= next },
            // The part is none of the segment's, so the first of the next is meant.
            Some(following) => later_than(rendition, low, following, next),
        };
    }
    if is_too_far(rendition, low, wanted, next) {
        return Turn::TooFar;
    }
    later_than(rendition, low, wanted, next)
}

/// The same for a playlist of I-frames, whose entries have no parts: one that is asked for stands for its entry.
pub(super) fn i_frame_turn(list: &IFrames, low: &LowLatency, wanted: Position) -> Turn {
    match wanted.msn.0 {
        msn if msn < list.next => Turn::Now { settled: msn.saturating_add(1) == list.next },
        msn if msn > list.next.saturating_add(1) => Turn::TooFar,
        // What is not promised is not waited for.
        _ if !low.blocking => Turn::Now { settled: false },
        _ => Turn::Later,
    }
}

/// The turn of what is no older than the segment `next`.
fn later_than(rendition: &RenditionSnapshot, low: &LowLatency, wanted: Position, next: u64) -> Turn {
    let made = parts_of(rendition, wanted.msn);
    let there = wanted.msn.0 < next || wanted.part.is_some_and(|part| as_index(part) < made);
    match there {
        true => Turn::Now { settled: true },
        // What is not promised is not waited for.
        false if !low.blocking => Turn::Now { settled: false },
        false => Turn::Later,
    }
}

/// Where a part is asked for that a complete segment has not: the first part of the segment after it (RFC 8216bis, 6.2.5.2).
fn roll_over(rendition: &RenditionSnapshot, wanted: Position) -> Option<Position> {
    let part = wanted.part?;
    let segment = rendition.segments.iter().rev().find(|segment| segment.msn == wanted.msn)?;
    // A segment without media has no parts, and whoever asks for one asks for what comes next.
    let beyond = !segment.parts().is_empty() && as_index(part) >= segment.parts().len();
    beyond.then(|| Position { msn: Msn(wanted.msn.0.saturating_add(1)), part: Some(0) })
}

/// More than two segments, or more parts than the advance part limit, beyond the last.
fn is_too_far(rendition: &RenditionSnapshot, low: &LowLatency, wanted: Position, next: u64) -> bool {
    let limit = as_index(low.advance_part_limit());
    let made = parts_of(rendition, wanted.msn);
    wanted.msn.0 > next.saturating_add(1)
        || wanted.part.is_some_and(|part| as_index(part) >= made.saturating_add(limit))
}

/// The number after that of the last complete segment.
fn next_segment(rendition: &RenditionSnapshot) -> u64 {
    rendition.segments.back().map_or(rendition.first_listed.0, |last| last.msn.0.saturating_add(1))
}

/// How many parts of the segment that is being made there are, if it is this.
fn parts_of(rendition: &RenditionSnapshot, msn: Msn) -> usize {
    rendition.open.as_ref().filter(|open| open.msn == msn).map_or(0, |open| open.parts.len())
}

fn as_index(part: u32) -> usize {
    usize::try_from(part).unwrap_or(usize::MAX)
}

/// A part of a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// It is complete.
    There(&'a Part),
    /// It is the one that the playlist hints at.
    Hinted,
    /// It will not come.
    Unknown,
}

/// The part `index` of segment `msn`: of a finished segment, or of the one that is being made.
pub(super) fn piece(rendition: &RenditionSnapshot, session: SessionId, msn: Msn, index: u32) -> Piece<'_> {
    let (index, open) = (as_index(index), rendition.open.as_ref().filter(|o| o.session == session && o.msn == msn));
    let parts = match (open, rendition.segment(session, msn)) {
        (Some(open), _) => open.parts.as_slice(),
        (None, Some(segment)) => segment.parts(),
        (None, None) => return Piece::Unknown,
    };
    let blocking = rendition.low_latency.as_ref().is_some_and(|low| low.blocking);
    match parts.get(index) {
        Some(part) if !part.gap => Piece::There(part),
        None if open.is_some() && blocking && index == parts.len() => Piece::Hinted,
        _ => Piece::Unknown,
    }
}
