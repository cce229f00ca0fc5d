//! Servers that have no encoders: they serve what is in the store, and what the one that they follow has.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

use crate::crowd::{answered, crowd, follow, poll};
use crate::s3::S3Server;
use crate::support::edge::{Edge, Playlist, place};
use crate::support::server::{Builder, Server};
use crate::support::{encoders, free_address, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

/// A server that takes publishers, with its store in files below `folder`.
fn ingest(folder: &Path, listen: &str) -> Server {
    let data = folder.join("data").display().to_string();
    let builder = below(folder).settings(SHORT_SEGMENTS).settings(SMALL_LADDER).variable("HEADWATER_DATA_DIR", &data);
    builder.variable("HEADWATER_ORIGIN__LISTEN", listen).start()
}

fn below(folder: &Path) -> Builder {
    Builder::new().variable("HEADWATER_STORE__PATH", &folder.join("store").display().to_string())
}

/// One that only serves.
fn origin(builder: Builder) -> Server {
    builder.argument("--role").argument("origin").start()
}

fn push(server: &Server) -> encoders::Encoder {
    encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url())
}

fn playlist(server: &Server) -> Result<Playlist, String> {
    Ok(Playlist::read(&String::from_utf8(http::fetch(&server.live("source/index.m3u8"))?).unwrap()))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
fn an_origin_serves_what_is_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let first = ingest(folder.path(), "127.0.0.1:0");
    let encoder = push(&first);
    let names = hls::wait_until_live(&first, PATIENCE);
    let other = origin(below(folder.path()));
    assert_eq!(hls::wait_until_live(&other, PATIENCE), names);
    let recordings = hls::record(&other, &names, 3, PATIENCE);
    let file = recordings["source"].write(&other.directory.path().join("source.mp4"));
    probe::decode(file.to_str().unwrap());

    // What is said of it is what the first one says.
    let listed = playlist(&other).unwrap();
    assert!(listed.parts.is_empty() && listed.hint.is_none(), "a store has no parts");
    let segment = format!("source/{}", listed.segments.values().next().unwrap());
    let session = segment.split('/').nth(1).unwrap();
    for path in [&segment, &format!("source/{session}/init.mp4"), &segment.replace("source", "audio")] {
        let [here, there] = [&other, &first].map(|server| http::get(&server.live(path)).unwrap());
        assert_eq!((here.status, &here.body), (200, &there.body), "{path}");
        for name in ["cache-control", "content-type", "etag", "access-control-allow-origin"] {
            assert_eq!(here.header(name), there.header(name), "{path}: {name}");
        }
    }
    let range = http::get_with(&other.live(&segment), &[("range", "bytes=4-7")]).unwrap();
    assert_eq!((range.status, range.body.len()), (206, 4));
    let packed = http::get_with(&other.live("source/index.m3u8"), &[("accept-encoding", "gzip")]).unwrap();
    assert_eq!((packed.header("content-encoding"), packed.header("cache-control")), ("gzip", "public, max-age=1"));
    let status = |path: &str| http::get(&format!("{}{path}", other.origin)).unwrap().status;
    let part = format!("/live/demo/{}", segment.replace(".m4s", ".0.m4s"));
    assert_eq!([&*part, "/live/nobody/index.m3u8", "/api/v3/GetClientConfiguration"].map(status), [404; 3]);
    assert_eq!(
        ["/watch/demo", "/readyz", "/healthz", "/live/demo/source/index.m3u8?_HLS_msn=9999"].map(status),
        [200; 4]
    );
    let channels = || http::get(&format!("{}/channels.json", other.origin)).unwrap().text();
    assert!(channels().contains(r#""name":"demo","state":"live","renditions":["source","180p"]"#), "{}", channels());

    // However many ask, each object is fetched once, and a playlist twice a second.
    let fetches = || other.metric("headwater_archive_fetches_total{kind=\"store\"}").unwrap();
    let before = fetches();
    let begun = Instant::now();
    let tally = crowd(&other.live("source/"), 100, poll);
    let most = tally.media.len() as f64 + 2.0 * begun.elapsed().as_secs_f64() + 2.0;
    assert!(tally.requests >= 500, "{}", tally.requests);
    assert!(fetches() - before <= most, "{} for {:?}", fetches() - before, tally.media);

    drop(encoder);
    drop(first);
    assert_eq!(other.complaints(), Vec::<String>::new());
}

#[test]
fn an_origin_whose_store_fails_serves_old_playlists_for_a_while() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(S3Server::start());
    let store = format!(
        "[store]\nkind = \"s3\"\nbucket = \"live\"\nregion = \"{}\"\nendpoint = \"http://{}\"\npath_style = true\n",
        bucket.region, bucket.address
    );
    let at = |settings: &str| {
        let builder = Builder::new().settings(settings).settings(&store);
        let builder = builder.variable("AWS_ACCESS_KEY_ID", &bucket.credentials.access_key_id);
        builder.variable("AWS_SECRET_ACCESS_KEY", &bucket.credentials.secret_access_key)
    };
    let first = at(SHORT_SEGMENTS).settings(SMALL_LADDER).start();
    let encoder = push(&first);
    hls::wait_until_live(&first, PATIENCE);
    let other = origin(at("[origin]\nstale_max = \"6s\"\n"));
    let url = other.live("source/index.m3u8");
    wait_for("the store's copy", PATIENCE, || http::fetch(&url));
    drop(bucket);
    let stale = wait_for("an old playlist", PATIENCE, || match http::get(&url)? {
        answer if answer.header("warning").is_empty() => Err(answer.text()),
        answer => Ok(answer),
    });
    assert_eq!((stale.status, stale.header("cache-control")), (200, "public, max-age=1"));
    wait_for("that it is not ready", PATIENCE, || match http::get(&format!("{}/readyz", other.origin))? {
        answer if answer.status == 503 && answer.text().contains("cannot be reached") => Ok(()),
        answer => Err(answer.text()),
    });
    let gone = wait_for("the end of its time", PATIENCE, || match http::get(&url)? {
        answer if answer.status == 503 => Ok(answer),
        answer => Err(answer.text()),
    });
    assert_eq!((gone.header("cache-control"), gone.header("retry-after")), ("no-store", "1"));
    let complaints = other.complaints();
    assert!(complaints.iter().any(|line| line.contains("cannot be served")), "{complaints:?}");
    assert_eq!(complaints.iter().filter(|line| line.contains("cannot be served")).count(), 1, "once: {complaints:?}");
    drop((encoder, first));
}

#[test]
fn a_low_latency_crowd_costs_the_upstream_one_request_a_url() {
    let folder = tempfile::tempdir().unwrap();
    let first = ingest(folder.path(), "127.0.0.1:0");
    let encoder = push(&first);
    let names = hls::wait_until_live(&first, PATIENCE);
    hls::record(&first, &names, 2, PATIENCE);
    let other = origin(below(folder.path()).variable("HEADWATER_ORIGIN__UPSTREAM", &first.origin));
    let source = Edge { server: &other, rendition: "source" };
    wait_for("parts", PATIENCE, || Playlist::read(&source.ask("").text()).hint.ok_or_else(|| "no hint".to_owned()));
    let before = [answered(&first, "playlist"), answered(&first, "part")];
    let tally = crowd(&other.live("source/"), 200, follow);
    let [playlists, parts] = [answered(&first, "playlist") - before[0], answered(&first, "part") - before[1]];
    println!("{} requests; the upstream answered {playlists} for playlists and {parts} for parts", tally.requests);
    println!("from the first player's answer to each other's: {}", tally.spread());
    assert!(tally.requests >= 200 * 4, "{} requests", tally.requests);
    // Those that ask without directives get a copy of half a second.
    assert!(playlists <= tally.playlists.len() as u64 + 24, "{playlists} for {:?}", tally.playlists);
    assert!(parts <= tally.media.len() as u64, "{parts} for {:?}", tally.media);
    // Bad questions are told to be bad, as there.
    for query in ["?_HLS_msn=99999", "?_HLS_part=1", "?_HLS_msn=x"] {
        assert_eq!(
            (source.ask(query).status, source.ask(query).header("cache-control")),
            (400, "public, max-age=1"),
            "{query}"
        );
    }
    assert!(http::get(&format!("{}/channels.json", other.origin)).unwrap().text().contains("since"), "as there");
    drop(encoder);
    assert_eq!(other.complaints(), Vec::<String>::new());
}

/// A player that stays whatever happens: it goes to the other origin where its own does not answer, and polls where it cannot wait.
struct Viewer {
    bases: [String; 2],
    client: Client<HttpConnector, Empty<Bytes>>,
    until: Instant,
    seen: Arc<Mutex<Seen>>,
}

/// What viewers saw.
#[derive(Debug, Default)]
struct Seen {
    /// Statuses of playlists, and of media, that were not 200.
    refused: Vec<(u16, String)>,
    /// The longest time without new media, of each viewer.
    longest: Vec<Duration>,
    /// Sessions that media was fetched of, of each viewer.
    sessions: Vec<BTreeSet<String>>,
}

impl Viewer {
    async fn get(&mut self, path: &str) -> Option<(u16, Bytes)> {
        let url: hyper::Uri = format!("{}{path}", self.bases[0]).parse().unwrap();
        let answer = async {
            let response = self.client.get(url).await.ok()?;
            let status = response.status().as_u16();
            Some((status, response.into_body().collect().await.ok()?.to_bytes()))
        };
        let answer = answer.await;
        if answer.is_none() {
            self.bases.swap(0, 1);
        }
        answer
    }

    #[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
    async fn watch(mut self) {
        let (mut had, mut sessions, mut longest) = (BTreeSet::new(), BTreeSet::new(), Duration::ZERO);
        let (mut newest_at, mut path) = (Instant::now(), "index.m3u8".to_owned());
        while Instant::now() < self.until {
            let pause = match self.get(&path).await {
                None => Duration::from_millis(200),
                Some((200, text)) => {
                    let playlist = Playlist::read(&String::from_utf8_lossy(&text));
                    let mut parts = playlist.parts.values().flatten().filter(|uri| !playlist.gaps.contains(*uri));
                    let newest = parts.next_back().filter(|_| playlist.hint.is_some());
                    let newest = newest.or(playlist.segments.values().next_back());
                    let is_new = |uri: &&String| !playlist.gaps.contains(*uri) && !had.contains(*uri);
                    if let Some(uri) = newest.filter(is_new).cloned() {
                        match self.get(&uri).await {
                            Some((200, _)) => {
                                longest = longest.max(newest_at.elapsed());
                                newest_at = Instant::now();
                                sessions.insert(uri.split('/').next().unwrap().to_owned());
                                had.insert(uri);
                            }
                            Some((status, _)) => self.seen.lock().unwrap().refused.push((status, uri)),
                            None => {}
                        }
                    }
                    let hint = playlist.hint.as_deref().map(place);
                    path = hint.map_or("index.m3u8".to_owned(), |(msn, part)| {
                        format!("index.m3u8?_HLS_msn={msn}&_HLS_part={part}")
                    });
                    if hint.is_some() { Duration::ZERO } else { Duration::from_millis(500) }
                }
                Some((status, _)) => {
                    self.seen.lock().unwrap().refused.push((status, path.clone()));
                    path = "index.m3u8".to_owned();
                    Duration::from_millis(200)
                }
            };
            tokio::time::sleep(pause).await;
        }
        let mut seen = self.seen.lock().unwrap();
        seen.longest.push(longest);
        seen.sessions.push(sessions);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
fn viewers_stay_when_an_origin_and_what_it_follows_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let listen = free_address().to_string();
    let first = ingest(folder.path(), &listen);
    let encoder = push(&first);
    let names = hls::wait_until_live(&first, PATIENCE);
    hls::record(&first, &names, 3, PATIENCE);
    let upstream = format!("http://{listen}");
    let [one, other] = [(); 2].map(|()| origin(below(folder.path()).variable("HEADWATER_ORIGIN__UPSTREAM", &upstream)));
    let bases = [&one, &other].map(|server| server.live("source/"));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (seen, until) = (Arc::<Mutex<Seen>>::default(), Instant::now() + Duration::from_secs(40));
    let mut viewers = JoinSet::new();
    for number in 0..200 {
        let mut bases = bases.clone();
        bases.rotate_left(number % 2);
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(10)).build_http();
        let viewer = Viewer { bases, client, until, seen: Arc::clone(&seen) };
        viewers.spawn_on(viewer.watch(), runtime.handle());
    }
    std::thread::sleep(Duration::from_secs(6));
    other.signal("-KILL");
    std::thread::sleep(Duration::from_secs(4));
    first.signal("-KILL");
    drop((first, encoder));
    let killed_at = Instant::now();
    // What the store has is still served.
    let left = wait_for("the store's copy", PATIENCE, || {
        playlist(&one).and_then(|left| match left.hint {
            None => Ok(left),
            Some(hint) => Err(hint),
        })
    });
    println!("the store is served {:?} after the kill", killed_at.elapsed());
    assert!(left.segments.len() >= 3);
    let second = ingest(folder.path(), &listen);
    let encoder = push(&second);
    wait_for("parts again", PATIENCE, || playlist(&one)?.hint.ok_or_else(|| "no hint".to_owned()));
    println!("parts are back {:?} after the kill", killed_at.elapsed());
    runtime.block_on(async {
        while let Some(ended) = viewers.join_next().await {
            ended.unwrap();
        }
    });
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.longest.sort();
    println!("the longest without new media: p50 {:?}, most {:?}", seen.longest[100], seen.longest[199]);
    println!("refused: {} {:?}", seen.refused.len(), seen.refused.iter().take(5).collect::<Vec<_>>());
    assert!(seen.sessions.iter().all(|sessions| sessions.len() == 2), "all see both encoders: {:?}", seen.sessions);
    // A part that was told of is gone with the server; segments are in the store.
    let is_segment = |path: &str| path.ends_with(".m4s") && path.matches('.').count() == 1;
    let segments = seen.refused.iter().filter(|(_, path)| is_segment(path));
    assert_eq!(segments.collect::<Vec<_>>(), Vec::<&(u16, String)>::new(), "what is listed is there");
    assert!(seen.longest[199] < Duration::from_secs(20), "{:?}", seen.longest[199]);
    let seams = playlist(&one).unwrap().text.matches("#EXT-X-DISCONTINUITY\n").count();
    assert_eq!(seams, 1);
    drop(encoder);
}
