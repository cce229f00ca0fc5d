//! One writer of a channel: where two processes are told to write the same channel into the same store, the younger has it,
//! and the older finds out before it writes another playlist.
//!
//! Who has a channel is said by an object beside the tree of URLs, `writers/CHANNEL.json`. A process replaces it by its own when it
//! starts, before it reads what the one before it left, and looks at it again before the playlists of each goal. What is on its
//! way even then carries the version of the playlist that it is to replace (`If-Match`), so that a store with conditional writes
//! refuses it once the younger has written. Media needs none of that: no two processes make the same key, because the session
//! is in it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Condition, Object, Store, StoreError};
use crate::source::ChannelName;

/// How often a claim is tried anew, where others claim the channel at the same time.
const TRIES: usize = 8;

/// Who writes a channel, as its object says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Of the claim, at random: two processes of the same name are two.
    claim: String,
    /// The machine's name.
    host: String,
    pid: u32,
    /// When it took the channel, RFC 3339.
    since: String,
}

impl Holder {
    /// This process, which takes a channel at `since`.
    #[must_use]
    pub fn new(since: std::time::SystemTime) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let random = getrandom::u64().unwrap_or_default();
        Self {
            claim: format!("{random:016x}"),
            host: host.trim().to_owned(),
            pid: std::process::id(),
            since: chrono::DateTime::<chrono::Utc>::from(since).to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} (since {})", self.pid, self.host, self.since)
    }
}

/// Who has the channel now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This process.
    Own,
    /// Nobody: it is to be claimed.
    Nobody,
    /// Another one.
    Other(Holder),
}

/// The right to write one channel.
#[derive(Clone, Debug)]
pub struct Writer {
    key: String,
    own: Holder,
    store: Arc<dyn Store>,
}

impl Writer {
    /// The right of this process, to be claimed, to write `channel`.
    #[must_use]
    pub fn new(channel: &ChannelName, own: Holder, store: Arc<dyn Store>) -> Self {
        Self { key: key(channel), own, store }
    }

    /// Takes the channel from whoever has it, as this process is the youngest; gives who had it, where somebody had.
    ///
    /// # Errors
    /// Where the store fails: then nobody knows who has the channel. [`StoreError::Changed`] where it is taken time and again.
    pub async fn claim(&self) -> Result<Option<Holder>, StoreError> {
        self.take(|_| true).await.map(Result::unwrap_or_default)
    }

    /// Takes the channel some time after this process has started, unless one has it that was started later, by their clocks.
    ///
    /// # Errors
    /// As [`Writer::claim`].
    pub async fn claim_late(&self) -> Result<Standing, StoreError> {
        let taken = self.take(|holder| holder.since <= self.own.since).await?;
        Ok(taken.map_or_else(Standing::Other, |_| Standing::Own))
    }

    /// Takes the channel from a holder that `may` be replaced; gives who had it, or as the error of the inner result who has it.
    async fn take(&self, may: impl Fn(&Holder) -> bool) -> Result<Result<Option<Holder>, Holder>, StoreError> {
        let mut tries = TRIES;
        loop {
            let (found, unreadable) = match self.store.read(&self.key).await {
                Ok(found) => (found, None),
                // Without the right to list, so may be what is not there.
                Err(error @ StoreError::Denied(_)) => (None, Some(error)),
                Err(error) => return Err(error),
            };
            let from = found.as_ref().and_then(|(data, _)| holder(data));
            match &from {
                // A claim before this one was done, and its answer was lost.
                Some(holder) if *holder == self.own => return Ok(Ok(None)),
                Some(holder) if !may(holder) => return Ok(Err(holder.clone())),
                _ => {}
            }
            let condition = found.map_or(Condition::Absent, |(_, version)| Condition::Is(version));
            match (self.store.put_if(self.object(), condition).await, unreadable) {
                (Ok(_), _) => return Ok(Ok(from)),
                (Err(StoreError::Changed(_)), Some(denied)) => return Err(denied),
                (Err(StoreError::Changed(_)), None) if tries > 0 => tries -= 1,
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Looks who has the channel.
    ///
    /// # Errors
    /// Where that cannot be known.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        let found = self.store.get(&self.key).await?;
        Ok(match found.as_deref().and_then(holder) {
            Some(holder) if holder == self.own => Standing::Own,
            Some(holder) => Standing::Other(holder),
            None => Standing::Nobody,
        })
    }

    fn object(&self) -> Object {
        Object {
            key: self.key.clone(),
            // A struct of strings and a number can be written.
            data: serde_json::to_vec(&self.own).map(Bytes::from).unwrap_or_default(),
            content_type: "application/json",
            cache_control: "no-store".to_owned(),
        }
    }
}

fn key(channel: &ChannelName) -> String {
    format!("writers/{channel}.json")
}

/// What an object says; none where that is nothing.
fn holder(data: &[u8]) -> Option<Holder> {
    serde_json::from_slice(data).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, SystemTime};

    use super::super::FileStore;
    use super::super::scripted::{Outcome, Request, ScriptedStore};
    use super::*;

    fn writer(store: Arc<dyn Store>) -> Writer {
        Writer::new(&ChannelName::new("demo").unwrap(), Holder::new(SystemTime::UNIX_EPOCH), store)
    }

    async fn files() -> (tempfile::TempDir, Arc<dyn Store>) {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).await.unwrap();
        (directory, Arc::new(store))
    }

