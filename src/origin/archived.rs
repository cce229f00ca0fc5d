//! What a channel publishes that is not in this process, or no more: from the archive, as it would be served from here.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tokio::task::JoinSet;

use crate::archive::{Archive, Content, Copy, Lack, Wanted};
use crate::caching::{Cache, JSON_TYPE, type_of};
use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::live::{Playlist, Thumbnail};
use crate::origin::answer::{busy, later};
use crate::origin::directives::Directives;
use crate::origin::listing::{self, Seen};
use crate::origin::parking::Parking;
use crate::origin::published::{media, playlist, thumbnail};
use crate::origin::representation::{Asked, Representation};
use crate::source::ChannelName;

/// A request for something published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) channel: &'a ChannelName,
    pub(super) resource: &'a Resource,
    pub(super) query: Option<&'a str>,
}

impl Question<'_> {
    /// The answer. One that is not at hand and may have to be waited for takes a place in `parking`.
    pub(super) async fn answer(&self, archive: &dyn Archive, parking: &Parking, asked: &Asked<'_>) -> Response<Bytes> {
        let directives = Directives::read(self.query.filter(|_| self.resource.takes_directives()));
        let text = directives.unwrap_or_default().query();
        let wanted = Wanted { channel: self.channel, resource: self.resource, directives: text.as_deref() };
        let found = match archive.peek(wanted) {
            Some(found) => found,
            None => {
                let place = wanted.waits().then(|| parking.enter(self.channel));
                if matches!(place, Some(None)) { Err(Lack::Busy) } else { archive.fetch(wanted).await }
            }
        };
        match (found, directives) {
            // After the end directives are ignored (RFC 8216bis, 6.2.5), and so are bad ones.
            (Ok(copy), Err(bad)) if !has_ended(&copy) => {
                Representation::refusal(StatusCode::BAD_REQUEST, &bad.to_string()).reply(asked)
            }
            (Ok(copy), _) => representation(self.resource, &copy, asked.headers).reply(asked),
            (Err(lack), _) => lacking(lack, asked),
        }
    }
}

/// Media of a channel of this process that is not in its memory.
#[derive(Clone, Debug)]
pub struct Archived {
    /// Its `Content-Type`, where its rendition is known.
    pub(super) content_type: Option<&'static str>,
    /// When it is to be gone from here, where that is known.
    pub(super) expires: Option<SystemTime>,
    /// What is said where the archive does not have it.
    pub(super) absent: Representation,
}

impl Archived {
    /// The answer, as it would be from memory.
    pub(super) async fn answer(self, archive: &dyn Archive, wanted: Wanted<'_>, asked: &Asked<'_>) -> Response<Bytes> {
        match archive.fetch(wanted).await {
            Ok(copy) => {
                let content_type = self.content_type.unwrap_or_else(|| type_of(wanted.resource));
                let whole = media(wanted.resource, content_type, copy.data());
                Representation { expires: self.expires, ..whole }.reply(asked)
            }
            Err(Lack::Absent) => self.absent.reply(asked),
            Err(lack) => lacking(lack, asked),
        }
    }

    /// The answer where nobody asks the archive.
    pub(super) fn absent(self, asked: &Asked<'_>) -> Response<Bytes> {
        self.absent.reply(asked)
    }
}

/// The channels that can be watched: as who knows them says, else those among `names` whose playlists have not ended.
pub(super) async fn channels(archive: &Arc<dyn Archive>, names: &[ChannelName]) -> Representation {
    if let Some(known) = archive.listing().await {
        return listing::document(known);
    }
    let mut looks = JoinSet::new();
    for name in names {
        let (archive, name) = (Arc::clone(archive), name.clone());
        looks.spawn(async move { look(&*archive, name).await });
    }
    let mut seen: Vec<Seen> = looks.join_all().await.into_iter().flatten().collect();
    seen.sort_by(|one, other| one.name.cmp(&other.name));
    listing::seen(&seen)
}

/// A channel as its playlists show it, where it has some and they have not ended.
async fn look(archive: &dyn Archive, name: ChannelName) -> Option<Seen> {
    let wanted = |resource| Wanted { channel: &name, resource, directives: None };
    let multivariant = archive.fetch(wanted(&Resource::Multivariant)).await.ok()?;
    let text = std::str::from_utf8(multivariant.data()).ok()?;
    let mut renditions: Vec<RenditionName> = Vec::new();
    for uri in text.lines().filter_map(|line| line.strip_suffix("/index.m3u8")) {
        // A picture is named for each kind of sound.
        renditions.extend(RenditionName::new(uri).ok().filter(|name| !renditions.contains(name)));
    }
    let first = Resource::Playlist(renditions.first()?.clone());
    let first = archive.fetch(wanted(&first)).await.ok()?;
    (!has_ended(&first)).then(|| Seen { name: name.clone(), renditions })
}

pub(super) fn has_ended(copy: &Copy) -> bool {
    copy.data().ends_with(b"#EXT-X-ENDLIST\n")
}

fn representation(resource: &Resource, copy: &Copy, headers: &HeaderMap) -> Representation {
    match &copy.content {
        Content::Text(text) => {
            let modified = copy.modified.filter(|_| !has_ended(copy));
            Representation { modified, stale: copy.stale, ..playlist(text, copy.cache, headers) }
        }
        Content::Media(data) if *resource == Resource::Thumbnail => thumbnail(&Thumbnail::new(data.clone())),
        Content::Media(data) => Representation { cache: copy.cache, ..media(resource, type_of(resource), data) },
    }
}

/// A text that is JSON, in the coding that is asked for.
pub(super) fn document(text: &Playlist, cache: Cache, headers: &HeaderMap) -> Representation {
    Representation { content_type: JSON_TYPE, ..playlist(text, cache, headers) }
}

pub(super) fn lacking(lack: Lack, asked: &Asked<'_>) -> Response<Bytes> {
    match lack {
        Lack::Absent => Representation::refusal(StatusCode::NOT_FOUND, "not found").reply(asked),
        Lack::Gone => Representation::refusal(StatusCode::GONE, "no longer kept").reply(asked),
        Lack::Refused(why) => Representation::refusal(StatusCode::BAD_REQUEST, &why).reply(asked),
        Lack::Busy => busy(asked),
        Lack::Failing => later("what is asked for is kept elsewhere, and cannot be had from there now", asked),
    }
}
