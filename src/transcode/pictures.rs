//! The way of decoded pictures to the encoders: what was shown before is dropped, cuts are set, sizes made.
//!
//! Runs on the decoder's thread. The bounded queues to the encoders hold it up, which holds up the decoder, the channel's
//! task, and in the end the publisher's socket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use crate::media::MediaTime;

use super::cuts::{ClockCuts, Cut};
use super::gate::Gate;
use super::gst_time::RunClock;
use super::plan::Encoding;
use super::probe::FrameRate;
use super::scale::{Frame, Plane, PlaneMut, Scaler};

/// The longest time without a picture in runs whose cuts follow the clock: then the last one is shown again,
/// so that a frozen source (a screen capture, a phone) does not stretch a segment beyond its target.
const STILL_MAX: MediaTime = MediaTime::from_millis(500);

/// Pictures put in for one gap at most; what is longer stays a gap.
const STILLS_MAX: usize = 240;

/// Cuts that were decided and not reached yet, in order.
pub(super) type PendingCuts = Arc<Mutex<VecDeque<Cut>>>;

/// Who decides over cuts.
pub(super) enum Cutter {
    /// The source's IDRs did, ahead of the decoder.
    Keys(PendingCuts),
    /// The clock.
    Clock(ClockCuts),
}

/// One encoder, from here.
pub(super) struct Inlet {
    pub(super) source: gst_app::AppSrc,
    pub(super) encoder: gst::Element,
    pub(super) gate: Arc<Gate>,
    /// Told of each cut before its picture is.
    pub(super) cuts: PendingCuts,
    pub(super) encoding: Encoding,
}

/// The state of the way.
pub(super) struct PicturePath {
    pub(super) clock: RunClock,
    /// Pictures up to here belong to the run before.
    pub(super) shown: Option<MediaTime>,
    pub(super) cutter: Cutter,
    pub(super) rate: FrameRate,
    /// Largest first, so that each can be made of the one before.
    pub(super) inlets: Vec<Inlet>,
    pub(super) sizes: Sizes,
    /// The last picture's time and its sizes.
    pub(super) last: Option<(MediaTime, Vec<gst::Buffer>)>,
}

impl PicturePath {
    /// Takes a decoded picture.
    pub(super) fn take(&mut self, sample: &gst::Sample) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(segment), Some(caps)) = (sample.buffer(), sample.segment(), sample.caps()) else {
            return Ok(());
        };
        let Some(pts) = self.clock.of_buffer(segment, buffer.pts()) else { return Ok(()) };
        let before = self.last.as_ref().map(|(pts, _)| *pts).max(self.shown);
        if before.is_some_and(|before| pts <= before) {
            return Ok(());
        }
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| gst::FlowError::NotNegotiated)?;
        let pictures = self.sizes.make(buffer, &info, &self.inlets).ok_or(gst::FlowError::Error)?;
        self.fill_gap(pts)?;
        self.mend_cuts(pts, &pictures)?;
        self.show(pts, &pictures)?;
        self.last = Some((pts, pictures));
        Ok(())
    }

    /// No more pictures come.
    pub(super) fn end(&mut self) {
        for inlet in &self.inlets {
            // Fails only where the pipeline is being torn down, and then nobody waits for the end.
            let _ = inlet.source.end_of_stream();
        }
        self.last = None;
    }

    /// Where the clock cuts, shows the last picture again through a gap before `pts`.
    fn fill_gap(&mut self, pts: MediaTime) -> Result<(), gst::FlowError> {
        let Some((last, pictures)) = self.last.take_if(|_| matches!(self.cutter, Cutter::Clock(_))) else {
            return Ok(());
        };
        let mut at = last + STILL_MAX;
        for _still in 0..STILLS_MAX {
            if at + self.rate.interval() > pts || STILL_MAX < self.rate.interval() {
                break;
            }
            self.show(at, &pictures)?;
            at += STILL_MAX;
        }
        Ok(())
    }

    /// A cut whose picture could not be decoded gets the one that follows: every rendition has every cut.
    fn mend_cuts(&mut self, pts: MediaTime, pictures: &[gst::Buffer]) -> Result<(), gst::FlowError> {
        while let Some(missed) = self.pending_before(pts) {
            self.show(missed, pictures)?;
        }
        Ok(())
    }

    fn pending_before(&self, pts: MediaTime) -> Option<MediaTime> {
        let Cutter::Keys(pending) = &self.cutter else { return None };
        let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.front().map(|cut| cut.pts).filter(|&cut| cut < pts)
    }

    fn show(&mut self, pts: MediaTime, pictures: &[gst::Buffer]) -> Result<(), gst::FlowError> {
        let cut = match &mut self.cutter {
            Cutter::Clock(cuts) => cuts.at_frame(pts),
            Cutter::Keys(pending) => {
                let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
                pending.pop_front_if(|cut| cut.pts == pts)
            }
        };
        for (inlet, picture) in self.inlets.iter().zip(pictures) {
            inlet.push(picture, self.clock.to_running(pts), cut)?;
        }
        Ok(())
    }
}

