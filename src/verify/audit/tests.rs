//! Audits of a simulated low-latency origin, on a clock that jumps: of a good one, and of one for each rule that it breaks.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use proptest::prelude::*;
use url::Url;

use super::super::report::Report;
use super::super::rule::{Level, Rule};
use super::super::testing::{MULTIVARIANT, fragment, golden, init};
use super::*;

/// A part, and how many of them are in a segment.
const PART_MS: u64 = 500;
const PARTS: u64 = 4;
/// Segments that are listed; and how long the stream has been running when the audit begins.
const WINDOW: u64 = 8;
const BEGUN_MS: u64 = 60_250;

/// An origin of one channel that keeps all rules but one.
#[derive(Clone, Copy)]
struct Origin {
    broken: Option<Rule>,
    /// It has ended already.
    ended: bool,
    /// While it stalls it offers neither blocking nor a hint.
    withdraws: bool,
}

/// An origin that stalls has nothing new for so long, and knows after a while.
const STALL_MS: std::ops::Range<u64> = 3_000..6_600;
const KNOWN_MS: u64 = 3_600;

/// An answer, and how long after the question its head and its end come.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    head_ms: u64,
    end_ms: u64,
}

impl Origin {
    fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    /// Parts that are complete at this time. One that is late holds up those after it, which then come at once.
    fn complete(&self, now_ms: u64) -> u64 {
        let parts = (BEGUN_MS + now_ms) / PART_MS;
        let end = if self.breaks(Rule::PartLate) { STALL_MS.start + 1_500 } else { STALL_MS.end };
        let stalls = self.breaks(Rule::PartLate) || self.breaks(Rule::SegmentLate);
        if stalls && now_ms < end { parts.min((BEGUN_MS + STALL_MS.start) / PART_MS) } else { parts }
    }

    /// It stalls, and says so.
    fn is_still(&self, now_ms: u64) -> bool {
        self.withdraws && (KNOWN_MS..STALL_MS.end).contains(&now_ms)
    }

    /// How long from `now_ms` on until `parts` are complete.
    fn until(&self, parts: u64, now_ms: u64) -> u64 {
        (0..60_000).step_by(50).find(|wait| self.complete(now_ms + wait) >= parts).unwrap_or(60_000)
    }

    fn answer(&self, job: &Job, now_ms: u64) -> Option<Answer> {
        let path = job.url.path().to_owned();
        let complete = self.complete(now_ms);
        match path.rsplit('/').next().unwrap_or_default() {
            "index.m3u8" if path == "/live/index.m3u8" => Some(self.text(self.multivariant(), "public, max-age=1", 5)),
            "index.m3u8" | "iframes.m3u8" => self.playlist(&job.url, now_ms),
            "init.mp4" => Some(self.media(init(path.contains("720p")), 5)),
            name => {
                let numbers: Option<Vec<u64>> = name.strip_suffix(".m4s")?.split('.').map(|n| n.parse().ok()).collect();
                let Some(numbers) = numbers else { return Some(self.missing(Rule::UnknownFound, 404)) };
                let (first, count) = match numbers[..] {
                    [msn, part] => (msn * PARTS + part, 1),
                    [msn] => (msn * PARTS, PARTS),
                    _ => return Some(self.missing(Rule::UnknownFound, 404)),
                };
                let hinted = first + count > complete;
                if hinted && self.breaks(Rule::HintUnanswered) {
                    return Some(Answer { status: 404, ..self.missing(Rule::HintUnanswered, 404) });
                }
                let wait = self.until(first + count, now_ms) + 5;
                if self.withdraws && now_ms < STALL_MS.end && now_ms + wait > STALL_MS.end {
                    let end_ms = KNOWN_MS.saturating_sub(now_ms) + 5;
                    return Some(Answer { end_ms, head_ms: end_ms, ..self.missing(Rule::UnknownFound, 404) });
                }
                let mut body: Vec<u8> = (first..first + count).flat_map(|part| self.part(&path, part, count)).collect();
                if hinted && self.breaks(Rule::HintWrong) && path.contains("720p") {
                    body.push(0);
                }
                let drips = hinted && self.breaks(Rule::HintDripped);
                let head_ms = if drips { 5 } else { wait };
                if count == PARTS && self.breaks(Rule::Unavailable) {
                    return Some(self.missing(Rule::Unavailable, 404));
                }
                Some(Answer { head_ms, ..self.media(body, wait) })
            }
        }
    }

