//! A publisher's sound, whatever its codec: its format, and of each packet how long it lasts.

use bytes::{BufMut, Bytes, BytesMut};

use super::aac::{AacConfig, adts};
use super::{ac3, flac, mp3, opus};
use crate::media::{AudioCodec, AudioFormat};

/// How a tag says that its sound is coded. Of codecs without a configuration it says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundCodec {
    /// AAC.
    Aac,
    /// Opus.
    Opus,
    /// MPEG layer III.
    Mp3,
    /// AC-3 or E-AC-3: their frames tell which.
    Ac3,
    /// FLAC.
    Flac,
    /// G.711, A-law, with this many channels.
    Alaw(u8),
    /// G.711, mu-law, with this many channels.
    Mulaw(u8),
    /// Linear PCM.
    Pcm {
        /// Samples a second.
        sample_rate: u32,
        /// Channels.
        channels: u8,
        /// 16 bits, little-endian; else 8 bits, unsigned.
        wide: bool,
    },
    /// Speex, which in FLV is always mono at 16 kHz.
    Speex,
}

/// Sound that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SoundError {
    /// The configuration is cut short, or uses reserved values.
    #[error("an audio configuration that cannot be true")]
    FalseConfig,
    /// An object type other than Main, LC, SSR, LTP, and SBR or PS over them.
    #[error("MPEG-4 audio object type {0} is not supported")]
    ObjectType(u8),
    /// A packet before the configuration that says how to read it.
    #[error("a packet before its configuration")]
    NoConfig,
    /// A packet that is cut short, or of absurd length.
    #[error("a packet that cannot be true")]
    Malformed,
}

/// A packet as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoundPacket {
    /// Samples in each channel, at the format's rate. Not 0.
    pub samples: u32,
    /// The packet.
    pub data: Bytes,
}

/// What was last said of the sound.
#[derive(Debug)]
pub struct SoundReader {
    codec: SoundCodec,
    format: Option<AudioFormat>,
    /// Of AAC: samples of each frame.
    frame_samples: u32,
    /// The format was read off a packet, not out of a configuration.
    derived: bool,
}

impl SoundReader {
    /// For sound of this codec.
    #[must_use]
    pub fn new(codec: SoundCodec) -> Self {
        Self { codec, format: None, frame_samples: 0, derived: false }
    }

    /// Its codec.
    #[must_use]
    pub fn codec(&self) -> SoundCodec {
        self.codec
    }

    /// The format at present.
    #[must_use]
    pub fn format(&self) -> Option<&AudioFormat> {
        self.format.as_ref()
    }

    /// Takes a configuration. True where it changes the format. Of codecs that need none it changes nothing.
    ///
    /// # Errors
    /// [`SoundError`]; what was known before stays.
    pub fn configure(&mut self, config: &Bytes) -> Result<bool, SoundError> {
        let (format, frame_samples) = match self.codec {
            // Some encoders repeat it every second.
            SoundCodec::Aac if self.format.as_ref().is_some_and(|f| f.config == config) => return Ok(false),
            SoundCodec::Aac => AacConfig::parse(config).map(|aac| (aac.format, aac.frame_samples))?,
            SoundCodec::Opus => (opus::format(config).ok_or(SoundError::FalseConfig)?, 0),
            SoundCodec::Flac => (flac::format(config).ok_or(SoundError::FalseConfig)?, 0),
            _ => return Ok(false),
        };
        self.frame_samples = frame_samples;
        self.derived = false;
        Ok(self.adopt(format))
    }

