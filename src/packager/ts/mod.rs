//! MPEG-TS for old players: segments in which a picture and the sound share one transport stream.
//!
//! ```text
//! units of a picture ─▶ waiting ─▶ segmenter ─▶ muxer ─▶ annex_b, adts ─▶ packets
//! units of the sound ──────────────────┘
//! ```
//! Old players take the sound from nowhere else than the picture's own segments, so every rendition carries it. A picture
//! that begins a segment waits until the sound has come as far; then a segment is written at one go.
//!
//! Packets, PES headers and tables are written by `mpeg2ts`: it is small, without dependencies, and has been kept since
//! 2018. What writes whole streams writes them to be broadcast, or is GStreamer's and would have to be fed and drained per
//! segment; here each segment has its tables first and its counters go on, which is most of what is left to do.

mod adts;
mod annex_b;
mod muxer;
mod packets;
#[cfg(test)]
mod readback;
mod segmenter;
#[cfg(test)]
mod tests;
mod waiting;

pub(super) use segmenter::TsSegmenter;
pub(super) use waiting::Waiting;
