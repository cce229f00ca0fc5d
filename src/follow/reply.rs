//! What another server answered, and what that means.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, LAST_MODIFIED};
use http::response::Parts;
use http::{HeaderName, StatusCode};

use crate::archive::{Copy, Found, Lack};
use crate::caching::Cache;
use crate::layout::Resource;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Parts,
    pub(super) body: Bytes,
}

impl Reply {
    /// What it is to who wants `resource`.
    pub(super) fn found(self, resource: &Resource) -> Found {
        match self.head.status {
            StatusCode::OK => {
                let modified = self.field(&LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok());
                let cache = self.field(&CACHE_CONTROL).map_or(Cache::Never, cache);
                Ok(Arc::new(Copy::new(resource, self.body, cache, modified)))
            }
            StatusCode::NOT_FOUND => Err(Lack::Absent),
            StatusCode::GONE => Err(Lack::Gone),
            StatusCode::BAD_REQUEST => {
                let why =
                    String::from_utf8_lossy(&self.body).trim().chars().filter(|c| !c.is_control()).take(200).collect();
                Err(Lack::Refused(why))
            }
            StatusCode::SERVICE_UNAVAILABLE => Err(Lack::Busy),
            _ => Err(Lack::Failing),
        }
    }

    fn field(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

/// The value of `Cache-Control`, as a server of Headwater writes it; whatever else it is, is not kept.
fn cache(control: &str) -> Cache {
    let directives = || control.split(',').map(str::trim);
    if directives().any(|directive| directive == "immutable") {
        return Cache::Immutable;
    }
    let seconds = directives().find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok());
    let shared = directives().any(|directive| directive == "public");
    seconds.filter(|_| shared).map_or(Cache::Never, Cache::Seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Content;

    fn found(status: u16, control: &str, path: &str) -> Found {
        let response = http::Response::builder()
            .status(status)
            .header(CACHE_CONTROL, control)
            .header(LAST_MODIFIED, "Fri, 15 Jan 2027 08:00:00 GMT")
            .body(())
            .unwrap();
        let reply = Reply { head: response.into_parts().0, body: Bytes::from_static(b"too far\r\n ahead\n") };
        reply.found(&Resource::parse(path).unwrap().1)
    }

    #[test]
    fn answers_are_passed_on_as_they_were_meant() {
        let playlist = found(200, &Cache::settled(4).control(), "live/a/b/index.m3u8").unwrap();
        assert!(matches!(playlist.content, Content::Text(_)) && playlist.cache == Cache::Seconds(24));
        assert_eq!(httpdate::fmt_http_date(playlist.modified.unwrap()), "Fri, 15 Jan 2027 08:00:00 GMT");
        let part = found(200, &Cache::Immutable.control(), "live/a/b/1/2.3.m4s").unwrap();
        assert!(matches!(part.content, Content::Media(_)) && part.cache == Cache::Immutable);
        let lacks = [400, 404, 410, 503, 301].map(|status| found(status, "no-store", "live/a/index.m3u8").unwrap_err());
        let refused = Lack::Refused("too far ahead".to_owned());
        assert_eq!(lacks, [refused, Lack::Absent, Lack::Gone, Lack::Busy, Lack::Failing]);
    }

    #[test]
    fn what_is_not_said_to_be_shared_is_not_kept() {
        for never in ["no-store", "private, max-age=9", "max-age=9", "public", "public, max-age=x", ""] {
            assert_eq!(cache(never), Cache::Never, "{never}");
        }
    }
}
