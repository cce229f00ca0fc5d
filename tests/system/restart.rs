//! A server that is killed and started again: what viewers who stayed on the page get.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use m3u8_rs::MediaPlaylist;

use crate::s3::S3Server;
use crate::support::server::{Builder, Server, tests_path};
use crate::support::{encoders, free_address, hls, http, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

const RENDITIONS: [&str; 3] = ["source", "180p", "audio"];

/// How often the server is killed; `KILLS` says otherwise.
const KILLS: usize = 4;

/// A place for a server that is started again and again.
struct Place {
    origin: String,
    data: tempfile::TempDir,
    settings: String,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    fn files() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = format!("{}/store", data.path().display());
        Self {
            origin: free_address().to_string(),
            data,
            settings: String::new(),
            variables: vec![("HEADWATER_STORE__PATH", store)],
        }
    }

    fn bucket(bucket: &S3Server) -> Self {
        let settings = format!(
            "[store]\nkind = \"s3\"\nbucket = \"live\"\nregion = \"{}\"\nendpoint = \"http://{}\"\npath_style = true\n",
            bucket.region, bucket.address
        );
        let (id, secret) = (bucket.credentials.access_key_id.clone(), bucket.credentials.secret_access_key.clone());
        let variables = vec![("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
        Self { settings, variables, ..Self::files() }
    }

    fn start(&self) -> Server {
        let path = self.data.path().display().to_string();
        let mut builder = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(&self.settings);
        for (name, value) in &self.variables {
            builder = builder.variable(name, value);
        }
        builder.variable("HEADWATER_ORIGIN__LISTEN", &self.origin).variable("HEADWATER_DATA_DIR", &path).start()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/live/demo/{path}", self.origin)
    }
}

#[test]
fn killed_again_and_again_a_channel_in_files_goes_on() {
    goes_on(&Place::files());
}

#[test]
fn killed_again_and_again_a_channel_in_a_bucket_goes_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(S3Server::start());
    goes_on(&Place::bucket(&bucket));
}

/// The watch page in Chromium: the picture stands while nobody sends any, and goes on by itself.
#[test]
fn a_viewer_stays_on_the_page_while_the_server_is_killed() {
    let kills = 2;
    let place = Place::files();
    let push = |server: &Server| encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let mut server = place.start();
    let mut encoder = push(&server);
    hls::wait_until_live(&server, PATIENCE);
    let mut page = Command::new("node")
        .arg(tests_path("browser/stay.mjs"))
        .args([format!("{}/watch/demo", server.origin), kills.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(page.stdout.take().unwrap()).lines();
    let mut next = |what: &str| -> serde_json::Value {
        let line = said.next().expect("the page says more").unwrap();
        println!("{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        value.get(what).cloned().unwrap_or_else(|| panic!("{what}: {line}"))
    };
    next("plays");
    for _ in 0..kills {
        server.signal("-KILL");
        drop((server, encoder));
        next("stands");
        server = place.start();
        encoder = push(&server);
        next("plays");
    }
    assert_eq!(next("errors"), serde_json::json!([]));
    assert!(page.wait().unwrap().success());
    assert_eq!(server.complaints(), Vec::<String>::new());
    drop(encoder);
}

fn goes_on(place: &Place) {
    let kills = std::env::var("KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let viewer = Viewer::start(place);
    let mut lost = Vec::new();
    for seams in 0..=kills {
        let server = place.start();
        let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
        wait_for("a segment behind the seam", PATIENCE, || {
            viewer.check();
            let seen = viewer.seen.lock().unwrap();
            let last = |name: &str| seen.last.get(name).is_some_and(|last| !last.gap && last.seams == seams);
            if RENDITIONS.iter().all(|name| last(name)) { Ok(()) } else { Err(format!("{:?} of {seams}", seen.last)) }
        });
        if seams == 0 {
            // Of what is killed before that, nobody can go on.
            server.wait_for_log("stored key=\"live/demo/index.m3u8\"", PATIENCE);
        }
        std::thread::sleep(random_up_to(Duration::from_millis(2_500)));
        if seams == kills {
            let quiet = server.complaints().into_iter().filter(|line| !line.contains("publisher was lost"));
            assert_eq!(quiet.collect::<Vec<_>>(), Vec::<String>::new());
            encoder.stop(PATIENCE);
            wait_for("the end", PATIENCE, || {
                viewer.check();
                if viewer.seen.lock().unwrap().ended { Ok(()) } else { Err("no end".to_owned()) }
            });
        } else {
            server.signal("-KILL");
            drop((server, encoder));
            lost.push(viewer.seen.lock().unwrap().last["source"].msn);
        }
    }
    let seen = viewer.stop();
    for name in RENDITIONS {
        let of = |(rendition, _): &&(&str, u64)| *rendition == name;
        assert_eq!(seen.seams.iter().filter(of).count(), kills, "one discontinuity each, in {name}: {:?}", seen.seams);
        let gaps: Vec<u64> = seen.gaps.iter().filter(of).map(|(_, msn)| *msn).collect();
        println!(
            "{name}: {} segments, lost {gaps:?} of those at the edge {lost:?}",
            seen.uris.keys().filter(of).count()
        );
        // What was complete had been stored but for the last, and one was being made.
        assert!(gaps.len() <= 2 * kills, "{gaps:?}");
    }
    println!("{} media files fetched", seen.fetched);
}

#[expect(clippy::cast_possible_truncation, reason = "below the limit")]
fn random_up_to(limit: Duration) -> Duration {
    Duration::from_millis(getrandom::u64().unwrap() % limit.as_millis() as u64)
}

/// Someone who reloads the playlists of all renditions all the time, and fetches what is new.
struct Viewer {
    seen: Arc<Mutex<Seen>>,
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    last: BTreeMap<&'static str, Edge>,
    uris: BTreeMap<(&'static str, u64), String>,
    gaps: BTreeSet<(&'static str, u64)>,
    seams: BTreeSet<(&'static str, u64)>,
    dates: BTreeMap<(&'static str, u64), i64>,
    fetched: usize,
    ended: bool,
}

#[derive(Debug)]
struct Edge {
    msn: u64,
    gap: bool,
    seams: usize,
}

impl Viewer {
    fn start(place: &Place) -> Self {
        let (seen, leave) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let base = place.url("");
        let (shared, left) = (Arc::clone(&seen), Arc::clone(&leave));
        let thread = std::thread::spawn(move || {
            while !left.load(Ordering::Relaxed) {
                for name in RENDITIONS {
                    watch(&base, name, &shared);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { seen, leave, thread: Some(thread) }
    }

    /// It goes on watching as long as it sees nothing that must not be.
    fn check(&self) {
        assert!(!self.thread.as_ref().unwrap().is_finished(), "the viewer has left");
    }

    fn stop(mut self) -> Seen {
        self.leave.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn watch(base: &str, name: &'static str, shared: &Mutex<Seen>) {
    // Nobody listens while the server is away.
    let Ok(response) = http::get(&format!("{base}{name}/index.m3u8")) else { return };
    if response.status == 404 && !shared.lock().unwrap().last.contains_key(name) {
        return;
    }
    assert_eq!(response.status, 200, "{name} was there before");
    let playlist = m3u8_rs::parse_media_playlist_res(&response.body).unwrap();
    let new = shared.lock().unwrap().take(name, &playlist);
    for uri in new {
        // It may have been killed meanwhile.
        if let Ok(response) = http::get(&format!("{base}{name}/{uri}")) {
            assert_eq!(response.status, 200, "{name}: {uri} is listed");
            shared.lock().unwrap().fetched += 1;
        }
    }
}

impl Seen {
    /// Holds a playlist against all before it; the URIs that are new.
    fn take(&mut self, name: &'static str, playlist: &MediaPlaylist) -> Vec<String> {
        let mut new = Vec::new();
        for (listed, msn) in playlist.segments.iter().zip(playlist.media_sequence..) {
            let key = (name, msn);
            if listed.discontinuity {
                self.seams.insert(key);
            } else {
                assert!(!self.seams.contains(&key), "{key:?} has lost its discontinuity");
            }
            if listed.unknown_tags.iter().any(|tag| tag.tag == "X-GAP") {
                self.gaps.insert(key);
            } else {
                assert!(!self.gaps.contains(&key), "{key:?} was a gap");
                let uri = self.uris.entry(key).or_insert_with(|| {
                    new.push(listed.uri.clone());
                    listed.uri.clone()
                });
                assert_eq!(*uri, listed.uri, "a number is used once: {key:?}");
                let date = listed.program_date_time.unwrap().timestamp_millis();
                assert_eq!(*self.dates.entry(key).or_insert(date), date, "{key:?}");
            }
        }
        let Some((listed, msn)) = playlist.segments.iter().zip(playlist.media_sequence..).last() else { return new };
        let seams = self.seams.iter().filter(|(of, _)| *of == name).count();
        let gap = listed.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
        let before = self.last.insert(name, Edge { msn, gap, seams });
        assert!(before.is_none_or(|before| before.msn <= msn), "{name} went back to {msn}");
        self.ended |= playlist.end_list;
        new
    }
}
