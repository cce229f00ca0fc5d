use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::layout::Excerpt;
use crate::live::{ChannelSnapshot, Media, News, Playlist, RenditionSnapshot, Segment};

/// Of two renditions: what a packager would publish.
struct Live {
    snapshot: ChannelSnapshot,
    next: u64,
    session: u64,
    now: SystemTime,
    first_of_run: bool,
    first_of_programme: bool,
}

const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> RenditionName {
    RenditionName::new(text).unwrap()
}

impl Live {
    fn new() -> Self {
        let rendition = |text, kind| {
            Arc::new(RenditionSnapshot {
                name: name(text),
                kind,
                container: Container::Cmaf,
                playlist: Some(text_of("#EXTM3U\n")),
                i_frames: None,
                low_latency: None,
                news: News::default(),
                inits: Vec::new(),
                segments: Arc::new(VecDeque::new()),
                first_listed: Msn(1),
                open: None,
            })
        };
        let multivariant = "#EXTM3U\n\
            #EXT-X-MEDIA:TYPE=AUDIO,URI=\"audio/index.m3u8\",GROUP-ID=\"audio\",NAME=\"Main\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"audio\"\n\
            720p/index.m3u8\n\
            #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=100000,URI=\"720p/iframes.m3u8\"\n";
        let renditions = vec![rendition("720p", RenditionKind::Video), rendition("audio", RenditionKind::Audio)];
        let multivariant = Some(text_of(multivariant));
        Self {
            snapshot: ChannelSnapshot { multivariant, target_duration_secs: 4, renditions, ended: false },
            next: 1,
            session: 1_800_000_000_000,
            now: SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000),
            first_of_run: true,
            first_of_programme: true,
        }
    }

    fn push(&mut self, rendition: usize, msn: u64, gap: bool) {
        let segment = Segment {
            msn: Msn(msn),
            session: SessionId(self.session),
            discontinuity: self.first_of_run && !self.first_of_programme,
            start: MediaTime::ZERO,
            duration: MediaTime::from_millis(4_000),
            program_date_time: self.now,
            media: if gap { Media::Gap } else { Media::Hot { data: Bytes::from(vec![0; 1_000]), parts: Vec::new() } },
        };
        let rendition = Arc::make_mut(self.snapshot.renditions.get_mut(rendition).unwrap());
        Arc::make_mut(&mut rendition.segments).push_back(Arc::new(segment));
    }

    /// The next segment, in all renditions.
    fn segment(&mut self) {
        self.snapshot.ended = false;
        (0..2).for_each(|rendition| self.push(rendition, self.next, false));
        self.next += 1;
        self.now += 4 * SECOND;
        (self.first_of_run, self.first_of_programme) = (false, false);
    }

    fn segments(&mut self, count: u64) {
        (0..count).for_each(|_| self.segment());
    }

    /// The playlists list no more than the last `count`.
    fn window(&mut self, count: u64) {
        for rendition in &mut self.snapshot.renditions {
            let first = Msn(self.next.saturating_sub(count).max(rendition.first_listed.0));
            Arc::make_mut(rendition).first_listed = first;
        }
    }

    /// The encoder drops, and returns.
    fn seam(&mut self) {
        self.session += 1;
        self.first_of_run = true;
    }

    fn end(&mut self) {
        self.snapshot.ended = true;
        self.session += 1;
        (self.first_of_run, self.first_of_programme) = (true, true);
    }

    fn last(&self) -> Msn {
        Msn(self.next - 1)
    }
}

fn text_of(text: &str) -> Playlist {
    Playlist::tagged(Bytes::from(text.to_owned()), SystemTime::UNIX_EPOCH)
}

fn at(seconds: u64) -> Moment {
    Moment(1_800_000_000_000 + seconds * 1_000)
}

fn golden(file: &str, text: &str) {
    crate::golden::golden("chronicle", file, text);
}

