//! The sample entry of a picture, and its name by RFC 6381: H.264, HEVC and AV1, each from its configuration record.

use mp4_atom::{Atom, Av01, Av1c, Avc1, Avcc, Codec, Colr, Hvc1, Hvcc, Pasp, Visual};

use super::init::BadFormat;
use crate::media::{Colour, VideoCodec, VideoCoding, VideoFormat};

/// How a picture stands in `stsd` and in `CODECS`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VideoEntry {
    /// The box.
    pub(super) entry: Codec,
    /// The name.
    pub(super) codec: String,
}

impl VideoEntry {
    /// Reads the record of `format`; `visual` is what all entries begin with.
    ///
    /// # Errors
    /// [`BadFormat`] where the record cannot be read, or the codec has no place in HLS.
    pub(super) fn new(format: &VideoFormat, visual: Visual) -> Result<Self, BadFormat> {
        let config = format.config.as_ref();
        let (colr, pasp) = (colr(&format.coding), pasp(&format.coding));
        match format.codec {
            VideoCodec::H264 => {
                let avcc: Avcc = record(config)?;
                let codec = avc_name(&avcc);
                Ok(Self { entry: Avc1 { visual, avcc, colr, pasp, ..Avc1::default() }.into(), codec })
            }
            VideoCodec::Hevc => {
                let hvcc = complete(record(config)?)?;
                let codec = hevc_name(&hvcc);
                Ok(Self { entry: Hvc1 { visual, hvcc, colr, pasp, ..Hvc1::default() }.into(), codec })
            }
            VideoCodec::Av1 => {
                let av1c: Av1c = record(config)?;
                let codec = av1_name(&av1c, format.coding.colour);
                let entry = Av01 { visual, av1c, colr, pasp, btrt: None, ccst: None, taic: None, spatial: None };
                Ok(Self { entry: entry.into(), codec })
            }
            VideoCodec::Vp9 => Err(BadFormat::Codec("VP9")),
        }
    }
}

pub(super) fn record<A: Atom>(config: &[u8]) -> Result<A, BadFormat> {
    let mut rest = config;
    A::decode_body(&mut rest).map_err(|error| BadFormat::Record { kind: A::KIND.to_string(), error: error.to_string() })
}

/// `colr` of type `nclx` (ISO/IEC 14496-12, 12.1.5), where the stream says what its samples mean.
fn colr(coding: &VideoCoding) -> Option<Colr> {
    coding.colour.map(|colour| Colr::Nclx {
        colour_primaries: colour.primaries.into(),
        transfer_characteristics: colour.transfer.into(),
        matrix_coefficients: colour.matrix.into(),
        full_range_flag: colour.full_range,
    })
}

/// `pasp` (ISO/IEC 14496-12, 12.1.4), where samples are not square.
fn pasp(coding: &VideoCoding) -> Option<Pasp> {
    let (wide, high) = coding.sample_aspect;
    (wide != high && wide > 0 && high > 0).then(|| Pasp { h_spacing: wide.into(), v_spacing: high.into() })
}

fn avc_name(avcc: &Avcc) -> String {
    let (profile, compatibility) = (avcc.avc_profile_indication, avcc.profile_compatibility);
    format!("avc1.{profile:02x}{compatibility:02x}{:02x}", avcc.avc_level_indication)
}

/// The parameter sets, VPS, SPS and PPS: `hvc1` has all of each in the record, and says so (ISO/IEC 14496-15, 8.4.3).
const PARAMETER_SETS: [u8; 3] = [32, 33, 34];

fn complete(mut hvcc: Hvcc) -> Result<Hvcc, BadFormat> {
    let holds = |kind: u8| hvcc.arrays.iter().any(|array| array.nal_unit_type == kind && !array.nalus.is_empty());
    if !PARAMETER_SETS.into_iter().all(holds) {
        return Err(BadFormat::Record { kind: Hvcc::KIND.to_string(), error: "a parameter set is missing".to_owned() });
    }
    for array in hvcc.arrays.iter_mut().filter(|array| PARAMETER_SETS.contains(&array.nal_unit_type)) {
        array.completeness = true;
    }
    Ok(hvcc)
}

