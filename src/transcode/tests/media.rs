//! Real media for the tests: GStreamer makes it, and it becomes what ingest would send, times in whole milliseconds.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::media::{
    AccessUnit, AudioCodec, AudioFormat, MediaTime, Track, TrackFormat, VideoCodec, VideoCoding, VideoFormat,
};
use crate::source::SourceEvent;

/// What to make.
pub(super) struct Clip {
    pub(super) size: (u32, u32),
    pub(super) rate: (u32, u32),
    pub(super) frames: u32,
    pub(super) gop: u32,
    /// Further IDRs, in milliseconds.
    pub(super) keys: &'static [u64],
    /// A `videotestsrc` pattern and what belongs to it.
    pub(super) pattern: &'static str,
    /// Caps fields of the raw picture.
    pub(super) raw: &'static str,
    /// Elements between raw sound and `appsink`, none for no sound.
    pub(super) sound: Option<&'static str>,
}

/// Where the clip's time begins inside GStreamer, for the reason that `gst_time` gives.
const BASE: MediaTime = MediaTime::from_millis(1001 * 3_600_000);

pub(super) const AAC_48: &str = "audio/x-raw,rate=48000,channels=2 ! avenc_aac";

impl Default for Clip {
    fn default() -> Self {
        Self {
            size: (640, 360),
            rate: (30, 1),
            frames: 240,
            gop: 60,
            keys: &[],
            pattern: "smpte",
            raw: "format=I420",
            sound: Some(AAC_48),
        }
    }
}

impl Clip {
    /// Makes it, with a tone.
    pub(super) fn events(&self) -> Vec<SourceEvent> {
        self.events_with_wave("sine")
    }

    /// Makes it, with a sound of `audiotestsrc`.
    pub(super) fn events_with_wave(&self, wave: &str) -> Vec<SourceEvent> {
        super::super::init().unwrap();
        let (width, height) = self.size;
        let (numerator, denominator) = self.rate;
        let mut launch = format!(
            "videotestsrc timestamp-offset={} num-buffers={} pattern={} ! video/x-raw,width={width},height={height},framerate={numerator}/{denominator},{} \
             ! x264enc name=encoder speed-preset=ultrafast bframes=2 b-adapt=false key-int-max={} option-string=scenecut=0 threads=1 \
             ! video/x-h264,stream-format=avc,alignment=au ! appsink name=video sync=false async=false",
            BASE.as_nanos(),
            self.frames,
            self.pattern,
            self.raw,
            self.gop
        );
        if let Some(sound) = self.sound {
            let blocks = u64::from(self.frames) * u64::from(denominator) * 48_000 / u64::from(numerator) / 1024 + 2;
            launch += &format!(
                " audiotestsrc timestamp-offset={} num-buffers={blocks} samplesperbuffer=1024 wave={wave} ! {sound} \
                 ! audio/mpeg,stream-format=raw ! appsink name=audio sync=false async=false",
                BASE.as_nanos()
            );
        }
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        self.force_keys(&pipeline.by_name("encoder").unwrap());
        pipeline.set_state(gst::State::Playing).unwrap();
        let video = drain(&pipeline, "video", video_format);
        let audio = self.sound.map(|_| drain(&pipeline, "audio", audio_format)).unwrap_or_default();
        pipeline.set_state(gst::State::Null).unwrap();
        merge(video, audio)
    }

    fn force_keys(&self, encoder: &gst::Element) {
        let (keys, mut done, weak) = (self.keys, false, encoder.downgrade());
        let pad = encoder.static_pad("sink").unwrap();
        let done = std::sync::Mutex::new(std::mem::take(&mut done));
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if let (false, Some(encoder)) = (std::mem::replace(&mut *done.lock().unwrap(), true), weak.upgrade()) {
                for &key in keys {
                    let at = gst::ClockTime::from_nseconds(BASE.as_nanos() as u64) + gst::ClockTime::from_mseconds(key);
                    encoder.send_event(gst_video::UpstreamForceKeyUnitEvent::builder().running_time(at).build());
                }
            }
            gst::PadProbeReturn::Ok
        });
    }
}

