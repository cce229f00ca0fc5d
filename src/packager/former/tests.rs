use proptest::prelude::*;

use super::*;
use crate::ladder::LadderEvent;
use crate::live::{ChannelSnapshot, with_gaps};
use crate::packager::rules::Watcher;
use crate::packager::simulate::{self, RENDITIONS, Session, steady};
use crate::packager::testing;
use crate::packager::{Packager, Told};

/// Objects by their paths below the channel.
type Store = BTreeMap<String, Option<Bytes>>;

/// All of a window.
const HOT: Duration = Duration::from_secs(60);

fn channel() -> ChannelName {
    ChannelName::new("demo").unwrap()
}

/// What the store holds of a channel of which `snapshot` is stored.
fn stored(snapshot: &ChannelSnapshot) -> Store {
    let mut objects = Store::new();
    let mut put = |resource: Resource, data: &Bytes| objects.insert(resource.below_channel(), Some(data.clone()));
    put(Resource::Multivariant, &snapshot.multivariant.as_ref().unwrap().text);
    for rendition in snapshot.renditions.iter().filter(|rendition| rendition.playlist.is_some()) {
        let name = || rendition.name.clone();
        put(Resource::Playlist(name()), &rendition.playlist.as_ref().unwrap().text);
        rendition.i_frames.iter().for_each(|list| drop(put(Resource::IFrames(name()), &list.playlist.text)));
        rendition.inits.iter().for_each(|init| drop(put(Resource::Init(name(), init.session), &init.data)));
        for segment in rendition.listed().filter(|segment| !segment.is_gap()) {
            let resource = Resource::segment(rendition.container, name(), segment.session, segment.msn);
            put(resource, segment.data().unwrap());
        }
    }
    objects
}

/// Reads it as the server does, which fetches what is needed.
fn read(store: &Store, container: Container) -> Result<Option<Former>, Unreadable> {
    read_hot(store, container, HOT).map(|(former, _)| former)
}

/// The same, and what was fetched.
fn read_hot(store: &Store, container: Container, hot: Duration) -> Result<(Option<Former>, Objects), Unreadable> {
    read_from(container, hot, |path| store.get(path).cloned().flatten().into())
}

fn read_from(
    container: Container,
    hot: Duration,
    fetch: impl Fn(&str) -> Fetched,
) -> Result<(Option<Former>, Objects), Unreadable> {
    let mut objects = Objects::new();
    for _ in 0..4 {
        match Former::read(&channel(), container, hot, &objects)? {
            Reading::Nothing => return Ok((None, objects)),
            Reading::Whole(former) => return Ok((Some(*former), objects)),
            Reading::Needs(paths) => {
                objects.extend(paths.into_iter().map(|path| (path.clone(), fetch(&path))));
            }
        }
    }
    panic!("it needs more and more");
}

/// A packager in the middle of a session, all of whose segments are stored.
fn killed() -> (Packager, Watcher) {
    let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
    feed(&mut packager, &mut watcher, steady(100, false).events(10_000));
    let mut events = steady(120, false).events(20_000);
    events.pop();
    feed(&mut packager, &mut watcher, events);
    (packager, watcher)
}

fn feed(packager: &mut Packager, watcher: &mut Watcher, events: Vec<LadderEvent>) {
    for event in events {
        packager.handle(event, testing::wall_clock(0));
        watcher.see(packager.snapshot());
    }
}

fn resume(told: Told, store: &Store) -> Packager {
    let former = read(store, Container::Cmaf).unwrap();
    Packager::resume(simulate::hls(), told, former, testing::wall_clock(0))
}

fn told(last: u64, discontinuity_sequence: u64) -> Told {
    Told { last: Msn(last), discontinuity_sequence, ..Told::default() }
}

fn playlist(packager: &Packager, rendition: &str) -> String {
    let playlist = packager.snapshot().rendition(rendition).unwrap().playlist.clone().unwrap();
    String::from_utf8_lossy(&playlist.text).into_owned()
}

fn listed(packager: &Packager, rendition: &str) -> Vec<(u64, bool, bool)> {
    let rendition = packager.snapshot().rendition(rendition).unwrap();
    rendition.listed().map(|segment| (segment.msn.0, segment.discontinuity, segment.is_gap())).collect()
}

