//! What the system tests share: a running server, real encoders, and a look at what comes out.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

pub(crate) mod cache;
pub(crate) mod certificate;
pub(crate) mod edge;
pub(crate) mod encoders;
pub(crate) mod hls;
pub(crate) mod http;
pub(crate) mod movie;
pub(crate) mod nginx;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod publisher;
pub(crate) mod server;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Asks again and again until there is an answer; panics with `what` and the last reason when `limit` is over.
#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if started.elapsed() > limit => panic!("no {what} within {limit:?}: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// An address of this machine that nobody listens on: for programs that cannot say which one they chose.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