    /// Takes a packet, which is not empty. Beside it, true where it changes the format.
    ///
    /// # Errors
    /// [`SoundError`]: it is to be skipped.
    pub fn packet(&mut self, data: &Bytes) -> Result<(SoundPacket, bool), SoundError> {
        let (derived, samples, data) = match self.codec {
            SoundCodec::Aac => self.aac(data)?,
            SoundCodec::Opus => self.opus(data)?,
            SoundCodec::Mp3 => told(mp3::frame, data)?,
            SoundCodec::Ac3 => told(ac3::frame, data)?,
            SoundCodec::Flac => (None, flac::samples(data).ok_or(SoundError::Malformed)?, data.clone()),
            SoundCodec::Alaw(channels) => plain(AudioCodec::Alaw, 8_000, channels, 1, data)?,
            SoundCodec::Mulaw(channels) => plain(AudioCodec::Mulaw, 8_000, channels, 1, data)?,
            SoundCodec::Pcm { sample_rate, channels, wide } => {
                let data = if wide { data.clone() } else { widened(data) };
                plain(AudioCodec::Pcm16, sample_rate, channels, 2, &data)?
            }
            SoundCodec::Speex => (Some(bare(AudioCodec::Speex, 16_000, 1)), 320, data.clone()),
        };
        let changed = derived.is_some_and(|format| self.adopt(format));
        let rate = self.format.as_ref().ok_or(SoundError::NoConfig)?.sample_rate;
        if samples == 0 || samples > rate.saturating_mul(PACKET_SECONDS_MAX) {
            return Err(SoundError::Malformed);
        }
        Ok((SoundPacket { samples, data }, changed))
    }

    /// A raw frame; or one in ADTS, as some send it, which tells the format where no configuration did.
    fn aac(&mut self, data: &Bytes) -> Result<(Option<AudioFormat>, u32, Bytes), SoundError> {
        let Some((config, frame)) = adts(data)? else { return Ok((None, self.frame_samples, data.clone())) };
        let mut derived = None;
        if self.format.is_none() || self.derived {
            let aac = AacConfig::parse(&Bytes::copy_from_slice(&config))?;
            self.frame_samples = aac.frame_samples;
            self.derived = true;
            derived = Some(aac.format);
        }
        if frame.is_empty() { Err(SoundError::Malformed) } else { Ok((derived, self.frame_samples, frame)) }
    }

    fn opus(&mut self, data: &Bytes) -> Result<(Option<AudioFormat>, u32, Bytes), SoundError> {
        let samples = opus::samples(data).ok_or(SoundError::Malformed)?;
        let needed = self.format.is_none();
        let derived = needed.then(|| opus::header_of(data).and_then(|header| opus::format(&header))).flatten();
        Ok((derived, samples, data.clone()))
    }

    fn adopt(&mut self, format: AudioFormat) -> bool {
        let changed = self.format.as_ref() != Some(&format);
        self.format = Some(format);
        changed
    }
}

type Told = (Option<AudioFormat>, u32, Bytes);

fn told(frame: fn(&[u8]) -> Option<FrameHeader>, data: &Bytes) -> Result<Told, SoundError> {
    let (format, samples) = told_by_frames(frame, data).ok_or(SoundError::Malformed)?;
    Ok((Some(format), samples, data.clone()))
}

/// A frame's header, of codecs that have no other configuration.
pub(super) struct FrameHeader {
    pub(super) codec: AudioCodec,
    pub(super) bytes: usize,
    pub(super) sample_rate: u32,
    pub(super) channels: u8,
    pub(super) samples: u32,
}

/// The format of a packet's first frame, and how many samples all its frames have. None where one is cut short or cannot be true.
pub(super) fn told_by_frames(frame: fn(&[u8]) -> Option<FrameHeader>, data: &[u8]) -> Option<(AudioFormat, u32)> {
    let FrameHeader { codec, sample_rate, channels, .. } = frame(data)?;
    let (mut rest, mut samples) = (data, 0);
    for _ in 0..FRAMES_MAX {
        let next = frame(rest)?;
        samples += next.samples;
        rest = rest.get(next.bytes..)?;
        if rest.is_empty() {
            return Some((AudioFormat { codec, config: Bytes::new(), sample_rate, channels }, samples));
        }
    }
    None
}

/// Frames of a packet: as many as six programmes of E-AC-3 of one block each need for a whole frame's time.
const FRAMES_MAX: usize = 48;

/// Sound of so many bytes a sample, of which whole samples are taken.
fn plain(codec: AudioCodec, rate: u32, channels: u8, sample_bytes: usize, data: &Bytes) -> Result<Told, SoundError> {
    let block = sample_bytes * usize::from(channels.max(1));
    let samples = data.len() / block;
    let whole = data.slice(..samples * block);
    let samples = u32::try_from(samples).map_err(|_| SoundError::Malformed)?;
    Ok((Some(bare(codec, rate, channels)), samples, whole))
}

