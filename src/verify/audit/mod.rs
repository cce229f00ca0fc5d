//! An audit of one stream: decides what to fetch, and holds what comes against the rules. Without sockets, tasks and
//! clocks: it gives [`Job`]s and is given their [`Outcome`]s.

mod directives;
mod job;
mod media;
mod track;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::finding::Findings;
use super::playlist::{self, MediaPlaylist, MediaType, Multivariant, Playlist};
use super::reference::resolve;
use super::report::Report;
use super::rule::Rule;
use super::rules::{self, Head, Kind, Order, Sighting};
use track::Track;

pub use job::{Ask, Failure, Fetched, Job, Outcome, What};

/// Playlists of one presentation that are followed.
const TRACKS_MAX: usize = 32;

/// For whatever does not block.
const PATIENCE: Duration = Duration::from_secs(10);

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    url: Url,
    multivariant: Option<Multivariant>,
    tracks: Vec<Track>,
    report: Report,
    unreadable: Option<String>,
}

impl Audit {
    /// An audit of what is at `url`, and what to begin with.
    #[must_use]
    pub fn new(url: Url) -> (Self, Job) {
        let job = Job { what: What::Start, url: url.clone(), range: None, wait: Duration::ZERO, patience: PATIENCE };
        let audit = Self { url, multivariant: None, tracks: Vec::new(), report: Report::default(), unreadable: None };
        (audit, job)
    }

    /// Takes what came of a job; gives what is to be done next.
    pub fn done(&mut self, job: Job, outcome: Outcome) -> Vec<Job> {
        match job.what {
            What::Start => self.start(outcome),
            What::Playlist { track, ask } => self.playlist(track, ask, outcome),
            What::Init { track, map } => self.init(track, &map, &job.url, outcome),
            What::Segment { track, segment } => self.segment(track, &segment, &job.url, outcome),
            What::Part { track, msn, index, part } => self.part(track, (msn, index), &part, &job.url, outcome),
            What::Hint { track, hint } => self.hint(track, &hint, outcome),
            What::Absent { track } => self.absent(track, &job.url, outcome),
        }
    }

    /// Ends the audit.
    ///
    /// # Errors
    /// A sentence, where there was nothing to audit.
    pub fn finish(mut self, after: Duration) -> Result<Report, String> {
        if let Some(why) = self.unreadable {
            return Err(why);
        }
        self.report.checked.seconds = after.as_secs();
        for track in &mut self.tracks {
            let mut findings = Findings::default();
            if let Some(playlist) = &track.playlist {
                track.pace.finish(playlist, &mut findings);
            }
            self.report.add(&track.url, findings);
        }
        let mut findings = Findings::default();
        self.bandwidths(&mut findings);
        self.report.add(&self.url, findings);
        Ok(self.report)
    }

    fn start(&mut self, outcome: Outcome) -> Vec<Job> {
        let fetched = match outcome {
            Ok(fetched) if fetched.status.is_success() => fetched,
            Ok(fetched) => return self.give_up(format!("the answer was {}", fetched.status)),
            Err(failure) => return self.give_up(failure.to_string()),
        };
        let mut findings = Findings::default();
        let Some(read) = playlist::parse(&fetched.body, &mut findings) else {
            return self.give_up("what is there is no playlist".to_owned());
        };
        if let Some(url) = &fetched.redirected {
            self.url = url.clone();
        }
        match read {
            Playlist::Media(_) => {
                self.tracks.push(Track::new(self.url.clone(), false));
                self.report.checked.playlists = 1;
                self.playlist(0, Ask::Plain, Ok(fetched))
            }
            Playlist::Multivariant(multivariant) => {
                rules::multivariant(&multivariant, &mut findings);
                rules::response(head(&fetched, &self.url), Kind::Multivariant, &mut findings);
                self.follow(&multivariant, &mut findings);
                self.multivariant = Some(*multivariant);
                self.report.add(&self.url, findings);
                let plain = |(index, track): (usize, &Track)| track.ask(index, Ask::Plain, Duration::ZERO);
                self.tracks.iter().enumerate().map(plain).collect()
            }
        }
    }

    fn give_up(&mut self, why: String) -> Vec<Job> {
        self.unreadable = Some(why);
        Vec::new()
    }

