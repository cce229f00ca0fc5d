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
    use hmac::{Hmac, Mac as _};
    use sha2::Sha256;

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

    fn hmac(key: &[u8], bytes: &[u8]) -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(bytes).finalize().into_bytes().into()
    }

    /// Where a digest stands that is pointed at by the four bytes at `pointer` (8 or 772), and what it is computed over.
    fn digest_place(packet: &[u8], pointer: usize) -> (usize, Vec<u8>) {
        let sum: usize = packet[pointer..pointer + 4].iter().map(|byte| usize::from(*byte)).sum();
        let at = sum % 728 + pointer + 4;
        (at, [&packet[..at], &packet[at + 32..]].concat())
    }

    /// What Flash and its encoders do: C1 holds a digest in one of two places, and S1 and S2 must prove as much.
    #[test]
    fn row_1_digests_in_both_places_are_answered_with_digests() {
        const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
        const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";
        const CRUD: [u8; 32] = [
            0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e, 0xec,
            0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
        ];
        for pointer in [8, 772] {
            let mut c1: Vec<u8> = (0..1536u32).map(|n| (n * 7 % 251).to_be_bytes()[3]).collect();
            c1[..8].copy_from_slice(&[0, 0, 0, 0, 9, 0, 124, 2]);
            let (at, around) = digest_place(&c1, pointer);
            let digest = hmac(PLAYER, &around);
            c1[at..at + 32].copy_from_slice(&digest);
            let mut server = Handshake::new();
            let Ok(Progress::Going(answer)) = server.feed(&[&[3][..], &c1].concat()) else { panic!("not going") };
            let (s1, s2) = (&answer[1..1537], &answer[1537..]);
            let proven = [8, 772].into_iter().any(|pointer| {
                let (at, around) = digest_place(s1, pointer);
                s1[at..at + 32] == hmac(SERVER, &around)
            });
            assert!(proven, "S1, for a digest at {pointer}");
            let key = hmac(&[SERVER, &CRUD].concat(), &digest);
            assert_eq!(s2[1504..], hmac(&key, &s2[..1504]), "S2, for a digest at {pointer}");
            assert!(matches!(server.feed(&[7; 1536]), Ok(Progress::Done { .. })));
        }
    }

    #[test]
    fn row_2_other_protocols_are_named() {
        assert_eq!(Handshake::new().feed(&[0x16, 3, 1]), Err(NotRtmp::Tls));
        assert_eq!(Handshake::new().feed(b"GET / HTTP/1.1\r\n"), Err(NotRtmp::Http));
        assert_eq!(Handshake::new().feed(&[6]), Err(NotRtmp::Version(6)));
        assert_eq!(Handshake::new().feed(&[0x47; 2000]), Err(NotRtmp::Http), "however much there is");
    }
}
