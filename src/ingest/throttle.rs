//! How many log lines strangers may cause. Pure: the time comes from outside.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets so many lines pass in each [`WINDOW`], and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    lines_max: u32,
    window: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(LINES_MAX)
    }
}

impl Throttle {
    /// For what says the same each time.
    pub(crate) fn sparing() -> Self {
        Self::new(1)
    }

    fn new(lines_max: u32) -> Self {
        Self { lines_max, window: None, lines: 0, left_out: 0 }
    }

    /// Whether a line may be written `now`; if so, how many before it were not.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines >= self.lines_max {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A throttle of lines that several tasks write.
#[derive(Debug, Default)]
pub struct SharedThrottle(Mutex<Throttle>);

impl SharedThrottle {
    /// As [`Throttle::pass`].
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pass(now)
    }
}

/// Enough for people who mistype a key, and for a scanner to be seen.
pub(crate) const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_its_size_told_in_the_next_window() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let passed = (0..1_000).filter_map(|_| throttle.pass(start)).count();
        assert_eq!(passed, LINES_MAX as usize);
        assert_eq!(throttle.pass(start + WINDOW / 2), None);
        assert_eq!(throttle.pass(start + WINDOW), Some(1_000 - u64::from(LINES_MAX) + 1));
        assert_eq!(throttle.pass(start + WINDOW), Some(0));
    }
}
