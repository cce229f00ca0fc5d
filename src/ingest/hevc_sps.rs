//! What an HEVC sequence parameter set tells of the picture (ITU-T H.265, 7.3.2.2).

use super::bits::Bits;
use super::nal::cropped;
use super::vui::{colour, sample_aspect};
use crate::media::{Colour, VideoCoding};

/// What is read of a sequence parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HevcSps {
    /// `sps_seq_parameter_set_id`
    pub id: u32,
    /// `general_profile_space`, `general_tier_flag`, `general_profile_idc`, then the compatibility flags, the constraint flags
    /// and `general_level_idc`: the twelve bytes that the configuration record repeats.
    pub profile_tier_level: [u8; 12],
    /// `sps_max_sub_layers_minus1` and `sps_temporal_id_nesting_flag`
    pub sub_layers: (u8, bool),
    /// `chroma_format_idc`
    pub chroma_format: u8,
    /// Bits of a luma sample beyond 8.
    pub luma_depth: u8,
    /// Bits of a chroma sample beyond 8.
    pub chroma_depth: u8,
    /// Width of the visible picture.
    pub width: u32,
    /// Height of the visible picture.
    pub height: u32,
    /// The shape of a sample; 1 to 1 where the set does not say it.
    pub sample_aspect: (u16, u16),
    /// What the samples' values mean, where the set says it.
    pub colour: Option<Colour>,
    /// Each picture is a field (`field_seq_flag`).
    pub fields: bool,
}

impl HevcSps {
    /// Reads a NAL unit of type 33, with its header. None where it is cut short or cannot be true.
    #[must_use]
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let [header, _, ..] = *nal else { return None };
        if header >> 1 & 0x3f != 33 {
            return None;
        }
        let mut bits = Bits::nal(nal.get(2..)?);
        bits.skip(4)?;
        let sub_layers = (bits.small(3).filter(|layers| *layers <= 6)?, bits.bit()?);
        let profile_tier_level = profile_tier_level(&mut bits, sub_layers.0)?;
        let id = bits.ue_up_to(15)?;
        let chroma_format = u8::try_from(bits.ue_up_to(3)?).ok()?;
        if chroma_format == 3 {
            bits.bit()?;
        }
        let (width, height) = size(&mut bits, chroma_format)?;
        let luma_depth = u8::try_from(bits.ue_up_to(6)?).ok()?;
        let chroma_depth = u8::try_from(bits.ue_up_to(6)?).ok()?;
        // What is missing of the rest is unknown, and no reason to refuse the picture.
        let vui = vui(&mut bits, sub_layers.0).unwrap_or(Vui { sample_aspect: (1, 1), colour: None, fields: false });
        let Vui { sample_aspect, colour, fields } = vui;
        Some(Self {
            id,
            profile_tier_level,
            sub_layers,
            chroma_format,
            luma_depth,
            chroma_depth,
            width,
            height,
            sample_aspect,
            colour,
            fields,
        })
    }

    /// What the samples are, in the words of the other stages.
    #[must_use]
    pub fn coding(&self) -> VideoCoding {
        VideoCoding {
            sample_aspect: self.sample_aspect,
            interlaced: self.fields,
            chroma_format: self.chroma_format,
            luma_bits: self.luma_depth.saturating_add(8),
            chroma_bits: self.chroma_depth.saturating_add(8),
            colour: self.colour,
        }
    }
}

/// 7.3.3: the general part, past those of the sub-layers.
fn profile_tier_level(bits: &mut Bits<'_>, sub_layers: u8) -> Option<[u8; 12]> {
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = bits.small(8)?;
    }
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.bit()?, bits.bit()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - u32::from(sub_layers)))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(general)
}

/// Width and height within the conformance window. None where nothing is left, or a side is beyond what level 6.2 allows.
fn size(bits: &mut Bits<'_>, chroma_format: u8) -> Option<(u32, u32)> {
    let (width, height) = (bits.ue_up_to(SIDE_MAX)?, bits.ue_up_to(SIDE_MAX)?);
    let (cropped_columns, cropped_rows) = cropped(bits, chroma_format, SIDE_MAX)?;
    let width = width.checked_sub(cropped_columns)?;
    let height = height.checked_sub(cropped_rows)?;
    (width > 0 && height > 0).then_some((width, height))
}

