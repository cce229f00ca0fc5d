//! I-frame playlists (RFC 8216bis, 4.4.3.6): the IDRs of the segments that a rendition lists, for players that seek or
//! show a programme at speed.
//!
//! Apple's packagers name by a byte range the `moof` of a segment and its `mdat` up to the end of the IDR, a fragment
//! whose end is missing: AVPlayer takes that, but the parsers of browsers and of Android refuse it. Here each IDR is a
//! chunk of its own within its segment, so the same range is a whole fragment, and every player can show it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::bandwidth::{Bandwidth, Rates, Weighed};
use super::lines::{Lines, Written};
use super::low_latency::{SKIP_VERSION, skip_span};
use super::text;
use crate::layout::Resource;
use crate::live::{self, Lazy, Msn, Playlist, Segment};
use crate::media::MediaTime;
use crate::playlist::{MediaPlaylist, Writer};

/// An IDR in its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IFrame {
    /// When it is decoded, after the segment's first sample.
    pub(super) offset: MediaTime,
    /// Its chunk, in the segment's bytes.
    pub(super) bytes: Range<usize>,
}

/// The I-frames that a rendition lists; see the module.
#[derive(Debug)]
pub(super) struct IFrames {
    listed: VecDeque<Listed>,
    /// The number of the first entry: it goes up by one for each entry that leaves, as that of a segment would.
    first: u64,
    /// The number of the entry after the last.
    next: u64,
    bandwidth: Bandwidth,
    lines: Lines,
    playlist: Option<Playlist>,
    /// The text of the delta update of `playlist`, where it has something to skip.
    delta: Option<Bytes>,
}

/// A listed segment.
#[derive(Debug)]
struct Listed {
    segment: Arc<Segment>,
    i_frames: Vec<IFrame>,
}

/// One entry of the playlist.
struct Entry<'a> {
    segment: &'a Segment,
    /// After the segment's start.
    offset: MediaTime,
    /// To the next I-frame. Measured from decode time to decode time: an IDR opens its group, and is shown as long after
    /// it is decoded as the one before it.
    duration: MediaTime,
    /// Where they are, or would be: of a gap that was one from the beginning nobody knows.
    bytes: Option<&'a Range<usize>>,
}

impl IFrames {
    pub(super) fn new() -> Self {
        let bandwidth = Bandwidth::unknown(MediaTime::ZERO);
        let (lines, playlist, delta) = (Lines::default(), None, None);
        Self { listed: VecDeque::new(), first: 1, next: 1, bandwidth, lines, playlist, delta }
    }

    /// Begins a programme: nothing is listed.
    pub(super) fn restart(&mut self, target: MediaTime) {
        self.drop_before(Msn(u64::MAX));
        self.bandwidth = Bandwidth::unknown(target);
        (self.playlist, self.delta) = (None, None);
    }

    /// The first entry that is listed has this number, and of all at least these rates were told.
    pub(super) fn resume(&mut self, first: u64, rates: Option<Rates>) {
        (self.first, self.next) = (first, first);
        rates.into_iter().for_each(|rates| self.bandwidth.declare(rates));
    }

    /// There is no playlist.
    pub(super) fn retire(&mut self) {
        (self.playlist, self.delta) = (None, None);
    }

    /// Lists a segment with its IDRs, and only those from `first_listed` on. True if what the rates are said to be had
    /// to be raised.
    pub(super) fn push(&mut self, segment: Arc<Segment>, i_frames: Vec<IFrame>, first_listed: Msn) -> bool {
        let listed = Listed { segment, i_frames };
        self.next = self.next.saturating_add(listed.count());
        self.listed.push_back(listed);
        self.drop_before(first_listed);
        let Self { listed, bandwidth, .. } = self;
        let all = || listed.iter().flat_map(Listed::entries);
        let mut raised = false;
        for entry in listed.back().into_iter().flat_map(Listed::entries) {
            raised |= bandwidth.measure(&entry, all());
        }
        // Of I-frames the shortest average is one: there is nothing but I-frames in it.
        bandwidth.measure_last(all()) || raised
    }

