//! Where segments and playlists are kept: files or S3.
