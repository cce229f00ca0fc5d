//! What decodes each sound that is not AAC, and what it is told.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::super::elements::{self, Lacking};
use super::chain::{Broken, Chain};
use crate::media::{AudioCodec, AudioFormat};

/// Elements that decode this, the best first; none for samples that are not coded. None at all for AAC, which stays as it is.
fn candidates(codec: AudioCodec) -> Option<(&'static str, &'static [&'static str])> {
    match codec {
        AudioCodec::Aac(_) => None,
        AudioCodec::Pcm16 => Some(("PCM", &[])),
        AudioCodec::Opus => Some(("Opus", &["opusdec"])),
        AudioCodec::Mp3 => Some(("MP3", &["avdec_mp3", "mpg123audiodec"])),
        AudioCodec::Ac3 => Some(("AC-3", &["avdec_ac3"])),
        AudioCodec::Eac3 => Some(("E-AC-3", &["avdec_eac3"])),
        AudioCodec::Flac => Some(("FLAC", &["avdec_flac", "flacdec"])),
        AudioCodec::Alaw => Some(("A-law", &["alawdec"])),
        AudioCodec::Mulaw => Some(("mu-law", &["mulawdec"])),
        AudioCodec::Speex => Some(("Speex", &["speexdec"])),
    }
}

/// Sound of this codec is converted.
pub(super) fn is_foreign(codec: AudioCodec) -> bool {
    candidates(codec).is_some()
}

/// What cannot be decoded here.
pub(in super::super) fn lacking() -> impl Iterator<Item = Lacking> {
    use AudioCodec::{Ac3, Alaw, Eac3, Flac, Mp3, Mulaw, Opus, Speex};
    [Opus, Mp3, Ac3, Eac3, Flac, Alaw, Mulaw, Speex].into_iter().filter_map(|codec| element(codec).err())
}

/// The element that decodes this; none where it is not coded.
///
/// # Errors
/// [`Lacking`] where GStreamer has none.
pub(super) fn element(codec: AudioCodec) -> Result<Option<&'static str>, Lacking> {
    match candidates(codec) {
        Some((name, elements)) if !elements.is_empty() => elements::first(name, elements).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// A chain from packets of `source` to samples as `raw` says.
pub(super) fn chain(source: &AudioFormat, raw: &gst::Caps) -> Result<Chain, Broken> {
    let make = |name: &str| gst::ElementFactory::make(name).build();
    let mut elements = Vec::new();
    if let Some(name) = element(source.codec).map_err(|lacking| Broken(lacking.to_string()))? {
        let decoder = make(name)?;
        // A packet that cannot be decoded is counted, and the next one tried.
        if decoder.has_property("max-errors") {
            decoder.set_property("max-errors", -1);
        }
        elements.push(decoder);
    }
    elements.extend([make("audioconvert")?, make("audioresample")?]);
    Chain::new(&elements, &caps(source), raw)
}

/// How packets of this are announced.
fn caps(source: &AudioFormat) -> gst::Caps {
    let rate = i32::try_from(source.sample_rate).unwrap_or(48_000);
    let channels = i32::from(source.channels);
    let of = |name: &str| gst::Caps::builder(name).field("rate", rate).field("channels", channels);
    match source.codec {
        AudioCodec::Opus => opus(source),
        AudioCodec::Mp3 => of("audio/mpeg").field("mpegversion", 1).field("layer", 3).field("parsed", true).build(),
        AudioCodec::Ac3 => of("audio/x-ac3").field("framed", true).field("alignment", "frame").build(),
        AudioCodec::Eac3 => of("audio/x-eac3").field("framed", true).field("alignment", "frame").build(),
        AudioCodec::Flac => of("audio/x-flac").field("framed", true).build(),
        AudioCodec::Alaw => of("audio/x-alaw").build(),
        AudioCodec::Mulaw => of("audio/x-mulaw").build(),
        AudioCodec::Speex => speex(source),
        AudioCodec::Pcm16 | AudioCodec::Aac(_) => {
            of("audio/x-raw").field("format", "S16LE").field("layout", "interleaved").build()
        }
    }
}

/// Without the header's pre-skip: a packet's time is that of its first sample, so none may be missing.
fn opus(source: &AudioFormat) -> gst::Caps {
    let caps = gst::Caps::builder("audio/x-opus").field("rate", 48_000);
    // RFC 7845, 5.1: the channel mapping family, and where it is not 0, its table.
    let table = source.config.get(18..).filter(|table| table.first().is_some_and(|&family| family != 0));
    match table {
        Some(&[family, streams, coupled, ref mapping @ ..]) if !mapping.is_empty() => caps
            .field("channel-mapping-family", i32::from(family))
            .field("channels", i32::try_from(mapping.len()).unwrap_or(i32::MAX))
            .field("stream-count", i32::from(streams))
            .field("coupled-count", i32::from(coupled))
            .field("channel-mapping", gst::Array::new(mapping.iter().map(|&channel| i32::from(channel))))
            .build(),
        _ => caps.field("channel-mapping-family", 0).field("channels", i32::from(source.channels.clamp(1, 2))).build(),
    }
}

/// The header that a Speex stream begins with in files, and RTMP leaves out: one channel, and one frame
/// in a packet.
fn speex(source: &AudioFormat) -> gst::Caps {
    let (rate, mode, frame) = match source.sample_rate {
        ..=8_000 => (8_000, 0, 160),
        8_001..=16_000 => (16_000, 1, 320),
        _ => (32_000, 2, 640),
    };
    let mut header = Vec::with_capacity(80);
    header.extend_from_slice(b"Speex   1.2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let (version, size, bitstream, channels, bitrate, vbr, frames) = (1, 80, 4, 1, -1, 0, 1);
    for field in [version, size, rate, mode, bitstream, channels, bitrate, frame, vbr, frames, 0, 0, 0_i32] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    let comment = [9, 0, 0, 0, b'H', b'e', b'a', b'd', b'w', b'a', b't', b'e', b'r', 0, 0, 0, 0];
    let headers = [gst::Buffer::from_slice(header), gst::Buffer::from_slice(comment)];
    gst::Caps::builder("audio/x-speex")
        .field("rate", rate)
        .field("channels", 1)
        .field("streamheader", gst::Array::new(headers))
        .build()
}
