//! A source as its first seconds showed it: what a run is planned by.

use crate::media::{AudioFormat, MediaTime};

use super::cuts::longest;
use super::probe::Measured;
use super::traits::VideoTraits;

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
    /// The pictures of the track itself, without what is beside it.
    pub(super) fn own(&self) -> Pictures {
        Pictures { track: self.track, video: self.video, measured: self.measured }
    }

    /// The tracks that may be passed on, if the reference may.
    pub(super) fn passable(&self) -> Vec<Pictures> {
        let further = self.further.iter().filter(|further| further.is_passable());
        let all = [self.own()].into_iter().chain(further.map(|further| further.pictures.clone()));
        all.filter(|pictures| pictures.video.is_playable()).collect()
    }

    /// The encoder sends a ladder of its own.
    pub(super) fn is_ladder(&self) -> bool {
        self.further.iter().any(Further::is_passable)
    }

    /// IDRs come at least once in every segment of this length.
    pub(super) fn fits(&self, target: MediaTime) -> bool {
        !self.long_gop_seen && self.measured.gop.is_some_and(|gop| gop <= longest(target))
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
