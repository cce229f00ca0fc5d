//! A source whose clock jumps: file players that begin again, encoders that restart within a connection.

use crate::support::hls;
use crate::support::movie::Movie;
use crate::support::probe;
use crate::support::publisher::{Form, Publisher, Push, packets};
use crate::{PATIENCE, small_server};

/// Where the clock jumps, in milliseconds: at the first an hour forward, at the second back to nothing.
const JUMPS: [u32; 2] = [6_000, 12_000];
/// Where it begins: an uptime that no 31 bits hold.
const FIRST: u32 = 3_000_000_000;

fn clock(at: u32) -> u32 {
    match at {
        at if at < JUMPS[0] => FIRST + at,
        at if at < JUMPS[1] => FIRST + at + 3_600_000,
        at => at - JUMPS[1],
    }
}

#[test]
fn row_12_lesson_11_each_jump_of_the_clock_is_one_discontinuity_in_all_renditions() {
    let server = small_server();
    let input = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30", "-f", "lavfi", "-i", "sine=1000:r=48000", "-t", "6"];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "30", "-c:a", "aac"];
    let movie = Movie::make(server.directory.path(), "movie", &[&input[..], &codecs].concat());
    let publisher = Publisher::start(&server.rtmp, &server.key).unwrap();
    let packets = packets(&movie, Form::Legacy, Form::Legacy);
    let push = Push::with_clock(publisher, packets, movie.millis, clock);
    let names = hls::wait_until_live(&server, PATIENCE);
    let recordings = hls::record(&server, &names, 9, PATIENCE);
    push.stop();
    let mut seams = Vec::new();
    for (name, recording) in &recordings {
        let all: Vec<_> = recording.segments.iter().collect();
        seams.push(all.iter().filter(|(_, (s, _))| s.discontinuity).map(|(number, _)| **number).collect::<Vec<_>>());
        assert!(all.iter().all(|(_, (s, _))| s.duration < 2.1), "{name}: no segment grows");
        for pair in all.windows(2) {
            let [(_, (before, _)), (_, (after, _))] = pair else { continue };
            assert!(before.duration > 0.5, "{name}: no segment is a splinter: {}", before.duration);
            if let (Some(a), Some(b)) = (before.program_date_time, after.program_date_time) {
                let off = (b - a).num_milliseconds() as f32 / 1000.0 - before.duration;
                assert!(off.abs() < 0.1, "{name}: the wall clock leaps by {off} s");
            }
        }
    }
    assert_eq!(seams[0].len(), 2, "{seams:?}");
    assert!(seams.iter().all(|seam| *seam == seams[0]), "the same in all: {seams:?}");
    probe::decode(&server.live("index.m3u8"));
    assert_eq!(server.complaints(), Vec::<String>::new());
}
