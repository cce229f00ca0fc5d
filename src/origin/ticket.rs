//! The playback token of a request: where it stands, and the path without it.
//!
//! In the path, `/live/~TOKEN/CHANNEL/…`, it goes on to everything that playlists name, because they name it relative to
//! themselves. In the query, `?token=…`, it does not: whoever sends it so adds it to every request. No channel's name
//! begins with `~`, and no token needs escaping in either place (RFC 7515, 7.1).

use std::borrow::Cow;

/// A token as it was sent. It is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket<'a> {
    pub(super) token: &'a str,
    pub(super) place: Place,
}

/// Where a token stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Part of what every cache on the way knows the answer by.
    Path,
    /// Which caches may leave out of account.
    Query,
}

impl std::fmt::Debug for Ticket<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({:?}, hidden)", self.place)
    }
}

/// Takes a path apart: what it names, and the token in it or in `query`. The one in the path counts.
pub(super) fn part<'a>(path: &'a str, query: Option<&'a str>) -> (Cow<'a, str>, Option<Ticket<'a>>) {
    match in_path(path) {
        Some((token, rest)) => (Cow::Owned(format!("{LIVE}{rest}")), Some(Ticket { token, place: Place::Path })),
        None => (Cow::Borrowed(path), query.and_then(in_query).map(|token| Ticket { token, place: Place::Query })),
    }
}

/// The token, and what follows it and its slash.
fn in_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix(LIVE)?.strip_prefix(MARK)?.split_once('/')
}

/// The value of the first `token`.
fn in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix(KEY))
}

/// `target`, a path with its query or a whole URL, with the tokens in it replaced by `-`.
pub(super) fn hide(target: &str) -> Cow<'_, str> {
    let in_path = target.contains(HIDDEN_IN_PATH);
    let in_query = target.contains(KEY);
    if !in_path && !in_query {
        return Cow::Borrowed(target);
    }
    let mut shown = String::with_capacity(target.len());
    let mut rest = target;
    while let Some((before, after)) = next_secret(rest) {
        shown.push_str(before);
        shown.push('-');
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// What stands before the next token, its mark with it, and what stands behind it.
fn next_secret(text: &str) -> Option<(&str, &str)> {
    let begin = |mark: &str, ends: &'static [char]| Some((text.find(mark)?.checked_add(mark.len())?, ends));
    let marks = [begin(HIDDEN_IN_PATH, &['/', '?', '#']), begin(KEY, &['&', '#'])];
    let (begin, ends) = marks.into_iter().flatten().min_by_key(|(begin, _)| *begin)?;
    let (before, after) = text.split_at_checked(begin)?;
    let end = after.find(ends).unwrap_or(after.len());
    after.split_at_checked(end).map(|(_, rest)| (before, rest))
}

const LIVE: &str = "/live/";
const MARK: char = '~';
const KEY: &str = "token=";
/// Wherever it stands: also where no such path is served.
const HIDDEN_IN_PATH: &str = "/~";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(path: &str, query: Option<&str>) -> (String, Option<(String, Place)>) {
        let (path, ticket) = part(path, query);
        (path.into_owned(), ticket.map(|ticket| (ticket.token.to_owned(), ticket.place)))
    }

    #[test]
    fn a_token_is_found_in_path_and_query() {
        let in_path = |token: &str| Some((token.to_owned(), Place::Path));
        let in_query = |token: &str| Some((token.to_owned(), Place::Query));
        let bare = "/live/demo/index.m3u8";
        assert_eq!(found("/live/~a.b.c/demo/index.m3u8", None), (bare.to_owned(), in_path("a.b.c")));
        assert_eq!(found("/live/~/demo/index.m3u8", None), (bare.to_owned(), in_path("")));
        assert_eq!(found(bare, Some("token=a.b.c")), (bare.to_owned(), in_query("a.b.c")));
        assert_eq!(found(bare, Some("_HLS_msn=4&token=a&x=1")), (bare.to_owned(), in_query("a")));
        assert_eq!(found(bare, Some("token")), (bare.to_owned(), None));
        assert_eq!(found(bare, Some("a_token=b")), (bare.to_owned(), None));
        assert_eq!(found("/live/~a/demo/index.m3u8", Some("token=b")), (bare.to_owned(), in_path("a")));
        for path in ["/live/~a", "/watch/~a/demo", "/live/demo/~a/index.m3u8"] {
            assert_eq!(found(path, None), (path.to_owned(), None));
        }
        assert!(!format!("{:?}", part(bare, Some("token=secret")).1).contains("secret"));
    }

    #[test]
    fn tokens_are_hidden_wherever_they_stand() {
        for (target, shown) in [
            ("/live/demo/index.m3u8?_HLS_msn=3", "/live/demo/index.m3u8?_HLS_msn=3"),
            ("/live/~eyJ.a.b/demo/index.m3u8", "/live/~-/demo/index.m3u8"),
            ("/live/demo/index.m3u8?token=eyJ.a.b&_HLS_msn=3", "/live/demo/index.m3u8?token=-&_HLS_msn=3"),
            ("/watch/demo?token=eyJ", "/watch/demo?token=-"),
            ("/live/~a/~b/c?token=d&token=e", "/live/~-/~-/c?token=-&token=-"),
            ("https://h/live/~eyJ", "https://h/live/~-"),
        ] {
            assert_eq!(hide(target), shown);
        }
    }

    proptest! {
        #[test]
        fn no_token_that_is_found_is_shown(path in "/live/(~YY)?[a-z/~.=&?]{0,20}", query in "([a-z]{0,3}&)?(token=)?ZZ[a-z.&=/~]{0,12}") {
            let (_, ticket) = part(&path, Some(&query));
            let shown = hide(&format!("{path}?{query}")).into_owned();
            // Others stand elsewhere by chance.
            if let Some(ticket) = ticket.filter(|ticket| ["YY", "ZZ"].iter().any(|mark| ticket.token.contains(mark))) {
                prop_assert!(!shown.contains(ticket.token), "{} in {}", ticket.token, shown);
            }
        }
    }
}
