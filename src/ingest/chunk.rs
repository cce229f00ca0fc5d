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
    /// Bytes of all messages that are not complete yet.
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
            self.discarded += 1;
            self.pending_bytes = self.pending_bytes.saturating_sub(stream.payload.len());
            stream.payload = BytesMut::new();
        }
    }

    /// Makes room for the next chunk of a stream's message.
    fn open_chunk(&mut self, position: usize) -> Result<(usize, usize), ChunkError> {
        let Some(stream) = self.streams.get_mut(position) else { return Ok((position, 0)) };
        let length = stream.length as usize;
        if !stream.open {
            stream.open = true;
            // The length is only a claim yet: what is reserved for it at once is bounded.
            stream.payload = BytesMut::with_capacity(length.min(RESERVE_BYTES_MAX));
        }
        let missing = length.saturating_sub(stream.payload.len()).min(self.chunk_bytes_max as usize);
        if self.pending_bytes.saturating_add(missing) > self.limits.pending_bytes_max {
            return Err(ChunkError::TooMuchPending(self.limits.pending_bytes_max));
        }
        Ok((position, missing))
    }

    /// Copies what is there of a chunk; returns what is still missing.
    fn fill(&mut self, position: usize, missing: usize, input: &mut &[u8]) -> usize {
        let (piece, rest) = input.split_at_checked(missing).unwrap_or((*input, &[]));
        if let Some(stream) = self.streams.get_mut(position) {
            stream.payload.extend_from_slice(piece);
        }
        self.pending_bytes += piece.len();
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
/// What is reserved for a message on the word of its header; longer ones grow by doubling.
const RESERVE_BYTES_MAX: usize = 256 << 10;
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
