//! The GStreamer pipeline of one run: decode once, make the sizes, encode each; and the sound where it must be encoded.
//!
//! ```text
//! appsrc ! decoder ! (deinterlace) ! videoconvert ! appsink   →  PicturePath  →  appsrc ! x264enc ! appsink, for each rendition
//! appsrc ! avdec_aac ! audioconvert ! audioresample ! avenc_aac ! appsink
//! ```
//! Nothing here blocks a task: feeding waits for permits, and changes of state, which wait for threads, run where blocking is allowed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::sync::{Semaphore, mpsc};

use crate::config::EncodeProfile;
use crate::ladder::LadderEvent;
use crate::media::{AccessUnit, AudioFormat};

use super::audio_plan::AudioMaking;
use super::cuts::{ClockCuts, Cut};
use super::decoder;
use super::elements::Lacking;
use super::encoder;
use super::gate::Gate;
use super::gst_time::RunClock;
use super::outlets::{AudioOutlet, OutletError, VideoOutlet};
use super::pictures::{Cutter, Inlet, PendingCuts, PicturePath, Sizes};
use super::plan::{Encoding, Making, VideoPlan};
use super::sequence::RunPlan;

/// Coded frames that wait for a decoder.
const CODED_MAX: usize = 32;

/// Raw pictures that wait for each encoder, beside those that it looks ahead at.
const RAW_MAX: usize = 3;

/// The end must reach every outlet within this time without any unit coming out.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a pipeline is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PipelineError {
    /// The receiver of the ladder is gone.
    Closed,
    /// An element failed: which, and why.
    Failed(String),
    /// The source cannot be decoded here, as this sentence tells the streamer.
    Undecodable(String),
}

/// What the streaming threads tell.
#[derive(Debug)]
enum Note {
    Ended,
    Failed(PipelineError),
}

/// A running pipeline. It must be stopped; where it is dropped instead, it is stopped on a thread of its own.
pub(super) struct Pipeline {
    pipeline: Option<gst::Pipeline>,
    clock: RunClock,
    video: Option<Feed>,
    audio: Option<AudioFeed>,
    pending: PendingCuts,
    gates: Vec<Arc<Gate>>,
    notes: mpsc::Receiver<Note>,
    outlets: usize,
    /// Stands before the first picture.
    lead: Option<Bytes>,
    failed: Option<PipelineError>,
}

/// The way into a decoder: its queue is bounded by permits.
#[derive(Clone)]
struct Feed {
    source: gst_app::AppSrc,
    permits: Arc<Semaphore>,
}

struct AudioFeed {
    feed: Feed,
    outlet: Arc<Mutex<AudioOutlet>>,
    fed: bool,
}

/// What a pipeline is built with.
struct Builder<'a> {
    run: &'a RunPlan,
    profile: EncodeProfile,
    out: &'a mpsc::Sender<LadderEvent>,
    pipeline: gst::Pipeline,
    clock: RunClock,
    notes: mpsc::Sender<Note>,
    outlets: usize,
    gates: Vec<Arc<Gate>>,
}

impl Pipeline {
    /// A pipeline for what the run encodes; none where it encodes nothing. Blocks while elements start.
    pub(super) fn start(
        run: &RunPlan,
        profile: EncodeProfile,
        out: &mpsc::Sender<LadderEvent>,
    ) -> Result<Option<Self>, PipelineError> {
        let encodes_video = run.plan.videos.iter().any(|video| matches!(video.making, Making::Encode(_)));
        let encodes_audio = matches!(run.plan.audio.making, AudioMaking::Encode(_));
        if !encodes_video && !encodes_audio {
            return Ok(None);
        }
        let undecodable = |lacking: Lacking| PipelineError::Undecodable(format!("{lacking} Set the encoder to H.264."));
        let decoder = decoder::element(run.format.codec).map_err(undecodable);
        let decoder = if encodes_video { Some(decoder?) } else { None };
        // Each outlet says once that it ended, and at most once that it failed, as does the bus: one that does not fit is not the first.
        let (notes, notes_in) = mpsc::channel(64);
        let pipeline = gst::Pipeline::new();
        let clock = RunClock::new(run.start);
        let mut builder = Builder { run, profile, out, pipeline, clock, notes, outlets: 0, gates: Vec::new() };
        let built = builder.build(decoder);
        let (video, audio, pending) = built.map_err(|error| PipelineError::Failed(error.to_string()))?;
        let Builder { pipeline, outlets, gates, .. } = builder;
        let started = Self {
            pipeline: Some(pipeline.clone()),
            clock,
            video,
            audio,
            pending,
            gates,
            notes: notes_in,
            outlets,
            lead: decoder::lead(&run.format),
            failed: None,
        };
        pipeline
            .set_state(gst::State::Playing)
            .map_err(|error| PipelineError::Failed(format!("the pipeline does not start: {error}")))?;
        Ok(Some(started))
    }

