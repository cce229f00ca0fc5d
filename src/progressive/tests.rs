//! Segments that are made up go into a file, and `mp4-atom` reads out of its tables what went in.

mod downloads;

use bytes::Bytes;
use mp4_atom::esds::{DecoderConfig, EsDescriptor};
use mp4_atom::{
    Audio, Avc1, Avcc, Codec, Decode, Edts, ElstEntry, Encode, Esds, Ftyp, Hdlr, Header, Mdhd, Mdia, Mfhd, Minf, Moof,
    Moov, Mp4a, Stbl, Stsd, StszSamples, Tfdt, Tfhd, Tkhd, Traf, Trak, Trun, TrunEntry, Visual,
};
use proptest::prelude::*;

use super::scan::{Run, Sample};
use super::*;

const SYNC: u32 = 0x0200_0000;
const NON_SYNC: u32 = 0x0101_0000;

/// An initialisation segment: pictures of this width, or sound where that is 0.
fn init(timescale: u32, width: u16) -> Bytes {
    let visual = Visual { width, height: 90, ..Visual::default() };
    let entry: Codec = if width == 0 { sound().into() } else { picture(visual).into() };
    let handler = if width == 0 { b"soun" } else { b"vide" };
    let hdlr = Hdlr { handler: handler.into(), name: String::new() };
    let stbl = Stbl { stsd: Stsd { codecs: vec![entry] }, ..Stbl::default() };
    let mdhd = Mdhd { timescale, language: "und".to_owned(), ..Mdhd::default() };
    let mdia = Mdia { mdhd, hdlr, minf: Minf { stbl, ..Minf::default() } };
    let tkhd = Tkhd { width: width.into(), height: 90.into(), ..Tkhd::default() };
    let mut data = Vec::new();
    Moov { trak: vec![Trak { tkhd, mdia, ..Trak::default() }], ..Moov::default() }.encode(&mut data).unwrap();
    data.into()
}

fn picture(visual: Visual) -> Avc1 {
    Avc1 { visual, avcc: Avcc { configuration_version: 1, length_size: 4, ..Avcc::default() }, ..Avc1::default() }
}

fn sound() -> Mp4a {
    let audio = Audio { data_reference_index: 1, channel_count: 2, sample_size: 16, sample_rate: 48_000.into() };
    let es_desc = EsDescriptor { dec_config: DecoderConfig::default(), ..EsDescriptor::default() };
    Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }
}

fn read(timescale: u32, width: u16) -> Init {
    Init::read(&init(timescale, width)).unwrap()
}

/// A chunk of these samples. What is in them follows from where they are.
fn chunk(to: &mut Vec<u8>, start: u64, samples: &[Sample]) {
    let entry = |sample: &Sample| TrunEntry {
        duration: Some(sample.duration),
        size: Some(sample.size),
        flags: Some(if sample.sync { SYNC } else { NON_SYNC }),
        cts: Some(sample.offset.into()),
    };
    let payload: u32 = samples.iter().map(|sample| sample.size).sum();
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: 1 },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: 1, default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: start }),
            trun: vec![Trun { data_offset: Some(0), samples: samples.iter().map(entry).collect::<Vec<_>>().into() }],
            ..Traf::default()
        }],
    };
    let mut length = Vec::new();
    moof.encode(&mut length).unwrap();
    moof.traf[0].trun[0].data_offset = i32::try_from(length.len() + 8).ok();
    moof.encode(to).unwrap();
    Header { kind: b"mdat".into(), size: Some(payload as usize) }.encode(to).unwrap();
    for index in 0..payload {
        to.push((u64::from(index) * 31 + start).to_be_bytes()[7]);
    }
}

/// A sample as a file tells of it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    dts: i64,
    offset: i64,
    sync: bool,
    description: u32,
    data: Vec<u8>,
}

