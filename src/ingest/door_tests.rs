//! Coming in, against the real listener: TLS, the PROXY protocol, and the limits of addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::driver_tests::ingest;
use super::scripted::Wire;
use super::{Listeners, serve};
use crate::config::RtmpConfig;
use crate::guard::Guard;
use crate::media::MediaTime;
use crate::metrics::{KindLabel, Metrics};
use crate::source::{Admission, PublishRequest, SourceEvent};
use crate::tls;
use crate::tls::tests::ClientStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running port.
struct Door {
    rtmp: SocketAddr,
    rtmps: SocketAddr,
    requests: mpsc::Receiver<PublishRequest>,
    metrics: Metrics,
    guard: Guard,
    /// PEM.
    certificate: String,
    stop: CancellationToken,
    server: JoinSet<()>,
}

/// The channel's end of a publisher.
struct Taken {
    events: mpsc::Receiver<SourceEvent>,
    peer: SocketAddr,
    _dismiss: oneshot::Sender<String>,
}

impl Door {
    async fn open(change: impl FnOnce(&mut RtmpConfig)) -> Self {
        let (mut ingest, requests) = ingest();
        ingest.config.connections_max = 100;
        change(&mut ingest.config);
        ingest.guard = Guard::new(ingest.config.limits.clone());
        Arc::get_mut(&mut ingest.access).unwrap().guard = ingest.guard.clone();
        let (metrics, guard) = (ingest.metrics.clone(), ingest.guard.clone());
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let rtmp = bind().await.unwrap();
        let (rtmps, certificate) = tls::tests::port(&[]).await;
        let (rtmp_address, rtmps_address) = (rtmp.local_addr().unwrap(), rtmps.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(serve(Listeners { rtmp, rtmps: Some(rtmps) }, ingest, stop.clone()));
        Self { rtmp: rtmp_address, rtmps: rtmps_address, requests, metrics, guard, certificate, stop, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.rtmp).await.unwrap()
    }

    async fn connect_tls(&self) -> ClientStream {
        self.shake_tls(TcpStream::connect(self.rtmps).await.unwrap()).await
    }

    async fn shake_tls(&self, stream: TcpStream) -> ClientStream {
        tls::tests::connect(stream, &self.certificate, &[]).await.unwrap()
    }

    /// Takes the next publisher in.
    async fn admit(&mut self) -> Taken {
        let request = timeout(PATIENCE, self.requests.recv()).await.unwrap().unwrap();
        // More than a test sends.
        let (sender, events) = mpsc::channel(16);
        let (dismiss, dismissed) = oneshot::channel();
        let admission = Admission { start: MediaTime::ZERO, events: sender, dismissed };
        request.reply.send(Ok(admission)).ok().unwrap();
        Taken { events, peer: request.peer, _dismiss: dismiss }
    }

    /// Waits until so many connections have ended by this kind of error: they are counted after they are closed.
    async fn errors(&self, kind: &'static str, expected: u64) {
        let count = || self.metrics.rtmp_errors.get_or_create(&KindLabel { kind }).get();
        let counted = async {
            while count() < expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(PATIENCE, counted).await;
        assert_eq!(count(), expected, "{kind}");
    }

    async fn close(mut self) {
        self.stop.cancel();
        self.server.join_next().await.unwrap().unwrap();
        assert_eq!(self.metrics.rtmp_connections.get(), 0);
    }
}

/// Publishes by hand.
async fn publish(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), key: &str) {
    stream.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
    stream.read_exact(&mut [0; 1 + 2 * 1536]).await.unwrap();
    stream.write_all(&[&[0; 1536][..], &Wire::pipelined(key).bytes].concat()).await.unwrap();
}

/// What the server says until it closes.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn first_event(taken: &mut Taken) -> SourceEvent {
    timeout(PATIENCE, taken.events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_encoder_publishes_by_tls_and_is_told_by_tls() {
    let mut door = Door::open(|_| {}).await;
    let mut stream = door.connect_tls().await;
    publish(&mut stream, "secret").await;
    let mut taken = door.admit().await;
    assert!(matches!(first_event(&mut taken).await, SourceEvent::Format(..)));
    let mut wrong = door.connect_tls().await;
    publish(&mut wrong, "guess").await;
    assert!(rest(wrong).await.contains("no channel has this stream key"));
    door.close().await;
}

/// As a NAT box or a crashed encoder ends it: without a word, and whatever was on its way is gone.
#[tokio::test]
async fn row_36_a_connection_that_is_reset_is_lost_and_not_ended() {
    let mut door = Door::open(|_| {}).await;
    let mut stream = door.connect().await;
    publish(&mut stream, "secret").await;
    let mut taken = door.admit().await;
    assert!(matches!(first_event(&mut taken).await, SourceEvent::Format(..)));
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    while let Some(event) = timeout(PATIENCE, taken.events.recv()).await.expect("it is noticed") {
        assert!(!matches!(event, SourceEvent::End));
    }
    door.errors("lost", 1).await;
    door.close().await;
}

#[tokio::test]
async fn row_2_plain_rtmp_on_the_port_of_tls_is_named_and_harms_nobody() {
    let door = Door::open(|_| {}).await;
    let mut stream = TcpStream::connect(door.rtmps).await.unwrap();
    stream.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
    rest(stream).await;
    drop(TcpStream::connect(door.rtmps).await.unwrap());
    drop(door.connect_tls().await);
    door.errors("tls_handshake", 1).await;
    door.close().await;
}

#[tokio::test]
async fn row_3_the_deadline_of_the_handshake_covers_tls_and_the_proxy_header() {
    let short = Duration::from_secs(1);
    let door = Door::open(|config| config.handshake_timeout = short).await;
    let mut stream = TcpStream::connect(door.rtmps).await.unwrap();
    stream.write_all(b"\x16\x03\x01").await.unwrap();
    rest(stream).await;
    door.errors("tls_timeout", 1).await;
    rest(door.connect_tls().await).await;
    door.errors("handshake_timeout", 1).await;
    door.close().await;

    let door = Door::open(|config| {
        config.handshake_timeout = short;
        config.proxy_protocol.add("127.0.0.0/8").unwrap();
    })
    .await;
    let mut stream = door.connect().await;
    stream.write_all(b"PROXY TCP4 ").await.unwrap();
    rest(stream).await;
    door.errors("proxy_timeout", 1).await;
    door.close().await;
}

fn version_2(address: [u8; 4]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &address[..], &[198, 51, 100, 1, 0x30, 0x39, 7, 143]].concat()
}

#[tokio::test]
async fn a_load_balancer_names_the_peer_on_both_ports_and_tls_begins_behind_it() {
    let mut door = Door::open(|config| config.proxy_protocol.add("127.0.0.1").unwrap()).await;
    let mut stream = door.connect().await;
    stream.write_all(b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 1935\r\n").await.unwrap();
    publish(&mut stream, "secret").await;
    let mut taken = door.admit().await;
    assert_eq!(taken.peer, "203.0.113.9:56324".parse().unwrap());
    assert!(matches!(first_event(&mut taken).await, SourceEvent::Format(..)));

    let mut stream = TcpStream::connect(door.rtmps).await.unwrap();
    stream.write_all(&version_2([203, 0, 113, 10])).await.unwrap();
    let mut stream = door.shake_tls(stream).await;
    publish(&mut stream, "secret").await;
    assert_eq!(door.admit().await.peer, "203.0.113.10:12345".parse().unwrap());
    door.close().await;
}

#[tokio::test]
async fn a_load_balancer_must_name_the_peer_and_nobody_else_may() {
    let door = Door::open(|config| config.proxy_protocol.add("127.0.0.1").unwrap()).await;
    let mut stream = door.connect().await;
    stream.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
    rest(stream).await;
    door.errors("proxy_header", 1).await;
    // Health checks of its own: by LOCAL, and by connecting alone.
    let mut stream = door.connect().await;
    stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await.unwrap();
    stream.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
    stream.read_exact(&mut [0; 1]).await.unwrap();
    drop((stream, door.connect().await));
    door.errors("proxy_header", 1).await;
    door.close().await;

    let door = Door::open(|config| config.proxy_protocol.add("192.0.2.1").unwrap()).await;
    let mut stream = door.connect().await;
    stream.write_all(b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 1935\r\n").await.unwrap();
    rest(stream).await;
    // It is read as what should be RTMP.
    door.errors("http", 1).await;
    door.close().await;
}

#[tokio::test]
async fn row_4_one_address_has_its_share_and_those_behind_a_load_balancer_each_have_theirs() {
    let door = Door::open(|config| {
        config.limits.connections_max = 2;
        config.proxy_protocol.add("127.0.0.1").unwrap();
    })
    .await;
    let greet = async |address| {
        let mut stream = door.connect().await;
        stream.write_all(&[&version_2(address)[..], &[3], &[0; 1536]].concat()).await.unwrap();
        let welcome = stream.read_exact(&mut [0; 1]).await.is_ok();
        (stream, welcome)
    };
    let mut open = Vec::new();
    for (address, expected) in [(1, true), (1, true), (1, false), (2, true)] {
        let (stream, welcome) = greet([203, 0, 113, address]).await;
        assert_eq!(welcome, expected, "{address}");
        open.push(stream);
    }
    door.errors("address_connections", 1).await;
    door.close().await;
}

#[tokio::test]
async fn row_4_who_guesses_keys_is_barred_and_told_and_a_live_publisher_stays() {
    let mut door = Door::open(|config| {
        config.limits.wrong_keys_per_minute = 3;
        config.idle_timeout = PATIENCE * 3;
    })
    .await;
    let mut live = door.connect().await;
    publish(&mut live, "secret").await;
    let mut taken = door.admit().await;

    let mut told = Vec::new();
    for guess in ["a", "a", "a", "a", "a", "b", "c", "d"] {
        let mut stream = door.connect().await;
        publish(&mut stream, guess).await;
        told.push(rest(stream).await.contains("no channel has this stream key"));
    }
    assert_eq!(told, [true; 8], "the same key again is no guess, and the last one is still told of");
    let mut stream = door.connect().await;
    publish(&mut stream, "secret").await;
    assert!(rest(stream).await.contains("wait 1 min"), "not even the right one is looked at");
    assert!(door.guard.barred_for(Ipv4Addr::LOCALHOST.into()).is_some(), "nor at another port");
    door.errors("wrong_key", 8).await;
    door.errors("keys_barred", 1).await;

    let mut wire = Wire::default();
    wire.message(3, 20, 0, 0, &super::scripted::command("deleteStream", 9.0, vec![]));
    live.write_all(&wire.bytes).await.unwrap();
    while !matches!(first_event(&mut taken).await, SourceEvent::End) {}
    door.close().await;
}

#[tokio::test]
async fn row_4_who_guesses_behind_a_load_balancer_is_barred_alone_whichever_port() {
    let mut door = Door::open(|config| {
        config.limits.wrong_keys_per_minute = 2;
        config.proxy_protocol.add("127.0.0.1").unwrap();
    })
    .await;
    for guess in ["a", "b", "c"] {
        let mut stream = TcpStream::connect(door.rtmps).await.unwrap();
        stream.write_all(&version_2([203, 0, 113, 9])).await.unwrap();
        let mut stream = door.shake_tls(stream).await;
        publish(&mut stream, guess).await;
        assert!(rest(stream).await.contains("no channel has this stream key"));
    }
    let mut stream = door.connect().await;
    stream.write_all(&version_2([203, 0, 113, 9])).await.unwrap();
    publish(&mut stream, "secret").await;
    assert!(rest(stream).await.contains("wait 1 min"));
    let mut stream = door.connect().await;
    stream.write_all(&version_2([203, 0, 113, 10])).await.unwrap();
    publish(&mut stream, "secret").await;
    assert_eq!(door.admit().await.peer.ip(), Ipv4Addr::new(203, 0, 113, 10));
    door.close().await;
}

#[tokio::test]
async fn row_3_what_a_stranger_may_send_is_bounded_by_tls_behind_a_load_balancer_too() {
    let door = Door::open(|config| config.proxy_protocol.add("127.0.0.1").unwrap()).await;
    let mut stream = TcpStream::connect(door.rtmps).await.unwrap();
    stream.write_all(&version_2([203, 0, 113, 9])).await.unwrap();
    let mut stream = door.shake_tls(stream).await;
    stream.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
    stream.read_exact(&mut [0; 1 + 2 * 1536]).await.unwrap();
    let mut wire = Wire::default();
    for _ in 0..10 {
        wire.message(2, 4, 0, 0, &[0; 60_000]);
    }
    // The server may close before it has taken all.
    let _ = stream.write_all(&[&[0; 1536][..], &wire.bytes].concat()).await;
    door.errors("budget", 1).await;
    door.close().await;
}

#[tokio::test]
async fn messages_that_an_encoder_gives_up_are_counted() {
    let mut door = Door::open(|_| {}).await;
    let mut stream = door.connect().await;
    publish(&mut stream, "secret").await;
    let mut taken = door.admit().await;
    let mut wire = Wire::default();
    wire.header0(6, 9, 40, 1, 300).raw(&[0; 128]).message(6, 9, 80, 1, &super::scripted::picture(false, 0));
    wire.message(3, 20, 0, 0, &super::scripted::command("deleteStream", 9.0, vec![]));
    stream.write_all(&wire.bytes).await.unwrap();
    while !matches!(first_event(&mut taken).await, SourceEvent::End) {}
    let repairs = &door.metrics.ingest_repairs;
    assert_eq!(repairs.get_or_create(&KindLabel { kind: "unfinished_message" }).get(), 1);
    door.close().await;
}
