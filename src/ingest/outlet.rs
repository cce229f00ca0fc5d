//! What a publisher's driver writes to: the way to the channel, with the counters and the log lines beside it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::backlog::Backlog;
use super::close::Close;
use super::intake::{Intake, Note};
use super::pressure::Pressure;
use super::session::{SessionEvent, Skipped};
use crate::media::MediaTime;
use crate::metrics::{ChannelLabel, KindLabel, Metrics};
use crate::source::{ChannelName, SourceEvent};

/// The way of one publisher to its channel.
pub(super) struct Outlet {
    events: mpsc::Sender<SourceEvent>,
    last_media: watch::Sender<Instant>,
    metrics: Metrics,
    bytes: Counter,
    units: Counter,
    /// Events of one message, kept to spare the allocation.
    batch: Vec<SourceEvent>,
    /// The kinds of repair that were logged already.
    logged: Vec<&'static str>,
    /// What waits in the channel's queue.
    backlog: Backlog,
    /// The newest time stamp, until it is looked at.
    newest: Option<MediaTime>,
    /// It was said that the encoder is held up.
    paced: bool,
    /// Messages that the encoder gave up and that were counted.
    discarded: u64,
    /// How much the channel holds the publisher up, and since when the next wait counts.
    pressure: Pressure,
    passed: Instant,
}

impl Outlet {
    /// With nothing sent yet.
    pub(super) fn new(
        metrics: &Metrics,
        channel: &ChannelName,
        events: mpsc::Sender<SourceEvent>,
        last_media: watch::Sender<Instant>,
    ) -> Self {
        let label = ChannelLabel { channel: channel.to_string() };
        let bytes = metrics.ingest_bytes.get_or_create(&label).clone();
        let units = metrics.ingest_units.get_or_create(&label).clone();
        Self {
            events,
            last_media,
            metrics: metrics.clone(),
            bytes,
            units,
            batch: Vec::new(),
            logged: Vec::new(),
            backlog: Backlog::default(),
            newest: None,
            paced: false,
            discarded: 0,
            pressure: Pressure::default(),
            passed: Instant::now(),
        }
    }

    /// Passes a message on. True after the encoder's goodbye.
    pub(super) async fn handle(&mut self, intake: &mut Intake, event: SessionEvent) -> Result<bool, Close> {
        match event {
            SessionEvent::Video(message) => intake.video(message.timestamp, message.payload, &mut self.batch)?,
            SessionEvent::Audio(message) => intake.audio(message.timestamp, message.payload, &mut self.batch)?,
            SessionEvent::Stop => self.batch.push(SourceEvent::End),
            SessionEvent::Skipped(kind) => self.skipped(kind),
            SessionEvent::Publish { .. } => {}
        }
        for note in intake.take_notes() {
            self.report(note);
        }
        let mut ended = false;
        let waiting = Instant::now();
        let mut batch = std::mem::take(&mut self.batch);
        for event in batch.drain(..) {
            ended = matches!(event, SourceEvent::End);
            self.send(event).await?;
        }
        self.batch = batch;
        self.note_pressure(waiting);
        Ok(ended)
    }

    /// So many bytes came from the encoder.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    /// Media came, which the channel is to know in case that another encoder asks for it.
    pub(super) fn heard(&self, now: Instant) {
        self.last_media.send_replace(now);
    }

    /// The newest time stamp that was sent on since the last call.
    pub(super) fn take_newest(&mut self) -> Option<MediaTime> {
        self.newest.take()
    }

    /// The encoder is held up to real time: said once.
    pub(super) fn paced(&mut self, run_ahead_max: Duration) {
        if !std::mem::replace(&mut self.paced, true) {
            info!(?run_ahead_max, "the encoder sends faster than real time: it is held up to it (ffmpeg: use -re)");
        }
    }

    /// Waits for room in the channel's queue, of events and of bytes.
    async fn send(&mut self, event: SourceEvent) -> Result<(), Close> {
        let mut size = 0;
        if let SourceEvent::Unit(_, unit) = &event {
            self.units.inc();
            size = unit.data.len();
            self.newest = self.newest.max(Some(unit.dts));
        }
        let free = self.events.capacity();
        let excess = self.backlog.excess(self.events.max_capacity() - free, size);
        let places = if excess > 0 { free + excess } else { 1 };
        let mut room = self.events.reserve_many(places).await.map_err(|_| Close::ChannelGone)?;
        if let Some(place) = room.next() {
            place.send(event);
            self.backlog.push(size);
        }
        Ok(())
    }

    /// Says when the channel is too slow for its publisher, as an operator must know before viewers tell.
    fn note_pressure(&mut self, waiting: Instant) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.passed, now));
        if self.pressure.note(elapsed, now.saturating_duration_since(waiting)) {
            warn!(
                "the channel takes media more slowly than the encoder sends it: this machine is too slow for the channel's \
                 ladder, or the encoder sends faster than real time; offer fewer or smaller renditions, or pass the source through"
            );
        }
    }

    /// `all` messages were given up by the encoder so far: media that is lost.
    pub(super) fn discarded(&mut self, all: u64) {
        for _ in std::mem::replace(&mut self.discarded, all)..all {
            self.report(Note::Repair("unfinished_message"));
        }
    }

    /// Every encoder sends its metadata, which is no reason for a line in the log.
    fn skipped(&mut self, kind: Skipped) {
        match kind {
            Skipped::Data => {
                self.metrics.ingest_repairs.get_or_create(&KindLabel { kind: "data_message" }).inc();
            }
            Skipped::Aggregate => self.report(Note::Repair("aggregate_message")),
        }
    }

    /// Counts each; logs the first of a kind.
    pub(super) fn report(&mut self, note: Note) {
        match note {
            Note::AudioCodec(codec) => warn!(%codec, "audio is left out: use AAC, Opus, MP3, AC-3 or FLAC"),
            Note::Repair(kind) => {
                self.metrics.ingest_repairs.get_or_create(&KindLabel { kind }).inc();
                if self.logged.contains(&kind) {
                    debug!(kind, "input repaired or skipped");
                } else {
                    self.logged.push(kind);
                    info!(kind, "input repaired or skipped; more of this kind is only counted");
                }
            }
        }
    }
}
