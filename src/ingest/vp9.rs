//! VP9 as it comes in Enhanced RTMP: configuration records (VP9-ISOBMFF, 2.3), and frames or superframes.
//!
//! A record does not tell the size, so the format follows from a key frame's header (VP9's bitstream specification, 6.2), and
//! only the level and the colours are the record's.

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::Bits;
use super::picture::{Picture, PictureError};
use super::vui::{UNSPECIFIED, said};
use crate::media::{Colour, VideoCodec, VideoCoding, VideoFormat};

/// A publisher's VP9: what it last said of its configuration.
#[derive(Debug, Default)]
pub struct Vp9Reader {
    /// Level, primaries, transfer and matrix.
    record: Option<(u8, [u8; 3])>,
    format: Option<VideoFormat>,
}

impl Vp9Reader {
    /// The format at present.
    #[must_use]
    pub fn format(&self) -> Option<&VideoFormat> {
        self.format.as_ref()
    }

    /// Takes a `VPCodecConfigurationRecord`, with the box's version and flags or without. What it changes shows with the next
    /// key frame, so this is always false.
    ///
    /// # Errors
    /// [`PictureError::EmptyConfig`], [`PictureError::FalseConfig`]; what was known before stays.
    pub fn configure(&mut self, record: &Bytes) -> Result<bool, PictureError> {
        if record.is_empty() {
            return Err(PictureError::EmptyConfig);
        }
        let body = record.strip_prefix(&[1, 0, 0, 0]).filter(|body| body.len() >= 8).unwrap_or(record);
        let [profile, level, _, primaries, transfer, matrix, _, _, ..] = *body else {
            return Err(PictureError::FalseConfig);
        };
        if profile > 3 {
            return Err(PictureError::FalseConfig);
        }
        self.record = Some((level, [primaries, transfer, matrix]));
        Ok(false)
    }

    /// Takes a frame or superframe. Beside the picture, true where it changes the format.
    ///
    /// # Errors
    /// [`PictureError`]: the frame is to be skipped.
    pub fn picture(&mut self, data: &Bytes) -> Result<(Picture, bool), PictureError> {
        if data.is_empty() {
            return Err(PictureError::NoPicture);
        }
        let key = KeyFrame::parse(data).map_err(|Malformed| PictureError::Truncated)?;
        let Some(header) = key else {
            return match &self.format {
                Some(_) => Ok((Picture { key: false, data: data.clone() }, false)),
                None => Err(PictureError::NoConfig),
            };
        };
        let format = self.format_of(&header);
        let changed = self.format.as_ref() != Some(&format);
        self.format = Some(format);
        Ok((Picture { key: true, data: data.clone() }, changed))
    }

    fn format_of(&self, header: &KeyFrame) -> VideoFormat {
        let (level, [primaries, transfer, matrix]) = self.record.unwrap_or((0, [UNSPECIFIED; 3]));
        let level = if level == 0 { level_of(header.width, header.height) } else { level };
        let matrix = if header.matrix == UNSPECIFIED { matrix } else { header.matrix };
        let colour = Colour { primaries, transfer, matrix, full_range: header.full_range };
        let (chroma, chroma_format) = match header.subsampling {
            // 0 would be 4:2:0 with chroma between the lines, which nothing tells apart here.
            (true, true) => (1, 1),
            (true, false) => (2, 2),
            _ => (3, 3),
        };
        let mut config = BytesMut::new();
        config.put_slice(&[1, 0, 0, 0, header.profile, level]);
        config.put_u8(header.bits << 4 | chroma << 1 | u8::from(header.full_range));
        config.put_slice(&[primaries, transfer, matrix, 0, 0]);
        VideoFormat {
            codec: VideoCodec::Vp9,
            config: config.freeze(),
            width: header.width,
            height: header.height,
            coding: VideoCoding {
                chroma_format,
                luma_bits: header.bits,
                chroma_bits: header.bits,
                colour: said(colour),
                ..VideoCoding::PLAIN
            },
        }
    }
}

struct KeyFrame {
    profile: u8,
    bits: u8,
    matrix: u8,
    full_range: bool,
    subsampling: (bool, bool),
    width: u32,
    height: u32,
}

/// Not a frame of VP9, or one cut short.
struct Malformed;

impl KeyFrame {
    /// The start of the uncompressed header; None of any other frame.
    fn parse(data: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut bits = Bits::plain(data);
        let profile = Self::profile(&mut bits).ok_or(Malformed)?;
        let shows_existing = bits.bit().ok_or(Malformed)?;
        if shows_existing || bits.bit().ok_or(Malformed)? {
            return Ok(None);
        }
        Self::read(&mut bits, profile).map(Some).ok_or(Malformed)
    }

