//! Reads initialisation segments: what of them goes into the file.

use bytes::Bytes;
use mp4_atom::{Decode as _, Hdlr, Header, Mdhd, Tkhd};

use super::Unfit;

/// What a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// What an initialisation segment says of its one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// What it shows.
    pub(super) kind: Kind,
    /// Ticks a second.
    pub(super) timescale: u32,
    /// Width and height, of pictures.
    pub(super) size: (u16, u16),
    /// The sample entry, a whole box, as it stands there.
    pub(super) entry: Bytes,
}

impl Init {
    /// Reads one.
    ///
    /// # Errors
    /// [`Unfit::Unreadable`] where it is none, or not of one track with one sample entry; [`Unfit::MpegTs`].
    pub fn read(data: &Bytes) -> Result<Self, Unfit> {
        refuse_ts(data)?;
        let track = find(data, &[b"moov", b"trak"])?;
        let handler: Hdlr = decode(&find(&track.body, &[b"mdia", b"hdlr"])?)?;
        let clock: Mdhd = decode(&find(&track.body, &[b"mdia", b"mdhd"])?)?;
        let shape: Tkhd = decode(&find(&track.body, &[b"tkhd"])?)?;
        let entries = find(&track.body, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
        if clock.timescale == 0 {
            return Err(Unfit::unreadable("its clock stands still"));
        }
        Ok(Self {
            kind: kind(<[u8; 4]>::from(handler.handler))?,
            timescale: clock.timescale,
            size: (shape.width.integer(), shape.height.integer()),
            entry: the_one(&entries.body)?,
        })
    }

    /// The four letters of its sample entry.
    pub(super) fn codec(&self) -> [u8; 4] {
        self.entry.get(4..8).and_then(|letters| letters.try_into().ok()).unwrap_or_default()
    }

    /// The same in words.
    pub(super) fn told(&self) -> String {
        String::from_utf8_lossy(&self.codec()).into_owned()
    }
}

fn kind(handler: [u8; 4]) -> Result<Kind, Unfit> {
    match &handler {
        b"vide" => Ok(Kind::Video),
        b"soun" => Ok(Kind::Audio),
        _ => Err(Unfit::unreadable("its track is neither picture nor sound")),
    }
}

/// The one sample entry of an `stsd`, whose body begins with a version, flags and a count.
fn the_one(body: &Bytes) -> Result<Bytes, Unfit> {
    let rest = if body.len() < 8 { Bytes::new() } else { body.slice(8..) };
    let mut entries = boxes(&rest);
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry?.whole),
        _ => Err(Unfit::unreadable("its track has not one sample entry")),
    }
}

/// Segments of MPEG-TS begin with the sync byte of a packet; boxes with their length, which is never that great.
pub(super) fn refuse_ts(data: &Bytes) -> Result<(), Unfit> {
    if data.first() == Some(&0x47) { Err(Unfit::MpegTs) } else { Ok(()) }
}

/// A box.
#[derive(Clone, Debug)]
pub(super) struct Boxed {
    /// Its name.
    pub(super) kind: [u8; 4],
    /// Where it begins in what it stands in.
    pub(super) at: usize,
    /// All of it.
    pub(super) whole: Bytes,
    /// What is in it.
    pub(super) body: Bytes,
}

/// The boxes that stand in `data` one behind the other. After one that is torn there are none.
pub(super) fn boxes(data: &Bytes) -> impl Iterator<Item = Result<Boxed, Unfit>> + use<> {
    let data = data.clone();
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= data.len() {
            return None;
        }
        let found = one(&data, at);
        at = found.as_ref().map_or(data.len(), |found| at + found.whole.len());
        Some(found)
    })
}

fn one(data: &Bytes, at: usize) -> Result<Boxed, Unfit> {
    let rest = data.slice(at..);
    let mut cursor = &rest[..];
    let header = Header::decode(&mut cursor).map_err(Unfit::unreadable)?;
    let begins = rest.len() - cursor.len();
    let length = header.size.unwrap_or(cursor.len());
    if length > cursor.len() {
        return Err(Unfit::unreadable(format_args!("its {} is cut off", header.kind)));
    }
    let whole = rest.slice(..begins + length);
    Ok(Boxed { kind: header.kind.into(), at, body: whole.slice(begins..), whole })
}

/// The box at the end of `path`, of which there must be one at each step.
fn find(data: &Bytes, path: &[&[u8; 4]]) -> Result<Boxed, Unfit> {
    let mut found: Option<Boxed> = None;
    for kind in path {
        let within = found.map_or_else(|| data.clone(), |found| found.body);
        let mut of_kind = boxes(&within).filter(|one| one.as_ref().map_or(true, |one| one.kind == **kind));
        let name = || String::from_utf8_lossy(*kind).into_owned();
        let next = of_kind.next().ok_or_else(|| Unfit::unreadable(format_args!("it has no {}", name())))??;
        if of_kind.next().is_some() {
            return Err(Unfit::unreadable(format_args!("it has more than one {}", name())));
        }
        found = Some(next);
    }
    found.ok_or(Unfit::Empty)
}

/// Reads a whole box.
pub(super) fn decode<T: mp4_atom::Decode>(from: &Boxed) -> Result<T, Unfit> {
    T::decode(&mut &from.whole[..]).map_err(Unfit::unreadable)
}