fn bare(codec: AudioCodec, sample_rate: u32, channels: u8) -> AudioFormat {
    AudioFormat { codec, config: Bytes::new(), sample_rate, channels }
}

/// 16 bits of each 8.
fn widened(data: &[u8]) -> Bytes {
    let mut wide = BytesMut::with_capacity(data.len() * 2);
    for byte in data {
        wide.put_slice(&[0, byte ^ 0x80]);
    }
    wide.freeze()
}

/// No encoder puts more into a packet.
const PACKET_SECONDS_MAX: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(reader: &mut SoundReader, data: &[u8]) -> Result<(u32, Vec<u8>, bool), SoundError> {
        let (packet, changed) = reader.packet(&Bytes::copy_from_slice(data))?;
        Ok((packet.samples, packet.data.to_vec(), changed))
    }

    #[test]
    fn row_22_aac_in_adts_is_stripped_and_tells_its_format() {
        let mut reader = SoundReader::new(SoundCodec::Aac);
        assert_eq!(read(&mut reader, &[0x21, 0x10]), Err(SoundError::NoConfig));
        let adts = [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x3f, 0xfc, 0x21, 0x10];
        assert_eq!(read(&mut reader, &adts), Ok((1024, vec![0x21, 0x10], true)));
        assert_eq!(read(&mut reader, &adts), Ok((1024, vec![0x21, 0x10], false)));
        let format = reader.format().unwrap();
        assert_eq!((format.codec, format.sample_rate, format.channels), (AudioCodec::Aac(2), 48_000, 2));
        assert_eq!(reader.configure(&Bytes::from_static(&[0x12, 0x10])), Ok(true));
        assert_eq!(read(&mut reader, &adts), Ok((1024, vec![0x21, 0x10], false)), "the configuration rules");
        assert_eq!(read(&mut reader, &adts[..8]), Err(SoundError::Malformed), "cut short");
    }

    #[test]
    fn row_23_sound_without_configuration_is_as_the_tag_says() {
        let mut law = SoundReader::new(SoundCodec::Alaw(1));
        assert_eq!(read(&mut law, &[0; 160]), Ok((160, vec![0; 160], true)));
        let mut pcm = SoundReader::new(SoundCodec::Pcm { sample_rate: 11_025, channels: 2, wide: false });
        assert_eq!(read(&mut pcm, &[0x80, 0xff, 7]), Ok((1, vec![0, 0, 0, 0x7f], true)));
        assert_eq!(read(&mut pcm, &[7]), Err(SoundError::Malformed));
        let mut speex = SoundReader::new(SoundCodec::Speex);
        assert_eq!(read(&mut speex, &[1]).map(|p| p.0), Ok(320));
        assert_eq!(read(&mut law, &[0; 16_001]), Err(SoundError::Malformed), "more than two seconds");
    }

    #[test]
    fn row_23_opus_without_a_header_is_taken_and_flac_without_one_is_not() {
        let mut opus = SoundReader::new(SoundCodec::Opus);
        assert_eq!(read(&mut opus, &[0xfc, 1]).map(|p| (p.0, p.2)), Ok((960, true)));
        let mut flac = SoundReader::new(SoundCodec::Flac);
        assert_eq!(read(&mut flac, &[0xff, 0xf8, 0xc9, 8, 0, 0]), Err(SoundError::NoConfig));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(config: Vec<u8>, packet: Vec<u8>) {
            use SoundCodec::{Aac, Ac3, Alaw, Flac, Mp3, Mulaw, Opus, Pcm, Speex};
            let pcm = Pcm { sample_rate: 5_512, channels: 2, wide: true };
            for codec in [Aac, Opus, Mp3, Ac3, Flac, Alaw(2), Mulaw(1), pcm, Speex] {
                let mut reader = SoundReader::new(codec);
                let _ = reader.configure(&config.clone().into());
                for start in [&[][..], &[0xff, 0xf1], &[0x0b, 0x77], &[0xff, 0xfb], &[0xff, 0xf8]] {
                    if let Ok((packet, _)) = reader.packet(&[start, &packet].concat().into()) {
                        prop_assert!(packet.samples > 0);
                    }
                }
            }
        }
    }
}
