//! H.264 as it comes in FLV: configuration records, and access units of length-prefixed NAL units.
//!
//! What leaves has one form: NAL units with 4-byte lengths, without parameter sets (which stand in the sample
//! entry, as `avc1` demands), access unit delimiters and filler.

use bytes::{BufMut, Bytes, BytesMut};

use super::nal::{Configured, ParameterSets, Sets, joined, split_nal};
use super::picture::{Picture, PictureError};
use super::sps::{Sps, is_high, pps_id};
use crate::media::{VideoCodec, VideoFormat};

/// Parameter sets of both kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AvcSets {
    sps: Sets,
    pps: Sets,
}

impl ParameterSets for AvcSets {
    fn merge(&mut self, nal: &[u8]) -> bool {
        let (sets, id, max) = match nal_type(nal) {
            SPS => (&mut self.sps, Sps::parse(nal).map(|s| s.id), SPS_MAX),
            PPS => (&mut self.pps, pps_id(nal), PPS_MAX),
            _ => return false,
        };
        id.is_some_and(|id| sets.merge(id, nal, max))
    }

    fn are_within(&self, known: &Self) -> bool {
        self.sps.are_within(&known.sps) && self.pps.are_within(&known.pps)
    }

    /// The format that these sets make; None without a set of each kind. The record is written anew, since those of
    /// encoders have been seen to contradict their own sets.
    fn format(&self) -> Option<VideoFormat> {
        let first = self.sps.iter().next().filter(|_| self.pps.len() > 0)?;
        let sps = Sps::parse(first)?;
        let mut record = BytesMut::new();
        // 14496-15, 5.3.3.1.2: version 1, and lengths of 4 bytes.
        record.put_slice(&[1, sps.profile, sps.compatibility, sps.level, 0xff]);
        record.put_u8(0xe0 | u8::try_from(self.sps.len()).unwrap_or(0));
        self.sps.put(&mut record);
        record.put_u8(u8::try_from(self.pps.len()).unwrap_or(0));
        self.pps.put(&mut record);
        if is_high(sps.profile) {
            record.put_slice(&[0xfc | sps.chroma_format, 0xf8 | sps.luma_depth, 0xf8 | sps.chroma_depth, 0]);
        }
        Some(VideoFormat {
            codec: VideoCodec::H264,
            config: record.freeze(),
            width: sps.width,
            height: sps.height,
            coding: sps.coding(),
        })
    }
}

/// A publisher's H.264: what it last said of its configuration.
#[derive(Debug, Default)]
pub struct AvcReader {
    configured: Configured<AvcSets>,
}

impl AvcReader {
    /// The format at present.
    #[must_use]
    pub fn format(&self) -> Option<&VideoFormat> {
        self.configured.format()
    }

    /// Takes a configuration record. True where it changes the format.
    ///
    /// # Errors
    /// [`PictureError::EmptyConfig`], [`PictureError::FalseConfig`]; what was known before stays.
    pub fn configure(&mut self, record: &Bytes) -> Result<bool, PictureError> {
        if record.is_empty() {
            return Err(PictureError::EmptyConfig);
        }
        let (sets, length_bytes) = parse_record(record).ok_or(PictureError::FalseConfig)?;
        if sets.format().is_none() {
            return Err(PictureError::FalseConfig);
        }
        Ok(self.configured.configure(sets, length_bytes))
    }

    /// Takes an access unit. Beside the picture, true where parameter sets within it, or in units without a picture before
    /// it, change the format.
    ///
    /// # Errors
    /// [`PictureError`]: the frame is to be skipped.
    pub fn picture(&mut self, data: &Bytes) -> Result<(Picture, bool), PictureError> {
        let (nals, lengths_are_4) = self.configured.split(data, |nal| matches!(nal_type(nal), SPS | PPS))?;
        if !nals.iter().any(|n| matches!(nal_type(n), 1..=5)) {
            return Err(PictureError::NoPicture);
        }
        let key = nals.iter().any(|n| nal_type(n) == IDR);
        let data = joined(data, &nals, lengths_are_4, is_kept);
        Ok((Picture { key, data }, self.configured.take_untold()))
    }
}

/// Reads an `AVCDecoderConfigurationRecord` (14496-15, 5.3.3.1.2): its sets, and how many bytes a NAL unit's length has.
fn parse_record(record: &Bytes) -> Option<(AvcSets, usize)> {
    let [version, _, _, _, lengths, sps_count, ..] = *record.as_ref() else { return None };
    let length_bytes = usize::from(lengths & 3) + 1;
    if version != 1 || length_bytes == 3 {
        return None;
    }
    let mut rest = record.slice(6..);
    let mut sets = AvcSets::default();
    read_sets(&mut rest, sps_count & 0x1f, SPS, &mut sets)?;
    let pps_count = *rest.first()?;
    rest = rest.slice(1..);
    read_sets(&mut rest, pps_count, PPS, &mut sets)?;
    Some((sets, length_bytes))
}

