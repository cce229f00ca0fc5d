//! The sequencer over an encoder that sends its own ladder: whatever the order of arrival, nothing is lost, nothing is
//! doubled, and all tracks are cut alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::config::{EncodeProfile, LadderConfig, LongGop, MissingRungs, RenditionConfig, RenditionSource};
use crate::ladder::RenditionName;
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat, VideoCodec, VideoCoding, VideoFormat};
use crate::source::SourceEvent;
use crate::transcode::plan::Making;
use crate::transcode::sequence::{RunPlan, Sequencer, Step};
use crate::transcode::silence;
use crate::transcode::tracks::Followed;
use crate::transcode::traits::X264_640X360;

/// One picture a frame of 40 ms.
const FRAME: i64 = 40;

fn ladder(missing_rungs: MissingRungs) -> Arc<LadderConfig> {
    let rendition = |name: &str, source| RenditionConfig { name: RenditionName::new(name).unwrap(), source };
    Arc::new(LadderConfig {
        name: "test".to_owned(),
        profile: EncodeProfile::Balanced,
        long_gop: LongGop::Encode,
        missing_rungs,
        renditions: vec![
            rendition("source", RenditionSource::Passthrough { bitrate: None }),
            rendition("720p", RenditionSource::Encode { height: 720, bitrate: 2_800_000 }),
            rendition("360p", RenditionSource::Encode { height: 360, bitrate: 800_000 }),
        ],
        audio_bitrate: 128_000,
    })
}

fn sequencer() -> Sequencer {
    Sequencer::new(ladder(MissingRungs::Encode), MediaTime::from_millis(4000), None)
}

fn format(height: u32) -> VideoFormat {
    VideoFormat {
        codec: VideoCodec::H264,
        config: Bytes::from_static(X264_640X360),
        width: height * 16 / 9,
        height,
        coding: VideoCoding::PLAIN,
    }
}

/// One track: so many frames, an IDR at every `gop`th.
#[derive(Clone, Debug)]
struct Sent {
    track: u8,
    height: u32,
    gop: i64,
    frames: std::ops::Range<i64>,
    /// In milliseconds, by what its pictures' times are off and by what it arrives late.
    off: i64,
    late: i64,
}

const HEIGHTS: [u32; 3] = [1080, 720, 480];

/// In step with each other.
fn sent(track: u8, frames: i64) -> Sent {
    Sent { track, height: HEIGHTS[usize::from(track)], gop: 50, frames: 0..frames, off: 0, late: 0 }
}

impl Sent {
    fn units(&self) -> Vec<AccessUnit> {
        let unit = |n: i64| AccessUnit {
            dts: MediaTime::from_millis(n * FRAME + self.off),
            pts: MediaTime::from_millis(n * FRAME + FRAME + self.off),
            duration: MediaTime::ZERO,
            key: n % self.gop == 0,
            data: Bytes::from(format!("{} {n}", self.track)),
        };
        self.frames.clone().map(unit).collect()
    }

    fn format(&self) -> SourceEvent {
        SourceEvent::Format(Track::Video(self.track), TrackFormat::Video(format(self.height)))
    }
}

/// What arrives, by the time of arrival: formats first, then the pictures of all tracks, with sound.
fn arriving(tracks: &[Sent]) -> Vec<SourceEvent> {
    let mut events: Vec<(i64, SourceEvent)> = tracks.iter().map(|sent| (i64::MIN, sent.format())).collect();
    events.push((i64::MIN, SourceEvent::Format(Track::Audio, TrackFormat::Audio(silence::lc_format(48_000, 2)))));
    for sent in tracks {
        let arrival = |unit: &AccessUnit| unit.dts.as_millis() + sent.late;
        let units = sent.units().into_iter();
        events.extend(units.map(|unit| (arrival(&unit), SourceEvent::Unit(Track::Video(sent.track), unit))));
    }
    events.sort_by_key(|(arrival, _)| *arrival);
    events.into_iter().map(|(_, event)| event).collect()
}

