//! What operators ask for of a channel's past.

use tokio::sync::oneshot;

use super::{Clip, ClipName, Span};
use crate::live::SessionId;

/// A request to whoever writes a channel's index.
#[derive(Debug)]
pub enum Order {
    /// Keeps what there is of a range of time, under a name.
    Clip {
        /// The name, which no other clip of the channel has.
        name: ClipName,
        /// The range, which has an end.
        span: Span,
        /// Answered when the clip can be watched.
        reply: oneshot::Sender<Result<Clip, OrderRefusal>>,
    },
    /// Removes a clip.
    RemoveClip {
        /// Its name.
        name: ClipName,
        /// Answered when nothing names it any more.
        reply: oneshot::Sender<Result<(), OrderRefusal>>,
    },
    /// Removes a recording that is over.
    RemoveRecording {
        /// Its first run.
        id: SessionId,
        /// Answered when nothing names it any more.
        reply: oneshot::Sender<Result<(), OrderRefusal>>,
    },
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// The range has no end, or one that has not come.
    #[error("a clip needs an `end`, and one that lies in the past")]
    NotOver,
    /// Another clip has the name.
    #[error("there is a clip of this name; remove it first, or choose another name")]
    Taken,
    /// Nothing is kept of that time.
    #[error("nothing of that time is kept; see `hls.window` and `record`")]
    Nothing,
    /// More than can be one clip.
    #[error("the range is too long; a clip may have a day at most")]
    TooLong,
    /// There is no such thing.
    #[error("there is no such clip or recording")]
    Unknown,
    /// The recording goes on.
    #[error("the recording is not complete yet; it can be removed when its programme is over and stored")]
    Unfinished,
    /// It would take what is not in the store yet.
    #[error("not all of that is in the store yet; try again in some seconds")]
    TooEarly,
    /// The store failed.
    #[error("the store cannot be used now: {0}")]
    Failing(String),
}