    /// What a part holds, as such or within its segment of `PARTS`.
    fn part(&self, path: &str, part: u64, within: u64) -> Vec<u8> {
        let (video, key) = (path.contains("720p"), part.is_multiple_of(PARTS));
        let mut start = part * PART_MS;
        let mut count = 10;
        let segment = within == PARTS;
        start += if self.breaks(Rule::MediaContinuity) && (part / PARTS).is_multiple_of(2) { 40 } else { 0 };
        count += u32::from(self.breaks(Rule::MediaDuration)) * 4;
        count -= u32::from(self.breaks(Rule::PartsMedia) && segment);
        let bytes = if self.breaks(Rule::Bandwidth) && video { 400_000 } else { 1_000 };
        if self.breaks(Rule::MediaFormat) {
            return vec![0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
        }
        let key = (key || self.breaks(Rule::PartIndependent)) && !(self.breaks(Rule::MediaKeyframe) && video) || !video;
        let mut bytes = fragment(start, count, key, bytes);
        if self.breaks(Rule::PartsBytes) && segment {
            bytes.extend([0, 0, 0, 8, b'f', b'r', b'e', b'e']);
        }
        bytes
    }

    fn media(&self, body: Vec<u8>, end_ms: u64) -> Answer {
        let kept = if self.breaks(Rule::CacheMedia) { "no-store" } else { "public, max-age=1209600, immutable" };
        let media_type = if self.breaks(Rule::Mime) { "application/octet-stream" } else { "video/mp4" };
        let headers = vec![("content-type", media_type), ("cache-control", kept)];
        Answer { status: 200, headers, body, head_ms: end_ms, end_ms }
    }

    /// A refusal, unless the rule that demands it is broken.
    fn missing(&self, rule: Rule, status: u16) -> Answer {
        let status = if self.breaks(rule) && rule != Rule::Unavailable { 200 } else { status };
        let kept = if self.breaks(Rule::CacheError) { "public, max-age=60" } else { "public, max-age=1" };
        Answer { status, headers: vec![("cache-control", kept)], body: Vec::new(), head_ms: 5, end_ms: 5 }
    }

    fn text(&self, text: String, kept: &'static str, end_ms: u64) -> Answer {
        let mut headers = vec![("content-type", "application/vnd.apple.mpegurl")];
        headers.extend((!self.breaks(Rule::Gzip)).then_some(("content-encoding", "gzip")));
        headers.extend((!self.breaks(Rule::Vary)).then_some(("vary", "accept-encoding")));
        headers.extend((!self.breaks(Rule::CacheControl)).then_some(("cache-control", kept)));
        headers.extend(self.breaks(Rule::Cookie).then_some(("set-cookie", "viewer=1")));
        Answer { status: 200, headers, body: text.into_bytes(), head_ms: end_ms, end_ms }
    }

    fn multivariant(&self) -> String {
        // One variant is enough to follow, and its pictures are small.
        let average =
            if self.breaks(Rule::BandwidthAverage) { "AVERAGE-BANDWIDTH=20000" } else { "AVERAGE-BANDWIDTH=2834000" };
        let text = MULTIVARIANT.replace("480p/index.m3u8", "720p/index.m3u8");
        let text = text.replace("AVERAGE-BANDWIDTH=2834000", average);
        text.replace("720p/iframes.m3u8", "720p/index.m3u8")
    }

    fn playlist(&self, url: &Url, now_ms: u64) -> Option<Answer> {
        let query = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned());
        let number = |name: &str| query(name).and_then(|value| value.parse::<u64>().ok());
        let complete = self.complete(now_ms);
        let (msn, part) = (number("_HLS_msn"), number("_HLS_part"));
        if msn.is_none() && part.is_some() && !self.breaks(Rule::BlockingPartAlone) {
            return Some(self.missing(Rule::BlockingPartAlone, 400));
        }
        if msn.is_some_and(|msn| msn > complete / PARTS + 2) {
            return Some(if self.breaks(Rule::BlockingFuture) {
                self.text(self.render(url, complete, false), "max-age=1", 5)
            } else {
                self.missing(Rule::BlockingFuture, 400)
            });
        }
        let asked = msn.map(|msn| match part {
            Some(part) if part >= PARTS && self.breaks(Rule::BlockingRollover) => msn * PARTS + PARTS,
            Some(part) => msn * PARTS + part + 1,
            None => (msn + 1) * PARTS,
        });
        let blocks = asked.filter(|asked| *asked > complete);
        if blocks.is_some() && self.breaks(Rule::BlockingLost) {
            return None;
        }
        let old = asked.is_some_and(|asked| asked + 2 * PARTS < complete) && self.breaks(Rule::BlockingOld);
        let wait = blocks.map_or(0, |parts| self.until(parts, now_ms)) + if old { 1_900 } else { 0 };
        let wait = if self.breaks(Rule::BlockingEarly) { 0 } else { wait };
        let known = KNOWN_MS.saturating_sub(now_ms);
        let wait = if self.is_still(now_ms.max(KNOWN_MS)) && now_ms + wait >= STALL_MS.end { known } else { wait };
        let skip = query("_HLS_skip").is_some() && !self.breaks(Rule::DeltaNotGiven) || self.breaks(Rule::SkipUnasked);
        let rollover = part.is_some_and(|part| part >= PARTS) && self.breaks(Rule::BlockingRollover);
        // Whoever asks for the part after the last is answered with what there was before that.
        let now = if rollover { msn? * PARTS + PARTS } else { self.complete(now_ms + wait) };
        let kept = if asked.is_some() { "public, max-age=12" } else { "public, max-age=1" };
        let kept = if self.breaks(Rule::CachePlaylist) { "public, max-age=60" } else { kept };
        let mut text = self.render(url, now, skip);
        if self.is_still(now_ms + wait) {
            let told: Vec<&str> = text.lines().filter(|line| !line.contains("PRELOAD-HINT")).collect();
            text = told.join("\n").replace("CAN-BLOCK-RELOAD=YES,", "");
        }
        if self.breaks(Rule::RenditionsControl) && url.path().contains("audio") {
            text = text.replace("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.6");
        }
        Some(self.text(text, kept, wait + 5))
    }

