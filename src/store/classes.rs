//! In which of a bucket's storage classes media is kept.

use std::collections::BTreeMap;

use crate::config::{Config, StorageClass};
use crate::layout::Resource;
use crate::source::ChannelName;

/// The storage classes of recordings, by channel.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// Of channels that are not configured: those that a webhook makes.
    usual: Option<StorageClass>,
    channels: BTreeMap<ChannelName, Option<StorageClass>>,
}

impl Classes {
    /// The class of an object; none for the bucket's own. Segments of recorded channels alone have one: all else is small, replaced
    /// soon, or deleted soon, for which the cheaper classes cost more.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&StorageClass> {
        match Resource::parse(key)? {
            (channel, Resource::Segment(..) | Resource::TsSegment(..)) => {
                self.channels.get(&channel).unwrap_or(&self.usual).as_ref()
            }
            _ => None,
        }
    }
}

impl From<&Config> for Classes {
    fn from(config: &Config) -> Self {
        let channels = config.channels.iter().map(|channel| (channel.name.clone(), channel.recording.class().cloned()));
        Self { usual: config.recordings.class().cloned(), channels: channels.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn segments_of_recorded_channels_have_the_class_of_their_channel() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("h.toml");
        let text = "[store]\nkind = \"s3\"\nbucket = \"b\"\n[recordings]\nrecord = true\nrecordings_storage_class = \"STANDARD_IA\"\n\
                    [[channels]]\nname = \"usual\"\n[[channels]]\nname = \"own\"\nrecordings_storage_class = \"GLACIER_IR\"\n\
                    [[channels]]\nname = \"none\"\nrecord = false\n";
        std::fs::write(&file, text).unwrap();
        let classes = Classes::from(&config::load(Some(&file), []).unwrap());
        for (key, class) in [
            ("live/usual/720p/1/1.m4s", Some("STANDARD_IA")),
            ("live/own/720p/1/1.ts", Some("GLACIER_IR")),
            ("live/none/720p/1/1.m4s", None),
            ("live/made-on-the-fly/720p/1/1.m4s", Some("STANDARD_IA")),
            ("live/usual/720p/1/init.mp4", None),
            ("live/usual/720p/index.m3u8", None),
            ("headwater-probe", None),
        ] {
            assert_eq!(classes.of(key).map(StorageClass::as_str), class, "{key}");
        }
    }
}
