//! What a channel publishes: playlists, initialisation segments, segments and parts, from one snapshot.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::caching::{Cache, PICTURE_TYPE, PLAYLIST_TYPE, media_type};
use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Msn, News, Playlist, RenditionSnapshot, SessionId, Thumbnail, wait_max};
use crate::origin::archived::Archived;
use crate::origin::blocking::{Piece, Turn, i_frame_turn, piece, turn};
use crate::origin::coding::takes_gzip;
use crate::origin::directives::Directives;
use crate::origin::representation::{Coding, Representation};

/// What there is of a resource.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// This, now.
    Now(Representation),
    /// It is coming.
    Later(Wait),
    /// It is not in memory any more, if it ever was.
    Archived(Archived),
}

/// How to wait for what is coming.
#[derive(Clone, Debug)]
pub struct Wait {
    /// After this it may be there.
    pub news: News,
    /// How long it is worth to wait.
    pub patience: Duration,
}

/// What is asked of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) resource: &'a Resource,
    pub(super) directives: Directives,
    pub(super) headers: &'a HeaderMap,
    /// How much a playlist lists.
    pub(super) window: Duration,
}

/// The answer to `question`, from `channel`.
pub(super) fn find(question: &Question<'_>, channel: &ChannelSnapshot) -> Found {
    let rendition = |name: &RenditionName| channel.rendition(name.as_str());
    let found = match question.resource {
        Resource::Multivariant => multivariant(channel, question.headers).map(Found::Now),
        Resource::Playlist(name) => rendition(name).and_then(|r| media_playlist(r, channel, question)),
        Resource::IFrames(name) => rendition(name).and_then(|r| i_frame_playlist(r, channel, question)),
        Resource::Init(name, session) => rendition(name).and_then(|r| init(r, *session, question)).map(Found::Now),
        Resource::Segment(name, session, msn) | Resource::TsSegment(name, session, msn) => {
            rendition(name).and_then(|r| segment(r, *session, *msn, question))
        }
        // They are not of the snapshot.
        Resource::Thumbnail
        | Resource::Chronicle
        | Resource::Block(..)
        | Resource::Clip(_)
        | Resource::Storyboard(_)
        | Resource::Sheet(..)
        | Resource::Excerpt(..) => None,
        Resource::Part(name, session, msn, index) => {
            rendition(name).and_then(|r| part(r, piece(r, *session, *msn, *index), question, channel))
        }
    };
    found.unwrap_or_else(|| not_in_memory(question.resource, channel))
}

fn multivariant(channel: &ChannelSnapshot, headers: &HeaderMap) -> Option<Representation> {
    let cache = Cache::multivariant(channel.target_duration_secs);
    Some(playlist(channel.multivariant.as_ref()?, cache, headers))
}

/// A media playlist: that with parts where they are offered, when it holds what is wanted. Directives hold until the end
/// (RFC 8216bis, 6.2.5).
fn media_playlist(rendition: &RenditionSnapshot, channel: &ChannelSnapshot, question: &Question<'_>) -> Option<Found> {
    let whole = rendition.playlist.as_ref()?;
    let Some(low) = &rendition.low_latency else { return Some(polled(whole, channel, question)) };
    if channel.ended {
        return Some(polled(&low.full, channel, question));
    }
    let turn = question.directives.wanted.map(|wanted| turn(rendition, low, wanted));
    let delta = low.delta.as_ref().filter(|_| question.directives.skip);
    Some(by_turn(turn, || delta.unwrap_or(&low.full), rendition, channel, question))
}

/// An I-frame playlist. Directives hold for its own numbers, and it has no parts.
fn i_frame_playlist(
    rendition: &RenditionSnapshot,
    channel: &ChannelSnapshot,
    question: &Question<'_>,
) -> Option<Found> {
    let list = rendition.i_frames.as_ref()?;
    let full = || list.low_latency.as_deref().unwrap_or(&list.playlist);
    let Some(low) = rendition.low_latency.as_ref().filter(|_| !channel.ended) else {
        return Some(polled(full(), channel, question));
    };
    let turn = question.directives.wanted.map(|wanted| i_frame_turn(list, low, wanted));
    let delta = || list.delta.as_deref().filter(|_| question.directives.skip);
    Some(by_turn(turn, || delta().unwrap_or_else(full), rendition, channel, question))
}

/// A playlist that nobody waits for.
fn polled(text: &Playlist, channel: &ChannelSnapshot, question: &Question<'_>) -> Found {
    Found::Now(current(text, Cache::playlist(channel.target_duration_secs), channel, question))
}