    /// The playlist with `complete` parts.
    fn render(&self, url: &Url, complete: u64, delta: bool) -> String {
        let (last, open) = (complete / PARTS, complete % PARTS);
        let first = last - WINDOW;
        let far = if self.breaks(Rule::DeltaTooShort) { 4 } else { 1 };
        let skipped = if delta { far } else { 0 };
        let version = if delta { 9 } else { 6 };
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,PART-HOLD-BACK=1.5\n\
             #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        );
        if skipped > 0 {
            let told = skipped + u64::from(self.breaks(Rule::DeltaWrong));
            writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={told}").unwrap();
        }
        if !self.breaks(Rule::MapMissing) {
            writeln!(text, "#EXT-X-MAP:URI=\"init.mp4\"").unwrap();
        }
        for msn in first + skipped..=last {
            let listed = if msn == last { open } else { PARTS };
            self.segment(&mut text, msn, listed, last);
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
            return text;
        }
        writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{last}.{open}.m4s\"").unwrap();
        let other = if url.path().contains("audio") { "../720p/index.m3u8" } else { "../audio/index.m3u8" };
        let position = if self.breaks(Rule::ReportStale) { complete - 4 } else { complete - 1 };
        let (msn, part) = (position / PARTS, position % PARTS);
        if !self.breaks(Rule::ReportsMissing) {
            writeln!(text, "#EXT-X-RENDITION-REPORT:URI=\"{other}\",LAST-MSN={msn},LAST-PART={part}").unwrap();
        }
        if self.breaks(Rule::ReportUnknown) {
            writeln!(text, "#EXT-X-RENDITION-REPORT:URI=\"../480p/index.m3u8\",LAST-MSN={msn},LAST-PART={part}")
                .unwrap();
        }
        text
    }

    fn segment(&self, text: &mut String, msn: u64, parts: u64, last: u64) {
        let secs = msn * PARTS * PART_MS / 1_000;
        let date = format!("2027-01-15T08:{:02}:{:02}.000Z", secs / 60, secs % 60);
        writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{date}").unwrap();
        for part in 0..parts {
            let tells = part == 0 && !self.breaks(Rule::PartIndependent) || self.breaks(Rule::PartIndependentFalse);
            let independent = if tells { ",INDEPENDENT=YES" } else { "" };
            if msn + 2 >= last {
                writeln!(text, "#EXT-X-PART:DURATION=0.5,URI=\"{msn}.{part}.m4s\"{independent}").unwrap();
            }
        }
        if parts == PARTS {
            let changes = self.breaks(Rule::SegmentChanged) && last > BEGUN_MS / 2_000 + 1;
            let duration = if changes { "1.999" } else { "2.000000" };
            writeln!(text, "#EXTINF:{duration},\n{msn}.m4s").unwrap();
        }
    }
}

