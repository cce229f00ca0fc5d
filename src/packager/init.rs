//! Writes an initialisation segment: the CMAF header of a track (ISO/IEC 23000-19, 7.3.2.1), and what of a format
//! the multivariant playlist tells.

use bytes::Bytes;
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Audio, Codec, Dinf, Dref, Esds, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco,
    Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd,
};

use super::entry::VideoEntry;
use super::fragment::{NON_SYNC, SYNC, TRACK_ID, encode};
use crate::media::{AudioCodec, AudioFormat, Colour, DynamicRange, TrackFormat, VideoFormat};

/// Ticks a second of every video track: a multiple of all usual frame rates' numerators, and MPEG's own.
pub(super) const VIDEO_TIMESCALE: u32 = 90_000;

/// A format that no initialisation segment can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFormat {
    /// The decoder configuration record cannot be read.
    #[error("the decoder configuration record, {kind}, cannot be read: {error}")]
    Record {
        /// The box that it is the body of.
        kind: String,
        /// What is wrong with it.
        error: String,
    },
    /// A codec that the packager has no boxes for.
    #[error("{0} cannot be packaged")]
    Codec(&'static str),
    /// A field that cannot be 0, or is larger than a box can hold.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
}

/// What a rendition's boxes and playlists need of its format, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// Ticks a second.
    pub(super) timescale: u32,
    /// The format's name by RFC 6381.
    pub(super) codec: String,
    /// Width and height, of video.
    pub(super) resolution: Option<(u32, u32)>,
    /// What light its samples stand for, of video.
    pub(super) range: DynamicRange,
    /// Channels, of audio.
    pub(super) channels: Option<u8>,
    /// `ftyp` and `moov`.
    pub(super) data: Bytes,
}

impl Header {
    /// Reads `format` and writes its boxes.
    ///
    /// # Errors
    /// [`BadFormat`] where it tells of no track that could be decoded.
    pub(super) fn new(format: &TrackFormat) -> Result<Self, BadFormat> {
        match format {
            TrackFormat::Video(video) => Self::video(video),
            TrackFormat::Audio(audio) => Self::audio(audio),
        }
    }

    fn video(format: &VideoFormat) -> Result<Self, BadFormat> {
        let visual = Visual {
            data_reference_index: 1,
            width: dimension(format.width, "width")?,
            height: dimension(format.height, "height")?,
            ..Visual::default()
        };
        let size = (visual.width, visual.height);
        let VideoEntry { entry, codec } = VideoEntry::new(format, visual)?;
        let track = Track { timescale: VIDEO_TIMESCALE, handler: *b"vide", size, sample_flags: NON_SYNC, entry };
        let range = format.coding.colour.map(Colour::dynamic_range).unwrap_or_default();
        let resolution = Some((format.width, format.height));
        Ok(Self { timescale: VIDEO_TIMESCALE, codec, resolution, range, channels: None, data: track.write() })
    }

    fn audio(format: &AudioFormat) -> Result<Self, BadFormat> {
        if format.sample_rate == 0 {
            return Err(BadFormat::OutOfRange("sample rate"));
        }
        let track = Track {
            timescale: format.sample_rate,
            handler: *b"soun",
            size: (0, 0),
            sample_flags: SYNC,
            entry: mp4a(format).into(),
        };
        let AudioCodec::Aac(object_type) = format.codec else { return Err(BadFormat::Codec("sound that is not AAC")) };
        let codec = format!("mp4a.40.{object_type}");
        let channels = Some(format.channels);
        let (resolution, range) = (None, DynamicRange::default());
        Ok(Self { timescale: format.sample_rate, codec, resolution, range, channels, data: track.write() })
    }
}

fn dimension(samples: u32, name: &'static str) -> Result<u16, BadFormat> {
    u16::try_from(samples).ok().filter(|s| *s > 0).ok_or(BadFormat::OutOfRange(name))
}

fn mp4a(format: &AudioFormat) -> Mp4a {
    let audio = Audio {
        data_reference_index: 1,
        channel_count: format.channels.into(),
        sample_size: 16,
        // A 16.16 field: rates that it cannot hold are 0 there, and the configuration below has the true one.
        sample_rate: u16::try_from(format.sample_rate).unwrap_or(0).into(),
    };
    let dec_specific = DecoderSpecific { raw: format.config.to_vec(), ..DecoderSpecific::default() };
    let dec_config = DecoderConfig {
        object_type_indication: OBJECT_TYPE_MPEG4_AUDIO,
        stream_type: STREAM_TYPE_AUDIO,
        dec_specific: Some(dec_specific),
        ..DecoderConfig::default()
    };
    let es_desc = EsDescriptor { dec_config, sl_config: SLConfig {}, ..EsDescriptor::default() };
    Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }
}

