//! AV1 as it comes in FLV: configuration records, and temporal units of OBUs (AV1's bitstream specification, 5).
//!
//! What leaves has one form: OBUs with sizes, without temporal delimiters, padding and tile lists (AV1-ISOBMFF, 2.4).

use bytes::{BufMut, Bytes, BytesMut};

use super::av1_sequence::SequenceHeader;
use super::picture::{Picture, PictureError, UNITS_MAX};
use crate::media::{VideoCodec, VideoFormat};

/// A publisher's AV1: what it last said of its configuration.
#[derive(Debug, Default)]
pub struct Av1Reader {
    header: Option<(SequenceHeader, Bytes)>,
    format: Option<VideoFormat>,
    /// A sequence header within the stream changed the format, and no picture has told so yet.
    untold: bool,
}

impl Av1Reader {
    /// The format at present.
    #[must_use]
    pub fn format(&self) -> Option<&VideoFormat> {
        self.format.as_ref()
    }

    /// Takes an `AV1CodecConfigurationRecord` (AV1-ISOBMFF, 2.3.3). True where it changes the format; one without a
    /// sequence header leaves that to the stream.
    ///
    /// # Errors
    /// [`PictureError::EmptyConfig`], [`PictureError::FalseConfig`]; what was known before stays.
    pub fn configure(&mut self, record: &Bytes) -> Result<bool, PictureError> {
        let [marker, ..] = *record.as_ref() else { return Err(PictureError::EmptyConfig) };
        if marker != MARKER_AND_VERSION || record.len() < 4 {
            return Err(PictureError::FalseConfig);
        }
        let obus = split(&record.slice(4..)).map_err(|_| PictureError::FalseConfig)?;
        let Some(header) = obus.iter().find(|obu| obu.kind == SEQUENCE_HEADER) else { return Ok(false) };
        self.adopt(header).ok_or(PictureError::FalseConfig)
    }

    /// Takes a temporal unit. Beside the picture, true where a sequence header within it changes the format.
    ///
    /// # Errors
    /// [`PictureError`]: the frame is to be skipped.
    pub fn picture(&mut self, data: &Bytes) -> Result<(Picture, bool), PictureError> {
        let obus = split(data)?;
        for header in obus.iter().filter(|obu| obu.kind == SEQUENCE_HEADER) {
            self.untold |= self.adopt(header).unwrap_or(false);
        }
        let (header, _) = self.header.as_ref().ok_or(PictureError::NoConfig)?;
        let frame = obus.iter().find(|obu| matches!(obu.kind, FRAME_HEADER | FRAME)).ok_or(PictureError::NoPicture)?;
        let key = header.is_still || is_shown_key_frame(&frame.payload).ok_or(PictureError::Truncated)?;
        Ok((Picture { key, data: joined(data, &obus) }, std::mem::take(&mut self.untold)))
    }

    /// Takes a sequence header. True where it changes the format; None where it cannot be read.
    fn adopt(&mut self, obu: &Obu) -> Option<bool> {
        if self.header.as_ref().is_some_and(|(_, known)| *known == obu.payload) {
            return Some(false);
        }
        let header = SequenceHeader::parse(&obu.payload)?;
        let mut record = BytesMut::new();
        record.put_slice(&[MARKER_AND_VERSION, header.profile << 5 | header.level, header.coding_byte(), 0]);
        // A copy, since a slice would keep the whole message in memory.
        let payload = Bytes::copy_from_slice(&obu.payload);
        Obu { kind: SEQUENCE_HEADER, extension: None, payload: payload.clone(), as_is: false }.put(&mut record);
        let format = VideoFormat {
            codec: VideoCodec::Av1,
            config: record.freeze(),
            width: header.width,
            height: header.height,
            coding: header.coding(),
        };
        self.header = Some((header, payload));
        let changed = self.format.as_ref() != Some(&format);
        self.format = Some(format);
        Some(changed)
    }
}

/// The start of a frame header (5.9.2): a key frame that is shown at once.
fn is_shown_key_frame(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let (shows_existing, frame_type, show_frame) = (first >> 7 == 1, first >> 5 & 3, first >> 4 & 1 == 1);
    Some(!shows_existing && frame_type == 0 && show_frame)
}

/// One open bitstream unit (5.3).
struct Obu {
    kind: u8,
    extension: Option<u8>,
    payload: Bytes,
    /// It stands in the input as it is to leave.
    as_is: bool,
}

impl Obu {
    /// Writes it with its size.
    fn put(&self, out: &mut BytesMut) {
        const HAS_SIZE: u8 = 2;
        out.put_u8(self.kind << 3 | u8::from(self.extension.is_some()) << 2 | HAS_SIZE);
        if let Some(extension) = self.extension {
            out.put_u8(extension);
        }
        let mut rest = self.payload.len();
        while rest >= 0x80 {
            out.put_u8(0x80 | u8::try_from(rest & 0x7f).unwrap_or(0));
            rest >>= 7;
        }
        out.put_u8(u8::try_from(rest).unwrap_or(0));
        out.put_slice(&self.payload);
    }

    fn is_kept(&self) -> bool {
        !matches!(self.kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING)
    }
}

/// The OBUs of a temporal unit. One without a size reaches to the end.
fn split(data: &Bytes) -> Result<Vec<Obu>, PictureError> {
    let mut rest = data.clone();
    let mut obus = Vec::new();
    while !rest.is_empty() {
        if obus.len() == UNITS_MAX {
            return Err(PictureError::TooManyUnits);
        }
        obus.push(split_obu(&mut rest).ok_or(PictureError::Truncated)?);
    }
    Ok(obus)
}

