//! The bodies of RTMP's audio and video messages, which are FLV tags (Adobe's "Video File Format 10.1", E.4), and what
//! [Enhanced RTMP](super::enhanced) made of them.
//!
//! Reads the tags' headers only. Both forms give the same packets, so that a stream may mix them: OBS sends the first track
//! of H.264 in the old form and further ones in the new.

use bytes::{Buf, Bytes};

use super::enhanced;
use super::sound::SoundCodec;
use crate::media::VideoCodec;

/// What a message says of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<C> {
    /// Which track; 0 where the message does not say.
    pub track: u8,
    /// How it is coded.
    pub codec: C,
    /// Nanoseconds to add to the time of showing.
    pub nanos: u32,
    /// What it is.
    pub content: Content,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The configuration of what follows.
    Config(Bytes),
    /// One access unit.
    Frame {
        /// Milliseconds from decoding to showing; signed, 24 bits.
        composition_millis: i32,
        /// The unit.
        data: Bytes,
    },
    /// AMF0 values about the picture: the colours of HDR.
    Metadata(Bytes),
    /// The end of a sequence, which is not the end of the stream: encoders go on after it.
    EndOfSequence,
}

/// A message, or a part of it, that gives nothing: it is to be skipped, or the publisher refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// It has no bytes.
    #[error("an empty tag")]
    Empty,
    /// It ends within its header.
    #[error("a tag cut short")]
    Truncated,
    /// It carries a codec that is not taken, whose name this is.
    #[error("{0} is not supported")]
    Codec(String),
    /// A packet type that the format does not have, or that is not taken.
    #[error("packet type {0} is unknown")]
    PacketType(u8),
    /// A seek mark or another command, without a picture.
    #[error("a command frame")]
    Command,
    /// Several tracks within one of several, or in a way that the format does not have.
    #[error("a multitrack message that cannot be true")]
    Multitrack,
}

impl TagError {
    /// The word for the metric's label.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Empty => "empty_tag",
            Self::Truncated => "truncated_tag",
            Self::Codec(_) => "codec",
            Self::PacketType(_) => "packet_type",
            Self::Command => "command_frame",
            Self::Multitrack => "multitrack",
        }
    }
}

/// What a message gives, in its order: at most [`TRACKS_MAX`](enhanced::TRACKS_MAX) packets and faults.
pub type Found<C> = Vec<Result<Packet<C>, TagError>>;

/// Reads a video message (E.4.3); what it gives is added to `found`.
pub fn video_tag(body: Bytes, found: &mut Found<VideoCodec>) {
    match body.first() {
        Some(first) if first & 0x80 != 0 => enhanced::video(body, found),
        _ => found.push(plain_video(body)),
    }
}

/// Reads an audio message (E.4.2); what it gives is added to `found`.
pub fn audio_tag(body: Bytes, found: &mut Found<SoundCodec>) {
    match body.first() {
        Some(first) if first >> 4 == ENHANCED_AUDIO => enhanced::audio(body, found),
        _ => found.push(plain_audio(body)),
    }
}

fn plain_video(mut body: Bytes) -> Result<Packet<VideoCodec>, TagError> {
    const COMMAND_FRAME: u8 = 5;
    let first = body.try_get_u8().map_err(|_| TagError::Empty)?;
    if (first >> 4) == COMMAND_FRAME {
        return Err(TagError::Command);
    }
    let codec = match first & 0x0f {
        7 => VideoCodec::H264,
        // As forks of FFmpeg and OBS send them.
        12 => VideoCodec::Hevc,
        13 => VideoCodec::Av1,
        other => return Err(TagError::Codec(video_codec_name(other))),
    };
    let [packet_type, composition @ ..] = *body.first_chunk::<4>().ok_or(TagError::Truncated)?;
    body.advance(4);
    let content = match packet_type {
        0 => Content::Config(body),
        1 => Content::Frame { composition_millis: signed_24(composition), data: body },
        2 => Content::EndOfSequence,
        other => return Err(TagError::PacketType(other)),
    };
    Ok(Packet { track: 0, codec, nanos: 0, content })
}

fn plain_audio(mut body: Bytes) -> Result<Packet<SoundCodec>, TagError> {
    let first = body.try_get_u8().map_err(|_| TagError::Empty)?;
    let channels = 1 + (first & 1);
    // For AAC, Opus and MP3 the rate and the channels in the tag are wrong, and not used.
    let codec = match first >> 4 {
        0 | 3 => {
            let sample_rate = 44_100 >> (3 - (first >> 2 & 3));
            SoundCodec::Pcm { sample_rate, channels, wide: first & 2 != 0 }
        }
        2 | 14 => SoundCodec::Mp3,
        7 => SoundCodec::Alaw(channels),
        8 => SoundCodec::Mulaw(channels),
        10 => SoundCodec::Aac,
        11 => SoundCodec::Speex,
        13 => SoundCodec::Opus,
        codec => return Err(TagError::Codec(audio_codec_name(codec))),
    };
    let has_type = match codec {
        SoundCodec::Aac => true,
        // As forks send it; some leave out the type.
        SoundCodec::Opus => matches!(body.first(), Some(0 | 1)),
        _ => false,
    };
    let packet_type = if has_type { body.try_get_u8().map_err(|_| TagError::Truncated)? } else { 1 };
    let content = match packet_type {
        0 => Content::Config(body),
        1 => Content::Frame { composition_millis: 0, data: body },
        other => return Err(TagError::PacketType(other)),
    };
    Ok(Packet { track: 0, codec, nanos: 0, content })
}

