//! How long to wait before the next try.

use std::time::Duration;

/// The wait after `failures` in a row, the first counted as 1: doubling from 250 ms to 10 s, and of that at random
/// (`random` is any number) between a half and the whole, so that channels that fail together do not return together.
pub(super) fn delay(failures: u32, random: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_to_a_bound(failures in 1u32.., random: u32) {
            let now = delay(failures, random);
            prop_assert!(now >= FIRST / 2 && now <= LONGEST);
            prop_assert!(delay(failures.saturating_add(2), random) >= now);
        }
    }
}
