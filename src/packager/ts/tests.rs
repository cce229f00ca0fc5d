//! Whole channels in transport streams: what ladder events lead to.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::readback::{self, Counters, Read};
use crate::ladder::LadderEvent;
use crate::live::{ChannelSnapshot, Msn, Segment, SessionId};
use crate::media::{AccessUnit, Container, MediaTime};
use crate::packager::fact::Fact;
use crate::packager::simulate::{self, RENDITIONS, SOUND, Session, steady};
use crate::packager::testing::{self, golden};
use crate::packager::{Packager, ts::packets::TIMESCALE};

const PICTURES: [&str; 2] = ["720p", "360p"];

/// A channel, and every segment that could ever be fetched.
struct Channel {
    packager: Packager,
    segments: BTreeMap<(String, Msn), Segment>,
    facts: Vec<Fact>,
}

impl Channel {
    fn new() -> Self {
        let packager = Packager::new(simulate::hls().packed_in(Container::Ts));
        Self { packager, segments: BTreeMap::new(), facts: Vec::new() }
    }

    fn play(events: Vec<LadderEvent>) -> Self {
        let mut channel = Self::new();
        channel.feed(events);
        channel
    }

    fn feed(&mut self, events: Vec<LadderEvent>) {
        for event in events {
            self.facts.extend(self.packager.handle(event, testing::wall_clock(0)));
            for rendition in &self.packager.snapshot().renditions {
                let segments = rendition.segments.iter().map(|s| ((rendition.name.to_string(), s.msn), (**s).clone()));
                self.segments.extend(segments);
            }
        }
    }

    fn snapshot(&self) -> &ChannelSnapshot {
        self.packager.snapshot()
    }

    fn text(&self, rendition: &str) -> String {
        let snapshot = self.snapshot().rendition(rendition).unwrap();
        String::from_utf8(snapshot.playlist.as_ref().unwrap().text.to_vec()).unwrap()
    }

    /// The segments of a rendition, by their sessions, as a player reads them; counters go on through each.
    fn read(&self, rendition: &str) -> BTreeMap<SessionId, Vec<(Segment, Read)>> {
        let mut sessions: BTreeMap<SessionId, (Counters, Vec<(Segment, Read)>)> = BTreeMap::new();
        for ((_, _), segment) in
            self.segments.iter().filter(|((name, _), segment)| name == rendition && !segment.is_gap())
        {
            let (counters, read) = sessions.entry(segment.session).or_default();
            read.push((segment.clone(), readback::read(segment.data().unwrap(), counters)));
        }
        sessions.into_iter().map(|(session, (_, read))| (session, read)).collect()
    }
}

/// So many pictures at 25 a second, and as much sound along with them.
fn in_step(frames: usize, finish: bool) -> Session {
    Session { turns: vec![0, 1, 2, 2], ..steady(frames, finish) }
}

fn ticks(time: MediaTime) -> u64 {
    u64::try_from(time.to_ticks(TIMESCALE)).unwrap()
}

/// The frames of sound of one segment, with their times.
fn sounds(read: &Read) -> Vec<(u64, Vec<u8>)> {
    let frame = |pes: &readback::Pes, index: usize, frame: &[u8]| {
        (pes.pts + u64::try_from(index).unwrap() * 1_920, frame.to_vec())
    };
    let of = |pes: &readback::Pes| -> Vec<_> {
        readback::frames(&pes.data).into_iter().enumerate().map(|(index, data)| frame(pes, index, data)).collect()
    };
    read.sounds.iter().flat_map(of).collect()
}

fn expected(units: &[(AccessUnit, Option<u64>)]) -> Vec<(u64, Vec<u8>)> {
    units.iter().map(|(unit, _)| (ticks(unit.pts), unit.data.to_vec())).collect()
}

#[test]
fn the_sound_is_in_every_rendition_and_nowhere_else() {
    let channel = Channel::play(in_step(200, true).events(10_000));
    let names: Vec<_> = channel.snapshot().renditions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, PICTURES);
    let multivariant = channel.snapshot().multivariant.as_ref().unwrap();
    let multivariant = String::from_utf8_lossy(&multivariant.text);
    assert_eq!(multivariant.matches("CODECS=\"avc1.64001f,mp4a.40.2\"").count(), 2, "{multivariant}");
    assert!(!multivariant.contains("EXT-X-MEDIA") && !multivariant.contains("I-FRAME"), "{multivariant}");
    for rendition in &channel.snapshot().renditions {
        assert!(rendition.low_latency.is_none() && rendition.i_frames.is_none() && rendition.inits.is_empty());
        assert!(rendition.segments.iter().all(|segment| segment.parts().is_empty()));
    }
    golden("channel_ts.m3u8", &channel.text("720p"));
}

#[test]
fn each_segment_has_the_sound_of_its_own_time() {
    let session = in_step(300, true);
    let channel = Channel::play(session.events(10_000));
    let units = session.units(10_000);
    for (name, units_of) in PICTURES.iter().zip(&units) {
        let read = channel.read(name).into_values().next().unwrap();
        let cuts: Vec<u64> = units_of.iter().filter(|(_, cut)| cut.is_some()).map(|(u, _)| ticks(u.pts)).collect();
        assert_eq!(read.len(), cuts.len());
        for ((_, read), (start, end)) in read.iter().zip(cuts.iter().zip(cuts.iter().skip(1).chain([&u64::MAX]))) {
            let sounds = sounds(read);
            assert!(sounds.len() > 90 && sounds.iter().all(|(at, _)| (start..end).contains(&at)), "{start} {end}");
        }
    }
}

