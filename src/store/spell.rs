//! A spell of failures: from the first that no success followed to the next success.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff;

/// Whether requests fail at present, since when, and when to try again.
#[derive(Debug, Default)]
pub(super) struct Spell {
    /// In a row; those that were under way together count as one.
    failures: u32,
    began: Option<Instant>,
    retry: Option<Instant>,
    told: Option<String>,
}

impl Spell {
    /// A request failed. True where the operator is to be told now: at the second failure in a row, and once a spell,
    /// because a single one is a store's everyday life.
    pub(super) fn failed(&mut self, now: Instant, random: u32, error: &str) -> bool {
        if self.must_wait(now) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.began.get_or_insert(now);
        self.retry = now.checked_add(backoff::delay(self.failures, random));
        let first = self.failures >= 2 && self.told.is_none();
        if self.failures >= 2 {
            self.told = Some(error.to_owned());
        }
        first
    }

    /// A request succeeded. Where the operator was told of the spell: how long it lasted.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        let spell = std::mem::take(self);
        spell.told.and(spell.began).map(|began| now.duration_since(began))
    }

    /// Since when requests fail, where none has succeeded since.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Requests have failed and none has succeeded since.
    pub(super) fn is_on(&self) -> bool {
        self.began.is_some()
    }

    /// The last error, once the operator was told of the spell.
    pub(super) fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// The next try is not due yet.
    pub(super) fn must_wait(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| now < retry)
    }

    /// When the next try is due, where one is.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_once_a_spell() {
        let mut spell = Spell::default();
        let mut now = Instant::now();
        let begin = now;
        assert!(!spell.failed(now, 0, "first"));
        assert!(!spell.failed(now, 0, "one that was under way with it"));
        assert_eq!(spell.told(), None);
        for (round, told) in [true, false, false].into_iter().enumerate() {
            now += Duration::from_secs(10);
            assert_eq!(spell.failed(now, 0, "again"), told, "{round}");
            assert_eq!(spell.told(), Some("again"));
        }
        assert_eq!(spell.succeeded(now), Some(now - begin));
        assert!(!spell.is_on() && spell.told().is_none() && !spell.must_wait(now));
    }

    #[test]
    fn a_single_failure_passes_silently() {
        let mut spell = Spell::default();
        let now = Instant::now();
        assert!(!spell.failed(now, 0, "once"));
        assert!(spell.is_on() && spell.must_wait(now));
        assert_eq!(spell.succeeded(now), None);
    }
}
