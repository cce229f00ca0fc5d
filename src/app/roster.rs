//! The channels that there are: those of the config, which stay, and those that the webhook names, which come and go.
//!
//! A channel is some tasks: its supervisor, its packager, its uploader and its chronicler first of all. One that was made on the fly
//! ends by itself when it is idle; once its uploader and its chronicler, the last of them, are gone, nothing of it is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use super::channel::Channel;
use super::chronicler::{self, chronicle};
use super::inspection::inspect;
use super::recall::{Handover, Recall, Recalled};
use super::stage::Stage;
use super::takeover::Takeovers;
use super::thumbnails;
use super::told::ToldFile;
use super::{DRAIN_DEADLINE, FINISH_DEADLINE};
use crate::config::{
    ChannelConfig, ChannelDefaults, Config, HlsConfig, LadderConfig, RecordingConfig, ThumbnailConfig,
};
use crate::live::{ChannelPhase, ChannelSnapshot, ChannelView, Directory, UploadStatus};
use crate::metrics::Metrics;
use crate::packager;
use crate::source::{ChannelName, OpenRequest, PublishRequest, Refusal};
use crate::store::{self, Holder, Spool, Store, Writer};

/// Units between the transcoder and the packager of a channel. When it is full the pipeline waits, and with it the
/// publisher: the packager never waits for anything, so this is only ever for moments.
const LADDER_QUEUE: usize = 256;

/// Publishers that wait for a channel's answer. When it is full, so that the channel does not answer, they wait
/// until their own deadline.
const REQUEST_QUEUE: usize = 4;

/// Requests about a channel's past that wait. When it is full, who asks waits.
const ORDER_QUEUE: usize = 4;

/// What every channel is made from.
pub(super) struct Setup {
    hls: HlsConfig,
    data_dir: PathBuf,
    defaults: ChannelDefaults,
    ladders: BTreeMap<String, Arc<LadderConfig>>,
    /// Channels on the fly at one time, and how long one may be idle.
    fleeting_max: usize,
    idle: Duration,
    store: Arc<dyn Store>,
    spool: Option<Spool>,
    metrics: Metrics,
    recordings: RecordingConfig,
    /// None where they are off.
    thumbnails: Option<ThumbnailConfig>,
    /// Still pictures that are made at one time: the ladders come first.
    thumbnail_turns: Arc<Semaphore>,
}

/// All channels and their tasks.
pub(super) struct Roster {
    setup: Setup,
    supervisors: Stage,
    packagers: Stage,
    uploaders: Stage,
    chroniclers: Stage,
    inspectors: Stage,
    photographers: Stage,
    /// Uploads stop where they are.
    drained: CancellationToken,
    /// Whether the channels that stay have come back.
    recalls: Vec<watch::Receiver<Option<Recalled>>>,
    /// Those that the webhook named.
    fleeting: BTreeMap<ChannelName, mpsc::Sender<PublishRequest>>,
    /// Requests for channels that are still going; answered when they are gone. Bounded by the connections that wait.
    postponed: Vec<OpenRequest>,
    directory: watch::Sender<Directory>,
}

