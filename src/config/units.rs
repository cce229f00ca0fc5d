//! Values as people write them: durations, bit rates, sizes.

use std::time::Duration;

/// Reads `4s`, `500ms`, `1.5m`, `2h`, `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("`{text}` is not a duration; write it like \"4s\", \"500ms\" or \"2m\"")),
    };
    let amount = positive(number).ok_or_else(|| format!("`{text}` is not a duration above zero"))?;
    Duration::try_from_secs_f64(amount * seconds)
        .map(|exact| Duration::from_micros(u64::try_from(exact.as_micros()).unwrap_or(u64::MAX)))
        .map_err(|_| format!("`{text}` is too long"))
}

/// Reads `2.8Mbps`, `128kbps`, `900000bps` into bits a second.
pub(super) fn bitrate(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "bps" => 1.0,
        "kbps" => 1e3,
        "Mbps" => 1e6,
        _ => return Err(format!("`{text}` is not a bit rate; write it like \"2.8Mbps\" or \"128kbps\"")),
    };
    let bits = positive(number).map(|amount| amount * scale).filter(|bits| (1.0..1e12).contains(bits));
    // By way of its text, because a float cannot be cast to an integer without a doubt.
    bits.and_then(|bits| format!("{bits:.0}").parse().ok())
        .ok_or_else(|| format!("`{text}` is not a bit rate above zero"))
}

/// Reads `64MiB`, `1.5GiB`, `512KiB`, `2TiB` into bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{text}` is not a size; write it like \"512MiB\" or \"2GiB\"")),
    };
    let bytes = positive(number).map(|amount| amount * scale).filter(|bytes| (1.0..1e15).contains(bytes));
    bytes
        .and_then(|bytes| format!("{bytes:.0}").parse().ok())
        .ok_or_else(|| format!("`{text}` is not a size above zero"))
}

/// A number and what follows it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_people_write_them() {
        assert_eq!(duration("4s"), Ok(Duration::from_secs(4)));
        assert_eq!(duration("500 ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0.2s"), Ok(Duration::from_millis(200)));
        assert_eq!(bitrate("2.8Mbps"), Ok(2_800_000));
        assert_eq!(bitrate("128 kbps"), Ok(128_000));
        for wrong in ["", "4", "s", "-4s", "4 parsecs", "1e400s", "0s", "99999999999999999999h", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        for wrong in ["", "512", "0MiB", "-1GiB", "64MB", "9999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "128", "128k", "0kbps", "-1Mbps", "9999999Mbps", "2.8mbps"] {
            assert!(bitrate(wrong).is_err(), "{wrong}");
        }
    }
}
