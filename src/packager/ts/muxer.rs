//! Writes a segment: the tables, and then picture and sound in the order of their times.

use bytes::Bytes;

use super::adts::Adts;
use super::annex_b::ParameterSets;
use super::packets::{Packets, Stream, TIMESCALE, Unit};
use crate::media::{AccessUnit, AudioFormat, VideoFormat};
use crate::packager::init::BadFormat;
use crate::packager::sample::Sample;

/// The writer of one rendition in one run.
#[derive(Debug)]
pub(in crate::packager) struct Muxer {
    packets: Packets,
    sets: ParameterSets,
    /// None before the sound's format is known, and where there is no sound that could be written.
    sound: Option<Adts>,
}

/// How long before it is decoded a picture arrives, by the clock: what ffmpeg's muxer grants, and within the second that a
/// receiver's buffer may hold anything (ISO/IEC 13818-1, 2.4.2.6).
const DELAY_TICKS: i64 = 63_000;
/// The clock's time is told at least each 100 ms (2.7.2), and here a little more often.
const CLOCK_TICKS: i64 = 8_100;
/// So often between two pictures or frames of sound: one that is shown for longer than a minute is no programme.
const CLOCKS_MAX: usize = 1_000;
/// Sound goes in packets of so much, as one of each frame would half be stuffing: sixteen transport packets.
const SOUND_BYTES_MAX: usize = 16 * 184 - 14;

/// What is written next to one another.
enum Item<'a> {
    Picture(&'a Sample),
    /// Frames that follow one another.
    Sound {
        pts: i64,
        data: Vec<u8>,
    },
}

impl Muxer {
    /// # Errors
    /// [`BadFormat`] where the picture cannot be written into a transport stream.
    pub(super) fn new(picture: &VideoFormat) -> Result<Self, BadFormat> {
        Ok(Self { packets: Packets::default(), sets: ParameterSets::new(picture)?, sound: None })
    }

    /// The sound's format.
    ///
    /// # Errors
    /// [`BadFormat`] where it cannot be written into a transport stream, which then has none.
    pub(super) fn hear(&mut self, sound: &AudioFormat) -> Result<(), BadFormat> {
        self.sound = Some(Adts::new(sound)?);
        Ok(())
    }

    /// Writes the segment of these pictures, whose times are in ticks of 90 kHz, and this sound.
    pub(super) fn write(&mut self, pictures: &[Sample], sound: &[AccessUnit]) -> Bytes {
        let payload_bytes: usize =
            pictures.iter().map(|p| p.data.len() + 128).chain(sound.iter().map(|s| s.data.len() + 32)).sum();
        let mut to = Vec::with_capacity(payload_bytes + payload_bytes / 32 + 1_024);
        self.packets.tables(&mut to);
        let mut items: Vec<Item<'_>> = pictures.iter().map(Item::Picture).chain(self.sounds(sound)).collect();
        items.sort_by_key(Item::time);
        let (mut told, mut scratch) = (None, Vec::new());
        for item in &items {
            self.item(item, &mut told, &mut scratch, &mut to);
        }
        to.into()
    }

    /// `told` is when the clock's time was last told, `scratch` memory that is used again.
    fn item(&mut self, item: &Item<'_>, told: &mut Option<i64>, scratch: &mut Vec<u8>, to: &mut Vec<u8>) {
        let clock = item.time() - DELAY_TICKS;
        if told.is_some() || matches!(item, Item::Sound { .. }) {
            self.tell(clock, told, to);
        }
        match item {
            Item::Picture(picture) => {
                *told = Some(clock);
                scratch.clear();
                self.sets.append(&picture.data, picture.key, scratch);
                self.packets.unit(&Unit { clock: Some(clock), data: scratch, ..unit(picture) }, to);
            }
            Item::Sound { pts, data } => {
                let (stream, dts, clock) = (Stream::Sound, None, None);
                self.packets.unit(&Unit { stream, pts: *pts, dts, clock, random_access: true, data }, to);
            }
        }
    }

    /// Tells the clock's time before something that comes at `clock`, where it was not told for too long.
    fn tell(&mut self, clock: i64, told: &mut Option<i64>, to: &mut Vec<u8>) {
        let first = told.map_or(clock, |told| told + CLOCK_TICKS);
        let due = std::iter::successors(Some(first), |at| at.checked_add(CLOCK_TICKS));
        for at in due.take_while(|at| *at <= clock).take(CLOCKS_MAX) {
            self.packets.clock(at, to);
            *told = Some(at);
        }
    }

    fn sounds<'a>(&self, frames: &[AccessUnit]) -> Vec<Item<'a>> {
        let mut items: Vec<Item<'a>> = Vec::new();
        let Some(adts) = self.sound else { return items };
        for frame in frames {
            let mut framed = Vec::with_capacity(frame.data.len() + 7);
            if !adts.append(&frame.data, &mut framed) {
                continue;
            }
            match items.last_mut() {
                Some(Item::Sound { data, .. }) if data.len() + framed.len() <= SOUND_BYTES_MAX => data.extend(framed),
                _ => items.push(Item::Sound { pts: frame.pts.to_ticks(TIMESCALE), data: framed }),
            }
        }
        items
    }
}

impl Item<'_> {
    /// By when it must have come.
    fn time(&self) -> i64 {
        match self {
            Self::Picture(picture) => picture.start,
            Self::Sound { pts, .. } => *pts,
        }
    }
}

