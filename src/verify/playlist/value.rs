//! The values of tags and attributes (4.2): numbers, durations, byte ranges, dates.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};

/// A part of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Its first byte.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

impl ByteRange {
    /// Reads `LENGTH[@OFFSET]`.
    pub(super) fn parse(text: &str) -> Option<(u64, Option<u64>)> {
        match text.split_once('@') {
            Some((length, offset)) => Some((integer(length)?, Some(integer(offset)?))),
            None => Some((integer(text)?, None)),
        }
    }

    /// The byte after it.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// An instant of the calendar, as `EXT-X-PROGRAM-DATE-TIME` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Since 1970, in UTC.
    pub micros: i64,
    /// It names its time zone and its milliseconds.
    pub exact: bool,
}

impl Date {
    /// Reads a date of ISO 8601. One without a time zone is taken for UTC.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let exact = text
            .split_once('.')
            .is_some_and(|(_, fraction)| fraction.bytes().take_while(u8::is_ascii_digit).count() >= 3);
        let zoned = DateTime::parse_from_rfc3339(text)
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
            .map(|date| date.timestamp_micros());
        if let Ok(micros) = zoned {
            return Some(Self { micros, exact });
        }
        let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
        Some(Self { micros: local.and_utc().timestamp_micros(), exact: false })
    }
}

/// A decimal integer of up to 64 bits.
pub(super) fn integer(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// No time in a playlist is as long: a billion seconds.
const SECONDS_MAX: u64 = 1_000_000_000;

/// A decimal number of seconds, to the nanosecond.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = integer(whole).filter(|whole| *whole <= SECONDS_MAX)?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::new(whole, nanos.parse().ok()?))
}

/// The same with a sign; true where it is negative.
pub(super) fn signed_seconds(text: &str) -> Option<(bool, Duration)> {
    match text.strip_prefix('-') {
        Some(text) => Some((true, seconds(text)?)),
        None => Some((false, seconds(text)?)),
    }
}

/// `WIDTHxHEIGHT`.
pub(super) fn resolution(text: &str) -> Option<(u64, u64)> {
    let (width, height) = text.split_once('x')?;
    Some((integer(width)?, integer(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds("4"), Some(Duration::from_secs(4)));
        assert_eq!(seconds("3.967000"), Some(Duration::from_millis(3_967)));
        assert_eq!(seconds("0.0000000019"), Some(Duration::from_nanos(1)));
        for text in ["", ".", ".5", "4.", "-1", "+1", "1e3", "4,0", "0x4", "99999999999999999999", "4.5s", "inf"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(signed_seconds("-1.5"), Some((true, Duration::from_millis(1_500))));
    }

    #[test]
    fn dates_are_read_in_the_forms_of_the_field() {
        let read = |text| Date::parse(text).map(|date| (date.micros, date.exact));
        let noon = 1_800_014_400_000_000;
        assert_eq!(read("2027-01-15T12:00:00.000Z"), Some((noon, true)));
        assert_eq!(read("2027-01-15T13:00:00.000+01:00"), Some((noon, true)));
        assert_eq!(read("2027-01-15T13:00:00.250+0100"), Some((noon + 250_000, true)));
        assert_eq!(read("2027-01-15T12:00:00Z"), Some((noon, false)));
        assert_eq!(read("2027-01-15T12:00:00.000"), Some((noon, false)), "no time zone");
        assert_eq!(read("yesterday"), None);
    }

    #[test]
    fn ranges_are_length_first() {
        assert_eq!(ByteRange::parse("10@20"), Some((10, Some(20))));
        assert_eq!(ByteRange::parse("10"), Some((10, None)));
        assert_eq!(ByteRange::parse("10@"), None);
        assert_eq!(ByteRange { offset: u64::MAX, length: 2 }.end(), u64::MAX);
    }
}