/// ISO/IEC 14496-15, annex E.3: profile, compatibility flags in reverse order, tier and level, constraints up to the last
/// byte that is not 0.
fn hevc_name(hvcc: &Hvcc) -> String {
    let space = ["", "A", "B", "C"].get(usize::from(hvcc.general_profile_space)).unwrap_or(&"");
    let compatibility = u32::from_be_bytes(hvcc.general_profile_compatibility_flags).reverse_bits();
    let tier = if hvcc.general_tier_flag { 'H' } else { 'L' };
    let (profile, level) = (hvcc.general_profile_idc, hvcc.general_level_idc);
    let constraints = hvcc.general_constraint_indicator_flags;
    let told = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let constraints: String = constraints.iter().take(told).map(|byte| format!(".{byte:X}")).collect();
    format!("hvc1.{space}{profile}.{compatibility:X}.{tier}{level}{constraints}")
}

/// AV1-ISOBMFF, 5: the short form, unless the picture is monochrome or its colours are not those that it stands for.
fn av1_name(av1c: &Av1c, colour: Option<Colour>) -> String {
    let tier = if av1c.seq_tier_0 { 'H' } else { 'M' };
    let bits = match (av1c.high_bitdepth, av1c.twelve_bit) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    let short = format!("av01.{}.{:02}{tier}.{bits:02}", av1c.seq_profile, av1c.seq_level_idx_0);
    let colour = colour.unwrap_or(BT_709);
    if colour == BT_709 && !av1c.monochrome {
        return short;
    }
    let (x, y) = (u8::from(av1c.chroma_subsampling_x), u8::from(av1c.chroma_subsampling_y));
    let position = if (x, y) == (1, 1) { av1c.chroma_sample_position } else { 0 };
    let Colour { primaries, transfer, matrix, full_range } = colour;
    let (monochrome, range) = (u8::from(av1c.monochrome), u8::from(full_range));
    format!("{short}.{monochrome}.{x}{y}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{range}")
}

/// What the short form stands for.
const BT_709: Colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false };

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::HvcCArray;

    fn hvcc() -> Hvcc {
        Hvcc {
            general_profile_idc: 1,
            general_profile_compatibility_flags: [0x60, 0, 0, 0],
            general_constraint_indicator_flags: [0xb0, 0, 0, 0, 0, 0],
            general_level_idc: 93,
            ..Hvcc::new()
        }
    }

    #[test]
    fn hevc_has_the_name_that_players_know() {
        assert_eq!(hevc_name(&hvcc()), "hvc1.1.6.L93.B0");
        let main_10 = Hvcc {
            general_profile_space: 1,
            general_tier_flag: true,
            general_profile_idc: 2,
            general_profile_compatibility_flags: [0x20, 0, 0, 0],
            general_constraint_indicator_flags: [0x90, 0, 0x01, 0, 0, 0],
            general_level_idc: 153,
            ..Hvcc::new()
        };
        assert_eq!(hevc_name(&main_10), "hvc1.A2.4.H153.90.0.1");
        let bare = Hvcc { general_constraint_indicator_flags: [0; 6], ..hvcc() };
        assert_eq!(hevc_name(&bare), "hvc1.1.6.L93");
    }

    #[test]
    fn av1_is_named_in_short_unless_its_colours_are_others() {
        let av1c =
            Av1c { seq_level_idx_0: 4, chroma_subsampling_x: true, chroma_subsampling_y: true, ..Av1c::default() };
        assert_eq!(av1_name(&av1c, None), "av01.0.04M.08");
        assert_eq!(av1_name(&av1c, Some(BT_709)), "av01.0.04M.08");
        let ten = Av1c { high_bitdepth: true, seq_tier_0: true, chroma_sample_position: 2, ..av1c.clone() };
        let pq = Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false };
        assert_eq!(av1_name(&ten, Some(pq)), "av01.0.04H.10.0.112.09.16.09.0");
        let grey = Av1c { monochrome: true, ..av1c };
        assert_eq!(av1_name(&grey, None), "av01.0.04M.08.1.110.01.01.01.0");
    }

    #[test]
    fn hvc1_has_all_parameter_sets_and_says_so() {
        assert!(matches!(complete(hvcc()), Err(BadFormat::Record { .. })));
        let array = |nal_unit_type| HvcCArray { completeness: false, nal_unit_type, nalus: vec![vec![0x40, 1]] };
        let whole = complete(Hvcc { arrays: [32, 33, 34, 39].map(array).to_vec(), ..hvcc() }).unwrap();
        let said: Vec<bool> = whole.arrays.iter().map(|array| array.completeness).collect();
        assert_eq!(said, [true, true, true, false], "other units may stand in samples too");
    }
}
