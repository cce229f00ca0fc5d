//! The tree of URLs, which is also the tree of objects in the store: the one place that builds and reads paths.
//!
//! Paths have no leading slash: `live/CHANNEL/RENDITION/SESSION/MSN.m4s`.

use serde::{Deserialize, Serialize};

use crate::chronicle::ClipName;
use crate::ladder::RenditionName;
use crate::live::{Msn, SessionId};
use crate::media::Container;
use crate::source::ChannelName;

/// The path of what has this path below `live/CHANNEL/`.
#[must_use]
pub fn key(channel: &ChannelName, below_channel: &str) -> String {
    format!("live/{channel}/{below_channel}")
}

/// What a path below `live/CHANNEL/` names. Only canonical paths are paths: numbers without leading zeros or signs,
/// names of the grammar, nothing escaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// `index.m3u8`
    Multivariant,
    /// `thumb.jpg`
    Thumbnail,
    /// `RENDITION/index.m3u8`
    Playlist(RenditionName),
    /// `RENDITION/iframes.m3u8`
    IFrames(RenditionName),
    /// `RENDITION/SESSION/init.mp4`
    Init(RenditionName, SessionId),
    /// `RENDITION/SESSION/MSN.m4s`
    Segment(RenditionName, SessionId, Msn),
    /// `RENDITION/SESSION/MSN.ts`
    TsSegment(RenditionName, SessionId, Msn),
    /// `RENDITION/SESSION/MSN.PART.m4s`; parts are counted from 0.
    Part(RenditionName, SessionId, Msn, u32),
    /// `chronicle/index.json`: what is kept beyond the live window.
    Chronicle,
    /// `chronicle/SESSION-MSN.json`: what begins with this segment, and does not change any more.
    Block(SessionId, Msn),
    /// `clips/NAME/clip.json`: what a clip lists.
    Clip(ClipName),
    /// `recordings/SESSION/storyboard.vtt`: which small picture belongs to which time of a recording.
    Storyboard(SessionId),
    /// `recordings/SESSION/storyboard-N.jpg`: a sheet of them, counted from 0.
    Sheet(SessionId, u32),
    /// A playlist of what was: the multivariant one, `index.m3u8` in the excerpt's directory, or that of a rendition,
    /// `RENDITION/index.m3u8` below it.
    Excerpt(Excerpt, Option<RenditionName>),
}

/// A part of a channel's past that has playlists of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Excerpt {
    /// `recordings/SESSION/`: a programme, by its first run.
    Recording(SessionId),
    /// `clips/NAME/`
    Clip(ClipName),
}

impl Excerpt {
    /// Its directory below the channel, with a slash at its end.
    #[must_use]
    pub fn directory(&self) -> String {
        match self {
            Self::Recording(id) => format!("recordings/{id}/"),
            Self::Clip(name) => format!("clips/{name}/"),
        }
    }

    /// Reads the two steps of its directory.
    #[must_use]
    pub fn parse(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "recordings" => Some(Self::Recording(SessionId(number(name)?))),
            "clips" => Some(Self::Clip(ClipName::new(name).ok()?)),
            _ => None,
        }
    }
}

impl Resource {
    /// A segment in this container.
    #[must_use]
    pub fn segment(container: Container, rendition: RenditionName, session: SessionId, msn: Msn) -> Self {
        match container {
            Container::Cmaf => Self::Segment(rendition, session, msn),
            Container::Ts => Self::TsSegment(rendition, session, msn),
        }
    }

    /// The path of this resource of `channel`.
    #[must_use]
    pub fn path(&self, channel: &ChannelName) -> String {
        key(channel, &self.below_channel())
    }

