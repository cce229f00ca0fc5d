//! How encoders of the field behave that cannot be run here, written down by hand: against the driver of a connection, over a
//! pipe with paused time.

use std::time::Duration;

use rml_amf0::Amf0Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::close::Close;
use super::driver_tests::{Bench, Channel};
use super::scripted::{
    AUDIO_CONFIG, AUDIO_FRAME, PPS, SPS, SPS_480P, Wire, command, connect, picture, publish, video_config,
};
use crate::media::{AudioCodec, MediaTime, Track, TrackFormat};
use crate::source::SourceEvent;

/// Reads until the server has said this.
async fn hear(bench: &mut Bench, text: &str) {
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    while !heard.windows(text.len()).any(|window| window == text.as_bytes()) {
        let read = timeout(Duration::from_secs(1), bench.io.read(&mut piece)).await;
        let length = read.unwrap_or_else(|_| panic!("no {text}")).unwrap();
        assert!(length > 0, "closed before {text}");
        heard.extend_from_slice(&piece[..length]);
    }
}

async fn send(bench: &mut Bench, wire: &mut Wire) {
    bench.io.write_all(&std::mem::take(&mut wire.bytes)).await.unwrap();
}

/// Shakes hands, asks to publish, and is taken in.
async fn publishing(bench: &mut Bench) -> Channel {
    bench.shake_hands().await;
    send(bench, &mut Wire::greeting("secret")).await;
    let channel = bench.admit(1_000).await;
    hear(bench, "NetStream.Publish.Start").await;
    channel
}

/// What the channel was given, once nothing more comes.
async fn given(channel: &mut Channel) -> Vec<SourceEvent> {
    let mut events = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(100), channel.events.recv()).await {
        events.push(event);
    }
    events
}

