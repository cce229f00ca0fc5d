//! One media playlist of an audit: its versions, and what of its media was fetched.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::super::finding::Findings;
use super::super::media::{Counters, Init, Measured, Rates};
use super::super::playlist::{Hint, HintType, Map, MediaPlaylist, Part, Segment};
use super::super::reference::{resolve, with_directives};
use super::super::rule::Rule;
use super::super::rules::{self, Kind, Pace};
use super::{Ask, Fetched, Job, Outcome, PATIENCE, Sighting, What, age, directives, head};

/// Media that wait to be fetched, one after the other. When it is full, further ones are left out, which is noted.
const QUEUE_MAX: usize = 64;

/// The network takes this long, before it was measured.
const ROUND_TRIP: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Track {
    pub(super) url: Url,
    /// It was named as a playlist of I-frames.
    pub(super) i_frames: bool,
    pub(super) playlist: Option<Arc<MediaPlaylist>>,
    /// When that was asked for and came, and that it did not come out of a cache.
    pub(super) sent: Duration,
    pub(super) received: Duration,
    pub(super) fresh: bool,
    /// It was certainly not made before: it was not there then.
    pub(super) made_after: Option<Duration>,
    /// Since when what it says of the server differs from what another playlist says.
    pub(super) differs: Option<Duration>,
    /// The server waits where it is asked to: one that does not is not asked again at once.
    waits: bool,
    pub(super) pace: Pace,
    pub(super) rates: Rates,
    pub(super) counters: Counters,
    /// What a delta update stood for, until it was compared.
    pub(super) expanded: Option<MediaPlaylist>,
    pub(super) inits: VecDeque<(Arc<Map>, Option<Init>)>,
    /// The segment that was measured last.
    pub(super) measured: Option<(u64, Measured)>,
    /// Parts by segment and index.
    pub(super) parts: BTreeMap<(u64, usize), Bytes>,
    /// The parts and the hinted parts that came last, by their names.
    pub(super) recent_parts: VecDeque<(String, Bytes)>,
    pub(super) recent_hints: VecDeque<(String, Result<Bytes, String>)>,
    queue: VecDeque<Job>,
    /// One of the queue is being fetched.
    busy: bool,
    pub(super) hinting: bool,
    /// The last segment and part that were put into the queue.
    segments_asked: Option<u64>,
    parts_asked: Option<(u64, usize)>,
    round_trip: Option<Duration>,
    versions: u64,
}