    /// A segment's media is elsewhere from here on, or nowhere.
    pub(super) fn replace(&mut self, segment: &Arc<Segment>) {
        let place = self.listed.binary_search_by_key(&segment.msn, |listed| listed.segment.msn).ok();
        if let Some(listed) = place.and_then(|place| self.listed.get_mut(place)) {
            listed.segment = Arc::clone(segment);
        }
        if segment.is_gap() {
            self.lines.clear();
        }
    }

    fn drop_before(&mut self, first_listed: Msn) {
        while let Some(gone) = self.listed.pop_front_if(|listed| listed.segment.msn < first_listed) {
            self.first = self.first.saturating_add(gone.count());
        }
    }

    /// Writes the playlist beside `of`, the rendition's media playlist.
    pub(super) fn render(&mut self, of: &MediaPlaylist<'_>, now: SystemTime) {
        let skipped = self.skippable(of);
        self.lines.update(self.listed.iter(), Writer::new(of.rendition, of.container));
        self.playlist = Some(text::playlist(self.write(of, 0), self.playlist.as_ref(), now));
        self.delta = (skipped > 0).then(|| self.write(of, skipped).into());
    }

    /// The entries that end before the skip boundary.
    fn skippable(&self, of: &MediaPlaylist<'_>) -> usize {
        let end = self.listed.back().map_or(MediaTime::ZERO, |last| last.segment.start + last.segment.duration);
        let boundary = end - skip_span(of.target_duration_secs);
        let ends = |entry: &Entry<'_>| entry.segment.start + entry.offset + entry.duration;
        let entries = self.listed.iter().flat_map(Listed::entries);
        if of.ended { 0 } else { entries.take_while(|entry| ends(entry) <= boundary).count() }
    }

    /// The playlist without its first `skipped` entries.
    fn write(&self, of: &MediaPlaylist<'_>, skipped: usize) -> String {
        let mut writer = Writer::new(of.rendition, of.container);
        let version = if skipped > 0 { SKIP_VERSION } else { VERSION };
        writer.begin(&MediaPlaylist { first: Msn(self.first), ..of.clone() }, version, |_| ());
        writer.line(format_args!("#EXT-X-I-FRAMES-ONLY"));
        if skipped > 0 {
            writer.line(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        }
        if skipped > 0 {
            let entries = self.listed.iter().flat_map(Listed::entries);
            entries.skip(skipped).for_each(|entry| entry.write(&mut writer));
        } else {
            self.lines.write(self.listed.iter(), &mut writer);
        }
        writer.end(of.ended)
    }

    /// What is published; `control` is the line by which a playlist with parts tells of the server.
    pub(super) fn view(&self, control: Option<String>) -> Option<live::IFrames> {
        let playlist = self.playlist.clone()?;
        let controlled = |text: Bytes, control: &str| {
            let (control, modified) = (control.to_owned(), playlist.modified);
            Lazy::new(move || controlled(&text, &control, modified))
        };
        let low_latency = control.as_deref().map(|control| controlled(playlist.text.clone(), control));
        let delta = control.zip(self.delta.clone()).map(|(control, text)| controlled(text, &control));
        Some(live::IFrames { playlist, low_latency, delta, next: self.next })
    }

    /// The rates of what is fetched of I-frames alone; none before there was one.
    pub(super) fn rates(&self) -> Option<Rates> {
        Some(self.bandwidth.declared()).filter(|rates| rates.peak > 0)
    }
}

/// A playlist's `text` with this line among those of its head.
fn controlled(text: &[u8], control: &str, modified: SystemTime) -> Playlist {
    let text = String::from_utf8_lossy(text);
    let written = text.replacen(BEHIND_CONTROL, &format!("{control}\n{BEHIND_CONTROL}"), 1);
    text::playlist(written, None, modified)
}

const BEHIND_CONTROL: &str = "#EXT-X-MEDIA-SEQUENCE:";

/// `EXT-X-MAP` in an I-frame playlist (RFC 8216bis, 8).
const VERSION: u32 = 5;

impl Listed {
    fn count(&self) -> u64 {
        u64::try_from(self.entries().count()).unwrap_or(0)
    }

