//! For tests: what leaves memory is in the store, players are told the same as if it had stayed, and memory is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::Packager;
use super::fact::Fact;
use super::rules::{Watcher, parse};
use super::simulate::{self, Session, steady};
use super::testing;
use crate::config::HlsConfig;
use crate::ladder::{LadderEvent, RenditionName};
use crate::live::{ChannelSnapshot, Msn, RenditionSnapshot, StoredUpTo};
use crate::media::MediaTime;

const SECOND: Duration = Duration::from_secs(1);

/// Segments of 2 s: what is older than six of them may leave memory.
fn hls(memory_max: Duration) -> HlsConfig {
    HlsConfig { window: 40 * SECOND, memory: SECOND, memory_max, ..simulate::hls() }
}

/// What was uploaded, by rendition and number.
#[derive(Default)]
struct Stored(BTreeMap<(String, u64), Bytes>);

impl Stored {
    /// Stores what `snapshot` lists up to a number, and says how far the store is, as the uploader does.
    fn upload(&mut self, snapshot: &ChannelSnapshot, until: u64) -> Option<Msn> {
        let offered = || snapshot.renditions.iter().filter(|rendition| rendition.playlist.is_some());
        for rendition in offered() {
            for segment in rendition.listed().filter(|segment| segment.msn.0 <= until) {
                let key = (rendition.name.to_string(), segment.msn.0);
                self.0.extend(segment.data().map(|data| (key, data.clone())));
            }
        }
        let of = |rendition: &RenditionSnapshot| {
            let holds = |msn: Msn| self.0.contains_key(&(rendition.name.to_string(), msn.0));
            let stored = rendition.listed().take_while(|segment| segment.is_gap() || holds(segment.msn));
            stored.last().map(|segment| segment.msn)
        };
        offered().map(|rendition| of(rendition)).min().flatten()
    }

    /// Whatever is listed can be had, from memory or from here, and is what it was.
    fn check(&self, snapshot: &ChannelSnapshot, made: &BTreeMap<(String, u64), Bytes>) {
        for rendition in snapshot.renditions.iter().filter(|rendition| rendition.playlist.is_some()) {
            for segment in rendition.listed().filter(|segment| !segment.is_gap()) {
                let key = (rendition.name.to_string(), segment.msn.0);
                let there = segment.data().or_else(|| self.0.get(&key));
                assert_eq!(there, Some(&made[&key]), "{key:?}");
                assert_eq!(segment.bytes(), Some(u64::try_from(made[&key].len()).unwrap()), "{key:?}");
            }
        }
    }
}

/// All renditions are in the store up to this number.
fn everywhere(snapshot: &ChannelSnapshot, last: Msn) -> BTreeMap<RenditionName, StoredUpTo> {
    let of = |rendition: &Arc<RenditionSnapshot>| (rendition.name.clone(), StoredUpTo { last, lacks: BTreeSet::new() });
    snapshot.renditions.iter().map(of).collect()
}

/// How much of a rendition is in memory.
fn held(rendition: &RenditionSnapshot) -> MediaTime {
    let hot = rendition.segments.iter().filter(|segment| segment.data().is_some());
    hot.fold(MediaTime::ZERO, |sum, segment| sum + segment.duration)
}

/// All texts that players can get, but for how far the other renditions are: that is as old as the text.
fn texts(snapshot: &ChannelSnapshot) -> Vec<Vec<String>> {
    let mut texts: Vec<Bytes> = snapshot.multivariant.iter().map(|playlist| playlist.text.clone()).collect();
    for rendition in &snapshot.renditions {
        texts.extend(rendition.playlist.iter().map(|playlist| playlist.text.clone()));
        if let Some(low) = &rendition.low_latency {
            texts.extend([&low.full].into_iter().chain(&low.delta).map(|playlist| playlist.text.clone()));
        }
        if let Some(list) = &rendition.i_frames {
            let lazy = list.low_latency.iter().chain(&list.delta).map(|playlist| playlist.text.clone());
            texts.extend([list.playlist.text.clone()].into_iter().chain(lazy));
        }
    }
    let lasting = |text: &Bytes| -> Vec<String> {
        let lines = std::str::from_utf8(text).unwrap().lines();
        lines.filter(|line| !line.starts_with("#EXT-X-RENDITION-REPORT")).map(str::to_owned).collect()
    };
    texts.iter().map(lasting).collect()
}

