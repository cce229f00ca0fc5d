//! For tests: the rules that every Low-Latency playlist keeps (RFC 8216bis), read back line by line.

use std::collections::BTreeMap;

use super::rules::parse;
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, LowLatency, Part, RenditionSnapshot};
use crate::source::ChannelName;

/// A part as it is told.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    msn: u64,
    index: u32,
    seconds: f64,
    independent: bool,
    gap: bool,
}

/// Checks the playlists of `rendition`, and that they follow those of the snapshot before.
pub(crate) fn check(now: &ChannelSnapshot, rendition: &RenditionSnapshot, before: Option<&RenditionSnapshot>) {
    let Some(low) = &rendition.low_latency else {
        assert!(rendition.playlist.is_none(), "parts are offered wherever there is a playlist");
        return;
    };
    let text = std::str::from_utf8(&low.full.text).unwrap();
    let told = told(rendition, text);
    let seconds: BTreeMap<u64, f64> = rendition.listed().map(|s| (s.msn.0, s.duration.as_secs_f64())).collect();
    same_segments(rendition, text);
    durations(now, low, &told, &seconds);
    bytes(rendition, &told);
    control(now, low, text);
    edge(now, rendition, text);
    delta(low, text);
    let earlier = before.and_then(|before| Some((before, before.low_latency.as_ref()?)));
    if let Some((before, earlier)) = earlier.filter(|(before, _)| before.first_listed <= rendition.first_listed) {
        only_appends(&self::told(before, std::str::from_utf8(&earlier.full.text).unwrap()), &told);
    }
}

fn told(rendition: &RenditionSnapshot, text: &str) -> Vec<Told> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-PART:DURATION="));
    lines
        .map(|line| {
            let (seconds, rest) = line.split_once(',').unwrap();
            let (msn, index) = part_of(rendition, rest);
            let has = |flag: &str| rest.contains(flag);
            Told {
                msn,
                index,
                seconds: seconds.parse().unwrap(),
                independent: has("INDEPENDENT=YES"),
                gap: has("GAP=YES"),
            }
        })
        .collect()
}

/// The part whose URI is quoted in `attributes`.
fn part_of(rendition: &RenditionSnapshot, attributes: &str) -> (u64, u32) {
    let path = format!("live/demo/{}/{}", rendition.name, attributes.split('"').nth(1).unwrap());
    let (_, Resource::Part(_, _, msn, index)) = Resource::parse(&path).unwrap() else { panic!("{path}") };
    assert_eq!(path.split('/').nth(1), Some(ChannelName::new("demo").unwrap().as_str()));
    (msn.0, index)
}

fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split_once(name)?.1.split([',', '\n']).next()
}

/// The whole segments are those of the playlist without parts.
fn same_segments(rendition: &RenditionSnapshot, text: &str) {
    let plain = parse(&rendition.playlist.as_ref().unwrap().text);
    let full = parse(text.as_bytes());
    let listed = |playlist: &m3u8_rs::MediaPlaylist| -> Vec<_> {
        playlist.segments.iter().map(|s| (s.uri.clone(), s.discontinuity, s.program_date_time, s.map.clone())).collect()
    };
    assert_eq!(listed(&plain), listed(&full));
    assert_eq!(plain.media_sequence, full.media_sequence);
    assert_eq!(plain.discontinuity_sequence, full.discontinuity_sequence);
    assert_eq!(plain.end_list, full.end_list);
}

/// 4.4.4.9: no part is longer than the target, and shorter than 85 % only for a reason; 6.2.2: only near the end. The parts of
/// a segment add up to it.
fn durations(now: &ChannelSnapshot, low: &LowLatency, told: &[Told], segments: &BTreeMap<u64, f64>) {
    let target = low.part_target.as_secs_f64();
    for (part, next) in told.iter().zip(told.iter().skip(1).map(Some).chain([None])) {
        assert!(part.seconds <= target + 1e-6, "{part:?} of {target}");
        let is_last = next.is_none_or(|next| next.msn > part.msn) && (segments.contains_key(&part.msn) || now.ended);
        let excused = part.independent || part.gap || is_last || next.is_some_and(|next| next.gap);
        // The source may have gone in the middle of it.
        let stopped = next.is_none() && !low.blocking;
        assert!(excused || stopped || part.seconds >= 0.85 * target, "{part:?} of {target}");
    }
    for (msn, seconds) in segments {
        let of: Vec<_> = told.iter().filter(|part| part.msn == *msn).collect();
        let sum: f64 = of.iter().map(|part| part.seconds).sum();
        assert!(of.is_empty() || (sum - seconds).abs() < 1e-4, "{msn}: {sum} of {seconds}");
    }
    let span: f64 = told.iter().map(|part| part.seconds).sum();
    assert!(
        span <= 3.0 * f64::from(now.target_duration_secs) + f64::from(now.target_duration_secs),
        "{span} s of parts"
    );
}

