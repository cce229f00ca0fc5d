//! What comes of media: initialisation sections, segments, parts, hinted parts, and what there is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::super::finding::Findings;
use super::super::media::{self, Counters, Format, Init, measure};
use super::super::playlist::{Hint, Map, Part, Segment};
use super::super::rule::Rule;
use super::super::rules::{self, Kind};
use super::track::Track;
use super::{Audit, Fetched, Job, Outcome, head};

/// Parts of so many segments are kept for when the segment is complete.
const SEGMENTS_OF_PARTS: u64 = 3;

/// Parts and hints that are kept to be compared.
const RECENT_MAX: usize = 16;

impl Audit {
    pub(super) fn init(&mut self, at: usize, map: &Arc<Map>, url: &Url, outcome: Outcome) -> Vec<Job> {
        let mut findings = Findings::default();
        let Some(track) = self.tracks.get_mut(at) else { return Vec::new() };
        if let Some(fetched) = track.media(url, outcome, &mut findings) {
            let init = Init::read(&fetched.body);
            if init.is_none() && Format::of(&fetched.body) == Format::Mp4 {
                findings.add(Rule::MediaFormat, None, "no track can be read in this initialisation section");
            }
            if let Some(known) = track.inits.iter_mut().find(|(known, _)| known == map) {
                known.1 = init;
            }
        }
        self.report.add(url, findings);
        track.go_on()
    }

    pub(super) fn segment(&mut self, at: usize, listed: &Arc<Segment>, url: &Url, outcome: Outcome) -> Vec<Job> {
        let mut findings = Findings::default();
        let Some(track) = self.tracks.get_mut(at) else { return Vec::new() };
        if let Some(fetched) = track.media(url, outcome, &mut findings) {
            self.report.checked.segments += 1;
            self.report.checked.media_bytes += u64::try_from(fetched.body.len()).unwrap_or(u64::MAX);
            track.rates.add(listed.msn, fetched.body.len(), listed.duration);
            if listed.key.is_none() {
                track.measure(listed, &fetched.body, &mut findings);
            }
            track.compare_parts(listed, &fetched.body, &mut findings);
        }
        self.report.add(url, findings);
        track.go_on()
    }

    pub(super) fn part(
        &mut self,
        at: usize,
        (msn, index): (u64, usize),
        listed: &Arc<Part>,
        url: &Url,
        outcome: Outcome,
    ) -> Vec<Job> {
        let mut findings = Findings::default();
        let Some(track) = self.tracks.get_mut(at) else { return Vec::new() };
        if let Some(fetched) = track.media(url, outcome, &mut findings) {
            self.report.checked.parts += 1;
            self.report.checked.media_bytes += u64::try_from(fetched.body.len()).unwrap_or(u64::MAX);
            let init = track.init_of(msn);
            if let (Format::Mp4, Some(init)) = (Format::of(&fetched.body), init) {
                match measure(&fetched.body, Some(&init), &mut Counters::default(), &mut findings) {
                    Some(found) => media::independence(listed, &found, &mut findings),
                    None => findings.add(Rule::MediaFormat, listed.line, format!("`{}` cannot be read", listed.uri)),
                }
            }
            track.keep_part((msn, index), &listed.uri, fetched.body, &mut findings);
        }
        self.report.add(url, findings);
        track.go_on()
    }

