//! What a channel publishes: playlists, initialisation segments, segments and parts, from one snapshot.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::caching::{Cache, PLAYLIST_TYPE, media_type};
use crate::ladder::RenditionKind;
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Msn, Playlist, RenditionSnapshot, SessionId};
use crate::origin::coding::takes_gzip;
use crate::origin::representation::{Coding, Representation};

/// The representation of `resource` in `channel`.
pub(super) fn find(resource: &Resource, channel: &ChannelSnapshot, headers: &HeaderMap) -> Representation {
    let rendition = |name: &crate::ladder::RenditionName| channel.rendition(name.as_str());
    let found = match resource {
        Resource::Multivariant => multivariant(channel, headers),
        Resource::Playlist(name) => rendition(name).and_then(|r| media_playlist(r, channel, headers)),
        Resource::Init(name, session) => rendition(name).and_then(|r| init(r, *session)),
        Resource::Segment(name, session, msn) => rendition(name).and_then(|r| segment(r, *session, *msn)),
        Resource::Part(name, session, msn, part) => rendition(name).and_then(|r| self::part(r, *session, *msn, *part)),
    };
    found.unwrap_or_else(|| absent(resource, channel))
}

fn multivariant(channel: &ChannelSnapshot, headers: &HeaderMap) -> Option<Representation> {
    let cache = Cache::multivariant(channel.target_duration_secs);
    Some(playlist(channel.multivariant.as_ref()?, cache, headers))
}

/// A media playlist. It alone says when it last changed: a player may take a playlist for broken whose
/// `Last-Modified` is three target durations old (Apple's authoring specification, 8.24), and of this one that is true.
fn media_playlist(
    rendition: &RenditionSnapshot,
    channel: &ChannelSnapshot,
    headers: &HeaderMap,
) -> Option<Representation> {
    let text = rendition.playlist.as_ref()?;
    let cache = Cache::playlist(channel.target_duration_secs);
    let modified = (!channel.ended).then_some(text.modified);
    Some(Representation { modified, ..playlist(text, cache, headers) })
}

fn playlist(text: &Playlist, cache: Cache, headers: &HeaderMap) -> Representation {
    let (coding, etag, body) = if takes_gzip(headers) {
        (Coding::Gzip, text.gzip_etag(), &text.gzip)
    } else {
        (Coding::Identity, text.etag.clone(), &text.text)
    };
    let whole = Representation::new(PLAYLIST_TYPE, cache, body.clone());
    Representation { coding, etag: Some(etag), ..whole }
}

fn init(rendition: &RenditionSnapshot, session: SessionId) -> Option<Representation> {
    let data = &rendition.init(session)?.data;
    Some(media(rendition.kind, format!("{session}-init"), data))
}

fn segment(rendition: &RenditionSnapshot, session: SessionId, msn: Msn) -> Option<Representation> {
    let data = &rendition.segment(session, msn)?.data;
    Some(media(rendition.kind, format!("{session}-{msn}"), data))
}

/// A part, once it is complete: of a finished segment, or of the one that is being made.
fn part(rendition: &RenditionSnapshot, session: SessionId, msn: Msn, index: u32) -> Option<Representation> {
    let open = rendition.open.as_ref().filter(|open| open.session == session && open.msn == msn);
    let parts = match open {
        Some(open) => &open.parts,
        None => &rendition.segment(session, msn)?.parts,
    };
    let part = parts.get(usize::try_from(index).ok()?)?;
    Some(media(rendition.kind, format!("{session}-{msn}.{index}"), &part.data))
}

/// Media never changes, so its tag follows from its identity: no hash over megabytes for each request.
fn media(kind: RenditionKind, identity: String, data: &Bytes) -> Representation {
    let etag = Some(format!("\"{identity}-{}\"", data.len()));
    Representation { etag, ..Representation::new(media_type(kind), Cache::Immutable, data.clone()) }
}

/// Why `resource` is not there.
fn absent(resource: &Resource, channel: &ChannelSnapshot) -> Representation {
    match resource {
        Resource::Multivariant => Representation::refusal(StatusCode::NOT_FOUND, "the channel is not live"),
        Resource::Segment(name, session, msn) | Resource::Part(name, session, msn, _)
            if channel.rendition(name.as_str()).is_some_and(|r| has_left(r, *session, *msn)) =>
        {
            Representation::refusal(StatusCode::GONE, "no longer kept")
        }
        _ => Representation::refusal(StatusCode::NOT_FOUND, "not found"),
    }
}

/// The number was used up before the oldest segment that is kept, in a run that is still known.
fn has_left(rendition: &RenditionSnapshot, session: SessionId, msn: Msn) -> bool {
    rendition.init(session).is_some() && rendition.segments.front().is_some_and(|first| msn < first.msn)
}
