//! What Low-Latency HLS adds to a rendition's window: its playlist with parts, and the news of each part.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::{Lazy, Msn, Playlist};
use crate::media::MediaTime;

/// A place in a rendition: a segment, or a part of it. Parts are counted from 0.
///
/// A whole segment comes after all of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment.
    pub msn: Msn,
    /// Its part; none for the whole segment.
    pub part: Option<u32>,
}

/// A rendition's Low-Latency playlist at one instant, rendered when it is first asked for.
#[derive(Clone, Debug)]
pub struct LowLatency {
    /// The whole of it.
    pub full: Lazy<Playlist>,
    /// The playlist delta update (RFC 8216bis, 6.2.5.1); none where there is nothing to skip.
    pub delta: Option<Lazy<Playlist>>,
    /// `PART-TARGET`.
    pub part_target: MediaTime,
    /// `CAN-BLOCK-RELOAD=YES`: parts are coming, so it is worth to wait for one.
    pub blocking: bool,
}

impl LowLatency {
    /// How many parts beyond the last a player may ask for (RFC 8216bis, 6.2.5.2).
    #[must_use]
    pub fn advance_part_limit(&self) -> u32 {
        let millis = u32::try_from(self.part_target.as_millis()).unwrap_or(u32::MAX).max(1);
        if millis >= 1_000 { 3 } else { 3_000_u32.div_ceil(millis) }
    }
}

/// Tells those who wait that a rendition has changed: one call wakes all of them, and who does not wait costs nothing.
#[derive(Clone, Debug, Default)]
pub struct News(Arc<Notify>);

impl News {
    /// Wakes all who wait. To be called when what they wait for can be seen.
    pub fn tell(&self) {
        self.0.notify_waiters();
    }

    /// Both are of one rendition.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The next news from here on. Take it, look at the snapshot, and only then wait: no news is missed in between.
    pub fn next(&self) -> OwnedNotified {
        Arc::clone(&self.0).notified_owned()
    }
}

/// How long a request may wait for what is coming: three target durations (RFC 8216bis, 6.2.5.2), and never so long that a
/// proxy's or this server's own limit on silence comes first.
#[must_use]
pub fn wait_max(target_duration_secs: u32) -> Duration {
    Duration::from_secs(u64::from(target_duration_secs).saturating_mul(3)).min(WAIT_MAX)
}

const WAIT_MAX: Duration = Duration::from_secs(55);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_advance_part_limit_is_that_of_the_clause() {
        let limit = |millis| {
            let text = || {
                Lazy::new(|| {
                    Playlist::new("".into(), String::new(), SystemTime::UNIX_EPOCH, Lazy::new(Default::default))
                })
            };
            let part_target = MediaTime::from_millis(millis);
            LowLatency { full: text(), delta: None, part_target, blocking: true }.advance_part_limit()
        };
        assert_eq!([200, 334, 500, 1_000, 4_000].map(limit), [15, 9, 6, 3, 3]);
    }

    #[tokio::test]
    async fn news_wake_whoever_took_them_before() {
        let news = News::default();
        let (first, second) = (news.next(), news.next());
        news.tell();
        first.await;
        second.await;
        let third = news.next();
        assert!(tokio::time::timeout(Duration::ZERO, third).await.is_err());
    }
}
