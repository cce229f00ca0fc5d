//! Writes what parts are made of: CMAF chunks, a `moof` and its `mdat` each (ISO/IEC 23000-19, 7.3.2.3).

use bytes::Bytes;
use mp4_atom::{Encode, FourCC, Header, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use super::sample::Sample;

/// The one track of every rendition.
pub(super) const TRACK_ID: u32 = 1;

/// `sample_depends_on` = 2: an IDR, or any audio frame (ISO/IEC 14496-12, 8.8.3.1).
pub(super) const SYNC: u32 = 0x0200_0000;
/// `sample_depends_on` = 1 and `sample_is_non_sync_sample`.
pub(super) const NON_SYNC: u32 = 0x0101_0000;

/// Writes `samples`, which follow one another without a hole, as the chunk with this sequence number.
///
/// # Panics
/// Where a chunk would be larger than a 32-bit box, which the bound on an access unit's size excludes.
#[must_use]
pub fn write(sequence: u32, samples: &[Sample]) -> Bytes {
    let payload_bytes: usize = samples.iter().map(|s| s.data.len()).sum();
    let mut chunk = Vec::with_capacity(payload_bytes + 160 + samples.len() * 16);
    append(&mut chunk, sequence, samples);
    chunk.into()
}

/// The same, behind what `to` holds.
pub(super) fn append(to: &mut Vec<u8>, sequence: u32, samples: &[Sample]) {
    append_head(to, sequence, samples);
    for sample in samples {
        to.extend_from_slice(&sample.data);
    }
}

/// Everything before the samples' bytes. Written twice, because a `moof` holds its own length, as the data's offset.
fn append_head(to: &mut Vec<u8>, sequence: u32, samples: &[Sample]) {
    let start = to.len();
    let mut moof = moof(sequence, samples);
    encode(&moof, to);
    let offset = i32::try_from(to.len() - start + MDAT_HEADER_BYTES).ok();
    assert!(offset.is_some(), "a chunk's index fits its offset field");
    for run in moof.traf.iter_mut().flat_map(|t| &mut t.trun) {
        run.data_offset = offset;
    }
    to.truncate(start);
    encode(&moof, to);
    let payload_bytes = samples.iter().map(|s| s.data.len()).sum();
    encode(&Header { kind: FourCC::new(b"mdat"), size: Some(payload_bytes) }, to);
}

const MDAT_HEADER_BYTES: usize = 8;

/// Encodes into memory, which fails only for values that no box can hold.
pub(super) fn encode(atom: &impl Encode, to: &mut Vec<u8>) {
    let written = atom.encode(to);
    assert!(written.is_ok(), "a box's values fit its fields: {written:?}");
}

fn moof(sequence: u32, samples: &[Sample]) -> Moof {
    let start = samples.first().map_or(0, |s| s.start);
    let duration = common_duration(samples);
    let tfhd = Tfhd {
        track_id: TRACK_ID,
        default_sample_duration: duration,
        default_sample_flags: Some(default_flags(samples)),
        default_base_is_moof: true,
        ..Tfhd::default()
    };
    let tfdt = Tfdt { base_media_decode_time: u64::try_from(start).unwrap_or(0) };
    let trun = Trun { data_offset: Some(0), samples: entries(samples, duration.is_some()).into() };
    let traf = Traf { tfhd, tfdt: Some(tfdt), trun: vec![trun], ..Traf::default() };
    Moof { mfhd: Mfhd { sequence_number: sequence }, traf: vec![traf] }
}

/// The duration that all samples share.
fn common_duration(samples: &[Sample]) -> Option<u32> {
    let first = samples.first()?.duration;
    samples.iter().all(|s| s.duration == first).then_some(first)
}

/// What most samples are: all sync in audio, none but the first in video.
fn default_flags(samples: &[Sample]) -> u32 {
    if samples.iter().skip(1).all(|s| s.key) && samples.first().is_some_and(|s| s.key) { SYNC } else { NON_SYNC }
}

fn flags(sample: &Sample) -> u32 {
    if sample.key { SYNC } else { NON_SYNC }
}

fn entries(samples: &[Sample], same_duration: bool) -> Vec<TrunEntry> {
    let default = default_flags(samples);
    let later_differ = samples.iter().skip(1).any(|s| flags(s) != default);
    let reordered = samples.iter().any(|s| s.offset != 0);
    let entry = |(index, sample): (usize, &Sample)| TrunEntry {
        duration: (!same_duration).then_some(sample.duration),
        size: u32::try_from(sample.data.len()).ok(),
        // Either all, or the first alone: between them a `trun` has no middle.
        flags: (later_differ || (index == 0 && flags(sample) != default)).then(|| flags(sample)),
        cts: reordered.then(|| i64::from(sample.offset)),
    };
    samples.iter().enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::readback::{self, Read};
    use proptest::prelude::*;

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let one = (1u32..9_000, 0i32..20_000, any::<bool>(), prop::collection::vec(any::<u8>(), 0..50));
        prop::collection::vec(one, 1..40).prop_map(|list| {
            let mut start = 900_000;
            let sample = |(duration, offset, key, data): (u32, i32, bool, Vec<u8>)| {
                let sample = Sample { start, duration, offset, key, data: data.into() };
                start = sample.end();
                sample
            };
            list.into_iter().map(sample).collect()
        })
    }

    #[test]
    fn row_10_times_beyond_32_bits_are_written_whole() {
        let sixty_days = 60 * 86_400 * 90_000;
        let sample =
            Sample { start: sixty_days, duration: 3_000, offset: 0, key: true, data: bytes::Bytes::from_static(b"x") };
        let chunk = write(7, std::slice::from_ref(&sample));
        assert_eq!(readback::chunks(&chunk), vec![(7, vec![Read::of(&sample)])]);
        // ISO/IEC 14496-12, 8.8.12: version 1 has 64 bits.
        let at = chunk.windows(4).position(|four| four == b"tfdt").unwrap();
        assert_eq!((chunk[at + 4], &chunk[at + 8..at + 16]), (1, &sixty_days.to_be_bytes()[..]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(samples in samples(), sequence in 1u32..) {
            let chunk = write(sequence, &samples);
            let expected: Vec<Read> = samples.iter().map(Read::of).collect();
            prop_assert_eq!(readback::chunks(&chunk), vec![(sequence, expected)]);
        }
    }
}