    /// Feeds a picture of the source, waiting for room. `cut`: a segment begins with it.
    pub(super) async fn push_video(&mut self, unit: &AccessUnit, cut: Option<Cut>) -> Result<(), PipelineError> {
        let Some(feed) = self.video.clone() else { return Ok(()) };
        if let Some(cut) = cut {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(cut);
        }
        match self.lead.take() {
            Some(lead) => {
                let data = Bytes::from([lead, unit.data.clone()].concat());
                self.push(&feed, &AccessUnit { data, ..unit.clone() }).await
            }
            None => self.push(&feed, unit).await,
        }
    }

    /// Feeds a frame of the source's sound, waiting for room.
    pub(super) async fn push_audio(&mut self, unit: &AccessUnit) -> Result<(), PipelineError> {
        let Some(audio) = &mut self.audio else { return Ok(()) };
        if !audio.fed {
            audio.fed = true;
            audio.outlet.lock().unwrap_or_else(PoisonError::into_inner).anchor = unit.pts;
        }
        let feed = audio.feed.clone();
        self.push(&feed, unit).await
    }

    async fn push(&mut self, feed: &Feed, unit: &AccessUnit) -> Result<(), PipelineError> {
        let permit = tokio::select! {
            biased;
            error = self.failure() => return Err(error),
            permit = feed.permits.acquire() => permit,
        };
        let Ok(permit) = permit else { return Err(PipelineError::Failed("the pipeline is stopped".to_owned())) };
        permit.forget();
        let pushed = feed.source.push_buffer(self.buffer(unit));
        pushed.map(|_| ()).map_err(|error| PipelineError::Failed(format!("the decoder's input is closed: {error}")))
    }

    fn buffer(&self, unit: &AccessUnit) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_slice(unit.data.clone());
        let meta = buffer.make_mut();
        meta.set_pts(self.clock.to_running(unit.pts));
        meta.set_dts(self.clock.to_running(unit.dts));
        if !unit.key {
            meta.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        buffer
    }

    /// Resolves where the pipeline fails. Cancel-safe.
    pub(super) async fn failure(&mut self) -> PipelineError {
        if let Some(error) = &self.failed {
            return error.clone();
        }
        loop {
            match self.notes.recv().await {
                Some(Note::Ended) => self.outlets = self.outlets.saturating_sub(1),
                Some(Note::Failed(error)) => {
                    self.failed = Some(error.clone());
                    return error;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Sends the end through decoders and encoders, and waits until all that they held is out.
    pub(super) async fn drain(&mut self) -> Result<(), PipelineError> {
        let feeds = self.video.iter().chain(self.audio.iter().map(|audio| &audio.feed));
        for feed in feeds {
            // Fails only where an element has failed, which a note tells.
            let _ = feed.source.end_of_stream();
        }
        while self.outlets > 0 {
            match tokio::time::timeout(DRAIN_TIMEOUT, self.notes.recv()).await {
                Ok(Some(Note::Ended)) => self.outlets = self.outlets.saturating_sub(1),
                Ok(Some(Note::Failed(error))) => return Err(error),
                Ok(None) => return Ok(()),
                Err(_) => return Err(PipelineError::Failed("the encoders do not come to an end".to_owned())),
            }
        }
        Ok(())
    }

    /// Stops all threads of the pipeline and waits for them.
    pub(super) async fn stop(mut self) {
        if let Some(pipeline) = self.release() {
            // Fails only where the task panics, which is a bug that the panic hook reports.
            let _ = tokio::task::spawn_blocking(move || shut_down(&pipeline)).await;
        }
    }

    fn release(&mut self) -> Option<gst::Pipeline> {
        self.gates.iter().for_each(|gate| gate.close());
        self.pipeline.take()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(pipeline) = self.release() {
            std::thread::spawn(move || shut_down(&pipeline));
        }
    }
}

fn shut_down(pipeline: &gst::Pipeline) {
    // Going down to NULL does not fail.
    let _ = pipeline.set_state(gst::State::Null);
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
}

type Built = (Option<Feed>, Option<AudioFeed>, PendingCuts);

impl Builder<'_> {
    fn build(&mut self, decoder: Option<&str>) -> Result<Built, gst::glib::BoolError> {
        self.watch_bus();
        let pending = PendingCuts::default();
        let video = decoder.map(|decoder| self.video(decoder, &pending)).transpose()?;
        let audio = match &self.run.plan.audio.making {
            AudioMaking::Encode(format) => Some(self.audio(format)?),
            AudioMaking::Pass | AudioMaking::Silence => None,
        };
        Ok((video, audio, pending))
    }

    /// Errors of elements become notes, with the element's name and the cause.
    fn watch_bus(&self) {
        let notes = self.notes.clone();
        let Some(bus) = self.pipeline.bus() else { return };
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                let element = error.src().map_or_else(|| "the pipeline".into(), |source| source.name());
                let cause = error.debug().map(|debug| format!(" ({debug})")).unwrap_or_default();
                let text = format!("{element}: {}{cause}", error.error());
                let _ = notes.try_send(Note::Failed(PipelineError::Failed(text)));
            }
            gst::BusSyncReply::Drop
        });
    }

