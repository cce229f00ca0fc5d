//! The segments of one rendition that can be fetched: those that its playlist lists, and before them those that have
//! left it and may still be asked for (RFC 8216bis, 6.2.2).
//!
//! Of those that are older than the hot end only what playlists say of them is kept here; their bytes are in the store.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::config::HlsConfig;
use crate::live::{Init, Media, Msn, Segment, SessionId, StoredUpTo};
use crate::media::MediaTime;

/// Durations that differ by less than this are the same when the window is measured, and the hot end: a rendition's cuts fall on
/// its own frames, and the renditions should drop the same segments.
const TOLERANCE: MediaTime = MediaTime::from_millis(100);

/// Segments that a programme may drop from its playlist before it replaces the one before. Renditions are never so far
/// apart: one that has no media at all keeps the others from being played, but not from being let go.
const HELD_MAX: usize = 64;

/// The window; see the module.
#[derive(Debug)]
pub(super) struct Window {
    inits: Vec<Arc<Init>>,
    /// Shared with the snapshots.
    segments: Arc<VecDeque<Arc<Segment>>>,
    /// For each segment that is no longer listed, the media time until which it stays, none as long as the playlist of
    /// the programme before is still served; as many as there are such segments.
    lingering: VecDeque<Option<MediaTime>>,
    /// The newest of these are in the playlist that players have: there is none without them yet.
    unlisted: usize,
    first_listed: Msn,
    listed_duration: MediaTime,
    /// The longest that the playlist has been.
    longest: MediaTime,
    discontinuity_sequence: u64,
    /// The playlist lists at least this much, once there is as much.
    cover: MediaTime,
    memory: Memory,
    /// Those in memory that are not known to be in the store.
    unstored: BTreeSet<Msn>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            inits: Vec::new(),
            segments: Arc::default(),
            lingering: VecDeque::new(),
            unlisted: 0,
            first_listed: Msn(1),
            listed_duration: MediaTime::ZERO,
            longest: MediaTime::ZERO,
            discontinuity_sequence: 0,
            cover: MediaTime::ZERO,
            memory: Memory::ALL,
            unstored: BTreeSet::new(),
        }
    }

    /// Begins a programme: lists nothing, and what was listed stays until [`Window::replaced`].
    pub(super) fn restart(&mut self, first: Msn, discontinuity_sequence: u64, cover: Cover, memory: Memory) {
        self.close();
        self.memory = memory;
        self.first_listed = first;
        self.discontinuity_sequence = discontinuity_sequence;
        self.cover = cover.duration();
    }

    /// Lists nothing any more; what was listed stays until [`Window::replaced`].
    pub(super) fn close(&mut self) {
        while self.lingering.len() < self.segments.len() {
            self.unlist(None);
        }
    }

    /// The playlist of the programme before is served no more, as of `edge`: what it listed lingers from here.
    pub(super) fn replaced(&mut self, edge: MediaTime) {
        let longest = self.longest;
        for (until, segment) in self.lingering.iter_mut().zip(self.segments.iter()) {
            until.get_or_insert(edge + segment.duration + longest);
        }
    }

    /// What is no longer listed leaves as of `edge`, all of it at once, and not when it was pushed out.
    pub(super) fn left_at(&mut self, edge: MediaTime) {
        self.lingering.iter_mut().for_each(|until| *until = None);
        self.replaced(edge);
    }

    /// A run's initialisation segment.
    pub(super) fn add_init(&mut self, init: Init) {
        self.inits.push(Arc::new(init));
    }

    /// Lists a segment, whose number is the one after the last of the programme.
    pub(super) fn push(&mut self, segment: Segment, edge: MediaTime) {
        let listed = u64::try_from(self.segments.len() - self.lingering.len()).unwrap_or(u64::MAX);
        let follows = self.first_listed.0.checked_add(listed) == Some(segment.msn.0);
        assert!(follows, "media sequence numbers have no holes");
        if segment.data().is_some() {
            self.unstored.insert(segment.msn);
        }
        self.listed_duration += segment.duration;
        self.longest = self.longest.max(self.listed_duration);
        Arc::make_mut(&mut self.segments).push_back(Arc::new(segment));
        while self.listed().next().is_some_and(|first| self.listed_duration - first.duration >= self.cover) {
            self.unlist(Some(edge));
        }
        if self.lingering.iter().rev().take_while(|until| until.is_some()).count() > HELD_MAX {
            self.replaced(edge);
        }
    }

    /// Lets go of what has lingered long enough; `session` is still being made. True if anything went.
    pub(super) fn expire(&mut self, edge: MediaTime, session: Option<SessionId>) -> bool {
        let before = self.segments.len();
        while self.lingering.pop_front_if(|until| until.is_some_and(|until| until <= edge)).is_some() {
            let gone = Arc::make_mut(&mut self.segments).pop_front();
            if let Some(gone) = gone {
                self.unstored.remove(&gone.msn);
            }
        }
        let (segments, inits) = (&self.segments, &mut self.inits);
        inits.retain(|i| Some(i.session) == session || segments.iter().any(|s| s.session == i.session));
        self.segments.len() < before
    }

    /// From `first` on this is in the store.
    pub(super) fn stored(&mut self, first: Msn, stored: &StoredUpTo) {
        self.unstored.retain(|msn| *msn < first || *msn > stored.last || stored.lacks.contains(msn));
    }

    /// Lets go of the bytes of what is older than the hot end as of `edge`: what is in the store is cold from here on. What was not
    /// stored for too long is listed as a gap; where it is not listed any more, whoever asks the store for it will see. The
    /// segments that have become so.
    pub(super) fn cool(&mut self, edge: MediaTime) -> Vec<Arc<Segment>> {
        let old = self.segments.iter().take_while(|segment| is_older(segment, self.memory.hot, edge));
        let hot = old.enumerate().filter(|(_, segment)| segment.data().is_some());
        let cooled: Vec<_> = hot.filter_map(|(place, segment)| Some((place, self.cooled(segment, edge)?))).collect();
        if !cooled.is_empty() {
            let segments = Arc::make_mut(&mut self.segments);
            for (place, cooled) in &cooled {
                self.unstored.remove(&cooled.msn);
                segments.get_mut(*place).into_iter().for_each(|segment| *segment = Arc::clone(cooled));
            }
        }
        cooled.into_iter().map(|(_, segment)| segment).collect()
    }

    /// What becomes of a segment that is older than the hot end; nothing as long as it may still be stored.
    fn cooled(&self, segment: &Segment, edge: MediaTime) -> Option<Arc<Segment>> {
        let stored = !self.unstored.contains(&segment.msn);
        if !stored && !is_older(segment, self.memory.longest, edge) {
            return None;
        }
        let lost = !stored && segment.msn >= self.first_listed;
        let media = if lost { Media::Gap } else { Media::Cold { bytes: segment.bytes() } };
        Some(Arc::new(Segment { media, ..segment.without_media() }))
    }

    /// Players get the playlist as it is now: what is not in it any more leaves it only here, where several segments may have
    /// been pushed since the one before.
    pub(super) fn published(&mut self) {
        let Some(edge) = self.segments.back().map(|last| last.start + last.duration) else { return };
        let known = self.lingering.len().saturating_sub(std::mem::take(&mut self.unlisted));
        for (until, segment) in self.lingering.iter_mut().zip(self.segments.iter()).skip(known) {
            *until = until.map(|until| until.max(edge + segment.duration + self.longest));
        }
    }

    /// Takes the first segment off the playlist. From `edge` it stays for its own duration and that of the longest
    /// playlist that listed it; without one, until further notice.
    fn unlist(&mut self, edge: Option<MediaTime>) {
        let Some(first) = self.segments.get(self.lingering.len()) else { return };
        self.listed_duration = self.listed_duration - first.duration;
        self.discontinuity_sequence += u64::from(first.discontinuity);
        self.first_listed = Msn(first.msn.0 + 1);
        self.unlisted += 1;
        self.lingering.push_back(edge.map(|edge| edge + first.duration + self.longest));
    }

    /// What the playlist lists, oldest first.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Arc<Segment>> + Clone {
        self.segments.iter().skip(self.lingering.len())
    }

    pub(super) fn segments(&self) -> &Arc<VecDeque<Arc<Segment>>> {
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

/// So long before `edge` the segment had ended, give or take a frame.
fn is_older(segment: &Segment, than: MediaTime, edge: MediaTime) -> bool {
    segment.start + segment.duration <= edge - than + TOLERANCE
}

/// How long the bytes of segments stay in memory, from their ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Whatever is in the store.
    pub(super) hot: MediaTime,
    /// At the longest, where the store does not have them.
    pub(super) longest: MediaTime,
}

