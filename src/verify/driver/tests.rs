//! The driver and its client against a small server on loopback.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::super::playlist::TEXT_BYTES_MAX;
use super::super::rule::Rule;
use super::super::testing::{fragment, init};
use super::*;

/// A server that answers each request by what a function makes of its head; where that is nothing it is silent.
struct Server {
    url: Url,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(answer: fn(&str) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/live/index.m3u8", listener.local_addr().unwrap())).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(converse(socket, answer));
            }
        });
        Self { url, _tasks: tasks }
    }

    async fn audit(&self, time: Duration) -> Result<Report, String> {
        run(self.url.clone(), time).await
    }
}

async fn converse(mut socket: TcpStream, answer: fn(&str) -> Vec<u8>) {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(length @ 1..) = socket.read(&mut bytes).await {
        head.extend_from_slice(&bytes[..length]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let answer = answer(&text);
        if answer.is_empty() {
            std::future::pending::<()>().await;
        }
        if socket.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    let fields = "Content-Type: application/vnd.apple.mpegurl\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\n\
                  Cache-Control: max-age=1\r\n";
    answer("200 OK", fields, &encoder.finish().unwrap())
}

const MEDIA: &str = "Content-Type: video/mp4\r\nCache-Control: max-age=1209600\r\n";

fn asks(head: &str, path: &str) -> bool {
    head.starts_with(&format!("GET {path} "))
}

/// One segment of a second, as a byte range.
fn ended(head: &str) -> Vec<u8> {
    let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:1.0,\n\
                #EXT-X-BYTERANGE:129@3\nall.mp4\n#EXT-X-ENDLIST\n";
    if asks(head, "/live/index.m3u8") {
        assert!(head.contains("accept-encoding: gzip"), "{head}");
        return packed(text.as_bytes());
    }
    if asks(head, "/live/init.mp4") {
        return answer("200 OK", MEDIA, &init(true));
    }
    let segment = fragment(0, 20, true, 29);
    assert_eq!(segment.len(), 129 - 16);
    let segment = [segment, vec![0, 0, 0, 16, b'f', b'r', b'e', b'e', 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(asks(head, "/live/all.mp4") && head.contains("range: bytes=3-131"), "{head}");
    answer("206 Partial Content", MEDIA, &segment)
}

#[tokio::test]
async fn what_has_ended_is_read_and_the_audit_is_over() {
    let server = Server::start(ended).await;
    let report = server.audit(Duration::from_secs(60)).await.unwrap();
    assert_eq!(report.broken(), [], "{}", report.text());
    assert_eq!((report.checked.versions, report.checked.segments, report.checked.media_bytes), (1, 1, 129));
}

#[tokio::test]
async fn redirects_are_followed_and_told() {
    let server = Server::start(|head| {
        if asks(head, "/live/index.m3u8") {
            return answer("302 Found", "Location: /other/index.m3u8\r\n", b"");
        }
        if asks(head, "/other/index.m3u8") {
            packed(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-ENDLIST\n")
        } else {
            Vec::new()
        }
    });
    let report = server.await.audit(Duration::from_secs(60)).await.unwrap();
    let rules: Vec<Rule> = report.broken().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, [Rule::Redirect]);
    let round = Server::start(|_| answer("302 Found", "Location: /live/index.m3u8\r\n", b"")).await;
    let why = round.audit(Duration::from_secs(60)).await.unwrap_err();
    assert!(why.contains("redirected more than"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = run(Url::parse(&format!("http://{gone}/")).unwrap(), Duration::from_secs(5)).await.unwrap_err();
    assert!(nobody.contains("refused"), "{nobody}");
    let absent = Server::start(|_| answer("404 Not Found", "", b"")).await;
    assert_eq!(absent.audit(Duration::from_secs(5)).await.unwrap_err(), "the answer was 404 Not Found");
    let page = Server::start(|_| answer("200 OK", "", b"<html>")).await;
    assert_eq!(page.audit(Duration::from_secs(5)).await.unwrap_err(), "what is there is no playlist");
    let lie = Server::start(|_| answer("200 OK", "Content-Encoding: gzip\r\n", b"plain")).await;
    assert!(lie.audit(Duration::from_secs(5)).await.unwrap_err().contains("is gzip is not"));
}

#[tokio::test]
async fn what_unpacks_to_more_than_any_playlist_is_cut() {
    let server = Server::start(|_| packed(&vec![b'\n'; 2 * TEXT_BYTES_MAX])).await;
    assert_eq!(server.audit(Duration::from_secs(60)).await.unwrap_err(), "what is there is no playlist");
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_not_waited_for() {
    let server = Server::start(|_| Vec::new()).await;
    let began = Instant::now();
    assert_eq!(server.audit(Duration::from_secs(600)).await.unwrap_err(), "no answer in time");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_live_stream_is_watched_for_as_long_as_was_said() {
    let server = Server::start(|head| {
        if asks(head, "/live/index.m3u8") {
            packed(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n")
        } else {
            // Media never come, which holds up nothing.
            Vec::new()
        }
    });
    let began = Instant::now();
    let report = server.await.audit(Duration::from_millis(1_200)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1_200) && began.elapsed() < Duration::from_secs(10));
    assert!(report.checked.versions >= 2, "{:?}", report.checked);
    assert!(report.broken().iter().any(|(rule, _)| *rule == Rule::DateMissing));
}
