//! A bucket that fails while a channel is live: nothing that viewers were told of is missing in it in the end, though the
//! server is killed meanwhile, and no playlist in it ever names what is not there. A recording is what the encoder sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::faults::{Fault, Faults, Request};
use crate::recordings::{self, PASSTHROUGH, RECORD};
use crate::s3::{BUCKET, S3Server};
use crate::support::server::{Builder, Server};
use crate::support::{encoders, free_address, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_WINDOW, SMALL_LADDER};

const RENDITIONS: [&str; 3] = ["source", "180p", "audio"];

/// How stores fail.
const FAILS: [Fault; 4] =
    [Fault::Answer(503, "SlowDown"), Fault::Reset, Fault::BlackHole, Fault::Answer(403, "RequestTimeTooSkewed")];

/// The seconds of an outage.
fn outage() -> u64 {
    std::env::var("OUTAGE").map_or(40, |seconds| seconds.parse().unwrap())
}

/// A bucket behind faults, and a place for the servers that write it one after the other.
struct Place {
    _runtime: tokio::runtime::Runtime,
    bucket: S3Server,
    faults: Faults,
    /// What a playlist named when it was put, and was not there.
    missing: Arc<Mutex<Vec<String>>>,
    data: tempfile::TempDir,
    origin: String,
    settings: String,
}

impl Place {
    fn new(spool: &str) -> Self {
        Self::of_channels(SMALL_LADDER, spool)
    }

    fn of_channels(channels: &str, spool: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bucket = runtime.block_on(S3Server::start());
        let missing = Arc::<Mutex<Vec<String>>>::default();
        let (folder, found) = (bucket.directory.path().to_owned(), Arc::clone(&missing));
        let witness = move |path: &str, text: &[u8]| found.lock().unwrap().extend(not_there(&folder, path, text));
        let faults = runtime.block_on(Faults::start(bucket.address, witness));
        let settings = format!(
            "{SHORT_WINDOW}{channels}[store]\nkind = \"s3\"\nbucket = \"{BUCKET}\"\nregion = \"{}\"\nendpoint = \"http://{}\"\n\
             path_style = true\n[store.spool]\n{spool}\n",
            bucket.region, faults.address
        );
        let (data, origin) = (tempfile::tempdir().unwrap(), free_address().to_string());
        let place = Self { _runtime: runtime, bucket, faults, missing, data, origin, settings };
        place.set(|_| Fault::None);
        place
    }

    /// What becomes of requests, save those to delete: the bucket is to be looked at in the end.
    fn set(&self, choice: impl Fn(&Request) -> Fault + Send + 'static) {
        self.faults.set(move |request| match request.method.as_str() {
            "DELETE" => Fault::Answer(403, "AccessDenied"),
            "POST" if request.path.contains("?delete") => Fault::Answer(403, "AccessDenied"),
            _ => choice(request),
        });
    }

    fn start(&self) -> Server {
        Builder::new()
            .settings(&self.settings)
            .variable("AWS_ACCESS_KEY_ID", &self.bucket.credentials.access_key_id)
            .variable("AWS_SECRET_ACCESS_KEY", &self.bucket.credentials.secret_access_key)
            .variable("HEADWATER_ORIGIN__LISTEN", &self.origin)
            .variable("HEADWATER_DATA_DIR", &self.data.path().display().to_string())
            .start()
    }

    fn in_bucket(&self, key: &str) -> PathBuf {
        self.bucket.directory.path().join(BUCKET).join(key)
    }

    fn in_spool(&self, key: &str) -> PathBuf {
        self.data.path().join("spool").join(key)
    }

    /// What a recorder has that is neither in the bucket nor in the spool.
    fn lacks(&self, recorder: &Recorder) -> Vec<String> {
        let is_nowhere = |key: &String| !self.in_bucket(key).is_file() && !self.in_spool(key).is_file();
        recorder.keys().into_iter().filter(is_nowhere).collect()
    }
}

/// The media that a playlist of the bucket names and that is not there.
fn not_there(folder: &Path, path: &str, text: &[u8]) -> Vec<String> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let directory = folder.join(path.trim_start_matches('/').rsplit_once('/').unwrap().0);
    let mut lacking = Vec::new();
    let mut gap = false;
    for line in text.lines() {
        let attribute = line.split_once("URI=\"").and_then(|(_, rest)| Some(rest.split_once('"')?.0));
        let named = if line.starts_with('#') { attribute } else { Some(line).filter(|line| !line.is_empty()) };
        if let Some(uri) = named.filter(|_| !gap)
            && !resolved(&directory, uri).is_file()
        {
            lacking.push(format!("{path} names {uri}"));
        }
        gap = line == "#EXT-X-GAP" || gap && line.starts_with('#');
    }
    lacking
}

/// What a playlist names from its folder, which need not be there yet.
fn resolved(folder: &Path, uri: &str) -> PathBuf {
    uri.split('/').fold(folder.to_owned(), |folder, part| match part {
        ".." => folder.parent().unwrap().to_owned(),
        part => folder.join(part),
    })
}

