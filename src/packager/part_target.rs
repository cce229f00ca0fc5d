//! The choice of a programme's `PART-TARGET`.

use crate::media::MediaTime;

/// What a part must last at least, in per cent of `PART-TARGET` (RFC 8216bis, 4.4.4.9).
pub(super) const PART_PERCENT_MIN: i64 = 85;

/// What frames that are cut in whole should give at least: timestamps of RTMP are milliseconds, and jitter by one.
const PERCENT_WANTED: i64 = 88;

/// What is configured, where whole frames of each of these durations fill it well; else what they fill best, down to
/// half of it, to the millisecond.
///
/// Where one frame is longer than what is configured, a part has to be as long as that: else most of the time would be told as
/// gaps, in which nothing new is shown, and players would skip them.
///
/// Four frames of 41.7 ms are 83 % of 200 ms, and a fifth makes them too long: 24 frames a second, with sound of 48 kHz, want
/// 171 ms.
pub(super) fn part_target(configured: MediaTime, frames: &[MediaTime]) -> MediaTime {
    let slowest = frames.iter().max().filter(|frame| **frame > configured);
    if let Some(frame) = slowest {
        return MediaTime::from_millis(frame.as_millis().saturating_mul(SLOW_PERCENT) / 100);
    }
    let longest = configured.as_millis().max(1);
    let filled = |millis: i64| frames.iter().map(|frame| filled_percent(millis, *frame)).min().unwrap_or(100);
    let best = || (longest / 2 + 1..=longest).max_by_key(|millis| filled(*millis));
    let chosen = if filled(longest) >= PERCENT_WANTED { Some(longest) } else { best() };
    MediaTime::from_millis(chosen.unwrap_or(longest))
}

/// Of a frame that is longer than what is configured: timestamps are not exact.
const SLOW_PERCENT: i64 = 105;

/// How much of `millis` whole frames fill; nothing where not even one fits.
fn filled_percent(millis: i64, frame: MediaTime) -> i64 {
    let (target, frame) = (millis.saturating_mul(1_000_000), frame.as_nanos().max(1));
    // A frame a rounding error longer than a whole part of the target still fits.
    let count = target.saturating_add(frame / 1_000) / frame;
    count.saturating_mul(frame).saturating_mul(100) / target
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: MediaTime = MediaTime::from_nanos(21_333_333);

    fn chosen(configured: i64, rate: f64) -> i64 {
        let frame = MediaTime::from(std::time::Duration::from_secs_f64(1.0 / rate));
        part_target(MediaTime::from_millis(configured), &[frame, SOUND]).as_millis()
    }

    #[test]
    fn what_is_configured_is_kept_where_frames_fill_it() {
        for rate in [24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0] {
            assert_eq!(chosen(500, rate), 500, "{rate}");
            assert_eq!(chosen(1_000, rate), 1_000, "{rate}");
        }
        assert_eq!(chosen(200, 30.0), 200);
        assert_eq!(chosen(200, 60.0), 200);
    }

    #[test]
    fn of_a_slow_source_a_part_is_a_frame() {
        assert_eq!((chosen(200, 4.0), chosen(500, 1.0)), (262, 1_050));
        assert_eq!(chosen(500, 2.0), 500);
    }

    #[test]
    fn else_it_is_as_long_as_frames_fill() {
        assert_eq!(chosen(200, 24.0), 171, "four frames of 41.7 ms, eight of 21.3 ms");
        assert_eq!(chosen(500, 7.0), 430, "three frames of 142.9 ms");
    }

    #[test]
    fn without_a_good_one_the_best_is_taken() {
        let both = part_target(MediaTime::from_millis(100), &[MediaTime::from_millis(90), MediaTime::from_millis(70)]);
        assert!((70..=100).contains(&both.as_millis()), "{both:?}");
        assert_eq!(part_target(MediaTime::from_millis(500), &[]).as_millis(), 500);
    }
}