#[test]
fn a_channel_goes_on_where_it_was_killed() {
    let (packager, mut watcher) = killed();
    let before = packager.snapshot();
    let open = before.rendition("720p").unwrap().open.as_ref().unwrap();
    let Told { last, discontinuity_sequence, ended, .. } = packager.told();
    assert_eq!((open.msn, last, discontinuity_sequence, ended), (Msn(5), Msn(5), 2, false));

    let mut after = resume(packager.told(), &stored(before));
    assert!(after.is_open());
    watcher.restart(after.told().last);
    watcher.see(after.snapshot());
    for rendition in RENDITIONS {
        let (old, new) = (before.rendition(rendition).unwrap(), after.snapshot().rendition(rendition).unwrap());
        // Of the one that was being made nothing is left.
        let [old_text, new_text] =
            [old, new].map(|r| String::from_utf8_lossy(&r.playlist.as_ref().unwrap().text).into_owned());
        let lost = new_text.strip_prefix(&old_text).unwrap_or_else(|| panic!("{old_text}\n{new_text}"));
        // It is as long as what players have of it.
        let lasted = format!("#EXTINF:{:.6},", packager.told().lasted.as_secs_f64());
        assert_eq!((lost.matches("#EXT-X-GAP").count(), lost.matches(&lasted).count()), (1, 1), "{lost} {lasted}");
        assert!(packager.told().lasted < MediaTime::from_millis(1_000), "{lasted}");
        assert_eq!(
            old.listed().map(|s| s.start).collect::<Vec<_>>(),
            new.listed().map(|s| s.start).take(4).collect::<Vec<_>>()
        );
    }
    assert_eq!(before.multivariant.as_ref().unwrap().text, after.snapshot().multivariant.as_ref().unwrap().text);

    let start = after.edge().as_millis() + 1_000;
    feed(&mut after, &mut watcher, steady(100, true).events(start));
    assert!(listed(&after, "audio").ends_with(&[(5, false, true), (6, true, false), (7, false, false)]));
    watcher.check_alignment();
}

#[test]
fn what_was_told_and_is_not_stored_is_a_gap_and_no_number_is_used_twice() {
    let (packager, _) = killed();
    let store = stored(packager.snapshot());
    let told = told(7, 3);
    let after = resume(told, &store);
    let gaps = [(5, true, true), (6, false, true), (7, false, true)];
    assert_eq!(listed(&after, "720p")[listed(&after, "720p").len() - 3..], gaps, "a seam that is lost is told again");
    assert_eq!((after.told().last, after.told().discontinuity_sequence), (Msn(7), 3));
    // More than a window is lost, or more than one seam.
    assert!(resume(super::tests::told(7, 4), &store).snapshot().ended);
    let mut after = resume(super::tests::told(900, 8), &store);
    assert!(after.snapshot().ended && !after.is_open());
    let mut watcher = Watcher::default();
    watcher.restart(after.told().last);
    feed(&mut after, &mut watcher, steady(100, false).events(60_000));
    assert_eq!(listed(&after, "audio").first(), Some(&(901, false, false)));
    assert!(playlist(&after, "audio").contains("#EXT-X-DISCONTINUITY-SEQUENCE:8\n"));
}

#[test]
fn what_is_lost_is_as_long_as_is_known() {
    let (packager, _) = killed();
    let store = stored(packager.snapshot());
    let ends = packager.snapshot().renditions.iter().filter_map(|rendition| rendition.segments.back());
    let end = ends.map(|last| last.start + last.duration).max();
    let seconds = |seconds: i64| MediaTime::from_millis(1_000 * seconds);
    let lasts = |edge: MediaTime, lasted: MediaTime| {
        let told = Told { last: Msn(7), lasted, edge, ..packager.told() };
        let after = resume(told, &store);
        let rendition = after.snapshot().rendition("720p").unwrap().clone();
        let lost: Vec<i64> = rendition
            .listed()
            .skip_while(|segment| segment.msn < Msn(5))
            .map(|lost| lost.duration.as_millis())
            .collect();
        lost
    };
    let end = end.unwrap();
    assert_eq!(lasts(end + seconds(3), MediaTime::ZERO), [1_000; 3]);
    assert_eq!(lasts(end + seconds(3), MediaTime::from_millis(200)), [1_500, 1_500, 200], "the last was being made");
    assert_eq!(lasts(end + seconds(60), MediaTime::ZERO), [2_000; 3], "at the longest");
    assert_eq!(lasts(end, MediaTime::ZERO), [2_000; 3], "where nothing is known");
}

