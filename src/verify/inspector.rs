//! For a running server: its own playlists, held against the same rules as they are published.

use std::collections::{BTreeMap, HashSet};

use url::Url;

use super::finding::{Finding, Findings};
use super::playlist::{self, MediaPlaylist, Playlist};
use super::reference::resolve;
use super::rule::{Level, Rule};
use super::rules::{self, Order};

/// Watches the playlists of one channel.
#[derive(Debug, Default)]
pub struct Inspector {
    /// Those that were seen last, by their paths.
    before: BTreeMap<String, MediaPlaylist>,
    /// What was told already. When it is full it is emptied, and things are told again.
    told: HashSet<(Rule, String, String)>,
}

/// A rule that is broken in a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The playlist, by its path.
    pub path: String,
    /// What is wrong with it.
    pub finding: Finding,
}

const TOLD_MAX: usize = 1_000;

/// Longer playlists, of windows of an hour and more, are not looked at: this is to cost next to nothing (a look at five
/// playlists of a minute takes half a millisecond, of an hour 20).
const TEXT_BYTES_MAX: usize = 128 * 1024;

impl Inspector {
    /// Looks at all media playlists of one instant, by their paths as the multivariant playlist names them, and tells what
    /// must hold and does not (levels below [`Level::Error`] are for people who ask). Each thing is told once.
    pub fn see(&mut self, playlists: &[(String, &[u8])]) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut now = BTreeMap::new();
        for (path, text) in playlists.iter().filter(|(_, text)| text.len() <= TEXT_BYTES_MAX) {
            let mut findings = Findings::default();
            match playlist::parse(text, &mut findings) {
                Some(Playlist::Media(playlist)) => {
                    rules::media_playlist(&playlist, &mut findings);
                    if let Some(before) = self.before.get(path).filter(|before| continues(before, &playlist)) {
                        rules::evolution(before, &playlist, &mut findings);
                    }
                    now.insert(path.clone(), *playlist);
                }
                _ => findings.add(Rule::PlaylistKind, None, "it is no media playlist"),
            }
            self.tell(path, findings, &mut violations);
        }
        for path in now.keys() {
            let mut findings = Findings::default();
            compare(path, &now, &mut findings);
            self.tell(path, findings, &mut violations);
        }
        self.before = now;
        violations
    }

    fn tell(&mut self, path: &str, findings: Findings, violations: &mut Vec<Violation>) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        for finding in findings.into_iter().filter(|finding| finding.rule.level() == Level::Error) {
            if self.told.insert((finding.rule, path.to_owned(), finding.seen.clone())) {
                violations.push(Violation { path: path.to_owned(), finding });
            }
        }
    }
}

/// It is the same programme, of which nothing was missed: a new one has none of the old one's segments.
fn continues(before: &MediaPlaylist, after: &MediaPlaylist) -> bool {
    let taken_up = before.ended && !after.ended;
    !taken_up && before.last_msn() >= Some(after.media_sequence)
}

/// One playlist against the others.
fn compare(path: &str, all: &BTreeMap<String, MediaPlaylist>, findings: &mut Findings) {
    let Some(own) = all.get(path) else { return };
    if let Some((_, first)) = all.iter().find(|(other, _)| *other != path) {
        rules::renditions(first, own, findings);
    }
    // Paths are compared as URLs, of a host that does not matter.
    let url = |path: &str| Url::parse("http://channel/").ok().and_then(|base| resolve(&base, path));
    let Some(base) = url(path) else { return };
    for (other, about) in all.iter().filter(|(other, _)| *other != path) {
        let about_url = url(other);
        match own.reports.iter().find(|report| resolve(&base, &report.uri) == about_url) {
            // It is as up to date as the playlist that it stands in, which others may have outrun since.
            Some(report) => rules::report(report, own, about, Order::After, findings),
            None if own.is_low_latency() && !own.ended && !about.i_frames_only => {
                findings.add(Rule::ReportsMissing, None, format!("none about {other}"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, GOOD, change};
    use super::*;

    fn see(inspector: &mut Inspector, video: &str, audio: &str) -> Vec<Rule> {
        let audio = audio.replace("../audio/", "../720p/");
        let playlists =
            [("720p/index.m3u8".to_owned(), video.as_bytes()), ("audio/index.m3u8".to_owned(), audio.as_bytes())];
        inspector.see(&playlists).into_iter().map(|violation| violation.finding.rule).collect()
    }

    #[test]
    fn good_playlists_are_nobodys_business() {
        let mut inspector = Inspector::default();
        assert_eq!(see(&mut inspector, GOOD, GOOD), []);
        assert_eq!(see(&mut inspector, &testing::next(), &testing::next()), []);
    }

    #[test]
    fn a_violation_is_told_once() {
        let mut inspector = Inspector::default();
        see(&mut inspector, GOOD, GOOD);
        let wrong = change(&testing::next(), &[("1/12.m4s", "1/x.m4s"), ("TARGETDURATION:2", "TARGETDURATION:1")]);
        let first = see(&mut inspector, &wrong, &testing::next());
        for rule in
            [Rule::SegmentChanged, Rule::TargetDurationChanged, Rule::SegmentDuration, Rule::RenditionsTargetDuration]
        {
            assert!(first.contains(&rule), "{rule:?}: {first:?}");
        }
        assert_eq!(see(&mut inspector, &wrong, &testing::next()), []);
    }

    #[test]
    fn reports_of_one_instant_are_held_to() {
        let mut inspector = Inspector::default();
        let silent =
            change(GOOD, &[("#EXT-X-RENDITION-REPORT:URI=\"../audio/index.m3u8\",LAST-MSN=16,LAST-PART=1\n", "")]);
        assert_eq!(see(&mut inspector, &silent, GOOD), [Rule::ReportsMissing]);
        let behind = change(GOOD, &[("LAST-MSN=16,LAST-PART=1", "LAST-MSN=15,LAST-PART=1")]);
        assert_eq!(see(&mut inspector, GOOD, &behind), [], "it changed last before the other did");
        let ahead = change(GOOD, &[("LAST-MSN=16,LAST-PART=1", "LAST-MSN=17,LAST-PART=1")]);
        assert_eq!(see(&mut inspector, GOOD, &ahead), [Rule::ReportStale]);
    }

    #[test]
    fn a_new_programme_begins_anew() {
        let mut inspector = Inspector::default();
        let ended = change(GOOD, &[("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/16.2.m4s\"", "#EXT-X-ENDLIST")]);
        see(&mut inspector, &ended, &ended);
        let new = change(GOOD, &[("SEQUENCE:10", "SEQUENCE:17"), ("LAST-MSN=16", "LAST-MSN=23"), ("1/", "2/")]);
        assert_eq!(see(&mut inspector, &new, &new), []);
        assert_eq!(inspector.before.len(), 2);
        assert_eq!(inspector.see(&[]), []);
        assert!(inspector.before.is_empty(), "what is gone is forgotten");
    }
}