struct Vui {
    sample_aspect: (u16, u16),
    colour: Option<Colour>,
    fields: bool,
}

/// Past everything between the depths and the VUI, and its start. None where there is none.
fn vui(bits: &mut Bits<'_>, sub_layers: u8) -> Option<Vui> {
    let order_bits = bits.ue_up_to(12)? + 4;
    let all_layers = bits.bit()?;
    for _ in if all_layers { 0 } else { sub_layers }..=sub_layers {
        bits.ue()?;
        bits.ue()?;
        bits.ue()?;
    }
    for _ in 0..6 {
        bits.ue()?;
    }
    if bits.bit()? && bits.bit()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.bit()? {
        bits.skip(8)?;
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
    }
    skip_reference_sets(bits)?;
    if bits.bit()? {
        for _ in 0..bits.ue_up_to(32)? {
            bits.skip(order_bits + 1)?;
        }
    }
    bits.skip(2)?;
    if !bits.bit()? {
        return None;
    }
    let sample_aspect = sample_aspect(bits)?.unwrap_or((1, 1));
    let colour = colour(bits)?;
    let fields = fields(bits).unwrap_or(false);
    Some(Vui { sample_aspect, colour, fields })
}

/// `field_seq_flag`, behind where the chroma samples are.
fn fields(bits: &mut Bits<'_>) -> Option<bool> {
    if bits.bit()? {
        bits.ue()?;
        bits.ue()?;
    }
    bits.bit()?;
    bits.bit()
}

/// 7.3.4
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.bit()? {
                bits.ue()?;
                continue;
            }
            if size > 1 {
                bits.se()?;
            }
            for _ in 0..64.min(1 << (4 + (size << 1))) {
                bits.se()?;
            }
        }
    }
    Some(())
}

/// 7.3.7, for all short-term sets.
fn skip_reference_sets(bits: &mut Bits<'_>) -> Option<()> {
    let mut pictures = 0u32;
    for set in 0..bits.ue_up_to(64)? {
        if set > 0 && bits.bit()? {
            bits.bit()?;
            bits.ue()?;
            let mut kept = 0;
            for _ in 0..=pictures {
                if bits.bit()? || bits.bit()? {
                    kept += 1;
                }
            }
            pictures = kept;
        } else {
            let (before, after) = (bits.ue_up_to(16)?, bits.ue_up_to(16)?);
            pictures = before + after;
            for _ in 0..pictures {
                bits.ue()?;
                bits.bit()?;
            }
        }
    }
    Some(())
}

/// Samples of a side.
const SIDE_MAX: u32 = 16_888;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::HEVC_SPS;
    use proptest::prelude::*;

    #[test]
    fn row_27_31_a_set_of_x265_is_read() {
        let sps = HevcSps::parse(HEVC_SPS).unwrap();
        assert_eq!((sps.width, sps.height, sps.chroma_format, sps.luma_depth, sps.chroma_depth), (320, 180, 1, 2, 2));
        assert_eq!(sps.colour, Some(Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false }));
        assert_eq!((sps.profile_tier_level[0], sps.profile_tier_level[11]), (2, 60), "Main 10, level 2");
        assert!(!sps.fields && sps.sample_aspect == (1, 1));
    }

    proptest! {
        #[test]
        fn mutated_sets_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), kept: prop::sample::Index, tail: Vec<u8>) {
            let mut nal = HEVC_SPS.to_vec();
            for (at, byte) in changes {
                let at = at.index(nal.len());
                nal[at] = byte;
            }
            nal.truncate(kept.index(nal.len()) + 1);
            nal.extend(tail);
            if let Some(sps) = HevcSps::parse(&nal) {
                prop_assert!((1..=SIDE_MAX).contains(&sps.width) && (1..=SIDE_MAX).contains(&sps.height));
                prop_assert!(sps.coding().luma_bits <= 14);
            }
        }
    }
}
