//! Brings back what a process before this one left of a channel: its numbers, and what its stored playlists list.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::told::ToldFile;
use crate::config::HlsConfig;
use crate::layout::{self, Resource};
use crate::live::ChannelSnapshot;
use crate::media::MediaTime;
use crate::packager::{Fetched, Former, Objects, Packager, Reading};
use crate::source::ChannelName;
use crate::store::{Inherited, Store, StoreError, Writer};

/// How long a channel's playlists and initialisation segments may take to come back. A store that does not answer must not keep
/// a publisher away: without a playlist the channel goes on with its numbers alone, and what it listed is listed no more.
const LISTS_DEADLINE: Duration = Duration::from_secs(10);

/// How long its media may take. What is not there by then is left in the store, and read when somebody asks for it.
const MEDIA_DEADLINE: Duration = Duration::from_secs(5);

/// How long it may take to claim it before that. Where it cannot be written to, it may still be read.
const CLAIM_DEADLINE: Duration = Duration::from_secs(2);

/// Of how much the media is read back: what is older is left in the store, and read when somebody asks for it.
const HOT_MAX: Duration = Duration::from_secs(60);

/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Objects that are fetched at one time, of one channel.
const PARALLEL: usize = 16;

/// Behind the end of a process before this one: what its encoder had sent and nobody has seen may be sent again.
const MARGIN: MediaTime = MediaTime::from_millis(1_000);

/// What a channel's supervisor starts from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recalled {
    /// Where the timeline goes on; none for a channel that has never been.
    pub(super) position: Option<MediaTime>,
    /// A programme is open, and its publisher may return.
    pub(super) open: bool,
}

/// Where what is recalled goes.
pub(super) struct Handover {
    /// To whoever fetches.
    pub(super) live: watch::Sender<Arc<ChannelSnapshot>>,
    /// To the uploader: what is in the store, and whether it may write there.
    pub(super) inherited: oneshot::Sender<Inherited>,
    /// To the supervisor, when the others have theirs.
    pub(super) recalled: watch::Sender<Option<Recalled>>,
}

/// A channel that is to be brought back.
pub(super) struct Recall {
    pub(super) channel: ChannelName,
    pub(super) hls: HlsConfig,
    /// How long after its end a programme may still go on.
    pub(super) grace: Duration,
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: Writer,
}

impl Recall {
    /// The packager as the process before this one left it, and published.
    pub(super) async fn run(
        self,
        data_dir: &Path,
        to: Handover,
    ) -> (Packager, ToldFile, watch::Sender<Arc<ChannelSnapshot>>) {
        let mut file = ToldFile::new(data_dir, &self.channel);
        let told = file.read();
        // First, lest who had it goes on writing behind what is read.
        let claimed = self.claim().await;
        let former = self.former().await.map(|former| self.ended_if_old(former));
        let last_stored = former.as_ref().map(Former::last);
        let packager = Packager::resume(self.hls, told, former, wall_clock());
        if let Some(stored) = last_stored {
            let (open, told) = (packager.is_open(), packager.told().last);
            info!(channel = %self.channel, %stored, %told, open, "goes on where the process before this one ended");
            file.keep(packager.told());
            to.live.send_replace(Arc::clone(packager.snapshot()));
        }
        // An uploader that is gone needs nothing.
        drop(to.inherited.send(Inherited { stored: Arc::clone(packager.snapshot()), claimed }));
        let position = (packager.edge() > MediaTime::ZERO).then(|| packager.edge() + MARGIN);
        to.recalled.send_replace(Some(Recalled { position, open: packager.is_open() }));
        (packager, file, to.live)
    }

