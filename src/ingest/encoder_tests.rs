//! Real encoders against the real listener: FFmpeg and GStreamer.

mod corpus;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::scripted::rtmp_config;
use super::{Access, Ingest, StreamKeys, serve};
use crate::captured_log::capture;
use crate::config::StreamKey;
use crate::guard::Guard;
use crate::media::{AccessUnit, AudioCodec, MediaTime, Track, TrackFormat};
use crate::metrics::Metrics;
use crate::source::{Admission, ChannelName, PublishRequest, SourceEvent};

const START: MediaTime = MediaTime::from_millis(5_000);

/// Everything that an encoder's stream became.
struct Received {
    encoder: Option<String>,
    events: Vec<SourceEvent>,
    repairs: String,
}

impl Received {
    fn units(&self, track: Track) -> Vec<&AccessUnit> {
        let of_track = |event| match event {
            &SourceEvent::Unit(t, ref unit) if t == track => Some(unit),
            _ => None,
        };
        self.events.iter().filter_map(of_track).collect()
    }

    /// What holds for every stream; returns the formats.
    fn check(&self) -> (TrackFormat, TrackFormat) {
        let [
            SourceEvent::Format(Track::VIDEO, video @ TrackFormat::Video(_)),
            SourceEvent::Format(Track::Audio, audio @ TrackFormat::Audio(_)),
            ..,
        ] = &self.events[..]
        else {
            panic!("formats do not come first: {:?}", &self.events[..3]);
        };
        assert!(matches!(self.events.last(), Some(SourceEvent::End)), "no graceful end: {:?}", self.events.last());
        for track in [Track::VIDEO, Track::Audio] {
            let units = self.units(track);
            assert!(units.windows(2).all(|w| w[0].dts < w[1].dts), "{track:?} dts does not increase");
            assert!(units.iter().all(|u| u.pts >= u.dts), "{track:?} shown before decoded");
        }
        let first = self.units(Track::VIDEO)[0];
        assert!(first.key && first.pts == START, "{first:?}");
        let audio_start = self.units(Track::Audio)[0].pts;
        assert!(audio_start > START - MediaTime::from_millis(30) && audio_start < START + MediaTime::from_millis(100));
        (video.clone(), audio.clone())
    }
}

/// A running RTMP port, with one channel whose key is `secret`.
struct Server {
    port: u16,
    asked: mpsc::Receiver<PublishRequest>,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let channel = ChannelName::new("test").unwrap();
        // One publisher asks; a full queue would hold it up.
        let (requests, asked) = mpsc::channel(1);
        let keys = StreamKeys::new([(channel.clone(), StreamKey::Plain("secret".into()))]);
        let channels = BTreeMap::from([(channel, requests)]);
        let metrics = Metrics::default();
        let config = rtmp_config(address);
        let guard = Guard::new(config.limits.clone());
        let access = Arc::new(Access { keys, channels, hooks: None, guard: guard.clone() });
        let ingest = Ingest { config, access, guard, metrics: metrics.clone() };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, ingest, stop.clone()));
        Self { port: address.port(), asked, metrics, stop, tasks }
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }

    /// Counters of repairs and errors, as text.
    fn counters(&self) -> String {
        let text = crate::metrics::render(&self.metrics.registry()).unwrap();
        let prefixes = ["headwater_ingest_repairs_total", "headwater_rtmp_errors_total"];
        text.lines().filter(|l| prefixes.iter().any(|p| l.starts_with(p))).collect::<Vec<_>>().join("\n")
    }
}

/// An encoder's process; `{}` in its arguments stands for the port.
fn encoder(program: &str, port: u16, arguments: &[&str]) -> Command {
    let mut encoder = Command::new(program);
    encoder.args(arguments.iter().map(|argument| argument.replace("{}", &port.to_string())));
    encoder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    encoder
}

/// Runs an encoder until it ends by itself.
async fn publish(program: &str, arguments: &[&str]) -> Received {
    let mut server = Server::start().await;
    let mut encoder = encoder(program, server.port, arguments).spawn().expect("the encoder is installed");
    let request = timeout(Duration::from_secs(15), server.asked.recv()).await.expect("asked in time").unwrap();
    // Small, so that back-pressure is exercised too.
    let (events, mut received) = mpsc::channel(2);
    let (_keep, dismissed) = oneshot::channel();
    request.reply.send(Ok(Admission { start: START, events, dismissed })).ok().unwrap();
    let mut all = Vec::new();
    while let Some(event) = received.recv().await {
        all.push(event);
    }
    assert!(encoder.wait().await.unwrap().success(), "the encoder is content");
    server.stop().await;
    Received { encoder: request.encoder, events: all, repairs: server.counters() }
}

