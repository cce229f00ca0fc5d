//! From access units to parts, segments and playlists.
