//! Enhanced RTMP, versions 1 and 2: tags whose codec is a `FourCC`, and which may carry several tracks.
//!
//! "Fail in a controlled manner": what is unknown is skipped and told, and the rest of the message is read to its end.

use bytes::{Buf, Bytes};

use super::flv::{Content, Found, Packet, TagError, signed_24};
use super::sound::SoundCodec;
use crate::media::VideoCodec;

/// Reads a video message that begins with an `ExVideoTagHeader`.
pub(super) fn video(body: Bytes, found: &mut Found<VideoCodec>) {
    const COMMAND_FRAME: u8 = 5;
    let is_command = body.first().is_some_and(|first| first >> 4 & 7 == COMMAND_FRAME && first & 0xf != METADATA);
    if is_command {
        found.push(Err(TagError::Command));
    } else {
        read(body, &Kind { multitrack: 6, codec: video_codec, content: video_content }, found);
    }
}

/// Reads an audio message that begins with an `ExAudioTagHeader`.
pub(super) fn audio(body: Bytes, found: &mut Found<SoundCodec>) {
    read(body, &Kind { multitrack: 5, codec: audio_codec, content: audio_content }, found);
}

/// What differs between picture and sound.
struct Kind<C> {
    /// The packet type of several tracks.
    multitrack: u8,
    codec: fn([u8; 4]) -> Option<C>,
    content: fn(&C, u8, Bytes) -> Result<Content, TagError>,
}

fn read<C>(mut body: Bytes, kind: &Kind<C>, found: &mut Found<C>) {
    let end = header(&mut body).and_then(|(packet_type, nanos)| {
        if packet_type == kind.multitrack {
            tracks(&mut body, nanos, kind, found)
        } else {
            let codec = take(&mut body)?;
            found.push(packet(kind, codec, Header { track: 0, packet_type, nanos }, std::mem::take(&mut body)));
            Ok(())
        }
    });
    if let Err(error) = end
        && found.len() < TRACKS_MAX
    {
        found.push(Err(error));
    }
}

/// The packet type, past what modifies it, and the nanoseconds that this adds.
fn header(body: &mut Bytes) -> Result<(u8, u32), TagError> {
    let [first] = take(body)?;
    let (mut packet_type, mut nanos) = (first & 0xf, 0);
    while packet_type == MOD_EX {
        let mut length = usize::from(take::<1>(body)?[0]) + 1;
        if length == 256 {
            length = usize::from(u16::from_be_bytes(take(body)?)) + 1;
        }
        let data = split(body, length)?;
        let [types] = take(body)?;
        packet_type = types & 0xf;
        if types >> 4 == TIMESTAMP_OFFSET_NANO {
            nanos = offset(&data).unwrap_or(nanos);
        }
    }
    Ok((packet_type, nanos))
}

/// None where it is not less than a millisecond, which the specification forbids.
fn offset(data: &[u8]) -> Option<u32> {
    let [a, b, c] = *data.first_chunk::<3>()?;
    Some(u32::from_be_bytes([0, a, b, c])).filter(|nanos| *nanos <= NANOS_MAX)
}

fn tracks<C>(body: &mut Bytes, nanos: u32, kind: &Kind<C>, found: &mut Found<C>) -> Result<(), TagError> {
    const ONE_TRACK: u8 = 0;
    const MANY_TRACKS_MANY_CODECS: u8 = 2;
    let [types] = take(body)?;
    let (form, packet_type) = (types >> 4, types & 0xf);
    if packet_type == kind.multitrack || form > MANY_TRACKS_MANY_CODECS {
        return Err(TagError::Multitrack);
    }
    let shared = if form == MANY_TRACKS_MANY_CODECS { None } else { Some(take(body)?) };
    loop {
        let codec = shared.map_or_else(|| take(body), Ok)?;
        let [track] = take(body)?;
        let data = if form == ONE_TRACK { std::mem::take(body) } else { sized(body)? };
        found.push(packet(kind, codec, Header { track, packet_type, nanos }, data));
        if body.is_empty() {
            return Ok(());
        }
        if found.len() + 1 >= TRACKS_MAX {
            return Err(TagError::Multitrack);
        }
    }
}

/// What stands before a track's data.
struct Header {
    track: u8,
    packet_type: u8,
    nanos: u32,
}

fn packet<C>(kind: &Kind<C>, fourcc: [u8; 4], header: Header, data: Bytes) -> Result<Packet<C>, TagError> {
    let codec = (kind.codec)(fourcc).ok_or_else(|| TagError::Codec(fourcc_name(fourcc)))?;
    let content = (kind.content)(&codec, header.packet_type, data)?;
    Ok(Packet { track: header.track, codec, nanos: header.nanos, content })
}

