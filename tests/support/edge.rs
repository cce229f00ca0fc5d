//! A player at the live edge of one rendition: it reloads by blocking requests and fetches what is hinted at.

use std::collections::{BTreeMap, BTreeSet};

use super::http::{self, Response};
use super::server::Server;

/// Segment and part.
pub(crate) type Place = (u64, usize);

/// What a Low-Latency playlist says, as far as tests look at it. Read here by hand, for no crate reads these tags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Playlist {
    pub(crate) text: String,
    /// By segment, the URIs of its parts, in order.
    pub(crate) parts: BTreeMap<u64, Vec<String>>,
    /// Parts and segments that cannot be fetched: a source on a busy machine held up, or a server was killed before it had stored them.
    pub(crate) gaps: BTreeSet<String>,
    /// By segment, its URI.
    pub(crate) segments: BTreeMap<u64, String>,
    /// What is hinted at.
    pub(crate) hint: Option<String>,
}

impl Playlist {
    pub(crate) fn read(text: &str) -> Self {
        let mut playlist = Self { text: text.to_owned(), ..Self::default() };
        let mut is_gap = false;
        for line in text.lines() {
            let quoted = || line.split('"').nth(1).unwrap().to_owned();
            if line.starts_with("#EXT-X-PART:") {
                let uri = quoted();
                if line.contains("GAP=YES") {
                    playlist.gaps.insert(uri.clone());
                }
                playlist.parts.entry(place(&uri).0).or_default().push(uri);
            } else if line.starts_with("#EXT-X-PRELOAD-HINT:") {
                playlist.hint = Some(quoted());
            } else if line == "#EXT-X-GAP" {
                is_gap = true;
            } else if !line.starts_with('#') {
                if std::mem::take(&mut is_gap) {
                    playlist.gaps.insert(line.to_owned());
                }
                let number = line.rsplit('/').next().unwrap().trim_end_matches(".m4s").parse().unwrap();
                playlist.segments.insert(number, line.to_owned());
            }
        }
        playlist
    }

    /// The last part.
    pub(crate) fn last(&self) -> Option<Place> {
        let (msn, parts) = self.parts.iter().next_back()?;
        Some((*msn, parts.len() - 1))
    }
}

/// `SESSION/MSN.PART.m4s`
pub(crate) fn place(uri: &str) -> Place {
    let mut name = uri.rsplit('/').next().unwrap().split('.');
    let mut number = || name.next().unwrap().parse::<usize>().unwrap();
    (number() as u64, number())
}

/// A rendition of the channel that is tested.
pub(crate) struct Edge<'s> {
    pub(crate) server: &'s Server,
    pub(crate) rendition: &'static str,
}

impl Edge<'_> {
    pub(crate) fn url(&self, file: &str) -> String {
        self.server.live(&format!("{}/{file}", self.rendition))
    }

    /// Asks for the playlist, with these directives.
    pub(crate) fn ask(&self, query: &str) -> Response {
        http::get(&self.url(&format!("index.m3u8{query}"))).unwrap()
    }

    /// The playlist that holds this place, once it does.
    pub(crate) fn wait_for(&self, (msn, part): Place) -> Result<Playlist, String> {
        let response = self.ask(&format!("?_HLS_msn={msn}&_HLS_part={part}"));
        if response.status == 200 { Ok(Playlist::read(&response.text())) } else { Err(response.text()) }
    }
}
