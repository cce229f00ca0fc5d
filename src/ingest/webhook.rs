//! The webhook that says who may publish: what is asked, how it is signed, and how the answer is read.
//!
//! The JSON is that of SRS's HTTP callbacks, so that a hook written for SRS works. Pure; [`client`] makes the calls.

pub mod client;

use std::net::SocketAddr;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::keys::PublishAddress;
use crate::source::ChannelName;

/// What a hook is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Somebody wants to publish: the answer decides.
    Publish,
    /// A publisher is gone: the answer only says that it was heard.
    Unpublish,
}

/// A publisher, as hooks are told of it. Holds a secret: `Debug` hides it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Names the connection, the same in both actions.
    pub client_id: String,
    /// Its address.
    pub peer: SocketAddr,
    /// Where it wants to publish.
    pub address: PublishAddress,
    /// The channel, once it is known.
    pub channel: Option<ChannelName>,
}

/// A hook's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may publish.
    Allow {
        /// To this channel, where the hook names one.
        channel: Option<ChannelName>,
        /// With this ladder, where the channel is made for it.
        ladder: Option<String>,
    },
    /// It may not; the text, if any, is for the streamer.
    Refuse(Option<String>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookFault {
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// It could not be reached, or the connection broke.
    #[error("the call failed: {0}")]
    Call(String),
    /// An answer that is neither yes nor no.
    #[error("it answered with status {0}")]
    Status(u16),
    /// More than [`ANSWER_BYTES_MAX`].
    #[error("its answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Neither `0` nor an object with a `code`.
    #[error("its answer cannot be read: {0}")]
    Garbage(String),
}

/// The longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The document that is sent; the names are SRS's, but for the last two.
#[derive(Serialize)]
struct Document<'a> {
    server_id: &'a str,
    action: &'static str,
    client_id: &'a str,
    ip: String,
    vhost: &'static str,
    app: &'a str,
    #[serde(rename = "tcUrl")]
    tc_url: &'a str,
    stream: &'a str,
    param: String,
    stream_url: String,
    stream_id: &'a str,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "on_publish",
            Self::Unpublish => "on_unpublish",
        }
    }
}