/// A long window, of which only the last seconds are fetched.
#[test]
fn of_a_long_window_the_hot_end_is_fetched_and_the_rest_is_taken_by_its_word() {
    let hls = crate::config::HlsConfig { window: Duration::from_secs(60), ..simulate::hls() };
    let (mut packager, mut watcher) = (Packager::new(hls), Watcher::default());
    feed(&mut packager, &mut watcher, Session { gop: 20, ..steady(1_000, false) }.events(10_000));
    let mut events = steady(220, false).events(51_000);
    events.pop();
    feed(&mut packager, &mut watcher, events);
    let store = stored(packager.snapshot());
    let segments = |paths: Vec<&String>| paths.iter().filter(|path| path.ends_with(".m4s")).count();
    // Nothing but the six target durations that are the least.
    let (former, fetched) = read_hot(&store, Container::Cmaf, Duration::ZERO).unwrap();
    assert_eq!(segments(store.keys().collect()), 3 * 24);
    // Sound is a little shorter.
    assert!((3 * 6..=3 * 7).contains(&segments(fetched.keys().collect())), "{}", segments(fetched.keys().collect()));
    let mut after = Packager::resume(hls, packager.told(), former, testing::wall_clock(0));
    watcher.restart(after.told().last);
    watcher.see(after.snapshot());
    for rendition in RENDITIONS {
        assert!(playlist(&after, rendition).starts_with(&playlist(&packager, rendition)), "{rendition}");
        let (old, new) =
            (packager.snapshot().rendition(rendition).unwrap(), after.snapshot().rendition(rendition).unwrap());
        let cold: Vec<bool> = new.listed().map(|segment| segment.is_cold()).take(24).collect();
        assert!(cold[..17].iter().all(|cold| *cold) && cold[18..].iter().all(|cold| !cold), "{cold:?}");
        let text = |list: &Option<crate::live::IFrames>| list.as_ref().map(|list| list.playlist.text.clone());
        assert!(
            text(&new.i_frames).zip(text(&old.i_frames)).is_none_or(|(new, old)| new.starts_with(&old)),
            "{rendition}"
        );
        // By the seam a run begins where the one before ended; the clock went on by a second.
        let apart = old.listed().zip(new.listed()).map(|(old, new)| (old.start - new.start).as_millis().abs());
        assert!(apart.max() <= Some(1_001), "{rendition}");
    }
    let start = after.edge().as_millis() + 1_000;
    feed(&mut after, &mut watcher, steady(100, true).events(start));
    watcher.check_alignment();
}

#[test]
fn an_ended_programme_stays_ended() {
    let (mut packager, mut watcher) = killed();
    feed(&mut packager, &mut watcher, vec![LadderEvent::Finish]);
    let mut after = resume(packager.told(), &stored(packager.snapshot()));
    assert!(after.snapshot().ended && !after.is_open());
    watcher.restart(after.told().last);
    watcher.see(after.snapshot());
    feed(&mut after, &mut watcher, steady(100, false).events(40_000));
    assert_eq!(listed(&after, "360p").first(), Some(&(6, false, false)));
    watcher.check_alignment();
}

#[test]
fn without_a_store_the_numbers_go_on() {
    let (session, edge) = (testing::SESSION, MediaTime::from_millis(77_000));
    let told = Told { session, edge, ..told(41, 3) };
    let mut packager = resume(told, &Store::new());
    assert_eq!((packager.is_open(), packager.told()), (false, told));
    feed(&mut packager, &mut Watcher::default(), steady(100, false).events(10_000));
    assert_eq!(listed(&packager, "720p"), [(42, false, false), (43, false, false)]);
}

