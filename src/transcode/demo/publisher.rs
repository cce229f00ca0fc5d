//! Publishes the test picture and tone over RTMP until it is told to stop, and again whenever the connection fails.

use std::time::{Duration, SystemTime};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::picture::{FRAMES_PER_SECOND, HEIGHT, Painter, WIDTH};
use super::tone;

/// Between attempts to connect, at first and at most. A connection that held this long begins again from the first.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Frames that may wait in front of an encoder, one second: what comes then is dropped, since the connection is stuck.
const WAITING_MAX: u64 = 30;

/// Where the timeline begins, so that decode times before the first picture are not negative.
const FIRST: Duration = Duration::from_secs(1);

/// What encodes and sends: H.264 with an IDR each 2 s, and AAC, as OBS is told to in the README. Without B-frames and
/// look-ahead, so that its clock shows the server's latency rather than its own.
const LAUNCH: &str = "appsrc name=pictures format=time max-buffers=0 max-bytes=0 \
    ! x264enc name=encoder speed-preset=superfast tune=zerolatency key-int-max=60 bitrate=2500 vbv-buf-capacity=1000 threads=1 \
    ! video/x-h264,profile=high ! flvmux name=mux streamable=true ! SINK name=sink sync=false async=false \
    appsrc name=sound format=time max-buffers=0 max-bytes=0 ! audioconvert ! avenc_aac bitrate=128000 ! mux.";

/// Publishes the test picture, 1280x720 at 30 fps, and a tone to `url` until `stop`. Where the connection fails it tries again, with
/// pauses from 250 ms to 10 s. [`crate::transcode::init`] must have succeeded before.
pub async fn test_source(url: String, stop: CancellationToken) {
    let mut pause = PAUSE_MIN;
    while !stop.is_cancelled() {
        let began = Instant::now();
        match publish(&url, &stop).await {
            Ok(()) => return,
            Err(cause) => warn!("the demo's connection ended: {}", hide_key(&cause, &url)),
        }
        pause = if began.elapsed() > PAUSE_MAX { PAUSE_MIN } else { pause };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
        }
    }
}

/// One connection, until it fails or is told to stop.
async fn publish(url: &str, stop: &CancellationToken) -> Result<(), String> {
    // The first error says it all; more do not fit and are dropped.
    let (failed, mut failure) = mpsc::channel(1);
    let location = url.to_owned();
    let started = tokio::task::spawn_blocking(move || Publisher::start("rtmp2sink", Some(&location), failed)).await;
    let mut publisher = started.map_err(|error| error.to_string())??;
    info!("the demo publishes its test picture");
    let mut ticks = tokio::time::interval(Duration::from_nanos(1_000_000_000 / FRAMES_PER_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            cause = failure.recv() => break Err(cause.unwrap_or_default()),
            _ = ticks.tick() => publisher.push_frame(),
        }
    };
    // Fails only where the task panics, which is a bug that the panic hook reports.
    let _ = tokio::task::spawn_blocking(move || drop(publisher)).await;
    ended
}

/// A running pipeline; dropped, it says goodbye to the server and stops, which blocks.
struct Publisher {
    pipeline: gst::Pipeline,
    pictures: gst_app::AppSrc,
    sound: gst_app::AppSrc,
    painter: Painter,
    frame: u64,
}

impl Publisher {
    fn start(sink: &str, url: Option<&str>, failed: mpsc::Sender<String>) -> Result<Self, String> {
        let pipeline = gst::parse::launch(&LAUNCH.replace("SINK", sink)).map_err(|error| error.to_string())?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline".to_owned())?;
        let source = |name: &str| {
            let element = pipeline.by_name(name).and_then(|element| element.downcast::<gst_app::AppSrc>().ok());
            element.ok_or_else(|| format!("no element {name}"))
        };
        let (pictures, sound) = (source("pictures")?, source("sound")?);
        pictures.set_caps(Some(&picture_caps()));
        sound.set_caps(Some(&sound_caps()));
        if let (Some(sink), Some(url)) = (pipeline.by_name("sink"), url) {
            sink.set_property("location", url);
        }
        if let Some(bus) = pipeline.bus() {
            bus.set_sync_handler(move |_, message| {
                if let gst::MessageView::Error(error) = message.view() {
                    let _ = failed.try_send(error.error().to_string());
                }
                gst::BusSyncReply::Drop
            });
        }
        let publisher = Self { pipeline, pictures, sound, painter: Painter::new(), frame: 0 };
        publisher.pipeline.set_state(gst::State::Playing).map_err(|error| error.to_string())?;
        Ok(publisher)
    }

