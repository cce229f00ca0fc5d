//! HEVC as it comes in FLV: configuration records, and access units of NAL units.
//!
//! What leaves has one form, that of `hvc1`: NAL units with 4-byte lengths, without parameter sets, delimiters and filler.
//!
//! Decoding may start at IDR and BLA pictures. A CRA picture may be led by pictures that need others from before it: it
//! is a start where nothing else is known (then its leading pictures are left out), and after that only of encoders
//! that were seen to send CRA pictures without leading ones. So open GOPs are never cut, as with H.264.

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::Bits;
use super::hevc_sps::HevcSps;
use super::nal::{Configured, ParameterSets, Sets, joined, split_nal};
use super::picture::{Picture, PictureError};
use crate::media::{VideoCodec, VideoFormat};

/// Parameter sets of the three kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HevcSets {
    vps: Sets,
    sps: Sets,
    pps: Sets,
}

impl ParameterSets for HevcSets {
    fn merge(&mut self, nal: &[u8]) -> bool {
        let (sets, id, max) = match nal_type(nal) {
            VPS => (&mut self.vps, nal.get(2).map(|byte| u32::from(byte >> 4)), 16),
            SPS => (&mut self.sps, HevcSps::parse(nal).map(|sps| sps.id), 16),
            PPS => (&mut self.pps, nal.get(2..).and_then(|rest| Bits::nal(rest).ue_up_to(63)), 64),
            _ => return false,
        };
        id.is_some_and(|id| sets.merge(id, nal, max))
    }

    fn are_within(&self, known: &Self) -> bool {
        self.vps.are_within(&known.vps) && self.sps.are_within(&known.sps) && self.pps.are_within(&known.pps)
    }

    /// The format that these sets make; None without a set of each kind. The record is written anew (14496-15, 8.3.3.1.2).
    fn format(&self) -> Option<VideoFormat> {
        if self.vps.len() == 0 || self.pps.len() == 0 {
            return None;
        }
        let sps = HevcSps::parse(self.sps.iter().next()?)?;
        let mut record = BytesMut::new();
        record.put_u8(1);
        record.put_slice(&sps.profile_tier_level);
        // No word on segmentation in space and on parallelism; the frame rate is not told.
        record.put_slice(&[
            0xf0,
            0,
            0xfc,
            0xfc | sps.chroma_format,
            0xf8 | sps.luma_depth,
            0xf8 | sps.chroma_depth,
            0,
            0,
        ]);
        let (layers, nested) = sps.sub_layers;
        record.put_u8((layers + 1) << 3 | u8::from(nested) << 2 | 3);
        record.put_u8(3);
        for (kind, sets) in [(VPS, &self.vps), (SPS, &self.sps), (PPS, &self.pps)] {
            record.put_u8(0x80 | kind);
            record.put_u16(u16::try_from(sets.len()).unwrap_or(0));
            sets.put(&mut record);
        }
        Some(VideoFormat {
            codec: VideoCodec::Hevc,
            config: record.freeze(),
            width: sps.width,
            height: sps.height,
            coding: sps.coding(),
        })
    }
}

/// A publisher's HEVC: what it last said of its configuration.
#[derive(Debug, Default)]
pub struct HevcReader {
    configured: Configured<HevcSets>,
    /// The last picture with a random access point was a CRA, and whether it began decoding.
    behind_cra: Option<bool>,
    /// Leading pictures of the last random access point cannot be decoded.
    drops_leading: bool,
    /// CRA pictures have leading ones; None before any was seen with what followed it.
    open_gops: Option<bool>,
}

