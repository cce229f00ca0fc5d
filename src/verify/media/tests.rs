//! Measuring: fragments and transport packets made by hand, and bytes of any kind.

use proptest::prelude::*;

use super::super::playlist::Segment;
use super::super::testing::{fragment, init, rules as broken};
use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn found(data: &[u8], init: Option<&Init>, counters: &mut Counters) -> (Option<Measured>, Vec<Rule>) {
    let mut findings = Findings::default();
    let measured = measure(data, init, counters, &mut findings);
    (measured, broken(findings))
}

#[test]
fn fragments_are_measured() {
    let init = Init::read(&init(true)).unwrap();
    let data = [fragment(60_000, 10, true, 7), fragment(60_500, 10, false, 7)].concat();
    let (measured, rules) = found(&data, Some(&init), &mut Counters::default());
    let expected = Measured {
        video: true,
        start: ms(60_000),
        duration: ms(1_000),
        frame: ms(50),
        samples: 20,
        starts_independent: Some(true),
        has_independent: Some(true),
    };
    assert_eq!((measured, rules), (Some(expected), vec![]));
    assert_eq!(expected.end(), ms(61_000));
    let (delta, _) = found(&fragment(0, 4, false, 7), Some(&init), &mut Counters::default());
    assert_eq!(delta.map(|m| (m.starts_independent, m.has_independent)), Some((Some(false), Some(false))));
}

#[test]
fn what_is_cut_off_is_no_segment() {
    let init = Init::read(&init(true)).unwrap();
    let data = fragment(0, 10, true, 100);
    for length in 9..data.len() {
        let (measured, rules) = found(&data[..length], Some(&init), &mut Counters::default());
        assert_eq!((measured, rules), (None, vec![Rule::MediaFormat]), "{length}");
    }
    assert_eq!(found(&data, None, &mut Counters::default()).1, [Rule::MapMissing]);
    assert_eq!(found(b"<html></html>", Some(&init), &mut Counters::default()).1, [Rule::MediaFormat]);
    assert_eq!(Init::read(&data), None);
}

#[test]
fn a_picture_may_end_within_its_fragment() {
    let init = Init::read(&init(true)).unwrap();
    let check = |data: &[u8], init: Option<&Init>| {
        let mut findings = Findings::default();
        i_frame(data, init, &mut findings);
        broken(findings)
    };
    let data = fragment(0, 10, true, 100);
    assert_eq!(check(&data[..data.len() - 50], Some(&init)), []);
    assert_eq!(check(&fragment(0, 10, false, 100), Some(&init)), [Rule::MediaKeyframe]);
    assert_eq!(check(&data[50..], Some(&init)), [], "not looked into");
    assert_eq!(check(&data[data.len() - 108..], Some(&init)), [Rule::MediaFormat], "no moof");
    assert_eq!(check(&data, None), [Rule::MapMissing]);
}

#[test]
fn a_count_of_samples_costs_nothing() {
    let init = Init::read(&init(false)).unwrap();
    let (measured, _) = found(&fragment(0, u32::MAX, true, 0), Some(&init), &mut Counters::default());
    assert_eq!(measured.unwrap().samples, u64::from(u32::MAX));
}

/// A packet that starts a unit.
fn packet(stream: u16, counter: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = stream.to_be_bytes();
    let mut packet = vec![0x47, 0x40 | high, low, 0x10 | counter & 0x0f];
    packet.extend(payload);
    packet.resize(188, 0xff);
    packet
}

fn pes(pts: u64) -> Vec<u8> {
    let low = |shift: u32| (pts >> shift).to_le_bytes()[0];
    let pts = [low(29) & 0x0e | 0x21, low(22), low(14) | 1, low(7), low(0) << 1 | 1];
    [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5], pts.as_slice()].concat()
}

/// Tables, and pictures 3000 ticks apart from `pts` on, whose counters go on from `counter`.
fn transport(pts: u64, counter: u8) -> Vec<u8> {
    let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0];
    let tables = [packet(0, counter, &pat), packet(0x1000, counter, &[0, 2, 0xb0, 18])].concat();
    let pictures = (0..60)
        .flat_map(|n: u8| packet(0x100, counter.wrapping_mul(60).wrapping_add(n), &pes(pts + u64::from(n) * 3_000)));
    tables.into_iter().chain(pictures).collect()
}

