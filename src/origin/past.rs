//! What a channel published some time ago: recordings, clips and ranges of time.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;

use crate::archive::{Blocks, Content, Copy, Lack, List, Past};
use crate::caching::{Cache, JSON_TYPE, PICTURE_TYPE, PLAYLIST_TYPE, STORYBOARD_TYPE};
use crate::chronicle::{
    BlockKey, Chronicle, InvalidMoment, Kind, Moment, Programme, Sight, Span, State, Stretch, TooLong,
};
use crate::ladder::RenditionName;
use crate::layout::{Excerpt, Resource};
use crate::live::{Directory, Msn, Playlist, SessionId};
use crate::origin::archived::{document, has_ended, lacking};
use crate::origin::published::{media, playlist};
use crate::origin::representation::{Asked, Representation};
use crate::origin::route::{Portion, Target};
use crate::progressive::Contents;
use crate::source::ChannelName;

/// A request for what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A playlist of a range of time.
    Range(ChannelName, Span, Form),
    /// A playlist that is stored, or will be when its programme is over.
    Excerpt(ChannelName, Excerpt, Option<RenditionName>),
    /// What the index consists of, or a storyboard.
    Index(ChannelName, Resource),
}

/// Which playlist of a range is asked for, and by what URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `range/START/END/index.m3u8`
    Path,
    /// `range/START/END/RENDITION/index.m3u8`
    PathOf(RenditionName),
    /// `index.m3u8?start=START&end=END`
    Query,
    /// `RENDITION/index.m3u8?start=START&end=END`
    QueryOf(RenditionName),
}

impl Look {
    /// What `target` asks for of what was; none where it asks for what is.
    ///
    /// # Errors
    /// A time that is none.
    pub(super) fn read(target: &Target, query: Option<&str>) -> Result<Option<Self>, InvalidMoment> {
        let look = match target {
            Target::Range(channel, span, rendition) => {
                let form = rendition.clone().map_or(Form::Path, Form::PathOf);
                Some(Self::Range(channel.clone(), *span, form))
            }
            Target::Published(channel, Resource::Excerpt(excerpt, rendition)) => {
                Some(Self::Excerpt(channel.clone(), excerpt.clone(), rendition.clone()))
            }
            Target::Published(
                channel,
                part @ (Resource::Chronicle
                | Resource::Block(..)
                | Resource::Clip(_)
                | Resource::Storyboard(_)
                | Resource::Sheet(..)),
            ) => Some(Self::Index(channel.clone(), part.clone())),
            Target::Published(channel, Resource::Multivariant) => {
                span(query)?.map(|span| Self::Range(channel.clone(), span, Form::Query))
            }
            Target::Published(channel, Resource::Playlist(rendition)) => {
                span(query)?.map(|span| Self::Range(channel.clone(), span, Form::QueryOf(rendition.clone())))
            }
            _ => None,
        };
        Ok(look)
    }
}

/// The range that a query asks for: `start`, and `end` where it does not go on.
fn span(query: Option<&str>) -> Result<Option<Span>, InvalidMoment> {
    let value = |name: &str| {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
        Some(percent_decode_str(value).decode_utf8_lossy().parse::<Moment>())
    };
    let (start, end) = (value("start").transpose()?, value("end").transpose()?);
    // From the beginning of all that is kept.
    Ok((start.is_some() || end.is_some()).then(|| Span { start: start.unwrap_or(Moment(0)), end }))
}

/// A channel's index.
struct Index {
    chronicle: Arc<Chronicle>,
    /// The first number that can be had though nobody may have seen it in the store.
    at_hand: Option<Msn>,
}

impl Index {
    /// What there is of a range, by these blocks.
    fn stretch(&self, span: Span, blocks: &Blocks) -> Option<(Stretch, Kind)> {
        self.chronicle.stretch(span, Sight { blocks, at_hand: self.at_hand })
    }

    /// What there is of a recording, by these blocks.
    fn whole(&self, id: SessionId, blocks: &Blocks) -> Option<(Stretch, Kind)> {
        self.chronicle.whole(id, Sight { blocks, at_hand: self.at_hand })
    }

    /// The recording of this name.
    fn recorded(&self, id: SessionId) -> Result<&Programme, Lack> {
        self.chronicle.programme(id).filter(|programme| programme.recorded).ok_or(Lack::Absent)
    }
}

/// What a list made by it depends on.
impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.chronicle.revision, self.at_hand.map_or(0, |first| first.0))
    }
}

/// Answers requests for what was.
pub(super) struct Looker<'a> {
    pub(super) past: &'a Past,
    /// The channels of this process.
    pub(super) directory: &'a Directory,
    pub(super) now: SystemTime,
}

