//! What the server says: RTMP messages, written by `rml_rtmp`'s serializer into one buffer.

use std::collections::HashMap;

use rml_amf0::Amf0Value;
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::{PeerBandwidthLimitType, RtmpMessage, UserControlEventType};
use rml_rtmp::time::RtmpTimestamp;

/// Bytes after which each side tells the other how much it has received.
pub(crate) const WINDOW_BYTES: u32 = 2_500_000;
/// The chunk size that the server uses. Every reply fits into one chunk of it.
const CHUNK_BYTES: u32 = 4096;
/// Texts are cut here, so that with four bytes a character a status still fits into a chunk.
const TEXT_CHARS_MAX: usize = 900;

/// The writer of a connection.
pub(crate) struct Replies {
    serializer: ChunkSerializer,
    bytes: Vec<u8>,
}

impl Replies {
    pub(crate) fn new() -> Self {
        Self { serializer: ChunkSerializer::new(), bytes: Vec::new() }
    }

    /// How many bytes are to be sent.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is to be sent.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The answer to `connect`, in the order that encoders know from others. `encoding` is the version of AMF that the client
    /// says it speaks: others (nginx-rtmp, SRS, MediaMTX) say it again and go on in AMF0, which every client reads.
    /// Capabilities stand in both objects, as the specification leaves open in which.
    pub(crate) fn connected(&mut self, transaction: f64, encoding: f64, capabilities: &[(&'static str, Amf0Value)]) {
        self.message(0, RtmpMessage::WindowAcknowledgement { size: WINDOW_BYTES });
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.message(0, RtmpMessage::SetPeerBandwidth { size: WINDOW_BYTES, limit_type });
        match self.serializer.set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0)) {
            Ok(packet) => self.bytes.extend(packet.bytes),
            Err(error) => panic!("a constant chunk size can be written: {error}"),
        }
        let server = [("fmsVer", text("FMS/3,0,1,123")), ("capabilities", Amf0Value::Number(31.0))];
        let info = [
            ("level", text("status")),
            ("code", text("NetConnection.Connect.Success")),
            ("description", text("Connection succeeded.")),
            ("objectEncoding", Amf0Value::Number(encoding)),
        ];
        let with = |own: &[_]| object([own, capabilities].concat());
        self.command(0, "_result", transaction, with(&server), vec![with(&info)]);
    }

    /// Success of a command, with what it returns; nothing for a command that does not ask for an answer.
    pub(crate) fn result(&mut self, transaction: f64, value: Amf0Value) {
        if transaction == 0.0 {
            return;
        }
        self.command(0, "_result", transaction, Amf0Value::Null, vec![value]);
    }

    /// `onFCPublish` and `onFCUnpublish`, which encoders of the Flash family wait for.
    pub(crate) fn fc(&mut self, name: &str, code: &str) {
        let info = object([("code", text(code)), ("description", text(""))]);
        self.command(0, name, 0.0, Amf0Value::Null, vec![info]);
    }

    /// The stream is ready for media.
    pub(crate) fn published(&mut self, stream: u32) {
        let begin = RtmpMessage::UserControl {
            event_type: UserControlEventType::StreamBegin,
            stream_id: Some(stream),
            buffer_length: None,
            timestamp: None,
        };
        self.message(0, begin);
        self.status(stream, "status", "NetStream.Publish.Start", "Publishing.");
    }

    /// `onStatus`.
    pub(crate) fn status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let info = object([("level", text(level)), ("code", text(code)), ("description", text(description))]);
        self.command(stream, "onStatus", 0.0, Amf0Value::Null, vec![info]);
    }

    /// Asks whether the client is there.
    pub(crate) fn ping(&mut self, timestamp: u32) {
        self.user_control(UserControlEventType::PingRequest, timestamp);
    }

    /// The answer to a ping.
    pub(crate) fn pong(&mut self, timestamp: u32) {
        self.user_control(UserControlEventType::PingResponse, timestamp);
    }

    /// How many bytes have come in all, modulo 2^32 (5.4.3).
    pub(crate) fn acknowledge(&mut self, received: u32) {
        self.message(0, RtmpMessage::Acknowledgement { sequence_number: received });
    }

    fn user_control(&mut self, event_type: UserControlEventType, timestamp: u32) {
        let timestamp = Some(RtmpTimestamp::new(timestamp));
        self.message(0, RtmpMessage::UserControl { event_type, stream_id: None, buffer_length: None, timestamp });
    }

    fn command(&mut self, stream: u32, name: &str, transaction: f64, object: Amf0Value, arguments: Vec<Amf0Value>) {
        let command = RtmpMessage::Amf0Command {
            command_name: name.to_owned(),
            transaction_id: transaction,
            command_object: object,
            additional_arguments: arguments,
        };
        self.message(stream, command);
    }

    fn message(&mut self, stream: u32, message: RtmpMessage) {
        // Full headers always: some encoders do not take others from a server.
        let packet = message
            .into_message_payload(RtmpTimestamp::new(0), stream)
            .map_err(|error| error.to_string())
            .and_then(|payload| self.serializer.serialize(&payload, true, false).map_err(|error| error.to_string()));
        match packet {
            Ok(packet) => self.bytes.extend(packet.bytes),
            Err(error) => panic!("our own messages are short and can be written: {error}"),
        }
    }
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.chars().take(TEXT_CHARS_MAX).collect())
}

fn object(properties: impl IntoIterator<Item = (&'static str, Amf0Value)>) -> Amf0Value {
    let owned = properties.into_iter().map(|(name, value)| (name.to_owned(), value));
    Amf0Value::Object(owned.collect::<HashMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::amf::read_values;
    use crate::ingest::capabilities;
    use crate::ingest::chunk::{ChunkReader, Limits};

    #[test]
    fn the_longest_status_is_one_chunk_that_reads_back() {
        let mut replies = Replies::new();
        replies.connected(1.0, 0.0, &capabilities::own());
        let welcome = replies.take();
        assert!(welcome.len() < CHUNK_BYTES as usize, "{} bytes", welcome.len());
        replies.status(1, "error", "NetStream.Publish.Rejected", &"\u{1f4a5}".repeat(5_000));
        let bytes = replies.take();
        assert!(bytes.len() <= 12 + CHUNK_BYTES as usize);
        let mut reader = ChunkReader::new(Limits::STRANGER);
        let set_size = [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &CHUNK_BYTES.to_be_bytes()].concat();
        assert_eq!(reader.next(&mut &set_size[..]), Ok(None));
        let message = reader.next(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!(read_values(&message.payload).unwrap().len(), 4);
    }
}
