//! What a channel published some time ago: recordings, clips and ranges of time.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;

use crate::archive::{Content, Copy, Lack, Past};
use crate::caching::{Cache, JSON_TYPE, PICTURE_TYPE, PLAYLIST_TYPE, STORYBOARD_TYPE};
use crate::chronicle::{Chronicle, InvalidMoment, Kind, Moment, Sight, Span, State, Stretch, TooLong};
use crate::ladder::RenditionName;
use crate::layout::{Excerpt, Resource};
use crate::live::{Directory, Msn, Playlist, SessionId};
use crate::media::MediaTime;
use crate::origin::archived::{document, has_ended, lacking};
use crate::origin::published::{media, playlist};
use crate::origin::representation::{Asked, Representation};
use crate::origin::route::{Portion, Target};
use crate::progressive::{Contents, Listed};
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
        let Index { chronicle, at_hand } = self.index(channel).await?;
        let (rendition, root) = match form {
            Form::Path | Form::Query => {
                let prefix = if *form == Form::Query { format!("range/{}/", span.steps()) } else { String::new() };
                let head = chronicle.head(span).ok_or(Lack::Absent)?;
                return Ok(self.representation(
                    head.multivariant(&prefix),
                    Cache::multivariant(head.target_duration_secs),
                    asked,
                ));
            }
            Form::PathOf(rendition) => (rendition, "../../../../"),
            Form::QueryOf(rendition) => (rendition, "../"),
        };
        let needed = chronicle.blocks(span).map_err(|error| Lack::Refused(error.to_string()))?;
        let blocks = self.past.blocks(channel, &needed).await?;
        let sight = Sight { blocks: &blocks.blocks, at_hand };
        let (stretch, kind) = chronicle.stretch(span, sight).ok_or(Lack::Absent)?;
        self.playlist(&stretch, rendition, root, kind, asked)
    }

    /// A recording that goes on is listed as it is now; one that is over, and a clip, as they were stored.
    async fn excerpt(
        &self,
        channel: &ChannelName,
        excerpt: &Excerpt,
        rendition: Option<&RenditionName>,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        let Excerpt::Recording(id) = excerpt else { return self.stored(channel, excerpt, rendition, asked).await };
        let own = self.own(channel).filter(|own| is_open(&own.chronicle, *id));
        let Index { chronicle, at_hand } = match own {
            Some(index) => index,
            None => match self.stored(channel, excerpt, rendition, asked).await {
                Err(lack @ (Lack::Absent | Lack::Failing)) => self.index(channel).await.map_err(|_| lack)?,
                found => return found,
            },
        };
        let programme = chronicle.programme(*id).filter(|programme| programme.recorded).ok_or(Lack::Absent)?;
        let Some(rendition) = rendition else {
            let cache = Cache::multivariant(programme.head.target_duration_secs);
            return Ok(self.representation(programme.head.multivariant(""), cache, asked));
        };
        let blocks = self.past.blocks(channel, &chronicle.blocks_of(*id)).await?;
        let sight = Sight { blocks: &blocks.blocks, at_hand };
        let (stretch, kind) = chronicle.whole(*id, sight).ok_or(Lack::Absent)?;
        self.playlist(&stretch, rendition, "../../../", kind, asked)
    }

    fn playlist(
        &self,
        stretch: &Stretch,
        rendition: &RenditionName,
        root: &str,
        kind: Kind,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        let text = stretch.playlist(rendition, root, kind).ok_or(Lack::Absent)?;
        let live = Cache::playlist(stretch.head.target_duration_secs);
        Ok(self.representation(text, if kind == Kind::Vod { Cache::OVER } else { live }, asked))
    }

    async fn stored(
        &self,
        channel: &ChannelName,
        excerpt: &Excerpt,
        rendition: Option<&RenditionName>,
        asked: &Asked<'_>,
    ) -> Result<Representation, Lack> {
        let resource = Resource::Excerpt(excerpt.clone(), rendition.cloned());
        self.past.stored(channel, &resource).await.map(|copy| as_stored(&copy, asked))
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
            let text = Playlist::tagged(chronicle.text().into(), self.now);
            return Ok(document(&text, Cache::EDGE, asked.headers));
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
        let (stretch, name) = match portion {
            Portion::Excerpt(Excerpt::Clip(clip)) => {
                let copy = self.past.stored(channel, &Resource::Clip(clip.clone())).await?;
                let stretch = serde_json::from_slice(copy.data()).map_err(|_| Lack::Failing)?;
                (stretch, clip.to_string())
            }
            Portion::Excerpt(Excerpt::Recording(id)) => {
                let Index { chronicle, at_hand } = self.index(channel).await?;
                let programme = chronicle.programme(*id).filter(|programme| programme.recorded).ok_or(Lack::Absent)?;
                let needed = chronicle.blocks_of(*id);
                if needed.len() < programme.blocks.len() {
                    return Err(Lack::Refused(TooLong.to_string()));
                }
                let blocks = self.past.blocks(channel, &needed).await?;
                let whole = chronicle.whole(*id, Sight { blocks: &blocks.blocks, at_hand });
                (over(whole)?, id.to_string())
            }
            Portion::Range(span) => {
                let Index { chronicle, at_hand } = self.index(channel).await?;
                let needed = chronicle.blocks(*span).map_err(|error| Lack::Refused(error.to_string()))?;
                let blocks = self.past.blocks(channel, &needed).await?;
                let stretch = chronicle.stretch(*span, Sight { blocks: &blocks.blocks, at_hand });
                (over(stretch)?, span.steps().replace('/', "-"))
            }
        };
        let tracks = stretch.tracks(rendition).ok_or(Lack::Absent)?;
        let listed = |resource| Listed { resource, shift: MediaTime::ZERO };
        let tracks = tracks.into_iter().map(|track| track.into_iter().map(listed).collect()).collect();
        Ok((Contents { channel: channel.clone(), tracks }, format!("{channel}-{name}-{rendition}.mp4")))
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
        let at_hand = view.live.borrow().renditions.iter().map(|rendition| rendition.first_listed).max();
        Some(Index { chronicle, at_hand })
    }

    fn representation(&self, text: String, cache: Cache, asked: &Asked<'_>) -> Representation {
        playlist(&Playlist::tagged(text.into(), self.now), cache, asked.headers)
    }
}

/// What will not get more.
fn over(found: Option<(Stretch, Kind)>) -> Result<Stretch, Lack> {
    match found.ok_or(Lack::Absent)? {
        (stretch, Kind::Vod) => Ok(stretch),
        _ => Err(Lack::Refused("that goes on; a file is made of what is over".to_owned())),
    }
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