    pub(super) fn hint(&mut self, at: usize, hint: &Arc<Hint>, outcome: Outcome) -> Vec<Job> {
        let mut findings = Findings::default();
        let Some(track) = self.tracks.get_mut(at) else { return Vec::new() };
        track.hinting = false;
        let result = match outcome {
            Ok(fetched) if fetched.status.is_success() => {
                self.report.checked.hints += 1;
                track.dripped(hint, &fetched, &mut findings);
                Ok(fetched.body)
            }
            Ok(fetched) => Err(fetched.status.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        if let (Ok(body), Some((_, part))) = (&result, track.recent_parts.iter().find(|(uri, _)| *uri == hint.uri)) {
            compare_hint(&hint.uri, body, part, &mut findings);
        }
        track.recent_hints.push_back((hint.uri.clone(), result));
        if track.recent_hints.len() > RECENT_MAX {
            track.recent_hints.pop_front();
        }
        self.report.add(&track.url, findings);
        Vec::new()
    }

    pub(super) fn absent(&mut self, at: usize, url: &Url, outcome: Outcome) -> Vec<Job> {
        let mut findings = Findings::default();
        let Some(track) = self.tracks.get(at) else { return Vec::new() };
        match outcome {
            Ok(fetched) if fetched.status.is_success() => {
                findings.add(Rule::UnknownFound, None, format!("{}", fetched.status));
            }
            Ok(fetched) => {
                rules::response(head(&fetched, url), Kind::Error { target: track.target() }, &mut findings);
            }
            Err(failure) => findings.add(Rule::UnknownFound, None, failure.to_string()),
        }
        self.report.add(url, findings);
        Vec::new()
    }
}

impl Track {
    /// The response, where it is one with media.
    fn media(&self, url: &Url, outcome: Outcome, findings: &mut Findings) -> Option<Fetched> {
        match outcome {
            Ok(fetched) if fetched.status.is_success() => {
                let listed = self.playlist.as_ref().map(|playlist| playlist.duration()).unwrap_or_default();
                rules::response(head(&fetched, url), Kind::Media { listed }, findings);
                Some(fetched)
            }
            Ok(fetched) => {
                findings.add(Rule::Unavailable, None, fetched.status.to_string());
                None
            }
            Err(failure) => {
                findings.add(Rule::Unavailable, None, failure.to_string());
                None
            }
        }
    }

    fn init_with(&self, map: Option<&Arc<Map>>) -> Option<Init> {
        let (_, init) = self.inits.iter().find(|(known, _)| Some(known) == map)?;
        init.clone()
    }

    /// The initialisation section of a segment that is listed, complete or not.
    fn init_of(&self, msn: u64) -> Option<Init> {
        let playlist = self.playlist.as_ref()?;
        let open = playlist.open.as_ref().filter(|open| open.msn == msn).and_then(|open| open.map.as_ref());
        let map = open.or_else(|| playlist.segment(msn).and_then(|segment| segment.map.as_ref()));
        self.init_with(map)
    }

    fn measure(&mut self, listed: &Segment, body: &Bytes, findings: &mut Findings) {
        let before = self.measured.take().filter(|(msn, _)| msn.checked_add(1) == Some(listed.msn));
        if before.is_none() || listed.discontinuity {
            self.counters.reset();
        }
        let init = self.init_with(listed.map.as_ref());
        // Of a picture in a playlist of I-frames, EXTINF tells when the next one comes.
        if self.playlist.as_ref().is_some_and(|playlist| playlist.i_frames_only) {
            return media::i_frame(body, init.as_ref(), findings);
        }
        let Some(found) = measure(body, init.as_ref(), &mut self.counters, findings) else { return };
        media::segment(listed, &found, before.map(|(_, found)| found).as_ref(), findings);
        self.measured = Some((listed.msn, found));
    }

    fn keep_part(&mut self, at: (u64, usize), uri: &str, body: Bytes, findings: &mut Findings) {
        if let Some((_, Ok(hinted))) = self.recent_hints.iter().find(|(hinted, _)| hinted == uri) {
            compare_hint(uri, hinted, &body, findings);
        }
        self.recent_parts.push_back((uri.to_owned(), body.clone()));
        if self.recent_parts.len() > RECENT_MAX {
            self.recent_parts.pop_front();
        }
        self.parts.insert(at, body);
        let oldest = at.0.saturating_sub(SEGMENTS_OF_PARTS);
        self.parts.retain(|(msn, _), _| *msn >= oldest);
    }

    /// Compares a segment with its parts, if all of them were fetched.
    fn compare_parts(&self, listed: &Segment, body: &Bytes, findings: &mut Findings) {
        let known = (0..listed.parts.len()).map_while(|index| self.parts.get(&(listed.msn, index)).cloned());
        let known: Vec<Bytes> = known.collect();
        if listed.parts.is_empty() || known.len() < listed.parts.len() {
            return;
        }
        let init = self.init_with(listed.map.as_ref());
        let measure = |data: &[u8]| measure(data, init.as_ref(), &mut Counters::default(), &mut Findings::default());
        media::parts(listed, body, &known, measure, findings);
    }

    /// A part comes as fast as the link carries it: not as it is made.
    fn dripped(&self, hint: &Hint, fetched: &Fetched, findings: &mut Findings) {
        let Some((target, _)) = self.playlist.as_ref().and_then(|playlist| playlist.part_target) else { return };
        let took = fetched.received.saturating_sub(fetched.head);
        if took > target / 2 && took > self.round_trip().saturating_mul(4) + Duration::from_millis(100) {
            let seen = format!("`{}`: {took:?} from its first byte to its last", hint.uri);
            findings.add(Rule::HintDripped, hint.line, seen);
        }
    }
}

fn compare_hint(uri: &str, hinted: &Bytes, listed: &Bytes, findings: &mut Findings) {
    if hinted != listed {
        let seen = format!("`{uri}` had {} bytes when it was hinted at, and has {}", hinted.len(), listed.len());
        findings.add(Rule::HintWrong, None, seen);
    }
}
