//! For tests: reads our own fragments back by `mp4-atom`'s decoders.

use bytes::Bytes;
use mp4_atom::{Decode, Header, Moof};

use super::fragment;
use super::sample::Sample;

/// A sample as a player reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) start: u64,
    pub(crate) duration: u32,
    pub(crate) offset: i64,
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

impl Read {
    pub(crate) fn of(sample: &Sample) -> Self {
        Self {
            start: sample.start.try_into().unwrap(),
            duration: sample.duration,
            offset: sample.offset.into(),
            key: sample.key,
            data: sample.data.clone(),
        }
    }
}

/// Every chunk of a part or segment: its sequence number and samples.
pub(crate) fn chunks(bytes: &Bytes) -> Vec<(u32, Vec<Read>)> {
    let mut rest = bytes.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let whole = rest.clone();
        let mut cursor = std::io::Cursor::new(&whole);
        let moof = Moof::decode(&mut cursor).unwrap();
        let mdat = Header::decode(&mut cursor).unwrap();
        let data_start = usize::try_from(cursor.position()).unwrap();
        let read = samples(&moof, &whole);
        let end = data_start + mdat.size.unwrap();
        assert_eq!(read.iter().map(|s| s.data.len()).sum::<usize>(), mdat.size.unwrap(), "mdat holds the samples");
        rest = whole.slice(end..);
        chunks.push((moof.mfhd.sequence_number, read));
    }
    chunks
}

fn samples(moof: &Moof, chunk: &Bytes) -> Vec<Read> {
    let traf = &moof.traf[0];
    assert!(traf.tfhd.default_base_is_moof);
    let run = &traf.trun[0];
    let mut start = traf.tfdt.as_ref().unwrap().base_media_decode_time;
    let mut offset = usize::try_from(run.data_offset.unwrap()).unwrap();
    let read = |entry: mp4_atom::TrunEntry| {
        let size = usize::try_from(entry.size.unwrap()).unwrap();
        let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
        assert!(flags == fragment::SYNC || flags == fragment::NON_SYNC, "flags {flags:#x}");
        let duration = entry.duration.or(traf.tfhd.default_sample_duration).unwrap();
        let read = Read {
            start,
            duration,
            offset: entry.cts.unwrap_or(0),
            key: flags == fragment::SYNC,
            data: chunk.slice(offset..offset + size),
        };
        start += u64::from(duration);
        offset += size;
        read
    };
    run.samples.iter().map(read).collect()
}
