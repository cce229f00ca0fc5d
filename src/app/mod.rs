//! The supervisor: starts the stages, joins them to each other, and orders the shutdown.
//!
//! It owns every task. A panic in one is logged and ends one channel or one listener's connection, not the process.

mod away;
mod channel;
mod chronicler;
mod http;
mod inspection;
mod keys;
mod recall;
mod roster;
mod stage;
mod storyboard;
mod takeover;
mod thumbnails;
mod told;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::http::{Http, HttpAddresses, Served};
use crate::archive::{Archive, Limits};
use crate::config::{ChannelConfig, Config, SpoolConfig, TlsConfig, check_environment};
use crate::guard::Guard;
use crate::ingest::webhook::client::{Webhook, notify};
use crate::ingest::{self, Access, Configurator, Hooks, Ingest, Listeners, SharedThrottle, StreamKeys};
use crate::metrics::Metrics;
use crate::origin::Playback;
use crate::source::{ClientConfiguration, OpenRequest};
use crate::store::{self, Classes, Shelf, Spool};
use crate::tls::{Certificate, TlsPort};
use crate::transcode;
use keys::ChannelKeys;
use roster::Roster;
use stage::Stage;

pub use away::serve_origin;

/// How long channels may take to finish their segments once their publishers are gone.
const FINISH_DEADLINE: Duration = Duration::from_secs(8);

/// How long the store may take for what is left.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Where the listeners are, once they are bound.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    rtmp: SocketAddr,
    rtmps: Option<SocketAddr>,
    http: HttpAddresses,
}

/// Requests for channels on the fly that wait for the supervisor. When it is full, the connections that ask wait.
const OPEN_QUEUE: usize = 16;

/// The tasks of a running server, by the order in which they end.
struct Server {
    listeners: Stage,
    demo: Stage,
    roster: Roster,
    /// Brings to the store what waits on local disk.
    spool: Stage,
    hooks: Stage,
    http: Stage,
    /// New viewers are to go elsewhere.
    draining: CancellationToken,
}

/// Runs the server until `stop` is cancelled, and then ends it in order: publishers, segments, uploads, viewers.
///
/// # Errors
/// Where it cannot start: GStreamer lacks an element, a port is taken, a path cannot be written.
pub async fn serve(config: Config, demo: bool, stop: CancellationToken) -> anyhow::Result<()> {
    transcode::init()?;
    for lacking in transcode::undecodable() {
        warn!("{lacking} It is not needed for other sources.");
    }
    let keys = keys::load(&config.data_dir, &config.channels)?;
    let store = store::open(&config.store, Classes::from(&config)).await?;
    let metrics = Metrics::default();
    let spool = open_spool(config.spool.as_ref(), &metrics).await?;
    let rtmp = bind("rtmp", config.rtmp.listen).await?;
    let rtmps = bind_tls(config.rtmps.clone(), &[]).await?;
    let http = Http::open(&config).await?;
    let addresses = Addresses {
        rtmp: rtmp.local_addr()?,
        rtmps: rtmps.as_ref().map(TlsPort::local_addr).transpose()?,
        http: http.addresses()?,
    };

    for warning in config.warnings(wall_clock()) {
        warn!("{warning}");
    }
    let limits = Limits { bytes_max: config.origin.cache_bytes_max, stale_max: config.origin.away.stale_max };
    // What is in the store, for all who read from it: the same copies.
    let archive: Arc<dyn Archive> = Arc::new(Shelf::new(Arc::clone(&store), limits, metrics.clone()));
    let demo_url = demo_url(demo, &keys, addresses.rtmp)?;
    let mut server = Server::new(roster::Setup::new(&config, Arc::clone(&store), spool.clone(), metrics.clone()));
    if let Some(spool) = spool {
        let counters = metrics.clone();
        server.spool.spawn(|stop| store::drain(spool, store, counters, stop));
    }
    let (opens, mut asked) = mpsc::channel(OPEN_QUEUE);
    let hooks = server.start_hooks(&config, opens, &metrics)?;
    let channels = config.channels.iter().map(|channel| (channel.name.clone(), server.roster.start(channel))).collect();
    // Until then viewers and publishers wait at the ports, rather than being told that there is nothing.
    tokio::select! {
        () = server.roster.recalled() => {}
        () = stop.cancelled() => {
            server.shut_down().await;
            return Ok(());
        }
    }
    let guard = Guard::new(config.rtmp.limits.clone());
    let access = Arc::new(Access { keys: stream_keys(&keys), channels, hooks, guard: guard.clone() });
    let configuration = Arc::new(configurator(&config, &access, addresses.rtmp.port()));
    server.start_http(http, archive, configuration, guard.clone(), &metrics);
    announce(addresses, &keys);
    server.start_ingest(Listeners { rtmp, rtmps }, Ingest { config: config.rtmp, access, guard, metrics });
    if let Some(url) = demo_url {
        server.demo.spawn(|stop| transcode::test_source(url, stop));
    }

    tokio::select! {
        () = stop.cancelled() => {}
        () = server.roster.attend(&mut asked) => stop.cancelled().await,
    }
    info!("stopping: publishers first, then segments, uploads and viewers");
    server.shut_down().await;
    info!("stopped");
    Ok(())
}

