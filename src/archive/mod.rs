//! What is published and is not in this process: by the node that packages it, or in the store. The origin asks for what has left the
//! memory of its channels and, in the role in which it has none of its own, for everything.
//!
//! Who answers does so from copies ([`Copies`]): however many ask, each thing is fetched once.

mod copies;
mod disk;
mod past;

use std::fmt::Debug;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::caching::Cache;
use crate::layout::Resource;
use crate::live::Playlist;
use crate::source::ChannelName;

pub use copies::{Copies, Limits};
pub use disk::{Disk, Keeper};
pub use past::{Blocks, List, Past};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Of which channel.
    pub channel: &'a ChannelName,
    /// What of it.
    pub resource: &'a Resource,
    /// The delivery directives of a playlist, in the one order in which they are asked on: `_HLS_msn=7&_HLS_part=2`.
    pub directives: Option<&'a str>,
}

impl Wanted<'_> {
    /// It may have to be waited for: it is not there yet, or says what is to be there.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.directives.is_some() || matches!(self.resource, Resource::Part(..))
    }
}

/// A copy of something published.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What is in it.
    pub content: Content,
    /// How long others may use it from now on.
    pub cache: Cache,
    /// When its text last changed, where that is known.
    pub modified: Option<SystemTime>,
    /// When it was fetched.
    pub fetched: Instant,
    /// It is older than it should be: nothing newer could be had.
    pub stale: bool,
}

/// What is in a copy.
#[derive(Clone, Debug)]
pub enum Content {
    /// A playlist.
    Text(Playlist),
    /// A segment, a part, an initialisation segment.
    Media(Bytes),
}

impl Copy {
    /// Of a thing that `data` is, fetched now. Media never changes.
    #[must_use]
    pub fn new(resource: &Resource, data: Bytes, cache: Cache, modified: Option<SystemTime>) -> Self {
        let content = if resource.is_text() {
            // Where it is not known, nobody is told.
            Content::Text(Playlist::tagged(data, modified.unwrap_or(SystemTime::UNIX_EPOCH)))
        } else {
            Content::Media(data)
        };
        Self { content, cache, modified, fetched: Instant::now(), stale: false }
    }

    /// Of a document, fetched now.
    #[must_use]
    pub fn document(data: Bytes, cache: Cache) -> Self {
        Self { content: Content::Media(data), cache, modified: None, fetched: Instant::now(), stale: false }
    }

    /// Its bytes.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        match &self.content {
            Content::Text(playlist) => &playlist.text,
            Content::Media(data) => data,
        }
    }
}

/// Why there is no copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// There is no such thing.
    Absent,
    /// There was, and it is no longer kept.
    Gone,
    /// The question has no answer; the text says why.
    Refused(String),
    /// It was waited for in vain, or too many wait.
    Busy,
    /// Those who have it cannot be reached.
    Failing,
}

/// The answer to a question.
pub type Found = Result<std::sync::Arc<Copy>, Lack>;

/// Who has, or can get, what is not in this process.
#[async_trait]
pub trait Archive: Send + Sync + Debug {
    /// A copy of what is wanted, where one is at hand that is not too old.
    fn peek(&self, wanted: Wanted<'_>) -> Option<Found>;

    /// A copy of what is wanted, fetched now or a short while ago. It may wait for what is coming, as the directives say.
    async fn fetch(&self, wanted: Wanted<'_>) -> Found;

    /// The document of the channels that are live, where somebody who knows them can be asked.
    async fn listing(&self) -> Option<Bytes>;

    /// What keeps it from answering at present, in a sentence. Where that is not known, it is found out.
    async fn failing(&self) -> Option<String>;
}
