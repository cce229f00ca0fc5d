//! Decodes what came out, to look at it and listen to it.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::media::{AccessUnit, MediaTime, TrackFormat};

/// Added inside GStreamer, which has no negative times.
const BASE: MediaTime = MediaTime::from_millis(10_000);

/// A decoded picture, or block of samples.
pub(super) struct Decoded {
    pub(super) pts: MediaTime,
    /// I420 without padding where the width is a multiple of 8; one channel of 32-bit floats.
    pub(super) bytes: Vec<u8>,
    /// A picture of fields, as its own coding says.
    pub(super) interlaced: bool,
    /// What its samples mean, of a picture, as GStreamer writes it.
    pub(super) colorimetry: Option<String>,
}

/// Decodes a whole track.
pub(super) fn decode(format: &TrackFormat, units: &[AccessUnit]) -> Vec<Decoded> {
    let (caps, chain) = match format {
        TrackFormat::Video(format) => (
            gst::Caps::builder("video/x-h264")
                .field("stream-format", "avc")
                .field("alignment", "au")
                .field("codec_data", gst::Buffer::from_slice(format.config.clone()))
                .build(),
            "avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=I420",
        ),
        TrackFormat::Audio(format) => (
            gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 4)
                .field("stream-format", "raw")
                .field("framed", true)
                .field("rate", i32::try_from(format.sample_rate).unwrap())
                .field("channels", i32::from(format.channels))
                .field("codec_data", gst::Buffer::from_slice(format.config.clone()))
                .build(),
            "avdec_aac ! audioconvert ! audio/x-raw,format=F32LE,channels=1",
        ),
    };
    let launch = format!("appsrc name=in format=time max-bytes=0 ! {chain} ! appsink name=out sync=false async=false");
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    source.set_caps(Some(&caps));
    pipeline.set_state(gst::State::Playing).unwrap();
    for unit in units {
        let mut buffer = gst::Buffer::from_slice(unit.data.clone());
        let time = |time: MediaTime| gst::ClockTime::from_nseconds(u64::try_from((time + BASE).as_nanos()).unwrap());
        buffer.make_mut().set_pts(time(unit.pts));
        buffer.make_mut().set_dts(time(unit.dts));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut decoded = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        let pts = i64::try_from(buffer.pts().unwrap().nseconds()).unwrap();
        let bytes = buffer.map_readable().unwrap().to_vec();
        let mode = sample.caps().and_then(|caps| caps.structure(0)?.get::<String>("interlace-mode").ok());
        let interlaced = mode.is_some_and(|mode| mode != "progressive");
        let colorimetry = sample.caps().and_then(|caps| caps.structure(0)?.get::<String>("colorimetry").ok());
        decoded.push(Decoded { pts: MediaTime::from_nanos(pts) - BASE, bytes, interlaced, colorimetry });
    }
    pipeline.set_state(gst::State::Null).unwrap();
    decoded
}

impl Decoded {
    /// Luma and chroma at a point of a picture of this size.
    pub(super) fn colour(&self, (width, height): (usize, usize), (x, y): (usize, usize)) -> [u8; 3] {
        let chroma = width * height + y / 2 * (width / 2) + x / 2;
        [self.bytes[y * width + x], self.bytes[chroma], self.bytes[chroma + width * height / 4]]
    }

    /// The middle of what is bright, from 0 to 1 in both directions.
    pub(super) fn bright_middle(&self, (width, height): (usize, usize)) -> (f64, f64) {
        let bright = |n: &usize| self.bytes[*n] > 128;
        let (count, x, y) = (0..width * height)
            .filter(bright)
            .fold((0.0, 0.0, 0.0), |(count, x, y), n| (count + 1.0, x + (n % width) as f64, y + (n / width) as f64));
        (x / count / width as f64, y / count / height as f64)
    }
}

/// When the first sound after each second of silence begins, in seconds.
pub(super) fn onsets(blocks: &[Decoded], rate: u32) -> Vec<f64> {
    let mut onsets: Vec<f64> = Vec::new();
    let mut last = f64::MIN;
    for block in blocks {
        for (n, bytes) in block.bytes.chunks_exact(4).enumerate() {
            if f32::from_le_bytes(bytes.try_into().unwrap()).abs() > 0.1 {
                let at = block.pts.as_secs_f64() + n as f64 / f64::from(rate);
                if at - last > 0.5 {
                    onsets.push(at);
                }
                last = at;
            }
        }
    }
    onsets
}
