//! The copy in a bucket of a really running S3 server: playable while live and afterwards, and honest when the bucket fails.

use std::path::Path;

use crate::garage::Cluster;
use crate::outages::{Recorder, enough};
use crate::s3::S3Server;
use crate::support::server::{Builder, Server};
use crate::support::{encoders, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};
use headwater::store::{S3Store, Store as _};

#[test]
fn a_bucket_holds_a_playable_copy() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(S3Server::start());
    let server = start(&bucket);
    push_to_the_end(&server);
    // Anybody may read from this server, as players do through a CDN.
    probe::decode(&format!("http://{}/live/live/demo/index.m3u8", bucket.address));
    same_as_the_origin(&runtime, &bucket, &server);
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs a Garage program: make test GARAGE=path"]
fn a_garage_holds_a_playable_copy() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(S3Server::start_garage());
    let server = start(&bucket);
    push_to_the_end(&server);
    let copy = tempfile::tempdir().unwrap();
    download(&runtime, &bucket, copy.path());
    probe::decode(copy.path().join("live/demo/index.m3u8").to_str().unwrap());
    same_as_the_origin(&runtime, &bucket, &server);
}

#[test]
#[ignore = "needs a Garage program: make test GARAGE=path"]
fn a_garage_cluster_loses_nothing_when_a_node_dies_and_comes_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cluster = runtime.block_on(Cluster::start());
    let server = start(&cluster.nodes[0]);
    let encoder = encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let recorder = Recorder::start(server.origin.trim_start_matches("http://"));
    let more = |count| {
        let wanted = recorder.count() + count;
        wait_for("more segments", PATIENCE, || enough(recorder.count(), wanted));
    };
    // All that the origin has listed until now comes into the bucket, as this node says; and what playlists name there is there.
    let stored = |cluster: &Cluster, node: usize| {
        let copy = tempfile::tempdir().unwrap();
        let store = runtime.block_on(client(&cluster.nodes[node]));
        let mut keys = recorder.keys();
        wait_for("all that was listed in the bucket", PATIENCE, || {
            keys.retain(|key| !matches!(runtime.block_on(store.get(key)), Ok(Some(_))));
            if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
        });
        download(&runtime, &cluster.nodes[node], copy.path());
    };
    more(6);
    runtime.block_on(cluster.kill(2));
    more(15);
    stored(&cluster, 1);
    runtime.block_on(cluster.start_again(2));
    more(15);
    stored(&cluster, 2);
    encoder.stop(PATIENCE);
    wait_for("an end at the origin", PATIENCE, || match hls::media(&server, "source")?.end_list {
        true => Ok(()),
        false => Err("it is live".to_owned()),
    });
    stored(&cluster, 2);
    all_is_stored(&server);

    let returned = &cluster.nodes[2];
    let store = runtime.block_on(client(returned));
    let kept = recorder.stop();
    for (key, media) in &kept {
        assert!(runtime.block_on(store.get(key)).unwrap().is_some_and(|stored| stored == *media), "{key}");
    }
    same_as_the_origin(&runtime, returned, &server);
    assert_eq!(server.metric("headwater_store_segments_skipped_total{channel=\"demo\"}").unwrap_or(0.0), 0.0);
    assert_eq!(server.complaints(), Vec::<String>::new());
    println!("{} objects", kept.len());
}

