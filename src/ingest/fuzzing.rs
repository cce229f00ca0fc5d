//! What must hold whatever a peer sends: a function a fuzz target.
//!
//! Called by the targets in `fuzz/`, and by the tests below over `fuzz/corpus` and `fuzz/regressions` and over mutations of
//! them. Each panics where something does not hold: the events do not depend on how the bytes were split, what is kept is
//! bounded, time increases.

use bytes::{Buf, Bytes};

use super::aac::AacConfig;
use super::amf::{Amf0Value, DEPTH_MAX, VALUES_MAX, read_values};
use super::av1::Av1Reader;
use super::avc::AvcReader;
use super::chunk::{ChunkError, ChunkReader, Limits, Message};
use super::handshake::{Handshake, NotRtmp, Progress};
use super::hevc::HevcReader;
use super::intake::Intake;
use super::session::{Session, SessionError, SessionEvent};
use crate::media::{MediaTime, Track};
use crate::source::SourceEvent;

/// A fuzz target: the name of its file and of its folders of inputs, and what takes an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("chunks", chunks),
    ("amf", amf),
    ("tags", tags),
    ("session", session),
    ("avc", avc),
    ("hevc", hevc),
    ("av1", av1),
    ("aac", aac),
];

/// The chunk layer, with a stranger's limits and with a publisher's.
pub fn chunks(bytes: &[u8]) {
    for limits in [Limits::STRANGER, Limits::PUBLISHER] {
        let whole = read_chunks(limits, bytes, Pieces::Whole);
        assert!(read_chunks(limits, bytes, Pieces::of(bytes)) == whole, "the split changes what is read");
    }
}

