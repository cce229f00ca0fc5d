//! What happens often and is to be said seldom.

use std::time::Duration;

use tokio::time::Instant;

/// Counts how often something has happened since it was last said.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    untold: u64,
    told: Option<Instant>,
}

impl Seldom {
    /// It happened so many times more. How often since it was last said, where it is to be said now.
    pub(crate) fn tell(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.untold = self.untold.saturating_add(count);
        if self.untold == 0 || self.told.is_some_and(|told| now < told + TELL_EACH) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The same is not said again for so long.
pub(crate) const TELL_EACH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.tell(0, now), None);
        assert_eq!(seldom.tell(2, now), Some(2));
        assert_eq!(seldom.tell(3, now + Duration::from_secs(59)), None);
        assert_eq!(seldom.tell(4, now + TELL_EACH), Some(7));
        assert_eq!(seldom.tell(0, now + 2 * TELL_EACH), None);
    }
}
