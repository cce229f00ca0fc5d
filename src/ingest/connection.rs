//! The driver of one connection: bytes between the socket, the session and the channel, and the deadlines.
//!
//! Generic over the transport, so that tests use pipes and TLS can come beneath. While the channel is behind, the
//! socket is not read: that is the back-pressure, and no deadline runs during it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, info, warn};

use super::Ingest;
use super::close::{Close, Stage};
use super::handshake::{Handshake, Progress};
use super::intake::{Intake, Note};
use super::keys::PublishAddress;
use super::pressure::Pressure;
use super::session::{Session, SessionError, SessionEvent, Skipped};
use crate::metrics::{ChannelLabel, KindLabel, Metrics};
use crate::source::{Admission, ChannelName, PublishRequest, Refusal, SourceEvent};

/// A connection's end.
#[derive(Debug)]
pub(crate) struct End {
    /// Why.
    pub(crate) close: Close,
    /// A channel had taken it for its publisher. All others are strangers.
    pub(crate) published: bool,
}

/// Serves a connection to its end, and says how it ended. `stop` ends it at once.
pub(crate) async fn run<S>(stream: S, peer: SocketAddr, ingest: &Ingest, stop: &CancellationToken) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = Session::new();
    let mut connection = Connection { stream, peer, ingest, session, input: BytesMut::new(), published: false };
    let life = async {
        let close = match connection.serve().await {
            Ok(close) | Err(close) => close,
        };
        connection.part(&close).await;
        close
    };
    let close = tokio::select! {
        close = life => close,
        () = stop.cancelled() => Close::Shutdown,
    };
    End { close, published: connection.published }
}

struct Connection<'a, S> {
    stream: S,
    peer: SocketAddr,
    ingest: &'a Ingest,
    session: Session,
    /// Received and not consumed yet. Bounded, since the socket is read only when the session has consumed what it can:
    /// then less than a chunk header is left.
    input: BytesMut,
    /// A channel has taken it.
    published: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn serve(&mut self) -> Result<Close, Close> {
        let config = &self.ingest.config;
        let (handshake_timeout, publish_timeout) = (config.handshake_timeout, config.publish_timeout);
        timeout(handshake_timeout, self.handshake()).await.map_err(|_| Close::Timeout(Stage::Handshake))??;
        let admitted = timeout(publish_timeout, self.admission()).await;
        let (channel, admission) = admitted.map_err(|_| Close::Timeout(Stage::Publish))??;
        self.publish(channel, admission).await
    }

    async fn handshake(&mut self) -> Result<(), Close> {
        let mut handshake = Handshake::new();
        loop {
            self.receive().await.map_err(Close::before_handshake)?;
            let progress = handshake.feed(&self.input)?;
            self.input.clear();
            match progress {
                Progress::Going(response) => self.send(&response).await?,
                Progress::Done { response, rest } => {
                    self.input.extend_from_slice(&rest);
                    return self.send(&response).await;
                }
            }
        }
    }

    /// From the handshake to the channel's welcome.
    async fn admission(&mut self) -> Result<(ChannelName, Admission), Close> {
        let (address, encoder) = loop {
            let event = self.next_event()?;
            self.flush().await?;
            match event {
                Some(SessionEvent::Publish { address, encoder }) => break (address, encoder),
                // There is no other event before publishing was accepted.
                Some(_) => {}
                None => self.receive().await?,
            }
        };
        let channel = self.find_channel(&address)?;
        Span::current().record("channel", channel.as_str());
        let admission = self.ask(&channel, encoder).await?;
        self.published = true;
        self.session.accept();
        self.flush().await?;
        info!(peer = %self.peer, %channel, "publisher accepted");
        Ok((channel, admission))
    }

    fn find_channel(&self, address: &PublishAddress) -> Result<ChannelName, Close> {
        match self.ingest.keys.find(address) {
            Some(channel) => Ok(channel.clone()),
            None if address.is_empty() => Err(Close::NoKey),
            None => Err(Close::WrongKey),
        }
    }

    /// Asks the channel. A channel that does not answer is one that is stopping.
    async fn ask(&self, channel: &ChannelName, encoder: Option<String>) -> Result<Admission, Close> {
        let gone = || Close::Refused(Refusal::ShuttingDown);
        let requests = self.ingest.channels.get(channel).ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        requests.send(PublishRequest { peer: self.peer, encoder, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(Close::Refused)
    }

    async fn publish(&mut self, channel: ChannelName, admission: Admission) -> Result<Close, Close> {
        let Admission { start, events, mut dismissed } = admission;
        let output = Output::new(&self.ingest.metrics, &channel, events.clone());
        let close = tokio::select! {
            // What the encoder says comes first: after its end, the channel may close at once.
            biased;
            close = self.pump(Intake::new(start), output) => close,
            text = dismissal(&mut dismissed) => Ok(Close::Dismissed(text)),
            () = events.closed() => Ok(Close::ChannelGone),
        };
        match (close, dismissed.try_recv()) {
            // The channel closed right after it said why.
            (Ok(Close::ChannelGone) | Err(Close::ChannelGone), Ok(text)) => Ok(Close::Dismissed(text)),
            (close, _) => close,
        }
    }

    /// Media from the socket to the channel, until something ends it.
    async fn pump(&mut self, mut intake: Intake, mut output: Output) -> Result<Close, Close> {
        let mut first_media = Instant::now() + self.ingest.config.first_media_timeout;
        loop {
            while let Some(event) = self.next_event()? {
                let before = Instant::now();
                if output.handle(&mut intake, event).await? {
                    return Ok(Close::Stopped);
                }
                // The time that the channel took is not the encoder's.
                first_media += before.elapsed();
            }
            self.flush().await?;
            let received = self.receive_media(&intake, first_media).await?;
            output.bytes.inc_by(received);
        }
    }

    async fn receive_media(&mut self, intake: &Intake, first_media: Instant) -> Result<u64, Close> {
        let now = Instant::now();
        let idle = now + self.ingest.config.idle_timeout;
        let waits_for_first = !intake.has_begun();
        if waits_for_first && now >= first_media {
            return Err(Close::Timeout(Stage::FirstMedia));
        }
        let before = self.input.len();
        let (deadline, stage) = match waits_for_first && first_media < idle {
            true => (first_media, Stage::FirstMedia),
            false => (idle, Stage::Idle),
        };
        timeout_at(deadline, self.receive()).await.map_err(|_| Close::Timeout(stage))??;
        Ok((self.input.len() - before) as u64)
    }

    fn next_event(&mut self) -> Result<Option<SessionEvent>, SessionError> {
        let mut rest = &self.input[..];
        let event = self.session.next(&mut rest);
        let used = self.input.len() - rest.len();
        self.input.advance(used);
        event
    }

    async fn receive(&mut self) -> Result<(), Close> {
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Close::Left),
            Ok(_) => Ok(()),
            Err(error) => Err(Close::Lost(error)),
        }
    }

    async fn flush(&mut self) -> Result<(), Close> {
        let output = self.session.take_output();
        if output.is_empty() { Ok(()) } else { self.send(&output).await }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Close> {
        let sent = timeout(self.ingest.config.idle_timeout, self.stream.write_all(bytes)).await;
        sent.map_err(|_| Close::Timeout(Stage::Write))?.map_err(Close::Lost)
    }

    /// Tells the encoder why, where there is something to tell, and closes so that it can still read that.
    async fn part(&mut self, close: &Close) {
        if close.is_failed_key() {
            sleep(WRONG_KEY_DELAY).await;
        }
        if let Some((code, description)) = close.status() {
            self.session.reject(code, &description);
        }
        let output = self.session.take_output();
        if !output.is_empty() {
            // Best effort: the connection ends either way.
            let _ = timeout(LINGER, self.linger(&output, matches!(close, Close::Stopped))).await;
        }
    }

    /// Bytes that are still unread when a socket is closed make the system reset it, and what was sent last is lost;
    /// so they are read until the encoder closes too. After a goodbye the encoder closes first: GStreamer's `rtmp2sink` takes
    /// anything else for an error.
    async fn linger(&mut self, output: &[u8], encoder_first: bool) -> Result<(), Close> {
        self.send(output).await?;
        if !encoder_first {
            self.stream.shutdown().await.map_err(Close::Lost)?;
        }
        loop {
            self.input.clear();
            self.receive().await?;
        }
    }
}

