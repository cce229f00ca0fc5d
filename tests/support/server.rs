//! A running server: the real binary, on ports of its own, in a directory of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{http, process, wait_for};

/// Says what is different from the defaults, and starts the server.
pub(crate) struct Builder {
    directory: tempfile::TempDir,
    settings: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

/// The server; killed when dropped.
pub(crate) struct Server {
    pub(crate) directory: tempfile::TempDir,
    /// `rtmp://HOST:PORT/live`
    pub(crate) rtmp: String,
    /// `rtmps://HOST:PORT/live`, where it is on.
    pub(crate) rtmps: Option<String>,
    /// `http://HOST:PORT`
    pub(crate) origin: String,
    /// `https://HOST:PORT`, where it is on.
    pub(crate) origin_tls: Option<String>,
    /// `http://HOST:PORT`
    pub(crate) admin: String,
    /// Of the channel `demo`.
    pub(crate) key: String,
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, settings: String::new(), arguments: Vec::new(), variables: Vec::new() }
    }

    /// Appends to the config file.
    pub(crate) fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self.settings.push('\n');
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and waits until it says where it is.
    pub(crate) fn start(self) -> Server {
        let config = self.directory.path().join("headwater.toml");
        std::fs::write(&config, &self.settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["serve", "--config"])
            .arg(&config)
            .args(&self.arguments)
            .env("HEADWATER_RTMP__LISTEN", "127.0.0.1:0")
            .env("HEADWATER_ORIGIN__LISTEN", "127.0.0.1:0")
            .env("HEADWATER_ADMIN__LISTEN", "127.0.0.1:0")
            .env("RUST_LOG", "info,headwater=debug")
            .env("NO_COLOR", "1")
            .envs(self.variables)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            collect(child.stdout.take().unwrap(), Arc::clone(&log)),
            collect(child.stderr.take().unwrap(), Arc::clone(&log)),
        ];
        let said = wait_for("addresses on the terminal", Duration::from_secs(20), || {
            let text = log.lock().unwrap().clone();
            assert!(child.try_wait().unwrap().is_none(), "the server did not start: {text}");
            if text.contains("From another machine") { Ok(text) } else { Err(text) }
        });
        let origin = after(&said, "Watch: ").trim_end_matches('/').to_owned();
        let status = after(&said, "Status: ");
        let admin = status.trim_end_matches("/api/v1/channels").trim_end_matches("/metrics").to_owned();
        let tls = after(&said, "With TLS: ").trim_end_matches('/').to_owned();
        let origin_tls = Some(tls).filter(|url| !url.is_empty());
        let rtmp = after(&said, "Server ").to_owned();
        let rtmps = Some(after(&said, "by TLS ").to_owned()).filter(|url| !url.is_empty());
        let key = after(&said, "Stream Key ").to_owned();
        Server { directory: self.directory, rtmp, rtmps, origin, origin_tls, admin, key, child, log, readers }
    }
}

impl Server {
    /// `rtmp://HOST:PORT/live/KEY`
    pub(crate) fn publish_url(&self) -> String {
        format!("{}/{}", self.rtmp, self.key)
    }

    /// The URL of a playlist or media file below `/live/demo/`.
    pub(crate) fn live(&self, path: &str) -> String {
        format!("{}/live/demo/{path}", self.origin)
    }

    /// The store's directory, where it keeps files.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("data/store")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of the process's `status` that counts memory, in MiB.
    pub(crate) fn memory_mib(&self, label: &str) -> u64 {
        process::memory_kib(self.pid(), label) / 1024
    }

    /// Everything that it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Lines of its log at the levels that an operator is to look at.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("panicked");
        self.log().lines().filter(loud).map(str::to_owned).collect()
    }

    /// Waits until the log holds `text`.
    pub(crate) fn wait_for_log(&self, text: &str, limit: Duration) {
        wait_for(&format!("`{text}` in the log"), limit, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }

    /// The value of a metric, by its name with labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = http::get(&format!("{}/metrics", self.admin)).ok()?.text();
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?.to_owned();
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success(), "the process is there");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait_for("end of the server", limit, || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// The word that follows `label`.
fn after<'a>(text: &'a str, label: &str) -> &'a str {
    text.split_once(label).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default()
}

/// A command of the tests' own folder.
pub(crate) fn tests_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}
