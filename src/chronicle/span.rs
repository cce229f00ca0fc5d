//! A range of wall-clock time as a URL names it, and the names that people give to parts of a channel's past.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::source::is_name;

/// Milliseconds since 1970 that a URL may mean: until the year 9999.
const MILLIS_MAX: u64 = 253_402_300_799_999;

/// Whole numbers from here on are milliseconds, not seconds: such seconds are in the year 5138.
const MILLIS_FROM: u64 = 100_000_000_000;

/// A moment by the wall clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// The time.
    #[must_use]
    pub fn time(self) -> SystemTime {
        // What is read from a store may be anything, and not every calendar goes further.
        let since = Duration::from_millis(self.0.min(MILLIS_MAX));
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` until this; none at all where that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).min(MILLIS_MAX))
    }
}

impl fmt::Display for Moment {
    /// RFC 3339, UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&DateTime::<Utc>::from(self.time()).to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// What is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time; give it like 2026-12-31T18:00:00Z, or in seconds since 1970")]
pub struct InvalidMoment(String);

impl FromStr for Moment {
    type Err = InvalidMoment;

    /// Reads RFC 3339 (ISO 8601 with its zone), seconds since 1970 with a fraction or without, or milliseconds since 1970.
    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let invalid = || InvalidMoment(text.chars().filter(|c| !c.is_control()).take(40).collect());
        let millis = match DateTime::parse_from_rfc3339(text) {
            Ok(date) => u64::try_from(date.timestamp_millis()).ok(),
            Err(_) => epoch(text),
        };
        millis.filter(|millis| *millis <= MILLIS_MAX).map(Self).ok_or_else(invalid)
    }
}

/// Milliseconds of a decimal number of seconds, or of milliseconds.
fn epoch(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = whole.parse().ok().filter(|_| digits(whole))?;
    let Some(fraction) = fraction else {
        return if number < MILLIS_FROM { number.checked_mul(1_000) } else { Some(number) };
    };
    // To the millisecond: what is finer is cut off.
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let millis: u64 = millis.parse().ok().filter(|_| digits(fraction))?;
    number.checked_mul(1_000)?.checked_add(millis)
}

/// A range of time, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// What ends after this is in it.
    pub start: Moment,
    /// What begins before this is in it; none where it goes on.
    pub end: Option<Moment>,
}

impl Span {
    /// What begins and ends then is in it.
    #[must_use]
    pub fn overlaps(&self, begins: Moment, ends: Moment) -> bool {
        self.start < ends && self.end.is_none_or(|end| begins < end)
    }

    /// The two steps of a path.
    #[must_use]
    pub fn steps(&self) -> String {
        let end = self.end.map_or_else(|| OPEN.to_owned(), |end| end.0.to_string());
        format!("{}/{end}", self.start.0)
    }

    /// Reads the two steps of a path.
    #[must_use]
    pub fn from_steps(start: &str, end: &str) -> Option<Self> {
        let start = start.parse().ok()?;
        let end = if end == OPEN { None } else { Some(end.parse().ok()?) };
        Some(Self { start, end })
    }
}

/// Stands for the end of a range that goes on.
const OPEN: &str = "open";

/// A clip's name within its channel, a part of its URLs. The grammar is that of channel names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClipName(String);

/// What is no clip's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a clip's name has 1 to 64 letters, digits, - and _")]
pub struct InvalidClipName;

impl ClipName {
    /// Checks `name` against the grammar.
    ///
    /// # Errors
    /// [`InvalidClipName`] where it does not fit.
    pub fn new(name: &str) -> Result<Self, InvalidClipName> {
        if is_name(name) { Ok(Self(name.to_owned())) } else { Err(InvalidClipName) }
    }
}

impl TryFrom<String> for ClipName {
    type Error = InvalidClipName;

    fn try_from(name: String) -> Result<Self, InvalidClipName> {
        Self::new(&name)
    }
}

impl From<ClipName> for String {
    fn from(name: ClipName) -> Self {
        name.0
    }
}

impl fmt::Display for ClipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_is_written_in_many_ways() {
        for text in [
            "2026-11-22T09:43:00Z",
            "2026-11-22T10:43:00+01:00",
            "2026-11-22T09:43:00.000Z",
            "1795340580",
            "1795340580.0",
            "1795340580000",
        ] {
            assert_eq!(text.parse(), Ok(Moment(1_795_340_580_000)), "{text}");
        }
        assert_eq!("1795340580.0256".parse(), Ok(Moment(1_795_340_580_025)));
        for text in
            ["", "now", "-1", "+1", "1.", ".5", "1e9", "2026-11-22", "2026-11-22T09:43:00", "99999999999999999999"]
        {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        assert_eq!(Moment(1_795_340_580_025).to_string(), "2026-11-22T09:43:00.025Z");
    }

    proptest! {
        #[test]
        fn spans_survive_the_round_trip(start in MILLIS_FROM..MILLIS_MAX, end in proptest::option::of(MILLIS_FROM..MILLIS_MAX)) {
            let span = Span { start: Moment(start), end: end.map(Moment) };
            let steps = span.steps();
            let (start, end) = steps.split_once('/').unwrap();
            prop_assert_eq!(Span::from_steps(start, end), Some(span));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            drop(text.parse::<Moment>());
        }
    }
}