fn video_codec(fourcc: [u8; 4]) -> Option<VideoCodec> {
    match &fourcc {
        b"avc1" => Some(VideoCodec::H264),
        b"hvc1" => Some(VideoCodec::Hevc),
        b"av01" => Some(VideoCodec::Av1),
        b"vp09" => Some(VideoCodec::Vp9),
        _ => None,
    }
}

fn audio_codec(fourcc: [u8; 4]) -> Option<SoundCodec> {
    match &fourcc {
        b"mp4a" => Some(SoundCodec::Aac),
        b"Opus" => Some(SoundCodec::Opus),
        b".mp3" => Some(SoundCodec::Mp3),
        b"ac-3" | b"ec-3" => Some(SoundCodec::Ac3),
        b"fLaC" => Some(SoundCodec::Flac),
        _ => None,
    }
}

fn video_content(codec: &VideoCodec, packet_type: u8, mut data: Bytes) -> Result<Content, TagError> {
    match packet_type {
        0 => Ok(Content::Config(data)),
        1 => {
            // Only codecs of pictures that are shown in another order have a composition time.
            let has_composition = matches!(codec, VideoCodec::H264 | VideoCodec::Hevc);
            let composition_millis = if has_composition { signed_24(take(&mut data)?) } else { 0 };
            Ok(Content::Frame { composition_millis, data })
        }
        2 => Ok(Content::EndOfSequence),
        3 => Ok(Content::Frame { composition_millis: 0, data }),
        METADATA => Ok(Content::Metadata(data)),
        other => Err(TagError::PacketType(other)),
    }
}

fn audio_content(_: &SoundCodec, packet_type: u8, data: Bytes) -> Result<Content, TagError> {
    match packet_type {
        0 => Ok(Content::Config(data)),
        1 => Ok(Content::Frame { composition_millis: 0, data }),
        2 => Ok(Content::EndOfSequence),
        other => Err(TagError::PacketType(other)),
    }
}

fn fourcc_name(fourcc: [u8; 4]) -> String {
    match &fourcc {
        b"vp08" => "VP8".to_owned(),
        b"vvc1" => "VVC (H.266)".to_owned(),
        text if text.iter().all(u8::is_ascii_graphic) => String::from_utf8_lossy(text).into_owned(),
        _ => "an unnamed codec".to_owned(),
    }
}

fn take<const N: usize>(body: &mut Bytes) -> Result<[u8; N], TagError> {
    let taken = *body.first_chunk::<N>().ok_or(TagError::Truncated)?;
    body.advance(N);
    Ok(taken)
}

/// Data with their 24-bit length before them.
fn sized(body: &mut Bytes) -> Result<Bytes, TagError> {
    let [a, b, c] = take(body)?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(|_| TagError::Truncated)?;
    split(body, length)
}

fn split(body: &mut Bytes, length: usize) -> Result<Bytes, TagError> {
    if length > body.len() { Err(TagError::Truncated) } else { Ok(body.split_to(length)) }
}

