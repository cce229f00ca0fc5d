//! A hook for tests, on loopback, and a config that calls it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{HooksConfig, Secret};

/// A hook that answers each call with the next of these texts, and keeps what it was sent.
pub(in crate::ingest) struct Hook {
    address: SocketAddr,
    /// What it was sent.
    pub(in crate::ingest) calls: mpsc::Receiver<String>,
    _server: JoinSet<()>,
}

impl Hook {
    pub(in crate::ingest) async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        // As many as there are answers in any test; more would wait.
        let (sender, calls) = mpsc::channel(16);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut open = Vec::new();
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                sender.send(request(&mut socket).await).await.unwrap();
                socket.write_all(answer.as_bytes()).await.unwrap();
                // Without an answer the connection stays open, and silent.
                open.extend(answer.is_empty().then_some(socket));
            }
            std::future::pending::<()>().await;
        });
        Self { address, calls, _server: server }
    }

    pub(in crate::ingest) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

/// One request, head and body.
async fn request(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 4096];
        let length = socket.read(&mut bytes).await.unwrap();
        text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = header(head, "content-length").and_then(|length| length.parse().ok());
            Some(body.len()) == length
        });
        if whole || length == 0 {
            return text;
        }
    }
}

pub(in crate::ingest) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim())
}

pub(in crate::ingest) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

pub(in crate::ingest) fn config(url: &str) -> HooksConfig {
    HooksConfig {
        on_publish: Some(url.to_owned()),
        on_unpublish: Some(url.to_owned()),
        secret: Some(Secret::new("s3cret".into())),
        timeout: Duration::from_millis(500),
        always: false,
        calls_max: 2,
        channels_max: 1,
        channel_idle: Duration::from_secs(1),
    }
}