fn numbers(stretch: &Stretch) -> Vec<u64> {
    stretch.entries.iter().map(|entry| entry.msn.0).collect()
}

const NOTHING: &BTreeMap<BlockKey, Arc<Block>> = &BTreeMap::new();

/// Without blocks.
fn sight(at_hand: Option<Msn>) -> Sight<'static> {
    Sight { blocks: NOTHING, at_hand }
}

fn span(start: u64, end: u64) -> Span {
    Span { start: at(start), end: Some(at(end)) }
}

/// A recording of six segments with a seam, all stored, of a channel that goes on.
fn recorded() -> (Live, Chronicle) {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(3);
    live.seam();
    live.segments(3);
    assert!(chronicle.follow(&live.snapshot, true));
    assert!(chronicle.stored(&live.snapshot, live.last()));
    (live, chronicle)
}

#[test]
fn a_recording_is_listed_as_what_it_was() {
    let (mut live, mut chronicle) = recorded();
    let id = SessionId(1_800_000_000_000);
    let (stretch, kind) = chronicle.whole(id, sight(None)).unwrap();
    golden("recording_event.m3u8", &stretch.playlist(&name("720p"), "../../../", kind).unwrap());
    live.end();
    assert!(chronicle.follow(&live.snapshot, true));
    assert_eq!(chronicle.programme(id).unwrap().state, State::Ended);
    let (stretch, kind) = chronicle.whole(id, sight(None)).unwrap();
    golden("recording_vod.m3u8", &stretch.playlist(&name("audio"), "../../../", kind).unwrap());
    golden("recording_multivariant.m3u8", &stretch.head.multivariant(""));
    golden("range_multivariant.m3u8", &stretch.head.multivariant("range/1/2/"));
    assert_eq!(stretch.playlist(&name("1080p"), "", Kind::Vod), None);
    assert!(!chronicle.follow(&live.snapshot, true), "nothing is new");
}

#[test]
fn a_range_holds_what_overlaps_it() {
    let (_, chronicle) = recorded();
    let of = |span| chronicle.stretch(span, sight(None)).map(|(stretch, kind)| (numbers(&stretch), kind));
    assert_eq!(of(span(0, 24)), Some((vec![1, 2, 3, 4, 5, 6], Kind::Vod)));
    assert_eq!(of(span(4, 8)), Some((vec![2], Kind::Vod)));
    assert_eq!(of(span(3, 9)), Some((vec![1, 2, 3], Kind::Vod)));
    assert_eq!(of(span(19, 25)), Some((vec![5, 6], Kind::Event)), "its end has not come");
    assert_eq!(of(Span { start: at(21), end: None }), Some((vec![6], Kind::Event)));
    assert_eq!((of(span(24, 30)), of(span(8, 8))), (None, None));
    assert!(chronicle.head(span(19, 25)).is_some() && chronicle.head(span(24, 30)).is_none());
}

#[test]
fn a_range_over_programmes_has_a_seam_between_them() {
    let (mut live, mut chronicle) = recorded();
    live.end();
    chronicle.follow(&live.snapshot, true);
    live.segments(2);
    chronicle.follow(&live.snapshot, true);
    chronicle.stored(&live.snapshot, live.last());
    let (stretch, kind) = chronicle.stretch(span(16, 1_000_000), sight(None)).unwrap();
    assert_eq!((numbers(&stretch), kind), (vec![5, 6, 7, 8], Kind::Event));
    let text = stretch.playlist(&name("720p"), "", Kind::Vod).unwrap();
    let second = text.split("/7.m4s").next().unwrap();
    assert!(second.matches("#EXT-X-DISCONTINUITY\n").count() == 1, "{text}");
    live.end();
    chronicle.follow(&live.snapshot, true);
    let (stretch, kind) = chronicle.stretch(span(16, 1_000_000), sight(None)).unwrap();
    assert_eq!(kind, Kind::Vod, "nothing is coming");
    // As one file, the second programme begins where the first ends.
    let tracks = stretch.tracks(&name("720p")).unwrap();
    let told = |listed: &Listed| (listed.programme, listed.begins.as_millis() / 1000);
    let told: Vec<Vec<_>> = tracks.iter().map(|track| track.iter().map(told).collect()).collect();
    assert_eq!(told, vec![vec![(0, 0), (0, 4), (1, 8), (1, 12)]; 2]);
}

