//! The HTTP side of a server, whatever its role: the origin's ports, and the admin listener.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::{bind, bind_tls};
use crate::admin::{self, Admin};
use crate::archive::Archive;
use crate::config::{Config, OriginConfig};
use crate::guard::Guard;
use crate::http_server::{self, Ports};
use crate::live::Directory;
use crate::metrics::Metrics;
use crate::origin::{self, LogFile, Origin, Playback};
use crate::source::{ChannelName, ClientConfiguration};
use crate::tls::TlsPort;

/// Ports that are bound, and what they need of the config.
pub(super) struct Http {
    config: OriginConfig,
    origin: Ports,
    access_log: Option<LogFile>,
    admin: TcpListener,
    playback: Playback,
}

/// Where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct HttpAddresses {
    pub(super) origin: SocketAddr,
    pub(super) origin_tls: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
}

/// What is served on them.
pub(super) struct Served {
    pub(super) directory: watch::Receiver<Directory>,
    /// What is not in this process.
    pub(super) archive: Arc<dyn Archive>,
    /// The channels that are looked for in the role in which it has none.
    pub(super) away: Option<Arc<[ChannelName]>>,
    pub(super) configuration: Option<Arc<dyn ClientConfiguration>>,
    pub(super) guard: Guard,
    pub(super) metrics: Metrics,
    /// New viewers are to go elsewhere.
    pub(super) draining: CancellationToken,
}

impl Http {
    /// Binds the ports.
    ///
    /// # Errors
    /// A port is taken, a certificate, a key or the access log cannot be used.
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let plain = bind("origin", config.origin.listen).await?;
        let tls = bind_tls(config.origin_tls.clone(), http_server::PROTOCOLS).await?;
        let access_log = LogFile::open(&config.origin.access_log).await;
        Ok(Self {
            config: config.origin.clone(),
            origin: Ports { plain, tls },
            access_log: access_log.context("origin.access_log: cannot be written")?,
            admin: bind("admin", config.admin.listen).await?,
            playback: Playback::read(&config.playback)?,
        })
    }

    /// Where the ports are.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn addresses(&self) -> anyhow::Result<HttpAddresses> {
        Ok(HttpAddresses {
            origin: self.origin.plain.local_addr()?,
            origin_tls: self.origin.tls.as_ref().map(TlsPort::local_addr).transpose()?,
            admin: self.admin.local_addr()?,
        })
    }

    /// Serves, as tasks of `stage`.
    pub(super) fn start(self, stage: &mut Stage, served: Served) {
        let Self { config, origin, access_log, admin, playback } = self;
        let Served { directory, archive, away, configuration, guard, metrics, draining } = served;
        let for_admin = Admin { directory: directory.clone(), metrics: metrics.clone() };
        let for_origin = Origin { config, directory, archive, away, playback, configuration, guard, metrics, draining };
        stage.spawn(|stop| origin::serve(origin, for_origin, access_log, stop));
        stage.spawn(|stop| admin::serve(admin, for_admin, stop));
    }
}
