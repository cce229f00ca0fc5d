//! Entity tags in requests: `If-Match`, `If-None-Match` and `If-Range` (RFC 9110, 13.1).
//!
//! Dates are not looked at: a playlist may change twice within their second, and who asks by one gets the whole of what is
//! there, which is never wrong.

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE};

/// The client wants what it names and nothing else, and that is not what there is: 412 is the answer. The comparison is the
/// strong one (13.1.1).
pub(super) fn means_another(headers: &HeaderMap, etag: Option<&str>) -> bool {
    let mut lists = headers.get_all(IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    let strong = |list: &str, etag: &str| list.trim() == "*" || tags(list).any(|(weak, tag)| !weak && tag == etag);
    lists.peek().is_some() && !etag.is_some_and(|etag| lists.any(|list| strong(list, etag)))
}

/// The client has what `etag` names, so 304 is the answer. The comparison is the weak one (13.1.2).
pub(super) fn has_already(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| lists(list, etag))
}

fn lists(list: &str, etag: &str) -> bool {
    list.trim() == "*" || tags(list).any(|(_, tag)| tag == etag)
}

/// The quoted tags of a list, without the `W/` of weak ones, of which it tells. A comma within quotes belongs to its tag.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (before, opened) = rest.split_at_checked(rest.find('"')?)?;
        let length = opened.get(1..)?.find('"')?.checked_add(2)?;
        let (tag, after) = opened.split_at_checked(length)?;
        rest = after;
        Some((before.ends_with("W/"), tag))
    })
}

/// A range may be given: there is no `If-Range`, or it names exactly this entity. The comparison is the strong one,
/// and a date never matches, because within its second a live resource may have changed (13.1.5).
pub(super) fn range_applies(headers: &HeaderMap, etag: Option<&str>) -> bool {
    match headers.get(IF_RANGE) {
        None => true,
        Some(tag) => etag.is_some_and(|etag| tag.as_bytes() == etag.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn has(list: &str) -> bool {
        let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(list).unwrap())]);
        has_already(&headers, "\"b\"")
    }

    #[test]
    fn lists_of_tags_are_read() {
        for yes in ["\"b\"", "W/\"b\"", "\"a\", \"b\"", "\"a\",W/\"b\",\"c\"", "*", " * ", "\"x,\" , \"b\""] {
            assert!(has(yes), "{yes}");
        }
        for no in ["", "b", "\"a\"", "\"b", "\"ab\"", "\"a,\"b\"", "*, \"a\""] {
            assert!(!has(no), "{no}");
        }
    }

    #[test]
    fn lines_of_tags_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"a\""));
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"b\""));
        assert!(has_already(&headers, "\"b\""));
        assert!(!has_already(&HeaderMap::new(), "\"b\""));
    }

    #[test]
    fn if_match_is_compared_strongly() {
        let with = |tag| HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(tag))]);
        for matching in ["\"b\"", "*", "\"a\", \"b\"", "W/\"a\",\"b\""] {
            assert!(!means_another(&with(matching), Some("\"b\"")), "{matching}");
        }
        for another in ["\"a\"", "W/\"b\"", "", "b"] {
            assert!(means_another(&with(another), Some("\"b\"")), "{another}");
        }
        assert!(!means_another(&HeaderMap::new(), Some("\"b\"")));
        assert!(!means_another(&HeaderMap::new(), None));
    }

    #[test]
    fn if_range_is_compared_strongly() {
        let with = |tag| HeaderMap::from_iter([(IF_RANGE, HeaderValue::from_static(tag))]);
        assert!(range_applies(&HeaderMap::new(), None));
        assert!(range_applies(&with("\"b\""), Some("\"b\"")));
        assert!(!range_applies(&with("W/\"b\""), Some("\"b\"")));
        assert!(!range_applies(&with("Sat, 21 Nov 2026 09:00:00 GMT"), Some("\"b\"")));
        assert!(!range_applies(&with("\"b\""), None));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[ -~]*") {
            let _ = has(&text);
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_str(&text).unwrap())]);
            let _ = means_another(&headers, Some(&text));
        }
    }
}