#[test]
fn of_the_time_an_encoder_was_away_nothing_is_in_a_file() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(2);
    live.seam();
    live.now += 25 * SECOND;
    live.segments(2);
    chronicle.follow(&live.snapshot, true);
    chronicle.stored(&live.snapshot, live.last());
    let (stretch, _) = chronicle.stretch(span(0, 100), sight(None)).unwrap();
    let tracks = stretch.tracks(&name("720p")).unwrap();
    let begins: Vec<i64> = tracks[0].iter().map(|listed| listed.begins.as_millis()).collect();
    assert_eq!(begins, [0, 4_000, 8_000, 12_000]);
}

#[test]
fn what_is_only_at_hand_may_be_lost_and_ends_no_list() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(3);
    live.end();
    chronicle.follow(&live.snapshot, true);
    let id = SessionId(1_800_000_000_000);
    let kinds = |chronicle: &Chronicle| {
        let at_hand = sight(Some(Msn(1)));
        assert!(chronicle.is_over(span(0, 12)));
        [chronicle.stretch(span(0, 12), at_hand), chronicle.whole(id, at_hand)].map(|found| {
            let (stretch, kind) = found.unwrap();
            (stretch.entries.len(), kind)
        })
    };
    assert_eq!(kinds(&chronicle), [(3, Kind::Event); 2]);
    chronicle.stored(&live.snapshot, Msn(3));
    assert_eq!(kinds(&chronicle), [(3, Kind::Vod); 2]);
}

#[test]
fn what_nobody_has_seen_in_the_store_is_not_listed() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(4);
    chronicle.follow(&live.snapshot, true);
    assert_eq!(chronicle.stretch(span(0, 16), sight(None)), None);
    let (at_hand, kind) = chronicle.stretch(span(0, 16), sight(Some(Msn(3)))).unwrap();
    assert_eq!((numbers(&at_hand), kind), (vec![1, 2, 3, 4], Kind::Event), "what is in memory is listed");
    let gaps: Vec<bool> = at_hand.entries.iter().map(|entry| entry.pieces[0].is_gap()).collect();
    assert_eq!(gaps, [true, true, false, false]);
    live.window(3);
    chronicle.stored(&live.snapshot, Msn(3));
    let (stored, kind) = chronicle.stretch(span(0, 12), sight(None)).unwrap();
    assert_eq!((numbers(&stored), kind), (vec![1, 2, 3], Kind::Event), "number 1 may be on its way");
    assert_eq!(chronicle.doubtful(&live.snapshot).len(), 4, "of two renditions, each with its initialisation segment");
    assert_eq!(chronicle.settle(&live.snapshot, |_| None), 0);
    assert_eq!(chronicle.doubtful(&live.snapshot).len(), 4, "nothing is known yet");
    let lost = chronicle.settle(&live.snapshot, |media| Some(*media.rendition().unwrap() == name("audio")));
    assert_eq!((lost, chronicle.doubtful(&live.snapshot).len()), (1, 0));
    let (stretch, kind) = chronicle.stretch(span(0, 12), sight(None)).unwrap();
    assert_eq!(kind, Kind::Vod);
    let text = stretch.playlist(&name("720p"), "", kind).unwrap();
    assert!(text.contains("#EXT-X-GAP\n#EXTINF:4.000000,\n720p/1800000000000/1.m4s"), "{text}");
    assert!(!stretch.playlist(&name("audio"), "", kind).unwrap().contains("GAP"));
}

