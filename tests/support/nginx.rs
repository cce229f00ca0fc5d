//! Debian's nginx with a configuration of its own, for what is measured beside it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait_for;

/// One process without workers, so that its CPU time is all of it; killed when dropped.
pub(crate) struct Nginx(Child);

impl Nginx {
    /// Starts it with what `config` adds to the main context; it keeps its files in `directory`, and must listen on `address`.
    pub(crate) fn start(directory: &Path, config: &str, address: SocketAddr) -> Self {
        let place = directory.display();
        let file = directory.join("nginx.conf");
        let own = format!(
            "daemon off;\nmaster_process off;\nuser root;\npid {place}/pid;\nerror_log {place}/error.log warn;\n"
        );
        // Modules are loaded before anything else is said.
        std::fs::write(&file, format!("{config}\n{own}")).unwrap();
        let child = Command::new("/usr/sbin/nginx").arg("-c").arg(&file).stdin(Stdio::null()).spawn();
        let nginx = Self(child.unwrap_or_else(|error| panic!("nginx: {error}: scripts/install-packages bench")));
        wait_for("nginx", Duration::from_secs(10), || TcpStream::connect(address).map_err(|error| error.to_string()));
        nginx
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