#[tokio::test]
async fn row_55_ffmpeg_with_b_frames() {
    #[rustfmt::skip]
    let received = publish("ffmpeg", &[
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "3",
        "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-x264-params", "b-adapt=0", "-g", "30", "-c:a", "aac",
        "-f", "flv", "rtmp://127.0.0.1:{}/live/secret",
    ]).await;
    let (video, audio) = received.check();
    let TrackFormat::Video(video) = video else { panic!() };
    let TrackFormat::Audio(audio) = audio else { panic!() };
    assert_eq!((video.width, video.height), (320, 180));
    assert_eq!((audio.codec, audio.sample_rate, audio.channels), (AudioCodec::Aac(2), 48_000, 1));
    let pictures = received.units(Track::VIDEO);
    assert_eq!(pictures.len(), 90);
    assert_eq!(pictures.iter().filter(|p| p.key).count(), 3);
    assert!(pictures.iter().any(|p| p.pts - p.dts > MediaTime::from_millis(60)), "B-frames arrive as such");
    let mut shown: Vec<_> = pictures.iter().map(|p| (p.pts - START).as_millis()).collect();
    shown.sort_unstable();
    assert!(shown.iter().zip(0..).all(|(millis, n): (_, i64)| (millis - n * 1000 / 30).abs() <= 1), "{shown:?}");
    let sound = received.units(Track::Audio);
    assert!((138..=142).contains(&sound.len()), "{}", sound.len());
    let ticks: Vec<_> = sound.iter().map(|u| u.pts.to_ticks(48_000)).collect();
    assert!(ticks.windows(2).all(|w| w[1] - w[0] == 1024), "exact to the sample");
    assert!(received.encoder.is_some_and(|name| !name.is_empty()));
    assert!(!received.repairs.contains("clamped") && !received.repairs.contains("jump"), "{}", received.repairs);
}

#[tokio::test]
async fn row_55_gstreamer_rtmp2sink() {
    #[rustfmt::skip]
    let received = publish("gst-launch-1.0", &[
        "-q", "flvmux", "name=mux", "streamable=true", "!", "rtmp2sink", "location=rtmp://127.0.0.1:{}/live/secret",
        "videotestsrc", "num-buffers=90", "!", "video/x-raw,width=320,height=180,framerate=30/1", "!",
        "x264enc", "speed-preset=ultrafast", "tune=zerolatency", "key-int-max=30", "!", "h264parse", "!", "queue", "!", "mux.",
        "audiotestsrc", "num-buffers=129", "samplesperbuffer=1024", "!", "audio/x-raw,rate=44100,channels=2", "!",
        "avenc_aac", "!", "aacparse", "!", "queue", "!", "mux.",
    ]).await;
    let (video, audio) = received.check();
    let TrackFormat::Video(video) = video else { panic!() };
    let TrackFormat::Audio(audio) = audio else { panic!() };
    assert_eq!((video.width, video.height), (320, 180));
    assert_eq!((audio.codec, audio.sample_rate, audio.channels), (AudioCodec::Aac(2), 44_100, 2));
    assert_eq!(received.units(Track::VIDEO).len(), 90);
    let ticks: Vec<_> = received.units(Track::Audio).iter().map(|u| u.pts.to_ticks(44_100)).collect();
    assert!(ticks.len() >= 128 && ticks.windows(2).all(|w| w[1] - w[0] == 1024), "exact to the sample");
    assert!(!received.repairs.contains("clamped") && !received.repairs.contains("jump"), "{}", received.repairs);
}

/// GStreamer's `rtmpsink` is librtmp, as OBS is.
#[tokio::test]
async fn row_55_librtmp_by_rtmpsink_with_the_key_in_the_server_address() {
    #[rustfmt::skip]
    let received = publish("gst-launch-1.0", &[
        "-q", "flvmux", "name=mux", "streamable=true", "!", "rtmpsink", "location=rtmp://127.0.0.1:{}/live/secret?token=x live=1",
        "videotestsrc", "num-buffers=60", "!", "video/x-raw,width=320,height=180,framerate=30/1", "!",
        "x264enc", "speed-preset=ultrafast", "bframes=2", "key-int-max=30", "!", "h264parse", "!", "queue", "!", "mux.",
        "audiotestsrc", "num-buffers=86", "samplesperbuffer=1024", "!", "audio/x-raw,rate=44100,channels=2", "!",
        "avenc_aac", "!", "aacparse", "!", "queue", "!", "mux.",
    ]).await;
    received.check();
    assert_eq!(received.units(Track::VIDEO).len(), 60);
}

#[tokio::test]
async fn ffmpeg_with_a_wrong_key_is_told_why_and_the_log_names_the_peer_but_no_key() {
    let (log, _guard) = capture(Level::TRACE);
    let mut server = Server::start().await;
    #[rustfmt::skip]
    let output = encoder("ffmpeg", server.port, &[
        "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=30", "-t", "60", "-c:v", "libx264", "-preset", "ultrafast",
        "-f", "flv", "rtmp://127.0.0.1:{}/live/my-wrong-key",
    ]).stderr(Stdio::piped()).output().await.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no channel has this stream key"), "{said}");
    server.stop().await;
    let log = log.text();
    let closed: Vec<_> = log.lines().filter(|l| l.contains("closed")).collect();
    assert!(
        matches!(closed[..], [line] if line.contains("peer=127.0.0.1:") && line.contains("no channel has its stream key")),
        "{log}"
    );
    assert!(!log.contains("my-wrong-key") && !log.contains("secret"), "{log}");
}
