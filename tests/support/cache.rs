//! Caches before a server, as Debian has them, with the configurations that are shipped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{free_address, http, wait_for};

/// What stands before the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Varnish,
}

/// A running cache; ended when dropped.
pub(crate) struct Cache {
    /// `http://HOST:PORT`
    pub(crate) url: String,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Cache {
    /// Starts one before the origin at `origin` (`http://HOST:PORT`).
    pub(crate) fn before(origin: &str, kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (origin, listen) = (origin.trim_start_matches("http://"), free_address());
        let mut command = match kind {
            Kind::Nginx => nginx(directory.path(), origin, listen),
            Kind::Varnish => varnish(directory.path(), origin, listen),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{kind:?}: {error}: scripts/install-packages test"));
        let cache = Self { url: format!("http://{listen}"), child, _directory: directory };
        wait_for("an answer of the cache", Duration::from_secs(30), || http::get(&cache.url));
        cache
    }

    /// The URL of a playlist or media file below `/live/demo/`.
    pub(crate) fn live(&self, path: &str) -> String {
        format!("{}/live/demo/{path}", self.url)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Its workers go only if it is asked to, and not if it is killed.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.child.wait());
    }
}

fn nginx(directory: &Path, origin: &str, listen: SocketAddr) -> Command {
    let path = directory.display();
    let site = include_str!("../../config/cdn/nginx.conf")
        .replace("127.0.0.1:8080", origin)
        .replace("listen 80;", &format!("listen {listen};"))
        .replace("listen [::]:80;", "")
        .replace("/var/cache/nginx/", &format!("{path}/"));
    assert!(site.contains(origin) && site.contains(&listen.to_string()), "the shipped file is as it was");
    std::fs::write(directory.join("site.conf"), site).unwrap();
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {path}/{of};\n"))
        .concat();
    let main = format!(
        "user root;\ndaemon off;\npid {path}/pid;\nerror_log stderr warn;\nworker_processes 1;\nworker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{folders}include {path}/site.conf;\n}}\n"
    );
    let config = directory.join("nginx.conf");
    std::fs::write(&config, main).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(&config);
    command
}

fn varnish(directory: &Path, origin: &str, listen: SocketAddr) -> Command {
    let (host, port) = origin.rsplit_once(':').unwrap();
    let vcl = include_str!("../../config/cdn/varnish.vcl")
        .replace(".host = \"127.0.0.1\"", &format!(".host = \"{host}\""))
        .replace(".port = \"8080\"", &format!(".port = \"{port}\""));
    assert!(vcl.contains(port), "the shipped file is as it was");
    let config = directory.join("headwater.vcl");
    std::fs::write(&config, vcl).unwrap();
    let mut command = Command::new("varnishd");
    command.args(["-F", "-j", "none", "-a", &listen.to_string(), "-s", "malloc,64m"]);
    // As docs/cdn.md says.
    command.args(["-p", "timeout_idle=65", "-p", "backend_idle_timeout=25", "-f"]).arg(&config);
    command.arg("-n").arg(directory.join("work"));
    command
}
