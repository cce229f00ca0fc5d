//! Media in memory: what ffmpeg made, frame by frame, for a publisher that can send what Debian's own encoders cannot.

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use mp4_atom::{Codec, Decode as _, DecodeMaybe as _, FourCC, Ftyp, Header, Moov, ReadFrom as _, StszSamples, Trak};

/// One picture and one sound at most.
pub(crate) struct Movie {
    pub(crate) picture: Option<Stream>,
    pub(crate) sound: Option<Stream>,
    /// How long it is, in milliseconds: where it is looped.
    pub(crate) millis: u32,
}

/// One track.
pub(crate) struct Stream {
    /// The sample entry's name, which is also Enhanced RTMP's word for the codec in nearly all cases.
    pub(crate) codec: [u8; 4],
    /// What Enhanced RTMP's sequence start holds.
    pub(crate) config: Vec<u8>,
    pub(crate) samples: Vec<Sample>,
}

/// One frame; times are in milliseconds from the movie's start.
pub(crate) struct Sample {
    pub(crate) dts: u32,
    pub(crate) composition: i32,
    pub(crate) key: bool,
    pub(crate) data: Vec<u8>,
}

impl Movie {
    /// Has ffmpeg make a movie of these inputs and encoders.
    pub(crate) fn make(directory: &Path, name: &str, arguments: &[&str]) -> Self {
        let path = directory.join(format!("{name}.mp4"));
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]).args(arguments);
        let made = ffmpeg.args(["-strict", "-2", "-f", "mp4"]).arg(&path).status().unwrap();
        assert!(made.success(), "ffmpeg makes {name}");
        Self::read(&path)
    }

    /// Reads an MP4 file whose samples are described in its `moov`.
    pub(crate) fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let (moov_bytes, moov) = find_moov(&file);
        let stream = |handler: &[u8; 4]| {
            let trak = moov.trak.iter().find(|trak| trak.mdia.hdlr.handler == FourCC::new(handler))?;
            Some(Stream::read(trak, moov_bytes, &file))
        };
        let (picture, sound) = (stream(b"vide"), stream(b"soun"));
        let lasts = |trak: &Trak| {
            let ticks: u64 = trak
                .mdia
                .minf
                .stbl
                .stts
                .entries
                .iter()
                .map(|e| u64::from(e.sample_count) * u64::from(e.sample_delta))
                .sum();
            u32::try_from(ticks * 1000 / u64::from(trak.mdia.mdhd.timescale)).unwrap()
        };
        Self { picture, sound, millis: moov.trak.iter().map(lasts).max().unwrap() }
    }
}

fn find_moov(file: &[u8]) -> (&[u8], Moov) {
    let mut at = Cursor::new(file);
    Ftyp::read_from(&mut at).unwrap();
    loop {
        let start = usize::try_from(at.position()).unwrap();
        let header = Header::decode_maybe(&mut &file[start..]).unwrap().unwrap();
        let length = usize::try_from(u32::from_be_bytes(file[start..start + 4].try_into().unwrap())).unwrap();
        if header.kind == FourCC::new(b"moov") {
            let bytes = &file[start..start + length];
            return (bytes, Moov::decode(&mut Cursor::new(bytes)).unwrap());
        }
        at.set_position(u64::try_from(start + length).unwrap());
    }
}

impl Stream {
    fn read(trak: &Trak, moov: &[u8], file: &[u8]) -> Self {
        let stbl = &trak.mdia.minf.stbl;
        let (codec, config) = codec(&stbl.stsd.codecs[0], moov);
        let millis = |ticks: i64| ticks * 1000 / i64::from(trak.mdia.mdhd.timescale);
        let mut dts = 0i64;
        let deltas = stbl.stts.entries.iter().flat_map(|e| (0..e.sample_count).map(|_| i64::from(e.sample_delta)));
        let composition: Vec<i64> = match &stbl.ctts {
            Some(ctts) => ctts.entries.iter().flat_map(|e| (0..e.sample_count).map(|_| e.sample_offset)).collect(),
            None => Vec::new(),
        };
        let keys = stbl.stss.as_ref().map(|stss| &stss.entries);
        let mut samples = Vec::new();
        for ((number, data), delta) in (1u32..).zip(places(trak)).zip(deltas) {
            let offset = composition.get(samples.len()).copied().unwrap_or(0);
            samples.push(Sample {
                dts: u32::try_from(millis(dts)).unwrap(),
                composition: i32::try_from(millis(dts + offset) - millis(dts)).unwrap(),
                key: keys.is_none_or(|keys| keys.contains(&number)),
                data: file[data.0..data.0 + data.1].to_vec(),
            });
            dts += delta;
        }
        Self { codec, config, samples }
    }
}