#[test]
fn an_unreachable_bucket_is_said_and_stops_nobody() {
    // A port that nobody listens on.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings =
        format!("[store]\nkind = \"s3\"\nbucket = \"live\"\nendpoint = \"http://{address}\"\npath_style = true\n");
    let server = Builder::new()
        .settings(SHORT_SEGMENTS)
        .settings(SMALL_LADDER)
        .settings(&settings)
        .variable("AWS_ACCESS_KEY_ID", "x")
        .variable("AWS_SECRET_ACCESS_KEY", "y")
        .start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    hls::record(&server, &names, 3, PATIENCE);
    let answer = wait_for("an answer that it is not ready", PATIENCE, || {
        match http::get(&format!("{}/readyz", server.origin)) {
            Ok(answer) if answer.status == 503 => Ok(answer.text()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(answer.contains("demo") && answer.contains("store"), "it says what fails: {answer}");
    assert!(server.complaints().iter().any(|line| line.contains(&address.to_string())), "{:?}", server.complaints());
    assert!(server.metric("headwater_store_segments_behind{channel=\"demo\"}").unwrap() > 0.0);
    drop(encoder);
}

#[test]
fn of_two_processes_the_younger_writes_and_the_older_says_so() {
    let shared = tempfile::tempdir().unwrap();
    let start = || {
        let builder = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER);
        builder.variable("HEADWATER_STORE__PATH", shared.path().to_str().unwrap()).start()
    };
    let push = |server: &Server| encoders::push_live("640x360", 120, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let stored = || std::fs::read_to_string(shared.path().join("live/demo/source/index.m3u8")).unwrap_or_default();
    let last_served = |server: &Server| {
        let playlist = http::fetch(&server.live("source/index.m3u8"))?;
        uris(std::str::from_utf8(&without_parts(playlist)).unwrap()).pop().ok_or_else(|| "no segment".to_owned())
    };
    let has_stored = |name: &str| if stored().contains(name) { Ok(()) } else { Err(stored()) };

    let old = start();
    let of_old = push(&old);
    hls::wait_until_live(&old, PATIENCE);
    let first = last_served(&old).unwrap();
    wait_for("the older's first segment in the store", PATIENCE, || has_stored(&first));
    let young = start();
    old.wait_for_log("another process took the channel over", PATIENCE);
    let (left, last) = (stored(), last_served(&old).unwrap());
    wait_for("more of the older's live", PATIENCE, || match last_served(&old)? {
        same if same == last => Err(same),
        _ => Ok(()),
    });
    assert_eq!(left, stored(), "its viewers go on, and it stores no playlist");
    let answer = http::get(&format!("{}/readyz", old.origin)).unwrap();
    assert!(answer.status == 503 && answer.text().contains("took the channel over"), "{}", answer.text());

    let of_young = push(&young);
    let last = uris(&left).pop().unwrap();
    let new = wait_for("a segment of the younger's", PATIENCE, || match last_served(&young)? {
        same if same == last => Err(same),
        new => Ok(new),
    });
    wait_for("it in the store", PATIENCE, || has_stored(&new));
    assert!(stored().contains(&last), "it goes on behind the older's {last}: {}", stored());
    assert_eq!(young.complaints(), Vec::<String>::new());
    drop((of_old, of_young));
}

fn start(bucket: &S3Server) -> Server {
    let settings = format!(
        "[store]\nkind = \"s3\"\nbucket = \"live\"\nregion = \"{}\"\nendpoint = \"http://{}\"\npath_style = true\n",
        bucket.region, bucket.address
    );
    Builder::new()
        .settings(SHORT_SEGMENTS)
        .settings(SMALL_LADDER)
        .settings(&settings)
        .variable("AWS_ACCESS_KEY_ID", &bucket.credentials.access_key_id)
        .variable("AWS_SECRET_ACCESS_KEY", &bucket.credentials.secret_access_key)
        .start()
}

/// Publishes three segments' worth, says goodbye, and waits until all of it is in the store.
fn push_to_the_end(server: &Server) {
    let encoder = encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(server, PATIENCE);
    hls::record(server, &names, 3, PATIENCE);
    encoder.stop(PATIENCE);
    let ended = hls::record(server, &names, usize::MAX, PATIENCE);
    assert!(ended.values().all(|recording| recording.ended));
    all_is_stored(server);
}

/// Waits until all that is listed is in the store.
fn all_is_stored(server: &Server) {
    wait_for("everything in the store", PATIENCE, || {
        match server.metric("headwater_store_segments_behind{channel=\"demo\"}") {
            Some(0.0) => Ok(()),
            behind => Err(format!("{behind:?}")),
        }
    });
}

/// Playlists and segments are the same bytes in the bucket and at the origin.
fn same_as_the_origin(runtime: &tokio::runtime::Runtime, bucket: &S3Server, server: &Server) {
    let copy = tempfile::tempdir().unwrap();
    for key in download(runtime, bucket, copy.path()) {
        let served = without_parts(http::fetch(&format!("{}/{key}", server.origin)).unwrap());
        assert!(served == std::fs::read(copy.path().join(&key)).unwrap(), "{key} differs from the origin's");
    }
}

/// A playlist of the origin without what Low-Latency HLS adds to it, for a bucket cannot offer that.
fn without_parts(body: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&body) else { return body };
    let tags = ["SERVER-CONTROL", "PART-INF", "PART", "PRELOAD-HINT", "RENDITION-REPORT"];
    let of_parts = |line: &&str| tags.iter().any(|tag| line.starts_with(&format!("#EXT-X-{tag}:")));
    if !text.starts_with("#EXTM3U") {
        return body;
    }
    text.lines().filter(|line| !of_parts(line)).flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

async fn client(bucket: &S3Server) -> S3Store {
    S3Store::open(&bucket.config(), Some(bucket.credentials.clone())).await.unwrap()
}

/// Fetches all that the playlists in the bucket name, as files; gives the keys.
fn download(runtime: &tokio::runtime::Runtime, bucket: &S3Server, directory: &Path) -> Vec<String> {
    let store = runtime.block_on(client(bucket));
    let mut keys = vec!["live/demo/index.m3u8".to_owned()];
    let mut next = 0;
    while let Some(key) = keys.get(next).cloned() {
        let body = runtime.block_on(store.get(&key)).unwrap().unwrap_or_else(|| panic!("{key} is in the bucket"));
        let path = directory.join(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &body).unwrap();
        if key.ends_with(".m3u8") {
            let folder = key.rsplit_once('/').unwrap().0;
            let named = uris(std::str::from_utf8(&body).unwrap());
            let new: Vec<_> =
                named.into_iter().map(|uri| format!("{folder}/{uri}")).filter(|key| !keys.contains(key)).collect();
            keys.extend(new);
        }
        next += 1;
    }
    assert!(keys.len() > 10, "playlists, initialisation segments and segments: {keys:?}");
    keys
}

/// What a playlist names: lines that are no tags, and `URI` attributes.
fn uris(playlist: &str) -> Vec<String> {
    let attribute = |line: &str| Some(line.split_once("URI=\"")?.1.split_once('"')?.0.to_owned());
    let uri = move |line: &str| if line.starts_with('#') { attribute(line) } else { Some(line.to_owned()) };
    playlist.lines().filter(|line| !line.is_empty()).filter_map(uri).collect()
}
