//! What an H.264 sequence parameter set tells of the picture: its size, and what its samples are (ITU-T H.264, 7.3.2.1.1).
//!
//! Of the VUI only what stands first is read: the sample aspect ratio and the colours. In the rest of it real encoders write
//! oddities that no player minds.

use super::bits::Bits;
use super::nal::cropped;
use super::vui::{colour, sample_aspect};
use crate::media::{Colour, VideoCoding};

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
    /// Coded as frames only (`frame_mbs_only_flag`).
    pub frames_only: bool,
    /// The shape of a sample, width to height; 1 to 1 where the set does not say it.
    pub sample_aspect: (u16, u16),
    /// What the samples' values mean, where the set says it.
    pub colour: Option<Colour>,
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
        let mut bits = Bits::nal(nal.get(4..)?);
        let id = bits.ue_up_to(31)?;
        let (chroma_format, luma_depth, chroma_depth) = if is_high(profile) { chroma(&mut bits)? } else { (1, 0, 0) };
        bits.ue_up_to(12)?;
        picture_order_count(&mut bits)?;
        bits.ue_up_to(64)?;
        bits.bit()?;
        let (width, height, frames_only) = size(&mut bits, chroma_format)?;
        // What is missing of the VUI is unknown, and no reason to refuse the picture.
        let (sample_aspect, colour) = vui(&mut bits).unwrap_or(((1, 1), None));
        Some(Self {
            profile,
            compatibility,
            level,
            id,
            chroma_format,
            luma_depth,
            chroma_depth,
            width,
            height,
            frames_only,
            sample_aspect,
            colour,
        })
    }

    /// What the samples are, in the words of the other stages.
    #[must_use]
    pub fn coding(&self) -> VideoCoding {
        VideoCoding {
            sample_aspect: self.sample_aspect,
            interlaced: !self.frames_only,
            chroma_format: self.chroma_format,
            luma_bits: self.luma_depth.saturating_add(8),
            chroma_bits: self.chroma_depth.saturating_add(8),
            colour: self.colour,
        }
    }
}

/// The identity of a picture parameter set: the first thing in it. None where it is cut short.
#[must_use]
pub fn pps_id(nal: &[u8]) -> Option<u32> {
    Bits::nal(nal.get(1..)?).ue_up_to(255)
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

/// Width and height after cropping (7.4.2.1.1), and whether there are frames only. None where nothing is left, or a side is
/// beyond what level 6.2 allows.
fn size(bits: &mut Bits<'_>, chroma_format: u8) -> Option<(u32, u32, bool)> {
    let columns = bits.ue_up_to(SIDE_MACROBLOCKS_MAX)? + 1;
    let rows = bits.ue_up_to(SIDE_MACROBLOCKS_MAX)? + 1;
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.bit()?;
    }
    bits.bit()?;
    let fields: u32 = if frames_only { 1 } else { 2 };
    let (cropped_columns, cropped_rows) = cropped(bits, chroma_format, SIDE_MACROBLOCKS_MAX * 16)?;
    let width = (columns * 16).checked_sub(cropped_columns)?;
    let height = (rows * 16 * fields).checked_sub(cropped_rows * fields)?;
    (width > 0 && height > 0).then_some((width, height, frames_only))
}

/// The start of the VUI, where there is one.
fn vui(bits: &mut Bits<'_>) -> Option<((u16, u16), Option<Colour>)> {
    if !bits.bit()? {
        return None;
    }
    // Cut short within the aspect, there is no colour either.
    let aspect = sample_aspect(bits)?;
    Some((aspect.unwrap_or((1, 1)), colour(bits).flatten()))
}

