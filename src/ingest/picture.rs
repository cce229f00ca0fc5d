//! What the readers of all picture codecs have in common: what they give, and why they refuse.

use bytes::Bytes;

/// An access unit in the form that the stages downstream expect ([`AccessUnit::data`](crate::media::AccessUnit::data)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Decoding may start here, whatever the tag says.
    pub key: bool,
    /// The frame.
    pub data: Bytes,
}

/// A picture or a configuration that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// A configuration record without a byte of content.
    #[error("an empty configuration record")]
    EmptyConfig,
    /// A configuration record that contradicts itself or the standard.
    #[error("a configuration record that cannot be true")]
    FalseConfig,
    /// A NAL unit, an OBU or a header that is longer than what holds it.
    #[error("a frame cut short")]
    Truncated,
    /// More units in a frame than any encoder writes.
    #[error("a frame of more than {UNITS_MAX} units")]
    TooManyUnits,
    /// A frame before the configuration that says how to read it.
    #[error("a frame before its configuration")]
    NoConfig,
    /// A frame without a picture in it.
    #[error("a frame without a picture")]
    NoPicture,
    /// A picture that needs others from before the one where decoding began.
    #[error("a picture that leads one where decoding began")]
    Leading,
}

impl PictureError {
    /// The word for the metric's label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EmptyConfig | Self::FalseConfig => "video_config",
            Self::Truncated => "truncated_frame",
            Self::TooManyUnits => "too_many_units",
            Self::NoConfig => "video_before_config",
            Self::NoPicture => "no_picture",
            Self::Leading => "leading_picture",
        }
    }
}

/// NAL units or OBUs in an access unit: one slice for each row of macroblocks in 8K, and as much again.
pub(super) const UNITS_MAX: usize = 1024;
