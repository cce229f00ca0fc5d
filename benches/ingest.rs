//! The hot path of ingest: chunks to messages, and messages to access units.
//!
//! `cargo bench --bench ingest`. Chunk parsing stands beside `rml_rtmp`'s own deserializer on the same bytes, and beside a
//! plain copy of them, which is the floor.

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

/// Ten seconds of a 5 Mbit/s stream: 30 pictures of 20 kB and 47 sounds of 350 bytes a second.
fn stream(chunk_bytes: u32) -> Vec<u8> {
    let mut serializer = ChunkSerializer::new();
    let mut bytes = match chunk_bytes {
        128 => Vec::new(),
        _ => serializer.set_max_chunk_size(chunk_bytes, RtmpTimestamp::new(0)).unwrap().bytes,
    };
    for n in 0..770u32 {
        let (type_id, length) = if n % 77 < 30 { (9, 20_000) } else { (8, 350) };
        let timestamp = RtmpTimestamp::new(n * 13);
        let message = MessagePayload { timestamp, type_id, message_stream_id: 1, data: vec![0x55; length].into() };
        bytes.extend(serializer.serialize(&message, false, false).unwrap().bytes);
    }
    bytes
}

/// As a driver reads: 64 KiB at a time.
fn ours(bytes: &[u8]) -> usize {
    let mut reader = ChunkReader::new(Limits::PUBLISHER);
    let (mut kept, mut total) = (bytes::BytesMut::new(), 0);
    for piece in bytes.chunks(64 << 10) {
        kept.extend_from_slice(piece);
        let mut input = &kept[..];
        while let Some(message) = reader.next(&mut input).unwrap() {
            total += message.payload.len();
        }
        let used = kept.len() - input.len();
        bytes::Buf::advance(&mut kept, used);
    }
    total
}

fn theirs(bytes: &[u8], chunk_bytes: usize) -> usize {
    let mut reader = ChunkDeserializer::new();
    let mut total = 0;
    for piece in bytes.chunks(64 << 10) {
        let mut message = reader.get_next_message(piece).unwrap();
        while let Some(found) = message {
            if found.type_id == 1 {
                reader.set_max_chunk_size(chunk_bytes).unwrap();
            } else {
                total += found.data.len();
            }
            message = reader.get_next_message(&[]).unwrap();
        }
    }
    total
}

fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunks");
    for chunk_bytes in [128u16, 4096] {
        let bytes = stream(chunk_bytes.into());
        assert_eq!(ours(&bytes), theirs(&bytes, chunk_bytes.into()), "both read the same");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("headwater/{chunk_bytes}"), |b| b.iter(|| ours(black_box(&bytes))));
        group.bench_function(format!("rml_rtmp/{chunk_bytes}"), |b| {
            b.iter(|| theirs(black_box(&bytes), chunk_bytes.into()))
        });
        group.bench_function(format!("copy/{chunk_bytes}"), |b| b.iter(|| black_box(&bytes).to_vec()));
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
