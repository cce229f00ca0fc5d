//! The driver at the door of a session: events pass in order, and sound that is not AAC comes out as AAC.
//!
//! Each packet is answered before the next event passes, so picture and sound stay in step however fast the source is.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::converter::{Converted, Converter};
use super::decoder;
use crate::media::{AccessUnit, AudioFormat, MediaTime, Track, TrackFormat};
use crate::metrics::{KindLabel, Metrics};
use crate::source::{ChannelName, SourceEvent};

/// The source of a session, its sound AAC.
pub(in super::super) struct Door {
    source: mpsc::Receiver<SourceEvent>,
    channel: ChannelName,
    bitrate: u64,
    metrics: Metrics,
    sound: Sound,
    /// What passes next. Holds what one packet became: see the bound on packets in the converter.
    ready: VecDeque<SourceEvent>,
    /// Waits for what the converter held.
    held: Option<SourceEvent>,
    /// The format that was told last.
    told: Option<AudioFormat>,
    /// The last frame that the converter made.
    last: Option<MediaTime>,
}

/// What becomes of the source's sound.
enum Sound {
    /// It passes.
    Passes,
    /// It is converted.
    Converted(Worker),
    /// It cannot be decoded here, and is left out.
    Dropped,
}

/// A converter on a thread of its own, which ends when its jobs do.
struct Worker {
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Receiver<Converted>,
    /// A job was not answered yet.
    busy: bool,
    /// It holds nothing.
    drained: bool,
    thread: JoinSet<()>,
}

enum Job {
    Packet(AccessUnit),
    Finish,
}

impl Door {
    /// Before `source`, a publisher's of `channel`; what is converted gets this many bits a second.
    pub(in super::super) fn new(
        source: mpsc::Receiver<SourceEvent>,
        channel: ChannelName,
        bitrate: u64,
        metrics: Metrics,
    ) -> Self {
        let (ready, sound) = (VecDeque::new(), Sound::Passes);
        Self { source, channel, bitrate, metrics, sound, ready, held: None, told: None, last: None }
    }

    /// The next event; none when the source is over and all is out. Cancel-safe.
    pub(in super::super) async fn recv(&mut self) -> Option<SourceEvent> {
        loop {
            if let Sound::Converted(worker) = &mut self.sound
                && worker.busy
            {
                let answer = worker.answers.recv().await;
                if answer.is_none() {
                    worker.thread.join_next().await;
                }
                self.answered(answer);
            } else if let Some(event) = self.ready.pop_front() {
                return Some(event);
            } else if let Some(event) = self.held.take() {
                self.pass(event);
            } else {
                match self.source.recv().await {
                    Some(event) => self.admit(event),
                    None if self.drain() => {}
                    None => return None,
                }
            }
        }
    }

    /// Takes an event of the source: what the converter holds goes before whatever ends its sound.
    fn admit(&mut self, event: SourceEvent) {
        let ends =
            matches!(event, SourceEvent::Format(Track::Audio, _) | SourceEvent::Discontinuity | SourceEvent::End);
        if ends && self.drain() {
            self.held = Some(event);
        } else {
            self.pass(event);
        }
    }

    /// Asks for what the converter holds. False where it holds nothing.
    fn drain(&mut self) -> bool {
        match &mut self.sound {
            Sound::Converted(worker) if !worker.drained => worker.ask(Job::Finish),
            Sound::Converted(_) | Sound::Passes | Sound::Dropped => false,
        }
    }

    fn pass(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Format(Track::Audio, TrackFormat::Audio(format)) => self.format(format),
            SourceEvent::Unit(Track::Audio, unit) => self.unit(unit),
            other => self.ready.push_back(other),
        }
    }

    fn format(&mut self, format: AudioFormat) {
        let told = if decoder::is_foreign(format.codec) {
            match Converter::new(format, self.bitrate) {
                Ok(converter) => {
                    let target = converter.format().clone();
                    info!(channel = %self.channel, rate = target.sample_rate, channels = target.channels, "the source's sound becomes AAC");
                    self.sound = Sound::Converted(Worker::start(converter));
                    target
                }
                Err(lacking) => {
                    warn!(channel = %self.channel, "{lacking} The channel is silent; set the encoder's sound to AAC.");
                    self.sound = Sound::Dropped;
                    return;
                }
            }
        } else {
            self.sound = Sound::Passes;
            format
        };
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told.clone());
            self.ready.push_back(SourceEvent::Format(Track::Audio, TrackFormat::Audio(told)));
        }
    }

    fn unit(&mut self, unit: AccessUnit) {
        match &mut self.sound {
            Sound::Passes => self.ready.push_back(SourceEvent::Unit(Track::Audio, unit)),
            Sound::Converted(worker) => {
                worker.ask(Job::Packet(unit));
            }
            Sound::Dropped => {}
        }
    }

    fn answered(&mut self, answer: Option<Converted>) {
        let Some(Converted { units, faults }) = answer else {
            // The thread panicked, which the hook has reported: the picture goes on in silence.
            error!(channel = %self.channel, "the sound's converter failed: the channel is silent until the encoder reconnects");
            self.sound = Sound::Dropped;
            return;
        };
        if let Sound::Converted(worker) = &mut self.sound {
            worker.busy = false;
        }
        if faults > 0 {
            let kind = KindLabel { kind: "audio_undecodable" };
            self.metrics.ingest_repairs.get_or_create(&kind).inc_by(faults);
        }
        for unit in units {
            // Where a converter began anew, the last frame of the one before is padded.
            if self.last.is_none_or(|last| unit.pts > last) {
                self.last = Some(unit.pts);
                self.ready.push_back(SourceEvent::Unit(Track::Audio, unit));
            }
        }
    }
}

impl Worker {
    fn start(converter: Converter) -> Self {
        // One job at a time and one answer to each: neither is ever full.
        let (jobs, jobs_in) = mpsc::channel(1);
        let (answers_out, answers) = mpsc::channel(1);
        let mut thread = JoinSet::new();
        thread.spawn_blocking(move || work(converter, jobs_in, &answers_out));
        Self { jobs, answers, busy: false, drained: true, thread }
    }

    /// Hands over a job. True, since there is room for it; where the thread is gone, its answer will say so.
    fn ask(&mut self, job: Job) -> bool {
        self.drained = matches!(job, Job::Finish);
        self.busy = true;
        let _ = self.jobs.try_send(job);
        true
    }
}

fn work(mut converter: Converter, mut jobs: mpsc::Receiver<Job>, answers: &mpsc::Sender<Converted>) {
    while let Some(job) = jobs.blocking_recv() {
        let converted = match job {
            Job::Packet(packet) => converter.push(&packet),
            Job::Finish => converter.finish(),
        };
        if answers.blocking_send(converted).is_err() {
            return;
        }
    }
}