/// `objectTypeIndication` of ISO/IEC 14496-3 audio (ISO/IEC 14496-1, table 5).
const OBJECT_TYPE_MPEG4_AUDIO: u8 = 0x40;
/// `streamType` of audio (ISO/IEC 14496-1, table 6).
const STREAM_TYPE_AUDIO: u8 = 5;

/// What differs between the tracks' boxes.
struct Track {
    timescale: u32,
    handler: [u8; 4],
    size: (u16, u16),
    sample_flags: u32,
    entry: Codec,
}

impl Track {
    fn write(self) -> Bytes {
        let mut data = Vec::with_capacity(1024);
        encode(&ftyp(), &mut data);
        encode(&self.moov(), &mut data);
        data.into()
    }

    fn moov(self) -> Moov {
        let mvhd = Mvhd {
            timescale: self.timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        };
        let trex = Trex {
            track_id: TRACK_ID,
            default_sample_description_index: 1,
            default_sample_flags: self.sample_flags,
            ..Trex::default()
        };
        let mvex = Some(Mvex { trex: vec![trex], ..Mvex::default() });
        Moov { mvhd, mvex, trak: vec![self.trak()], ..Moov::default() }
    }

    fn trak(self) -> Trak {
        let is_audio = self.handler == *b"soun";
        let tkhd = Tkhd {
            track_id: TRACK_ID,
            enabled: true,
            in_movie: true,
            volume: u8::from(is_audio).into(),
            width: self.size.0.into(),
            height: self.size.1.into(),
            ..Tkhd::default()
        };
        let mdhd = Mdhd { timescale: self.timescale, language: "und".to_owned(), ..Mdhd::default() };
        let hdlr = Hdlr { handler: FourCC::new(&self.handler), name: "Headwater".to_owned() };
        let minf = Minf {
            vmhd: (!is_audio).then(Vmhd::default),
            smhd: is_audio.then(Smhd::default),
            dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
            stbl: Stbl { stsd: Stsd { codecs: vec![self.entry] }, stco: Some(Stco::default()), ..Stbl::default() },
            ..Minf::default()
        };
        Trak { tkhd, mdia: Mdia { mdhd, hdlr, minf }, ..Trak::default() }
    }
}