impl Memory {
    /// As long as there are segments.
    const ALL: Self = Self { hot: MediaTime::from_nanos(i64::MAX / 4), longest: MediaTime::from_nanos(i64::MAX / 4) };

    /// As configured, but never less than players may ask for by parts: these are listed for three target durations, and can be
    /// had for as long again (RFC 8216bis, 6.2.2).
    pub(super) fn new(hls: &HlsConfig, target: MediaTime) -> Self {
        let parts = target + target + target + target + target + target + TOLERANCE;
        let hot = MediaTime::from(hls.memory).max(parts);
        Self { hot, longest: MediaTime::from(hls.memory_max).max(hot) }
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
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
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
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
        for msn in 1..=12 {
            push(&mut window, msn, 4_000, false);
        }
        // Number 1 left at 24 s. The longest playlist was 24 s, so it stays until 52 s, the end of number 13.
        assert_eq!(numbers(window.segments().iter()).first(), Some(&1));
        push(&mut window, 13, 4_000, false);
        assert_eq!(numbers(window.segments().iter()).first(), Some(&2));
    }

    #[test]
    fn what_left_is_left_when_players_know() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
        for msn in 1..=7 {
            let segment = testing::segment(msn, 4_000);
            let edge = segment.start + segment.duration;
            window.push(segment, edge);
        }
        // Number 1 was pushed out at 24 s, number 2 at 28 s, and players see both at 28 s.
        window.published();
        assert_eq!(window.lingering, [Some(MediaTime::from_millis(56_000)); 2]);
        window.push(testing::segment(8, 4_000), MediaTime::from_millis(32_000));
        window.published();
        assert_eq!(window.lingering.front(), Some(&Some(MediaTime::from_millis(56_000))), "and only once");
    }

    #[test]
    fn a_new_programme_lists_nothing_of_the_old() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
        push(&mut window, 1, 4_000, false);
        window.restart(Msn(2), 1, WINDOW, Memory::ALL);
        assert_eq!(numbers(window.listed()), [0; 0]);
        assert_eq!((window.first_listed(), window.listed_duration), (Msn(2), MediaTime::ZERO));
        push(&mut window, 2, 4_000, false);
        assert_eq!(numbers(window.listed()), [2]);
        assert_eq!(numbers(window.segments().iter()), [1, 2]);
    }

    #[test]
    fn a_programme_before_lingers_from_when_it_is_replaced() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
        push(&mut window, 1, 4_000, false);
        window.restart(Msn(2), 1, WINDOW, Memory::ALL);
        assert!(!window.expire(MediaTime::from_millis(1_000_000), None), "its playlist is still served");
        window.replaced(MediaTime::from_millis(12_000));
        assert!(!window.expire(MediaTime::from_millis(19_999), None));
        assert!(window.expire(MediaTime::from_millis(20_000), None));
    }

    #[test]
    fn a_programme_that_never_replaces_the_one_before_is_bounded() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
        push(&mut window, 1, 4_000, false);
        window.restart(Msn(2), 1, WINDOW, Memory::ALL);
        (2..200).for_each(|msn| push(&mut window, msn, 4_000, false));
        assert!(window.segments().len() < 20, "{}", window.segments().len());
    }

    #[test]
    fn numbers_may_leave_a_hole_between_programmes() {
        let mut window = Window::new();
        window.restart(Msn(1), 0, WINDOW, Memory::ALL);
        push(&mut window, 1, 4_000, false);
        window.close();
        window.replaced(MediaTime::from_millis(4_000));
        window.restart(Msn(3), 1, WINDOW, Memory::ALL);
        push(&mut window, 3, 2_000, false);
        assert_eq!(numbers(window.listed()), [3]);
        assert_eq!(numbers(window.segments().iter()), [1, 3], "what left lingers all the same");
    }

    #[test]
    fn inits_go_with_their_last_segment() {
        let mut window = Window::new();
        let cover = Cover { window: MediaTime::ZERO, least: MediaTime::ZERO };
        window.restart(Msn(1), 0, cover, Memory::ALL);
        window.add_init(Init { session: testing::SESSION, data: bytes::Bytes::new() });
        push(&mut window, 1, 4_000, false);
        assert_eq!(window.inits().len(), 1);
        window.expire(MediaTime::from_millis(100_000), Some(testing::SESSION));
        assert_eq!(window.inits().len(), 1, "it is still being made");
        window.expire(MediaTime::from_millis(100_000), None);
        assert_eq!(window.inits().len(), 0);
    }
}