#[test]
fn what_cannot_be_read_for_want_of_its_initialisation_segment_is_lost() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(4);
    chronicle.follow(&live.snapshot, true);
    live.window(3);
    let init = Resource::Init(name("audio"), SessionId(1_800_000_000_000));
    assert_eq!(chronicle.settle(&live.snapshot, |needed| (*needed != init).then_some(true)), 0);
    assert!(!chronicle.doubtful(&live.snapshot).is_empty(), "it may be on its way");
    assert_eq!(chronicle.settle(&live.snapshot, |needed| Some(*needed != init)), 1);
    let gaps: Vec<bool> = chronicle.programmes[0].tail[0].pieces.iter().map(Piece::is_gap).collect();
    assert_eq!((gaps, chronicle.doubtful(&live.snapshot).len()), (vec![false, true], 0));
}

#[test]
fn what_a_killed_process_listed_is_not_taken_for_stored_where_the_next_one_lists_a_gap() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(3);
    chronicle.follow(&live.snapshot, true);
    let mut next = Live::new();
    next.segments(2);
    (0..2).for_each(|rendition| next.push(rendition, 3, true));
    assert!(!chronicle.follow(&next.snapshot, true), "its numbers are known");
    chronicle.stored(&next.snapshot, Msn(3));
    let doubtful: Vec<String> = chronicle.doubtful(&next.snapshot).iter().map(Resource::below_channel).collect();
    let media = ["720p/1800000000000/3.m4s", "audio/1800000000000/3.m4s"];
    let inits = ["720p/1800000000000/init.mp4", "audio/1800000000000/init.mp4"];
    assert_eq!(doubtful, [inits, media].concat());
}

#[test]
fn numbers_that_are_used_again_are_the_younger_runs() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(5);
    chronicle.follow(&live.snapshot, true);
    chronicle.stored(&live.snapshot, Msn(3));
    // Another process knows of three only, and goes on behind them.
    let mut other = Live::new();
    other.segments(3);
    other.seam();
    other.segment();
    chronicle.follow(&other.snapshot, true);
    let programme = &chronicle.programmes[0];
    let tail: Vec<(u64, u64)> = programme.tail.iter().map(|entry| (entry.msn.0, entry.session.0 % 10)).collect();
    assert_eq!((chronicle.programmes.len(), tail), (1, vec![(1, 0), (2, 0), (3, 0), (4, 1)]));
    // One that knows nothing begins anew.
    let mut anew = Live::new();
    anew.session += 5;
    anew.segments(2);
    chronicle.follow(&anew.snapshot, true);
    assert_eq!(chronicle.programmes.len(), 2);
    assert_eq!((chronicle.programmes[0].state, chronicle.programmes[1].last()), (State::Ended, Some(Msn(2))));
    let kept = chronicle.kept();
    let media = |session: u64, msn| Resource::Segment(name("720p"), SessionId(1_800_000_000_000 + session), Msn(msn));
    assert!(kept.holds(&media(0, 1)) && kept.holds(&media(5, 1)) && kept.holds(&media(5, 100)));
}

