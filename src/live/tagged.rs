//! A text as it is served: tagged once, and compressed once, when that is first asked for.

use std::io::Write;
use std::time::SystemTime;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{Lazy, Playlist, Thumbnail};

/// The bytes of the hash that are kept for the entity tag: far from any chance collision.
const TAG_BYTES: usize = 16;

impl Playlist {
    /// `text`, which last changed at `modified`. The tag follows from the text alone: two servers of one text have one tag.
    #[must_use]
    pub fn tagged(text: Bytes, modified: SystemTime) -> Self {
        let (etag, plain) = (etag(&text), text.clone());
        Self::new(text, etag, modified, Lazy::new(move || gzip(&plain)))
    }
}

impl Thumbnail {
    /// Of a picture.
    #[must_use]
    pub fn new(data: Bytes) -> Self {
        Self { etag: etag(&data), data }
    }
}

fn etag(text: &[u8]) -> String {
    let hex: String = Sha256::digest(text).iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn gzip(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(1024), Compression::default());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    assert!(written.is_ok(), "compressing into memory does not fail");
    written.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn both_codings_hold_the_same_text() {
        let made = Playlist::tagged(Bytes::from_static(b"#EXTM3U\n"), SystemTime::UNIX_EPOCH);
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(made.gzip().as_ref()).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, "#EXTM3U\n");
        assert_eq!(made.text, "#EXTM3U\n");
        assert_eq!(made.etag.len(), 34);
    }
}
