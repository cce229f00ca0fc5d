//! RTMP's chunk layer: bytes in, whole messages out.
//!
//! A pure reader. It assembles per chunk stream, so chunks of different messages may interleave; it holds
//! every bound itself, so that no peer can make it keep more than its [`Limits`]; and it acts on the two messages that
//! concern chunks themselves, Set Chunk Size and Abort. It knows nothing of what messages mean.
//! Clauses are those of Adobe's "RTMP Specification 1.0".

use bytes::{Bytes, BytesMut};

/// What a chunk reader may keep for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Chunk streams that may be in use.
    pub streams_max: usize,
    /// Bytes of one message.
    pub message_bytes_max: u32,
    /// Bytes of all messages that are not complete yet. They count in full from their first chunk on, since room is made for
    /// them then.
    pub pending_bytes_max: usize,
}

impl Limits {
    /// For a peer that has not shown a key: commands are small.
    pub const STRANGER: Self = Self { streams_max: 8, message_bytes_max: 64 << 10, pending_bytes_max: 128 << 10 };

    /// For a publisher: a keyframe of 8K at studio quality stays below the message limit.
    pub const PUBLISHER: Self = Self { streams_max: 64, message_bytes_max: 8 << 20, pending_bytes_max: 16 << 20 };
}

/// A whole RTMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The message type id (8 is audio, 9 video, 20 a command).
    pub kind: u8,
    /// The message stream id.
    pub stream: u32,
    /// The body.
    pub payload: Bytes,
}

/// Bytes that are not RTMP chunks, or more than the reader will keep. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A compressed header on a chunk stream that had no full one.
    #[error("chunk stream {csid} begins with a type {format} header, which refers to an earlier one")]
    NoEarlierHeader {
        /// The chunk stream.
        csid: u32,
        /// The header's type.
        format: u8,
    },
    /// More chunk streams than the limit.
    #[error("more than {0} chunk streams")]
    TooManyStreams(usize),
    /// A message longer than the limit.
    #[error("a message of {length} bytes, where {max} are allowed")]
    MessageTooLong {
        /// What its header says.
        length: u32,
        /// The limit.
        max: u32,
    },
    /// More bytes in unfinished messages than the limit.
    #[error("more than {0} bytes in unfinished messages")]
    TooMuchPending(usize),
    /// A chunk size below 128, the protocol's own default, or with its top bit set.
    #[error("a chunk size of {0}")]
    ChunkSize(u32),
    /// Set Chunk Size or Abort without its four bytes.
    #[error("a protocol control message of {0} bytes, where 4 are needed")]
    ControlTooShort(usize),
}

/// A chunk stream's memory: its last header, and the message being assembled.
#[derive(Debug, Default)]
struct Stream {
    csid: u32,
    timestamp: u32,
    /// What a type 3 header that starts a message adds. 0 after a type 0: librtmp, hence OBS, means "the same time" by it.
    delta: u32,
    /// The extended timestamp of the last header that had one.
    extended: Option<u32>,
    length: u32,
    kind: u8,
    message_stream: u32,
    /// A message has begun and is not complete.
    open: bool,
    payload: BytesMut,
}

/// A parsed chunk header.
#[derive(Clone, Copy)]
struct Header {
    format: u8,
    /// The timestamp or delta, after extension.
    time: u32,
    extended: bool,
    length: u32,
    kind: u8,
    message_stream: u32,
}

/// Reads chunks.
#[derive(Debug)]
pub struct ChunkReader {
    limits: Limits,
    chunk_bytes_max: u32,
    streams: Vec<Stream>,
    /// The chunk that is being read: the position in `streams`, and how much of it is missing.
    chunk: Option<(usize, usize)>,
    pending_bytes: usize,
    discarded: u64,
    /// Messages that concern chunks.
    controls: u64,
}