/// The answer to a request whose turn it is, or is not yet; without directives it has none. Only where it is given the text is
/// asked for, and rendered.
fn by_turn<'t>(
    turn: Option<Turn>,
    text: impl FnOnce() -> &'t Playlist,
    rendition: &RenditionSnapshot,
    channel: &ChannelSnapshot,
    question: &Question<'_>,
) -> Found {
    let cache = match turn {
        None | Some(Turn::Now { settled: false }) => Cache::EDGE,
        Some(Turn::Now { settled: true }) => Cache::settled(channel.target_duration_secs),
        Some(Turn::Later) => return Found::Later(wait(rendition, channel)),
        Some(Turn::TooFar) => {
            let refusal = Representation::refusal(StatusCode::BAD_REQUEST, "_HLS_msn or _HLS_part is too far ahead");
            return Found::Now(refusal);
        }
    };
    Found::Now(current(text(), cache, channel, question))
}

fn wait(rendition: &RenditionSnapshot, channel: &ChannelSnapshot) -> Wait {
    Wait { news: rendition.news.clone(), patience: wait_max(channel.target_duration_secs) }
}

/// A media playlist. It alone says when it last changed: a player may take a playlist for broken whose
/// `Last-Modified` is three target durations old (Apple's authoring specification, 8.24), and of this one that is true.
fn current(text: &Playlist, cache: Cache, channel: &ChannelSnapshot, question: &Question<'_>) -> Representation {
    let modified = (!channel.ended).then_some(text.modified);
    Representation { modified, ..playlist(text, cache, question.headers) }
}

/// A still picture, which is another one in a few seconds.
pub(super) fn thumbnail(picture: &Thumbnail) -> Representation {
    let etag = Some(picture.etag.clone());
    Representation { etag, ..Representation::new(PICTURE_TYPE, Cache::Seconds(THUMBNAIL_SECS), picture.data.clone()) }
}

/// How long a still picture may be shown for what is live.
const THUMBNAIL_SECS: u32 = 5;

/// A playlist, in the coding that is asked for.
pub(super) fn playlist(text: &Playlist, cache: Cache, headers: &HeaderMap) -> Representation {
    let (coding, etag, body) = if takes_gzip(headers) {
        (Coding::Gzip, text.gzip_etag(), text.gzip())
    } else {
        (Coding::Identity, text.etag.clone(), &text.text)
    };
    let whole = Representation::new(PLAYLIST_TYPE, cache, body.clone());
    Representation { coding, etag: Some(etag), ..whole }
}

fn init(rendition: &RenditionSnapshot, session: SessionId, question: &Question<'_>) -> Option<Representation> {
    let data = &rendition.init(session)?.data;
    Some(media(question.resource, of(rendition), data))
}

/// A segment, by the name that it has in the rendition's container.
fn segment(rendition: &RenditionSnapshot, session: SessionId, msn: Msn, question: &Question<'_>) -> Option<Found> {
    let name = Resource::segment(rendition.container, rendition.name.clone(), session, msn);
    let segment = rendition.segment(session, msn).filter(|_| name == *question.resource)?;
    let expires = planned_removal(segment.program_date_time, question.window);
    Some(match segment.data() {
        Some(data) => Found::Now(Representation { expires, ..media(question.resource, of(rendition), data) }),
        None => {
            let absent = Representation::refusal(StatusCode::NOT_FOUND, "not found");
            Found::Archived(Archived { content_type: Some(of(rendition)), expires, absent })
        }
    })
}

/// When what was filmed at `begin` is to be gone from here (RFC 8216bis, 6.2.2), where that is sooner than caches may keep it:
/// it is listed for a window, and kept for as long again. Caches go by `max-age`, for it may be used even then.
fn planned_removal(begin: SystemTime, window: Duration) -> Option<SystemTime> {
    let kept = window.saturating_mul(2);
    if kept < Cache::IMMUTABLE_FOR { begin.checked_add(kept) } else { None }
}

/// A part, once it is complete (RFC 8216bis, 6.2.6: not a byte before that).
fn part(
    rendition: &RenditionSnapshot,
    piece: Piece<'_>,
    question: &Question<'_>,
    channel: &ChannelSnapshot,
) -> Option<Found> {
    let Resource::Part(_, session, msn, _) = question.resource else { return None };
    match piece {
        Piece::There(part) => {
            let begin = match rendition.segment(*session, *msn) {
                Some(segment) => Some(segment.program_date_time),
                None => rendition.open.as_ref().map(|open| open.program_date_time),
            };
            let expires = begin.and_then(|begin| planned_removal(begin, question.window));
            let part = media(question.resource, of(rendition), &part.data);
            Some(Found::Now(Representation { expires, ..part }))
        }
        Piece::Hinted => Some(Found::Later(wait(rendition, channel))),
        Piece::Unknown => None,
    }
}

