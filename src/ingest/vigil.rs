//! When a publisher counts as lost, and when it is asked whether it is still there. Pure.
//!
//! What keeps it is media: pings, empty messages and the like do not. The time during which its socket was not read on purpose is
//! not its own, and moves every deadline.

use std::time::Duration;

use tokio::time::Instant;

use super::close::Stage;

/// What is to be done when nothing comes until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask by a ping: if the encoder's machine is gone, its network may say so.
    Ping,
    /// Give the publisher up.
    Lost(Stage),
}

/// The deadlines of one publisher.
#[derive(Debug)]
pub(super) struct Vigil {
    idle_timeout: Duration,
    /// Until when the first picture must come; none once it has.
    first_media: Option<Instant>,
    /// When media last came.
    media: Instant,
    /// Bytes since then.
    bytes: u64,
    /// When anything last came, or was asked for.
    heard: Instant,
}

impl Vigil {
    /// From the start of publishing.
    pub(super) fn new(first_media_timeout: Duration, idle_timeout: Duration, now: Instant) -> Self {
        Self { idle_timeout, first_media: Some(now + first_media_timeout), media: now, bytes: 0, heard: now }
    }

    /// The first picture has come.
    pub(super) fn begun(&mut self) {
        self.first_media = None;
    }

    /// A whole message with media has come.
    pub(super) fn media(&mut self, now: Instant) {
        self.media = now;
        self.bytes = 0;
    }

    /// Bytes have come. True where they are so many since the last media that they can only be of a large picture on a slow
    /// line, and count as media.
    pub(super) fn received(&mut self, bytes: u64, now: Instant) -> bool {
        self.heard = now;
        self.bytes = self.bytes.saturating_add(bytes);
        let is_media = self.bytes >= PICTURE_BYTES;
        if is_media {
            self.media(now);
        }
        is_media
    }

    /// A ping was sent.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.heard = now;
    }

    /// For so long the publisher could not have been heard.
    pub(super) fn held_up(&mut self, time: Duration) {
        self.first_media = self.first_media.map(|deadline| deadline + time);
        self.media += time;
        self.heard += time;
    }

    /// What is due next, and when.
    pub(super) fn next(&self) -> (Instant, Due) {
        let idle = (self.media + self.idle_timeout, Due::Lost(Stage::Idle));
        let lost = match self.first_media {
            Some(deadline) if deadline < idle.0 => (deadline, Due::Lost(Stage::FirstMedia)),
            _ => idle,
        };
        let ping = self.heard + PING_SILENCE;
        if ping < lost.0 { (ping, Due::Ping) } else { lost }
    }
}

/// Silence after which a publisher is asked, and asked again.
const PING_SILENCE: Duration = Duration::from_secs(3);
/// More than pings and empty messages come to; a large picture on a line of 50 kbit/s.
const PICTURE_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn row_3_only_media_keeps_a_publisher() {
        let start = Instant::now();
        let mut vigil = Vigil::new(seconds(20), seconds(10), start);
        vigil.begun();
        for second in 1..10 {
            vigil.received(100, start + seconds(second));
        }
        assert_eq!(vigil.next(), (start + seconds(10), Due::Lost(Stage::Idle)));
        vigil.media(start + seconds(9));
        assert_eq!(vigil.next(), (start + seconds(12), Due::Ping));
        vigil.pinged(start + seconds(18));
        assert_eq!(vigil.next(), (start + seconds(19), Due::Lost(Stage::Idle)));
    }

    #[test]
    fn a_large_picture_on_a_slow_line_keeps_it() {
        let start = Instant::now();
        let mut vigil = Vigil::new(seconds(20), seconds(10), start);
        vigil.begun();
        for second in 1..60 {
            vigil.received(8 << 10, start + seconds(second));
            assert!(vigil.next().0 > start + seconds(second), "{second}");
        }
    }

    #[test]
    fn the_first_picture_must_come_and_waiting_for_the_channel_does_not_count() {
        let start = Instant::now();
        let mut vigil = Vigil::new(seconds(20), seconds(30), start);
        vigil.received(1, start + seconds(19));
        assert_eq!(vigil.next(), (start + seconds(20), Due::Lost(Stage::FirstMedia)));
        vigil.held_up(seconds(100));
        vigil.pinged(start + seconds(119));
        assert_eq!(vigil.next(), (start + seconds(120), Due::Lost(Stage::FirstMedia)));
        vigil.begun();
        assert_eq!(vigil.next(), (start + seconds(122), Due::Ping));
    }
}
