//! What flows in: time, codecs, track formats and access units.
//!
//! The vocabulary that ingest, transcode and packager share. It knows no protocol,
//! no container and no clock.

use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point on, or a span of, a channel's media timeline: signed nanoseconds, as in GStreamer.
///
/// Arithmetic saturates, because timestamps come from peers: a hostile one may drive a
/// timeline towards the ends of the range, and must not panic the process there.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The origin of the timeline, and the empty span.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds, RTMP's unit. Saturates.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From `ticks` of a clock with `timescale` ticks a second, rounded to the nearest nanosecond.
    /// A timescale of 0 gives [`MediaTime::ZERO`].
    #[must_use]
    pub fn from_ticks(ticks: i64, timescale: u32) -> Self {
        Self(scale(ticks, 1_000_000_000, i64::from(timescale)))
    }

    /// In ticks of `timescale` a second, rounded to the nearest. Convert absolute times and
    /// subtract, rather than adding up converted durations: then no rounding error adds up.
    #[must_use]
    pub fn to_ticks(self, timescale: u32) -> i64 {
        scale(self.0, i64::from(timescale), 1_000_000_000)
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// In milliseconds, rounded towards zero.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// In seconds, for display and playlists.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_nanos(self.0.unsigned_abs()).as_secs_f64() * self.0.signum() as f64
    }

    /// As a [`Duration`]; a negative span gives zero.
    #[must_use]
    pub fn to_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// `value * numerator / denominator`, rounded half away from zero, saturating; 0 for a zero denominator.
fn scale(value: i64, numerator: i64, denominator: i64) -> i64 {
    if denominator == 0 {
        return 0;
    }
    let product = i128::from(value) * i128::from(numerator);
    let half = i128::from(denominator) / 2;
    let rounded = (product + product.signum() * half) / i128::from(denominator);
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

impl From<Duration> for MediaTime {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for MediaTime {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for MediaTime {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl fmt::Debug for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.as_secs_f64())
    }
}

/// Which of a publisher's tracks something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// A picture, by its number in the connection: [`Track::VIDEO`], or a further one of Enhanced RTMP's multitrack.
    Video(u8),
    /// The sound. Further sounds of a connection are not taken.
    Audio,
}

impl Track {
    /// The picture of a connection that has one, and the one that the others of a multitrack connection go by.
    pub const VIDEO: Self = Self::Video(0);
}

/// How a video track is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264 (ITU-T H.264, ISO/IEC 14496-10).
    #[default]
    H264,
    /// HEVC (ITU-T H.265, ISO/IEC 23008-2).
    Hevc,
    /// AV1 (AOMedia's bitstream specification).
    Av1,
    /// VP9 (Google's bitstream specification).
    Vp9,
}

/// What a channel's renditions are packed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Fragmented MP4 by CMAF, the sound apart from the pictures.
    #[default]
    Cmaf,
    /// MPEG-TS: each picture with the sound in one stream, for old players.
    Ts,
}

impl Container {
    /// It holds pictures of this codec, and players take them out of it. Of HLS in MPEG-TS that is H.264 alone: HEVC is only
    /// for fragmented MP4 (Apple's authoring specification, 1.5), and AV1 has no agreed place in it.
    #[must_use]
    pub fn holds(self, codec: VideoCodec) -> bool {
        self == Self::Cmaf || codec == VideoCodec::H264
    }
}

/// What a decoder must know of a video track before its first access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// How it is coded, which says what the other fields hold.
    pub codec: VideoCodec,
    /// The decoder configuration record: the body of the box that MP4 keeps it in. `avcC` (ISO/IEC 14496-15, 5.3.3.1),
    /// `hvcC` (the same, 8.3.3.1), `av1C` (AV1-ISOBMFF, 2.3.3), `vpcC` with its version and flags (VP9-ISOBMFF).
    pub config: Bytes,
    /// Width of the visible picture in luma samples, after cropping.
    pub width: u32,
    /// Height of the visible picture in luma samples, after cropping.
    pub height: u32,
    /// What its samples are.
    pub coding: VideoCoding,
}

/// What a video track's samples are, as its sequence parameter set says. The profile and the level are not here: they
/// stand in the configuration record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoCoding {
    /// The shape of a sample, width to height, neither of them 0; 1 to 1 where nothing is said. Not checked for being plausible.
    pub sample_aspect: (u16, u16),
    /// The track may hold fields, or frames of fields (`frame_mbs_only_flag` is 0).
    pub interlaced: bool,
    /// `chroma_format_idc`: 0 is monochrome, 1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample, 8 to 14.
    pub luma_bits: u8,
    /// Bits of a chroma sample, 8 to 14.
    pub chroma_bits: u8,
    /// What the samples' values mean; none where the stream does not say.
    pub colour: Option<Colour>,
}

