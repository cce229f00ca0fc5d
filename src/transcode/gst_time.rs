//! Between the channel's timeline and GStreamer's, which has no negative times: a run's start is 1001 hours on.

use gstreamer as gst;

use crate::media::MediaTime;

/// What is added, so that a lead-in before the run's start, and decode times before it, stay positive.
///
/// `x264enc` moves whatever begins before 1000 hours to there, and then GStreamer 1.22 mixes up moved and unmoved times
/// where it looks for the picture that an IDR was asked for. What begins later it leaves in place.
const BASE: MediaTime = MediaTime::from_millis(1001 * 3_600_000);

/// The timeline of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunClock {
    start: MediaTime,
}

impl RunClock {
    /// For the run that starts at `start`.
    pub(super) const fn new(start: MediaTime) -> Self {
        Self { start }
    }

    /// As GStreamer's running time, to the nanosecond; to be asked for times less than 1000 hours before the run's start.
    pub(super) fn to_running(self, time: MediaTime) -> gst::ClockTime {
        let nanos = (time - self.start + BASE).as_nanos();
        gst::ClockTime::from_nseconds(u64::try_from(nanos).unwrap_or(0))
    }

    /// From a buffer's time, by the segment of its sample. None where it has no time.
    pub(super) fn of_buffer(self, segment: &gst::Segment, time: Option<gst::ClockTime>) -> Option<MediaTime> {
        let segment = segment.downcast_ref::<gst::ClockTime>()?;
        let running = segment.to_running_time_full(time?)?;
        let nanos = match running {
            gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok()?,
            gst::Signed::Negative(time) => -i64::try_from(time.nseconds()).ok()?,
        };
        Some(MediaTime::from_nanos(nanos) - BASE + self.start)
    }
}
