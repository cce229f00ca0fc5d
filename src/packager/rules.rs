//! For tests: the rules that every snapshot keeps, alone and after the one before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use m3u8_rs::MediaPlaylist;

use super::low_latency_rules::{Checker, skips};
use super::readback::{self, Read};
use crate::ladder::RenditionKind;
use crate::layout::Resource;
use crate::live::{ChannelSnapshot, Msn, Playlist, RenditionSnapshot, Segment, SessionId};
use crate::media::MediaTime;
use crate::source::ChannelName;

/// Watches a channel's snapshots go by.
#[derive(Default)]
pub(crate) struct Watcher {
    before: Arc<ChannelSnapshot>,
    low_latency: Checker,
    /// By rendition and number: session, and every sample that was ever in a segment.
    pub(crate) seen: BTreeMap<(String, u64), (SessionId, Vec<Read>)>,
    /// By number, whether a discontinuity stands before it, as each rendition says.
    seams: BTreeMap<u64, bool>,
    /// By number, how many discontinuities come before it, the implied one of a new programme included.
    discontinuities: BTreeMap<u64, u64>,
    /// What left a rendition's playlist, and the media time until which it must be there.
    left: BTreeMap<(String, u64), MediaTime>,
    /// By rendition, the longest playlist.
    longest: BTreeMap<String, MediaTime>,
    /// By rendition, how far it has come; of one that is not offered, how far the channel has.
    edges: BTreeMap<String, MediaTime>,
    /// Up to this number segments may have lost their parts.
    restarted: Option<u64>,
}

impl Watcher {
    pub(crate) fn see(&mut self, now: &Arc<ChannelSnapshot>) {
        if Arc::ptr_eq(now, &self.before) {
            return;
        }
        for rendition in &now.renditions {
            let before = self.before.rendition(rendition.name.as_str()).cloned();
            self.rendition(now, rendition, before.as_deref());
        }
        self.low_latency.see(now);
        self.succession(now);
        self.lingering(now);
        if let Some(multivariant) = &now.multivariant {
            let (rest, parsed) = m3u8_rs::parse_master_playlist(&multivariant.text).unwrap();
            assert!(rest.is_empty());
            let audio = parsed.alternatives.iter().filter_map(|media| media.uri.as_ref());
            let (i_frames, variants): (Vec<_>, Vec<_>) = parsed.variants.iter().partition(|v| v.is_i_frame);
            for variant in i_frames {
                let name = variant.uri.strip_suffix("/iframes.m3u8").unwrap();
                let list = now.rendition(name).and_then(|r| r.i_frames.as_ref()).expect("it is there");
                let measured = i_frame_peak(&parse(&list.playlist.text));
                // Durations are told to the microsecond, and read in 32 bits.
                let most = variant.bandwidth as f64 * (1.0 + 1e-6);
                assert!(measured <= most, "{name}: {measured} of {}", variant.bandwidth);
            }
            for uri in variants.iter().map(|variant| &variant.uri).chain(audio) {
                let name = uri.strip_suffix("/index.m3u8").unwrap();
                assert!(now.rendition(name).unwrap().playlist.is_some(), "{name} is there, as the playlist says");
            }
            let sound = now.rendition("audio").map_or(0.0, |r| peak(r, now.target_duration_secs));
            for variant in variants {
                let name = variant.uri.split('/').next().unwrap();
                let declared = variant.average_bandwidth.unwrap() as f64;
                let total = |name: &str| now.rendition(name).map_or(0.0, |r| average(r));
                assert!(!now.ended || total(name) + total("audio") <= declared, "{name} of {declared}");
                let measured = sound + peak(now.rendition(name).unwrap(), now.target_duration_secs);
                // Durations are told to the microsecond, and read in 32 bits.
                let most = variant.bandwidth as f64 * (1.0 + 1e-6);
                assert!(measured <= most, "{name}: {measured} of {}", variant.bandwidth);
            }
        }
        self.before = Arc::clone(now);
    }

    /// The process is another one, which has what is listed up to `last`, without parts, and nothing else.
    pub(crate) fn restart(&mut self, last: Msn) {
        self.left.clear();
        self.longest.clear();
        self.restarted = Some(last.0);
    }

    /// What can be played goes on until its end is told, and then gives way at once to what can be played.
    fn succession(&self, now: &ChannelSnapshot) {
        assert!(now.multivariant.is_some() || self.before.multivariant.is_none(), "a channel never vanishes");
        if self.before.multivariant.is_none() || self.before.ended {
            return;
        }
        for rendition in self.before.renditions.iter().filter(|r| r.playlist.is_some()) {
            let after = now.rendition(rendition.name.as_str()).and_then(|r| r.playlist.as_ref());
            assert!(after.is_some(), "{} vanished without an end", rendition.name);
        }
    }