fn of(rendition: &RenditionSnapshot) -> &'static str {
    media_type(rendition.container, rendition.kind)
}

/// Media never changes, so its tag follows from its identity, on all servers: no hash over megabytes for each request.
pub(super) fn media(resource: &Resource, content_type: &'static str, data: &Bytes) -> Representation {
    let identity = match resource {
        Resource::Segment(_, session, msn) | Resource::TsSegment(_, session, msn) => format!("{session}-{msn}"),
        Resource::Part(_, session, msn, part) => format!("{session}-{msn}.{part}"),
        Resource::Init(_, session) => format!("{session}-init"),
        Resource::Sheet(session, sheet) => format!("{session}-sheet-{sheet}"),
        Resource::Block(session, first) => format!("{session}-{first}-block"),
        Resource::Multivariant
        | Resource::Thumbnail
        | Resource::Playlist(_)
        | Resource::IFrames(_)
        | Resource::Chronicle
        | Resource::Clip(_)
        | Resource::Storyboard(_)
        | Resource::Excerpt(..) => String::new(),
    };
    let etag = Some(format!("\"{identity}-{}\"", data.len()));
    Representation { etag, ..Representation::new(content_type, Cache::Immutable, data.clone()) }
}

/// What the archive may have, else why it is not there.
fn not_in_memory(resource: &Resource, channel: &ChannelSnapshot) -> Found {
    let absent = absent(resource, channel);
    if !may_be_archived(resource, channel) {
        return Found::Now(absent);
    }
    let known = resource.rendition().and_then(|name| channel.rendition(name.as_str()));
    let content_type = known.map(|rendition| of(rendition));
    Found::Archived(Archived { content_type, expires: None, absent })
}

/// For all that is known here, `resource` was made before what is in memory, and may have been stored: what nobody can have
/// made is not worth a question.
fn may_be_archived(resource: &Resource, channel: &ChannelSnapshot) -> bool {
    let (name, session, msn) = match resource {
        Resource::Init(name, session) => (name, session, None),
        Resource::Segment(name, session, msn) | Resource::TsSegment(name, session, msn) => (name, session, Some(msn)),
        _ => return false,
    };
    let renditions = &channel.renditions;
    let is_made = |newest: Option<SessionId>, last: Option<Msn>| {
        newest.is_none_or(|newest| *session <= newest) && msn.zip(last).is_none_or(|(msn, last)| *msn <= last)
    };
    let newest = renditions.iter().filter_map(|rendition| newest_session(rendition)).max();
    let last = renditions.iter().filter_map(|rendition| Some(rendition.segments.back()?.msn)).max();
    // Sessions and numbers increase together.
    let held = channel.rendition(name.as_str()).and_then(|rendition| rendition.segments.front());
    let is_older = held.zip(msn).is_none_or(|(first, msn)| *msn < first.msn && *session <= first.session);
    is_made(newest, last) && is_older
}

fn newest_session(rendition: &RenditionSnapshot) -> Option<SessionId> {
    let made = rendition.segments.back().map(|segment| segment.session);
    let begun = rendition.inits.last().map(|init| init.session);
    made.max(begun).max(rendition.open.as_ref().map(|open| open.session))
}

/// Why `resource` is not there.
fn absent(resource: &Resource, channel: &ChannelSnapshot) -> Representation {
    match resource {
        Resource::Multivariant => Representation::refusal(StatusCode::NOT_FOUND, "the channel is not live"),
        Resource::Segment(name, session, msn)
        | Resource::TsSegment(name, session, msn)
        | Resource::Part(name, session, msn, _)
            if channel.rendition(name.as_str()).is_some_and(|r| has_left(r, *session, *msn)) =>
        {
            Representation::refusal(StatusCode::GONE, "no longer kept")
        }
        Resource::Part(name, session, msn, _)
            if channel.rendition(name.as_str()).is_some_and(|r| has_no_parts_left(r, *session, *msn)) =>
        {
            Representation::refusal(StatusCode::GONE, "no longer kept")
        }
        _ => Representation::refusal(StatusCode::NOT_FOUND, "not found"),
    }
}

/// The segment is kept, and its parts are not: the store has whole segments.
fn has_no_parts_left(rendition: &RenditionSnapshot, session: SessionId, msn: Msn) -> bool {
    rendition.segment(session, msn).is_some_and(|segment| segment.is_cold())
}

/// The number was used up before the oldest segment that is kept, in a run that is still known.
fn has_left(rendition: &RenditionSnapshot, session: SessionId, msn: Msn) -> bool {
    let is_known = rendition.init(session).is_some() || rendition.segments.iter().any(|s| s.session == session);
    is_known && rendition.segments.front().is_some_and(|first| msn < first.msn)
}
