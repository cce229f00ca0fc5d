//! The answer to who fetches segments as one file: what there is of it in memory says how long it is, and the rest comes from a
//! source while it is being sent.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, StatusCode};
use tracing::warn;

use crate::archive::Lack;
use crate::caching::{Cache, media_type};
use crate::http_server::{Broken, Payload, Source};
use crate::ladder::RenditionKind;
use crate::media::Container;
use crate::origin::answer::{Asked, later};
use crate::origin::representation::Representation;
use crate::progressive::{Download, Fault, Kind, Reader};

/// The answer of what was found, as a file of this name: letters, digits, `.`, `-` and `_`; caches may keep it as `cache` says.
#[must_use]
pub fn answer(found: Result<Download, Fault>, file: &str, cache: Cache, asked: &Asked<'_>) -> Response<Payload> {
    let download = match found {
        Ok(download) => download,
        Err(fault) => return refusal(&fault, asked).map(Payload::from),
    };
    let kind = match download.kind() {
        Kind::Video => RenditionKind::Video,
        Kind::Audio => RenditionKind::Audio,
    };
    let (etag, attachment) = (Some(download.etag().to_owned()), Some(file.to_owned()));
    let whole = Representation::new(media_type(Container::Cmaf, kind), cache, Bytes::new());
    let whole = Representation { etag, attachment, ..whole };
    let (response, sent) = whole.outline(asked, usize::try_from(download.length()).unwrap_or(usize::MAX));
    match sent {
        Some(range) => response.map(|_| payload(download, range)),
        None => response.map(Payload::from),
    }
}

fn payload(download: Download, range: Range<usize>) -> Payload {
    let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let reader = download.read(count(range.start)..count(range.end));
    Payload::Streamed { length: count(range.len()), source: Box::new(Sent(reader)) }
}

fn refusal(fault: &Fault, asked: &Asked<'_>) -> Response<Bytes> {
    match fault {
        Fault::Busy | Fault::Later | Fault::Lacking { lack: Lack::Busy | Lack::Failing, .. } => {
            later(&fault.to_string(), asked)
        }
        Fault::Lacking { lack: Lack::Absent | Lack::Refused(_), .. } => {
            Representation::refusal(StatusCode::NOT_FOUND, "not found").reply(asked)
        }
        Fault::Lacking { lack: Lack::Gone, .. } => {
            Representation::refusal(StatusCode::GONE, "no longer kept").reply(asked)
        }
        Fault::Unfit(unfit) => {
            Representation::refusal(StatusCode::UNPROCESSABLE_ENTITY, &unfit.to_string()).reply(asked)
        }
    }
}

/// A file on its way.
struct Sent(Reader);

#[async_trait]
impl Source for Sent {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        let next = self.0.next().await?;
        Some(next.map_err(|fault| {
            warn!("a file that is being fetched ends early: {fault}");
            Broken(fault.to_string())
        }))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::progressive::Unfit;

    #[test]
    fn why_there_is_no_file_is_told() {
        let answered = |fault| {
            let asked = Asked { method: &Method::GET, headers: &HeaderMap::new(), reach: None };
            let response = answer(Err(fault), "clip.mp4", Cache::OVER, &asked);
            let Payload::Whole(text) = response.body() else { panic!("a text") };
            let retry = response.headers().contains_key("retry-after");
            (response.status().as_u16(), retry, String::from_utf8_lossy(text).into_owned())
        };
        let lacking = |lack| Fault::Lacking { path: "live/demo/720p/1/1.m4s".to_owned(), lack };
        for (fault, status, retry, words) in [
            (Fault::Busy, 503, true, "at a time"),
            (Fault::Later, 503, true, "put together"),
            (lacking(Lack::Failing), 503, true, "720p/1/1.m4s"),
            (lacking(Lack::Absent), 404, false, "not found"),
            (lacking(Lack::Gone), 410, false, "no longer"),
            (Fault::Unfit(Unfit::MpegTs), 422, false, "hls.container"),
        ] {
            let (answered, again, text) = answered(fault);
            assert_eq!((answered, again), (status, retry), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }
}
