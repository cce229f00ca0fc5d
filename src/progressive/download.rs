//! Files that are sent: [`Downloads`] reads the segments once for the head, and keeps a few heads; a [`Reader`] reads them again
//! while they are being sent.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as Turns, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::contents::{Contents, Digest};
use super::survey::Survey;
use super::{Kind, Movie, Part, Unfit};
use crate::archive::{Archive, Lack, Wanted};
use crate::layout::Resource;
use crate::source::ChannelName;

/// Why a file cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// As many are being sent as may be.
    #[error("as many files are being fetched as this server gives at a time")]
    Busy,
    /// Its segments are still being read; who asks again finds that further on.
    #[error("the file is still being put together")]
    Later,
    /// A segment cannot be had.
    #[error("{path} cannot be had")]
    Lacking {
        /// Of the segment.
        path: String,
        /// Why not.
        lack: Lack,
    },
    /// The segments make no file.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Who gives files out. Clones share what there is.
#[derive(Clone, Debug)]
pub struct Downloads {
    archive: Arc<dyn Archive>,
    places: Arc<Semaphore>,
    /// Bounds the heads that are made at one time.
    surveys: Arc<Semaphore>,
    heads: Arc<Mutex<Heads>>,
}

/// The heads that are kept, the one that was asked for last at the end.
type Heads = VecDeque<(Digest, Arc<Turns<Head>>)>;

/// A head, or what there is of it.
#[derive(Debug)]
enum Head {
    Reading(Survey),
    Ready(Arc<Ready>),
    /// There is none, and will be none: what is read never changes.
    Unfit(Unfit),
}

/// A file that can be sent.
#[derive(Debug)]
struct Ready {
    contents: Arc<Contents>,
    movie: Movie,
    etag: String,
}

/// A file that may be sent. It has its place until it is dropped.
#[derive(Debug)]
pub struct Download {
    archive: Arc<dyn Archive>,
    ready: Arc<Ready>,
    _place: OwnedSemaphorePermit,
}

impl Downloads {
    /// Of what `archive` has, of which every segment is asked for twice; `at_once` files at a time.
    #[must_use]
    pub fn new(archive: Arc<dyn Archive>, at_once: usize) -> Self {
        let at_once = at_once.min(Semaphore::MAX_PERMITS);
        let [places, surveys] = [at_once, SURVEYS_MAX].map(|permits| Arc::new(Semaphore::new(permits)));
        Self { archive, places, surveys, heads: Arc::default() }
    }

    /// The file of these contents. For one that was not asked for lately all its segments are read, for some 25 s at most; others
    /// who ask for the same meanwhile wait for the same.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn open(&self, contents: Contents) -> Result<Download, Fault> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Fault::Busy)?;
        let head = self.head(contents.digest(), contents);
        let read = async {
            let mut head = head.lock().await;
            let _turn = match &*head {
                Head::Reading(_) => self.surveys.acquire().await.ok(),
                Head::Ready(_) | Head::Unfit(_) => None,
            };
            head.ready().await
        };
        let found = timeout(PATIENCE, read).await.unwrap_or(Err(Fault::Later));
        self.make_room();
        Ok(Download { archive: Arc::clone(&self.archive), ready: found?, _place: place })
    }

    /// The head of this digest, begun where there is none.
    fn head(&self, digest: Digest, contents: Contents) -> Arc<Turns<Head>> {
        let mut heads = self.lock();
        let known = heads.iter().position(|(known, _)| *known == digest).and_then(|index| heads.remove(index));
        let (_, head) = known.unwrap_or_else(|| {
            let survey = Survey::new(Arc::clone(&self.archive), Arc::new(contents));
            (digest, Arc::new(Turns::new(Head::Reading(survey))))
        });
        heads.push_back((digest, Arc::clone(&head)));
        head
    }

    /// Forgets what was asked for longest ago, while there is more than may be. Those who are at it keep it.
    fn make_room(&self) {
        let mut heads = self.lock();
        // One that is being read is as great as it will be when it is looked at next.
        let bytes = |(_, head): &(Digest, Arc<Turns<Head>>)| head.try_lock().map_or(0, |head| head.memory_bytes());
        while heads.len() > HEADS_MAX || (heads.len() > 1 && heads.iter().map(bytes).sum::<usize>() > HEADS_BYTES_MAX) {
            heads.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Head {
    async fn ready(&mut self) -> Result<Arc<Ready>, Fault> {
        let survey = match self {
            Self::Ready(ready) => return Ok(Arc::clone(ready)),
            Self::Unfit(unfit) => return Err(unfit.clone().into()),
            Self::Reading(survey) => survey,
        };
        let (outcome, contents) = (survey.finish().await, survey.contents());
        if let Err(Fault::Unfit(unfit)) = &outcome {
            *self = Self::Unfit(unfit.clone());
        }
        let movie = outcome?;
        let ready = Arc::new(Ready { etag: contents.etag(movie.head()), contents, movie });
        *self = Self::Ready(Arc::clone(&ready));
        Ok(ready)
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Reading(survey) => survey.memory_bytes(),
            Self::Ready(ready) => ready.movie.memory_bytes(),
            Self::Unfit(_) => 0,
        }
    }
}

impl Download {
    /// How long the file is, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.ready.movie.length()
    }

    /// Whether it has pictures.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.ready.movie.kind()
    }

    /// Its entity tag, a strong one, with its quotes.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.ready.etag
    }

    /// The bytes `range` of it.
    #[must_use]
    pub fn read(self, range: Range<u64>) -> Reader {
        let end = range.end.min(self.length());
        Reader {
            download: self,
            at: range.start,
            end,
            looked: range.start,
            begun: BTreeMap::new(),
            reads: JoinSet::new(),
            arrived: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }
}

