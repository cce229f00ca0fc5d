//! What Enhanced RTMP lets client and server tell each other in `connect`: codecs by `FourCC`, and extensions.
//!
//! Clauses are those of Veovera's "Enhanced RTMP (V2)", "Enhancing NetConnection connect Command".

use std::collections::HashMap;

use rml_amf0::Amf0Value;

/// Whether a client that connects with these properties knows of such capabilities. OBS and older encoders do not.
pub(super) fn are_asked_for(properties: &HashMap<String, Amf0Value>) -> bool {
    [FOURCC_LIST, VIDEO_MAP, AUDIO_MAP, EXTENSIONS].iter().any(|name| properties.contains_key(*name))
}

/// The server's own.
pub(super) fn own() -> [(&'static str, Amf0Value); 4] {
    let fourccs = VIDEO.iter().chain(&AUDIO).map(|(fourcc, _)| Amf0Value::Utf8String((*fourcc).to_owned()));
    [
        (FOURCC_LIST, Amf0Value::StrictArray(fourccs.collect())),
        (VIDEO_MAP, map(&VIDEO)),
        (AUDIO_MAP, map(&AUDIO)),
        (EXTENSIONS, Amf0Value::Number(f64::from(MULTITRACK | MOD_EX | NANO_OFFSET))),
    ]
}

fn map(codecs: &[(&str, u8)]) -> Amf0Value {
    let property = |(fourcc, can): &(&str, u8)| ((*fourcc).to_owned(), Amf0Value::Number(f64::from(*can)));
    Amf0Value::Object(codecs.iter().map(property).collect())
}

const FOURCC_LIST: &str = "fourCcList";
const VIDEO_MAP: &str = "videoFourCcInfoMap";
const AUDIO_MAP: &str = "audioFourCcInfoMap";
const EXTENSIONS: &str = "capsEx";

/// Bits of the maps.
const CAN_DECODE: u8 = 1;
const CAN_FORWARD: u8 = 4;
/// Bits of `capsEx`.
const MULTITRACK: u8 = 2;
const MOD_EX: u8 = 4;
const NANO_OFFSET: u8 = 8;

/// What passes through into segments is forwarded.
const VIDEO: [(&str, u8); 4] = [
    ("avc1", CAN_DECODE | CAN_FORWARD),
    ("hvc1", CAN_DECODE | CAN_FORWARD),
    ("av01", CAN_DECODE | CAN_FORWARD),
    ("vp09", CAN_DECODE),
];
const AUDIO: [(&str, u8); 6] = [
    ("mp4a", CAN_DECODE | CAN_FORWARD),
    ("Opus", CAN_DECODE),
    (".mp3", CAN_DECODE),
    ("ac-3", CAN_DECODE),
    ("ec-3", CAN_DECODE),
    ("fLaC", CAN_DECODE),
];
