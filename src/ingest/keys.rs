//! Stream keys: who may publish to which channel.
//!
//! Only digests are kept, and every lookup compares with all of them in constant time, so that neither a dump of the
//! process nor the time of an answer tells a key.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::StreamKey;
use crate::source::ChannelName;

/// The stream keys of all channels.
#[derive(Default)]
pub struct StreamKeys {
    entries: Vec<([u8; 32], ChannelName)>,
}

impl std::fmt::Debug for StreamKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamKeys({} hidden)", self.entries.len())
    }
}

impl StreamKeys {
    /// From the keys of the config. A channel may have several; of two channels with one key the later gets it.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (ChannelName, StreamKey)>) -> Self {
        let digest = |key| match key {
            StreamKey::Plain(text) => Sha256::digest(text).into(),
            StreamKey::Sha256(digest) => digest,
        };
        Self { entries: keys.into_iter().map(|(channel, key)| (digest(key), channel)).collect() }
    }

    /// The channel that `candidate` is a key of. It takes the same time whichever it is, and if it is none.
    #[must_use]
    pub fn channel(&self, candidate: &str) -> Option<&ChannelName> {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        let mut found = u64::MAX;
        for (position, (known, _)) in (0u64..).zip(&self.entries) {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&position, same);
        }
        self.entries.get(usize::try_from(found).ok()?).map(|(_, channel)| channel)
    }

    /// The channel that a publisher means by what it put into `connect` and `publish`, in any of the forms in which
    /// people enter a key.
    #[must_use]
    pub fn find(&self, address: &PublishAddress) -> Option<&ChannelName> {
        address.candidates().find_map(|candidate| self.channel(candidate))
    }
}

/// Where a publisher wants to publish. Holds a secret: `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PublishAddress {
    /// `app` of `connect`: `live` where all is as documented.
    pub app: String,
    /// The name given to `publish`: the key where all is as documented.
    pub name: String,
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
    use super::*;
    use proptest::prelude::*;

    fn keys() -> StreamKeys {
        let name = |n| ChannelName::new(n).unwrap();
        StreamKeys::new([
            (name("one"), StreamKey::Plain("first-key".into())),
            (name("two"), StreamKey::Sha256(Sha256::digest("second-key").into())),
            (name("odd"), StreamKey::Plain("what?a/key".into())),
        ])
    }

    fn find(app: &str, name: &str) -> Option<String> {
        let address = PublishAddress { app: app.into(), name: name.into() };
        keys().find(&address).map(ToString::to_string)
    }

    #[test]
    fn plain_and_digested_keys_are_found() {
        assert_eq!(keys().channel("first-key").map(ToString::to_string).as_deref(), Some("one"));
        assert_eq!(keys().channel("second-key").map(ToString::to_string).as_deref(), Some("two"));
        assert_eq!(keys().channel(""), None);
        assert_eq!(StreamKeys::default().channel("x"), None);
    }

    #[test]
    fn forms_that_people_get_wrong_are_accepted() {
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
            !format!("{:?} {:?}", keys(), PublishAddress { app: "a".into(), name: "first-key".into() })
                .contains("first")
        );
    }

    proptest! {
        #[test]
        fn only_the_key_itself_is_found(text in "\\PC{0,64}") {
            prop_assume!(!["first-key", "second-key", "what?a/key"].contains(&text.as_str()));
            prop_assert!(keys().channel(&text).is_none());
        }
    }
}
