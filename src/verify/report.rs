//! What an audit came to: each broken rule once, with where it was seen first and how often; as text and as JSON.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use serde::Serialize;
use url::Url;

use super::finding::Findings;
use super::rule::{Level, Rule};

/// The findings of an audit.
#[derive(Clone, Debug, Default)]
pub struct Report {
    broken: BTreeMap<Rule, Broken>,
    /// What was told already: versions of a playlist repeat what is wrong with them. When it is full, repetitions count.
    told: HashSet<(Rule, String, String)>,
    /// What was looked at.
    pub checked: Checked,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// At how many places.
    pub count: u64,
    /// The first of them.
    pub first: Place,
}

/// Where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The resource, without its query, which may hold a token.
    pub url: String,
    /// The line of the playlist.
    pub line: Option<u32>,
    /// What was seen there.
    pub seen: String,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// How long.
    pub seconds: u64,
    /// Media playlists.
    pub playlists: u64,
    /// Versions of them.
    pub versions: u64,
    /// Of those, answers to blocking requests.
    pub blocking: u64,
    /// Delta updates.
    pub deltas: u64,
    /// Complete segments.
    pub segments: u64,
    /// Parts.
    pub parts: u64,
    /// Hinted parts.
    pub hints: u64,
    /// Bytes of media.
    pub media_bytes: u64,
}

/// Repetitions are told apart for this many places.
const TOLD_MAX: usize = 20_000;

impl Report {
    /// Adds what was found in the resource at `url`.
    pub fn add(&mut self, url: &Url, findings: Findings) {
        let url = without_query(url);
        for finding in findings {
            let place = (finding.rule, url.clone(), finding.seen.clone());
            if self.told.contains(&place) {
                continue;
            }
            if self.told.len() < TOLD_MAX {
                self.told.insert(place);
            }
            let first = || Place { url: url.clone(), line: finding.line, seen: finding.seen.clone() };
            self.broken.entry(finding.rule).or_insert_with(|| Broken { count: 0, first: first() }).count += 1;
        }
    }

    /// The broken rules, those that matter most first.
    #[must_use]
    pub fn broken(&self) -> Vec<(Rule, &Broken)> {
        let mut broken: Vec<_> = self.broken.iter().map(|(rule, broken)| (*rule, broken)).collect();
        broken.sort_by_key(|(rule, _)| (std::cmp::Reverse(rule.level()), *rule));
        broken
    }

    /// How many rules of this level are broken.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.broken.keys().filter(|rule| rule.level() == level).count()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (rule, broken) in self.broken() {
            // Writing into memory cannot fail.
            let _ = self.one(&mut text, rule, broken);
        }
        let Checked { seconds, playlists, versions, blocking, deltas, segments, parts, hints, media_bytes } =
            self.checked;
        let _ = writeln!(
            text,
            "checked for {seconds} s: {playlists} media playlists in {versions} versions ({blocking} blocking, {deltas} delta \
             updates), {segments} segments, {parts} parts, {hints} hints, {media_bytes} bytes of media"
        );
        let [errors, warnings, notes] = [Level::Error, Level::Warning, Level::Note].map(|level| self.count(level));
        let _ = match self.broken.len() {
            0 => writeln!(text, "clean: no rule is broken"),
            _ => writeln!(text, "broken: {errors} rules that must hold, {warnings} that should; {notes} notes"),
        };
        text
    }

    fn one(&self, text: &mut String, rule: Rule, broken: &Broken) -> std::fmt::Result {
        let Place { url, line, seen } = &broken.first;
        writeln!(text, "{:7} {} ({}): {}", rule.level(), rule.id(), rule.clause(), rule.says())?;
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        writeln!(text, "        {seen}\n        at {url}{line}")?;
        match broken.count {
            1 => writeln!(text),
            count => writeln!(text, "        and {} more\n", count - 1),
        }
    }

    /// For machines: one document.
    #[must_use]
    pub fn json(&self, url: &Url) -> String {
        let url = without_query(url);
        let broken = self.broken().into_iter().map(|(rule, broken)| Row {
            rule,
            level: rule.level(),
            clause: rule.clause(),
            says: rule.says(),
            count: broken.count,
            first: &broken.first,
        });
        let document = Document {
            url: &url,
            errors: self.count(Level::Error),
            warnings: self.count(Level::Warning),
            notes: self.count(Level::Note),
            checked: self.checked,
            broken: broken.collect(),
        };
        let text = serde_json::to_string_pretty(&document);
        assert!(text.is_ok(), "there is nothing in it that JSON cannot say");
        text.unwrap_or_default() + "\n"
    }
}

#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    errors: usize,
    warnings: usize,
    notes: usize,
    checked: Checked,
    broken: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    rule: Rule,
    level: Level,
    clause: &'static str,
    says: &'static str,
    count: u64,
    first: &'a Place,
}

/// `url` as it may be shown.
#[must_use]
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // Only a URL that cannot have them refuses to lose them.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let url = Url::parse("http://user:pass@h/a/index.m3u8?token=secret").unwrap();
        let mut report = Report::default();
        for seen in ["`1.m4s` of 5s", "`1.m4s` of 5s", "`2.m4s` of 6s"] {
            let mut findings = Findings::default();
            findings.add(Rule::IFramesAbsent, None, "none");
            findings.add(Rule::SegmentDuration, 7, seen);
            report.add(&url, findings);
        }
        report
    }

    #[test]
    fn what_is_seen_again_is_told_once_and_what_matters_stands_first() {
        let report = report();
        let broken = report.broken();
        let rows: Vec<_> = broken.iter().map(|(rule, broken)| (rule.id(), broken.count)).collect();
        assert_eq!(rows, [("segment-duration", 2), ("i-frames-absent", 1)]);
        assert_eq!([Level::Error, Level::Warning, Level::Note].map(|level| report.count(level)), [1, 1, 0]);
        let text = report.text();
        assert!(text.contains("error   segment-duration (4.4.3.1)") && text.contains("and 1 more"), "{text}");
        assert!(text.contains("at http://h/a/index.m3u8:7\n"), "{text}");
        assert!(text.contains("broken: 1 rules that must hold, 1 that should; 0 notes"), "{text}");
    }

    #[test]
    fn machines_read_the_same_and_nobody_reads_a_token() {
        let report = report();
        let json: serde_json::Value =
            serde_json::from_str(&report.json(&Url::parse("http://h/a/index.m3u8?token=secret").unwrap())).unwrap();
        assert_eq!(json["errors"], 1);
        assert_eq!(json["broken"][0]["rule"], "segment-duration");
        assert_eq!(json["broken"][0]["level"], "error");
        assert_eq!(json["broken"][0]["first"]["line"], 7);
        let shown = format!("{}{}", report.text(), json);
        assert!(!shown.contains("secret") && !shown.contains("pass"), "{shown}");
        assert!(Report::default().text().contains("clean"));
    }
}