    fn video(&mut self, decoder: &str, pending: &PendingCuts) -> Result<Feed, gst::glib::BoolError> {
        let mut inlets = Vec::new();
        for (rendition, video) in self.run.plan.videos.iter().enumerate() {
            if let Making::Encode(encoding) = video.making {
                inlets.push(self.encoder(rendition, video, encoding)?);
            }
        }
        inlets.sort_by_key(|inlet| std::cmp::Reverse((inlet.encoding.height, inlet.encoding.width)));
        let source = coded_source("video source", &decoder::caps(&self.run.format));
        let rate = self.run.plan.frame_rate;
        let heavy = f64::from(self.run.format.width) * f64::from(self.run.format.height) * rate.per_second()
            > 1920.0 * 1080.0 * 40.0;
        let decoder = decoder::make(decoder, if heavy { 2 } else { 1 })?;
        let mut chain = vec![source.clone().upcast(), decoder];
        if self.run.source.video.interlaced {
            // The deinterlacer does not take every depth.
            chain.push(gst::ElementFactory::make("videoconvert").name("field converter").build()?);
            let deinterlace = gst::ElementFactory::make("deinterlace").name("deinterlacer");
            chain.push(deinterlace.property_from_str("fields", "top").build()?);
        }
        chain.push(gst::ElementFactory::make("videoconvert").name("video converter").build()?);
        let raw = decoder::raw_caps(&self.run.format);
        let cutter = match self.run.plan.passed() {
            Some(_) => Cutter::Keys(Arc::clone(pending)),
            None => Cutter::Clock(ClockCuts::new(self.run.start, self.run.plan.target)),
        };
        let path = PicturePath {
            clock: self.clock,
            shown: self.run.shown,
            cutter,
            rate,
            inlets,
            sizes: Sizes::new(self.run.source.video.display_size()),
            last: None,
        };
        chain.push(picture_sink(&raw, path).upcast());
        self.link(&chain)?;
        Ok(feed(source))
    }

    fn encoder(
        &mut self,
        rendition: usize,
        video: &VideoPlan,
        encoding: Encoding,
    ) -> Result<Inlet, gst::glib::BoolError> {
        let rate = self.run.plan.frame_rate;
        let fraction = gst::Fraction::new(
            i32::try_from(rate.numerator).unwrap_or(30),
            i32::try_from(rate.denominator).unwrap_or(1),
        );
        let raw = gst::Caps::builder("video/x-raw").field("framerate", fraction).build();
        let source = gst_app::AppSrc::builder()
            .name(format!("pictures for {}", video.name))
            .caps(&raw)
            .format(gst::Format::Time)
            .max_buffers(0)
            .max_bytes(0)
            .build();
        let gate = Arc::new(Gate::new(RAW_MAX));
        on_leaving(source.upcast_ref(), {
            let gate = Arc::clone(&gate);
            move || gate.leave()
        });
        self.gates.push(Arc::clone(&gate));
        let settings = encoder::settings(&encoding, self.profile, rate);
        let mut encoder = gst::ElementFactory::make("x264enc").name(format!("encoder of {}", video.name));
        for (name, value) in &settings {
            encoder = encoder.property_from_str(name, value);
        }
        let encoder = encoder.build()?;
        let (profile, level) = encoder::profile_and_level(&encoding);
        let mut coded = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("profile", profile);
        if let Some(level) = level {
            coded = coded.field("level", level);
        }
        let cuts = PendingCuts::default();
        let outlet = VideoOutlet {
            rendition,
            size: (encoding.width, encoding.height),
            clock: self.clock,
            cuts: Arc::clone(&cuts),
            out: self.out.clone(),
            announced: false,
            last_dts: None,
        };
        let sink = self.outlet_sink(&format!("outlet of {}", video.name), &coded.build(), outlet, VideoOutlet::take);
        self.link(&[source.clone().upcast(), encoder.clone(), sink.upcast()])?;
        Ok(Inlet { source, encoder, gate, cuts, encoding })
    }

