//! What of a channel's past is to go, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BlockSummary, Chronicle, ClipName, Entry, Head, Moment, Programme, State, Stretch};
use crate::layout::{Excerpt, Resource};
use crate::live::{Msn, SessionId};

/// How long recordings are kept, and how much of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// From a recording's end.
    pub age_max: Option<Duration>,
    /// Bytes of all recordings of a channel; the oldest goes first.
    pub bytes_max: Option<u64>,
}

/// What is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A recording.
    Recording(SessionId),
    /// The oldest block of one that goes on.
    Block(SessionId),
}

/// What is not listed any more, and may still be in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Whose playlists are to be deleted.
    pub excerpt: Option<Excerpt>,
    /// Entries whose media is to be deleted.
    pub entries: Vec<Entry>,
    /// Blocks whose entries' media is to be deleted, and they after it.
    pub blocks: Vec<BlockSummary>,
    /// Until then its media stays, for those who watch by a list that they fetched before.
    pub stays_until: Option<Moment>,
    /// What holds for all of them.
    #[serde(flatten)]
    pub head: Head,
}

impl Chronicle {
    /// What is to go next.
    #[must_use]
    pub fn due(&self, rules: &Rules, now: Moment) -> Option<Removal> {
        let recordings = || self.programmes.iter().filter(|programme| programme.recorded);
        let too_old = |ends: Moment| rules.age_max.is_some_and(|age| ends.after(age) < now);
        let of = |programme: &Programme, is_due: &dyn Fn(Moment) -> bool| match programme.state {
            // It is to be known where it goes on.
            State::Open if programme.tail.is_empty() => None,
            State::Open => {
                programme.blocks.first().filter(|block| is_due(block.ends)).map(|_| Removal::Block(programme.id))
            }
            State::Published => programme.ends().filter(|ends| is_due(*ends)).map(|_| Removal::Recording(programme.id)),
            State::Ended => None,
        };
        let old = recordings().find_map(|programme| of(programme, &too_old));
        let bytes = recordings().map(Programme::bytes).fold(0, u64::saturating_add);
        let too_many = rules.bytes_max.is_some_and(|bytes_max| bytes > bytes_max);
        old.or_else(|| recordings().filter(|_| too_many).find_map(|programme| of(programme, &|_| true)))
    }

    /// Takes it off the list of what there is. False where it is not there. What is taken off because it is due stays for as long as it
    /// lasts (RFC 8216bis, 6.2.2), six hours at most; without a `now` it is to go at once.
    pub fn remove(&mut self, removal: Removal, now: Option<Moment>) -> bool {
        let programme = match removal {
            Removal::Recording(id) | Removal::Block(id) => self.programme(id),
        };
        let lasted = programme.and_then(|programme| Some(programme.ends()?.since(programme.begins()?)));
        let stays_until = now.zip(lasted).map(|(now, lasted)| now.after(lasted.min(LINGER_MAX)));
        let removed = match removal {
            Removal::Recording(id) => {
                let position = self.programmes.iter().position(|programme| programme.id == id);
                position.map(|position| self.take_off(position)).map(|programme| Removed {
                    excerpt: Some(Excerpt::Recording(id)),
                    entries: programme.tail,
                    blocks: programme.blocks,
                    stays_until,
                    head: programme.head,
                })
            }
            Removal::Block(id) => {
                let programme = self.programmes.iter_mut().find(|programme| programme.id == id);
                programme.filter(|programme| !programme.blocks.is_empty()).map(|programme| {
                    let block = programme.blocks.remove(0);
                    programme.gone = Some(programme.gone.unwrap_or(0).saturating_add(block.seams));
                    let (blocks, head) = (vec![block], programme.head.clone());
                    Removed { excerpt: None, entries: Vec::new(), blocks, stays_until, head }
                })
            }
        };
        let was_there = removed.is_some();
        self.removed.extend(removed);
        was_there
    }

    /// Takes a clip, which lists `stretch`, off the list of what there is.
    pub fn remove_clip(&mut self, name: &ClipName, stretch: Stretch) {
        self.clips.retain(|clip| clip.name != *name);
        let excerpt = Some(Excerpt::Clip(name.clone()));
        let (entries, blocks, head) = (stretch.entries, Vec::new(), stretch.head);
        self.removed.push(Removed { excerpt, entries, blocks, stays_until: None, head });
    }

    /// The first of what was removed of which something can be deleted: playlists at any time, media where that may be deleted
    /// `now`.
    #[must_use]
    pub fn deletable(&self, now: Option<Moment>) -> Option<usize> {
        let is_due = |until: Option<Moment>| now.is_some_and(|now| until.is_none_or(|until| until <= now));
        self.removed.iter().position(|removed| removed.excerpt.is_some() || is_due(removed.stays_until))
    }

    /// Lets go of what is not kept and no live playlist lists any more: numbers below `first`. True where there was something.
    pub fn forget(&mut self, first: Msn) -> bool {
        let mut changed = false;
        for programme in self.programmes.iter_mut().filter(|programme| !programme.recorded) {
            let gone = programme
                .tail
                .extract_if(.., |entry| entry.msn < first)
                .fold(None, |seams, entry| Some(seams.unwrap_or(0_u64).saturating_add(entry.discontinuity.into())));
            if let Some(seams) = gone {
                programme.gone = Some(programme.gone.unwrap_or(0).saturating_add(seams));
                changed = true;
            }
        }
        let is_over = |programme: &Programme| programme.state != State::Open && programme.last().is_none();
        while let Some(position) = self.programmes.iter().position(is_over) {
            self.take_off(position);
            changed = true;
        }
        changed
    }

    /// The next programme is told how many discontinuities there were, so that lists that go on count on from there.
    fn take_off(&mut self, position: usize) -> Programme {
        let programme = self.programmes.remove(position);
        if let Some(next) = self.programmes.get_mut(position) {
            next.before =
                next.before.saturating_add(programme.before).saturating_add(programme.seams()).saturating_add(1);
        }
        programme
    }
}

/// A place would not be bounded by how much may be kept if what is removed stayed for long.
const LINGER_MAX: Duration = Duration::from_secs(6 * 3600);

/// Sheets of a storyboard, at most.
pub const SHEETS_MAX: u32 = 16;

impl Removed {
    /// The media of `entries`, which are of it.
    #[must_use]
    pub fn media(&self, entries: &[Entry]) -> Vec<Resource> {
        entries.iter().flat_map(|entry| entry.media(&self.head)).collect()
    }

    /// Playlists, a clip's list, a recording's storyboard.
    #[must_use]
    pub fn texts(&self) -> Vec<Resource> {
        let playlists = self.excerpt.iter().flat_map(|excerpt| self.head.playlists(excerpt));
        let others = match &self.excerpt {
            Some(Excerpt::Clip(name)) => vec![Resource::Clip(name.clone())],
            Some(Excerpt::Recording(id)) => {
                let sheets = (0..SHEETS_MAX).map(|sheet| Resource::Sheet(*id, sheet));
                std::iter::once(Resource::Storyboard(*id)).chain(sheets).collect()
            }
            None => Vec::new(),
        };
        playlists.chain(others).collect()
    }

    /// The initialisation segments of its runs.
    #[must_use]
    pub fn inits(&self) -> Vec<Resource> {
        let of = |session: &SessionId| {
            let session = *session;
            self.head.renditions.iter().filter_map(move |rendition| self.head.init(rendition, session))
        };
        self.head.sessions.iter().flat_map(of).collect()
    }
}
