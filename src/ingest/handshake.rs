//! The handshake that opens a connection: `rml_rtmp`'s, behind a look at the first byte, which tells what else
//! people and scanners send to an RTMP port.

use rml_rtmp::handshake::{Handshake as Inner, HandshakeProcessResult, PeerType};

/// The peer does not speak RTMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRtmp {
    /// A TLS `ClientHello`: somebody entered `rtmps://`.
    #[error("it looked like TLS (rtmps:// or https://), which this port does not speak")]
    Tls,
    /// The start of an HTTP request.
    #[error("it looked like HTTP, which this port does not speak")]
    Http,
    /// Another first byte than RTMP's version 3.
    #[error("it began with byte {0:#04x}, where RTMP begins with 0x03")]
    Version(u8),
    /// A handshake that `rml_rtmp` does not take.
    #[error("its handshake is malformed")]
    Malformed,
}

/// How far a handshake is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// These bytes are to be sent, and more are to come.
    Going(Vec<u8>),
    /// The handshake is over.
    Done {
        /// What is to be sent.
        response: Vec<u8>,
        /// What followed the handshake.
        rest: Vec<u8>,
    },
}

/// The server's side of the handshake.
pub struct Handshake {
    inner: Inner,
    begun: bool,
}

impl Handshake {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Inner::new(PeerType::Server), begun: false }
    }

    /// Takes bytes from the peer. Not to be called after [`Progress::Done`].
    ///
    /// # Errors
    /// [`NotRtmp`]: the connection is to be closed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, NotRtmp> {
        if let (false, Some(first)) = (self.begun, bytes.first()) {
            check_first(*first)?;
            self.begun = true;
        }
        match self.inner.process_bytes(bytes) {
            Ok(HandshakeProcessResult::InProgress { response_bytes }) => Ok(Progress::Going(response_bytes)),
            Ok(HandshakeProcessResult::Completed { response_bytes, remaining_bytes }) => {
                Ok(Progress::Done { response: response_bytes, rest: remaining_bytes })
            }
            Err(_) => Err(NotRtmp::Malformed),
        }
    }
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

fn check_first(byte: u8) -> Result<(), NotRtmp> {
    match byte {
        3 => Ok(()),
        0x16 => Err(NotRtmp::Tls),
        // CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, PRI and TRACE.
        b'C' | b'D' | b'G' | b'H' | b'O' | b'P' | b'T' => Err(NotRtmp::Http),
        other => Err(NotRtmp::Version(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello() -> (Inner, Vec<u8>) {
        let mut client = Inner::new(PeerType::Client);
        let bytes = client.generate_outbound_p0_and_p1().unwrap();
        (client, bytes)
    }

    #[test]
    fn row_1_single_bytes_and_pipelined_bytes_both_work() {
        for step in [1, 7, 4096] {
            let (mut client, hello) = client_hello();
            let mut server = Handshake::new();
            let mut answer = Vec::new();
            for piece in hello.chunks(step) {
                let Ok(Progress::Going(bytes)) = server.feed(piece) else { panic!("over too soon") };
                answer.extend(bytes);
            }
            let Ok(HandshakeProcessResult::Completed { response_bytes, .. }) = client.process_bytes(&answer) else {
                panic!("the client does not take the answer")
            };
            let last = [&response_bytes[..], b"connect"].concat();
            let mut rest = Vec::new();
            for piece in last.chunks(step.max(2000)) {
                if let Progress::Done { rest: bytes, .. } = server.feed(piece).unwrap() {
                    rest = bytes;
                }
            }
            assert_eq!(rest, b"connect");
        }
    }

    #[test]
    fn row_1_a_simple_handshake_is_taken() {
        let mut server = Handshake::new();
        let hello = [&[3u8][..], &[7; 1536]].concat();
        let Ok(Progress::Going(answer)) = server.feed(&hello) else { panic!("not going") };
        assert_eq!(answer.len(), 1 + 1536 + 1536);
        assert_eq!(&answer[1537..], &hello[1..], "S2 is an echo of C1");
        let done = server.feed(&answer[1..1537]).unwrap();
        assert_eq!(done, Progress::Done { response: vec![], rest: vec![] });
    }

    #[test]
    fn row_2_other_protocols_are_named() {
        assert_eq!(Handshake::new().feed(&[0x16, 3, 1]), Err(NotRtmp::Tls));
        assert_eq!(Handshake::new().feed(b"GET / HTTP/1.1\r\n"), Err(NotRtmp::Http));
        assert_eq!(Handshake::new().feed(&[6]), Err(NotRtmp::Version(6)));
        assert_eq!(Handshake::new().feed(&[0x47; 2000]), Err(NotRtmp::Http), "however much there is");
    }
}