impl Setup {
    pub(super) fn new(config: &Config, store: Arc<dyn Store>, spool: Option<Spool>, metrics: Metrics) -> Self {
        let hooks = config.hooks.as_ref();
        Self {
            hls: config.hls,
            data_dir: config.data_dir.clone(),
            defaults: config.channel,
            ladders: config.ladders.clone(),
            fleeting_max: hooks.map_or(0, |hooks| hooks.channels_max),
            idle: hooks.map_or(Duration::ZERO, |hooks| hooks.channel_idle),
            store,
            spool,
            metrics,
            recordings: config.recordings.clone(),
            thumbnails: config.thumbnails,
            thumbnail_turns: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Roster {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            supervisors: Stage::new("channel"),
            packagers: Stage::new("packager"),
            uploaders: Stage::new("store"),
            chroniclers: Stage::new("recordings"),
            inspectors: Stage::new("verify"),
            photographers: Stage::new("thumbnails"),
            drained: CancellationToken::new(),
            recalls: Vec::new(),
            fleeting: BTreeMap::new(),
            postponed: Vec::new(),
            directory: watch::Sender::new(Arc::default()),
        }
    }

    /// The channels, for whoever shows them.
    pub(super) fn directory(&self) -> watch::Receiver<Directory> {
        self.directory.subscribe()
    }

    /// Starts a channel that stays.
    pub(super) fn start(&mut self, config: &ChannelConfig) -> mpsc::Sender<PublishRequest> {
        // Whoever comes to a channel has shown its key before.
        let (requests, recalled) = self.start_channel(ChannelConfig { keys: Vec::new(), ..config.clone() }, None);
        self.recalls.push(recalled);
        requests
    }

    /// Waits until all channels that stay are as a process before this one left them, as far as that can be had.
    pub(super) async fn recalled(&mut self) {
        for mut recalled in self.recalls.drain(..) {
            // One that failed is reported where it is joined.
            drop(recalled.wait_for(Option::is_some).await);
        }
    }

    /// No further publisher is admitted, and nobody who is lost is waited for.
    pub(super) fn close(&self) {
        self.supervisors.stop.cancel();
    }

    /// Opens channels on the fly and removes them when they are gone. Returns when `opens` closes; cancel safe.
    pub(super) async fn attend(&mut self, opens: &mut mpsc::Receiver<OpenRequest>) {
        loop {
            tokio::select! {
                request = opens.recv() => match request {
                    Some(request) => self.open(request),
                    None => return,
                },
                () = self.supervisors.next() => {}
                () = self.packagers.next() => {}
                () = self.inspectors.next() => {}
                () = self.photographers.next() => {}
                () = self.uploaders.next() => self.sweep(),
                () = self.chroniclers.next() => self.sweep(),
            }
        }
    }

    /// Ends the channels in the direction of the data, so that each task can finish what the one before it sent.
    pub(super) async fn shut_down(&mut self) {
        self.supervisors.end(FINISH_DEADLINE).await;
        self.packagers.end(FINISH_DEADLINE).await;
        self.inspectors.end(FINISH_DEADLINE).await;
        self.photographers.end(FINISH_DEADLINE).await;
        if timeout(DRAIN_DEADLINE, self.uploaders.join()).await.is_err() {
            warn!(deadline = ?DRAIN_DEADLINE, "not all segments reached the store in time");
            self.drained.cancel();
            self.uploaders.end(FINISH_DEADLINE).await;
        }
        // They end with their uploaders.
        if timeout(FINISH_DEADLINE, self.chroniclers.join()).await.is_err() {
            warn!(deadline = ?FINISH_DEADLINE, "not all that is known of recordings reached the store in time");
            self.chroniclers.end(Duration::ZERO).await;
        }
    }

    fn open(&mut self, request: OpenRequest) {
        // Nobody waits any more.
        self.postponed.retain(|postponed| !postponed.reply.is_closed());
        let answer = match self.fleeting.get(&request.channel) {
            Some(requests) if requests.is_closed() => return self.postponed.push(request),
            Some(requests) => Ok(requests.clone()),
            None => self.make(&request),
        };
        drop(request.reply.send(answer));
    }

    fn make(&mut self, request: &OpenRequest) -> Result<mpsc::Sender<PublishRequest>, Refusal> {
        if self.fleeting.len() >= self.setup.fleeting_max {
            warn!(channel = %request.channel, max = self.setup.fleeting_max, "no channel is made: there are too many");
            return Err(Refusal::Full);
        }
        let ladder = request.ladder.as_deref().unwrap_or("default");
        let Some(ladder) = self.setup.ladders.get(ladder) else {
            warn!(channel = %request.channel, ladder, "no channel is made: the webhook named a ladder that there is not");
            return Err(Refusal::NoLadder(ladder.chars().filter(|c| !c.is_control()).take(64).collect()));
        };
        info!(channel = %request.channel, ladder = ladder.name, "channel made");
        let (name, container) = (request.channel.clone(), self.setup.hls.container);
        let (window, recording) = (self.setup.hls.window, self.setup.recordings.clone());
        let ladder = Arc::clone(ladder);
        let config = ChannelConfig { name, ladder, container, window, recording, keys: Vec::new() };
        let (requests, _) = self.start_channel(config, Some(self.setup.idle));
        self.fleeting.insert(request.channel.clone(), requests.clone());
        Ok(requests)
    }

    /// Starts the tasks of a channel, joined by their queues. They begin when it is known what a process before this
    /// one left.
    fn start_channel(
        &mut self,
        config: ChannelConfig,
        idle_max: Option<Duration>,
    ) -> (mpsc::Sender<PublishRequest>, watch::Receiver<Option<Recalled>>) {
        let Setup { hls, defaults, metrics, store, .. } = &self.setup;
        let (hls, metrics, store) = (hls.of(&config), metrics.clone(), Arc::clone(store));
        let name = config.name.clone();
        let (request, requests) = mpsc::channel(REQUEST_QUEUE);
        let (ladder, ladder_events) = mpsc::channel(LADDER_QUEUE);
        let (phase, phase_view) = watch::channel(ChannelPhase::default());
        let (live, live_view) = watch::channel(Arc::new(ChannelSnapshot::default()));
        let (upload, upload_view) = watch::channel(UploadStatus::default());

        let (recalls, recalled) = watch::channel(None);
        let (hand_over, inherited) = oneshot::channel();
        let grace = defaults.grace;

        let writer = Writer::new(&name, Holder::new(wall_clock()), Arc::clone(&store));
        let recall = Recall { channel: name.clone(), hls, grace, store: Arc::clone(&store), writer: writer.clone() };
        let to = Handover { live, inherited: hand_over, recalled: recalls };
        let (channel, counters, data_dir) = (name.clone(), metrics.clone(), self.setup.data_dir.clone());
        let uploaded = upload_view.clone();
        self.packagers.spawn(|_| async move {
            let (packager, mut file, live) = recall.run(&data_dir, to).await;
            let keep = Box::new(move |told| file.keep(told));
            let setup = packager::Setup { channel, metrics: counters, keep, upload: uploaded };
            packager::run(setup, packager, ladder_events, live).await;
        });
        let inspection = inspect(name.clone(), live_view.clone(), metrics.clone());
        self.inspectors.spawn(|_| inspection);
        let (thumbnail, thumbnail_view) = watch::channel(None);
        if let Some(config) = self.setup.thumbnails {
            let turns = Arc::clone(&self.setup.thumbnail_turns);
            let taken = thumbnails::take(name.clone(), config, turns, live_view.clone(), thumbnail);
            self.photographers.spawn(|_| taken);
        }
        let (chronicle_sender, chronicle_view) = watch::channel(None);
        let (kept, kept_view) = watch::channel(None);
        let (orders, ordered) = mpsc::channel(ORDER_QUEUE);
        let mut setup = chronicler::Setup {
            channel: name.clone(),
            store: Arc::clone(&store),
            writer: writer.clone(),
            record: config.recording.record,
            rules: config.recording.rules,
            window: hls.window,
            data_dir: self.setup.data_dir.clone(),
            fleeting: idle_max.is_some(),
            open: false,
            pictures: self.setup.thumbnails.map(|_| Arc::clone(&self.setup.thumbnail_turns)),
        };
        let views = chronicler::Views { live: live_view.clone(), upload: upload_view.clone(), orders: ordered };
        let told = chronicler::Outlets { chronicle: chronicle_sender, kept };
        let mut back = recalled.clone();
        self.chroniclers.spawn(|_| async move {
            // Not before it is known where the channel goes on.
            let recalled = back.wait_for(Option::is_some).await.ok().and_then(|recalled| *recalled);
            setup.open = recalled.is_some_and(|recalled| recalled.open);
            chronicle(setup, views, told).await;
        });
        let conditions = Arc::clone(&store);
        let spool = self.setup.spool.clone();
        let setup =
            store::Setup { channel: name.clone(), store, writer, kept: kept_view, spool, metrics: metrics.clone() };
        let (snapshots, drained) = (live_view.clone(), self.drained.clone());
        self.uploaders.spawn(|_| async move {
            // Nothing where the packager has failed.
            let inherited = inherited.await.unwrap_or_default();
            let mut uploader = pin!(store::upload(setup, inherited, snapshots, upload, drained));
            tokio::select! {
                () = uploader.as_mut() => return,
                // Where it does not know them, the store says so, once.
                _ = conditions.is_conditional() => {}
            }
            uploader.await;
        });
        let takeovers = Takeovers::new(defaults.takeover_silence);
        let from = recalled.clone();
        let span = info_span!("channel", channel = %name);
        self.supervisors.spawn(|stop| {
            Channel { config, hls, grace, idle_max, takeovers, metrics, recalled: from, requests, ladder, phase, stop }
                .run()
                .instrument(span)
        });
        let view = ChannelView {
            window: hls.window,
            live: live_view,
            phase: phase_view,
            upload: upload_view,
            chronicle: chronicle_view,
            orders,
            thumbnail: thumbnail_view,
        };
        self.directory.send_modify(|directory| {
            Arc::make_mut(directory).insert(name, view);
        });
        (request, recalled)
    }

    /// Removes the channels on the fly whose last tasks, the uploader and the chronicler, have ended.
    fn sweep(&mut self) {
        let directory = self.directory.borrow().clone();
        let is_gone = |name: &&ChannelName| directory.get(*name).is_none_or(has_ended);
        let gone: Vec<ChannelName> = self.fleeting.keys().filter(is_gone).cloned().collect();
        for name in gone {
            self.fleeting.remove(&name);
            self.setup.metrics.forget(name.as_str());
            let stored = directory.get(&name).and_then(|view| view.upload.borrow().stored);
            ToldFile::remove(&self.setup.data_dir, &name, stored);
            self.directory.send_modify(|directory| {
                Arc::make_mut(directory).remove(&name);
            });
            info!(channel = %name, "channel removed");
        }
        for request in std::mem::take(&mut self.postponed) {
            self.open(request);
        }
    }
}

/// Its last tasks have.
fn has_ended(view: &ChannelView) -> bool {
    view.upload.has_changed().is_err() && view.chronicle.has_changed().is_err()
}

#[expect(clippy::disallowed_methods, reason = "for people: since when a process writes a channel")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config;
    use crate::source::Admission;
    use crate::store::Classes;

