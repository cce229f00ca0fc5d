//! The bodies of RTMP's audio and video messages, which are FLV tags (Adobe's "Video File Format 10.1", E.4).
//!
//! Reads the tag's header only: what is in the access units is the business of [`avc`](super::avc) and [`aac`](super::aac).

use bytes::{Buf, Bytes};

/// A video message that carries, or is about, H.264.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoTag {
    /// An `AVCDecoderConfigurationRecord`.
    Config(Bytes),
    /// One access unit.
    Frame {
        /// Milliseconds from decoding to showing; signed, 24 bits.
        composition_millis: i32,
        /// NAL units with lengths before them.
        data: Bytes,
    },
    /// The end of a sequence, which is not the end of the stream: encoders go on after it.
    EndOfSequence,
    /// A seek mark or another command, without a picture.
    Command,
}

/// An audio message that carries AAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioTag {
    /// An `AudioSpecificConfig`.
    Config(Bytes),
    /// One raw frame.
    Frame(Bytes),
}

/// A message that gives nothing: it is to be skipped, or the publisher refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// It has no bytes.
    #[error("an empty tag")]
    Empty,
    /// It ends within its header.
    #[error("a tag cut short")]
    Truncated,
    /// It carries another codec, whose name this is.
    #[error("{0} is not supported")]
    Codec(String),
    /// An AVC or AAC packet type that the format does not have.
    #[error("packet type {0} is unknown")]
    PacketType(u8),
    /// One of several tracks in a connection, which Enhanced RTMP can carry beside the plain ones.
    #[error("a further track of Enhanced RTMP")]
    FurtherTrack,
}

/// Reads a video message (E.4.3).
///
/// # Errors
/// [`TagError`].
pub fn video_tag(mut body: Bytes) -> Result<VideoTag, TagError> {
    let first = body.try_get_u8().map_err(|_| TagError::Empty)?;
    if first & 0x80 != 0 {
        return Err(enhanced_video(first & 0x0f, &body));
    }
    if (first >> 4) == COMMAND_FRAME {
        return Ok(VideoTag::Command);
    }
    if first & 0x0f != AVC {
        return Err(TagError::Codec(video_codec_name(first & 0x0f)));
    }
    let [packet_type, composition @ ..] = *body.first_chunk::<4>().ok_or(TagError::Truncated)?;
    body.advance(4);
    match packet_type {
        0 => Ok(VideoTag::Config(body)),
        1 => Ok(VideoTag::Frame { composition_millis: signed_24(composition), data: body }),
        2 => Ok(VideoTag::EndOfSequence),
        other => Err(TagError::PacketType(other)),
    }
}

/// Reads an audio message (E.4.2). What it says of sample rate and channels is wrong for AAC, and not read.
///
/// # Errors
/// [`TagError`].
pub fn audio_tag(mut body: Bytes) -> Result<AudioTag, TagError> {
    let first = body.try_get_u8().map_err(|_| TagError::Empty)?;
    match first >> 4 {
        AAC => {}
        ENHANCED_AUDIO if first & 0x0f == 5 => return Err(TagError::FurtherTrack),
        ENHANCED_AUDIO => return Err(TagError::Codec(fourcc_name(&body))),
        codec => return Err(TagError::Codec(audio_codec_name(codec))),
    }
    match body.try_get_u8().map_err(|_| TagError::Truncated)? {
        0 => Ok(AudioTag::Config(body)),
        1 => Ok(AudioTag::Frame(body)),
        other => Err(TagError::PacketType(other)),
    }
}

/// Enhanced RTMP, whose header has a `FourCC`: not taken yet, but told apart so that the refusal can name the codec.
fn enhanced_video(packet_type: u8, body: &[u8]) -> TagError {
    const MULTITRACK: u8 = 6;
    if packet_type == MULTITRACK { TagError::FurtherTrack } else { TagError::Codec(fourcc_name(body)) }
}

