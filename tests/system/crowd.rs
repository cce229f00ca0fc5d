//! Players in numbers, without pictures: each asks as a player does, and what all of them asked for is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

use crate::support::edge::{Place, Playlist, place};
use crate::support::http;
use crate::support::server::Server;

/// How long they watch.
pub(crate) const WATCHED: Duration = Duration::from_secs(10);

/// How often the origin answered a request for such a resource, with whatever status.
pub(crate) fn answered(server: &Server, resource: &str) -> u64 {
    let text = http::get(&format!("{}/metrics", server.admin)).unwrap().text();
    let label = format!("headwater_origin_responses_total{{resource=\"{resource}\"");
    let counts = text.lines().filter(|line| line.starts_with(&label)).filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

/// What players asked for.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    /// URLs of playlists with directives.
    pub(crate) playlists: BTreeSet<String>,
    pub(crate) media: BTreeSet<String>,
    /// By place that was waited for, when each player had it.
    answers: BTreeMap<Place, Vec<Instant>>,
}

impl Tally {
    /// How much later than the first the others were answered.
    pub(crate) fn spread(&self) -> String {
        let late =
            |times: &Vec<Instant>| times.iter().map(|time| *time - *times.iter().min().unwrap()).collect::<Vec<_>>();
        let mut late: Vec<Duration> = self.answers.values().flat_map(late).collect();
        late.sort();
        let at = |share: usize| late.get(late.len() * share / 100).copied().unwrap_or_default();
        format!("p50 {:?}, p99 {:?} of {}", at(50), at(99), late.len())
    }
}

/// One of a crowd.
#[derive(Clone)]
pub(crate) struct Player {
    base: String,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Empty<Bytes>>,
    tally: Arc<Mutex<Tally>>,
}

impl Player {
    async fn get(&self, path: &str) -> (u16, Bytes) {
        self.tally.lock().unwrap().requests += 1;
        let url: hyper::Uri = format!("{}{path}", self.base).parse().unwrap();
        let response = self.client.get(url).await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn fetch(&self, path: &str) -> String {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        String::from_utf8_lossy(&body).into_owned()
    }

    /// Fetches what it does not have yet.
    async fn fetch_media(&self, had: &mut BTreeSet<String>, uri: &str) {
        if had.insert(uri.to_owned()) {
            self.tally.lock().unwrap().media.insert(uri.to_owned());
            assert_eq!(self.get(uri).await.0, 200, "{uri}");
        }
    }
}

/// So many players watch the rendition at `base` for [`WATCHED`], each with connections of its own.
pub(crate) fn crowd<F: Future<Output = ()> + Send + 'static>(
    base: &str,
    players: usize,
    watch: impl Fn(Player) -> F,
) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tally = Arc::<Mutex<Tally>>::default();
    runtime.block_on(async {
        let mut watching = JoinSet::new();
        for _ in 0..players {
            let client = Client::builder(TokioExecutor::new()).build_http();
            watching.spawn(watch(Player { base: base.to_owned(), client, tally: Arc::clone(&tally) }));
        }
        while let Some(ended) = watching.join_next().await {
            ended.unwrap();
        }
    });
    std::mem::take(&mut tally.lock().unwrap())
}

/// Watches plain HLS: reloads each second, and fetches the segments that are new.
#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub(crate) async fn poll(player: Player) {
    let (begun, mut had) = (Instant::now(), BTreeSet::new());
    while begun.elapsed() < WATCHED {
        let playlist = Playlist::read(&player.fetch("index.m3u8").await);
        for uri in playlist.segments.values() {
            player.fetch_media(&mut had, uri).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Watches at the edge: waits for the playlist that holds the next part, and fetches the parts that are new.
#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub(crate) async fn follow(player: Player) {
    let (begun, mut had) = (Instant::now(), BTreeSet::new());
    let mut playlist = Playlist::read(&player.fetch("index.m3u8").await);
    while begun.elapsed() < WATCHED {
        let next = place(&playlist.hint.expect("a source that sends is waited for"));
        let url = format!("index.m3u8?_HLS_msn={}&_HLS_part={}", next.0, next.1);
        player.tally.lock().unwrap().playlists.insert(url.clone());
        playlist = Playlist::read(&player.fetch(&url).await);
        player.tally.lock().unwrap().answers.entry(next).or_default().push(Instant::now());
        let newest = playlist.parts.values().flatten().rfind(|uri| !playlist.gaps.contains(*uri)).unwrap();
        player.fetch_media(&mut had, newest).await;
    }
}
