//! The contract of [`Store`], the same for files and for really running S3 servers, and how each kind of failure of a
//! bucket is told.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in tests a failure is to panic")]

mod support {
    pub(crate) mod faults;
    pub(crate) mod garage;
    pub(crate) mod s3;
}

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use headwater::config::{S3Config, StoreConfig};
use headwater::ladder::{RenditionKind, RenditionName};
use headwater::live::{
    ChannelSnapshot, IFrames, Init, Lazy, Media, Msn, NamedFrom, News, Playlist, RenditionSnapshot, Segment, SessionId,
    UploadStatus,
};
use headwater::media::{Container, MediaTime};
use headwater::metrics::Metrics;
use headwater::source::ChannelName;
use headwater::store::{
    Classes, Condition, Credentials, Holder, Inherited, Listed, Object, S3Store, Setup, Store, StoreError, Writer,
    open, upload,
};
use support::faults::{Fault, Faults};
use support::garage::Cluster;
use support::s3::S3Server;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn object(key: &str, data: impl Into<Bytes>) -> Object {
    let cache_control = "public, max-age=2".to_owned();
    Object { key: key.to_owned(), data: data.into(), content_type: "video/mp4", cache_control }
}

async fn client(server: &S3Server, config: &S3Config) -> S3Store {
    S3Store::open(config, Some(server.credentials.clone())).await.unwrap()
}

async fn conforms(store: &dyn Store) {
    store.probe().await.unwrap();
    reads_what_was_written(store).await;
    writes_over(store).await;
    deletes(store).await;
    writes_by_conditions(store).await;
    lists(store).await;
    refuses_keys_outside_the_grammar(store).await;
}

async fn reads_what_was_written(store: &dyn Store) {
    let large: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
    for (key, data) in [
        ("live/demo/720p/1/1.m4s", Bytes::from_static(b"segment")),
        ("live/demo/720p/1/2.m4s", Bytes::from(large)),
        ("live/demo/720p/index.m3u8", Bytes::new()),
        ("top", Bytes::from_static(b"\0\xff")),
    ] {
        store.put(object(key, data.clone())).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), Some(data), "{key}");
    }
    for absent in ["live/demo/720p/1/3.m4s", "live/nobody/index.m3u8"] {
        assert_eq!(store.get(absent).await.unwrap(), None, "{absent}");
    }
}

async fn writes_over(store: &dyn Store) {
    for text in ["a longer text than the next", "short"] {
        store.put(object("live/demo/index.m3u8", text)).await.unwrap();
        assert_eq!(store.get("live/demo/index.m3u8").await.unwrap(), Some(text.into()));
    }
}

async fn deletes(store: &dyn Store) {
    store.put(object("live/other/1.m4s", "stays")).await.unwrap();
    let keys: Vec<_> = (0..5).map(|n| format!("live/gone/{n}.m4s")).collect();
    for key in &keys {
        store.put(object(key, "goes")).await.unwrap();
    }
    let mut all = keys.clone();
    all.push("live/never/was.m4s".to_owned());
    store.delete(&all).await.unwrap();
    store.delete(&all).await.unwrap();
    store.delete(&[]).await.unwrap();
    for key in &keys {
        assert_eq!(store.get(key).await.unwrap(), None);
    }
    assert_eq!(store.get("live/other/1.m4s").await.unwrap(), Some("stays".into()));
}

async fn writes_by_conditions(store: &dyn Store) {
    let key = "writers/demo.json";
    let put = |text: &'static str, condition| store.put_if(object(key, text), condition);
    assert_eq!(store.read(key).await, Ok(None));
    put("first", Condition::Absent).await.unwrap();
    let (data, first) = store.read(key).await.unwrap().unwrap();
    assert_eq!(data, "first");
    put("second", Condition::Is(first.clone())).await.unwrap();
    let conditional = store.is_conditional().await.unwrap();
    for condition in [Condition::Absent, Condition::Is(first)] {
        let refused = put("third", condition).await;
        assert_eq!(matches!(refused, Err(StoreError::Changed(_))), conditional, "{refused:?}");
    }
    let (data, _) = store.read(key).await.unwrap().unwrap();
    assert_eq!(data, if conditional { "second" } else { "third" });
    put("whatever", Condition::Any).await.unwrap();
    store.delete(&[key.to_owned()]).await.unwrap();
    assert_eq!(store.read(key).await, Ok(None));
}

