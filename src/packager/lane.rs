//! One rendition through the life of a channel: its window and playlist, and in a run its segmenter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::bandwidth::{Bandwidth, Expected, Rates};
use super::cutter::Cutter;
use super::fact::Fact;
use super::former::FormerRendition;
use super::i_frames::{IFrame, IFrames};
use super::init::{BadFormat, Header};
use super::lines::Lines;
use super::low_latency::{Report, Source, Whole, last_position, parts_span};
use super::multivariant;
use super::run::Run;
use super::segmenter::{Completed, CutSegment, Cutting, Segmenter};
use super::text;
use super::ts::{TsSegmenter, Waiting};
use super::window::{Cover, Memory, Window};
use crate::config::HlsConfig;
use crate::ladder::{RenditionKind, RenditionName, RenditionSpec};
use crate::live::{Init, LowLatency, Media, Msn, News, OpenSegment, Playlist, RenditionSnapshot, Segment, StoredUpTo};
use crate::media::{AccessUnit, AudioFormat, Container, DynamicRange, MediaTime, TrackFormat, VideoFormat};
use crate::playlist::{MediaPlaylist, Writer};

/// A rendition; see the module.
#[derive(Debug)]
pub(super) struct Lane {
    spec: RenditionSpec,
    hls: HlsConfig,
    target_secs: u32,
    /// Latched as long as the programme lasts.
    part_target: MediaTime,
    window: Window,
    bandwidth: Bandwidth,
    /// That of the last run that had a format.
    header: Option<Header>,
    declared: Declared,
    segmenter: Option<Cutter>,
    /// Where pictures wait that share their segments with the sound.
    waiting: Waiting,
    /// The format of that sound in this run.
    sound: Option<AudioFormat>,
    /// The segment of the run that units go into.
    current: Option<u64>,
    /// The segment of the run that is to be listed next.
    next: u64,
    /// No units come for segments of the run before this one, which may be yet to begin.
    lacks_until: u64,
    lines: Lines,
    playlist: Option<Playlist>,
    /// What a playlist with parts takes over from it.
    whole: Option<Whole>,
    /// Of a picture.
    i_frames: Option<IFrames>,
    low_latency: Option<LowLatency>,
    news: News,
    changed: Changed,
    snapshot: Option<Arc<RenditionSnapshot>>,
}

/// What of a lane is newer than its last snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    playlist: bool,
    anything: bool,
    declaration: bool,
}

impl Lane {
    pub(super) fn new(spec: RenditionSpec, hls: HlsConfig) -> Self {
        let bandwidth = Bandwidth::new(expected(&spec, hls), MediaTime::ZERO);
        let lists_i_frames = spec.kind == RenditionKind::Video && hls.container == Container::Cmaf;
        let i_frames = lists_i_frames.then(IFrames::new);
        Self {
            spec,
            hls,
            target_secs: 0,
            part_target: hls.part_duration.into(),
            window: Window::new(),
            bandwidth,
            header: None,
            declared: Declared::default(),
            segmenter: None,
            waiting: Waiting::default(),
            sound: None,
            current: None,
            next: 0,
            lacks_until: 0,
            lines: Lines::default(),
            playlist: None,
            whole: None,
            i_frames,
            low_latency: None,
            news: News::default(),
            changed: Changed::default(),
            snapshot: None,
        }
    }

    /// A lane that goes on where a process before this one ended.
    pub(super) fn resume(former: FormerRendition, hls: HlsConfig, programme: Programme) -> Self {
        let mut lane = Self::new(former.spec.clone(), hls);
        let discontinuity_sequence = former.discontinuity_sequence;
        let first = former.segments.first().map_or(programme.first, |(first, _)| first.msn);
        lane.begin_programme(&former.spec, Programme { first, discontinuity_sequence, ..programme });
        lane.i_frames.iter_mut().for_each(|i_frames| i_frames.resume(former.first_i_frame, former.i_frame_rates));
        for (segment, i_frames) in former.segments {
            lane.enlist(segment, i_frames, None);
        }
        former.inits.into_iter().for_each(|init| lane.window.add_init(init));
        // It was read from there.
        lane.window.stored(Msn(0), &StoredUpTo { last: Msn(u64::MAX), lacks: BTreeSet::new() });
        lane.declared = Declared { codecs: former.codecs, sound: former.sound, range: former.header.range };
        lane.header = Some(former.header);
        // What the multivariant playlist says is what was said of it.
        lane.changed.declaration = false;
        lane
    }

