//! Stream keys: who may publish to which channel.
//!
//! Only digests are kept here, and every lookup compares with all of them in constant time, so that the time of an answer
//! tells nothing of a key.

use std::time::SystemTime;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::KeyConfig;
use crate::source::ChannelName;

/// The stream keys of all channels.
#[derive(Default)]
pub struct StreamKeys {
    entries: Vec<([u8; 32], Holder)>,
}

/// What a stream key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The channel.
    pub channel: ChannelName,
    /// What the key is called in logs and in the status.
    pub key_name: Option<String>,
    /// When it stops to open the channel.
    expires: Option<SystemTime>,
}

/// Why a publisher's text opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// No channel has this key.
    Unknown,
    /// It was a key, until its time was over.
    Expired,
}

impl std::fmt::Debug for StreamKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamKeys({} hidden)", self.entries.len())
    }
}

impl StreamKeys {
    /// From the keys of the config. A channel may have several, and no two channels one.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (ChannelName, impl Into<KeyConfig>)>) -> Self {
        let entry = |(channel, key): (ChannelName, KeyConfig)| {
            let KeyConfig { key, name: key_name, expires } = key;
            (key.digest(), Holder { channel, key_name, expires })
        };
        Self { entries: keys.into_iter().map(|(channel, key)| entry((channel, key.into()))).collect() }
    }

    /// What `candidate` is a key of at `now`. The comparison takes the same time whichever it is, and if it is none.
    ///
    /// # Errors
    /// [`KeyFault`]
    pub fn holder(&self, candidate: &str, now: SystemTime) -> Result<&Holder, KeyFault> {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        let mut found = u64::MAX;
        for (position, (known, _)) in (0u64..).zip(&self.entries) {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&position, same);
        }
        let entry = usize::try_from(found).ok().and_then(|found| self.entries.get(found));
        let (_, holder) = entry.ok_or(KeyFault::Unknown)?;
        match holder.expires {
            Some(expires) if expires <= now => Err(KeyFault::Expired),
            _ => Ok(holder),
        }
    }

    /// The channel that a publisher means by what it put into `connect` and `publish`, in any of the forms in which
    /// people enter a key.
    ///
    /// # Errors
    /// [`KeyFault::Expired`] where one of the forms was a key, and none is.
    pub fn find(&self, address: &PublishAddress, now: SystemTime) -> Result<&Holder, KeyFault> {
        let mut fault = KeyFault::Unknown;
        for candidate in address.candidates() {
            match self.holder(candidate, now) {
                Ok(holder) => return Ok(holder),
                Err(KeyFault::Expired) => fault = KeyFault::Expired,
                Err(KeyFault::Unknown) => {}
            }
        }
        Err(fault)
    }
}

/// Where a publisher wants to publish. Holds a secret: `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PublishAddress {
    /// `app` of `connect`: `live` where all is as documented.
    pub app: String,
    /// The name given to `publish`: the key where all is as documented.
    pub name: String,
    /// `tcUrl` of `connect`: the server's address as it was typed.
    pub tc_url: String,
}

impl std::fmt::Debug for PublishAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublishAddress(hidden)")
    }
}

impl PublishAddress {
    /// The texts that may be the key, the likeliest first: the name, the name without its query or surrounding slashes
    /// or path, and where there is no name the last step of the application (`rtmp://host/live/KEY` or
    /// `rtmp://host/KEY` typed into OBS as the server).
    fn candidates(&self) -> impl Iterator<Item = &str> {
        let name = self.name.as_str();
        let bare = trimmed(name);
        let app = if bare.is_empty() { last_step(trimmed(&self.app)) } else { "" };
        [name, bare, last_step(bare), app].into_iter().filter(|text| !text.is_empty())
    }

    /// Application and stream as other servers tell them apart: `rtmp://host/APP/STREAM?query`.
    #[must_use]
    pub fn app_and_stream(&self) -> (&str, &str) {
        let (app, name) = (trimmed(&self.app), trimmed(&self.name));
        match app.rsplit_once('/') {
            Some((before, last)) if name.is_empty() => (before, last),
            _ => (app, name),
        }
    }

    /// What was typed behind a `?`, at the stream's name or else at the server's address.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        let texts = [&self.name, &self.app, &self.tc_url];
        texts.into_iter().find_map(|text| text.split_once('?')).map(|(_, query)| query)
    }

    /// The key was left empty, and the server's address does not end in one either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        trimmed(&self.name).is_empty() && !trimmed(&self.app).contains('/')
    }
}

