//! What a programme's first run fixed, and which renditions a later run makes by it: pure.

use crate::config::{LadderConfig, MissingRungs};
use crate::ladder::RenditionName;
use crate::media::MediaTime;

use super::audio_plan::AudioPlan;
use super::observed::{Pictures, Source};
use super::plan::{Encoding, Making, Passthrough, Plan, VideoPlan};
use super::probe::FrameRate;
use super::sizing::{source_size, usual_bitrate};
use super::traits::VideoTraits;

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

impl Latched {
    /// By a programme's first run, of this source.
    pub(super) fn of(plan: &Plan, source: &Source) -> Self {
        let videos = plan.videos.iter().map(|video| LatchedVideo::of(video, source)).collect();
        Self { videos, audio: plan.audio.clone(), target: plan.target }
    }

    /// What a later run makes of its source.
    pub(super) fn plan(&self, ladder: &LadderConfig, source: &Source) -> Plan {
        let allowed = source.video.is_playable() && source.fits(self.target);
        let mut free = if allowed { source.passable() } else { Vec::new() };
        let mut makings: Vec<Making> = self.videos.iter().map(|video| video.making(&mut free)).collect();
        let passes = makings.iter().any(|making| matches!(making, Making::Pass(_)));
        if passes && ladder.missing_rungs == MissingRungs::LeaveOut && self.is_of_tracks() {
            let lost = makings.iter_mut().zip(&self.videos).filter(|(_, video)| video.passed.is_some());
            lost.filter(|(making, _)| matches!(making, Making::Encode(_)))
                .for_each(|(making, _)| *making = Making::Missing);
        }
        let videos = self.videos.iter().zip(makings).map(|(video, making)| video.plan(making)).collect();
        Plan {
            videos,
            audio: self.audio.later(source.audio.as_ref()),
            target: self.target,
            frame_rate: source.measured.frame_rate,
            gop: source.measured.gop.unwrap_or(self.target),
            passthrough: self.passthrough(source, passes),
        }
    }

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
