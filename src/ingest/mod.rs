//! RTMP input: from bytes of an encoder to access units on the channel's timeline.
//!
//! The way of a byte: [`listener`], over [`proxy_protocol`] and [`crate::tls`] where they are on, → `connection` → [`handshake`], then
//! [`session`] over [`chunk`] and [`amf`] → [`intake`] over [`flv`] and `enhanced`, a reader for each codec ([`avc`], [`hevc`],
//! [`av1`], [`vp9`]; [`sound`]) and [`timeline`] → the channel. `access` says who may publish, by [`keys`] and [`webhook`].
//! All but the drivers (listener, connection and its outlet, access and the `client` and `driver` below webhook and
//! [`client_configuration`]) are pure. This stage knows nothing of what becomes of the media, and is the only one that
//! knows `rml_rtmp`.

pub mod aac;
pub mod ac3;
mod access;
mod aggregate;
pub mod amf;
mod amf3;
pub mod av1;
pub mod av1_sequence;
pub mod avc;
mod backlog;
mod bits;
mod capabilities;
pub mod chunk;
pub mod client_configuration;
mod close;
mod connection;
pub mod enhanced;
pub mod flac;
pub mod flv;
#[doc(hidden)]
pub mod fuzzing;
pub mod handshake;
pub mod hevc;
pub mod hevc_sps;
pub mod intake;
pub mod keys;
pub mod listener;
pub mod mp3;
mod nal;
pub mod opus;
mod outlet;
mod pacer;
pub mod picture;
mod pressure;
pub mod proxy_protocol;
mod replies;
mod sample_grid;
pub mod session;
pub mod sound;
pub mod sps;
mod throttle;
pub mod timeline;
mod video_track;
mod vigil;
pub mod vp9;
mod vui;
pub mod webhook;

use std::sync::Arc;

pub use access::{Access, Hooks};
pub use client_configuration::driver::Configurator;
pub use keys::StreamKeys;
pub use listener::{Listeners, serve};
pub use throttle::SharedThrottle;

use crate::config::RtmpConfig;
use crate::guard::Guard;
use crate::metrics::Metrics;

/// What the RTMP port needs to know.
#[derive(Debug)]
pub struct Ingest {
    /// Deadlines and limits. The address is not used: the caller binds the listener.
    pub config: RtmpConfig,
    /// Who may publish where.
    pub access: Arc<Access>,
    /// Who may connect.
    pub guard: Guard,
    /// What is counted.
    pub metrics: Metrics,
}

#[cfg(test)]
mod bitstream_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod door_tests;
#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod encoder_tests;
#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod scripted;
