//! The supervisor: starts the stages, joins them to each other, and orders the shutdown.
//!
//! It owns every task. A panic in one is logged and ends one channel or one listener's connection, not the process.

mod channel;
mod keys;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::admin::{self, Admin};
use crate::config::{ChannelConfig, Config, RtmpsConfig, check_environment};
use crate::guard::Guard;
use crate::ingest::{self, Certificate, Ingest, Listeners, Rtmps, StreamKeys};
use crate::live::{ChannelPhase, ChannelSnapshot, ChannelView, Directory, UploadStatus};
use crate::metrics::Metrics;
use crate::origin::{self, Origin};
use crate::source::{ChannelName, PublishRequest};
use crate::store::{self, Store};
use crate::{packager, transcode};
use channel::Channel;
use keys::ChannelKey;

/// Units between the transcoder and the packager of a channel. When it is full the pipeline waits, and with it the
/// publisher: the packager never waits for anything, so this is only ever for moments.
const LADDER_QUEUE: usize = 256;

/// Publishers that wait for a channel's answer. When it is full, so that the channel does not answer, they wait
/// until their own deadline.
const REQUEST_QUEUE: usize = 4;

/// How long channels may take to finish their segments once their publishers are gone.
const FINISH_DEADLINE: Duration = Duration::from_secs(8);

/// How long the store may take for what is left.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Where the listeners are, once they are bound.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    rtmp: SocketAddr,
    rtmps: Option<SocketAddr>,
    origin: SocketAddr,
    admin: SocketAddr,
}

/// The tasks of a running server, by the order in which they end.
struct Server {
    listeners: Stage,
    demo: Stage,
    channels: Stage,
    packagers: Stage,
    uploaders: Stage,
    http: Stage,
    /// Uploads stop where they are.
    drained: CancellationToken,
    /// New viewers are to go elsewhere.
    draining: CancellationToken,
}

/// Runs the server until `stop` is cancelled, and then ends it in order: publishers, segments, uploads, viewers.
///
/// # Errors
/// Where it cannot start: GStreamer lacks an element, a port is taken, a path cannot be written.
pub async fn serve(config: Config, demo: bool, stop: CancellationToken) -> anyhow::Result<()> {
    transcode::init()?;
    let keys = keys::load(&config.data_dir, &config.channels)?;
    let store = store::open(&config.store).await?;
    let rtmp = bind("rtmp", config.rtmp.listen).await?;
    let rtmps = bind_rtmps(config.rtmps.clone()).await?;
    let origin = bind("origin", config.origin.listen).await?;
    let admin = bind("admin", config.admin.listen).await?;
    let addresses = Addresses {
        rtmp: rtmp.local_addr()?,
        rtmps: rtmps.as_ref().map(|rtmps| rtmps.listener.local_addr()).transpose()?,
        origin: origin.local_addr()?,
        admin: admin.local_addr()?,
    };

    let metrics = Metrics::default();
    let mut server = Server::new();
    let (requests, directory) = server.start_channels(&config, &store, &metrics);
    server.start_http(origin, admin, &directory, &metrics);
    let demo_url = demo_url(demo, &config, &keys, addresses.rtmp)?;
    announce(addresses, &keys);
    let keys = StreamKeys::new(keys.into_iter().map(|key| (key.channel, key.key)));
    let guard = Guard::new(config.rtmp.limits.clone());
    let ingest = Ingest { config: config.rtmp, keys, guard, channels: requests, metrics };
    server.start_ingest(Listeners { rtmp, rtmps }, ingest);
    if let Some(url) = demo_url {
        server.demo.spawn(|stop| transcode::test_source(url, stop));
    }

    stop.cancelled().await;
    info!("stopping: publishers first, then segments, uploads and viewers");
    server.shut_down().await;
    info!("stopped");
    Ok(())
}

