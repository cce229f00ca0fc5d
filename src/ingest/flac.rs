//! FLAC: its stream information, and how long a frame lasts (RFC 9639, 8.2 and 9.1).

use super::bits::Bits;
use crate::media::{AudioCodec, AudioFormat};

/// The format that a configuration tells: `fLaC` and metadata blocks, or the bare stream information, as some write it.
/// What is kept is the stream information alone. None where it is cut short or cannot be true.
#[must_use]
pub fn format(config: &[u8]) -> Option<AudioFormat> {
    let information = match config.strip_prefix(b"fLaC") {
        Some(blocks) => {
            let [kind, length @ ..] = *blocks.first_chunk::<4>()?;
            let is_information = kind & 0x7f == 0 && length == [0, 0, 34];
            blocks.get(4..38).filter(|_| is_information)?
        }
        None => config.get(..34)?,
    };
    let mut bits = Bits::plain(information.get(10..)?);
    let sample_rate = bits.take(20).filter(|rate| (1_000..=655_350).contains(rate))?;
    let channels = bits.small(3)? + 1;
    let config = [b"fLaC\x80\0\0\x22", information].concat().into();
    Some(AudioFormat { codec: AudioCodec::Flac, config, sample_rate, channels })
}

/// Samples of a frame in each channel. None where its header is cut short or cannot be true.
#[must_use]
pub fn samples(frame: &[u8]) -> Option<u32> {
    let [0xff, sync, sizes, _, number, ..] = *frame else { return None };
    if sync & 0xfe != 0xf8 {
        return None;
    }
    // The frame's or sample's number is coded as UTF-8 codes characters.
    let after = 4 + match number.leading_ones() {
        0 => 1,
        length @ 2..=7 => length as usize,
        _ => return None,
    };
    let byte = |at: usize| frame.get(after + at).copied().map(u32::from);
    match sizes >> 4 {
        1 => Some(192),
        code @ 2..=5 => Some(576 << (code - 2)),
        6 => Some(byte(0)? + 1),
        7 => Some((byte(0)? << 8 | byte(1)?) + 1),
        code @ 8..=15 => Some(256 << (code - 8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_23_flac_of_ffmpeg_is_read() {
        let mut information = vec![0x12, 0, 0x12, 0, 0, 2, 0xf1, 0, 4, 0xf3, 0x0a, 0xc4, 0x40, 0xf0];
        information.resize(34, 7);
        let format = format(&information).unwrap();
        assert_eq!((format.sample_rate, format.channels), (44_100, 1));
        assert_eq!(super::format(&format.config), Some(format), "with its marker");
        assert_eq!(super::format(&information[..33]), None);
        assert_eq!(super::format(&[0; 34]), None, "a rate of 0");
    }

    #[test]
    fn row_23_flac_frames_tell_their_length() {
        assert_eq!(samples(&[0xff, 0xf8, 0x59, 8, 0, 0x3c]), Some(4608));
        assert_eq!(samples(&[0xff, 0xf8, 0xc9, 8, 0, 0]), Some(4096));
        assert_eq!(samples(&[0xff, 0xf8, 0x69, 8, 0xc2, 0x80, 99]), Some(100), "the last");
        assert_eq!(samples(&[0xff, 0xf8, 0x79, 8, 0, 2, 1]), Some(514));
        assert_eq!(samples(&[0xff, 0xf8, 0x09, 8, 0, 0]), None);
        assert_eq!(samples(&[0xff, 0xf8, 0x79, 8, 0]), None);
        assert_eq!(samples(&[0xff, 0xf8, 0x79, 8, 0x80, 0, 0]), None);
    }
}
