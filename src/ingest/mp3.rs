//! MP3: the headers of its frames (ISO/IEC 11172-3, 2.4.2.3; 13818-3). There is no other configuration.

use super::sound::FrameHeader;
use crate::media::AudioCodec;

/// The header of the frame at the front. None where that cannot be true.
#[must_use]
pub(super) fn frame(data: &[u8]) -> Option<FrameHeader> {
    let [0xff, version_layer, rates, mode] = *data.first_chunk::<4>()? else { return None };
    let (version, layer) = (version_layer >> 3 & 3, version_layer >> 1 & 3);
    if version_layer >> 5 != 7 || version == 1 || layer != 1 {
        return None;
    }
    let is_first = version == 3;
    let kilobits: u32 = *if is_first { KILOBITS } else { KILOBITS_LOW }.get(usize::from(rates >> 4).checked_sub(1)?)?;
    let halvings = match version {
        3 => 0,
        2 => 1,
        _ => 2,
    };
    let sample_rate = *[44_100u32, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? >> halvings;
    let samples = if is_first { 1152 } else { 576 };
    let padding = u32::from(rates >> 1 & 1);
    let bytes = usize::try_from(samples / 8 * kilobits * 1000 / sample_rate + padding).ok()?;
    let channels = if mode >> 6 == 3 { 1 } else { 2 };
    Some(FrameHeader { codec: AudioCodec::Mp3, bytes, sample_rate, channels, samples })
}

const KILOBITS: [u32; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
/// Of MPEG-2, which halves the rates of sampling.
const KILOBITS_LOW: [u32; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

#[cfg(test)]
mod tests {
    use super::super::sound::told_by_frames;

    #[test]
    fn row_23_mp3_of_lame_is_read() {
        let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
        frame.resize(417, 0);
        let read = |data: &[u8]| {
            told_by_frames(super::frame, data).map(|(format, samples)| (format.sample_rate, format.channels, samples))
        };
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