    /// A gap is an entry too, as no entry may be longer than the target duration. One that had media before is as many as it had.
    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let segment = &*self.segment;
        let gap = Entry { segment, offset: MediaTime::ZERO, duration: segment.duration, bytes: None };
        let ends = self.i_frames.iter().skip(1).map(|next| next.offset).chain([segment.duration]);
        let i_frames = self.i_frames.iter().zip(ends).map(move |(i_frame, end)| Entry {
            segment,
            offset: i_frame.offset,
            duration: end - i_frame.offset,
            bytes: Some(&i_frame.bytes),
        });
        let is_one = segment.is_gap() && self.i_frames.is_empty();
        is_one.then_some(gap).into_iter().chain(i_frames)
    }
}

impl Written for &Listed {
    fn segment(&self) -> &Segment {
        &self.segment
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.entries().for_each(|entry| entry.write(writer));
    }
}

impl Entry<'_> {
    fn write(&self, writer: &mut Writer<'_>) {
        let segment = self.segment;
        let shown = segment.program_date_time.checked_add(self.offset.to_duration());
        let (seam, needs) = (segment.discontinuity && self.offset == MediaTime::ZERO, !segment.is_gap());
        writer.opening(seam, needs.then_some(segment.session), shown.unwrap_or(segment.program_date_time));
        writer.line(format_args!("#EXTINF:{:.6},", self.duration.as_secs_f64()));
        if let Some(bytes) = self.bytes {
            writer.line(format_args!("#EXT-X-BYTERANGE:{}@{}", bytes.len(), bytes.start));
        }
        if segment.is_gap() {
            writer.line(format_args!("#EXT-X-GAP"));
        }
        let resource = Resource::Segment(writer.rendition().clone(), segment.session, segment.msn);
        writer.line(format_args!("{}", resource.below_rendition()));
    }
}

