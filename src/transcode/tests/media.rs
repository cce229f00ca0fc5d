//! Real media for the tests: GStreamer makes it, and it becomes what ingest would send, times in whole milliseconds.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::media::{
    AccessUnit, AudioCodec, AudioFormat, Colour, MediaTime, Track, TrackFormat, VideoCodec, VideoCoding, VideoFormat,
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
    /// Elements between the raw picture and `appsink` that make no H.264; an encoder called `encoder` among them.
    pub(super) video: Option<&'static str>,
    /// What the picture is said to mean.
    pub(super) colour: Option<Colour>,
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
            video: None,
            colour: None,
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
        let h264 = format!(
            "x264enc name=encoder speed-preset=ultrafast bframes=2 b-adapt=false key-int-max={} option-string=scenecut=0 threads=1 \
             ! video/x-h264,stream-format=avc,alignment=au",
            self.gop
        );
        let mut launch = format!(
            "videotestsrc timestamp-offset={} num-buffers={} pattern={} ! video/x-raw,width={width},height={height},framerate={numerator}/{denominator},{} \
             ! {} ! appsink name=video sync=false async=false",
            BASE.as_nanos(),
            self.frames,
            self.pattern,
            self.raw,
            self.video.unwrap_or(&h264)
        );
        if let Some(sound) = self.sound {
            let blocks = u64::from(self.frames) * u64::from(denominator) * 48_000 / u64::from(numerator) / 1024 + 2;
            launch += &format!(
                " audiotestsrc timestamp-offset={} num-buffers={blocks} samplesperbuffer=1024 wave={wave} ! {sound} ! {}appsink name=audio sync=false async=false",
                BASE.as_nanos(),
                if sound.contains("avenc_aac") { "audio/mpeg,stream-format=raw ! " } else { "" }
            );
        }
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        self.force_keys(&pipeline.by_name("encoder").unwrap());
        pipeline.set_state(gst::State::Playing).unwrap();
        let video = drain(&pipeline, "video", |caps, config| video_format(caps, config, self.colour));
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

fn video_format(caps: &gst::StructureRef, config: Bytes, colour: Option<Colour>) -> TrackFormat {
    let length = |name| u32::try_from(caps.get::<i32>(name).unwrap()).unwrap();
    let interlaced = caps.get::<&str>("interlace-mode").is_ok_and(|mode| mode != "progressive");
    let aspect = caps.get::<gst::Fraction>("pixel-aspect-ratio").map_or((1, 1), |f| (f.numer(), f.denom()));
    let sample_aspect = (u16::try_from(aspect.0).unwrap(), u16::try_from(aspect.1).unwrap());
    let chroma_format = if caps.get::<&str>("profile").is_ok_and(|profile| profile.contains("4:4:4")) { 3 } else { 1 };
    let bits = caps.get::<u32>("bit-depth-luma").map_or(8, |bits| u8::try_from(bits).unwrap());
    let (luma_bits, chroma_bits) = (bits, bits);
    let coding = VideoCoding { sample_aspect, interlaced, chroma_format, luma_bits, chroma_bits, colour };
    let codec = match caps.name().as_str() {
        "video/x-h264" => VideoCodec::H264,
        "video/x-h265" => VideoCodec::Hevc,
        "video/x-av1" => VideoCodec::Av1,
        _ => VideoCodec::Vp9,
    };
    // What a `vpcC` of profile 0 says, where GStreamer has none.
    let config =
        if codec == VideoCodec::Vp9 { Bytes::from_static(&[1, 0, 0, 0, 0, 31, 0x82, 1, 1, 1, 0, 0]) } else { config };
    TrackFormat::Video(VideoFormat { codec, config, width: length("width"), height: length("height"), coding })
}

fn audio_format(caps: &gst::StructureRef, config: Bytes) -> TrackFormat {
    let sample_rate = u32::try_from(caps.get::<i32>("rate").unwrap()).unwrap();
    let channels = u8::try_from(caps.get::<i32>("channels").unwrap()).unwrap();
    let codec = match (caps.name().as_str(), caps.get::<i32>("mpegversion")) {
        ("audio/mpeg", Ok(1)) => AudioCodec::Mp3,
        ("audio/mpeg", _) => AudioCodec::Aac(2),
        ("audio/x-opus", _) => AudioCodec::Opus,
        ("audio/x-ac3", _) => AudioCodec::Ac3,
        ("audio/x-eac3", _) => AudioCodec::Eac3,
        ("audio/x-flac", _) => AudioCodec::Flac,
        ("audio/x-alaw", _) => AudioCodec::Alaw,
        ("audio/x-mulaw", _) => AudioCodec::Mulaw,
        ("audio/x-speex", _) => AudioCodec::Speex,
        ("audio/x-raw", _) => AudioCodec::Pcm16,
        (other, _) => panic!("{other}"),
    };
    TrackFormat::Audio(AudioFormat { codec, config, sample_rate, channels })
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
        // FLAC and Speex begin with headers, which RTMP has no packets for.
        if track == Track::Audio && sample.buffer().unwrap().flags().contains(gst::BufferFlags::HEADER) {
            continue;
        }
        if events.is_empty() {
            let caps = sample.caps().unwrap().structure(0).unwrap();
            let config = caps.get::<gst::Buffer>("codec_data");
            let config = config.map_or(Bytes::new(), |config| Bytes::copy_from_slice(&config.map_readable().unwrap()));
            events.push(SourceEvent::Format(track, format(caps, config)));
        }
        events.push(SourceEvent::Unit(track, unit(&sample)));
    }
    if let Some(SourceEvent::Format(_, TrackFormat::Video(VideoFormat { codec: VideoCodec::Av1, .. }))) = events.first()
    {
        as_in_mp4(&mut events);
    }
    events
}

/// AV1 as RTMP has it: no temporal delimiters (OBU type 2), and an `av1C` of profile 0 with the sequence header (type 1).
fn as_in_mp4(events: &mut [SourceEvent]) {
    let mut header = Vec::new();
    for event in events.iter_mut() {
        if let SourceEvent::Unit(_, unit) = event {
            let found: Vec<&[u8]> = obus(&unit.data).into_iter().filter(|obu| obu[0] >> 3 & 15 == 1).collect();
            if let (true, Some(found)) = (header.is_empty(), found.first()) {
                header = found.to_vec();
            }
            unit.data =
                obus(&unit.data).into_iter().filter(|obu| obu[0] >> 3 & 15 != 2).collect::<Vec<_>>().concat().into();
        }
    }
    if let Some(SourceEvent::Format(_, TrackFormat::Video(format))) = events.first_mut() {
        format.config = [&[0x81, 0, 0x0c, 0][..], &header].concat().into();
    }
}

/// The OBUs of a temporal unit, all of which have sizes.
pub(super) fn obus(unit: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut obus) = (unit, Vec::new());
    while !rest.is_empty() {
        let (mut size, mut at, mut shift) = (0, 1 + usize::from(rest[0] >> 2 & 1), 0);
        loop {
            size |= usize::from(rest[at] & 0x7f) << shift;
            (at, shift) = (at + 1, shift + 7);
            if rest[at - 1] & 0x80 == 0 {
                break;
            }
        }
        let (obu, after) = rest.split_at(at + size);
        obus.push(obu);
        rest = after;
    }
    obus
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