/// What only the machine can tell of a config: paths, ports, certificates, keys in files. Returns warnings.
///
/// # Errors
/// A sentence for each thing that does not work, with its key.
pub fn check(config: &Config) -> Result<Vec<String>, Vec<String>> {
    let mut problems = check_environment(config).err().unwrap_or_default();
    let mut warnings = config.warnings(wall_clock());
    for certificate in config.rtmps.iter().chain(&config.origin_tls).map(Certificate::read) {
        match certificate {
            Ok(certificate) => warnings.extend(certificate.warning(wall_clock())),
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    problems.extend(Playback::read(&config.playback).err().map(|problem| problem.to_string()));
    if problems.is_empty() { Ok(warnings) } else { Err(problems) }
}

#[expect(clippy::disallowed_methods, reason = "certificates and stream keys are valid by the calendar")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

impl Server {
    fn new(channels: roster::Setup) -> Self {
        Self {
            listeners: Stage::new("ingest"),
            demo: Stage::new("demo"),
            roster: Roster::new(channels),
            spool: Stage::new("spool"),
            hooks: Stage::new("hooks"),
            http: Stage::new("http"),
            draining: CancellationToken::new(),
        }
    }

    fn start_hooks(
        &mut self,
        config: &Config,
        opens: mpsc::Sender<OpenRequest>,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Hooks>> {
        let Some(config) = config.hooks.clone() else { return Ok(None) };
        let made = Webhook::new(config, metrics.clone());
        let (webhook, notices) = made.context("hooks: reading the certificates that the system trusts")?;
        let teller = Arc::clone(&webhook);
        self.hooks.spawn(|stop| notify(teller, notices, stop));
        Ok(Some(Hooks { webhook, opens }))
    }

    fn start_http(
        &mut self,
        http: Http,
        archive: Arc<dyn Archive>,
        configuration: Arc<dyn ClientConfiguration>,
        guard: Guard,
        metrics: &Metrics,
    ) {
        let served = Served {
            directory: self.roster.directory(),
            archive,
            away: None,
            configuration: Some(configuration),
            guard,
            metrics: metrics.clone(),
            draining: self.draining.clone(),
        };
        http.start(&mut self.http, served);
    }

    fn start_ingest(&mut self, listeners: Listeners, ingest: Ingest) {
        self.listeners.spawn(|stop| ingest::serve(listeners, ingest, stop));
    }

    /// Ends the stages in the direction of the data, so that each can finish what the one before it sent.
    async fn shut_down(mut self) {
        self.draining.cancel();
        // The channels must know before their publishers go, lest they wait out a grace.
        self.roster.close();
        self.demo.stop.cancel();
        self.listeners.end(FINISH_DEADLINE).await;
        self.roster.shut_down().await;
        self.spool.end(FINISH_DEADLINE).await;
        self.hooks.end(FINISH_DEADLINE).await;
        self.http.end(FINISH_DEADLINE).await;
        self.demo.end(FINISH_DEADLINE).await;
    }
}

async fn open_spool(config: Option<&SpoolConfig>, metrics: &Metrics) -> anyhow::Result<Option<Spool>> {
    let Some(config) = config else { return Ok(None) };
    let opened = Spool::open(config, metrics.clone()).await;
    opened
        .map(Some)
        .context("store.spool.path: the directory must be there, or be one that can be made, and be readable")
}

async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{what}.listen: cannot listen on {address}; stop what listens there, or choose another port")
    })
}

/// A port that speaks TLS, where there is to be one, and `protocols` above it.
async fn bind_tls(config: Option<TlsConfig>, protocols: &'static [&'static [u8]]) -> anyhow::Result<Option<TlsPort>> {
    let Some(config) = config else { return Ok(None) };
    let certificate = Certificate::read(&config)?;
    let listener = bind(config.section, config.listen).await?;
    Ok(Some(TlsPort::new(listener, config, certificate, protocols)))
}

/// All keys of all channels.
fn stream_keys(keys: &[ChannelKeys]) -> StreamKeys {
    let of = |channel: &ChannelKeys| {
        let name = channel.channel.clone();
        channel.keys.clone().into_iter().map(move |key| (name.clone(), key))
    };
    StreamKeys::new(keys.iter().flat_map(of))
}

fn configurator(config: &Config, access: &Arc<Access>, rtmp_port: u16) -> Configurator {
    let ladder = |channel: &ChannelConfig| (channel.name.clone(), Arc::clone(&channel.ladder));
    Configurator {
        access: Arc::clone(access),
        channels: config.channels.iter().map(ladder).collect(),
        ladders: config.ladders.clone(),
        segment_duration: config.hls.segment_duration,
        public_url: config.rtmp.public_url.clone(),
        rtmp_port,
        refusals: SharedThrottle::default(),
    }
}

/// The URL that the demo pushes to: that of the channel `demo`, of which a key must be known in clear.
fn demo_url(demo: bool, keys: &[ChannelKeys], rtmp: SocketAddr) -> anyhow::Result<Option<String>> {
    if !demo {
        return Ok(None);
    }
    let plain = keys.iter().find(|keys| keys.channel.as_str() == "demo").and_then(ChannelKeys::plain);
    let key = plain.context("--demo needs a channel `demo` with a stream key in clear that does not expire")?;
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
fn announce(addresses: Addresses, keys: &[ChannelKeys]) {
    let Addresses { http: HttpAddresses { origin, origin_tls, admin }, .. } = addresses;
    let http = format!("http://{}:{}", loopback(origin), origin.port());
    let port = match addresses.rtmp.port() {
        1935 => String::new(),
        port => format!(":{port}"),
    };
    println!("\nHeadwater is running. Watch: {http}/   Status: http://{admin}/api/v1/channels");
    if let Some(tls) = origin_tls {
        println!("With TLS: https://{}:{}/", loopback(tls), tls.port());
    }
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
    from_elsewhere(addresses.rtmp);
    if addresses.rtmps.or(origin_tls).is_some() {
        println!("With rtmps:// and https://, put the name that the certificate is for.");
    }
}

/// What is announced at the end, of all that was.
fn from_elsewhere(listener: SocketAddr) {
    println!("\nFrom another machine, put this one's name or address in place of {}.", loopback(listener));
}
