//! One picture track of a publisher: the reader of its codec, and whether its format is still to be told.

use bytes::Bytes;

use super::amf::{Amf0Value, read_values};
use super::av1::Av1Reader;
use super::avc::AvcReader;
use super::hevc::HevcReader;
use super::picture::{Picture, PictureError};
use super::vp9::Vp9Reader;
use super::vui::{UNSPECIFIED, filled};
use crate::media::{Colour, VideoCodec, VideoFormat};

/// The reader of one codec.
#[derive(Debug)]
enum Reader {
    Avc(AvcReader),
    Hevc(HevcReader),
    Av1(Av1Reader),
    Vp9(Vp9Reader),
}

impl Reader {
    fn new(codec: VideoCodec) -> Self {
        match codec {
            VideoCodec::H264 => Self::Avc(AvcReader::default()),
            VideoCodec::Hevc => Self::Hevc(HevcReader::default()),
            VideoCodec::Av1 => Self::Av1(Av1Reader::default()),
            VideoCodec::Vp9 => Self::Vp9(Vp9Reader::default()),
        }
    }

    fn format(&self) -> Option<&VideoFormat> {
        match self {
            Self::Avc(reader) => reader.format(),
            Self::Hevc(reader) => reader.format(),
            Self::Av1(reader) => reader.format(),
            Self::Vp9(reader) => reader.format(),
        }
    }

    fn configure(&mut self, record: &Bytes) -> Result<bool, PictureError> {
        match self {
            Self::Avc(reader) => reader.configure(record),
            Self::Hevc(reader) => reader.configure(record),
            Self::Av1(reader) => reader.configure(record),
            Self::Vp9(reader) => reader.configure(record),
        }
    }

    fn picture(&mut self, data: &Bytes, joins: bool) -> Result<(Picture, bool), PictureError> {
        match self {
            Self::Avc(reader) => reader.picture(data),
            Self::Hevc(reader) => reader.picture(data, joins),
            Self::Av1(reader) => reader.picture(data),
            Self::Vp9(reader) => reader.picture(data),
        }
    }
}

/// A picture track.
#[derive(Debug)]
pub(super) struct VideoTrack {
    codec: VideoCodec,
    reader: Reader,
    /// What metadata beside the stream say of its colours.
    colour: Option<Colour>,
    /// The format changed, and waits for the key picture that it is for.
    due: bool,
}

impl VideoTrack {
    pub(super) fn new(codec: VideoCodec) -> Self {
        Self { codec, reader: Reader::new(codec), colour: None, due: false }
    }

    /// There is enough to show pictures.
    pub(super) fn is_configured(&self) -> bool {
        self.reader.format().is_some()
    }

    /// What comes before the next key picture cannot be decoded.
    pub(super) fn waits(&self) -> bool {
        self.due
    }

    /// Takes a configuration, which may be of another codec than before.
    pub(super) fn configure(&mut self, codec: VideoCodec, record: &Bytes) -> Result<(), PictureError> {
        if codec == self.codec {
            self.due |= self.reader.configure(record)?;
            return Ok(());
        }
        let mut reader = Reader::new(codec);
        reader.configure(record)?;
        self.replace(codec, reader);
        Ok(())
    }

    /// Takes a picture. One of another codec is taken where it brings its own configuration.
    pub(super) fn picture(&mut self, codec: VideoCodec, data: &Bytes, joins: bool) -> Result<Picture, PictureError> {
        if codec != self.codec {
            let mut reader = Reader::new(codec);
            let (picture, _) = reader.picture(data, true)?;
            self.replace(codec, reader);
            return Ok(picture);
        }
        let (picture, changed) = self.reader.picture(data, joins || self.due)?;
        self.due |= changed;
        Ok(picture)
    }

    fn replace(&mut self, codec: VideoCodec, reader: Reader) {
        self.codec = codec;
        self.reader = reader;
        self.colour = None;
        self.due = true;
    }

    /// Takes metadata beside the stream. False where they say nothing of the colours.
    pub(super) fn metadata(&mut self, values: &[u8]) -> bool {
        let Some(colour) = colour_of(values) else { return false };
        let before = self.format();
        self.colour = Some(colour);
        self.due |= before.is_some() && self.format() != before;
        true
    }

    /// The format that is to be told before a key picture; once.
    pub(super) fn take_format(&mut self) -> Option<VideoFormat> {
        if std::mem::take(&mut self.due) { self.format() } else { None }
    }

    fn format(&self) -> Option<VideoFormat> {
        let mut format = self.reader.format()?.clone();
        format.coding.colour = filled(format.coding.colour, self.colour);
        Some(format)
    }
}

/// The `colorConfig` of a `colorInfo` (Enhanced RTMP, "Metadata Frame"): code points of H.273.
fn colour_of(values: &[u8]) -> Option<Colour> {
    let values = read_values(values).ok()?;
    let [Amf0Value::Utf8String(name), Amf0Value::Object(info), ..] = &values[..] else { return None };
    let Some(Amf0Value::Object(config)) = info.get("colorConfig").filter(|_| name == "colorInfo") else { return None };
    let point = |name: &str| match config.get(name) {
        Some(Amf0Value::Number(number)) => {
            (1..=u8::MAX).find(|point| f64::from(*point) == *number).unwrap_or(UNSPECIFIED)
        }
        _ => UNSPECIFIED,
    };
    Some(Colour {
        primaries: point("colorPrimaries"),
        transfer: point("transferCharacteristics"),
        matrix: point("matrixCoefficients"),
        full_range: false,
    })
}