    fn profile(bits: &mut Bits<'_>) -> Option<u8> {
        const FRAME_MARKER: u32 = 2;
        if bits.take(2)? != FRAME_MARKER {
            return None;
        }
        let profile = u8::from(bits.bit()?) | u8::from(bits.bit()?) << 1;
        if profile == 3 && bits.bit()? { None } else { Some(profile) }
    }

    fn read(bits: &mut Bits<'_>, profile: u8) -> Option<Self> {
        const SYNC_CODE: u32 = 0x49_8342;
        const RGB: u8 = 7;
        bits.skip(2)?;
        if bits.take(24)? != SYNC_CODE {
            return None;
        }
        let depth = if profile < 2 {
            8
        } else if bits.bit()? {
            12
        } else {
            10
        };
        let space = bits.small(3)?;
        let odd = profile & 1 == 1;
        let full_range = space == RGB || bits.bit()?;
        let subsampling = match (space == RGB, odd) {
            (false, false) => (true, true),
            (false, true) => (bits.bit()?, bits.bit()?),
            (true, true) => (false, false),
            (true, false) => return None,
        };
        if odd {
            bits.bit()?;
        }
        let (width, height) = (bits.take(16)? + 1, bits.take(16)? + 1);
        // `color_space` in H.273's code points for the matrix.
        let matrix = [UNSPECIFIED, 6, 1, 6, 7, 9, UNSPECIFIED, 0].get(usize::from(space)).copied()?;
        Some(Self { profile, bits: depth, matrix, full_range, subsampling, width, height })
    }
}

/// The least level whose pictures are as large, where the record does not say it.
fn level_of(width: u32, height: u32) -> u8 {
    let levels =
        [(36_864, 10), (73_728, 11), (122_880, 20), (245_760, 21), (552_960, 30), (983_040, 31), (2_228_224, 41)];
    let samples = u64::from(width) * u64::from(height);
    levels
        .iter()
        .find(|(most, _)| samples <= *most)
        .map_or(if samples <= 8_912_896 { 51 } else { 62 }, |(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::VP9_KEY;
    use proptest::prelude::*;

    fn picture(reader: &mut Vp9Reader, data: &[u8]) -> Result<(bool, bool), PictureError> {
        reader.picture(&Bytes::copy_from_slice(data)).map(|(picture, changed)| (picture.key, changed))
    }

    #[test]
    fn row_31_a_key_frame_of_libvpx_gives_the_format() {
        let mut reader = Vp9Reader::default();
        assert_eq!(picture(&mut reader, &[0x86, 0, 0x40]), Err(PictureError::NoConfig));
        let record = [&[1, 0, 0, 0][..], &[0, 11, 0x82, 9, 16, 9, 0, 0]].concat();
        assert_eq!(reader.configure(&record.into()), Ok(false));
        assert_eq!(picture(&mut reader, VP9_KEY), Ok((true, true)));
        assert_eq!(picture(&mut reader, VP9_KEY), Ok((true, false)));
        assert_eq!(picture(&mut reader, &[0x86, 0, 0x40]), Ok((false, false)));
        let format = reader.format().unwrap();
        assert_eq!((format.width, format.height), (320, 180));
        assert_eq!(format.config, &[1, 0, 0, 0, 0, 11, 0x82, 9, 16, 9, 0, 0][..]);
        assert_eq!(format.coding.colour.map(|colour| colour.transfer), Some(16));
        assert_eq!(level_of(1920, 1080), 41);
    }

    #[test]
    fn row_26_what_lies_is_refused() {
        let mut reader = Vp9Reader::default();
        assert_eq!(reader.configure(&Bytes::new()), Err(PictureError::EmptyConfig));
        assert_eq!(reader.configure(&Bytes::from_static(&[4; 8])), Err(PictureError::FalseConfig));
        assert_eq!(reader.configure(&Bytes::from_static(&[0; 7])), Err(PictureError::FalseConfig));
        for length in 1..9 {
            assert!(picture(&mut reader, &VP9_KEY[..length]).is_err(), "{length}");
        }
        assert_eq!(picture(&mut reader, &[]), Err(PictureError::NoPicture));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(record: Vec<u8>, tail: Vec<u8>, start in prop::sample::select(vec![0x82u8, 0x92, 0xa2, 0xb0])) {
            let mut reader = Vp9Reader::default();
            let _ = reader.configure(&record.into());
            let _ = picture(&mut reader, &[&[start, 0x49, 0x83, 0x42][..], &tail].concat());
        }
    }
}