/// The track of a file that has only one, as its tables tell.
fn told(file: &[u8], track: usize) -> Vec<Told> {
    let moov = moov(file);
    let stbl = &moov.trak[track].mdia.minf.stbl;
    let StszSamples::Different { sizes } = &stbl.stsz.samples else { panic!("sizes") };
    let places: Vec<u64> = match (&stbl.stco, &stbl.co64) {
        (Some(stco), None) => stco.entries.iter().map(|place| u64::from(*place)).collect(),
        (None, Some(co64)) => co64.entries.clone(),
        other => panic!("{other:?}"),
    };
    let durations = stbl.stts.entries.iter().flat_map(|e| vec![e.sample_delta; e.sample_count as usize]);
    let mut offsets: Vec<i64> = vec![0; sizes.len()];
    if let Some(ctts) = &stbl.ctts {
        offsets = ctts.entries.iter().flat_map(|e| vec![e.sample_offset; e.sample_count as usize]).collect();
    }
    let (mut of_chunk, mut next) = (Vec::new(), 0);
    for (index, place) in (1..).zip(places) {
        let entry = stbl.stsc.entries.iter().rev().find(|entry| entry.first_chunk <= index).unwrap();
        let mut at = usize::try_from(place).unwrap();
        for _ in 0..entry.samples_per_chunk {
            let size = sizes[next] as usize;
            of_chunk.push((entry.sample_description_index, file[at..at + size].to_vec()));
            (at, next) = (at + size, next + 1);
        }
    }
    assert_eq!(of_chunk.len(), sizes.len());
    let mut dts = 0;
    let mut number = 0;
    let sample = |(((description, data), duration), offset)| {
        number += 1;
        let sync = stbl.stss.as_ref().is_none_or(|stss| stss.entries.contains(&number));
        dts += i64::from(duration);
        Told { dts: dts - i64::from(duration), offset, sync, description, data }
    };
    of_chunk.into_iter().zip(durations).zip(offsets).map(sample).collect()
}

fn moov(file: &[u8]) -> Moov {
    let mut cursor = std::io::Cursor::new(file);
    Ftyp::decode(&mut cursor).unwrap();
    Moov::decode(&mut cursor).unwrap()
}

/// What a range of a file is.
fn fetch(movie: &Movie, segments: &[Vec<Bytes>], range: std::ops::Range<u64>) -> Vec<u8> {
    let bytes = |part| match part {
        Part::Head(bytes) => bytes,
        Part::Media { track, segment, range } => segments[track][segment].slice(range),
    };
    let parts: Vec<_> = movie.parts(range).collect();
    assert!(parts.iter().all(|part| !matches!(part, Part::Media { range, .. } if range.is_empty())), "{parts:?}");
    parts.into_iter().map(bytes).collect::<Vec<_>>().concat()
}

/// A track of segments that consist of chunks: when each begins after the end of the one before, and its samples.
type Chunks = Vec<Vec<(u64, Vec<Sample>)>>;

fn sample() -> impl Strategy<Value = Sample> {
    let fields = (0u32..50, 1u32..9_000, 0i32..9_000, prop::bool::weighted(0.2));
    fields.prop_map(|(size, duration, offset, sync)| Sample { size, duration, offset, sync })
}

fn chunks() -> impl Strategy<Value = Chunks> {
    let hole = prop_oneof![3 => Just(0u64), 1 => 1u64..200_000];
    let chunk = (hole, prop::collection::vec(sample(), 1..30));
    prop::collection::vec(prop::collection::vec(chunk, 1..4), 1..6)
}

/// The segments of a track that begins at `start`, and what a file is to tell of it. Every segment is of the next session.
fn made(chunks: &Chunks, start: u64, sessions: usize) -> (Vec<Bytes>, Vec<Told>) {
    let (mut segments, mut told, mut at) = (Vec::new(), Vec::new(), start);
    for (number, list) in chunks.iter().enumerate() {
        let mut segment = Vec::new();
        for (hole, samples) in list {
            at += hole;
            chunk(&mut segment, at, samples);
            let payload: usize = samples.iter().map(|sample| sample.size as usize).sum();
            let mut rest = &segment[segment.len() - payload..];
            for sample in samples {
                let (data, after) = rest.split_at(sample.size as usize);
                rest = after;
                told.push(Told {
                    dts: i64::try_from(at).unwrap(),
                    offset: sample.offset.into(),
                    sync: sample.sync,
                    description: u32::try_from(number % sessions).unwrap() + 1,
                    data: data.to_vec(),
                });
                at += u64::from(sample.duration);
            }
        }
        segments.push(segment.into());
    }
    let first = told[0].dts;
    told.iter_mut().for_each(|told| told.dts -= first);
    (segments, told)
}

