//! The admin listener: metrics and the state of the channels.
