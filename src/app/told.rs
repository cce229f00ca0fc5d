//! What players were told of a channel's numbers, kept in a file below the data directory: the store is behind the origin by
//! what is on its way there, and after a crash nobody else knows what was told.
//!
//! One write for each part, of a few bytes at the same place, and no sync: it has to outlive the process. Where the whole
//! machine goes down, the playlists in the store are what is left.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use crate::live::{Msn, SessionId};
use crate::media::MediaTime;
use crate::packager::{NUMBER_MAX, Told};
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
        let (lasted, edge) = (micros(told.lasted), micros(told.edge));
        let numbers = [told.last.0, lasted, told.discontinuity_sequence, told.session.0, edge, u64::from(told.ended)];
        let text = numbers.map(|number| format!("{number:020}")).join(" ") + "\n";
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(text.as_bytes(), 0))
    }

    /// The channel is no more. Its playlists in the store are all that is left of it, if they have come as far as players
    /// have: else the numbers are kept.
    pub(super) fn remove(data_dir: &Path, channel: &ChannelName, stored: Option<Msn>) {
        let file = Self::new(data_dir, channel);
        if stored.is_some_and(|stored| file.read().last <= stored) {
            // One that stays does no harm.
            drop(std::fs::remove_file(file.path));
        }
    }
}

fn micros(time: MediaTime) -> u64 {
    u64::try_from(time.as_nanos() / 1_000).unwrap_or(0)
}

fn time(micros: u64) -> MediaTime {
    MediaTime::from(Duration::from_micros(micros))
}

fn parse(text: &str) -> Option<Told> {
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    let [last, lasted, discontinuity_sequence, session, edge, ended] = numbers.ok()?.try_into().ok()?;
    let sane = [last, lasted, discontinuity_sequence, session, edge].iter().all(|number| *number <= NUMBER_MAX);
    let told = Told {
        last: Msn(last),
        lasted: time(lasted),
        discontinuity_sequence,
        session: SessionId(session),
        edge: time(edge),
        ended: ended == 1,
    };
    (sane && ended <= 1).then_some(told)
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
        for (last, ended) in [(9_999, false), (10_000, true), (7, false)] {
            let (session, edge) = (SessionId(1_800_000_000_000), MediaTime::from_millis(86_400_123));
            let lasted = MediaTime::from_nanos(1_533_333_000);
            let told = Told { last: Msn(last), lasted, discontinuity_sequence: 3, session, edge, ended };
            file.keep(told);
            assert_eq!(ToldFile::new(folder.path(), &channel).read(), told);
        }
        for (stored, left) in [(None, 7), (Some(6), 7), (Some(7), 0)] {
            ToldFile::remove(folder.path(), &channel, stored.map(Msn));
            assert_eq!(ToldFile::new(folder.path(), &channel).read().last, Msn(left));
        }
    }

    #[test]
    fn anything_else_is_no_number() {
        for text in
            ["", "1", "1 2 3 4 5 x", "1 2 3 4 5 0 7", "-1 2 3 4 5 0", "1 2 3 4 5 2", "18446744073709551615 0 0 0 0 0"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