#[test]
fn sound_that_never_comes_holds_up_no_picture() {
    let session = in_step(300, false);
    let mut events = session.events(10_000);
    events.retain(|event| !matches!(event, LadderEvent::Unit { rendition: SOUND, .. } | LadderEvent::Stop));
    let channel = Channel::play(events);
    let read = channel.read("720p").into_values().next().unwrap();
    // The last is still being made.
    assert_eq!(read.len(), 5);
    assert!(read.iter().all(|(_, read)| read.sounds.is_empty() && read.pictures.len() == 50));
}

#[test]
fn sound_from_before_a_picture_is_known_is_kept_for_it() {
    let mut events = in_step(150, true).events(10_000);
    let is_late =
        |event: &LadderEvent| matches!(event, LadderEvent::Format(1, _) | LadderEvent::Unit { rendition: 1, .. });
    let (late, mut events): (Vec<_>, Vec<_>) = events.drain(..).partition(is_late);
    let end = events.pop();
    let channel = Channel::play(events.into_iter().chain(late).chain(end).collect());
    let count = |name: &str| -> Vec<usize> {
        channel.read(name).into_values().next().unwrap().iter().map(|(_, read)| sounds(read).len()).collect()
    };
    assert_eq!(count("360p"), count("720p"));
}

#[test]
fn a_rendition_that_stops_has_gaps_and_no_sound_of_them_later() {
    let session = in_step(300, true);
    let away = MediaTime::from_millis(13_000)..MediaTime::from_millis(18_000);
    let mut events = session.events(10_000);
    events.retain(|event| !matches!(event, LadderEvent::Unit { rendition: 1, unit, .. } if away.contains(&unit.pts)));
    for number in [2, 3, 4] {
        let begins =
            |event: &LadderEvent| matches!(event, LadderEvent::Unit { rendition: 0, cut: Some(n), .. } if *n == number);
        let at = events.iter().position(begins).unwrap() + 1;
        events.insert(at, LadderEvent::Gap { rendition: 1, until: number });
    }
    let channel = Channel::play(events);
    assert_eq!(channel.text("360p").matches("#EXT-X-GAP").count(), 2);
    for (segment, read) in channel.read("360p").into_values().next().unwrap() {
        let start = ticks(segment.start);
        assert!(sounds(&read).iter().all(|(at, _)| *at >= start), "segment {}", segment.msn);
    }
}

#[test]
fn sound_that_no_transport_stream_holds_is_told_and_left_out() {
    let mut events = in_step(100, true).events(10_000);
    for event in &mut events {
        if let LadderEvent::Format(SOUND, crate::media::TrackFormat::Audio(format)) = event {
            format.sample_rate = 12_345;
        }
    }
    let channel = Channel::play(events);
    let bad = |fact: &&Fact| matches!(fact, Fact::BadFormat { rendition, .. } if rendition.as_str() == "audio");
    assert_eq!(channel.facts.iter().filter(bad).count(), 1);
    assert!(channel.read("720p").into_values().next().unwrap().iter().all(|(_, read)| read.sounds.is_empty()));
}

fn sessions() -> impl Strategy<Value = Vec<Session>> {
    prop::collection::vec(simulate::session().prop_map(|session| Session { is_small: false, ..session }), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_is_lost_or_doubled(sessions in sessions()) {
        let mut channel = Channel::new();
        let mut start = 10_000;
        let mut all = Vec::new();
        for session in &sessions {
            channel.feed(session.events(start));
            all.push(session.units(start));
            start += session.duration() + 1_000;
        }
        prop_assert_eq!(RENDITIONS[SOUND], "audio");
        for (index, name) in PICTURES.iter().enumerate() {
            let read = channel.read(name);
            prop_assert_eq!(read.len(), all.len());
            for (read, units) in read.values().zip(&all) {
                let pictures: Vec<_> = read.iter().flat_map(|(_, read)| &read.pictures)
                    .map(|pes| (pes.pts, readback::nals(&pes.data).last().unwrap().to_vec())).collect();
                let sent: Vec<_> = units[index].iter().map(|(unit, _)| (ticks(unit.pts), unit.data[4..].to_vec())).collect();
                prop_assert!(pictures == sent, "{}", name);
                prop_assert!(read.iter().all(|(_, read)| read.pictures[0].random_access));
                let heard: Vec<_> = read.iter().flat_map(|(_, read)| sounds(read)).map(|(_, data)| data).collect();
                let begins = ticks(units[index][0].0.pts);
                let sent: Vec<_> = expected(&units[SOUND]).into_iter().filter(|(at, _)| *at >= begins).collect();
                // What sounds so long after the last picture that its segment would be too long is left out.
                prop_assert!(heard.len() + 5 >= sent.len(), "{} of {}", heard.len(), sent.len());
                prop_assert!(heard.iter().zip(&sent).all(|(heard, (_, sent))| heard == sent), "{}", name);
            }
        }
        let text = channel.text("720p");
        prop_assert!(text.contains("#EXT-X-VERSION:3\n") && !text.contains("EXT-X-MAP"), "{}", text);
    }
}