    const HOOKS: &str = "[hooks]\non_publish = \"http://h/\"\nchannels_max = 2\nchannel_idle = \"5s\"\n";

    /// A running roster, with the requests to it and the view of it.
    struct Running {
        opens: mpsc::Sender<OpenRequest>,
        directory: watch::Receiver<Directory>,
        metrics: Metrics,
        roster: tokio::task::JoinHandle<Roster>,
    }

    async fn start() -> Running {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("h.toml");
        std::fs::write(&file, HOOKS).unwrap();
        let mut config = config::load(Some(&file), []).unwrap();
        config.data_dir = folder.path().join("data");
        config.store = config::StoreConfig::Fs { path: folder.keep() };
        let store = store::open(&config.store, Classes::default()).await.unwrap();
        let metrics = Metrics::default();
        let mut roster = Roster::new(Setup::new(&config, store, None, metrics.clone()));
        // One at a time is asked for.
        let (opens, mut asked) = mpsc::channel(1);
        let directory = roster.directory();
        #[expect(clippy::disallowed_methods, reason = "the test joins it by itself")]
        let roster = tokio::spawn(async move {
            roster.attend(&mut asked).await;
            roster
        });
        Running { opens, directory, metrics, roster }
    }

    impl Running {
        async fn open(&self, name: &str, ladder: Option<&str>) -> Result<mpsc::Sender<PublishRequest>, Refusal> {
            let (reply, answer) = oneshot::channel();
            let channel = ChannelName::new(name).unwrap();
            let request = OpenRequest { channel, ladder: ladder.map(str::to_owned), reply };
            self.opens.send(request).await.unwrap();
            answer.await.unwrap()
        }