/// Packets and faults that one message may give: twice the tracks that are taken.
pub const TRACKS_MAX: usize = 32;
const METADATA: u8 = 4;
const MOD_EX: u8 = 7;
const TIMESTAMP_OFFSET_NANO: u8 = 0;
const NANOS_MAX: u32 = 999_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(found: &Found<VideoCodec>) -> Vec<String> {
        let word = |found: &Result<Packet<VideoCodec>, TagError>| match found {
            Ok(packet) => format!("{} {:?} {:?}", packet.track, packet.codec, packet.content),
            Err(error) => error.to_string(),
        };
        found.iter().map(word).collect()
    }

    fn pictures(parts: &[&[u8]]) -> Found<VideoCodec> {
        let mut found = Vec::new();
        video(parts.concat().into(), &mut found);
        found
    }

    fn frame(composition_millis: i32, data: &'static [u8]) -> Content {
        Content::Frame { composition_millis, data: Bytes::from_static(data) }
    }

    #[test]
    fn row_31_each_packet_type_is_read() {
        let content = |parts: &[&[u8]]| pictures(parts).remove(0).map(|packet| packet.content);
        assert_eq!(content(&[b"\x90hvc1", &[1, 2]]), Ok(Content::Config(Bytes::from_static(&[1, 2]))));
        assert_eq!(content(&[b"\x91hvc1", &[0xff, 0xff, 0xdf, 9]]), Ok(frame(-33, &[9])));
        assert_eq!(content(&[b"\x91av01", &[0, 0, 1, 9]]), Ok(frame(0, &[0, 0, 1, 9])), "AV1 has no composition time");
        assert_eq!(content(&[b"\xa3avc1", &[9]]), Ok(frame(0, &[9])));
        assert_eq!(content(&[b"\x92vp09"]), Ok(Content::EndOfSequence));
        assert_eq!(content(&[b"\x94hvc1", &[2]]), Ok(Content::Metadata(Bytes::from_static(&[2]))));
        assert_eq!(content(&[b"\x95av01", &[0]]), Err(TagError::PacketType(5)), "for MPEG-2 TS");
        assert_eq!(content(&[b"\x9cav01", &[0]]), Err(TagError::PacketType(12)));
        assert_eq!(content(&[b"\x90vp08"]), Err(TagError::Codec("VP8".into())));
        assert_eq!(content(&[&[0xd0, 0]]), Err(TagError::Command));
        assert_eq!(content(&[b"\x91hvc1", &[0, 0]]), Err(TagError::Truncated));
        assert_eq!(content(&[b"\x91hv"]), Err(TagError::Truncated));
    }

    #[test]
    fn row_31_modifiers_are_chained_and_nanoseconds_taken() {
        let nanos = |parts: &[&[u8]]| pictures(parts).remove(0).map(|packet| packet.nanos);
        assert_eq!(nanos(&[&[0x97, 2, 0, 2, 0x9a, 0x03], b"hvc1", &[9]]), Ok(666));
        assert_eq!(nanos(&[&[0x97, 0, 7, 0x17, 2, 0x0f, 0x42, 0x3f, 0x03], b"hvc1", &[9]]), Ok(999_999), "chained");
        assert_eq!(nanos(&[&[0x97, 2, 0x0f, 0x42, 0x40, 0x03], b"hvc1", &[9]]), Ok(0), "a whole millisecond");
        assert_eq!(nanos(&[&[0x97, 255, 1, 0], &[5; 257], &[0x13], b"hvc1", &[9]]), Ok(0), "a length of 16 bits");
        assert_eq!(nanos(&[&[0x97, 9, 0]]), Err(TagError::Truncated));
    }

    #[test]
    fn row_32_several_tracks_in_one_message_are_read_to_the_end() {
        let one = pictures(&[&[0x96, 0x01], b"avc1", &[3, 0, 0, 33, 9]]);
        assert_eq!(words(&one), [r#"3 H264 Frame { composition_millis: 33, data: b"\t" }"#]);
        let many = pictures(&[&[0x96, 0x13], b"hvc1", &[0, 0, 0, 1, 65, 1, 0, 0, 0, 2, 0, 0, 1, 66]]);
        assert_eq!(many.len(), 3);
        assert_eq!(many[2].as_ref().map(|p| (p.track, p.content.clone())), Ok((2, frame(0, b"B"))));
        let codecs: [&[u8]; 7] =
            [&[0xa6, 0x23], b"vp08", &[0, 0, 0, 1, 65], b"av01", &[1, 0, 0, 1, 66], b"hvc1", &[2, 0, 0, 9, 1]];
        assert_eq!(
            words(&pictures(&codecs)),
            ["VP8 is not supported", r#"1 Av1 Frame { composition_millis: 0, data: b"B" }"#, "a tag cut short"]
        );
    }

    #[test]
    fn row_32_several_tracks_within_one_of_several_are_illegal() {
        assert_eq!(pictures(&[&[0x96, 0x06], b"avc1", &[0]]), [Err(TagError::Multitrack)]);
        assert_eq!(pictures(&[&[0x96, 0x33], b"avc1", &[0]]), [Err(TagError::Multitrack)]);
        let endless = pictures(&[&[0x96, 0x13], b"hvc1", &[0; 4 * 200]]);
        assert_eq!((endless.len(), endless.last()), (TRACKS_MAX, Some(&Err(TagError::Multitrack))));
    }

    #[test]
    fn row_31_sounds_by_fourcc_are_read() {
        let sound = |parts: &[&[u8]]| {
            let mut found = Vec::new();
            audio(parts.concat().into(), &mut found);
            found.remove(0).map(|packet| (packet.track, packet.codec, packet.content))
        };
        assert_eq!(sound(&[b"\x90mp4a", &[9]]), Ok((0, SoundCodec::Aac, Content::Config(Bytes::from_static(&[9])))));
        assert_eq!(sound(&[b"\x91Opus", &[9]]), Ok((0, SoundCodec::Opus, frame(0, &[9]))));
        assert_eq!(sound(&[b"\x92fLaC"]), Ok((0, SoundCodec::Flac, Content::EndOfSequence)));
        assert_eq!(sound(&[b"\x94ec-3", &[1]]), Err(TagError::PacketType(4)), "the order of channels");
        assert_eq!(sound(&[b"\x95\x01.mp3", &[2, 9]]), Ok((2, SoundCodec::Mp3, frame(0, &[9]))));
        assert_eq!(sound(&[b"\x91what", &[2]]), Err(TagError::Codec("what".into())));
    }
}