/// Without query, and without slashes or white space at the ends.
fn trimmed(text: &str) -> &str {
    let path = text.split_once('?').map_or(text, |(path, _)| path);
    path.trim_matches(|c: char| c == '/' || c.is_whitespace())
}

fn last_step(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::StreamKey;
    use proptest::prelude::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn keys() -> StreamKeys {
        let name = |n| ChannelName::new(n).unwrap();
        StreamKeys::new([
            (name("one"), StreamKey::Plain("first-key".into())),
            (name("two"), StreamKey::Sha256(Sha256::digest("second-key").into())),
            (name("odd"), StreamKey::Plain("what?a/key".into())),
        ])
    }

    fn find(app: &str, name: &str) -> Option<String> {
        let address = PublishAddress { app: app.into(), name: name.into(), ..PublishAddress::default() };
        keys().find(&address, NOW).ok().map(|holder| holder.channel.to_string())
    }

    fn holder(candidate: &str, now: SystemTime) -> Result<String, KeyFault> {
        keys().holder(candidate, now).map(|holder| holder.channel.to_string())
    }

    #[test]
    fn plain_and_digested_keys_are_found() {
        assert_eq!(holder("first-key", NOW).as_deref(), Ok("one"));
        assert_eq!(holder("second-key", NOW).as_deref(), Ok("two"));
        assert_eq!(holder("", NOW), Err(KeyFault::Unknown));
        assert_eq!(StreamKeys::default().holder("x", NOW), Err(KeyFault::Unknown));
    }

    #[test]
    fn a_channel_has_several_keys_and_each_its_end() {
        let end = NOW + Duration::from_secs(10);
        let key = |text: &str, name: &str, expires| KeyConfig {
            key: StreamKey::Plain(text.into()),
            name: Some(name.into()),
            expires,
        };
        let one = || ChannelName::new("one").unwrap();
        let keys = StreamKeys::new([(one(), key("a", "studio", None)), (one(), key("b", "truck", Some(end)))]);
        let address =
            |name: &str| PublishAddress { app: "live".into(), name: name.into(), ..PublishAddress::default() };
        let name = |text, now| keys.find(&address(text), now).map(|holder| holder.key_name.clone());
        assert_eq!(name("a", end), Ok(Some("studio".into())));
        assert_eq!(name("b", end - Duration::from_millis(1)), Ok(Some("truck".into())));
        assert_eq!(name("b", end), Err(KeyFault::Expired));
        assert_eq!(name("/b?x=1", end), Err(KeyFault::Expired), "in every form");
        assert_eq!(name("c", end), Err(KeyFault::Unknown));
    }

    #[test]
    fn lesson_34_forms_that_people_get_wrong_are_accepted() {
        for (app, name) in [
            ("live", "first-key"),
            ("live/", "first-key/"),
            ("live", "/first-key"),
            ("live", " first-key\n"),
            ("live", "first-key?token=1&x=/2"),
            ("live/first-key", ""),
            ("live/first-key/", ""),
            ("live/first-key?token=1", ""),
            ("first-key", ""),
            ("", "live/first-key"),
            ("anything", "first-key"),
        ] {
            assert_eq!(find(app, name).as_deref(), Some("one"), "{app:?} {name:?}");
        }
        assert_eq!(find("live", "what?a/key").as_deref(), Some("odd"), "a key may hold any character");
    }

    #[test]
    fn nothing_else_is_a_key() {
        for (app, name) in
            [("live", ""), ("", ""), ("first-key", "wrong"), ("live", "first-keyx"), ("live", "FIRST-KEY"), ("/", "?")]
        {
            assert_eq!(find(app, name), None, "{app:?} {name:?}");
        }
        assert!(
            !format!("{:?} {:?}", keys(), PublishAddress { name: "first-key".into(), ..PublishAddress::default() })
                .contains("first")
        );
    }

    proptest! {
        #[test]
        fn only_the_key_itself_is_found(text in "\\PC{0,64}") {
            prop_assume!(!["first-key", "second-key", "what?a/key"].contains(&text.as_str()));
            prop_assert!(keys().holder(&text, NOW).is_err());
        }
    }
}
