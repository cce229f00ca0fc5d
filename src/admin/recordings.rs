//! What is kept of a channel: shown, clipped and removed by operators.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::respond::Answer;
use crate::chronicle::{Chronicle, Clip, ClipName, Moment, Order, OrderRefusal, Span, State};
use crate::layout::{Excerpt, Resource};
use crate::live::{ChannelView, SessionId};
use crate::source::ChannelName;

/// What `GET /api/v1/channels/CHANNEL/recordings` answers.
#[derive(Debug, Serialize)]
struct Report {
    /// Oldest first.
    recordings: Vec<Recording>,
    clips: Vec<ClipReport>,
}

#[derive(Debug, Serialize)]
struct Recording {
    id: u64,
    /// `open`, `ended` while its playlists are not stored yet, or `published`.
    state: State,
    begins: Option<String>,
    ends: Option<String>,
    bytes: u64,
    /// The multivariant playlist's path.
    path: String,
}

#[derive(Debug, Serialize)]
struct ClipReport {
    name: ClipName,
    begins: String,
    ends: String,
    bytes: u64,
    /// The multivariant playlist's path.
    path: String,
}

/// What is asked of `POST /api/v1/channels/CHANNEL/clips`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: ClipName,
    start: Time,
    end: Time,
}

/// A time as a URL has it, or as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Number(serde_json::Number),
}

impl Time {
    fn moment(&self) -> Result<Moment, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        };
        text.parse().map_err(|error: crate::chronicle::InvalidMoment| error.to_string())
    }
}

/// What is kept of `channel`.
pub(super) fn report(channel: &ChannelName, chronicle: Option<&Chronicle>) -> Answer {
    let Some(chronicle) = chronicle else {
        let why =
            "what the channel has is not known here: the store was not read yet, or another process has the channel";
        return Answer::error(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let path = |excerpt: Excerpt| format!("/{}", Resource::Excerpt(excerpt, None).path(channel));
    let recorded = chronicle.programmes.iter().filter(|programme| programme.recorded);
    let recordings = recorded.map(|programme| Recording {
        id: programme.id.0,
        state: programme.state,
        begins: programme.begins().map(|begins| begins.to_string()),
        ends: programme.ends().map(|ends| ends.to_string()),
        bytes: programme.bytes(),
        path: path(Excerpt::Recording(programme.id)),
    });
    let clips = chronicle.clips.iter().map(|clip| clip_report(channel, clip));
    Answer::json(StatusCode::OK, &Report { recordings: recordings.collect(), clips: clips.collect() })
}

fn clip_report(channel: &ChannelName, clip: &Clip) -> ClipReport {
    ClipReport {
        name: clip.name.clone(),
        begins: clip.begins.to_string(),
        ends: clip.ends.to_string(),
        bytes: clip.bytes,
        path: format!("/{}", Resource::Excerpt(Excerpt::Clip(clip.name.clone()), None).path(channel)),
    }
}

/// Makes the clip that `wish` describes, JSON.
pub(super) async fn clip(channel: &ChannelName, view: &ChannelView, wish: &[u8]) -> Answer {
    let read = serde_json::from_slice::<Wish>(wish).map_err(|error| error.to_string());
    let read = read.and_then(|wish| Ok((wish.name, wish.start.moment()?, wish.end.moment()?)));
    let (name, start, end) = match read {
        Ok(wish) => wish,
        Err(error) => {
            let example = r#"{"name": "goal", "start": "2026-12-31T18:00:00Z", "end": "2026-12-31T18:01:30Z"}"#;
            return Answer::error(StatusCode::BAD_REQUEST, format!("{error}; send JSON like {example}"));
        }
    };
    let span = Span { start, end: Some(end) };
    let order = |reply| Order::Clip { name, span, reply };
    match ordered(view, order).await {
        Ok(clip) => Answer::json(StatusCode::CREATED, &clip_report(channel, &clip)),
        Err(refusal) => refused(&refusal),
    }
}

/// Removes a clip.
pub(super) async fn remove_clip(view: &ChannelView, name: ClipName) -> Answer {
    done(ordered(view, |reply| Order::RemoveClip { name, reply }).await)
}

/// Removes a recording.
pub(super) async fn remove_recording(view: &ChannelView, id: SessionId) -> Answer {
    done(ordered(view, |reply| Order::RemoveRecording { id, reply }).await)
}

fn done(removed: Result<(), OrderRefusal>) -> Answer {
    match removed {
        Ok(()) => Answer::json(StatusCode::OK, &serde_json::json!({ "removed": true })),
        Err(refusal) => refused(&refusal),
    }
}

async fn ordered<T>(
    view: &ChannelView,
    order: impl FnOnce(oneshot::Sender<Result<T, OrderRefusal>>) -> Order,
) -> Result<T, OrderRefusal> {
    let gone = || OrderRefusal::Failing("the channel is going, or another process has it".to_owned());
    let (reply, answer) = oneshot::channel();
    let asked = async {
        view.orders.send(order(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(OrderRefusal::Failing("no answer in time".to_owned())))
}

fn refused(refusal: &OrderRefusal) -> Answer {
    let status = match refusal {
        OrderRefusal::NotOver | OrderRefusal::TooLong => StatusCode::BAD_REQUEST,
        OrderRefusal::Taken | OrderRefusal::Unfinished => StatusCode::CONFLICT,
        OrderRefusal::Nothing | OrderRefusal::Unknown => StatusCode::NOT_FOUND,
        OrderRefusal::TooEarly | OrderRefusal::Failing(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Answer::error(status, refusal.to_string())
}

/// A clip is some requests to the store.
const PATIENCE: Duration = Duration::from_secs(60);
