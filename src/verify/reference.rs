//! References within playlists, resolved against the playlist's own URL (RFC 3986, 5).

use url::Url;

/// The URL that `reference` means in a playlist at `base`, without its fragment. None for what is no HTTP URL.
#[must_use]
pub fn resolve(base: &Url, reference: &str) -> Option<Url> {
    let mut url = base.join(reference).ok()?;
    url.set_fragment(None);
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// `url` with delivery directives (6.2.5) added; what else is in its query stays as it is written, for it may be signed.
/// All are put in the order of UTF-8, so that caches see one URL (6.3.2).
#[must_use]
pub fn with_directives(url: &Url, directives: &[(&str, String)]) -> Url {
    let there = url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(str::to_owned);
    let mut pairs: Vec<String> =
        there.chain(directives.iter().map(|(name, value)| format!("{name}={value}"))).collect();
    pairs.sort_unstable();
    let mut with = url.clone();
    with.set_query(Some(&pairs.join("&")));
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_like_links() {
        let base = Url::parse("http://h:8080/live/demo/720p/index.m3u8?token=a").unwrap();
        let read = |reference| resolve(&base, reference).map(String::from);
        assert_eq!(read("1/2.m4s").as_deref(), Some("http://h:8080/live/demo/720p/1/2.m4s"));
        assert_eq!(read("../audio/index.m3u8").as_deref(), Some("http://h:8080/live/demo/audio/index.m3u8"));
        assert_eq!(read("https://cdn/x#y").as_deref(), Some("https://cdn/x"));
        assert_eq!(read("data:text/plain,x"), None);
        assert_eq!(read("file:///etc/passwd"), None);
    }

    #[test]
    fn directives_stand_in_their_order_among_what_is_there() {
        let url = Url::parse("http://h/i.m3u8?token=a%2Bb%20+c").unwrap();
        let with = with_directives(&url, &[("_HLS_part", "0".into()), ("_HLS_msn", "7".into())]);
        assert_eq!(with.as_str(), "http://h/i.m3u8?_HLS_msn=7&_HLS_part=0&token=a%2Bb%20+c");
    }
}
