//! A socket that gives up on a peer which neither sends nor takes bytes.
//!
//! hyper bounds the time for the head of an HTTP/1.1 request only. A peer that connects and is silent before the
//! protocol is known, or one that stops reading in the middle of a segment, would else stay for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Limits;

/// A socket with two deadlines. One runs from the last byte in either direction; the other, while the peer takes
/// less than it is sent, from the last [`Limits::STALL_BYTES`] that it took.
pub(super) struct Watched<S> {
    socket: S,
    idle: Deadline,
    stall: Deadline,
    /// What the peer took since `stall` was set.
    taken_bytes: usize,
    /// The peer has not taken all that it was sent, so `stall` runs.
    stalled: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, idle: Duration, stall: Duration) -> Self {
        let (idle, stall) = (Deadline::new(idle), Deadline::new(stall));
        Self { socket, idle, stall, taken_bytes: 0, stalled: false }
    }

    /// Takes notice of a write of `offered` bytes, and gives its result, or the end of patience.
    fn watch_write(
        &mut self,
        offered: usize,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.idle.restart();
                self.took(bytes, bytes >= offered);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => {
                self.start_stall();
                ready!(self.stall.poll(cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer takes too little of what it asked for",
                )))
            }
        }
    }

    fn took(&mut self, bytes: usize, all: bool) {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
        if all || self.taken_bytes >= Limits::STALL_BYTES {
            self.stalled = false;
            self.taken_bytes = 0;
        }
    }

    fn start_stall(&mut self) {
        if !self.stalled {
            self.stalled = true;
            self.taken_bytes = 0;
            self.stall.restart();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Ready(outcome) => {
                self.idle.restart();
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was silent for too long")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.watch_write(buf.len(), written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.watch_write(bufs.iter().map(|b| b.len()).sum(), written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A timer that can be set again without a system call or an allocation.
struct Deadline {
    patience: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    fn new(patience: Duration) -> Self {
        Self { patience, timer: Box::pin(sleep(patience)) }
    }

    fn restart(&mut self) {
        let until = Instant::now() + self.patience;
        self.timer.as_mut().reset(until);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const IDLE: Duration = Duration::from_secs(60);
    const STALL: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection() {
        let (_peer, socket) = duplex(1024);
        let begun = Instant::now();
        let error = Watched::new(socket, IDLE, STALL).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_left() {
        let (_peer, socket) = duplex(1024);
        let begun = Instant::now();
        let error = Watched::new(socket, IDLE, STALL).write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drop_now_and_then_is_not_enough() {
        let (mut peer, socket) = duplex(1024);
        let mut watched = Watched::new(socket, IDLE, STALL);
        let sip = async {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                peer.read_u8().await.unwrap();
            }
        };
        tokio::select! {
            outcome = watched.write_all(&[0; 4096]) => assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut),
            () = sip => unreachable!("the sipping does not end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_keeps_taking_is_served() {
        const TOTAL: usize = 4 * Limits::STALL_BYTES;
        let (mut peer, socket) = duplex(64 * 1024);
        let mut watched = Watched::new(socket, IDLE, STALL);
        let gulp = async {
            let mut buffer = vec![0; Limits::STALL_BYTES];
            for _ in 0..TOTAL / buffer.len() {
                tokio::time::sleep(Duration::from_secs(15)).await;
                peer.read_exact(&mut buffer).await.unwrap();
            }
        };
        let (sent, ()) = tokio::join!(watched.write_all(&[0; TOTAL]), gulp);
        sent.unwrap();
    }
}
