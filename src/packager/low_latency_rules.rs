//! For tests: what Low-Latency playlists have to do with the snapshot they belong to. What they keep by themselves and from
//! one to the next is looked at by [`Inspector`], which shares no code with their writer.

use super::rules::parse;
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, LowLatency, Part, RenditionSnapshot};
use crate::verify::Inspector;

/// Looks at the playlists with parts of all snapshots of a channel.
#[derive(Default)]
pub(crate) struct Checker {
    inspector: Inspector,
}

impl Checker {
    pub(crate) fn see(&mut self, now: &ChannelSnapshot) {
        if now.multivariant.is_some() {
            let texts: Vec<_> = now.renditions.iter().filter_map(|rendition| text(rendition)).collect();
            assert_eq!(self.inspector.see(&texts), []);
        }
        for rendition in &now.renditions {
            match &rendition.low_latency {
                Some(low) => check(now, rendition, low),
                None => assert!(rendition.playlist.is_none(), "parts are offered wherever there is a playlist"),
            }
        }
    }
}

fn text(rendition: &RenditionSnapshot) -> Option<(String, &[u8])> {
    let low = rendition.low_latency.as_ref()?;
    Some((Resource::Playlist(rendition.name.clone()).below_channel(), &low.full.text))
}

fn check(now: &ChannelSnapshot, rendition: &RenditionSnapshot, low: &LowLatency) {
    let text = std::str::from_utf8(&low.full.text).unwrap();
    same_segments(rendition, text);
    bytes(rendition, text);
    assert_eq!(text.contains("CAN-BLOCK-RELOAD=YES"), low.blocking);
    hint(now, rendition, text);
    delta(low, text);
}

/// The part whose URI is quoted in `attributes`.
fn part_of(rendition: &RenditionSnapshot, attributes: &str) -> (u64, u32) {
    let path = format!("live/demo/{}/{}", rendition.name, attributes.split('"').nth(1).unwrap());
    let (_, Resource::Part(_, _, msn, index)) = Resource::parse(&path).unwrap() else { panic!("{path}") };
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

/// Whatever is told can be fetched.
fn bytes(rendition: &RenditionSnapshot, text: &str) {
    for line in text.lines().filter(|line| line.starts_with("#EXT-X-PART:")) {
        let (msn, index) = part_of(rendition, line);
        let open = rendition.open.as_ref().filter(|open| open.msn.0 == msn).map(|open| &open.parts);
        let complete = rendition.segments.iter().find(|segment| segment.msn.0 == msn).map(|segment| segment.parts());
        let parts: &[Part] = open.map(Vec::as_slice).or(complete).unwrap();
        let there = &parts[usize::try_from(index).unwrap()];
        let is_gap = line.contains("GAP=YES");
        assert_eq!((there.data.is_empty(), there.gap), (is_gap, is_gap));
    }
}

/// What is hinted at is what comes next (RFC 8216bis, 4.4.5.3).
fn hint(now: &ChannelSnapshot, rendition: &RenditionSnapshot, text: &str) {
    let Some(hint) = text.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART,")) else { return };
    assert!(!now.ended);
    let open = rendition.open.as_ref().unwrap();
    assert_eq!(part_of(rendition, hint), (open.msn.0, u32::try_from(open.parts.len()).unwrap()));
}

/// 6.2.5.1: what is skipped and what is listed is the whole.
fn delta(low: &LowLatency, text: &str) {
    if let Some(delta) = &low.delta {
        skips(std::str::from_utf8(&delta.text).unwrap(), text);
    }
}

/// A delta update and the playlist that it is of.
pub(crate) fn skips(delta: &str, text: &str) {
    let skipped: usize = value(delta, "SKIPPED-SEGMENTS=").unwrap().parse().unwrap();
    let uris = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(uris(delta), uris(text)[skipped..]);
    assert_eq!(value(delta, "MEDIA-SEQUENCE:"), value(text, "MEDIA-SEQUENCE:"));
    assert_eq!(value(delta, "DISCONTINUITY-SEQUENCE:"), value(text, "DISCONTINUITY-SEQUENCE:"));
    let tail = |text: &str| text.lines().rev().take_while(|line| !line.starts_with("#EXTINF")).count();
    assert_eq!(tail(delta), tail(text));
}
