//! AAC: its `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1), and frames that some send in ADTS (1.A.2).

use bytes::Bytes;

use super::bits::Bits;
use super::sound::SoundError;
use crate::media::{AudioCodec, AudioFormat};

/// What a publisher says of its AAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// The format.
    pub format: AudioFormat,
    /// Samples that a frame has in each channel, at the format's rate.
    pub frame_samples: u32,
}

impl AacConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`SoundError`].
    pub fn parse(config: &Bytes) -> Result<Self, SoundError> {
        let mut bits = Bits::plain(config);
        let fields = read_fields(&mut bits).ok_or(SoundError::FalseConfig)?;
        if !matches!(fields.core_type, 1..=4) {
            return Err(SoundError::ObjectType(fields.core_type));
        }
        let channels = fields.channels;
        if !(7_000..=96_000).contains(&fields.sample_rate) {
            return Err(SoundError::FalseConfig);
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
    channels: u8,
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
    let channels = match channel_config {
        0 if matches!(core_type, 1..=4) => described_channels(bits)?,
        config => channels(config)?,
    };
    if core_type == object_type && !extension && channel_config != 0 && announces_sbr(bits) {
        object_type = SBR;
    }
    Some(Fields { object_type, core_type, sample_rate, channels, short_frames })
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

/// Table 1.19. Of 0, which leaves it to a description, as many as of nothing.
fn channels(config: u8) -> Option<u8> {
    match config {
        0..=6 => Some(config),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        _ => None,
    }
}

/// The channels that a program config element lays out (4.4.1.1).
fn described_channels(bits: &mut Bits<'_>) -> Option<u8> {
    bits.skip(10)?;
    let [front, side, back, low] = [bits.small(4)?, bits.small(4)?, bits.small(4)?, bits.small(2)?];
    bits.skip(7)?;
    for mixdown_bits in [4, 4, 3] {
        if bits.bit()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = low;
    for _ in 0..front + side + back {
        channels += 1 + u8::from(bits.bit()?);
        bits.skip(4)?;
    }
    Some(channels).filter(|channels| (1..=8).contains(channels))
}

/// The configuration and the raw frame of a packet in ADTS; None where it is not. A raw frame never begins so: the bits
/// would be its end.
pub(super) fn adts(data: &Bytes) -> Result<Option<([u8; 2], Bytes)>, SoundError> {
    let [0xff, second, ..] = *data.as_ref() else { return Ok(None) };
    if second & 0xf6 != 0xf0 {
        return Ok(None);
    }
    let [_, _, third, fourth, fifth, sixth, seventh] = *data.first_chunk::<7>().ok_or(SoundError::Malformed)?;
    let length = usize::from(fourth & 3) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    let header = if second & 1 == 1 { 7 } else { 9 };
    // Several frames in one packet are not taken apart.
    if length != data.len() || length < header || seventh & 3 != 0 {
        return Err(SoundError::Malformed);
    }
    let (object_type, rate) = ((third >> 6) + 1, third >> 2 & 0xf);
    let channels = (third & 1) << 2 | fourth >> 6;
    Ok(Some(([object_type << 3 | rate >> 1, rate << 7 | channels << 3], data.slice(header..))))
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

    fn parse(config: &[u8]) -> Result<(u8, u32, u8, u32), SoundError> {
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
        assert_eq!(parse(&[]), Err(SoundError::FalseConfig));
        assert_eq!(parse(&[0x12]), Err(SoundError::FalseConfig));
        assert_eq!(parse(&[0x16, 0x90]), Err(SoundError::FalseConfig), "a reserved rate");
        assert_eq!(parse(&[0x11, 0x80]), Err(SoundError::FalseConfig), "no channels");
        assert_eq!(parse(&[0xf9, 0x48, 0x40]), Err(SoundError::ObjectType(42)), "xHE-AAC");
        assert_eq!(parse(&[0x17, 0x80, 0, 0, 0x10]), Err(SoundError::FalseConfig), "a rate of 0");
    }

    #[test]
    fn row_22_channels_laid_out_in_the_configuration_are_counted() {
        // Two front elements (one and two channels), one back pair, and a low one: 5.1.
        let head = "00010 0011 0000 0 0 0";
        let element = "0000 01 0011 0010 0000 0001 01 000 0000 0 0 0  0 0000 1 0000  1 0000  0000 0000000";
        let bits: String = [head, element].concat().replace(' ', "");
        let byte = |bits: &[u8]| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap();
        let config: Vec<u8> = bits.as_bytes().chunks_exact(8).map(byte).collect();
        assert_eq!(parse(&config), Ok((2, 48_000, 6, 1024)));
        assert_eq!(parse(&config[..6]), Err(SoundError::FalseConfig), "cut short");
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
