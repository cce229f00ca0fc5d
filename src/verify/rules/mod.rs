//! The rules as pure functions: over one playlist, over two versions of it, over all renditions of one instant, over
//! the multivariant playlist, and over the head of a response. They know nothing of clocks and sockets.

mod delta;
mod evolution;
mod headers;
mod multivariant;
mod pace;
mod parts;
mod renditions;
mod single;

pub use delta::{expand, gave_delta};
pub use evolution::evolution;
pub use headers::{Head, Kind, response};
pub use multivariant::{multivariant, together};
pub use pace::{Pace, Sighting};
pub use renditions::{Order, renditions, report};
pub use single::media_playlist;

#[cfg(test)]
mod tests;
