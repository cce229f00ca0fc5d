//! The grammar of keys, the same for every kind of store, so that no key can leave the store's root.

use super::StoreError;

/// Bytes of a key that S3 allows.
const KEY_BYTES_MAX: usize = 1024;

/// Checks that `key` is made of plain steps: `live/demo/720p/index.m3u8`.
pub(super) fn check(key: &str) -> Result<(), StoreError> {
    let valid = key.len() <= KEY_BYTES_MAX && key.split('/').all(is_step);
    if valid { Ok(()) } else { Err(StoreError::Key(key.to_owned())) }
}

/// One directory or file name. Names with a leading dot belong to the store itself.
fn is_step(step: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=255).contains(&step.len()) && !step.starts_with('.') && step.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_the_root() {
        check("live/demo/720p/1/1.m4s").unwrap();
        for key in ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.b", "a\\b", "a\0b", "a b", "ä", "a%2e"] {
            assert_eq!(check(key), Err(StoreError::Key(key.to_owned())), "{key:?}");
        }
        check(&"a/".repeat(600)).unwrap_err();
    }
}
