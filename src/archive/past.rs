//! The past of channels, read out of an archive: their indexes, and the blocks that those name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache as Moka;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

use super::{Archive, Content, Found, Lack, Wanted};
use crate::caching::Cache;
use crate::chronicle::{Block, BlockKey, Chronicle};
use crate::layout::Resource;
use crate::live::Playlist;
use crate::source::ChannelName;

/// Reads what is kept of channels. Clones share the archive, and what was read.
#[derive(Clone, Debug)]
pub struct Past {
    archive: Arc<dyn Archive>,
    /// Bounds the lists that are made at one time.
    turns: Arc<Semaphore>,
    /// Bounds those whose blocks are fetched: apart, so that a store that hangs keeps no list waiting that has all it needs.
    fetches: Arc<Semaphore>,
    /// By their paths: blocks never change.
    blocks: Moka<String, Arc<Block>>,
    /// By what they are made of.
    lists: Moka<String, Arc<List>>,
    /// By their channels: the tag of a text, and what it says.
    chronicles: Moka<ChannelName, (String, Arc<Chronicle>)>,
}

/// Blocks, by what they are found by.
pub type Blocks = BTreeMap<BlockKey, Arc<Block>>;

/// A playlist of what was, as it is served.
#[derive(Clone, Debug)]
pub struct List {
    /// The text.
    pub text: Playlist,
    /// How long others may use it.
    pub cache: Cache,
}

impl List {
    /// With everything made that is made once.
    fn compressed(self) -> Self {
        let _: &Bytes = self.text.gzip();
        self
    }

    fn weight(&self) -> u32 {
        u32::try_from(self.text.text.len().saturating_add(self.text.gzip().len())).unwrap_or(u32::MAX)
    }
}

impl Past {
    /// Out of `archive`.
    #[must_use]
    pub fn new(archive: Arc<dyn Archive>) -> Self {
        let (turns, fetches) = (Arc::new(Semaphore::new(TURNS)), Arc::new(Semaphore::new(FETCHES)));
        let weigh = |name: &String, list: &Arc<List>| {
            list.weight().saturating_add(u32::try_from(name.len()).unwrap_or(u32::MAX))
        };
        Self {
            archive,
            turns,
            fetches,
            blocks: Moka::new(BLOCKS_MAX),
            lists: Moka::builder().weigher(weigh).max_capacity(LISTS_BYTES_MAX).build(),
            chronicles: Moka::new(CHRONICLES_MAX),
        }
    }

    /// A thing as it is stored.
    pub async fn stored(&self, channel: &ChannelName, resource: &Resource) -> Found {
        self.archive.fetch(Wanted { channel, resource, directives: None }).await
    }

    /// The index of a channel.
    ///
    /// # Errors
    /// Where there is none, or it cannot be had.
    pub async fn chronicle(&self, channel: &ChannelName) -> Result<Arc<Chronicle>, Lack> {
        let copy = self.stored(channel, &Resource::Chronicle).await?;
        let Content::Text(text) = &copy.content else { return Err(Lack::Failing) };
        if let Some((_, known)) = self.chronicles.get(channel).filter(|(etag, _)| *etag == text.etag) {
            return Ok(known);
        }
        let read = Chronicle::read(&text.text).map_err(|error| {
            warn!(%channel, "the index of what is kept cannot be read: {error}");
            Lack::Failing
        });
        let chronicle = Arc::new(read?);
        self.chronicles.insert(channel.clone(), (text.etag.clone(), Arc::clone(&chronicle)));
        Ok(chronicle)
    }

    /// The list of this name, which says what it is made of: `make` makes it of `needed` blocks, where nobody has asked for it lately.
    ///
    /// # Errors
    /// As [`Past::made`]; [`Lack::Absent`] where there is nothing to list.
    pub async fn list(
        &self,
        name: String,
        channel: &ChannelName,
        needed: &[BlockKey],
        make: impl FnOnce(&Blocks) -> Option<List> + Send + 'static,
    ) -> Result<Arc<List>, Lack> {
        if let Some(known) = self.lists.get(&name) {
            return Ok(known);
        }
        let lists = self.lists.clone();
        let make = move |blocks: &Blocks| {
            // Many ask for a new one at the same time: whoever has the next turn finds it.
            lists.get(&name).or_else(|| {
                let made = make(blocks).map(List::compressed).map(Arc::new);
                made.inspect(|made| lists.insert(name, Arc::clone(made)))
            })
        };
        self.made(channel, needed, make).await?.ok_or(Lack::Absent)
    }