/// Runs an audit for so long.
fn run(origin: Origin, url: &str, millis: u64) -> Result<Report, String> {
    let (mut audit, first) = Audit::new(Url::parse(url).unwrap());
    let mut pending = vec![(0, first)];
    let mut arriving: Vec<(Duration, Job, Outcome)> = Vec::new();
    let mut now = Duration::ZERO;
    while now < Duration::from_millis(millis) {
        for (asked_ms, job) in std::mem::take(&mut pending) {
            let sent = Duration::from_millis(asked_ms) + job.wait;
            let outcome = perform(origin, &job, sent);
            let at = outcome.as_ref().map_or(sent + job.patience, |fetched| fetched.received);
            arriving.push((at, job, outcome));
        }
        let Some(next) = (0..arriving.len()).min_by_key(|at| arriving[*at].0) else { break };
        let (at, job, outcome) = arriving.remove(next);
        now = at;
        let millis = u64::try_from(now.as_millis()).unwrap();
        pending.extend(audit.done(job, outcome).into_iter().map(|job| (millis, job)));
        assert!(arriving.len() + pending.len() < 60, "it does not ask for more and more");
    }
    audit.finish(now)
}

fn perform(origin: Origin, job: &Job, sent: Duration) -> Outcome {
    let ms = Duration::from_millis;
    let answer = origin.answer(job, u64::try_from(sent.as_millis()).unwrap());
    let answer = answer.filter(|answer| ms(answer.end_ms) <= job.patience).ok_or(Failure::Timeout)?;
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Ok(Fetched {
        status: StatusCode::from_u16(answer.status).unwrap(),
        headers,
        version: if origin.breaks(Rule::Http2) { Version::HTTP_11 } else { Version::HTTP_2 },
        body: Bytes::from(answer.body),
        redirected: origin.breaks(Rule::Redirect).then(|| job.url.clone()),
        sent,
        head: sent + ms(answer.head_ms),
        received: sent + ms(answer.end_ms),
    })
}

/// What an origin that keeps all rules is told nevertheless: that of the shape of this simulation.
const SHAPE: [Rule; 3] = [Rule::IFramesTag, Rule::VariantsFew, Rule::VariantsAspect];

fn found(broken: Option<Rule>) -> (Vec<Rule>, Report) {
    judge(Origin { broken, ended: false, withdraws: false })
}

fn judge(origin: Origin) -> (Vec<Rule>, Report) {
    let report = run(origin, "https://h/live/index.m3u8", 12_000).unwrap();
    let rules = report.broken().into_iter().map(|(rule, _)| rule).filter(|rule| !SHAPE.contains(rule)).collect();
    (rules, report)
}

#[test]
fn a_good_origin_is_clean() {
    let (rules, report) = found(None);
    assert_eq!(rules, [], "{}", report.text());
    let checked = report.checked;
    assert_eq!(checked.playlists, 2);
    assert!(checked.versions > 40 && checked.blocking > 38 && checked.deltas > 4, "{checked:?}");
    assert!(checked.segments >= 14 && checked.parts > 40 && checked.hints > 20, "{checked:?}");
}

#[test]
fn each_broken_rule_is_found_and_no_other() {
    let rules = [
        Rule::SkipUnasked,
        Rule::SegmentChanged,
        Rule::SegmentLate,
        Rule::PartLate,
        Rule::DeltaWrong,
        Rule::DeltaTooShort,
        Rule::DeltaNotGiven,
        Rule::RenditionsControl,
        Rule::ReportsMissing,
        Rule::ReportUnknown,
        Rule::ReportStale,
        Rule::MediaFormat,
        Rule::MapMissing,
        Rule::MediaDuration,
        Rule::MediaContinuity,
        Rule::MediaKeyframe,
        Rule::PartsMedia,
        Rule::PartsBytes,
        Rule::PartIndependent,
        Rule::PartIndependentFalse,
        Rule::Bandwidth,
        Rule::BandwidthAverage,
        Rule::Unavailable,
        Rule::Redirect,
        Rule::Mime,
        Rule::Gzip,
        Rule::Vary,
        Rule::CacheControl,
        Rule::CachePlaylist,
        Rule::CacheMedia,
        Rule::CacheError,
        Rule::Cookie,
        Rule::Http2,
        Rule::BlockingEarly,
        Rule::BlockingLost,
        Rule::BlockingOld,
        Rule::BlockingRollover,
        Rule::BlockingFuture,
        Rule::BlockingPartAlone,
        Rule::HintUnanswered,
        Rule::HintWrong,
        Rule::HintDripped,
        Rule::UnknownFound,
    ];
    let mut text = String::new();
    for rule in rules {
        let (found, report) = found(Some(rule));
        assert!(found.contains(&rule), "{rule:?}: {}", report.text());
        let place = report.broken().into_iter().find(|(broken, _)| *broken == rule).unwrap().1.first.clone();
        let others: Vec<&str> = found.iter().filter(|other| **other != rule).map(|other| other.id()).collect();
        writeln!(text, "{}: {}\n  at {}:{:?}, with {others:?}", rule.id(), place.seen, place.url, place.line).unwrap();
    }
    golden("origin.txt", &text);
}

