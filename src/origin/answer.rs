//! The answer to a request, from what it names and what is published at this instant.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::StatusCode;

use crate::live::{ChannelSnapshot, Directory};
use crate::origin::representation::{Representation, forbidden, options};
use crate::origin::route::Target;
use crate::origin::{listing, pages, published, status};
use crate::source::ChannelName;

pub use crate::origin::representation::Asked;

/// What answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The channels.
    pub directory: &'a Directory,
    /// The server is shutting down.
    pub draining: bool,
}

/// Answers a request for `target`.
#[must_use]
pub fn answer(target: &Target, asked: &Asked<'_>, world: &World<'_>) -> Response<Bytes> {
    let representation = match target {
        Target::Options => return options(),
        Target::Forbidden => return forbidden(asked),
        Target::Published(channel, resource) => match world.snapshot(channel) {
            Some(snapshot) => published::find(resource, &snapshot, asked.headers),
            None => unknown(),
        },
        Target::Home => pages::home(asked.headers),
        Target::Watch(channel) if world.directory.contains_key(channel) => pages::watch(asked.headers),
        Target::Watch(_) => pages::missing(asked.headers),
        Target::Asset(asset) => asset.representation(asked.headers),
        Target::Channels => listing::channels(world.directory),
        Target::Health => status::health(),
        Target::Ready => status::ready(world.directory, world.draining),
        // Its answer is not made from snapshots.
        Target::ClientConfiguration | Target::Unknown => unknown(),
    };
    representation.reply(asked)
}

impl World<'_> {
    fn snapshot(&self, channel: &ChannelName) -> Option<Arc<ChannelSnapshot>> {
        self.directory.get(channel).map(|view| view.live.borrow().clone())
    }
}

fn unknown() -> Representation {
    Representation::refusal(StatusCode::NOT_FOUND, "not found")
}
