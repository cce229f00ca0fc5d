//! NAL units, the form that H.264 and HEVC share: apart, and joined again with 4-byte lengths.

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::Bits;
use super::picture::{PictureError, UNITS_MAX};
use crate::media::VideoFormat;

/// The NAL units of an access unit, and whether they have 4-byte lengths. Some encoders put Annex B into FLV.
fn split(data: &Bytes, length_bytes: usize) -> Result<(Vec<Bytes>, bool), PictureError> {
    let nals = Nals { rest: data.clone(), length_bytes };
    let (nals, lengths_are_4) = match nals.take(UNITS_MAX + 1).collect::<Result<Vec<_>, _>>() {
        Ok(nals) => (nals, length_bytes == 4),
        Err(error) => (annex_b(data).ok_or(error)?, false),
    };
    if nals.len() > UNITS_MAX { Err(PictureError::TooManyUnits) } else { Ok((nals, lengths_are_4)) }
}

/// Those that are kept, with 4-byte lengths: without a copy where that is what came.
pub(super) fn joined(data: &Bytes, nals: &[Bytes], lengths_are_4: bool, is_kept: fn(&[u8]) -> bool) -> Bytes {
    if lengths_are_4 && nals.iter().all(|nal| is_kept(nal)) {
        return data.clone();
    }
    let kept = || nals.iter().filter(|nal| is_kept(nal));
    let mut joined = BytesMut::with_capacity(kept().map(|n| n.len() + 4).sum());
    for nal in kept() {
        joined.put_u32(u32::try_from(nal.len()).unwrap_or(0));
        joined.put_slice(nal);
    }
    joined.freeze()
}

/// Takes a NAL unit with its length from the front. None where there is less than the length says.
pub(super) fn split_nal(rest: &mut Bytes, length_bytes: usize) -> Option<Bytes> {
    let (prefix, _) = rest.split_at_checked(length_bytes)?;
    let length = prefix.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    let end = length_bytes.checked_add(length).filter(|end| *end <= rest.len())?;
    Some(rest.split_to(end).slice(length_bytes..))
}

/// Reads the cropping of a sequence parameter set: how many columns and rows of luma it takes away, each from two sides of at
/// most `side_max` (H.264, 7.4.2.1.1; H.265, 7.4.3.2.1).
pub(super) fn cropped(bits: &mut Bits<'_>, chroma_format: u8, side_max: u32) -> Option<(u32, u32)> {
    if !bits.bit()? {
        return Some((0, 0));
    }
    let (unit_x, unit_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let mut side = || bits.ue_up_to(side_max);
    let (left, right, top, bottom) = (side()?, side()?, side()?, side()?);
    Some(((left + right) * unit_x, (top + bottom) * unit_y))
}

/// The NAL units of an access unit; empty ones are left out.
struct Nals {
    rest: Bytes,
    length_bytes: usize,
}

impl Iterator for Nals {
    type Item = Result<Bytes, PictureError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let Some(nal) = split_nal(&mut self.rest, self.length_bytes) else {
                self.rest = Bytes::new();
                return Some(Err(PictureError::Truncated));
            };
            if !nal.is_empty() {
                return Some(Ok(nal));
            }
        }
        None
    }
}

/// The NAL units between start codes (H.264 and H.265, annex B), as many as are allowed and one more. None where the data do
/// not begin with a start code.
pub(super) fn annex_b(data: &Bytes) -> Option<Vec<Bytes>> {
    const START_CODE: [u8; 3] = [0, 0, 1];
    if !data.starts_with(&START_CODE) && !data.starts_with(&[0, 0, 0, 1]) {
        return None;
    }
    let starts = data.windows(3).enumerate().filter(|(_, window)| *window == START_CODE).map(|(at, _)| at);
    let starts: Vec<_> = starts.take(UNITS_MAX + 1).collect();
    let ends = starts.iter().copied().skip(1).chain([data.len()]);
    let nal = |(start, end): (&usize, usize)| {
        let nal = data.get(start + 3..end).unwrap_or_default();
        let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
        data.slice_ref(nal.get(..nal.len() - zeros).unwrap_or_default())
    };
    Some(starts.iter().zip(ends).map(nal).filter(|nal| !nal.is_empty()).collect())
}