    /// Lists the segments that the rendition lacks, up to the one before `until`, as gaps where `known` says that they are.
    pub(super) fn lose(&mut self, until: Msn, known: &BTreeMap<Msn, Segment>) {
        let own = self.last().map_or(0, |last| last.msn.0);
        for (_, gap) in known.range(Msn(own.saturating_add(1))..).take_while(|(msn, _)| **msn < until) {
            self.enlist(gap.without_media(), Vec::new(), None);
        }
        let end = self.last().map(|last| last.start + last.duration);
        end.into_iter().for_each(|end| self.window.left_at(end));
        self.changed.declaration = false;
    }

    /// At least these rates were told of the rendition.
    pub(super) fn declare(&mut self, rates: Rates) {
        self.bandwidth.declare(rates);
    }

    /// What the playlist lists.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.window.listed()
    }

    /// The discontinuities that were told of up to the end of the playlist.
    pub(super) fn seams(&self) -> u64 {
        let listed = self.listed().filter(|segment| segment.discontinuity).count();
        self.window.discontinuity_sequence().saturating_add(u64::try_from(listed).unwrap_or(u64::MAX))
    }

    pub(super) fn is(&self, spec: &RenditionSpec) -> bool {
        self.spec.name == spec.name && self.spec.kind == spec.kind
    }

    /// Begins a programme: nothing is listed, and what was published stays until [`Lane::replaced`].
    pub(super) fn begin_programme(&mut self, spec: &RenditionSpec, programme: Programme) {
        let target = MediaTime::from_millis(i64::from(programme.target_secs) * 1_000);
        let cover = Cover { window: self.hls.window.into(), least: target + target + target };
        self.spec = spec.clone();
        (self.target_secs, self.part_target) = (programme.target_secs, programme.part_target);
        let memory = Memory::new(&self.hls, target);
        self.window.restart(programme.first, programme.discontinuity_sequence, cover, memory);
        self.bandwidth = Bandwidth::new(expected(spec, self.hls), target);
        (self.header, self.declared) = (None, Declared::default());
        self.i_frames.iter_mut().for_each(|i_frames| i_frames.restart(target));
        self.retire();
    }

    /// The rendition has no playlist, and its segments linger.
    fn retire(&mut self) {
        (self.playlist, self.whole, self.low_latency) = (None, None, None);
        self.i_frames.iter_mut().for_each(IFrames::retire);
        self.changed = Changed { playlist: false, anything: true, declaration: true };
    }

    /// Lists nothing from here on, as the rendition is not part of the programme that begins.
    pub(super) fn leave(&mut self) {
        self.window.close();
        self.retire();
    }

    /// What was published of the programme before is served no more, as of `edge`.
    pub(super) fn replaced(&mut self, edge: MediaTime) {
        self.window.replaced(edge);
    }

    /// Begins a run of the programme.
    pub(super) fn begin_run(&mut self, spec: &RenditionSpec) {
        self.bandwidth.expect(expected(spec, self.hls));
        self.spec = spec.clone();
        (self.segmenter, self.current, self.next, self.lacks_until) = (None, None, 0, 0);
        (self.waiting, self.sound) = (Waiting::default(), None);
        self.changed.declaration = true;
    }

    /// The run's format.
    ///
    /// # Errors
    /// [`BadFormat`] where it cannot be shown by any player; the rendition then has no media in this run.
    pub(super) fn format(&mut self, format: &TrackFormat, run: &Run) -> Result<(), BadFormat> {
        let header = Header::new(format)?;
        self.segmenter = Some(match (self.hls.container, format) {
            (Container::Ts, TrackFormat::Video(picture)) => Cutter::Ts(Box::new(self.ts_segmenter(picture)?)),
            _ => {
                self.window.add_init(Init { session: run.session, data: header.data.clone() });
                Cutter::Cmaf(Box::new(self.segmenter(&header)))
            }
        });
        self.declared.add(&header);
        self.header = Some(header);
        self.changed = Changed { anything: true, declaration: true, ..self.changed };
        Ok(())
    }

    fn segmenter(&self, header: &Header) -> Segmenter {
        Segmenter::new(Cutting {
            timescale: header.timescale,
            part_target: self.part_target,
            frame: frame_duration(&self.spec, header.timescale),
            i_frames: self.i_frames.is_some(),
        })
    }

    /// With the sound that has come before it.
    fn ts_segmenter(&mut self, picture: &VideoFormat) -> Result<TsSegmenter, BadFormat> {
        let mut segmenter = TsSegmenter::new(picture, frame_expected(&self.spec))?;
        if let Some(sound) = &self.sound {
            segmenter.hear(sound)?;
        }
        self.waiting.sound().for_each(|(number, unit)| segmenter.push_sound(number, unit));
        Ok(segmenter)
    }

    /// The format of the sound that goes into the rendition's segments.
    ///
    /// # Errors
    /// [`BadFormat`] where it cannot.
    pub(super) fn hear(&mut self, sound: &AudioFormat) -> Result<(), BadFormat> {
        let header = Header::new(&TrackFormat::Audio(sound.clone()))?;
        if let Some(segmenter) = &mut self.segmenter {
            segmenter.hear(sound)?;
        }
        self.sound = Some(sound.clone());
        self.declared.sound = Some(header.codec);
        self.changed.declaration = true;
        Ok(())
    }

    /// Takes sound of segment `number`, which goes into the rendition's own.
    pub(super) fn push_sound(&mut self, number: u64, unit: AccessUnit) {
        match &mut self.segmenter {
            Some(segmenter) => segmenter.push_sound(number, unit),
            None => self.waiting.keep(number, unit),
        }
    }

    /// Pictures that share their segments with the sound wait here.
    pub(super) fn waiting(&mut self) -> &mut Waiting {
        &mut self.waiting
    }

    /// The run's format is known.
    pub(super) fn has_format(&self) -> bool {
        self.segmenter.is_some()
    }

    pub(super) fn kind(&self) -> RenditionKind {
        self.spec.kind
    }

    pub(super) fn name(&self) -> &RenditionName {
        &self.spec.name
    }

    /// The segment that a video unit belongs to; none before the first cut. A cut that does not advance is none.
    pub(super) fn place(&self, cut: Option<u64>) -> Option<u64> {
        self.current.max(cut)
    }

    /// Takes a unit of segment `number`. False if it cannot be taken, for want of a format.
    pub(super) fn push(&mut self, number: u64, unit: AccessUnit, run: &Run, facts: &mut Vec<Fact>) -> bool {
        let number = self.current.map_or(number, |current| current.max(number));
        let boundary = self.current.and_then(|current| run.cuts.start(current.saturating_add(1)));
        let Some(segmenter) = &mut self.segmenter else { return false };
        let Completed { part, segment } = segmenter.push(number, unit, boundary);
        self.changed.anything |= part;
        self.current = Some(number);
        if let Some(segment) = segment {
            self.list(segment, run, facts);
        }
        self.fill(number, run, facts);
        true
    }

    /// No units come for segments before `until`.
    pub(super) fn skip(&mut self, until: u64) {
        self.lacks_until = self.lacks_until.max(until);
    }

    /// Of segments that no units come for: lists the one that is open, up to its cut, and gaps, as far as cuts are known.
    pub(super) fn list_gaps(&mut self, run: &Run, facts: &mut Vec<Fact>) {
        let until = self.lacks_until.min(run.cuts.newest());
        if let Some(current) = self.current.filter(|&current| current < until) {
            let boundary = run.cuts.start(current.saturating_add(1));
            if let Some(segment) = self.segmenter.as_mut().and_then(|segmenter| segmenter.finish(boundary)) {
                self.list(segment, run, facts);
            }
            self.current = None;
        }
        self.fill(until, run, facts);
    }

    /// The run is over: lists the segment that is open.
    pub(super) fn finish_run(&mut self, run: &Run, facts: &mut Vec<Fact>) {
        if let Some(segment) = self.segmenter.take().and_then(|mut s| s.finish(None)) {
            self.list(segment, run, facts);
        }
        self.changed.anything = true;
    }

    /// Lists gaps until segment `number` is the next.
    pub(super) fn fill(&mut self, number: u64, run: &Run, facts: &mut Vec<Fact>) {
        while self.next < number {
            let gap = run.gap(self.next);
            self.append(gap, Vec::new(), run, facts);
        }
    }

    /// The segment of the run that is to be listed next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The last segment, listed or not.
    pub(super) fn last(&self) -> Option<&Arc<Segment>> {
        self.window.segments().back()
    }

    fn list(&mut self, cut: CutSegment, run: &Run, facts: &mut Vec<Fact>) {
        let CutSegment { number, pts, start, duration, data, parts, i_frames } = cut;
        let segment = Segment {
            msn: run.msn(number),
            session: run.session,
            discontinuity: run.discontinuity(number),
            start,
            duration,
            program_date_time: run.date(pts),
            media: Media::Hot { data, parts },
        };
        self.append(segment, i_frames, run, facts);
    }

    fn append(&mut self, segment: Segment, of_it: Vec<IFrame>, run: &Run, facts: &mut Vec<Fact>) {
        facts.push(Fact::Segment {
            rendition: self.spec.name.clone(),
            msn: segment.msn,
            duration: segment.duration,
            bytes: segment.data().map_or(0, Bytes::len),
            gap: segment.is_gap(),
            too_long: rounded_secs(segment.duration) > u64::from(self.target_secs),
        });
        self.next += 1;
        let end = segment.start + segment.duration;
        self.enlist(segment, of_it, Some(run));
        self.cool(end, facts);
    }

    /// What is published as listed is in the store up to this number, of all renditions that are offered.
    pub(super) fn stored(&mut self, stored: &StoredUpTo, facts: &mut Vec<Fact>) {
        // Who tells has seen a snapshot that listed no less at its head. Of what was not listed nothing is said: it may have been
        // passed over.
        if let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| snapshot.playlist.is_some()) {
            self.window.stored(snapshot.first_listed, stored);
            let end = self.last().map(|last| last.start + last.duration);
            end.into_iter().for_each(|end| self.cool(end, facts));
        }
    }

    /// Lets go of the bytes of what is older than the hot end, as of where the rendition ends: it may be behind the others.
    fn cool(&mut self, edge: MediaTime, facts: &mut Vec<Fact>) {
        for segment in self.window.cool(edge) {
            self.changed.anything = true;
            if segment.is_gap() && segment.msn >= self.window.first_listed() {
                self.changed.playlist = true;
                self.lines.clear();
                facts.push(Fact::NotStored { rendition: self.spec.name.clone(), msn: segment.msn });
            }
            self.i_frames.iter_mut().for_each(|i_frames| i_frames.replace(&segment));
        }
    }

    /// Lists a segment, of the run that is open or of none.
    fn enlist(&mut self, segment: Segment, of_it: Vec<IFrame>, run: Option<&Run>) {
        let end = segment.start + segment.duration;
        let edge = run.map_or(end, |run| run.edge.max(end));
        self.window.push(segment, edge);
        if let Some(last) = self.window.segments().back().cloned() {
            let listed = self.window.listed().map(AsRef::as_ref);
            self.changed.declaration |= self.bandwidth.measure(&*last, listed);
            if let Some(i_frames) = &mut self.i_frames {
                self.changed.declaration |= i_frames.push(last, of_it, self.window.first_listed());
            }
        }
        if let Some(run) = run {
            self.window.expire(edge, Some(run.session));
        }
        self.changed.playlist = true;
        self.changed.anything = true;
    }

    /// Lets go of segments that have lingered long enough, of a lane that lists nothing. True if it holds none any more.
    pub(super) fn expire(&mut self, edge: MediaTime) -> bool {
        self.cool(edge, &mut Vec::new());
        self.changed.anything |= self.window.expire(edge, None);
        self.window.segments().is_empty()
    }

    /// The programme is over.
    pub(super) fn end(&mut self) {
        let listed = self.window.listed().map(AsRef::as_ref);
        self.changed.declaration |= self.bandwidth.measure_last(listed);
        self.changed.playlist |= self.window.listed().next().is_some();
    }

    /// Brings the media playlist up to date.
    pub(super) fn render(&mut self, ended: bool, now: SystemTime) {
        if !std::mem::take(&mut self.changed.playlist) {
            return;
        }
        self.window.published();
        let playlist = MediaPlaylist {
            rendition: &self.spec.name,
            container: self.hls.container,
            target_duration_secs: self.target_secs,
            first: self.window.first_listed(),
            discontinuity_sequence: self.window.discontinuity_sequence(),
            ended,
        };
        let listed = self.window.listed().map(AsRef::as_ref);
        self.lines.update(listed.clone(), Writer::new(&self.spec.name, self.hls.container));
        let (written, lines) = self.lines.playlist(&playlist, listed);
        let rendered = text::playlist(written, self.playlist.as_ref(), now);
        self.whole = Some(self.whole(rendered.text.clone(), lines));
        self.playlist = Some(rendered);
        self.i_frames.iter_mut().for_each(|i_frames| i_frames.render(&playlist, now));
        self.changed.anything = true;
    }

    /// What of `lines` in this `text` a playlist with parts tells in the same words.
    fn whole(&self, text: Bytes, lines: Range<usize>) -> Whole {
        let (segments, first) = (self.window.segments(), self.window.first_listed());
        let parts_from =
            self.last().map_or(MediaTime::ZERO, |last| last.start + last.duration) - parts_span(self.target_secs);
        let place = segments.partition_point(|segment| segment.start < parts_from);
        let until = segments.get(place).map_or(first, |segment| segment.msn).max(first);
        let mut before = segments.iter().take(place).rev().take_while(|segment| segment.msn >= first);
        let mapped = before.find(|segment| !segment.is_gap()).map(|segment| segment.session);
        // What is written anew each time, up to the first media, is not looked for.
        let until = if mapped.is_some() { until } else { first };
        let end = lines.end.saturating_sub(self.lines.length_from(until));
        Whole { text, lines: lines.start..end.max(lines.start), until, mapped }
    }

    /// What can be fetched of the rendition, as of the last update.
    pub(super) fn snapshot(&self) -> Option<&Arc<RenditionSnapshot>> {
        self.snapshot.as_ref()
    }

    /// Something is newer than the last snapshot.
    pub(super) fn is_changed(&self) -> bool {
        self.changed.anything
    }

    /// The next snapshot is another one, whatever happens until then.
    pub(super) fn touch(&mut self) {
        self.changed.anything = true;
    }

    /// Where the rendition is, for the others' playlists.
    pub(super) fn report(&self, run: Option<&Run>) -> Option<Report> {
        self.playlist.as_ref()?;
        let open = run.zip(self.segmenter.as_ref().and_then(Cutter::open));
        let open = open.map(|(run, open)| (run.msn(open.number), open.parts.as_slice()));
        let last = last_position(open, self.window.listed().last().map(AsRef::as_ref))?;
        Some(Report { rendition: self.spec.name.clone(), last })
    }

    /// Makes a new snapshot, if anything is newer than the last; true if so.
    pub(super) fn update_snapshot(&mut self, edge: &Edge<'_>) -> bool {
        let changed = std::mem::take(&mut self.changed.anything);
        if changed {
            let open = edge.run.and_then(|run| self.open(run)).map(Arc::new);
            let source = self.low_latency(edge, open.as_ref());
            let control = source.as_ref().map(Source::server_control);
            self.low_latency = source.map(Source::playlists);
            self.snapshot = Some(Arc::new(self.view(open, control)));
        }
        changed
    }

    fn low_latency(&self, edge: &Edge<'_>, open: Option<&Arc<OpenSegment>>) -> Option<Source> {
        let whole = self.whole.as_ref().filter(|_| self.hls.low_latency)?;
        Some(Source {
            rendition: self.spec.name.clone(),
            target_duration_secs: self.target_secs,
            discontinuity_sequence: self.window.discontinuity_sequence(),
            ended: edge.ended,
            blocking: edge.blocking,
            part_target: self.part_target,
            segments: Arc::clone(self.window.segments()),
            first: self.window.first_listed(),
            whole: whole.clone(),
            open: open.cloned(),
            reports: Arc::clone(edge.reports),
            modified: edge.now,
        })
    }

    fn view(&self, open: Option<Arc<OpenSegment>>, control: Option<String>) -> RenditionSnapshot {
        RenditionSnapshot {
            name: self.spec.name.clone(),
            kind: self.spec.kind,
            container: self.hls.container,
            playlist: self.playlist.clone(),
            i_frames: self.i_frames.as_ref().and_then(|i_frames| i_frames.view(control)),
            low_latency: self.low_latency.clone(),
            news: self.news.clone(),
            inits: self.window.inits().to_vec(),
            segments: Arc::clone(self.window.segments()),
            first_listed: self.window.first_listed(),
            open,
        }
    }

    fn open(&self, run: &Run) -> Option<OpenSegment> {
        let open = self.segmenter.as_ref()?.open()?;
        Some(OpenSegment {
            msn: run.msn(open.number),
            session: run.session,
            discontinuity: run.discontinuity(open.number),
            program_date_time: run.date(open.pts),
            parts: open.parts.clone(),
        })
    }

    pub(super) fn has_playlist(&self) -> bool {
        self.playlist.is_some()
    }

    /// What the multivariant playlist says of the lane has changed since this was last asked.
    pub(super) fn take_declaration_change(&mut self) -> bool {
        std::mem::take(&mut self.changed.declaration)
    }

    pub(super) fn rates(&self) -> Rates {
        self.bandwidth.declared()
    }

    /// The lane as a variant; none while it has had no format, or if it is the sound.
    pub(super) fn variant(&self) -> Option<multivariant::Variant<'_>> {
        let header = self.header.as_ref().filter(|_| self.kind() == RenditionKind::Video)?;
        Some(multivariant::Variant {
            name: &self.spec.name,
            rates: self.rates(),
            i_frames: self.i_frames.as_ref().and_then(IFrames::rates),
            codecs: self.declared.all().collect(),
            resolution: header.resolution,
            range: self.declared.range,
            frame_rate: self.spec.frame_rate,
        })
    }

    /// The lane as the audio group's one member.
    pub(super) fn sound(&self) -> Option<multivariant::Sound<'_>> {
        let header = self.header.as_ref().filter(|_| self.kind() == RenditionKind::Audio)?;
        let (rates, codec, channels) = (self.rates(), header.codec.as_str(), header.channels);
        Some(multivariant::Sound { name: &self.spec.name, rates, codec, channels })
    }
}