fn split_obu(rest: &mut Bytes) -> Option<Obu> {
    let header = *rest.first()?;
    if header & 0x80 != 0 {
        return None;
    }
    let (has_extension, has_size) = (header & 4 != 0, header & 2 != 0);
    let extension = if has_extension { Some(*rest.get(1)?) } else { None };
    let mut body = rest.slice(1 + usize::from(has_extension)..);
    let size = if has_size { leb128(&mut body)? } else { body.len() };
    if size > body.len() {
        return None;
    }
    let payload = body.split_to(size);
    *rest = body;
    Some(Obu { kind: header >> 3 & 0xf, extension, payload, as_is: has_size })
}

/// A little-endian number of 7 bits a byte (4.10.5).
fn leb128(rest: &mut Bytes) -> Option<usize> {
    let mut value = 0u64;
    for at in 0..8 {
        let byte = *rest.first()?;
        *rest = rest.slice(1..);
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// Those that are kept, with sizes: without a copy where that is what came, perhaps behind a delimiter.
fn joined(data: &Bytes, obus: &[Obu]) -> Bytes {
    if obus.iter().all(|obu| obu.as_is && obu.is_kept()) {
        return data.clone();
    }
    let mut out = BytesMut::with_capacity(data.len() + 8);
    for obu in obus.iter().filter(|obu| obu.is_kept()) {
        obu.put(&mut out);
    }
    out.freeze()
}

const MARKER_AND_VERSION: u8 = 0x81;
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::AV1_RECORD;
    use proptest::prelude::*;

    const KEY: &[u8] = &[0x32, 3, 0x10, 0xaa, 0xbb];
    const INTER: &[u8] = &[0x32, 3, 0x30, 0xaa, 0xbb];

    fn configured() -> Av1Reader {
        let mut reader = Av1Reader::default();
        assert_eq!(reader.configure(&Bytes::from_static(AV1_RECORD)), Ok(true));
        reader
    }

    fn picture(reader: &mut Av1Reader, data: &[u8]) -> Result<(bool, Vec<u8>, bool), PictureError> {
        let (picture, changed) = reader.picture(&Bytes::copy_from_slice(data))?;
        Ok((picture.key, picture.data.to_vec(), changed))
    }

    #[test]
    fn row_31_a_record_gives_the_format_and_is_written_anew() {
        let mut reader = configured();
        let format = reader.format().unwrap();
        assert_eq!((format.codec, format.width, format.height), (VideoCodec::Av1, 320, 180));
        assert_eq!(format.config, AV1_RECORD);
        assert_eq!(reader.configure(&Bytes::from_static(AV1_RECORD)), Ok(false));
    }

    #[test]
    fn delimiters_leave_and_sizes_come() {
        let mut reader = configured();
        let delimited = [&[0x12, 0][..], KEY].concat();
        assert_eq!(picture(&mut reader, &delimited), Ok((true, KEY.to_vec(), false)));
        assert_eq!(picture(&mut reader, INTER), Ok((false, INTER.to_vec(), false)));
        assert_eq!(picture(&mut reader, &[0x30, 0x30, 0xaa, 0xbb]), Ok((false, INTER.to_vec(), false)), "no size");
        assert!(!picture(&mut reader, &[0x32, 1, 0x90]).unwrap().0, "shows an existing frame");
        let long = [&[0x30, 0x30][..], &[7; 300]].concat();
        assert_eq!(picture(&mut reader, &long).unwrap().1, [&[0x32, 0xad, 2][..], &long[1..]].concat());
    }

    #[test]
    fn row_25_a_sequence_header_within_the_stream_is_enough() {
        let mut reader = Av1Reader::default();
        assert_eq!(reader.configure(&Bytes::from_static(&[0x81, 0, 0x0c, 0])), Ok(false));
        assert_eq!(picture(&mut reader, KEY), Err(PictureError::NoConfig));
        let whole = [&AV1_RECORD[4..], KEY].concat();
        assert_eq!(picture(&mut reader, &whole), Ok((true, whole.clone(), true)));
        assert_eq!(picture(&mut reader, &whole), Ok((true, whole, false)));
    }

    #[test]
    fn row_26_what_lies_is_refused() {
        let mut reader = configured();
        assert_eq!(reader.configure(&Bytes::new()), Err(PictureError::EmptyConfig));
        assert_eq!(reader.configure(&Bytes::from_static(&[0x82, 0, 0, 0])), Err(PictureError::FalseConfig));
        assert_eq!(picture(&mut reader, &[0x32, 9, 1]), Err(PictureError::Truncated));
        assert_eq!(picture(&mut reader, &[0x32, 0]), Err(PictureError::Truncated));
        assert_eq!(picture(&mut reader, &[0xb2, 1, 1]), Err(PictureError::Truncated));
        assert_eq!(picture(&mut reader, &[0x12, 0]), Err(PictureError::NoPicture));
        assert_eq!(picture(&mut reader, &[0x12, 0].repeat(UNITS_MAX + 1)), Err(PictureError::TooManyUnits));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_what_leaves_is_read_again(record: Vec<u8>, frame: Vec<u8>) {
            let mut reader = Av1Reader::default();
            let _ = reader.configure(&[&[0x81, 0, 0, 0], &record[..]].concat().into());
            let mut reader = configured();
            if let Ok((first, _)) = reader.picture(&frame.into()) {
                prop_assert_eq!(reader.picture(&first.data).map(|p| p.0), Ok(first));
            }
        }
    }
}
