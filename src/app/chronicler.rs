//! Keeps the index of what is kept of a channel, and does what follows from it: recordings get their playlists, clips are made, what is
//! too old is deleted.
//!
//! One task a channel, which alone writes the index. It takes in what is published also while it waits for the store, and after
//! each change keeps the index in a file below the data directory: a process that is killed while the store fails loses none of it.
//! As long as it has not read what the store has, it writes nothing there, and nobody deletes anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::storyboard::{self, Scene};
use crate::caching::{Cache, JSON_TYPE, PICTURE_TYPE, PLAYLIST_TYPE, STORYBOARD_TYPE};
use crate::chronicle::{
    Block, BlockKey, BlockSummary, Chronicle, Clip, ClipName, Kept, Kind, Moment, Order, OrderRefusal, Programme,
    Removal, Removed, Rules, SHEETS_MAX, Sight, Span, State, Stretch,
};
use crate::layout::{Excerpt, Resource};
use crate::live::{ChannelSnapshot, Msn, NamedFrom, SessionId, UploadStatus};
use crate::media::MediaTime;
use crate::source::ChannelName;
use crate::store::{Condition, Object, Standing, Store, StoreError, Version, Writer};
use crate::transcode::{Grid, Picture, Storyboard, Tile, webvtt};

/// What a channel's chronicler works with.
pub(super) struct Setup {
    pub(super) channel: ChannelName,
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: Writer,
    /// The channel's programmes are kept.
    pub(super) record: bool,
    /// How long, and how much.
    pub(super) rules: Rules,
    /// How much a live playlist lists.
    pub(super) window: Duration,
    pub(super) data_dir: PathBuf,
    /// The channel leaves nothing on this machine when it goes.
    pub(super) fleeting: bool,
    /// The programme of a process before this one goes on.
    pub(super) open: bool,
    /// Bounds the pictures that are made at one time; none where none are.
    pub(super) pictures: Option<Arc<Semaphore>>,
}

/// What it reads.
pub(super) struct Views {
    pub(super) live: watch::Receiver<Arc<ChannelSnapshot>>,
    pub(super) upload: watch::Receiver<UploadStatus>,
    pub(super) orders: mpsc::Receiver<Order>,
}

/// What it tells.
pub(super) struct Outlets {
    /// To whoever shows what is kept; none as long as that is not known, and when another process has the channel.
    pub(super) chronicle: watch::Sender<Option<Arc<Chronicle>>>,
    /// To whoever deletes; none as long as that is not known.
    pub(super) kept: watch::Sender<Option<Arc<Kept>>>,
}

/// Keeps the index until the channel's uploader is gone and everything is written, or until another process has the channel.
pub(super) async fn chronicle(setup: Setup, views: Views, outlets: Outlets) {
    let span = info_span!("channel", channel = %setup.channel);
    let mut chronicler = span.in_scope(|| Chronicler::new(setup, views, outlets));
    async {
        chronicler.run().await;
        chronicler.outlets.chronicle.send_replace(None);
    }
    .instrument(span)
    .await;
}

struct Chronicler {
    setup: Setup,
    file: LocalFile,
    live: watch::Receiver<Arc<ChannelSnapshot>>,
    upload: watch::Receiver<UploadStatus>,
    orders: mpsc::Receiver<Order>,
    outlets: Outlets,
    chronicle: Chronicle,
    /// The right to write was this process's.
    held: bool,
    /// What the store had when this process began is known.
    confirmed: bool,
    /// The revision that is in the store.
    written: u64,
    /// What was removed until this revision is to be deleted once that is in the store.
    unlisted: u64,
    /// Of the index in the store, where it is known.
    version: Option<Version>,
    /// The index is to be stored now.
    urgent: bool,
    next: Due,
    failing: bool,
    drawing: Option<Drawing>,
}

/// When what is done now and then is due.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    write: Option<Instant>,
    settle: Option<Instant>,
    retention: Option<Instant>,
    clear: Option<Instant>,
    draw: Option<Instant>,
    /// After a failure nothing is tried before.
    retry: Option<Instant>,
}

/// What is to be done next.
enum Job {
    Confirm,
    Write,
    Close(SessionId, Block),
    Publish(SessionId),
    Settle(BTreeSet<Resource>),
    Remove(Removal),
    /// Of what was removed, that at this place.
    Clear(usize),
    /// The next picture of a recording's storyboard.
    Draw(SessionId),
}

/// The storyboard that is being made.
struct Drawing {
    id: SessionId,
    /// Still to be drawn.
    scenes: VecDeque<Scene>,
    board: Storyboard,
    tiles: Vec<Tile>,
    /// When the last picture is over.
    end: MediaTime,
    /// Of the next one, in a row.
    failures: u32,
}

impl Drawing {
    fn new(id: SessionId, stretch: &Stretch) -> Self {
        let (scenes, end) = storyboard::scenes(stretch, GRID.columns * GRID.rows * SHEETS_MAX);
        Self { id, scenes, board: Storyboard::new(GRID, 0), tiles: Vec::new(), end, failures: 0 }
    }
}

