//! The program: arguments, tracing, signals.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use headwater::verify::{self, Level};
use headwater::{app, config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use url::Url;

/// A publisher's messages are allocated in one task and freed in another, of all sizes: with 200 of them this takes a fifth less
/// CPU than the C library's allocator (`cargo bench --bench publishers`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A live streaming server: RTMP in, an adaptive-bitrate ladder, HLS out, kept in S3.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes publishers and serves players until SIGTERM or Ctrl-C.
    Serve {
        /// The settings; without it, the defaults. Environment variables HEADWATER_SECTION__KEY override both.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Publishes a moving test picture with sound to the channel `demo`.
        #[arg(long)]
        demo: bool,
        /// What this server does.
        #[arg(long, value_enum, default_value_t = Role::All, conflicts_with = "demo")]
        role: Role,
    },
    /// Says what is wrong with a config: keys, values, paths that cannot be written, ports that are taken, a
    /// certificate that cannot be used.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Reads a live HLS stream, this server's or any other's, and says which rules it breaks. Exits with 0 where all that
    /// must hold does, 1 where it does not, 2 where nothing can be read.
    Verify {
        /// Its multivariant playlist, or one media playlist.
        url: Url,
        /// How long to watch it.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
        /// One JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Takes publishers, makes the ladder, and serves players.
    All,
    /// Serves players what is in the store, or what the server has that it follows.
    Origin,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { config, demo, role } => serve(config, demo, role),
        Command::CheckConfig { file } => check_config(file),
        Command::Verify { url, seconds, json } => return verify(url, seconds, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: Option<PathBuf>, demo: bool, role: Role) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let config = config::load(file.as_deref(), variables())?;
    raise_file_limit(config.origin.connections_max);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signals = stop_on_signal(stop.clone())?;
        let serve = async {
            match role {
                Role::All => app::serve(config, demo, stop).await,
                Role::Origin => app::serve_origin(config, stop).await,
            }
        };
        tokio::select! {
            result = serve => result,
            () = signals => Ok(()),
        }
    });
    // A read or write that hangs in the kernel, of a disk over the network, is not waited for.
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    served
}

/// Raises the soft limit of open files, usually 1024, to the hard one: each viewer's connection is one.
fn raise_file_limit(viewers_max: usize) {
    let wanted = u64::try_from(viewers_max).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    match open_file_limit() {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => {
            warn!(
                limit,
                wanted, "the limit of open files allows fewer viewers than the server does: raise it (ulimit -n)"
            );
        }
        Err(error) => warn!("the limit of open files could not be raised: {error}"),
    }
}

fn open_file_limit() -> std::io::Result<u64> {
    let (soft, hard) = rlimit::Resource::NOFILE.get()?;
    if soft < hard {
        rlimit::Resource::NOFILE.set(hard, hard)?;
    }
    Ok(hard)
}

/// How long threads that read and write files may take when everything else is over.
const THREADS_END_WITHIN: Duration = Duration::from_secs(5);

/// Open files besides the origin's connections: publishers, the admin listener, pipelines, the store.
const OTHER_FILES: u64 = 1_000;

/// Cancels `stop` at the first SIGTERM or SIGINT; completes at the second, which ends the process where it is.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM"),
                _ = interrupt.recv() => info!("SIGINT"),
            }
            stop.cancel();
        }
    })
}

/// The environment, less what is not Unicode, which can be none of ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn check_config(file: PathBuf) -> anyhow::Result<()> {
    let config = config::load(Some(&file), variables())?;
    let warnings = app::check(&config).map_err(|problems| anyhow::anyhow!(problems.join("\n")))?;
    for warning in warnings {
        eprintln!("{}: warning: {warning}", file.display());
    }
    println!("{}: good: {} channel(s)", file.display(), config.channels.len());
    Ok(())
}

fn verify(url: Url, seconds: u64, json: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime");
    let audited = runtime.map_err(|error| format!("{error:#}")).and_then(|runtime| {
        let time = Duration::from_secs(seconds);
        runtime.block_on(verify::run(url.clone(), time))
    });
    match audited {
        Ok(report) => {
            print!("{}", if json { report.json(&url) } else { report.text() });
            if report.count(Level::Error) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("headwater: nothing to verify: {why}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_files_becomes_the_hard_one() {
        let limit = open_file_limit().unwrap();
        assert_eq!(rlimit::Resource::NOFILE.get().unwrap(), (limit, limit));
    }
}
