//! Which renditions a run makes of a source: a pure function of the ladder, the source, and what is latched.
//!
//! A source with several tracks is planned by its tallest one, the reference ([`tracks`](super::tracks)); the others only add
//! renditions that need no encoding ([`rungs`]). Where the reference cannot be passed on, none is.

use crate::config::{LadderConfig, LongGop, MissingRungs, RenditionSource};
use crate::ladder::{RenditionKind, RenditionName, RenditionSpec};
use crate::media::{AudioCodec, AudioFormat, MediaTime};

use super::probe::{FrameRate, Measured};
use super::rungs::{self, Rung};
use super::traits::VideoTraits;

/// The sound of a channel whose first source has none.
const SILENT_RATE: u32 = 48_000;
const SILENT_CHANNELS: u8 = 2;

/// Seconds of bits that an encoder may save up: `vbv-buf-capacity`. It bounds a segment's peak.
pub(super) const VBV: MediaTime = MediaTime::from_millis(1000);

/// A source, as its first seconds showed it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Which of the encoder's tracks it is; of several the reference.
    pub(super) track: u8,
    pub(super) video: VideoTraits,
    pub(super) measured: Measured,
    /// The tracks beside it, by number.
    pub(super) further: Vec<Further>,
    /// Its sound; none where no sound came.
    pub(super) audio: Option<AudioFormat>,
    /// It has shown a GOP too long for the segments before.
    pub(super) long_gop_seen: bool,
}

/// A track beside the reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Further {
    pub(super) pictures: Pictures,
    /// Its IDRs fall on the reference's.
    pub(super) aligned: bool,
}

/// The pictures of one track.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pictures {
    pub(super) track: u8,
    pub(super) video: VideoTraits,
    pub(super) measured: Measured,
}

impl Pictures {
    /// Lines as they are shown.
    pub(super) fn lines(&self) -> u32 {
        self.video.display_size().1
    }
}

impl Source {
    /// The tracks that may be passed on, if the reference may.
    fn passable(&self) -> Vec<Pictures> {
        let own = Pictures { track: self.track, video: self.video, measured: self.measured };
        let further = self.further.iter().filter(|further| further.is_passable());
        let all = [own].into_iter().chain(further.map(|further| further.pictures.clone()));
        all.filter(|pictures| pictures.video.is_playable()).collect()
    }

    /// The encoder sends a ladder of its own.
    fn is_ladder(&self) -> bool {
        self.further.iter().any(Further::is_passable)
    }
}

impl Further {
    fn is_passable(&self) -> bool {
        self.aligned && self.pictures.video.is_playable()
    }

    /// Why it is not passed on, for the log.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match (self.pictures.video.is_playable(), self.aligned) {
            (false, _) => Some("not every player could decode it"),
            (true, false) => Some("its keyframes do not fall on those of the tallest track"),
            (true, true) => None,
        }
    }
}

/// What a run makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Video renditions, best first.
    pub(super) videos: Vec<VideoPlan>,
    pub(super) audio: AudioPlan,
    pub(super) target: MediaTime,
    pub(super) frame_rate: FrameRate,
    /// The distance between the source's IDRs that cuts may count on.
    pub(super) gop: MediaTime,
    /// What became of the passthrough rendition, for the log.
    pub(super) passthrough: Passthrough,
}

/// One video rendition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VideoPlan {
    pub(super) name: RenditionName,
    pub(super) making: Making,
    pub(super) average: u64,
    pub(super) peak: u64,
    pub(super) frame_rate: FrameRate,
}

/// Where a rendition's access units come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Making {
    /// The source's own: this track's.
    Pass(u8),
    /// Encoded.
    Encode(Encoding),
    /// Nowhere: the programme has the rendition, the source has no such track now, and it is not to be encoded.
    Missing,
}

/// What an encoder makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bitrate: u64,
    /// Stands in for a rendition of H.264 that was passed on: its `profile_idc` and `level_idc`, so that CODECS stays true.
    pub(super) stands_in: Option<(u8, u8)>,
}

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