/// What came out of one run.
#[derive(Debug)]
struct Run {
    plan: RunPlan,
    units: BTreeMap<u8, Vec<(AccessUnit, Option<u64>)>>,
    gaps: Vec<(u8, u64)>,
}

impl Run {
    fn data(&self, track: u8) -> Vec<Bytes> {
        self.units.get(&track).into_iter().flatten().map(|(unit, _)| unit.data.clone()).collect()
    }

    fn cuts(&self, track: u8) -> Vec<(u64, i64)> {
        let units = self.units.get(&track).into_iter().flatten();
        units.filter_map(|(unit, cut)| Some(((*cut)?, unit.pts.as_millis()))).collect()
    }

    fn names(&self) -> Vec<(&str, Making)> {
        self.plan.plan.videos.iter().map(|video| (video.name.as_str(), video.making)).collect()
    }
}

fn play(sequencer: &mut Sequencer, events: Vec<SourceEvent>) -> Vec<Run> {
    let mut steps: Vec<Step> = events.into_iter().flat_map(|event| sequencer.push(event)).collect();
    steps.extend(sequencer.finish());
    let (mut runs, mut open) = (Vec::new(), false);
    for step in steps {
        let step = match step {
            Step::Begin(plan) => {
                assert!(!std::mem::replace(&mut open, true));
                runs.push(Run { plan: *plan, units: BTreeMap::new(), gaps: Vec::new() });
                continue;
            }
            Step::End => {
                assert!(std::mem::replace(&mut open, false));
                continue;
            }
            step => step,
        };
        assert!(open);
        let run: &mut Run = runs.last_mut().unwrap();
        let reference = run.plan.source.track;
        match step {
            Step::Video(unit, cut) => run.units.entry(reference).or_default().push((unit, cut.map(|cut| cut.number))),
            Step::Follow(Followed::Unit(track, unit, cut)) => {
                assert_eq!(
                    run.gaps.iter().rfind(|gap| gap.0 == track && cut.is_some_and(|cut| cut.number < gap.1)),
                    None
                );
                run.units.entry(track).or_default().push((unit, cut.map(|cut| cut.number)));
            }
            Step::Follow(Followed::Gap(track, until)) => run.gaps.push((track, until)),
            _ => {}
        }
    }
    assert!(!open);
    runs.iter().for_each(check);
    runs
}

/// What holds for every run.
fn check(run: &Run) {
    if run.plan.plan.passed().is_none() {
        // All is encoded, and cut by the clock.
        return;
    }
    let reference = run.cuts(run.plan.source.track);
    assert!(reference.iter().zip(0..).all(|(cut, n)| cut.0 == n), "the reference's cuts have no holes");
    for (track, units) in &run.units {
        let cuts = run.cuts(*track);
        assert!(cuts.iter().all(|cut| reference.contains(cut)), "track {track}: {cuts:?} of {reference:?}");
        assert!(cuts.is_sorted() && units[0].1.is_some());
        assert!(units.iter().all(|(unit, cut)| cut.is_none() || unit.key));
        assert!(units.iter().zip(&units[1..]).all(|(a, b)| a.0.dts < b.0.dts));
    }
}

fn all(sent: &Sent) -> Vec<Bytes> {
    sent.units().into_iter().map(|unit| unit.data).collect()
}

#[test]
fn row_32_tracks_become_renditions_without_encoding() {
    let tracks = [0, 1, 2].map(|track| sent(track, 300));
    let runs = play(&mut sequencer(), arriving(&tracks));
    assert_eq!(runs.len(), 1);
    let names = runs[0].names();
    assert_eq!(&names[..3], [("source", Making::Pass(0)), ("720p", Making::Pass(1)), ("480p", Making::Pass(2))]);
    assert!(matches!(names[3], ("360p", Making::Encode(_))));
    assert_eq!(runs[0].cuts(0), [(0, 40), (1, 4040), (2, 8040)]);
    for sent in &tracks {
        assert_eq!(runs[0].data(sent.track), all(sent));
        assert_eq!(runs[0].cuts(sent.track), runs[0].cuts(0));
    }
    assert_eq!(runs[0].gaps, []);
}

