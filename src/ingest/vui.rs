//! The start of the video usability information, which H.264 (E.1.1) and HEVC (E.2.1) share: shape and colour of samples.

use super::bits::Bits;
use crate::media::Colour;

/// The sample aspect ratio. None where the bits end; None within it where it is absent, reserved or unspecified.
pub(super) fn sample_aspect(bits: &mut Bits<'_>) -> Option<Option<(u16, u16)>> {
    if !bits.bit()? {
        return Some(None);
    }
    let ratio = match bits.small(8)? {
        EXTENDED_SAR => Some((bits.u16()?, bits.u16()?)),
        index => usize::from(index).checked_sub(1).and_then(|at| SAMPLE_ASPECTS.get(at)).copied(),
    };
    Some(ratio.filter(|ratio| ratio.0 > 0 && ratio.1 > 0))
}

/// What the values mean; stands behind the aspect. None where the bits end; None within it where nothing is said.
pub(super) fn colour(bits: &mut Bits<'_>) -> Option<Option<Colour>> {
    if bits.bit()? {
        bits.bit()?;
    }
    if !bits.bit()? {
        return Some(None);
    }
    bits.take(3)?;
    let full_range = bits.bit()?;
    let [primaries, transfer, matrix] = match bits.bit()? {
        true => [bits.small(8)?, bits.small(8)?, bits.small(8)?],
        false => [UNSPECIFIED; 3],
    };
    Some(said(Colour { primaries, transfer, matrix, full_range }))
}

/// None where a colour says nothing.
pub(super) fn said(colour: Colour) -> Option<Colour> {
    let Colour { primaries, transfer, matrix, full_range } = colour;
    (full_range || [primaries, transfer, matrix] != [UNSPECIFIED; 3]).then_some(colour)
}

/// What the stream says, and beside it (Enhanced RTMP's metadata) what it leaves open.
pub(super) fn filled(stream: Option<Colour>, beside: Option<Colour>) -> Option<Colour> {
    let (Some(stream), Some(beside)) = (stream, beside) else { return stream.or(beside) };
    let fill = |stream, beside| if stream == UNSPECIFIED { beside } else { stream };
    Some(Colour {
        primaries: fill(stream.primaries, beside.primaries),
        transfer: fill(stream.transfer, beside.transfer),
        matrix: fill(stream.matrix, beside.matrix),
        full_range: stream.full_range,
    })
}

/// H.273: the code point for what is not known.
pub(super) const UNSPECIFIED: u8 = 2;

/// Table E-1, from 1.
const SAMPLE_ASPECTS: [(u16, u16); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];
/// The ratio stands in the set itself.
const EXTENDED_SAR: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_31_metadata_fill_what_the_stream_leaves_open() {
        let full = |primaries, transfer, matrix| Colour { primaries, transfer, matrix, full_range: true };
        let hdr = Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false };
        assert_eq!(filled(None, Some(hdr)), Some(hdr));
        assert_eq!(filled(Some(full(1, 1, 1)), Some(hdr)), Some(full(1, 1, 1)));
        assert_eq!(filled(Some(full(2, 2, 9)), Some(hdr)), Some(full(9, 16, 9)));
    }
}
