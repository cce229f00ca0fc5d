//! The way out of the encoders: from samples to units of a rendition, on the encoder's thread.

use std::sync::PoisonError;

use bytes::Bytes;
use gstreamer as gst;
use tokio::sync::mpsc;

use crate::ladder::{LadderEvent, RenditionIndex};
use crate::media::{AccessUnit, AudioFormat, MediaTime, TrackFormat, VideoCodec, VideoCoding, VideoFormat};

use super::gst_time::RunClock;
use super::pictures::PendingCuts;
use super::silence::FRAME_SAMPLES;

/// Why a unit could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutletError {
    /// Nobody takes it any more.
    Closed,
    /// The encoder did what it must not.
    Broken(&'static str),
}

/// The outlet of a video encoder.
pub(super) struct VideoOutlet {
    pub(super) rendition: RenditionIndex,
    pub(super) size: (u32, u32),
    pub(super) clock: RunClock,
    pub(super) cuts: PendingCuts,
    pub(super) out: mpsc::Sender<LadderEvent>,
    pub(super) announced: bool,
    pub(super) last_dts: Option<MediaTime>,
}

impl VideoOutlet {
    /// Sends what the encoder made, its format first.
    pub(super) fn take(&mut self, sample: &gst::Sample) -> Result<(), OutletError> {
        let (Some(buffer), Some(segment)) = (sample.buffer_owned(), sample.segment()) else { return Ok(()) };
        if !self.announced {
            let config = codec_data(sample).ok_or(OutletError::Broken("made no codec_data"))?;
            let (width, height) = self.size;
            let format = VideoFormat { codec: VideoCodec::H264, config, width, height, coding: VideoCoding::PLAIN };
            send_format(&self.out, self.rendition, TrackFormat::Video(format))?;
            self.announced = true;
        }
        let pts =
            self.clock.of_buffer(segment, buffer.pts()).ok_or(OutletError::Broken("made a unit without a time"))?;
        let dts = self.dts(self.clock.of_buffer(segment, buffer.dts()).unwrap_or(pts));
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let cut = self.cut(pts);
        if cut.is_some() && !key {
            return Err(OutletError::Broken("put no IDR at a cut"));
        }
        let unit = AccessUnit { dts, pts, duration: MediaTime::ZERO, key, data: data(buffer)? };
        send(&self.out, LadderEvent::Unit { rendition: self.rendition, unit, cut })
    }

    /// Strictly increasing, whatever rounding did.
    fn dts(&mut self, dts: MediaTime) -> MediaTime {
        let earliest = self.last_dts.map(|last| last + MediaTime::from_nanos(1));
        let dts = earliest.map_or(dts, |earliest| dts.max(earliest));
        self.last_dts = Some(dts);
        dts
    }

    fn cut(&self, pts: MediaTime) -> Option<u64> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.pop_front_if(|cut| cut.pts == pts).map(|cut| cut.number)
    }
}

/// The outlet of the audio encoder.
pub(super) struct AudioOutlet {
    pub(super) rendition: RenditionIndex,
    pub(super) format: AudioFormat,
    /// The time of the first sample that the encoder was given.
    pub(super) anchor: MediaTime,
    pub(super) out: mpsc::Sender<LadderEvent>,
    pub(super) announced: bool,
    pub(super) frames: i64,
}

impl AudioOutlet {
    /// Sends what the encoder made, its format first. The first frame only primes a decoder, so the sound of frame `n + 1`
    /// is that of the `n`th 1024 samples: it is left out, and the others are timed by counting.
    pub(super) fn take(&mut self, sample: &gst::Sample) -> Result<(), OutletError> {
        let Some(buffer) = sample.buffer_owned() else { return Ok(()) };
        if !self.announced {
            let config = codec_data(sample).ok_or(OutletError::Broken("made no codec_data"))?;
            let format = AudioFormat { config, ..self.format.clone() };
            send_format(&self.out, self.rendition, TrackFormat::Audio(format))?;
            self.announced = true;
        }
        let number = self.frames;
        self.frames = number.saturating_add(1);
        if number == 0 {
            return Ok(());
        }
        let (at, end) = (self.time(number.saturating_sub(1)), self.time(number));
        let unit = AccessUnit { dts: at, pts: at, duration: end - at, key: true, data: data(buffer)? };
        send(&self.out, LadderEvent::Unit { rendition: self.rendition, unit, cut: None })
    }

    fn time(&self, frame: i64) -> MediaTime {
        let samples = frame.saturating_mul(i64::from(FRAME_SAMPLES));
        self.anchor + MediaTime::from_ticks(samples, self.format.sample_rate)
    }
}

fn send_format(
    out: &mpsc::Sender<LadderEvent>,
    rendition: RenditionIndex,
    format: TrackFormat,
) -> Result<(), OutletError> {
    send(out, LadderEvent::Format(rendition, format))
}

/// Waits while the packager is behind: that holds up the encoder's thread, and so all before it.
fn send(out: &mpsc::Sender<LadderEvent>, event: LadderEvent) -> Result<(), OutletError> {
    out.blocking_send(event).map_err(|_| OutletError::Closed)
}

fn codec_data(sample: &gst::Sample) -> Option<Bytes> {
    let buffer = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let map = buffer.map_readable().ok()?;
    Some(Bytes::copy_from_slice(&map))
}

/// The buffer's bytes, without copying them.
fn data(buffer: gst::Buffer) -> Result<Bytes, OutletError> {
    let mapped =
        buffer.into_mapped_buffer_readable().map_err(|_| OutletError::Broken("made a unit that cannot be read"))?;
    Ok(Bytes::from_owner(mapped))
}