#[test]
fn row_32_a_rung_may_be_left_out() {
    let tracks = [0, 1].map(|track| sent(track, 120));
    let mut sequencer = Sequencer::new(ladder(MissingRungs::LeaveOut), MediaTime::from_millis(4000), None);
    let runs = play(&mut sequencer, arriving(&tracks));
    assert_eq!(runs[0].names(), [("source", Making::Pass(0)), ("720p", Making::Pass(1))]);
    // When it comes back with one track, the other rendition stays in the programme, without media.
    let latched = sequencer.latched().cloned();
    let mut sequencer = Sequencer::new(ladder(MissingRungs::LeaveOut), MediaTime::from_millis(4000), latched.clone());
    let runs = play(&mut sequencer, arriving(&tracks[..1]));
    assert_eq!(runs[0].names(), [("source", Making::Pass(0)), ("720p", Making::Missing)]);
    let mut sequencer = Sequencer::new(ladder(MissingRungs::Encode), MediaTime::from_millis(4000), latched);
    let runs = play(&mut sequencer, arriving(&tracks[..1]));
    assert!(matches!(runs[0].names()[1], ("720p", Making::Encode(_))));
    // Where nothing would be left, all is encoded.
    for other in [Sent { height: 900, ..sent(0, 300) }, Sent { gop: 250, ..sent(0, 300) }] {
        let latched = sequencer.latched().cloned();
        let mut sequencer = Sequencer::new(ladder(MissingRungs::LeaveOut), MediaTime::from_millis(4000), latched);
        let runs = play(&mut sequencer, arriving(&[other]));
        assert!(runs[0].names().iter().all(|(_, making)| matches!(making, Making::Encode(_))), "{:?}", runs[0].names());
    }
}

#[test]
fn row_40_the_same_tracks_under_other_numbers_go_on() {
    let tracks = [0, 1].map(|track| sent(track, 120));
    let mut first = sequencer();
    play(&mut first, arriving(&tracks));
    let mut second =
        Sequencer::new(ladder(MissingRungs::Encode), MediaTime::from_millis(4000), first.latched().cloned());
    let swapped = [Sent { height: 720, ..sent(0, 120) }, Sent { height: 1080, ..sent(1, 120) }];
    let runs = play(&mut second, arriving(&swapped));
    assert_eq!(&runs[0].names()[..2], [("source", Making::Pass(1)), ("720p", Making::Pass(0))]);
    assert_eq!(runs[0].plan.source.track, 1, "the tallest is what others follow");
    assert_eq!((runs[0].data(0), runs[0].data(1)), (all(&swapped[0]), all(&swapped[1])));
}

#[test]
fn row_32_a_track_that_starts_late_waits_for_the_next_run() {
    let late = Sent { frames: 200..500, ..sent(1, 0) };
    let runs = play(&mut sequencer(), arriving_unannounced(&[sent(0, 500)], &late));
    assert_eq!(runs.len(), 1);
    assert!(matches!(runs[0].names()[..], [("source", Making::Pass(0)), ("720p", Making::Encode(_)), ..]));
    assert!(runs[0].data(1).is_empty());
    // With the next run it is there, though the programme knows it as something that is encoded.
    let mut events = arriving_unannounced(&[sent(0, 500)], &late);
    let seam =
        events.iter().position(|e| matches!(e, SourceEvent::Unit(Track::VIDEO, u) if u.dts.as_millis() == 12_000));
    events.insert(seam.unwrap(), SourceEvent::Discontinuity);
    let runs = play(&mut sequencer(), events);
    assert_eq!((runs.len(), runs[1].plan.source.further.len()), (2, 1));
    assert!(matches!(runs[1].names()[1], ("720p", Making::Encode(_))));
}

