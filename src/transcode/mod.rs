//! From a source to its ladder of renditions: what to make, where to cut, and the GStreamer pipeline.