impl ChunkReader {
    /// A reader at the start of a connection, after the handshake.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_bytes_max: CHUNK_BYTES_MIN,
            streams: Vec::new(),
            chunk: None,
            pending_bytes: 0,
            discarded: 0,
            controls: 0,
        }
    }

    /// Replaces the limits, when a peer has shown who it is.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Messages that were given up before they were complete: by Abort, or by a new header in mid-message.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Messages that [`ChunkReader::next`] did not give: those that concern chunks, and those that were given up.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.controls.saturating_add(self.discarded)
    }

    /// Bytes for which room is made: those of the messages that are not complete yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Takes from the front of `input` until a message is complete. None when more bytes are needed; what is then left in
    /// `input` (at most a header) must stand before them at the next call.
    ///
    /// # Errors
    /// [`ChunkError`]; the reader cannot be used afterwards.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            let (position, missing) = match self.chunk {
                Some(chunk) => chunk,
                None => match self.begin_chunk(input)? {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                },
            };
            let left = self.fill(position, missing, input);
            if left > 0 {
                self.chunk = Some((position, left));
                return Ok(None);
            }
            self.chunk = None;
            if let Some(message) = self.finish(position)? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a header, and says which stream's chunk of how many bytes follows.
    fn begin_chunk(&mut self, input: &mut &[u8]) -> Result<Option<(usize, usize)>, ChunkError> {
        let mut rest = *input;
        let Some((format, csid)) = basic_header(&mut rest) else { return Ok(None) };
        let position = self.position(csid, format)?;
        let Some(stream) = self.streams.get_mut(position) else { return Ok(None) };
        if format == 3 {
            let Some(repeated) = repeats_extended(stream, rest) else { return Ok(None) };
            if repeated {
                rest = rest.get(4..).unwrap_or_default();
            }
            if !stream.open {
                stream.timestamp = stream.timestamp.wrapping_add(stream.delta);
            }
        } else {
            let Some(header) = message_header(format, stream, &mut rest) else { return Ok(None) };
            self.check_length(header.length)?;
            self.start_over(position, header);
        }
        *input = rest;
        self.open_chunk(position).map(Some)
    }

    /// Where the memory of `csid` is; made, where a header of this type may be the first.
    fn position(&mut self, csid: u32, format: u8) -> Result<usize, ChunkError> {
        if let Some(position) = self.streams.iter().position(|s| s.csid == csid) {
            return Ok(position);
        }
        // librtmp has been seen to begin the protocol control stream with a type 1.
        if format != 0 && (format, csid) != (1, 2) {
            return Err(ChunkError::NoEarlierHeader { csid, format });
        }
        if self.streams.len() >= self.limits.streams_max {
            return Err(ChunkError::TooManyStreams(self.limits.streams_max));
        }
        self.streams.push(Stream { csid, ..Stream::default() });
        Ok(self.streams.len() - 1)
    }

    fn check_length(&self, length: u32) -> Result<(), ChunkError> {
        let max = self.limits.message_bytes_max;
        if length > max { Err(ChunkError::MessageTooLong { length, max }) } else { Ok(()) }
    }

    /// Applies a type 0, 1 or 2 header, which always starts a message.
    fn start_over(&mut self, position: usize, header: Header) {
        self.discard(position);
        let Some(stream) = self.streams.get_mut(position) else { return };
        if header.format == 0 || is_absolute(stream.timestamp, header) {
            stream.timestamp = header.time;
            stream.delta = 0;
        } else {
            stream.timestamp = stream.timestamp.wrapping_add(header.time);
            stream.delta = header.time;
        }
        stream.extended = header.extended.then_some(header.time);
        stream.length = header.length;
        stream.kind = header.kind;
        stream.message_stream = header.message_stream;
    }

    /// Gives up the unfinished message of a stream.
    fn discard(&mut self, position: usize) {
        let Some(stream) = self.streams.get_mut(position) else { return };
        if std::mem::take(&mut stream.open) {
            self.discarded = self.discarded.saturating_add(1);
            self.pending_bytes = self.pending_bytes.saturating_sub(stream.length as usize);
            stream.payload = BytesMut::new();
        }
    }

    /// Says how much the next chunk of a stream's message holds. Room for all of the message is made at its first, so
    /// that it is allocated once and never moved; what a header claims without sending it is bounded as if it had been sent.
    fn open_chunk(&mut self, position: usize) -> Result<(usize, usize), ChunkError> {
        let Some(stream) = self.streams.get_mut(position) else { return Ok((position, 0)) };
        let length = stream.length as usize;
        if !stream.open {
            let pending_bytes = self.pending_bytes.saturating_add(length);
            if pending_bytes > self.limits.pending_bytes_max {
                return Err(ChunkError::TooMuchPending(self.limits.pending_bytes_max));
            }
            self.pending_bytes = pending_bytes;
            stream.open = true;
            stream.payload = BytesMut::with_capacity(length);
        }
        Ok((position, length.saturating_sub(stream.payload.len()).min(self.chunk_bytes_max as usize)))
    }

    /// Copies what is there of a chunk; returns what is still missing.
    fn fill(&mut self, position: usize, missing: usize, input: &mut &[u8]) -> usize {
        let (piece, rest) = input.split_at_checked(missing).unwrap_or((*input, &[]));
        if let Some(stream) = self.streams.get_mut(position) {
            stream.payload.extend_from_slice(piece);
        }
        *input = rest;
        missing - piece.len()
    }

    /// Takes a stream's message if it is complete, and acts on it if it concerns chunks.
    fn finish(&mut self, position: usize) -> Result<Option<Message>, ChunkError> {
        let Some(stream) = self.streams.get_mut(position) else { return Ok(None) };
        if stream.payload.len() < stream.length as usize {
            return Ok(None);
        }
        stream.open = false;
        let payload = std::mem::take(&mut stream.payload).freeze();
        self.pending_bytes = self.pending_bytes.saturating_sub(payload.len());
        let Stream { timestamp, kind, message_stream, .. } = *stream;
        if matches!(kind, SET_CHUNK_SIZE | ABORT) {
            self.controls = self.controls.saturating_add(1);
        }
        match kind {
            SET_CHUNK_SIZE => self.set_chunk_size(control_value(&payload)?).map(|()| None),
            ABORT => {
                self.abort(control_value(&payload)?);
                Ok(None)
            }
            _ => Ok(Some(Message { timestamp, kind, stream: message_stream, payload })),
        }
    }

    /// 5.4.1. As no message is longer than 2^24 - 1, neither does a chunk need to be.
    fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        if !(CHUNK_BYTES_MIN..=0x7fff_ffff).contains(&size) {
            return Err(ChunkError::ChunkSize(size));
        }
        self.chunk_bytes_max = size.min(0xff_ffff);
        Ok(())
    }

    /// 5.4.2.
    fn abort(&mut self, csid: u32) {
        if let Some(position) = self.streams.iter().position(|s| s.csid == csid) {
            self.discard(position);
        }
    }
}