impl Weighed for Entry<'_> {
    fn weight(&self) -> Option<(u64, MediaTime)> {
        let bytes = u64::try_from(self.bytes.filter(|_| !self.segment.is_gap())?.len()).unwrap_or(u64::MAX);
        Some((bytes.saturating_mul(8), self.duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::RenditionName;
    use crate::live::SessionId;
    use crate::packager::testing::{self, golden};

    const SECOND: MediaTime = MediaTime::from_millis(1_000);

    fn i_frame(millis: i64, bytes: Range<usize>) -> IFrame {
        IFrame { offset: MediaTime::from_millis(millis), bytes }
    }

    fn write(i_frames: &mut IFrames, ended: bool) -> String {
        let rendition = RenditionName::new("720p").unwrap();
        let of = MediaPlaylist {
            rendition: &rendition,
            container: crate::media::Container::Cmaf,
            target_duration_secs: 4,
            first: Msn(1),
            discontinuity_sequence: 3,
            ended,
        };
        i_frames.render(&of, testing::wall_clock(0));
        String::from_utf8(i_frames.view(None).unwrap().playlist.text.to_vec()).unwrap()
    }

    fn push(i_frames: &mut IFrames, segment: Segment, of_it: Vec<IFrame>, first_listed: u64) {
        i_frames.push(Arc::new(segment), of_it, Msn(first_listed));
    }

    #[test]
    fn each_idr_is_an_entry_up_to_the_next() {
        let mut i_frames = IFrames::new();
        i_frames.restart(SECOND);
        let seam = Segment { session: SessionId(1_800_000_500_000), discontinuity: true, ..testing::segment(4, 4_000) };
        push(&mut i_frames, testing::segment(1, 4_000), vec![i_frame(0, 0..5_000), i_frame(1_500, 9_000..12_500)], 1);
        push(&mut i_frames, testing::segment(2, 4_000), vec![i_frame(0, 0..700)], 1);
        push(&mut i_frames, Segment { media: live::Media::Gap, ..testing::segment(3, 4_000) }, vec![], 1);
        push(&mut i_frames, seam, vec![i_frame(0, 0..800), i_frame(3_967, 9_000..9_100)], 1);
        golden("i_frames.m3u8", &write(&mut i_frames, false));
    }

    #[test]
    fn a_gap_of_which_the_i_frames_are_known_has_as_many_entries() {
        let mut i_frames = IFrames::new();
        i_frames.restart(SECOND);
        let gap = Segment { media: live::Media::Gap, ..testing::segment(1, 4_000) };
        push(&mut i_frames, gap, vec![i_frame(0, 0..5_000), i_frame(1_500, 9_000..12_500)], 1);
        assert!(i_frames.rates().is_none(), "nobody fetches them");
        push(&mut i_frames, testing::segment(2, 4_000), vec![i_frame(0, 0..700)], 1);
        let text = write(&mut i_frames, false);
        assert!(text.contains("#EXT-X-BYTERANGE:3500@9000\n#EXT-X-GAP\n"), "{text}");
        assert_eq!((text.matches("#EXT-X-GAP").count(), i_frames.view(None).unwrap().next), (2, 4));
    }

    #[test]
    fn the_sequence_counts_entries_through_all_programmes() {
        let mut i_frames = IFrames::new();
        i_frames.restart(SECOND);
        push(&mut i_frames, testing::segment(1, 4_000), vec![i_frame(0, 0..5), i_frame(1_500, 9..12)], 1);
        push(&mut i_frames, Segment { media: live::Media::Gap, ..testing::segment(2, 4_000) }, vec![], 1);
        push(&mut i_frames, testing::segment(3, 4_000), vec![i_frame(0, 0..5)], 3);
        golden("i_frames_ended.m3u8", &write(&mut i_frames, true));
        i_frames.restart(SECOND);
        assert!(i_frames.view(None).is_none() && i_frames.rates().is_none());
        assert!(write(&mut i_frames, false).contains("#EXT-X-MEDIA-SEQUENCE:5\n"));
    }

    #[test]
    fn clause_6_2_4_beside_parts_the_server_is_told_of_in_the_same_words() {
        let mut i_frames = IFrames::new();
        i_frames.restart(SECOND);
        push(&mut i_frames, testing::segment(1, 4_000), vec![i_frame(0, 0..5), i_frame(1_500, 9..12)], 1);
        let plain = write(&mut i_frames, false);
        let view = i_frames.view(Some("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES".to_owned())).unwrap();
        assert_eq!(view.next, 3);
        let told = String::from_utf8(view.low_latency.unwrap().text.to_vec()).unwrap();
        let line = "#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-MEDIA-SEQUENCE:1\n";
        assert!(told.contains(line), "{told}");
        assert_eq!(told.replace("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n", ""), plain);
    }

    #[test]
    fn rates_are_those_of_the_i_frames_alone() {
        let mut i_frames = IFrames::new();
        i_frames.restart(MediaTime::from_millis(4_000));
        let segment = |msn| Arc::new(testing::segment(msn, 4_000));
        assert!(i_frames.push(segment(1), vec![i_frame(0, 0..1_000), i_frame(2_000, 5_000..8_000)], Msn(1)));
        // 4,000 bytes in 4 s are 8 kbit/s, and the last 3,000 in 2 s are 12 kbit/s; a little more is declared.
        let rates = i_frames.rates().unwrap();
        assert_eq!(rates, Rates { peak: 13_000, average: 9_000 });
        assert!(!i_frames.push(segment(2), vec![i_frame(0, 0..1_000), i_frame(2_000, 5_000..8_000)], Msn(1)));
        assert!(i_frames.push(segment(3), vec![i_frame(0, 0..9_000)], Msn(1)));
    }
}