#[test]
fn what_was_followed_before_the_store_could_be_read_is_joined_to_it() {
    let (mut live, stored) = recorded();
    let mut own = Chronicle::default();
    live.window(2);
    live.segments(2);
    own.follow(&live.snapshot, true);
    let mut joined = stored.clone();
    joined.join(own.clone());
    let numbers = |chronicle: &Chronicle| -> Vec<Vec<u64>> {
        let of = |programme: &Programme| programme.tail.iter().map(|entry| entry.msn.0).collect();
        chronicle.programmes.iter().map(of).collect()
    };
    // Who began in the middle did not see the programme's first run.
    assert_ne!(own.programmes[0].id, stored.programmes[0].id);
    assert_eq!(numbers(&joined), [(1..=8).collect::<Vec<_>>()]);
    assert_eq!(joined.last, Some((SessionId(1_800_000_000_001), Msn(8))));
    // Nor whoever began with the encoder's return.
    live.seam();
    live.segments(2);
    live.window(2);
    let mut own = Chronicle::default();
    own.follow(&live.snapshot, true);
    joined.join(own);
    assert_eq!(numbers(&joined), [(1..=10).collect::<Vec<_>>()]);
    live.end();
    live.segments(2);
    live.window(2);
    let mut own = Chronicle::default();
    own.follow(&live.snapshot, true);
    joined.join(own);
    assert_eq!(numbers(&joined), [(1..=10).collect::<Vec<_>>(), vec![11, 12]], "another programme");
    let states: Vec<State> = joined.programmes.iter().map(|programme| programme.state).collect();
    assert_eq!(states, [State::Ended, State::Open]);
}

#[test]
fn a_range_that_ends_in_a_pause_is_over_when_the_pause_is() {
    let (mut live, mut chronicle) = recorded();
    let kind =
        |chronicle: &Chronicle| chronicle.stretch(span(0, 40), sight(None)).map(|(list, kind)| (numbers(&list), kind));
    assert_eq!(kind(&chronicle), Some((vec![1, 2, 3, 4, 5, 6], Kind::Event)));
    live.now += 60 * SECOND;
    live.seam();
    live.segment();
    chronicle.follow(&live.snapshot, true);
    assert_eq!(kind(&chronicle), Some((vec![1, 2, 3, 4, 5, 6], Kind::Vod)), "nothing of it is to come");
}

#[test]
fn a_range_whose_beginning_goes_is_none_that_only_grows_and_counts_its_seams() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(3);
    live.seam();
    live.segments(3);
    chronicle.follow(&live.snapshot, false);
    chronicle.stored(&live.snapshot, live.last());
    for (first, seams) in [(1, 0), (3, 0), (4, 1), (5, 1), (6, 1)] {
        chronicle.forget(Msn(first));
        let (list, kind) = chronicle.stretch(Span { start: at(0), end: None }, sight(None)).unwrap();
        let text = list.playlist(&name("720p"), "", kind).unwrap();
        assert_eq!(kind, Kind::Sliding);
        let expected = format!("#EXT-X-MEDIA-SEQUENCE:{first}\n");
        assert!(text.contains(&expected), "{text}");
        let said = text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n");
        assert_eq!(said, seams == 1, "{text}");
    }
    // A recording that goes on, of which the list begins later: the seams before it are counted.
    let (_, chronicle) = recorded();
    let (list, kind) = chronicle.stretch(Span { start: at(21), end: None }, sight(None)).unwrap();
    assert_eq!((list.seams, kind), (1, Kind::Event));
}

#[test]
fn a_range_counts_on_when_a_recording_in_it_is_removed() {
    let (mut live, mut chronicle) = recorded();
    live.end();
    chronicle.follow(&live.snapshot, true);
    live.segments(2);
    live.seam();
    live.segments(2);
    chronicle.follow(&live.snapshot, true);
    chronicle.stored(&live.snapshot, live.last());
    let of = |chronicle: &Chronicle, start| {
        let (list, kind) = chronicle.stretch(Span { start: at(start), end: None }, sight(None)).unwrap();
        let seams =
            |msn: u64| list.entries.iter().filter(|entry| entry.discontinuity && entry.msn.0 <= msn).count() as u64;
        (list.seams + seams(8), list.seams + seams(10), kind)
    };
    let whole = of(&chronicle, 0);
    assert_eq!(whole, (2, 3, Kind::Event), "one in the first, one between them, one in the second");
    assert_eq!(of(&chronicle, 24), whole, "the same segments have the same numbers in each list");
    assert!(chronicle.remove(Removal::Recording(SessionId(1_800_000_000_000)), None));
    assert_eq!(of(&chronicle, 0), (2, 3, Kind::Sliding));
}