/// Whatever is told can be fetched.
fn bytes(rendition: &RenditionSnapshot, told: &[Told]) {
    for part in told {
        let open = rendition.open.as_ref().filter(|open| open.msn.0 == part.msn).map(|open| &open.parts);
        let complete = rendition.segments.iter().find(|s| s.msn.0 == part.msn).map(|s| &s.parts);
        let parts: &Vec<Part> = open.or(complete).unwrap();
        let there = &parts[usize::try_from(part.index).unwrap()];
        assert_eq!((there.data.is_empty(), there.gap), (part.gap, part.gap));
    }
}

/// 4.4.3.7 and 4.4.3.8; and 6.2.4: all renditions say the same.
fn control(now: &ChannelSnapshot, low: &LowLatency, text: &str) {
    let number = |name| value(text, name).unwrap().parse::<f64>().unwrap();
    let target_secs = f64::from(now.target_duration_secs);
    assert!(number("CAN-SKIP-UNTIL=") >= 6.0 * target_secs);
    assert!(number(",HOLD-BACK=") >= 3.0 * target_secs);
    assert!(number("PART-HOLD-BACK=") >= 3.0 * number("PART-TARGET=") - 1e-6);
    assert_eq!(text.contains("CAN-BLOCK-RELOAD=YES"), low.blocking);
    let line = |text: &[u8]| value(std::str::from_utf8(text).unwrap(), "SERVER-CONTROL:").map(str::to_owned);
    for other in now.renditions.iter().filter_map(|other| other.low_latency.as_ref()) {
        assert_eq!(line(&other.full.text), line(text.as_bytes()));
    }
}

/// 4.4.5.3: one hint at most, at a part that is not there yet; 4.4.5.4: a report of each other rendition.
fn edge(now: &ChannelSnapshot, rendition: &RenditionSnapshot, text: &str) {
    let hints: Vec<_> = text.lines().filter(|line| line.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART,")).collect();
    assert!(hints.len() <= usize::from(!now.ended));
    if let Some(hint) = hints.first() {
        let (msn, index) = part_of(rendition, hint);
        let open = rendition.open.as_ref().unwrap();
        assert_eq!((msn, index), (open.msn.0, u32::try_from(open.parts.len()).unwrap()));
    }
    let reports: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("#EXT-X-RENDITION-REPORT:URI=\"../")).collect();
    let others = now.renditions.iter().filter(|other| other.playlist.is_some() && other.name != rendition.name);
    if now.ended {
        return assert!(reports.is_empty());
    }
    for other in others {
        let Some(report) = reports.iter().find(|line| line.starts_with(&format!("{}/index.m3u8\"", other.name))) else {
            // It had no playlist when this one was made.
            continue;
        };
        let last: u64 = value(report, "LAST-MSN=").unwrap().parse().unwrap();
        let newest = other.open.as_ref().map_or(0, |open| open.msn.0).max(other.segments.back().unwrap().msn.0);
        assert!(last <= newest, "{report}: {newest}");
    }
    assert!(reports.len() < now.renditions.len().max(1));
}

/// 6.2.5.1: what is skipped and what is listed is the whole.
fn delta(low: &LowLatency, text: &str) {
    let Some(delta) = &low.delta else { return };
    let delta = std::str::from_utf8(&delta.text).unwrap();
    let skipped: usize = value(delta, "SKIPPED-SEGMENTS=").unwrap().parse().unwrap();
    let uris = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(uris(delta), uris(text)[skipped..]);
    assert_eq!(value(delta, "MEDIA-SEQUENCE:"), value(text, "MEDIA-SEQUENCE:"));
    assert_eq!(value(delta, "DISCONTINUITY-SEQUENCE:"), value(text, "DISCONTINUITY-SEQUENCE:"));
    let tail = |text: &str| text.lines().rev().take_while(|line| !line.starts_with("#EXTINF")).count();
    assert_eq!(tail(delta), tail(text));
}

/// 6.2.1: parts are only added, and taken from the head.
fn only_appends(before: &[Told], now: &[Told]) {
    let Some(first) = now.first() else { return };
    let kept: Vec<_> = before.iter().filter(|part| part.msn >= first.msn).collect();
    assert!(kept.iter().zip(now).all(|(one, other)| **one == *other), "{kept:?} and then {now:?}");
}
