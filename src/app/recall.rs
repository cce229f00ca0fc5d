//! Brings back what a process before this one left of a channel: its numbers, and what its stored playlists list.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::told::ToldFile;
use crate::config::HlsConfig;
use crate::layout;
use crate::live::ChannelSnapshot;
use crate::media::MediaTime;
use crate::packager::{Former, Objects, Packager, Reading};
use crate::source::ChannelName;
use crate::store::Store;

/// How long a channel may take to come back. A store that does not answer must not keep a publisher away, and what is not
/// there by then is given up: the channel goes on with what is, or with its numbers alone.
const DEADLINE: Duration = Duration::from_secs(5);

/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Objects that are fetched at one time, of one channel.
const PARALLEL: usize = 16;

/// Behind the end of a process before this one: what its encoder had sent and nobody has seen may be sent again.
const MARGIN: MediaTime = MediaTime::from_millis(1_000);

/// What the tasks of a channel start from.
#[derive(Clone, Debug)]
pub(super) struct Recalled {
    /// Where the timeline goes on; none for a channel that has never been.
    pub(super) position: Option<MediaTime>,
    /// A programme is open, and its publisher may return.
    pub(super) open: bool,
    /// What is in the store of it.
    pub(super) stored: Arc<ChannelSnapshot>,
}

/// A channel that is to be brought back.
pub(super) struct Recall {
    pub(super) channel: ChannelName,
    pub(super) hls: HlsConfig,
    /// How long after its end a programme may still go on.
    pub(super) grace: Duration,
    pub(super) store: Arc<dyn Store>,
}

impl Recall {
    /// The packager as the process before this one left it, and published. Then the others are told by `recalled`.
    pub(super) async fn run(
        self,
        data_dir: &Path,
        live: &watch::Sender<Arc<ChannelSnapshot>>,
        recalled: &watch::Sender<Option<Recalled>>,
    ) -> (Packager, ToldFile) {
        let mut file = ToldFile::new(data_dir, &self.channel);
        let told = file.read();
        let former = self.former().await.map(|former| self.ended_if_old(former));
        let last_stored = former.as_ref().map(Former::last);
        let packager = Packager::resume(self.hls, told, former, wall_clock());
        if let Some(stored) = last_stored {
            let (open, told) = (packager.is_open(), packager.told().last);
            info!(channel = %self.channel, %stored, %told, open, "goes on where the process before this one ended");
            file.keep(packager.told());
            live.send_replace(Arc::clone(packager.snapshot()));
        }
        let position = (packager.edge() > MediaTime::ZERO).then(|| packager.edge() + MARGIN);
        let stored = Arc::clone(packager.snapshot());
        recalled.send_replace(Some(Recalled { position, open: packager.is_open(), stored }));
        (packager, file)
    }

    /// A programme that was cut off longer ago than anybody would wait for it is over.
    fn ended_if_old(&self, mut former: Former) -> Former {
        let until = former.ends_at().and_then(|end| end.checked_add(self.hls.window + self.grace));
        if former.is_open() && until.is_some_and(|until| until < wall_clock()) {
            info!(channel = %self.channel, "the last programme was cut off long ago: it ends");
            former.end();
        }
        former
    }

    /// What the store has of the channel; nothing where that cannot be gone on from.
    async fn former(&self) -> Option<Former> {
        let deadline = Instant::now() + DEADLINE;
        let mut objects = Objects::new();
        loop {
            match Former::read(&self.channel, self.hls.container, &objects) {
                Ok(Reading::Nothing) => return None,
                Ok(Reading::Whole(former)) => return Some(*former),
                Ok(Reading::Needs(paths)) => self.fetch(paths, deadline, &mut objects).await,
                Err(error) => {
                    warn!(channel = %self.channel, %error, "the playlists in the store cannot be gone on from: the channel begins anew");
                    return None;
                }
            }
        }
    }

    /// Fetches objects, in their order; those that cannot be had by the deadline are as good as lost.
    async fn fetch(&self, paths: Vec<String>, deadline: Instant, objects: &mut Objects) {
        let mut waiting = paths.iter();
        let mut requests = JoinSet::new();
        let mut late = 0;
        loop {
            while requests.len() < PARALLEL
                && let Some(path) = waiting.next()
            {
                let (store, channel, path) = (Arc::clone(&self.store), self.channel.clone(), path.clone());
                requests.spawn(async move {
                    let object = timeout_at(deadline, get(&*store, &layout::key(&channel, &path))).await;
                    (path, object)
                });
            }
            match requests.join_next().await {
                None => break,
                Some(Ok((path, object))) => {
                    late += u64::from(object.is_err());
                    objects.insert(path, object.unwrap_or(None));
                }
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        if late > 0 {
            warn!(channel = %self.channel, objects = late, after = ?DEADLINE, "the store did not give back in time what the channel had");
        }
    }
}

/// An object, tried until the store has said whether there is one.
async fn get(store: &dyn Store, key: &str) -> Option<Bytes> {
    loop {
        match store.get(key).await {
            Ok(object) => return object,
            Err(error) => {
                debug!(key, %error, "not read");
                sleep(PAUSE).await;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a programme that was cut off long ago is over")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