/// A file that is being sent. It reads a little ahead, and stops where it is dropped.
#[derive(Debug)]
pub struct Reader {
    download: Download,
    at: u64,
    end: u64,
    /// Up to where it is known which segments are needed.
    looked: u64,
    /// The next segment of each track that is not being read.
    begun: BTreeMap<usize, usize>,
    /// Bounded by [`AHEAD`], with those that have arrived.
    reads: JoinSet<(Place, Result<Bytes, Fault>)>,
    arrived: BTreeMap<Place, Bytes>,
    /// The segment of each track that is being sent.
    held: BTreeMap<usize, (usize, Bytes)>,
}

/// A track, and a segment of it.
type Place = (usize, usize);

impl Reader {
    /// What comes next; none at the end, and after an error.
    ///
    /// # Errors
    /// [`Fault`], where a segment that was there is not there any more.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        let part = self.download.ready.movie.parts(self.at..self.end).next()?;
        let bytes = match part {
            Part::Head(bytes) => Ok(bytes),
            Part::Media { track, segment, range } => {
                self.segment((track, segment)).await.and_then(|data| slice(&data, range))
            }
        };
        match &bytes {
            Ok(bytes) => self.at = self.at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Err(_) => self.at = self.end,
        }
        Some(bytes)
    }

    /// A segment. They are needed in the order in which they are begun to be read, so that it is among the first of them.
    async fn segment(&mut self, place: Place) -> Result<Bytes, Fault> {
        let (track, number) = place;
        loop {
            if let Some((_, data)) = self.held.get(&track).filter(|(held, _)| *held == number) {
                return Ok(data.clone());
            }
            if let Some(data) = self.arrived.remove(&place) {
                self.held.insert(track, (number, data));
                self.read_ahead();
                continue;
            }
            self.read_ahead();
            let (arrived, data) = self.reads.join_next().await.and_then(Result::ok).ok_or(Fault::Later)?;
            self.arrived.insert(arrived, data?);
        }
    }

    /// Begins to read what is needed next.
    fn read_ahead(&mut self) {
        while self.reads.len() + self.arrived.len() < AHEAD {
            let Some(place) = self.needed() else { return };
            let (archive, ready) = (Arc::clone(&self.download.archive), Arc::clone(&self.download.ready));
            self.reads.spawn(async move { (place, ready.segment(&*archive, place).await) });
        }
    }

    /// The next segment that is needed and is not being read.
    fn needed(&mut self) -> Option<Place> {
        for part in self.download.ready.movie.parts(self.looked..self.end) {
            let (place, length) = match part {
                Part::Head(bytes) => (None, bytes.len()),
                Part::Media { track, segment, range } => (Some((track, segment)), range.len()),
            };
            self.looked = self.looked.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            if let Some((track, segment)) = place
                && self.begun.get(&track).is_none_or(|next| segment >= *next)
            {
                self.begun.insert(track, segment + 1);
                return place;
            }
        }
        None
    }
}

impl Ready {
    async fn segment(&self, archive: &dyn Archive, (track, segment): Place) -> Result<Bytes, Fault> {
        let listed = self.contents.tracks.get(track).and_then(|track| track.get(segment)).ok_or(Fault::Later)?;
        get(archive, &self.contents.channel, &listed.resource).await
    }
}

fn slice(data: &Bytes, range: Range<usize>) -> Result<Bytes, Fault> {
    if range.end > data.len() {
        return Err(Unfit::unreadable("it has become shorter").into());
    }
    Ok(data.slice(range))
}

/// Something that never changes.
pub(super) async fn get(archive: &dyn Archive, channel: &ChannelName, resource: &Resource) -> Result<Bytes, Fault> {
    let found = archive.fetch(Wanted { channel, resource, directives: None }).await;
    found.map(|copy| copy.data().clone()).map_err(|lack| Fault::Lacking { path: resource.path(channel), lack })
}

/// How long somebody waits for a head. Less than peers wait for the first byte of an answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// Segments that are read before they are needed.
const AHEAD: usize = 2;

/// Heads that are made at one time: of a day each takes some hundred megabytes while it is.
const SURVEYS_MAX: usize = 2;

/// Heads that are kept, for those who fetch a file in ranges, and who come back.
const HEADS_MAX: usize = 16;

/// What those may take of memory: some hours of a programme each.
const HEADS_BYTES_MAX: usize = 64 << 20;