fn track(inits: Vec<Init>, segments: &[Bytes]) -> Track {
    let sessions = inits.len();
    let mut track = Track::new(inits).unwrap();
    for (number, segment) in segments.iter().enumerate() {
        let placed = Placed { init: number % sessions, shift: MediaTime::ZERO };
        track.push(placed, &scan(segment).unwrap()).unwrap();
    }
    track
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        video in chunks(), audio in chunks(), later in 0u64..400_000, cuts in prop::collection::vec(0usize..=1_000, 2)
    ) {
        let (pictures, of_pictures) = made(&video, 900_000, 2);
        let (sounds, of_sounds) = made(&audio, 480_000 + later, 1);
        let tracks = vec![
            track(vec![read(90_000, 160), read(90_000, 320)], &pictures),
            track(vec![read(48_000, 0)], &sounds),
        ];
        let movie = Movie::new(tracks.clone()).unwrap();
        let segments = [pictures, sounds];
        let file = fetch(&movie, &segments, 0..u64::MAX);
        prop_assert_eq!(file.len() as u64, movie.length());
        prop_assert!(file.starts_with(movie.head()));
        prop_assert_eq!(told(&file, 0), of_pictures);
        prop_assert_eq!(told(&file, 1), of_sounds);
        prop_assert_eq!(&Movie::new(tracks).unwrap(), &movie, "always the same");

        // The track that is shown later waits, to the tick: the file counts in ticks of both.
        let moov = moov(&file);
        prop_assert_eq!(moov.mvhd.timescale, 720_000);
        let begins = [&moov.trak[0], &moov.trak[1]].map(waits);
        let shown = |told: &[Told], start: u64, factor: i64| {
            (told.iter().map(|told| told.dts + told.offset).min().unwrap() + i64::try_from(start).unwrap()) * factor
        };
        let expected = [
            shown(&told(&file, 0), 900_000 + video[0][0].0, 8),
            shown(&told(&file, 1), 480_000 + later + audio[0][0].0, 15),
        ];
        let first = expected[0].min(expected[1]);
        prop_assert_eq!(begins.map(i128::from), expected.map(|at| i128::from(at - first)));

        // Any range is that slice of the whole.
        let [one, other] = [cuts[0], cuts[1]].map(|at| at * file.len() / 1_000);
        let range = one.min(other)..one.max(other);
        let part = fetch(&movie, &segments, range.start as u64..range.end as u64);
        prop_assert_eq!(&part[..], &file[range]);
    }

    #[test]
    fn torn_segments_are_told(list in prop::collection::vec(sample(), 1..20), at in 0usize..1_000, flip: u8) {
        let mut whole = Vec::new();
        chunk(&mut whole, 900_000, &list);
        let cut = at * whole.len() / 1_000;
        let torn = scan(&Bytes::from(whole[..cut].to_vec()));
        // Where the cut is between the boxes, and there was nothing in the second, nothing is missing.
        prop_assert!(torn.is_err() || list.iter().all(|sample| sample.size == 0) || cut == 0);
        whole[cut] ^= flip;
        let _ = scan(&whole.into());
        let mut init = init(90_000, 160).to_vec();
        let cut = at * init.len() / 1_000;
        prop_assert!(Init::read(&init[..cut].to_vec().into()).is_err());
        init[cut] ^= flip;
        let _ = Init::read(&init.into());
    }
}

fn edits(trak: &Trak) -> Vec<ElstEntry> {
    let elst = trak.edts.as_ref().and_then(|Edts { elst }| elst.as_ref());
    elst.map(|elst| elst.entries.clone()).unwrap_or_default()
}

/// How long nothing of a track is shown at first.
fn waits(trak: &Trak) -> i64 {
    let first = edits(trak).first().filter(|edit| edit.media_time.is_none()).cloned();
    first.map_or(0, |edit| edit.segment_duration.try_into().unwrap())
}

/// Samples of a size and a duration, the first a sync sample.
fn steady(count: usize, size: u32, duration: u32) -> Vec<Sample> {
    (0..count).map(|index| Sample { size, duration, offset: 0, sync: index == 0 }).collect()
}

fn one(start: u64, samples: &[Sample]) -> Bytes {
    let mut data = Vec::new();
    chunk(&mut data, start, samples);
    data.into()
}