/// The first byte or three: the header's type and the chunk stream (5.3.1.1). None where bytes are missing.
fn basic_header(rest: &mut &[u8]) -> Option<(u8, u32)> {
    let [first] = take(rest)?;
    let csid = match first & 0x3f {
        0 => {
            let [low] = take(rest)?;
            64 + u32::from(low)
        }
        1 => {
            let [low, high] = take(rest)?;
            64 + u32::from(low) + 256 * u32::from(high)
        }
        csid => u32::from(csid),
    };
    Some((first >> 6, csid))
}

/// The header of type 0, 1 or 2 (5.3.1.2), completed by what the stream remembers. None where bytes are missing.
fn message_header(format: u8, stream: &Stream, rest: &mut &[u8]) -> Option<Header> {
    let field = u24(take(rest)?);
    let (length, kind) =
        if format < 2 { (u24(take(rest)?), take::<1>(rest)?[0]) } else { (stream.length, stream.kind) };
    let message_stream = if format == 0 { u32::from_le_bytes(take(rest)?) } else { stream.message_stream };
    let extended = field == 0xff_ffff;
    let time = if extended { u32::from_be_bytes(take(rest)?) } else { field };
    Some(Header { format, time, extended, length, kind, message_stream })
}

/// Whether the extended timestamp stands again after a type 3 header (5.3.1.3 says so; some encoders leave it out, so the
/// bytes are compared). None where bytes are missing to tell; as soon as one differs, none are.
fn repeats_extended(stream: &Stream, rest: &[u8]) -> Option<bool> {
    let Some(extended) = stream.extended else { return Some(false) };
    let matches = |time: u32| rest.iter().zip(time.to_be_bytes()).all(|(a, b)| *a == b);
    let alike = matches(extended) || matches(stream.timestamp);
    if alike && rest.len() < 4 { None } else { Some(alike) }
}