#[test]
fn a_rendition_that_is_far_behind_is_not_waited_for() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segment();
    for msn in 2..=12 {
        live.push(0, msn, false);
        live.now += 4 * SECOND;
        chronicle.follow(&live.snapshot, true);
    }
    assert_eq!(chronicle.last.map(|(_, last)| last), Some(Msn(4)));
    let entry = chronicle.programmes[0].tail.last().unwrap();
    assert!(entry.pieces[1].is_gap() && !entry.pieces[0].is_gap());
}

#[test]
fn only_what_is_recorded_or_clipped_is_kept() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    live.segments(6);
    chronicle.follow(&live.snapshot, false);
    chronicle.stored(&live.snapshot, Msn(6));
    let media = |msn| Resource::Segment(name("720p"), SessionId(1_800_000_000_000), Msn(msn));
    assert!(!chronicle.kept().holds(&media(2)));
    let (stretch, _) = chronicle.stretch(span(4, 12), sight(None)).unwrap();
    let clip = stretch.clip(ClipName::new("goal").unwrap()).unwrap();
    assert_eq!((clip.first, clip.last, clip.bytes, clip.begins, clip.ends), (Msn(2), Msn(3), 4_000, at(4), at(12)));
    chronicle.clips.push(clip);
    let kept = chronicle.kept();
    assert_eq!([1, 2, 3, 4].map(|msn| kept.holds(&media(msn))), [false, true, true, false]);
    assert!(kept.holds(&Resource::Init(name("audio"), SessionId(1_800_000_000_000))));
    live.window(2);
    chronicle.follow(&live.snapshot, false);
    assert!(chronicle.forget(Msn(5)));
    assert_eq!(chronicle.programmes[0].first(), Some(Msn(5)));
    live.end();
    chronicle.follow(&live.snapshot, false);
    chronicle.forget(Msn(7));
    assert!(chronicle.programmes.is_empty());
    assert!(!chronicle.follow(&live.snapshot, false), "what was let go is not taken in again");
}

#[test]
fn a_recording_that_goes_on_holds_what_is_to_come() {
    let (_, chronicle) = recorded();
    let kept = chronicle.kept();
    let media = |msn| Resource::Segment(name("720p"), SessionId(1_900_000_000_000), Msn(msn));
    assert!(kept.holds(&media(1)) && kept.holds(&media(1_000)) && !kept.holds(&media(0)));
    assert!(kept.holds(&Resource::Init(name("720p"), SessionId(1_900_000_000_000))));
    assert!(!kept.holds(&Resource::Playlist(name("720p"))) && kept.holds(&Resource::Chronicle));
}

/// Three recordings of two segments each, of 4,000 bytes and 8 s, all over and published.
fn three_recordings() -> Chronicle {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    for _ in 0..3 {
        live.segments(2);
        live.end();
        chronicle.follow(&live.snapshot, true);
    }
    chronicle.stored(&live.snapshot, live.last());
    chronicle.programmes.iter_mut().for_each(|programme| programme.state = State::Published);
    chronicle
}

