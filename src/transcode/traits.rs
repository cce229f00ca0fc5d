//! What decides over a source's picture: whether it can be passed on, and what becomes of it otherwise.

use crate::media::{Colour, Container, DynamicRange, VideoCodec, VideoCoding, VideoFormat};

/// More luma samples than this in a picture are refused: a lying configuration record must not make the decoder
/// reserve gigabytes. It is 8K.
const PICTURE_SAMPLES_MAX: u64 = 7680 * 4320;

/// What of a format decides over passing on, decoding and scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VideoTraits {
    /// How it is coded.
    pub(super) codec: VideoCodec,
    /// Visible width in luma samples.
    pub(super) width: u32,
    /// Visible height in luma samples.
    pub(super) height: u32,
    /// The shape of a sample, width to height, reduced to what is plausible.
    pub(super) sample_aspect: (u32, u32),
    /// `profile_idc` of H.264, `general_profile_idc` of HEVC, `seq_profile` of AV1, `profile` of VP9.
    pub(super) profile: u8,
    /// `level_idc` of H.264, `general_level_idc` of HEVC, `seq_level_idx_0` of AV1, `level` of VP9.
    pub(super) level: u8,
    /// The stream may hold fields.
    pub(super) interlaced: bool,
    /// Bits of a sample, where it is 4:2:0 and luma has as many as chroma.
    pub(super) bits_420: Option<u8>,
    /// What light its samples stand for.
    pub(super) range: DynamicRange,
    /// What it would be passed on in.
    pub(super) container: Container,
}

impl VideoTraits {
    /// What `format` says. None where its picture has no size or an absurd one, or its record no profile.
    pub(super) fn of(format: &VideoFormat) -> Option<Self> {
        let samples = u64::from(format.width) * u64::from(format.height);
        if format.width < 16 || format.height < 16 || samples > PICTURE_SAMPLES_MAX {
            return None;
        }
        let (profile, level) = profile_and_level(format)?;
        let VideoCoding { sample_aspect, interlaced, chroma_format, luma_bits, chroma_bits, colour } = format.coding;
        Some(Self {
            codec: format.codec,
            width: format.width,
            height: format.height,
            sample_aspect: plausible(sample_aspect),
            profile,
            level,
            interlaced,
            bits_420: (chroma_format == 1 && luma_bits == chroma_bits).then_some(luma_bits),
            range: colour.map(Colour::dynamic_range).unwrap_or_default(),
            container: Container::default(),
        })
    }

    /// The same, for a channel that is packed in `container`.
    pub(super) fn within(self, container: Container) -> Self {
        Self { container, ..self }
    }

    /// Players can be sent this as it is, in 4:2:0 and frames: what Apple's authoring specification (1.2, 1.3) and browsers
    /// decode. HEVC and AV1 not everywhere, but where they cannot be, a player leaves the variant out by its `CODECS`; and not in
    /// MPEG-TS.
    /// No player of Apple's takes VP9.
    pub(super) fn is_playable(&self) -> bool {
        let coding = match (self.codec, self.profile) {
            // Baseline, Main, High.
            (VideoCodec::H264, 66 | 77 | 100) => self.bits_420 == Some(8),
            // Main; Main 10 holds pictures of 8 bits too. AV1's Main has both.
            (VideoCodec::Hevc, 1) => self.bits_420 == Some(8),
            (VideoCodec::Hevc, 2) | (VideoCodec::Av1, 0) => matches!(self.bits_420, Some(8 | 10)),
            (VideoCodec::H264 | VideoCodec::Hevc | VideoCodec::Av1 | VideoCodec::Vp9, _) => false,
        };
        coding && !self.interlaced && self.container.holds(self.codec)
    }

