//! Writes what stands before the samples: `ftyp`, `moov`, and the header of `mdat` (ISO/IEC 14496-12).

use mp4_atom::{
    BufMut as _, Co64, Ctts, Dinf, Dref, Edts, Elst, ElstEntry, Encode, FourCC, Ftyp, Hdlr, Header, Mdhd, Mvhd, Smhd,
    Stco, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts, Tkhd, Url, Vmhd,
};

use super::Kind;
use super::track::{Track, common};

/// Where the chunks are.
pub(super) struct Placement {
    /// The distance of each track's chunks from the first byte behind the head.
    pub(super) offsets: Vec<Vec<u64>>,
    /// Of all samples, in bytes.
    pub(super) length: u64,
}

/// The head of a file of these tracks. Written twice, because it holds where the chunks are, and they are behind it.
pub(super) fn write(tracks: &[Track], placement: Placement) -> Vec<u8> {
    let draft = Writer { tracks, placement: &placement, begins: 0, wide: true }.write();
    let longest = u64::try_from(draft.len()).unwrap_or(u64::MAX);
    let wide = longest.saturating_add(placement.length) > u64::from(u32::MAX);
    let narrow = |begins| Writer { tracks, placement: &placement, begins, wide }.write();
    let begins = if wide { longest } else { u64::try_from(narrow(0).len()).unwrap_or(u64::MAX) };
    narrow(begins)
}

/// Ticks a second of the whole file: such that each track's are whole ones, where that can be.
pub(super) fn movie_scale(tracks: &[Track]) -> u32 {
    let scales = || tracks.iter().map(Track::timescale);
    scales().try_fold(1, common).or_else(|| scales().max()).unwrap_or(1)
}

/// A time of a track in ticks of the file, rounded to the nearest where it is between two.
pub(super) fn movie_time(ticks: i64, timescale: u32, movie: u32) -> i64 {
    let (scaled, timescale) = (i128::from(ticks) * i128::from(movie), i128::from(timescale.max(1)));
    let rounded = (scaled * 2 + timescale).div_euclid(timescale * 2);
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

struct Writer<'a> {
    tracks: &'a [Track],
    placement: &'a Placement,
    /// Where the first chunk is.
    begins: u64,
    /// With 64 bits for where chunks are.
    wide: bool,
}

/// How a track lies in the file, in ticks of the file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// How long nothing of it is shown at first.
    waits: u64,
    lasts: u64,
}

impl Writer<'_> {
    fn write(&self) -> Vec<u8> {
        let samples: usize = self.tracks.iter().map(|track| track.tables.sizes.len()).sum();
        let mut head = Vec::with_capacity(samples.saturating_mul(8).saturating_add(4096));
        encode(&ftyp(self.tracks), &mut head);
        nest(&mut head, b"moov", |moov| self.moov(moov));
        let payload = usize::try_from(self.placement.length).ok();
        encode(&Header { kind: FourCC::new(b"mdat"), size: payload }, &mut head);
        head
    }

    fn moov(&self, moov: &mut Vec<u8>) {
        let timescale = movie_scale(self.tracks);
        let extents = extents(self.tracks, timescale);
        let lasts = |extent: &Extent| extent.waits.saturating_add(extent.lasts);
        let next_track_id = u32::try_from(self.tracks.len()).unwrap_or(u32::MAX).saturating_add(1);
        let duration = extents.iter().map(lasts).max().unwrap_or(0);
        let mvhd = Mvhd { timescale, duration, rate: 1.into(), volume: 1.into(), next_track_id, ..Mvhd::default() };
        encode(&mvhd, moov);
        let offsets = self.placement.offsets.iter();
        for (track_id, ((track, extent), offsets)) in (1..).zip(self.tracks.iter().zip(&extents).zip(offsets)) {
            let tkhd = Tkhd { track_id, duration: lasts(extent), ..shape(track) };
            nest(moov, b"trak", |trak| {
                encode(&tkhd, trak);
                edits(track, *extent).iter().for_each(|edts| encode(edts, trak));
                nest(trak, b"mdia", |mdia| self.media(track, offsets, mdia));
            });
        }
    }

    fn media(&self, track: &Track, offsets: &[u64], mdia: &mut Vec<u8>) {
        let duration = span(track.tables.start, track.tables.end);
        let language = "und".to_owned();
        encode(&Mdhd { timescale: track.timescale(), duration, language, ..Mdhd::default() }, mdia);
        let handler = if track.kind() == Kind::Video { b"vide" } else { b"soun" };
        encode(&Hdlr { handler: FourCC::new(handler), name: "Headwater".to_owned() }, mdia);
        nest(mdia, b"minf", |minf| {
            match track.kind() {
                Kind::Video => encode(&Vmhd::default(), minf),
                Kind::Audio => encode(&Smhd::default(), minf),
            }
            encode(&Dinf { dref: Dref { entries: vec![Url::default().into()] } }, minf);
            nest(minf, b"stbl", |stbl| self.tables(track, offsets, stbl));
        });
    }

    fn tables(&self, track: &Track, offsets: &[u64], stbl: &mut Vec<u8>) {
        let tables = &track.tables;
        descriptions(track, stbl);
        encode(&Stts { entries: tables.durations.clone() }, stbl);
        if tables.offsets.iter().any(|run| run.sample_offset != 0) {
            encode(&Ctts { entries: tables.offsets.clone() }, stbl);
        }
        // Without it all samples are such ones.
        if tables.sync.len() < tables.sizes.len() {
            encode(&Stss { entries: tables.sync.clone() }, stbl);
        }
        encode(&Stsc { entries: chunks(track) }, stbl);
        encode(&Stsz { samples: StszSamples::Different { sizes: tables.sizes.clone() } }, stbl);
        let places = offsets.iter().map(|offset| offset.saturating_add(self.begins));
        if self.wide {
            encode(&Co64 { entries: places.collect() }, stbl);
        } else {
            let entries = places.map(|place| u32::try_from(place).unwrap_or(u32::MAX)).collect();
            encode(&Stco { entries }, stbl);
        }
    }
}