    /// It is a text, which may change; everything else never does.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.takes_directives()
            || matches!(
                self,
                Self::Multivariant | Self::Excerpt(..) | Self::Chronicle | Self::Clip(_) | Self::Storyboard(_)
            )
    }

    /// It is a playlist that takes delivery directives (RFC 8216bis, 6.2.5): a media playlist.
    #[must_use]
    pub fn takes_directives(&self) -> bool {
        matches!(self, Self::Playlist(_) | Self::IFrames(_))
    }

    /// The rendition in whose directory it is.
    #[must_use]
    pub fn rendition(&self) -> Option<&RenditionName> {
        match self {
            Self::Multivariant
            | Self::Thumbnail
            | Self::Chronicle
            | Self::Block(..)
            | Self::Clip(_)
            | Self::Storyboard(_)
            | Self::Sheet(..)
            | Self::Excerpt(..) => None,
            Self::Playlist(rendition)
            | Self::IFrames(rendition)
            | Self::Init(rendition, _)
            | Self::Segment(rendition, ..)
            | Self::TsSegment(rendition, ..)
            | Self::Part(rendition, ..) => Some(rendition),
        }
    }

    /// The path as the multivariant playlist names it, relative to itself.
    #[must_use]
    pub fn below_channel(&self) -> String {
        match self.rendition() {
            None => self.below_rendition(),
            Some(rendition) => format!("{rendition}/{}", self.below_rendition()),
        }
    }

    /// The path as the rendition's media playlist names it, relative to itself; of what is in no rendition's directory, relative to the
    /// channel's.
    #[must_use]
    pub fn below_rendition(&self) -> String {
        match self {
            Self::Multivariant | Self::Playlist(_) => "index.m3u8".to_owned(),
            Self::Thumbnail => "thumb.jpg".to_owned(),
            Self::IFrames(_) => "iframes.m3u8".to_owned(),
            Self::Init(_, session) => format!("{session}/init.mp4"),
            Self::Segment(_, session, msn) => format!("{session}/{msn}.m4s"),
            Self::TsSegment(_, session, msn) => format!("{session}/{msn}.ts"),
            Self::Part(_, session, msn, part) => format!("{session}/{msn}.{part}.m4s"),
            Self::Chronicle => "chronicle/index.json".to_owned(),
            Self::Block(session, first) => format!("chronicle/{session}-{first}.json"),
            Self::Clip(name) => format!("clips/{name}/clip.json"),
            Self::Storyboard(id) => format!("recordings/{id}/storyboard.vtt"),
            Self::Sheet(id, sheet) => format!("recordings/{id}/storyboard-{sheet}.jpg"),
            Self::Excerpt(excerpt, None) => format!("{}index.m3u8", excerpt.directory()),
            Self::Excerpt(excerpt, Some(rendition)) => format!("{}{rendition}/index.m3u8", excerpt.directory()),
        }
    }

    /// Reads a path. None for whatever [`Resource::path`] would not have written.
    #[must_use]
    pub fn parse(path: &str) -> Option<(ChannelName, Self)> {
        let mut steps = path.split('/');
        if steps.next()? != "live" {
            return None;
        }
        let channel = ChannelName::new(steps.next()?).ok()?;
        let steps: Vec<&str> = steps.take(STEPS_MAX + 1).collect();
        let resource = match *steps {
            ["index.m3u8"] => Self::Multivariant,
            ["thumb.jpg"] => Self::Thumbnail,
            [rendition, "index.m3u8"] => Self::Playlist(RenditionName::new(rendition).ok()?),
            [rendition, "iframes.m3u8"] => Self::IFrames(RenditionName::new(rendition).ok()?),
            ["chronicle", "index.json"] => Self::Chronicle,
            ["chronicle", file] => {
                let (session, first) = file.strip_suffix(".json")?.split_once('-')?;
                Self::Block(SessionId(number(session)?), Msn(number(first)?))
            }
            ["clips", name, "clip.json"] => Self::Clip(ClipName::new(name).ok()?),
            ["recordings", id, "storyboard.vtt"] => Self::Storyboard(SessionId(number(id)?)),
            ["recordings", id, file] if file.starts_with("storyboard-") => {
                let sheet = file.strip_prefix("storyboard-")?.strip_suffix(".jpg")?;
                Self::Sheet(SessionId(number(id)?), u32::try_from(number(sheet)?).ok()?)
            }
            [kind, name, "index.m3u8"] => Self::Excerpt(Excerpt::parse(kind, name)?, None),
            [kind, name, rendition, "index.m3u8"] => {
                Self::Excerpt(Excerpt::parse(kind, name)?, Some(RenditionName::new(rendition).ok()?))
            }
            [rendition, session, file] => {
                media_file(RenditionName::new(rendition).ok()?, SessionId(number(session)?), file)?
            }
            _ => return None,
        };
        Some((channel, resource))
    }
}

