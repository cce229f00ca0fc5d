//! Clients that keep to the letter of HTTP, or nearly, and mean harm: what each of them can hold or cost is bounded.

use super::*;

/// What an HTTP/2 connection begins with: the preface, and settings that set nothing.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

const DATA_OF_SETTINGS: u8 = 4;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// RFC 9113, 7.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://x/wait`, whole: the table's entries for method and scheme, a path and an authority as literals (RFC 7541).
fn request(stream: u32) -> Vec<u8> {
    frame(1, 0x05, stream, b"\x82\x86\x04\x05/wait\x01\x01x")
}

/// Kind, stream and payload of each whole frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((head[3], u32::from_be_bytes(head[5..].try_into().unwrap()), payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// The error codes of the `GOAWAY`s.
fn goodbyes(bytes: &[u8]) -> Vec<u32> {
    let goodbyes = frames(bytes).into_iter().filter(|(kind, ..)| *kind == GOAWAY);
    goodbyes.map(|(_, _, payload)| u32::from_be_bytes(payload[4..8].try_into().unwrap())).collect()
}

/// Sends `drop` again and again, and takes what comes, until the server ends it.
async fn drip(socket: TcpStream, drop: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = socket.into_split();
    let mut bytes = Vec::new();
    let dripping = async {
        while writer.write_all(drop).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        _ = reader.read_to_end(&mut bytes) => {}
        () = dripping => {}
    }
    bytes
}

/// A server that gives up soon on who asks nothing, and never on who is only silent.
fn impatient_of_heads() -> Limits {
    Limits { idle_timeout: Duration::from_secs(600), ..impatient() }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_not_waited_for() {
    let running = Running::start(impatient_of_heads()).await;
    let answer = drip(running.ask(b"GET / HTTP/1.1\r\nHost: x\r\nx: ").await, b"y").await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    running.stop().await;
}

#[tokio::test]
async fn a_preface_that_trickles_in_is_not_waited_for() {
    let running = Running::start(impatient_of_heads()).await;
    let (mut reader, mut writer) = running.connect().await.into_split();
    let dripping = async {
        for byte in HTTP2.iter().take(20) {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await
    };
    let mut bytes = Vec::new();
    tokio::select! {
        _ = reader.read_to_end(&mut bytes) => {}
        () = dripping => {}
    }
    running.stop().await;
}

#[tokio::test]
async fn pings_do_not_keep_a_connection_that_asks_nothing() {
    let running = Running::start(impatient_of_heads()).await;
    let bytes = drip(running.ask(HTTP2).await, &frame(PING, 0, 0, b"whatever")).await;
    assert_eq!(goodbyes(&bytes).last(), Some(&0), "it goes in peace");
    running.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_connection_however_long_it_is_answered() {
    let limits = Limits { head_timeout: Duration::from_millis(100), ..Limits::default() };
    let running = Running::start(limits).await;
    let mut socket = running.ask(&[HTTP2, &request(1)].concat()).await;
    running.reached.notified().await;
    tokio::time::sleep(limits.head_timeout * 3).await;
    running.released.notify_one();
    let mut bytes = Vec::new();
    while !bytes.windows(6).any(|window| window == b"waited") {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "it was answered");
    }
    running.stop().await;
}

#[tokio::test]
async fn streams_at_one_time_are_bounded() {
    let running = Running::start(Limits::default()).await;
    let one_more = Limits::STREAMS_MAX + 1;
    let requests: Vec<u8> = (0..one_more).flat_map(|number| request(2 * number + 1)).collect();
    let mut socket = running.ask(&[HTTP2, &requests].concat()).await;
    let mut bytes = Vec::new();
    let refused = loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "the connection stays");
        if let Some(refused) = frames(&bytes).into_iter().find(|(kind, ..)| *kind == RST_STREAM) {
            break refused;
        }
    };
    assert_eq!((refused.1, refused.2), (2 * one_more - 1, REFUSED_STREAM.to_be_bytes().to_vec()));
    let limit = frames(&bytes).into_iter().find(|(kind, ..)| *kind == DATA_OF_SETTINGS).unwrap().2;
    let said = [&[0, 3][..], &Limits::STREAMS_MAX.to_be_bytes()].concat();
    assert!(limit.chunks(6).any(|setting| setting == said), "and it was said: {limit:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_flood_of_streams_that_are_reset_at_once_ends_its_connection() {
    let running = Running::start(Limits::default()).await;
    let pair =
        |number: u32| [request(2 * number + 1), frame(RST_STREAM, 0, 2 * number + 1, &CANCEL.to_be_bytes())].concat();
    let flood: Vec<u8> = (0..10_000).flat_map(pair).collect();
    let socket = running.connect().await;
    let (mut reader, mut writer) = socket.into_split();
    let mut bytes = Vec::new();
    // The server stops to read.
    let flooding = async {
        let _ = writer.write_all(&[HTTP2, &flood].concat()).await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        _ = reader.read_to_end(&mut bytes) => {}
        () = flooding => {}
    }
    assert!(goodbyes(&bytes).contains(&ENHANCE_YOUR_CALM), "{:?}", goodbyes(&bytes));
    let mut head = [0; 12];
    running.ask(REQUEST).await.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200", "others are served");
    running.stop().await;
}

#[tokio::test]
async fn a_head_without_an_end_is_not_collected() {
    let running = Running::start(Limits::default()).await;
    // A request that goes on and on: CONTINUATION frames of 16 KiB each, never the last.
    let field = frame(9, 0, 1, &[&b"\x00\x01x\x7f\x81\x7c"[..], &[b'y'; 16_000]].concat());
    let mut socket = running.ask(&[HTTP2, &frame(1, 0x01, 1, b"\x82")].concat()).await;
    let mut sent = 0_usize;
    let flooding = async {
        while socket.write_all(&field).await.is_ok() && sent < BODY_BYTES {
            sent += field.len();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flooding).await.unwrap();
    assert!(sent < BODY_BYTES, "the connection is ended");
    running.stop().await;
}
