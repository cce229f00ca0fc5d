//! An encoder written by hand, for what Debian's encoders cannot send: Enhanced RTMP, several tracks, odd moments.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rml_amf0::Amf0Value;

use super::movie::{Movie, Sample, Stream};

/// A connection that was accepted for publishing.
pub(crate) struct Publisher {
    stream: TcpStream,
    /// Sent in one piece by [`Publisher::flush`].
    output: Vec<u8>,
}

/// Bytes of a chunk, as OBS sets it.
const CHUNK_BYTES: usize = 4096;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const COMMAND: u8 = 20;

impl Publisher {
    /// Publishes to `rtmp://HOST:PORT/APP` with this key.
    ///
    /// # Errors
    /// What the server answers where it does not want the publisher.
    pub(crate) fn start(url: &str, key: &str) -> Result<Self, String> {
        let (address, app) = url.trim_start_matches("rtmp://").split_once('/').unwrap();
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut publisher = Self { stream, output: Vec::new() };
        publisher.shake_hands().map_err(|error| error.to_string())?;
        publisher.ask(app, key);
        publisher.await_answer()?;
        Ok(publisher)
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        let hello = [&[3u8][..], &[0; 8], &[7; 1528]].concat();
        self.stream.write_all(&hello)?;
        let mut answer = [0; 1 + 2 * 1536];
        self.stream.read_exact(&mut answer)?;
        self.stream.write_all(&answer[1..1537])
    }

    fn ask(&mut self, app: &str, key: &str) {
        let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
        let properties = HashMap::from([("app".to_owned(), text(app)), ("flashVer".to_owned(), text("Test/1.0"))]);
        let size = u32::try_from(CHUNK_BYTES).unwrap().to_be_bytes();
        self.write(2, 1, 0, 0, &size);
        self.command(0, "connect", 1.0, vec![Amf0Value::Object(properties)]);
        self.command(0, "createStream", 2.0, vec![Amf0Value::Null]);
        self.command(1, "publish", 3.0, vec![Amf0Value::Null, text(key), text("live")]);
        self.flush().unwrap();
    }

    fn await_answer(&mut self) -> Result<(), String> {
        let mut said = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let length = self.stream.read(&mut piece).map_err(|error| error.to_string())?;
            said.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&said);
            if text.contains("NetStream.Publish.Start") {
                return Ok(());
            }
            if length == 0 || text.contains("NetStream.Publish.BadName") || text.contains("Rejected") {
                return Err(text.into_owned());
            }
        }
    }

    /// Says goodbye, and waits until the server has closed too.
    pub(crate) fn stop(mut self) {
        self.command(1, "deleteStream", 4.0, vec![Amf0Value::Null, Amf0Value::Number(1.0)]);
        // The server may have closed before.
        drop(self.flush());
        drop(self.stream.shutdown(std::net::Shutdown::Write));
        drop(self.stream.read_to_end(&mut Vec::new()));
    }

    fn command(&mut self, stream: u32, name: &str, transaction: f64, arguments: Vec<Amf0Value>) {
        let mut values = vec![Amf0Value::Utf8String(name.to_owned()), Amf0Value::Number(transaction)];
        values.extend(arguments);
        self.write(3, COMMAND, 0, stream, &rml_amf0::serialize(&values).unwrap());
    }

    /// Adds an audio message.
    pub(crate) fn audio(&mut self, timestamp: u32, body: &[u8]) {
        self.write(4, AUDIO, timestamp, 1, body);
    }

    /// Adds a video message.
    pub(crate) fn video(&mut self, timestamp: u32, body: &[u8]) {
        self.write(6, VIDEO, timestamp, 1, body);
    }

    /// A message: a full header, and type 3 before each further chunk.
    fn write(&mut self, csid: u8, kind: u8, timestamp: u32, stream: u32, body: &[u8]) {
        let [_, length @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
        let extended = (timestamp >= 0xff_ffff).then(|| timestamp.to_be_bytes());
        let [_, field @ ..] = timestamp.min(0xff_ffff).to_be_bytes();
        self.output.push(csid);
        self.output.extend(field.into_iter().chain(length).chain([kind]).chain(stream.to_le_bytes()));
        for (number, chunk) in body.chunks(CHUNK_BYTES).enumerate() {
            if number > 0 {
                self.output.push(0xc0 | csid);
            }
            self.output.extend(extended.iter().flatten());
            self.output.extend_from_slice(chunk);
        }
    }

    /// Sends what was added.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }
}

/// How a stream's packets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// FLV's own tags: H.264 and AAC.
    Legacy,
    /// Enhanced RTMP, by `FourCC`.
    Enhanced,
    /// Enhanced RTMP's multitrack with one track a message, as OBS sends further tracks.
    OneTrack(u8),
}

/// A moment at which a stream has something to send.
pub(crate) struct Packet {
    pub(crate) millis: u32,
    pub(crate) is_video: bool,
    pub(crate) body: Vec<u8>,
}

