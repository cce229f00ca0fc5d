//! RTMP input: from bytes of an encoder to access units on the channel's timeline.
//!
//! The way of a byte: [`listener`] → `connection` → [`handshake`], then [`session`] over [`chunk`] and [`amf`] → [`intake`]
//! over [`flv`] and `enhanced`, a reader for each codec ([`avc`], [`hevc`], [`av1`], [`vp9`]; [`sound`]) and [`timeline`] → the
//! channel. All but listener and connection are pure. This stage knows nothing of what becomes of the media, and is the only
//! one that knows `rml_rtmp`.

pub mod aac;
pub mod ac3;
pub mod amf;
pub mod av1;
pub mod av1_sequence;
pub mod avc;
mod bits;
pub mod chunk;
mod close;
mod connection;
pub mod enhanced;
pub mod flac;
pub mod flv;
pub mod handshake;
pub mod hevc;
pub mod hevc_sps;
pub mod intake;
pub mod keys;
pub mod listener;
pub mod mp3;
mod nal;
pub mod opus;
pub mod picture;
mod pressure;
mod replies;
pub mod session;
pub mod sound;
pub mod sps;
mod throttle;
pub mod timeline;
mod video_track;
pub mod vp9;
mod vui;

use std::collections::BTreeMap;

use tokio::sync::mpsc;

pub use keys::StreamKeys;
pub use listener::serve;

use crate::config::RtmpConfig;
use crate::metrics::Metrics;
use crate::source::{ChannelName, PublishRequest};

/// What the RTMP port needs to know.
#[derive(Debug)]
pub struct Ingest {
    /// Deadlines and limits. The address is not used: the caller binds the listener.
    pub config: RtmpConfig,
    /// Who may publish where.
    pub keys: StreamKeys,
    /// Where each channel takes requests to publish.
    pub channels: BTreeMap<ChannelName, mpsc::Sender<PublishRequest>>,
    /// What is counted.
    pub metrics: Metrics,
}

#[cfg(test)]
mod bitstream_tests;
#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod encoder_tests;
#[cfg(test)]
mod scripted;