    /// The next picture, and the sound that goes with it.
    fn push_frame(&mut self) {
        let number = self.frame;
        self.frame = number.saturating_add(1);
        if self.pictures.current_level_buffers() > WAITING_MAX {
            return;
        }
        let samples_per_frame = u64::from(tone::RATE) / FRAMES_PER_SECOND;
        let picture = self.painter.frame(number, millis_of_day());
        let sound = tone::samples(number.saturating_mul(samples_per_frame), samples_per_frame);
        // Both fail only where the pipeline has failed, which the bus tells.
        let _ = self.pictures.push_buffer(buffer(picture, number));
        let _ = self.sound.push_buffer(buffer(sound, number));
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Going down to NULL does not fail.
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

fn picture_caps() -> gst::Caps {
    let length = |samples: usize| i32::try_from(samples).unwrap_or(i32::MAX);
    gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", length(WIDTH))
        .field("height", length(HEIGHT))
        .field("framerate", gst::Fraction::new(i32::try_from(FRAMES_PER_SECOND).unwrap_or(30), 1))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("colorimetry", "bt709")
        .build()
}

fn sound_caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", if cfg!(target_endian = "big") { "S16BE" } else { "S16LE" })
        .field("layout", "interleaved")
        .field("rate", i32::try_from(tone::RATE).unwrap_or(48_000))
        .field("channels", 2_i32)
        .build()
}

fn buffer(data: Vec<u8>, frame: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(data);
    let at = |frame: u64| FIRST + Duration::from_nanos(frame.saturating_mul(1_000_000_000) / FRAMES_PER_SECOND);
    let (from, to) = (at(frame), at(frame.saturating_add(1)));
    let meta = buffer.make_mut();
    meta.set_pts(gst::ClockTime::try_from(from).ok());
    meta.set_duration(gst::ClockTime::try_from(to.saturating_sub(from)).ok());
    buffer
}

/// The last step of an RTMP URL is the stream key, which no log may show.
fn hide_key(text: &str, url: &str) -> String {
    match url.rsplit_once('/') {
        Some((_, key)) if !key.is_empty() => text.replace(key, "(key)"),
        _ => text.to_owned(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the picture shows the time of day, so that a viewer sees the latency")]
fn millis_of_day() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis() % 86_400_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn the_key_stays_out_of_the_log() {
        let shown = hide_key("cannot publish rtmp://h/live/secret", "rtmp://h/live/secret");
        assert_eq!(shown, "cannot publish rtmp://h/live/(key)");
    }

    #[test]
    fn picture_and_sound_are_in_the_stream() {
        crate::transcode::init().unwrap();
        let (failed, mut failure) = mpsc::channel(1);
        let mut publisher = Publisher::start("appsink", None, failed).unwrap();
        let sink = publisher.pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        (0..25).for_each(|_| publisher.push_frame());
        publisher.pictures.end_of_stream().unwrap();
        publisher.sound.end_of_stream().unwrap();
        let mut tags = [0; 256];
        while let Ok(sample) = sink.pull_sample() {
            let kind = sample.buffer().unwrap().map_readable().unwrap()[0];
            tags[usize::from(kind)] += 1;
        }
        assert_eq!(failure.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        assert!(tags[9] >= 26 && tags[8] >= 30, "{} video and {} audio tags", tags[9], tags[8]);
    }

    #[tokio::test]
    async fn it_speaks_rtmp_and_tries_again_until_it_is_stopped() {
        crate::transcode::init().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rtmp://{}/live/key", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(test_source(url, stop.clone()));
        for _attempt in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut version = [0];
            stream.read_exact(&mut version).await.unwrap();
            assert_eq!(version, [3], "C0 says RTMP version 3");
        }
        stop.cancel();
        drop(listener);
        tasks.join_next().await.unwrap().unwrap();
    }
}