    /// What left a playlist is there for as long as itself and the longest playlist (RFC 8216bis, 6.2.2).
    fn lingering(&mut self, now: &ChannelSnapshot) {
        // The longest that held the segment counts: a rendition that was gone altogether begins anew.
        self.longest.retain(|name, _| self.before.rendition(name).is_some());
        for rendition in &self.before.renditions {
            let (name, after) = (rendition.name.to_string(), now.rendition(rendition.name.as_str()));
            let edge = edge(now, &name);
            let reached = self.edges.entry(name.clone()).or_insert(edge);
            *reached = edge.max(*reached);
            let all = rendition.listed().fold(MediaTime::ZERO, |sum, s| sum + s.duration);
            let longest = self.longest.entry(name.clone()).or_insert(all);
            *longest = all.max(*longest);
            let listed = |s: &Segment| after.is_some_and(|r| r.listed().any(|l| l.msn == s.msn));
            for segment in rendition.listed().filter(|s| !s.is_gap() && !listed(s)) {
                self.left.insert((name.clone(), segment.msn.0), edge + segment.duration + *longest);
            }
        }
        for ((name, number), until) in &self.left {
            let (session, _) = self.seen[&(name.clone(), *number)];
            let there = now.rendition(name).and_then(|r| r.segment(session, Msn(*number))).is_some();
            // What was read back from a playlist is rounded as that is.
            let edge = self.edges[name] + MediaTime::from_nanos(if self.restarted.is_some() { 10_000 } else { 0 });
            assert!(there || *until <= edge, "{name} {number} is gone before {until:?}, at {edge:?}");
        }
    }

    fn rendition(&mut self, now: &ChannelSnapshot, rendition: &RenditionSnapshot, before: Option<&RenditionSnapshot>) {
        for segment in rendition.segments.iter() {
            self.segment(rendition, segment);
        }
        let Some(playlist) = &rendition.playlist else { return };
        let parsed = parse(&playlist.text);
        assert_eq!(parsed.end_list, now.ended);
        assert_eq!(parsed.media_sequence, rendition.first_listed.0);
        assert_eq!(parsed.target_duration, u64::from(now.target_duration_secs));
        self.listed(rendition, &parsed);
        let previous = before.and_then(|b| b.playlist.as_ref()).map(|p| parse(&p.text));
        if let Some(previous) = previous.filter(|p| !p.end_list) {
            follows(&previous, &parsed);
        }
        self.i_frames(rendition, &parsed, before);
    }

    /// Each IDR of each listed segment is an entry, and its bytes are a fragment of that one picture.
    fn i_frames(&self, rendition: &RenditionSnapshot, of: &MediaPlaylist, before: Option<&RenditionSnapshot>) {
        let Some(list) = &rendition.i_frames else {
            return assert_eq!(rendition.kind, RenditionKind::Audio);
        };
        let parsed = parse(&list.playlist.text);
        assert_eq!(list.next, parsed.media_sequence + u64::try_from(parsed.segments.len()).unwrap());
        assert!(parsed.i_frames_only && parsed.version == Some(5));
        assert_eq!((parsed.end_list, parsed.target_duration), (of.end_list, of.target_duration));
        assert_eq!(parsed.discontinuity_sequence, of.discontinuity_sequence);
        let told = |text: &[u8]| -> Option<String> {
            let text = std::str::from_utf8(text).unwrap();
            text.lines().find(|line| line.starts_with("#EXT-X-SERVER-CONTROL")).map(str::to_owned)
        };
        assert_eq!(told(&list.playlist.text), None, "what is stored promises nothing");
        let (i_frames, parts) = (list.low_latency.as_ref(), rendition.low_latency.as_ref());
        assert_eq!(i_frames.map(|lazy| told(&lazy.text)), parts.map(|low| told(&low.full.text)));
        if let Some((delta, full)) = list.delta.as_ref().zip(list.low_latency.as_ref()) {
            let text = |playlist: &Playlist| String::from_utf8(playlist.text.to_vec()).unwrap();
            skips(&text(delta), &text(full));
        }
        let mut entries = parsed.segments.iter();
        let mut mapped = None;
        for segment in &of.segments {
            let is_gap = segment.unknown_tags.iter().any(|t| t.tag == "X-GAP");
            let number = Resource::parse(&format!("live/demo/{}/{}", rendition.name, segment.uri));
            let Some((_, Resource::Segment(_, session, msn))) = number else { panic!("{}", segment.uri) };
            let keys: Vec<&Read> =
                self.seen[&(rendition.name.to_string(), msn.0)].1.iter().filter(|sample| sample.key).collect();
            let those: Vec<_> = entries.by_ref().take(keys.len().max(usize::from(is_gap))).collect();
            assert!(those.iter().all(|entry| entry.uri == segment.uri));
            assert_eq!(those[0].discontinuity, segment.discontinuity);
            assert_eq!(those[0].program_date_time, segment.program_date_time);
            let lasts: f32 = those.iter().map(|entry| entry.duration).sum();
            assert!((lasts - segment.duration).abs() < 1e-4, "{lasts} of {}", segment.duration);
            for (entry, key) in those.iter().zip(&keys) {
                mapped = entry.map.as_ref().map(|m| m.uri.clone()).or(mapped);
                assert_eq!(mapped, Some(format!("{session}/init.mp4")));
                let range = entry.byte_range.as_ref().unwrap();
                let (start, length) = (range.offset.unwrap(), range.length);
                let bytes = usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap();
                // What is not in memory was looked at when it was.
                let Some(data) = rendition.segment(session, msn).unwrap().data() else { continue };
                let [(_, samples)] = &readback::chunks(&data.slice(bytes))[..] else { panic!("one chunk") };
                assert_eq!(&samples[..], &[(*key).clone()]);
            }
            for ((entry, key), next) in those.iter().zip(&keys).zip(keys.iter().skip(1)) {
                let apart = (shown(next, 90_000) - shown(key, 90_000)).as_secs_f64();
                assert!((f64::from(entry.duration) - apart).abs() < 1e-4, "{} of {apart}", entry.duration);
            }
        }
        assert_eq!(entries.count(), 0);
        let previous = before.and_then(|b| b.i_frames.as_ref()).map(|p| parse(&p.playlist.text));
        if let Some(previous) = previous.filter(|p| !p.end_list) {
            follows(&previous, &parsed);
        }
    }

