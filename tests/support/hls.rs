//! A look at a live channel as a player sees it: playlists parsed by an independent crate, segments kept as files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use m3u8_rs::{MasterPlaylist, MediaPlaylist};

use super::server::Server;
use super::{http, wait_for};

/// The multivariant playlist, without the I-frame playlists that it names.
pub(crate) fn multivariant(server: &Server) -> Result<MasterPlaylist, String> {
    let body = http::fetch(&server.live("index.m3u8"))?;
    let mut playlist = m3u8_rs::parse_master_playlist_res(&body).map_err(|error| format!("{error:?}"))?;
    playlist.variants.retain(|variant| !variant.is_i_frame);
    Ok(playlist)
}

pub(crate) fn media(server: &Server, rendition: &str) -> Result<MediaPlaylist, String> {
    let body = http::fetch(&server.live(&format!("{rendition}/index.m3u8")))?;
    m3u8_rs::parse_media_playlist_res(&body).map_err(|error| format!("{error:?}"))
}

/// The names of all renditions: the variants in order, then the audio.
pub(crate) fn renditions(playlist: &MasterPlaylist) -> Vec<String> {
    let name = |uri: &str| uri.trim_end_matches("/index.m3u8").to_owned();
    let variants = playlist.variants.iter().map(|variant| name(&variant.uri));
    let audio = playlist.alternatives.iter().filter_map(|media| media.uri.as_deref()).map(name);
    variants.chain(audio).collect()
}

/// Waits until the channel can be played; gives its renditions.
pub(crate) fn wait_until_live(server: &Server, limit: Duration) -> Vec<String> {
    renditions(&wait_for("multivariant playlist", limit, || multivariant(server)))
}

/// The URIs of the segments that a media playlist lists.
pub(crate) fn listed(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// What a recorder that polls like a player has kept of one rendition.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// By number: the segment as it was listed, and its bytes.
    pub(crate) segments: BTreeMap<u64, (m3u8_rs::MediaSegment, Vec<u8>)>,
    /// Initialisation segments by their URI.
    pub(crate) inits: BTreeMap<String, Vec<u8>>,
    /// `EXT-X-ENDLIST` was seen.
    pub(crate) ended: bool,
}

impl Recording {
    /// Reloads the playlist and fetches what is new.
    pub(crate) fn poll(&mut self, server: &Server, rendition: &str) -> Result<(), String> {
        let playlist = media(server, rendition)?;
        self.ended = playlist.end_list;
        let mut init = None;
        for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
            init = segment.map.as_ref().map(|map| map.uri.clone()).or(init);
            if self.segments.contains_key(&number) {
                continue;
            }
            match init.clone().map(|uri| self.inits.entry(uri)) {
                Some(Entry::Vacant(new)) => {
                    let body = http::fetch(&server.live(&format!("{rendition}/{}", new.key())))?;
                    new.insert(body);
                }
                Some(Entry::Occupied(_)) => {}
                None if segment.uri.ends_with(".ts") => {}
                None => return Err("a segment without EXT-X-MAP".to_owned()),
            }
            let body = http::fetch(&server.live(&format!("{rendition}/{}", segment.uri)))?;
            self.segments.insert(number, (segment.clone(), body));
        }
        Ok(())
    }

    /// Writes the init, if it has one, and all segments of the only run one after another into a file that any tool reads.
    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        assert!(self.inits.len() <= 1, "one run");
        let mut bytes: Vec<u8> = self.inits.values().flatten().copied().collect();
        bytes.extend(self.segments.values().flat_map(|(_, body)| body.iter().copied()));
        std::fs::write(path, bytes).unwrap();
        path.to_owned()
    }
}

/// Records all renditions until each has `count` segments or has ended.
pub(crate) fn record(server: &Server, names: &[String], count: usize, limit: Duration) -> BTreeMap<String, Recording> {
    let mut recordings: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), Recording::default())).collect();
    wait_for("segments", limit, || {
        for (name, recording) in &mut recordings {
            recording.poll(server, name)?;
        }
        let short = recordings.iter().find(|(_, r)| r.segments.len() < count && !r.ended);
        short.map_or(Ok(()), |(name, r)| Err(format!("{name} has {}", r.segments.len())))
    });
    recordings
}