    /// Makes a track of each playlist that is named.
    fn follow(&mut self, multivariant: &Multivariant, findings: &mut Findings) {
        let variants = multivariant.variants.iter().map(|variant| (variant.uri.as_str(), false));
        let media = multivariant.media.iter().filter_map(|media| Some((media.uri.as_deref()?, false)));
        let i_frames = multivariant.i_frames.iter().map(|variant| (variant.uri.as_str(), true));
        for (uri, i_frames) in variants.chain(media).chain(i_frames) {
            let Some(url) = resolve(&self.url, uri) else {
                findings.add(Rule::Unavailable, None, format!("`{uri}` is no URL that can be fetched"));
                continue;
            };
            if self.tracks.iter().any(|track| track.url == url) {
                continue;
            }
            if self.tracks.len() == TRACKS_MAX {
                return findings.add(Rule::Unread, None, format!("more than {TRACKS_MAX} playlists"));
            }
            self.tracks.push(Track::new(url, i_frames));
        }
        self.report.checked.playlists = u64::try_from(self.tracks.len()).unwrap_or(u64::MAX);
    }

    /// A media playlist, however it was asked for.
    fn playlist(&mut self, at: usize, ask: Ask, outcome: Outcome) -> Vec<Job> {
        let mut findings = Findings::default();
        let jobs = match ask {
            Ask::Plain | Ask::Blocking { .. } => self.version(at, ask, outcome, &mut findings),
            Ask::Delta => {
                self.delta(at, outcome, &mut findings);
                Vec::new()
            }
            _ => {
                self.directive(at, ask, outcome, &mut findings);
                Vec::new()
            }
        };
        if let Some(track) = self.tracks.get(at) {
            self.report.add(&track.url, findings);
        }
        jobs
    }

    /// The next version of a media playlist.
    fn version(&mut self, at: usize, ask: Ask, outcome: Outcome, findings: &mut Findings) -> Vec<Job> {
        let Some(track) = self.tracks.get_mut(at) else { return Vec::new() };
        let fetched = match outcome {
            Ok(fetched) if fetched.status.is_success() => fetched,
            failed => {
                track.refused(ask, failed, findings);
                return vec![track.ask(at, Ask::Plain, track.pause())];
            }
        };
        let read = playlist::parse(&fetched.body, findings);
        let Some(Playlist::Media(playlist)) = read else {
            findings.add(Rule::PlaylistKind, None, "no media playlist is there");
            return vec![track.ask(at, Ask::Plain, PATIENCE)];
        };
        self.report.checked.versions += 1;
        self.report.checked.blocking += u64::from(ask != Ask::Plain);
        let playlist: Arc<MediaPlaylist> = Arc::from(playlist);
        track.see(ask, &fetched, &playlist, findings);
        if let Some(multivariant) = &self.multivariant {
            rules::together(multivariant, &playlist, track.i_frames, findings);
        }
        self.compare(at, findings);
        let Some(track) = self.tracks.get_mut(at) else { return Vec::new() };
        let mut jobs = track.next(at, &playlist, findings);
        jobs.extend(track.reload(at, &playlist));
        jobs
    }

    /// Holds a track against another one, as that was last seen.
    fn align(&mut self, at: usize, findings: &mut Findings) {
        let mut others = self.tracks.iter().enumerate().filter(|(index, _)| *index != at);
        let first = others.find_map(|(_, other)| Some((other.received, other.playlist.clone()?)));
        let Some(track) = self.tracks.get_mut(at) else { return };
        let (Some((seen, first)), Some(playlist)) = (first, &track.playlist) else { return };
        let mut found = Findings::default();
        rules::renditions(&first, playlist, &mut found);
        // What may change from one instant to the next, and is not read at the same, differs only if it stays so.
        let differs = found.as_slice().iter().any(|finding| finding.rule == Rule::RenditionsControl);
        let since = *track.differs.get_or_insert(track.received);
        if !differs {
            track.differs = None;
        }
        let lasts = seen > since && track.received.saturating_sub(since) >= playlist.target();
        for finding in found.into_iter().filter(|finding| lasts || finding.rule != Rule::RenditionsControl) {
            findings.add(finding.rule, finding.line, finding.seen);
        }
    }