impl Track {
    pub(super) fn new(url: Url, i_frames: bool) -> Self {
        Self {
            url,
            i_frames,
            playlist: None,
            sent: Duration::ZERO,
            received: Duration::ZERO,
            fresh: false,
            made_after: None,
            differs: None,
            waits: true,
            pace: Pace::default(),
            rates: Rates::default(),
            counters: Counters::default(),
            expanded: None,
            inits: VecDeque::new(),
            measured: None,
            parts: BTreeMap::new(),
            recent_parts: VecDeque::new(),
            recent_hints: VecDeque::new(),
            queue: VecDeque::new(),
            busy: false,
            hinting: false,
            segments_asked: None,
            parts_asked: None,
            round_trip: None,
            versions: 0,
        }
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ROUND_TRIP)
    }

    pub(super) fn target(&self) -> Duration {
        self.playlist.as_ref().map_or(Duration::from_secs(4), |playlist| playlist.target())
    }

    /// Between two requests for a playlist that is not to be blocked on.
    pub(super) fn pause(&self) -> Duration {
        let part = self.playlist.as_ref().and_then(|playlist| playlist.part_target).map(|(target, _)| target);
        part.unwrap_or(self.target() / 2).max(Duration::from_millis(300))
    }

    /// The playlist, asked for in this way.
    pub(super) fn ask(&self, at: usize, ask: Ask, wait: Duration) -> Job {
        let directives = directives::of(ask, self.playlist.as_deref());
        let blocks = matches!(ask, Ask::Blocking { .. } | Ask::Rollover { .. });
        let patience = if blocks { self.target().saturating_mul(3) + Duration::from_secs(5) } else { PATIENCE };
        let url = if directives.is_empty() { self.url.clone() } else { with_directives(&self.url, &directives) };
        Job { what: What::Playlist { track: at, ask }, url, range: None, wait, patience }
    }

    /// There was no playlist.
    pub(super) fn refused(&self, ask: Ask, outcome: Outcome, findings: &mut Findings) {
        let waited = outcome.as_ref().ok().map(|fetched| fetched.received.saturating_sub(fetched.sent));
        let why = match &outcome {
            Ok(fetched) => fetched.status.to_string(),
            Err(failure) => failure.to_string(),
        };
        let unavailable = outcome.as_ref().is_ok_and(|fetched| fetched.status.as_u16() == 503);
        let long = waited.is_some_and(|waited| waited >= self.target().saturating_mul(2));
        match ask {
            // That is how it is to be said.
            Ask::Blocking { .. } if unavailable && long => {}
            Ask::Blocking { .. } => findings.add(Rule::BlockingLost, None, format!("{ask}: {why}")),
            _ => findings.add(Rule::Unavailable, None, why),
        }
    }

    /// Takes the next version, and checks what it and the one before it show.
    pub(super) fn see(&mut self, ask: Ask, fetched: &Fetched, playlist: &Arc<MediaPlaylist>, findings: &mut Findings) {
        rules::media_playlist(playlist, findings);
        let kind = Kind::Playlist {
            target: playlist.target(),
            live: !playlist.ended,
            low_latency: playlist.is_low_latency(),
            blocking: ask != Ask::Plain,
        };
        rules::response(head(fetched, &self.url), kind, findings);
        if let Some(skip) = playlist.skip {
            findings.add(Rule::SkipUnasked, skip.line, format!("{} segments are left out", skip.segments));
        }
        self.waits = directives::answered(ask, playlist, findings);
        if let Some(before) = &self.playlist {
            rules::evolution(before, playlist, findings);
        }
        if let Some(expanded) = self.expanded.take() {
            directives::same_as_delta(&expanded, playlist, findings);
        }
        self.time(ask, fetched, playlist, findings);
        self.broken_hints(playlist, findings);
        self.playlist = Some(Arc::clone(playlist));
        self.versions += 1;
    }

    fn time(&mut self, ask: Ask, fetched: &Fetched, playlist: &MediaPlaylist, findings: &mut Findings) {
        let asked_before = self.playlist.as_ref().map(|_| self.sent);
        (self.sent, self.received, self.fresh) = (fetched.sent, fetched.received, age(fetched).is_zero());
        let took = fetched.received.saturating_sub(fetched.sent);
        if ask == Ask::Plain {
            self.round_trip = Some(self.round_trip.unwrap_or(took).min(took));
        }
        let round_trip = self.round_trip();
        let held = took > round_trip.saturating_mul(3) + Duration::from_millis(20);
        if self.playlist.as_deref().is_none_or(|before| before.position() < playlist.position()) {
            self.made_after = if held { Some(fetched.sent) } else { asked_before };
        }
        let sighting = Sighting {
            sent: fetched.sent,
            received: fetched.received,
            blocked: ask != Ask::Plain && held,
            round_trip,
            age: age(fetched),
        };
        self.pace.see(playlist, sighting, findings);
    }

    /// Hints that were not answered, and are parts now. One that was taken back meanwhile may be refused (6.2.6).
    fn broken_hints(&mut self, playlist: &MediaPlaylist, findings: &mut Findings) {
        let named = |uri: &String| {
            playlist.hints.iter().any(|hint| hint.uri == *uri) || playlist.parts().any(|(.., part)| part.uri == *uri)
        };
        self.recent_hints.retain(|(uri, result)| result.is_ok() || named(uri));
        let failed = self.recent_hints.iter().filter_map(|(uri, result)| Some((uri, result.as_ref().err()?)));
        for (uri, why) in failed {
            if let Some((.., part)) = playlist.parts().find(|(.., part)| part.uri == *uri && !part.gap) {
                findings.add(Rule::HintUnanswered, part.line, format!("`{uri}`: {why}"));
            }
        }
    }

    /// What is to be fetched of a new version, and what is to be tried out.
    pub(super) fn next(&mut self, at: usize, playlist: &Arc<MediaPlaylist>, findings: &mut Findings) -> Vec<Job> {
        let mut jobs = Vec::new();
        self.enqueue(at, playlist, findings);
        jobs.extend(self.take_queued());
        jobs.extend(self.follow_hint(at, playlist));
        if self.versions == 1 && !playlist.ended {
            jobs.extend(directives::trials(playlist).into_iter().map(|ask| self.ask(at, ask, Duration::ZERO)));
            jobs.extend(self.stranger(at, playlist));
        }
        let skips = playlist.control.as_ref().is_some_and(|control| control.can_skip_until.is_some());
        if skips && !playlist.ended && self.versions % 5 == 1 {
            jobs.push(self.ask(at, Ask::Delta, Duration::ZERO));
        }
        jobs
    }

    /// The request for the version after this one.
    pub(super) fn reload(&self, at: usize, playlist: &MediaPlaylist) -> Option<Job> {
        if playlist.ended {
            return None;
        }
        let blocks = playlist.control.as_ref().is_some_and(|control| control.can_block_reload);
        let next = directives::next(playlist).filter(|_| blocks && self.waits);
        Some(match next {
            Some(next) => self.ask(at, next, Duration::ZERO),
            None => self.ask(at, Ask::Plain, self.pause()),
        })
    }

    /// Puts what is new into the queue: of the first version only the end.
    fn enqueue(&mut self, at: usize, playlist: &MediaPlaylist, findings: &mut Findings) {
        let first = self.segments_asked.is_none();
        let last = playlist.segments.last().map_or(0, |segment| segment.msn);
        let from = self.segments_asked.map_or(last.saturating_sub(1), |asked| asked.saturating_add(1));
        for segment in playlist.segments.iter().filter(|segment| segment.msn >= from) {
            if !first || segment.msn == last {
                self.enqueue_parts(at, segment.msn, &segment.parts, segment.map.as_ref(), findings);
            }
            self.segments_asked = Some(segment.msn);
            let job = resolve(&self.url, &segment.uri).map(|url| {
                let range = segment.byte_range.map(|range| (range.offset, range.length));
                let what = What::Segment { track: at, segment: Arc::new(Segment::clone(segment)) };
                Job { what, url, range, wait: Duration::ZERO, patience: PATIENCE }
            });
            self.push(at, job.filter(|_| !segment.gap), segment.map.as_ref(), findings);
        }
        if let Some(open) = &playlist.open {
            self.enqueue_parts(at, open.msn, &open.parts, open.map.as_ref(), findings);
        }
    }

    fn enqueue_parts(&mut self, at: usize, msn: u64, parts: &[Part], map: Option<&Arc<Map>>, findings: &mut Findings) {
        for (index, part) in parts.iter().enumerate() {
            if self.parts_asked.is_some_and(|asked| (msn, index) <= asked) {
                continue;
            }
            self.parts_asked = Some((msn, index));
            let job = resolve(&self.url, &part.uri).map(|url| {
                let range = part.byte_range.map(|range| (range.offset, range.length));
                let what = What::Part { track: at, msn, index, part: Arc::new(part.clone()) };
                Job { what, url, range, wait: Duration::ZERO, patience: PATIENCE }
            });
            self.push(at, job.filter(|_| !part.gap), map, findings);
        }
    }

    /// Puts a job into the queue, after what is needed to read what it brings.
    fn push(&mut self, at: usize, job: Option<Job>, map: Option<&Arc<Map>>, findings: &mut Findings) {
        let Some(job) = job else { return };
        if self.queue.len() >= QUEUE_MAX {
            return findings.add(Rule::Unread, None, "more media than can be fetched in time");
        }
        if let Some(map) = map.filter(|map| !self.inits.iter().any(|(known, _)| known == *map)) {
            // Known as unread until it was read, so that it is fetched once.
            self.inits.push_back((Arc::clone(map), None));
            if self.inits.len() > 8 {
                self.inits.pop_front();
            }
            if let Some(url) = resolve(&self.url, &map.uri) {
                let range = map.byte_range.map(|range| (range.offset, range.length));
                let what = What::Init { track: at, map: Arc::clone(map) };
                self.queue.push_back(Job { what, url, range, wait: Duration::ZERO, patience: PATIENCE });
            }
        }
        self.queue.push_back(job);
    }

    fn take_queued(&mut self) -> Option<Job> {
        let job = if self.busy { None } else { self.queue.pop_front() };
        self.busy |= job.is_some();
        job
    }

    /// What was fetched out of the queue has come.
    pub(super) fn go_on(&mut self) -> Vec<Job> {
        self.busy = false;
        self.take_queued().into_iter().collect()
    }

    /// A request for what the playlist hints at. A range without an end would go on after the part.
    fn follow_hint(&mut self, at: usize, playlist: &MediaPlaylist) -> Option<Job> {
        let whole = |hint: &&Hint| hint.start.is_none() && hint.length.is_none() || hint.length.is_some();
        let hint = playlist.hints.iter().find(|hint| hint.kind == HintType::Part).filter(whole)?;
        if self.hinting || self.recent_hints.iter().any(|(uri, _)| *uri == hint.uri) {
            return None;
        }
        let url = resolve(&self.url, &hint.uri)?;
        self.hinting = true;
        let range = hint.length.map(|length| (hint.start.unwrap_or_default(), length));
        let patience = self.target().saturating_mul(3) + Duration::from_secs(5);
        let what = What::Hint { track: at, hint: Arc::new(hint.clone()) };
        Some(Job { what, url, range, wait: Duration::ZERO, patience })
    }

    /// A request for what there is not, beside what there is.
    fn stranger(&self, at: usize, playlist: &MediaPlaylist) -> Option<Job> {
        let part = playlist.parts().next_back().map(|(.., part)| part.uri.as_str());
        let known = resolve(&self.url, part.or(playlist.segments.last().map(|segment| segment.uri.as_str()))?)?;
        let (folder, file) = known.path().rsplit_once('/')?;
        let mut url = known.clone();
        url.set_path(&format!("{folder}/no-such-{file}"));
        Some(Job { what: What::Absent { track: at }, url, range: None, wait: Duration::ZERO, patience: PATIENCE })
    }

    pub(super) fn peak(&self) -> f64 {
        self.rates.peak(self.target())
    }
}
