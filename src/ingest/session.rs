//! The RTMP session: messages of an encoder in, requests and media out, and replies.
//!
//! A state machine without sockets or time:
//! 1. Give it what was received: [`Session::next`], again and again until it returns None.
//! 2. Send what [`Session::take_output`] holds.
//! 3. After [`SessionEvent::Publish`] it takes no more input until [`Session::accept`]; what an encoder sends ahead of the
//!    answer stays with the caller, and nothing of it is lost.
//! 4. [`Session::reject`] tells the encoder why it is not wanted; then close the connection.

use rml_amf0::Amf0Value;

use super::aggregate::{Aggregate, Malformed};
use super::amf::{AmfError, read_values};
use super::capabilities;
use super::chunk::{ChunkError, ChunkReader, Limits, Message};
use super::keys::PublishAddress;
use super::replies::{Replies, WINDOW_BYTES};

/// What an encoder wants or sends.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// It wants to publish. To be answered by [`Session::accept`] or [`Session::reject`].
    Publish {
        /// Where to, which tells the key.
        address: PublishAddress,
        /// What it calls itself.
        encoder: Option<String>,
    },
    /// Audio, after the publishing was accepted.
    Audio(Message),
    /// Video, after the publishing was accepted.
    Video(Message),
    /// A message of a publisher that is not read.
    Skipped(Skipped),
    /// It stops publishing, and said so.
    Stop,
}

/// What is not read of a publisher's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Data (`onMetaData`), which only repeats, and often wrongly, what the media say themselves.
    Data,
    /// Several messages in one (7.1.6) that end within one of them: media is lost.
    Aggregate,
}

/// A session that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Not chunks, or too much of them.
    #[error("malformed RTMP: {0}")]
    Chunk(#[from] ChunkError),
    /// A command that cannot be read.
    #[error("a malformed command: {0}")]
    Command(#[from] AmfError),
    /// Something out of order.
    #[error("{0} before connect")]
    NotConnected(String),
    /// More commands than any encoder sends before it publishes.
    #[error("more than {COMMANDS_MAX} commands without publishing")]
    TooManyCommands,
    /// More messages than any encoder sends before it publishes.
    #[error("more than {STRANGER_MESSAGES_MAX} messages without publishing")]
    TooManyMessages,
    /// More bytes than any encoder sends before it publishes.
    #[error("more than {STRANGER_BYTES_MAX} bytes without publishing")]
    TooManyBytes,
    /// A player.
    #[error("it wants to play; this server plays by HLS over HTTP")]
    Play,
}

impl SessionError {
    /// The word for the metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Chunk(_) => "chunk",
            Self::Command(_) => "command",
            Self::NotConnected(_) => "order",
            Self::TooManyCommands => "commands",
            Self::TooManyMessages | Self::TooManyBytes => "budget",
            Self::Play => "play",
        }
    }
}

/// Where a session is. Streams are message stream ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Connected,
    Asking { stream: u32 },
    Publishing { stream: u32 },
    Over,
}

/// One connection's session, after the handshake.
pub struct Session {
    chunks: ChunkReader,
    replies: Replies,
    phase: Phase,
    app: String,
    tc_url: String,
    encoder: Option<String>,
    /// What is left of an aggregate message.
    aggregate: Option<Aggregate>,
    streams: u32,
    commands: u32,
    /// Messages of all kinds but those that the chunk layer keeps to itself.
    messages: u64,
    received: u32,
    acknowledged: u32,
    window: u32,
}

/// A command message.
struct Command {
    name: String,
    transaction: f64,
    /// What follows: first the command object.
    values: std::vec::IntoIter<Amf0Value>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Right after the handshake.
    #[must_use]
    pub fn new() -> Self {
        Self {
            chunks: ChunkReader::new(Limits::STRANGER),
            replies: Replies::new(),
            phase: Phase::Fresh,
            app: String::new(),
            tc_url: String::new(),
            encoder: None,
            aggregate: None,
            streams: 0,
            commands: 0,
            messages: 0,
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
        }
    }

    /// Takes from the front of `input` until there is something to tell. None where more bytes are needed, or an answer.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is to be closed. Events before the error have been returned by earlier calls.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<SessionEvent>, SessionError> {
        while !matches!(self.phase, Phase::Asking { .. } | Phase::Over) {
            let before = input.len();
            let message = match self.aggregated() {
                Some(message) => Ok(Some(message)),
                None => self.chunks.next(input).map(|message| message.map(Ok)),
            };
            // Before an error is: a stranger's budget must not depend on how its bytes arrive.
            self.count(before - input.len())?;
            let event = match message? {
                Some(Ok(message)) if self.aggregate.is_some() => self.aggregated_message(message)?,
                Some(Ok(message)) => self.message(message)?,
                Some(Err(Malformed)) => self.skipped(Skipped::Aggregate),
                None => break,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// How many messages have come, those of which nothing is told too: what they cost is to be bounded.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.saturating_add(self.chunks.kept())
    }

    /// How many messages the encoder gave up before they were complete.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.chunks.discarded()
    }

