//! What an AV1 sequence header tells of the picture (AV1's bitstream specification, 5.5).

use super::bits::Bits;
use super::vui::{UNSPECIFIED, said};
use crate::media::{Colour, VideoCoding};

/// What is read of a sequence header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`
    pub profile: u8,
    /// `seq_level_idx` of the first operating point.
    pub level: u8,
    /// `seq_tier` of it.
    pub tier: bool,
    /// `reduced_still_picture_header`: all frames are key frames.
    pub is_still: bool,
    /// The largest width.
    pub width: u32,
    /// The largest height.
    pub height: u32,
    /// Bits of a sample: 8, 10 or 12.
    pub bits: u8,
    /// There is no chroma.
    pub monochrome: bool,
    /// Chroma is halved in width, and in height.
    pub subsampling: (bool, bool),
    /// `chroma_sample_position`
    pub chroma_position: u8,
    /// What the samples' values mean, where it is said.
    pub colour: Option<Colour>,
}

impl SequenceHeader {
    /// Reads the payload of an OBU of type 1. None where it is cut short or cannot be true.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bits = Bits::plain(payload);
        let profile = bits.small(3).filter(|profile| *profile <= 2)?;
        bits.bit()?;
        let is_still = bits.bit()?;
        let (level, tier) = if is_still { (bits.small(5)?, false) } else { operating_points(&mut bits)? };
        let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
        let (width, height) = (bits.take(width_bits)? + 1, bits.take(height_bits)? + 1);
        if width > SIDE_MAX || height > SIDE_MAX {
            return None;
        }
        skip_tools(&mut bits, is_still)?;
        let header = Self {
            profile,
            level,
            tier,
            is_still,
            width,
            height,
            bits: 8,
            monochrome: false,
            subsampling: (true, true),
            chroma_position: 0,
            colour: None,
        };
        header.with_colour(&mut bits)
    }

    /// `color_config` (5.5.2).
    fn with_colour(mut self, bits: &mut Bits<'_>) -> Option<Self> {
        let high = bits.bit()?;
        self.bits = match (high, self.profile) {
            (true, 2) => {
                if bits.bit()? {
                    12
                } else {
                    10
                }
            }
            (true, _) => 10,
            (false, _) => 8,
        };
        self.monochrome = self.profile != 1 && bits.bit()?;
        let [primaries, transfer, matrix] = match bits.bit()? {
            true => [bits.small(8)?, bits.small(8)?, bits.small(8)?],
            false => [UNSPECIFIED; 3],
        };
        // sRGB is always whole, in range and in chroma.
        let is_rgb = !self.monochrome && (primaries, transfer, matrix) == (1, 13, 0);
        let full_range = is_rgb || bits.bit()?;
        if !self.monochrome {
            self.subsampling = if is_rgb { (false, false) } else { self.subsampling(bits)? };
            if self.subsampling == (true, true) {
                self.chroma_position = bits.small(2)?;
            }
        }
        self.colour = said(Colour { primaries, transfer, matrix, full_range });
        Some(self)
    }

    fn subsampling(&self, bits: &mut Bits<'_>) -> Option<(bool, bool)> {
        match (self.profile, self.bits) {
            (0, _) => Some((true, true)),
            (1, _) => Some((false, false)),
            (_, 12) => {
                let wide = bits.bit()?;
                Some((wide, wide && bits.bit()?))
            }
            _ => Some((true, false)),
        }
    }

    /// The byte of the configuration record that tells of tier, depth and chroma.
    #[must_use]
    pub fn coding_byte(&self) -> u8 {
        let (x, y) = self.subsampling;
        let flags = [self.tier, self.bits > 8, self.bits == 12, self.monochrome, x, y];
        flags.iter().fold(0, |byte, flag| byte << 1 | u8::from(*flag)) << 2 | self.chroma_position
    }

    /// What the samples are, in the words of the other stages.
    #[must_use]
    pub fn coding(&self) -> VideoCoding {
        let chroma_format = match (self.monochrome, self.subsampling) {
            (true, _) => 0,
            (_, (true, true)) => 1,
            (_, (true, false)) => 2,
            _ => 3,
        };
        VideoCoding {
            chroma_format,
            luma_bits: self.bits,
            chroma_bits: self.bits,
            colour: self.colour,
            ..VideoCoding::PLAIN
        }
    }
}

/// Level and tier of the first operating point, past timing and the other points.
fn operating_points(bits: &mut Bits<'_>) -> Option<(u8, bool)> {
    let mut delay_bits = None;
    if bits.bit()? {
        bits.skip(64)?;
        if bits.bit()? {
            bits.ue()?;
        }
        if bits.bit()? {
            delay_bits = Some(bits.take(5)? + 1);
            bits.skip(42)?;
        }
    }
    let has_delays = bits.bit()?;
    let mut first = None;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?;
        let level = bits.small(5)?;
        let tier = level > 7 && bits.bit()?;
        if let Some(delay_bits) = delay_bits
            && bits.bit()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_delays && bits.bit()? {
            bits.skip(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first
}

/// What lies between the size and the colours.
fn skip_tools(bits: &mut Bits<'_>, is_still: bool) -> Option<()> {
    if !is_still && bits.bit()? {
        bits.skip(7)?;
    }
    bits.skip(3)?;
    if !is_still {
        bits.skip(4)?;
        let order_hint = bits.bit()?;
        if order_hint {
            bits.skip(2)?;
        }
        let screen_content = bits.bit()? || bits.bit()?;
        if screen_content && !bits.bit()? {
            bits.bit()?;
        }
        if order_hint {
            bits.skip(3)?;
        }
    }
    bits.skip(3)
}

/// Samples of a side: twice level 6's.
const SIDE_MAX: u32 = 32_768;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::AV1_RECORD;
    use proptest::prelude::*;

    #[test]
    fn row_31_a_header_of_libaom_is_read() {
        let header = SequenceHeader::parse(&AV1_RECORD[6..]).unwrap();
        assert_eq!((header.width, header.height, header.bits, header.profile, header.level), (320, 180, 8, 0, 0));
        assert_eq!(header.coding_byte(), AV1_RECORD[2]);
        assert_eq!(header.colour, Some(Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false }));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            if let Some(header) = SequenceHeader::parse(&bytes) {
                prop_assert!(header.width > 0 && header.height > 0 && header.coding().chroma_format <= 3);
            }
        }
    }
}
