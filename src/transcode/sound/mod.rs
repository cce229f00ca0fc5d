//! Sound that is not AAC becomes AAC before anything else sees it: at the door of a session.
//!
//! ```text
//! SourceEvent → door (driver) ─────────────────────────────────────────────────────────────→ SourceEvent
//!                └ its sound → converter: decoder → grid (pure) → AAC encoder, on a thread ┘
//! ```

mod chain;
mod converter;
mod decoder;
mod door;
mod grid;

pub(super) use decoder::lacking;
pub(super) use door::Door;