#[test]
fn media_that_is_not_there_is_not_listed() {
    let (packager, _) = killed();
    let mut store = stored(packager.snapshot());
    let told = packager.told();
    let session = packager.snapshot().rendition("360p").unwrap().segments.back().unwrap().session;
    assert!(store.remove(&format!("360p/{session}/3.m4s")).is_some());
    let after = resume(told, &store);
    for rendition in RENDITIONS {
        assert_eq!(listed(&after, rendition).first().map(|first| first.0), Some(4), "{rendition}");
        // The seam was before number 3.
        assert!(playlist(&after, rendition).contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{rendition}");
    }
    let first_entry = |rendition: &str| {
        let text = after.snapshot().rendition(rendition).unwrap().i_frames.clone().unwrap().playlist.text;
        m3u8_rs::parse_media_playlist_res(&text).unwrap().media_sequence
    };
    assert_eq!(first_entry("360p"), first_entry("720p"));
    store.retain(|path, _| !path.ends_with("init.mp4"));
    assert_eq!(read(&store, Container::Cmaf).unwrap_err(), Unreadable::NoMedia);
}

#[test]
fn media_of_which_the_store_does_not_tell_is_as_listed() {
    let (packager, _) = killed();
    let store = stored(packager.snapshot());
    let fetch = |slow: &'static [&'static str]| {
        let hangs = move |path: &str| slow.iter().any(|slow| path.ends_with(slow));
        let fetch = |path: &str| if hangs(path) { Fetched::Unknown } else { store[path].clone().into() };
        let (former, _) = read_from(Container::Cmaf, HOT, fetch).unwrap();
        Packager::resume(simulate::hls(), packager.told(), former, testing::wall_clock(0))
    };
    let whole = resume(packager.told(), &store);
    for slow in [&["360p/2.m4s", "/2.m4s"][..], &["/3.m4s"], &["/4.m4s"], &["/1.m4s", "/2.m4s", "/3.m4s", "/4.m4s"]] {
        let after = fetch(slow);
        for rendition in RENDITIONS {
            assert_eq!(playlist(&after, rendition), playlist(&whole, rendition), "{slow:?}");
            let [one, other] = [&after, &whole].map(|of| of.snapshot().rendition(rendition).unwrap());
            for (one, other) in one.listed().zip(other.listed()) {
                let is_slow = slow.iter().any(|slow| *slow == format!("/{}.m4s", one.msn));
                assert_eq!((one.is_cold(), one.is_gap()), (is_slow && !other.is_gap(), other.is_gap()), "{slow:?}");
                let apart = (one.start - other.start).as_millis().abs();
                // By the seam a run begins where the one before ended; the clock went on by six seconds.
                assert!(apart <= 6_100, "{slow:?}: {apart} ms");
            }
        }
    }
}

#[test]
fn the_newest_that_are_not_there_are_gaps_of_their_own_numbers() {
    let (packager, _) = killed();
    let mut store = stored(packager.snapshot());
    store.retain(|path, _| !path.ends_with("/4.m4s"));
    // What was told is not known either.
    let after = resume(Told::default(), &store);
    for rendition in RENDITIONS {
        assert_eq!(listed(&after, rendition).last(), Some(&(4, false, true)), "{rendition}");
        assert_eq!(playlist(&after, rendition).replace("#EXT-X-GAP\n", ""), playlist(&packager, rendition));
    }
    assert_eq!(after.told().last, Msn(4));
}

#[test]
fn what_is_a_gap_in_the_store_stays_one_with_as_many_i_frames() {
    let (packager, _) = killed();
    let mut store = stored(packager.snapshot());
    let session = packager.snapshot().rendition("720p").unwrap().segments.back().unwrap().session;
    let missing = [format!("{session}/4.m4s")].into();
    let files = ["720p/index.m3u8", "720p/iframes.m3u8"];
    for file in files {
        let text = store.get_mut(file).unwrap().as_mut().unwrap();
        *text = with_gaps(text, &missing);
        assert!(text.windows(10).any(|bytes| bytes == b"#EXT-X-GAP"), "{file}");
    }
    store.remove(&format!("720p/{session}/4.m4s"));
    let after = resume(Told::default(), &store);
    let rendition = after.snapshot().rendition("720p").unwrap();
    let texts = [rendition.playlist.as_ref(), rendition.i_frames.as_ref().map(|i_frames| &i_frames.playlist)];
    for (file, text) in files.into_iter().zip(texts) {
        let tags = |text: &Bytes| {
            let text = String::from_utf8(text.to_vec()).unwrap();
            (text.matches("#EXT-X-GAP\n").count(), text.replace("#EXT-X-GAP\n", ""))
        };
        assert_eq!(store[file].as_ref().map(tags), text.map(|text| tags(&text.text)), "{file}");
    }
    assert_eq!(playlist(&after, "360p"), playlist(&packager, "360p"));
}

