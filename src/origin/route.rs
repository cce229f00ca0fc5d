//! What a request names, as far as its path tells.

use http::Method;

use crate::chronicle::Span;
use crate::ladder::RenditionName;
use crate::layout::{Excerpt, Resource};
use crate::origin::pages::{self, Asset};
use crate::source::ChannelName;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Something that a channel publishes.
    Published(ChannelName, Resource),
    /// A playlist of a range of a channel's past: the multivariant one, `/live/CHANNEL/range/START/END/index.m3u8`, or that of a
    /// rendition, `RENDITION/index.m3u8` below that. Times may be written in several ways.
    Range(ChannelName, Span, Option<RenditionName>),
    /// A part of a channel's past as one MP4: `recordings/ID/RENDITION.mp4`, `clips/NAME/…` and `range/START/END/…`.
    Download(ChannelName, Portion, RenditionName),
    /// `/`: the channels that are live, for people.
    Home,
    /// `/watch/CHANNEL`: a page with a player.
    Watch(ChannelName),
    /// A file that the pages load.
    Asset(&'static Asset),
    /// `/channels.json`: the channels that are live, for the pages.
    Channels,
    /// `/healthz`: the process answers.
    Health,
    /// `/readyz`: the server is fit for traffic.
    Ready,
    /// `POST /api/v3/GetClientConfiguration`: which tracks an encoder is to send.
    ClientConfiguration,
    /// `OPTIONS`, of anything.
    Options,
    /// A method that nothing here has.
    Forbidden,
    /// A path that is no resource's, or not the canonical one.
    Unknown,
}

impl Target {
    /// It is not asked for by way of a CDN: those who supervise the server ask for it, and encoders, who show a key of their own.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::ClientConfiguration)
    }

    /// The word that metrics know it by.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Published(_, Resource::Multivariant) => "multivariant",
            Self::Published(_, Resource::Playlist(_) | Resource::IFrames(_)) => "playlist",
            Self::Published(_, Resource::Thumbnail) => "thumbnail",
            Self::Published(_, Resource::Excerpt(..)) | Self::Range(..) => "excerpt",
            Self::Published(_, Resource::Storyboard(_) | Resource::Sheet(..)) => "storyboard",
            Self::Download(..) => "download",
            Self::Published(_, Resource::Chronicle | Resource::Block(..) | Resource::Clip(_)) => "chronicle",
            Self::Published(_, Resource::Init(..)) => "init",
            Self::Published(_, Resource::Segment(..) | Resource::TsSegment(..)) => "segment",
            Self::Published(_, Resource::Part(..)) => "part",
            Self::Home | Self::Watch(_) | Self::Asset(_) | Self::Channels => "page",
            Self::ClientConfiguration
            | Self::Health
            | Self::Ready
            | Self::Options
            | Self::Forbidden
            | Self::Unknown => "other",
        }
    }
}

/// What of a channel's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portion {
    /// What has playlists of its own.
    Excerpt(Excerpt),
    /// A range of time.
    Range(Span),
}

/// Reads a request line. The path is taken literally: nothing is unescaped, joined or mapped to a file.
#[must_use]
pub fn route(method: &Method, path: &str) -> Target {
    match *method {
        Method::GET | Method::HEAD => resource(path).unwrap_or(Target::Unknown),
        Method::OPTIONS => Target::Options,
        Method::POST if path == "/api/v3/GetClientConfiguration" => Target::ClientConfiguration,
        _ => Target::Forbidden,
    }
}

fn resource(path: &str) -> Option<Target> {
    let target = match path {
        "/" => Target::Home,
        "/channels.json" => Target::Channels,
        "/healthz" => Target::Health,
        "/readyz" => Target::Ready,
        _ => return below_root(path.strip_prefix('/')?),
    };
    Some(target)
}

fn below_root(path: &str) -> Option<Target> {
    if let Some(name) = path.strip_prefix("watch/") {
        return ChannelName::new(name).ok().map(Target::Watch);
    }
    if let Some(file) = path.strip_prefix("assets/") {
        return pages::asset(file).map(Target::Asset);
    }
    let published = Resource::parse(path).map(|(channel, resource)| Target::Published(channel, resource));
    published.or_else(|| past(path))
}

