//! `/channels.json`: the channels that are live, for the pages. Public, so it says nothing of publishers.

use bytes::Bytes;
use serde::Serialize;

use crate::caching::Cache;
use crate::ladder::{RenditionKind, RenditionName};
use crate::live::{ChannelPhase, ChannelView, Directory};
use crate::origin::representation::Representation;
use crate::source::ChannelName;

/// The document.
#[derive(Serialize)]
struct Listing<'a> {
    channels: Vec<Line<'a>>,
}

/// One channel that can be watched.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    state: State,
    /// Since when its publisher sends, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Its video renditions, best first.
    renditions: Vec<String>,
}

/// How a channel that can be watched does.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// A publisher feeds it.
    Live,
    /// The publisher was lost and may return.
    Interrupted,
}

/// A channel of which only the playlists are known.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: ChannelName,
    pub(super) renditions: Vec<RenditionName>,
}

impl Seen {
    fn line(&self) -> Line<'_> {
        let renditions = self.renditions.iter().map(ToString::to_string).collect();
        Line { name: self.name.as_str(), state: State::Live, since: None, renditions }
    }
}

/// The channels whose playlists say that more is to come.
pub(super) fn seen(channels: &[Seen]) -> Representation {
    document(Listing { channels: channels.iter().map(Seen::line).collect() }.json())
}

/// The document, as it is.
pub(super) fn document(json: Bytes) -> Representation {
    Representation::new("application/json", Cache::Seconds(1), json)
}

/// The channels that are live.
pub(super) fn channels(directory: &Directory) -> Representation {
    let channels = directory.iter().filter_map(|(name, view)| line(name, view)).collect();
    document(Listing { channels }.json())
}

impl Listing<'_> {
    fn json(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

fn line<'a>(name: &'a ChannelName, view: &ChannelView) -> Option<Line<'a>> {
    let live = view.live.borrow().clone();
    if !live.is_live() {
        return None;
    }
    let (state, since) = match &*view.phase.borrow() {
        ChannelPhase::Publishing(publisher) => (State::Live, Some(publisher.since)),
        ChannelPhase::Grace { .. } | ChannelPhase::Idle => (State::Interrupted, None),
    };
    let since = since.map(|t| humantime::format_rfc3339_seconds(t).to_string());
    let video = live.renditions.iter().filter(|r| r.kind == RenditionKind::Video);
    Some(Line { name: name.as_str(), state, since, renditions: video.map(|r| r.name.to_string()).collect() })
}