/// Some encoders put the absolute time where the extended delta should be. No live source pauses for the 4.6 hours that
/// such a delta would mean, so a value close to the last time is taken for a time.
fn is_absolute(last: u32, header: Header) -> bool {
    header.extended
        && header.time >= 0xff_ffff
        && header.time.wrapping_sub(last).min(last.wrapping_sub(header.time)) < 600_000
}

fn control_value(payload: &[u8]) -> Result<u32, ChunkError> {
    payload.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(ChunkError::ControlTooShort(payload.len()))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// What a peer's chunks hold before it says otherwise (5.4.1), and the least that it may say.
const CHUNK_BYTES_MIN: u32 = 128;
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::Wire;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
        let mut reader = ChunkReader::new(Limits::PUBLISHER);
        read_with(&mut reader, bytes)
    }

    fn read_with(reader: &mut ChunkReader, mut bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
        let mut messages = Vec::new();
        while let Some(message) = reader.next(&mut bytes)? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn times(bytes: &[u8]) -> Vec<u32> {
        read(bytes).unwrap().iter().map(|m| m.timestamp).collect()
    }

    #[test]
    fn r1_row_6_chunks_of_two_messages_interleave() {
        let mut wire = Wire::default();
        wire.header0(6, 9, 40, 1, 200).raw(&[1; 128]);
        wire.message(4, 8, 41, 1, &[2; 5]);
        wire.message(2, 4, 0, 0, &[0, 6, 0, 0, 0, 1]);
        wire.raw(&[0xc6]).raw(&[1; 72]);
        let messages = read(&wire.bytes).unwrap();
        assert_eq!(
            messages.iter().map(|m| (m.kind, m.timestamp, m.payload.len())).collect::<Vec<_>>(),
            [(8, 41, 5), (4, 0, 6), (9, 40, 200)]
        );
        assert!(messages[2].payload.iter().all(|b| *b == 1));
    }

    #[test]
    fn r2_an_extended_delta_below_the_threshold_is_a_delta() {
        let mut wire = Wire::default();
        wire.message(4, 8, 10, 1, &[1]).raw(&[0x84, 0xff, 0xff, 0xff, 0, 0, 0, 5, 2]);
        assert_eq!(times(&wire.bytes), [10, 15]);
    }

    #[test]
    fn r3_row_8_extended_timestamps_may_or_may_not_be_repeated() {
        for time in [0xff_ffff_u32, 0x100_0000, 0xffff_ffff] {
            for repeated in [true, false] {
                let mut wire = Wire::default();
                wire.header0(6, 9, time, 1, 300).raw(&[0x55; 128]);
                for rest in [128, 44] {
                    wire.raw(&[0xc6]).raw(
                        if repeated { time.to_be_bytes() } else { [0; 4] }.get(..if repeated { 4 } else { 0 }).unwrap(),
                    );
                    wire.raw(&vec![0x55; rest]);
                }
                wire.message(4, 8, 7, 1, &[1]);
                let messages = read(&wire.bytes).unwrap();
                assert_eq!(messages.len(), 2, "{time} {repeated}");
                assert_eq!((messages[0].timestamp, messages[0].payload.as_ref()), (time, &[0x55; 300][..]));
            }
        }
    }

    #[test]
    fn row_7_a_type_3_after_a_type_0_keeps_its_time_and_after_a_delta_adds_it() {
        let mut wire = Wire::default();
        wire.message(4, 8, 1000, 1, &[1]).raw(&[0xc4, 2]).raw(&[0x84, 0, 0, 20, 3]).raw(&[0xc4, 4]);
        assert_eq!(times(&wire.bytes), [1000, 1000, 1020, 1040]);
    }

    #[test]
    fn row_7_a_compressed_header_on_a_new_chunk_stream_is_an_error() {
        for (byte, format) in [(0x44, 1), (0x84, 2), (0xc4, 3)] {
            assert_eq!(read(&[byte, 0, 0, 0, 0, 0, 0, 0]), Err(ChunkError::NoEarlierHeader { csid: 4, format }));
        }
        assert_eq!(times(&[0x42, 0, 0, 0, 0, 0, 1, 3, 9]), [0], "librtmp's type 1 on the control stream");
    }

    #[test]
    fn row_9_an_absolute_time_in_place_of_an_extended_delta_is_told_by_its_size() {
        let mut wire = Wire::default();
        wire.message(4, 8, 0x100_0000, 1, &[1]).raw(&[0x84, 0xff, 0xff, 0xff, 1, 0, 0, 20, 2]);
        assert_eq!(times(&wire.bytes), [0x100_0000, 0x100_0014]);
        let mut wire = Wire::default();
        wire.message(4, 8, 5, 1, &[1]).raw(&[0x84, 0xff, 0xff, 0xff, 1, 0, 0, 0, 2]);
        assert_eq!(times(&wire.bytes), [5, 0x100_0005]);
    }

    #[test]
    fn r9_row_5_chunk_sizes() {
        for size in [0u32, 1, 127, 0x8000_0000, 0xffff_ffff] {
            let mut wire = Wire::default();
            wire.message(2, 1, 0, 0, &size.to_be_bytes());
            assert_eq!(read(&wire.bytes), Err(ChunkError::ChunkSize(size)));
        }
        let mut wire = Wire::default();
        wire.header0(6, 9, 0, 1, 400)
            .raw(&[1; 128])
            .message(2, 1, 0, 0, &0x7fff_ffff_u32.to_be_bytes())
            .raw(&[0xc6])
            .raw(&[1; 272]);
        assert_eq!(
            read(&wire.bytes).unwrap()[0].payload,
            vec![1; 400],
            "it holds from the next chunk on, in mid-message too"
        );
    }

    #[test]
    fn r10_abort_gives_a_message_up() {
        let mut wire = Wire::default();
        wire.header0(6, 9, 0, 1, 400).raw(&[1; 128]).message(2, 2, 0, 0, &[0, 0, 0, 6]).message(6, 9, 5, 1, &[7; 3]);
        let mut reader = ChunkReader::new(Limits::PUBLISHER);
        let messages = read_with(&mut reader, &wire.bytes).unwrap();
        assert_eq!((messages.len(), messages[0].payload.as_ref(), reader.discarded()), (1, &[7; 3][..], 1));
        assert_eq!(reader.pending_bytes, 0);
    }

    #[test]
    fn r10_sixty_thousand_chunk_streams_are_too_many() {
        let mut reader = ChunkReader::new(Limits::STRANGER);
        let flood = (64u16..60_000).flat_map(|csid| {
            let [low, high] = (csid - 64).to_le_bytes();
            [1, low, high, 0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 0]
        });
        assert_eq!(read_with(&mut reader, &flood.collect::<Vec<_>>()), Err(ChunkError::TooManyStreams(8)));
    }

    #[test]
    fn r10_what_is_kept_is_bounded_whatever_lengths_are_claimed() {
        let mut wire = Wire::default();
        wire.header0(6, 9, 0, 1, 0xff_ffff);
        assert_eq!(read(&wire.bytes), Err(ChunkError::MessageTooLong { length: 0xff_ffff, max: 8 << 20 }));

        let mut reader = ChunkReader::new(Limits::STRANGER);
        for csid in [10, 11] {
            let mut wire = Wire::default();
            wire.header0(csid, 9, 0, 1, 60_000).raw(&[0; 128]);
            assert_eq!(read_with(&mut reader, &wire.bytes), Ok(vec![]));
        }
        assert_eq!(reader.pending_bytes(), 120_000, "a claim counts in full");
        let mut wire = Wire::default();
        wire.header0(12, 9, 0, 1, 60_000);
        assert_eq!(read_with(&mut reader, &wire.bytes), Err(ChunkError::TooMuchPending(128 << 10)));
        assert_eq!(reader.pending_bytes(), 120_000);
    }

    #[test]
    fn empty_messages_and_short_control_messages() {
        let mut wire = Wire::default();
        wire.message(4, 8, 3, 1, &[]);
        assert_eq!(times(&wire.bytes), [3]);
        let mut wire = Wire::default();
        wire.message(2, 1, 0, 0, &[0, 0]);
        assert_eq!(read(&wire.bytes), Err(ChunkError::ControlTooShort(2)));
    }

    /// 4 h 39 m 37 s after its start, a live stream's time no longer fits into the three bytes of a header.
    #[test]
    fn lesson_12_row_10_time_crosses_24_bits_under_every_type_of_header() {
        let mut before = Wire::default();
        before.message(6, 9, 0xff_ffe0, 1, &[0x55; 200]);
        before.raw(&[0x86, 0, 0, 0x10]).raw(&[0x55; 128]).raw(&[0xc6]).raw(&[0x55; 72]);
        let full: &[u8] = &[0x06, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0, 1, 0, 0, 0];
        let shorter: &[u8] = &[0x46, 0, 0, 0x10, 0, 0, 200, 9];
        for (format, header) in [full, shorter, &[0x86, 0, 0, 0x10], &[0xc6]].into_iter().enumerate() {
            for repeated in [true, false] {
                let mut wire = Wire { bytes: before.bytes.clone() };
                wire.raw(header).raw(&[0x55; 128]).raw(&[0xc6]);
                if format == 0 && repeated {
                    wire.raw(&[1, 0, 0, 0]);
                }
                wire.raw(&[0x55; 72]).message(4, 8, 0x100_0001, 1, &[1]);
                let messages = read(&wire.bytes).unwrap();
                let seen: Vec<_> = messages.iter().map(|m| (m.timestamp, m.payload.len())).collect();
                let expected = [(0xff_ffe0, 200), (0xff_fff0, 200), (0x100_0000, 200), (0x100_0001, 1)];
                assert_eq!(seen, expected, "type {format}, repeated: {repeated}");
            }
        }
    }

    #[test]
    fn row_10_a_delta_wraps_32_bits() {
        let mut wire = Wire::default();
        wire.message(4, 8, 0xffff_fff0, 1, &[1]).raw(&[0x84, 0, 0, 0x20, 2]).raw(&[0xc4, 3]);
        assert_eq!(times(&wire.bytes), [0xffff_fff0, 0x10, 0x30]);
    }

    #[test]
    fn row_9_a_type_3_may_begin_a_message_under_an_extended_delta() {
        for copy in [&[1, 0, 0, 0][..], &[]] {
            let mut wire = Wire::default();
            wire.message(4, 8, 5, 1, &[1])
                .raw(&[0x84, 0xff, 0xff, 0xff, 1, 0, 0, 0, 2])
                .raw(&[0xc4])
                .raw(copy)
                .raw(&[3]);
            assert_eq!(times(&wire.bytes), [5, 0x100_0005, 0x200_0005], "{copy:?}");
        }
    }

    #[test]
    fn each_size_of_basic_header_names_its_chunk_streams() {
        let body = [0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 7];
        for (basic, csid) in
            [(&[3][..], 3), (&[63], 63), (&[0, 0], 64), (&[0, 255], 319), (&[1, 0, 0], 64), (&[1, 255, 255], 65_599)]
        {
            let mut reader = ChunkReader::new(Limits::STRANGER);
            assert_eq!(read_with(&mut reader, &[basic, &body].concat()).map(|m| m.len()), Ok(1));
            assert_eq!(reader.streams.iter().map(|s| s.csid).collect::<Vec<_>>(), [csid]);
        }
        // One stream may be named in two ways.
        let mut reader = ChunkReader::new(Limits::STRANGER);
        let both = [&[0, 0][..], &body, &[0xc1, 0, 0, 8]].concat();
        assert_eq!(read_with(&mut reader, &both).map(|m| m.len()), Ok(2));
    }

    /// An encoder that compresses headers as far as it is told to, and interleaves.
    struct Encoder {
        repeat_extended: bool,
        chunk_bytes: usize,
        streams: std::collections::BTreeMap<u16, Message>,
        deltas: std::collections::BTreeMap<u16, u32>,
        bytes: Vec<u8>,
    }

    impl Encoder {
        /// Writes the header of a message; returns whether it has an extended timestamp.
        fn begin(&mut self, csid: u16, message: &Message, format_max: u8) -> Option<u32> {
            let last = self.streams.insert(csid, message.clone());
            let (format, field) = self.compress(csid, last.as_ref(), message, format_max);
            self.basic(csid, format);
            let length = u32::try_from(message.payload.len()).unwrap().to_be_bytes();
            let extended = (field >= 0xff_ffff).then_some(field);
            let parts: [&[u8]; 4] = [
                &field.min(0xff_ffff).to_be_bytes()[1..],
                &length[1..],
                &[message.kind],
                &message.stream.to_le_bytes(),
            ];
            for part in &parts[..[4, 3, 1, 0][usize::from(format)]] {
                self.bytes.extend_from_slice(part);
            }
            if let (Some(time), true) = (extended, format < 3 || self.repeat_extended) {
                self.bytes.extend_from_slice(&time.to_be_bytes());
            }
            extended
        }

        fn compress(&mut self, csid: u16, last: Option<&Message>, message: &Message, format_max: u8) -> (u8, u32) {
            let delta = last.map_or(0, |l| message.timestamp.wrapping_sub(l.timestamp));
            let known = self.deltas.get(&csid).copied();
            let format = match last {
                Some(l) if l.stream != message.stream || delta >= 0xff_ffff => 0,
                None => 0,
                Some(l) if (l.payload.len(), l.kind) != (message.payload.len(), message.kind) => 1,
                Some(_) if known != Some(delta) => 2,
                Some(_) => 3,
            };
            let format = format.min(format_max);
            let field = if format == 0 { message.timestamp } else { delta };
            self.deltas.insert(csid, if format == 0 { 0 } else { delta });
            (format, field)
        }

        fn basic(&mut self, csid: u16, format: u8) {
            let [low, high] = csid.saturating_sub(64).to_le_bytes();
            match csid {
                ..64 => self.bytes.push(format << 6 | u8::try_from(csid).unwrap()),
                64..320 => self.bytes.extend([format << 6, low]),
                _ => self.bytes.extend([format << 6 | 1, low, high]),
            }
        }

        /// Says that its chunks are of another size from now on.
        fn resize(&mut self, chunk_bytes: Option<u16>) {
            if let Some(chunk_bytes) = chunk_bytes {
                self.bytes.extend([2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
                self.bytes.extend(u32::from(chunk_bytes).to_be_bytes());
                self.chunk_bytes = chunk_bytes.into();
            }
        }

        /// Writes messages of different chunk streams, chunk by chunk in turn; returns them in the order of their ends.
        /// Chunks after the first of each may be of another size.
        fn together(&mut self, messages: Vec<(u16, Message, u8)>, chunk_bytes: Option<u16>) -> Vec<Message> {
            let mut open = std::collections::VecDeque::new();
            for (csid, message, format_max) in messages {
                let extended = self.begin(csid, &message, format_max);
                open.push_back((csid, extended, message.clone(), message.payload));
                self.first_chunk(open.back_mut().unwrap());
            }
            self.resize(chunk_bytes);
            let mut ended = Vec::new();
            while let Some(mut entry) = open.pop_front() {
                if entry.3.is_empty() {
                    ended.push(entry.2);
                    continue;
                }
                self.basic(entry.0, 3);
                if let (Some(time), true) = (entry.1, self.repeat_extended) {
                    self.bytes.extend_from_slice(&time.to_be_bytes());
                }
                self.first_chunk(&mut entry);
                open.push_back(entry);
            }
            ended
        }

        fn first_chunk(&mut self, entry: &mut (u16, Option<u32>, Message, Bytes)) {
            let chunk = entry.3.split_to(entry.3.len().min(self.chunk_bytes));
            self.bytes.extend_from_slice(&chunk);
        }
    }

    /// Messages on chunk streams 3, 70 and 400 with rising times, each an advance, a length and a compression; and chunk
    /// sizes to change to before them and among their chunks.
    #[derive(Clone, Debug)]
    struct Round {
        messages: Vec<Option<(u32, usize, u8)>>,
        before: Option<u16>,
        among: Option<u16>,
    }

    fn rounds() -> impl Strategy<Value = Vec<Round>> {
        let advance = prop_oneof![Just(0u32), Just(20), 0u32..3000, Just(0x50_0000)];
        let message = prop::option::of((advance, prop_oneof![Just(100usize), 0usize..600], 0u8..4));
        let size = || prop::option::weighted(0.2, 128u16..700);
        let round = (prop::collection::vec(message, 3), size(), size());
        let round = round.prop_map(|(messages, before, among)| Round { messages, before, among });
        prop::collection::vec(round, 1..12)
    }

    fn encode(rounds: Vec<Round>, repeat_extended: bool) -> (Vec<u8>, Vec<Message>) {
        let (streams, deltas) = (Default::default(), Default::default());
        let mut encoder = Encoder { repeat_extended, chunk_bytes: 128, streams, deltas, bytes: Vec::new() };
        let mut now = [0u32; 3];
        let mut expected = Vec::new();
        for round in rounds {
            encoder.resize(round.before);
            let messages = round.messages.into_iter().enumerate().filter_map(|(n, message)| {
                let (advance, length, format_max) = message?;
                now[n] += advance;
                // No payload looks like a timestamp of this test, all of which are below 0x50000000.
                let payload = Bytes::from(vec![0x55; length]);
                let message = Message { timestamp: now[n], kind: 8, stream: 1, payload };
                Some(([3u16, 70, 400][n], message, format_max))
            });
            let messages = messages.collect();
            expected.extend(encoder.together(messages, round.among));
        }
        (encoder.bytes, expected)
    }

    /// Messages come out in the order in which they were completed, except that those of one chunk come out at once.
    fn sorted(mut messages: Vec<Message>) -> Vec<Message> {
        messages.sort_by_key(|m| (m.timestamp, m.payload.len()));
        messages
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_messages(
            rounds in rounds(), repeat_extended: bool, cuts in prop::collection::vec(1usize..300, 1..60)
        ) {
            let (bytes, expected) = encode(rounds, repeat_extended);
            let whole = read(&bytes).unwrap();
            prop_assert_eq!(sorted(whole.clone()), sorted(expected));
            let mut reader = ChunkReader::new(Limits::PUBLISHER);
            let (mut pieced, mut kept, mut rest, mut cuts) = (Vec::new(), Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                kept.extend_from_slice(piece);
                let mut input = &kept[..];
                while let Some(message) = reader.next(&mut input).unwrap() {
                    pieced.push(message);
                }
                prop_assert!(input.len() < 22, "at most a header is left over");
                kept = input.to_vec();
                rest = after;
            }
            prop_assert_eq!(pieced, whole);
        }

        #[test]
        fn garbage_never_panics_and_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let mut reader = ChunkReader::new(Limits::STRANGER);
            let _ = read_with(&mut reader, &bytes);
            prop_assert!(reader.pending_bytes <= Limits::STRANGER.pending_bytes_max);
            prop_assert!(reader.streams.len() <= Limits::STRANGER.streams_max);
        }
    }
}
