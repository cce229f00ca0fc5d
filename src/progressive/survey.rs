//! The first reading: every segment once, of which only what is said of its samples is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, JoinSet};

use super::contents::Contents;
use super::download::{Fault, get};
use super::{Init, Movie, Placed, Scan, Track, Unfit, scan};
use crate::archive::Archive;
use crate::chronicle::Listed;
use crate::layout::Resource;
use crate::media::MediaTime;

/// A reading that can be left at any time, and goes on where it was left.
#[derive(Debug)]
pub(super) struct Survey {
    archive: Arc<dyn Archive>,
    contents: Arc<Contents>,
    /// Those that have all their initialisation segments.
    tracks: Vec<Opened>,
    /// Segments of the track that is being read which have been read.
    read: usize,
    timeline: Timeline,
    /// All of it has been read, and the file is being written.
    writing: Option<JoinHandle<Result<Movie, Unfit>>>,
}

/// Where the programmes of a file stand: one behind the other, as those who saw them live had them, but for the time between them.
#[derive(Debug, Default)]
struct Timeline {
    /// Where the file is ahead of the times by which segments are listed, by the last one that was read.
    ahead: Option<MediaTime>,
    /// By programmes: what is to be added to their times.
    shifts: BTreeMap<usize, MediaTime>,
}

impl Timeline {
    /// What is to be added to the times of a segment that begins at `start` by its own clock. Within a programme the clock goes on by
    /// itself, with less or more than is listed where an encoder was away; the next one is put behind that.
    fn shift(&mut self, listed: &Listed, start: MediaTime) -> MediaTime {
        let ahead = self.ahead.unwrap_or(start - listed.begins);
        let shift = *self.shifts.entry(listed.programme).or_insert(listed.begins + ahead - start);
        self.ahead = Some(start + shift - listed.begins);
        shift
    }
}

/// A track, and the initialisation segments of its segments.
#[derive(Debug)]
struct Opened {
    track: Track,
    inits: Vec<Resource>,
}

impl Survey {
    pub(super) fn new(archive: Arc<dyn Archive>, contents: Arc<Contents>) -> Self {
        Self { archive, contents, tracks: Vec::new(), read: 0, timeline: Timeline::default(), writing: None }
    }

    /// Reads what is still to be read, and gives the file. Where it is dropped before that, or a segment cannot be had, nothing that
    /// was read is read again.
    ///
    /// # Errors
    /// [`Fault`]; after one that is [`Fault::Unfit`] it is of no use.
    pub(super) async fn finish(&mut self) -> Result<Movie, Fault> {
        let writing = match &mut self.writing {
            Some(writing) => writing,
            None => {
                self.read_all().await?;
                let tracks = std::mem::take(&mut self.tracks).into_iter().map(|opened| opened.track).collect();
                // The head of a long file takes a while to be written.
                self.writing.insert(tokio::task::spawn_blocking(move || Movie::new(tracks)))
            }
        };
        let written = writing.await;
        self.writing = None;
        Ok(written.map_err(|_| Fault::Later)??)
    }

    async fn read_all(&mut self) -> Result<(), Fault> {
        let contents = Arc::clone(&self.contents);
        for (index, listed) in contents.tracks.iter().enumerate() {
            if self.tracks.len() == index {
                let opened = self.open(index).await?;
                self.tracks.push(opened);
                self.read = 0;
            }
            // Of those before it everything has been read.
            if self.tracks.len() == index + 1 {
                self.read(index, listed.len()).await?;
            }
        }
        Ok(())
    }