    /// `profile_idc` and `level_idc` that an encoder of H.264 has to keep to, to stand in for this without another `CODECS`.
    /// None for what is not H.264: what stands in for that has a name of its own beside it.
    pub(super) fn h264(&self) -> Option<(u8, u8)> {
        (self.codec == VideoCodec::H264).then_some((self.profile, self.level))
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

/// Where the configuration record tells them. None where it is too short to.
fn profile_and_level(format: &VideoFormat) -> Option<(u8, u8)> {
    let config = format.config.as_ref();
    match format.codec {
        // ISO/IEC 14496-15, 5.3.3.1.2.
        VideoCodec::H264 => Some((*config.get(1)?, *config.get(3)?)),
        // The same, 8.3.3.1.2.
        VideoCodec::Hevc => Some((config.get(1)? & 0x1f, *config.get(12)?)),
        // AV1-ISOBMFF, 2.3.3.
        VideoCodec::Av1 => config.get(1).map(|byte| (byte >> 5, byte & 0x1f)),
        // VP9-ISOBMFF: after the version and three bytes of flags.
        VideoCodec::Vp9 => Some((*config.get(4)?, *config.get(5)?)),
    }
}

/// `length * numerator / denominator`, rounded.
fn scaled(length: u32, numerator: u64, denominator: u64) -> u32 {
    let denominator = denominator.max(1);
    u32::try_from((u64::from(length) * numerator + denominator / 2) / denominator).unwrap_or(u32::MAX)
}

/// 1:1 in place of what is beyond 4:1 in either direction.
fn plausible((wide, high): (u16, u16)) -> (u32, u32) {
    let (wide, high) = (u32::from(wide), u32::from(high));
    let in_reason = wide > 0 && high > 0 && wide.max(high) <= 4 * wide.min(high);
    if in_reason { (wide, high) } else { (1, 1) }
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
        VideoFormat {
            codec: VideoCodec::H264,
            config: Bytes::copy_from_slice(config),
            width: 640,
            height: 360,
            coding: VideoCoding::PLAIN,
        }
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

    #[test]
    fn row_27_samples_that_players_do_not_take_are_seen() {
        let coded = |coding| VideoTraits::of(&VideoFormat { coding, ..format(X264_640X360) }).unwrap();
        assert!(coded(VideoCoding::PLAIN).is_playable());
        assert!(!coded(VideoCoding { interlaced: true, ..VideoCoding::PLAIN }).is_playable());
        assert!(!coded(VideoCoding { chroma_format: 2, ..VideoCoding::PLAIN }).is_playable());
        assert!(!coded(VideoCoding { luma_bits: 10, ..VideoCoding::PLAIN }).is_playable());
        assert!(!coded(VideoCoding { chroma_bits: 10, ..VideoCoding::PLAIN }).is_playable());
    }

    #[test]
    fn row_31_hevc_and_av1_are_passed_on_in_their_main_profiles_and_vp9_never() {
        let playable = |codec, config: &[u8], bits| {
            let coding = VideoCoding { luma_bits: bits, chroma_bits: bits, ..VideoCoding::PLAIN };
            VideoTraits::of(&VideoFormat { codec, coding, ..format(config) }).unwrap().is_playable()
        };
        let hevc = |profile: u8, bits| {
            let config = [1, 0x20 | profile, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];
            playable(VideoCodec::Hevc, &config, bits)
        };
        assert!(hevc(1, 8) && hevc(2, 8) && hevc(2, 10));
        assert!(!hevc(1, 10) && !hevc(2, 12) && !hevc(4, 8));
        let av1 = |profile: u8, bits| playable(VideoCodec::Av1, &[0x81, profile << 5 | 5, 0x0c, 0], bits);
        assert!(av1(0, 8) && av1(0, 10));
        assert!(!av1(1, 8) && !av1(0, 12));
        assert!(!playable(VideoCodec::Vp9, &[1, 0, 0, 0, 0, 31, 0x80, 1, 1, 1, 0, 0], 8));
    }

    #[test]
    fn a_transport_stream_has_h264_passed_on_alone() {
        let within = |codec, config: &[u8]| {
            let traits = VideoTraits::of(&VideoFormat { codec, ..format(config) }).unwrap();
            [Container::Cmaf, Container::Ts].map(|container| traits.within(container).is_playable())
        };
        assert_eq!(within(VideoCodec::H264, X264_640X360), [true, true]);
        let hevc = [1, 0x21, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];
        assert_eq!(within(VideoCodec::Hevc, &hevc), [true, false]);
        assert_eq!(within(VideoCodec::Av1, &[0x81, 5, 0x0c, 0]), [true, false]);
    }

    #[test]
    fn only_h264_is_stood_in_for_under_its_own_name() {
        let h264 = VideoTraits::of(&format(X264_640X360)).unwrap();
        assert_eq!(h264.h264(), Some((100, 30)));
        assert_eq!(VideoTraits { codec: VideoCodec::Hevc, ..h264 }.h264(), None);
    }

    #[test]
    fn implausible_samples_are_taken_for_square() {
        let aspect = |sample_aspect| {
            let coding = VideoCoding { sample_aspect, ..VideoCoding::PLAIN };
            VideoTraits::of(&VideoFormat { coding, ..format(X264_640X360) }).unwrap().sample_aspect
        };
        assert_eq!([(4, 1), (1, 4), (64, 45)].map(aspect), [(4, 1), (1, 4), (64, 45)]);
        assert_eq!([(5, 1), (1, 5), (0, 3), (65_535, 1)].map(aspect), [(1, 1); 4]);
    }

    proptest! {
        #[test]
        fn no_format_panics(config in prop::collection::vec(any::<u8>(), 0..15), codec in 0..4_usize, sample_aspect: (u16, u16), width: u32, height: u32) {
            let coding = VideoCoding { sample_aspect, ..VideoCoding::PLAIN };
            let codec = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9][codec];
            if let Some(traits) = VideoTraits::of(&VideoFormat { codec, config: config.into(), width, height, coding }) {
                let (shown_width, shown_height) = traits.display_size();
                prop_assert!(shown_width >= width && shown_height >= height);
            }
        }
    }
}