/// `cmfc` is CMAF's own brand; `iso6` is the base that knows `tfdt` and `default-base-is-moof`.
fn ftyp() -> Ftyp {
    let brands = [b"iso6", b"cmfc", b"mp41"].map(FourCC::new);
    Ftyp { major_brand: FourCC::new(b"iso6"), minor_version: 0, compatible_brands: brands.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{VideoCodec, VideoCoding};
    use crate::packager::codec_players::{android_takes, safari_takes};
    use crate::packager::testing;
    use mp4_atom::{Atom, Decode};

    fn moov(header: &Header) -> Moov {
        let mut cursor = std::io::Cursor::new(&header.data);
        Ftyp::decode(&mut cursor).unwrap();
        Moov::decode(&mut cursor).unwrap()
    }

    #[test]
    fn video_is_described_from_its_configuration() {
        let TrackFormat::Video(format) = testing::video_format() else { unreachable!() };
        let header = Header::video(&format).unwrap();
        assert_eq!(header.codec, "avc1.64001f");
        assert_eq!(header.resolution, Some((1280, 720)));
        let moov = moov(&header);
        let Codec::Avc1(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("not avc1") };
        let mut config = Vec::new();
        entry.avcc.encode_body(&mut config).unwrap();
        assert_eq!(config, format.config, "the configuration record is untouched");
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, 90_000);
        assert_eq!(moov.mvex.unwrap().trex[0].default_sample_flags, NON_SYNC);
    }

    #[test]
    fn colours_and_shapes_stand_in_the_header() {
        let TrackFormat::Video(mut format) = testing::video_format() else { unreachable!() };
        format.coding.colour = Some(Colour { primaries: 9, transfer: 18, matrix: 9, full_range: true });
        format.coding.sample_aspect = (4, 3);
        let header = Header::video(&format).unwrap();
        assert_eq!(header.range, DynamicRange::Hlg);
        let moov = moov(&header);
        let Codec::Avc1(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("not avc1") };
        assert_eq!(entry.colr, Some(mp4_atom::Colr::new(9, 18, 9, true).unwrap()));
        assert_eq!(entry.pasp, Some(mp4_atom::Pasp { h_spacing: 4, v_spacing: 3 }));
    }

    #[test]
    fn audio_is_described_from_its_configuration() {
        let TrackFormat::Audio(format) = testing::audio_format() else { unreachable!() };
        let header = Header::audio(&format).unwrap();
        assert_eq!((header.codec.as_str(), header.timescale, header.channels), ("mp4a.40.2", 48_000, Some(2)));
        let moov = moov(&header);
        let Codec::Mp4a(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("not mp4a") };
        let specific = entry.esds.es_desc.dec_config.dec_specific.as_ref().unwrap();
        assert_eq!(specific.raw, format.config);
    }

    /// The name of a picture whose record has these bytes.
    fn name(codec: VideoCodec, config: &[&[u8]]) -> String {
        let config = config.concat().into();
        let format = VideoFormat { codec, config, width: 1280, height: 720, coding: VideoCoding::PLAIN };
        Header::video(&format).unwrap().codec
    }

    fn avc(profile: u8, constraints: u8, level: u8) -> String {
        let rest: &[u8] = if profile == 0x64 { &[0xfd, 0xf8, 0xf8, 0] } else { &[] };
        let sets = [255, 225, 0, 1, 0x67, 1, 0, 1, 0x68];
        name(VideoCodec::H264, &[&[1, profile, constraints, level], &sets, rest])
    }

    fn hevc(profile: u8, compatible: u8, constraints: u8, level: u8) -> String {
        let head = [1, profile, compatible, 0, 0, 0, constraints, 0, 0, 0, 0, 0, level];
        let arrays = [0xa0, 0, 1, 0, 2, 0x40, 1, 0xa1, 0, 1, 0, 2, 0x42, 1, 0xa2, 0, 1, 0, 2, 0x44, 1];
        name(VideoCodec::Hevc, &[&head, &[0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3], &arrays])
    }

    fn av1(level: u8, tier: u8, deep: bool) -> String {
        name(VideoCodec::Av1, &[&[0x81, level, tier << 7 | u8::from(deep) << 6 | 0x0c, 0]])
    }

    #[test]
    fn codecs_have_the_names_of_their_specifications() {
        assert_eq!(avc(0x42, 0xc0, 0x1e), "avc1.42c01e");
        assert_eq!(avc(0x4d, 0x40, 0x1f), "avc1.4d401f");
        assert_eq!(avc(0x64, 0x00, 0x28), "avc1.640028");
        assert_eq!(hevc(1, 0x60, 0xb0, 93), "hvc1.1.6.L93.B0");
        assert_eq!(hevc(2, 0x20, 0x90, 120), "hvc1.2.4.L120.90");
        assert_eq!(av1(8, 0, false), "av01.0.08M.08");
        assert_eq!(av1(5, 0, true), "av01.0.05M.10");
    }

    /// All profiles that are passed on, and all levels that are not above what players have.
    #[test]
    fn safari_and_android_take_the_names_of_all_that_is_served() {
        let mut names = vec![Header::new(&testing::audio_format()).unwrap().codec];
        for level in [10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52] {
            names.extend(
                [(0x42, 0xc0), (0x42, 0), (0x4d, 0x40), (0x64, 0)].map(|(profile, flags)| avc(profile, flags, level)),
            );
        }
        for level in [30, 60, 63, 90, 93, 120, 123, 150, 153, 156] {
            names.extend([
                hevc(1, 0x60, 0xb0, level),
                hevc(1, 0x60, 0, level),
                hevc(2, 0x20, 0x90, level),
                hevc(0x22, 0x20, 0, level),
            ]);
        }
        for level in 0..24 {
            names.extend([av1(level, 0, false), av1(level, 0, true), av1(level, u8::from(level > 7), true)]);
        }
        for name in names {
            assert!(safari_takes(&name), "Safari and {name}");
            assert!(android_takes(&name), "Android and {name}");
        }
        for other in [
            "avc1.64001",
            "avc3.64001f",
            "hev1.1.6.L93.B0",
            "hvc1.1.L93",
            "av01.0.8M.08",
            "av01.0.08.08",
            "mp4a.40",
            "opus",
            "",
        ] {
            assert!(!(safari_takes(other) && android_takes(other)), "{other}");
        }
    }

    #[test]
    fn formats_that_lie_are_refused() {
        let video = VideoFormat {
            codec: VideoCodec::H264,
            config: Bytes::from_static(&[1, 100, 0, 31, 255, 225, 0]),
            width: 16,
            height: 16,
            coding: VideoCoding::PLAIN,
        };
        assert!(matches!(Header::video(&video), Err(BadFormat::Record { kind, .. }) if kind == "avcC"));
        let audio = AudioFormat { codec: AudioCodec::Aac(2), config: Bytes::new(), sample_rate: 0, channels: 2 };
        assert_eq!(Header::audio(&audio), Err(BadFormat::OutOfRange("sample rate")));
        let TrackFormat::Video(mut format) = testing::video_format() else { unreachable!() };
        format.width = 70_000;
        assert_eq!(Header::video(&format), Err(BadFormat::OutOfRange("width")));
    }
}