impl HevcReader {
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
        // A record without sets says that they come within the stream.
        if sets.format().is_none() && sets != HevcSets::default() {
            return Err(PictureError::FalseConfig);
        }
        Ok(self.configured.configure(sets, length_bytes))
    }

    /// Takes an access unit; `joins` where nothing from before it can be relied on. Beside the picture, true where parameter
    /// sets within it, or in units without a picture before it, change the format.
    ///
    /// # Errors
    /// [`PictureError`]: the frame is to be skipped.
    pub fn picture(&mut self, data: &Bytes, joins: bool) -> Result<(Picture, bool), PictureError> {
        let (nals, lengths_are_4) = self.configured.split(data, |nal| matches!(nal_type(nal), VPS | SPS | PPS))?;
        let kind = nals.iter().map(|n| nal_type(n)).find(|kind| *kind < 32).ok_or(PictureError::NoPicture)?;
        let key = self.may_start(kind, joins || self.configured.is_untold())?;
        let data = joined(data, &nals, lengths_are_4, is_kept);
        Ok((Picture { key, data }, self.configured.take_untold()))
    }

    fn may_start(&mut self, kind: u8, joins: bool) -> Result<bool, PictureError> {
        if matches!(kind, BLA_FIRST..=CRA) {
            let cra = kind == CRA;
            let key = !cra || joins || self.open_gops == Some(false);
            self.behind_cra = cra.then_some(key);
            self.drops_leading = key;
            return Ok(key);
        }
        let leading = matches!(kind, RASL_FIRST..=RASL_LAST);
        if self.behind_cra.take().is_some() {
            self.open_gops = Some(leading);
        } else if leading && self.open_gops == Some(false) {
            self.open_gops = Some(true);
        }
        if leading && self.drops_leading { Err(PictureError::Leading) } else { Ok(false) }
    }
}

/// Reads an `HEVCDecoderConfigurationRecord` (14496-15, 8.3.3.1.2): its sets, and how many bytes a NAL unit's length has.
fn parse_record(record: &Bytes) -> Option<(HevcSets, usize)> {
    let [version, head @ ..] = record.first_chunk::<23>()?;
    let [.., lengths, arrays] = head;
    let length_bytes = usize::from(lengths & 3) + 1;
    // Some encoders write version 0.
    if *version > 1 || length_bytes == 3 {
        return None;
    }
    let mut rest = record.slice(23..);
    let mut sets = HevcSets::default();
    for _ in 0..*arrays {
        let [kind, count @ ..] = *rest.first_chunk::<3>()?;
        rest = rest.slice(3..);
        for _ in 0..u16::from_be_bytes(count) {
            let nal = split_nal(&mut rest, 2)?;
            let is_set = matches!(kind & 0x3f, VPS | SPS | PPS);
            if is_set && (nal_type(&nal) != kind & 0x3f || !sets.merge(&nal)) {
                return None;
            }
        }
    }
    Some((sets, length_bytes))
}

/// Whether a NAL unit belongs into a sample: not parameter sets, delimiters, ends and filler.
fn is_kept(nal: &[u8]) -> bool {
    !matches!(nal_type(nal), VPS..=38)
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header >> 1 & 0x3f)
}

