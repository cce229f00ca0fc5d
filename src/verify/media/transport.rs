//! MPEG-2 transport streams (ISO/IEC 13818-1): packets, tables, continuity counters, presentation times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::finding::Findings;
use super::super::rule::Rule;
use super::cursor::Cursor;
use super::{Measured, time};

/// The last continuity counter of each stream, from one segment to the next.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<u16, u8>);

const PACKET_BYTES: usize = 188;
const CLOCK: u32 = 90_000;
/// Presentation times have 33 bits.
const WRAP: u64 = 1 << 33;
/// The stream of padding has no counter.
const NULL_STREAM: u16 = 0x1fff;

struct Packet<'a> {
    stream: u16,
    starts_unit: bool,
    counter: u8,
    /// The counter may jump here.
    jump: bool,
    payload: Option<&'a [u8]>,
}

/// The presentation times of one kind of stream.
#[derive(Default)]
struct Times {
    first: Option<u64>,
    least: i64,
    most: i64,
    count: u32,
}

impl Counters {
    /// The next segment comes after a discontinuity.
    pub fn reset(&mut self) {
        self.0.clear();
    }

    /// False where the counter is not what it should be.
    fn follow(&mut self, packet: &Packet<'_>) -> bool {
        if packet.stream == NULL_STREAM {
            return true;
        }
        let Some(before) = self.0.insert(packet.stream, packet.counter) else { return true };
        let step = u8::from(packet.payload.is_some());
        // A packet may be sent twice.
        packet.jump || packet.counter == (before + step) & 0x0f || packet.counter == before
    }
}

/// Measures a segment by its pictures, or by its sound where it has none.
pub(super) fn measure(data: &[u8], counters: &mut Counters, findings: &mut Findings) -> Option<Measured> {
    let (mut video, mut sound) = (Times::default(), Times::default());
    let (mut tables, mut early, mut broken) = (Tables::default(), false, 0_u32);
    for bytes in data.chunks(PACKET_BYTES) {
        let Some(packet) = packet(bytes) else {
            findings.add(Rule::TsSync, None, format!("{} bytes that are no packet", bytes.len()));
            return None;
        };
        broken += u32::from(!counters.follow(&packet));
        tables.see(&packet);
        let Some(payload) = packet.payload.filter(|_| packet.starts_unit) else { continue };
        if let Some((id, pts)) = presentation_time(payload) {
            early |= !tables.complete();
            if (0xe0..=0xef).contains(&id) { video.see(pts) } else { sound.see(pts) }
        }
    }
    if early || !tables.complete() {
        findings.add(Rule::TsTables, None, "media before PAT and PMT, or none of those");
    }
    if broken > 0 {
        findings.add(Rule::TsContinuity, None, format!("{broken} packets out of order"));
    }
    let (times, is_video) = if video.count > 0 { (video, true) } else { (sound, false) };
    times.measured(is_video)
}

/// The tables that say what the streams are.
#[derive(Default)]
struct Tables {
    /// The stream of the programme's map, once the PAT has told it.
    map: Option<u16>,
    map_seen: bool,
}

impl Tables {
    fn see(&mut self, packet: &Packet<'_>) {
        let Some(payload) = packet.payload.filter(|_| packet.starts_unit) else { return };
        if packet.stream == 0 {
            self.map = self.map.or(programme(payload));
        }
        self.map_seen |= self.map == Some(packet.stream);
    }

    fn complete(&self) -> bool {
        self.map_seen
    }
}

/// The stream of the first programme's map, out of a PAT.
fn programme(payload: &[u8]) -> Option<u16> {
    let mut cursor = Cursor(payload);
    let pointer = cursor.u8()?;
    cursor.take(usize::from(pointer))?;
    (cursor.u8()? == 0).then_some(())?;
    cursor.take(7)?;
    for _ in 0..64 {
        let (number, stream) = (cursor.u16()?, cursor.u16()? & 0x1fff);
        if number != 0 {
            return Some(stream);
        }
    }
    None
}

fn packet(bytes: &[u8]) -> Option<Packet<'_>> {
    let mut cursor = Cursor(bytes);
    if bytes.len() != PACKET_BYTES || cursor.u8()? != 0x47 {
        return None;
    }
    let word = cursor.u16()?;
    let control = cursor.u8()?;
    let mut jump = false;
    if control & 0x20 != 0 {
        let length = cursor.u8()?;
        let field = cursor.take(usize::from(length))?;
        jump = field.first().is_some_and(|flags| flags & 0x80 != 0);
    }
    let payload = (control & 0x10 != 0).then_some(cursor.0);
    Some(Packet { stream: word & 0x1fff, starts_unit: word & 0x4000 != 0, counter: control & 0x0f, jump, payload })
}

/// The kind of stream and the presentation time of a PES packet that begins here.
fn presentation_time(payload: &[u8]) -> Option<(u8, u64)> {
    let mut cursor = Cursor(payload);
    if cursor.take(3)? != [0, 0, 1] {
        return None;
    }
    let id = cursor.u8()?;
    let _length = cursor.u16()?;
    let (_, flags, _) = (cursor.u8()?, cursor.u8()?, cursor.u8()?);
    if flags & 0x80 == 0 {
        return None;
    }
    let (high, middle, low) = (u64::from(cursor.u8()?), u64::from(cursor.u16()?), u64::from(cursor.u16()?));
    Some((id, (high >> 1 & 0x07) << 30 | (middle >> 1) << 15 | low >> 1))
}

impl Times {
    fn see(&mut self, pts: u64) {
        let first = *self.first.get_or_insert(pts);
        // Around the first one, on the side that is nearer.
        let ahead = i64::try_from(pts.wrapping_sub(first) & (WRAP - 1)).unwrap_or_default();
        let half = i64::try_from(WRAP / 2).unwrap_or(i64::MAX);
        let offset = if ahead > half { ahead - 2 * half } else { ahead };
        self.least = self.least.min(offset);
        self.most = self.most.max(offset);
        self.count = self.count.saturating_add(1);
    }

    fn measured(&self, video: bool) -> Option<Measured> {
        let span = u64::try_from(self.most - self.least).ok()?;
        let frame = span.checked_div(u64::from(self.count.checked_sub(1)?)).unwrap_or_default();
        let start = self.first?.wrapping_add_signed(self.least) & (WRAP - 1);
        Some(Measured {
            video,
            start: time(start, CLOCK)?,
            duration: time(span + frame, CLOCK)?,
            // Sound comes several frames to a packet, and the last packet is of any length.
            frame: time(frame, CLOCK)?.max(Duration::from_millis(50)),
            samples: u64::from(self.count),
            starts_independent: None,
            has_independent: None,
        })
    }
}