    /// What it reads.
    pub(super) fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.contents)
    }

    /// About what it takes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.tracks.iter().map(|opened| opened.track.memory_bytes()).sum()
    }

    /// A track with the initialisation segments that its segments need.
    async fn open(&self, index: usize) -> Result<Opened, Fault> {
        let mut inits: Vec<Resource> = Vec::new();
        for listed in self.contents.tracks.get(index).into_iter().flatten() {
            let init = init_of(&listed.resource)?;
            // Sessions follow one another.
            if !inits.iter().rev().any(|known| *known == init) {
                inits.push(init);
            }
        }
        let mut read = Vec::new();
        for init in &inits {
            let data = get(&*self.archive, &self.contents.channel, init).await?;
            read.push(Init::read(&data)?);
        }
        Ok(Opened { track: Track::new(read)?, inits })
    }

    /// Reads the rest of the `count` segments of a track, a few at a time.
    async fn read(&mut self, index: usize, count: usize) -> Result<(), Fault> {
        let mut reads = JoinSet::new();
        let mut arrived: BTreeMap<usize, Scan> = BTreeMap::new();
        let mut begun = self.read;
        while self.read < count {
            while begun < count && begun < self.read + AT_ONCE {
                reads.spawn(examine(Arc::clone(&self.archive), Arc::clone(&self.contents), index, begun));
                begun += 1;
            }
            match arrived.remove(&self.read) {
                Some(scan) => self.take(index, &scan)?,
                None => {
                    let (number, scan) = reads.join_next().await.and_then(Result::ok).ok_or(Fault::Later)?;
                    arrived.insert(number, scan?);
                }
            }
        }
        Ok(())
    }

    /// Takes the next segment of a track.
    fn take(&mut self, index: usize, scan: &Scan) -> Result<(), Fault> {
        let listed = self.contents.tracks.get(index).and_then(|track| track.get(self.read));
        if let (Some(listed), Some(opened)) = (listed, self.tracks.get_mut(index)) {
            let init = init_of(&listed.resource)?;
            let init = opened.inits.iter().rposition(|known| *known == init).unwrap_or(usize::MAX);
            let start = opened.track.begins(init, scan);
            let shift = start.map_or(MediaTime::ZERO, |start| self.timeline.shift(listed, start));
            opened.track.push(Placed { init, shift }, scan)?;
        }
        self.read += 1;
        Ok(())
    }
}

/// Reads a segment of a track, and says which.
async fn examine(
    archive: Arc<dyn Archive>,
    contents: Arc<Contents>,
    track: usize,
    number: usize,
) -> (usize, Result<Scan, Fault>) {
    let Some(listed) = contents.tracks.get(track).and_then(|track| track.get(number)) else {
        return (number, Err(Fault::Later));
    };
    let data: Result<Bytes, Fault> = get(&*archive, &contents.channel, &listed.resource).await;
    (number, data.and_then(|data| Ok(scan(&data)?)))
}

/// The initialisation segment of a segment.
fn init_of(segment: &Resource) -> Result<Resource, Fault> {
    match segment {
        Resource::Segment(rendition, session, _) => Ok(Resource::Init(rendition.clone(), *session)),
        Resource::TsSegment(..) => Err(Unfit::MpegTs.into()),
        other => Err(Unfit::unreadable(format_args!("{} is no segment", other.below_channel())).into()),
    }
}

/// Segments that are read at a time.
const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::RenditionName;
    use crate::live::{Msn, SessionId};

    #[test]
    fn the_next_programme_is_put_behind_what_the_one_before_came_to() {
        let mut timeline = Timeline::default();
        let secs = |secs: i64| MediaTime::from_millis(secs * 1_000);
        let resource = Resource::Segment(RenditionName::new("720p").unwrap(), SessionId(1), Msn(1));
        // When it begins by the list, by its own clock, and in the file: at the third the clock has run ahead by 10 s.
        let segments =
            [(0, 0, 100, 100), (0, 4, 104, 104), (0, 8, 118, 118), (1, 12, 5, 122), (1, 16, 9, 126), (2, 20, 700, 130)];
        for track in 0..2 {
            for (programme, begins, start, expected) in segments {
                let listed = Listed { resource: resource.clone(), programme, begins: secs(begins) };
                let found = secs(start) + timeline.shift(&listed, secs(start));
                assert_eq!(found, secs(expected), "track {track}, segment at {begins}");
            }
        }
    }
}
