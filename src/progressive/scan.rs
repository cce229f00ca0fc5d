//! Reads where the samples of a segment are, and what is said of them.

use std::ops::Range;

use bytes::Bytes;
use mp4_atom::{Moof, Tfhd, Traf, TrunEntry};

use super::Unfit;
use super::init::{Boxed, boxes, decode, refuse_ts};

/// What is in a segment. It is small beside the segment, and holds none of its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub(super) runs: Vec<Run>,
    /// How long the segment is.
    pub(super) bytes: usize,
}

/// Samples that stand one behind the other, in time and in the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Decode time of the first, in ticks of the session's clock.
    pub(super) start: u64,
    /// Where the first stands in the segment.
    pub(super) at: usize,
    pub(super) samples: Vec<Sample>,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// In bytes.
    pub(super) size: u32,
    /// In ticks.
    pub(super) duration: u32,
    /// Presentation time after decode time, in ticks.
    pub(super) offset: i32,
    /// Decoding may start here.
    pub(super) sync: bool,
}

/// Reads a segment, of any number of chunks (`moof` and `mdat`).
///
/// # Errors
/// [`Unfit::Unreadable`] where it is torn, or not of one track; [`Unfit::MpegTs`].
pub fn scan(segment: &Bytes) -> Result<Scan, Unfit> {
    refuse_ts(segment)?;
    let mut scan = Scan { runs: Vec::new(), bytes: segment.len() };
    for found in boxes(segment) {
        let found = found?;
        if found.kind == *b"moof" {
            scan.chunk(&found)?;
        }
    }
    Ok(scan)
}

impl Scan {
    fn chunk(&mut self, found: &Boxed) -> Result<(), Unfit> {
        let moof: Moof = decode(found)?;
        let [traf] = &moof.traf[..] else { return Err(Unfit::unreadable("a moof has not one track")) };
        if traf.tfhd.base_data_offset.is_some() {
            return Err(Unfit::unreadable("its samples are told from the start of a file"));
        }
        let start = traf.tfdt.as_ref().ok_or_else(|| Unfit::unreadable("a moof has no tfdt"))?;
        let mut next = Next { start: start.base_media_decode_time, at: found.at, data: found.at..self.bytes };
        for index in 0..traf.trun.len() {
            self.runs.extend(next.run(traf, index)?);
        }
        Ok(())
    }
}

/// Where the next run begins, if nothing else is said.
struct Next {
    start: u64,
    at: usize,
    /// Where data may be.
    data: Range<usize>,
}

impl Next {
    /// The run of this number; none where it is empty.
    fn run(&mut self, traf: &Traf, index: usize) -> Result<Option<Run>, Unfit> {
        let Some(trun) = traf.trun.get(index) else { return Ok(None) };
        if trun.samples.len() > self.data.len() {
            return Err(Unfit::unreadable("there are more samples than bytes"));
        }
        if let Some(offset) = trun.data_offset {
            let offset = usize::try_from(offset).map_err(Unfit::unreadable)?;
            self.at = self.data.start.saturating_add(offset);
        }
        let samples = trun.samples.iter().map(|entry| sample(&entry, &traf.tfhd)).collect::<Result<Vec<_>, _>>()?;
        let run = Run { start: self.start, at: self.at, samples };
        self.start = self.start.saturating_add(run.samples.iter().map(|sample| u64::from(sample.duration)).sum());
        let bytes: u64 = run.samples.iter().map(|sample| u64::from(sample.size)).sum();
        self.at = self.at.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
        if self.at > self.data.end {
            return Err(Unfit::unreadable("samples are cut off"));
        }
        Ok((!run.samples.is_empty()).then_some(run))
    }
}

/// What the entry of a `trun` says, and where it says nothing, `tfhd`.
fn sample(entry: &TrunEntry, defaults: &Tfhd) -> Result<Sample, Unfit> {
    let lacking = || Unfit::unreadable("a sample without size, duration or flags");
    Ok(Sample {
        size: entry.size.or(defaults.default_sample_size).ok_or_else(lacking)?,
        duration: entry.duration.or(defaults.default_sample_duration).ok_or_else(lacking)?,
        offset: i32::try_from(entry.cts.unwrap_or(0)).map_err(Unfit::unreadable)?,
        sync: entry.flags.or(defaults.default_sample_flags).ok_or_else(lacking)? & NON_SYNC == 0,
    })
}

/// `sample_is_non_sync_sample` (ISO/IEC 14496-12, 8.8.3.1).
const NON_SYNC: u32 = 0x0001_0000;
