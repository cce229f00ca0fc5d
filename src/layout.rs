//! The tree of URLs, which is also the tree of objects in the store: the one place that builds and reads paths.
//!
//! Paths have no leading slash: `live/CHANNEL/RENDITION/SESSION/MSN.m4s`.

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// It is a playlist, which changes; everything else never does.
    #[must_use]
    pub fn is_playlist(&self) -> bool {
        self.takes_directives() || *self == Self::Multivariant
    }

    /// It is a playlist that takes delivery directives (RFC 8216bis, 6.2.5): a media playlist.
    #[must_use]
    pub fn takes_directives(&self) -> bool {
        matches!(self, Self::Playlist(_) | Self::IFrames(_))
    }

    /// The rendition that it belongs to.
    #[must_use]
    pub fn rendition(&self) -> Option<&RenditionName> {
        match self {
            Self::Multivariant | Self::Thumbnail => None,
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

    /// The path as the rendition's media playlist names it, relative to itself.
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
        let second = steps.next()?;
        let resource = match (steps.next(), steps.next(), steps.next()) {
            (None, ..) if second == "index.m3u8" => Self::Multivariant,
            (None, ..) if second == "thumb.jpg" => Self::Thumbnail,
            (Some("index.m3u8"), None, _) => Self::Playlist(RenditionName::new(second).ok()?),
            (Some("iframes.m3u8"), None, _) => Self::IFrames(RenditionName::new(second).ok()?),
            (Some(session), Some(file), None) => {
                media_file(RenditionName::new(second).ok()?, SessionId(number(session)?), file)?
            }
            _ => return None,
        };
        Some((channel, resource))
    }
}

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
            channel in "[a-zA-Z0-9_-]{1,64}", rendition in "[a-zA-Z0-9_-]{1,64}", session: u64, msn: u64, part: u32, which in 0..8
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
                _ => Resource::Part(rendition, SessionId(session), Msn(msn), part),
            };
            prop_assert_eq!(Resource::parse(&resource.path(&channel)), Some((channel, resource)));
        }
    }
}