fn read_sets(rest: &mut Bytes, count: u8, kind: u8, sets: &mut AvcSets) -> Option<()> {
    for _ in 0..count {
        let nal = split_nal(rest, 2)?;
        if nal_type(&nal) != kind || !sets.merge(&nal) {
            return None;
        }
    }
    Some(())
}

/// Whether a NAL unit belongs into a sample.
fn is_kept(nal: &[u8]) -> bool {
    const DELIMITER: u8 = 9;
    const END_OF_SEQUENCE: u8 = 10;
    const END_OF_STREAM: u8 = 11;
    const FILLER: u8 = 12;
    !matches!(nal_type(nal), SPS | PPS | DELIMITER | END_OF_SEQUENCE | END_OF_STREAM | FILLER)
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
/// As many as a record can hold (5 bits).
const SPS_MAX: usize = 31;
/// As many as a record can hold (8 bits).
const PPS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::nal::SET_BYTES_MAX;
    use crate::ingest::picture::UNITS_MAX as NALS_MAX;
    use crate::ingest::scripted::{PPS as PPS_NAL, SPS as SPS_NAL, SPS_480P, avc_record};
    use crate::media::VideoCoding;
    use proptest::prelude::*;

    fn lengths(length_bytes: usize, nals: &[&[u8]]) -> Bytes {
        let prefixed =
            |nal: &&[u8]| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[4 - length_bytes..], nal].concat();
        nals.iter().flat_map(prefixed).collect()
    }

    fn configured(length_bytes: u8) -> AvcReader {
        let mut reader = AvcReader::default();
        let mut record = avc_record(SPS_NAL, PPS_NAL);
        record[4] = 0xfc | (length_bytes - 1);
        assert_eq!(reader.configure(&record.into()), Ok(true));
        reader
    }

    const IDR_NAL: &[u8] = &[0x65, 1, 2, 3];
    const SLICE: &[u8] = &[0x41, 9, 9];

    #[test]
    fn a_record_gives_size_and_is_written_anew() {
        let reader = configured(2);
        let format = reader.format().unwrap();
        assert_eq!((format.width, format.height, format.coding), (1920, 1080, VideoCoding::PLAIN));
        let expected = [&avc_record(SPS_NAL, PPS_NAL)[..], &[0xfd, 0xf8, 0xf8, 0]].concat();
        assert_eq!(format.config, expected, "4-byte lengths, and what high profiles add");
    }

    #[test]
    fn row_25_an_identical_record_changes_nothing() {
        let mut reader = configured(4);
        assert_eq!(reader.configure(&avc_record(SPS_NAL, PPS_NAL).into()), Ok(false));
        assert_eq!(reader.configure(&avc_record(SPS_480P, PPS_NAL).into()), Ok(true));
        assert_eq!(reader.format().map(|f| (f.width, f.height)), Some((854, 480)));
    }

    #[test]
    fn row_25_a_repeated_record_does_not_take_back_a_set_from_within_the_stream() {
        let mut reader = configured(4);
        let second_pps = &[0x68, 0x5a, 0xe3][..];
        let data = lengths(4, &[second_pps, IDR_NAL]);
        assert!(reader.picture(&data).unwrap().1, "a second picture parameter set");
        assert_eq!(reader.configure(&avc_record(SPS_NAL, PPS_NAL).into()), Ok(false));
        assert!(!reader.picture(&data).unwrap().1);
    }

    #[test]
    fn sets_that_come_without_a_picture_are_told_with_the_next() {
        let mut reader = AvcReader::default();
        assert_eq!(reader.picture(&lengths(4, &[SPS_NAL, PPS_NAL])), Err(PictureError::NoPicture));
        assert!(reader.picture(&lengths(4, &[IDR_NAL])).unwrap().1, "the first format");
        assert_eq!(reader.picture(&lengths(4, &[SPS_480P])), Err(PictureError::NoPicture));
        assert_eq!(reader.picture(&lengths(4, &[&[6, 1]])), Err(PictureError::NoPicture));
        assert!(reader.picture(&lengths(4, &[SLICE])).unwrap().1, "another");
        assert!(!reader.picture(&lengths(4, &[IDR_NAL])).unwrap().1);
    }

    #[test]
    fn sets_of_absurd_length_are_left_out() {
        let mut reader = configured(4);
        let mut pps = vec![0x55; SET_BYTES_MAX + 1];
        pps[..3].copy_from_slice(&[0x68, 0x5a, 0xe3]);
        assert!(!reader.picture(&lengths(4, &[&pps, IDR_NAL])).unwrap().1);
        pps.truncate(SET_BYTES_MAX);
        assert!(reader.picture(&lengths(4, &[&pps, IDR_NAL])).unwrap().1);
    }

    #[test]
    fn row_26_records_that_lie_are_refused_and_change_nothing() {
        let good = avc_record(SPS_NAL, PPS_NAL);
        let mut reader = configured(4);
        let before = reader.format().cloned();
        assert_eq!(reader.configure(&Bytes::new()), Err(PictureError::EmptyConfig));
        for length in 1..good.len() {
            assert_eq!(reader.configure(&good[..length].to_vec().into()), Err(PictureError::FalseConfig), "{length}");
        }
        for (position, value) in [(0, 2), (4, 0xfe), (5, 0xe0), (5, 0xff), (6, 0xff), (8, 0x68)] {
            let mut record = good.clone();
            record[position] = value;
            assert_eq!(reader.configure(&record.into()), Err(PictureError::FalseConfig), "{position}");
        }
        assert_eq!(reader.format().cloned(), before);
    }

    #[test]
    fn row_26_all_lengths_become_four_bytes() {
        for length_bytes in [1, 2, 4] {
            let data = lengths(length_bytes.into(), &[&[9, 0xf0], &[], SPS_NAL, PPS_NAL, IDR_NAL, &[12, 0xff], SLICE]);
            let (picture, changed) = configured(length_bytes).picture(&data).unwrap();
            assert_eq!(picture, Picture { key: true, data: lengths(4, &[IDR_NAL, SLICE]) });
            assert!(!changed, "the sets are those of the record");
        }
    }

    #[test]
    fn a_clean_frame_is_not_copied() {
        let data = lengths(4, &[SLICE]);
        let (picture, _) = configured(4).picture(&data).unwrap();
        assert!(!picture.key && picture.data.as_ptr() == data.as_ptr());
    }

    #[test]
    fn row_26_truncated_and_empty_frames_are_refused() {
        let mut reader = configured(4);
        for data in [&[0, 0, 0, 9, 0x65][..], &[0xff; 4], &[0, 0], &[0, 0, 0, 4, 0x65, 0, 0, 1, 0x41]] {
            assert_eq!(reader.picture(&Bytes::from_static(data)), Err(PictureError::Truncated), "{data:?}");
        }
        assert_eq!(reader.picture(&Bytes::new()), Err(PictureError::NoPicture));
        assert_eq!(reader.picture(&lengths(4, &[&[6, 5, 1]])), Err(PictureError::NoPicture));
        assert_eq!(AvcReader::default().picture(&lengths(4, &[IDR_NAL])), Err(PictureError::NoConfig));
        let many = vec![SLICE; NALS_MAX + 1];
        assert_eq!(reader.picture(&lengths(4, &many)), Err(PictureError::TooManyUnits));
    }

    #[test]
    fn row_16_a_recovery_point_is_no_start() {
        // An SEI message (6) with a recovery point, and a slice that is no IDR's: open GOPs and intra refresh have these.
        let recovery: &[u8] = &[6, 6, 1, 0xc4, 0x80];
        let data = lengths(4, &[recovery, SLICE]);
        let (picture, _) = configured(4).picture(&data).unwrap();
        assert_eq!(picture, Picture { key: false, data });
    }

    #[test]
    fn row_25_annex_b_is_taken_too() {
        let mut reader = AvcReader::default();
        let data =
            [&[0, 0, 0, 1][..], SPS_NAL, &[0, 0, 0, 1], PPS_NAL, &[0, 0, 1], IDR_NAL, &[0, 0, 0, 1], SLICE].concat();
        let (picture, changed) = reader.picture(&data.into()).unwrap();
        assert!(changed);
        assert_eq!(picture, Picture { key: true, data: lengths(4, &[IDR_NAL, SLICE]) });
        let many = [&[0, 0, 1][..], SLICE].concat().repeat(NALS_MAX + 5);
        assert_eq!(reader.picture(&many.into()), Err(PictureError::TooManyUnits));
    }

    #[test]
    fn row_25_sets_within_the_stream_make_and_change_the_format() {
        let mut reader = AvcReader::default();
        let (_, changed) = reader.picture(&lengths(4, &[SPS_NAL, PPS_NAL, IDR_NAL])).unwrap();
        assert!(changed && reader.format().is_some());
        let (_, changed) = reader.picture(&lengths(4, &[SPS_NAL, PPS_NAL, IDR_NAL])).unwrap();
        assert!(!changed);
        let (picture, changed) = reader.picture(&lengths(4, &[SPS_480P, PPS_NAL, IDR_NAL])).unwrap();
        assert!(changed && reader.format().unwrap().height == 480);
        assert_eq!(picture.data, lengths(4, &[IDR_NAL]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(record: Vec<u8>, frames in prop::collection::vec(prop::collection::vec(0u8..16, 0..40), 0..4)) {
            let mut reader = AvcReader::default();
            let _ = reader.configure(&record.into());
            for frame in &frames {
                let _ = reader.picture(&frame.clone().into());
            }
            let mut reader = configured(1);
            for frame in frames {
                let _ = reader.picture(&frame.into());
            }
        }
    }
}
