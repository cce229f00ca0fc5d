//! What must not be deleted though no live playlist names it.

use std::collections::BTreeSet;

use super::{BlockKey, Chronicle, State};
use crate::layout::{Excerpt, Resource};
use crate::live::{Msn, SessionId};

/// Recordings and clips, and what the index consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    stretches: Vec<Stretch>,
    /// A recording that goes on: its first number, and its first run.
    open: Option<(Msn, SessionId)>,
    excerpts: BTreeSet<Excerpt>,
    blocks: BTreeSet<BlockKey>,
}

/// The media of a recording or a clip, from number to number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    first: Msn,
    last: Msn,
    sessions: BTreeSet<SessionId>,
}

impl Kept {
    pub(super) fn of(chronicle: &Chronicle) -> Self {
        let mut kept = Self::default();
        for programme in chronicle.programmes.iter().filter(|programme| programme.recorded) {
            kept.excerpts.insert(Excerpt::Recording(programme.id));
            kept.blocks.extend(programme.blocks.iter().map(super::BlockSummary::key));
            let Some((first, last)) = programme.first().zip(programme.last()) else { continue };
            kept.stretches.push(Stretch { first, last, sessions: programme.head.sessions.clone() });
            if programme.state == State::Open {
                kept.open = Some((first, programme.id));
            }
        }
        // By a block it is known what is still to be deleted.
        kept.blocks.extend(chronicle.removed.iter().flat_map(|removed| &removed.blocks).map(super::BlockSummary::key));
        for removed in chronicle.removed.iter().filter(|removed| removed.stays_until.is_some()) {
            let blocks = removed.blocks.iter().map(|block| (block.first, block.last));
            let tail = removed.entries.first().zip(removed.entries.last()).map(|(first, last)| (first.msn, last.msn));
            let stretch = |(first, last)| Stretch { first, last, sessions: removed.head.sessions.clone() };
            kept.stretches.extend(blocks.chain(tail).map(stretch));
        }
        for clip in &chronicle.clips {
            kept.excerpts.insert(Excerpt::Clip(clip.name.clone()));
            kept.stretches.push(Stretch { first: clip.first, last: clip.last, sessions: clip.sessions.clone() });
        }
        kept
    }

    /// It is to stay.
    #[must_use]
    pub fn holds(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Segment(_, session, msn) | Resource::TsSegment(_, session, msn) => {
                let within = |stretch: &Stretch| {
                    (stretch.first..=stretch.last).contains(msn) && stretch.sessions.contains(session)
                };
                self.open.is_some_and(|(first, run)| first <= *msn && run <= *session)
                    || self.stretches.iter().any(within)
            }
            Resource::Init(_, session) => {
                let needs = |stretch: &Stretch| stretch.sessions.contains(session);
                self.open.is_some_and(|(_, run)| run <= *session) || self.stretches.iter().any(needs)
            }
            Resource::Chronicle => true,
            Resource::Block(session, first) => self.blocks.contains(&(*session, *first)),
            Resource::Excerpt(excerpt, _) => self.excerpts.contains(excerpt),
            Resource::Storyboard(id) | Resource::Sheet(id, _) => self.excerpts.contains(&Excerpt::Recording(*id)),
            Resource::Clip(name) => self.excerpts.contains(&Excerpt::Clip(name.clone())),
            Resource::Multivariant
            | Resource::Thumbnail
            | Resource::Playlist(_)
            | Resource::IFrames(_)
            | Resource::Part(..) => false,
        }
    }
}
