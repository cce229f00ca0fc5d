//! The driver of a connection over pipes, with paused time, against `rml_rtmp`'s client as an independent peer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::close::{Close, Stage};
use super::connection::{Arrival, run};
use super::handshake::NotRtmp;
use super::scripted::{AUDIO_CONFIG, AUDIO_FRAME, SPS, Wire, picture, rtmp_config, video_config};
use super::throttle::LINES_MAX;
use super::{Access, Ingest, StreamKeys, serve};
use crate::captured_log::capture;
use crate::config::StreamKey;
use crate::guard::Guard;
use crate::media::{MediaTime, Track, TrackFormat};
use crate::metrics::Metrics;
use crate::source::{Admission, ChannelName, PublishRequest, Refusal, SourceEvent};

/// A connection of the server, and everything around it.
pub(super) struct Bench {
    pub(super) io: DuplexStream,
    connection: JoinSet<Close>,
    requests: mpsc::Receiver<PublishRequest>,
    pub(super) stop: CancellationToken,
}

/// The channel's end of a publisher.
pub(super) struct Channel {
    pub(super) events: mpsc::Receiver<SourceEvent>,
    pub(super) last_media: watch::Receiver<Instant>,
    dismiss: oneshot::Sender<String>,
}

pub(super) fn channel_name() -> ChannelName {
    ChannelName::new("test").unwrap()
}

pub(super) fn ingest() -> (Ingest, mpsc::Receiver<PublishRequest>) {
    // One at a time is asked for in these tests; a full queue would hold the connection up.
    let (sender, requests) = mpsc::channel(4);
    let keys = StreamKeys::new([(channel_name(), StreamKey::Plain("secret".into()))]);
    let channels = BTreeMap::from([(channel_name(), sender)]);
    let config = rtmp_config((Ipv4Addr::LOCALHOST, 0).into());
    let guard = Guard::new(config.limits.clone());
    let access = Arc::new(Access { keys, channels, hooks: None, guard: guard.clone() });
    (Ingest { config, access, guard, metrics: Metrics::default() }, requests)
}

impl Bench {
    pub(super) fn new() -> Self {
        let (ingest, requests) = ingest();
        let (io, server) = duplex(64 << 10);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let ingest = Arc::new(ingest);
        let mut connection = JoinSet::new();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let arrival = Arrival { peer, deadline: Instant::now() + ingest.config.handshake_timeout };
        connection.spawn(async move { run(server, arrival, &ingest, &stopped).await.close });
        Self { io, connection, requests, stop }
    }

    pub(super) async fn closed(&mut self) -> Close {
        self.connection.join_next().await.unwrap().unwrap()
    }

    /// Takes the next request in, with room for `capacity` events.
    pub(super) async fn admit(&mut self, capacity: usize) -> Channel {
        let request = self.requests.recv().await.unwrap();
        let (sender, events) = mpsc::channel(capacity);
        let (dismiss, dismissed) = oneshot::channel();
        let admission = Admission { start: MediaTime::ZERO, events: sender, dismissed };
        request.reply.send(Ok(admission)).ok().unwrap();
        Channel { events, last_media: request.last_media, dismiss }
    }

    pub(super) async fn shake_hands(&mut self) {
        let mut handshake = Handshake::new(PeerType::Client);
        self.io.write_all(&handshake.generate_outbound_p0_and_p1().unwrap()).await.unwrap();
        let mut answer = vec![0; 1 + 2 * 1536];
        self.io.read_exact(&mut answer).await.unwrap();
        let Ok(HandshakeProcessResult::Completed { response_bytes, .. }) = handshake.process_bytes(&answer) else {
            panic!("the handshake goes on")
        };
        self.io.write_all(&response_bytes).await.unwrap();
    }

    /// Publishes by hand, without waiting for any answer but the handshake's.
    pub(super) async fn pipeline(&mut self) {
        self.shake_hands().await;
        self.io.write_all(&Wire::pipelined("secret").bytes).await.unwrap();
    }

