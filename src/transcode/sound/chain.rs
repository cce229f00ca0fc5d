//! A row of GStreamer elements that runs on its caller's thread: what goes in comes out of the same call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// The chain can do no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) String);

impl From<gst::glib::BoolError> for Broken {
    fn from(error: gst::glib::BoolError) -> Self {
        Self(error.to_string())
    }
}

/// The elements, which must have no queue among them, and what came out and was not fetched yet.
pub(super) struct Chain {
    pipeline: gst::Pipeline,
    inlet: gst::Pad,
    out: Arc<Mutex<Vec<gst::Sample>>>,
    /// What elements complained about, and went on.
    warnings: Arc<AtomicU64>,
}

impl Chain {
    /// Starts the elements, which are given `input` and must make `output`.
    pub(super) fn new(elements: &[gst::Element], input: &gst::Caps, output: &gst::Caps) -> Result<Self, Broken> {
        let out = Arc::default();
        let sink = sink(output, Arc::clone(&out));
        let pipeline = gst::Pipeline::new();
        let row: Vec<gst::Element> = elements.iter().cloned().chain([sink.upcast()]).collect();
        pipeline.add_many(&row)?;
        gst::Element::link_many(&row)?;
        let warnings = count_warnings(&pipeline);
        let inlet = gst::Pad::builder(gst::PadDirection::Src).name("inlet").build();
        let first = row.first().and_then(|first| first.static_pad("sink"));
        let first = first.ok_or_else(|| Broken("the first element has no way in".to_owned()))?;
        inlet.link(&first).map_err(|error| Broken(error.to_string()))?;
        let chain = Self { pipeline, inlet, out, warnings };
        chain.start(input)?;
        Ok(chain)
    }

    fn start(&self, input: &gst::Caps) -> Result<(), Broken> {
        let started = self.pipeline.set_state(gst::State::Playing);
        started.map_err(|error| Broken(error.to_string()))?;
        self.inlet.set_active(true)?;
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let events = [
            gst::event::StreamStart::new("sound"),
            gst::event::Caps::new(input),
            gst::event::Segment::new(segment.as_ref()),
        ];
        for event in events {
            if !self.inlet.push_event(event) {
                return Err(Broken(format!("{input} is not taken")));
            }
        }
        Ok(())
    }

    /// Passes a buffer through, and gives what came out.
    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<Vec<gst::Sample>, Broken> {
        self.inlet.push(buffer).map_err(|error| Broken(error.to_string()))?;
        Ok(self.fetch())
    }

    /// Gives what the elements held. Nothing can be passed through after it.
    pub(super) fn end(&self) -> Vec<gst::Sample> {
        self.inlet.push_event(gst::event::Eos::new());
        self.fetch()
    }

    /// How often elements complained since the last call.
    pub(super) fn take_warnings(&self) -> u64 {
        self.warnings.swap(0, Ordering::Relaxed)
    }

    fn fetch(&self) -> Vec<gst::Sample> {
        std::mem::take(&mut self.out.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Neither going down nor letting go of a pad fails.
        let _ = self.pipeline.set_state(gst::State::Null);
        let _ = self.inlet.set_active(false);
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

/// Takes samples as they come. What one call makes is bounded by what it is given.
fn sink(caps: &gst::Caps, out: Arc<Mutex<Vec<gst::Sample>>>) -> gst_app::AppSink {
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        out.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        Ok(gst::FlowSuccess::Ok)
    });
    gst_app::AppSink::builder()
        .caps(caps)
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .callbacks(callbacks.build())
        .build()
}

fn count_warnings(pipeline: &gst::Pipeline) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    if let Some(bus) = pipeline.bus() {
        let count = Arc::clone(&count);
        bus.set_sync_handler(move |_, message| {
            let is_warning = matches!(message.view(), gst::MessageView::Warning(_));
            count.fetch_add(u64::from(is_warning), Ordering::Relaxed);
            gst::BusSyncReply::Drop
        });
    }
    count
}
