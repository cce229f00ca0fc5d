//! Bit rates as the specification defines them (4.4.6.2, "peak segment bit rate").

use std::collections::VecDeque;
use std::time::Duration;

/// The sizes of the segments of one rendition that were seen, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rates(VecDeque<Size>);

#[derive(Clone, Copy, Debug)]
struct Size {
    msn: u64,
    bytes: u64,
    duration: Duration,
}

/// Segments that are remembered; an hour and more.
const SEGMENTS_MAX: usize = 4_096;

impl Rates {
    /// Adds a segment. They may come in any order.
    pub fn add(&mut self, msn: u64, bytes: usize, duration: Duration) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let at = self.0.partition_point(|size| size.msn < msn);
        self.0.insert(at, Size { msn, bytes, duration });
        if self.0.len() > SEGMENTS_MAX {
            self.0.pop_front();
        }
    }

    /// The largest bit rate of any contiguous segments that last 0.5 to 1.5 target durations together, in bits per second.
    #[must_use]
    pub fn peak(&self, target: Duration) -> f64 {
        let (least, most) = (target.mul_f64(0.5), target.mul_f64(1.5));
        let mut peak = 0.0_f64;
        for begin in 0..self.0.len() {
            let (mut bytes, mut duration, mut msn) = (0_u64, Duration::ZERO, None);
            for size in self.0.iter().skip(begin) {
                if msn.is_some_and(|msn: u64| msn.checked_add(1) != Some(size.msn)) {
                    break;
                }
                msn = Some(size.msn);
                bytes = bytes.saturating_add(size.bytes);
                duration = duration.saturating_add(size.duration);
                if duration > most {
                    break;
                }
                if duration >= least {
                    peak = peak.max(rate(bytes, duration));
                }
            }
        }
        peak
    }

    /// That of all segments together.
    #[must_use]
    pub fn average(&self) -> f64 {
        let sum =
            |sum: (u64, Duration), size: &Size| (sum.0.saturating_add(size.bytes), sum.1.saturating_add(size.duration));
        let (bytes, duration) = self.0.iter().fold((0, Duration::ZERO), sum);
        rate(bytes, duration)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is told in three digits")]
fn rate(bytes: u64, duration: Duration) -> f64 {
    if duration.is_zero() { 0.0 } else { bytes as f64 * 8.0 / duration.as_secs_f64() }
}