/// What became of the passthrough rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passthrough {
    /// The ladder has none.
    None,
    /// It is passed on.
    Passed,
    /// It is passed on, and segments are as long as the source's GOP.
    Stretched,
    /// Encoded: IDRs are further apart than a segment.
    LongGop,
    /// Encoded: players could not decode the source's codec, profile, chroma format, depth or fields.
    Unplayable,
    /// Encoded: it is not what the programme began with.
    Changed,
}

/// What a programme's first run fixed for later ones: rendition names, sizes, bit rates, target duration, frame rate, sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Latched {
    videos: Vec<LatchedVideo>,
    audio: AudioPlan,
    target: MediaTime,
}

#[derive(Clone, Debug, PartialEq)]
struct LatchedVideo {
    name: RenditionName,
    width: u32,
    height: u32,
    bitrate: u64,
    average: u64,
    peak: u64,
    frame_rate: FrameRate,
    /// Where it was passed on: which track, and what its picture was.
    passed: Option<(u8, VideoTraits)>,
}

impl Plan {
    /// Decides. `segment` is the configured length of segments.
    pub(super) fn decide(
        ladder: &LadderConfig,
        segment: MediaTime,
        source: &Source,
        latched: Option<&Latched>,
    ) -> Self {
        match latched {
            None => Self::first(ladder, segment, source),
            Some(latched) => Self::later(ladder, source, latched),
        }
    }

    fn first(ladder: &LadderConfig, segment: MediaTime, source: &Source) -> Self {
        let passthrough = passthrough(ladder, segment, source);
        let target = match (passthrough, source.measured.gop) {
            (Passthrough::Stretched, Some(gop)) => gop.max(segment),
            _ => segment,
        };
        let passes = matches!(passthrough, Passthrough::Passed | Passthrough::Stretched);
        let mut videos: Vec<VideoPlan> = if passes && source.is_ladder() {
            of_tracks(ladder, source, target)
        } else {
            ladder.renditions.iter().filter_map(|config| first_video(config, source, passes, target)).collect()
        };
        if videos.is_empty() {
            videos.extend(smallest(ladder, source, target));
        }
        Self {
            videos,
            audio: first_audio(ladder, source.audio.as_ref()),
            target,
            frame_rate: source.measured.frame_rate,
            gop: source.measured.gop.unwrap_or(target),
            passthrough,
        }
    }

    fn later(ladder: &LadderConfig, source: &Source, latched: &Latched) -> Self {
        let allowed = source.video.is_playable() && fits(source, latched.target);
        let mut free = if allowed { source.passable() } else { Vec::new() };
        let mut makings: Vec<Making> = latched.videos.iter().map(|video| video.making(&mut free)).collect();
        let passes = makings.iter().any(|making| matches!(making, Making::Pass(_)));
        if passes && ladder.missing_rungs == MissingRungs::LeaveOut && latched.is_of_tracks() {
            let lost = makings.iter_mut().zip(&latched.videos).filter(|(_, video)| video.passed.is_some());
            lost.filter(|(making, _)| matches!(making, Making::Encode(_)))
                .for_each(|(making, _)| *making = Making::Missing);
        }
        let videos = latched.videos.iter().zip(makings).map(|(video, making)| video.plan(making)).collect();
        Self {
            videos,
            audio: later_audio(&latched.audio, source.audio.as_ref()),
            target: latched.target,
            frame_rate: source.measured.frame_rate,
            gop: source.measured.gop.unwrap_or(latched.target),
            passthrough: latched.passthrough(source, passes),
        }
    }

    /// What later runs of the programme must keep to.
    pub(super) fn latch(&self, source: &Source) -> Latched {
        let videos = self.videos.iter().map(|video| LatchedVideo::of(video, source)).collect();
        Latched { videos, audio: self.audio.clone(), target: self.target }
    }

    /// The best rendition that is passed on.
    pub(super) fn passed(&self) -> Option<usize> {
        self.videos.iter().position(|video| matches!(video.making, Making::Pass(_)))
    }

    /// The rendition that this track is passed on as.
    pub(super) fn passed_as(&self, track: u8) -> Option<usize> {
        self.videos.iter().position(|video| video.making == Making::Pass(track))
    }

    /// The tracks that are passed on.
    pub(super) fn tracks(&self) -> impl Iterator<Item = u8> {
        self.videos.iter().filter_map(|video| match video.making {
            Making::Pass(track) => Some(track),
            Making::Encode(_) | Making::Missing => None,
        })
    }

