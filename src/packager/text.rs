//! A playlist as it is served: tagged once, when its text changes, and compressed once, when that is first asked for.

use std::io::Write;
use std::time::SystemTime;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::live::{Lazy, Playlist};

/// The bytes of the hash that are kept for the entity tag: far from any chance collision.
const TAG_BYTES: usize = 16;

/// Makes `text` ready to be served. Where it is what `before` has, it has not been modified.
pub(super) fn playlist(text: String, before: Option<&Playlist>, now: SystemTime) -> Playlist {
    if let Some(same) = before.filter(|b| b.text == text.as_bytes()) {
        return same.clone();
    }
    let etag = etag(text.as_bytes());
    let text = Bytes::from(text);
    let plain = text.clone();
    Playlist::new(text, etag, now, Lazy::new(move || gzip(&plain)))
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
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    #[test]
    fn both_codings_hold_the_same_text() {
        let made = playlist("#EXTM3U\n".to_owned(), None, SystemTime::UNIX_EPOCH);
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(made.gzip().as_ref()).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, "#EXTM3U\n");
        assert_eq!(made.text, "#EXTM3U\n");
        assert_eq!(made.etag.len(), 34);
    }

    #[test]
    fn the_same_text_is_not_modified() {
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let first = playlist("a".to_owned(), None, SystemTime::UNIX_EPOCH);
        assert_eq!(playlist("a".to_owned(), Some(&first), later), first);
        let other = playlist("b".to_owned(), Some(&first), later);
        assert_ne!(other.etag, first.etag);
        assert_eq!(other.modified, later);
    }
}