/// Someone who keeps all that the origin lists.
pub(crate) struct Recorder {
    /// By key.
    kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Of a channel with the renditions of [`SMALL_LADDER`].
    pub(crate) fn start(origin: &str) -> Self {
        let (kept, leave) = (Arc::<Mutex<BTreeMap<String, Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let base = format!("http://{origin}/");
        let (shared, left) = (Arc::clone(&kept), Arc::clone(&leave));
        let thread = std::thread::spawn(move || {
            loop {
                // What is listed when it is to leave is kept too.
                let leaves = left.load(Ordering::Relaxed);
                RENDITIONS.iter().for_each(|name| record(&base, name, &shared));
                if leaves {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { kept, leave, thread: Some(thread) }
    }

    pub(crate) fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// The keys of what it has.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.kept.lock().unwrap().keys().cloned().collect()
    }

    /// By key.
    pub(crate) fn stop(mut self) -> BTreeMap<String, Vec<u8>> {
        self.leave.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.kept.lock().unwrap())
    }
}

/// Nobody answers while the server is away.
fn record(base: &str, name: &str, kept: &Mutex<BTreeMap<String, Vec<u8>>>) {
    let folder = format!("live/demo/{name}");
    let Ok(body) = http::fetch(&format!("{base}{folder}/index.m3u8")) else { return };
    let playlist = m3u8_rs::parse_media_playlist_res(&body).unwrap();
    let gap = |segment: &&m3u8_rs::MediaSegment| segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
    let inits = playlist.segments.iter().filter_map(|segment| Some(segment.map.as_ref()?.uri.clone()));
    let segments = playlist.segments.iter().filter(|segment| !gap(segment)).map(|segment| segment.uri.clone());
    for key in inits.chain(segments).map(|uri| format!("{folder}/{uri}")) {
        if !kept.lock().unwrap().contains_key(&key)
            && let Ok(media) = http::fetch(&format!("{base}{key}"))
        {
            kept.lock().unwrap().insert(key, media);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an outage lasts a time")]
fn an_outage_with_a_kill_in_it_loses_nothing() {
    let place = Place::new("");
    let server = place.start();
    let push = |server: &Server| encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let encoder = push(&server);
    let recorder = Recorder::start(&place.origin);
    hls::wait_until_live(&server, PATIENCE);
    // What is put in another order is there before it is named all the same.
    place.set(|_| Fault::Shuffled(Duration::from_millis(1_500)));
    wait_for("segments in the bucket", PATIENCE, || enough(recorder.count(), 15));

    let began = Instant::now();
    let each = Duration::from_secs(outage()).div_f64(8.0);
    for fault in FAILS {
        place.set(move |_| fault);
        std::thread::sleep(each);
    }
    server.wait_for_log("uploads are tried again", PATIENCE);
    let before = recorder.count();
    wait_for("all that was listed on local disk", PATIENCE, || lacking(place.lacks(&recorder)));
    server.signal("-KILL");
    drop((server, encoder));

    let server = place.start();
    let encoder = push(&server);
    hls::wait_until_live(&server, PATIENCE);
    let rest = (began + each * 8).saturating_duration_since(Instant::now()).div_f64(4.0);
    for fault in FAILS {
        place.set(move |_| fault);
        std::thread::sleep(rest);
    }
    wait_for("more behind the kill", PATIENCE, || enough(recorder.count(), before + 6));
    let waited = server.metric("headwater_store_spool_objects").unwrap();
    let lasted = began.elapsed();
    place.set(|_| Fault::None);
    let back = Instant::now();
    wait_for_an_empty_spool(&server);
    let drained = back.elapsed();
    encoder.stop(PATIENCE);
    wait_for("all that was listed in the bucket", PATIENCE, || lacking(place.lacks(&recorder)));
    wait_for("an end in the bucket", PATIENCE, || {
        let text = std::fs::read_to_string(place.in_bucket("live/demo/source/index.m3u8")).unwrap_or_default();
        if text.ends_with("#EXT-X-ENDLIST\n") { Ok(()) } else { Err(text) }
    });

    let kept = recorder.stop();
    for (key, media) in &kept {
        let stored = std::fs::read(place.in_bucket(key)).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(stored == *media, "{key} has the bytes that viewers got");
        assert!(!place.in_spool(key).exists(), "{key} is not kept twice");
    }
    assert_eq!(*place.missing.lock().unwrap(), Vec::<String>::new());
    assert_eq!(server.metric("headwater_store_segments_skipped_total{channel=\"demo\"}").unwrap_or(0.0), 0.0);
    println!("{} objects; an outage of {lasted:?}; {waited} waited and were stored in {drained:?}", kept.len());
}

fn wait_for_an_empty_spool(server: &Server) {
    wait_for("an empty spool", PATIENCE, || match server.metric("headwater_store_spool_objects") {
        Some(0.0) => Ok(()),
        waiting => Err(format!("{waiting:?}")),
    });
}

pub(crate) fn enough(count: usize, wanted: usize) -> Result<(), String> {
    if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
}

fn lacking(lacks: Vec<String>) -> Result<(), String> {
    if lacks.is_empty() { Ok(()) } else { Err(format!("{lacks:?}")) }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an outage lasts a time")]
fn the_recording_of_a_programme_with_an_outage_is_the_source_frame_by_frame() {
    let place = Place::of_channels(&format!("{PASSTHROUGH}{RECORD}"), "");
    let works = |fault| place.faults.set(move |_| fault);
    let folder = tempfile::tempdir().unwrap();
    let film = encoders::unrepeated(folder.path(), outage() + 20);
    works(Fault::Shuffled(Duration::from_millis(1_500)));
    let server = place.start();
    let encoder = encoders::push_file(&film, &server.publish_url());
    wait_for("segments that have left the window", PATIENCE, || {
        enough(usize::try_from(hls::media(&server, "source")?.media_sequence).unwrap(), 2)
    });
    for fault in FAILS {
        works(fault);
        std::thread::sleep(Duration::from_secs(outage()) / 4);
    }
    let waited = server.metric("headwater_store_spool_objects").unwrap();
    assert!(waited > 0.0);
    works(Fault::None);
    let back = Instant::now();
    wait_for_an_empty_spool(&server);
    let drained = back.elapsed();
    assert!(encoder.finish(PATIENCE));
    let recording = recordings::recording(&server, "published");
    let complete = back.elapsed();

    for (rendition, stream) in [("source", "v"), ("audio", "a")] {
        let key = format!("live/demo/recordings/{}/{rendition}/index.m3u8", recording["id"]);
        let text = std::fs::read_to_string(place.in_bucket(&key)).unwrap();
        assert!(text.contains("#EXT-X-PLAYLIST-TYPE:VOD\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
        assert!(!text.contains("#EXT-X-GAP") && !text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
        let sent = probe::access_units(film.to_str().unwrap(), stream);
        assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "no two are the same");
        // Anybody may read from this server, as players do.
        let kept = probe::access_units(&format!("http://{}/{BUCKET}/{key}", place.bucket.address), stream);
        assert_eq!(kept.len(), sent.len(), "{rendition}: {text}");
        assert!(kept == sent, "{rendition} has other access units than were sent");
        println!("{rendition}: {} access units", sent.len());
    }
    assert_eq!(*place.missing.lock().unwrap(), Vec::<String>::new());
    println!("{waited} objects waited and were stored in {drained:?}; the recording was complete after {complete:?}");
}

#[test]
fn a_bucket_that_is_deleted_and_a_spool_that_is_too_small_are_told() {
    let place = Place::new("max_size = \"100KiB\"");
    let server = place.start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    place.set(|_| Fault::Answer(404, "NoSuchBucket"));
    server.wait_for_log("the bucket does not exist: bucket `live`", PATIENCE);
    server.wait_for_log("create it or correct store.bucket", PATIENCE);
    server.wait_for_log("store.spool.max_size", PATIENCE);
    hls::record(&server, &names, 5, PATIENCE);
    let said: Vec<_> = server.complaints().into_iter().filter(|line| line.contains("spool")).collect();
    assert!((1..=2).contains(&said.len()), "once, and not for each segment: {said:?}");
    place.set(|_| Fault::None);
    server.wait_for_log("the store works again", PATIENCE);
    drop(encoder);
    assert_eq!(*place.missing.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn one_rendition_that_cannot_be_put_is_a_gap_and_does_not_hold_up_the_others() {
    let place = Place::new("");
    let server = place.start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let stored = |name: &str| {
        let text = std::fs::read_to_string(place.in_bucket(&format!("live/demo/{name}/index.m3u8")));
        text.map_err(|error| error.to_string())
    };
    wait_for("playlists in the bucket", PATIENCE, || RENDITIONS.iter().try_for_each(|name| stored(name).map(drop)));
    place.set(|request| match request.method.as_str() {
        "PUT" if request.path.contains("/180p/") && request.path.contains(".m4s") => {
            Fault::Answer(400, "EntityTooLarge")
        }
        _ => Fault::None,
    });
    wait_for("a gap in the bucket", PATIENCE, || {
        let text = stored("180p")?;
        if text.contains("#EXT-X-GAP") { Ok(()) } else { Err(text) }
    });
    assert!(!stored("source").unwrap().contains("#EXT-X-GAP"));
    let at_origin = String::from_utf8(http::fetch(&server.live("180p/index.m3u8")).unwrap()).unwrap();
    assert!(!at_origin.contains("#EXT-X-GAP"), "viewers of the origin have it: {at_origin}");
    place.set(|_| Fault::None);
    wait_for_an_empty_spool(&server);
    drop(encoder);
    assert_eq!(*place.missing.lock().unwrap(), Vec::<String>::new());
}