/// What the multivariant playlist says of all runs of a programme together.
///
/// A source that was passed on as HEVC or AV1 and then has to be encoded goes on as H.264, behind the seam's DISCONTINUITY and
/// with an initialisation segment of its own. What players were told stays true (law 7): the name that was told is kept, and the
/// new one stands beside it. `CODECS` lists the formats of a variant, not one format, and what decodes the others decodes H.264.
#[derive(Clone, Debug, Default)]
struct Declared {
    /// In the order in which they came, at most one for each kind of sample entry: the last.
    codecs: Vec<String>,
    /// That of the sound in the same segments.
    sound: Option<String>,
    /// The widest: PQ may be mixed with the others, HLG with SDR (RFC 8216bis, 4.4.6.2).
    range: DynamicRange,
}

impl Declared {
    fn add(&mut self, header: &Header) {
        let kind = |codec: &str| codec.split('.').next().map(str::to_owned);
        match self.codecs.iter_mut().find(|codec| kind(codec) == kind(&header.codec)) {
            Some(codec) => codec.clone_from(&header.codec),
            None => self.codecs.push(header.codec.clone()),
        }
        self.range = self.range.max(header.range);
    }

    /// The picture's, and the sound's.
    fn all(&self) -> impl Iterator<Item = &str> {
        self.codecs.iter().chain(&self.sound).map(String::as_str)
    }
}

