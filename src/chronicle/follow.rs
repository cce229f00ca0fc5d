//! How the index follows what a channel publishes, and what is found out about the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{BLOCK_ENTRIES, Block, Chronicle, Entry, Head, Moment, Piece, Programme, Rendition, State};
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Msn, RenditionSnapshot, Segment, SessionId};

/// So many segments a rendition may be behind the foremost before its entries are taken in without it.
const LAG_MAX: u64 = 8;

impl Chronicle {
    /// Takes in what `snapshot` lists and is not known yet; `recorded` says whether its programme is to be kept. True where
    /// something has changed.
    pub fn follow(&mut self, snapshot: &ChannelSnapshot, recorded: bool) -> bool {
        let Some(multivariant) = snapshot.multivariant.as_ref() else { return false };
        let Some((first, last)) = listed(snapshot) else { return false };
        let mut changed = false;
        for msn in (self.next(snapshot).max(first).0..=last.0).map(Msn) {
            let Some(segment) = snapshot.offered().find_map(|rendition| segment(rendition, msn)) else { continue };
            self.make_way(segment);
            if !self.goes_on_with(segment) {
                self.begin(snapshot, segment.session);
            }
            let Some(programme) = self.programmes.last_mut() else { continue };
            let entry = entry(snapshot, &programme.head, segment);
            programme.head.sessions.insert(entry.session);
            let longest = entry.pieces.iter().map(|piece| rounded_secs(piece.1)).max().unwrap_or(0);
            let target = &mut programme.head.target_duration_secs;
            *target = longest.max(snapshot.target_duration_secs).max(*target);
            self.last = Some((entry.session, msn));
            programme.tail.push(entry);
            changed = true;
        }
        let Some(programme) = self.programmes.last_mut().filter(|programme| programme.state == State::Open) else {
            return changed;
        };
        if changed {
            programme.head.multivariant = without_i_frames(&String::from_utf8_lossy(&multivariant.text));
        }
        if recorded && !programme.recorded {
            programme.recorded = true;
            changed = true;
        }
        // Not what is served on of a programme before, while the next one has no playlist yet.
        let newest =
            snapshot.offered().filter_map(|rendition| rendition.segments.back()).map(|last| last.session).max();
        if snapshot.ended && newest.is_some_and(|newest| programme.head.sessions.contains(&newest)) {
            programme.state = State::Ended;
            changed = true;
        }
        changed
    }

    /// Takes over from `other` what has been followed behind what is known here.
    pub fn join(&mut self, other: Self) {
        let known = self.last;
        let is_new = |entry: &Entry| known.is_none_or(|known| known < (entry.session, entry.msn));
        for mut programme in other.programmes {
            programme.tail.retain(is_new);
            let ends = programme.tail.first().zip(programme.tail.last());
            let Some((first, last)) = ends.map(|(first, last)| (first, (last.session, last.msn))) else { continue };
            match self.programmes.iter_mut().rfind(|own| own.goes_on_as(&programme, first)) {
                Some(own) => {
                    own.head.sessions.extend(programme.head.sessions);
                    own.head.target_duration_secs =
                        own.head.target_duration_secs.max(programme.head.target_duration_secs);
                    own.tail.extend(programme.tail);
                    own.state = programme.state;
                }
                None => self.programmes.push(programme),
            }
            self.last = self.last.max(Some(last));
        }
        // Only the last one can go on.
        let before = self.programmes.len().saturating_sub(1);
        for programme in self.programmes.iter_mut().take(before).filter(|programme| programme.state == State::Open) {
            programme.state = State::Ended;
        }
    }

    /// What goes on for all that is known is over. True where there was something.
    pub fn end(&mut self) -> bool {
        let open = self.programmes.iter_mut().filter(|programme| programme.state == State::Open);
        open.map(|programme| programme.state = State::Ended).count() > 0
    }

    /// The first number that is not known yet. A younger run may begin with a number that is known: of a process that has not heard
    /// of what came last, or that knows nothing of the channel.
    fn next(&self, snapshot: &ChannelSnapshot) -> Msn {
        let Some((session, known)) = self.last else { return Msn(0) };
        let is_younger = |segment: &&Arc<Segment>| segment.session > session;
        let has_younger =
            |rendition: &&Arc<RenditionSnapshot>| rendition.segments.back().as_ref().is_some_and(is_younger);
        let younger =
            snapshot.offered().filter(has_younger).flat_map(|rendition| rendition.listed().filter(is_younger));
        let next = Msn(known.0.saturating_add(1));
        younger.map(|segment| segment.msn).min().map_or(next, |first| first.min(next))
    }

