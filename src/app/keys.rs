//! Stream keys for channels that have none: made once, kept below the data directory, shown to the operator.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};

use crate::config::{ChannelConfig, KeyConfig, StreamKey};
use crate::source::ChannelName;

/// A channel's keys, and the one that was made here, if any: only such a one is ever shown.
#[derive(Debug)]
pub(super) struct ChannelKeys {
    /// Whose.
    pub(super) channel: ChannelName,
    /// As the config gives them, or the one that was made.
    pub(super) keys: Vec<KeyConfig>,
    /// The key in clear, where Headwater made it.
    pub(super) made: Option<String>,
}

impl ChannelKeys {
    /// One of the keys in clear, where one is known and does not expire.
    pub(super) fn plain(&self) -> Option<&str> {
        self.keys.iter().filter(|key| key.expires.is_none()).find_map(|key| match &key.key {
            StreamKey::Plain(plain) => Some(plain.as_str()),
            StreamKey::Sha256(_) => None,
        })
    }
}

/// The keys of all channels. Those that are missing in config and `data_dir` are made.
pub(super) fn load(data_dir: &Path, channels: &[ChannelConfig]) -> anyhow::Result<Vec<ChannelKeys>> {
    let load = |channel: &ChannelConfig| {
        let made = match channel.keys.as_slice() {
            [] => Some(kept_or_made(&data_dir.join("keys"), &channel.name)?),
            _ => None,
        };
        let of_made = made.iter().map(|made| StreamKey::Plain(made.clone()).into());
        let keys = channel.keys.iter().cloned().chain(of_made).collect();
        Ok(ChannelKeys { channel: channel.name.clone(), keys, made })
    };
    channels.iter().map(load).collect()
}

fn kept_or_made(directory: &Path, channel: &ChannelName) -> anyhow::Result<String> {
    let path = directory.join(channel.as_str());
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => bail!("{} is empty: write the channel's stream key into it, or remove it", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading the stream key in {}", path.display())),
    }
    let key = random_key()?;
    std::fs::create_dir_all(directory)
        .and_then(|()| write_private(&path, &key))
        .with_context(|| format!("keeping the new stream key of channel {channel} in {}", path.display()))?;
    Ok(key)
}

/// 24 characters of 32: 120 bits, without those that are mistaken for others when read aloud.
fn random_key() -> anyhow::Result<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(|error| anyhow!("asking the system for random bytes: {error}"))?;
    Ok(random
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
        .map(|letter| char::from(*letter))
        .collect())
}

/// Writes a new file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::config::{EncodeProfile, LadderConfig, LongGop, MissingRungs, RecordingConfig};
    use crate::media::Container;

    fn channel(keys: Vec<KeyConfig>) -> ChannelConfig {
        let ladder = LadderConfig {
            name: "x".into(),
            profile: EncodeProfile::Balanced,
            long_gop: LongGop::Encode,
            missing_rungs: MissingRungs::Encode,
            renditions: Vec::new(),
            audio_bitrate: 1,
        };
        ChannelConfig {
            name: ChannelName::new("demo").unwrap(),
            ladder: Arc::new(ladder),
            container: Container::Cmaf,
            recording: RecordingConfig::default(),
            window: std::time::Duration::from_secs(60),
            keys,
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept_privately() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(dir.path(), &[channel(Vec::new())]).unwrap();
        let second = load(dir.path(), &[channel(Vec::new())]).unwrap();
        assert_eq!(first[0].made.as_ref().unwrap().len(), 24);
        assert_eq!(first[0].made, second[0].made);
        let mode = std::fs::metadata(dir.path().join("keys/demo")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_given_key_is_not_shown_and_an_empty_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let given = load(dir.path(), &[channel(vec![StreamKey::Plain("k".into()).into()])]).unwrap();
        assert_eq!(given[0].made, None);
        assert!(!dir.path().join("keys").exists());
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/demo"), "\n").unwrap();
        assert!(load(dir.path(), &[channel(Vec::new())]).unwrap_err().to_string().contains("is empty"));
    }
}
