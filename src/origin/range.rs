//! The `Range` of a request (RFC 9110, 14.2): one range of bytes, or none.

use std::ops::Range;

/// What a `Range` field asks of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// The whole: the field is malformed, of another unit, or asks for several ranges, and is ignored.
    Whole,
    /// These bytes, within the body and at least one.
    Bytes(Range<usize>),
    /// Nothing that the body has.
    Unsatisfiable,
}

/// Reads `field` against a body of `length` bytes.
pub(super) fn requested(field: &str, length: usize) -> Requested {
    range_of(field).map_or(Requested::Whole, |asked| asked.of(length))
}

/// A range as it is asked for.
enum Asked {
    /// `A-B`, `B` included, or `A-`.
    From(usize, Option<usize>),
    /// `-N`: the last `N`.
    Last(usize),
}

impl Asked {
    fn of(self, length: usize) -> Requested {
        let range = match self {
            Self::From(first, None) => first..length,
            Self::From(first, Some(last)) => first..length.min(last.saturating_add(1)),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        if range.is_empty() { Requested::Unsatisfiable } else { Requested::Bytes(range) }
    }
}

fn range_of(field: &str) -> Option<Asked> {
    let (unit, range) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first, last) {
        ("", count) => Some(Asked::Last(number(count)?)),
        (first, "") => Some(Asked::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::From(first, Some(last)))
        }
    }
}

/// Digits; a number too great to be held is as good as the greatest.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_ranges_are_read() {
        for (field, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..10),
            ("bytes=2-5", 2..6),
            ("Bytes=2-5", 2..6),
            ("bytes= 2-5 ", 2..6),
            ("bytes=9-9", 9..10),
            ("bytes=5-99999999999999999999999", 5..10),
            ("bytes=-3", 7..10),
            ("bytes=-99999999999999999999999", 0..10),
        ] {
            assert_eq!(requested(field, 10), Requested::Bytes(expected), "{field}");
        }
    }

    #[test]
    fn what_lies_outside_cannot_be_had() {
        for field in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(requested(field, 10), Requested::Unsatisfiable, "{field}");
        }
        assert_eq!(requested("bytes=0-", 0), Requested::Unsatisfiable);
        assert_eq!(requested("bytes=-5", 0), Requested::Unsatisfiable);
    }

    #[test]
    fn what_is_not_one_range_is_ignored() {
        for field in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=+1-2", "bytes=0-1,3-4", "lines=0-1"]
        {
            assert_eq!(requested(field, 10), Requested::Whole, "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_range_lies_in_its_body(field in "(bytes=)?[ -~]*", length in 0usize..1000) {
            if let Requested::Bytes(range) = requested(&field, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }

        #[test]
        fn a_valid_range_gives_what_it_names(first in 0usize..100, count in 1usize..100, length in 1usize..300) {
            let asked = requested(&format!("bytes={first}-{}", first + count - 1), length);
            let expected = first..length.min(first + count);
            prop_assert_eq!(asked, if first < length { Requested::Bytes(expected) } else { Requested::Unsatisfiable });
        }
    }
}