fn video_format(caps: &gst::StructureRef, config: Bytes) -> TrackFormat {
    let length = |name| u32::try_from(caps.get::<i32>(name).unwrap()).unwrap();
    let interlaced = caps.get::<&str>("interlace-mode").is_ok_and(|mode| mode != "progressive");
    let aspect = caps.get::<gst::Fraction>("pixel-aspect-ratio").map_or((1, 1), |f| (f.numer(), f.denom()));
    let sample_aspect = (u16::try_from(aspect.0).unwrap(), u16::try_from(aspect.1).unwrap());
    let chroma_format = if caps.get::<&str>("profile").is_ok_and(|profile| profile.contains("4:4:4")) { 3 } else { 1 };
    let coding = VideoCoding { sample_aspect, interlaced, chroma_format, ..VideoCoding::PLAIN };
    TrackFormat::Video(VideoFormat {
        codec: VideoCodec::H264,
        config,
        width: length("width"),
        height: length("height"),
        coding,
    })
}

fn audio_format(caps: &gst::StructureRef, config: Bytes) -> TrackFormat {
    let sample_rate = u32::try_from(caps.get::<i32>("rate").unwrap()).unwrap();
    let channels = u8::try_from(caps.get::<i32>("channels").unwrap()).unwrap();
    TrackFormat::Audio(AudioFormat { codec: AudioCodec::Aac(2), config, sample_rate, channels })
}

fn drain(
    pipeline: &gst::Pipeline,
    name: &str,
    format: impl Fn(&gst::StructureRef, Bytes) -> TrackFormat,
) -> Vec<SourceEvent> {
    let sink = pipeline.by_name(name).unwrap().downcast::<gst_app::AppSink>().unwrap();
    let track = if name == "video" { Track::VIDEO } else { Track::Audio };
    let mut events = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        if events.is_empty() {
            let caps = sample.caps().unwrap().structure(0).unwrap();
            let config = caps.get::<gst::Buffer>("codec_data").unwrap();
            let config = Bytes::copy_from_slice(&config.map_readable().unwrap());
            events.push(SourceEvent::Format(track, format(caps, config)));
        }
        events.push(SourceEvent::Unit(track, unit(&sample)));
    }
    events
}

fn unit(sample: &gst::Sample) -> AccessUnit {
    let (buffer, segment) = (sample.buffer().unwrap(), sample.segment().unwrap());
    let segment = segment.downcast_ref::<gst::ClockTime>().unwrap();
    let millis = |time: Option<gst::ClockTime>| {
        let nanos = match segment.to_running_time_full(time?)? {
            gst::Signed::Positive(time) => time.nseconds() as i64,
            gst::Signed::Negative(time) => -(time.nseconds() as i64),
        };
        Some(MediaTime::from_millis((MediaTime::from_nanos(nanos) - BASE).to_ticks(1000)))
    };
    let pts = millis(buffer.pts()).unwrap();
    AccessUnit {
        dts: millis(buffer.dts()).unwrap_or(pts),
        pts,
        duration: MediaTime::ZERO,
        key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        data: Bytes::copy_from_slice(&buffer.map_readable().unwrap()),
    }
}

/// By decode time, as a multiplexer would; formats first.
fn merge(video: Vec<SourceEvent>, audio: Vec<SourceEvent>) -> Vec<SourceEvent> {
    let mut all: Vec<SourceEvent> = video.into_iter().chain(audio).collect();
    all.sort_by_key(|event| match event {
        SourceEvent::Unit(_, unit) => unit.dts,
        SourceEvent::Format(..) | SourceEvent::Discontinuity => MediaTime::from_nanos(i64::MIN),
        SourceEvent::End => MediaTime::from_nanos(i64::MAX),
    });
    all
}
