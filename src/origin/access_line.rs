//! A line of the access log: the combined format of Apache and nginx, and behind it the seconds that the answer took.
//!
//! Pure. What a peer sent is escaped as nginx does it, cut to a length, and without tokens.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use http::header::{HeaderName, REFERER, USER_AGENT};
use http::request::Parts;

use crate::origin::ticket::hide;

/// A request, as far as its line tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    peer: IpAddr,
    at: SystemTime,
    /// Method, target and version; escaped.
    request: String,
    referer: String,
    agent: String,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) body_bytes: usize,
    pub(super) took: Duration,
}

impl Entry {
    pub(super) fn new(head: &Parts, peer: IpAddr, at: SystemTime) -> Self {
        let target = head.uri.path_and_query().map_or("*", |target| target.as_str());
        let mut request = head.method.as_str().to_owned();
        // Writing to a text does not fail.
        let _ = write!(request, " {} {:?}", escaped(hide(target).as_bytes()), head.version);
        let field = |name: &HeaderName| {
            let value = head.headers.get(name).map_or(&b"-"[..], |value| value.as_bytes());
            escaped(hide(&String::from_utf8_lossy(value)).as_bytes())
        };
        Self { peer, at, request, referer: field(&REFERER), agent: field(&USER_AGENT) }
    }

    /// The line, with its end.
    pub(super) fn line(&self, outcome: Outcome) -> String {
        let Self { peer, request, referer, agent, .. } = self;
        let Outcome { status, body_bytes, took } = outcome;
        let at = DateTime::<Utc>::from(self.at).format("%d/%b/%Y:%H:%M:%S +0000");
        let (seconds, millis) = (took.as_secs(), took.subsec_millis());
        format!(
            "{peer} - - [{at}] \"{request}\" {status} {body_bytes} \"{referer}\" \"{agent}\" {seconds}.{millis:03}\n"
        )
    }
}

/// At most [`TEXT_BYTES_MAX`] of `bytes`; what could end a field or a line, or is no ASCII, as `\xHH`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().min(TEXT_BYTES_MAX));
    for byte in bytes.iter().take(TEXT_BYTES_MAX) {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7F.. => {
                let _ = write!(text, "\\x{byte:02X}");
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

/// Longer ones are cut.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};
    use proptest::prelude::*;

    const OUTCOME: Outcome = Outcome { status: 200, body_bytes: 1234, took: Duration::from_micros(1_042_900) };

    fn line(target: &str, referer: &[u8]) -> String {
        let mut request = Request::get(target).body(()).unwrap().into_parts().0;
        request.headers.insert(REFERER, HeaderValue::from_bytes(referer).unwrap());
        request.headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/5.0 \"x\""));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_282_014);
        Entry::new(&request, [192, 0, 2, 7].into(), at).line(OUTCOME)
    }

    #[test]
    fn it_is_the_combined_format_and_the_time_taken() {
        assert_eq!(
            line("http://h:1/live/demo/index.m3u8?_HLS_msn=3", b"https://player.example/"),
            "192.0.2.7 - - [21/Nov/2026:17:26:54 +0000] \"GET /live/demo/index.m3u8?_HLS_msn=3 HTTP/1.1\" 200 1234 \
             \"https://player.example/\" \"Mozilla/5.0 \\x22x\\x22\" 1.042\n"
        );
    }

    #[test]
    fn tokens_are_in_no_field() {
        let text = line("/live/~secret/demo/index.m3u8?token=secret", b"https://h/watch/demo?token=secret");
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("GET /live/~-/demo/index.m3u8?token=- HTTP/1.1"), "{text}");
    }

    #[test]
    fn long_texts_are_cut() {
        assert!(line(&format!("/{}", "a".repeat(9000)), &[b'b'; 9000]).len() < 2300);
    }

    proptest! {
        #[test]
        fn a_line_is_one_line(referer in prop::collection::vec(prop_oneof![Just(9u8), 0x20u8..0x7F, 0x80u8..], 0..50)) {
            let text = line("/", &referer);
            prop_assert_eq!(text.matches('"').count(), 6, "{}", text);
            prop_assert!(text.bytes().filter(|byte| !(0x20..0x7F).contains(byte)).eq([b'\n']), "{}", text);
        }
    }
}
