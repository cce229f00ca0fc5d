//! A place between a client and a server of S3 where things go wrong, as they do between data centres: it knows just enough of
//! HTTP to do so request by request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It reaches the server.
    None,
    /// It reaches the server after a time up to this, so that requests are done out of order.
    Shuffled(Duration),
    /// The connection is reset in the middle of it.
    Reset,
    /// It is taken, and nobody ever answers.
    BlackHole,
    /// It is answered with this status and code of S3.
    Answer(u16, &'static str),
}

/// A request, as far as it is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Such as `PUT`.
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// `x-amz-storage-class`.
    pub(crate) storage_class: Option<String>,
    /// It is to be done only where something is there, or nothing (`If-Match`, `If-None-Match`).
    pub(crate) is_conditional: bool,
    length: usize,
    expects: bool,
}

type Choice = Box<dyn Fn(&Request) -> Fault + Send>;
type Witness = Box<dyn Fn(&str, &[u8]) + Send + Sync>;

/// The place; gone when dropped.
pub(crate) struct Faults {
    /// Where clients connect to.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _connections: JoinSet<()>,
}

struct Shared {
    server: SocketAddr,
    choice: Mutex<Choice>,
    /// Sees each playlist, by its path, before the server does.
    witness: Witness,
}

impl Faults {
    /// In front of `server`, with nothing wrong yet. `witness` sees each playlist that is put, before it is.
    pub(crate) async fn start(server: SocketAddr, witness: impl Fn(&str, &[u8]) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let choice: Choice = Box::new(|_| Fault::None);
        let shared = Arc::new(Shared { server, choice: Mutex::new(choice), witness: Box::new(witness) });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _connections: connections }
    }

    /// What becomes of requests from here on.
    pub(crate) fn set(&self, choice: impl Fn(&Request) -> Fault + Send + 'static) {
        *self.shared.choice.lock().unwrap() = Box::new(choice);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let shared = Arc::clone(&shared);
                let (client, _) = accepted.unwrap();
                // Whoever goes away in the middle of a request is no failure of this place.
                connections.spawn(async move { drop(serve(client, &shared).await) });
            }
            Some(ended) = connections.join_next() => ended.unwrap(),
        }
    }
}

/// One request: each has a connection of its own.
async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let request = Request::read(&head);
    let fault = (shared.choice.lock().unwrap())(&request);
    match fault {
        Fault::None => forward(client, &head, &request, shared).await,
        Fault::Shuffled(longest) => {
            sleep(longest.mul_f64(f64::from(getrandom::u32().unwrap()) / f64::from(u32::MAX))).await;
            forward(client, &head, &request, shared).await
        }
        Fault::Reset => {
            body(&mut client, &request, request.length / 2).await?;
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))
        }
        Fault::BlackHole => {
            let mut buffer = [0; 4096];
            while client.read(&mut buffer).await? > 0 {}
            Ok(())
        }
        Fault::Answer(status, code) => {
            body(&mut client, &request, request.length).await?;
            let text =
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test said</Message></Error>");
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                text.len()
            );
            client.write_all((head + &text).as_bytes()).await?;
            client.shutdown().await
        }
    }
}

async fn forward(mut client: TcpStream, head: &str, request: &Request, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(shared.server).await?;
    let lines = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: String = lines.map(|line| format!("{line}\r\n")).collect::<String>() + "Connection: close\r\n\r\n";
    let path = request.path.split('?').next().unwrap_or_default();
    let is_playlist = request.method == "PUT" && path.ends_with(".m3u8");
    let text = if is_playlist { body(&mut client, request, request.length).await? } else { Vec::new() };
    if is_playlist {
        (shared.witness)(path, &text);
    }
    server.write_all(head.as_bytes()).await?;
    server.write_all(&text).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// So many bytes of the request's body, which is asked for where the client waits for that.
async fn body(client: &mut TcpStream, request: &Request, bytes: usize) -> std::io::Result<Vec<u8>> {
    if request.expects {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut body = vec![0; bytes];
    client.read_exact(&mut body).await?;
    Ok(body)
}

impl Request {
    fn read(head: &str) -> Self {
        let mut words = head.split(' ').map(str::to_owned);
        let field = |name: &str| {
            let of_name = |line: &str| {
                Some(line.split_once(':')?)
                    .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.trim().to_owned())
            };
            head.lines().find_map(of_name)
        };
        Self {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            storage_class: field("x-amz-storage-class"),
            is_conditional: field("if-match").or(field("if-none-match")).is_some(),
            length: field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
            expects: field("expect").is_some(),
        }
    }
}