/// Where each sample is in the file, and how long it is.
fn places(trak: &Trak) -> Vec<(usize, usize)> {
    let stbl = &trak.mdia.minf.stbl;
    let chunks: Vec<u64> = match (&stbl.stco, &stbl.co64) {
        (Some(stco), _) => stco.entries.iter().map(|offset| u64::from(*offset)).collect(),
        (None, co64) => co64.as_ref().unwrap().entries.clone(),
    };
    let sizes: Vec<u32> = match &stbl.stsz.samples {
        StszSamples::Identical { count, size } => vec![*size; usize::try_from(*count).unwrap()],
        StszSamples::Different { sizes } => sizes.clone(),
    };
    let mut sizes = sizes.into_iter();
    let mut places = Vec::new();
    for (number, chunk) in (1u32..).zip(chunks) {
        let entry = stbl.stsc.entries.iter().rev().find(|entry| entry.first_chunk <= number).unwrap();
        let mut at = usize::try_from(chunk).unwrap();
        for size in sizes.by_ref().take(usize::try_from(entry.samples_per_chunk).unwrap()) {
            let size = usize::try_from(size).unwrap();
            places.push((at, size));
            at += size;
        }
    }
    places
}

/// The codec's name and its configuration in the form that RTMP carries.
fn codec(entry: &Codec, moov: &[u8]) -> ([u8; 4], Vec<u8>) {
    match entry {
        Codec::Avc1(_) => (*b"avc1", body(moov, b"avcC").to_vec()),
        Codec::Hvc1(_) | Codec::Hev1(_) => (*b"hvc1", body(moov, b"hvcC").to_vec()),
        Codec::Av01(_) => (*b"av01", body(moov, b"av1C").to_vec()),
        Codec::Vp09(_) => (*b"vp09", body(moov, b"vpcC").to_vec()),
        Codec::Mp4a(mp4a) => match &mp4a.esds.es_desc.dec_config.dec_specific {
            Some(specific) => (*b"mp4a", specific.raw.clone()),
            None => (*b".mp3", Vec::new()),
        },
        Codec::Opus(_) => (*b"Opus", opus_head(body(moov, b"dOps"))),
        Codec::Flac(_) => (*b"fLaC", [b"fLaC", &body(moov, b"dfLa")[4..]].concat()),
        Codec::Ac3(_) => (*b"ac-3", Vec::new()),
        Codec::Eac3(_) => (*b"ec-3", Vec::new()),
        other => panic!("no RTMP for {other:?}"),
    }
}

/// The body of a box whose name occurs once.
fn body<'a>(moov: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    let at = moov.windows(4).position(|window| window == name).unwrap();
    let length = usize::try_from(u32::from_be_bytes(moov[at - 4..at].try_into().unwrap())).unwrap();
    &moov[at + 4..at - 4 + length]
}

/// The identification header (RFC 7845, 5.1), which is little-endian where the box is big-endian.
fn opus_head(dops: &[u8]) -> Vec<u8> {
    let [_, channels, skip0, skip1, rate0, rate1, rate2, rate3, gain0, gain1, rest @ ..] = dops else { panic!("dOps") };
    let head = [1, *channels, *skip1, *skip0, *rate3, *rate2, *rate1, *rate0, *gain1, *gain0];
    [&b"OpusHead"[..], &head, rest].concat()
}