/// What the values of samples mean: code points of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Colour {
    /// `ColourPrimaries`: 1 is BT.709, 9 is BT.2020.
    pub primaries: u8,
    /// `TransferCharacteristics`: 1 is BT.709, 16 is PQ, 18 is HLG.
    pub transfer: u8,
    /// `MatrixCoefficients`: 1 is BT.709, 9 is BT.2020 without constant luminance.
    pub matrix: u8,
    /// Values use all of their range, not that of television.
    pub full_range: bool,
}

/// How far the light that a picture's samples stand for reaches, in rising order: what `VIDEO-RANGE` tells (RFC 8216bis, 4.4.6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DynamicRange {
    /// Standard.
    #[default]
    Sdr,
    /// High, by hybrid log-gamma.
    Hlg,
    /// High, by the perceptual quantizer.
    Pq,
}

impl Colour {
    /// As the transfer characteristics say.
    #[must_use]
    pub fn dynamic_range(self) -> DynamicRange {
        match self.transfer {
            16 => DynamicRange::Pq,
            18 => DynamicRange::Hlg,
            _ => DynamicRange::Sdr,
        }
    }
}

impl VideoCoding {
    /// Frames of square samples, 4:2:0, 8 bits: what Headwater's own encoders write, and nearly all others.
    pub const PLAIN: Self =
        Self { sample_aspect: (1, 1), interlaced: false, chroma_format: 1, luma_bits: 8, chroma_bits: 8, colour: None };
}

/// How an audio track is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// AAC (ISO/IEC 14496-3), with its audio object type: 2 is AAC-LC, as in the RFC 6381 string `mp4a.40.2`.
    Aac(u8),
    /// Opus (RFC 6716).
    Opus,
    /// MPEG-1 or -2 layer III.
    Mp3,
    /// AC-3 (ETSI TS 102 366).
    Ac3,
    /// Enhanced AC-3 (the same, annex E).
    Eac3,
    /// FLAC (RFC 9639).
    Flac,
    /// G.711, A-law.
    Alaw,
    /// G.711, mu-law.
    Mulaw,
    /// Linear PCM of signed 16 bits, little-endian, interleaved.
    Pcm16,
    /// Speex.
    Speex,
}

/// What a decoder must know of an audio track before its first access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// How it is coded, which says what the other fields hold.
    pub codec: AudioCodec,
    /// AAC: the `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1). Opus: the identification header (RFC 7845, 5.1).
    /// FLAC: `fLaC` and the metadata blocks. Empty for the others, whose frames say it all.
    pub config: Bytes,
    /// Samples a second, of the core codec (without SBR).
    pub sample_rate: u32,
    /// Channels.
    pub channels: u8,
}

/// The format of a track of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackFormat {
    /// A picture's.
    Video(VideoFormat),
    /// A sound's.
    Audio(AudioFormat),
}

/// One coded frame: a picture, or a block of audio samples.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// When it is decoded.
    pub dts: MediaTime,
    /// When it is shown. May be less than `dts` by no more than a rounding of the source's clock.
    pub pts: MediaTime,
    /// How long it lasts, as far as is known: 0 where it follows from the next one's `dts`.
    pub duration: MediaTime,
    /// Decoding may start here: an IDR picture (not a mere recovery point; of HEVC any IRAP without leading pictures, of
    /// AV1 and VP9 a key frame), or any audio frame.
    pub key: bool,
    /// H.264 and HEVC: NAL units with 4-byte lengths before them. AV1: the temporal unit's OBUs with sizes, without delimiters.
    /// VP9: one frame or superframe. AAC: one raw frame, without ADTS. Other sound: one packet as its codec frames it.
    pub data: Bytes,
}

impl fmt::Debug for AccessUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key { " key" } else { "" };
        write!(f, "AU(dts {:?} pts {:?}{key} {} bytes)", self.dts, self.pts, self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes_saturate() {
        let end = MediaTime::from_millis(i64::MAX);
        assert_eq!(end + end, end);
        assert_eq!(MediaTime::from_ticks(i64::MIN, 1).as_nanos(), i64::MIN);
        assert_eq!(MediaTime::from_ticks(1, 0), MediaTime::ZERO);
        assert_eq!(MediaTime::from_millis(-1500).as_secs_f64(), -1.5);
    }

    proptest! {
        #[test]
        fn audio_ticks_survive_the_round_trip(frames in 0i64..1 << 32, rate in prop::sample::select(vec![8_000u32, 44_100, 48_000, 96_000])) {
            let ticks = frames * 1024;
            prop_assert_eq!(MediaTime::from_ticks(ticks, rate).to_ticks(rate), ticks);
        }
    }
}
