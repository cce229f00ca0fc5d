//! Which sound a run makes of its source: pure.

use crate::config::LadderConfig;
use crate::media::{AudioCodec, AudioFormat};

use super::silence;

/// The sound of a channel whose first source has none.
const SILENT_RATE: u32 = 48_000;
const SILENT_CHANNELS: u8 = 2;

/// The sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AudioPlan {
    /// What comes out. Its `config` is what is announced where nothing is encoded.
    pub(super) format: AudioFormat,
    pub(super) making: AudioMaking,
    pub(super) average: u64,
}

/// Where the sound comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AudioMaking {
    /// The source's own frames, or silent ones of the same format.
    Pass,
    /// The source has none yet: silent frames.
    Silence,
    /// The source's, of this format, decoded and encoded.
    Encode(AudioFormat),
}

impl AudioPlan {
    /// Of a programme's first run.
    pub(super) fn first(ladder: &LadderConfig, source: Option<&AudioFormat>) -> Self {
        let average = ladder.audio_bitrate;
        match source {
            None => AudioPlan {
                format: silence::lc_format(SILENT_RATE, SILENT_CHANNELS),
                making: AudioMaking::Silence,
                average,
            },
            Some(format) if passes(format) => {
                AudioPlan { format: format.clone(), making: AudioMaking::Pass, average: average.max(160_000) }
            }
            Some(format) => AudioPlan {
                format: silence::lc_format(output_rate(format.sample_rate), 2),
                making: AudioMaking::Encode(format.clone()),
                average,
            },
        }
    }

    /// Of a later run, in the format that the programme has.
    pub(super) fn later(&self, source: Option<&AudioFormat>) -> Self {
        let (format, average) = (self.format.clone(), self.average);
        let Some(source) = source else {
            return AudioPlan { format, making: AudioMaking::Silence, average };
        };
        let same = source.sample_rate == format.sample_rate && source.channels == format.channels;
        if passes(source) && same {
            AudioPlan { format: source.clone(), making: AudioMaking::Pass, average }
        } else {
            AudioPlan { format, making: AudioMaking::Encode(source.clone()), average }
        }
    }

    /// Units of this format can be taken into the running plan.
    pub(super) fn takes(&self, format: &AudioFormat) -> bool {
        match &self.making {
            AudioMaking::Encode(source) => source == format,
            AudioMaking::Pass | AudioMaking::Silence => {
                passes(format)
                    && format.sample_rate == self.format.sample_rate
                    && format.channels == self.format.channels
            }
        }
    }

    /// The format of the frames that the sound's timeline is made of, before any encoder.
    pub(super) fn lane_format(&self) -> &AudioFormat {
        match &self.making {
            AudioMaking::Encode(source) => source,
            AudioMaking::Pass | AudioMaking::Silence => &self.format,
        }
    }
}

impl AudioMaking {
    /// For the log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Pass => "passed on",
            Self::Silence => "silence",
            Self::Encode(_) => "encoded",
        }
    }
}

/// Passed on as it is: AAC-LC of one or two channels in frames of 1024 samples.
fn passes(format: &AudioFormat) -> bool {
    format.codec == AudioCodec::Aac(2)
        && (1..=2).contains(&format.channels)
        && (8_000..=48_000).contains(&format.sample_rate)
        && frames_of_1024(&format.config)
}

/// `frameLengthFlag` of the `GASpecificConfig` is 0 (ISO/IEC 14496-3, 4.4.1).
fn frames_of_1024(config: &[u8]) -> bool {
    match config {
        [first, second, ..] if (u16::from_be_bytes([*first, *second]) >> 7) & 0xf != 15 => second & 0b100 == 0,
        [_, _, _, _, fifth, ..] => fifth & 0b100 == 0,
        _ => false,
    }
}

/// The common rate of the source's family.
pub(super) fn output_rate(rate: u32) -> u32 {
    if rate.is_multiple_of(11_025) { 44_100 } else { 48_000 }
}