    #[tokio::test]
    async fn the_younger_has_the_channel() {
        let (directory, store) = files().await;
        let (old, young) = (writer(Arc::clone(&store)), writer(store));
        assert_eq!(old.standing().await, Ok(Standing::Nobody));
        assert_eq!(old.claim().await, Ok(None));
        assert_eq!(old.standing().await, Ok(Standing::Own));
        assert_eq!(young.claim().await, Ok(Some(old.own.clone())));
        assert_eq!(old.standing().await, Ok(Standing::Other(young.own.clone())));
        std::fs::write(directory.path().join("writers/demo.json"), "{").unwrap();
        assert_eq!(old.standing().await, Ok(Standing::Nobody), "what cannot be read is nobody's");
        assert_eq!(old.claim().await, Ok(None));
        let shown = old.own.to_string();
        assert!(shown.starts_with(&format!("process {} on ", std::process::id())) && shown.contains("1970"), "{shown}");
    }

    #[tokio::test]
    async fn of_many_at_one_time_one_has_it_and_each_took_it_from_another() {
        let (_directory, store) = files().await;
        let writers: Vec<_> = (0..TRIES).map(|_| writer(Arc::clone(&store))).collect();
        let mut claims = tokio::task::JoinSet::new();
        for writer in writers.clone() {
            claims.spawn(async move { writer.claim().await.unwrap() });
        }
        let from: Vec<_> = claims.join_all().await.into_iter().map(|from| from.map(|holder| holder.claim)).collect();
        let mut different = from.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), TRIES, "no two took it from the same: {from:?}");
        let mut own = 0;
        for writer in &writers {
            own += usize::from(writer.standing().await == Ok(Standing::Own));
        }
        assert_eq!(own, 1);
    }

    #[tokio::test]
    async fn who_comes_late_takes_nothing_from_a_younger_one() {
        let (_directory, store) = files().await;
        let of = |seconds| {
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            Writer::new(&ChannelName::new("demo").unwrap(), Holder::new(since), Arc::clone(&store))
        };
        let (older, old, young) = (of(999_999_999), of(1_000_000_000), of(1_000_000_001));
        older.claim().await.unwrap();
        assert_eq!(old.claim_late().await, Ok(Standing::Own));
        young.claim().await.unwrap();
        assert_eq!(old.claim_late().await, Ok(Standing::Other(young.own.clone())));
        assert_eq!(young.standing().await, Ok(Standing::Own));
    }

    #[tokio::test]
    async fn a_claim_whose_answer_was_lost_holds() {
        let puts = AtomicUsize::new(0);
        let store = ScriptedStore::new(move |request| match request {
            Request::Put(_) if puts.fetch_add(1, Ordering::Relaxed) == 0 => Outcome::AnswerLost(Duration::ZERO),
            Request::Put(_) => Outcome::Refused(Duration::ZERO),
            _ => Outcome::Done(Duration::ZERO),
        });
        let writer = writer(store);
        writer.claim().await.unwrap_err();
        assert_eq!(writer.claim().await, Ok(None), "nothing is to be written anew");
        assert_eq!(writer.standing().await, Ok(Standing::Own));
    }
}