/// Waits for the channel to dismiss the publisher; one that drops the means never does.
async fn dismissal(dismissed: &mut oneshot::Receiver<String>) -> String {
    match dismissed.await {
        Ok(text) => text,
        Err(_) => std::future::pending().await,
    }
}

/// The way to the channel, and the counters beside it.
struct Output {
    events: mpsc::Sender<SourceEvent>,
    metrics: Metrics,
    bytes: Counter,
    units: Counter,
    /// Events of one message, kept to spare the allocation.
    batch: Vec<SourceEvent>,
    /// The kinds of repair that were logged already.
    logged: Vec<&'static str>,
    /// How much the channel holds the publisher up, and since when the next wait counts.
    pressure: Pressure,
    passed: Instant,
}

impl Output {
    fn new(metrics: &Metrics, channel: &ChannelName, events: mpsc::Sender<SourceEvent>) -> Self {
        let label = ChannelLabel { channel: channel.to_string() };
        let bytes = metrics.ingest_bytes.get_or_create(&label).clone();
        let units = metrics.ingest_units.get_or_create(&label).clone();
        Self {
            events,
            metrics: metrics.clone(),
            bytes,
            units,
            batch: Vec::new(),
            logged: Vec::new(),
            pressure: Pressure::default(),
            passed: Instant::now(),
        }
    }

    /// Passes a message on. True after the encoder's goodbye.
    async fn handle(&mut self, intake: &mut Intake, event: SessionEvent) -> Result<bool, Close> {
        match event {
            SessionEvent::Video(message) => intake.video(message.timestamp, message.payload, &mut self.batch)?,
            SessionEvent::Audio(message) => intake.audio(message.timestamp, message.payload, &mut self.batch),
            SessionEvent::Stop => self.batch.push(SourceEvent::End),
            SessionEvent::Skipped(kind) => self.skipped(kind),
            SessionEvent::Publish { .. } => {}
        }
        for note in intake.take_notes() {
            self.report(note);
        }
        let mut ended = false;
        let waiting = Instant::now();
        for event in self.batch.drain(..) {
            ended = matches!(event, SourceEvent::End);
            if matches!(event, SourceEvent::Unit(..)) {
                self.units.inc();
            }
            self.events.send(event).await.map_err(|_| Close::ChannelGone)?;
        }
        self.note_pressure(waiting);
        Ok(ended)
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
    fn report(&mut self, note: Note) {
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

/// What is read from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// How long a wrong key waits for its answer, so that guessing is slow.
const WRONG_KEY_DELAY: Duration = Duration::from_millis(500);
/// How long an encoder has to take in why its connection ends.
const LINGER: Duration = Duration::from_secs(1);