/// Steps below a channel's directory that a path has at most.
const STEPS_MAX: usize = 4;

/// A file in a session's directory.
fn media_file(rendition: RenditionName, session: SessionId, file: &str) -> Option<Resource> {
    if file == "init.mp4" {
        return Some(Resource::Init(rendition, session));
    }
    if let Some(stem) = file.strip_suffix(".ts") {
        return Some(Resource::TsSegment(rendition, session, Msn(number(stem)?)));
    }
    let stem = file.strip_suffix(".m4s")?;
    match stem.split_once('.') {
        None => Some(Resource::Segment(rendition, session, Msn(number(stem)?))),
        Some((msn, part)) => {
            let part = u32::try_from(number(part)?).ok()?;
            Some(Resource::Part(rendition, session, Msn(number(msn)?), part))
        }
    }
}

/// A decimal number as `Display` writes it.
fn number(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_paths_are_read() {
        for path in [
            "",
            "live",
            "live/demo",
            "live/demo/",
            "/live/demo/index.m3u8",
            "live/demo/index.m3u8/",
            "live/../index.m3u8",
            "live/demo/720p/1/01.m4s",
            "live/demo/720p/1/+1.m4s",
            "live/demo/720p/1/1.2.3.m4s",
            "live/demo/720p/1/.m4s",
            "live/demo/720p/1/.ts",
            "live/demo/720p/1/1.0.ts",
            "live/demo/720p/1/1.m4s/x",
            "live/de%6do/index.m3u8",
            "live/demo/720p/99999999999999999999/1.m4s",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn paths_survive_the_round_trip(
            channel in "[a-zA-Z0-9_-]{1,64}", rendition in "[a-zA-Z0-9_-]{1,64}", session: u64, msn: u64, part: u32, which in 0..15
        ) {
            let channel = ChannelName::new(&channel).unwrap();
            let rendition = RenditionName::new(&rendition).unwrap();
            let resource = match which {
                0 => Resource::Multivariant,
                1 => Resource::Playlist(rendition),
                2 => Resource::Init(rendition, SessionId(session)),
                3 => Resource::Segment(rendition, SessionId(session), Msn(msn)),
                4 => Resource::IFrames(rendition),
                5 => Resource::TsSegment(rendition, SessionId(session), Msn(msn)),
                6 => Resource::Thumbnail,
                7 => Resource::Chronicle,
                8 => Resource::Block(SessionId(session), Msn(msn)),
                9 => Resource::Clip(ClipName::new(rendition.as_str()).unwrap()),
                12 => Resource::Storyboard(SessionId(session)),
                13 => Resource::Sheet(SessionId(session), part),
                10 => Resource::Excerpt(Excerpt::Recording(SessionId(session)), Some(rendition)),
                11 => Resource::Excerpt(Excerpt::Clip(ClipName::new(rendition.as_str()).unwrap()), None),
                _ => Resource::Part(rendition, SessionId(session), Msn(msn), part),
            };
            prop_assert_eq!(Resource::parse(&resource.path(&channel)), Some((channel, resource)));
        }
    }
}
