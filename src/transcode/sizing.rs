//! How large a rendition is, and how many bits it gets: pure arithmetic.

use crate::media::MediaTime;

use super::probe::{FrameRate, Measured};
use super::traits::VideoTraits;

/// Seconds of bits that an encoder may save up: `vbv-buf-capacity`. It bounds a segment's peak.
pub(super) const VBV: MediaTime = MediaTime::from_millis(1000);

/// A segment holds at most what the rate brings in while it lasts and what the buffer had saved up before.
pub(super) fn peak(bitrate: u64, target: MediaTime) -> u64 {
    let millis = u64::try_from(target.as_millis()).unwrap_or(0).max(1);
    let saved = u64::try_from(VBV.as_millis()).unwrap_or(0);
    bitrate.saturating_add(bitrate.saturating_mul(saved) / millis)
}

/// The source's own size in square samples, made even; never more than the source has.
pub(super) fn source_size(video: &VideoTraits) -> (u32, u32) {
    let (width, height) = video.display_size();
    (even_below(width), even_below(height))
}

/// The size at this many lines, the aspect ratio kept. None where the source has fewer.
pub(super) fn size_at_height(video: &VideoTraits, height: u32) -> Option<(u32, u32)> {
    let (source_width, source_height) = video.display_size();
    if height > source_height {
        return None;
    }
    let half =
        (u64::from(source_width) * u64::from(height) + u64::from(source_height)) / (2 * u64::from(source_height));
    let width = u32::try_from(half * 2).unwrap_or(source_width).min(even_below(source_width)).max(16);
    Some((width, even_below(height)))
}

fn even_below(length: u32) -> u32 {
    (length & !1).max(16)
}

/// For the source's picture encoded anew: what the source has, within reason for its size.
pub(super) fn own_bitrate(width: u32, height: u32, measured: &Measured) -> u64 {
    let usual = usual_bitrate(width, height, measured.frame_rate);
    measured.bitrate.clamp(usual / 2, usual.saturating_mul(3) / 2)
}

/// 5 Mbit/s for 1080p30, 2.7 for 720p30, 0.95 for 360p30: the ladder's figures lie on this curve.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and far below 2^63 for any picture size"
)]
pub(super) fn usual_bitrate(width: u32, height: u32, rate: FrameRate) -> u64 {
    let size = f64::from(width) * f64::from(height) / (1920.0 * 1080.0);
    let speed = (rate.per_second() / 30.0).clamp(0.25, 4.0);
    (5e6 * size.powf(0.75) * speed.sqrt()) as u64
}
