//! What players were told of a channel's numbers, kept in a file below the data directory: the store is behind the origin by
//! what is on its way there, and after a crash nobody else knows what was told.
//!
//! One write for each segment, of a few bytes at the same place, and no sync: it has to outlive the process. Where the whole
//! machine goes down, the playlists in the store are what is left.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::live::Msn;
use crate::packager::Told;
use crate::source::ChannelName;

/// The file of one channel.
#[derive(Debug)]
pub(super) struct ToldFile {
    path: PathBuf,
    /// Opened by the first write.
    file: Option<File>,
    last: Told,
    failing: bool,
}

impl ToldFile {
    /// The file of `channel`, which may be missing.
    pub(super) fn new(data_dir: &Path, channel: &ChannelName) -> Self {
        let path = data_dir.join("told").join(channel.as_str());
        Self { path, file: None, last: Told::default(), failing: false }
    }

    /// What a process before this one told; nothing where there is no such file, or it holds something else.
    pub(super) fn read(&self) -> Told {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => parse(&text).unwrap_or_else(|| {
                warn!(path = %self.path.display(), "not the numbers of a channel: only the store's playlists are gone on from");
                Told::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Told::default(),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot be read: only the store's playlists are gone on from");
                Told::default()
            }
        }
    }

    /// Keeps what is told from now on.
    pub(super) fn keep(&mut self, told: Told) {
        if told == self.last {
            return;
        }
        self.last = told;
        let kept = self.write(told);
        let path = self.path.display();
        match (&kept, self.failing) {
            (Err(error), false) => {
                warn!(%path, %error, "what players were told is not kept: should this process be killed, numbers may be used twice");
            }
            (Ok(()), true) => info!(%path, "what players were told is kept again"),
            _ => {}
        }
        self.failing = kept.is_err();
    }

    fn write(&mut self, told: Told) -> io::Result<()> {
        if self.file.is_none() {
            self.path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            self.file = Some(OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?);
        }
        // As wide as any number: a shorter one leaves nothing of a longer one behind it.
        let text = format!("{:020} {:020}\n", told.last.0, told.discontinuity_sequence);
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(text.as_bytes(), 0))
    }

    /// The channel is no more: its playlists in the store are all that is left of it.
    pub(super) fn remove(data_dir: &Path, channel: &ChannelName) {
        // Where there is none, nothing was told. One that stays does no harm.
        drop(std::fs::remove_file(Self::new(data_dir, channel).path));
    }
}

fn parse(text: &str) -> Option<Told> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let told = Told { last: Msn(numbers.next()?.ok()?), discontinuity_sequence: numbers.next()?.ok()? };
    numbers.next().is_none().then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let channel = ChannelName::new("demo").unwrap();
        let mut file = ToldFile::new(folder.path(), &channel);
        assert_eq!(file.read(), Told::default());
        for last in [9_999, 10_000, 7] {
            let told = Told { last: Msn(last), discontinuity_sequence: 3 };
            file.keep(told);
            assert_eq!(ToldFile::new(folder.path(), &channel).read(), told);
        }
        ToldFile::remove(folder.path(), &channel);
        assert_eq!(ToldFile::new(folder.path(), &channel).read(), Told::default());
    }

    #[test]
    fn anything_else_is_no_number() {
        for text in ["", "1", "1 x", "1 2 3", "-1 2", "99999999999999999999 1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