    /// What `make` makes of these blocks of a channel's index. A few are made at one time, on threads where nothing waits for them: a
    /// list of a day has some megabytes.
    ///
    /// # Errors
    /// Where one of the blocks is not there, or cannot be had; [`Lack::Busy`] where many want something.
    pub async fn made<T: Send + 'static>(
        &self,
        channel: &ChannelName,
        needed: &[BlockKey],
        make: impl FnOnce(&Blocks) -> T + Send + 'static,
    ) -> Result<T, Lack> {
        let blocks = match self.known(channel, needed) {
            Some(blocks) => blocks,
            None => self.fetched(channel, needed).await?,
        };
        let turn = turn_of(&self.turns).await?;
        let made = spawn_blocking(move || {
            let made = make(&blocks);
            drop(turn);
            made
        });
        Ok(made.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
    }

    /// These blocks, where all of them are in memory.
    fn known(&self, channel: &ChannelName, needed: &[BlockKey]) -> Option<Blocks> {
        let known = |(session, first): BlockKey| self.blocks.get(&Resource::Block(session, first).path(channel));
        needed.iter().map(|key| Some((*key, known(*key)?))).collect()
    }

    async fn fetched(&self, channel: &ChannelName, needed: &[BlockKey]) -> Result<Blocks, Lack> {
        let _turn = turn_of(&self.fetches).await?;
        let mut blocks = BTreeMap::new();
        for key in needed {
            blocks.insert(*key, self.block(channel, *key).await?);
        }
        Ok(blocks)
    }

    async fn block(&self, channel: &ChannelName, (session, first): BlockKey) -> Result<Arc<Block>, Lack> {
        let resource = Resource::Block(session, first);
        let path = resource.path(channel);
        if let Some(block) = self.blocks.get(&path) {
            return Ok(block);
        }
        let copy = self.stored(channel, &resource).await?;
        let read = serde_json::from_slice(copy.data()).map_err(|error| {
            warn!(path, %error, "a block of the index of what is kept cannot be read");
            Lack::Failing
        });
        let block = Arc::new(read?);
        self.blocks.insert(path, Arc::clone(&block));
        Ok(block)
    }
}

async fn turn_of(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Lack> {
    let turn = timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or(Lack::Busy)
}

/// What takes longest has a tenth of a second of a processor, which live channels need too.
const TURNS: usize = 2;

/// Lists whose blocks are fetched at one time: of a list of a day and a half some 4 MB.
const FETCHES: usize = 8;

/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Blocks in memory: some 30 KiB each of a ladder of four.
const BLOCKS_MAX: u64 = 512;

/// Lists in memory: of a day one has 4 MB.
const LISTS_BYTES_MAX: u64 = 64 << 20;

/// Indexes in memory.
const CHRONICLES_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::SystemTime;

    use async_trait::async_trait;

    use super::super::Found;
    use super::*;

    /// Has nothing, or never says so.
    #[derive(Debug)]
    struct Empty {
        hangs: bool,
    }

    #[async_trait]
    impl Archive for Empty {
        fn peek(&self, _: Wanted<'_>) -> Option<Found> {
            None
        }

        async fn fetch(&self, _: Wanted<'_>) -> Found {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Err(Lack::Absent)
        }

        async fn listing(&self) -> Option<Bytes> {
            None
        }

        async fn failing(&self) -> Option<String> {
            None
        }
    }

    #[tokio::test]
    async fn a_list_is_made_once_for_all_who_ask() {
        let (past, made) = (Past::new(Arc::new(Empty { hangs: false })), Arc::new(AtomicUsize::new(0)));
        let channel = ChannelName::new("demo").unwrap();
        let list = async |name: &str, there_is_one: bool| {
            let count = Arc::clone(&made);
            let make = move |_: &Blocks| {
                count.fetch_add(1, Ordering::Relaxed);
                let text = Playlist::tagged("#EXTM3U\n".into(), SystemTime::UNIX_EPOCH);
                there_is_one.then_some(List { text, cache: Cache::OVER })
            };
            past.list(name.to_owned(), &channel, &[], make).await.map(|list| list.text.etag.clone())
        };
        let all = tokio::join!(list("one", true), list("one", true), list("one", true), list("one", true));
        assert!(all.0.is_ok() && all.0 == all.1 && all.1 == all.2 && all.2 == all.3);
        assert!(made.load(Ordering::Relaxed) <= TURNS, "those who are at it in that moment");
        made.store(0, Ordering::Relaxed);
        assert!(list("one", true).await.is_ok());
        assert_eq!(made.load(Ordering::Relaxed), 0);
        assert_eq!((list("two", false).await, list("two", false).await), (Err(Lack::Absent), Err(Lack::Absent)));
        assert_eq!(made.load(Ordering::Relaxed), 2);
        let missing =
            past.list("three".to_owned(), &channel, &[(crate::live::SessionId(1), crate::live::Msn(1))], |_| None);
        assert_eq!(missing.await.map(drop), Err(Lack::Absent));
    }

    #[tokio::test]
    async fn what_is_at_hand_does_not_wait_for_what_hangs() {
        let (past, channel) = (Past::new(Arc::new(Empty { hangs: true })), ChannelName::new("demo").unwrap());
        let mut hanging = tokio::task::JoinSet::new();
        for session in 0..20 {
            let (past, channel) = (past.clone(), channel.clone());
            let block = (crate::live::SessionId(session), crate::live::Msn(1));
            hanging.spawn(async move { past.made(&channel, &[block], |_| ()).await });
        }
        // Each has its turn, where there is one.
        tokio::task::yield_now().await;
        assert_eq!(past.made(&channel, &[], |_| 5).await, Ok(5));
    }
}