/// Why a job was not done.
enum Failure {
    Store(StoreError),
    /// What is in the store is no index.
    Damaged(String),
    /// Another process has the channel.
    Lost,
    /// This process does not have it yet.
    Unclaimed,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Chronicler {
    fn new(setup: Setup, views: Views, outlets: Outlets) -> Self {
        let file = LocalFile::new(&setup.data_dir, &setup.channel);
        let known = file.read();
        let is_known = known.is_some();
        let mut chronicle = known.unwrap_or_default();
        if !setup.open {
            chronicle.end();
        }
        let new = Self {
            setup,
            file,
            live: views.live,
            upload: views.upload,
            orders: views.orders,
            outlets,
            unlisted: chronicle.revision,
            chronicle,
            held: false,
            confirmed: false,
            written: 0,
            version: None,
            urgent: false,
            next: Due::default(),
            failing: false,
            drawing: None,
        };
        if is_known {
            new.publish(Arc::new(new.chronicle.clone()));
        }
        new
    }

    async fn run(&mut self) {
        loop {
            let over = self.live.has_changed().is_err() && self.upload.has_changed().is_err();
            self.take_in();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order).await;
            }
            let now = Instant::now();
            match self.job(now, over) {
                Some(job) => {
                    if let Err(failure) = self.perform(job).await
                        && self.failed(failure)
                    {
                        return;
                    }
                }
                None if over => break,
                None => self.event(now).await,
            }
        }
        let is_stored = self.confirmed && self.written == self.chronicle.revision;
        self.file.close(self.setup.fleeting && is_stored).await;
    }

    /// Takes in what has been published, and what has come into the store.
    fn take_in(&mut self) {
        // In this order: what the uploader says is of a window that is no newer than the one that is seen then.
        let stored = self.upload.borrow_and_update().stored;
        let snapshot = Arc::clone(&self.live.borrow_and_update());
        let mut changed = self.chronicle.follow(&snapshot, self.setup.record);
        changed |= stored.is_some_and(|stored| self.chronicle.stored(&snapshot, stored));
        changed |= snapshot.first().is_some_and(|first| self.chronicle.forget(first));
        if changed {
            self.changed();
        }
    }

    fn changed(&mut self) {
        if self.confirmed {
            // So that of two copies the younger is known, whoever has written it.
            let now = Moment::from(wall_clock()).0;
            self.chronicle.revision = now.max(self.chronicle.revision.saturating_add(1));
        }
        let chronicle = self.keep();
        if self.confirmed {
            self.publish(chronicle);
        }
    }

    /// Has it written below the data directory, and gives what is written.
    fn keep(&self) -> Arc<Chronicle> {
        let chronicle = Arc::new(self.chronicle.clone());
        self.file.keep(&chronicle);
        chronicle
    }

    fn publish(&self, chronicle: Arc<Chronicle>) {
        self.outlets.chronicle.send_replace(Some(chronicle));
        if !self.confirmed {
            return;
        }
        let kept = Some(Arc::new(self.chronicle.kept()));
        self.outlets.kept.send_if_modified(|known| {
            let changed = *known != kept;
            *known = kept;
            changed
        });
    }

    fn job(&mut self, now: Instant, over: bool) -> Option<Job> {
        let is_due = |due: Option<Instant>| due.is_none_or(|due| due <= now);
        if !is_due(self.next.retry) {
            return None;
        }
        if !self.confirmed {
            return Some(Job::Confirm);
        }
        if self.written < self.chronicle.revision && (self.urgent || over || is_due(self.next.write)) {
            return Some(Job::Write);
        }
        if let Some((programme, block)) = self.chronicle.next_block() {
            return Some(Job::Close(programme, block));
        }
        let complete = self
            .chronicle
            .programmes
            .iter()
            .find(|programme| programme.recorded && programme.state == State::Ended && programme.tail.is_empty());
        if let Some(programme) = complete {
            return Some(Job::Publish(programme.id));
        }
        let doubtful = self.chronicle.doubtful(&self.live.borrow());
        if doubtful.is_empty() {
            self.next.settle = None;
        } else if self.upload.borrow().failing.is_none() {
            // It may be on its way.
            let due = *self.next.settle.get_or_insert(now.checked_add(SETTLE_AFTER).unwrap_or(now));
            if due <= now {
                return Some(Job::Settle(doubtful));
            }
        }
        let removal = || self.chronicle.due(&self.setup.rules, wall_clock().into());
        if let Some(removal) = is_due(self.next.retention).then(removal).flatten() {
            return Some(Job::Remove(removal));
        }
        let may_clear = self.written >= self.unlisted && is_due(self.next.clear);
        // Media not before it is known what playlists in the store name.
        let now = self.upload.borrow().named.map(|_| wall_clock().into());
        let deletable = may_clear.then(|| self.chronicle.deletable(now)).flatten();
        deletable.map(Job::Clear).or_else(|| {
            // Nobody waits for pictures, and they take long.
            let wanted = self.setup.pictures.is_some() && !over && is_due(self.next.draw);
            let undrawn =
                |programme: &&Programme| programme.recorded && programme.state == State::Published && !programme.drawn;
            let programme = self.chronicle.programmes.iter().filter(|_| wanted).find(undrawn)?;
            Some(Job::Draw(programme.id))
        })
    }

    async fn perform(&mut self, job: Job) -> Result<(), Failure> {
        let now = Instant::now();
        match job {
            Job::Confirm => self.confirm().await?,
            Job::Write => self.write().await?,
            Job::Close(programme, block) => self.close(programme, &block).await?,
            Job::Publish(id) => self.publish_recording(id).await?,
            Job::Settle(doubtful) => {
                self.next.settle = now.checked_add(SETTLE_EACH);
                self.settle(doubtful).await?;
            }
            Job::Remove(removal) => self.remove(removal),
            // What cannot be deleted or drawn keeps nothing else from being done.
            Job::Clear(position) => match self.clear(position).await {
                Err(Failure::Store(error)) => {
                    debug!(%error, "what was removed is not deleted yet");
                    self.next.clear = now.checked_add(CLEAR_RETRY);
                    return Ok(());
                }
                cleared => cleared?,
            },
            Job::Draw(id) => match self.draw(id).await {
                Err(Failure::Store(error)) => {
                    debug!(%error, "the storyboard waits for the store");
                    self.next.draw = now.checked_add(RETRY);
                    return Ok(());
                }
                drawn => drawn?,
            },
        }
        if self.chronicle.due(&self.setup.rules, wall_clock().into()).is_none() {
            self.next.retention = now.checked_add(RETENTION_EACH);
        }
        self.failing = false;
        self.next.retry = None;
        Ok(())
    }

    /// True where it is over.
    fn failed(&mut self, failure: Failure) -> bool {
        self.next.retry = Instant::now().checked_add(RETRY);
        let first = !self.failing;
        match failure {
            Failure::Lost => {
                debug!("another process keeps the index of the channel from now on");
                return true;
            }
            Failure::Unclaimed => {}
            Failure::Damaged(why) => {
                if first {
                    let key = Resource::Chronicle.path(&self.setup.channel);
                    error!(
                        key,
                        "the index of what is kept of the channel cannot be used: {why}. Nothing is recorded or deleted until it is \
                         restored or removed"
                    );
                }
                self.failing = true;
            }
            Failure::Store(error) => {
                if first {
                    warn!(
                        "the index of what is kept is not stored, nor are recordings completed: {error}; it is tried again"
                    );
                }
                self.failing = true;
            }
        }
        false
    }

    /// Waits until something is to be done that was not at `now`.
    async fn event(&mut self, now: Instant) {
        let soon = now.checked_add(TICK).unwrap_or(now);
        tokio::select! {
            Some(order) = self.orders.recv() => self.obey(order).await,
            // That a sender is gone is told once.
            _ = self.live.changed(), if self.live.has_changed().is_ok() => {}
            _ = self.upload.changed(), if self.upload.has_changed().is_ok() => {}
            () = sleep_until(soon) => {}
        }
    }

    /// Waits for the store, and takes in meanwhile what is published.
    async fn during<T>(&mut self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
        let mut work = pin!(timeout(PATIENCE, work));
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    let done = done.unwrap_or_else(|_| Err(StoreError::slow(PATIENCE)));
                    return done.map_err(Failure::from);
                }
                Ok(()) = self.live.changed() => self.take_in(),
            }
        }
    }

    async fn may_write(&mut self) -> Result<(), Failure> {
        let writer = self.setup.writer.clone();
        match self.during(async move { writer.standing().await }).await? {
            Standing::Own => {
                self.held = true;
                Ok(())
            }
            Standing::Other(_) if self.held => Err(Failure::Lost),
            // The uploader takes it as soon as it can, if it may.
            Standing::Nobody | Standing::Other(_) => Err(Failure::Unclaimed),
        }
    }

    /// Reads what the store has, and goes on from that or from what this machine knows, whichever is younger.
    async fn confirm(&mut self) -> Result<(), Failure> {
        // Behind this nobody else writes it.
        self.may_write().await?;
        let (store, key) = (Arc::clone(&self.setup.store), Resource::Chronicle.path(&self.setup.channel));
        let found = self.during(async move { store.read(&key).await }).await?;
        let mut stored = match &found {
            Some((text, _)) => Chronicle::read(text).map_err(|error| Failure::Damaged(error.to_string()))?,
            None => Chronicle::default(),
        };
        let is_another = if found.is_some() { stored.id != self.chronicle.id } else { self.chronicle.stored };
        if is_another && self.chronicle.id != 0 {
            self.begin_anew();
        }
        self.written = stored.revision;
        self.version = found.map(|(_, version)| version);
        if stored.revision > self.chronicle.revision || is_another {
            if !self.setup.open {
                stored.end();
            }
            self.unlisted = stored.revision;
            let known = std::mem::replace(&mut self.chronicle, stored);
            self.chronicle.join(known);
        }
        if self.chronicle.id == 0 {
            self.chronicle.id = random();
        }
        self.confirmed = true;
        self.changed();
        Ok(())
    }

    /// What this machine knows is of another store: of it only what the channel lists now goes on.
    fn begin_anew(&mut self) {
        let path = self.file.path.display();
        warn!(%path, "what is kept here is of another store, or of one that was emptied: it is not gone on from");
        self.chronicle = Chronicle::default();
        let snapshot = Arc::clone(&self.live.borrow());
        self.chronicle.follow(&snapshot, self.setup.record);
    }

    async fn write(&mut self) -> Result<(), Failure> {
        self.may_write().await?;
        let (revision, text) = (self.chronicle.revision, self.chronicle.text());
        let object = self.object(&Resource::Chronicle, text.into());
        let condition = self.version.clone().map_or(Condition::Found, Condition::Is);
        let store = Arc::clone(&self.setup.store);
        match self.during(async move { store.put_if(object, condition).await }).await {
            Ok(version) => self.version = version,
            // Another has it, which a look will tell, or the answer to a write of this process was lost.
            Err(Failure::Store(StoreError::Changed(_))) if self.version.take().is_some() => return Ok(()),
            Err(failure) => return Err(failure),
        }
        self.written = revision;
        self.urgent = false;
        if !self.chronicle.stored {
            self.chronicle.stored = true;
            self.keep();
        }
        // What is younger is in the live playlists too.
        self.next.write = Instant::now().checked_add(WRITE_EACH.min(self.setup.window / 3));
        Ok(())
    }

    async fn put(&mut self, resource: &Resource, data: Bytes) -> Result<(), Failure> {
        let (store, object) = (Arc::clone(&self.setup.store), self.object(resource, data));
        self.during(async move { store.put(object).await }).await
    }

    async fn get(&mut self, resource: &Resource) -> Result<Option<Bytes>, Failure> {
        let (store, key) = (Arc::clone(&self.setup.store), resource.path(&self.setup.channel));
        self.during(async move { store.get(&key).await }).await
    }

    fn object(&self, resource: &Resource, data: Bytes) -> Object {
        let (cache, content_type) = match resource {
            Resource::Excerpt(..) => (Cache::OVER, PLAYLIST_TYPE),
            Resource::Block(..) => (Cache::Immutable, JSON_TYPE),
            Resource::Sheet(..) => (Cache::Immutable, PICTURE_TYPE),
            Resource::Storyboard(_) => (Cache::OVER, STORYBOARD_TYPE),
            _ => (Cache::EDGE, JSON_TYPE),
        };
        let (key, cache_control) = (resource.path(&self.setup.channel), cache.control().into_owned());
        Object { key, data, content_type, cache_control }
    }

    async fn close(&mut self, programme: SessionId, block: &Block) -> Result<(), Failure> {
        let Some(summary) = block.summary() else { return Ok(()) };
        self.may_write().await?;
        let (session, first) = summary.key();
        let data = serde_json::to_vec(block).unwrap_or_default();
        self.put(&Resource::Block(session, first), data.into()).await?;
        self.chronicle.close(programme, block);
        self.urgent = true;
        self.changed();
        Ok(())
    }

    async fn blocks(&mut self, needed: &[BlockKey]) -> Result<BTreeMap<BlockKey, Arc<Block>>, Failure> {
        let mut blocks = BTreeMap::new();
        for key in needed {
            blocks.insert(*key, Arc::new(self.block(*key).await?));
        }
        Ok(blocks)
    }

    /// A block; an empty one where it is gone or damaged.
    async fn block(&mut self, (session, first): BlockKey) -> Result<Block, Failure> {
        let resource = Resource::Block(session, first);
        let data = self.get(&resource).await?;
        let block = data.and_then(|data| serde_json::from_slice(&data).ok());
        if block.is_none() {
            let key = resource.path(&self.setup.channel);
            warn!(key, "a block of the index is gone or damaged: what it lists is not found any more");
        }
        Ok(block.unwrap_or_default())
    }

    /// Puts the playlists of a list that does not change any more, the multivariant playlist last.
    async fn put_playlists(&mut self, excerpt: &Excerpt, stretch: &Stretch) -> Result<(), Failure> {
        for resource in stretch.head.playlists(excerpt).into_iter().rev() {
            let text = match &resource {
                Resource::Excerpt(_, Some(rendition)) => stretch.playlist(rendition, "../../../", Kind::Vod),
                _ => Some(stretch.head.multivariant("")),
            };
            self.put(&resource, text.unwrap_or_default().into()).await?;
        }
        Ok(())
    }

    async fn publish_recording(&mut self, id: SessionId) -> Result<(), Failure> {
        self.may_write().await?;
        let has_media = self.chronicle.programme(id).is_some_and(|programme| programme.bytes() > 0);
        if !has_media {
            warn!(recording = %id, "nothing of the recording ever came into the store: it is removed");
            self.chronicle.remove(Removal::Recording(id), None);
            self.unlist();
            return Ok(());
        }
        match self.whole(id).await? {
            Some(stretch) => {
                self.put_playlists(&Excerpt::Recording(id), &stretch).await?;
                info!(recording = %id, segments = stretch.entries.len(), "the recording is complete");
            }
            None => error!(
                recording = %id,
                "no block of the recording's index can be read: its media stays, and is not listed until the blocks are restored"
            ),
        }
        if let Some(programme) = self.chronicle.programmes.iter_mut().find(|programme| programme.id == id) {
            programme.state = State::Published;
        }
        self.urgent = true;
        self.changed();
        Ok(())
    }

    /// What a recording that is over lists: not more than while it went on.
    async fn whole(&mut self, id: SessionId) -> Result<Option<Stretch>, Failure> {
        let blocks = self.blocks(&self.chronicle.blocks_of(id)).await?;
        Ok(self.chronicle.whole(id, Sight { blocks: &blocks, at_hand: None }).map(|(stretch, _)| stretch))
    }

    /// Goes on with the storyboard of a recording, small pictures for the bar by which viewers look for a place in it, by one picture.
    /// They come out of the segments in the store: whoever made those may be another process.
    async fn draw(&mut self, id: SessionId) -> Result<(), Failure> {
        let Some(turns) = self.setup.pictures.clone() else { return Ok(()) };
        let mut drawing = match self.drawing.take().filter(|drawing| drawing.id == id) {
            Some(drawing) => drawing,
            None => {
                let Some(stretch) = self.whole(id).await? else {
                    self.drawn(id);
                    return Ok(());
                };
                Drawing::new(id, &stretch)
            }
        };
        let over = self.draw_next(&mut drawing, &turns).await;
        match over {
            Ok(true) => self.drawn(id),
            _ => self.drawing = Some(drawing),
        }
        over.map(drop)
    }

    /// True where that was all.
    async fn draw_next(&mut self, drawing: &mut Drawing, turns: &Semaphore) -> Result<bool, Failure> {
        let Some(scene) = drawing.scenes.front().cloned() else {
            self.may_write().await?;
            self.put_sheet(drawing, turns).await?;
            if !drawing.tiles.is_empty() {
                let text = webvtt(&drawing.tiles, drawing.end, |sheet| format!("storyboard-{sheet}.jpg"));
                self.put(&Resource::Storyboard(drawing.id), text.into()).await?;
            }
            return Ok(true);
        };
        if drawing.board.is_full() {
            self.put_sheet(drawing, turns).await?;
        }
        let media = match self.joined(&scene.media).await {
            Ok(media) => media,
            Err(failure) if drawing.failures < SCENE_TRIES => {
                drawing.failures += 1;
                return Err(failure);
            }
            // One picture less does not matter.
            Err(_) => Bytes::new(),
        };
        drawing.failures = 0;
        drawing.scenes.pop_front();
        match in_turn(turns, move || Picture::decode(media, PICTURE_LINES)).await {
            Ok(picture) => drawing.tiles.extend(drawing.board.add(scene.at, &picture)),
            Err(error) => debug!(%error, "a picture of the recording is left out of its storyboard"),
        }
        Ok(false)
    }

    /// What there is of these, one behind the other.
    async fn joined(&mut self, resources: &[Resource]) -> Result<Bytes, Failure> {
        let mut media = BytesMut::new();
        for resource in resources {
            media.extend_from_slice(&self.get(resource).await?.unwrap_or_default());
        }
        Ok(media.freeze())
    }

    fn drawn(&mut self, id: SessionId) {
        if let Some(programme) = self.chronicle.programmes.iter_mut().find(|programme| programme.id == id) {
            programme.drawn = true;
            self.changed();
        }
    }

    async fn put_sheet(&mut self, drawing: &Drawing, turns: &Semaphore) -> Result<(), Failure> {
        let Some((sheet, picture)) = drawing.board.sheet() else { return Ok(()) };
        let id = drawing.id;
        match in_turn(turns, move || picture.jpeg()).await {
            Ok(file) => self.put(&Resource::Sheet(id, sheet), file).await,
            Err(error) => {
                debug!(%error, "a sheet of the recording's storyboard cannot be made");
                Ok(())
            }
        }
    }

    /// Looks in the store for what nobody has seen arrive there.
    async fn settle(&mut self, doubtful: BTreeSet<Resource>) -> Result<(), Failure> {
        // What the uploader still has before it is not lost.
        let idle = {
            let upload = self.upload.borrow();
            // Of an older window it says nothing of what came last.
            let is_current = upload.seen == self.live.borrow().last();
            is_current && upload.segments_behind == 0 && upload.spooled == upload.hopeless
        };
        let (inits, media): (Vec<Resource>, Vec<Resource>) =
            doubtful.iter().cloned().partition(|needed| matches!(needed, Resource::Init(..)));
        let (mut present, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for init in inits {
            match self.get(&init).await {
                Ok(Some(_)) => _ = present.insert(init.path(&self.setup.channel)),
                Ok(None) => {}
                // One that cannot be read holds up nothing but what needs it.
                Err(Failure::Store(error)) if unknown.len() < UNREADABLE_MAX => {
                    debug!(init = init.below_channel(), %error, "it is not known whether it is there");
                    unknown.insert(init);
                }
                Err(failure) => return Err(failure),
            }
        }
        // Listed, as there may be hundreds.
        let keys: BTreeSet<String> = media.iter().map(|media| media.path(&self.setup.channel)).collect();
        let mut rest = keys.clone();
        while let Some(first) = rest.pop_first() {
            let directory = first.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned() + "/";
            // What comes right behind this is `first`.
            let mut after = first.get(..first.len().saturating_sub(1)).map(str::to_owned);
            rest.retain(|key| !key.starts_with(&directory));
            let last = keys.iter().rev().find(|key| key.starts_with(&directory)).cloned().unwrap_or_default();
            while let Some(from) = after.take() {
                let (store, prefix) = (Arc::clone(&self.setup.store), directory.clone());
                let page = self.during(async move { store.list(&prefix, Some(&from)).await }).await?;
                after = page.last().map(|listed| listed.key.clone()).filter(|key| *key < last);
                present.extend(page.into_iter().map(|listed| listed.key).filter(|key| keys.contains(key)));
            }
        }
        let channel = self.setup.channel.clone();
        let is_there = |needed: &Resource| {
            let absent = (idle && doubtful.contains(needed) && !unknown.contains(needed)).then_some(false);
            if present.contains(&needed.path(&channel)) { Some(true) } else { absent }
        };
        let lost = self.chronicle.settle(&self.live.borrow(), is_there);
        if lost > 0 {
            warn!(segments = lost, "segments never came into the store: recordings have gaps there");
        }
        if lost > 0 || !present.is_empty() {
            self.changed();
        }
        Ok(())
    }

    fn remove(&mut self, removal: Removal) {
        if self.chronicle.remove(removal, Some(wall_clock().into())) {
            if let Removal::Recording(id) = removal {
                info!(recording = %id, "the recording is removed: it is too old, or there is too much");
            }
            self.unlist();
        }
    }

    /// Something was removed from the list.
    fn unlist(&mut self) {
        self.urgent = true;
        self.changed();
        self.unlisted = self.chronicle.revision;
    }

    /// Deletes some of what was removed, but for what something else names. The index in the store does not list it any more.
    async fn clear(&mut self, position: usize) -> Result<(), Failure> {
        let Some(removed) = self.chronicle.removed.get(position).cloned() else { return Ok(()) };
        self.may_write().await?;
        if removed.excerpt.is_some() {
            // Another may have the name of a clip by now.
            let kept = self.chronicle.kept();
            self.delete(removed.texts().into_iter().filter(|text| !kept.holds(text)).collect()).await?;
            self.cleared(position, |removed| removed.excerpt = None);
        } else if removed.stays_until.is_some() {
            // From here on nothing keeps it.
            self.cleared(position, |removed| removed.stays_until = None);
        } else if let Some((session, first)) = removed.blocks.first().map(BlockSummary::key) {
            let block = self.block((session, first)).await?;
            self.delete_media(removed.media(&block.entries)).await?;
            self.delete(vec![Resource::Block(session, first)]).await?;
            self.cleared(position, |removed| _ = removed.blocks.remove(0));
        } else {
            self.delete_media(removed.media(&removed.entries)).await?;
            self.delete_media(removed.inits()).await?;
            self.chronicle.removed.remove(position);
            self.changed();
        }
        Ok(())
    }

    /// Notes what has become of something that was removed.
    fn cleared(&mut self, position: usize, note: impl FnOnce(&mut Removed)) {
        if let Some(removed) = self.chronicle.removed.get_mut(position) {
            note(removed);
            self.changed();
        }
    }

    async fn delete_media(&mut self, media: Vec<Resource>) -> Result<(), Failure> {
        let kept = self.chronicle.kept();
        let snapshot = Arc::clone(&self.live.borrow());
        let Some(named) = self.upload.borrow().named else { return Err(Failure::Unclaimed) };
        // Playlists in the store may be older than the live ones. What they name the uploader deletes.
        let is_named = |media: &Resource| is_named(named, media) || is_live(&snapshot, media);
        let media = media.into_iter().filter(|media| !kept.holds(media) && !is_named(media));
        self.delete(media.collect()).await
    }

    async fn delete(&mut self, resources: Vec<Resource>) -> Result<(), Failure> {
        let keys: Vec<String> = resources.iter().map(|resource| resource.path(&self.setup.channel)).collect();
        for batch in keys.chunks(DELETED_AT_ONCE_MAX) {
            let (store, batch) = (Arc::clone(&self.setup.store), batch.to_vec());
            self.during(async move { store.delete(&batch).await }).await?;
        }
        Ok(())
    }

    /// Does what an operator asks for, who still waits.
    async fn obey(&mut self, order: Order) {
        match order {
            Order::Clip { name, span, reply } if !reply.is_closed() => {
                let made = self.clip(name, span).await;
                drop(reply.send(made));
            }
            Order::RemoveClip { name, reply } if !reply.is_closed() => {
                let removed = self.remove_clip(&name).await;
                drop(reply.send(removed));
            }
            Order::RemoveRecording { id, reply } if !reply.is_closed() => {
                let removed = self.remove_recording(id);
                drop(reply.send(removed));
            }
            Order::Clip { .. } | Order::RemoveClip { .. } | Order::RemoveRecording { .. } => {}
        }
    }

    fn may_order(&self) -> Result<(), OrderRefusal> {
        let unknown = || OrderRefusal::Failing("what it has was not read since this process started".to_owned());
        if self.confirmed { Ok(()) } else { Err(unknown()) }
    }

    async fn clip(&mut self, name: ClipName, span: Span) -> Result<Clip, OrderRefusal> {
        self.may_order()?;
        if span.end.is_none_or(|end| end > wall_clock().into()) {
            return Err(OrderRefusal::NotOver);
        }
        if self.chronicle.clip(&name).is_some() {
            return Err(OrderRefusal::Taken);
        }
        let needed = self.chronicle.blocks(span).map_err(|_| OrderRefusal::TooLong)?;
        let blocks = self.blocks(&needed).await.map_err(refusal)?;
        if blocks.values().any(|block| block.entries.is_empty()) {
            return Err(OrderRefusal::Failing("a block of its index is gone or damaged".to_owned()));
        }
        let sight = Sight { blocks: &blocks, at_hand: Some(Msn(0)) };
        let (stretch, kind) = self.chronicle.stretch(span, sight).ok_or(OrderRefusal::Nothing)?;
        if kind != Kind::Vod {
            return Err(OrderRefusal::TooEarly);
        }
        let clip = stretch.clip(name.clone()).ok_or(OrderRefusal::Nothing)?;
        // From here on nothing of it is deleted.
        self.chronicle.clips.push(clip.clone());
        self.changed();
        match self.store_clip(&name, &stretch).await {
            Ok(()) => {
                info!(clip = %name, segments = stretch.entries.len(), "the clip is made");
                Ok(clip)
            }
            Err(failure) => {
                // Something of it may be in the store.
                self.chronicle.remove_clip(&name, stretch);
                self.unlist();
                Err(refusal(failure))
            }
        }
    }

    async fn store_clip(&mut self, name: &ClipName, stretch: &Stretch) -> Result<(), Failure> {
        self.may_write().await?;
        let list = serde_json::to_vec(stretch).unwrap_or_default();
        self.put(&Resource::Clip(name.clone()), list.into()).await?;
        self.put_playlists(&Excerpt::Clip(name.clone()), stretch).await?;
        self.write().await
    }

    async fn remove_clip(&mut self, name: &ClipName) -> Result<(), OrderRefusal> {
        self.may_order()?;
        self.chronicle.clip(name).ok_or(OrderRefusal::Unknown)?;
        let list = self.get(&Resource::Clip(name.clone())).await.map_err(refusal)?;
        match list.and_then(|list| serde_json::from_slice::<Stretch>(&list).ok()) {
            Some(stretch) => self.chronicle.remove_clip(name, stretch),
            None => {
                warn!(clip = %name, "what the clip lists is gone or damaged: what is left of it is deleted in a day");
                self.chronicle.clips.retain(|clip| clip.name != *name);
            }
        }
        info!(clip = %name, "the clip is removed");
        self.unlist();
        Ok(())
    }

    fn remove_recording(&mut self, id: SessionId) -> Result<(), OrderRefusal> {
        self.may_order()?;
        let programme = self.chronicle.programme(id).filter(|programme| programme.recorded);
        if programme.ok_or(OrderRefusal::Unknown)?.state != State::Published {
            return Err(OrderRefusal::Unfinished);
        }
        if self.chronicle.remove(Removal::Recording(id), None) {
            info!(recording = %id, "the recording is removed");
            self.unlist();
        }
        Ok(())
    }
}