#[test]
fn playlists_of_two_programmes_are_an_end() {
    let (mut packager, mut watcher) = killed();
    feed(&mut packager, &mut watcher, vec![LadderEvent::Finish]);
    let sound = stored(packager.snapshot()).remove("audio/index.m3u8").unwrap();
    feed(&mut packager, &mut watcher, steady(100, false).events(40_000));
    let mut store = stored(packager.snapshot());
    let text = String::from_utf8(sound.unwrap().to_vec()).unwrap();
    for sound in [text.clone(), text.replace("#EXT-X-ENDLIST\n", "")] {
        store.insert("audio/index.m3u8".to_owned(), Some(sound.into()));
        let mut after = resume(packager.told(), &store);
        assert!(after.snapshot().ended && !after.is_open());
        let mut watcher = Watcher::default();
        watcher.restart(after.told().last);
        feed(&mut after, &mut watcher, steady(100, false).events(60_000));
        assert_eq!(listed(&after, "audio").first().map(|first| first.0), Some(packager.told().last.0 + 1));
    }
}

#[test]
fn an_end_that_was_told_is_not_taken_back() {
    let (packager, _) = killed();
    let after = resume(Told { ended: true, ..packager.told() }, &stored(packager.snapshot()));
    assert!(after.snapshot().ended && playlist(&after, "audio").ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn what_was_told_of_bit_rates_stays() {
    let (mut packager, mut watcher) = killed();
    let large = |event: &mut LadderEvent| {
        if let LadderEvent::Unit { rendition: 0, unit, .. } = event {
            unit.data = Bytes::from(vec![1; 60_000]);
        }
    };
    let mut events = steady(100, false).events(40_000);
    events.iter_mut().for_each(large);
    feed(&mut packager, &mut watcher, events);
    feed(&mut packager, &mut watcher, steady(400, false).events(60_000));
    let rates = |packager: &Packager| {
        let text = &packager.snapshot().multivariant.as_ref().unwrap().text;
        let playlist = m3u8_rs::parse_master_playlist_res(text).unwrap();
        playlist.variants.iter().map(|variant| variant.bandwidth).collect::<Vec<_>>()
    };
    let before = rates(&packager);
    let mut after = resume(packager.told(), &stored(packager.snapshot()));
    watcher.restart(after.told().last);
    feed(&mut after, &mut watcher, steady(100, false).events(100_000));
    let raised = rates(&after).iter().zip(&before).all(|(after, before)| after >= before);
    assert!(raised && before[0] > 5_000_000, "{before:?} {:?}", rates(&after));
}

#[test]
fn a_channel_in_mpeg_ts_goes_on_and_so_does_its_time() {
    let hls = simulate::hls().packed_in(Container::Ts);
    let mut packager = Packager::new(hls);
    let handle = |packager: &mut Packager, events: Vec<LadderEvent>| {
        events.into_iter().for_each(|event| drop(packager.handle(event, testing::wall_clock(0))));
    };
    handle(&mut packager, steady(300, false).events(3_600_000));
    let former = read(&stored(packager.snapshot()), Container::Ts).unwrap();
    let mut after = Packager::resume(hls, packager.told(), former, testing::wall_clock(0));
    assert_eq!((after.edge(), after.is_open()), (packager.edge(), true));
    assert_eq!(playlist(&after, "720p"), playlist(&packager, "720p"));
    handle(&mut after, steady(100, false).events(3_620_000));
    assert_eq!(listed(&after, "720p").iter().filter(|(_, seam, _)| *seam).count(), 1);
}

#[test]
fn renditions_that_were_cut_off_apart_are_brought_together() {
    let (packager, _) = killed();
    let mut store = stored(packager.snapshot());
    let path = "audio/index.m3u8".to_owned();
    let text = String::from_utf8(store[&path].clone().unwrap().to_vec()).unwrap();
    let last = text.rfind("#EXT-X-PROGRAM-DATE-TIME").unwrap();
    store.insert(path, Some(Bytes::from(text[..last].to_owned())));
    let after = resume(packager.told(), &store);
    assert_eq!(listed(&after, "audio")[3..], [(4, false, true), (5, false, true)]);
    assert_eq!(listed(&after, "720p")[3..], [(4, false, false), (5, false, true)]);
}

#[test]
fn what_is_no_journal_is_refused_with_its_place() {
    let (packager, _) = killed();
    let store = stored(packager.snapshot());
    assert_eq!(read(&store, Container::Ts).unwrap_err(), Unreadable::Container);
    for (path, from, to) in [
        ("index.m3u8", "720p/index.m3u8", "../x/index.m3u8"),
        ("index.m3u8", "#EXTM3U", "<html>"),
        ("audio/index.m3u8", "#EXTM3U", ""),
        ("720p/index.m3u8", "/3.m4s", "/33.m4s"),
        ("720p/index.m3u8", "/3.m4s", "/../3.m4s"),
        ("360p/index.m3u8", "#EXT-X-PROGRAM-DATE-TIME", "#X"),
        ("360p/index.m3u8", "#EXT-X-MEDIA-SEQUENCE:", "#EXT-X-MEDIA-SEQUENCE:1844674407370955161"),
        ("360p/index.m3u8", "#EXT-X-DISCONTINUITY-SEQUENCE:", "#EXT-X-DISCONTINUITY-SEQUENCE:1844674407370955161"),
        ("360p/index.m3u8", "#EXT-X-TARGETDURATION:", "#EXT-X-TARGETDURATION:429496729"),
        ("audio/index.m3u8", "#EXT-X-TARGETDURATION:", "#X"),
    ] {
        let mut store = store.clone();
        let text = String::from_utf8(store[path].clone().unwrap().to_vec()).unwrap();
        assert!(text.contains(from), "{text}");
        store.insert(path.to_owned(), Some(Bytes::from(text.replace(from, to))));
        let error = read(&store, Container::Cmaf).unwrap_err().to_string();
        assert!(error.contains(path.split('/').next().unwrap()), "{error}");
    }
}

/// The order of the ladder is not that of the multivariant playlist.
#[test]
fn a_run_brings_the_ladder_s_order_back() {
    let (packager, mut watcher) = killed();
    let mut after = resume(packager.told(), &stored(packager.snapshot()));
    watcher.restart(after.told().last);
    let mut events = steady(100, false).events(40_000);
    for event in &mut events {
        match event {
            LadderEvent::Start(start) => start.renditions.swap(0, 1),
            LadderEvent::Format(index, _) | LadderEvent::Unit { rendition: index, .. } if *index < 2 => {
                *index = 1 - *index
            }
            _ => {}
        }
    }
    feed(&mut after, &mut watcher, events);
    assert_eq!(listed(&after, "720p").last(), Some(&(7, false, false)), "no programme was cut");
    let names: Vec<_> = after.snapshot().renditions.iter().map(|rendition| rendition.name.to_string()).collect();
    let told: Vec<_> = packager.snapshot().renditions.iter().map(|rendition| rendition.name.to_string()).collect();
    assert_eq!(names, told);
    watcher.check_alignment();
}

fn time(event: &LadderEvent) -> MediaTime {
    match event {
        LadderEvent::Unit { unit, .. } => unit.dts,
        LadderEvent::Start(_) | LadderEvent::Format(..) => MediaTime::ZERO,
        LadderEvent::Gap { .. } | LadderEvent::Stop | LadderEvent::Finish => MediaTime::from_nanos(i64::MAX),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn killed_at_any_moment_every_playlist_keeps_the_rules(
        sessions in prop::collection::vec(simulate::session(), 2..6),
        kills in prop::collection::vec((0usize..6, 0.0f64..1.0), 1..4),
    ) {
        let (mut packager, mut watcher) = (Packager::new(simulate::hls()), Watcher::default());
        let mut start = 10_000;
        for (number, session) in sessions.iter().enumerate() {
            let mut events = session.events(start);
            // Encoders keep their renditions together, which is more than the packager relies on.
            events.sort_by_key(time);
            let kill = kills.iter().find(|(at, _)| *at == number).map(|(_, share)| share * events.len() as f64);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is below the length")]
            let fed = kill.map_or(events.len(), |at| at as usize);
            feed(&mut packager, &mut watcher, events.into_iter().take(fed).collect());
            start += Session::duration(session) + 1_000;
            if kill.is_some() && packager.snapshot().multivariant.is_some() {
                packager = resume(packager.told(), &stored(packager.snapshot()));
                watcher.restart(packager.told().last);
                watcher.see(packager.snapshot());
                start = start.max(packager.edge().as_millis() + 1_000);
            }
        }
        watcher.check_alignment();
    }
}
