//! RTMP input: from bytes of an encoder to access units on the channel's timeline.
