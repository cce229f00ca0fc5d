//! A picture in memory, out of packed media, and into a JPEG.

use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::still::StillError;

/// For a picture to be decoded or encoded: keyframes take milliseconds, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks for an error.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(20);

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels, which are square.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Four bytes each: red, green, blue, and one without meaning; line by line from the top, without anything between.
    pub pixels: Bytes,
}

impl Picture {
    /// The first picture of `media`: an initialisation segment and a fragment behind it, a transport stream, or a file of a picture;
    /// no higher than `height_max` lines, with its aspect ratio kept. Blocks; [`super::init`] comes first.
    ///
    /// # Errors
    /// Where nothing in it can be decoded here, or not in time.
    pub fn decode(media: Bytes, height_max: u32) -> Result<Self, StillError> {
        let sample = run(
            &format!(
                "appsrc name=in ! decodebin ! videoconvert ! videoscale \
                 ! video/x-raw,format=RGBx,height=(int)[1,{height_max}],pixel-aspect-ratio=1/1 \
                 ! appsink name=out sync=false max-buffers=1"
            ),
            None,
            media,
        )?;
        Self::of(&sample).ok_or_else(|| StillError::new("it is empty"))
    }

    fn of(sample: &gst::Sample) -> Option<Self> {
        let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
        let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
        let line = usize::try_from(info.width()).ok()?.checked_mul(4)?;
        let lines = frame.plane_data(0).ok()?.chunks(stride).take(usize::try_from(info.height()).ok()?);
        let pixels: Vec<&[u8]> = lines.map(|bytes| bytes.get(..line)).collect::<Option<_>>()?;
        Some(Self { width: info.width(), height: info.height(), pixels: pixels.concat().into() })
    }

    /// The picture as a file. Blocks; [`super::init`] comes first.
    ///
    /// # Errors
    /// Where there are fewer pixels than it says, or not in time.
    pub fn jpeg(&self) -> Result<Bytes, StillError> {
        let caps = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgbx, self.width, self.height).build();
        let caps = caps.and_then(|info| info.to_caps()).map_err(StillError::new)?;
        // The colours of JFIF: BT.601, in the full range.
        let encode = "appsrc name=in format=time ! videoconvert ! video/x-raw,format=I420,colorimetry=1:4:0:0 ! jpegenc quality=80 \
                      ! appsink name=out sync=false max-buffers=1";
        let sample = run(encode, Some(&caps), self.pixels.clone())?;
        let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok());
        map.map(|map| Bytes::copy_from_slice(&map)).ok_or_else(|| StillError::new("it is empty"))
    }
}

/// Pushes `data` into a pipeline, and gives what comes out first.
fn run(description: &str, caps: Option<&gst::Caps>, data: Bytes) -> Result<gst::Sample, StillError> {
    let element = gst::parse::launch(description).map_err(StillError::new)?;
    let pipeline = Running(element.downcast::<gst::Pipeline>().map_err(|_| StillError::new("no pipeline"))?);
    let (Some(inlet), Some(outlet)) =
        (pipeline.find::<gst_app::AppSrc>("in"), pipeline.find::<gst_app::AppSink>("out"))
    else {
        return Err(StillError::new("no ends"));
    };
    inlet.set_caps(caps);
    pipeline.0.set_state(gst::State::Playing).map_err(StillError::new)?;
    let mut buffer = gst::Buffer::from_slice(data);
    if let Some(buffer) = buffer.get_mut().filter(|_| caps.is_some()) {
        buffer.set_pts(gst::ClockTime::ZERO);
    }
    inlet.push_buffer(buffer).map_err(StillError::new)?;
    inlet.end_of_stream().map_err(StillError::new)?;
    pipeline.first(&outlet)
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
                return Err(StillError::new(error.error()));
            }
            if outlet.is_eos() {
                break;
            }
        }
        Err(StillError::new("nothing came of it"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has no state to lose.
        let _ = self.0.set_state(gst::State::Null);
    }
}
