//! The web pages, built into the binary by `build.rs`, and the files that they load.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::caching::Cache;
use crate::origin::coding::takes_gzip;
use crate::origin::representation::{Coding, Representation};

/// A file of the pages, as it is and compressed.
#[derive(Debug, PartialEq, Eq)]
pub struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static [u8],
    gzip: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            text: include_bytes!(concat!(env!("OUT_DIR"), "/web/", $name)),
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/web/", $name, ".gz")),
        }
    };
}

static HOME: Asset = asset!("home.html", "text/html; charset=utf-8");
static WATCH: Asset = asset!("watch.html", "text/html; charset=utf-8");
static MISSING: Asset = asset!("missing.html", "text/html; charset=utf-8");

static ASSETS: [Asset; 9] = [
    asset!("channels.js", "text/javascript; charset=utf-8"),
    asset!("home.js", "text/javascript; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("messages.js", "text/javascript; charset=utf-8"),
    asset!("player.js", "text/javascript; charset=utf-8"),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("watch.js", "text/javascript; charset=utf-8"),
    asset!("hls.min.js", "text/javascript; charset=utf-8"),
    asset!("hls.LICENSE.txt", "text/plain; charset=utf-8"),
];

/// A hash over all assets: a directory of their URLs, and the entity tag of the pages, which name it.
const VERSION: &str = env!("PAGES_VERSION");

/// What a page may do. hls.js feeds the picture through `blob:` URLs and demuxes in a worker made from one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'";

/// The asset at `path` below `/assets/`.
pub(super) fn asset(path: &str) -> Option<&'static Asset> {
    let name = path.strip_prefix(VERSION)?.strip_prefix('/')?;
    ASSETS.iter().find(|asset| asset.name == name)
}

/// `/`
pub(super) fn home(headers: &HeaderMap) -> Representation {
    page(&HOME, headers)
}

/// `/watch/CHANNEL`; the same for all channels, since its script reads the name from its URL.
pub(super) fn watch(headers: &HeaderMap) -> Representation {
    page(&WATCH, headers)
}

/// `/watch/CHANNEL` of a channel that does not exist.
pub(super) fn missing(headers: &HeaderMap) -> Representation {
    Representation { status: StatusCode::NOT_FOUND, cache: Cache::Seconds(1), etag: None, ..page(&MISSING, headers) }
}

/// A page. Its time in caches is short, because it names the version of its assets, which an update replaces.
fn page(asset: &Asset, headers: &HeaderMap) -> Representation {
    Representation { cache: Cache::Seconds(10), policy: Some(POLICY), ..asset.representation(headers) }
}

impl Asset {
    /// The file, for ever cacheable under its URL.
    pub(super) fn representation(&self, headers: &HeaderMap) -> Representation {
        let gzip = takes_gzip(headers);
        let (coding, body, tail) =
            if gzip { (Coding::Gzip, self.gzip, "-gzip") } else { (Coding::Identity, self.text, "") };
        let etag = Some(format!("\"{VERSION}-{}{tail}\"", self.text.len()));
        let whole = Representation::new(self.content_type, Cache::Immutable, Bytes::from_static(body));
        Representation { coding, etag, ..whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_assets_that_are_there() {
        let prefix = format!("/assets/{VERSION}/");
        for page in [&HOME, &WATCH, &MISSING] {
            let html = std::str::from_utf8(page.text).unwrap();
            assert!(!html.contains("{{"), "{}", page.name);
            let named: Vec<&str> = html.split(&prefix).skip(1).filter_map(|rest| rest.split('"').next()).collect();
            assert!(named.contains(&"style.css"), "{}: {named:?}", page.name);
            for name in named {
                assert!(asset(&format!("{VERSION}/{name}")).is_some(), "{} names {name}", page.name);
            }
        }
    }

    #[test]
    fn scripts_import_assets_that_are_there() {
        for script in ASSETS.iter().filter(|a| a.name.ends_with(".js") && a.name != "hls.min.js") {
            let text = std::str::from_utf8(script.text).unwrap();
            for import in text.split(" from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(asset(&format!("{VERSION}/{import}")).is_some(), "{} imports {import}", script.name);
            }
        }
    }

    #[test]
    fn pages_keep_their_own_policy() {
        for page in [&HOME, &WATCH, &MISSING] {
            let html = std::str::from_utf8(page.text).unwrap();
            assert!(
                !html.contains("<style") && !html.contains(" style=") && !html.contains("<script>"),
                "{}",
                page.name
            );
            assert!(!html.contains("http://") && !html.contains("https://"), "{}: nothing from elsewhere", page.name);
        }
    }

    #[test]
    fn another_version_is_not_there() {
        assert!(asset("000000000000/style.css").is_none());
        assert!(asset(VERSION).is_none());
        assert!(asset(&format!("{VERSION}/")).is_none());
        assert!(asset(&format!("{VERSION}/home.html")).is_none());
    }
}