impl Looker<'_> {
    pub(super) async fn answer(&self, look: &Look, asked: &Asked<'_>) -> Response<Bytes> {
        let found = match look {
            Look::Range(channel, span, form) => self.range(channel, *span, form, asked).await,
            Look::Excerpt(channel, excerpt, rendition) => {
                self.excerpt(channel, excerpt, rendition.as_ref(), asked).await
            }
            Look::Index(channel, part) => self.part_of_index(channel, part, asked).await,
        };
        match found {
            Ok(representation) => representation.reply(asked),
            Err(lack) => lacking(lack, asked),
        }
    }

    async fn range(
        &self,
        channel: &ChannelName,
        span: Span,
        form: &Form,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        let index = self.index(channel).await?;
        let (rendition, root) = match form {
            Form::Path | Form::Query => {
                let prefix = if *form == Form::Query { format!("range/{}/", span.steps()) } else { String::new() };
                let head = index.chronicle.head(span).ok_or(Lack::Absent)?;
                return Ok(self.representation(
                    head.multivariant(&prefix),
                    Cache::multivariant(head.target_duration_secs),
                    asked,
                ));
            }
            Form::PathOf(rendition) => (rendition, "../../../../"),
            Form::QueryOf(rendition) => (rendition, "../"),
        };
        let name = format!("{channel}/{}/{rendition}/{root} {index}", span.steps());
        let needed = blocks_of(&index, span)?;
        let (rendition, now) = (rendition.clone(), self.now);
        let make = move |blocks: &Blocks| list(&index.stretch(span, blocks)?, &rendition, root, now);
        self.past.list(name, channel, &needed, make).await.map(|list| playlist(&list.text, list.cache, asked.headers))
    }

    /// A recording that goes on is listed as it is now; one that is over, and a clip, as they were stored.
    async fn excerpt(
        &self,
        channel: &ChannelName,
        excerpt: &Excerpt,
        rendition: Option<&RenditionName>,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        let resource = Resource::Excerpt(excerpt.clone(), rendition.cloned());
        self.is_listed(channel, &resource).await?;
        let Excerpt::Recording(id) = excerpt else { return self.stored(channel, &resource, asked).await };
        let own = self.own(channel).filter(|own| is_open(&own.chronicle, *id));
        let index = match own {
            Some(index) => index,
            None => match self.stored(channel, &resource, asked).await {
                Err(lack @ (Lack::Absent | Lack::Failing)) => self.index(channel).await.map_err(|_| lack)?,
                found => return found,
            },
        };
        let programme = index.recorded(*id)?;
        let Some(rendition) = rendition else {
            let cache = Cache::multivariant(programme.head.target_duration_secs);
            return Ok(self.representation(programme.head.multivariant(""), cache, asked));
        };
        let (name, needed) = (format!("{channel}/{id}/{rendition} {index}"), index.chronicle.blocks_of(*id));
        let (rendition, id, now) = (rendition.clone(), *id, self.now);
        let make = move |blocks: &Blocks| list(&index.whole(id, blocks)?, &rendition, "../../../", now);
        self.past.list(name, channel, &needed, make).await.map(|list| playlist(&list.text, list.cache, asked.headers))
    }

    /// What the index does not list is not asked for: random names, and what was removed.
    async fn is_listed(&self, channel: &ChannelName, resource: &Resource) -> Result<(), Lack> {
        match self.index(channel).await {
            Ok(index) if !index.chronicle.lists(resource) => Err(Lack::Absent),
            Err(Lack::Absent) => Err(Lack::Absent),
            // The thing itself may be had nevertheless.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn stored(
        &self,
        channel: &ChannelName,
        resource: &Resource,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        self.past.stored(channel, resource).await.map(|copy| as_stored(&copy, asked))
    }

    async fn part_of_index(
        &self,
        channel: &ChannelName,
        part: &Resource,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        if *part == Resource::Chronicle
            && let Some(Index { chronicle, .. }) = self.own(channel)
        {
            let (name, now) = (format!("{channel} {}", chronicle.revision), self.now);
            let make = move |_: &Blocks| {
                Some(List { text: Playlist::tagged(chronicle.text().into(), now), cache: Cache::EDGE })
            };
            let list = self.past.list(name, channel, &[], make).await?;
            return Ok(document(&list.text, list.cache, asked.headers));
        }
        if *part != Resource::Chronicle {
            self.is_listed(channel, part).await?;
        }
        let copy = self.past.stored(channel, part).await?;
        let content_type = match part {
            Resource::Storyboard(_) => STORYBOARD_TYPE,
            Resource::Sheet(..) => PICTURE_TYPE,
            _ => JSON_TYPE,
        };
        Ok(match &copy.content {
            Content::Text(text) => Representation { content_type, ..document(text, copy.cache, asked.headers) },
            Content::Media(data) => Representation { cache: copy.cache, ..media(part, content_type, data) },
        })
    }

    /// The segments of a file, and its name: of what is over, and of nothing that may get more.
    ///
    /// # Errors
    /// Where there is nothing, or it cannot be had, or goes on.
    pub(super) async fn contents(
        &self,
        channel: &ChannelName,
        portion: &Portion,
        rendition: &RenditionName,
    ) -> Result<(Contents, String), Lack> {
        let (asked, rendition, of) = (rendition, rendition.clone(), channel.clone());
        let contents = move |stretch: &Stretch| stretch.tracks(&rendition).map(|tracks| Contents::new(of, tracks));
        let (contents, name) = match portion {
            Portion::Excerpt(Excerpt::Clip(clip)) => {
                let resource = Resource::Clip(clip.clone());
                self.is_listed(channel, &resource).await?;
                let copy = self.past.stored(channel, &resource).await?;
                let make = move |_: &Blocks| {
                    let stretch: Stretch = serde_json::from_slice(copy.data()).map_err(|_| Lack::Failing)?;
                    Ok(contents(&stretch))
                };
                (self.past.made(channel, &[], make).await?, clip.to_string())
            }
            Portion::Excerpt(Excerpt::Recording(id)) => {
                let (index, id) = (self.index(channel).await?, *id);
                let needed = index.chronicle.blocks_of(id);
                if needed.len() < index.recorded(id)?.blocks.len() {
                    return Err(Lack::Refused(TooLong.to_string()));
                }
                let is_over = index.recorded(id)?.state != State::Open;
                let make = move |blocks: &Blocks| over(index.whole(id, blocks), is_over).map(|found| contents(&found));
                (self.past.made(channel, &needed, make).await?, id.to_string())
            }
            Portion::Range(span) => {
                let (index, span) = (self.index(channel).await?, *span);
                let needed = blocks_of(&index, span)?;
                let is_over = index.chronicle.is_over(span);
                let make =
                    move |blocks: &Blocks| over(index.stretch(span, blocks), is_over).map(|found| contents(&found));
                (self.past.made(channel, &needed, make).await?, span.steps().replace('/', "-"))
            }
        };
        let contents = contents?.ok_or(Lack::Absent)?;
        Ok((contents, format!("{channel}-{name}-{asked}.mp4")))
    }

    async fn index(&self, channel: &ChannelName) -> Result<Index, Lack> {
        match self.own(channel) {
            Some(index) => Ok(index),
            None => self.past.chronicle(channel).await.map(|chronicle| Index { chronicle, at_hand: None }),
        }
    }

    /// The index of a channel of this process, where it is known.
    fn own(&self, channel: &ChannelName) -> Option<Index> {
        let view = self.directory.get(channel)?;
        let chronicle = view.chronicle.borrow().clone()?;
        Some(Index { chronicle, at_hand: view.live.borrow().first() })
    }

    fn representation(&self, text: String, cache: Cache, asked: &Asked<'_>) -> Representation {
        playlist(&Playlist::tagged(text.into(), self.now), cache, asked.headers)
    }
}