fn unit(picture: &Sample) -> Unit<'_> {
    let pts = picture.start.saturating_add(picture.offset.into());
    Unit {
        stream: Stream::Picture,
        pts,
        dts: (pts != picture.start).then_some(picture.start),
        clock: None,
        random_access: picture.key,
        data: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{MediaTime, TrackFormat};
    use crate::packager::testing;
    use crate::packager::ts::readback::{self, Counters};
    use proptest::prelude::*;

    const WRAP: i64 = 1 << 33;

    fn muxer() -> Muxer {
        let TrackFormat::Video(picture) = testing::video_format() else { unreachable!() };
        let TrackFormat::Audio(sound) = testing::audio_format() else { unreachable!() };
        let mut muxer = Muxer::new(&picture).unwrap();
        muxer.hear(&sound).unwrap();
        muxer
    }

    /// An access unit of one NAL unit, without bytes that could be taken for a start code.
    fn picture(start: i64, offset: i32, key: bool, bytes: usize) -> Sample {
        let mut data = u32::try_from(bytes + 1).unwrap().to_be_bytes().to_vec();
        data.push(if key { 0x65 } else { 0x41 });
        data.extend((0..bytes).map(|n| 1 + u8::try_from(n % 255).unwrap()));
        Sample { start, duration: 3_000, offset, key, data: data.into() }
    }

    fn sound(ticks: i64, bytes: usize) -> AccessUnit {
        let time = MediaTime::from_ticks(ticks, TIMESCALE);
        let data = vec![7; bytes].into();
        AccessUnit { dts: time, pts: time, duration: MediaTime::ZERO, key: true, data }
    }

    fn wrapped(ticks: i64) -> u64 {
        u64::try_from(ticks.rem_euclid(WRAP)).unwrap()
    }

    #[test]
    fn a_segment_begins_with_its_tables_and_an_idr() {
        let (mut muxer, mut counters) = (muxer(), Counters::default());
        for start in [90_000, 180_000] {
            let data = muxer.write(&[picture(start, 0, true, 300), picture(start + 3_000, 0, false, 20)], &[]);
            assert_eq!(u16::from_be_bytes([data[1] & 0x1f, data[2]]), 0);
            let read = readback::read(&data, &mut counters);
            assert!(read.pictures[0].random_access && !read.pictures[1].random_access);
            let kinds: Vec<u8> = readback::nals(&read.pictures[0].data).iter().map(|nal| nal[0] & 0x1f).collect();
            assert_eq!(kinds, [9, 7, 8, 5]);
            assert_eq!(read.clocks, [start, start + 3_000].map(|at| wrapped(at - DELAY_TICKS)));
        }
    }

    #[test]
    fn the_clock_is_told_through_long_pictures() {
        for bytes in [100, 1_000] {
            let sounds: Vec<AccessUnit> = (0..43).map(|n| sound(90_000 + n * 1_920, bytes)).collect();
            let pictures = [picture(90_000, 0, true, 10), picture(290_000, 0, false, 10)];
            let read = readback::read(&muxer().write(&pictures, &sounds), &mut Counters::default());
            assert_eq!(read.clocks.last(), Some(&(290_000 - 63_000)));
            assert!(read.clocks.windows(2).all(|two| two[1] - two[0] <= 9_000), "{:?}", read.clocks);
        }
    }

    #[test]
    fn sound_without_a_format_is_left_out() {
        let TrackFormat::Video(format) = testing::video_format() else { unreachable!() };
        let data = Muxer::new(&format).unwrap().write(&[picture(90_000, 0, true, 10)], &[sound(90_000, 10)]);
        assert!(readback::read(&data, &mut Counters::default()).sounds.is_empty());
    }

    proptest! {
        /// Two segments of pictures and sound of any size, before, at and behind the wrap of the times.
        #[test]
        fn what_is_written_is_read_back(
            start in prop_oneof![Just(0i64), 0..WRAP * 3, WRAP - 90_000..WRAP, Just(-5_000)],
            pictures in prop::collection::vec((0usize..2_000, 0i32..9_000, any::<bool>()), 1..30),
            sounds in prop::collection::vec(0usize..1_500, 0..60),
        ) {
            let (mut muxer, mut counters) = (muxer(), Counters::default());
            for from in [start, start + 180_000] {
                let pictures: Vec<Sample> = pictures.iter().zip(0i64..)
                    .map(|((bytes, offset, key), n)| picture(from + n * 3_000, *offset, *key, *bytes)).collect();
                let sounds: Vec<AccessUnit> =
                    sounds.iter().zip(0i64..).map(|(bytes, n)| sound(from + n * 1_920, *bytes)).collect();
                let read = readback::read(&muxer.write(&pictures, &sounds), &mut counters);
                prop_assert_eq!(read.pictures.len(), pictures.len());
                for (pes, picture) in read.pictures.iter().zip(&pictures) {
                    prop_assert_eq!(pes.dts, wrapped(picture.start));
                    prop_assert_eq!(pes.pts, wrapped(picture.start + i64::from(picture.offset)));
                    prop_assert_eq!(pes.random_access, picture.key);
                    prop_assert_eq!(*readback::nals(&pes.data).last().unwrap(), &picture.data[4..]);
                }
                let frames = read.sounds.iter().flat_map(|pes| readback::frames(&pes.data));
                prop_assert!(frames.eq(sounds.iter().map(|frame| &frame.data[..])));
                let mut heard = 0;
                for pes in &read.sounds {
                    prop_assert_eq!(pes.pts, wrapped(from + heard * 1_920));
                    heard += i64::try_from(readback::frames(&pes.data).len()).unwrap();
                }
                let ahead = |clock: &u64| (i64::try_from(*clock).unwrap() - (from - DELAY_TICKS)).rem_euclid(WRAP);
                prop_assert!(read.clocks.iter().map(ahead).is_sorted(), "{:?}", read.clocks);
            }
        }
    }
}