    /// What the server says until it closes, or is silent for long.
    pub(super) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = timeout(Duration::from_secs(60), self.io.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The library's client on a bench.
struct Client<'a> {
    bench: &'a mut Bench,
    session: ClientSession,
    heard: Vec<u8>,
}

impl<'a> Client<'a> {
    async fn connect(bench: &'a mut Bench) -> Self {
        bench.shake_hands().await;
        let (session, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut client = Self { bench, session, heard: Vec::new() };
        client.send(results).await;
        let request = client.session.request_connection("live".into()).unwrap();
        client.send(vec![request]).await;
        assert_eq!(client.event().await, ClientSessionEvent::ConnectionRequestAccepted);
        client
    }

    async fn request(&mut self, key: &str) {
        let request = self.session.request_publishing(key.into(), PublishRequestType::Live).unwrap();
        self.send(vec![request]).await;
    }

    async fn send(&mut self, results: Vec<ClientSessionResult>) -> Vec<ClientSessionEvent> {
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.bench.io.write_all(&packet.bytes).await.unwrap(),
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        events
    }

    async fn event(&mut self) -> ClientSessionEvent {
        loop {
            let mut bytes = [0; 4096];
            let length = self.bench.io.read(&mut bytes).await.unwrap();
            assert!(length > 0, "closed");
            self.heard.extend_from_slice(&bytes[..length]);
            let results = self.session.handle_input(&bytes[..length]).unwrap();
            if let Some(event) = self.send(results).await.pop() {
                return event;
            }
        }
    }

    async fn video(&mut self, timestamp: u32, body: Vec<u8>) {
        let packet = self.session.publish_video_data(Bytes::from(body), RtmpTimestamp::new(timestamp), false).unwrap();
        self.send(vec![packet]).await;
    }

    async fn audio(&mut self, timestamp: u32, body: &'static [u8]) {
        let packet =
            self.session.publish_audio_data(Bytes::from_static(body), RtmpTimestamp::new(timestamp), false).unwrap();
        self.send(vec![packet]).await;
    }

    fn heard(&self, text: &str) -> bool {
        self.heard.windows(text.len()).any(|w| w == text.as_bytes())
    }
}

#[tokio::test(start_paused = true)]
async fn row_37_a_client_publishes_and_stops() {
    let mut bench = Bench::new();
    let mut client = Client::connect(&mut bench).await;
    client.request("secret").await;
    // The library sends `publish` only when it has the answer to `createStream`.
    assert!(timeout(Duration::from_millis(10), client.event()).await.is_err());
    let mut channel = client.bench.admit(16).await;
    assert_eq!(client.event().await, ClientSessionEvent::PublishRequestAccepted);
    client.video(0, video_config(SPS)).await;
    client.audio(0, AUDIO_CONFIG).await;
    client.video(0, picture(true, 0)).await;
    client.audio(0, AUDIO_FRAME).await;
    let results = client.session.stop_publishing().unwrap();
    client.send(results).await;
    assert!(matches!(channel.events.recv().await, Some(SourceEvent::Format(Track::VIDEO, TrackFormat::Video(_)))));
    assert!(matches!(channel.events.recv().await, Some(SourceEvent::Format(Track::Audio, TrackFormat::Audio(_)))));
    assert!(matches!(channel.events.recv().await, Some(SourceEvent::Unit(Track::VIDEO, unit)) if unit.key));
    assert!(matches!(channel.events.recv().await, Some(SourceEvent::Unit(Track::Audio, _))));
    assert!(matches!(channel.events.recv().await, Some(SourceEvent::End)));
    assert!(channel.events.recv().await.is_none());
    assert!(matches!(bench.closed().await, Close::Stopped));
}

#[tokio::test(start_paused = true)]
async fn row_4_a_wrong_key_is_told_so_after_a_delay() {
    let mut bench = Bench::new();
    let mut client = Client::connect(&mut bench).await;
    client.request("guess").await;
    let before = Instant::now();
    let told = client.event().await;
    assert_eq!(told, ClientSessionEvent::UnhandleableOnStatusCode { code: "NetStream.Publish.BadName".into() });
    assert!(before.elapsed() >= Duration::from_millis(500));
    assert!(client.heard("no channel has this stream key"));
    assert!(!client.heard("guess") && !client.heard("secret"));
    assert!(matches!(bench.closed().await, Close::WrongKey));
    assert!(bench.requests.try_recv().is_err(), "no channel was asked");
}

#[tokio::test(start_paused = true)]
async fn a_busy_channel_refuses_with_its_reason() {
    let mut bench = Bench::new();
    let mut client = Client::connect(&mut bench).await;
    client.request("secret").await;
    assert!(timeout(Duration::from_millis(10), client.event()).await.is_err());
    let request = client.bench.requests.recv().await.unwrap();
    request.reply.send(Err(Refusal::Busy { channel: channel_name() })).ok().unwrap();
    let told = client.event().await;
    assert_eq!(told, ClientSessionEvent::UnhandleableOnStatusCode { code: "NetStream.Publish.BadName".into() });
    assert!(client.heard("already being published to"));
    assert!(matches!(bench.closed().await, Close::Refused(Refusal::Busy { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_gone_refuses() {
    let mut bench = Bench::new();
    bench.requests.close();
    bench.pipeline().await;
    assert!(bench.rest().await.contains("shutting down"));
    assert!(matches!(bench.closed().await, Close::Refused(Refusal::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn row_1_a_pipelined_start_loses_nothing() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    sleep(Duration::from_secs(3)).await;
    let mut channel = bench.admit(1).await;
    let mut kinds = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_secs(1), channel.events.recv()).await {
        kinds.push(match event {
            SourceEvent::Format(Track::VIDEO, TrackFormat::Video(_)) => "video",
            SourceEvent::Format(Track::Audio, TrackFormat::Audio(_)) => "audio",
            SourceEvent::Unit(Track::VIDEO, _) => "picture",
            SourceEvent::Unit(Track::Audio, _) => "sound",
            SourceEvent::End => "end",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["video", "audio", "picture", "sound"]);
}

#[tokio::test(start_paused = true)]
async fn r14_row_3_each_deadline_closes_and_a_slow_loris_does_not_move_it() {
    let mut bench = Bench::new();
    let begun = Instant::now();
    bench.io.write_all(&[3]).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    bench.io.write_all(&[0]).await.unwrap();
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::Handshake)));
    assert_eq!(begun.elapsed().as_secs(), 5);

    let mut bench = Bench::new();
    bench.shake_hands().await;
    let begun = Instant::now();
    let wire = Wire::pipelined("secret").bytes;
    for byte in &wire[..9] {
        bench.io.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::Publish)));
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn row_3_first_media_must_come_even_while_sound_does() {
    let mut bench = Bench::new();
    let mut client = Client::connect(&mut bench).await;
    client.request("secret").await;
    assert!(timeout(Duration::from_millis(10), client.event()).await.is_err());
    let _channel = client.bench.admit(16).await;
    client.event().await;
    let begun = Instant::now();
    for second in 0..19 {
        client.audio(second * 1000, AUDIO_FRAME).await;
        sleep(Duration::from_secs(1)).await;
    }
    let told = client.event().await;
    assert_eq!(told, ClientSessionEvent::UnhandleableOnStatusCode { code: "NetStream.Publish.Rejected".into() });
    assert!(client.heard("no keyframe of H.264, HEVC, AV1 or VP9"));
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::FirstMedia)));
}

#[tokio::test(start_paused = true)]
async fn row_36_silence_closes_without_an_end_but_back_pressure_does_not() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let mut channel = bench.admit(1).await;
    sleep(Duration::from_secs(100)).await;
    assert!(bench.connection.try_join_next().is_none(), "the channel is behind, not the encoder");
    let begun = Instant::now();
    let mut last = None;
    while let Some(event) = channel.events.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(SourceEvent::Unit(..))), "lost, not ended");
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::Idle)));
    assert_eq!(begun.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn row_36_row_37_a_lost_connection_is_not_an_end() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let mut channel = bench.admit(16).await;
    drop(std::mem::replace(&mut bench.io, duplex(1).0));
    while let Some(event) = channel.events.recv().await {
        assert!(!matches!(event, SourceEvent::End));
    }
    assert!(matches!(bench.closed().await, Close::Left | Close::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_dismissed_publisher_is_told_even_while_the_channel_is_full() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let channel = bench.admit(1).await;
    sleep(Duration::from_millis(10)).await;
    channel.dismiss.send("the picture is too large".into()).unwrap();
    let told = bench.rest().await;
    assert!(told.contains("NetStream.Publish.Rejected") && told.contains("the picture is too large"));
    assert!(matches!(bench.closed().await, Close::Dismissed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_closes_right_after_dismissing_is_heard_out() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let Channel { events, dismiss, .. } = bench.admit(1).await;
    sleep(Duration::from_millis(10)).await;
    dismiss.send("enough".into()).unwrap();
    drop(events);
    assert!(bench.rest().await.contains("enough"));
    assert!(matches!(bench.closed().await, Close::Dismissed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_the_port_is_no_error() {
    let mut bench = Bench::new();
    drop(std::mem::replace(&mut bench.io, duplex(1).0));
    let close = bench.closed().await;
    assert!(matches!(close, Close::Unused) && close.error_kind().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_means_of_dismissal_dismisses_nobody_and_a_closed_channel_closes() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let Channel { events, dismiss, .. } = bench.admit(16).await;
    drop(dismiss);
    sleep(Duration::from_secs(1)).await;
    assert!(bench.connection.try_join_next().is_none());
    drop(events);
    assert!(matches!(bench.closed().await, Close::ChannelGone));
}

#[tokio::test(start_paused = true)]
async fn stop_drops_the_publisher_at_once() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let mut channel = bench.admit(16).await;
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    bench.stop.cancel();
    assert!(matches!(bench.closed().await, Close::Shutdown));
    assert_eq!(before.elapsed(), Duration::ZERO);
    while let Some(event) = channel.events.recv().await {
        assert!(!matches!(event, SourceEvent::End));
    }
}

#[tokio::test(start_paused = true)]
async fn row_33_video_of_another_codec_is_refused_with_advice() {
    let mut bench = Bench::new();
    bench.shake_hands().await;
    let mut wire = Wire::greeting("secret");
    wire.message(6, 9, 0, 1, b"\x90vp08\0\0\0\0");
    bench.io.write_all(&wire.bytes).await.unwrap();
    let _channel = bench.admit(4).await;
    let told = bench.rest().await;
    assert!(told.contains("this server takes H.264, HEVC, AV1 and VP9 video, and VP8 is not supported"), "{told}");
    assert!(matches!(bench.closed().await, Close::Unsupported(_)));
}

#[tokio::test(start_paused = true)]
async fn row_2_tls_and_http_are_closed_at_once() {
    for (bytes, expected) in [
        (&b"\x16\x03\x01"[..], NotRtmp::Tls),
        (b"GET / HTTP/1.1\r\n\r\n", NotRtmp::Http),
        (b"\xff", NotRtmp::Version(255)),
    ] {
        let mut bench = Bench::new();
        let before = Instant::now();
        bench.io.write_all(bytes).await.unwrap();
        let Close::NotRtmp(seen) = bench.closed().await else { panic!("taken for RTMP") };
        assert_eq!((seen, before.elapsed()), (expected, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_closed() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let _channel = bench.admit(16).await;
    let mut pings = Wire::default();
    for _ in 0..20_000 {
        pings.message(2, 4, 0, 0, &[0, 6, 0, 0, 0, 1]);
    }
    let _ = timeout(Duration::from_secs(60), bench.io.write_all(&pings.bytes)).await;
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::Write)));
}

#[tokio::test]
async fn row_4_connections_are_limited_and_all_are_joined() {
    let (ingest, _requests) = ingest();
    let metrics = ingest.metrics.clone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut server = JoinSet::new();
    server.spawn(serve(listener, ingest, stop.clone()));
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
        peer.read_exact(&mut [0; 1537]).await.unwrap();
        open.push(peer);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)), "turned away");
    assert_eq!(metrics.rtmp_connections.get(), 2);
    stop.cancel();
    server.join_next().await.unwrap().unwrap();
    assert_eq!(metrics.rtmp_connections.get(), 0);
}

#[tokio::test]
async fn row_2_strangers_cannot_flood_the_log() {
    let (log, _guard) = capture(Level::INFO);
    let (ingest, _requests) = ingest();
    let metrics = ingest.metrics.clone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut server = JoinSet::new();
    server.spawn(serve(listener, ingest, stop.clone()));
    for _ in 0..100 {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert!(matches!(peer.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    stop.cancel();
    server.join_next().await.unwrap().unwrap();
    let ended: u64 = ["http", "connections_max"]
        .map(|kind| metrics.rtmp_errors.get_or_create(&crate::metrics::KindLabel { kind }).get())
        .iter()
        .sum();
    assert_eq!(ended, 100, "all are counted");
    let lines = log.text().lines().count();
    assert!((1..=LINES_MAX as usize).contains(&lines), "{lines} lines");
}
