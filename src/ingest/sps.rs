//! The part of an H.264 sequence parameter set that tells the picture's size (ITU-T H.264, 7.3.2.1.1).
//!
//! Stops before the VUI, where real encoders write oddities that no player minds.

/// What is read of a sequence parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`
    pub profile: u8,
    /// The constraint flags, as in `profile_compatibility`.
    pub compatibility: u8,
    /// `level_idc`
    pub level: u8,
    /// `seq_parameter_set_id`
    pub id: u32,
    /// `chroma_format_idc`; 1 is 4:2:0.
    pub chroma_format: u8,
    /// Bits of a luma sample beyond 8.
    pub luma_depth: u8,
    /// Bits of a chroma sample beyond 8.
    pub chroma_depth: u8,
    /// Width of the visible picture.
    pub width: u32,
    /// Height of the visible picture.
    pub height: u32,
}

/// Profiles whose sets tell of chroma and depth, and whose `avcC` does too.
pub fn is_high(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

impl Sps {
    /// Reads a NAL unit of type 7, with its header byte. None where it is cut short or cannot be true.
    #[must_use]
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let [header, profile, compatibility, level, ..] = *nal else { return None };
        if header & 0x1f != 7 {
            return None;
        }
        let mut bits = Bits::new(nal.get(4..)?);
        let id = bits.ue_up_to(31)?;
        let (chroma_format, luma_depth, chroma_depth) = if is_high(profile) { chroma(&mut bits)? } else { (1, 0, 0) };
        bits.ue_up_to(12)?;
        picture_order_count(&mut bits)?;
        bits.ue_up_to(64)?;
        bits.bit()?;
        let (width, height) = size(&mut bits, chroma_format)?;
        Some(Self { profile, compatibility, level, id, chroma_format, luma_depth, chroma_depth, width, height })
    }
}

/// The identity of a picture parameter set: the first thing in it. None where it is cut short.
#[must_use]
pub fn pps_id(nal: &[u8]) -> Option<u32> {
    Bits::new(nal.get(1..)?).ue_up_to(255)
}

/// `chroma_format_idc` and depths, and past the scaling lists.
fn chroma(bits: &mut Bits<'_>) -> Option<(u8, u8, u8)> {
    let format = bits.ue_up_to(3)?;
    if format == 3 {
        bits.bit()?;
    }
    let luma = bits.ue_up_to(6)?;
    let depth = bits.ue_up_to(6)?;
    bits.bit()?;
    if bits.bit()? {
        for list in 0..if format == 3 { 12 } else { 8 } {
            if bits.bit()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some((u8::try_from(format).ok()?, u8::try_from(luma).ok()?, u8::try_from(depth).ok()?))
}

/// 7.3.2.1.1.1
fn skip_scaling_list(bits: &mut Bits<'_>, entries: usize) -> Option<()> {
    let mut last = 8i64;
    for _ in 0..entries {
        let next = (last + bits.se()?).rem_euclid(256);
        if next == 0 {
            break;
        }
        last = next;
    }
    Some(())
}

fn picture_order_count(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue_up_to(2)? {
        0 => {
            bits.ue_up_to(12)?;
        }
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue_up_to(255)? {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// Width and height after cropping (7.4.2.1.1); None where nothing is left, or a side is beyond what level 6.2 allows.
fn size(bits: &mut Bits<'_>, chroma_format: u8) -> Option<(u32, u32)> {
    let columns = bits.ue_up_to(SIDE_MACROBLOCKS_MAX)? + 1;
    let rows = bits.ue_up_to(SIDE_MACROBLOCKS_MAX)? + 1;
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.bit()?;
    }
    bits.bit()?;
    let fields: u32 = if frames_only { 1 } else { 2 };
    let (unit_x, unit_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let mut crop = [0u32; 4];
    if bits.bit()? {
        for side in &mut crop {
            *side = bits.ue_up_to(SIDE_MACROBLOCKS_MAX * 16)?;
        }
    }
    let [left, right, top, bottom] = crop;
    let width = (columns * 16).checked_sub((left + right) * unit_x)?;
    let height = (rows * 16 * fields).checked_sub((top + bottom) * unit_y * fields)?;
    (width > 0 && height > 0).then_some((width, height))
}

/// 16 384 samples.
const SIDE_MACROBLOCKS_MAX: u32 = 1023;

/// Reads bits of a NAL unit, leaving out its emulation prevention bytes.
struct Bits<'a> {
    rest: &'a [u8],
    zeros: u8,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, zeros: 0, byte: 0, left: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.byte = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.byte >> self.left & 1 == 1)
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (mut byte, mut rest) = self.rest.split_first()?;
        if self.zeros >= 2 && *byte == 3 {
            self.zeros = 0;
            (byte, rest) = rest.split_first()?;
        }
        self.zeros = if *byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.rest = rest;
        Some(*byte)
    }

    /// An unsigned Exp-Golomb code (9.1) of at most 32 bits.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0u32;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let mut value = 1u64;
        for _ in 0..zeros {
            value = value << 1 | u64::from(self.bit()?);
        }
        u32::try_from(value - 1).ok()
    }

    fn ue_up_to(&mut self, max: u32) -> Option<u32> {
        self.ue().filter(|value| *value <= max)
    }

    /// A signed Exp-Golomb code (9.1.1).
    fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code & 1 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From x264 at 1920x1080, high profile.
    const FULL_HD: &[u8] = &[
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
        0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58,
    ];

    #[test]
    fn cropping_is_applied() {
        let sps = Sps::parse(FULL_HD).unwrap();
        assert_eq!((sps.width, sps.height, sps.profile, sps.level, sps.chroma_format), (1920, 1080, 100, 40, 1));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for length in 0..9 {
            assert_eq!(Sps::parse(&FULL_HD[..length]), None, "{length}");
        }
        assert_eq!(Sps::parse(&[0x68, 0x64, 0, 0x28, 0xac, 0xd9]), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes: Vec<u8>) {
            let _ = pps_id(&bytes);
            bytes.insert(0, 0x67);
            if let Some(sps) = Sps::parse(&bytes) {
                prop_assert!((1..=32768).contains(&sps.width) && (1..=32768).contains(&sps.height));
            }
        }
    }
}
