//! A rate with a burst, kept as one point in time (the generic cell rate algorithm of ATM). Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and then one each `interval`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// How many may come at once.
    pub(super) burst: u32,
    /// After which time there may be one more.
    pub(super) interval: Duration,
}

/// What is left of a [`Rate`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// When all of the burst will be there again.
    full: Option<Instant>,
}

impl Bucket {
    /// Takes one; false where there is none.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let next = self.full.map_or(now, |full| full.max(now)) + rate.interval;
        if next.saturating_duration_since(now) > rate.interval.saturating_mul(rate.burst) {
            return false;
        }
        self.full = Some(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate { burst: 5, interval: Duration::from_millis(100) };
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert_eq!((0..100).filter(|_| bucket.take(rate, start)).count(), 5);
        let over_a_second = (0..1_000).filter(|i| bucket.take(rate, start + Duration::from_millis(*i))).count();
        assert_eq!(over_a_second, 9);
        assert_eq!((0..100).filter(|_| bucket.take(rate, start + Duration::from_secs(60))).count(), 5);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(steps in prop::collection::vec(0u64..300, 0..200), burst in 1u32..10) {
            let rate = Rate { burst, interval: Duration::from_millis(100) };
            let (mut bucket, mut now) = (Bucket::default(), Instant::now());
            let (mut taken, mut elapsed) = (0, 0);
            for step in steps {
                now += Duration::from_millis(step);
                elapsed += step;
                taken += u64::from(bucket.take(rate, now));
            }
            prop_assert!(taken <= u64::from(burst) + elapsed / 100);
        }
    }
}
