//! The body of a response: bytes that are whole before the first of them is sent, or that come while they are being sent.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::progress::Progress;

/// A body ended before its end. The connection ends with it, or the stream of HTTP/2, so that nobody takes what came for the whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of a response ended early: {0}")]
pub struct Broken(pub String);

/// Who has bytes that come one after the other.
#[async_trait]
pub trait Source: Send + 'static {
    /// The next bytes; none where there are no more. It is asked when the peer has room for them, and dropped when it leaves.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>>;
}

/// What a response carries.
pub enum Payload {
    /// These bytes.
    Whole(Bytes),
    /// What comes from a source.
    Streamed {
        /// How many bytes come from it.
        length: u64,
        /// From where.
        source: Box<dyn Source>,
    },
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length())
    }
}

impl Payload {
    /// How many bytes it is.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => count(bytes),
            Self::Streamed { length, .. } => *length,
        }
    }
}

/// Bytes that are not copied.
#[derive(Debug, Default)]
pub struct Body {
    rest: Bytes,
    /// What is handed on at once, at most.
    slice_bytes: usize,
    /// Of bytes that come from a source.
    more: Option<More>,
    progress: Option<Progress>,
}

/// What is still to come from a source.
struct More {
    /// In bytes.
    left: u64,
    next: Pin<Box<dyn Future<Output = Came> + Send>>,
}

/// What came from a source, and the source.
type Came = (Option<Result<Bytes, Broken>>, Box<dyn Source>);

impl fmt::Debug for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes to come", self.left)
    }
}

/// Great enough that a segment is a few dozen slices.
const SLICE_BYTES: usize = 64 * 1024;

impl<P: Into<Payload>> From<P> for Body {
    /// In slices, because HTTP/2 takes a frame into its own buffer as soon as the peer has room for one byte of it: a whole
    /// segment would then be held for as long as the peer likes.
    fn from(payload: P) -> Self {
        Self::of(payload.into(), SLICE_BYTES)
    }
}

impl Body {
    /// In one piece, for HTTP/1.1, which hands it to the socket as it is: as few writes as the socket has room for.
    #[must_use]
    pub fn in_one_piece(payload: impl Into<Payload>) -> Self {
        Self::of(payload.into(), usize::MAX)
    }

    fn of(payload: Payload, slice_bytes: usize) -> Self {
        match payload {
            Payload::Whole(rest) => Self { rest, slice_bytes, more: None, progress: None },
            Payload::Streamed { length, source } => {
                let more = (length > 0).then(|| More { left: length, next: Box::pin(ask(source)) });
                Self { rest: Bytes::new(), slice_bytes, more, progress: Some(Progress::default()) }
            }
        }
    }

    /// The next bytes of the source; none where nothing is left.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Some(more) = &mut self.more else { return Poll::Ready(None) };
        let (came, source) = ready!(more.next.as_mut().poll(cx));
        let came = came.unwrap_or_else(|| Err(Broken(format!("{} bytes are missing", more.left))));
        let left = |bytes: Bytes| match more.left.checked_sub(count(&bytes)) {
            Some(left) => Ok((bytes, left)),
            None => Err(Broken("there is more than was said".to_owned())),
        };
        match came.and_then(left) {
            Ok((bytes, left)) => {
                more.left = left;
                more.next = Box::pin(ask(source));
                if left == 0 {
                    self.more = None;
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Err(broken) => {
                self.more = None;
                Poll::Ready(Some(Err(broken)))
            }
        }
    }
}

async fn ask(mut source: Box<dyn Source>) -> Came {
    (source.next().await, source)
}

fn count(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        while self.rest.is_empty() {
            match ready!(self.poll_more(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(self.slice_bytes);
        let slice = self.rest.split_to(length);
        if let Some(progress) = &mut self.progress {
            progress.sent(length);
        }
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.more.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.more.as_ref().map_or(0, |more| more.left);
        SizeHint::with_exact(count(&self.rest).saturating_add(left))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// What is to come, the last at the front.
    struct Script(Vec<Result<Bytes, Broken>>);

    #[async_trait]
    impl Source for Script {
        async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
            tokio::task::yield_now().await;
            self.0.pop()
        }
    }

    async fn sent(length: u64, script: &[Result<&'static [u8], &str>]) -> Result<Bytes, Broken> {
        let step = |step: &Result<&'static [u8], &str>| match step {
            Ok(bytes) => Ok(Bytes::from_static(bytes)),
            Err(why) => Err(Broken((*why).to_owned())),
        };
        let source = Box::new(Script(script.iter().rev().map(step).collect()));
        let body = Body::from(Payload::Streamed { length, source });
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(length));
        body.collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn what_comes_from_a_source_is_as_long_as_was_said() {
        assert_eq!(sent(0, &[]).await.unwrap(), "");
        assert_eq!(sent(5, &[Ok(b"ab"), Ok(b""), Ok(b"cde")]).await.unwrap(), "abcde");
        assert_eq!(sent(5, &[Ok(b"ab"), Err("gone")]).await.unwrap_err(), Broken("gone".to_owned()));
        assert!(sent(5, &[Ok(b"ab")]).await.unwrap_err().0.contains("3 bytes are missing"));
        assert!(sent(5, &[Ok(b"abcdef")]).await.unwrap_err().0.contains("more than was said"));
    }

    #[tokio::test]
    async fn great_pieces_are_sent_in_slices() {
        let source = Box::new(Script(vec![Ok(Bytes::from(vec![0; SLICE_BYTES + 1]))]));
        let length = count(&Bytes::from(vec![0; SLICE_BYTES + 1]));
        let mut body = Body::from(Payload::Streamed { length, source });
        let mut slices = Vec::new();
        while let Some(frame) = body.frame().await {
            slices.push(frame.unwrap().data_ref().unwrap().len());
        }
        assert_eq!(slices, [SLICE_BYTES, 1]);
        assert!(hyper::body::Body::is_end_stream(&body));
    }
}
