//! Transport packets of one programme (ISO/IEC 13818-1, 2.4): the tables, and PES packets cut into transport packets.
//!
//! The fields are written by `mpeg2ts`. Kept here is what lasts from segment to segment: the continuity counters.

use mpeg2ts::Error;
use mpeg2ts::es::{StreamId, StreamType};
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{Bytes, Pat, Pes, Pmt};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation, TransportScramblingControl, TsHeader,
    TsPacket, TsPacketWriter, TsPayload, VersionNumber, WriteTsPacket,
};

/// Ticks a second of every time in a transport stream but the clock reference, which has 300 times as many.
pub(super) const TIMESCALE: u32 = 90_000;

/// Times have 33 bits, and wrap after 26.5 hours (2.4.3.7).
const WRAP: i64 = 1 << 33;

const TABLES: u16 = 0;
const MAP: u16 = 0x1000;
const PICTURE: u16 = 0x100;
const SOUND: u16 = 0x101;
/// The one programme.
const PROGRAMME: u16 = 1;

/// One of the two elementary streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Picture,
    Sound,
}

/// A PES packet as it is to be written; times in ticks of [`TIMESCALE`], unwrapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit<'a> {
    pub(super) stream: Stream,
    pub(super) pts: i64,
    /// Where it differs from `pts`.
    pub(super) dts: Option<i64>,
    /// The clock's time when it arrives.
    pub(super) clock: Option<i64>,
    /// Decoding may start here.
    pub(super) random_access: bool,
    pub(super) data: &'a [u8],
}

/// The writer; see the module.
#[derive(Debug, Default)]
pub(super) struct Packets {
    tables: ContinuityCounter,
    map: ContinuityCounter,
    picture: ContinuityCounter,
    sound: ContinuityCounter,
}

impl Packets {
    /// Writes the association and map tables, which a segment begins with (RFC 8216bis, 3.1.1).
    pub(super) fn tables(&mut self, to: &mut Vec<u8>) {
        written(self.try_tables(to));
    }

    fn try_tables(&mut self, to: &mut Vec<u8>) -> Result<(), Error> {
        let association = ProgramAssociation { program_num: PROGRAMME, program_map_pid: Pid::new(MAP)? };
        let version_number = VersionNumber::new();
        let tables = Pat { transport_stream_id: 1, version_number, table: vec![association] };
        let es = |stream_type, pid| {
            Ok::<_, Error>(EsInfo { stream_type, elementary_pid: Pid::new(pid)?, descriptors: Vec::new() })
        };
        let map = Pmt {
            program_num: PROGRAMME,
            pcr_pid: Some(Pid::new(PICTURE)?),
            version_number,
            program_info: Vec::new(),
            es_info: vec![es(StreamType::H264, PICTURE)?, es(StreamType::AdtsAac, SOUND)?],
        };
        table(to, TABLES, counted(&mut self.tables), TsPayload::Pat(tables))?;
        table(to, MAP, counted(&mut self.map), TsPayload::Pmt(map))
    }

    /// Writes a PES packet in as many transport packets as it takes; the last is filled up.
    pub(super) fn unit(&mut self, unit: &Unit<'_>, to: &mut Vec<u8>) {
        written(self.try_unit(unit, to));
    }

    fn try_unit(&mut self, unit: &Unit<'_>, to: &mut Vec<u8>) -> Result<(), Error> {
        let field = adaptation(unit.clock, unit.random_access)?;
        let timestamps = if unit.dts.is_some() { 10 } else { 5 };
        let taken = field.as_ref().map_or(0, |field| if field.pcr.is_some() { 8 } else { 2 }) + 9 + timestamps;
        let (first, rest) = unit.data.split_at(unit.data.len().min(Bytes::MAX_SIZE - taken));
        let start =
            Pes { header: unit.header()?, pes_packet_len: unit.packet_bytes(3 + timestamps), data: Bytes::new(first)? };
        let (pid, counter) = self.of(unit.stream);
        packet(to, pid, counted(counter), field, Some(TsPayload::PesStart(start)))?;
        for data in rest.chunks(Bytes::MAX_SIZE) {
            packet(to, pid, counted(counter), None, Some(TsPayload::PesContinuation(Bytes::new(data)?)))?;
        }
        Ok(())
    }

