//! A playlist's text from one rendering to the next.

use std::time::SystemTime;

use bytes::Bytes;

use crate::live::Playlist;

/// Makes `text` ready to be served. Where it is what `before` has, it has not been modified.
pub(super) fn playlist(text: String, before: Option<&Playlist>, now: SystemTime) -> Playlist {
    match before.filter(|before| before.text == text.as_bytes()) {
        Some(same) => same.clone(),
        None => Playlist::tagged(Bytes::from(text), now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
