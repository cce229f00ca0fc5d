//! The test tone: a beep at the beginning of each second, as long as the picture's flash. Pure.

/// Samples a second.
pub(super) const RATE: u32 = 48_000;

/// How long a beep lasts, in samples: a tenth of a second.
const BEEP_SAMPLES: u64 = 4800;

/// Cycles a second; a divisor of the rate, so that beeps begin and end at zero.
const PITCH: u64 = 1000;

/// The 16-bit samples from `first` on, both channels, in the machine's byte order.
pub(super) fn samples(first: u64, count: u64) -> Vec<u8> {
    (first..first.saturating_add(count))
        .map(sample)
        .flat_map(|value| [value.to_ne_bytes(), value.to_ne_bytes()].concat())
        .collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a quarter of the range of i16")]
fn sample(number: u64) -> i16 {
    let in_second = number % u64::from(RATE);
    if in_second >= BEEP_SAMPLES {
        return 0;
    }
    let phase = (in_second * PITCH % u64::from(RATE)) as f64 / f64::from(RATE) * std::f64::consts::TAU;
    (phase.sin() * 8192.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_beeps_at_each_second() {
        assert_eq!((sample(0), sample(12), sample(4800), sample(47_999), sample(48_012)), (0, 8192, 0, 0, 8192));
        assert_eq!(samples(47_999, 3).len(), 12);
    }
}
