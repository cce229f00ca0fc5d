//! From packets of any sound to frames of AAC-LC, timed from the packets. Runs on its caller's thread.

use bytes::Bytes;
use gstreamer as gst;

use super::super::audio_plan::output_rate;
use super::super::elements::Lacking;
use super::super::gst_time::RunClock;
use super::super::silence::{FRAME_SAMPLES, lc_format};
use super::chain::{Broken, Chain};
use super::decoder;
use super::grid::{Grid, Placing};
use crate::media::{AccessUnit, AudioFormat, MediaTime};

/// A larger packet is none: it is 5 s of PCM at 48 kHz, and every codec has less.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// After so many packets in a row that could not be decoded, so much of the source passes before it is tried again.
const FAULTS_MAX: u32 = 8;
const REST: MediaTime = MediaTime::from_millis(1000);

/// Bytes of a sample of one channel.
const SAMPLE_BYTES: usize = 4;

/// What came out of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Converted {
    /// Frames of AAC.
    pub(super) units: Vec<AccessUnit>,
    /// Packets that could not be decoded.
    pub(super) faults: u64,
}

/// The converter of one source format.
pub(super) struct Converter {
    source: AudioFormat,
    target: AudioFormat,
    bitrate: u64,
    decoder: Option<Chain>,
    /// The decoder has made something.
    heard: bool,
    encoder: Option<Encoder>,
    grid: Grid,
    /// Packets in a row that could not be decoded.
    faults: u32,
    /// Not to be tried again before.
    rests_until: Option<MediaTime>,
}

/// An AAC encoder, and how many frames it has made since the grid began.
struct Encoder {
    chain: Chain,
    anchor: MediaTime,
    rate: u32,
    frames: i64,
}

impl Converter {
    /// From `source` to AAC-LC of at most two channels and this many bits a second.
    ///
    /// # Errors
    /// [`Lacking`] where GStreamer cannot decode it.
    pub(super) fn new(source: AudioFormat, bitrate: u64) -> Result<Self, Lacking> {
        decoder::element(source.codec)?;
        let target = lc_format(output_rate(source.sample_rate), source.channels.clamp(1, 2));
        let grid = Grid::new(target.sample_rate);
        Ok(Self {
            source,
            target,
            bitrate,
            decoder: None,
            heard: false,
            encoder: None,
            grid,
            faults: 0,
            rests_until: None,
        })
    }

    /// What comes out.
    pub(super) fn format(&self) -> &AudioFormat {
        &self.target
    }

    /// Takes a packet.
    pub(super) fn push(&mut self, packet: &AccessUnit) -> Converted {
        if self.rests_until.is_some_and(|until| packet.pts < until) || packet.data.len() > PACKET_BYTES_MAX {
            return Converted { units: Vec::new(), faults: 1 };
        }
        let mut units = Vec::new();
        let converted = self.convert(packet, &mut units);
        let warned = self.decoder.as_ref().is_some_and(|decoder| decoder.take_warnings() > 0);
        if converted == Ok(true) && !warned {
            (self.heard, self.faults, self.rests_until) = (true, 0, None);
            return Converted { units, faults: 0 };
        }
        self.faults = self.faults.saturating_add(1);
        self.rests_until = (self.faults >= FAULTS_MAX).then_some(packet.pts + REST);
        self.grid.tear();
        // Some need more than one packet at first.
        if converted == Ok(false) && !warned && !self.heard && self.rests_until.is_none() {
            return Converted { units, faults: 0 };
        }
        // Decoders of GStreamer keep packets that they failed at: a new one knows nothing of them.
        (self.decoder, self.heard) = (None, false);
        Converted { units, faults: 1 }
    }

    /// Gives what is held, and forgets what was: the next packet begins anew.
    pub(super) fn finish(&mut self) -> Converted {
        let mut units = Vec::new();
        self.heard = false;
        if let (Some(decoder), Some(end)) = (self.decoder.take(), self.grid.end()) {
            // What the resampler held. Where it is not taken, the encoder is gone, and all with it.
            let _ = self.place_all(end, &decoder.end(), &mut units);
        }
        self.end_encoder(&mut units);
        self.grid.clear();
        Converted { units, faults: 0 }
    }

    /// False where nothing came of it.
    fn convert(&mut self, packet: &AccessUnit, units: &mut Vec<AccessUnit>) -> Result<bool, Broken> {
        let decoder = match &self.decoder {
            Some(decoder) => decoder,
            None => self.decoder.insert(decoder::chain(&self.source, &raw_caps(&self.target))?),
        };
        let mut buffer = gst::Buffer::from_slice(packet.data.clone());
        buffer.make_mut().set_pts(CLOCK.to_running(packet.pts));
        let made = decoder.push(buffer)?;
        self.place_all(packet.pts, &made, units)
    }

