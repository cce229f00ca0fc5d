//! The body of a response: bytes that are whole before the first of them is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// Bytes that are not copied.
#[derive(Clone, Debug, Default)]
pub struct Body {
    rest: Bytes,
    /// What is handed on at once, at most.
    slice_bytes: usize,
}

/// Great enough that a segment is a few dozen slices.
const SLICE_BYTES: usize = 64 * 1024;

impl From<Bytes> for Body {
    /// In slices, because HTTP/2 takes a frame into its own buffer as soon as the peer has room for one byte of it: a whole
    /// segment would then be held for as long as the peer likes.
    fn from(bytes: Bytes) -> Self {
        Self { rest: bytes, slice_bytes: SLICE_BYTES }
    }
}

impl Body {
    /// In one piece, for HTTP/1.1, which hands it to the socket as it is: as few writes as the socket has room for.
    #[must_use]
    pub fn in_one_piece(bytes: Bytes) -> Self {
        Self { rest: bytes, slice_bytes: usize::MAX }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(self.slice_bytes);
        let slice = self.rest.split_to(length);
        Poll::Ready((!slice.is_empty()).then(|| Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