/// What only the machine can tell of a config: paths, ports, the certificate. Returns warnings.
///
/// # Errors
/// A sentence for each thing that does not work, with its key.
pub fn check(config: &Config) -> Result<Vec<String>, Vec<String>> {
    let mut problems = check_environment(config).err().unwrap_or_default();
    let certificate = config.rtmps.as_ref().map(Certificate::read);
    let warnings = match certificate {
        Some(Ok(certificate)) => certificate.warning(wall_clock()).into_iter().collect(),
        Some(Err(problem)) => {
            problems.push(problem.to_string());
            Vec::new()
        }
        None => Vec::new(),
    };
    if problems.is_empty() { Ok(warnings) } else { Err(problems) }
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

impl Server {
    fn new() -> Self {
        Self {
            listeners: Stage::new("ingest"),
            demo: Stage::new("demo"),
            channels: Stage::new("channel"),
            packagers: Stage::new("packager"),
            uploaders: Stage::new("store"),
            http: Stage::new("http"),
            drained: CancellationToken::new(),
            draining: CancellationToken::new(),
        }
    }

    fn start_channels(
        &mut self,
        config: &Config,
        store: &Arc<dyn Store>,
        metrics: &Metrics,
    ) -> (BTreeMap<ChannelName, mpsc::Sender<PublishRequest>>, Directory) {
        let mut requests = BTreeMap::new();
        let mut views = BTreeMap::new();
        for channel in &config.channels {
            let (request, view) = self.start_channel(channel, config, Arc::clone(store), metrics);
            requests.insert(channel.name.clone(), request);
            views.insert(channel.name.clone(), view);
        }
        (requests, Arc::new(views))
    }

    /// Starts the three tasks of a channel, joined by their queues.
    fn start_channel(
        &mut self,
        channel: &ChannelConfig,
        config: &Config,
        store: Arc<dyn Store>,
        metrics: &Metrics,
    ) -> (mpsc::Sender<PublishRequest>, ChannelView) {
        let name = &channel.name;
        let (request, requests) = mpsc::channel(REQUEST_QUEUE);
        let (ladder, ladder_events) = mpsc::channel(LADDER_QUEUE);
        let (phase, phase_view) = watch::channel(ChannelPhase::default());
        let (live, live_view) = watch::channel(Arc::new(ChannelSnapshot::default()));
        let (upload, upload_view) = watch::channel(UploadStatus::default());

        let setup = packager::Setup { channel: name.clone(), hls: config.hls, metrics: metrics.clone() };
        self.packagers.spawn(|_| packager::run(setup, ladder_events, live));
        let setup = store::Setup { channel: name.clone(), store, metrics: metrics.clone() };
        let (snapshots, drained) = (live_view.clone(), self.drained.clone());
        self.uploaders.spawn(|_| store::upload(setup, snapshots, upload, drained));
        let (config, hls, grace) = (channel.clone(), config.hls, config.channel.grace);
        let metrics = metrics.clone();
        let span = info_span!("channel", channel = %name);
        self.channels.spawn(|stop| {
            Channel { config, hls, grace, metrics, requests, ladder, phase, stop }.run().instrument(span)
        });
        (request, ChannelView { live: live_view, phase: phase_view, upload: upload_view })
    }

    fn start_http(&mut self, origin: TcpListener, admin: TcpListener, directory: &Directory, metrics: &Metrics) {
        let for_origin =
            Origin { directory: Arc::clone(directory), metrics: metrics.clone(), draining: self.draining.clone() };
        let for_admin = Admin { directory: Arc::clone(directory), metrics: metrics.clone() };
        self.http.spawn(|stop| origin::serve(origin, for_origin, stop));
        self.http.spawn(|stop| admin::serve(admin, for_admin, stop));
    }

    fn start_ingest(&mut self, listeners: Listeners, ingest: Ingest) {
        self.listeners.spawn(|stop| ingest::serve(listeners, ingest, stop));
    }

    /// Ends the stages in the direction of the data, so that each can finish what the one before it sent.
    async fn shut_down(mut self) {
        self.draining.cancel();
        // The channels must know before their publishers go, lest they wait out a grace.
        self.channels.stop.cancel();
        self.demo.stop.cancel();
        self.listeners.end(FINISH_DEADLINE).await;
        self.channels.end(FINISH_DEADLINE).await;
        self.packagers.end(FINISH_DEADLINE).await;
        if timeout(DRAIN_DEADLINE, self.uploaders.join()).await.is_err() {
            warn!(deadline = ?DRAIN_DEADLINE, "not all segments reached the store in time");
            self.drained.cancel();
            self.uploaders.end(FINISH_DEADLINE).await;
        }
        self.http.end(FINISH_DEADLINE).await;
        self.demo.end(FINISH_DEADLINE).await;
    }
}

/// Tasks that start and end together.
struct Stage {
    name: &'static str,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Stage {
    fn new(name: &'static str) -> Self {
        Self { name, tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, task: impl FnOnce(CancellationToken) -> F) {
        self.tasks.spawn(task(self.stop.clone()));
    }

    /// Waits for all tasks, and says which of them panicked.
    async fn join(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(panic) = ended {
                error!(stage = self.name, %panic, "a task failed");
            }
        }
    }

    /// Tells the tasks to stop and waits for them; what is not done by the deadline is dropped.
    async fn end(&mut self, deadline: Duration) {
        self.stop.cancel();
        if timeout(deadline, self.join()).await.is_err() {
            warn!(stage = self.name, ?deadline, "did not stop in time");
            self.tasks.shutdown().await;
        }
    }
}

async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{what}.listen: cannot listen on {address}; stop what listens there, or choose another port")
    })
}