    /// The position of the sound, which stands last.
    pub(super) fn audio_index(&self) -> usize {
        self.videos.len()
    }

    /// All renditions as the packager is told of them.
    pub(super) fn specs(&self) -> Vec<RenditionSpec> {
        let videos = self.videos.iter().map(|video| RenditionSpec {
            name: video.name.clone(),
            kind: RenditionKind::Video,
            bitrate_average: video.average,
            bitrate_peak: video.peak,
            frame_rate: Some(video.frame_rate.per_second()),
        });
        let audio = RenditionSpec {
            name: RenditionName::audio(),
            kind: RenditionKind::Audio,
            bitrate_average: self.audio.average,
            bitrate_peak: self.audio.average.saturating_mul(5) / 4,
            frame_rate: None,
        };
        videos.chain([audio]).collect()
    }
}

impl Latched {
    /// The programme began with an encoder that sent a ladder of its own.
    fn is_of_tracks(&self) -> bool {
        self.videos.iter().filter(|video| video.passed.is_some()).count() > 1
    }

    fn passthrough(&self, source: &Source, passes: bool) -> Passthrough {
        let own = |video: &&LatchedVideo| video.passed.is_some_and(|(_, passed)| passed == source.video);
        match (self.videos.iter().find(|video| video.passed.is_some()), self.videos.iter().find(own)) {
            (None, _) => Passthrough::None,
            (Some(_), _) if passes => Passthrough::Passed,
            (Some(_), Some(own)) if own.frame_rate.is_near(source.measured.frame_rate) => Passthrough::LongGop,
            (Some(_), _) => Passthrough::Changed,
        }
    }
}

impl LatchedVideo {
    fn of(video: &VideoPlan, source: &Source) -> Self {
        let (width, height, bitrate, passed) = match video.making {
            Making::Encode(encoding) => (encoding.width, encoding.height, encoding.bitrate, None),
            Making::Pass(_) | Making::Missing => {
                let track = source.passable().into_iter().find(|pictures| video.making == Making::Pass(pictures.track));
                let (track, passed) = track.map_or((source.track, source.video), |found| (found.track, found.video));
                let (width, height) = source_size(&passed);
                let bitrate = video.average.min(usual_bitrate(width, height, video.frame_rate).saturating_mul(2));
                (width, height, bitrate, Some((track, passed)))
            }
        };
        let VideoPlan { ref name, average, peak, frame_rate, making: _ } = *video;
        Self { name: name.clone(), width, height, bitrate, average, peak, frame_rate, passed }
    }

    /// From one of these tracks, if one is what the rendition was: the one of the same number first. Else encoded.
    fn making(&self, free: &mut Vec<Pictures>) -> Making {
        let is_same = |number: u8, video: &VideoTraits, pictures: &Pictures| {
            let same = pictures.video == *video && self.frame_rate.is_near(pictures.measured.frame_rate);
            same.then_some(pictures.track != number)
        };
        let same = self.passed.and_then(|(number, video)| {
            let candidates = free.iter().enumerate();
            let candidates = candidates.filter_map(|(at, pictures)| Some((is_same(number, &video, pictures)?, at)));
            candidates.min().map(|(_, at)| at)
        });
        same.map_or_else(|| Making::Encode(self.encoding()), |at| Making::Pass(free.remove(at).track))
    }

    /// In a later run. What the multivariant playlist says of the rendition's frame rate stays.
    fn plan(&self, making: Making) -> VideoPlan {
        let Self { ref name, average, peak, frame_rate, .. } = *self;
        VideoPlan { name: name.clone(), making, average, peak, frame_rate }
    }

    fn encoding(&self) -> Encoding {
        let stands_in = self.passed.and_then(|(_, passed)| passed.h264());
        Encoding { width: self.width, height: self.height, bitrate: self.bitrate, stands_in }
    }
}

/// The source's IDRs come at least once in every segment.
fn fits(source: &Source, target: MediaTime) -> bool {
    let longest = target + MediaTime::from_millis(1);
    !source.long_gop_seen && source.measured.gop.is_some_and(|gop| gop <= longest)
}