    fn audio(&mut self, format: &AudioFormat) -> Result<AudioFeed, gst::glib::BoolError> {
        let plan = &self.run.plan.audio;
        let caps = gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4)
            .field("stream-format", "raw")
            .field("framed", true)
            .field("rate", i32::try_from(format.sample_rate).unwrap_or(48_000))
            .field("channels", i32::from(format.channels))
            .field("codec_data", gst::Buffer::from_slice(format.config.clone()))
            .build();
        let source = coded_source("audio source", &caps);
        let make = |element: &str, name: &str| gst::ElementFactory::make(element).name(name).build();
        let raw = gst::Caps::builder("audio/x-raw")
            .field("rate", i32::try_from(plan.format.sample_rate).unwrap_or(48_000))
            .field("channels", i32::from(plan.format.channels))
            .build();
        let filter = gst::ElementFactory::make("capsfilter").name("audio format").property("caps", raw).build()?;
        let encoder = gst::ElementFactory::make("avenc_aac").name("audio encoder");
        let encoder = encoder.property("bitrate", i32::try_from(plan.average).unwrap_or(128_000)).build()?;
        let coded = gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw").build();
        let outlet = Arc::new(Mutex::new(AudioOutlet {
            rendition: self.run.plan.audio_index(),
            format: plan.format.clone(),
            anchor: self.run.start,
            out: self.out.clone(),
            announced: false,
            frames: 0,
        }));
        let take = |outlet: &mut Arc<Mutex<AudioOutlet>>, sample: &gst::Sample| {
            outlet.lock().unwrap_or_else(PoisonError::into_inner).take(sample)
        };
        let sink = self.outlet_sink("outlet of audio", &coded, Arc::clone(&outlet), take);
        let chain = [
            source.clone().upcast(),
            make("avdec_aac", "audio decoder")?,
            make("audioconvert", "audio converter")?,
            make("audioresample", "audio resampler")?,
            filter,
            encoder,
            sink.upcast(),
        ];
        self.link(&chain)?;
        Ok(AudioFeed { feed: feed(source), outlet, fed: false })
    }

    /// A sink that hands each sample to an outlet, and tells of its end.
    fn outlet_sink<O: Send + 'static>(
        &mut self,
        name: &str,
        caps: &gst::Caps,
        mut outlet: O,
        take: impl Fn(&mut O, &gst::Sample) -> Result<(), OutletError> + Send + 'static,
    ) -> gst_app::AppSink {
        self.outlets += 1;
        let (notes, ended) = (self.notes.clone(), self.notes.clone());
        let label = name.to_owned();
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                take(&mut outlet, &sample).map(|()| gst::FlowSuccess::Ok).map_err(|error| {
                    let error = match error {
                        OutletError::Closed => PipelineError::Closed,
                        OutletError::Broken(what) => PipelineError::Failed(format!("{label}: the encoder {what}")),
                    };
                    let _ = notes.try_send(Note::Failed(error));
                    gst::FlowError::Flushing
                })
            })
            .eos(move |_| {
                let _ = ended.try_send(Note::Ended);
            })
            .build();
        sink(name, caps, callbacks)
    }

    fn link(&self, chain: &[gst::Element]) -> Result<(), gst::glib::BoolError> {
        self.pipeline.add_many(chain)?;
        gst::Element::link_many(chain)
    }
}

fn feed(source: gst_app::AppSrc) -> Feed {
    let permits = Arc::new(Semaphore::new(CODED_MAX));
    on_leaving(source.upcast_ref(), {
        let permits = Arc::clone(&permits);
        move || permits.add_permits(1)
    });
    Feed { source, permits }
}

/// A source of coded frames. Its own bounds are off, since permits bound it.
fn coded_source(name: &str, caps: &gst::Caps) -> gst_app::AppSrc {
    gst_app::AppSrc::builder().name(name).caps(caps).format(gst::Format::Time).max_buffers(0).max_bytes(0).build()
}

/// Calls for each buffer that leaves the queue of a source.
fn on_leaving(source: &gst::Element, left: impl Fn() + Send + Sync + 'static) {
    if let Some(pad) = source.static_pad("src") {
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            left();
            gst::PadProbeReturn::Ok
        });
    }
}

fn picture_sink(caps: &gst::Caps, path: PicturePath) -> gst_app::AppSink {
    let path = Arc::new(Mutex::new(path));
    let ending = Arc::clone(&path);
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            path.lock().unwrap_or_else(PoisonError::into_inner).take(&sample).map(|()| gst::FlowSuccess::Ok)
        })
        .eos(move |_| ending.lock().unwrap_or_else(PoisonError::into_inner).end())
        .build();
    sink("pictures", caps, callbacks)
}

/// A sink that takes samples as they come: it waits for no clock and for no other sink.
fn sink(name: &str, caps: &gst::Caps, callbacks: gst_app::AppSinkCallbacks) -> gst_app::AppSink {
    gst_app::AppSink::builder()
        .name(name)
        .caps(caps)
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .max_buffers(1)
        .callbacks(callbacks)
        .build()
}