/// As [`arriving`], and a track whose format comes with its first picture.
fn arriving_unannounced(tracks: &[Sent], late: &Sent) -> Vec<SourceEvent> {
    let mut events = arriving(tracks);
    for unit in late.units().into_iter().rev() {
        let after =
            |event: &SourceEvent| matches!(event, SourceEvent::Unit(Track::VIDEO, other) if other.dts == unit.dts);
        let at = events.iter().position(after).unwrap() + 1;
        events.insert(at, SourceEvent::Unit(Track::Video(late.track), unit));
    }
    let is_late =
        |event: &SourceEvent| matches!(event, SourceEvent::Unit(track, _) if *track == Track::Video(late.track));
    let at = events.iter().position(is_late).unwrap();
    events.insert(at, late.format());
    events
}

#[test]
fn row_32_a_track_that_stops_has_gaps_in_time_and_may_return() {
    let stopped = |event: &SourceEvent| matches!(event, SourceEvent::Unit(Track::Video(1), unit) if (5_000..17_000).contains(&unit.dts.as_millis()));
    let mut events = arriving(&[sent(0, 600), sent(1, 600)]);
    events.retain(|event| !stopped(event));
    let runs = play(&mut sequencer(), events);
    assert_eq!(runs.len(), 1);
    // It is in segment 1 until 5 s, away until 17 s, and back at the cut at 20.04 s.
    assert_eq!(runs[0].cuts(1), [(0, 40), (1, 4040), (5, 20_040)]);
    assert_eq!(runs[0].gaps, [(1, 2), (1, 3), (1, 4), (1, 5)]);
}

#[test]
fn row_32_a_gap_is_told_as_soon_as_it_is_known() {
    let mut sequencer = sequencer();
    let mut told = Vec::new();
    for event in arriving(&[sent(0, 400), Sent { frames: 0..110, ..sent(1, 0) }]) {
        let now = match &event {
            SourceEvent::Unit(Track::VIDEO, unit) => unit.dts.as_millis(),
            _ => 0,
        };
        let gaps = sequencer.push(event).into_iter().filter_map(|step| match step {
            Step::Follow(Followed::Gap(_, until)) => Some(until),
            _ => None,
        });
        told.extend(gaps.map(|until| (until, now)));
    }
    // Segment 1 is closed when the picture of the cut at 8.04 s is 3 s late; segment 2 is a gap once segment 3 has begun and
    // the track is as late for that.
    assert_eq!(told, [(2, 11_040), (3, 12_000)]);
}

#[test]
fn row_32_misaligned_tracks_are_encoded_instead_or_left_out() {
    let odd = |track| Sent { gop: 45, ..sent(track, 300) };
    let runs = play(&mut sequencer(), arriving(&[sent(0, 300), odd(1), odd(2)]));
    assert!(matches!(
        runs[0].names()[..],
        [("source", Making::Pass(0)), ("720p", Making::Encode(_)), ("360p", Making::Encode(_))]
    ));
    assert_eq!(runs[0].plan.source.further.iter().filter_map(|further| further.fault()).count(), 2);
}

#[test]
fn row_32_idrs_that_drift_apart_leave_gaps_until_they_meet() {
    // The second track has its third IDR a second late, and later ones where they belong.
    let mut events = arriving(&[sent(0, 600), sent(1, 600)]);
    for event in &mut events {
        if let SourceEvent::Unit(Track::Video(1), unit) = event {
            unit.key = match unit.dts.as_millis() / FRAME {
                200 => false,
                225 => true,
                _ => unit.key,
            };
        }
    }
    let runs = play(&mut sequencer(), events);
    assert_eq!(runs[0].cuts(1), [(0, 40), (1, 4040), (3, 12_040), (4, 16_040), (5, 20_040)]);
    assert_eq!(runs[0].gaps, [(1, 2), (1, 3)]);
    assert_eq!(runs[0].data(1).len(), 500, "what is shown in the gap cannot be decoded from its cut");
}

