//! The `AudioSpecificConfig` of AAC (ISO/IEC 14496-3, 1.6.2.1).

use bytes::Bytes;

use super::bits::Bits;
use crate::media::{AudioCodec, AudioFormat};

/// What a publisher says of its AAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// The format.
    pub format: AudioFormat,
    /// Samples that a frame has in each channel, at the format's rate.
    pub frame_samples: u32,
}

/// AAC that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// The configuration is cut short, or uses reserved values.
    #[error("an audio configuration that cannot be true")]
    FalseConfig,
    /// An object type other than Main, LC, SSR, LTP, and SBR or PS over them.
    #[error("MPEG-4 audio object type {0} is not supported")]
    ObjectType(u8),
    /// A channel layout that is described in the stream itself.
    #[error("a channel layout by program config element is not supported")]
    ChannelLayout,
}

impl AacConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`AacError`].
    pub fn parse(config: &Bytes) -> Result<Self, AacError> {
        let mut bits = Bits::plain(config);
        let fields = read_fields(&mut bits).ok_or(AacError::FalseConfig)?;
        if !matches!(fields.core_type, 1..=4) {
            return Err(AacError::ObjectType(fields.core_type));
        }
        let channels = channels(fields.channel_config)?;
        if !(7_000..=96_000).contains(&fields.sample_rate) {
            return Err(AacError::FalseConfig);
        }
        let format = AudioFormat {
            codec: AudioCodec::Aac(fields.object_type),
            config: config.clone(),
            sample_rate: fields.sample_rate,
            channels,
        };
        Ok(Self { format, frame_samples: if fields.short_frames { 960 } else { 1024 } })
    }
}

struct Fields {
    /// What the stream is: 5 with SBR, 29 with PS.
    object_type: u8,
    /// What is below SBR and PS.
    core_type: u8,
    sample_rate: u32,
    channel_config: u8,
    short_frames: bool,
}

fn read_fields(bits: &mut Bits<'_>) -> Option<Fields> {
    let mut object_type = read_object_type(bits)?;
    let sample_rate = read_sample_rate(bits)?;
    let channel_config = bits.small(4)?;
    let mut core_type = object_type;
    if matches!(object_type, SBR | PS) {
        read_sample_rate(bits)?;
        core_type = read_object_type(bits)?;
    }
    let short_frames = bits.take(1)? == 1;
    if bits.take(1)? == 1 {
        bits.take(14)?;
    }
    let extension = bits.take(1)? == 1;
    if core_type == object_type && !extension && channel_config != 0 && announces_sbr(bits) {
        object_type = SBR;
    }
    Some(Fields { object_type, core_type, sample_rate, channel_config, short_frames })
}

/// SBR signalled behind the core's configuration, where decoders that do not know it do not look (1.6.5.1).
fn announces_sbr(bits: &mut Bits<'_>) -> bool {
    bits.take(11) == Some(0x2b7) && read_object_type(bits) == Some(SBR) && bits.take(1) == Some(1)
}

fn read_object_type(bits: &mut Bits<'_>) -> Option<u8> {
    match bits.small(5)? {
        31 => Some(32 + bits.small(6)?),
        object_type => Some(object_type),
    }
}

fn read_sample_rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(4)? {
        15 => bits.take(24),
        index => SAMPLE_RATES.get(index as usize).copied(),
    }
}

/// Table 1.19.
fn channels(config: u8) -> Result<u8, AacError> {
    match config {
        0 => Err(AacError::ChannelLayout),
        1..=6 => Ok(config),
        7 | 12 | 14 => Ok(8),
        11 => Ok(7),
        _ => Err(AacError::FalseConfig),
    }
}

const SBR: u8 = 5;
const PS: u8 = 29;
/// Table 1.18.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(config: &[u8]) -> Result<(u8, u32, u8, u32), AacError> {
        let config = AacConfig::parse(&Bytes::copy_from_slice(config))?;
        let AudioCodec::Aac(object_type) = config.format.codec else { panic!("not AAC: {config:?}") };
        Ok((object_type, config.format.sample_rate, config.format.channels, config.frame_samples))
    }

    #[test]
    fn configurations_of_real_encoders_are_read() {
        assert_eq!(parse(&[0x12, 0x10]), Ok((2, 44_100, 2, 1024)), "OBS, LC 44.1 kHz stereo");
        assert_eq!(
            parse(&[0x11, 0x90, 0x56, 0xe5, 0x00]),
            Ok((2, 48_000, 2, 1024)),
            "FFmpeg, which says that there is no SBR"
        );
        assert_eq!(parse(&[0x13, 0x10, 0x56, 0xe5, 0x98]), Ok((5, 24_000, 2, 1024)), "SBR behind the core");
        assert_eq!(parse(&[0x2b, 0x11, 0x88, 0x00]), Ok((5, 24_000, 2, 1024)), "SBR before the core");
        assert_eq!(parse(&[0x11, 0xb8]), Ok((2, 48_000, 8, 1024)), "7.1");
        assert_eq!(parse(&[0x11, 0x94]), Ok((2, 48_000, 2, 960)), "960 samples");
        assert_eq!(parse(&[0x17, 0x80, 0x5d, 0xc0, 0x10]), Ok((2, 48_000, 2, 1024)), "a rate spelled out");
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        assert_eq!(parse(&[]), Err(AacError::FalseConfig));
        assert_eq!(parse(&[0x12]), Err(AacError::FalseConfig));
        assert_eq!(parse(&[0x16, 0x90]), Err(AacError::FalseConfig), "a reserved rate");
        assert_eq!(parse(&[0x11, 0x80]), Err(AacError::ChannelLayout));
        assert_eq!(parse(&[0xf9, 0x48, 0x40]), Err(AacError::ObjectType(42)), "xHE-AAC");
        assert_eq!(parse(&[0x17, 0x80, 0, 0, 0x10]), Err(AacError::FalseConfig), "a rate of 0");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            if let Ok((_, rate, channels, _)) = parse(&bytes) {
                prop_assert!((7_000..=96_000).contains(&rate) && (1..=8).contains(&channels));
            }
        }
    }
}