#[test]
fn recordings_go_by_age_and_size() {
    let mut chronicle = three_recordings();
    let first = Removal::Recording(chronicle.programmes[0].id);
    let age = |seconds| Rules { age_max: Some(SECOND * seconds), bytes_max: None };
    let size = |bytes| Rules { age_max: None, bytes_max: Some(bytes) };
    assert_eq!(chronicle.due(&Rules::default(), at(1_000_000)), None);
    assert_eq!((chronicle.due(&age(60), at(68)), chronicle.due(&age(60), at(69))), (None, Some(first)));
    assert_eq!((chronicle.due(&size(12_000), at(0)), chronicle.due(&size(11_999), at(0))), (None, Some(first)));
    let head = chronicle.programmes[0].head.clone();
    assert!(chronicle.remove(first, None));
    assert_eq!(chronicle.deletable(None), Some(0), "playlists at any time");
    let removed = chronicle.removed[0].clone();
    let playlists = head.playlists(&Excerpt::Recording(SessionId(1_800_000_000_000)));
    assert!(removed.texts().starts_with(&playlists) && playlists.len() == 3);
    let path = |media: &Resource| media.below_channel();
    let media: Vec<String> = removed.media(&removed.entries).iter().chain(&removed.inits()).map(path).collect();
    let run = 1_800_000_000_000u64;
    let expected = [
        format!("720p/{run}/1.m4s"),
        format!("audio/{run}/1.m4s"),
        format!("720p/{run}/2.m4s"),
        format!("audio/{run}/2.m4s"),
        format!("720p/{run}/init.mp4"),
        format!("audio/{run}/init.mp4"),
    ];
    assert_eq!(media, expected);
    assert_eq!(chronicle.due(&size(8_000), at(0)), None);
    assert!(!chronicle.remove(first, None));
    assert_eq!(Chronicle::read(&chronicle.text()).unwrap().removed, [removed], "a kill does not make it forgotten");
}

#[test]
fn of_a_recording_that_goes_on_the_oldest_block_goes() {
    let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
    let many = u64::try_from(BLOCK_ENTRIES).unwrap();
    live.segments(3);
    live.seam();
    live.segments(2 * many + 2);
    chronicle.follow(&live.snapshot, true);
    assert_eq!(chronicle.next_block(), None, "nothing is known to be stored");
    chronicle.stored(&live.snapshot, live.last());
    let mut blocks = BTreeMap::new();
    while let Some((programme, block)) = chronicle.next_block() {
        chronicle.close(programme, &block);
        blocks.insert(block.summary().unwrap().key(), Arc::new(block));
    }
    let programme = &chronicle.programmes[0];
    assert_eq!((blocks.len(), programme.tail.len()), (2, 5));
    assert_eq!((programme.first(), programme.last()), (Some(Msn(1)), Some(live.last())));
    assert_eq!(programme.bytes(), 2_000 * (2 * many + 5));
    let sight = Sight { blocks: &blocks, at_hand: None };
    let (whole, kind) = chronicle.whole(programme.id, sight).unwrap();
    assert_eq!((numbers(&whole), kind), ((1..=live.last().0).collect::<Vec<_>>(), Kind::Event));
    let run = programme.id.0;
    let keys = [(SessionId(run), Msn(1)), (SessionId(run + 1), Msn(257))];
    assert_eq!(chronicle.blocks(span(0, 4)), Ok(vec![keys[0]]));
    assert_eq!(chronicle.blocks(span(4 * many, 4_000_000)), Ok(vec![keys[1]]));
    assert_eq!(chronicle.blocks_of(programme.id), keys);
    let rules = Rules { age_max: Some(60 * SECOND), bytes_max: None };
    let oldest = Removal::Block(programme.id);
    assert_eq!(chronicle.due(&rules, at(4 * many + 61)), Some(oldest));
    let now = at(10_000);
    assert!(chronicle.remove(oldest, Some(now)));
    let removed = &chronicle.removed[0];
    assert_eq!((removed.blocks[0].key(), removed.blocks.len(), &removed.excerpt), (keys[0], 1, &None));
    assert_eq!(chronicle.programmes[0].first(), Some(Msn(257)));
    let media = |msn| Resource::Segment(name("720p"), SessionId(run + 1), Msn(msn));
    let block = |key: (SessionId, Msn)| Resource::Block(key.0, key.1);
    // As long as the recording was, for those who watch it.
    let lasted = SECOND * u32::try_from(4 * (2 * many + 5)).unwrap();
    let last = now.after(lasted);
    let deletable = [None, Some(last.before(SECOND)), Some(last)].map(|now| chronicle.deletable(now));
    assert_eq!(deletable, [None, None, Some(0)]);
    assert!(chronicle.kept().holds(&media(256)) && chronicle.kept().holds(&block(keys[0])));
    chronicle.removed[0].stays_until = None;
    let kept = chronicle.kept();
    assert!(!kept.holds(&media(256)) && kept.holds(&media(257)));
    chronicle.removed[0].blocks.clear();
    assert!(!chronicle.kept().holds(&block(keys[0])) && kept.holds(&block(keys[1])));
    let (rest, kind) = chronicle.whole(SessionId(run), sight).unwrap();
    let text = rest.playlist(&name("720p"), "", kind).unwrap();
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:257\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{text}");
    assert!(!text.contains("PLAYLIST-TYPE"), "it is not one that only grows");
    live.end();
    chronicle.follow(&live.snapshot, true);
    let (_, block) = chronicle.next_block().unwrap();
    assert_eq!(block.entries.len(), 5, "of what is over all goes into blocks");
}

