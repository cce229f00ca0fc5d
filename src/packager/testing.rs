//! For tests: formats, specs and a small source of events.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::live::{Media, Msn, Segment, SessionId};
use crate::media::{AudioCodec, AudioFormat, MediaTime, TrackFormat, VideoCodec, VideoCoding, VideoFormat};

/// An `avcC` of High profile, level 3.1, with parameter sets that are only looked at by their length.
const AVCC: &[u8] = &[1, 100, 0, 31, 255, 225, 0, 4, 0x67, 100, 0, 31, 1, 0, 2, 0x68, 0xee, 0xfd, 0xf8, 0xf8, 0];

pub(crate) fn video_format() -> TrackFormat {
    TrackFormat::Video(VideoFormat {
        codec: VideoCodec::H264,
        config: Bytes::from_static(AVCC),
        width: 1280,
        height: 720,
        coding: VideoCoding::PLAIN,
    })
}

pub(crate) fn audio_format() -> TrackFormat {
    TrackFormat::Audio(AudioFormat {
        codec: AudioCodec::Aac(2),
        config: Bytes::from_static(&[0x11, 0x90]),
        sample_rate: 48_000,
        channels: 2,
    })
}

/// The session of [`segment`]s.
pub(crate) const SESSION: SessionId = SessionId(1_800_000_000_000);

/// A segment of a steady stream: as if all before it had been as long.
pub(crate) fn segment(msn: u64, millis: i64) -> Segment {
    let before = i64::try_from(msn - 1).unwrap() * millis;
    Segment {
        msn: Msn(msn),
        session: SESSION,
        discontinuity: false,
        start: MediaTime::from_millis(before),
        duration: MediaTime::from_millis(millis),
        program_date_time: wall_clock(before),
        media: Media::Hot { data: Bytes::new(), parts: Vec::new() },
    }
}

/// So long after the start of the tests' time.
pub(crate) fn wall_clock(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(SESSION.0) + MediaTime::from_millis(millis).to_duration()
}

/// Compares `text` with a file of `golden/`.
pub(crate) fn golden(file: &str, text: &str) {
    crate::golden::golden("packager", file, text);
}
