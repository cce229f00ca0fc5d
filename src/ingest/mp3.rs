//! MP3: the headers of its frames (ISO/IEC 11172-3, 2.4.2.3; 13818-3). There is no other configuration.

use bytes::Bytes;

use crate::media::{AudioCodec, AudioFormat};

/// The format of a packet's first frame, and how many samples all its frames have. None where one is cut short or cannot
/// be true.
#[must_use]
pub fn packet(data: &[u8]) -> Option<(AudioFormat, u32)> {
    let first = Frame::parse(data)?;
    let (mut rest, mut samples) = (data, 0);
    for _ in 0..FRAMES_MAX {
        let frame = Frame::parse(rest)?;
        samples += frame.samples;
        rest = rest.get(frame.bytes..)?;
        if rest.is_empty() {
            let Frame { sample_rate, channels, .. } = first;
            return Some((
                AudioFormat { codec: AudioCodec::Mp3, config: Bytes::new(), sample_rate, channels },
                samples,
            ));
        }
    }
    None
}

struct Frame {
    bytes: usize,
    sample_rate: u32,
    channels: u8,
    samples: u32,
}

impl Frame {
    fn parse(data: &[u8]) -> Option<Self> {
        let [0xff, version_layer, rates, mode] = *data.first_chunk::<4>()? else { return None };
        let (version, layer) = (version_layer >> 3 & 3, version_layer >> 1 & 3);
        if version_layer >> 5 != 7 || version == 1 || layer != 1 {
            return None;
        }
        let is_first = version == 3;
        let kilobits: u32 =
            *if is_first { KILOBITS } else { KILOBITS_LOW }.get(usize::from(rates >> 4).checked_sub(1)?)?;
        let halvings = match version {
            3 => 0,
            2 => 1,
            _ => 2,
        };
        let sample_rate = *[44_100u32, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? >> halvings;
        let samples = if is_first { 1152 } else { 576 };
        let padding = u32::from(rates >> 1 & 1);
        let bytes = usize::try_from(samples / 8 * kilobits * 1000 / sample_rate + padding).ok()?;
        Some(Self { bytes, sample_rate, channels: if mode >> 6 == 3 { 1 } else { 2 }, samples })
    }
}

const KILOBITS: [u32; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
/// Of MPEG-2, which halves the rates of sampling.
const KILOBITS_LOW: [u32; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
/// Frames of a packet; encoders put one.
const FRAMES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_23_mp3_of_lame_is_read() {
        let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
        frame.resize(417, 0);
        let read = |data: &[u8]| packet(data).map(|(format, samples)| (format.sample_rate, format.channels, samples));
        assert_eq!(read(&frame), Some((44_100, 2, 1152)));
        assert_eq!(read(&frame.repeat(2)), Some((44_100, 2, 2304)));
        assert_eq!(read(&frame[..416]), None, "cut short");
        let mut low = vec![0xff, 0xf3, 0x84, 0xc4];
        low.resize(192, 0);
        assert_eq!(read(&low), Some((24_000, 1, 576)));
        for wrong in [
            [0xff, 0xfd, 0x90, 0],
            [0xff, 0xeb, 0x90, 0],
            [0xff, 0xfb, 0, 0],
            [0xff, 0xfb, 0xf0, 0],
            [0xff, 0xfb, 0x9c, 0],
        ] {
            assert_eq!(read(&wrong), None, "{wrong:?}");
        }
    }
}
