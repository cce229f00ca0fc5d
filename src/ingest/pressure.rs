//! Tells when a channel takes media more slowly than its publisher sends it. Pure: the driver says how long it waited.

use std::time::Duration;

/// How much of the time a publisher's socket went unread because the channel's queue was full.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    over: Duration,
    waited: Duration,
}

/// How long is looked at before anything is said: what a pipeline takes to start is over by then.
const PERIOD: Duration = Duration::from_secs(20);

/// A publisher that waits for more than this many hundredths of the time is held up.
const WAITED_PERCENT_MAX: u128 = 50;

impl Pressure {
    /// Notes that `waited` of the last `elapsed` went by waiting. True once a period in which most of it did.
    pub(super) fn note(&mut self, elapsed: Duration, waited: Duration) -> bool {
        self.over = self.over.saturating_add(elapsed);
        self.waited = self.waited.saturating_add(waited);
        if self.over < PERIOD {
            return false;
        }
        let Self { over, waited } = std::mem::take(self);
        waited.as_nanos().saturating_mul(100) > over.as_nanos().saturating_mul(WAITED_PERCENT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn periods_told(waited: Duration) -> usize {
        let mut pressure = Pressure::default();
        (0..120 * 30).filter(|_| pressure.note(Duration::from_millis(1000 / 30), waited)).count()
    }

    #[test]
    fn a_channel_that_keeps_up_is_not_complained_of() {
        assert_eq!(periods_told(Duration::ZERO), 0);
        assert_eq!(periods_told(Duration::from_millis(10)), 0);
    }

    #[test]
    fn one_that_holds_its_publisher_up_is_told_once_a_period() {
        assert_eq!(periods_told(Duration::from_millis(30)), 5);
    }
}