/// RASL_N and RASL_R: skipped leading pictures.
const RASL_FIRST: u8 = 8;
const RASL_LAST: u8 = 9;
/// BLA (16 to 18), IDR (19, 20) and CRA.
const BLA_FIRST: u8 = 16;
const CRA: u8 = 21;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::{HEVC_PPS, HEVC_SPS, HEVC_VPS, hevc_record};
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Bytes {
        nals.iter().flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat()).collect()
    }

    fn slice(kind: u8) -> [u8; 4] {
        [kind << 1, 1, 0xaf, 7]
    }

    fn configured() -> HevcReader {
        let mut reader = HevcReader::default();
        assert_eq!(reader.configure(&hevc_record().into()), Ok(true));
        reader
    }

    /// What becomes of pictures of these kinds: K for a start, P, or L for one that is left out.
    fn fates(reader: &mut HevcReader, joins: bool, kinds: &[u8]) -> String {
        let mut joins = joins;
        let fate = |kind: &u8| match reader.picture(&unit(&[&slice(*kind)]), std::mem::take(&mut joins)) {
            Ok((picture, _)) if picture.key => 'K',
            Ok(_) => 'P',
            Err(PictureError::Leading) => 'L',
            Err(error) => panic!("{error}"),
        };
        kinds.iter().map(fate).collect()
    }

    #[test]
    fn row_31_a_record_gives_the_format_and_is_written_anew() {
        let mut reader = configured();
        let format = reader.format().unwrap().clone();
        assert_eq!((format.codec, format.width, format.height), (VideoCodec::Hevc, 320, 180));
        let mut again = HevcReader::default();
        assert_eq!(again.configure(&format.config), Ok(true), "it can be read back");
        assert_eq!(again.format(), Some(&format));
        assert_eq!(reader.configure(&hevc_record().into()), Ok(false), "repeated");
    }

    #[test]
    fn row_25_sets_within_the_stream_make_the_format_and_are_stripped() {
        let mut reader = HevcReader::default();
        let idr = slice(19);
        let data =
            unit(&[&[35 << 1, 1, 0x50], HEVC_VPS, HEVC_SPS, HEVC_PPS, &[39 << 1, 1, 5], &idr, &[38 << 1, 1, 0xff]]);
        let (picture, changed) = reader.picture(&data, true).unwrap();
        assert!(changed && picture.key);
        assert_eq!(picture.data, unit(&[&[39 << 1, 1, 5], &idr]));
        let annex_b =
            [&[0, 0, 0, 1][..], HEVC_VPS, &[0, 0, 1], HEVC_SPS, &[0, 0, 1], HEVC_PPS, &[0, 0, 1], &idr].concat();
        let mut reader = HevcReader::default();
        assert_eq!(reader.picture(&annex_b.into(), true).unwrap().0.data, unit(&[&idr]));
    }

    #[test]
    fn row_16_open_gops_are_no_starts_but_at_the_join() {
        assert_eq!(fates(&mut configured(), true, &[21, 8, 9, 1, 21, 9, 1, 19, 1]), "KLLPPPPKP");
        assert_eq!(fates(&mut configured(), true, &[19, 1, 21, 1, 21, 1]), "KPPPKP", "CRA without leading pictures");
        assert_eq!(fates(&mut configured(), true, &[19, 21, 1, 21, 9, 1, 21, 9]), "KPPKLPPP", "and then with them");
        assert_eq!(fates(&mut configured(), true, &[16, 9, 1, 20, 6]), "KLPKP", "BLA, and RADL");
        assert_eq!(fates(&mut configured(), false, &[21]), "P");
    }

    #[test]
    fn row_26_records_that_lie_are_refused_and_change_nothing() {
        let mut reader = configured();
        let before = reader.format().cloned();
        assert_eq!(reader.configure(&Bytes::new()), Err(PictureError::EmptyConfig));
        let good = hevc_record();
        for length in 1..good.len() {
            assert_eq!(reader.configure(&good[..length].to_vec().into()), Err(PictureError::FalseConfig), "{length}");
        }
        for (at, value) in [(0, 2), (21, 2), (22, 9), (23, 0xa1)] {
            let mut record = good.clone();
            record[at] = value;
            assert_eq!(reader.configure(&record.into()), Err(PictureError::FalseConfig), "{at}");
        }
        assert_eq!(reader.format().cloned(), before);
        assert_eq!(reader.picture(&unit(&[&[39 << 1, 1]]), false), Err(PictureError::NoPicture));
        assert_eq!(reader.picture(&Bytes::from_static(&[0, 0, 9, 1]), false), Err(PictureError::Truncated));
        assert_eq!(HevcReader::default().picture(&unit(&[&slice(19)]), true), Err(PictureError::NoConfig));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(record: Vec<u8>, frame: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let mut reader = HevcReader::default();
            let _ = reader.configure(&record.into());
            let _ = reader.picture(&frame.into(), true);
            let mut record = hevc_record();
            let at = at.index(record.len());
            record[at] = byte;
            let _ = reader.configure(&record.into());
        }
    }
}
