//! What a decoder configuration record says of the picture, read from its first SPS.

use h264_reader::nal::sps::{ChromaFormat, FrameMbsFlags, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

use crate::media::VideoFormat;

/// More luma samples than this in a picture are refused: a lying configuration record must not make the decoder
/// reserve gigabytes. It is 8K.
const PICTURE_SAMPLES_MAX: u64 = 7680 * 4320;

/// What of an SPS decides over passing on, decoding and scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VideoTraits {
    /// Visible width in luma samples.
    pub(super) width: u32,
    /// Visible height in luma samples.
    pub(super) height: u32,
    /// The shape of a sample, width to height, reduced to what is plausible.
    pub(super) sample_aspect: (u32, u32),
    /// `profile_idc`.
    pub(super) profile: u8,
    /// `level_idc`.
    pub(super) level: u8,
    /// The stream may hold fields.
    pub(super) interlaced: bool,
    /// 4:2:0 with 8 bits a sample.
    pub(super) eight_bit_420: bool,
}

impl VideoTraits {
    /// Reads the format's first SPS. None where there is none that can be read, or its picture has no size or an absurd one.
    pub(super) fn of(format: &VideoFormat) -> Option<Self> {
        let samples = u64::from(format.width) * u64::from(format.height);
        if format.width < 16 || format.height < 16 || samples > PICTURE_SAMPLES_MAX {
            return None;
        }
        let nal = RefNal::new(first_sps(&format.config)?, &[], true);
        let sps = SeqParameterSet::from_bits(nal.rbsp_bits()).ok()?;
        Some(Self {
            width: format.width,
            height: format.height,
            sample_aspect: sample_aspect(&sps),
            profile: u8::from(sps.profile_idc),
            level: sps.level_idc,
            interlaced: !matches!(sps.frame_mbs_flags, FrameMbsFlags::Frames),
            eight_bit_420: is_eight_bit_420(&sps),
        })
    }

    /// Every player can be sent this as it is: what Apple's authoring specification (1.3b) and browsers decode.
    pub(super) fn is_playable(&self) -> bool {
        matches!(self.profile, 66 | 77 | 100) && self.eight_bit_420 && !self.interlaced
    }

    /// The size in square samples, never smaller than the coded one in either direction.
    pub(super) fn display_size(&self) -> (u32, u32) {
        let (wide, high) = (u64::from(self.sample_aspect.0), u64::from(self.sample_aspect.1));
        if wide >= high {
            (scaled(self.width, wide, high), self.height)
        } else {
            (self.width, scaled(self.height, high, wide))
        }
    }
}

/// `length * numerator / denominator`, rounded.
fn scaled(length: u32, numerator: u64, denominator: u64) -> u32 {
    let denominator = denominator.max(1);
    u32::try_from((u64::from(length) * numerator + denominator / 2) / denominator).unwrap_or(u32::MAX)
}

/// The first SPS of an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3.1.2).
fn first_sps(config: &[u8]) -> Option<&[u8]> {
    let count = config.get(5)? & 0x1f;
    let length = usize::from(u16::from_be_bytes([*config.get(6)?, *config.get(7)?]));
    let sps = config.get(8..8_usize.checked_add(length)?)?;
    (count > 0 && !sps.is_empty()).then_some(sps)
}

/// The sample aspect ratio of the VUI, 1:1 where it is absent or beyond 4:1 in either direction.
fn sample_aspect(sps: &SeqParameterSet) -> (u32, u32) {
    let told = sps.vui_parameters.as_ref().and_then(|vui| vui.aspect_ratio_info.as_ref()).and_then(|info| info.get());
    match told {
        Some((wide, high)) if wide > 0 && high > 0 && u32::from(wide.max(high)) <= 4 * u32::from(wide.min(high)) => {
            (u32::from(wide), u32::from(high))
        }
        _ => (1, 1),
    }
}

fn is_eight_bit_420(sps: &SeqParameterSet) -> bool {
    let chroma = &sps.chroma_info;
    matches!(chroma.chroma_format, ChromaFormat::YUV420)
        && chroma.bit_depth_luma_minus8 == 0
        && chroma.bit_depth_chroma_minus8 == 0
}

/// 640x360, High, level 3, progressive, as x264 writes it.
#[cfg(test)]
pub(super) const X264_640X360: &[u8] = &[
    0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70,
    0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96, 0x01, 0x00, 0x06, 0x68,
    0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn format(config: &[u8]) -> VideoFormat {
        VideoFormat { config: Bytes::copy_from_slice(config), width: 640, height: 360 }
    }

    #[test]
    fn an_ordinary_record_is_playable() {
        let traits = VideoTraits::of(&format(X264_640X360)).unwrap();
        assert_eq!((traits.profile, traits.level, traits.sample_aspect), (100, 30, (1, 1)));
        assert!(traits.is_playable());
    }

    #[test]
    fn wide_samples_widen_the_picture() {
        let traits = VideoTraits { sample_aspect: (4, 3), ..VideoTraits::of(&format(X264_640X360)).unwrap() };
        assert_eq!(traits.display_size(), (853, 360));
        assert_eq!(VideoTraits { sample_aspect: (1, 2), ..traits }.display_size(), (640, 720));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert_eq!(VideoTraits::of(&VideoFormat { width: 16384, height: 16384, ..format(X264_640X360) }), None);
        assert_eq!(VideoTraits::of(&VideoFormat { width: 0, ..format(X264_640X360) }), None);
    }

    proptest! {
        #[test]
        fn no_record_panics(mut config in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..40, flip in 0usize..32) {
            let _ = VideoTraits::of(&format(&config));
            config = X264_640X360[..cut.min(X264_640X360.len())].to_vec();
            if let Some(byte) = config.get_mut(flip) { *byte ^= 0x55; }
            let _ = VideoTraits::of(&format(&config));
        }
    }
}
