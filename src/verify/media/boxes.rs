//! Fragmented MP4 (ISO/IEC 14496-12): of an initialisation segment the tracks, of a segment the times and the kinds of
//! its samples.

use std::time::Duration;

use super::cursor::Cursor;
use super::{Measured, time};

/// What an initialisation segment says of its tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    tracks: Vec<Track>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Track {
    id: u32,
    timescale: u32,
    video: bool,
    /// Of `trex`.
    defaults: Defaults,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Defaults {
    duration: u32,
    flags: u32,
}

/// The flag of a sample that needs others.
const NON_SYNC: u32 = 0x0001_0000;

/// More tracks than any segment has.
const TRACKS_MAX: usize = 32;

impl Init {
    /// Reads `ftyp` and `moov`. None where there is no track.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        let mut init = Self::default();
        let moov = find(data, *b"moov")?;
        for (_, trak) in Boxes(moov).filter(|(kind, _)| kind == b"trak").take(TRACKS_MAX) {
            init.tracks.push(track(trak)?);
        }
        for (_, trex) in Boxes(find(moov, *b"mvex")?).filter(|(kind, _)| kind == b"trex") {
            let mut trex = Cursor(trex);
            trex.version_and_flags()?;
            let (id, _description) = (trex.u32()?, trex.u32()?);
            let (duration, _size, flags) = (trex.u32()?, trex.u32()?, trex.u32()?);
            if let Some(track) = init.tracks.iter_mut().find(|track| track.id == id) {
                track.defaults = Defaults { duration, flags };
            }
        }
        (!init.tracks.is_empty()).then_some(init)
    }
}

fn track(trak: &[u8]) -> Option<Track> {
    let mut tkhd = Cursor(find(trak, *b"tkhd")?);
    let (version, _) = tkhd.version_and_flags()?;
    tkhd.take(if version == 1 { 16 } else { 8 })?;
    let id = tkhd.u32()?;
    let mdia = find(trak, *b"mdia")?;
    let mut mdhd = Cursor(find(mdia, *b"mdhd")?);
    let (version, _) = mdhd.version_and_flags()?;
    mdhd.take(if version == 1 { 16 } else { 8 })?;
    let timescale = mdhd.u32()?;
    let mut hdlr = Cursor(find(mdia, *b"hdlr")?);
    hdlr.take(8)?;
    let video = hdlr.take(4)? == b"vide";
    Some(Track { id, timescale, video, defaults: Defaults::default() })
}

/// The boxes that lie one after the other in some bytes. It ends at the first that does not fit.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut cursor = Cursor(self.0);
        let size = cursor.u32()?;
        let kind = cursor.take(4)?.try_into().ok()?;
        let body = match size {
            0 => cursor.0.len(),
            1 => usize::try_from(cursor.u64()?.checked_sub(16)?).ok()?,
            size => usize::try_from(size.checked_sub(8)?).ok()?,
        };
        let body = cursor.take(body)?;
        self.0 = cursor.0;
        Some((kind, body))
    }
}

fn find(data: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    Boxes(data).find(|(other, _)| *other == kind).map(|(_, body)| body)
}

/// What is known of one track of a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    start: Option<u64>,
    ticks: u64,
    longest: u32,
    samples: u64,
    starts_independent: Option<bool>,
    has_independent: bool,
}

/// Measures a segment by its pictures, or by its first track where it has none. None where it is not whole.
pub(super) fn measure(data: &[u8], init: &Init) -> Option<Measured> {
    let mut runs = vec![Run::default(); init.tracks.len()];
    let mut boxes = Boxes(data);
    let mut whole = false;
    for (kind, body) in boxes.by_ref() {
        whole = (whole || &kind == b"mdat") && &kind != b"moof";
        if &kind == b"moof" {
            for (_, traf) in Boxes(body).filter(|(kind, _)| kind == b"traf") {
                fragment(traf, init, &mut runs)?;
            }
        }
    }
    if !boxes.0.is_empty() || !whole {
        return None;
    }
    let found = || init.tracks.iter().zip(&runs).filter(|(_, run)| run.samples > 0);
    let (track, run) = found().find(|(track, _)| track.video).or_else(|| found().next())?;
    Some(Measured {
        video: track.video,
        start: time(run.start?, track.timescale)?,
        duration: time(run.ticks, track.timescale)?,
        frame: time(u64::from(run.longest), track.timescale)?,
        samples: runs.iter().fold(0, |sum, run| run.samples.saturating_add(sum)),
        starts_independent: run.starts_independent,
        has_independent: Some(run.has_independent),
    })
}