    /// What has the number of `segment`, or a higher one, and nobody has seen in the store, is given up.
    fn make_way(&mut self, segment: &Segment) {
        if self.last.is_some_and(|(_, known)| segment.msn <= known)
            && let Some(programme) = self.programmes.last_mut()
        {
            programme.tail.retain(|entry| entry.msn < segment.msn || !entry.unproven);
        }
    }

    /// The segment is of the programme that is open.
    fn goes_on_with(&self, segment: &Segment) -> bool {
        let open = self.programmes.last().filter(|programme| programme.state == State::Open);
        open.is_some_and(|programme| {
            let follows = programme.last().is_none_or(|last| last < segment.msn);
            // The first run of a programme is no seam in it.
            follows && (segment.discontinuity || programme.head.sessions.contains(&segment.session))
        })
    }

    fn begin(&mut self, snapshot: &ChannelSnapshot, session: SessionId) {
        if let Some(before) = self.programmes.last_mut().filter(|programme| programme.state == State::Open) {
            before.state = State::Ended;
        }
        let renditions =
            snapshot.offered().map(|rendition| Rendition { name: rendition.name.clone(), kind: rendition.kind });
        let container = snapshot.offered().next().map(|rendition| rendition.container).unwrap_or_default();
        self.programmes.push(Programme {
            id: session,
            recorded: false,
            drawn: false,
            state: State::Open,
            head: Head {
                target_duration_secs: snapshot.target_duration_secs,
                container,
                renditions: renditions.collect(),
                multivariant: String::new(),
                sessions: [session].into(),
            },
            blocks: Vec::new(),
            gone: None,
            before: 0,
            tail: Vec::new(),
        });
    }

    /// All media of numbers up to `last` that `snapshot` lists is in the store. True where that was not known of some.
    pub fn stored(&mut self, snapshot: &ChannelSnapshot, last: Msn) -> bool {
        let mut news = false;
        for programme in &mut self.programmes {
            let head = &programme.head;
            for entry in programme.tail.iter_mut().filter(|entry| entry.unproven && entry.msn <= last) {
                if is_listed(snapshot, head, entry) {
                    entry.unproven = false;
                    news = true;
                }
            }
        }
        news
    }

    /// The media of recordings of which it is not known whether it is in the store, and that `snapshot` does not list, or as a gap; and
    /// what is needed to read it.
    #[must_use]
    pub fn doubtful(&self, snapshot: &ChannelSnapshot) -> BTreeSet<Resource> {
        let mut doubtful = BTreeSet::new();
        // Nobody waits for what is known of others.
        for programme in self.programmes.iter().filter(|programme| programme.recorded) {
            for entry in
                programme.tail.iter().filter(|entry| is_doubtful(snapshot, programme.state, &programme.head, entry))
            {
                doubtful.extend(entry.media(&programme.head));
                doubtful.extend(entry.inits(&programme.head));
            }
        }
        doubtful
    }

    /// Of what is doubtful, some is in the store or is lost, as `is_there` says; of the rest it does not know that. Media that cannot
    /// be read for want of its initialisation segment is lost too. How many segments are lost.
    pub fn settle(&mut self, snapshot: &ChannelSnapshot, is_there: impl Fn(&Resource) -> Option<bool>) -> u64 {
        let mut lost = 0u64;
        for programme in &mut self.programmes {
            let (state, head) = (programme.state, programme.head.clone());
            for entry in programme.tail.iter_mut().filter(|entry| is_doubtful(snapshot, state, &head, entry)) {
                if entry.media(&head).chain(entry.inits(&head)).any(|needed| is_there(&needed).is_none()) {
                    continue;
                }
                entry.unproven = false;
                let is_lost = |needed: Resource| is_there(&needed) == Some(false);
                for (rendition, piece) in head.renditions.iter().zip(&mut entry.pieces) {
                    let (name, init) = (rendition.name.clone(), head.init(rendition, entry.session));
                    let media = Resource::segment(head.container, name, entry.session, entry.msn);
                    if !piece.is_gap() && (is_lost(media) || init.is_some_and(is_lost)) {
                        piece.2 = 0;
                        lost = lost.saturating_add(1);
                    }
                }
            }
        }
        lost
    }

    /// A recording's oldest entries that are to be moved into a block: as soon as there are enough, or it is over, and nothing of them is
    /// doubtful.
    #[must_use]
    pub fn next_block(&self) -> Option<(SessionId, Block)> {
        self.programmes.iter().filter(|programme| programme.recorded).find_map(|programme| {
            let over = programme.state == State::Ended && !programme.tail.is_empty();
            let count = if over { programme.tail.len().min(BLOCK_ENTRIES) } else { BLOCK_ENTRIES };
            let entries = programme.tail.get(..count)?;
            let settled = !entries.iter().any(|entry| entry.unproven);
            settled.then(|| (programme.id, Block { entries: entries.to_vec() }))
        })
    }