fn passthrough(ladder: &LadderConfig, segment: MediaTime, source: &Source) -> Passthrough {
    let own = ladder.renditions.iter().any(|r| matches!(r.source, RenditionSource::Passthrough { .. }));
    let wanted = own || source.is_ladder();
    match (wanted, source.video.is_playable()) {
        (false, _) => Passthrough::None,
        (true, false) => Passthrough::Unplayable,
        (true, true) if fits(source, segment) => Passthrough::Passed,
        (true, true) => match (ladder.long_gop, source.measured.gop, source.long_gop_seen) {
            (LongGop::Stretch, Some(_), false) => Passthrough::Stretched,
            _ => Passthrough::LongGop,
        },
    }
}

/// The renditions of an encoder's own ladder, and what is to be encoded beside them, best first.
fn of_tracks(ladder: &LadderConfig, source: &Source, target: MediaTime) -> Vec<VideoPlan> {
    let tracks = source.passable();
    let rungs = rungs::assign(ladder, &tracks).into_iter().filter_map(|rung| match rung {
        Rung::Track(name, pictures) => Some((pictures.lines(), passed(name, pictures))),
        Rung::Filled(config) => {
            let video = first_video(config, source, false, target)?;
            let Making::Encode(Encoding { height, .. }) = video.making else { return None };
            Some((height, video))
        }
    });
    let mut rungs: Vec<(u32, VideoPlan)> = rungs.collect();
    rungs.sort_by_key(|(height, video)| std::cmp::Reverse((*height, video.average)));
    rungs.into_iter().map(|(_, video)| video).collect()
}

fn passed(name: RenditionName, pictures: &Pictures) -> VideoPlan {
    let Measured { bitrate, frame_rate, .. } = pictures.measured;
    let (average, peak) = (bitrate.saturating_mul(5) / 4, bitrate.saturating_mul(2));
    VideoPlan { name, making: Making::Pass(pictures.track), average, peak, frame_rate }
}

fn first_video(
    config: &crate::config::RenditionConfig,
    source: &Source,
    passes: bool,
    target: MediaTime,
) -> Option<VideoPlan> {
    let encoding = match config.source {
        RenditionSource::Passthrough { .. } if passes => {
            let own = Pictures { track: source.track, video: source.video, measured: source.measured };
            return Some(passed(config.name.clone(), &own));
        }
        RenditionSource::Passthrough { bitrate } => {
            let (width, height) = source_size(&source.video);
            let bitrate = bitrate.unwrap_or_else(|| own_bitrate(width, height, &source.measured));
            Encoding { width, height, bitrate, stands_in: None }
        }
        RenditionSource::Encode { height, bitrate } => {
            let (width, height) = size_at_height(&source.video, height)?;
            Encoding { width, height, bitrate, stands_in: None }
        }
    };
    Some(encoded(&config.name, encoding, source.measured.frame_rate, target))
}

/// Of a ladder that is all taller than the source: its last rendition, at the source's size.
fn smallest(ladder: &LadderConfig, source: &Source, target: MediaTime) -> Option<VideoPlan> {
    let config = ladder.renditions.last()?;
    let (width, height) = source_size(&source.video);
    let bitrate = match config.source {
        RenditionSource::Encode { bitrate, .. } => bitrate,
        RenditionSource::Passthrough { .. } => own_bitrate(width, height, &source.measured),
    };
    let encoding = Encoding { width, height, bitrate, stands_in: None };
    Some(encoded(&config.name, encoding, source.measured.frame_rate, target))
}

fn encoded(name: &RenditionName, encoding: Encoding, frame_rate: FrameRate, target: MediaTime) -> VideoPlan {
    let average = encoding.bitrate;
    let (making, peak) = (Making::Encode(encoding), peak(average, target));
    VideoPlan { name: name.clone(), making, average, peak, frame_rate }
}

/// A segment holds at most what the rate brings in while it lasts and what the buffer had saved up before.
fn peak(bitrate: u64, target: MediaTime) -> u64 {
    let millis = u64::try_from(target.as_millis()).unwrap_or(0).max(1);
    let saved = u64::try_from(VBV.as_millis()).unwrap_or(0);
    bitrate.saturating_add(bitrate.saturating_mul(saved) / millis)
}

