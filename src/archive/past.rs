//! The past of channels, read out of an archive: their indexes, and the blocks that those name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache as Moka;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use super::{Archive, Content, Found, Lack, Wanted};
use crate::chronicle::{Block, BlockKey, Chronicle};
use crate::layout::Resource;
use crate::source::ChannelName;

/// Reads what is kept of channels. Clones share the archive, and what was read.
#[derive(Clone, Debug)]
pub struct Past {
    archive: Arc<dyn Archive>,
    /// Bounds the lists that are made at one time.
    turns: Arc<Semaphore>,
    /// By their paths: blocks never change.
    blocks: Moka<String, Arc<Block>>,
    /// By their channels: the tag of a text, and what it says.
    chronicles: Moka<ChannelName, (String, Arc<Chronicle>)>,
}

/// The blocks of a list, and the leave to make it.
#[derive(Debug)]
pub struct Blocks {
    /// By what they are found by.
    pub blocks: BTreeMap<BlockKey, Arc<Block>>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Past {
    /// Out of `archive`.
    #[must_use]
    pub fn new(archive: Arc<dyn Archive>) -> Self {
        let turns = Arc::new(Semaphore::new(TURNS));
        Self { archive, turns, blocks: Moka::new(BLOCKS_MAX), chronicles: Moka::new(CHRONICLES_MAX) }
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

    /// These blocks of a channel's index. As long as they are not dropped, few others are given any.
    ///
    /// # Errors
    /// Where one of them is not there, or cannot be had; [`Lack::Busy`] where many want some.
    pub async fn blocks(&self, channel: &ChannelName, needed: &[BlockKey]) -> Result<Blocks, Lack> {
        if needed.is_empty() {
            return Ok(Blocks { blocks: BTreeMap::new(), _turn: None });
        }
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Lack::Busy) };
        let mut blocks = BTreeMap::new();
        for key in needed {
            blocks.insert(*key, self.block(channel, *key).await?);
        }
        Ok(Blocks { blocks, _turn: Some(turn) })
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

/// A list of a day is some megabytes of blocks.
const TURNS: usize = 4;

/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Blocks in memory: some 30 KiB each of a ladder of four.
const BLOCKS_MAX: u64 = 512;

/// Indexes in memory.
const CHRONICLES_MAX: u64 = 256;