        fn has(&self, name: &str) -> bool {
            self.directory.borrow().contains_key(&ChannelName::new(name).unwrap())
        }

        async fn until_gone(&mut self, name: &str) {
            let name = ChannelName::new(name).unwrap();
            self.directory.wait_for(|directory| !directory.contains_key(&name)).await.unwrap();
        }
    }

    async fn publish(requests: &mpsc::Sender<PublishRequest>) -> Admission {
        let (reply, answer) = oneshot::channel();
        let (_, last_media) = watch::channel(Instant::now());
        let peer = ([192, 0, 2, 1], 1000).into();
        let request = PublishRequest { peer, encoder: None, key_name: None, last_media, reply };
        requests.send(request).await.unwrap();
        answer.await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_is_made_once_and_removed_when_it_is_idle() {
        let mut running = start().await;
        let first = running.open("a", None).await.unwrap();
        let again = running.open("a", Some("default")).await.unwrap();
        assert!(first.same_channel(&again) && running.has("a"));
        let publisher = publish(&first).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(running.has("a"), "it is not idle");
        drop(publisher);
        let left = Instant::now();
        running.until_gone("a").await;
        assert_eq!(left.elapsed().as_secs(), 5);
        assert!(first.is_closed());
        assert!(!running.open("a", None).await.unwrap().same_channel(&first), "and can be made anew");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_channels_than_allowed() {
        let mut running = start().await;
        assert!(running.open("a", None).await.is_ok() && running.open("b", None).await.is_ok());
        assert_eq!(running.open("c", None).await.unwrap_err(), Refusal::Full);
        running.until_gone("a").await;
        assert_eq!(running.open("d", Some("none")).await.unwrap_err(), Refusal::NoLadder("none".into()));
        assert!(running.open("c", None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn row_41_many_names_leave_nothing_behind() {
        let mut running = start().await;
        for number in 0..1_000 {
            let name = format!("n{number}");
            let requests = running.open(&name, None).await.unwrap();
            drop(publish(&requests).await);
            running.metrics.ingest_bytes.get_or_create(&crate::metrics::ChannelLabel { channel: name.clone() }).inc();
            running.until_gone(&name).await;
        }
        let text = crate::metrics::render(&running.metrics.registry()).unwrap();
        assert!(!text.contains("channel=\"n"), "{text}");
        assert!(running.directory.borrow().is_empty());
        drop(running.opens);
        let mut roster = running.roster.await.unwrap();
        assert!(roster.fleeting.is_empty() && roster.postponed.is_empty());
        roster.shut_down().await;
        assert_eq!(roster.supervisors.len() + roster.packagers.len() + roster.uploaders.len(), 0);
    }
}