/// The body of a call. `event_id` is the same whenever the same event is told again.
#[must_use]
pub fn body(action: Action, subject: &Subject, server_id: &str, event_id: &str) -> Vec<u8> {
    let (app, stream) = subject.address.app_and_stream();
    let document = Document {
        server_id,
        action: action.name(),
        client_id: &subject.client_id,
        ip: subject.peer.ip().to_string(),
        vhost: "__defaultVhost__",
        app,
        tc_url: &subject.address.tc_url,
        stream,
        param: subject.address.query().map(|query| format!("?{query}")).unwrap_or_default(),
        stream_url: format!("/{app}/{stream}"),
        stream_id: &subject.client_id,
        event_id,
        channel: subject.channel.as_ref().map(ChannelName::as_str),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

/// The value of `X-Headwater-Signature`: over the time of the call (the text of `X-Headwater-Timestamp`), a full stop
/// and the body, so that neither can be changed, and an old call cannot be told again as a new one.
#[must_use]
pub fn signature(secret: &str, timestamp: u64, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer, of which only these are read.
#[derive(Deserialize)]
struct Reply {
    code: i64,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    data: Option<Named>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    ladder: Option<String>,
}

/// Reads an answer. `0` and `{"code":0}` with status 200 allow; another number or code refuses, as do statuses 401 and
/// 403, which hooks made for other servers answer with.
///
/// # Errors
/// [`HookFault`] where it is neither yes nor no.
pub fn verdict(status: u16, body: &[u8]) -> Result<Verdict, HookFault> {
    let reply = read(body);
    match reply {
        Ok(reply) if reply.code != 0 => Ok(Verdict::Refuse(reply.message.or(reply.msg).and_then(printable))),
        _ if status == 401 || status == 403 => Ok(Verdict::Refuse(None)),
        _ if status != 200 => Err(HookFault::Status(status)),
        Ok(reply) => allow(reply.data.unwrap_or_default()),
        Err(error) => Err(HookFault::Garbage(error)),
    }
}

fn read(body: &[u8]) -> Result<Reply, String> {
    let number = std::str::from_utf8(body).ok().and_then(|text| text.trim().parse().ok());
    match number {
        Some(code) => Ok(Reply { code, message: None, msg: None, data: None }),
        // An array, too, could be read as the fields of an object.
        None if !body.trim_ascii_start().starts_with(b"{") => Err("it is neither a number nor an object".to_owned()),
        None => serde_json::from_slice(body).map_err(|error| error.to_string()),
    }
}

fn allow(named: Named) -> Result<Verdict, HookFault> {
    let channel = named.channel.map(|name| ChannelName::new(&name)).transpose();
    let channel = channel.map_err(|error| HookFault::Garbage(format!("its channel {error}")))?;
    Ok(Verdict::Allow { channel, ladder: named.ladder })
}

/// A text from elsewhere as it may be shown and logged: short, and without control characters.
fn printable(text: String) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(app: &str, name: &str, tc_url: &str) -> Subject {
        let address = PublishAddress { app: app.into(), name: name.into(), tc_url: tc_url.into() };
        Subject { client_id: "c1".into(), peer: ([192, 0, 2, 7], 4000).into(), address, channel: None }
    }

    fn check(action: Action, subject: &Subject, golden: &str) {
        let sent: serde_json::Value = serde_json::from_slice(&body(action, subject, "s1", "e1")).unwrap();
        let path = format!("{}/src/ingest/golden/{golden}", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(&sent).unwrap() + "\n";
        if std::env::var_os("GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{golden}; GOLDEN=1 rewrites it");
    }

    #[test]
    fn the_documents_are_those_of_srs() {
        let plain = subject("live", "key?token=1", "rtmp://h.example/live");
        check(Action::Publish, &plain, "on_publish.json");
        let channel = ChannelName::new("demo").ok();
        check(Action::Unpublish, &Subject { channel, ..plain }, "on_unpublish.json");
    }

    #[test]
    fn the_stream_is_found_where_people_type_it() {
        let sent = |app: &str, name: &str, tc_url: &str| {
            let body = body(Action::Publish, &subject(app, name, tc_url), "s1", "e1");
            let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
            ["app", "stream", "param"].map(|field| sent[field].as_str().unwrap().to_owned())
        };
        let whole = ["live", "key", "?token=1"];
        assert_eq!(sent("live", "key?token=1", "rtmp://h/live"), whole);
        assert_eq!(sent("live/key?token=1", "", "rtmp://h/live/key?token=1"), whole);
        assert_eq!(sent("live", "/key/", "rtmp://h/live?token=1"), whole);
        assert_eq!(sent("live", "key", "rtmp://h/live"), ["live", "key", ""]);
    }

    #[test]
    fn the_signature_is_that_of_the_documented_example() {
        // printf '1700000000.{"action":"on_publish"}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signature("secret", 1_700_000_000, br#"{"action":"on_publish"}"#),
            "sha256=27dfe30f2f1bf60a5147f68e9f2eabf4a7dcf08cc85957a07edf0a7288b66c91"
        );
    }

    #[test]
    fn answers_are_read_as_they_are_meant() {
        let allowed = |channel: Option<&str>, ladder: Option<&str>| {
            let channel = channel.map(|name| ChannelName::new(name).unwrap());
            Ok(Verdict::Allow { channel, ladder: ladder.map(str::to_owned) })
        };
        let refused = |text: Option<&str>| Ok(Verdict::Refuse(text.map(str::to_owned)));
        let at = |status, body: &str| verdict(status, body.as_bytes());
        assert_eq!(at(200, "0"), allowed(None, None));
        assert_eq!(at(200, " 0\r\n"), allowed(None, None));
        assert_eq!(at(200, r#"{"code":0,"data":null}"#), allowed(None, None));
        assert_eq!(
            at(200, r#"{"code":0,"more":[],"data":{"channel":"a","ladder":"b"}}"#),
            allowed(Some("a"), Some("b"))
        );
        assert_eq!(at(200, "1"), refused(None));
        assert_eq!(at(200, r#"{"code":1,"message":"not today"}"#), refused(Some("not today")));
        assert_eq!(at(200, r#"{"code":100,"msg":"no\n"}"#), refused(Some("no")));
        assert_eq!(at(403, "forbidden"), refused(None));
        assert_eq!(at(500, r#"{"code":7}"#), refused(None), "it says no, whatever else is wrong with it");
        assert_eq!(at(500, "0"), Err(HookFault::Status(500)));
        assert_eq!(at(302, ""), Err(HookFault::Status(302)));
        for garbage in ["", "ok", "{}", "[0]", "0 0", r#"{"code":"0"}"#, r#"{"code":0,"data":{"channel":"../x"}}"#] {
            assert!(matches!(at(200, garbage), Err(HookFault::Garbage(_))), "{garbage}");
        }
    }

    #[test]
    fn a_refusal_is_short_and_printable() {
        let long = format!(r#"{{"code":1,"message":"{}"}}"#, "x".repeat(5000));
        let Ok(Verdict::Refuse(Some(text))) = verdict(200, long.as_bytes()) else { panic!("refused") };
        assert_eq!(text.len(), 200);
    }
}
