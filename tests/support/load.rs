//! Many publishers at one time.
#![expect(clippy::unwrap_used, reason = "a load that cannot be made is no load")]
#![expect(clippy::disallowed_methods, reason = "encoders live in real time")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::movie::Movie;
use crate::support::publisher::{Packet, Publisher};

/// How often the load is looked at: messages that are due within it go out one right after the other.
const TICK: Duration = Duration::from_millis(2);

/// The configuration of so many channels.
pub(crate) fn channels(count: usize) -> String {
    (0..count).map(|i| format!("[[channels]]\nname = \"c{i}\"\nstream_key = \"key{i}\"\n")).collect()
}

/// 20 s of 720p30 H.264 at 2.5 Mbit/s with B-frames, and AAC.
pub(crate) fn source(directory: &Path) -> Movie {
    let picture = "testsrc2=s=1280x720:r=30,noise=alls=12:allf=t";
    let rate = ["-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k", "-g", "60", "-sc_threshold", "0"];
    let mut arguments = vec!["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=1000:r=48000", "-t", "20"];
    arguments.extend(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-pix_fmt", "yuv420p"]);
    arguments.extend(rate);
    arguments.extend(["-c:a", "aac", "-b:a", "128k"]);
    Movie::make(directory, "source", &arguments)
}

/// Publishers, one for each of [`channels`].
pub(crate) fn connect(url: &str, count: usize) -> Vec<Publisher> {
    (0..count).map(|i| Publisher::start(url, &format!("key{i}")).unwrap()).collect()
}

/// One thread sends for all in real time, each a little after the one before, until it is over; tells how far it fell behind.
pub(crate) fn send(
    mut publishers: Vec<Publisher>,
    packets: &[Packet],
    millis: u32,
    over: &AtomicBool,
) -> Vec<Publisher> {
    let started = Instant::now();
    let mut next = vec![(0u32, 0usize); publishers.len()];
    let mut late = 0;
    while !over.load(Ordering::Relaxed) {
        let now = u32::try_from(started.elapsed().as_millis()).unwrap();
        for (number, (publisher, (round, position))) in (0u32..).zip(publishers.iter_mut().zip(&mut next)) {
            let own = now.saturating_sub(number * 17 % 2000);
            while let Some(packet) = packets.get(*position).filter(|p| *round * millis + p.millis <= own) {
                let at = *round * millis + packet.millis;
                late = late.max(own - at);
                if packet.is_video {
                    publisher.video(at, &packet.body)
                } else {
                    publisher.audio(at, &packet.body)
                }
                publisher.flush().unwrap();
                *position += 1;
                if *position == packets.len() {
                    (*round, *position) = (*round + 1, 0);
                }
            }
        }
        std::thread::sleep(TICK);
    }
    println!("  (the load was at most {late} ms late)");
    publishers
}
