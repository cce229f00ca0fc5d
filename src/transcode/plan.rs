//! Which renditions a run makes of a source: a pure function of the ladder, the source, and what is latched.
//!
//! A source with several tracks is planned by its tallest one, the reference ([`tracks`](super::tracks)); the others only add
//! renditions that need no encoding ([`rungs`]). Where the reference cannot be passed on, none is.
//! The first run of a programme is planned here, a later one by what that one fixed ([`Latched`]).

use crate::config::{LadderConfig, LongGop, RenditionConfig, RenditionSource};
use crate::ladder::{RenditionKind, RenditionName, RenditionSpec};
use crate::media::MediaTime;

use super::audio_plan::AudioPlan;
use super::latched::Latched;
use super::observed::{Pictures, Source};
use super::probe::{FrameRate, Measured};
use super::rungs::{self, Rung};
use super::sizing::{own_bitrate, peak, size_at_height, source_size};

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
            Some(latched) => latched.plan(ladder, source),
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
            audio: AudioPlan::first(ladder, source.audio.as_ref()),
            target,
            frame_rate: source.measured.frame_rate,
            gop: source.measured.gop.unwrap_or(target),
            passthrough,
        }
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

    /// The renditions without media.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let videos = self.videos.iter().enumerate();
        videos.filter(|(_, video)| video.making == Making::Missing).map(|(index, _)| index)
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

fn passthrough(ladder: &LadderConfig, segment: MediaTime, source: &Source) -> Passthrough {
    let own = ladder.renditions.iter().any(|r| matches!(r.source, RenditionSource::Passthrough { .. }));
    let wanted = own || source.is_ladder();
    match (wanted, source.video.is_playable()) {
        (false, _) => Passthrough::None,
        (true, false) => Passthrough::Unplayable,
        (true, true) if source.fits(segment) => Passthrough::Passed,
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

fn first_video(config: &RenditionConfig, source: &Source, passes: bool, target: MediaTime) -> Option<VideoPlan> {
    let encoding = match config.source {
        RenditionSource::Passthrough { .. } if passes => {
            return Some(passed(config.name.clone(), &source.own()));
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
