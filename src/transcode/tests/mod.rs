//! The stage as a whole, with real media and real encoders.

mod media;
mod runs;