    /// Holds a track and its reports against the others, as they were last seen.
    fn compare(&mut self, at: usize, findings: &mut Findings) {
        self.align(at, findings);
        let Some((track, playlist)) = self.tracks.get(at).and_then(|t| Some((t, t.playlist.as_ref()?))) else { return };
        let others = || self.tracks.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, other)| other);
        let low_latency = playlist.is_low_latency() && !playlist.ended;
        let about = |uri: &str| resolve(&track.url, uri);
        for report in &playlist.reports {
            let url = about(&report.uri);
            let Some(other) = self.tracks.iter().find(|other| Some(&other.url) == url.as_ref()) else {
                if self.multivariant.is_some() {
                    findings.add(Rule::ReportUnknown, report.line, format!("`{}`", report.uri));
                }
                continue;
            };
            // Only what was certainly there before the playlist was made, and not out of a cache, can be held against it.
            let known = other.fresh && track.fresh && track.made_after.is_some_and(|made| other.received <= made);
            let before = other.playlist.as_ref().filter(|_| known);
            if let Some(other) = before {
                rules::report(report, playlist, other, Order::Before, findings);
            }
        }
        for other in others().filter(|other| low_latency && !other.i_frames && !track.i_frames) {
            if !playlist.reports.iter().any(|report| about(&report.uri).as_ref() == Some(&other.url)) {
                findings.add(Rule::ReportsMissing, None, format!("none about {}", other.url.path()));
            }
        }
        for other in others().filter(|other| other.fresh && track.fresh && other.received <= track.sent) {
            let Some(bearer) = &other.playlist else { continue };
            let mine = |uri: &str| resolve(&other.url, uri).as_ref() == Some(&track.url);
            for report in bearer.reports.iter().filter(|report| mine(&report.uri)) {
                rules::report(report, bearer, playlist, Order::After, findings);
            }
        }
    }

    /// The measured bit rates against those that the multivariant playlist tells.
    fn bandwidths(&self, findings: &mut Findings) {
        let Some(multivariant) = &self.multivariant else { return };
        let track = |uri: &str| {
            let url = resolve(&self.url, uri);
            self.tracks.iter().find(|track| Some(&track.url) == url.as_ref())
        };
        for variant in &multivariant.variants {
            let Some(own) = track(&variant.uri) else { continue };
            let audio = variant.groups.iter().filter(|(kind, _)| *kind == MediaType::Audio);
            let members = audio.flat_map(|(kind, group)| multivariant.group(*kind, group));
            let sounds: Vec<&Track> = members.filter_map(|media| track(media.uri.as_deref()?)).collect();
            let total =
                |rate: fn(&Track) -> f64| rate(own) + sounds.iter().map(|sound| rate(sound)).fold(0.0, f64::max);
            let (peak, average) = (total(Track::peak), total(|track| track.rates.average()));
            exceeds(variant.bandwidth, peak, 1.25).then(|| {
                let seen = format!("`{}`: {peak:.0} bit/s of {:?}", variant.uri, variant.bandwidth.unwrap_or(0));
                findings.add(Rule::Bandwidth, variant.line, seen);
            });
            exceeds(variant.average_bandwidth, average, 1.10).then(|| {
                let told = variant.average_bandwidth.unwrap_or(0);
                let seen = format!("`{}`: {average:.0} bit/s of {told}, over the time that was measured", variant.uri);
                findings.add(Rule::BandwidthAverage, variant.line, seen);
            });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is compared in percents")]
fn exceeds(told: Option<u64>, measured: f64, factor: f64) -> bool {
    told.is_some_and(|told| measured >= told as f64 * factor)
}

fn head<'a>(fetched: &'a Fetched, url: &'a Url) -> Head<'a> {
    Head {
        headers: &fetched.headers,
        path: url.path(),
        version: fetched.version,
        tls: url.scheme() == "https",
        redirected: fetched.redirected.is_some(),
    }
}

/// How old a cache says that a response is.
fn age(fetched: &Fetched) -> Duration {
    let age = fetched.headers.get(http::header::AGE).and_then(|age| age.to_str().ok());
    Duration::from_secs(age.and_then(|age| age.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