fn read_chunks(limits: Limits, bytes: &[u8], pieces: Pieces) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = ChunkReader::new(limits);
    let mut messages = Vec::new();
    let ended = in_pieces(bytes, pieces, |input| {
        loop {
            let next = reader.next(input);
            assert!(reader.pending_bytes() <= limits.pending_bytes_max, "more is kept than may be");
            match next {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    (messages, ended.err())
}

/// The values of commands and data.
pub fn amf(bytes: &[u8]) {
    if let Ok(values) = read_values(bytes) {
        let mut count = 0;
        values.iter().for_each(|value| count_values(value, 0, &mut count));
        assert!(count <= VALUES_MAX, "{count} values");
    }
}

fn count_values(value: &Amf0Value, depth: usize, count: &mut usize) {
    assert!(depth <= DEPTH_MAX, "too deep");
    *count += 1;
    match value {
        Amf0Value::Object(properties) => properties.values().for_each(|v| count_values(v, depth + 1, count)),
        Amf0Value::StrictArray(values) => values.iter().for_each(|v| count_values(v, depth + 1, count)),
        _ => {}
    }
}

/// Audio and video messages, and all that is made of them. Each is seven bytes (a kind, its time, its length) and its body.
pub fn tags(mut bytes: &[u8]) {
    let mut media = Media::new();
    while bytes.remaining() >= 7 {
        let (kind, timestamp, length) = (bytes.get_u8(), bytes.get_u32(), usize::from(bytes.get_u16()));
        let (body, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        bytes = rest;
        if !media.take(kind & 1 == 0, timestamp, Bytes::copy_from_slice(body)) {
            return;
        }
    }
}

/// A connection from its first byte, or where the input begins with an odd one from the end of the handshake, and all that
/// is made of its media.
pub fn session(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let shaken = first & 1 == 1;
    let whole = run_session(shaken, bytes, Pieces::Whole);
    assert!(run_session(shaken, bytes, Pieces::of(bytes)) == whole, "the split changes what happens");
    let mut media = Media::new();
    for event in whole.0 {
        let goes_on = match event {
            SessionEvent::Video(message) => media.take(true, message.timestamp, message.payload),
            SessionEvent::Audio(message) => media.take(false, message.timestamp, message.payload),
            _ => true,
        };
        if !goes_on {
            return;
        }
    }
}

/// What a session ended by, if it did.
#[derive(Debug, PartialEq)]
enum Ended {
    NotRtmp(NotRtmp),
    Session(SessionError),
}

/// The events of a connection, and its end.
fn run_session(shaken: bool, bytes: &[u8], pieces: Pieces) -> (Vec<SessionEvent>, Option<Ended>) {
    let begin = match shaken {
        true => Ok(Some(0)),
        false => shake_hands(bytes, pieces),
    };
    match begin {
        Ok(Some(begin)) => run_shaken(bytes.get(begin..).unwrap_or_default(), pieces),
        Ok(None) => (Vec::new(), None),
        Err(error) => (Vec::new(), Some(Ended::NotRtmp(error))),
    }
}

/// Where the handshake ends, if it does.
fn shake_hands(bytes: &[u8], mut pieces: Pieces) -> Result<Option<usize>, NotRtmp> {
    let (mut handshake, mut fed) = (Handshake::new(), 0usize);
    while let Some(rest) = bytes.get(fed..).filter(|rest| !rest.is_empty()) {
        let (piece, _) = rest.split_at_checked(pieces.next()).unwrap_or((rest, &[]));
        fed += piece.len();
        if let Progress::Done { rest, .. } = handshake.feed(piece)? {
            return Ok(Some(fed - rest.len()));
        }
    }
    Ok(None)
}

/// The events after the handshake. Whoever asks may publish.
fn run_shaken(bytes: &[u8], pieces: Pieces) -> (Vec<SessionEvent>, Option<Ended>) {
    let (mut session, mut events, mut sent) = (Session::new(), Vec::new(), 0);
    let ended = in_pieces(bytes, pieces, |input| {
        while let Some(event) = session.next(input)? {
            if matches!(event, SessionEvent::Publish { .. }) {
                session.accept();
            }
            events.push(event);
        }
        sent += session.take_output().len();
        Ok(())
    });
    assert!(sent <= OUTPUT_BYTES_MAX + 8 * bytes.len(), "{sent} bytes of answers to {} bytes", bytes.len());
    (events, ended.err().map(Ended::Session))
}

/// What a server may say to a peer whatever that says, beside a multiple of it.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// A publisher's intake, whose output is looked at.
struct Media {
    intake: Intake,
    events: Vec<SourceEvent>,
    /// The last dts of each track.
    last: Vec<(Track, MediaTime)>,
}

impl Media {
    fn new() -> Self {
        Self { intake: Intake::new(MediaTime::ZERO), events: Vec::new(), last: Vec::new() }
    }

    /// Takes a message; false where the publisher is refused.
    fn take(&mut self, video: bool, timestamp: u32, body: Bytes) -> bool {
        let taken = if video {
            self.intake.video(timestamp, body, &mut self.events).is_ok()
        } else {
            self.intake.audio(timestamp, body, &mut self.events).is_ok()
        };
        self.intake.take_notes();
        for event in std::mem::take(&mut self.events) {
            self.look_at(&event);
        }
        taken
    }

    fn look_at(&mut self, event: &SourceEvent) {
        let SourceEvent::Unit(track, unit) = event else { return };
        assert!(!unit.data.is_empty(), "an empty unit");
        match self.last.iter_mut().find(|(known, _)| known == track) {
            Some((_, last)) => assert!(std::mem::replace(last, unit.dts) < unit.dts, "dts does not increase"),
            None => self.last.push((*track, unit.dts)),
        }
    }
}

/// An AVC configuration record, and the same bytes as a picture under it.
pub fn avc(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut reader = AvcReader::default();
    let configured = reader.configure(&bytes).is_ok();
    assert!(!configured || reader.format().is_some(), "configured without a format");
    if let Ok((picture, _)) = reader.picture(&bytes) {
        // Lengths of one byte become lengths of four, start codes of three bytes too.
        assert!(picture.data.len() <= 4 * bytes.len(), "a picture grows");
    }
}

/// An HEVC configuration record, and the same bytes as a picture under it.
pub fn hevc(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut reader = HevcReader::default();
    // A record without parameter sets leaves the format to the stream.
    let changed = reader.configure(&bytes).unwrap_or(false);
    assert!(!changed || reader.format().is_some(), "configured without a format");
    if let Ok((picture, _)) = reader.picture(&bytes, true) {
        assert!(picture.data.len() <= 4 * bytes.len(), "a picture grows");
    }
}

/// An AV1 configuration record, and the same bytes as a temporal unit under it.
pub fn av1(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut reader = Av1Reader::default();
    let changed = reader.configure(&bytes).unwrap_or(false);
    assert!(!changed || reader.format().is_some(), "configured without a format");
    if let Ok((picture, _)) = reader.picture(&bytes) {
        // The last unit may have come without its size.
        assert!(picture.data.len() <= bytes.len() + 8, "a picture grows");
    }
}

/// An AAC configuration.
pub fn aac(bytes: &[u8]) {
    if let Ok(config) = AacConfig::parse(&Bytes::copy_from_slice(bytes)) {
        assert!(config.format.sample_rate > 0 && config.format.channels > 0 && config.frame_samples > 0, "{config:?}");
    }
}

/// How an input is cut up.
#[derive(Clone, Copy)]
enum Pieces {
    Whole,
    /// In pieces of up to 300 bytes, many of which are short; the state of a generator.
    Random(u64),
}

impl Pieces {
    /// As the input itself decides, so that a finding can be found again.
    fn of(bytes: &[u8]) -> Self {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self::Random(bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    fn next(&mut self) -> usize {
        let Self::Random(state) = self else { return usize::MAX };
        let random = next_random(state);
        let max = if random & 3 == 0 { 300 } else { 20 };
        1 + usize::try_from((random >> 32) % max).unwrap_or(0)
    }
}

/// Marsaglia's xorshift64: enough to choose where to cut.
fn next_random(state: &mut u64) -> u64 {
    let mut x = *state | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    x
}

/// Feeds an input piece by piece. What a call leaves stands before the next piece, as it does in a driver.
fn in_pieces<E>(bytes: &[u8], mut pieces: Pieces, mut feed: impl FnMut(&mut &[u8]) -> Result<(), E>) -> Result<(), E> {
    let (mut begin, mut end) = (0usize, 0usize);
    while end < bytes.len() {
        end = end.saturating_add(pieces.next()).min(bytes.len());
        let mut input = bytes.get(begin..end).unwrap_or_default();
        feed(&mut input)?;
        begin = end - input.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// The inputs of a target, in the order of their names: seeds, and what was found once.
    fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let folders = ["corpus", "regressions"].map(|kind| fuzz.join(kind).join(target));
        let entries = folders.iter().flat_map(std::fs::read_dir).flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// As the fuzzer does where it cannot run: bytes changed, inserted, taken out, repeated and joined to another input's.
    fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut u64) {
        let below = |random: &mut u64, n: usize| usize::try_from(next_random(random) >> 16).unwrap() % n.max(1);
        for _ in 0..=below(random, 6) {
            let at = below(random, input.len());
            let end = (at + 1 + below(random, 16)).min(input.len());
            let byte = [0, 1, 0x7f, 0x80, 0xff, 3, next_random(random).to_be_bytes()[0]][below(random, 7)];
            match below(random, 6) {
                0 if !input.is_empty() => input[at] = byte,
                1 if !input.is_empty() => input[at] ^= 1 << below(random, 8),
                2 => input.insert(at, byte),
                3 if at < end => drop(input.drain(at..end)),
                4 if at < end => input.extend_from_within(at..end),
                _ => {
                    input.truncate(at);
                    input.extend_from_slice(&other[below(random, other.len())..]);
                }
            }
        }
        input.truncate(32 << 10);
    }

    /// Runs mutations of a target's inputs for a time, from a seed that a failure names.
    fn mutate_for(time: Duration, seed: u64, target: fn(&[u8]), inputs: &[(PathBuf, Vec<u8>)]) -> u64 {
        let (begun, mut random, mut runs) = (Instant::now(), seed, 0);
        while begun.elapsed() < time {
            let mut pick = || &inputs[usize::try_from(next_random(&mut random) >> 16).unwrap() % inputs.len()].1;
            let (mut input, other) = (pick().clone(), pick().clone());
            mutate(&mut input, &other, &mut random);
            let taken = catch_unwind(AssertUnwindSafe(|| target(&input)));
            assert!(taken.is_ok(), "seed {seed}, run {runs}: keep this in fuzz/regressions: {input:02x?}");
            runs += 1;
        }
        runs
    }

    /// Every input of a target, and mutations of them for `FUZZ_SECONDS`, two if that is not set.
    fn fuzz(name: &str) {
        let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
        let seconds = std::env::var("FUZZ_SECONDS").map_or(2.0, |seconds| seconds.parse().unwrap());
        let seed = std::env::var("FUZZ_SEED").map_or_else(|_| getrandom::u64().unwrap(), |seed| seed.parse().unwrap());
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has a corpus");
        for (path, input) in &inputs {
            let taken = catch_unwind(|| target(input));
            assert!(taken.is_ok(), "{}", path.display());
        }
        let runs = mutate_for(Duration::from_secs_f64(seconds), seed, target, &inputs);
        println!("{name}: {} inputs, {runs} mutations of them", inputs.len());
    }

    #[test]
    fn every_input_of_chunks_is_taken() {
        fuzz("chunks");
    }

    #[test]
    fn every_input_of_amf_is_taken() {
        fuzz("amf");
    }

    #[test]
    fn every_input_of_tags_is_taken() {
        fuzz("tags");
    }

    #[test]
    fn every_input_of_session_is_taken() {
        fuzz("session");
    }

    #[test]
    fn every_input_of_avc_is_taken() {
        fuzz("avc");
    }

    #[test]
    fn every_input_of_hevc_is_taken() {
        fuzz("hevc");
    }

    #[test]
    fn every_input_of_av1_is_taken() {
        fuzz("av1");
    }

    #[test]
    fn every_input_of_aac_is_taken() {
        fuzz("aac");
    }

    /// The corpus holds what is worth mutating: the seeds get to the ends of what they are to try.
    #[test]
    fn the_seeds_reach_what_they_are_for() {
        let events = |input: &[u8]| run_session(input[0] & 1 == 1, &input[1..], Pieces::Whole).0.len();
        assert!(inputs("session").iter().filter(|(_, input)| events(input) > 20).count() >= 3, "sessions with media");
        let configured = |input: &[u8]| AvcReader::default().configure(&Bytes::copy_from_slice(input)).is_ok();
        assert!(inputs("avc").iter().any(|(_, input)| configured(input)), "a record that is taken");
        let configured = |input: &[u8]| HevcReader::default().configure(&Bytes::copy_from_slice(input)) == Ok(true);
        assert!(inputs("hevc").iter().any(|(_, input)| configured(input)), "a record that is taken");
        let configured = |input: &[u8]| Av1Reader::default().configure(&Bytes::copy_from_slice(input)) == Ok(true);
        assert!(inputs("av1").iter().any(|(_, input)| configured(input)), "a record that is taken");
        let parsed = |input: &[u8]| AacConfig::parse(&Bytes::copy_from_slice(input)).is_ok();
        assert!(inputs("aac").iter().any(|(_, input)| parsed(input)), "a configuration that is taken");
    }
}