/// The source stalls: that is late, but the origin does not pretend that something is coming.
#[test]
fn an_origin_that_takes_its_offer_back_breaks_nothing_else() {
    let (rules, report) = judge(Origin { broken: Some(Rule::SegmentLate), ended: false, withdraws: true });
    let late = [Rule::SegmentLate, Rule::PartLate, Rule::BlockingAbsent, Rule::HintAbsent];
    assert_eq!(rules, late, "{}", report.text());
}

#[test]
fn what_has_ended_is_read_once() {
    let report =
        run(Origin { broken: None, ended: true, withdraws: false }, "http://h/live/720p/index.m3u8", 60_000).unwrap();
    assert_eq!(report.checked.versions, 1);
    assert_eq!(report.checked.segments, 2);
    assert_eq!(report.count(Level::Error), 0, "{}", report.text());
    assert!(report.checked.seconds < 2, "nothing is left to do");
}

#[test]
fn where_nothing_can_be_read_nothing_is_judged() {
    let (audit, job) = Audit::new(Url::parse("http://h/").unwrap());
    let fail = |outcome: Outcome| {
        let (mut audit, job) = Audit::new(audit.url.clone());
        assert!(audit.done(job, outcome).is_empty());
        audit.finish(Duration::ZERO).unwrap_err()
    };
    assert_eq!(fail(Err(Failure::Timeout)), "no answer in time");
    let answer = |status, body: &'static str| {
        let mut fetched = perform(
            Origin { broken: None, ended: false, withdraws: false },
            &Job { url: Url::parse("http://h/live/index.m3u8").unwrap(), ..job.clone() },
            Duration::ZERO,
        )
        .unwrap();
        fetched.status = StatusCode::from_u16(status).unwrap();
        fetched.body = Bytes::from_static(body.as_bytes());
        Ok(fetched)
    };
    assert_eq!(fail(answer(404, "")), "the answer was 404 Not Found");
    assert_eq!(fail(answer(200, "<html>")), "what is there is no playlist");
}

proptest! {
    /// Whatever comes, in whatever order, the audit goes on, and asks for a bounded number of things.
    #[test]
    fn nothing_that_is_answered_makes_it_panic(answers in prop::collection::vec((0..9_u8, any::<u16>(), any::<usize>()), 1..60)) {
        let origin = Origin { broken: None, ended: false, withdraws: false };
        let (mut audit, first) = Audit::new(Url::parse("https://h/live/index.m3u8").unwrap());
        let mut jobs = vec![first];
        for (number, (kind, noise, pick)) in answers.into_iter().enumerate() {
            if jobs.is_empty() {
                break;
            }
            let job = jobs.remove(if number == 0 { 0 } else { pick % jobs.len() });
            let now = Duration::from_millis(200 * u64::try_from(number).unwrap());
            let mut outcome = perform(origin, &job, now);
            if let (Ok(fetched), true) = (&mut outcome, number > 0) {
                let mut body = fetched.body.to_vec();
                match kind {
                    0 => fetched.status = StatusCode::from_u16(100 + noise % 500).unwrap(),
                    1 => body.truncate(usize::from(noise) % (body.len() + 1)),
                    2 | 3 if !body.is_empty() => {
                        let at = usize::from(noise) % body.len();
                        body[at] ^= kind + 1;
                    }
                    4 => body.clear(),
                    _ => {}
                }
                fetched.body = body.into();
            }
            jobs.extend(audit.done(job, if kind == 5 { Err(Failure::Timeout) } else { outcome }));
            prop_assert!(jobs.len() < 100);
        }
        let _ = audit.finish(Duration::from_secs(12));
    }
}