#[test]
fn picture_and_sound_take_turns_of_about_a_second() {
    let pictures: Vec<_> = (0..2u64).map(|n| one(n * 360_000, &steady(100, 10, 3_600))).collect();
    let sounds: Vec<_> = (0..2u64).map(|n| one(n * 192_000, &steady(187, 3, 1_024))).collect();
    let tracks = vec![track(vec![read(90_000, 160)], &pictures), track(vec![read(48_000, 0)], &sounds)];
    let movie = Movie::new(tracks).unwrap();
    let parts: Vec<_> = movie.parts(0..movie.length()).skip(1).collect();
    let order: Vec<_> =
        parts.iter().map(|part| if let Part::Media { track, .. } = part { *track } else { 9 }).collect();
    assert_eq!(order, [0, 1].repeat(8), "{parts:?}");
    let file = fetch(&movie, &[pictures, sounds], 0..u64::MAX);
    let moov = moov(&file);
    assert_eq!(moov.trak[0].tkhd.width.integer(), 160);
    let of = |trak: &Trak| (trak.mdia.mdhd.duration, trak.tkhd.duration, trak.edts.is_some());
    assert_eq!(of(&moov.trak[0]), (720_000, 5_760_000, false));
    assert_eq!(of(&moov.trak[1]), (383_488, 5_752_320, false));
    assert_eq!(moov.mvhd.duration, 5_760_000);
    // Everything of it is where the head says, and behind the head.
    let mdat = movie.head().len();
    assert_eq!(&movie.head()[mdat - 4..], b"mdat");
    assert_eq!(&movie.head()[mdat - 8..mdat - 4], u32::try_from(file.len() - mdat + 8).unwrap().to_be_bytes());
}

#[test]
fn pictures_that_are_reordered_begin_with_the_first_that_is_shown() {
    let reordered = [2, 4, 1, 1].map(|frames| Sample { size: 5, duration: 3_000, offset: 3_000 * frames, sync: false });
    let segment = one(90_000, &reordered);
    let movie = Movie::new(vec![track(vec![read(90_000, 160)], std::slice::from_ref(&segment))]).unwrap();
    let file = fetch(&movie, &[vec![segment]], 0..u64::MAX);
    let edit = ElstEntry { segment_duration: 12_000, media_time: Some(6_000), media_rate: 1.into() };
    assert_eq!(edits(&moov(&file).trak[0]), [edit]);
}

#[test]
fn a_hole_is_shown_as_what_was_before_it() {
    let (first, second) = (one(900_000, &steady(2, 5, 3_000)), one(936_000, &steady(2, 5, 3_000)));
    let times = |segments: &[Bytes]| -> Vec<i64> {
        let movie = Movie::new(vec![track(vec![read(90_000, 160)], segments)]).unwrap();
        let file = fetch(&movie, &[segments.to_vec()], 0..u64::MAX);
        told(&file, 0).iter().map(|told| told.dts).collect()
    };
    assert_eq!(times(&[first.clone(), second]), [0, 3_000, 36_000, 39_000]);
    // What begins a little too early, as clocks are, is put right; the next is in step again.
    let (early, next) = (one(901_000, &steady(2, 5, 3_000)), one(909_000, &steady(1, 5, 3_000)));
    assert_eq!(times(&[first.clone(), early, next]), [0, 3_000, 3_001, 6_001, 9_000]);
    let mut track = track(vec![read(90_000, 160)], &[first]);
    let again = scan(&one(800_000, &steady(1, 5, 3_000))).unwrap();
    let placed = |shift| Placed { init: 0, shift };
    let overlap = track.clone().push(placed(MediaTime::ZERO), &again).unwrap_err();
    assert_eq!(overlap, Unfit::Overlap(MediaTime::from_ticks(106_000, 90_000)));
    track.push(placed(MediaTime::from_ticks(106_000, 90_000)), &again).unwrap();
    let much = scan(&one(1 << 40, &steady(1, 5, 3_000))).unwrap();
    assert!(matches!(track.push(placed(MediaTime::ZERO), &much), Err(Unfit::Hole(_))));
}

#[test]
fn a_segment_begins_when_its_first_picture_is_shown() {
    let samples = vec![Sample { offset: 6_000, ..steady(1, 5, 3_000)[0] }; 2];
    let segment = scan(&one(900_000, &samples)).unwrap();
    let begins = Track::new(vec![read(90_000, 160)]).unwrap().begins(0, &segment);
    assert_eq!(begins, Some(MediaTime::from_ticks(906_000, 90_000)));
}

