//! An encoder written by hand: bytes for tests, as exact and as wrong as they need to be.

use std::net::SocketAddr;
use std::time::Duration;

use rml_amf0::Amf0Value;

use crate::config::{AddressLimits, RtmpConfig};
use crate::networks::Networks;

/// Deadlines of a port as tests want them, and limits that they do not meet.
pub(super) fn rtmp_config(listen: SocketAddr) -> RtmpConfig {
    let second = Duration::from_secs(1);
    RtmpConfig {
        listen,
        handshake_timeout: 5 * second,
        publish_timeout: 10 * second,
        first_media_timeout: 20 * second,
        idle_timeout: 8 * second,
        run_ahead_max: 20 * second,
        connections_max: 2,
        limits: AddressLimits {
            connections_max: 1_000,
            connects_per_second: 1_000,
            wrong_keys_per_minute: 1_000,
            handshakes_per_second: 1_000,
            exempt: Networks::default(),
        },
        proxy_protocol: Networks::default(),
        public_url: None,
    }
}

/// A sequence parameter set of 1920x1080.
pub(super) const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00,
    0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58,
];
/// One of 854x480.
pub(super) const SPS_480P: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1f, 0xda, 0x03, 0x60, 0xf7, 0x9b, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03,
    0x00, 0xf0, 0x3c, 0x60, 0xca, 0x80,
];
/// A picture parameter set.
pub(super) const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb];

/// A configuration record as encoders write it, without the bytes that high profiles should add.
pub(super) fn avc_record(sps: &[u8], pps: &[u8]) -> Vec<u8> {
    let length = |nal: &[u8]| u16::try_from(nal.len()).unwrap().to_be_bytes();
    [&[1, sps[1], sps[2], sps[3], 0xff, 0xe1][..], &length(sps), sps, &[1], &length(pps), pps].concat()
}

/// A video message with a configuration record.
pub(super) fn video_config(sps: &[u8]) -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0][..], &avc_record(sps, PPS)].concat()
}

/// A video message with one picture.
pub(super) fn picture(idr: bool, composition_millis: i32) -> Vec<u8> {
    let [_, composition @ ..] = composition_millis.to_be_bytes();
    let (first, nal) = if idr { (0x17, 0x65) } else { (0x27, 0x41) };
    [&[first, 1][..], &composition, &[0, 0, 0, 4, nal, 1, 2, 3]].concat()
}

/// An audio message with the configuration of AAC-LC, 48 kHz, stereo.
pub(super) const AUDIO_CONFIG: &[u8] = &[0xaf, 0, 0x11, 0x90];
/// An audio message with a frame.
pub(super) const AUDIO_FRAME: &[u8] = &[0xaf, 1, 0x21, 0x10, 0x05];

/// A command message's body.
pub(super) fn command(name: &str, transaction: f64, arguments: Vec<Amf0Value>) -> Vec<u8> {
    let mut values = vec![Amf0Value::Utf8String(name.into()), Amf0Value::Number(transaction)];
    values.extend(arguments);
    rml_amf0::serialize(&values).unwrap()
}

/// The body of `connect`.
pub(super) fn connect(app: &str) -> Vec<u8> {
    let properties = [("app", app), ("flashVer", "Test/1.0"), ("tcUrl", "rtmp://localhost/live")];
    let properties = properties.map(|(name, value)| (name.to_owned(), Amf0Value::Utf8String(value.into())));
    command("connect", 1.0, vec![Amf0Value::Object(properties.into())])
}

/// The body of `publish`.
pub(super) fn publish(key: &str) -> Vec<u8> {
    command(
        "publish",
        5.0,
        vec![Amf0Value::Null, Amf0Value::Utf8String(key.into()), Amf0Value::Utf8String("live".into())],
    )
}

/// Chunks on their way to the server.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) bytes: Vec<u8>,
}

impl Wire {
    /// A message in chunks of 128 bytes: a type 0 header, then type 3.
    pub(super) fn message(&mut self, csid: u8, kind: u8, timestamp: u32, stream: u32, body: &[u8]) -> &mut Self {
        let mut chunks = body.chunks(128);
        self.header0(csid, kind, timestamp, stream, body.len()).raw(chunks.next().unwrap_or_default());
        for chunk in chunks {
            self.raw(&[0xc0 | csid]).raw(chunk);
        }
        self
    }

    /// A type 0 header.
    pub(super) fn header0(&mut self, csid: u8, kind: u8, timestamp: u32, stream: u32, length: usize) -> &mut Self {
        let [_, length @ ..] = u32::try_from(length).unwrap().to_be_bytes();
        let [_, field @ ..] = timestamp.min(0xff_ffff).to_be_bytes();
        self.raw(&[csid]).raw(&field).raw(&length).raw(&[kind]).raw(&stream.to_le_bytes());
        if timestamp >= 0xff_ffff {
            self.raw(&timestamp.to_be_bytes());
        }
        self
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Everything up to and with `publish`, without waiting for answers.
    pub(super) fn greeting(key: &str) -> Self {
        let mut wire = Self::default();
        wire.message(3, 20, 0, 0, &connect("live"))
            .message(3, 20, 0, 0, &command("createStream", 4.0, vec![Amf0Value::Null]))
            .message(3, 20, 0, 1, &publish(key));
        wire
    }

    /// The greeting and then the first media, as a hasty encoder sends it.
    pub(super) fn pipelined(key: &str) -> Self {
        let mut wire = Self::greeting(key);
        wire.message(4, 8, 0, 1, AUDIO_CONFIG)
            .message(6, 9, 0, 1, &video_config(SPS))
            .message(6, 9, 0, 1, &picture(true, 0))
            .message(4, 8, 0, 1, AUDIO_FRAME);
        wire
    }
}

/// Sets of x265: 320x180, 10 bits, BT.2020 with PQ.
pub(super) const HEVC_VPS: &[u8] = &[
    0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0x95, 0x94, 0x09,
];
/// The same.
pub(super) const HEVC_SPS: &[u8] = &[
    0x42, 0x01, 0x01, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0,
    0x0a, 0x08, 0x0c, 0x1f, 0x3b, 0x65, 0x95, 0x95, 0x29, 0x30, 0xbc, 0x05, 0xa8, 0x48, 0x80, 0x48, 0x20, 0x00, 0x00,
    0x03, 0x00, 0x20, 0x00, 0x00, 0x03, 0x03, 0xc1, 0x22,
];
/// The same.
pub(super) const HEVC_PPS: &[u8] = &[0x44, 0x01, 0xc0, 0x73, 0xc1, 0x89];

/// An HEVC configuration record of these sets.
pub(super) fn hevc_record() -> Vec<u8> {
    let mut record = vec![1, 2, 0x20, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 60, 0xf0, 0, 0xfc, 0xfd, 0xfa, 0xfa, 0, 0, 0x0f, 3];
    for (kind, nal) in [(32, HEVC_VPS), (33, HEVC_SPS), (34, HEVC_PPS)] {
        record.extend([0x80 | kind, 0, 1, 0, u8::try_from(nal.len()).unwrap()]);
        record.extend(nal);
    }
    record
}

/// An AV1 configuration record of libaom: 320x180, 8 bits, BT.709.
pub(super) const AV1_RECORD: &[u8] = &[
    0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0e, 0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x10, 0x10, 0x10, 0x10,
    0x40,
];

/// The start of a key frame of libvpx: 320x180.
pub(super) const VP9_KEY: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x36, 0x06, 0x38, 0x24];