fn refusal(failure: Failure) -> OrderRefusal {
    OrderRefusal::Failing(match failure {
        Failure::Store(error) => error.to_string(),
        Failure::Damaged(why) => why,
        Failure::Lost => "another process has the channel".to_owned(),
        Failure::Unclaimed => "the channel is not claimed yet".to_owned(),
    })
}

/// The result of work that takes a processor for long, and of which there is only so much at one time.
async fn in_turn<T: Send + 'static>(turns: &Semaphore, work: impl FnOnce() -> T + Send + 'static) -> T {
    let _turn = turns.acquire().await;
    spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// A playlist that names nothing older than said may name it.
fn is_named(from: NamedFrom, media: &Resource) -> bool {
    match media {
        Resource::Init(_, session) => *session >= from.session,
        Resource::Segment(_, session, msn) | Resource::TsSegment(_, session, msn) => {
            *session >= from.session && *msn >= from.msn
        }
        _ => false,
    }
}

/// It is in the live window, or has just left it: the uploader deletes it.
fn is_live(snapshot: &ChannelSnapshot, media: &Resource) -> bool {
    let rendition = media.rendition().and_then(|name| snapshot.rendition(name.as_str()));
    rendition.is_some_and(|rendition| match media {
        Resource::Init(_, session) => rendition.init(*session).is_some(),
        Resource::Segment(_, session, msn) | Resource::TsSegment(_, session, msn) => {
            rendition.segment(*session, *msn).is_some()
        }
        _ => false,
    })
}

/// The copy of the index below the data directory. It is written beside everything else, as a disk may take its time: the newest counts.
struct LocalFile {
    path: PathBuf,
    newest: watch::Sender<Option<Arc<Chronicle>>>,
    writer: JoinSet<()>,
}

impl LocalFile {
    fn new(data_dir: &Path, channel: &ChannelName) -> Self {
        let path = data_dir.join("chronicle").join(format!("{channel}.json"));
        let (newest, mut wanted) = watch::channel::<Option<Arc<Chronicle>>>(None);
        let (target, mut writer, span) = (path.clone(), JoinSet::new(), tracing::Span::current());
        let write = async move {
            let mut failing = false;
            while wanted.changed().await.is_ok() {
                let Some(chronicle) = wanted.borrow_and_update().clone() else { continue };
                let path = target.clone();
                let written = spawn_blocking(move || write_whole(&path, &chronicle)).await;
                let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                tell_written(&target, &written, failing);
                failing = written.is_err();
            }
        };
        writer.spawn(write.instrument(span));
        Self { path, newest, writer }
    }

    fn read(&self) -> Option<Chronicle> {
        let text = std::fs::read(&self.path).ok()?;
        let path = self.path.display();
        let read = Chronicle::read(&text).inspect_err(|error| warn!(%path, "not gone on from: {error}"));
        read.ok()
    }

    fn keep(&self, chronicle: &Arc<Chronicle>) {
        self.newest.send_replace(Some(Arc::clone(chronicle)));
    }

    /// Everything is written then, or nothing is left here.
    async fn close(&mut self, remove: bool) {
        drop(std::mem::replace(&mut self.newest, watch::channel(None).0));
        while self.writer.join_next().await.is_some() {}
        if remove {
            // One that stays does no harm.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// In one step, so that it is whole whenever the process is killed.
fn write_whole(path: &Path, chronicle: &Chronicle) -> std::io::Result<()> {
    let whole = path.with_extension("tmp");
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(&whole, chronicle.text())?;
    std::fs::rename(&whole, path)
}

fn tell_written(path: &Path, written: &std::io::Result<()>, failed_before: bool) {
    let path = path.display();
    match (written, failed_before) {
        (Err(error), false) => {
            warn!(%path, %error, "what is kept is not noted here: should this process be killed while the store fails, recordings lose what came last");
        }
        (Ok(()), true) => info!(%path, "what is kept is noted here again"),
        _ => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "recordings are kept, and ranges asked for, by the calendar")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// So large that no two histories have the same; never 0.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default().max(1)
}

/// How often a picture of a storyboard is tried to be had.
const SCENE_TRIES: u32 = 3;

/// How long the store may take for one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// After what was removed could not be deleted.
const CLEAR_RETRY: Duration = Duration::from_secs(60);

/// How often the index is stored while a programme goes on, at most.
const WRITE_EACH: Duration = Duration::from_secs(10);

/// How long what has not been seen to arrive is waited for.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// How often the store is searched for what nobody has seen arrive.
const SETTLE_EACH: Duration = Duration::from_secs(30);

/// How often it is looked whether something is too old.
const RETENTION_EACH: Duration = Duration::from_secs(60);

/// Of a sheet of a storyboard.
const GRID: Grid = Grid { columns: 5, rows: 5, tile_width: 160 };

/// Lines of a picture that is made for a tile.
const PICTURE_LINES: u32 = 180;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_secs(1);

/// Initialisation segments that cannot be read at one look: of more it is the store that fails.
const UNREADABLE_MAX: usize = 4;

/// Far less than the store may take that deletes one by one.
const DELETED_AT_ONCE_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::SpoolConfig;
    use crate::metrics::Metrics;
    use crate::store::scripted::{Outcome, Programme, Request, SEGMENT, ScriptedStore, names};
    use crate::store::{self, Holder, Inherited, Spool};

    /// What happens to a channel.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Segment,
        /// The encoder drops, and returns.
        Seam,
        /// The programme is over, and another begins.
        Another,
        /// The process is killed, and started again.
        Kill,
    }

    /// A process: a channel's uploader and its chronicler.
    struct Process {
        live: watch::Sender<Arc<ChannelSnapshot>>,
        chronicle: watch::Receiver<Option<Arc<Chronicle>>>,
        orders: mpsc::Sender<Order>,
        tasks: JoinSet<()>,
    }

    fn channel() -> ChannelName {
        ChannelName::new("demo").unwrap()
    }

    impl Process {
        /// The `number`th.
        fn start(number: u64, store: &Arc<ScriptedStore>, data_dir: &Path, stored: Arc<ChannelSnapshot>) -> Self {
            Self::with_spool(number, store, data_dir, stored, None)
        }

        fn with_spool(
            number: u64,
            store: &Arc<ScriptedStore>,
            data_dir: &Path,
            stored: Arc<ChannelSnapshot>,
            spool: Option<Spool>,
        ) -> Self {
            let store: Arc<dyn Store> = Arc::<ScriptedStore>::clone(store);
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
            let writer = Writer::new(&channel(), Holder::new(since), Arc::clone(&store));
            let (live, snapshots) = watch::channel(Arc::clone(&stored));
            let (status, upload) = watch::channel(UploadStatus::default());
            let (told, chronicle_view) = watch::channel(None);
            let (kept, kept_view) = watch::channel(None);
            let (orders, asked) = mpsc::channel(1);
            let setup = Setup {
                channel: channel(),
                store: Arc::clone(&store),
                writer: writer.clone(),
                record: true,
                rules: Rules::default(),
                window: 12 * SEGMENT,
                data_dir: data_dir.to_owned(),
                fleeting: false,
                open: true,
                pictures: None,
            };
            let views = Views { live: snapshots.clone(), upload, orders: asked };
            let uploader = store::Setup {
                channel: channel(),
                store,
                writer,
                kept: kept_view,
                spool: spool.clone(),
                metrics: Metrics::default(),
            };
            let mut tasks = JoinSet::new();
            if let Some(spool) = spool {
                let store = Arc::clone(&uploader.store);
                tasks.spawn(store::drain(spool, store, Metrics::default(), CancellationToken::new()));
            }
            let inherited = Inherited { stored: Arc::default(), claimed: false };
            tasks.spawn(store::upload(uploader, inherited, snapshots, status, CancellationToken::new()));
            tasks.spawn(chronicle(setup, views, Outlets { chronicle: told, kept }));
            Self { live, chronicle: chronicle_view, orders, tasks }
        }

        /// So many segments, in the time that they take.
        async fn segments(&self, programme: &mut Programme, count: usize) {
            for _ in 0..count {
                programme.segment(false);
                self.live.send_replace(programme.snapshot());
                sleep(SEGMENT).await;
            }
        }

        /// What becomes of an order.
        async fn order<T: std::fmt::Debug>(&self, order: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Order) -> T {
            let (reply, answer) = tokio::sync::oneshot::channel();
            self.orders.send(order(reply)).await.unwrap();
            answer.await.unwrap()
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![12 => Just(Step::Segment), 1 => Just(Step::Seam), 1 => Just(Step::Another), 2 => Just(Step::Kill)]
    }

    /// Of each request, whether it fails, and its answer is lost.
    fn outcome() -> impl Strategy<Value = (u8, u64)> {
        (0..12u8, 0..800u64)
    }

    async fn play(steps: Vec<Step>, outcomes: Vec<(u8, u64)>) {
        let calm = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (asked, at_peace) = (std::sync::atomic::AtomicUsize::new(0), Arc::clone(&calm));
        let store = ScriptedStore::new(move |_| {
            let turn = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (fate, millis) = outcomes[turn % outcomes.len()];
            match fate {
                _ if at_peace.load(std::sync::atomic::Ordering::Relaxed) => Outcome::Done(Duration::from_millis(5)),
                0 => Outcome::Refused(Duration::from_millis(millis)),
                1 => Outcome::AnswerLost(Duration::from_millis(millis)),
                _ => Outcome::Done(Duration::from_millis(millis / 8)),
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let mut programme = Programme::new(12);
        let mut process = Process::start(1, &store, folder.path(), Arc::default());
        let (mut published, mut kills) = (Vec::<Vec<u64>>::new(), 0);
        let (mut begins, mut last) = (true, 0);
        for step in steps {
            match step {
                Step::Segment => {
                    programme.segment(false);
                    last += 1;
                    if std::mem::take(&mut begins) {
                        published.push(Vec::new());
                    }
                    published.last_mut().unwrap().push(last);
                    process.live.send_replace(programme.snapshot());
                    sleep(SEGMENT).await;
                }
                Step::Seam if !begins => programme.run(),
                Step::Another if !begins => {
                    programme.end();
                    process.live.send_replace(programme.snapshot());
                    sleep(SEGMENT).await;
                    programme.restart();
                    begins = true;
                }
                Step::Kill => {
                    kills += 1;
                    process.tasks.shutdown().await;
                    let stored = process.live.borrow().clone();
                    process = Process::start(kills + 1, &store, folder.path(), stored);
                    sleep(SEGMENT).await;
                }
                Step::Seam | Step::Another => {}
            }
        }
        calm.store(true, std::sync::atomic::Ordering::Relaxed);
        if !begins {
            programme.end();
            process.live.send_replace(programme.snapshot());
        }
        // Longer than anything that is put off.
        sleep(Duration::from_secs(600)).await;
        // The right to write is taken with the first thing that is written.
        if published.is_empty() {
            return;
        }
        let chronicle = process.chronicle.borrow().clone().unwrap();
        let listed: Vec<Vec<u64>> = chronicle.programmes.iter().map(|programme| numbers(&store, programme)).collect();
        // What was given up for want of a place to wait in is nowhere; all else is listed.
        let is_there = |number: &u64| {
            let (begin, end) = ("live/demo/720p/", format!("/{number}.m4s"));
            let contents = store.contents.lock().unwrap();
            contents.objects.keys().any(|key| key.starts_with(begin) && key.ends_with(&end))
        };
        published.iter_mut().for_each(|numbers| numbers.retain(is_there));
        published.retain(|numbers| !numbers.is_empty());
        assert_eq!(listed, published);
        drop(process.live);
        process.tasks.join_all().await;
        let stored = store.contents.lock().unwrap().objects[&Resource::Chronicle.path(&channel())].data.clone();
        assert_eq!(Chronicle::read(&stored).unwrap().programmes, chronicle.programmes);
    }

    /// What the published playlist of a recording lists; that it is there is looked at by the store after each change.
    fn numbers(store: &ScriptedStore, programme: &crate::chronicle::Programme) -> Vec<u64> {
        assert_eq!(programme.state, State::Published);
        let rendition = Some(programme.head.renditions[0].name.clone());
        let playlist = Resource::Excerpt(Excerpt::Recording(programme.id), rendition).path(&channel());
        let object = store.contents.lock().unwrap().objects.get(&playlist).cloned().unwrap();
        let media = names(&object).into_iter().filter_map(|key| match Resource::parse(&key).unwrap().1 {
            Resource::Segment(_, _, msn) => Some(msn.0),
            _ => None,
        });
        media.collect::<BTreeSet<_>>().into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn whatever_fails_recordings_are_whole(
            steps in proptest::collection::vec(step(), 1..60), outcomes in proptest::collection::vec(outcome(), 16..64)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(play(steps, outcomes));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clip_outlives_the_recording_that_it_was_made_of() {
        let store = ScriptedStore::new(|_| Outcome::Done(Duration::from_millis(5)));
        let folder = tempfile::tempdir().unwrap();
        let mut programme = Programme::new(4);
        let mut process = Process::start(1, &store, folder.path(), Arc::default());
        process.segments(&mut programme, 8).await;
        let all = Span { start: Moment(0), end: Some(Moment(4_000)) };
        let clip = async |name: &str, span| {
            process.order(|reply| Order::Clip { name: ClipName::new(name).unwrap(), span, reply }).await
        };
        let made = clip("all", all).await.unwrap();
        assert_eq!((made.first, made.last), (Msn(1), Msn(8)));
        assert_eq!(clip("all", all).await, Err(OrderRefusal::Taken));
        assert_eq!(clip("some", Span { end: None, ..all }).await, Err(OrderRefusal::NotOver));
        let late = Span { start: Moment(2_000_000), end: Some(Moment(3_000_000)) };
        assert_eq!(clip("some", late).await, Err(OrderRefusal::Nothing));
        // Its name is used again before what it was is deleted.
        process.order(|reply| Order::RemoveClip { name: made.name.clone(), reply }).await.unwrap();
        let again = clip("all", all).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        let clips = store.contents.lock().unwrap().objects.keys().filter(|key| key.contains("/clips/all/")).count();
        assert_eq!((again, clips), (made.clone(), 5), "its list, and four playlists");
        programme.end();
        process.live.send_replace(programme.snapshot());
        let id = process.chronicle.borrow().as_ref().unwrap().programmes[0].id;
        let published = |known: &Option<Arc<Chronicle>>| {
            known.as_ref().is_some_and(|known| known.programmes[0].state == State::Published)
        };
        process.chronicle.wait_for(published).await.unwrap();
        process.order(|reply| Order::RemoveRecording { id, reply }).await.unwrap();
        programme.restart();
        process.segments(&mut programme, 40).await;
        let media = |store: &ScriptedStore, session: u64| {
            let prefix = format!("live/demo/720p/{session}/");
            store.contents.lock().unwrap().objects.keys().filter(|key| key.starts_with(&prefix)).count()
        };
        assert_eq!(media(&store, 1), 9, "eight segments, and what begins them");
        let recording = Resource::Excerpt(Excerpt::Recording(id), None).path(&channel());
        assert!(!store.contents.lock().unwrap().objects.contains_key(&recording));
        process.order(|reply| Order::RemoveClip { name: made.name, reply }).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(media(&store, 1), 0);
        assert!(!store.contents.lock().unwrap().objects.keys().any(|key| key.contains("clips")));
        process.tasks.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_playlists_in_the_store_still_name_is_not_deleted_with_a_recording() {
        let works = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let told = Arc::clone(&works);
        let store = ScriptedStore::new(move |request| match request {
            Request::Put("live/demo/720p/index.m3u8") if !told.load(std::sync::atomic::Ordering::Relaxed) => {
                Outcome::Refused(Duration::from_millis(5))
            }
            _ => Outcome::Done(Duration::from_millis(5)),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut programme = Programme::new(4);
        let mut process = Process::start(1, &store, folder.path(), Arc::default());
        process.segments(&mut programme, 8).await;
        programme.end();
        process.live.send_replace(programme.snapshot());
        let published = |known: &Option<Arc<Chronicle>>| {
            known.as_ref().is_some_and(|known| known.programmes[0].state == State::Published)
        };
        let id = process.chronicle.wait_for(published).await.unwrap().as_ref().unwrap().programmes[0].id;
        sleep(SEGMENT).await;
        works.store(false, std::sync::atomic::Ordering::Relaxed);
        programme.restart();
        process.segments(&mut programme, 8).await;
        process.order(|reply| Order::RemoveRecording { id, reply }).await.unwrap();
        // The store looks after each deletion whether something names what is gone.
        process.segments(&mut programme, 8).await;
        let left = || {
            let contents = store.contents.lock().unwrap();
            let numbers = contents.objects.keys().filter_map(|key| match Resource::parse(key)?.1 {
                Resource::Segment(name, SessionId(1), msn) if name.as_str() == "720p" => Some(msn.0),
                _ => None,
            });
            numbers.collect::<Vec<_>>()
        };
        let mut numbers = left();
        numbers.sort_unstable();
        assert_eq!(numbers, [5, 6, 7, 8], "what the playlist lists that was not replaced");
        works.store(true, std::sync::atomic::Ordering::Relaxed);
        process.segments(&mut programme, 40).await;
        assert_eq!(left(), [0u64; 0]);
        process.tasks.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_of_which_nothing_was_stored_is_none() {
        let works = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&works);
        let store = ScriptedStore::new(move |request| match request {
            Request::Put(key) if key.ends_with(".m4s") && !told.load(std::sync::atomic::Ordering::Relaxed) => {
                Outcome::Refused(Duration::from_millis(5))
            }
            _ => Outcome::Done(Duration::from_millis(5)),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut programme = Programme::new(4);
        let mut process = Process::start(1, &store, folder.path(), Arc::default());
        for (segments, stored) in [(3, false), (8, true)] {
            works.store(stored, std::sync::atomic::Ordering::Relaxed);
            process.segments(&mut programme, segments).await;
            programme.end();
            process.live.send_replace(programme.snapshot());
            sleep(SEGMENT).await;
            programme.restart();
        }
        sleep(Duration::from_secs(60)).await;
        let chronicle = process.chronicle.borrow().clone().unwrap();
        let firsts: Vec<_> = chronicle.programmes.iter().map(|programme| programme.first().unwrap().0).collect();
        assert_eq!(firsts, [4]);
        process.tasks.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_never_takes_is_not_waited_for_for_ever() {
        let store = ScriptedStore::new(|request| match request {
            Request::Put(key) if key.ends_with("720p/1/3.m4s") => Outcome::Refused(Duration::from_millis(5)),
            _ => Outcome::Done(Duration::from_millis(5)),
        });
        let folder = tempfile::tempdir().unwrap();
        let config =
            SpoolConfig { path: folder.path().join("spool"), bytes_max: 1 << 20, drain_bitrate: 1_000_000_000 };
        let spool = Spool::open(&config, Metrics::default()).await.unwrap();
        let mut programme = Programme::new(4);
        let mut process = Process::with_spool(1, &store, folder.path(), Arc::default(), Some(spool));
        process.segments(&mut programme, 30).await;
        programme.end();
        process.live.send_replace(programme.snapshot());
        let state = |process: &Process| process.chronicle.borrow().as_ref().unwrap().programmes[0].state;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(state(&process), State::Ended, "it may come yet");
        // Others are taken meanwhile, so that it is not for want of a store.
        programme.restart();
        process.segments(&mut programme, 1_000).await;
        assert_eq!(state(&process), State::Published);
        let entry = process.chronicle.borrow().clone().unwrap();
        assert_eq!(numbers(&store, &entry.programmes[0]).len(), 29, "one is a gap");
        process.tasks.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_to_write_is_taken_though_nothing_is_published() {
        let works = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&works);
        let store = ScriptedStore::new(move |_| match told.load(std::sync::atomic::Ordering::Relaxed) {
            true => Outcome::Done(Duration::from_millis(5)),
            false => Outcome::Refused(Duration::from_millis(5)),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(1, &store, folder.path(), Arc::default());
        for (is_working, expected) in [(false, None), (true, Some(OrderRefusal::Unknown))] {
            works.store(is_working, std::sync::atomic::Ordering::Relaxed);
            sleep(Duration::from_secs(60)).await;
            let refused = process
                .order(|reply| Order::RemoveClip { name: ClipName::new("none").unwrap(), reply })
                .await
                .unwrap_err();
            assert_eq!(Some(refused).filter(|refused| !matches!(refused, OrderRefusal::Failing(_))), expected);
        }
        process.tasks.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_whose_index_cannot_be_read_is_not_deleted() {
        let hidden = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&hidden);
        let store = ScriptedStore::new(move |request| match request {
            Request::Get if told.load(std::sync::atomic::Ordering::Relaxed) => {
                Outcome::Refused(Duration::from_millis(5))
            }
            _ => Outcome::Done(Duration::from_millis(5)),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut programme = Programme::new(4);
        let mut process = Process::start(1, &store, folder.path(), Arc::default());
        process.segments(&mut programme, 8).await;
        let media = |store: &ScriptedStore| {
            store.contents.lock().unwrap().objects.keys().filter(|key| key.ends_with(".m4s")).count()
        };
        let (all, is_block) =
            (media(&store), |key: &String| matches!(Resource::parse(key), Some((_, Resource::Block(..)))));
        programme.end();
        process.live.send_replace(programme.snapshot());
        // The block is written, and lost before it is read.
        let has_block = || store.contents.lock().unwrap().objects.keys().any(is_block);
        while !has_block() {
            sleep(Duration::from_millis(1)).await;
        }
        hidden.store(true, std::sync::atomic::Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        store.contents.lock().unwrap().objects.retain(|key, _| !is_block(key));
        hidden.store(false, std::sync::atomic::Ordering::Relaxed);
        let published = |known: &Option<Arc<Chronicle>>| {
            known.as_ref().is_some_and(|known| known.programmes[0].state == State::Published)
        };
        process.chronicle.wait_for(published).await.unwrap();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(media(&store), all);
        process.tasks.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_another_store_is_not_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| ScriptedStore::new(|_| Outcome::Done(Duration::from_millis(5))));
        let mut programme = Programme::new(4);
        let mut found = Vec::new();
        for (number, store) in [(1, &one), (2, &other), (3, &one), (4, &one)] {
            let mut process = Process::start(number, store, folder.path(), Arc::default());
            process.segments(&mut programme, 6).await;
            programme.end();
            process.live.send_replace(programme.snapshot());
            sleep(Duration::from_secs(60)).await;
            programme.restart();
            let known = process.chronicle.borrow().clone().unwrap();
            let of = |it: &crate::chronicle::Programme| (it.first().unwrap().0, it.state);
            found.push(known.programmes.iter().map(of).collect::<Vec<_>>());
            process.tasks.shutdown().await;
        }
        let published = |firsts: &[u64]| firsts.iter().map(|first| (*first, State::Published)).collect::<Vec<_>>();
        assert_eq!(found, [published(&[1]), published(&[7]), published(&[1, 13]), published(&[1, 13, 19])]);
    }
}
