//! What real encoders send, as inputs of the fuzz targets. `UPDATE_CORPUS=1` writes them to `fuzz/corpus`.

use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpStream;

use super::*;
use crate::ingest::bitstream_tests::{av1_of_libaom, hevc_of_x265, tag, taken, vp9_of_libvpx};
use crate::ingest::chunk::{ChunkReader, Limits, Message};
use crate::ingest::flv::{Content, audio_tag, video_tag};
use crate::ingest::fuzzing::TARGETS;

/// What is kept of a recording: enough for some pictures and sounds, and all targets' inputs stay below a megabyte.
const RECORDED_BYTES_MAX: usize = 24 << 10;
/// C0, C1 and C2.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;

/// Passes one connection on to `server`; returns what the client sent.
async fn pass_on(listener: TcpListener, server: u16) -> Vec<u8> {
    let (mut client, _) = listener.accept().await.unwrap();
    let (mut from_client, mut to_client) = client.split();
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
    let (mut from_server, mut to_server) = server.split();
    let upstream = async {
        let (mut recorded, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            recorded.extend_from_slice(&buffer[..length]);
            to_server.write_all(&buffer[..length]).await.unwrap();
        }
        to_server.shutdown().await.unwrap();
        recorded
    };
    // The server may be the first to close.
    let (recorded, _) = tokio::join!(upstream, copy(&mut from_server, &mut to_client));
    recorded
}

/// Everything that an encoder sends from connecting to its end.
async fn record(program: &str, arguments: &[&str]) -> Vec<u8> {
    let mut server = Server::start().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut recording = JoinSet::new();
    recording.spawn(pass_on(listener, server.port));
    let mut encoder = encoder(program, port, arguments).spawn().expect("the encoder is installed");
    let request = timeout(Duration::from_secs(30), server.asked.recv()).await.expect("asked in time").unwrap();
    // Nothing waits: what is received is dropped as it comes.
    let (events, mut received) = mpsc::channel(16);
    let (_keep, dismissed) = oneshot::channel();
    request.reply.send(Ok(Admission { start: START, events, dismissed })).ok().unwrap();
    while received.recv().await.is_some() {}
    assert!(encoder.wait().await.unwrap().success(), "the encoder is content");
    server.stop().await;
    recording.join_next().await.unwrap().unwrap()
}

/// The inputs that a recording gives: each a target's name and bytes.
fn inputs(recorded: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let recorded = &recorded[..recorded.len().min(RECORDED_BYTES_MAX)];
    let chunks = &recorded[HANDSHAKE_BYTES..];
    let whole = ("session", [&[0], recorded].concat());
    let shaken = ("session", [&[1], chunks].concat());
    let mut inputs = vec![whole, shaken, ("chunks", chunks.to_vec())];
    let (mut reader, mut rest, mut tags) = (ChunkReader::new(Limits::PUBLISHER), chunks, Vec::new());
    while let Some(Message { timestamp, kind, payload, .. }) = reader.next(&mut rest).unwrap() {
        match kind {
            8 | 9 => {
                tags.extend(tags_input(9 - kind, timestamp, &payload));
                inputs.extend(record_of(kind, payload));
            }
            18 | 20 => inputs.push(("amf", payload.to_vec())),
            _ => {}
        }
    }
    inputs.push(("tags", tags));
    inputs
}

/// A message as the target of tags takes it.
fn tags_input(kind: u8, timestamp: u32, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &timestamp.to_be_bytes(), &length, body].concat()
}

/// A configuration record.
fn record_of(kind: u8, payload: Bytes) -> Option<(&'static str, Vec<u8>)> {
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    match kind {
        9 => video_tag(payload, &mut video),
        _ => audio_tag(payload, &mut audio),
    }
    let video = video.into_iter().flatten().map(|packet| ("avc", packet.content));
    let audio = audio.into_iter().flatten().map(|packet| ("aac", packet.content));
    video.chain(audio).find_map(|(target, content)| match content {
        Content::Config(record) => Some((target, record.to_vec())),
        _ => None,
    })
}

/// The codecs that no encoder here sends by RTMP: the records of their readers' making, and pictures in tags made by hand.
#[test]
fn other_codecs_make_the_corpus() {
    let recordings = [
        ("hevc", "x265", "hvc1", hevc_of_x265()),
        ("av1", "libaom", "av01", av1_of_libaom()),
        ("vp9", "libvpx", "vp09", vp9_of_libvpx()),
    ];
    for (target, encoder, fourcc, frames) in recordings {
        let (format, _) = taken(fourcc, &frames);
        let tags = frames.iter().zip((0..).step_by(40)).take(12);
        let tags = tags.flat_map(|(frame, timestamp)| tags_input(0, timestamp, &tag(fourcc, frame))).collect();
        take("tags", encoder, tags);
        if target != "vp9" {
            take(target, encoder, format.config.to_vec());
            take(target, &format!("{encoder}-picture"), frames[0].clone());
        }
    }
}

fn take(name: &str, input_name: &str, input: Vec<u8>) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    target(&input);
    write(name, input_name, &input);
}

/// Every target takes what real encoders send.
#[tokio::test]
async fn real_encoders_make_the_corpus() {
    #[rustfmt::skip]
    let recordings = [
        ("ffmpeg", record("ffmpeg", &[
            "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "2",
            "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "10", "-c:a", "aac", "-b:a", "32k",
            "-f", "flv", "rtmp://127.0.0.1:{}/live/secret",
        ]).await),
        ("rtmp2sink", record("gst-launch-1.0", &[
            "-q", "flvmux", "name=mux", "streamable=true", "!", "rtmp2sink", "location=rtmp://127.0.0.1:{}/live/secret",
            "videotestsrc", "num-buffers=20", "!", "video/x-raw,width=64,height=64,framerate=10/1", "!",
            "x264enc", "speed-preset=ultrafast", "tune=zerolatency", "key-int-max=10", "!", "h264parse", "!", "queue", "!", "mux.",
            "audiotestsrc", "num-buffers=86", "samplesperbuffer=1024", "!", "audio/x-raw,rate=44100,channels=2", "!",
            "avenc_aac", "!", "aacparse", "!", "queue", "!", "mux.",
        ]).await),
        ("librtmp", record("gst-launch-1.0", &[
            "-q", "flvmux", "name=mux", "streamable=true", "!", "rtmpsink", "location=rtmp://127.0.0.1:{}/live/secret live=1",
            "videotestsrc", "num-buffers=20", "!", "video/x-raw,width=64,height=64,framerate=10/1", "!",
            "x264enc", "speed-preset=ultrafast", "key-int-max=10", "!", "h264parse", "!", "queue", "!", "mux.",
            "audiotestsrc", "num-buffers=86", "samplesperbuffer=1024", "!", "audio/x-raw,rate=44100,channels=2", "!",
            "avenc_aac", "!", "aacparse", "!", "queue", "!", "mux.",
        ]).await),
    ];
    for (encoder, recorded) in recordings {
        let mut numbers = BTreeMap::new();
        for (name, input) in inputs(&recorded) {
            let number = numbers.entry(name).or_insert(0);
            *number += 1;
            take(name, &format!("{encoder}-{number}"), input);
        }
        assert!(TARGETS.iter().filter(|(name, _)| numbers.contains_key(name)).count() >= 6, "{encoder}: {numbers:?}");
    }
}

fn write(target: &str, name: &str, input: &[u8]) {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), input).unwrap();
    }
}