/// What will not get more and is stored; the files are made of what the store has.
fn over(found: Option<(Stretch, Kind)>, is_over: bool) -> Result<Stretch, Lack> {
    match found.ok_or(Lack::Absent)? {
        (stretch, Kind::Vod) => Ok(stretch),
        // In some seconds it is stored.
        _ if is_over => Err(Lack::Busy),
        _ => Err(Lack::Refused("that goes on; a file is made of what is over".to_owned())),
    }
}

fn blocks_of(index: &Index, span: Span) -> Result<Vec<BlockKey>, Lack> {
    index.chronicle.blocks(span).map_err(|error| Lack::Refused(error.to_string()))
}

/// The list of a rendition, from which `root` leads to the channel's directory.
fn list(found: &(Stretch, Kind), rendition: &RenditionName, root: &str, now: SystemTime) -> Option<List> {
    let (stretch, kind) = found;
    let text = stretch.playlist(rendition, root, *kind)?;
    let live = Cache::playlist(stretch.head.target_duration_secs);
    let cache = if *kind == Kind::Vod { Cache::OVER } else { live };
    Some(List { text: Playlist::tagged(text.into(), now), cache })
}

fn is_open(chronicle: &Chronicle, id: SessionId) -> bool {
    chronicle.programme(id).is_some_and(|programme| programme.recorded && programme.state == State::Open)
}

fn as_stored(copy: &Copy, asked: &Asked<'_>) -> Representation {
    let cache = if has_ended(copy) { Cache::OVER } else { copy.cache };
    match &copy.content {
        Content::Text(text) => Representation { stale: copy.stale, ..playlist(text, cache, asked.headers) },
        Content::Media(data) => Representation::new(PLAYLIST_TYPE, cache, data.clone()),
    }
}

/// The answer to a range that is no range.
pub(super) fn refused(error: &InvalidMoment, asked: &Asked<'_>) -> Response<Bytes> {
    Representation::refusal(StatusCode::BAD_REQUEST, &error.to_string()).reply(asked)
}