#[test]
fn sessions_of_other_rates_share_a_clock() {
    let segments = [one(48_000, &steady(10, 5, 1_024)), one(60_000, &steady(10, 5, 1_024))];
    let track = track(vec![read(48_000, 0), read(44_100, 0)], &segments);
    assert_eq!(track.timescale(), 7_056_000);
    let movie = Movie::new(vec![track]).unwrap();
    let file = fetch(&movie, &[segments.to_vec()], 0..u64::MAX);
    let told = told(&file, 0);
    assert_eq!((told[1].dts, told[10].dts), (1_024 * 147, (60_000 * 160) - (48_000 * 147)));
    assert!(told.iter().all(|told| told.description == 1), "the same entry is written once");
}

#[test]
fn a_chunk_without_its_samples_is_torn() {
    let whole = one(900_000, &steady(3, 5, 3_000));
    let mdat = whole.windows(4).position(|four| four == b"mdat").unwrap() - 4;
    assert_eq!(scan(&whole.slice(..mdat)), Err(Unfit::Unreadable("samples are cut off".to_owned())));
}

#[test]
fn what_no_player_follows_is_refused() {
    let with = |other: Init| Track::new(vec![read(90_000, 160), other]).unwrap_err();
    assert_eq!(with(read(48_000, 0)), Unfit::Changes("avc1".to_owned(), "mp4a".to_owned()));
    assert_eq!(with(read(4_294_967_291, 160)), Unfit::Timescales);
    assert_eq!(Track::new(Vec::new()).unwrap_err(), Unfit::Empty);
    assert_eq!(Movie::new(Vec::new()).unwrap_err(), Unfit::Empty);
    assert_eq!(Movie::new(vec![Track::new(vec![read(48_000, 0)]).unwrap()]).unwrap_err(), Unfit::Empty);
    let ts = Bytes::from([&[0x47][..], &[0; 187]].concat());
    assert_eq!((scan(&ts).unwrap_err(), Init::read(&ts).unwrap_err()), (Unfit::MpegTs, Unfit::MpegTs));
}

#[test]
fn more_than_four_gibibytes_are_told_with_64_bits() {
    const GIB: u32 = 1 << 30;
    let movie = |segments: u32| {
        let mut track = Track::new(vec![read(90_000, 160)]).unwrap();
        for number in 0..segments {
            let run = Run { start: u64::from(number) * 90_000, at: 100, samples: steady(1, GIB, 90_000) };
            let segment = Scan { runs: vec![run], bytes: GIB as usize + 100 };
            track.push(Placed { init: 0, shift: MediaTime::ZERO }, &segment).unwrap();
        }
        Movie::new(vec![track]).unwrap()
    };
    let small = movie(3);
    assert!(moov(small.head()).trak[0].mdia.minf.stbl.stco.is_some());
    let great = movie(6);
    let head = u64::try_from(great.head().len()).unwrap();
    assert_eq!(great.length(), head + 6 * u64::from(GIB));
    let places = moov(great.head()).trak[0].mdia.minf.stbl.co64.clone().unwrap().entries;
    assert_eq!(places, (0..6).map(|n| head + n * u64::from(GIB)).collect::<Vec<_>>());
    let size = &great.head()[great.head().len() - 16..];
    assert_eq!(size, [&[0, 0, 0, 1][..], b"mdat", &(6 * u64::from(GIB) + 16).to_be_bytes()].concat());
    let across: Vec<_> = great.parts(head + u64::from(GIB) - 1..head + u64::from(GIB) + 2).collect();
    let media = |segment, range| Part::Media { track: 0, segment, range };
    assert_eq!(across, [media(0, GIB as usize + 99..GIB as usize + 100), media(1, 100..102)]);
}

#[test]
fn hours_of_pictures_take_a_few_bytes_each() {
    let mut track = Track::new(vec![read(90_000, 160)]).unwrap();
    let samples: Vec<_> = (0..240).map(|index| Sample { size: 5_000 + index, ..steady(1, 1, 1_500)[0] }).collect();
    for number in 0..900 {
        let run = Run { start: number * 360_000, at: 2_000, samples: samples.clone() };
        let segment = Scan { runs: vec![run], bytes: 5_000_000 };
        track.push(Placed { init: 0, shift: MediaTime::ZERO }, &segment).unwrap();
    }
    let movie = Movie::new(vec![track]).unwrap();
    let each = movie.memory_bytes() / (900 * 240);
    assert!(each <= 5, "{each} bytes a picture of an hour at 60 a second");
}