async fn lists(store: &dyn Store) {
    let mut keys: Vec<_> = (0..1005).map(|n| format!("live/many/a/{n}.m4s")).collect();
    keys.push("live/many/index.m3u8".to_owned());
    keys.sort();
    for key in keys.iter().chain(&["live/many2/x".to_owned(), "live/man/y".to_owned()]) {
        store.put(object(key, "x")).await.unwrap();
    }
    let mut found: Vec<Listed> = Vec::new();
    loop {
        let page = store.list("live/many/", found.last().map(|last| last.key.as_str())).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    assert!(found.iter().map(|listed| &listed.key).eq(&keys), "{} of {}", found.len(), keys.len());
    let new = |listed: &Listed| listed.modified.elapsed().is_ok_and(|age| age.as_secs() < 3600);
    assert!(found.iter().all(new));
    store.delete(&keys).await.unwrap();
    assert_eq!(store.list("live/many/", None).await, Ok(Vec::new()));
}

async fn refuses_keys_outside_the_grammar(store: &dyn Store) {
    for key in ["../escape", "/etc/passwd", "live//x", "live/./x", "", "live/x/", "live/%2e%2e/x"] {
        let refused = StoreError::Key(key.to_owned());
        assert_eq!(store.put(object(key, "x")).await, Err(refused.clone()));
        assert_eq!(store.get(key).await, Err(refused.clone()));
        assert_eq!(store.delete(&[key.to_owned()]).await, Err(refused));
    }
}

#[tokio::test]
async fn files_conform() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("made/by/open");
    conforms(&*open(&StoreConfig::Fs { path }, Classes::default()).await.unwrap()).await;
}

#[tokio::test]
async fn s3_conforms() {
    let server = S3Server::start().await;
    conforms(&client(&server, &server.config()).await).await;
    let prefixed = S3Config { prefix: "some/prefix".to_owned(), ..server.config() };
    let store = client(&server, &prefixed).await;
    conforms(&store).await;
    assert!(server.directory.path().join("live/some/prefix/live/demo/index.m3u8").is_file(), "below the prefix");
}

#[tokio::test]
#[ignore = "needs a Garage program: make test GARAGE=path"]
async fn garage_conforms() {
    let server = S3Server::start_garage().await;
    conforms(&client(&server, &server.config()).await).await;
    conforms(&client(&server, &S3Config { prefix: "pre".to_owned(), ..server.config() }).await).await;
    failures_are_told_apart(&server).await;
    let elsewhere = S3Config { region: Some("elsewhere".to_owned()), ..server.config() };
    every_call_fails(&client(&server, &elsewhere).await, "wrong_region", "garage").await;
    headers_are_kept(&server).await;
    many_keys_are_deleted(&server, &server.config(), 1100).await;
}

#[tokio::test]
#[ignore = "needs a Garage program: make test GARAGE=path"]
async fn a_garage_cluster_conforms_with_a_node_dead_and_with_one_that_came_back() {
    let mut cluster = Cluster::start().await;
    cluster.kill(2).await;
    let [first, second, _] = &cluster.nodes;
    conforms(&client(first, &first.config()).await).await;
    conforms(&client(second, &S3Config { prefix: "pre".to_owned(), ..second.config() }).await).await;
    failures_are_told_apart(first).await;
    headers_are_kept(second).await;
    many_keys_are_deleted(first, &first.config(), 1100).await;
    let left = object("live/left/1.m4s", "while one was dead");
    client(first, &first.config()).await.put(left.clone()).await.unwrap();
    cluster.start_again(2).await;
    let [_, _, third] = &cluster.nodes;
    let store = client(third, &third.config()).await;
    assert_eq!(store.get(&left.key).await, Ok(Some(left.data)));
    conforms(&store).await;
}

#[tokio::test]
async fn failures_of_s3_are_told_apart() {
    failures_are_told_apart(&S3Server::start().await).await;
}