/// What a lane must know of the programme that begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Programme {
    pub(super) target_secs: u32,
    pub(super) part_target: MediaTime,
    pub(super) first: Msn,
    pub(super) discontinuity_sequence: u64,
}

/// What the lanes' playlists share of one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge<'a> {
    pub(super) run: Option<&'a Run>,
    pub(super) ended: bool,
    /// Parts are coming.
    pub(super) blocking: bool,
    pub(super) reports: &'a Arc<[Report]>,
    pub(super) now: SystemTime,
}

/// Samples of an AAC frame.
const AAC_FRAME_SAMPLES: i64 = 1_024;
/// What is taken for the frame rate of what does not tell it.
const FRAME_RATE_GUESS: f64 = 50.0;

fn expected(spec: &RenditionSpec, hls: HlsConfig) -> Expected {
    let frame_rate = spec.frame_rate.unwrap_or(FRAME_RATE_GUESS);
    let (peak, average) = (spec.bitrate_peak, spec.bitrate_average);
    match hls.container {
        Container::Cmaf => {
            Expected { peak, average, frame_rate, part_rate: 1.0 / hls.part_duration.as_secs_f64().max(0.1) }
        }
        // Four bytes of 188 are a packet's head. A picture costs a head of its own and half a packet of stuffing, which is
        // about what a part costs otherwise.
        Container::Ts => {
            Expected { peak: peak + peak / 40, average: average + average / 40, frame_rate, part_rate: frame_rate }
        }
    }
}