/// All packets of a movie in these forms, in the order of their decoding; the configurations come first.
pub(crate) fn packets(movie: &Movie, picture: Form, sound: Form) -> Vec<Packet> {
    let mut packets = Vec::new();
    if let Some(stream) = &movie.picture {
        packets.push(Packet { millis: 0, is_video: true, body: video_config(stream, picture) });
        packets.extend(stream.samples.iter().map(|sample| video_packet(stream, sample, picture)));
    }
    if let Some(stream) = &movie.sound {
        packets.extend(audio_config(stream, sound).map(|body| Packet { millis: 0, is_video: false, body }));
        packets.extend(stream.samples.iter().map(|sample| audio_packet(stream, sample, sound)));
    }
    packets.sort_by_key(|packet| packet.millis);
    packets
}

fn video_config(stream: &Stream, form: Form) -> Vec<u8> {
    let start = 0x10;
    match form {
        Form::Legacy => [&[0x17, 0, 0, 0, 0][..], &stream.config].concat(),
        Form::Enhanced => [&[0x80 | start][..], &stream.codec, &stream.config].concat(),
        Form::OneTrack(id) => [&[0x80 | start | 6, 0][..], &stream.codec, &[id], &stream.config].concat(),
    }
}

fn video_packet(stream: &Stream, sample: &Sample, form: Form) -> Packet {
    let frame = if sample.key { 0x10 } else { 0x20 };
    let [_, composition @ ..] = sample.composition.to_be_bytes();
    // Only codecs with a composition time carry one; CodedFramesX says that it is 0.
    let timed = matches!(&stream.codec, b"avc1" | b"hvc1") && sample.composition != 0;
    let has_x = matches!(&stream.codec, b"avc1" | b"hvc1");
    let kind = if has_x && !timed { 3 } else { 1 };
    let times: &[u8] = if timed { &composition } else { &[] };
    let body = match form {
        Form::Legacy => [&[frame | 7, 1][..], &composition, &sample.data].concat(),
        Form::Enhanced => [&[0x80 | frame | kind][..], &stream.codec, times, &sample.data].concat(),
        Form::OneTrack(id) => [&[0x80 | frame | 6, kind][..], &stream.codec, &[id], times, &sample.data].concat(),
    };
    Packet { millis: sample.dts, is_video: true, body }
}

fn audio_config(stream: &Stream, form: Form) -> Option<Vec<u8>> {
    match form {
        Form::Legacy => Some([&[0xaf, 0][..], &stream.config].concat()),
        Form::Enhanced if stream.config.is_empty() => None,
        Form::Enhanced => Some([&[0x90][..], &stream.codec, &stream.config].concat()),
        Form::OneTrack(id) => Some([&[0x95, 0][..], &stream.codec, &[id], &stream.config].concat()),
    }
}

fn audio_packet(stream: &Stream, sample: &Sample, form: Form) -> Packet {
    let body = match form {
        Form::Legacy => [&[0xaf, 1][..], &sample.data].concat(),
        Form::Enhanced => [&[0x91][..], &stream.codec, &sample.data].concat(),
        Form::OneTrack(id) => [&[0x95, 1][..], &stream.codec, &[id], &sample.data].concat(),
    };
    Packet { millis: sample.dts, is_video: false, body }
}

/// A publisher at work on a thread of its own: it sends its packets in real time, and from the beginning again when they are over.
pub(crate) struct Push {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Publisher>>,
}

impl Push {
    /// Sends these packets, which last `millis`, from `publisher`'s beginning on.
    pub(crate) fn start(publisher: Publisher, packets: Vec<Packet>, millis: u32) -> Self {
        Self::with_clock(publisher, packets, millis, |at| at)
    }

    /// The same, by a clock of its own: it makes timestamps of the milliseconds since the start.
    pub(crate) fn with_clock(
        mut publisher: Publisher,
        packets: Vec<Packet>,
        millis: u32,
        clock: impl Fn(u32) -> u32 + Send + 'static,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            send_until(&mut publisher, &packets, millis, &clock, &told);
            publisher
        });
        Self { over, thread: Some(thread) }
    }

    /// Waits for the server to have closed the connection, or stops sending; then says goodbye.
    pub(crate) fn stop(mut self) {
        self.publisher().into_iter().for_each(Publisher::stop);
    }

    /// Stops sending, and gives the connection back as it is.
    pub(crate) fn publisher(&mut self) -> Option<Publisher> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap())
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.publisher();
    }
}

#[expect(clippy::disallowed_methods, reason = "encoders live in real time")]
fn send_until(
    publisher: &mut Publisher,
    packets: &[Packet],
    millis: u32,
    clock: &dyn Fn(u32) -> u32,
    over: &AtomicBool,
) {
    let started = Instant::now();
    for round in 0.. {
        for packet in packets {
            let at = round * millis + packet.millis;
            std::thread::sleep(Duration::from_millis(at.into()).saturating_sub(started.elapsed()));
            if packet.is_video {
                publisher.video(clock(at), &packet.body)
            } else {
                publisher.audio(clock(at), &packet.body)
            }
            if over.load(Ordering::Relaxed) || publisher.flush().is_err() {
                return;
            }
        }
    }
}
