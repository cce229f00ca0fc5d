//! The segments of one rendition that can be fetched: those that its playlist lists, and before them those that have
//! left it and may still be asked for (RFC 8216bis, 6.2.2).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::live::{Init, Msn, Segment, SessionId};
use crate::media::MediaTime;

/// Durations that differ by less than this are the same when the window is measured: a rendition's cuts fall on its
/// own frames, and the renditions should drop the same segments.
const TOLERANCE: MediaTime = MediaTime::from_millis(100);

/// The window; see the module.
#[derive(Debug)]
pub(super) struct Window {
    inits: Vec<Arc<Init>>,
    segments: VecDeque<Arc<Segment>>,
    /// For each segment that is no longer listed, the media time until which it stays; as many as there are such.
    lingering: VecDeque<MediaTime>,
    first_listed: Msn,
    listed_duration: MediaTime,
    /// The longest that the playlist has been.
    longest: MediaTime,
    discontinuity_sequence: u64,
    /// The playlist lists at least this much, once there is as much.
    cover: MediaTime,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            inits: Vec::new(),
            segments: VecDeque::new(),
            lingering: VecDeque::new(),
            first_listed: Msn(1),
            listed_duration: MediaTime::ZERO,
            longest: MediaTime::ZERO,
            discontinuity_sequence: 0,
            cover: MediaTime::ZERO,
        }
    }

    /// Begins a programme: lists nothing, and what was listed lingers. `edge` is the channel's latest media time.
    pub(super) fn restart(&mut self, first: Msn, discontinuity_sequence: u64, cover: Cover, edge: MediaTime) {
        while self.lingering.len() < self.segments.len() {
            self.unlist(edge);
        }
        if self.segments.back().is_some_and(|last| last.msn.0.checked_add(1) != Some(first.0)) {
            // The rendition was not part of the programme before: what is left of it would leave a hole.
            self.segments.clear();
            self.lingering.clear();
        }
        self.first_listed = first;
        self.discontinuity_sequence = discontinuity_sequence;
        self.cover = cover.duration();
    }

    /// A run's initialisation segment.
    pub(super) fn add_init(&mut self, init: Init) {
        self.inits.push(Arc::new(init));
    }

    /// Lists a segment, whose number is the one after the last.
    pub(super) fn push(&mut self, segment: Segment, edge: MediaTime) {
        let follows = self.segments.back().is_none_or(|last| last.msn.0.checked_add(1) == Some(segment.msn.0));
        assert!(follows, "media sequence numbers have no holes");
        self.listed_duration += segment.duration;
        self.longest = self.longest.max(self.listed_duration);
        self.segments.push_back(Arc::new(segment));
        while self.listed().next().is_some_and(|first| self.listed_duration - first.duration >= self.cover) {
            self.unlist(edge);
        }
    }

    /// Lets go of what has lingered long enough; `session` is still being made. True if anything went.
    pub(super) fn expire(&mut self, edge: MediaTime, session: Option<SessionId>) -> bool {
        let before = self.segments.len();
        while self.lingering.pop_front_if(|until| *until <= edge).is_some() {
            self.segments.pop_front();
        }
        let (segments, inits) = (&self.segments, &mut self.inits);
        inits.retain(|i| Some(i.session) == session || segments.iter().any(|s| s.session == i.session));
        self.segments.len() < before
    }

    /// Takes the first segment off the playlist. It stays for its own duration and that of the longest playlist that
    /// listed it.
    fn unlist(&mut self, edge: MediaTime) {
        let Some(first) = self.segments.get(self.lingering.len()) else { return };
        self.listed_duration = self.listed_duration - first.duration;
        self.discontinuity_sequence += u64::from(first.discontinuity);
        self.first_listed = Msn(first.msn.0 + 1);
        self.lingering.push_back(edge + first.duration + self.longest);
    }

    /// What the playlist lists, oldest first.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Arc<Segment>> + Clone {
        self.segments.iter().skip(self.lingering.len())
    }

    pub(super) fn segments(&self) -> &VecDeque<Arc<Segment>> {
        &self.segments
    }

    pub(super) fn inits(&self) -> &[Arc<Init>] {
        &self.inits
    }

    pub(super) fn first_listed(&self) -> Msn {
        self.first_listed
    }

    pub(super) fn discontinuity_sequence(&self) -> u64 {
        self.discontinuity_sequence
    }
}

/// How much a playlist lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cover {
    /// As configured.
    pub(super) window: MediaTime,
    /// The least that is allowed: three target durations.
    pub(super) least: MediaTime,
}

impl Cover {
    fn duration(self) -> MediaTime {
        (self.window - TOLERANCE).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::testing;

    const WINDOW: Cover = Cover { window: MediaTime::from_millis(20_000), least: MediaTime::from_millis(12_000) };

    fn push(window: &mut Window, msn: u64, millis: i64, discontinuity: bool) {
        let segment = Segment { discontinuity, ..testing::segment(msn, millis) };
        let edge = segment.start + segment.duration;
        window.push(segment, edge);
        window.expire(edge, None);
    }

    fn numbers<'a>(segments: impl Iterator<Item = &'a Arc<Segment>>) -> Vec<u64> {
        segments.map(|s| s.msn.0).collect()
    }

    #[test]
    fn the_window_covers_what_is_configured() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, MediaTime::ZERO);
        for msn in 1..=7 {
            push(&mut window, msn, 3_999, msn == 2);
        }
        // Five segments are 19.995 s: the same, to a frame, as the 20 s of another rendition.
        assert_eq!(numbers(window.listed()), [3, 4, 5, 6, 7]);
        assert_eq!(numbers(window.segments().iter()), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((window.first_listed(), window.discontinuity_sequence()), (Msn(3), 1));
    }

    #[test]
    fn what_left_stays_for_its_duration_and_the_longest_playlists() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, MediaTime::ZERO);
        for msn in 1..=12 {
            push(&mut window, msn, 4_000, false);
        }
        // Number 1 left at 24 s. The longest playlist was 24 s, so it stays until 52 s, the end of number 13.
        assert_eq!(numbers(window.segments().iter()).first(), Some(&1));
        push(&mut window, 13, 4_000, false);
        assert_eq!(numbers(window.segments().iter()).first(), Some(&2));
    }

    #[test]
    fn a_new_programme_lists_nothing_of_the_old() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, MediaTime::ZERO);
        push(&mut window, 1, 4_000, false);
        window.restart(Msn(2), 1, WINDOW, MediaTime::from_millis(4_000));
        assert_eq!(numbers(window.listed()), [0; 0]);
        assert_eq!((window.first_listed(), window.listed_duration), (Msn(2), MediaTime::ZERO));
        push(&mut window, 2, 4_000, false);
        assert_eq!(numbers(window.listed()), [2]);
        assert_eq!(numbers(window.segments().iter()), [1, 2]);
    }

    #[test]
    fn inits_go_with_their_last_segment() {
        let mut window = Window::new();
        let cover = Cover { window: MediaTime::ZERO, least: MediaTime::ZERO };
        window.restart(Msn(1), 0, cover, MediaTime::ZERO);
        window.add_init(Init { session: testing::SESSION, data: bytes::Bytes::new() });
        push(&mut window, 1, 4_000, false);
        assert_eq!(window.inits().len(), 1);
        window.expire(MediaTime::from_millis(100_000), Some(testing::SESSION));
        assert_eq!(window.inits().len(), 1, "it is still being made");
        window.expire(MediaTime::from_millis(100_000), None);
        assert_eq!(window.inits().len(), 0);
    }
}
