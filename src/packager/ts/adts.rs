//! AAC frames as a transport stream has them: each behind a header of its own (ISO/IEC 14496-3, 1.A.2.2, ADTS).

use super::super::init::BadFormat;
use crate::media::{AudioCodec, AudioFormat};

/// What the headers of a sound say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adts {
    /// Object type, less one.
    profile: u8,
    /// The position of its rate in [`RATES`].
    rate: u8,
    channels: u8,
}

/// Samples a second, by their index (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

const HEADER_BYTES: usize = 7;
/// With the header: the length has 13 bits.
const FRAME_BYTES_MAX: usize = (1 << 13) - 1;

impl Adts {
    /// # Errors
    /// [`BadFormat`] where a header cannot say what `format` is.
    pub(super) fn new(format: &AudioFormat) -> Result<Self, BadFormat> {
        let AudioCodec::Aac(object_type @ 1..=4) = format.codec else {
            return Err(BadFormat::Codec("sound in MPEG-TS that is not AAC"));
        };
        let rate = RATES.iter().position(|rate| *rate == format.sample_rate).and_then(|index| u8::try_from(index).ok());
        let channels = Some(format.channels).filter(|channels| (1..=6).contains(channels));
        Ok(Self {
            profile: object_type - 1,
            rate: rate.ok_or(BadFormat::OutOfRange("sample rate"))?,
            channels: channels.ok_or(BadFormat::OutOfRange("number of channels"))?,
        })
    }

    /// Appends a frame. False if it is longer than a header can say, and left out.
    pub(super) fn append(self, frame: &[u8], to: &mut Vec<u8>) -> bool {
        let length = frame.len().saturating_add(HEADER_BYTES);
        if length > FRAME_BYTES_MAX {
            return false;
        }
        // 12 bits of ones, MPEG-4, no layer, no checksum; then, from the top: profile 2, rate 4, private 1, channels 3,
        // four bits of no meaning here, length 13, fullness 11 (all ones: it varies), and frames less one, 2.
        let fields = u64::from(self.profile) << 38
            | u64::from(self.rate) << 34
            | u64::from(self.channels) << 30
            | u64::try_from(length).unwrap_or(0) << 13
            | 0x7ff << 2;
        to.extend_from_slice(&[0xff, 0xf1]);
        to.extend(fields.to_be_bytes().into_iter().skip(3));
        to.extend_from_slice(frame);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::TrackFormat;
    use crate::packager::testing;

    #[test]
    fn a_header_says_what_the_configuration_says() {
        let TrackFormat::Audio(format) = testing::audio_format() else { unreachable!() };
        let mut to = Vec::new();
        assert!(Adts::new(&format).unwrap().append(&[0xaa; 3], &mut to));
        // AAC-LC, 48 kHz, two channels, ten bytes: as ffmpeg writes it.
        assert_eq!(to, [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x5f, 0xfc, 0xaa, 0xaa, 0xaa]);
    }

    #[test]
    fn what_a_header_cannot_say_is_refused() {
        let TrackFormat::Audio(format) = testing::audio_format() else { unreachable!() };
        for wrong in [
            AudioFormat { codec: AudioCodec::Opus, ..format.clone() },
            AudioFormat { codec: AudioCodec::Aac(5), ..format.clone() },
            AudioFormat { sample_rate: 12_345, ..format.clone() },
            AudioFormat { channels: 8, ..format.clone() },
        ] {
            assert!(Adts::new(&wrong).is_err(), "{wrong:?}");
        }
        let mut to = Vec::new();
        assert!(!Adts::new(&format).unwrap().append(&[0; FRAME_BYTES_MAX], &mut to));
        assert!(to.is_empty());
    }
}