#[test]
fn a_reference_that_vanishes_gives_way_to_the_next() {
    let runs = play(&mut sequencer(), arriving(&[sent(0, 300), sent(1, 900)]));
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].plan.source.track, runs[1].plan.source.track), (0, 1));
    assert!(matches!(runs[1].names()[..2], [("source", Making::Encode(_)), ("720p", Making::Pass(1))]));
    let shown: Vec<Bytes> = runs.iter().flat_map(|run| run.data(1)).collect();
    assert_eq!(shown, all(&sent(1, 900)), "the other loses nothing");
}

#[test]
fn a_reference_that_vanishes_gives_way_to_one_that_was_not_passed_on() {
    let odd = Sent { gop: 45, ..sent(1, 900) };
    let runs = play(&mut sequencer(), arriving(&[sent(0, 300), odd]));
    assert_eq!(runs.iter().map(|run| run.plan.source.track).collect::<Vec<_>>(), [0, 1]);
    assert!(runs[1].names().iter().all(|(_, making)| matches!(making, Making::Encode(_))), "as the programme began");
    assert!(runs[1].data(1).len() > 500);
}

#[test]
fn tracks_may_be_numbered_from_one() {
    let tracks = [1, 2].map(|track| sent(track, 300));
    let runs = play(&mut sequencer(), arriving(&tracks));
    assert_eq!(&runs[0].names()[..2], [("source", Making::Pass(1)), ("480p", Making::Pass(2))]);
    assert_eq!((runs.len(), runs[0].data(1), runs[0].data(2)), (1, all(&tracks[0]), all(&tracks[1])));
}

#[test]
fn row_32_tracks_of_several_codecs_become_renditions_side_by_side() {
    let tracks = [0, 1].map(|track| sent(track, 120));
    let mut events = arriving(&tracks);
    for event in &mut events {
        if let SourceEvent::Format(Track::Video(1), TrackFormat::Video(format)) = event {
            // Main, level 3.1, as an `hvcC` begins.
            let config = [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];
            (format.codec, format.config) = (VideoCodec::Hevc, Bytes::copy_from_slice(&config));
        }
    }
    let mut first = sequencer();
    let runs = play(&mut first, events);
    assert_eq!(&runs[0].names()[..2], [("source", Making::Pass(0)), ("720p", Making::Pass(1))]);
    assert_eq!(runs[0].plan.further[0].1.codec, VideoCodec::Hevc);
    // When it comes back in H.264, what was HEVC is encoded.
    let latched = first.latched().cloned();
    let mut second = Sequencer::new(ladder(MissingRungs::Encode), MediaTime::from_millis(4000), latched);
    let runs = play(&mut second, arriving(&tracks));
    assert!(matches!(runs[0].names()[..2], [("source", Making::Pass(0)), ("720p", Making::Encode(_))]));
}

#[test]
fn row_12_a_jump_while_the_source_is_looked_at_does_not_cost_the_passthrough() {
    let tracks = [0, 1].map(|track| sent(track, 300));
    for jump in [40, 1_000, 1_960] {
        let mut events = arriving(&tracks);
        let behind = |e: &SourceEvent| matches!(e, SourceEvent::Unit(Track::VIDEO, u) if u.dts.as_millis() == jump);
        let at = events.iter().position(behind).unwrap();
        events.insert(at, SourceEvent::Discontinuity);
        let runs = play(&mut sequencer(), events);
        assert_eq!(runs.len(), 2);
        for run in &runs {
            assert_eq!(&run.names()[..2], [("source", Making::Pass(0)), ("720p", Making::Pass(1))]);
        }
        assert_eq!(runs.iter().flat_map(|run| run.data(0)).collect::<Vec<_>>(), all(&tracks[0]));
    }
}

#[test]
fn row_12_a_jump_just_before_the_look_is_over_is_a_seam_all_the_same() {
    let long = Sent { gop: 150, ..sent(0, 450) };
    let mut events = arriving(&[long]);
    let behind = |e: &SourceEvent| matches!(e, SourceEvent::Unit(Track::VIDEO, u) if u.dts.as_millis() == 4_200);
    let at = events.iter().position(behind).unwrap();
    events.insert(at, SourceEvent::Discontinuity);
    let runs = play(&mut sequencer(), events);
    assert_eq!(runs.iter().map(|run| run.plan.start.as_millis()).collect::<Vec<_>>(), [40, 6_040]);
}