pub(super) fn signed_24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn video_codec_name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 | 6 => "Screen Video".to_owned(),
        4 | 5 => "VP6".to_owned(),
        other => format!("video codec {other}"),
    }
}

fn audio_codec_name(id: u8) -> String {
    match id {
        1 => "ADPCM".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        other => format!("audio codec {other}"),
    }
}

const ENHANCED_AUDIO: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn video(bytes: &[u8]) -> Result<Packet<VideoCodec>, TagError> {
        let mut found = Vec::new();
        video_tag(Bytes::copy_from_slice(bytes), &mut found);
        found.remove(0)
    }

    fn audio(bytes: &[u8]) -> Result<Packet<SoundCodec>, TagError> {
        let mut found = Vec::new();
        audio_tag(Bytes::copy_from_slice(bytes), &mut found);
        found.remove(0)
    }

    #[test]
    fn row_15_composition_times_are_signed() {
        for (bytes, millis) in [([0, 0, 66], 66), ([0xff, 0xff, 0xdf], -33), ([0x80, 0, 0], -8_388_608)] {
            let packet = video(&[&[0x27, 1][..], &bytes, &[1, 2]].concat()).unwrap();
            assert_eq!(
                packet.content,
                Content::Frame { composition_millis: millis, data: Bytes::from_static(&[1, 2]) }
            );
        }
    }

    #[test]
    fn row_30_odd_tags_are_told_apart() {
        assert_eq!(video(&[]), Err(TagError::Empty));
        assert_eq!(video(&[0x17]), Err(TagError::Truncated));
        assert_eq!(video(&[0x17, 1, 0]), Err(TagError::Truncated));
        assert_eq!(video(&[0x57, 0]), Err(TagError::Command));
        assert_eq!(video(&[0x17, 2, 0, 0, 0]).map(|p| p.content), Ok(Content::EndOfSequence));
        assert_eq!(video(&[0x17, 9, 0, 0, 0]), Err(TagError::PacketType(9)));
        assert_eq!(video(&[0x11, 0]), Err(TagError::Codec("video codec 1".into())));
        assert_eq!(video(&[0x14, 0]), Err(TagError::Codec("VP6".into())));
        assert_eq!(audio(&[]), Err(TagError::Empty));
        assert_eq!(audio(&[0xaf]), Err(TagError::Truncated));
        assert_eq!(audio(&[0xaf, 7]), Err(TagError::PacketType(7)));
        assert_eq!(audio(&[0x5f, 1]), Err(TagError::Codec("Nellymoser".into())));
    }

    #[test]
    fn row_33_the_codecs_of_forks_are_told_apart() {
        assert_eq!(video(&[0x1c, 1, 0, 0, 0, 9]).map(|p| p.codec), Ok(VideoCodec::Hevc));
        assert_eq!(video(&[0x1d, 1, 0, 0, 0, 9]).map(|p| p.codec), Ok(VideoCodec::Av1));
    }

    #[test]
    fn row_23_old_sounds_are_told_apart() {
        let codec = |first: u8| audio(&[first, 1, 2]).map(|p| p.codec);
        assert_eq!(codec(0x2f), Ok(SoundCodec::Mp3));
        assert_eq!(codec(0xe2), Ok(SoundCodec::Mp3));
        assert_eq!(codec(0x72), Ok(SoundCodec::Alaw(1)));
        assert_eq!(codec(0x83), Ok(SoundCodec::Mulaw(2)));
        assert_eq!(codec(0x3f), Ok(SoundCodec::Pcm { sample_rate: 44_100, channels: 2, wide: true }));
        assert_eq!(codec(0x30), Ok(SoundCodec::Pcm { sample_rate: 5_512, channels: 1, wide: false }));
        assert_eq!(codec(0xb6), Ok(SoundCodec::Speex));
        assert_eq!(codec(0xdf), Ok(SoundCodec::Opus));
        let data = |bytes: &[u8]| audio(bytes).map(|p| p.content);
        let frame = |bytes: &'static [u8]| Content::Frame { composition_millis: 0, data: Bytes::from_static(bytes) };
        assert_eq!(data(&[0xdf, 1, 0xfc]), Ok(frame(&[0xfc])));
        assert_eq!(data(&[0xdf, 0xfc, 9]), Ok(frame(&[0xfc, 9])), "without a type");
        assert_eq!(data(&[0x2f, 0xff]), Ok(frame(&[0xff])));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_gives_no_more_than_is_allowed(bytes: Vec<u8>, first: u8) {
            let body = Bytes::from([&[first][..], &bytes].concat());
            let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
            video_tag(body.clone(), &mut pictures);
            audio_tag(body, &mut sounds);
            prop_assert!((1..=enhanced::TRACKS_MAX).contains(&pictures.len()));
            prop_assert!((1..=enhanced::TRACKS_MAX).contains(&sounds.len()));
        }
    }
}
