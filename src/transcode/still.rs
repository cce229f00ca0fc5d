//! A still picture out of packed media, as JPEG: what GStreamer finds first in it, made small.

use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// For a picture to be decoded and encoded: keyframes take milliseconds, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks for an error.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(20);

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no still picture: {0}")]
pub struct StillError(String);

/// The first picture of `media` (an initialisation segment and a fragment behind it, or a transport stream), no higher than
/// `height_max` lines, with its aspect ratio kept. Blocks; [`super::init`] comes first.
///
/// # Errors
/// Where nothing in it can be decoded here, or not in time.
pub fn still(media: Bytes, height_max: u32) -> Result<Bytes, StillError> {
    let failed = |what: &dyn std::fmt::Display| StillError(what.to_string());
    let description = format!(
        "appsrc name=in ! decodebin ! videoconvert ! videoscale \
         ! video/x-raw,height=(int)[1,{height_max}],pixel-aspect-ratio=1/1 ! jpegenc quality=80 ! appsink name=out sync=false max-buffers=1"
    );
    let element = gst::parse::launch(&description).map_err(|error| failed(&error))?;
    let pipeline = Running(element.downcast::<gst::Pipeline>().map_err(|_| failed(&"no pipeline"))?);
    let (Some(inlet), Some(outlet)) =
        (pipeline.find::<gst_app::AppSrc>("in"), pipeline.find::<gst_app::AppSink>("out"))
    else {
        return Err(failed(&"no ends"));
    };
    pipeline.0.set_state(gst::State::Playing).map_err(|error| failed(&error))?;
    inlet.push_buffer(gst::Buffer::from_slice(media)).map_err(|error| failed(&error))?;
    inlet.end_of_stream().map_err(|error| failed(&error))?;
    let sample = pipeline.first(&outlet)?;
    let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok()).ok_or_else(|| failed(&"it is empty"))?;
    Ok(Bytes::copy_from_slice(&map))
}

/// A pipeline that ends when this is dropped.
struct Running(gst::Pipeline);

impl Running {
    fn find<T: IsA<gst::Object> + IsA<gst::Element>>(&self, name: &str) -> Option<T> {
        self.0.by_name(name)?.downcast().ok()
    }

    /// The first picture that comes out. Where nothing is decoded, nothing comes out either: there is only a message.
    fn first(&self, outlet: &gst_app::AppSink) -> Result<gst::Sample, StillError> {
        let looks = PATIENCE.as_millis() / u128::from(LOOK.mseconds());
        for _ in 0..looks {
            if let Some(sample) = outlet.try_pull_sample(LOOK) {
                return Ok(sample);
            }
            let message = self.0.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            if let Some(gst::MessageView::Error(error)) = message.as_ref().map(|message| message.view()) {
                return Err(StillError(error.error().to_string()));
            }
            if outlet.is_eos() {
                break;
            }
        }
        Err(StillError("nothing came of it".to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has no state to lose.
        let _ = self.0.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_media_makes_no_picture() {
        super::super::init().unwrap();
        let error = still(Bytes::from_static(b"this is no media at all, and never was"), 180).unwrap_err();
        assert!(error.to_string().starts_with("no still picture: "), "{error}");
    }
}
