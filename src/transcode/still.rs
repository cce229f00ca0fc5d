//! A still picture out of packed media, small, and as JPEG.

use bytes::Bytes;

use super::picture::Picture;

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no still picture: {0}")]
pub struct StillError(String);

impl StillError {
    pub(super) fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// A still picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Still {
    /// As a file.
    pub jpeg: Bytes,
    /// As it was decoded, for a [`super::Storyboard`]: nobody decodes it again.
    pub picture: Picture,
}

/// The first picture of `media`, as [`Picture::decode`] finds it. Blocks; [`super::init`] comes first.
///
/// # Errors
/// Where nothing in it can be decoded here, or not in time.
pub fn still(media: Bytes, height_max: u32) -> Result<Still, StillError> {
    let picture = Picture::decode(media, height_max)?;
    Ok(Still { jpeg: picture.jpeg()?, picture })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_media_makes_no_picture() {
        super::super::init().unwrap();
        let error = still(Bytes::from_static(b"this is no media at all, and never was"), 180).unwrap_err();
        assert!(error.to_string().starts_with("no still picture: "), "{error}");
    }
}