impl Inlet {
    fn push(&self, picture: &gst::Buffer, at: gst::ClockTime, cut: Option<Cut>) -> Result<(), gst::FlowError> {
        if !self.gate.enter() {
            return Err(gst::FlowError::Flushing);
        }
        if let Some(cut) = cut {
            self.cuts.lock().unwrap_or_else(PoisonError::into_inner).push_back(cut);
            let event = gst_video::UpstreamForceKeyUnitEvent::builder().running_time(at).all_headers(false).build();
            self.encoder.send_event(event);
        }
        let mut buffer = picture.copy();
        let meta = buffer.make_mut();
        meta.set_pts(at);
        meta.set_dts(gst::ClockTime::NONE);
        meta.set_duration(gst::ClockTime::NONE);
        self.source.push_buffer(buffer).map(|_| ())
    }
}

/// Makes the sizes of the encoders of a picture.
#[derive(Default)]
pub(super) struct Sizes {
    display: (u32, u32),
    scaler: Scaler,
    targets: Vec<Target>,
}

struct Target {
    info: gst_video::VideoInfo,
    pool: gst::BufferPool,
}

impl Drop for Target {
    fn drop(&mut self) {
        // Fails only where it never was active.
        let _ = self.pool.set_active(false);
    }
}

impl Sizes {
    /// For a source that is shown `display` wide and high.
    pub(super) fn new(display: (u32, u32)) -> Self {
        Self { display, ..Self::default() }
    }

    /// The picture in the size of each inlet.
    fn make(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        inlets: &[Inlet],
    ) -> Option<Vec<gst::Buffer>> {
        if self.targets.is_empty() {
            for inlet in inlets {
                self.targets.push(Target::new(info, &inlet.encoding)?);
                inlet.source.set_caps(self.targets.last()?.caps(&inlet.source).as_ref());
            }
        }
        let mut made: Vec<gst::Buffer> = Vec::new();
        for (position, target) in self.targets.iter().enumerate() {
            let larger = position.checked_sub(1).and_then(|p| Some((self.targets.get(p)?, made.get(p)?)));
            let picture = match larger {
                Some((from, picture)) if from.is_whole(self.display) && target.is_whole(self.display) => {
                    target.scaled(&mut self.scaler, picture, &from.info, self.display)?
                }
                _ => target.scaled(&mut self.scaler, buffer, info, self.display)?,
            };
            made.push(picture);
        }
        Some(made)
    }
}

impl Target {
    fn new(source: &gst_video::VideoInfo, encoding: &Encoding) -> Option<Self> {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, encoding.width, encoding.height)
            .colorimetry(&source.colorimetry())
            .chroma_site(source.chroma_site())
            .build()
            .ok()?;
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        let size = u32::try_from(info.size()).ok()?;
        config.set_params(info.to_caps().ok().as_ref(), size, 2, 0);
        pool.set_config(config).ok()?;
        pool.set_active(true).ok()?;
        Some(Self { info, pool })
    }

    /// The caps of the pictures, at the frame rate that the inlet was built with.
    fn caps(&self, inlet: &gst_app::AppSrc) -> Option<gst::Caps> {
        let mut caps = self.info.to_caps().ok()?;
        let rate = inlet.caps()?.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
        caps.make_mut().set("framerate", rate);
        Some(caps)
    }

    fn frame(&self, display: (u32, u32)) -> Frame {
        Frame::fit(display, self.info.width(), self.info.height())
    }

    fn is_whole(&self, display: (u32, u32)) -> bool {
        self.frame(display).fills(self.info.width(), self.info.height())
    }

    fn scaled(
        &self,
        scaler: &mut Scaler,
        from: &gst::BufferRef,
        from_info: &gst_video::VideoInfo,
        display: (u32, u32),
    ) -> Option<gst::Buffer> {
        let mut buffer = self.pool.acquire_buffer(None).ok()?;
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(from, from_info).ok()?;
        {
            let mut target = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.get_mut()?, &self.info).ok()?;
            let sizes = plane_sizes(&self.info);
            let [luma, blue, red, _] = target.planes_data_mut();
            let to = [(luma, sizes[0]), (blue, sizes[1]), (red, sizes[2])]
                .map(|(samples, (stride, width, height))| PlaneMut { samples, stride, width, height });
            scaler.scale(planes(&source)?, to, self.frame(display)).then_some(())?;
        }
        Some(buffer)
    }
}

fn planes<'a>(frame: &'a gst_video::VideoFrameRef<&gst::BufferRef>) -> Option<[Plane<'a>; 3]> {
    let strides = frame.plane_stride();
    let plane = |index: u32, width: u32, height: u32| {
        let stride = u32::try_from(*strides.get(usize::try_from(index).ok()?)?).ok()?;
        Some(Plane { samples: frame.plane_data(index).ok()?, stride, width, height })
    };
    let (width, height) = (frame.width(), frame.height());
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    Some([plane(0, width, height)?, plane(1, half_width, half_height)?, plane(2, half_width, half_height)?])
}

/// Stride, width and height of each plane.
fn plane_sizes(info: &gst_video::VideoInfo) -> [(u32, u32, u32); 3] {
    let stride = |plane: usize| info.stride().get(plane).and_then(|&s| u32::try_from(s).ok()).unwrap_or(0);
    let (width, height) = (info.width(), info.height());
    [(stride(0), width, height), (stride(1), width / 2, height / 2), (stride(2), width / 2, height / 2)]
}