/// The source's own size in square samples, made even; never more than the source has.
fn source_size(video: &VideoTraits) -> (u32, u32) {
    let (width, height) = video.display_size();
    (even_below(width), even_below(height))
}

/// The size at this many lines, the aspect ratio kept. None where the source has fewer.
fn size_at_height(video: &VideoTraits, height: u32) -> Option<(u32, u32)> {
    let (source_width, source_height) = video.display_size();
    if height > source_height {
        return None;
    }
    let half =
        (u64::from(source_width) * u64::from(height) + u64::from(source_height)) / (2 * u64::from(source_height));
    let width = u32::try_from(half * 2).unwrap_or(source_width).min(even_below(source_width)).max(16);
    Some((width, even_below(height)))
}

fn even_below(length: u32) -> u32 {
    (length & !1).max(16)
}

/// For the source's picture encoded anew: what the source has, within reason for its size.
fn own_bitrate(width: u32, height: u32, measured: &Measured) -> u64 {
    let usual = usual_bitrate(width, height, measured.frame_rate);
    measured.bitrate.clamp(usual / 2, usual.saturating_mul(3) / 2)
}

/// 5 Mbit/s for 1080p30, 2.7 for 720p30, 0.95 for 360p30: the ladder's figures lie on this curve.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and far below 2^63 for any picture size"
)]
fn usual_bitrate(width: u32, height: u32, rate: FrameRate) -> u64 {
    let size = f64::from(width) * f64::from(height) / (1920.0 * 1080.0);
    let speed = (rate.per_second() / 30.0).clamp(0.25, 4.0);
    (5e6 * size.powf(0.75) * speed.sqrt()) as u64
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

fn first_audio(ladder: &LadderConfig, source: Option<&AudioFormat>) -> AudioPlan {
    let average = ladder.audio_bitrate;
    match source {
        None => AudioPlan {
            format: super::silence::lc_format(SILENT_RATE, SILENT_CHANNELS),
            making: AudioMaking::Silence,
            average,
        },
        Some(format) if passes(format) => {
            AudioPlan { format: format.clone(), making: AudioMaking::Pass, average: average.max(160_000) }
        }
        Some(format) => AudioPlan {
            format: super::silence::lc_format(output_rate(format.sample_rate), 2),
            making: AudioMaking::Encode(format.clone()),
            average,
        },
    }
}

fn later_audio(latched: &AudioPlan, source: Option<&AudioFormat>) -> AudioPlan {
    let (format, average) = (latched.format.clone(), latched.average);
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

/// The common rate of the source's family.
pub(super) fn output_rate(rate: u32) -> u32 {
    if rate.is_multiple_of(11_025) { 44_100 } else { 48_000 }
}

impl AudioPlan {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EncodeProfile, RenditionConfig};
    use crate::media::{DynamicRange, VideoCodec};
    use proptest::prelude::*;

    fn traits(width: u32, height: u32) -> VideoTraits {
        let (profile, level) = (100, 31);
        let (codec, range) = (VideoCodec::H264, DynamicRange::Sdr);
        let (sample_aspect, bits_420) = ((1, 1), Some(8));
        VideoTraits { codec, width, height, sample_aspect, profile, level, interlaced: false, bits_420, range }
    }

    fn source(width: u32, height: u32, gop: Option<i64>) -> Source {
        let frame_rate = FrameRate { numerator: 30, denominator: 1 };
        let measured = Measured { frame_rate, gop: gop.map(MediaTime::from_millis), bitrate: 3_000_000 };
        Source {
            track: 0,
            video: traits(width, height),
            measured,
            further: Vec::new(),
            audio: Some(super::super::silence::lc_format(48_000, 2)),
            long_gop_seen: false,
        }
    }

    fn rendition(name: &str, source: RenditionSource) -> RenditionConfig {
        RenditionConfig { name: RenditionName::new(name).unwrap(), source }
    }

    fn ladder(long_gop: LongGop, passthrough: bool, heights: &[u32]) -> LadderConfig {
        let own = passthrough.then(|| rendition("source", RenditionSource::Passthrough { bitrate: None }));
        let encoded = heights
            .iter()
            .map(|&height| rendition(&format!("{height}p"), RenditionSource::Encode { height, bitrate: 1_000_000 }));
        LadderConfig {
            name: "default".to_owned(),
            profile: EncodeProfile::Balanced,
            long_gop,
            missing_rungs: MissingRungs::Encode,
            renditions: own.into_iter().chain(encoded).collect(),
            audio_bitrate: 128_000,
        }
    }

    const SEGMENT: MediaTime = MediaTime::from_millis(4000);

    fn names(plan: &Plan) -> Vec<&str> {
        plan.videos.iter().map(|video| video.name.as_str()).collect()
    }

    fn sizes(plan: &Plan) -> Vec<Option<(u32, u32)>> {
        let size = |making| match making {
            Making::Pass(_) | Making::Missing => None,
            Making::Encode(Encoding { width, height, .. }) => Some((width, height)),
        };
        plan.videos.iter().map(|video| size(video.making)).collect()
    }

    #[test]
    fn taller_renditions_are_left_out() {
        let plan = Plan::decide(
            &ladder(LongGop::Encode, true, &[1080, 720, 480, 360]),
            SEGMENT,
            &source(1280, 720, Some(2000)),
            None,
        );
        assert_eq!(names(&plan), ["source", "720p", "480p", "360p"]);
        assert_eq!(sizes(&plan), [None, Some((1280, 720)), Some((854, 480)), Some((640, 360))]);
        assert_eq!(plan.passthrough, Passthrough::Passed);
        assert_eq!(plan.videos[1].peak, 1_250_000);
    }

    #[test]
    fn something_is_always_left() {
        let plan = Plan::decide(&ladder(LongGop::Encode, false, &[1080, 720]), SEGMENT, &source(427, 239, None), None);
        assert_eq!((names(&plan), sizes(&plan)), (vec!["720p"], vec![Some((426, 238))]));
    }

    #[test]
    fn a_long_gop_is_encoded_or_stretches_the_segments() {
        let long = source(1280, 720, Some(8333));
        let plan = Plan::decide(&ladder(LongGop::Encode, true, &[]), SEGMENT, &long, None);
        assert_eq!(
            (plan.passthrough, plan.target, sizes(&plan)),
            (Passthrough::LongGop, SEGMENT, vec![Some((1280, 720))])
        );
        let plan = Plan::decide(&ladder(LongGop::Stretch, true, &[]), SEGMENT, &long, None);
        assert_eq!((plan.passthrough, plan.target.as_millis()), (Passthrough::Stretched, 8333));
        let unknown = source(1280, 720, None);
        let plan = Plan::decide(&ladder(LongGop::Stretch, true, &[]), SEGMENT, &unknown, None);
        assert_eq!(plan.passthrough, Passthrough::LongGop, "a GOP without an end stretches nothing");
    }

    #[test]
    fn what_players_cannot_decode_is_encoded() {
        let mut odd = source(1280, 720, Some(2000));
        odd.video.profile = 244;
        assert_eq!(
            Plan::decide(&ladder(LongGop::Encode, true, &[]), SEGMENT, &odd, None).passthrough,
            Passthrough::Unplayable
        );
        odd.video = VideoTraits { interlaced: true, ..traits(1920, 1080) };
        assert!(Plan::decide(&ladder(LongGop::Stretch, true, &[]), SEGMENT, &odd, None).passed().is_none());
    }

    #[test]
    fn row_40_what_began_as_hevc_goes_on_as_h264_of_its_size_and_comes_back() {
        let ladder = ladder(LongGop::Encode, true, &[360]);
        let mut first = source(1280, 720, Some(2000));
        first.video = VideoTraits { codec: VideoCodec::Hevc, profile: 2, bits_420: Some(10), ..first.video };
        let plan = Plan::decide(&ladder, SEGMENT, &first, None);
        assert_eq!(plan.passthrough, Passthrough::Passed);
        let latched = plan.latch(&first);
        let other = Plan::decide(&ladder, SEGMENT, &source(1280, 720, Some(2000)), Some(&latched));
        assert_eq!(other.passthrough, Passthrough::Changed);
        assert_eq!(sizes(&other), [Some((1280, 720)), Some((640, 360))]);
        assert!(matches!(other.videos[0].making, Making::Encode(Encoding { stands_in: None, .. })));
        assert_eq!(Plan::decide(&ladder, SEGMENT, &first, Some(&latched)).passed(), Some(0));
        let mut bright = first.clone();
        bright.video.range = DynamicRange::Pq;
        assert_eq!(Plan::decide(&ladder, SEGMENT, &bright, Some(&latched)).passthrough, Passthrough::Changed);
    }

    #[test]
    fn wide_samples_are_folded_in() {
        let mut wide = source(1440, 1080, Some(2000));
        wide.video.sample_aspect = (4, 3);
        let plan = Plan::decide(&ladder(LongGop::Encode, true, &[1080, 720]), SEGMENT, &wide, None);
        assert_eq!(sizes(&plan), [None, Some((1920, 1080)), Some((1280, 720))]);
    }

    #[test]
    fn a_later_run_keeps_names_sizes_and_order() {
        let ladder = ladder(LongGop::Encode, true, &[720, 360]);
        let first = source(1280, 720, Some(2000));
        let latched = Plan::decide(&ladder, SEGMENT, &first, None).latch(&first);
        let small = source(640, 480, Some(1000));
        let plan = Plan::decide(&ladder, SEGMENT, &small, Some(&latched));
        assert_eq!(names(&plan), ["source", "720p", "360p"]);
        assert_eq!(sizes(&plan), [Some((1280, 720)), Some((1280, 720)), Some((640, 360))]);
        assert_eq!(plan.passthrough, Passthrough::Changed);
        let again = Plan::decide(&ladder, SEGMENT, &first, Some(&latched));
        assert_eq!(again.passed(), Some(0));
        let long = Plan::decide(&ladder, SEGMENT, &source(1280, 720, Some(9000)), Some(&latched));
        assert_eq!(long.passthrough, Passthrough::LongGop);
        assert!(matches!(long.videos[0].making, Making::Encode(Encoding { stands_in: Some((100, 31)), .. })));
    }

    #[test]
    fn sound_is_passed_on_made_or_encoded() {
        let ladder = ladder(LongGop::Encode, true, &[]);
        let mut from = source(640, 360, Some(2000));
        assert_eq!(Plan::decide(&ladder, SEGMENT, &from, None).audio.making, AudioMaking::Pass);
        from.audio = None;
        let silent = Plan::decide(&ladder, SEGMENT, &from, None);
        assert_eq!(silent.audio.making, AudioMaking::Silence);
        from.audio = Some(super::super::silence::lc_format(44_100, 2));
        let later = Plan::decide(&ladder, SEGMENT, &from, Some(&silent.latch(&from)));
        assert_eq!(later.audio.format.sample_rate, 48_000);
        assert!(matches!(later.audio.making, AudioMaking::Encode(_)));
        from.audio = Some(AudioFormat {
            codec: AudioCodec::Aac(5),
            sample_rate: 22_050,
            ..super::super::silence::lc_format(22_050, 2)
        });
        let he = Plan::decide(&ladder, SEGMENT, &from, None);
        assert_eq!((he.audio.format.sample_rate, he.audio.format.codec), (44_100, AudioCodec::Aac(2)));
    }

    proptest! {
        #[test]
        fn sizes_are_even_and_never_above_the_source(
            width in 16u32..4096, height in 16u32..2400, aspect in (1u32..5, 1u32..5), passthrough: bool, gop in 0i64..9000,
            heights in prop::collection::vec(prop::sample::select(vec![1080u32, 720, 480, 361, 360, 240]), 1..5)
        ) {
            let mut from = source(width, height, Some(gop));
            from.video.sample_aspect = aspect;
            let (display_width, display_height) = from.video.display_size();
            let plan = Plan::decide(&ladder(LongGop::Encode, passthrough, &heights), SEGMENT, &from, None);
            prop_assert!(!plan.videos.is_empty());
            for (width, height) in sizes(&plan).into_iter().flatten() {
                prop_assert!(width.is_multiple_of(2) && height.is_multiple_of(2));
                prop_assert!(width <= display_width.max(16) && height <= display_height.max(16));
            }
        }
    }
}