    /// Whatever is listed can be fetched, and is as the playlist says.
    fn listed(&mut self, rendition: &RenditionSnapshot, playlist: &MediaPlaylist) {
        assert_eq!(playlist.segments.len(), rendition.listed().count());
        let mut mapped = None;
        for (listed, number) in playlist.segments.iter().zip(playlist.media_sequence..) {
            let path = format!("live/demo/{}/{}", rendition.name, listed.uri);
            let demo = ChannelName::new("demo").unwrap();
            let Some((_, Resource::Segment(_, session, msn))) = Resource::parse(&path) else { panic!("{path}") };
            assert_eq!(Resource::Segment(rendition.name.clone(), session, msn).path(&demo), path);
            assert_eq!(msn.0, number);
            let segment = rendition.listed().find(|s| s.msn == msn).unwrap();
            mapped = listed.map.as_ref().map(|m| m.uri.clone()).or(mapped);
            assert_eq!(listed.unknown_tags.iter().any(|t| t.tag == "X-GAP"), segment.is_gap());
            if !segment.is_gap() {
                rendition.segment(session, msn).expect("what is listed is there");
                rendition.init(session).expect("and what it needs");
                assert_eq!(mapped, Some(format!("{session}/init.mp4")));
            }
            assert!((f64::from(listed.duration) - segment.duration.as_secs_f64()).abs() < 1e-5);
            assert!(listed.duration.round() <= playlist.target_duration as f32);
            assert_eq!(listed.discontinuity, segment.discontinuity);
            assert!(listed.program_date_time.is_some());
        }
        let dates: Vec<_> = playlist.segments.iter().map(|s| s.program_date_time).collect();
        assert!(dates.is_sorted(), "{dates:?}");
        let first = playlist.media_sequence;
        let declared = self.discontinuities.entry(first).or_insert(playlist.discontinuity_sequence);
        assert_eq!(*declared, playlist.discontinuity_sequence, "renditions agree at {first}");
    }

    /// The same number is the same session, seam and start in every rendition, and never changes.
    fn segment(&mut self, rendition: &RenditionSnapshot, segment: &Segment) {
        let key = (rendition.name.as_str().to_owned(), segment.msn.0);
        if self.seen.contains_key(&key) {
            return;
        }
        assert_eq!(*self.seams.entry(segment.msn.0).or_insert(segment.discontinuity), segment.discontinuity);
        for other in ["720p", "360p", "audio"] {
            if let Some((session, _)) = self.seen.get(&(other.to_owned(), segment.msn.0)) {
                assert_eq!(*session, segment.session);
            }
        }
        let data = segment.data().cloned().unwrap_or_default();
        let samples: Vec<Read> = readback::chunks(&data).into_iter().flat_map(|(_, s)| s).collect();
        let joined: Vec<u8> = segment.parts().iter().flat_map(|p| p.data.to_vec()).collect();
        let restored = self.restarted.is_some_and(|last| segment.msn.0 <= last);
        assert!(joined == data || restored && joined.is_empty());
        assert!(segment.is_gap() || samples[0].key);
        self.seen.insert(key, (segment.session, samples));
    }