    /// Puts what became of one packet into its place. By the packet's time, not by that of the samples: after a failure decoders
    /// give samples the times of earlier packets. False where there is nothing.
    fn place_all(
        &mut self,
        mut at: MediaTime,
        made: &[gst::Sample],
        units: &mut Vec<AccessUnit>,
    ) -> Result<bool, Broken> {
        let begin = at;
        for sample in made {
            at += self.place(at, sample, units)?;
        }
        Ok(at > begin)
    }

    /// Puts a block of samples into its place, and tells how long it is.
    fn place(&mut self, at: MediaTime, sample: &gst::Sample, units: &mut Vec<AccessUnit>) -> Result<MediaTime, Broken> {
        let buffer = sample.buffer().ok_or_else(|| Broken("made no samples".to_owned()))?;
        let map = buffer.map_readable()?;
        let block = i64::try_from(map.len() / self.block_bytes()).unwrap_or(0);
        let (silence, skip) = match self.grid.place(at, block) {
            Placing::Anew => {
                self.end_encoder(units);
                (0, 0)
            }
            Placing::On { silence, skip } => (silence, skip),
        };
        let bytes = |samples: i64| usize::try_from(samples).unwrap_or(0).saturating_mul(self.block_bytes());
        let mut samples = vec![0; bytes(silence)];
        samples.extend_from_slice(map.get(bytes(skip)..).unwrap_or_default());
        if !samples.is_empty() {
            self.encode(samples, units)?;
        }
        Ok(MediaTime::from_ticks(block, self.target.sample_rate))
    }

    /// Bytes of one sample of all channels.
    fn block_bytes(&self) -> usize {
        SAMPLE_BYTES * usize::from(self.target.channels.max(1))
    }

    fn encode(&mut self, samples: Vec<u8>, units: &mut Vec<AccessUnit>) -> Result<(), Broken> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => {
                let anchor = self.grid.anchor().unwrap_or_default();
                self.encoder.insert(Encoder::new(&self.target, self.bitrate, anchor)?)
            }
        };
        match encoder.chain.push(gst::Buffer::from_slice(samples)) {
            Ok(made) => {
                encoder.take(made, units);
                Ok(())
            }
            Err(broken) => {
                self.encoder = None;
                self.grid.clear();
                Err(broken)
            }
        }
    }

    fn end_encoder(&mut self, units: &mut Vec<AccessUnit>) {
        if let Some(mut encoder) = self.encoder.take() {
            let made = encoder.chain.end();
            encoder.take(made, units);
        }
    }
}

impl Encoder {
    fn new(target: &AudioFormat, bitrate: u64, anchor: MediaTime) -> Result<Self, Broken> {
        let element = gst::ElementFactory::make("avenc_aac");
        let element = element.property("bitrate", i32::try_from(bitrate).unwrap_or(128_000)).build()?;
        let coded = gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw").build();
        let chain = Chain::new(&[element], &raw_caps(target), &coded)?;
        Ok(Self { chain, anchor, rate: target.sample_rate, frames: 0 })
    }

    /// Times frames by counting. The first only primes a decoder, so the sound of frame `n + 1` is that of the `n`th
    /// 1024 samples: it is left out.
    fn take(&mut self, made: Vec<gst::Sample>, units: &mut Vec<AccessUnit>) {
        for sample in made {
            let number = self.frames;
            self.frames = number.saturating_add(1);
            let Some(buffer) = sample.buffer_owned().filter(|_| number > 0) else { continue };
            let Ok(data) = buffer.into_mapped_buffer_readable() else { continue };
            let (at, end) = (self.time(number.saturating_sub(1)), self.time(number));
            let data = Bytes::from_owner(data);
            units.push(AccessUnit { dts: at, pts: at, duration: end - at, key: true, data });
        }
    }

    fn time(&self, frame: i64) -> MediaTime {
        self.anchor + MediaTime::from_ticks(frame.saturating_mul(i64::from(FRAME_SAMPLES)), self.rate)
    }
}

/// GStreamer has no negative times; a channel's timeline may, at its start.
const CLOCK: RunClock = RunClock::new(MediaTime::ZERO);

/// What goes from the decoder to the encoder.
fn raw_caps(target: &AudioFormat) -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "F32LE")
        .field("layout", "interleaved")
        .field("rate", i32::try_from(target.sample_rate).unwrap_or(48_000))
        .field("channels", i32::from(target.channels))
        .build()
}