    /// The block is in the store: its entries leave the index.
    pub fn close(&mut self, programme: SessionId, block: &Block) {
        let Some(programme) = self.programmes.iter_mut().find(|candidate| candidate.id == programme) else { return };
        if let Some(summary) = block.summary() {
            programme.tail.retain(|entry| entry.msn > summary.last);
            programme.blocks.push(summary);
        }
    }
}

impl Programme {
    /// `other`, of which `first` is the first entry that is not known here, is the rest of this: whoever followed that may have begun in
    /// the middle, with what was listed then.
    fn goes_on_as(&self, other: &Self, first: &Entry) -> bool {
        let is_behind = self.last().is_none_or(|last| last < first.msn);
        let is_rest = is_behind
            && self.state != State::Published
            && self.head.renditions == other.head.renditions
            && (self.head.sessions.contains(&first.session) || self.state == State::Open && first.discontinuity);
        self.id == other.id || is_rest
    }
}

/// Nobody has seen it in the store, and nobody will by what is said of the live window: it is not there, or nothing more is.
fn is_doubtful(snapshot: &ChannelSnapshot, state: State, head: &Head, entry: &Entry) -> bool {
    entry.unproven && (state != State::Open || !is_listed(snapshot, head, entry))
}

/// All media of the entry is in the live window. What a process that was killed has listed may be a gap there.
fn is_listed(snapshot: &ChannelSnapshot, head: &Head, entry: &Entry) -> bool {
    let is_listed = |(rendition, piece): (&Rendition, &Piece)| {
        let found = snapshot.rendition(rendition.name.as_str()).and_then(|rendition| segment(rendition, entry.msn));
        piece.is_gap() || found.is_some_and(|found| found.session == entry.session && !found.is_gap())
    };
    head.renditions.iter().zip(&entry.pieces).all(is_listed)
}

/// As players round the durations of segments (RFC 8216bis, 4.4.3.1).
fn rounded_secs(micros: u64) -> u32 {
    u32::try_from(micros.saturating_add(500_000) / 1_000_000).unwrap_or(u32::MAX)
}

/// The numbers that the playlists list in all renditions, first and last.
fn listed(snapshot: &ChannelSnapshot) -> Option<(Msn, Msn)> {
    let lasts = || snapshot.offered().filter_map(|rendition| rendition.segments.back());
    let (foremost, hindmost) = (lasts().map(|last| last.msn).max()?, lasts().map(|last| last.msn).min()?);
    let first = snapshot.offered().map(|rendition| rendition.first_listed).min()?;
    let last = if snapshot.ended { foremost } else { hindmost.max(Msn(foremost.0.saturating_sub(LAG_MAX))) };
    Some((first, last))
}

/// The entry of a number, of which `known` is a segment, as all its segments are.
fn entry(snapshot: &ChannelSnapshot, head: &Head, known: &Segment) -> Entry {
    let gap = Piece(Moment::from(known.program_date_time), micros(known), 0);
    let of = |rendition: &Rendition| segment(snapshot.rendition(rendition.name.as_str())?, known.msn);
    let pieces: Vec<Piece> =
        head.renditions.iter().map(|name| of(name).map_or(gap, |segment| piece(segment))).collect();
    Entry {
        msn: known.msn,
        session: known.session,
        discontinuity: known.discontinuity,
        unproven: pieces.iter().any(|piece| !piece.is_gap()),
        pieces,
    }
}

fn segment(rendition: &RenditionSnapshot, msn: Msn) -> Option<&Arc<Segment>> {
    let position = rendition.segments.binary_search_by_key(&msn, |segment| segment.msn).ok()?;
    rendition.segments.get(position).filter(|segment| segment.msn >= rendition.first_listed)
}

fn piece(segment: &Segment) -> Piece {
    // Of what only a process before this one knew the length of, that is not known.
    let bytes = if segment.is_gap() { 0 } else { segment.bytes().unwrap_or(1).max(1) };
    Piece(Moment::from(segment.program_date_time), micros(segment), bytes)
}

fn micros(segment: &Segment) -> u64 {
    u64::try_from(segment.duration.to_duration().as_micros()).unwrap_or(u64::MAX)
}

/// The playlists of I-frames are live ones only: byte ranges would be most of the index.
fn without_i_frames(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("#EXT-X-I-FRAME-STREAM-INF:"));
    lines.flat_map(|line| [line, "\n"]).collect()
}
