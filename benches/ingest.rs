//! The hot path of ingest: chunks to messages, and messages to access units.
//!
//! `cargo bench --bench ingest`. Chunk parsing stands beside `rml_rtmp`'s own deserializer on the same bytes, and beside a
//! plain copy of them, which is the floor. A table of CPU and allocations comes first, then criterion's times.

#![expect(clippy::unwrap_used, reason = "a bench that cannot read its own input must stop")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use headwater::ingest::chunk::{ChunkReader, Limits};
use headwater::ingest::intake::Intake;
use headwater::media::MediaTime;
use rml_rtmp::chunk_io::{ChunkDeserializer, ChunkSerializer};
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

/// RTMP's default, that of OBS and this server, and that of ffmpeg.
const CHUNK_SIZES: [u32; 3] = [128, 4096, 60_000];
/// What the server's driver reads at once.
const READ_BYTES: usize = 64 << 10;
const MESSAGES: u32 = 770;
/// The kernel's count of CPU time advances by ticks of some milliseconds: a measurement must take many.
const RUNS: u32 = 200;

/// Ten seconds of a 5 Mbit/s stream: 30 pictures of 20 kB and 47 sounds of 350 bytes a second.
fn stream(chunk_bytes: u32) -> Vec<u8> {
    let mut serializer = ChunkSerializer::new();
    let mut bytes = match chunk_bytes {
        128 => Vec::new(),
        _ => serializer.set_max_chunk_size(chunk_bytes, RtmpTimestamp::new(0)).unwrap().bytes,
    };
    for n in 0..MESSAGES {
        let (type_id, length) = if n % 77 < 30 { (9, 20_000) } else { (8, 350) };
        let timestamp = RtmpTimestamp::new(n * 13);
        let message = MessagePayload { timestamp, type_id, message_stream_id: 1, data: vec![0x55; length].into() };
        bytes.extend(serializer.serialize(&message, false, false).unwrap().bytes);
    }
    bytes
}

/// As a driver reads: 64 KiB at a time, and what is left of them (part of a header) stands before the next.
fn ours(bytes: &[u8]) -> usize {
    let mut reader = ChunkReader::new(Limits::PUBLISHER);
    let (mut begin, mut end, mut total) = (0, 0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + READ_BYTES);
        let mut input = bytes.get(begin..end).unwrap();
        while let Some(message) = reader.next(&mut input).unwrap() {
            total += black_box(message).payload.len();
        }
        begin = end - input.len();
    }
    total
}

fn theirs(bytes: &[u8], chunk_bytes: usize) -> usize {
    let mut reader = ChunkDeserializer::new();
    let mut total = 0;
    for piece in bytes.chunks(READ_BYTES) {
        let mut message = reader.get_next_message(piece).unwrap();
        while let Some(found) = message {
            if found.type_id == 1 {
                reader.set_max_chunk_size(chunk_bytes).unwrap();
            } else {
                total += black_box(found).data.len();
            }
            message = reader.get_next_message(&[]).unwrap();
        }
    }
    total
}

/// A plain copy, message by message.
fn copied(bytes: &[u8]) -> usize {
    bytes.chunks(20_000).map(|piece| black_box(piece.to_vec()).len()).sum()
}

/// CPU seconds a gigabyte, MB a CPU second and allocations a message, of one reader.
fn measure(name: &str, chunk_bytes: u32, bytes: &[u8], read: impl Fn(&[u8]) -> usize) {
    let allocations = allocation_counter::measure(|| assert!(black_box(read(bytes)) > 0)).count_total;
    // The least of some runs, in CPU time of this thread: what else the machine does matters little.
    let run = || {
        let before = thread_cpu_nanos();
        for _ in 0..RUNS {
            black_box(read(black_box(bytes)));
        }
        thread_cpu_nanos() - before
    };
    let nanos = (0..5).map(|_| run()).min().unwrap() as f64 / f64::from(RUNS);
    let (seconds_per_gb, mb_per_second) = (nanos / bytes.len() as f64, bytes.len() as f64 * 1e3 / nanos);
    let each = allocations as f64 / f64::from(MESSAGES);
    println!(
        "{chunk_bytes:>6} {name:<10} {mb_per_second:>7.0} MB/s {seconds_per_gb:>8.4} CPU s/GB {each:>6.2} allocations/message"
    );
}

/// The kernel's count of what this thread has run.
fn thread_cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn chunks(criterion: &mut Criterion) {
    for chunk_bytes in CHUNK_SIZES {
        let bytes = stream(chunk_bytes);
        measure("headwater", chunk_bytes, &bytes, ours);
        measure("rml_rtmp", chunk_bytes, &bytes, |bytes| theirs(bytes, chunk_bytes as usize));
        measure("copy", chunk_bytes, &bytes, copied);
    }
    let mut group = criterion.benchmark_group("chunks");
    for chunk_bytes in CHUNK_SIZES {
        let bytes = stream(chunk_bytes);
        let theirs = |bytes: &[u8]| theirs(bytes, chunk_bytes as usize);
        assert_eq!(ours(&bytes), theirs(&bytes), "both read the same");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("headwater/{chunk_bytes}"), |b| b.iter(|| ours(black_box(&bytes))));
        group.bench_function(format!("rml_rtmp/{chunk_bytes}"), |b| b.iter(|| theirs(black_box(&bytes))));
        group.bench_function(format!("copy/{chunk_bytes}"), |b| b.iter(|| copied(black_box(&bytes))));
    }
    group.finish();
}

/// A configuration of 854x480, and pictures of 20 kB in eight slices: as they come, and behind a delimiter to be dropped.
fn tags(criterion: &mut Criterion) {
    let sps = [
        0x67, 0x42, 0xc0, 0x1f, 0xda, 0x03, 0x60, 0xf7, 0x9b, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00,
        0x03, 0x00, 0xf0, 0x3c, 0x60, 0xca, 0x80,
    ];
    let config =
        [&[0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 25][..], &sps, &[1, 0, 4, 0x68, 0xce, 0x0f, 0xc8]]
            .concat();
    let slices = [&2500u32.to_be_bytes()[..], &[0x65; 2500]].concat().repeat(8);
    let clean = [&[0x17, 1, 0, 0, 0][..], &slices].concat();
    let delimited = [&[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 9, 0xf0][..], &slices].concat();
    let mut group = criterion.benchmark_group("tags");
    for (name, picture) in [("clean", clean), ("with delimiter", delimited)] {
        let picture = Bytes::from(picture);
        group.throughput(Throughput::Bytes(100 * picture.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || (configured(&config), Vec::with_capacity(200)),
                |(intake, events)| {
                    for n in 0..100 {
                        intake.video(n * 33, picture.clone(), events).unwrap();
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn configured(config: &[u8]) -> Intake {
    let mut intake = Intake::new(MediaTime::ZERO);
    intake.video(0, Bytes::copy_from_slice(config), &mut Vec::new()).unwrap();
    intake
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
    targets = chunks, tags
}
criterion_main!(benches);