/// Parameter sets of one kind, by their identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets(Vec<(u32, Bytes)>);

impl Sets {
    /// Adds a set, or replaces the one of its identity. False where it is too long, or there are `max` others.
    pub(super) fn merge(&mut self, id: u32, nal: &[u8], max: usize) -> bool {
        if nal.len() > SET_BYTES_MAX {
            return false;
        }
        // A copy, since a slice would keep the whole message in memory.
        let copy = Bytes::copy_from_slice(nal);
        if let Some((_, set)) = self.0.iter_mut().find(|(known, _)| *known == id) {
            *set = copy;
            return true;
        }
        let room = self.0.len() < max;
        if room {
            self.0.push((id, copy));
        }
        room
    }

    /// All of these are among those known already. A record that is repeated does not take back what came within the
    /// stream: else the format would change with every repetition.
    pub(super) fn are_within(&self, known: &Self) -> bool {
        self.0.iter().all(|set| known.0.contains(set))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().map(|(_, nal)| nal)
    }

    /// All with 2-byte lengths, as configuration records have them.
    pub(super) fn put(&self, record: &mut BytesMut) {
        for nal in self.iter() {
            record.put_u16(u16::try_from(nal.len()).unwrap_or(0));
            record.put_slice(nal);
        }
    }
}

/// A codec's parameter sets of all kinds.
pub(super) trait ParameterSets: Clone + Default + PartialEq {
    /// Adds a set, or replaces the one of its identity. False where it cannot be read, or there are too many.
    fn merge(&mut self, nal: &[u8]) -> bool;

    /// [`Sets::are_within`], of each kind.
    fn are_within(&self, known: &Self) -> bool;

    /// The format that these sets make; None without a set of each kind.
    fn format(&self) -> Option<VideoFormat>;
}

/// What a publisher last said of its configuration.
#[derive(Debug)]
pub(super) struct Configured<S> {
    sets: S,
    length_bytes: usize,
    format: Option<VideoFormat>,
    /// Sets within the stream changed the format, and no picture has told so yet.
    untold: bool,
}

impl<S: ParameterSets> Default for Configured<S> {
    fn default() -> Self {
        Self { sets: S::default(), length_bytes: 4, format: None, untold: false }
    }
}

impl<S: ParameterSets> Configured<S> {
    pub(super) fn format(&self) -> Option<&VideoFormat> {
        self.format.as_ref()
    }

    /// Sets within the stream changed the format, and no picture has told so yet.
    pub(super) fn is_untold(&self) -> bool {
        self.untold
    }

    /// The same, once.
    pub(super) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// Takes what a configuration record holds. True where it changes the format.
    pub(super) fn configure(&mut self, sets: S, length_bytes: usize) -> bool {
        self.length_bytes = length_bytes;
        if sets.are_within(&self.sets) {
            return false;
        }
        self.sets = sets;
        self.adopt()
    }

    /// The NAL units of an access unit, as [`split`] gives them; the parameter sets among them are taken.
    pub(super) fn split(
        &mut self,
        data: &Bytes,
        is_set: impl Fn(&[u8]) -> bool,
    ) -> Result<(Vec<Bytes>, bool), PictureError> {
        let split = split(data, self.length_bytes)?;
        self.untold |= self.merge(split.0.iter().filter(|nal| is_set(nal)));
        if self.format.is_none() { Err(PictureError::NoConfig) } else { Ok(split) }
    }

    fn merge<'a>(&mut self, sets: impl Iterator<Item = &'a Bytes>) -> bool {
        let mut merged = None;
        for nal in sets {
            merged.get_or_insert_with(|| self.sets.clone()).merge(nal);
        }
        let Some(merged) = merged.filter(|m| *m != self.sets) else { return false };
        self.sets = merged;
        self.adopt()
    }

    fn adopt(&mut self) -> bool {
        let Some(format) = self.sets.format() else { return false };
        let changed = self.format.as_ref() != Some(&format);
        self.format = Some(format);
        changed
    }
}

/// Bytes of one parameter set; with all scaling lists at their longest there are some 1500. More would only make each
/// copy of the format large.
pub(super) const SET_BYTES_MAX: usize = 4096;
