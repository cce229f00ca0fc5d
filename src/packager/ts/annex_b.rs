//! H.264 as a byte stream (ITU-T H.264, annex B), from access units whose NAL units have lengths.

use mp4_atom::Avcc;

use super::super::entry::record;
use super::super::init::BadFormat;
use crate::media::{VideoCodec, VideoFormat};

/// A picture's parameter sets, as a byte stream has them in front of each IDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParameterSets(Vec<u8>);

/// Before each NAL unit.
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// An access unit delimiter that says nothing of what follows (7.4.2.4). Apple's authoring specification and old decoders
/// want one in front of each picture (ISO/IEC 13818-1, 2.14.1, demands it).
const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;

impl ParameterSets {
    /// From the configuration record.
    ///
    /// # Errors
    /// [`BadFormat`] where the record cannot be read, or is not H.264's.
    pub(super) fn new(format: &VideoFormat) -> Result<Self, BadFormat> {
        if format.codec != VideoCodec::H264 {
            return Err(BadFormat::Codec("a picture in MPEG-TS that is not H.264"));
        }
        let avcc: Avcc = record(&format.config)?;
        let sets = avcc.sequence_parameter_sets.iter().chain(&avcc.picture_parameter_sets);
        Ok(Self(sets.flat_map(|set| START_CODE.iter().chain(set)).copied().collect()))
    }

    /// Appends a picture: the delimiter, before an IDR the parameter sets, and its NAL units but those that are there by
    /// then. What is behind a length that is wrong is left out.
    pub(super) fn append(&self, picture: &[u8], is_idr: bool, to: &mut Vec<u8>) {
        to.extend_from_slice(&DELIMITER);
        if is_idr {
            to.extend_from_slice(&self.0);
        }
        let is_there = |kind| kind == AUD || (is_idr && (kind == SPS || kind == PPS));
        for nal in nals(picture).filter(|nal| !nal.first().is_some_and(|header| is_there(header & 0x1f))) {
            to.extend_from_slice(&START_CODE);
            to.extend_from_slice(nal);
        }
    }
}

/// The NAL units of an access unit, each behind its length in 4 bytes; empty ones are left out.
fn nals(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let next = move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (nal, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(nal)
    };
    std::iter::from_fn(next).filter(|nal| !nal.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::TrackFormat;
    use crate::packager::testing;

    fn sets() -> ParameterSets {
        let TrackFormat::Video(format) = testing::video_format() else { unreachable!() };
        ParameterSets::new(&format).unwrap()
    }

    fn written(picture: &[u8], is_idr: bool) -> Vec<u8> {
        let mut to = Vec::new();
        sets().append(picture, is_idr, &mut to);
        to
    }

    #[test]
    fn an_idr_has_its_parameter_sets_in_front() {
        // A delimiter and an SPS of its own, supplemental information, an IDR slice.
        let picture = [0, 0, 0, 2, 9, 0x10, 0, 0, 0, 1, 0x67, 0, 0, 0, 2, 6, 5, 0, 0, 0, 2, 0x65, 1];
        let sps = [0, 0, 0, 1, 0x67, 100, 0, 31];
        let pps = [0, 0, 0, 1, 0x68, 0xee];
        let rest = [0, 0, 0, 1, 6, 5, 0, 0, 0, 1, 0x65, 1];
        assert_eq!(written(&picture, true), [&DELIMITER[..], &sps, &pps, &rest].concat());
    }

    #[test]
    fn other_pictures_have_a_delimiter() {
        let picture = [0, 0, 0, 1, 0x68, 0, 0, 0, 2, 0x41, 1];
        assert_eq!(written(&picture, false), [&DELIMITER[..], &[0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x41, 1]].concat());
    }

    #[test]
    fn a_wrong_length_costs_what_is_behind_it() {
        assert_eq!(written(&[0, 0, 0, 1, 0x41, 0, 0, 0, 0, 0, 0, 0, 9, 1], false)[6..], [0, 0, 0, 1, 0x41]);
        assert_eq!(written(&[0, 0, 0], false), DELIMITER);
    }

    #[test]
    fn only_h264_can_be_written() {
        let TrackFormat::Video(mut format) = testing::video_format() else { unreachable!() };
        format.codec = VideoCodec::Hevc;
        assert!(matches!(ParameterSets::new(&format), Err(BadFormat::Codec(_))));
    }
}