#[test]
fn the_index_survives_the_round_trip() {
    let (_, mut chronicle) = recorded();
    let (stretch, _) = chronicle.stretch(span(0, 24), sight(None)).unwrap();
    chronicle.clips.push(stretch.clip(ClipName::new("all").unwrap()).unwrap());
    assert_eq!(Chronicle::read(&chronicle.text()).unwrap(), chronicle);
    let newer = String::from_utf8(chronicle.text()).unwrap().replace("\"version\":1", "\"version\":2");
    assert!(Chronicle::read(newer.as_bytes()).unwrap_err().to_string().contains("version 2"));
    assert!(Chronicle::read(b"{").is_err() && Chronicle::read(b"").is_err());
    let again: Stretch = serde_json::from_slice(&serde_json::to_vec(&stretch).unwrap()).unwrap();
    assert_eq!(again, stretch);
}

/// What happens to a channel between two looks.
#[derive(Clone, Copy, Debug)]
enum Step {
    Segments(u64),
    Seam,
    End,
    Look,
    Stored,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4u64).prop_map(Step::Segments),
        1 => Just(Step::Seam),
        1 => Just(Step::End),
        4 => Just(Step::Look),
        2 => Just(Step::Stored),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happens, each number is known once, in the order and the programme in which it was published, as long as somebody
    /// looks at least once a window.
    #[test]
    fn every_segment_is_known_once(steps in steps()) {
        let (mut live, mut chronicle) = (Live::new(), Chronicle::default());
        let mut unseen = 0;
        // The first number of each programme.
        let mut begins = vec![1];
        for step in steps {
            match step {
                Step::Segments(count) => {
                    live.segments(count);
                    unseen += count;
                }
                Step::Seam if live.next > 1 && !live.first_of_programme => live.seam(),
                Step::End if live.next > 1 && !live.first_of_programme => {
                    live.end();
                    begins.push(live.next);
                }
                Step::Stored => {
                    chronicle.stored(&live.snapshot, live.last());
                }
                Step::Restart => chronicle = Chronicle::read(&chronicle.text()).unwrap(),
                Step::Look | Step::Seam | Step::End => {}
            }
            if matches!(step, Step::Look) || unseen > 8 {
                chronicle.follow(&live.snapshot, true);
                unseen = 0;
                // What was looked at leaves the window.
                live.window(9);
            }
        }
        chronicle.follow(&live.snapshot, true);
        let known: Vec<Vec<u64>> =
            chronicle.programmes.iter().map(|p| p.tail.iter().map(|entry| entry.msn.0).collect()).collect();
        begins.retain(|first| *first < live.next);
        let ends = begins.iter().skip(1).copied().chain([live.next]);
        let expected: Vec<Vec<u64>> = begins.iter().zip(ends).map(|(first, end)| (*first..end).collect()).collect();
        prop_assert_eq!(known, expected);
    }

    #[test]
    fn no_text_is_an_index_by_chance(text in "\\PC*") {
        drop(Chronicle::read(text.as_bytes()));
    }
}
