//! The role of an origin only: no encoders, no channels of its own; what the server that it follows has, and what is in the store.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::http::{Http, HttpAddresses, Served};
use super::stage::Stage;
use super::{FINISH_DEADLINE, from_elsewhere, loopback, wall_clock};
use crate::archive::{Archive, Disk, Limits};
use crate::config::{Config, DiskConfig, StoreConfig};
use crate::follow::{self, Upstream};
use crate::guard::Guard;
use crate::live::Directory;
use crate::metrics::{KindLabel, Metrics};
use crate::store::{self, Classes, Shelf};

/// Serves viewers until `stop` is cancelled.
///
/// # Errors
/// Where it cannot start: a port is taken, the store's configuration makes no sense.
pub async fn serve_origin(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let (metrics, draining) = (Metrics::default(), CancellationToken::new());
    if let StoreConfig::Fs { path } = &config.store {
        let problem = "is no directory here; mount it, or start the server that writes it before this one";
        anyhow::ensure!(path.is_dir(), "store.path: {} {problem}", path.display());
    }
    let store = store::open(&config.store, Classes::default()).await?;
    let http = Http::open(&config).await?;
    let addresses = http.addresses()?;
    for warning in config.warnings(wall_clock()) {
        warn!("{warning}");
    }
    let limits = Limits { bytes_max: config.origin.cache_bytes_max, stale_max: config.origin.away.stale_max };
    let mut stage = Stage::new("http");
    let disk = config.origin.away.disk.clone().map(|disk| keep_on(disk, &metrics, &mut stage));
    let shelf: Arc<dyn Archive> = Arc::new(Shelf::new(store, limits, metrics.clone()).with_disk(disk.clone()));
    let archive: Arc<dyn Archive> = match config.origin.away.upstream.clone() {
        None => shelf,
        Some(base) => {
            let (secret, metrics) = (config.origin.cdn.clone(), metrics.clone());
            let upstream = Upstream::new(follow::Setup { base, secret, limits, disk, otherwise: shelf, metrics });
            Arc::new(upstream.context("origin.upstream: reading the certificates that the system trusts")?)
        }
    };
    let names = config.channels.iter().map(|channel| channel.name.clone()).collect();
    // Nothing is ever in it.
    let (_none, directory) = watch::channel(Directory::default());
    let served = Served {
        directory,
        archive,
        away: Some(names),
        configuration: None,
        guard: Guard::new(config.rtmp.limits.clone()),
        metrics,
        draining: draining.clone(),
    };
    http.start(&mut stage, served);
    announce(addresses, config.origin.away.upstream.as_deref());
    stop.cancelled().await;
    info!("stopping");
    draining.cancel();
    stage.end(FINISH_DEADLINE).await;
    info!("stopped");
    Ok(())
}

/// A disk cache, which a task of `stage` writes.
fn keep_on(disk: DiskConfig, metrics: &Metrics, stage: &mut Stage) -> Disk {
    let found = metrics.archive_fetches.get_or_create(&KindLabel { kind: "disk" }).clone();
    let (disk, keeper) = Disk::new(disk.path, disk.bytes_max, found);
    stage.spawn(|stop| keeper.run(stop));
    disk
}

fn announce(addresses: HttpAddresses, upstream: Option<&str>) {
    let http = format!("http://{}:{}", loopback(addresses.origin), addresses.origin.port());
    println!("\nHeadwater is running as an origin. Watch: {http}/   Status: http://{}/metrics", addresses.admin);
    if let Some(tls) = addresses.origin_tls {
        println!("With TLS: https://{}:{}/", loopback(tls), tls.port());
    }
    match upstream {
        Some(upstream) => println!("It follows {upstream}, and serves the store where that has nothing."),
        None => println!("It serves what is in the store; set origin.upstream for low latency."),
    }
    from_elsewhere(addresses.origin);
}
