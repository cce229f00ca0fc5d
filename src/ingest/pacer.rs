//! How fast a publisher may send: so far ahead of the clock, and so many messages. Pure.
//!
//! Who sends faster is not read for a while, which TCP tells to the encoder. So ffmpeg without `-re` runs in real time
//! though no encoder of ours holds it up, and a flood of tiny messages costs what its share is.

use std::time::Duration;

use tokio::time::Instant;

use crate::media::MediaTime;

/// One publisher's.
#[derive(Debug)]
pub(super) struct Pacer {
    ahead_max: Duration,
    /// When the media began, by the clock. Moves on where the source falls far behind.
    began: Option<Instant>,
    /// The last time stamp.
    last: MediaTime,
    /// How much media came.
    media: Duration,
    /// When the messages that came so far would have come at the rate that is allowed.
    messages: Option<Instant>,
}

impl Pacer {
    /// Lets media run ahead of the clock by `ahead_max`.
    pub(super) fn new(ahead_max: Duration) -> Self {
        Self { ahead_max, began: None, last: MediaTime::ZERO, media: Duration::ZERO, messages: None }
    }

    /// Media has come up to `newest`; until when nothing more should, where it is too soon.
    pub(super) fn media(&mut self, newest: MediaTime, now: Instant) -> Option<Instant> {
        let Some(began) = self.began else {
            (self.began, self.last) = (Some(now), newest);
            return None;
        };
        self.media = self.media.saturating_add((newest - self.last).to_duration().min(STEP_MAX));
        self.last = self.last.max(newest);
        let elapsed = now.saturating_duration_since(began);
        if let Some(too_far) = elapsed.checked_sub(self.media.saturating_add(BEHIND_MAX)) {
            self.began = Some(began + too_far);
            return None;
        }
        let allowed = elapsed.saturating_add(elapsed / DRIFT).saturating_add(self.ahead_max);
        self.media.checked_sub(allowed).filter(|ahead| !ahead.is_zero()).map(|ahead| now + ahead)
    }

    /// So many messages were read; until when no more should be, where they were too many.
    pub(super) fn messages(&mut self, count: u64, now: Instant) -> Option<Instant> {
        let time = MESSAGE_TIME.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let due = self.messages.map_or(now, |due| due.max(now)) + time;
        self.messages = Some(due);
        let wait = due.saturating_duration_since(now).checked_sub(MESSAGES_BURST)?;
        (!wait.is_zero()).then(|| now + wait)
    }
}

/// A step in time stamps counts for no more: gaps in the media are not media.
const STEP_MAX: Duration = Duration::from_secs(1);
/// A source that was slow for longer may catch up by this much: a phone that was without a network for a while.
const BEHIND_MAX: Duration = Duration::from_secs(60);
/// One part in so many is allowed for an encoder whose clock is fast; crystals differ by a tenth of it. Without it a stream of days
/// would be held up at last.
const DRIFT: u32 = 1_000;
/// 5000 messages a second: ten renditions of 60 fps with sound are 700.
const MESSAGE_TIME: Duration = Duration::from_micros(200);
/// 50 000 messages at once: what such a source sends after a minute without a network.
const MESSAGES_BURST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Duration = Duration::from_secs(20);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn at(millis: u64) -> MediaTime {
        MediaTime::from(Duration::from_millis(millis))
    }

    /// Sends pictures of `from..to` milliseconds, waiting as told; returns when it was done.
    fn send(pacer: &mut Pacer, range: std::ops::Range<u64>, mut now: Instant) -> Instant {
        for time in range.step_by(40) {
            now = pacer.media(at(time), now).unwrap_or(now);
        }
        now
    }

    #[test]
    fn row_34_a_source_without_pacing_runs_ahead_and_then_in_real_time() {
        let (mut pacer, start) = (Pacer::new(AHEAD), Instant::now());
        assert_eq!(send(&mut pacer, 0..20_000, start), start, "the first is taken at once");
        let done = send(&mut pacer, 20_000..140_000, start);
        let took = done.duration_since(start);
        assert!((Duration::from_secs(119)..Duration::from_secs(121)).contains(&took), "{took:?}");
    }

    #[test]
    fn row_35_what_was_kept_while_there_was_no_network_is_taken_at_once() {
        let (mut pacer, start) = (Pacer::new(AHEAD), Instant::now());
        let mut now = start;
        for time in (0..60_000).step_by(40) {
            assert_eq!(pacer.media(at(time), now), None);
            now += millis(40);
        }
        now += Duration::from_secs(30);
        assert_eq!(send(&mut pacer, 60_000..90_000, now), now);
        // And as the first of a new connection.
        assert_eq!(send(&mut Pacer::new(AHEAD), 500_000..520_000, now), now);
    }

    #[test]
    fn a_source_in_real_time_is_never_held_up_for_days_whatever_its_clock() {
        for step in [999_900, 1_000_000, 1_000_100, 1_000_500] {
            let (mut pacer, mut now) = (Pacer::new(AHEAD), Instant::now());
            for second in 0..20 * 86_400u64 {
                let time = MediaTime::from(Duration::from_micros(second * step));
                assert_eq!(pacer.media(time, now), None, "{step} us a second, after {second} s");
                now += Duration::from_secs(1);
            }
        }
    }

    #[test]
    fn a_source_that_was_slow_for_long_has_no_more_than_a_minute_to_catch_up() {
        let (mut pacer, start) = (Pacer::new(AHEAD), Instant::now());
        pacer.media(at(0), start);
        let late = start + Duration::from_secs(3_600);
        let took = send(&mut pacer, 0..120_000, late).duration_since(late);
        assert!((Duration::from_secs(38)..Duration::from_secs(42)).contains(&took), "{took:?}");
    }

    #[test]
    fn row_12_a_gap_in_time_stamps_is_no_media() {
        let (mut pacer, mut now) = (Pacer::new(AHEAD), Instant::now());
        for n in 0..100 {
            // Each second of media jumps ten, once there and once back.
            assert_eq!(pacer.media(at(n * 1_000 + (n % 2) * 10_000), now), None);
            now += Duration::from_secs(1);
        }
        assert_eq!(pacer.media(MediaTime::from_millis(i64::MAX), now), None);
        assert_eq!(pacer.media(MediaTime::from_millis(i64::MIN), now), None);
    }

    #[test]
    fn messages_come_in_a_burst_and_then_at_their_rate() {
        let (mut pacer, start) = (Pacer::new(AHEAD), Instant::now());
        assert_eq!(pacer.messages(50_000, start), None);
        assert_eq!(pacer.messages(5_000, start), Some(start + Duration::from_secs(1)));
        assert_eq!(pacer.messages(u64::MAX, start).is_some(), true);
        let (mut pacer, mut now) = (Pacer::new(AHEAD), start);
        for _ in 0..100_000 {
            assert_eq!(pacer.messages(7, now), None, "700 a second never wait");
            now += millis(10);
        }
    }
}
