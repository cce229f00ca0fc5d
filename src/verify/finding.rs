//! What a rule found: which one is broken, in which line, and what was seen there.

use super::rule::Rule;

/// A rule that is broken at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// The line of the playlist, counted from 1; none where it is about no line.
    pub line: Option<u32>,
    /// What was seen, and what was expected of it. Nothing in it can harm a terminal.
    pub seen: String,
}

/// What was found so far. It takes a bounded number and leaves out the rest: whoever breaks that many rules at once
/// has something else to mend first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    const MAX: usize = 1_000;
    const SEEN_CHARS_MAX: usize = 300;

    /// Adds one.
    pub fn add(&mut self, rule: Rule, line: impl Into<Option<u32>>, seen: impl AsRef<str>) {
        if self.0.len() < Self::MAX {
            let printable = |c: char| if c.is_control() { '?' } else { c };
            let seen = seen.as_ref().chars().take(Self::SEEN_CHARS_MAX).map(printable).collect();
            self.0.push(Finding { rule, line: line.into(), seen });
        }
    }

    /// All of them, in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.0
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_wrote_is_made_harmless_and_is_bounded() {
        let mut findings = Findings::default();
        for _ in 0..2 * Findings::MAX {
            findings.add(Rule::TagSyntax, 7, format!("\u{1b}[2J{}", "x".repeat(10_000)));
        }
        assert_eq!(findings.as_slice().len(), Findings::MAX);
        let seen = &findings.as_slice()[0].seen;
        assert!(seen.starts_with("?[2Jx") && seen.len() == Findings::SEEN_CHARS_MAX, "{seen}");
    }
}
