//! Headwater, a live streaming server: RTMP in, an adaptive-bitrate ladder by GStreamer, HLS out, kept in S3.
//!
//! `ARCHITECTURE.md` tells the way of a byte through the modules.

pub mod admin;
pub mod app;
pub mod archive;
pub mod caching;
#[cfg(test)]
mod captured_log;
pub mod chronicle;
pub mod config;
pub mod follow;
#[cfg(test)]
mod golden;
pub mod guard;
pub mod hangup;
pub mod http_server;
pub mod ingest;
pub mod ladder;
pub mod layout;
pub mod live;
pub mod media;
pub mod metrics;
pub mod networks;
pub mod origin;
pub mod packager;
pub mod playlist;
pub mod progressive;
mod seldom;
pub mod source;
pub mod store;
pub mod tls;
pub mod transcode;
pub mod verify;
