//! Silent AAC-LC, written bit by bit: what is heard where the source has no sound.

use bytes::Bytes;

use crate::media::{AudioCodec, AudioFormat};

/// Samples in an AAC frame.
pub(super) const FRAME_SAMPLES: u32 = 1024;

/// The sampling rates that an `AudioSpecificConfig` has a short code for (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// An AAC-LC format of this rate and number of channels.
pub(super) fn lc_format(sample_rate: u32, channels: u8) -> AudioFormat {
    let mut bits = BitWriter::default();
    bits.put(2, 5);
    match RATES.iter().position(|&rate| rate == sample_rate) {
        Some(index) => bits.put(u32::try_from(index).unwrap_or(3), 4),
        None => {
            bits.put(15, 4);
            bits.put(sample_rate, 24);
        }
    }
    bits.put(u32::from(channels), 4);
    bits.put(0, 3);
    AudioFormat { codec: AudioCodec::Aac(2), config: bits.finish(), sample_rate, channels }
}

/// One raw data block in which every channel is silent. Channel counts that have no configuration of their own
/// (ISO/IEC 14496-3, table 1.19) get that of stereo.
pub(super) fn frame(channels: u8) -> Bytes {
    let mut bits = BitWriter::default();
    let mut pairs = 0;
    let mut singles = 0;
    for element in elements(channels) {
        match element {
            Element::Single => {
                single(&mut bits, 0, singles);
                singles += 1;
            }
            Element::Pair => {
                pair(&mut bits, pairs);
                pairs += 1;
            }
            Element::Bass => single(&mut bits, 3, 0),
        }
    }
    bits.put(7, 3);
    bits.finish()
}

#[derive(Clone, Copy)]
enum Element {
    Single,
    Pair,
    Bass,
}

fn elements(channels: u8) -> &'static [Element] {
    use Element::{Bass, Pair, Single};
    match channels {
        1 => &[Single],
        3 => &[Single, Pair],
        4 => &[Single, Pair, Single],
        5 => &[Single, Pair, Pair],
        6 => &[Single, Pair, Pair, Bass],
        7 | 8 => &[Single, Pair, Pair, Pair, Bass],
        _ => &[Pair],
    }
}

/// A `single_channel_element` or `lfe_channel_element`.
fn single(bits: &mut BitWriter, id: u32, tag: u32) {
    bits.put(id, 3);
    bits.put(tag, 4);
    bits.put(0, 8);
    long_window(bits);
    bits.put(0, 3);
}

/// A `channel_pair_element` with a common window.
fn pair(bits: &mut BitWriter, tag: u32) {
    bits.put(1, 3);
    bits.put(tag, 4);
    bits.put(1, 1);
    long_window(bits);
    bits.put(0, 2);
    for _channel in 0..2 {
        bits.put(0, 8);
        bits.put(0, 3);
    }
}

/// `ics_info` of a long window without any scale factor band, so that no spectrum follows.
fn long_window(bits: &mut BitWriter) {
    bits.put(0, 1 + 2 + 1 + 6 + 1);
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    pending: u8,
    filled: u8,
}

impl BitWriter {
    fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            let one = u8::from(value.checked_shr(bit).unwrap_or(0) & 1 == 1);
            self.pending = (self.pending << 1) | one;
            self.filled += 1;
            if self.filled == 8 {
                self.bytes.push(self.pending);
                (self.pending, self.filled) = (0, 0);
            }
        }
    }

    fn finish(mut self) -> Bytes {
        while self.filled != 0 {
            self.put(0, 1);
        }
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_those_that_encoders_write() {
        assert_eq!(lc_format(48_000, 2).config, [0x11, 0x90][..]);
        assert_eq!(lc_format(44_100, 1).config, [0x12, 0x08][..]);
        assert_eq!(lc_format(12_345, 2).config.len(), 5);
    }

    #[test]
    fn a_stereo_frame_is_a_pair_and_an_end() {
        assert_eq!(frame(2), [0x21, 0x00, 0x00, 0x00, 0x00, 0x1c][..]);
    }
}
