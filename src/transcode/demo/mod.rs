//! `--demo`: a test picture with a clock and a tone, published over real RTMP like any encoder's.

mod picture;
mod publisher;
mod tone;

pub use publisher::test_source;