/// Whether the first picture of some bytes needs no other. They may end within it, or after it: a playlist of I-frames
/// lists what is needed to show it. None where they do not begin with its `moof`.
pub(super) fn picture(data: &[u8], init: &Init) -> Option<bool> {
    let mut runs = vec![Run::default(); init.tracks.len()];
    let moof = find(data, *b"moof")?;
    for (_, traf) in Boxes(moof).filter(|(kind, _)| kind == b"traf") {
        fragment(traf, init, &mut runs)?;
    }
    let video = init.tracks.iter().zip(&runs).find(|(track, _)| track.video)?;
    video.1.starts_independent
}

/// One `traf`.
fn fragment(traf: &[u8], init: &Init, runs: &mut [Run]) -> Option<()> {
    let mut tfhd = Cursor(find(traf, *b"tfhd")?);
    let (_, flags) = tfhd.version_and_flags()?;
    let id = tfhd.u32()?;
    let at = init.tracks.iter().position(|track| track.id == id)?;
    let (track, run) = (init.tracks.get(at)?, runs.get_mut(at)?);
    let mut defaults = track.defaults;
    // In the order of the box: base data offset, sample description, duration, size, flags.
    tfhd.take(if flags & 0x01 == 0 { 0 } else { 8 })?;
    tfhd.take(if flags & 0x02 == 0 { 0 } else { 4 })?;
    defaults.duration = if flags & 0x08 == 0 { defaults.duration } else { tfhd.u32()? };
    tfhd.take(if flags & 0x10 == 0 { 0 } else { 4 })?;
    defaults.flags = if flags & 0x20 == 0 { defaults.flags } else { tfhd.u32()? };

    let mut tfdt = Cursor(find(traf, *b"tfdt")?);
    let (version, _) = tfdt.version_and_flags()?;
    let start = if version == 1 { tfdt.u64()? } else { u64::from(tfdt.u32()?) };
    run.start.get_or_insert(start);
    for (_, trun) in Boxes(traf).filter(|(kind, _)| kind == b"trun") {
        samples(trun, defaults, run)?;
    }
    Some(())
}

/// One `trun`. What it does not tell of each sample it tells of all, so that its count alone costs nothing.
fn samples(trun: &[u8], defaults: Defaults, run: &mut Run) -> Option<()> {
    let mut trun = Cursor(trun);
    let (_, flags) = trun.version_and_flags()?;
    let count = trun.u32()?;
    trun.take(if flags & 0x01 == 0 { 0 } else { 4 })?;
    let first = if flags & 0x04 == 0 { None } else { Some(trun.u32()?) };
    if flags & 0x0f00 == 0 {
        one(run, defaults.duration, first.unwrap_or(defaults.flags), u64::from(count.min(1)));
        one(run, defaults.duration, defaults.flags, u64::from(count.saturating_sub(1)));
        return Some(());
    }
    for index in 0..count {
        let duration = if flags & 0x100 == 0 { defaults.duration } else { trun.u32()? };
        trun.take(if flags & 0x200 == 0 { 0 } else { 4 })?;
        let own = if flags & 0x400 == 0 { defaults.flags } else { trun.u32()? };
        trun.take(if flags & 0x800 == 0 { 0 } else { 4 })?;
        one(run, duration, first.filter(|_| index == 0).unwrap_or(own), 1);
    }
    Some(())
}

/// Counts `count` samples of the same kind.
fn one(run: &mut Run, duration: u32, flags: u32, count: u64) {
    if count == 0 {
        return;
    }
    let independent = flags & NON_SYNC == 0;
    run.starts_independent.get_or_insert(independent);
    run.has_independent |= independent;
    run.longest = run.longest.max(duration);
    run.ticks = run.ticks.saturating_add(u64::from(duration).saturating_mul(count));
    run.samples = run.samples.saturating_add(count);
}

/// The time of `measured` that comes after it.
impl Measured {
    /// Where what follows it must begin.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.start.saturating_add(self.duration)
    }
}
