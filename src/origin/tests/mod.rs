//! The origin as a whole: what it answers, and how it serves.

mod answers;
mod cellar;
mod elsewhere;
mod fixture;
mod low_latency;
mod serving;