/// Heights of pictures, and when units are shown, in milliseconds.
fn told(events: &[SourceEvent]) -> Vec<String> {
    let word = |event: &SourceEvent| match event {
        SourceEvent::Format(_, TrackFormat::Video(format)) => format!("video {}", format.height),
        SourceEvent::Format(_, TrackFormat::Audio(format)) => format!("audio {}", format.sample_rate),
        SourceEvent::Unit(Track::Audio, unit) => format!("sound {}", unit.pts.as_millis()),
        SourceEvent::Unit(_, unit) if unit.key => format!("IDR {}", unit.pts.as_millis()),
        SourceEvent::Unit(_, unit) => format!("P {}", unit.pts.as_millis()),
        SourceEvent::Discontinuity => "discontinuity".to_owned(),
        SourceEvent::End => "end".to_owned(),
    };
    events.iter().map(word).collect()
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn row_55_r12_an_encoder_of_the_flash_family_waits_for_each_answer() {
    let mut bench = Bench::new();
    bench.shake_hands().await;
    let with_key = |name: &str, transaction| command(name, transaction, vec![Amf0Value::Null, text("secret")]);
    for (body, answer) in [
        (connect("live"), "NetConnection.Connect.Success"),
        (with_key("releaseStream", 2.0), "_result"),
        (with_key("FCPublish", 3.0), "onFCPublish"),
        (command("createStream", 4.0, vec![Amf0Value::Null]), "_result"),
        (command("_checkbw", 5.0, vec![Amf0Value::Null]), "_result"),
    ] {
        send(&mut bench, Wire::default().message(3, 20, 0, 0, &body)).await;
        hear(&mut bench, answer).await;
    }
    send(&mut bench, Wire::default().message(8, 20, 0, 1, &publish("secret"))).await;
    let mut channel = bench.admit(16).await;
    hear(&mut bench, "NetStream.Publish.Start").await;
    let mut wire = Wire::default();
    wire.message(4, 9, 0, 1, &video_config(SPS)).message(4, 9, 0, 1, &picture(true, 0));
    send(&mut bench, &mut wire).await;
    send(&mut bench, Wire::default().message(3, 20, 0, 0, &with_key("FCUnpublish", 6.0))).await;
    hear(&mut bench, "NetStream.Unpublish.Success").await;
    assert_eq!(told(&given(&mut channel).await), ["video 1080", "IDR 0", "end"]);
}

/// vMix and hardware with a single field for the address.
#[tokio::test(start_paused = true)]
async fn row_55_lesson_34_the_key_may_stand_in_the_servers_address() {
    let mut bench = Bench::new();
    bench.shake_hands().await;
    let mut wire = Wire::default();
    wire.message(3, 20, 0, 0, &connect("live/secret"))
        .message(3, 20, 0, 0, &command("createStream", 4.0, vec![Amf0Value::Null]))
        .message(3, 20, 0, 1, &publish(""))
        .message(6, 9, 0, 1, &video_config(SPS))
        .message(6, 9, 0, 1, &picture(true, 0));
    send(&mut bench, &mut wire).await;
    let mut channel = bench.admit(16).await;
    assert_eq!(told(&given(&mut channel).await), ["video 1080", "IDR 0"]);
}

/// DJI: neither metadata nor sound, and cheap encoders in Annex B with their parameter sets in the stream alone.
#[tokio::test(start_paused = true)]
async fn row_55_row_25_lesson_29_a_drone_sends_neither_metadata_nor_a_configuration() {
    let mut bench = Bench::new();
    let mut channel = publishing(&mut bench).await;
    let start: &[u8] = &[0, 0, 0, 1];
    let first = [&[0x17, 1, 0, 0, 0], start, SPS, start, PPS, start, &[0x65, 1, 2, 3]].concat();
    let next = [&[0x27, 1, 0, 0, 0], start, &[0x41, 1, 2, 3]].concat();
    let mut wire = Wire::default();
    wire.message(6, 9, 0, 1, &first).message(6, 9, 33, 1, &next).message(6, 9, 67, 1, &next);
    send(&mut bench, &mut wire).await;
    assert_eq!(told(&given(&mut channel).await), ["video 1080", "IDR 0", "P 33", "P 67"]);
}

/// Dahua and Hikvision: two seconds of sound first, and times that count from the camera's own start.
#[tokio::test(start_paused = true)]
async fn row_55_row_11_lesson_14_a_camera_sends_sound_first_and_times_of_its_uptime() {
    const UPTIME: u32 = 4_200_000_000;
    let mut bench = Bench::new();
    let mut channel = publishing(&mut bench).await;
    let mut wire = Wire::default();
    wire.message(4, 8, UPTIME, 1, AUDIO_CONFIG);
    for n in 0..94 {
        wire.message(4, 8, UPTIME + n * 1024 / 48, 1, AUDIO_FRAME);
    }
    wire.message(6, 9, UPTIME + 2_000, 1, &video_config(SPS));
    wire.message(6, 9, UPTIME + 2_000, 1, &picture(true, 0)).message(6, 9, UPTIME + 2_040, 1, &picture(false, 0));
    send(&mut bench, &mut wire).await;
    let events = given(&mut channel).await;
    assert_eq!(told(&events), ["video 1080", "audio 48000", "IDR 0", "sound -16", "P 40"]);
    let format = |event: &SourceEvent| matches!(event, SourceEvent::Format(_, TrackFormat::Audio(format)) if format.codec == AudioCodec::Aac(2));
    assert!(events.iter().any(format));
}

/// Larix on a phone: it is turned, and every keyframe comes with its configuration.
#[tokio::test(start_paused = true)]
async fn row_55_row_24_lesson_15_a_phone_that_is_turned_changes_its_format_twice_and_no_more() {
    let mut bench = Bench::new();
    let mut channel = publishing(&mut bench).await;
    let mut wire = Wire::default();
    for (n, sps) in (0..).zip([SPS, SPS, SPS_480P, SPS_480P, SPS]) {
        wire.message(6, 9, n * 80, 1, &video_config(sps)).message(6, 9, n * 80, 1, &picture(true, 0));
        wire.message(6, 9, n * 80 + 40, 1, &picture(false, 0));
    }
    send(&mut bench, &mut wire).await;
    let events = given(&mut channel).await;
    let formats: Vec<String> = told(&events).into_iter().filter(|word| word.starts_with("video")).collect();
    assert_eq!(formats, ["video 1080", "video 480", "video 1080"]);
    assert!(!events.iter().any(|event| matches!(event, SourceEvent::Discontinuity)));
}

/// What metadata say does not matter: they lie, repeat, are long, or hold what no number is.
#[tokio::test(start_paused = true)]
async fn row_28_lesson_29_metadata_change_nothing() {
    let numbers = |values: [f64; 3]| {
        let named = ["width", "framerate", "audiosamplerate"].map(str::to_owned).into_iter();
        Amf0Value::Object(named.zip(values.map(Amf0Value::Number)).collect())
    };
    let data = |values: Vec<Amf0Value>| rml_amf0::serialize(&values).unwrap();
    let set = || vec![text("@setDataFrame"), text("onMetaData")];
    let bodies = [
        data([set(), vec![numbers([0.0, 9_999.0, 8_000.0])]].concat()),
        data([set(), vec![numbers([f64::NAN, f64::INFINITY, -1.0])]].concat()),
        data(vec![text("onMetaData"), numbers([1e300, 0.0, 0.0])]),
        data([set(), vec![text(&"x".repeat(65_000))]].concat()),
        [data(set()), [3, 0, 1, b'a'].repeat(4_000)].concat(),
        data(set()),
        vec![0xff; 40],
        vec![],
    ];
    let mut bench = Bench::new();
    let mut channel = publishing(&mut bench).await;
    for (n, body) in (0..).zip(&bodies) {
        let (time, mut wire) = (n * 40, Wire::default());
        wire.message(4, 18, time, 1, body).message(4, 18, time, 1, body);
        if n == 0 {
            wire.message(6, 9, 0, 1, &video_config(SPS)).message(4, 8, 0, 1, AUDIO_CONFIG);
        }
        wire.message(6, 9, time, 1, &picture(n == 0, 0)).message(4, 15, time, 1, body);
        send(&mut bench, &mut wire).await;
    }
    send(&mut bench, Wire::default().message(4, 8, 280, 1, AUDIO_FRAME)).await;
    let pictures = (1..8).map(|n| format!("P {}", n * 40));
    let expected: Vec<String> =
        ["video 1080".to_owned(), "audio 48000".to_owned(), "IDR 0".to_owned()].into_iter().chain(pictures).collect();
    assert_eq!(told(&given(&mut channel).await), [expected, vec!["sound 280".to_owned()]].concat());
}

#[tokio::test(start_paused = true)]
async fn what_came_before_an_error_is_passed_on() {
    let mut bench = Bench::new();
    bench.shake_hands().await;
    let mut wire = Wire::pipelined("secret");
    wire.raw(&[0xff; 200]);
    send(&mut bench, &mut wire).await;
    let mut channel = bench.admit(16).await;
    assert_eq!(told(&given(&mut channel).await), ["video 1080", "audio 48000", "IDR 0", "sound 0"]);
    assert!(matches!(bench.closed().await, Close::Protocol(_)));
    assert_eq!(channel.events.recv().await.map(|_| MediaTime::ZERO), None);
}