/// `stsd`, with the sample entries as they stood in the initialisation segments.
fn descriptions(track: &Track, stbl: &mut Vec<u8>) {
    nest(stbl, b"stsd", |stsd| {
        stsd.extend_from_slice(&[0; 4]);
        let count = u32::try_from(track.entries().count()).unwrap_or(u32::MAX);
        stsd.extend_from_slice(&count.to_be_bytes());
        track.entries().for_each(|init| stsd.extend_from_slice(&init.entry));
    });
}

/// How many samples of which description the chunks have, where that changes.
fn chunks(track: &Track) -> Vec<StscEntry> {
    let mut entries: Vec<StscEntry> = Vec::new();
    for (first_chunk, chunk) in (1..).zip(&track.chunks) {
        let like = |entry: &&StscEntry| {
            (entry.samples_per_chunk, entry.sample_description_index) == (chunk.samples, chunk.description)
        };
        if entries.last().filter(like).is_none() {
            entries.push(StscEntry {
                first_chunk,
                samples_per_chunk: chunk.samples,
                sample_description_index: chunk.description,
            });
        }
    }
    entries
}

/// How the tracks lie: what is shown first begins the file.
fn extents(tracks: &[Track], movie: u32) -> Vec<Extent> {
    let begins = |track: &Track| movie_time(track.tables.shown.start, track.timescale(), movie);
    let first = tracks.iter().map(begins).min().unwrap_or(0);
    let extent = |track: &Track| Extent {
        waits: span(first, begins(track)),
        lasts: span(begins(track), movie_time(track.tables.shown.end, track.timescale(), movie)),
    };
    tracks.iter().map(extent).collect()
}

/// What is shown of a track, where that is not all of it from the start: nothing until it begins, and then from its first
/// picture, which is decoded earlier than shown where pictures are reordered.
fn edits(track: &Track, extent: Extent) -> Option<Edts> {
    let ahead = span(track.tables.start, track.tables.shown.start);
    if extent.waits == 0 && ahead == 0 {
        return None;
    }
    let edit = |media_time, segment_duration| ElstEntry { media_time, segment_duration, media_rate: 1.into() };
    let wait = (extent.waits > 0).then(|| edit(None, extent.waits));
    let entries = wait.into_iter().chain([edit(Some(ahead), extent.lasts)]).collect();
    Some(Edts { elst: Some(Elst { entries }) })
}

/// The fields of `tkhd` that follow from what a track shows: as large as its largest pictures.
fn shape(track: &Track) -> Tkhd {
    let size = track.entries().map(|init| init.size);
    let (width, height) = size.fold((0, 0), |all, one| (u16::max(all.0, one.0), u16::max(all.1, one.1)));
    let volume = u8::from(track.kind() == Kind::Audio).into();
    let (width, height) = (width.into(), height.into());
    Tkhd { enabled: true, in_movie: true, volume, width, height, ..Tkhd::default() }
}

/// `iso4` has `ctts` with signs; of codecs, those that have a brand of their own.
fn ftyp(tracks: &[Track]) -> Ftyp {
    let codecs = || tracks.iter().filter_map(|track| track.entries().next().map(|init| init.codec()));
    let of_codec = [b"avc1", b"av01"].into_iter().filter(|brand| codecs().any(|codec| codec == **brand));
    let brands = [b"isom", b"iso4"].into_iter().chain(of_codec).chain([b"mp41", b"mp42"]);
    Ftyp { major_brand: FourCC::new(b"isom"), minor_version: 512, compatible_brands: brands.map(FourCC::new).collect() }
}

/// A box of what `within` writes.
fn nest(to: &mut Vec<u8>, kind: &[u8; 4], within: impl FnOnce(&mut Vec<u8>)) {
    let written = to.encode_atom(kind, |to| {
        within(to);
        Ok(())
    });
    assert!(written.is_ok(), "a head is no longer than a box may be: {written:?}");
}

/// Encodes into memory, which fails only for values that no box can hold.
fn encode(atom: &impl Encode, to: &mut Vec<u8>) {
    let written = atom.encode(to);
    assert!(written.is_ok(), "a box's values fit its fields: {written:?}");
}

/// From the one to the other; none where that is behind.
fn span(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}