fn note(made: &mut BTreeMap<(String, u64), Bytes>, snapshot: &ChannelSnapshot) {
    for rendition in &snapshot.renditions {
        for segment in rendition.segments.iter() {
            made.extend(segment.data().map(|data| ((rendition.name.to_string(), segment.msn.0), data.clone())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_players_get_does_not_depend_on_where_it_is(
        sessions in prop::collection::vec(simulate::session(), 2..6),
        progress in prop::collection::vec((1usize..400, 0u64..6), 1..20),
    ) {
        let now = testing::wall_clock(0);
        let mut packager = Packager::new(hls(3_600 * SECOND));
        let mut other = Packager::new(HlsConfig { memory: 3_600 * SECOND, ..hls(3_600 * SECOND) });
        let (mut stored, mut made, mut watcher) = (Stored::default(), BTreeMap::new(), Watcher::default());
        let mut turns = progress.iter().cycle();
        let (mut wait, mut behind) = *turns.next().unwrap();
        let mut start = 10_000;
        for session in &sessions {
            for event in session.events(start) {
                packager.handle(event.clone(), now);
                other.handle(event, now);
                watcher.see(other.snapshot());
                note(&mut made, packager.snapshot());
                wait -= 1;
                if wait == 0 {
                    let published = Arc::clone(packager.snapshot());
                    let last = published.renditions.iter().filter_map(|r| Some(r.segments.back()?.msn.0)).max();
                    if let Some(last) = stored.upload(&published, last.unwrap_or(0).saturating_sub(behind)) {
                        prop_assert_eq!(packager.stored(&everywhere(&published, last), now), vec![]);
                    }
                    (wait, behind) = *turns.next().unwrap();
                    prop_assert_eq!(texts(packager.snapshot()), texts(other.snapshot()));
                    stored.check(packager.snapshot(), &made);
                }
            }
            start += session.duration() + 1_000;
        }
        prop_assert_eq!(texts(packager.snapshot()), texts(other.snapshot()));
        stored.check(packager.snapshot(), &made);
    }
}

/// So many frames at 25 a second, and as much sound as there is picture.
fn even(frames: usize) -> Session {
    Session { turns: vec![0, 1, 2, 2], ..steady(frames, false) }
}

/// Feeds a programme whose store is as `stores` says, by the number of the newest segment.
fn play(hls: HlsConfig, session: &Session, stores: impl Fn(u64) -> bool) -> (Packager, Vec<Fact>, MediaTime) {
    let (mut packager, mut stored) = (Packager::new(hls), Stored::default());
    let (mut facts, mut most, mut seen) = (Vec::new(), MediaTime::ZERO, 0);
    for event in session.events(10_000) {
        facts.extend(packager.handle(event, testing::wall_clock(0)));
        let snapshot = Arc::clone(packager.snapshot());
        let last = |rendition: &Arc<RenditionSnapshot>| rendition.segments.back().map(|segment| segment.msn.0);
        let last = snapshot.renditions.iter().filter_map(last).min().unwrap_or(0);
        if last > seen {
            seen = last;
            if let Some(last) = stored.upload(&snapshot, last).filter(|_| stores(last)) {
                facts.extend(packager.stored(&everywhere(&snapshot, last), testing::wall_clock(0)));
            }
            most = most.max(packager.snapshot().renditions.iter().map(|rendition| held(rendition)).max().unwrap());
        }
    }
    (packager, facts, most)
}

#[test]
fn memory_holds_the_hot_end_of_a_long_window() {
    let (packager, facts, most) = play(hls(3_600 * SECOND), &even(2_000), |_| true);
    assert!(most <= MediaTime::from_millis(12_000 + 2 * 2_000), "{most:?}");
    for rendition in &packager.snapshot().renditions {
        assert!(rendition.listed().count() >= 20 && rendition.segments.len() >= 38, "and as much is listed as before");
        let hot: Vec<bool> = rendition.segments.iter().map(|segment| segment.data().is_some()).collect();
        assert!(hot.is_sorted() && hot.iter().filter(|hot| **hot).count() <= 8, "{hot:?}");
    }
    assert!(!facts.iter().any(|fact| matches!(fact, Fact::NotStored { .. })));
}

/// One rendition of which a segment never comes into the store.
#[test]
fn what_one_rendition_lacks_in_the_store_is_kept_there_alone() {
    let (mut packager, lacking) = (Packager::new(hls(30 * SECOND)), Msn(3));
    let (mut facts, mut most) = (Vec::new(), BTreeMap::<String, MediaTime>::new());
    for event in even(2_000).events(10_000) {
        facts.extend(packager.handle(event, testing::wall_clock(0)));
        let last = packager.snapshot().last().unwrap_or(Msn(0));
        let mut stored = everywhere(packager.snapshot(), last);
        stored.iter_mut().filter(|(name, _)| name.as_str() == "360p").for_each(|(_, of)| of.lacks = [lacking].into());
        facts.extend(packager.stored(&stored, testing::wall_clock(0)));
        for rendition in &packager.snapshot().renditions {
            let most = most.entry(rendition.name.to_string()).or_default();
            *most = held(rendition).max(*most);
        }
    }
    let lost: Vec<_> = facts.iter().filter(|fact| matches!(fact, Fact::NotStored { .. })).collect();
    assert!(
        matches!(lost[..], [Fact::NotStored { rendition, msn }] if rendition.as_str() == "360p" && *msn == lacking),
        "{lost:?}"
    );
    let bound = MediaTime::from_millis(12_000 + 2 * 2_000);
    assert!(
        most.values().all(|most| *most <= bound + MediaTime::from_millis(2_000)),
        "and nothing behind it: {most:?}"
    );
    let gaps: Vec<_> =
        packager.snapshot().renditions.iter().flat_map(|of| of.listed()).filter(|of| of.is_gap()).collect();
    assert!(gaps.len() <= 1, "{gaps:?}");
}

#[test]
fn an_outage_that_ends_in_time_loses_nothing() {
    // For 20 s of 30.
    let (packager, facts, most) = play(hls(30 * SECOND), &even(2_000), |last| !(15..25).contains(&last));
    assert!(!facts.iter().any(|fact| matches!(fact, Fact::NotStored { .. })));
    assert!(most >= MediaTime::from_millis(18_000) && most <= MediaTime::from_millis(34_000), "{most:?}");
    let last = &packager.snapshot().renditions[0];
    assert!(held(last) <= MediaTime::from_millis(14_000), "what was stored in the end has left");
}

#[test]
fn without_a_store_memory_is_bounded_and_what_is_lost_is_a_gap() {
    let (packager, facts, most) = play(hls(30 * SECOND), &even(2_000), |_| false);
    assert!(most <= MediaTime::from_millis(30_000 + 2 * 2_000), "{most:?}");
    let gaps = |rendition: &RenditionSnapshot| -> Vec<(u64, bool)> {
        rendition.listed().map(|segment| (segment.msn.0, segment.is_gap())).collect()
    };
    let snapshot = packager.snapshot();
    let lost = gaps(&snapshot.renditions[0]);
    let count = lost.iter().filter(|(_, gap)| *gap).count();
    assert!((4..=6).contains(&count) && lost.is_sorted_by_key(|(_, gap)| !gap), "the oldest: {lost:?}");
    for rendition in &snapshot.renditions {
        assert_eq!(gaps(rendition), lost, "the same in all");
        let text = parse(&rendition.playlist.as_ref().unwrap().text);
        let told = |segment: &m3u8_rs::MediaSegment| segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
        assert_eq!(text.segments.iter().map(told).collect::<Vec<_>>(), lost.iter().map(|l| l.1).collect::<Vec<_>>());
        if let Some(list) = &rendition.i_frames {
            let entries = parse(&list.playlist.text);
            assert_eq!(list.next, entries.media_sequence + u64::try_from(entries.segments.len()).unwrap());
            assert_eq!(entries.segments.iter().filter(|entry| told(entry)).count(), count);
        }
    }
    assert!(facts.iter().filter(|fact| matches!(fact, Fact::NotStored { .. })).count() >= 3 * count);
}

#[test]
fn what_a_programme_before_has_not_stored_leaves_memory_too() {
    let (mut packager, _, _) = play(hls(SECOND), &Session { finish: true, ..even(500) }, |_| false);
    let small = Session { is_small: true, ..steady(400, false) };
    for event in small.events(60_000) {
        packager.handle(event, testing::wall_clock(0));
    }
    let retired = packager.snapshot().rendition("360p").expect("it lingers");
    assert!(retired.playlist.is_none() && retired.segments.iter().all(|segment| segment.data().is_none()));
    assert!(retired.segments.iter().any(|segment| segment.is_cold()), "the store may have what was listed last");
}

#[test]
fn a_source_that_stands_still_does_so_whatever_is_stored() {
    let (mut packager, mut stored) = (Packager::new(hls(30 * SECOND)), Stored::default());
    let mut events = even(1_000).events(10_000);
    events.pop();
    for event in events {
        packager.handle(event, testing::wall_clock(0));
    }
    packager.stall(testing::wall_clock(0));
    let promises = |snapshot: &ChannelSnapshot| snapshot.renditions[0].low_latency.as_ref().unwrap().blocking;
    let before = Arc::clone(packager.snapshot());
    let last = stored.upload(&before, 20).unwrap();
    packager.stored(&everywhere(&before, last), testing::wall_clock(0));
    assert!(!Arc::ptr_eq(&before, packager.snapshot()), "something has left memory");
    assert!(!promises(&before) && !promises(packager.snapshot()), "and nobody waits for parts");
}

/// Two hours are listed, and two more linger; the bytes of seconds are held.
#[test]
fn a_window_of_two_hours_holds_minutes() {
    let hls = HlsConfig { window: 7_200 * SECOND, memory: 180 * SECOND, memory_max: 900 * SECOND, ..simulate::hls() };
    let session = Session { frames: vec![400; 5 * 3_600 / 2], reorder: 0, ..steady(1, false) };
    let mut packager = Packager::new(hls);
    let mut most = 0;
    for turn in 0..2i64 {
        for event in session.events(10_000 + turn * session.duration()) {
            let is_unit = matches!(event, LadderEvent::Unit { .. });
            packager.handle(event, testing::wall_clock(0));
            let last = packager.snapshot().renditions.iter().filter_map(|r| Some(r.segments.back()?.msn)).min();
            if let Some(last) = last.filter(|_| is_unit) {
                let stored = everywhere(packager.snapshot(), last);
                packager.stored(&stored, testing::wall_clock(0));
            }
        }
        let pictures = packager.snapshot().rendition("720p").unwrap();
        most = most.max(pictures.segments.iter().filter(|segment| segment.data().is_some()).count());
    }
    let pictures = packager.snapshot().rendition("720p").unwrap();
    let listed = pictures.listed().fold(MediaTime::ZERO, |sum, segment| sum + segment.duration);
    assert!(listed >= MediaTime::from_millis(7_190_000), "{listed:?}");
    assert!(most <= 92, "{most} segments of 2 s in memory");
}
