//! What a publisher may take of time, memory and CPU, with paused time over pipes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

use super::backlog::BYTES_MAX;
use super::close::{Close, Stage};
use super::driver_tests::Bench;
use super::scripted::{Wire, picture};
use super::session::SessionError;
use crate::source::SourceEvent;

/// A picture of so many bytes, as a message.
fn large_picture(timestamp: u32, bytes: usize) -> Vec<u8> {
    let mut body = picture(false, 0);
    let length = u32::try_from(bytes).unwrap();
    body.truncate(5);
    body.extend(length.to_be_bytes());
    body.push(0x41);
    body.resize(9 + bytes, 1);
    let mut wire = Wire::default();
    wire.message(6, 9, timestamp, 1, &body);
    wire.bytes
}

/// Small pictures, 25 a second.
fn pictures(millis: std::ops::Range<u32>) -> Vec<u8> {
    let mut wire = Wire::default();
    for timestamp in millis.step_by(40) {
        wire.message(6, 9, timestamp, 1, &picture(false, 0));
    }
    wire.bytes
}

/// Writes while what the server says is read.
async fn write(bench: &mut Bench, bytes: &[u8]) {
    let (mut from, mut to) = split(&mut bench.io);
    let mut said = [0; 4096];
    let read = async { while from.read(&mut said).await.is_ok_and(|count| count > 0) {} };
    tokio::select! {
        written = to.write_all(bytes) => written.unwrap(),
        () = read => panic!("closed"),
    }
}

#[tokio::test(start_paused = true)]
async fn row_34_a_source_faster_than_real_time_is_read_in_real_time() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let mut channel = bench.admit(16).await;
    let begun = Instant::now();
    let mut taker = JoinSet::new();
    taker.spawn(async move {
        let mut times = Vec::new();
        while let Some(event) = channel.events.recv().await {
            if let SourceEvent::Unit(_, unit) = event {
                times.push((begun.elapsed(), unit.dts.to_duration()));
            }
        }
        times
    });
    write(&mut bench, &pictures(40..60_000)).await;
    sleep(Duration::from_secs(60)).await;
    bench.stop.cancel();
    let times = taker.join_next().await.unwrap().unwrap();
    let first = times.first().unwrap().1;
    assert_eq!(times.len(), 1 + 1 + 60_000 / 40 - 1, "nothing is lost");
    let ahead = times.iter().map(|(clock, media)| (*media - first).saturating_sub(*clock)).max().unwrap();
    assert!((19_900..20_100).contains(&ahead.as_millis()), "{ahead:?}");
    let at_once = times.iter().filter(|(clock, _)| clock.is_zero()).count();
    assert!(at_once >= 20_000 / 40, "a burst is taken at once: {at_once}");
}

#[tokio::test(start_paused = true)]
async fn row_35_a_phone_that_returns_is_read_at_once() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let mut channel = bench.admit(1_000).await;
    write(&mut bench, &pictures(40..2_000)).await;
    sleep(Duration::from_secs(7)).await;
    let before = Instant::now();
    write(&mut bench, &pictures(2_000..22_000)).await;
    let mut count = 0;
    while count < 22_000 / 40 {
        let event = timeout(Duration::from_secs(1), channel.events.recv()).await.unwrap().unwrap();
        count += u32::from(matches!(event, SourceEvent::Unit(..)));
    }
    assert!(before.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn row_3_a_publisher_of_pings_and_empty_messages_alone_is_lost() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let _channel = bench.admit(16).await;
    let begun = Instant::now();
    let mut wire = Wire::default();
    wire.message(2, 4, 0, 0, &[0, 6, 0, 0, 0, 1]).message(6, 9, 40, 1, &[]).message(4, 8, 40, 1, &[0xaf, 1]);
    for _ in 0..7 {
        sleep(Duration::from_secs(1)).await;
        write(&mut bench, &wire.bytes).await;
    }
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::Idle)));
    assert_eq!(begun.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn row_38_only_media_keeps_a_publisher_from_being_replaced() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let channel = bench.admit(16).await;
    sleep(Duration::from_secs(1)).await;
    let heard = *channel.last_media.borrow();
    let mut wire = Wire::default();
    wire.message(2, 4, 0, 0, &[0, 6, 0, 0, 0, 1]).message(6, 9, 40, 1, &[]).message(4, 8, 40, 1, &[0xaf, 1]);
    write(&mut bench, &wire.bytes).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*channel.last_media.borrow(), heard, "empty messages are none");
    let picture = large_picture(40, 1 << 20);
    write(&mut bench, &picture[..300 << 10]).await;
    sleep(Duration::from_secs(1)).await;
    assert!(*channel.last_media.borrow() > heard, "part of a picture that is long on its way is some");
}