    /// Writes a packet that holds nothing but the clock's time, in between PES packets.
    pub(super) fn clock(&mut self, clock: i64, to: &mut Vec<u8>) {
        written(self.try_clock(clock, to));
    }

    /// A packet without a payload repeats the counter of the one before (2.4.3.3).
    fn try_clock(&mut self, clock: i64, to: &mut Vec<u8>) -> Result<(), Error> {
        let last = self.picture.as_u8().wrapping_sub(1) & ContinuityCounter::MAX;
        packet(to, PICTURE, ContinuityCounter::from_u8(last)?, adaptation(Some(clock), false)?, None)
    }

    fn of(&mut self, stream: Stream) -> (u16, &mut ContinuityCounter) {
        match stream {
            Stream::Picture => (PICTURE, &mut self.picture),
            Stream::Sound => (SOUND, &mut self.sound),
        }
    }
}

impl Unit<'_> {
    fn header(&self) -> Result<PesHeader, Error> {
        let stream_id = match self.stream {
            Stream::Picture => StreamId::new(StreamId::VIDEO_MIN),
            Stream::Sound => StreamId::new(StreamId::AUDIO_MIN),
        };
        Ok(PesHeader {
            stream_id,
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(timestamp(self.pts)?),
            dts: self.dts.map(timestamp).transpose()?,
            escr: None,
        })
    }

    /// `PES_packet_length`: that of a picture may be 0, for it may be longer than the field can say (2.4.3.7).
    fn packet_bytes(&self, header_bytes: usize) -> u16 {
        match self.stream {
            Stream::Picture => 0,
            Stream::Sound => u16::try_from(header_bytes + self.data.len()).unwrap_or(0),
        }
    }
}

fn timestamp(ticks: i64) -> Result<Timestamp, Error> {
    Timestamp::new(wrapped(ticks))
}

fn wrapped(ticks: i64) -> u64 {
    ticks.rem_euclid(WRAP).unsigned_abs()
}

fn adaptation(clock: Option<i64>, random_access_indicator: bool) -> Result<Option<AdaptationField>, Error> {
    let pcr = clock.map(|clock| ClockReference::new(wrapped(clock) * 300)).transpose()?;
    let field = AdaptationField {
        discontinuity_indicator: false,
        random_access_indicator,
        es_priority_indicator: false,
        pcr,
        opcr: None,
        splice_countdown: None,
        transport_private_data: Vec::new(),
        extension: None,
    };
    Ok((pcr.is_some() || random_access_indicator).then_some(field))
}

/// The counter as it is, and one more for the next packet.
fn counted(counter: &mut ContinuityCounter) -> ContinuityCounter {
    let now = *counter;
    counter.increment();
    now
}

fn packet(
    to: &mut Vec<u8>,
    pid: u16,
    continuity_counter: ContinuityCounter,
    adaptation_field: Option<AdaptationField>,
    payload: Option<TsPayload>,
) -> Result<(), Error> {
    let header = TsHeader {
        transport_error_indicator: false,
        transport_priority: false,
        pid: Pid::new(pid)?,
        transport_scrambling_control: TransportScramblingControl::NotScrambled,
        continuity_counter,
    };
    TsPacketWriter::new(to).write_ts_packet(&TsPacket { header, adaptation_field, payload })
}

/// A table's packet. `mpeg2ts` fills it up in front of the table by an adaptation field; old receivers look for a table
/// without one, so it is filled up behind (2.4.4.1).
fn table(to: &mut Vec<u8>, pid: u16, counter: ContinuityCounter, payload: TsPayload) -> Result<(), Error> {
    let start = to.len();
    packet(to, pid, counter, None, Some(payload))?;
    if let Some([_, _, _, control, payload @ ..]) = to.get_mut(start..) {
        let field = usize::from(*payload.first().unwrap_or(&0)) + 1;
        payload.rotate_left(field.min(payload.len()));
        payload.iter_mut().rev().take(field).for_each(|byte| *byte = STUFFING);
        *control &= !HAS_ADAPTATION_FIELD;
    }
    Ok(())
}

const HAS_ADAPTATION_FIELD: u8 = 0b0010_0000;
const STUFFING: u8 = 0xff;

/// Writing into memory fails only for values that no field can hold, and there are none.
fn written(result: Result<(), Error>) {
    assert!(result.is_ok(), "a packet's values fit its fields: {result:?}");
}