/// What is put together when it is asked for.
fn past(path: &str) -> Option<Target> {
    let mut steps = path.strip_prefix("live/")?.split('/');
    let channel = ChannelName::new(steps.next()?).ok()?;
    let steps: Vec<&str> = steps.take(RANGE_STEPS_MAX + 1).collect();
    let movie = |file: &str| RenditionName::new(file.strip_suffix(".mp4")?).ok();
    Some(match *steps {
        ["range", start, end, "index.m3u8"] => Target::Range(channel, Span::from_steps(start, end)?, None),
        ["range", start, end, rendition, "index.m3u8"] => {
            Target::Range(channel, Span::from_steps(start, end)?, Some(RenditionName::new(rendition).ok()?))
        }
        ["range", start, end, file] => {
            Target::Download(channel, Portion::Range(Span::from_steps(start, end)?), movie(file)?)
        }
        [kind, name, file] => Target::Download(channel, Portion::Excerpt(Excerpt::parse(kind, name)?), movie(file)?),
        _ => return None,
    })
}

/// Steps below a channel's directory that the path of a range has at most.
const RANGE_STEPS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(path: &str) -> Target {
        route(&Method::GET, path)
    }

    #[test]
    fn every_resource_has_its_path() {
        let demo = ChannelName::new("demo").unwrap();
        assert_eq!(get("/"), Target::Home);
        assert_eq!(get("/watch/demo"), Target::Watch(demo.clone()));
        assert_eq!(get("/channels.json"), Target::Channels);
        assert_eq!(get("/healthz"), Target::Health);
        assert_eq!(get("/readyz"), Target::Ready);
        assert_eq!(get("/live/demo/index.m3u8"), Target::Published(demo, Resource::Multivariant));
        assert_eq!(get("/live/demo/720p/1/7.2.m4s").label(), "part");
        assert_eq!(route(&Method::HEAD, "/"), Target::Home);
        let configuration = "/api/v3/GetClientConfiguration";
        assert_eq!(route(&Method::POST, configuration), Target::ClientConfiguration);
        assert_eq!(get(configuration), Target::Unknown);
    }

    #[test]
    fn only_canonical_paths_are_resources() {
        for path in [
            "",
            "*",
            "//",
            "/.",
            "/..",
            "/index.html",
            "/live//demo/index.m3u8",
            "//live/demo/index.m3u8",
            "/live/demo/../demo/index.m3u8",
            "/live/demo/%2e%2e/index.m3u8",
            "/live/de%6Do/index.m3u8",
            "/live/demo/index.m3u8/",
            "/live/demo/index.m3u8/..",
            "/live/demo/INDEX.M3U8",
            "/live/d\u{e9}mo/index.m3u8",
            "/live/demo/720p/-1/1.m4s",
            "/live/demo/720p/1/18446744073709551616.m4s",
            "/watch/",
            "/watch/demo/",
            "/watch/../etc",
            "/assets/",
            "/assets/../../Cargo.toml",
            "/healthz/",
        ] {
            assert_eq!(get(path), Target::Unknown, "{path}");
        }
        assert_eq!(get(&format!("/live/{}/index.m3u8", "a".repeat(100_000))), Target::Unknown);
    }

    #[test]
    fn methods_that_nothing_has_are_told_apart() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::CONNECT, Method::TRACE] {
            assert_eq!(route(&method, "/"), Target::Forbidden);
        }
        assert_eq!(route(&Method::OPTIONS, "/nothing"), Target::Options);
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "\\PC*") {
            let _ = get(&path);
            let _ = get(&format!("/live/{path}"));
        }

        #[test]
        fn what_is_found_has_one_path(path in "/live/[a-z0-9./-]{1,24}") {
            if let Target::Published(channel, resource) = get(&path) {
                prop_assert_eq!(format!("/{}", resource.path(&channel)), path);
            }
        }
    }
}
