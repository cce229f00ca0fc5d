//! The HTTP origin: what players and CDNs fetch.