/// The RTMPS port, where there is to be one.
async fn bind_rtmps(config: Option<RtmpsConfig>) -> anyhow::Result<Option<Rtmps>> {
    let Some(config) = config else { return Ok(None) };
    let certificate = Certificate::read(&config)?;
    let listener = bind("rtmps", config.listen).await?;
    Ok(Some(Rtmps { listener, config, certificate }))
}

/// The URL that the demo pushes to: that of the channel `demo`, whose key must be known in clear.
fn demo_url(demo: bool, config: &Config, keys: &[ChannelKey], rtmp: SocketAddr) -> anyhow::Result<Option<String>> {
    if !demo {
        return Ok(None);
    }
    let key = config.channels.iter().zip(keys).find(|(channel, _)| channel.name.as_str() == "demo");
    let plain = key.and_then(|(channel, key)| match (&channel.key, &key.made) {
        (Some(crate::config::StreamKey::Plain(plain)), _) => Some(plain),
        (_, made) => made.as_ref(),
    });
    let key = plain.context("--demo needs a channel `demo` whose stream key is not given as a hash only")?;
    Ok(Some(format!("rtmp://{}:{}/live/{key}", loopback(rtmp), rtmp.port())))
}

/// The host under which this machine reaches a listener of its own.
fn loopback(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

/// Tells a person where everything is: to the terminal, not to the log, because it may hold a stream key.
fn announce(addresses: Addresses, keys: &[ChannelKey]) {
    let http = format!("http://{}:{}", loopback(addresses.origin), addresses.origin.port());
    let port = match addresses.rtmp.port() {
        1935 => String::new(),
        port => format!(":{port}"),
    };
    println!("\nHeadwater is running. Watch: {http}/   Status: http://{}/api/v1/channels", addresses.admin);
    for key in keys {
        println!("\nChannel {}: {http}/watch/{}", key.channel, key.channel);
        println!("  OBS, Settings, Stream, Service \"Custom...\":");
        println!("    Server      rtmp://{}{port}/live", loopback(addresses.rtmp));
        if let Some(rtmps) = addresses.rtmps {
            // The port always: encoders take it for 443 where none is given.
            println!("    or, by TLS  rtmps://{}:{}/live", loopback(rtmps), rtmps.port());
        }
        println!("    Stream Key  {}", key.made.as_deref().unwrap_or("(the one in your config)"));
    }
    println!("\nFrom another machine, put this one's name or address in place of {}.", loopback(addresses.rtmp));
    if addresses.rtmps.is_some() {
        println!("With rtmps://, put the name that the certificate is for.");
    }
}
