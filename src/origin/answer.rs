//! The answer to a request, from what it names and what is published at this instant.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::caching::Cache;
use crate::layout::Resource;
use crate::live::Directory;
use crate::origin::directives::Directives;
use crate::origin::published::{Found, Question};
use crate::origin::representation::{Representation, forbidden, options};
use crate::origin::route::Target;
use crate::origin::{listing, pages, published, status};
use crate::source::ChannelName;

pub use crate::origin::archived::Archived;
pub use crate::origin::published::Wait;
pub use crate::origin::representation::Asked;

/// What answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The channels.
    pub directory: &'a Directory,
    /// There are channels elsewhere, of which nothing is known before they are asked for.
    pub elsewhere: bool,
    /// The server is shutting down.
    pub draining: bool,
}

/// What a request comes to.
#[derive(Debug)]
pub enum Outcome {
    /// This answer.
    Answer(Response<Bytes>),
    /// What is asked for is coming.
    Wait(Wait),
    /// What is asked for is not in memory, and the archive is to be asked.
    Archived(Archived),
}

/// Answers a request for `target` with this query, or says what to wait for until it is to be asked again.
#[must_use]
pub fn answer(target: &Target, query: Option<&str>, asked: &Asked<'_>, world: &World<'_>) -> Outcome {
    let representation = match target {
        Target::Options => return Outcome::Answer(options()),
        Target::Forbidden => return Outcome::Answer(forbidden(asked)),
        Target::Published(channel, resource) => match world.published(channel, resource, query, asked) {
            Found::Now(representation) => representation,
            Found::Later(wait) => return Outcome::Wait(wait),
            Found::Archived(archived) => return Outcome::Archived(archived),
        },
        Target::Home => pages::home(asked.headers),
        Target::Watch(channel) if world.elsewhere || world.directory.contains_key(channel) => {
            pages::watch(asked.headers)
        }
        Target::Watch(_) => pages::missing(asked.headers),
        Target::Asset(asset) => asset.representation(asked.headers),
        Target::Channels => listing::channels(world.directory),
        Target::Health => status::health(),
        Target::Ready => status::ready(world.directory, world.draining),
        // Its answer is not made from snapshots.
        Target::ClientConfiguration | Target::Range(..) | Target::Download(..) | Target::Unknown => unknown(),
    };
    Outcome::Answer(representation.reply(asked))
}

/// The answer to who may not wait, or has waited for nothing: to be asked again a little later, and not to be kept.
#[must_use]
pub fn busy(asked: &Asked<'_>) -> Response<Bytes> {
    later("what comes next is not here yet, and is not waited for any longer", asked)
}

/// 503, with the reason, to be asked again in a second.
pub(super) fn later(text: &str, asked: &Asked<'_>) -> Response<Bytes> {
    let refusal = Representation::refusal(StatusCode::SERVICE_UNAVAILABLE, text);
    let mut response = Representation { cache: Cache::Never, ..refusal }.reply(asked);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

impl World<'_> {
    fn published(&self, channel: &ChannelName, resource: &Resource, query: Option<&str>, asked: &Asked<'_>) -> Found {
        let Some(view) = self.directory.get(channel) else { return Found::Now(unknown()) };
        if *resource == Resource::Thumbnail {
            let picture = view.thumbnail.borrow().clone();
            return Found::Now(picture.map_or_else(unknown, |picture| published::thumbnail(&picture)));
        }
        let snapshot = Arc::clone(&view.live.borrow());
        // Only playlists take directives.
        let query = query.filter(|_| resource.takes_directives());
        let directives = match Directives::read(query) {
            Ok(directives) => directives,
            // After the end directives are ignored (RFC 8216bis, 6.2.5), and so are bad ones.
            Err(_) if snapshot.ended => Directives::default(),
            Err(bad) => return Found::Now(Representation::refusal(StatusCode::BAD_REQUEST, &bad.to_string())),
        };
        let question = Question { resource, directives, headers: asked.headers, window: view.window };
        published::find(&question, &snapshot)
    }
}

fn unknown() -> Representation {
    Representation::refusal(StatusCode::NOT_FOUND, "not found")
}
