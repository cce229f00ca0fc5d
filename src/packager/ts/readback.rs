//! For tests: reads a segment as a player does, without the crate that wrote it, and checks what every segment keeps.

use std::collections::BTreeMap;

/// A PES packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pes {
    pub(crate) pts: u64,
    pub(crate) dts: u64,
    pub(crate) random_access: bool,
    pub(crate) data: Vec<u8>,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) pictures: Vec<Pes>,
    /// PES packets of sound.
    pub(crate) sounds: Vec<Pes>,
    /// The clock's times in 90 kHz, in the order in which they come.
    pub(crate) clocks: Vec<u64>,
}

/// The last continuity counter of each PID, from segment to segment.
pub(crate) type Counters = BTreeMap<u16, u8>;

const PICTURE: u16 = 0x100;
const SOUND: u16 = 0x101;
const MAP: u16 = 0x1000;

pub(crate) fn read(segment: &[u8], counters: &mut Counters) -> Read {
    assert_eq!(segment.len() % 188, 0);
    let mut read = Read::default();
    for (index, packet) in segment.chunks(188).enumerate() {
        assert_eq!((packet[0], packet[1] & 0x80, packet[3] & 0xc0), (0x47, 0, 0), "sync, no error, in clear");
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let starts = packet[1] & 0x40 != 0;
        let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        count(counters, pid, packet[3] & 0xf, has_payload);
        let length = if has_field { usize::from(packet[4]) + 1 } else { 0 };
        let field = &packet[4..4 + length];
        if field.get(1).is_some_and(|flags| flags & 0x10 != 0) {
            assert_eq!(pid, PICTURE);
            let base = field[2..7].iter().fold(0, |base, byte| base << 8 | u64::from(*byte)) >> 7;
            read.clocks.push(base);
        }
        let payload = &packet[4 + length..];
        let random_access = field.get(1).is_some_and(|flags| flags & 0x40 != 0);
        match pid {
            0 => table(index, 0, payload, &[0, 1, 0xf0, 0]),
            MAP => table(index, 1, payload, &[0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 0x0f, 0xe1, 1, 0xf0, 0]),
            PICTURE if starts => read.pictures.push(pes(payload, 0xe0, random_access)),
            SOUND if starts => read.sounds.push(pes(payload, 0xc0, random_access)),
            PICTURE if has_payload => read.pictures.last_mut().unwrap().data.extend(payload),
            SOUND => read.sounds.last_mut().unwrap().data.extend(payload),
            PICTURE => {}
            other => panic!("PID {other}"),
        }
    }
    read
}

fn count(counters: &mut Counters, pid: u16, counter: u8, has_payload: bool) {
    if let Some(last) = counters.insert(pid, counter) {
        assert_eq!(counter, (last + u8::from(has_payload)) & 0xf, "PID {pid} goes on");
    }
}

/// A table stands where it should, is whole, and holds this.
fn table(index: usize, place: usize, payload: &[u8], body: &[u8]) {
    assert_eq!((index, payload.len(), payload[0]), (place, 184, 0));
    let length = usize::from(u16::from_be_bytes([payload[2] & 0xf, payload[3]]));
    let section = &payload[1..4 + length];
    assert_eq!(crc(section), 0);
    assert_eq!(&section[8..section.len() - 4], body);
    assert!(payload[4 + length..].iter().all(|byte| *byte == 0xff));
}

/// ISO/IEC 13818-1, annex A: over a whole section it is 0.
fn crc(section: &[u8]) -> u32 {
    let step = |crc: u32, bit: bool| {
        let carry = (crc >> 31 != 0) != bit;
        crc << 1 ^ if carry { 0x04c1_1db7 } else { 0 }
    };
    let bits = section.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 != 0));
    bits.fold(u32::MAX, step)
}

fn pes(payload: &[u8], stream: u8, random_access: bool) -> Pes {
    assert_eq!(payload[..4], [0, 0, 1, stream]);
    assert_eq!(payload[6], 0x84, "aligned");
    let times: Vec<u64> = payload[9..9 + usize::from(payload[8])].chunks(5).map(timestamp).collect();
    assert_eq!(payload[7] >> 6, if times.len() == 2 { 3 } else { 2 });
    let data = payload[9 + usize::from(payload[8])..].to_vec();
    Pes { pts: times[0], dts: *times.last().unwrap(), random_access, data }
}

fn timestamp(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e] = bytes.iter().map(|byte| u64::from(*byte)).collect::<Vec<_>>()[..] else {
        panic!("five bytes")
    };
    assert_eq!((a & 1, c & 1, e & 1), (1, 1, 1), "markers");
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}

/// The NAL units of a byte stream.
pub(crate) fn nals(data: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..data.len()).filter(|at| data[*at..].starts_with(&[0, 0, 0, 1])).collect();
    let ends = starts.iter().copied().skip(1).chain([data.len()]);
    starts.iter().zip(ends).map(|(start, end)| &data[start + 4..end]).collect()
}

/// The frames of a PES packet of sound, without their headers.
pub(crate) fn frames(mut data: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !data.is_empty() {
        assert_eq!(data[..2], [0xff, 0xf1]);
        let length = usize::from(data[3] & 3) << 11 | usize::from(data[4]) << 3 | usize::from(data[5] >> 5);
        let (frame, rest) = data.split_at(length);
        frames.push(&frame[7..]);
        data = rest;
    }
    frames
}