#[test]
fn row_24_a_source_that_settles_is_planned_by_what_it_settled_on() {
    let [before, after] =
        [(480, 0..25), (1080, 25..300)].map(|(height, frames)| Sent { height, frames, gop: 25, ..sent(0, 0) });
    let formats = |sent: &Sent| arriving(std::slice::from_ref(sent));
    let events: Vec<SourceEvent> = formats(&before).into_iter().chain(formats(&after)).collect();
    let runs = play(&mut sequencer(), events.clone());
    assert_eq!(runs.len(), 1);
    assert_eq!(&runs[0].names()[..2], [("source", Making::Pass(0)), ("720p", runs[0].names()[1].1)]);
    assert_eq!(runs[0].data(0), all(&after));
    // Of several tracks, each of which tells its new format with its own first picture.
    let tracks = [0, 1, 2].map(|track| Sent { frames: 25..300, gop: 25, ..sent(track, 0) });
    let before = tracks.each_ref().map(|sent| Sent { height: sent.height / 2, frames: 0..25, ..sent.clone() });
    let mut several = arriving(&before);
    for event in arriving(&tracks).into_iter().filter(|event| matches!(event, SourceEvent::Unit(..))) {
        let first = tracks.iter().find(|sent| matches!(&event, SourceEvent::Unit(track, unit) if *track == Track::Video(sent.track) && unit.dts.as_millis() == 1_000));
        several.extend(first.map(Sent::format));
        several.push(event);
    }
    let runs = play(&mut sequencer(), several);
    assert_eq!(runs.len(), 1);
    assert!(tracks.iter().all(|sent| runs[0].data(sent.track) == all(sent)));
    // One that never settles is shown all the same.
    let restless: Vec<SourceEvent> = (0..12)
        .flat_map(|n| {
            let sent = Sent {
                height: if n % 2 == 0 { 480 } else { 1080 },
                frames: n * 25..n * 25 + 25,
                gop: 25,
                ..sent(0, 0)
            };
            arriving(&[sent])
        })
        .collect();
    let runs = play(&mut sequencer(), restless);
    assert_eq!(runs.iter().map(|run| run.data(0).len()).sum::<usize>(), 9 * 25);
    // And what the programme knows is never let go.
    let mut first = sequencer();
    play(&mut first, arriving(&[sent(0, 120)]));
    let mut second =
        Sequencer::new(ladder(MissingRungs::Encode), MediaTime::from_millis(4000), first.latched().cloned());
    assert_eq!(play(&mut second, events).iter().map(|run| run.data(0).len()).sum::<usize>(), 300);
}

#[test]
fn row_12_a_jump_of_the_clock_is_one_seam_in_all_tracks() {
    let tracks = [0, 1, 2].map(|track| Sent { late: i64::from(track) * 700, ..sent(track, 600) });
    let mut events = arriving(&tracks);
    let at = events.iter().position(|e| matches!(e, SourceEvent::Unit(Track::VIDEO, u) if u.dts.as_millis() == 11_600));
    events.insert(at.unwrap(), SourceEvent::Discontinuity);
    let runs = play(&mut sequencer(), events);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1].plan.start.as_millis(), 12_040, "at the next IDR");
    for sent in &tracks {
        let both: Vec<Bytes> = runs.iter().flat_map(|run| run.data(sent.track)).collect();
        assert_eq!(both, all(sent), "track {}", sent.track);
        assert_eq!(runs[1].cuts(sent.track)[0], (0, 12_040));
    }
    assert_eq!(runs[0].names(), runs[1].names());
}

