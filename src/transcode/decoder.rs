//! What decodes a source's picture, and what it is told: by codec.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;

use crate::media::{Colour, DynamicRange, VideoCodec, VideoFormat};

use super::elements::{self, Lacking};

/// The bytes of an `av1C` before its OBUs (AV1-ISOBMFF, 2.3.3).
const AV1C_HEAD_BYTES: usize = 4;

/// Elements that decode each, the best first.
fn candidates(codec: VideoCodec) -> (&'static str, &'static [&'static str]) {
    match codec {
        VideoCodec::H264 => ("H.264", &["avdec_h264"]),
        VideoCodec::Hevc => ("HEVC", &["avdec_h265", "libde265dec"]),
        // dav1d needs a third of what libaom does.
        VideoCodec::Av1 => ("AV1", &["dav1ddec", "av1dec"]),
        VideoCodec::Vp9 => ("VP9", &["avdec_vp9", "vp9dec"]),
    }
}

/// What cannot be decoded here.
pub(super) fn lacking() -> impl Iterator<Item = Lacking> {
    let codecs = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9];
    codecs.into_iter().filter_map(|codec| element(codec).err())
}

/// The element that decodes this.
///
/// # Errors
/// [`Lacking`] where GStreamer has none.
pub(super) fn element(codec: VideoCodec) -> Result<&'static str, Lacking> {
    let (name, elements) = candidates(codec);
    elements::first(name, elements)
}

/// Makes the element, with this many threads where it can be told.
pub(super) fn make(element: &str, threads: u32) -> Result<gst::Element, gst::glib::BoolError> {
    let decoder = gst::ElementFactory::make(element).name("video decoder").build()?;
    for property in ["max-threads", "threads", "n-threads"] {
        if decoder.has_property(property) {
            decoder.set_property_from_str(property, &threads.to_string());
        }
    }
    Ok(decoder)
}

/// How the coded pictures are announced.
pub(super) fn caps(format: &VideoFormat) -> gst::Caps {
    let record = || gst::Buffer::from_slice(format.config.clone());
    match format.codec {
        VideoCodec::H264 => gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", record())
            .build(),
        VideoCodec::Hevc => gst::Caps::builder("video/x-h265")
            .field("stream-format", "hvc1")
            .field("alignment", "au")
            .field("codec_data", record())
            .build(),
        VideoCodec::Av1 => {
            sized("video/x-av1", format).field("stream-format", "obu-stream").field("alignment", "tu").build()
        }
        VideoCodec::Vp9 => sized("video/x-vp9", format).build(),
    }
}

fn sized(name: &str, format: &VideoFormat) -> gst::caps::Builder<gst::caps::NoFeature> {
    let length = |samples: u32| i32::try_from(samples).unwrap_or(i32::MAX);
    gst::Caps::builder(name).field("width", length(format.width)).field("height", length(format.height))
}

/// What stands before the first picture: the sequence header of AV1, which a stream may hold in its record alone.
pub(super) fn lead(format: &VideoFormat) -> Option<Bytes> {
    let obus = format.config.get(AV1C_HEAD_BYTES..).filter(|obus| !obus.is_empty())?;
    (format.codec == VideoCodec::Av1).then(|| format.config.slice_ref(obus))
}

/// The pictures that encoders take: 4:2:0 of 8 bits. High dynamic range is not mapped to what a standard screen can show: the
/// samples are only moved to BT.709's matrix and taken for it, which looks flat.
pub(super) fn raw_caps(format: &VideoFormat) -> gst::Caps {
    let raw = gst::Caps::builder("video/x-raw").field("format", "I420");
    if is_flattened(format) { raw.field("colorimetry", "bt709").build() } else { raw.build() }
}

/// What is encoded of this looks flat.
pub(super) fn is_flattened(format: &VideoFormat) -> bool {
    format.coding.colour.map(Colour::dynamic_range).unwrap_or_default() != DynamicRange::Sdr
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::VideoCoding;

    fn format(codec: VideoCodec) -> VideoFormat {
        let config = Bytes::from_static(&[0x81, 5, 0x0c, 0, 0x0a, 1, 0]);
        VideoFormat { codec, config, width: 640, height: 360, coding: VideoCoding::PLAIN }
    }

    #[test]
    fn only_av1_brings_a_header_along() {
        assert_eq!(lead(&format(VideoCodec::Av1)), Some(Bytes::from_static(&[0x0a, 1, 0])));
        assert_eq!(lead(&format(VideoCodec::Hevc)), None);
        let empty = VideoFormat { config: Bytes::from_static(&[0x81, 5, 0x0c, 0]), ..format(VideoCodec::Av1) };
        assert_eq!(lead(&empty), None);
    }

    #[test]
    fn every_codec_has_a_decoder_here() {
        super::super::init().unwrap();
        for codec in [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9] {
            let element = element(codec).unwrap();
            make(element, 2).unwrap();
            assert!(caps(&format(codec)).is_fixed());
        }
    }
}