/// How long a frame of a rendition lasts, before its format is known.
pub(super) fn frame_expected(spec: &RenditionSpec) -> MediaTime {
    frame_duration(spec, USUAL_SAMPLE_RATE)
}

/// Of sound.
const USUAL_SAMPLE_RATE: u32 = 48_000;

/// How long a frame lasts, where there is only one to look at.
fn frame_duration(spec: &RenditionSpec, timescale: u32) -> MediaTime {
    let by_rate = |rate: f64| MediaTime::from(std::time::Duration::from_secs_f64(1.0 / rate.clamp(1.0, 1_000.0)));
    match spec.kind {
        RenditionKind::Audio => MediaTime::from_ticks(AAC_FRAME_SAMPLES, timescale),
        RenditionKind::Video => by_rate(spec.frame_rate.unwrap_or(FRAME_RATE_GUESS)),
    }
}

/// As a player rounds `EXTINF` to compare it with the target duration.
pub(super) fn rounded_secs(duration: MediaTime) -> u64 {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(0);
    millis.saturating_add(500) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(codec: &str, range: DynamicRange) -> Header {
        let (resolution, data) = (Some((1280, 720)), bytes::Bytes::new());
        Header { timescale: 90_000, codec: codec.to_owned(), resolution, range, channels: None, data }
    }

    #[test]
    fn row_40_what_was_told_of_a_variant_stays_true() {
        let mut declared = Declared::default();
        declared.add(&header("hvc1.2.4.L93.90", DynamicRange::Pq));
        declared.add(&header("avc1.64001f", DynamicRange::Sdr));
        declared.add(&header("hvc1.2.4.L120.90", DynamicRange::Hlg));
        assert_eq!(declared.codecs, ["hvc1.2.4.L120.90", "avc1.64001f"]);
        assert_eq!(declared.range, DynamicRange::Pq);
    }
}