    /// Takes the right to write the channel from the process that had it. False where the store does not answer: then the
    /// uploader takes it as soon as it does.
    async fn claim(&self) -> bool {
        match tried("writers", Instant::now() + CLAIM_DEADLINE, || self.writer.claim()).await {
            Ok(from) => {
                if let Some(from) = from {
                    info!(channel = %self.channel, %from, "takes the channel over");
                }
                true
            }
            Err(error) => {
                debug!(channel = %self.channel, error, "who writes the channel is not known yet");
                false
            }
        }
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
        let deadline = Instant::now() + LISTS_DEADLINE;
        let mut objects = Objects::new();
        loop {
            match Former::read(&self.channel, self.hls.container, self.hls.memory.min(HOT_MAX), &objects) {
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

    /// Fetches objects, in their order; of those that cannot be had in time nothing is known. Playlists and initialisation segments
    /// are tried until `lists`, and for as long as media at least.
    async fn fetch(&self, paths: Vec<String>, lists: Instant, objects: &mut Objects) {
        let media = Instant::now() + MEDIA_DEADLINE;
        let mut waiting = paths.iter();
        let mut requests = JoinSet::new();
        let mut failures = Failures::default();
        loop {
            while requests.len() < PARALLEL
                && let Some(path) = waiting.next()
            {
                let (store, key, path) = (Arc::clone(&self.store), layout::key(&self.channel, path), path.clone());
                let is_media = is_media(&key);
                let deadline = if is_media { media } else { lists.max(media) };
                requests.spawn(async move {
                    let object = tried(&key, deadline, || store.get(&key)).await;
                    (path, is_media, object)
                });
            }
            match requests.join_next().await {
                None => break,
                Some(Ok((path, is_media, object))) => {
                    let object = object.map_or_else(|why| failures.add(is_media, why), Fetched::from);
                    objects.insert(path, object);
                }
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        failures.tell(&self.channel);
    }
}

fn is_media(key: &str) -> bool {
    let resource = Resource::parse(key).map(|(_, resource)| resource);
    matches!(resource, Some(Resource::Segment(..) | Resource::TsSegment(..)))
}

/// What could not be had in time.
#[derive(Default)]
struct Failures {
    media: usize,
    lists: usize,
    /// Why, the first time.
    why: Option<String>,
}

impl Failures {
    fn add(&mut self, is_media: bool, why: String) -> Fetched {
        let count = if is_media { &mut self.media } else { &mut self.lists };
        *count = count.saturating_add(1);
        self.why.get_or_insert(why);
        Fetched::Unknown
    }

    fn tell(&self, channel: &ChannelName) {
        let Some(why) = &self.why else { return };
        if self.lists > 0 {
            let objects = self.lists;
            warn!(%channel, objects, "not all that the channel had can be read back, and it goes on without that: {why}");
        }
        if self.media > 0 {
            let objects = self.media;
            warn!(%channel, objects, "media of the channel cannot be read back now, and is left in the store: {why}");
        }
    }
}

/// What the store is asked about `key`, asked again until it has answered.
///
/// # Errors
/// Why it has not, in a sentence.
async fn tried<T, F>(key: &str, deadline: Instant, mut ask: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        let error = match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => return Err("the store did not answer in time".to_owned()),
        };
        if !error.may_pass() || Instant::now() + PAUSE >= deadline {
            return Err(error.to_string());
        }
        debug!(key, %error, "no answer, and asked again");
        sleep(PAUSE).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a programme that was cut off long ago is over")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::live::Msn;
    use crate::media::Container;
    use crate::store::{At, Condition, Holder, Listed, Object, Version};

    const SECOND: Duration = Duration::from_secs(1);

    /// A store of one channel in MPEG-TS, of four segments of four seconds, that answers as it is told.
    #[derive(Debug)]
    struct Shelf {
        objects: BTreeMap<String, Bytes>,
        answer: fn(&str) -> Result<Duration, StoreError>,
    }

    #[async_trait]
    impl Store for Shelf {
        async fn put(&self, _: Object) -> Result<(), StoreError> {
            unreachable!("nothing is put")
        }

        async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
            sleep((self.answer)(key)?).await;
            Ok(self.objects.get(key).cloned())
        }

        async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
            assert!(key.starts_with("writers/"), "{key}");
            (self.answer)(key).map(|_| None)
        }

        async fn put_if(&self, object: Object, _: Condition) -> Result<Option<Version>, StoreError> {
            assert!(object.key.starts_with("writers/"), "{}", object.key);
            (self.answer)(&object.key).map(|_| None)
        }

        async fn is_conditional(&self) -> Result<bool, StoreError> {
            Ok(true)
        }

        async fn list(&self, _: &str, _: Option<&str>) -> Result<Vec<Listed>, StoreError> {
            unreachable!("nothing is listed")
        }

        async fn delete(&self, _: &[String]) -> Result<(), StoreError> {
            unreachable!("nothing is deleted")
        }

        async fn probe(&self) -> Result<(), StoreError> {
            unreachable!("nothing is tried")
        }
    }

    fn shelf(ended_ago: Duration, answer: fn(&str) -> Result<Duration, StoreError>) -> Shelf {
        let mut list = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n".to_owned();
        let mut objects = BTreeMap::new();
        for number in 7..11u32 {
            let begins = wall_clock() - ended_ago - 4 * SECOND * (11 - number);
            let date = chrono::DateTime::<chrono::Utc>::from(begins).to_rfc3339();
            list += &format!("#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:4.000000,\n9/{number}.ts\n");
            objects.insert(format!("live/demo/a/9/{number}.ts"), Bytes::from_static(b"media"));
        }
        let multivariant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1.64001f\"\na/index.m3u8\n";
        objects.insert("live/demo/index.m3u8".to_owned(), multivariant.into());
        objects.insert("live/demo/a/index.m3u8".to_owned(), list.into());
        Shelf { objects, answer }
    }

    async fn recall(shelf: Shelf) -> (Packager, Recalled) {
        let hls = HlsConfig {
            container: Container::Ts,
            low_latency: false,
            segment_duration: 4 * SECOND,
            part_duration: SECOND,
            window: 20 * SECOND,
            memory: 60 * SECOND,
            memory_max: 60 * SECOND,
        };
        let channel = ChannelName::new("demo").unwrap();
        let store: Arc<dyn Store> = Arc::new(shelf);
        let writer = Writer::new(&channel, Holder::new(wall_clock()), Arc::clone(&store));
        let recall = Recall { channel, hls, grace: 30 * SECOND, store, writer };
        let (recalled, seen) = watch::channel(None);
        let (inherited, handed_over) = oneshot::channel();
        let to = Handover { live: watch::Sender::new(Arc::default()), inherited, recalled };
        let (packager, _, live) = recall.run(tempfile::tempdir().unwrap().path(), to).await;
        assert!(Arc::ptr_eq(&handed_over.await.unwrap().stored, packager.snapshot()));
        let published = packager.snapshot().multivariant.is_some();
        assert_eq!(Arc::ptr_eq(&live.borrow(), packager.snapshot()), published, "before anybody is told that it is");
        let seen = seen.borrow().unwrap();
        (packager, seen)
    }

    fn listed(packager: &Packager) -> Vec<(u64, bool)> {
        let renditions = packager.snapshot().renditions.iter().flat_map(|rendition| rendition.listed());
        renditions.map(|segment| (segment.msn.0, segment.is_gap())).collect()
    }

    fn broken(of: fn(At) -> StoreError) -> StoreError {
        of(At { place: "here".to_owned(), detail: "it is broken".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_cut_off_just_now_goes_on_and_what_was_long_ago_is_over() {
        let (packager, recalled) = recall(shelf(SECOND, |_| Ok(SECOND))).await;
        assert_eq!(listed(&packager), [(7, false), (8, false), (9, false), (10, false)]);
        assert!(recalled.open && recalled.position.is_some());
        let (packager, recalled) = recall(shelf(60 * SECOND, |_| Ok(SECOND))).await;
        assert!(packager.snapshot().ended && !recalled.open);
        assert_eq!(packager.told().last, Msn(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_slow_gives_what_it_can() {
        let begun = Instant::now();
        let slow = |key: &str| {
            let time = match key {
                "live/demo/a/9/8.ts" | "live/demo/a/9/10.ts" => 60 * SECOND,
                "live/demo/index.m3u8" => MEDIA_DEADLINE + SECOND,
                _ => SECOND,
            };
            Ok(time)
        };
        let (packager, recalled) = recall(shelf(SECOND, slow)).await;
        let all = vec![(7, false), (8, false), (9, false), (10, false)];
        assert_eq!((listed(&packager), recalled.open), (all, true));
        let cold: Vec<_> = packager.snapshot().renditions[0].listed().map(|segment| segment.is_cold()).collect();
        assert_eq!(cold, [false, true, false, true], "who asks for it may have it later");
        assert_eq!(begun.elapsed(), MEDIA_DEADLINE + 2 * SECOND + MEDIA_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_given_up() {
        let mut shelf = shelf(SECOND, |_| Ok(SECOND));
        assert!(shelf.objects.remove("live/demo/a/9/8.ts").is_some());
        let (packager, _) = recall(shelf).await;
        assert_eq!(listed(&packager), [(9, false), (10, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_again_while_that_may_help() {
        let begun = Instant::now();
        let (packager, recalled) = recall(shelf(SECOND, |_| Err(broken(StoreError::Unreachable)))).await;
        assert!(!recalled.open && packager.snapshot().multivariant.is_none());
        let longest = CLAIM_DEADLINE + LISTS_DEADLINE;
        assert!(begun.elapsed() > longest - 4 * PAUSE && begun.elapsed() <= longest, "{:?}", begun.elapsed());
        let begun = Instant::now();
        drop(recall(shelf(SECOND, |_| Err(broken(StoreError::Denied)))).await);
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for what waiting does not mend");
    }
}
