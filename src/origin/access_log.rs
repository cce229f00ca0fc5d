//! The access log: lines go from the requests to one writer, who never holds them up.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, Version};
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, info};

use crate::config::AccessLog;
use crate::hangup::Hangup;
use crate::http_server::{Body, Broken, Payload};
use crate::origin::access_line::{Entry, Outcome};

/// Where requests are written down, opened.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    /// None on the standard output.
    path: Option<PathBuf>,
}

impl LogFile {
    /// Opens what `config` names; none where nothing is to be written.
    ///
    /// # Errors
    /// The system's: the file cannot be written.
    pub async fn open(config: &AccessLog) -> io::Result<Option<Self>> {
        match config {
            AccessLog::Off => Ok(None),
            AccessLog::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned()?;
                Ok(Some(Self { file: File::from_std(stdout.into()), path: None }))
            }
            AccessLog::File(path) => Ok(Some(Self { file: append_to(path).await?, path: Some(path.clone()) })),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.file.flush().await
    }

    /// What was under the path may have been moved away.
    async fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = append_to(path).await?;
        }
        Ok(())
    }
}

async fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).await
}

/// The requests' end of the log. Clones write to the same.
#[derive(Clone, Debug)]
pub(super) struct Log {
    lines: mpsc::Sender<String>,
    dropped: Counter,
}

/// The log, and the queue that [`fn@write`] is to be run on.
pub(super) fn queue(dropped: Counter) -> (Log, mpsc::Receiver<String>) {
    // When it is full, as when the disk is slow, lines are dropped and counted: no viewer waits for the log.
    let (lines, queue) = mpsc::channel(LINES_MAX);
    (Log { lines, dropped }, queue)
}

impl Log {
    /// A request has come.
    #[expect(clippy::disallowed_methods, reason = "a log tells the time of day")]
    pub(super) fn begin(&self, head: &Parts, peer: IpAddr) -> Record {
        let entry = Entry::new(head, peer, SystemTime::now());
        let outcome = Outcome { status: CLIENT_GONE, body_bytes: 0, took: std::time::Duration::ZERO };
        Record { entry, outcome, begun: Instant::now(), log: self.clone() }
    }
}

/// A request that is being answered. It is written down when it is dropped, be it that the answer was sent or that the client
/// is gone.
#[derive(Debug)]
pub(super) struct Record {
    entry: Entry,
    outcome: Outcome,
    begun: Instant,
    log: Log,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.outcome.took = self.begun.elapsed();
        if self.log.lines.try_send(self.entry.line(self.outcome)).is_err() {
            self.log.dropped.inc();
        }
    }
}

/// A body that counts for the log what is sent of it.
#[derive(Debug)]
pub(super) struct Logged {
    body: Body,
    record: Option<Record>,
}

impl Logged {
    /// `response` to a request of this version, as `record` is to tell of it: to the slice, should the client leave.
    pub(super) fn response(
        response: Response<Payload>,
        version: Version,
        mut record: Option<Record>,
    ) -> Response<Self> {
        if let Some(record) = &mut record {
            record.outcome.status = response.status().as_u16();
        }
        let in_one_piece = version < Version::HTTP_2 && record.is_none();
        let body = if in_one_piece { Body::in_one_piece } else { Body::from };
        response.map(|payload| Self { body: body(payload), record })
    }
}

impl hyper::body::Body for Logged {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let (Some(data), Some(record)) = (frame.data_ref(), &mut self.record)
        {
            record.outcome.body_bytes = record.outcome.body_bytes.saturating_add(data.len());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Writes lines to `file` until no request can write any more. The file is opened again at SIGHUP.
pub(super) async fn write(file: LogFile, mut lines: mpsc::Receiver<String>, dropped: Counter) {
    let mut writer = Writer { file, dropped, failing: false };
    let mut hangup = Hangup::listen();
    let mut batch = Vec::with_capacity(BATCH_LINES);
    loop {
        tokio::select! {
            () = hangup.heard() => writer.reopen().await,
            count = lines.recv_many(&mut batch, BATCH_LINES) => match count {
                0 => return,
                _ => writer.write(&mut batch).await,
            },
        }
    }
}

/// The one who writes.
struct Writer {
    file: LogFile,
    dropped: Counter,
    /// The last lines could not be written.
    failing: bool,
}

impl Writer {
    async fn reopen(&mut self) {
        match self.file.reopen().await {
            Ok(()) => debug!("the access log was opened anew"),
            Err(error) => error!("the access log cannot be opened anew, the old one stays: {error}"),
        }
    }

    /// Writes all lines of `batch`, or loses them, and empties it.
    async fn write(&mut self, batch: &mut Vec<String>) {
        let written = self.file.write(batch.concat().as_bytes()).await;
        match (&written, self.failing) {
            (Err(error), false) => error!("the access log cannot be written, lines are lost: {error}"),
            (Ok(()), true) => info!("the access log can be written again"),
            _ => {}
        }
        self.failing = written.is_err();
        if self.failing {
            self.dropped.inc_by(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        }
        batch.clear();
    }
}

/// Some seconds of a busy origin; about 2 MB.
const LINES_MAX: usize = 8192;
/// Lines that are written at a time.
const BATCH_LINES: usize = 256;
/// As nginx has it: the client left before there was an answer.
const CLIENT_GONE: u16 = 499;

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head() -> Parts {
        Request::get("/live/demo/index.m3u8").body(()).unwrap().into_parts().0
    }

    #[tokio::test]
    async fn who_leaves_before_the_answer_is_written_down_too() {
        let (log, mut lines) = queue(Counter::default());
        drop(log.begin(&head(), [192, 0, 2, 7].into()));
        let line = lines.recv().await.unwrap();
        assert!(line.starts_with("192.0.2.7 - - [") && line.contains("HTTP/1.1\" 499 0 "), "{line}");
    }

    #[tokio::test]
    async fn a_slow_disk_costs_lines_and_no_time() {
        let (log, mut lines) = queue(Counter::default());
        for _ in 0..LINES_MAX + 3 {
            drop(log.begin(&head(), [192, 0, 2, 7].into()));
        }
        assert_eq!(log.dropped.get(), 3);
        assert!(lines.recv().await.is_some());
        drop(log.begin(&head(), [192, 0, 2, 7].into()));
        assert_eq!(log.dropped.get(), 3, "there is room again");
    }

    #[tokio::test]
    async fn a_disk_that_is_full_is_counted_and_survived() {
        let (log, lines) = queue(Counter::default());
        let file = LogFile::open(&AccessLog::File("/dev/full".into())).await.unwrap().unwrap();
        let dropped = Counter::default();
        for _ in 0..3 {
            drop(log.begin(&head(), [192, 0, 2, 7].into()));
        }
        drop(log);
        write(file, lines, dropped.clone()).await;
        assert_eq!(dropped.get(), 3);
    }
}
