//! AC-3 and E-AC-3: the headers of their frames (ETSI TS 102 366, 4.3 and E.1.2). There is no other configuration.

use super::bits::Bits;
use super::sound::FrameHeader;
use crate::media::AudioCodec;

/// The header of the frame at the front. None where that cannot be true.
#[must_use]
pub(super) fn frame(data: &[u8]) -> Option<FrameHeader> {
    let body = data.strip_prefix(&[0x0b, 0x77])?;
    match body.get(3)? >> 3 {
        0..=10 => plain(body),
        11..=16 => enhanced(body),
        _ => None,
    }
}

fn plain(body: &[u8]) -> Option<FrameHeader> {
    let mut bits = Bits::plain(body.get(2..)?);
    let (rate, size) = (bits.take(2)?, bits.small(6)?);
    bits.skip(8)?;
    let mode = bits.small(3)?;
    let skipped = [mode & 1 == 1 && mode != 1, mode & 4 != 0, mode == 2];
    bits.skip(skipped.iter().map(|present| if *present { 2 } else { 0 }).sum())?;
    let channels = channels(mode, bits.bit()?)?;
    let kilobits = *KILOBITS.get(usize::from(size >> 1))?;
    let (sample_rate, bytes) = match rate {
        0 => (48_000, 4 * kilobits),
        1 => (44_100, 2 * (320 * kilobits / 147 + usize::from(size & 1))),
        2 => (32_000, 6 * kilobits),
        _ => return None,
    };
    Some(FrameHeader { codec: AudioCodec::Ac3, bytes, sample_rate, channels, samples: 1536 })
}

/// Samples are 0 for what adds channels or programmes to a frame before.
fn enhanced(body: &[u8]) -> Option<FrameHeader> {
    let mut bits = Bits::plain(body);
    let (kind, substream) = (bits.take(2)?, bits.take(3)?);
    let bytes = (bits.take(11)? as usize + 1) * 2;
    let (sample_rate, blocks) = match bits.take(2)? {
        3 => (*[24_000, 22_050, 16_000].get(bits.take(2)? as usize)?, 6),
        rate => (*[48_000, 44_100, 32_000].get(rate as usize)?, *[1, 2, 3, 6].get(bits.take(2)? as usize)?),
    };
    let mode = bits.small(3)?;
    let channels = channels(mode, bits.bit()?)?;
    let counts = kind != 1 && substream == 0;
    let samples = if counts { blocks * 256 } else { 0 };
    Some(FrameHeader { codec: AudioCodec::Eac3, bytes, sample_rate, channels, samples })
}

/// Table 4.3, and the low frequencies.
fn channels(mode: u8, low: bool) -> Option<u8> {
    let full = *[2, 1, 2, 3, 3, 4, 4, 5].get(usize::from(mode))?;
    Some(full + u8::from(low))
}

/// Table 4.13.
const KILOBITS: [usize; 19] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];

#[cfg(test)]
mod tests {
    use super::super::sound::told_by_frames;
    use super::*;

    fn read(data: &[u8]) -> Option<(AudioCodec, u32, u8, u32)> {
        told_by_frames(frame, data)
            .map(|(format, samples)| (format.codec, format.sample_rate, format.channels, samples))
    }

    fn padded(head: &[u8], length: usize) -> Vec<u8> {
        let mut frame = head.to_vec();
        frame.resize(length, 0);
        frame
    }

    #[test]
    fn row_23_frames_of_real_encoders_are_read() {
        let ac3 = padded(&[0x0b, 0x77, 0xfe, 0x95, 0x14, 0x40, 0x43, 0xe1], 768);
        assert_eq!(read(&ac3), Some((AudioCodec::Ac3, 48_000, 2, 1536)));
        assert_eq!(read(&ac3.repeat(3)), Some((AudioCodec::Ac3, 48_000, 2, 4608)));
        let eac3 = padded(&[0x0b, 0x77, 0x00, 0xbf, 0x3f, 0x87, 0xc0, 0x00], 384);
        assert_eq!(read(&eac3), Some((AudioCodec::Eac3, 48_000, 6, 1536)));
        let dependent = padded(&[0x0b, 0x77, 0x40, 0xbf, 0x3f, 0x87, 0xc0, 0x00], 384);
        assert_eq!(read(&[eac3.clone(), dependent].concat()), Some((AudioCodec::Eac3, 48_000, 6, 1536)));
        assert_eq!(read(&padded(&[0x0b, 0x77, 0, 0xbf, 0x0f, 0x87, 0xc0], 384)).map(|f| f.3), Some(256), "one block");
        assert_eq!(read(&eac3[..383]), None, "cut short");
        assert_eq!(read(&[0x0b, 0x77]), None);
    }
}
