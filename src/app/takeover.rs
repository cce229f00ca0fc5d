//! Who of two publishers gets the channel: the one that has it, or the one that asks for it.
//!
//! An encoder that lost its link comes back while its old connection still looks alive, and must not be refused for
//! that. So whoever asks gets a channel whose publisher has been silent for a while, and waits for that silence where
//! it is not complete yet. Two encoders that take the channel from each other are held off after a few rounds.
//! Pure: the time is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The takeovers of one channel.
#[derive(Debug)]
pub(super) struct Takeovers {
    /// Without media for so long, a publisher may be replaced.
    silence: Duration,
    /// When the latest ones happened; at most [`MAX`].
    latest: VecDeque<Instant>,
}

/// What is known of the publisher that has the channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incumbent {
    /// When its last audio or video came, or when it was admitted.
    pub(super) last_media: Instant,
    /// It is this side that does not read from it, because the channel is behind: its silence means nothing.
    pub(super) held_up: bool,
}

/// What becomes of a request for a channel that has a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is too early to say: ask again at this time, or when media comes.
    Wait(Instant),
    /// The publisher is gone, whatever its connection says.
    TakeOver,
    /// The publisher is alive.
    Busy,
    /// The channel has changed hands too often of late.
    Held,
}

impl Takeovers {
    /// None so far; a publisher may be replaced after `silence`.
    pub(super) fn new(silence: Duration) -> Self {
        Self { silence, latest: VecDeque::new() }
    }

    /// Judges a request that was made at `asked`.
    pub(super) fn judge(&self, incumbent: Incumbent, asked: Instant, now: Instant) -> Verdict {
        let silent_at = incumbent.last_media + self.silence;
        if incumbent.held_up || incumbent.last_media > asked {
            Verdict::Busy
        } else if self.is_fought_over(now) {
            Verdict::Held
        } else if now < silent_at {
            Verdict::Wait(silent_at)
        } else {
            Verdict::TakeOver
        }
    }

    /// The channel changed hands at `now`.
    pub(super) fn note(&mut self, now: Instant) {
        if self.latest.len() >= MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
    }

    fn is_fought_over(&self, now: Instant) -> bool {
        let recent = self.latest.iter().filter(|at| now.saturating_duration_since(**at) < WITHIN);
        recent.count() >= MAX
    }
}

/// So many takeovers...
const MAX: usize = 3;
/// ...in so short a time are two encoders that do not know of each other.
const WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(2);
    const MOMENT: Duration = Duration::from_millis(1);

    fn start() -> (Takeovers, Instant) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = std::time::Instant::now();
        (Takeovers::new(SILENCE), now.into())
    }

    fn heard_at(last_media: Instant) -> Incumbent {
        Incumbent { last_media, held_up: false }
    }

    #[test]
    fn row_38_a_silent_publisher_is_replaced_and_no_other() {
        let (takeovers, heard) = start();
        let judge = |asked, now| takeovers.judge(heard_at(heard), asked, now);
        let asked = heard + Duration::from_millis(1500);
        assert_eq!(
            judge(asked, asked),
            Verdict::Wait(heard + SILENCE),
            "1.5 s is not silent yet, and not alive either"
        );
        assert_eq!(judge(asked, heard + SILENCE - MOMENT), Verdict::Wait(heard + SILENCE));
        assert_eq!(judge(asked, heard + SILENCE), Verdict::TakeOver);
        let late = heard + 5 * SILENCE;
        assert_eq!(judge(late, late), Verdict::TakeOver, "without waiting");
        assert_eq!(judge(heard - MOMENT, heard), Verdict::Busy, "it was heard after the request");
    }

    #[test]
    fn a_publisher_that_is_held_up_is_not_silent() {
        let (takeovers, heard) = start();
        let asked = heard + 5 * SILENCE;
        let held_up = Incumbent { last_media: heard, held_up: true };
        assert_eq!(takeovers.judge(held_up, asked, asked), Verdict::Busy);
    }

    #[test]
    fn lesson_10_encoders_that_fight_are_held_off() {
        let (mut takeovers, begin) = start();
        let mut now = begin;
        for _ in 0..MAX {
            assert_eq!(takeovers.judge(heard_at(now), now + SILENCE, now + SILENCE), Verdict::TakeOver);
            now += SILENCE;
            takeovers.note(now);
        }
        let asked = now + SILENCE;
        assert_eq!(takeovers.judge(heard_at(now), asked, asked), Verdict::Held);
        let first = begin + SILENCE;
        let before = first + WITHIN - MOMENT;
        assert_eq!(takeovers.judge(heard_at(now), before, before), Verdict::Held);
        let over = first + WITHIN;
        assert_eq!(takeovers.judge(heard_at(now), over, over), Verdict::TakeOver, "the first is long ago");
        for _ in 0..100 {
            takeovers.note(over);
        }
        assert_eq!(takeovers.latest.len(), MAX, "and nothing piles up");
    }
}