    /// Every segment starts at the same picture in all renditions, and its sound less than a frame later.
    pub(crate) fn check_alignment(&self) {
        for ((name, number), (_, samples)) in &self.seen {
            let picture = self.seen.get(&("720p".to_owned(), *number)).and_then(|(_, s)| s.first());
            let (Some(picture), Some(first)) = (picture, samples.first()) else { continue };
            let scale = if name == "audio" { 48_000 } else { 90_000 };
            let late = shown(first, scale) - shown(picture, 90_000);
            let frame = MediaTime::from_ticks(if name == "audio" { 1_025 } else { 0 }, 48_000);
            assert!(late >= MediaTime::ZERO && late <= frame, "{name} {number}: {late:?}");
        }
    }

    /// The samples of a rendition in a session.
    pub(crate) fn samples(&self, rendition: &str, session: SessionId) -> Vec<Read> {
        let of = self.seen.iter().filter(|((name, _), (s, _))| name == rendition && *s == session);
        of.flat_map(|(_, (_, samples))| samples.clone()).collect()
    }
}

/// How far a rendition has come; of one that is not offered, how far the channel has.
fn edge(now: &ChannelSnapshot, name: &str) -> MediaTime {
    let end = |r: &RenditionSnapshot| r.segments.back().map_or(MediaTime::ZERO, |s| s.start + s.duration);
    let newest = now.renditions.iter().map(|r| end(r)).max().unwrap_or(MediaTime::ZERO);
    now.rendition(name).filter(|r| r.playlist.is_some()).map_or(newest, |r| end(r))
}

/// The largest bit rate of any listed segment that is long enough to count.
fn peak(rendition: &RenditionSnapshot, target_secs: u32) -> f64 {
    let long_enough = |s: &&Arc<Segment>| !s.is_gap() && s.duration.as_secs_f64() >= f64::from(target_secs) / 2.0;
    let rate = |s: &Arc<Segment>| s.bytes().unwrap_or(0) as f64 * 8.0 / s.duration.as_secs_f64();
    rendition.listed().filter(long_enough).map(rate).fold(0.0, f64::max)
}

/// The bit rate of what is listed.
fn average(rendition: &RenditionSnapshot) -> f64 {
    let media = || rendition.listed().filter(|s| !s.is_gap());
    let seconds: f64 = media().map(|s| s.duration.as_secs_f64()).sum();
    media().map(|s| s.bytes().unwrap_or(0) as f64).sum::<f64>() * 8.0 / seconds.max(0.001)
}

/// The largest bit rate of any I-frame that is long enough to count.
fn i_frame_peak(list: &MediaPlaylist) -> f64 {
    let long_enough = |s: &&m3u8_rs::MediaSegment| f64::from(s.duration) >= list.target_duration as f64 / 2.0;
    let bits = |s: &m3u8_rs::MediaSegment| s.byte_range.as_ref().map_or(0.0, |range| range.length as f64 * 8.0);
    let rate = |s: &m3u8_rs::MediaSegment| bits(s) / f64::from(s.duration);
    list.segments.iter().filter(long_enough).map(rate).fold(0.0, f64::max)
}

fn shown(sample: &Read, timescale: u32) -> MediaTime {
    MediaTime::from_ticks(i64::try_from(sample.start).unwrap() + sample.offset, timescale)
}

/// A live playlist only appends, and drops from its head.
fn follows(before: &MediaPlaylist, after: &MediaPlaylist) {
    assert!(after.media_sequence >= before.media_sequence);
    let removed = usize::try_from(after.media_sequence - before.media_sequence).unwrap();
    assert_eq!(before.target_duration, after.target_duration);
    let what = |s: &m3u8_rs::MediaSegment| (s.uri.clone(), s.byte_range.clone(), s.duration.to_bits());
    let kept: Vec<_> = before.segments[removed..].iter().map(what).collect();
    assert!(after.segments.iter().map(what).zip(&kept).all(|(a, b)| a == *b));
    assert!(after.segments.len() >= kept.len());
    let seams = before.segments[..removed].iter().filter(|s| s.discontinuity).count();
    assert_eq!(after.discontinuity_sequence, before.discontinuity_sequence + u64::try_from(seams).unwrap());
    let listed: f32 = after.segments.iter().map(|s| s.duration).sum();
    assert!(removed == 0 || listed + 0.001 >= 3.0 * after.target_duration as f32, "{listed}");
}

pub(super) fn parse(text: &[u8]) -> MediaPlaylist {
    let (rest, playlist) = m3u8_rs::parse_media_playlist(text).unwrap();
    assert!(rest.is_empty());
    playlist
}