/// 16 384 samples.
const SIDE_MACROBLOCKS_MAX: u32 = 1023;

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

    #[test]
    fn an_ordinary_set_is_plain() {
        assert_eq!(Sps::parse(FULL_HD).unwrap().coding(), VideoCoding::PLAIN);
    }

    #[test]
    fn samples_are_told() {
        let coding = |set: Set| Sps::parse(&set.nal()).unwrap().coding();
        let wide = coding(Set { aspect: Some((255, Some((64, 45)))), ..Set::default() });
        assert_eq!(wide, VideoCoding { sample_aspect: (64, 45), ..VideoCoding::PLAIN });
        assert_eq!(coding(Set { aspect: Some((14, None)), ..Set::default() }).sample_aspect, (4, 3));
        assert_eq!(coding(Set { aspect: Some((16, None)), ..Set::default() }).sample_aspect, (2, 1));
        assert!(coding(Set { frames_only: false, ..Set::default() }).interlaced);
        let deep = coding(Set { chroma: (2, 2, 1), ..Set::default() });
        assert_eq!((deep.chroma_format, deep.luma_bits, deep.chroma_bits), (2, 10, 9));
    }

    #[test]
    fn an_aspect_that_says_nothing_is_square() {
        for aspect in
            [None, Some((0, None)), Some((17, None)), Some((254, None)), Some((255, Some((0, 1)))), Some((255, None))]
        {
            let sps = Sps::parse(&Set { aspect, ..Set::default() }.nal()).unwrap();
            assert_eq!((sps.sample_aspect, sps.width), ((1, 1), 640), "{aspect:?}");
        }
    }

    /// A set of 640x384 (or x768 of fields) in the high profile for 4:2:2, to be written.
    struct Set {
        chroma: (u32, u32, u32),
        frames_only: bool,
        /// `aspect_ratio_idc`, and the ratio behind it.
        aspect: Option<(u32, Option<(u32, u32)>)>,
    }

    impl Default for Set {
        fn default() -> Self {
            Self { chroma: (1, 0, 0), frames_only: true, aspect: None }
        }
    }

    impl Set {
        /// Ends right behind the aspect, so that one which is missing is cut short.
        fn nal(&self) -> Vec<u8> {
            let mut bits = String::new();
            let ue = |bits: &mut String, value: u32| {
                let digits = format!("{:b}", value + 1);
                *bits += &"0".repeat(digits.len() - 1);
                *bits += &digits;
            };
            ue(&mut bits, 0);
            for value in [self.chroma.0, self.chroma.1, self.chroma.2] {
                ue(&mut bits, value);
            }
            bits += "00";
            for value in [0, 2, 1] {
                ue(&mut bits, value);
            }
            bits += "0";
            for value in [39, 23] {
                ue(&mut bits, value);
            }
            bits += if self.frames_only { "110" } else { "0010" };
            bits += if self.aspect.is_some() { "11" } else { "0" };
            if let Some((index, ratio)) = self.aspect {
                bits += &format!("{index:08b}");
                bits += &ratio.map(|(wide, high)| format!("{wide:016b}{high:016b}")).unwrap_or_default();
            }
            let bytes = bits.as_bytes().chunks(8).map(|byte| {
                let padded = format!("{:0<8}", std::str::from_utf8(byte).unwrap());
                u8::from_str_radix(&padded, 2).unwrap()
            });
            [0x67, 122, 0, 40].into_iter().chain(bytes).collect()
        }
    }

    /// What holds of every set that is taken.
    fn check(nal: &[u8]) -> Result<(), TestCaseError> {
        let _ = pps_id(nal);
        if let Some(sps) = Sps::parse(nal) {
            let coding = sps.coding();
            prop_assert!((1..=16384).contains(&sps.width) && (1..=32768).contains(&sps.height));
            prop_assert!(coding.sample_aspect.0 > 0 && coding.sample_aspect.1 > 0);
            prop_assert!(coding.chroma_format <= 3);
            prop_assert!((8..=14).contains(&coding.luma_bits) && (8..=14).contains(&coding.chroma_bits));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes: Vec<u8>, profile in prop::sample::select(vec![66u8, 77, 100, 122, 244])) {
            bytes.splice(0..0, [0x67, profile]);
            check(&bytes)?;
        }

        #[test]
        fn mutated_sets_never_panic(
            set in prop::sample::select(vec![FULL_HD.to_vec(), Set { aspect: Some((255, Some((4, 3)))), ..Set::default() }.nal()]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            kept in any::<prop::sample::Index>(),
            tail: Vec<u8>,
        ) {
            let mut mutated = set.clone();
            for (at, byte) in changes {
                mutated[at.index(set.len())] = byte;
            }
            mutated.truncate(kept.index(set.len()) + 1);
            check(&mutated)?;
            mutated.extend(tail);
            check(&mutated)?;
        }
    }
}