#[test]
fn row_24_a_new_format_of_every_track_is_one_seam() {
    let tracks = [0, 1].map(|track| Sent { late: i64::from(track) * 300, ..sent(track, 300) });
    let after = [(0, 900), (1, 600)].map(|(track, height)| {
        let late = i64::from(track) * 300;
        Sent { height, frames: 300..600, late, ..sent(track, 0) }
    });
    let mut events = arriving(&tracks);
    let formats = after.each_ref().map(Sent::format);
    // Each track's format comes before its own first picture of that format, not at once.
    let mut later: Vec<SourceEvent> =
        arriving(&after).into_iter().filter(|e| matches!(e, SourceEvent::Unit(..))).collect();
    for (sent, format) in after.iter().zip(formats) {
        let first = |e: &SourceEvent| matches!(e, SourceEvent::Unit(track, _) if *track == Track::Video(sent.track));
        let at = later.iter().position(first).unwrap();
        later.insert(at, format);
    }
    // The tail of the slower track arrives among the first of the new.
    let tail = events.split_off(events.len() - 7);
    let mut rest = later.split_off(8);
    events.append(&mut later);
    events.extend(tail);
    events.append(&mut rest);
    let runs = play(&mut sequencer(), events);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1].plan.start.as_millis(), 12_040);
    for (before, after) in tracks.iter().zip(&after) {
        assert_eq!(runs[0].data(before.track), all(before));
        assert!(matches!(runs[1].names()[usize::from(after.track)].1, Making::Encode(_)), "renditions keep their size");
    }
}

#[test]
fn row_19_a_frame_rate_that_varies_is_no_change() {
    let mut events = arriving(&[sent(0, 600)]);
    // After 12 s only every fourth picture comes, but for the IDRs.
    events.retain(|event| match event {
        SourceEvent::Unit(Track::VIDEO, unit) => {
            let n = unit.dts.as_millis() / FRAME;
            n < 300 || n % 50 == 0 || n % 4 == 0
        }
        _ => true,
    });
    let runs = play(&mut sequencer(), events);
    assert_eq!(runs.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn row_32_nothing_is_lost_or_doubled_whatever_the_skew(
        late in prop::collection::vec(0i64..2_000, 3), off in prop::collection::vec(-1i64..2, 2), gop in 20i64..100,
        seam in prop::option::of(8_000i64..24_000)
    ) {
        let tracks = [0u8, 1, 2].map(|track| {
            let off = usize::from(track).checked_sub(1).map_or(0, |at| off[at]);
            Sent { late: late[usize::from(track)], off, gop, ..sent(track, 1000) }
        });
        let mut events = arriving(&tracks);
        let reached = |e: &SourceEvent| matches!((e, seam), (SourceEvent::Unit(Track::VIDEO, u), Some(at)) if u.dts.as_millis() >= at);
        if let Some(at) = events.iter().position(reached) {
            events.insert(at, SourceEvent::Discontinuity);
        }
        let runs = play(&mut sequencer(), events);
        prop_assert_eq!(runs.len(), 1 + usize::from(seam.is_some()));
        for sent in &tracks {
            let shown: Vec<Bytes> = runs.iter().flat_map(|run| run.data(sent.track)).collect();
            prop_assert!(shown == all(sent), "track {}: {} in {} runs", sent.track, shown.len(), runs.len());
        }
        for run in &runs {
            prop_assert_eq!(&run.gaps, &[]);
            prop_assert!(run.cuts(1) == run.cuts(0) && run.cuts(2) == run.cuts(0));
        }
    }

    #[test]
    fn row_32_any_order_of_arrival_is_cut_alike(
        tracks in prop::collection::vec((0i64..9_000, -60i64..60, 1i64..120, 0i64..300, 300i64..700), 1..5), heights in prop::collection::vec(1u32..4, 5)
    ) {
        let tracks: Vec<Sent> = tracks.into_iter().zip(0u8..).map(|((late, off, gop, from, to), track)| {
            Sent { track, height: 360 * heights[usize::from(track)], gop, frames: from..to, off, late }
        }).collect();
        play(&mut sequencer(), arriving(&tracks));
    }
}
