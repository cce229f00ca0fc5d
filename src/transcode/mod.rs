//! From a source to its ladder of renditions: what to make, where to cut, and the GStreamer pipeline.
//!
//! ```text
//! SourceEvent → sound (a door: what is not AAC becomes AAC)
//!             → sequence (probe → plan, lane, cuts, tracks: pure) → session (driver) → passed on ─────────────────────────→ LadderEvent
//!                                                              └→ pipeline: decoder → pictures → encoders → outlets ─┘
//! ```
//! A *run* is one pipeline and one plan. A session has several where the source changes or fails in mid-stream.
//! Nothing here knows RTMP, containers or playlists.

mod audio_plan;
mod cuts;
mod decoder;
mod demo;
mod elements;
mod encoder;
mod gate;
mod gst_time;
mod lane;
mod latched;
mod observed;
mod outlets;
mod picture;
mod pictures;
mod pipeline;
mod plan;
mod probe;
mod rungs;
mod scale;
mod sequence;
mod session;
mod silence;
mod sizing;
mod sound;
mod still;
mod storyboard;
mod tracks;
mod traits;

#[cfg(test)]
mod tests;

pub use demo::test_source;
pub use elements::{MissingElements, init, undecodable};
pub use latched::Latched;
pub use picture::Picture;
pub use session::{Outcome, Setup, SourceEnd, run};
pub use still::{Still, StillError, still};
pub use storyboard::{Grid, Storyboard, Tile, webvtt};