#[tokio::test(start_paused = true)]
async fn row_36_a_silent_publisher_is_asked_whether_it_is_there() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let _channel = bench.admit(16).await;
    let mut said = Vec::new();
    let _ = timeout(Duration::from_secs(60), bench.io.read_to_end(&mut said)).await;
    // A user control message of six bytes: event 6 is the ping.
    let ping = [0, 0, 6, 4, 0, 0, 0, 0, 0, 6];
    assert_eq!(said.windows(ping.len()).filter(|bytes| *bytes == ping).count(), 2, "after 3 s and 6 s of 8 s");
}

#[tokio::test(start_paused = true)]
async fn a_source_of_large_pictures_waits_for_the_channel_by_bytes() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let channel = bench.admit(64).await;
    sleep(Duration::from_millis(1)).await;
    let many: Vec<u8> = (1..40).flat_map(|n| large_picture(n * 40, 2 << 20)).collect();
    assert!(timeout(Duration::from_secs(1), write(&mut bench, &many)).await.is_err(), "held up");
    let waiting = channel.events.len();
    assert!((BYTES_MAX / (2 << 20)..=BYTES_MAX / (2 << 20) + 4).contains(&waiting), "{waiting} of 64 events");
    // And when the channel takes them, all come.
    let mut events = channel.events;
    let mut taker = JoinSet::new();
    taker.spawn(async move {
        let mut count = 0;
        while let Ok(Some(_)) = timeout(Duration::from_secs(2), events.recv()).await {
            count += 1;
        }
        count
    });
    assert!(taker.join_next().await.unwrap().unwrap() >= waiting);
}

/// Each byte is a message of its own: a type 3 header, of a message without a body.
static EMPTY_MESSAGES: [u8; 60_000] = [0xc2; 60_000];

#[tokio::test(start_paused = true)]
async fn a_flood_of_empty_messages_lets_others_run() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let _channel = bench.admit(16).await;
    sleep(Duration::from_secs(1)).await;
    assert!(bench.io.read(&mut [0; 4096]).await.unwrap() > 0);
    let mut wire = Wire::default();
    // Fewer than are held up: time does not go on while this test is never idle.
    let flood = &EMPTY_MESSAGES[..40_000];
    wire.message(2, 4, 0, 0, &[]).raw(flood).message(2, 4, 0, 0, &[0, 6, 0, 0, 0, 1]);
    bench.io.write_all(&wire.bytes).await.unwrap();
    // The answer to the ping behind the flood comes when all is read.
    let (mut turns, mut pong) = (0, [0; 64]);
    loop {
        tokio::select! {
            biased;
            _ = bench.io.read(&mut pong) => break,
            () = yield_now() => turns += 1,
        }
    }
    assert!(turns >= flood.len() / 4_096, "{turns} turns");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_empty_messages_is_held_up() {
    let mut bench = Bench::new();
    bench.pipeline().await;
    let _channel = bench.admit(16).await;
    let mut wire = Wire::default();
    wire.message(2, 4, 0, 0, &[]);
    for _ in 0..10 {
        wire.raw(&EMPTY_MESSAGES);
    }
    assert!(timeout(Duration::from_secs(5), write(&mut bench, &wire.bytes)).await.is_err(), "held up");
    assert!(matches!(bench.closed().await, Close::Timeout(Stage::Idle)));
}

#[tokio::test(start_paused = true)]
async fn row_5_a_flood_of_chunk_sizes_and_of_unfinished_messages_is_held_up() {
    let mut unfinished = Wire::default();
    unfinished.header0(6, 9, 0, 1, 4 << 20).raw(&[0; 128]);
    for flood in [[0xc2, 0, 0, 0, 128].repeat(100_000), unfinished.bytes.repeat(100_000)] {
        let mut bench = Bench::new();
        bench.pipeline().await;
        let _channel = bench.admit(16).await;
        let mut wire = Wire::default();
        wire.message(2, 1, 0, 0, &[0, 0, 0, 128]).raw(&flood);
        assert!(timeout(Duration::from_secs(5), write(&mut bench, &wire.bytes)).await.is_err(), "held up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_not_send_much_without_publishing() {
    let mut bench = Bench::new();
    bench.shake_hands().await;
    let mut wire = Wire::default();
    for _ in 0..10 {
        wire.message(2, 4, 0, 0, &[0; 60_000]);
    }
    let _ = timeout(Duration::from_secs(1), bench.io.write_all(&wire.bytes)).await;
    assert!(matches!(bench.closed().await, Close::Protocol(SessionError::TooManyBytes)));
}