    /// Asks the encoder whether it is there (7.1.7); `timestamp` comes back in its answer, if it answers.
    pub fn ping(&mut self, timestamp: u32) {
        self.replies.ping(timestamp);
    }

    /// How many bytes are to be sent to the encoder.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.replies.len()
    }

    /// What is to be sent to the encoder.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.replies.take()
    }

    /// The publisher is welcome: media may come.
    pub fn accept(&mut self) {
        let Phase::Asking { stream } = self.phase else { return };
        self.chunks.set_limits(Limits::PUBLISHER);
        self.replies.published(stream);
        self.phase = Phase::Publishing { stream };
    }

    /// The publisher is not, or no longer, welcome. No input is taken any more.
    pub fn reject(&mut self, code: &str, description: &str) {
        if let Phase::Asking { stream } | Phase::Publishing { stream } = self.phase {
            self.replies.status(stream, "error", code, description);
        }
        self.phase = Phase::Over;
    }

    fn aggregated(&mut self) -> Option<Result<Message, Malformed>> {
        let next = self.aggregate.as_mut()?.next();
        if next.is_none() {
            self.aggregate = None;
        }
        next
    }

    /// 7.1.6: an aggregate holds audio, video and data. Whatever else is in one is told of and not acted on: a message of
    /// megabytes could hold hundreds of thousands of pings.
    fn aggregated_message(&mut self, message: Message) -> Result<Option<SessionEvent>, SessionError> {
        if matches!(message.kind, AUDIO | VIDEO | DATA | DATA_AMF3) {
            return self.message(message);
        }
        self.count_message()?;
        Ok(self.skipped(Skipped::Aggregate))
    }

    fn is_stranger(&self) -> bool {
        !matches!(self.phase, Phase::Publishing { .. })
    }

    fn count(&mut self, bytes: usize) -> Result<(), SessionError> {
        self.received = self.received.wrapping_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.is_stranger() && self.received > STRANGER_BYTES_MAX {
            return Err(SessionError::TooManyBytes);
        }
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.replies.acknowledge(self.received);
        }
        Ok(())
    }

    fn count_message(&mut self) -> Result<(), SessionError> {
        self.messages = self.messages.saturating_add(1);
        if self.is_stranger() && self.messages > STRANGER_MESSAGES_MAX {
            return Err(SessionError::TooManyMessages);
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<Option<SessionEvent>, SessionError> {
        self.count_message()?;
        match message.kind {
            AUDIO | VIDEO => return self.media(message),
            AGGREGATE => return Ok(self.begin_aggregate(message)),
            USER_CONTROL => self.user_control(&message.payload),
            WINDOW_SIZE => self.set_window(&message.payload),
            COMMAND => return self.command_message(&message.payload, message.stream),
            // Its AMF3 is AMF0 behind a zero, which switches to AMF3 by a marker where it must.
            COMMAND_AMF3 => {
                let body = message.payload.strip_prefix(&[0]).unwrap_or(&message.payload);
                return self.command_message(body, message.stream);
            }
            DATA | DATA_AMF3 => return Ok(self.skipped(Skipped::Data)),
            _ => {}
        }
        Ok(None)
    }

    fn skipped(&self, what: Skipped) -> Option<SessionEvent> {
        matches!(self.phase, Phase::Publishing { .. }).then_some(SessionEvent::Skipped(what))
    }

    fn media(&mut self, message: Message) -> Result<Option<SessionEvent>, SessionError> {
        match self.phase {
            Phase::Fresh => Err(SessionError::NotConnected("media".to_owned())),
            Phase::Publishing { .. } if message.kind == AUDIO => Ok(Some(SessionEvent::Audio(message))),
            Phase::Publishing { .. } => Ok(Some(SessionEvent::Video(message))),
            _ => Ok(None),
        }
    }

    fn begin_aggregate(&mut self, message: Message) -> Option<SessionEvent> {
        if self.is_stranger() {
            return None;
        }
        self.aggregate = Some(Aggregate::new(message));
        None
    }

    /// 7.1.7. Only a ping is answered; of all else, also of unknown types, nothing follows.
    fn user_control(&mut self, payload: &[u8]) {
        if let [0, 6, timestamp @ ..] = payload
            && let Some(timestamp) = timestamp.first_chunk()
        {
            self.replies.pong(u32::from_be_bytes(*timestamp));
        }
    }

    fn set_window(&mut self, payload: &[u8]) {
        if let Some(window) = payload.first_chunk() {
            self.window = u32::from_be_bytes(*window).max(WINDOW_BYTES_MIN);
        }
    }

    /// A publisher's unreadable command is passed over: none matters any more, except those that stop it.
    fn command_message(&mut self, body: &[u8], stream: u32) -> Result<Option<SessionEvent>, SessionError> {
        match Command::read(body) {
            Ok(Some(command)) => self.command(command, stream),
            Ok(None) => Ok(None),
            Err(_) if matches!(self.phase, Phase::Publishing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn command(&mut self, mut command: Command, stream: u32) -> Result<Option<SessionEvent>, SessionError> {
        self.commands = self.commands.saturating_add(1);
        let publishing = matches!(self.phase, Phase::Publishing { .. });
        if self.commands > COMMANDS_MAX && !publishing {
            return Err(SessionError::TooManyCommands);
        }
        if self.phase == Phase::Fresh && command.name != "connect" {
            return Err(SessionError::NotConnected(printable(&command.name)));
        }
        match command.name.as_str() {
            "connect" => self.connect(&mut command),
            "createStream" => self.create_stream(command.transaction),
            "releaseStream" => self.replies.result(command.transaction, Amf0Value::Undefined),
            "FCPublish" => {
                self.replies.result(command.transaction, Amf0Value::Undefined);
                self.replies.fc("onFCPublish", "NetStream.Publish.Start");
            }
            "_checkbw" => self.replies.result(command.transaction, Amf0Value::Undefined),
            "getStreamLength" => self.replies.result(command.transaction, Amf0Value::Number(0.0)),
            "publish" if !publishing => return Ok(Some(self.publish(&mut command, stream))),
            "FCUnpublish" | "deleteStream" | "closeStream" if publishing => return Ok(self.stop(&mut command)),
            "play" | "play2" => return Err(self.refuse_player(stream)),
            _ => {}
        }
        Ok(None)
    }

    fn connect(&mut self, command: &mut Command) {
        if self.phase != Phase::Fresh {
            return;
        }
        let properties = command.values.next().and_then(Amf0Value::get_object_properties).unwrap_or_default();
        let property = |name| properties.get(name).cloned().and_then(Amf0Value::get_string);
        let app = property("app").filter(|app| !app.is_empty());
        self.tc_url = property("tcUrl").unwrap_or_default();
        self.app = app.unwrap_or_else(|| path_of(&self.tc_url).to_owned());
        self.encoder = property("flashVer").map(|name| printable(&name)).filter(|name| !name.is_empty());
        self.phase = Phase::Connected;
        let encoding = match properties.get("objectEncoding") {
            Some(Amf0Value::Number(AMF3_ENCODING)) => AMF3_ENCODING,
            _ => 0.0,
        };
        let capabilities = if capabilities::are_asked_for(&properties) { &capabilities::own()[..] } else { &[] };
        self.replies.connected(command.transaction, encoding, capabilities);
    }

    /// Players other than HLS's learn why they get nothing.
    fn refuse_player(&mut self, stream: u32) -> SessionError {
        let error = SessionError::Play;
        self.replies.status(stream, "error", "NetStream.Play.StreamNotFound", &error.to_string());
        self.phase = Phase::Over;
        error
    }

    fn create_stream(&mut self, transaction: f64) {
        self.streams = self.streams.saturating_add(1);
        self.replies.result(transaction, Amf0Value::Number(f64::from(self.streams)));
    }

    /// The name may be missing (OBS with an empty key), and so may the mode.
    fn publish(&mut self, command: &mut Command, stream: u32) -> SessionEvent {
        let name = command.values.nth(1).and_then(Amf0Value::get_string).unwrap_or_default();
        self.phase = Phase::Asking { stream };
        SessionEvent::Publish {
            address: PublishAddress { app: self.app.clone(), name, tc_url: self.tc_url.clone() },
            encoder: self.encoder.clone(),
        }
    }

    fn stop(&mut self, command: &mut Command) -> Option<SessionEvent> {
        let Phase::Publishing { stream } = self.phase else { return None };
        if command.name == "FCUnpublish" {
            self.replies.result(command.transaction, Amf0Value::Undefined);
            self.replies.fc("onFCUnpublish", "NetStream.Unpublish.Success");
        }
        if command.name == "deleteStream" && command.is_for_another_stream(stream) {
            return None;
        }
        self.replies.status(stream, "status", "NetStream.Unpublish.Success", "Stopped.");
        self.phase = Phase::Over;
        Some(SessionEvent::Stop)
    }
}

impl Command {
    /// None where the message does not begin with a name.
    fn read(body: &[u8]) -> Result<Option<Self>, AmfError> {
        let mut values = read_values(body)?.into_iter();
        let Some(Amf0Value::Utf8String(name)) = values.next() else { return Ok(None) };
        let transaction = values.next().and_then(Amf0Value::get_number).unwrap_or(0.0);
        Ok(Some(Self { name, transaction, values }))
    }

    fn is_for_another_stream(&mut self, stream: u32) -> bool {
        let named = self.values.nth(1).and_then(Amf0Value::get_number);
        named.is_some_and(|id| id > 0.0 && id != f64::from(stream))
    }
}

/// What follows the host in a URL.
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split_once('/').map_or("", |(_, path)| path)
}

/// A peer's text as it may stand in a log and a status: short, and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Commands before publishing: real encoders send six.
const COMMANDS_MAX: u32 = 64;
/// Messages before publishing, commands and all others together: real encoders send a dozen.
const STRANGER_MESSAGES_MAX: u64 = 256;
/// Bytes before publishing, from the end of the handshake on: real encoders send less than two thousand.
const STRANGER_BYTES_MAX: u32 = 256 << 10;
/// What a client that speaks AMF3 puts into `objectEncoding`.
const AMF3_ENCODING: f64 = 3.0;
/// Acknowledgements are not sent more often than this.
const WINDOW_BYTES_MIN: u32 = 1_000;
const USER_CONTROL: u8 = 4;
const WINDOW_SIZE: u8 = 5;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA_AMF3: u8 = 15;
const COMMAND_AMF3: u8 = 17;
const DATA: u8 = 18;
const COMMAND: u8 = 20;
const AGGREGATE: u8 = 22;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::{
        AUDIO_CONFIG, AUDIO_FRAME, SPS, Wire, command, connect, picture, publish, video_config,
    };
    use proptest::prelude::*;

    /// Feeds all, accepting whoever asks; returns what happened.
    fn feed(session: &mut Session, mut input: &[u8]) -> Result<Vec<SessionEvent>, SessionError> {
        let mut events = Vec::new();
        while let Some(event) = session.next(&mut input)? {
            if matches!(event, SessionEvent::Publish { .. }) {
                session.accept();
            }
            events.push(event);
        }
        Ok(events)
    }

    /// The messages that the server has sent.
    fn sent(session: &mut Session) -> Vec<(u8, u32, Vec<Amf0Value>)> {
        let bytes = session.take_output();
        let mut reader = ChunkReader::new(Limits::PUBLISHER);
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some(message) = reader.next(&mut rest).unwrap() {
            let values = if message.kind == COMMAND { read_values(&message.payload).unwrap() } else { vec![] };
            messages.push((message.kind, message.stream, values));
        }
        messages
    }

    fn names(session: &mut Session) -> Vec<String> {
        let name = |(kind, stream, values): (u8, u32, Vec<Amf0Value>)| match values.first() {
            Some(Amf0Value::Utf8String(name)) => format!("{name}@{stream}"),
            _ => format!("#{kind}"),
        };
        sent(session).into_iter().map(name).collect()
    }

    fn publishing() -> Session {
        let mut session = Session::new();
        feed(&mut session, &Wire::pipelined("key").bytes).unwrap();
        session.take_output();
        session
    }

    fn commands(list: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = Wire::default();
        for body in list {
            wire.message(3, 20, 0, 0, body);
        }
        wire.bytes
    }

    fn simple(name: &str, transaction: f64) -> Vec<u8> {
        command(name, transaction, vec![Amf0Value::Null])
    }

    #[test]
    fn row_55_the_sequence_of_obs_is_answered_in_order() {
        let mut session = Session::new();
        let events = feed(
            &mut session,
            &commands(&[
                connect("live"),
                simple("releaseStream", 2.0),
                simple("FCPublish", 3.0),
                simple("createStream", 4.0),
            ]),
        );
        assert_eq!(events, Ok(vec![]));
        assert_eq!(
            names(&mut session),
            ["#5", "#6", "_result@0", "_result@0", "_result@0", "onFCPublish@0", "_result@0"]
        );
        let mut wire = Wire::default();
        wire.message(8, 20, 0, 1, &publish("key"));
        let events = feed(&mut session, &wire.bytes).unwrap();
        let address = PublishAddress { app: "live".into(), name: "key".into(), tc_url: "rtmp://localhost/live".into() };
        assert_eq!(events, [SessionEvent::Publish { address, encoder: Some("Test/1.0".into()) }]);
        assert_eq!(names(&mut session), ["#4", "onStatus@1"]);
    }

    #[test]
    fn nothing_is_taken_between_publish_and_its_answer() {
        let wire = Wire::pipelined("key");
        let mut session = Session::new();
        let mut input = &wire.bytes[..];
        assert!(matches!(session.next(&mut input), Ok(Some(SessionEvent::Publish { .. }))));
        let left = input.len();
        assert_eq!((session.next(&mut input), input.len()), (Ok(None), left));
        session.accept();
        let events = feed(&mut session, input).unwrap();
        assert_eq!(events.len(), 4, "all media");
    }

    #[test]
    fn r8_acknowledgements_carry_the_running_total() {
        let mut session = publishing();
        let mut wire = Wire::default();
        wire.message(2, 5, 0, 0, &2_000u32.to_be_bytes());
        feed(&mut session, &wire.bytes).unwrap();
        let mut totals = Vec::new();
        for _ in 0..3 {
            let mut wire = Wire::default();
            wire.message(6, 9, 0, 1, &[0; 2_000]);
            feed(&mut session, &wire.bytes).unwrap();
            let bytes = session.take_output();
            let mut reader = ChunkReader::new(Limits::PUBLISHER);
            let message = reader.next(&mut &bytes[..]).unwrap().unwrap();
            totals.push(u32::from_be_bytes(*message.payload.first_chunk().unwrap()));
            assert_eq!((message.kind, totals.last()), (3, Some(&session.received)));
        }
        assert!(totals.windows(2).all(|w| w[1] - w[0] > 2_000));
    }

    #[test]
    fn r4_r5_data_messages_of_any_form_do_no_harm() {
        let alone = rml_amf0::serialize(&vec![Amf0Value::Utf8String("@setDataFrame".into())]).unwrap();
        let no_object = [&alone[..], &[2, 0, 10], b"onMetaData"].concat();
        let skipped = |what| SessionEvent::Skipped(what);
        for (mut session, times) in [(Session::new(), 0), (publishing(), 1)] {
            for body in [&alone, &no_object, &vec![0x0b; 20], &vec![]] {
                let mut wire = Wire::default();
                wire.message(3, 18, 0, 1, body).message(3, 15, 0, 1, body).message(3, 22, 0, 1, body);
                // An empty aggregate is a whole one.
                let whole = [Skipped::Data, Skipped::Data, Skipped::Aggregate];
                let skips = if body.is_empty() { &whole[..2] } else { &whole };
                let expected = skips.repeat(times).into_iter().map(skipped).collect();
                assert_eq!(feed(&mut session, &wire.bytes), Ok(expected));
            }
        }
    }

    #[test]
    fn r4_commands_cut_off_behind_any_value_do_no_harm() {
        const NAMES: [&str; 9] = [
            "connect",
            "createStream",
            "releaseStream",
            "FCPublish",
            "publish",
            "FCUnpublish",
            "deleteStream",
            "closeStream",
            "unheardOf",
        ];
        for name in NAMES {
            let values = [Amf0Value::Utf8String(name.into()), Amf0Value::Number(2.0), Amf0Value::Null, Amf0Value::Null];
            for count in 0..=values.len() {
                let body = rml_amf0::serialize(&values[..count].to_vec()).unwrap();
                let bytes = commands(&[body]);
                let first = feed(&mut Session::new(), &bytes);
                assert_eq!(
                    first.is_ok(),
                    name == "connect" || count == 0,
                    "{name} first, of {count} values: {first:?}"
                );
                let mut connected = Session::new();
                feed(&mut connected, &commands(&[connect("live")])).unwrap();
                assert!(feed(&mut connected, &bytes).is_ok(), "{name} of {count} values");
                assert!(feed(&mut publishing(), &bytes).is_ok(), "{name} of {count} values, publishing");
            }
        }
    }

    #[test]
    fn r11_publish_needs_neither_mode_nor_name() {
        for (arguments, name) in [
            (vec![Amf0Value::Null, Amf0Value::Utf8String("key".into())], "key"),
            (vec![Amf0Value::Null], ""),
            (vec![], ""),
        ] {
            let mut session = Session::new();
            let bytes = commands(&[connect("live"), command("publish", 5.0, arguments)]);
            let events = feed(&mut session, &bytes).unwrap();
            assert!(matches!(&events[..], [SessionEvent::Publish { address, .. }] if address.name == name));
        }
    }

    #[test]
    fn r12_commands_of_flash_encoders_are_answered() {
        let mut session = publishing();
        feed(
            &mut session,
            &commands(&[simple("_checkbw", 6.0), simple("getStreamLength", 7.0), simple("unheardOf", 8.0)]),
        )
        .unwrap();
        assert_eq!(names(&mut session), ["_result@0", "_result@0"]);
    }

    #[test]
    fn r13_commands_in_amf3_are_read_and_answered_in_amf0() {
        let name = |name: &str| rml_amf0::serialize(&vec![Amf0Value::Utf8String(name.into())]).unwrap();
        let transaction = [0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
        // An anonymous dynamic object {app: "live", objectEncoding: 3}.
        let properties = b"\x11\x0a\x0b\x01\x07app\x06\x09live\x1dobjectEncoding\x04\x03\x01";
        let connect = [&[0][..], &name("connect"), &transaction, properties].concat();
        // Null, and the key as a text.
        let publish = [&[0][..], &name("publish"), &transaction, b"\x11\x01\x11\x06\x07key"].concat();
        let mut wire = Wire::default();
        wire.message(3, 17, 0, 0, &connect).message(3, 17, 0, 1, &publish);
        let mut session = Session::new();
        let events = feed(&mut session, &wire.bytes).unwrap();
        let address = PublishAddress { app: "live".into(), name: "key".into(), tc_url: String::new() };
        assert_eq!(events, [SessionEvent::Publish { address, encoder: None }]);
        let welcome = welcome(&mut session);
        assert_eq!(welcome[1].get("objectEncoding"), Some(&Amf0Value::Number(3.0)));

        let mut wire = Wire::default();
        wire.message(3, 17, 0, 0, &[0, 0x11, 0x12]);
        assert_eq!(feed(&mut Session::new(), &wire.bytes), Err(SessionError::Command(AmfError::Marker3(0x12))));
    }

    #[test]
    fn r13_an_amf3_command_may_be_amf0_with_or_without_its_zero() {
        for prefix in [&[0][..], &[]] {
            let mut wire = Wire::default();
            wire.message(3, 17, 0, 0, &[prefix, &connect("live")].concat());
            let mut session = Session::new();
            assert_eq!(feed(&mut session, &wire.bytes), Ok(vec![]));
            assert_eq!(session.phase, Phase::Connected);
        }
    }

    /// Both objects of the answer to `connect`.
    fn welcome(session: &mut Session) -> Vec<std::collections::HashMap<String, Amf0Value>> {
        let mut messages = sent(session).into_iter().filter(|(kind, ..)| *kind == COMMAND);
        let (_, _, values) = messages.next().unwrap();
        values.into_iter().filter_map(Amf0Value::get_object_properties).collect()
    }

    #[test]
    fn r6_capabilities_are_told_to_those_who_tell_theirs() {
        let list = Amf0Value::StrictArray(vec![Amf0Value::Utf8String("*".into())]);
        let map = Amf0Value::Object([("*".to_owned(), Amf0Value::Number(7.0))].into());
        for (name, value) in [
            ("fourCcList", list),
            ("videoFourCcInfoMap", map.clone()),
            ("audioFourCcInfoMap", map),
            ("capsEx", Amf0Value::Null),
        ] {
            let properties = [("app".to_owned(), Amf0Value::Utf8String("live".into())), (name.to_owned(), value)];
            let mut session = Session::new();
            feed(&mut session, &commands(&[command("connect", 1.0, vec![Amf0Value::Object(properties.into())])]))
                .unwrap();
            for object in welcome(&mut session) {
                let Some(Amf0Value::Object(video)) = object.get("videoFourCcInfoMap") else {
                    panic!("{name}: {object:?}")
                };
                assert_eq!(video.get("hvc1"), Some(&Amf0Value::Number(5.0)));
                let Some(Amf0Value::Object(audio)) = object.get("audioFourCcInfoMap") else {
                    panic!("{name}: {object:?}")
                };
                assert_eq!(audio.get("Opus"), Some(&Amf0Value::Number(1.0)));
                let Some(Amf0Value::StrictArray(list)) = object.get("fourCcList") else { panic!("{name}: {object:?}") };
                assert_eq!(list.len(), video.len() + audio.len());
                assert_eq!(object.get("capsEx"), Some(&Amf0Value::Number(14.0)));
            }
        }
        let mut session = Session::new();
        feed(&mut session, &commands(&[connect("live")])).unwrap();
        let welcome = welcome(&mut session);
        assert!(welcome.iter().all(|o| !o.contains_key("capsEx") && !o.contains_key("fourCcList")), "OBS tells none");
        assert_eq!(welcome[1].get("objectEncoding"), Some(&Amf0Value::Number(0.0)));
    }

    #[test]
    fn aggregates_are_split_and_rebased() {
        let tag = |kind: u8, time: u8, body: &[u8]| {
            let length = u8::try_from(body.len()).unwrap();
            [&[kind, 0, 0, length, 0, 0, time, 0, 0, 0, 0][..], body, &[0, 0, 0, length + 11]].concat()
        };
        let nested = tag(22, 4, &tag(8, 4, AUDIO_FRAME));
        let body =
            [tag(8, 2, AUDIO_CONFIG), tag(9, 4, &picture(true, 0)), nested, tag(18, 4, b"x"), tag(8, 6, AUDIO_FRAME)];
        let mut session = publishing();
        let mut wire = Wire::default();
        wire.message(6, 22, 1_000, 1, &body.concat()).message(6, 22, 2_000, 1, &tag(8, 2, AUDIO_FRAME)[..14]);
        wire.message(6, 8, 3_000, 1, AUDIO_FRAME);
        let events: Vec<_> = feed(&mut session, &wire.bytes).unwrap();
        let told = events.iter().map(|event| match event {
            SessionEvent::Audio(m) => ("audio", m.timestamp),
            SessionEvent::Video(m) => ("video", m.timestamp),
            SessionEvent::Skipped(Skipped::Data) => ("data", 0),
            SessionEvent::Skipped(Skipped::Aggregate) => ("aggregate", 0),
            _ => ("other", 0),
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("audio", 1_000),
                ("video", 1_002),
                ("aggregate", 0),
                ("data", 0),
                ("audio", 1_004),
                ("aggregate", 0),
                ("audio", 3_000)
            ]
        );
    }

    #[test]
    fn row_34_an_aggregate_of_other_things_than_media_is_not_acted_on() {
        const PINGS: usize = 10_000;
        let ping = [4, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 17];
        let mut session = publishing();
        let mut wire = Wire::default();
        wire.message(6, 22, 0, 1, &ping.repeat(PINGS));
        let events = feed(&mut session, &wire.bytes).unwrap();
        assert_eq!(
            events,
            vec![SessionEvent::Skipped(Skipped::Aggregate); PINGS],
            "each is told, so that others may run"
        );
        assert!(session.take_output().is_empty(), "and none is answered");
    }

    #[test]
    fn row_5_what_the_chunk_layer_keeps_to_itself_counts_as_messages() {
        let mut session = publishing();
        let before = session.messages();
        let mut wire = Wire::default();
        wire.message(2, 1, 0, 0, &[0, 0, 0, 128]).message(2, 2, 0, 0, &[0, 0, 0, 9]);
        for _ in 0..3 {
            wire.header0(6, 9, 0, 1, 300).raw(&[0; 128]);
        }
        assert_eq!(feed(&mut session, &wire.bytes), Ok(vec![]));
        assert_eq!((session.messages() - before, session.discarded()), (4, 2), "and the third may go on");
    }

    #[test]
    fn a_ping_is_sent_and_its_answer_counts_as_a_message() {
        let mut session = publishing();
        session.ping(77);
        let mut ping = &session.take_output()[..];
        let message = ChunkReader::new(Limits::STRANGER).next(&mut ping).unwrap().unwrap();
        assert_eq!((message.kind, message.payload.as_ref()), (USER_CONTROL, &[0, 6, 0, 0, 0, 77][..]));
        let (before, mut wire) = (session.messages(), Wire::default());
        wire.message(2, 4, 0, 0, &[0, 7, 0, 0, 0, 77]);
        assert_eq!(feed(&mut session, &wire.bytes), Ok(vec![]));
        assert_eq!(session.messages(), before + 1);
    }

    #[test]
    fn row_3_what_a_stranger_may_send_is_bounded_and_a_publisher_is_not() {
        let mut wire = Wire::default();
        wire.message(3, 20, 0, 0, &connect("live"));
        for _ in 0..STRANGER_MESSAGES_MAX {
            wire.message(2, 3, 0, 0, &[0; 4]);
        }
        assert_eq!(feed(&mut Session::new(), &wire.bytes), Err(SessionError::TooManyMessages));
        assert_eq!(feed(&mut publishing(), &wire.bytes), Ok(vec![]));
        let mut wire = Wire::default();
        wire.message(3, 20, 0, 0, &connect("live"));
        for _ in 0..5 {
            wire.message(3, 18, 0, 0, &[0; 60_000]);
        }
        assert_eq!(feed(&mut Session::new(), &wire.bytes), Err(SessionError::TooManyBytes));
        assert_eq!(feed(&mut publishing(), &wire.bytes).map(|events| events.len()), Ok(5));
        let mut sizes = Wire::default();
        for _ in 0..20_000 {
            sizes.message(2, 1, 0, 0, &[0, 0, 16, 0]);
        }
        assert_eq!(
            feed(&mut Session::new(), &sizes.bytes),
            Err(SessionError::TooManyBytes),
            "what the chunk layer keeps to itself"
        );
    }

    #[test]
    fn user_control_is_tolerant_and_pings_are_answered() {
        let mut session = publishing();
        let mut wire = Wire::default();
        for body in [&[][..], &[0], &[0, 6], &[0, 99, 1, 2, 3, 4], &[0, 6, 0, 0, 1, 2]] {
            wire.message(2, 4, 0, 0, body);
        }
        wire.message(2, 6, 0, 0, &[0, 0, 0, 9, 77]);
        assert_eq!(feed(&mut session, &wire.bytes), Ok(vec![]));
        let pong = session.take_output();
        assert!(pong.ends_with(&[0, 7, 0, 0, 1, 2]), "{pong:?}");
    }

    #[test]
    fn messages_before_connect_end_the_session() {
        for body in [simple("createStream", 1.0), publish("key"), simple("releaseStream", 1.0)] {
            assert!(matches!(feed(&mut Session::new(), &commands(&[body])), Err(SessionError::NotConnected(_))));
        }
        for kind in [8, 9] {
            let mut wire = Wire::default();
            wire.message(4, kind, 0, 1, AUDIO_CONFIG);
            assert!(matches!(feed(&mut Session::new(), &wire.bytes), Err(SessionError::NotConnected(_))));
        }
    }

    #[test]
    fn floods_of_commands_end_the_session() {
        let flood = std::iter::once(connect("live")).chain(std::iter::repeat_n(simple("createStream", 1.0), 100_000));
        let mut session = Session::new();
        assert_eq!(feed(&mut session, &commands(&flood.collect::<Vec<_>>())), Err(SessionError::TooManyCommands));
        assert!(session.take_output().len() < 10_000);
    }

    #[test]
    fn row_29_nested_amf_is_refused_and_ignored_once_publishing() {
        let nested = [&simple("x", 0.0)[..], &[3, 0, 1, b'a'].repeat(4_000)].concat();
        let mut session = Session::new();
        assert_eq!(
            feed(&mut session, &commands(&[connect("live"), nested.clone()])),
            Err(SessionError::Command(AmfError::TooDeep))
        );
        assert_eq!(feed(&mut publishing(), &commands(&[nested])), Ok(vec![]));
        let mut wire = Wire::default();
        wire.header0(3, 20, 0, 0, (16 << 20) - 1);
        assert!(matches!(
            feed(&mut Session::new(), &wire.bytes),
            Err(SessionError::Chunk(ChunkError::MessageTooLong { .. }))
        ));
    }

    #[test]
    fn row_37_each_form_of_goodbye_stops_once() {
        for name in ["FCUnpublish", "deleteStream", "closeStream"] {
            let mut session = publishing();
            let events = feed(&mut session, &commands(&[simple(name, 6.0), simple("deleteStream", 7.0)]));
            assert_eq!(events, Ok(vec![SessionEvent::Stop]), "{name}");
        }
        let another = command("deleteStream", 6.0, vec![Amf0Value::Null, Amf0Value::Number(9.0)]);
        assert_eq!(feed(&mut publishing(), &commands(&[another])), Ok(vec![]));
    }

    #[test]
    fn players_are_sent_away_and_the_rejected_are_told() {
        let mut session = Session::new();
        let player = commands(&[connect("live"), simple("createStream", 2.0), simple("play", 3.0)]);
        assert_eq!(feed(&mut session, &player), Err(SessionError::Play));
        let messages = sent(&mut session);
        let Some((COMMAND, 0, values)) = messages.last() else { panic!("{messages:?}") };
        let Some(Amf0Value::Object(info)) = values.get(3) else { panic!("{values:?}") };
        assert_eq!(info.get("code"), Some(&Amf0Value::Utf8String("NetStream.Play.StreamNotFound".into())));
        let mut session = publishing();
        session.reject("NetStream.Publish.Rejected", "because");
        let messages = sent(&mut session);
        let [(COMMAND, 1, values)] = &messages[..] else { panic!("{messages:?}") };
        let Some(Amf0Value::Object(info)) = values.get(3) else { panic!("{values:?}") };
        assert_eq!(info.get("level"), Some(&Amf0Value::Utf8String("error".into())));
        assert_eq!(info.get("description"), Some(&Amf0Value::Utf8String("because".into())));
    }

    #[test]
    fn the_application_is_taken_from_the_url_where_there_is_none() {
        let properties = [("tcUrl".to_owned(), Amf0Value::Utf8String("rtmp://host:1935/live/key".into()))];
        let connect = command("connect", 1.0, vec![Amf0Value::Object(properties.into())]);
        let events = feed(&mut Session::new(), &commands(&[connect, publish("")])).unwrap();
        assert!(matches!(&events[..], [SessionEvent::Publish { address, .. }] if address.app == "live/key"));
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(cuts in prop::collection::vec(1usize..200, 1..80)) {
            let mut wire = Wire::pipelined("key");
            wire.message(6, 9, 40, 1, &picture(false, 33)).message(6, 9, 0x100_0000, 1, &video_config(SPS));
            wire.header0(6, 9, 90, 1, 300).raw(&[1; 128]).message(4, 8, 90, 1, &[7; 200]).raw(&[0xc6]).raw(&[1; 128]);
            wire.raw(&[0xc6]).raw(&[1; 44]).message(3, 20, 0, 0, &simple("deleteStream", 9.0));
            let whole = feed(&mut Session::new(), &wire.bytes).unwrap();
            prop_assert_eq!(whole.len(), 10);
            let mut session = Session::new();
            let (mut pieced, mut kept, mut rest, mut cuts) = (Vec::new(), Vec::new(), &wire.bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                kept.extend_from_slice(piece);
                let mut input = &kept[..];
                while let Some(event) = session.next(&mut input).unwrap() {
                    if matches!(event, SessionEvent::Publish { .. }) {
                        session.accept();
                    }
                    pieced.push(event);
                }
                kept = input.to_vec();
                rest = after;
            }
            prop_assert_eq!(pieced, whole);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, connected: bool) {
            let mut session = if connected { publishing() } else { Session::new() };
            let _ = feed(&mut session, &bytes);
        }
    }
}