#[test]
fn transport_streams_are_measured() {
    let mut counters = Counters::default();
    let (measured, rules) = found(&transport(90_000, 0), None, &mut counters);
    let measured = measured.unwrap();
    assert_eq!((measured.start, measured.duration, measured.video, rules), (ms(1_000), ms(2_000), true, vec![]));
    assert_eq!(found(&transport(270_000, 1), None, &mut counters).1, [], "counters go on");
    assert_eq!(found(&transport(450_000, 3), None, &mut counters).1, [Rule::TsContinuity]);
    counters.reset();
    assert_eq!(found(&transport(450_000, 7), None, &mut counters).1, []);
    let wrapped = found(&transport((1 << 33) - 90_000, 0), None, &mut Counters::default()).0.unwrap();
    assert_eq!(wrapped.duration, ms(2_000), "presentation times begin again");
}

#[test]
fn faults_of_transport_streams_are_told() {
    let good = transport(90_000, 0);
    assert_eq!(found(&good[..good.len() - 1], None, &mut Counters::default()).1, [Rule::TsSync]);
    assert_eq!(found(&good[188..], None, &mut Counters::default()).1, [Rule::TsTables]);
    let late: Vec<u8> = [&good[376..], &good[..376]].concat();
    assert_eq!(found(&late, None, &mut Counters::default()).1, [Rule::TsTables]);
}

#[test]
fn a_segment_is_what_the_playlist_says() {
    let measured = Measured {
        video: true,
        start: ms(2_000),
        duration: ms(2_000),
        frame: ms(40),
        samples: 50,
        starts_independent: Some(true),
        has_independent: Some(true),
    };
    let before = Measured { start: ms(0), ..measured };
    let check = |duration: u64, found: Measured, before: Option<&Measured>, discontinuity: bool| {
        let listed = Segment { duration: ms(duration), discontinuity, ..Segment::default() };
        let mut findings = Findings::default();
        segment(&listed, &found, before, &mut findings);
        broken(findings)
    };
    assert_eq!(check(2_040, measured, Some(&before), false), [], "a frame off");
    assert_eq!(check(2_041, measured, Some(&before), false), [Rule::MediaDuration]);
    let gap = Measured { start: ms(2_021), ..measured };
    assert_eq!(check(2_000, gap, Some(&before), false), [Rule::MediaContinuity]);
    assert_eq!(check(2_000, gap, Some(&before), true), [], "as a discontinuity says");
    assert_eq!(check(2_000, gap, None, false), []);
    let dependent = Measured { starts_independent: Some(false), ..measured };
    assert_eq!(check(2_000, dependent, None, false), [Rule::MediaKeyframe]);
}

#[test]
fn rates_are_those_of_the_specification() {
    let mut rates = Rates::default();
    for (msn, bytes, duration) in [(1, 100_000, 4_000), (3, 900_000, 4_000), (2, 200_000, 4_000), (4, 500_000, 1_000)] {
        rates.add(msn, bytes, ms(duration));
    }
    // The short one counts only together with the one before it.
    assert_eq!(rates.peak(ms(4_000)), 1_400_000.0 * 8.0 / 5.0);
    assert_eq!(rates.average(), 1_700_000.0 * 8.0 / 13.0);
    rates.add(9, 5_000_000, ms(1_000));
    assert_eq!(rates.peak(ms(4_000)), 1_400_000.0 * 8.0 / 5.0, "it stands alone, and is too short");
    assert_eq!(Rates::default().average(), 0.0);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, at: usize, value: u8, start: u64, pts: u64) {
        let mut inits = vec![None, Init::read(&init(true))];
        let mut broken_init = init(true);
        let length = broken_init.len();
        broken_init[at % length] = value;
        inits.push(Init::read(&broken_init));
        let mut segment = fragment(start, 3, true, 2);
        let length = segment.len();
        segment[at % length] = value;
        let mut packets = transport(pts >> 31, 0);
        let length = packets.len();
        packets[at % length] = value;
        for init in &inits {
            for data in [&bytes, &segment, &packets] {
                let _ = found(data, init.as_ref(), &mut Counters::default());
                i_frame(data, init.as_ref(), &mut Findings::default());
            }
        }
    }
}
