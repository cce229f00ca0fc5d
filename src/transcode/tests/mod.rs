//! The stage as a whole, with real media and real encoders.

mod codecs;
mod decode;
mod media;
mod plans;
mod runs;
mod sequences;
mod sounds;
mod tracks;
