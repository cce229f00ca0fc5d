//! The driver of one connection: bytes between the socket, the session and the channel, and the deadlines.
//!
//! Generic over the transport, which is TCP, TLS, or a pipe in tests. While the channel is behind, or the encoder ahead of
//! the clock, the socket is not read: that is the back-pressure, and no deadline runs during it.

use std::future::ready;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Span, info};

use super::Ingest;
use super::access::Grant;
use super::close::{Close, Stage, WRONG_KEY_DELAY};
use super::handshake::{Handshake, Progress};
use super::intake::{Intake, Note};
use super::outlet::Outlet;
use super::pacer::Pacer;
use super::session::{Session, SessionError, SessionEvent};
use super::vigil::{Due, Vigil};
use super::webhook::client::Published;
use crate::source::{Admission, ChannelName, PublishRequest, Refusal};

/// A connection's end.
#[derive(Debug)]
pub(crate) struct End {
    /// Why.
    pub(crate) close: Close,
    /// A channel had taken it for its publisher. All others are strangers.
    pub(crate) published: bool,
}

/// A connection that may begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Whose it is.
    pub(crate) peer: SocketAddr,
    /// Until when its handshake must be over.
    pub(crate) deadline: Instant,
}

/// Serves a connection to its end, and says how it ended. `stop` ends it at once.
pub(crate) async fn run<S>(stream: S, arrival: Arrival, ingest: &Ingest, stop: &CancellationToken) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (session, input, peer) = (Session::new(), BytesMut::new(), arrival.peer);
    let mut connection = Connection { stream, peer, ingest, session, input, unbroken: 0, published: false };
    let life = async {
        let close = match connection.serve(arrival.deadline).await {
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

/// A publisher that its channel has taken.
struct Admitted {
    channel: ChannelName,
    admission: Admission,
    /// For the channel to see whether it is alive.
    last_media: watch::Sender<Instant>,
    /// Tells the webhook of the end.
    _notice: Option<Published>,
}

struct Connection<'a, S> {
    stream: S,
    peer: SocketAddr,
    ingest: &'a Ingest,
    session: Session,
    /// Received and not consumed yet. Bounded, since the socket is read only when the session has consumed what it can:
    /// then less than a chunk header is left.
    input: BytesMut,
    /// Messages since others were last let run.
    unbroken: u32,
    /// A channel has taken it.
    published: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn serve(&mut self, deadline: Instant) -> Result<Close, Close> {
        let publish_timeout = self.ingest.config.publish_timeout;
        timeout_at(deadline, self.handshake()).await.map_err(|_| Close::Timeout(Stage::Handshake))??;
        let admitted = timeout(publish_timeout, self.admission()).await;
        let admitted = admitted.map_err(|_| Close::Timeout(Stage::Publish))??;
        self.publish(admitted).await
    }

    async fn handshake(&mut self) -> Result<(), Close> {
        let mut handshake = Handshake::new();
        loop {
            self.receive(STRANGER_READ_BYTES).await.map_err(Close::before_handshake)?;
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
    async fn admission(&mut self) -> Result<Admitted, Close> {
        let (address, encoder) = loop {
            let event = self.next_event().await?;
            self.flush().await?;
            match event {
                Some(SessionEvent::Publish { address, encoder }) => break (address, encoder),
                // There is no other event before publishing was accepted.
                Some(_) => {}
                None => {
                    self.receive(STRANGER_READ_BYTES).await?;
                }
            }
        };
        let grant = self.ingest.access.authorise(&address, self.peer).await?;
        let channel = grant.channel.clone();
        Span::current().record("channel", channel.as_str());
        let (last_media, seen) = watch::channel(Instant::now());
        let admission = self.ask(&grant, encoder, seen).await?;
        let notice = self.ingest.access.published(grant);
        self.published = true;
        self.session.accept();
        self.flush().await?;
        info!(peer = %self.peer, %channel, "publisher accepted");
        Ok(Admitted { channel, admission, last_media, _notice: notice })
    }

    /// Asks the channel. One that does not answer was removed just now, and is there again at the second attempt; or
    /// it is stopping.
    async fn ask(
        &self,
        grant: &Grant,
        encoder: Option<String>,
        last_media: watch::Receiver<Instant>,
    ) -> Result<Admission, Close> {
        for _ in 0..2 {
            let requests = self.ingest.access.requests(grant).await?;
            let (reply, answer) = oneshot::channel();
            let request = PublishRequest {
                peer: self.peer,
                encoder: encoder.clone(),
                key_name: grant.key_name.clone(),
                last_media: last_media.clone(),
                reply,
            };
            if requests.send(request).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer.map_err(Close::Refused);
            }
        }
        Err(Close::Refused(Refusal::ShuttingDown))
    }

    async fn publish(&mut self, admitted: Admitted) -> Result<Close, Close> {
        let Admitted { channel, admission, last_media, _notice } = admitted;
        let Admission { start, events, mut dismissed } = admission;
        let outlet = Outlet::new(&self.ingest.metrics, &channel, events.clone(), last_media);
        let close = tokio::select! {
            // What the encoder says comes first: after its end, the channel may close at once.
            biased;
            close = self.pump(Intake::new(start), outlet) => close,
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
    async fn pump(&mut self, mut intake: Intake, mut outlet: Outlet) -> Result<Close, Close> {
        let config = &self.ingest.config;
        let mut vigil = Vigil::new(config.first_media_timeout, config.idle_timeout, Instant::now());
        let mut pacer = Pacer::new(config.run_ahead_max);
        let mut messages = self.session.messages();
        loop {
            while let Some(event) = self.next_event().await? {
                let before = Instant::now();
                let media = carries_media(&event);
                outlet.discarded(self.session.discarded());
                if outlet.handle(&mut intake, event).await? {
                    return Ok(Close::Stopped);
                }
                self.pace(&mut pacer, &mut outlet).await?;
                // The time that the channel took, or that the encoder was ahead, is not the encoder's.
                let now = Instant::now();
                vigil.held_up(now.saturating_duration_since(before));
                if media {
                    vigil.media(now);
                    outlet.heard(now);
                }
            }
            if intake.has_begun() {
                vigil.begun();
            }
            let count = self.session.messages() - std::mem::replace(&mut messages, self.session.messages());
            if let Some(until) = pacer.messages(count, Instant::now()) {
                outlet.report(Note::Repair("too_many_messages"));
                sleep_until(until).await;
            }
            self.receive_media(&mut vigil, &outlet).await?;
        }
    }

    /// Waits while the encoder is too far ahead of the clock.
    async fn pace(&mut self, pacer: &mut Pacer, outlet: &mut Outlet) -> Result<(), Close> {
        let Some(newest) = outlet.take_newest() else { return Ok(()) };
        let Some(until) = pacer.media(newest, Instant::now()) else { return Ok(()) };
        outlet.paced(self.ingest.config.run_ahead_max);
        sleep_until(until).await;
        Ok(())
    }

    async fn receive_media(&mut self, vigil: &mut Vigil, outlet: &Outlet) -> Result<(), Close> {
        loop {
            let (deadline, due) = vigil.next();
            // Bytes that are always there must not hide that the time is over.
            let received = match Instant::now() < deadline {
                true => self.receive_by(deadline).await?,
                false => None,
            };
            match (received, due) {
                (Some(received), _) => {
                    let (received, now) = (received as u64, Instant::now());
                    outlet.received(received);
                    if vigil.received(received, now) {
                        outlet.heard(now);
                    }
                    return Ok(());
                }
                (None, Due::Lost(stage)) => return Err(Close::Timeout(stage)),
                (None, Due::Ping) => {
                    self.session.ping(0);
                    self.flush().await?;
                    vigil.pinged(Instant::now());
                }
            }
        }
    }

    /// Reads what is there. What is owed is sent where nothing is: to an encoder that has hung up, whose last seconds are
    /// still on their way from its machine, an acknowledgement would be answered by a reset, and they would be lost.
    async fn receive_by(&mut self, deadline: Instant) -> Result<Option<usize>, Close> {
        if self.session.output_bytes() <= OWED_BYTES_MAX {
            tokio::select! {
                biased;
                received = unconstrained(self.receive(READ_BYTES)) => return received.map(Some),
                () = ready(()) => {}
            }
        }
        self.flush().await?;
        timeout_at(deadline, self.receive(READ_BYTES)).await.ok().transpose()
    }

    /// The session's next event out of what was received. It is given little at a time, and others are let run in between:
    /// the runtime does not see how long a loop over tiny messages takes.
    async fn next_event(&mut self) -> Result<Option<SessionEvent>, SessionError> {
        loop {
            if self.unbroken >= UNBROKEN_MESSAGES_MAX {
                self.unbroken = 0;
                yield_now().await;
            }
            let whole = self.input.len() <= SLICE_BYTES;
            let mut rest = self.input.get(..SLICE_BYTES).unwrap_or(&self.input);
            let (before, messages) = (rest.len(), self.session.messages());
            let event = self.session.next(&mut rest);
            let used = before - rest.len();
            self.input.advance(used);
            let messages = u32::try_from(self.session.messages() - messages).unwrap_or(u32::MAX);
            self.unbroken = self.unbroken.saturating_add(messages);
            match event? {
                // Without progress, it waits for an answer.
                None if !whole && used > 0 => {}
                event => return Ok(event),
            }
        }
    }

    /// Reads what is there, up to about `bytes`; says how much it was.
    async fn receive(&mut self, bytes: usize) -> Result<usize, Close> {
        self.input.reserve(bytes);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Close::Left),
            Ok(count) => Ok(count),
            // TLS that ends without saying so.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Close::Left),
            Err(error) => Err(Close::Lost(error)),
        }
    }

    async fn flush(&mut self) -> Result<(), Close> {
        let output = self.session.take_output();
        if output.is_empty() { Ok(()) } else { self.send(&output).await }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Close> {
        let stream = &mut self.stream;
        let sent = timeout(self.ingest.config.idle_timeout, async {
            stream.write_all(bytes).await?;
            // TLS keeps what did not fit into the socket.
            stream.flush().await
        });
        sent.await.map_err(|_| Close::Timeout(Stage::Write))?.map_err(Close::Lost)
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
            self.receive(STRANGER_READ_BYTES).await?;
        }
    }
}

/// A message that is more than the header of a tag: only such ones show that there is an encoder at work.
fn carries_media(event: &SessionEvent) -> bool {
    match event {
        SessionEvent::Video(message) => message.payload.len() > 5,
        SessionEvent::Audio(message) => message.payload.len() > 2,
        _ => false,
    }
}

/// Waits for the channel to dismiss the publisher; one that drops the means never does.
async fn dismissal(dismissed: &mut oneshot::Receiver<String>) -> String {
    match dismissed.await {
        Ok(text) => text,
        Err(_) => std::future::pending().await,
    }
}

/// What is read of a publisher at once.
const READ_BYTES: usize = 64 << 10;
/// What is read of others at once: there may be many of them.
const STRANGER_READ_BYTES: usize = 4 << 10;
/// Answers that may wait until the input runs dry.
const OWED_BYTES_MAX: usize = 4 << 10;
/// What is looked at between two chances for others to run, at most: 4096 messages, if they are empty.
const SLICE_BYTES: usize = 4 << 10;
const UNBROKEN_MESSAGES_MAX: u32 = 256;
/// How long an encoder has to take in why its connection ends.
const LINGER: Duration = Duration::from_secs(1);