fn signed_24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn fourcc_name(body: &[u8]) -> String {
    match body.first_chunk::<4>() {
        Some(b"hvc1") => "HEVC (H.265)".to_owned(),
        Some(b"av01") => "AV1".to_owned(),
        Some(b"vp08") => "VP8".to_owned(),
        Some(b"vp09") => "VP9".to_owned(),
        Some(b"avc1") => "H.264 in Enhanced RTMP's form".to_owned(),
        Some(text) if text.iter().all(u8::is_ascii_graphic) => String::from_utf8_lossy(text).into_owned(),
        _ => "an unnamed codec".to_owned(),
    }
}

fn video_codec_name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 | 6 => "Screen Video".to_owned(),
        4 | 5 => "VP6".to_owned(),
        12 => "HEVC (H.265)".to_owned(),
        13 => "AV1".to_owned(),
        other => format!("video codec {other}"),
    }
}

fn audio_codec_name(id: u8) -> String {
    match id {
        0 | 3 => "PCM".to_owned(),
        1 => "ADPCM".to_owned(),
        2 | 14 => "MP3".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        7 | 8 => "G.711".to_owned(),
        11 => "Speex".to_owned(),
        13 => "Opus".to_owned(),
        other => format!("audio codec {other}"),
    }
}

const COMMAND_FRAME: u8 = 5;
const AVC: u8 = 7;
const AAC: u8 = 10;
const ENHANCED_AUDIO: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn video(bytes: &[u8]) -> Result<VideoTag, TagError> {
        video_tag(Bytes::copy_from_slice(bytes))
    }

    fn audio(bytes: &[u8]) -> Result<AudioTag, TagError> {
        audio_tag(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn row_15_composition_times_are_signed() {
        for (bytes, millis) in [([0, 0, 66], 66), ([0xff, 0xff, 0xdf], -33), ([0x80, 0, 0], -8_388_608)] {
            let tag = video(&[&[0x27, 1][..], &bytes, &[1, 2]].concat());
            assert_eq!(tag, Ok(VideoTag::Frame { composition_millis: millis, data: Bytes::from_static(&[1, 2]) }));
        }
    }

    #[test]
    fn row_30_odd_tags_are_told_apart() {
        assert_eq!(video(&[]), Err(TagError::Empty));
        assert_eq!(video(&[0x17]), Err(TagError::Truncated));
        assert_eq!(video(&[0x17, 1, 0]), Err(TagError::Truncated));
        assert_eq!(video(&[0x57, 0]), Ok(VideoTag::Command));
        assert_eq!(video(&[0x17, 2, 0, 0, 0]), Ok(VideoTag::EndOfSequence));
        assert_eq!(video(&[0x17, 9, 0, 0, 0]), Err(TagError::PacketType(9)));
        assert_eq!(video(&[0x11, 0]), Err(TagError::Codec("video codec 1".into())));
        assert_eq!(audio(&[]), Err(TagError::Empty));
        assert_eq!(audio(&[0xaf]), Err(TagError::Truncated));
        assert_eq!(audio(&[0xaf, 7]), Err(TagError::PacketType(7)));
        assert_eq!(audio(&[0xaf, 1]), Ok(AudioTag::Frame(Bytes::new())));
    }

    #[test]
    fn row_23_31_33_other_codecs_are_named() {
        assert_eq!(audio(&[0x2f, 0]), Err(TagError::Codec("MP3".into())));
        assert_eq!(audio(b"\x90Opus"), Err(TagError::Codec("Opus".into())));
        assert_eq!(audio(b"\x95\x00Opus"), Err(TagError::FurtherTrack));
        assert_eq!(video(b"\x90hvc1"), Err(TagError::Codec("HEVC (H.265)".into())));
        assert_eq!(video(&[0x1c, 0, 0, 0, 0]), Err(TagError::Codec("HEVC (H.265)".into())));
        assert_eq!(video(b"\x96\x00avc1"), Err(TagError::FurtherTrack));
        assert_eq!(video(b"\x90\x00\x01\x02\x03"), Err(TagError::Codec("an unnamed codec".into())));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = video(&bytes);
            let _ = audio(&bytes);
        }
    }
}
