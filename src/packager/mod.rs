//! From access units to parts, segments and playlists.
//!
//! [`Packager`] is the state machine of a channel and [`run()`] its task. Below it: a *lane* a rendition, which cuts by a
//! *segmenter*, writes *fragments*, keeps a *window* and renders its *playlist*; and the *run*, which holds what all
//! lanes share. Nothing here knows how media came in, or who fetches it.

mod bandwidth;
mod channel;
#[cfg(test)]
mod codec_players;
mod cuts;
mod cutter;
mod driver;
mod entry;
mod fact;
mod former;
pub mod fragment;
mod i_frames;
mod init;
mod lane;
mod lines;
mod low_latency;
#[cfg(test)]
mod low_latency_rules;
#[cfg(test)]
mod memory_rules;
mod multivariant;
#[cfg(test)]
mod one_file;
mod part_target;
#[cfg(test)]
mod playlist_tests;
#[cfg(test)]
mod readback;
#[cfg(test)]
mod real_media;
#[cfg(test)]
mod rules;
mod run;
pub mod sample;
mod segmenter;
#[cfg(test)]
mod simulate;
mod sound;
#[cfg(test)]
mod testing;
mod text;
mod ts;
mod window;

pub use channel::{Packager, Told};
pub use driver::{Setup, run};
pub use fact::Fact;
pub use former::{Fetched, Former, NUMBER_MAX, Objects, Reading, Unreadable};