async fn failures_are_told_apart(server: &S3Server) {
    let missing = S3Config { bucket: "no-such-bucket".to_owned(), ..server.config() };
    every_call_fails(&client(server, &missing).await, "no_bucket", "no-such-bucket").await;

    let wrong_secret = Credentials { secret_access_key: "0e".repeat(32), ..server.credentials.clone() };
    let wrong_key = Credentials { access_key_id: format!("GK{}", "cd34".repeat(6)), ..server.credentials.clone() };
    for wrong in [wrong_secret, wrong_key] {
        let store = S3Store::open(&server.config(), Some(wrong)).await.unwrap();
        every_call_fails(&store, "denied", &server.address.to_string()).await;
    }
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_told_apart() {
    let server = S3Server::start().await;
    let faults = Faults::start(server.address, |_, _| {}).await;
    let place = format!("http://{}", faults.address);
    let store = client(&server, &S3Config { endpoint: Some(place.clone()), ..server.config() }).await;
    conforms(&store).await;
    for (fault, kind) in [
        (Fault::Answer(503, "SlowDown"), "throttled"),
        (Fault::Answer(503, ""), "throttled"),
        (Fault::Answer(500, "InternalError"), "server"),
        (Fault::Answer(403, "RequestTimeTooSkewed"), "clock_skew"),
        (Fault::Answer(403, "AccessDenied"), "denied"),
        (Fault::Answer(400, "ExpiredToken"), "denied"),
        (Fault::Answer(301, "PermanentRedirect"), "wrong_region"),
        (Fault::Answer(404, "NoSuchBucket"), "no_bucket"),
        (Fault::Answer(507, "InsufficientStorage"), "full"),
        (Fault::Reset, "unreachable"),
    ] {
        faults.set(move |_| fault);
        every_call_fails(&store, kind, &place).await;
        let large = store.put(object("live/a", vec![7; 3_000_000])).await.unwrap_err();
        assert_eq!(large.kind(), kind, "{large:?}");
    }
    faults.set(|_| Fault::BlackHole);
    let error = store.put(object("live/a", "x")).await.unwrap_err();
    assert!(error.kind() == "timeout" && error.to_string().contains(&place), "{error:?}");
    faults.set(|_| Fault::Shuffled(std::time::Duration::from_millis(50)));
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = S3Config {
        bucket: "live".to_owned(),
        prefix: String::new(),
        region: None,
        endpoint: Some(format!("http://{address}")),
        path_style: true,
    };
    let credentials = Credentials { access_key_id: "key".to_owned(), secret_access_key: "secret".to_owned() };
    let store = S3Store::open(&config, Some(credentials)).await.unwrap();
    every_call_fails(&store, "unreachable", &address.to_string()).await;
}

async fn every_call_fails(store: &dyn Store, kind: &str, place: &str) {
    let errors = [
        store.probe().await.unwrap_err(),
        store.put(object("live/a", "x")).await.unwrap_err(),
        store.get("live/a").await.unwrap_err(),
        store.delete(&["live/a".to_owned()]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[tokio::test]
async fn s3_keeps_the_headers() {
    headers_are_kept(&S3Server::start().await).await;
}

/// Asks with the SDK itself, which the store's interface hides.
async fn headers_are_kept(server: &S3Server) {
    let store = client(server, &server.config()).await;
    store.put(object("live/head.m4s", "x")).await.unwrap();
    let own = &server.credentials;
    let credentials =
        aws_sdk_s3::config::Credentials::new(&own.access_key_id, &own.secret_access_key, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .endpoint_url(format!("http://{}", server.address))
        .region(aws_sdk_s3::config::Region::new(server.region))
        .credentials_provider(credentials)
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let head = client.head_object().bucket(support::s3::BUCKET).key("live/head.m4s").send().await.unwrap();
    assert_eq!(head.content_type(), Some("video/mp4"));
    assert_eq!(head.cache_control(), Some("public, max-age=2"));
    assert_eq!(head.content_encoding(), None);
}

#[tokio::test]
async fn recordings_are_put_in_their_storage_class_or_where_that_is_refused_in_the_buckets_own() {
    const KEYS: [&str; 3] = ["live/demo/720p/1/1.m4s", "live/demo/720p/1/init.mp4", "live/demo/720p/index.m3u8"];
    // Which refuses others by itself.
    let server = S3Server::start().await;
    let faults = Faults::start(server.address, |_, _| {}).await;
    let endpoint = Some(format!("http://{}", faults.address));
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[recordings]\nrecord = true\nrecordings_storage_class = \"REDUCED_REDUNDANCY\"\n";
    std::fs::write(&file, text).unwrap();
    let classes = Classes::from(&headwater::config::load(Some(file.path()), []).unwrap());
    let store = client(&server, &S3Config { endpoint, ..server.config() }).await.with_classes(classes);
    let seen = Arc::<Mutex<Vec<Option<String>>>>::default();
    let put = async |refused: bool| {
        let told = Arc::clone(&seen);
        faults.set(move |request| {
            told.lock().unwrap().push(request.storage_class.clone());
            let refuses = refused && request.storage_class.is_some();
            if refuses { Fault::Answer(400, "InvalidStorageClass") } else { Fault::None }
        });
        for key in KEYS {
            store.put(object(key, "x")).await.unwrap();
        }
        std::mem::take(&mut *seen.lock().unwrap())
    };
    let class = Some("REDUCED_REDUNDANCY".to_owned());
    assert_eq!(put(false).await, [class.clone(), None, None], "media alone");
    assert_eq!(put(true).await, [class, None, None, None], "the first once more");
    assert_eq!(put(true).await, [None, None, None], "it is not asked again");
    assert_eq!(store.get(KEYS[0]).await.unwrap(), Some("x".into()));
}

#[tokio::test]
async fn s3_that_refuses_conditions_is_written_without_them() {
    for (status, code) in [(501, "NotImplemented"), (501, ""), (400, "InvalidArgument")] {
        let server = S3Server::start().await;
        let faults = Faults::start(server.address, |_, _| {}).await;
        faults.set(move |request| if request.is_conditional { Fault::Answer(status, code) } else { Fault::None });
        let endpoint = Some(format!("http://{}", faults.address));
        let store = client(&server, &S3Config { endpoint, ..server.config() }).await;
        writes_by_conditions(&store).await;
        assert_eq!(store.is_conditional().await, Ok(false), "{status} {code}");
    }
}

#[tokio::test]
async fn s3_that_does_not_say_what_there_is_not_is_written_all_the_same() {
    let server = S3Server::start().await;
    let faults = Faults::start(server.address, |_, _| {}).await;
    // What there is not is denied, as without the right to list; or all is, as without that to read.
    faults.set(|request| match request.method.as_str() {
        "GET" => Fault::Answer(403, "AccessDenied"),
        _ => Fault::None,
    });
    let endpoint = Some(format!("http://{}", faults.address));
    let store = client(&server, &S3Config { endpoint, ..server.config() }).await;
    let put = async |text: &'static str| store.put_if(object("live/demo/index.m3u8", text), Condition::Found).await;
    put("one").await.unwrap();
    assert!(matches!(put("two").await, Err(StoreError::Denied(_))), "what it replaces is not known");
    faults.set(|_| Fault::None);
    let version = put("three").await.unwrap();
    assert_eq!(store.read("live/demo/index.m3u8").await.unwrap(), Some(("three".into(), version.unwrap())));
}

#[tokio::test]
async fn s3_deletes_more_keys_than_one_request_takes() {
    let server = S3Server::start().await;
    many_keys_are_deleted(&server, &server.config(), 1001).await;
}

/// One that keeps its objects on several machines takes tens of milliseconds for each key, and a request must not last for long.
#[tokio::test]
async fn s3_is_not_asked_to_delete_many_keys_at_once() {
    let server = S3Server::start().await;
    let faults = Faults::start(server.address, |_, _| {}).await;
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    faults.set(move |request| {
        seen.fetch_add(usize::from(request.path.contains("?delete")), Ordering::Relaxed);
        Fault::None
    });
    let place = Some(format!("http://{}", faults.address));
    many_keys_are_deleted(&server, &S3Config { endpoint: place, ..server.config() }, 250).await;
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn s3_without_batches_deletes_one_by_one() {
    let server = S3Server::start_without("DeleteObjects").await;
    conforms(&client(&server, &server.config()).await).await;
}

#[tokio::test]
async fn a_bucket_that_may_not_be_written_to_fails_the_probe() {
    let server = S3Server::start_without("PutObject").await;
    let store = client(&server, &server.config()).await;
    assert_eq!(store.probe().await.unwrap_err().kind(), "refused");
    assert_eq!(store.get("live/a").await, Ok(None));
}

async fn many_keys_are_deleted(server: &S3Server, config: &S3Config, count: usize) {
    let store = client(server, config).await;
    let keys: Vec<_> = (0..count).map(|n| format!("live/many/{n}.m4s")).collect();
    let ends = [keys.first().unwrap(), keys.last().unwrap()];
    for key in ends {
        store.put(object(key, "x")).await.unwrap();
    }
    store.delete(&keys).await.unwrap();
    for key in ends {
        assert_eq!(store.get(key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_window_reaches_the_bucket() {
    let server = S3Server::start().await;
    let store = Arc::new(client(&server, &server.config()).await);
    let (live, snapshots) = watch::channel(Arc::new(snapshot()));
    drop(live);
    let (report, status) = watch::channel(UploadStatus::default());
    let channel = ChannelName::new("demo").unwrap();
    let writer = Writer::new(&channel, Holder::new(SystemTime::UNIX_EPOCH), store.clone());
    let kept = watch::channel(Some(Arc::default())).1;
    let setup = Setup { channel, store: store.clone(), writer, kept, spool: None, metrics: Metrics::default() };
    upload(setup, Inherited::default(), snapshots, report, CancellationToken::new()).await;
    let stored = Some(Msn(1));
    let renditions = status.borrow().renditions.clone();
    let named = Some(NamedFrom { session: SessionId(7), msn: Msn(1) });
    let expected = UploadStatus { stored, seen: stored, renditions, named, ..UploadStatus::default() };
    assert_eq!(*status.borrow(), expected);
    for (key, data) in [
        ("live/demo/index.m3u8", "multivariant"),
        ("live/demo/720p/index.m3u8", "playlist"),
        ("live/demo/720p/iframes.m3u8", "i-frames"),
        ("live/demo/720p/7/init.mp4", "init"),
        ("live/demo/720p/7/1.m4s", "segment"),
    ] {
        assert_eq!(store.get(key).await.unwrap(), Some(data.into()), "{key}");
    }
}

fn snapshot() -> ChannelSnapshot {
    let text =
        |text: &'static str| Playlist::new(text.into(), String::new(), SystemTime::UNIX_EPOCH, Lazy::new(Bytes::new));
    let segment = Segment {
        msn: Msn(1),
        session: SessionId(7),
        discontinuity: false,
        start: MediaTime::ZERO,
        duration: MediaTime::from_millis(4000),
        program_date_time: SystemTime::UNIX_EPOCH,
        media: Media::Hot { data: "segment".into(), parts: Vec::new() },
    };
    let rendition = RenditionSnapshot {
        name: RenditionName::new("720p").unwrap(),
        kind: RenditionKind::Video,
        container: Container::Cmaf,
        playlist: Some(text("playlist")),
        i_frames: Some(IFrames { playlist: text("i-frames"), low_latency: None, delta: None, next: 2 }),
        low_latency: None,
        news: News::default(),
        inits: vec![Arc::new(Init { session: SessionId(7), data: "init".into() })],
        segments: Arc::new([Arc::new(segment)].into()),
        first_listed: Msn(1),
        open: None,
    };
    ChannelSnapshot {
        multivariant: Some(text("multivariant")),
        target_duration_secs: 4,
        renditions: vec![Arc::new(rendition)],
        ended: true,
    }
}

/// The AWS chain reads the environment of its process, so this test runs itself again in processes of their own.
#[tokio::test]
async fn credentials_come_from_the_environment() {
    if let Ok(endpoint) = std::env::var(CHILD_ENDPOINT) {
        return child(endpoint).await;
    }
    let server = S3Server::start().await;
    let Credentials { access_key_id, secret_access_key } = server.credentials.clone();
    let keys = [("AWS_ACCESS_KEY_ID", access_key_id), ("AWS_SECRET_ACCESS_KEY", secret_access_key)];
    run_child(&server, "ok", keys.to_vec()).await;
    run_child(&server, "denied", Vec::new()).await;
}

/// In the child: probes the store, and the outcome is as its parent expects.
async fn child(endpoint: String) {
    let config = S3Config {
        bucket: "live".to_owned(),
        prefix: String::new(),
        region: None,
        endpoint: Some(endpoint),
        path_style: true,
    };
    let outcome = open(&StoreConfig::S3(config), Classes::default()).await.unwrap().probe().await;
    let outcome = outcome.map_or_else(|error| error.kind(), |()| "ok");
    assert_eq!(outcome, std::env::var(CHILD_OUTCOME).unwrap());
}

async fn run_child(server: &S3Server, outcome: &str, variables: Vec<(&'static str, String)>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "credentials_come_from_the_environment"]);
    command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env(CHILD_OUTCOME, outcome);
    command.env(CHILD_ENDPOINT, format!("http://{}", server.address)).envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

const CHILD_ENDPOINT: &str = "HEADWATER_TEST_S3_ENDPOINT";
const CHILD_OUTCOME: &str = "HEADWATER_TEST_S3_OUTCOME";
