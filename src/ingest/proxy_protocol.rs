//! The PROXY protocol: what a load balancer says, before the first byte of a connection, of whom it stands for.
//!
//! Pure. Versions 1 (a line of text) and 2 (binary) of HAProxy's "The PROXY protocol", whose sections are cited. The reader
//! never asks for a byte that could belong to what follows, so TLS can begin right behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes more belong to the header for sure.
    More(usize),
    /// The header is complete.
    Done(Source),
}

/// Whom the connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A peer behind the load balancer.
    Peer(SocketAddr),
    /// The load balancer itself, as for its health checks (`LOCAL`), or somebody whom it does not name (`UNKNOWN`).
    Itself,
}

/// Not a header of the PROXY protocol that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Other bytes stand where the header belongs.
    #[error("it does not begin with a PROXY header, which rtmp.proxy_protocol says its address sends")]
    Missing,
    /// A line that is not as it should be.
    #[error("its PROXY line (version 1) is malformed")]
    Line,
    /// A binary header that is not as it should be.
    #[error("its PROXY header (version 2) is malformed")]
    Binary,
    /// More than is read.
    #[error("its PROXY header says that it has {0} bytes, where {BINARY_BYTES_MAX} are read")]
    TooLong(usize),
}

/// Reads the header from all bytes that were received so far, which are to be no more than were asked for.
///
/// # Errors
/// [`ProxyError`]: the connection is to be closed.
pub fn read(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if agrees(bytes, LINE_START) {
        line(bytes)
    } else if agrees(bytes, &SIGNATURE) {
        binary(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Whether `bytes` are the beginning of `expected`, or begin with it.
fn agrees(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(a, b)| a == b)
}

/// 2.1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 1935\r\n`, at most 107 bytes.
fn line(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if bytes.len() < LINE_BYTES_MIN {
        return Ok(Progress::More(LINE_BYTES_MIN - bytes.len()));
    }
    let Some(text) = bytes.strip_suffix(b"\r\n") else {
        return match bytes.len() {
            LINE_BYTES_MAX.. => Err(ProxyError::Line),
            _ if bytes.contains(&b'\n') => Err(ProxyError::Line),
            _ if bytes.ends_with(b"\r") => Ok(Progress::More(1)),
            // The end of the line, at least; but never past the longest line.
            length => Ok(Progress::More((LINE_BYTES_MAX - length).min(2))),
        };
    };
    let text = std::str::from_utf8(text).map_err(|_| ProxyError::Line)?;
    let mut words = text.split(' ').skip(1);
    match words.next() {
        // "The receiver must ignore anything presented before the CRLF."
        Some("UNKNOWN") => return Ok(Progress::Done(Source::Itself)),
        Some("TCP4" | "TCP6") => {}
        _ => return Err(ProxyError::Line),
    }
    let [source, _, port, _] = <[&str; 4]>::try_from(words.collect::<Vec<_>>()).map_err(|_| ProxyError::Line)?;
    let address: IpAddr = source.parse().map_err(|_| ProxyError::Line)?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or(ProxyError::Line)?;
    Ok(Progress::Done(Source::Peer(SocketAddr::new(address.to_canonical(), port))))
}

/// 2.2: the signature, version and command, family, length, addresses, and then extensions, which are passed over.
fn binary(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((&[version_command, family, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk)
    else {
        return Ok(Progress::More(BINARY_START - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if BINARY_START + length > BINARY_BYTES_MAX {
        return Err(ProxyError::TooLong(BINARY_START + length));
    }
    let source = match version_command {
        // "The receiver must […] use the real connection endpoints and must discard the protocol block".
        0x20 => return after(length, rest, || Ok(Source::Itself)),
        0x21 => family,
        _ => return Err(ProxyError::Binary),
    };
    after(length, rest, || match source {
        0x11 => peer_v4(rest).ok_or(ProxyError::Binary),
        0x21 => peer_v6(rest).ok_or(ProxyError::Binary),
        // No address, or a Unix socket's.
        0x00 | 0x31 => Ok(Source::Itself),
        _ => Err(ProxyError::Binary),
    })
}

/// The source, once the whole header is there.
fn after(
    length: usize,
    rest: &[u8],
    source: impl FnOnce() -> Result<Source, ProxyError>,
) -> Result<Progress, ProxyError> {
    match length.saturating_sub(rest.len()) {
        0 => source().map(Progress::Done),
        missing => Ok(Progress::More(missing)),
    }
}

fn peer_v4(block: &[u8]) -> Option<Source> {
    let (address, rest) = block.split_first_chunk::<4>()?;
    let port = rest.get(4..6)?.first_chunk()?;
    Some(Source::Peer(SocketAddr::from((Ipv4Addr::from(*address), u16::from_be_bytes(*port)))))
}

fn peer_v6(block: &[u8]) -> Option<Source> {
    let (address, rest) = block.split_first_chunk::<16>()?;
    let port = rest.get(16..18)?.first_chunk()?;
    let address = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
    Some(Source::Peer(SocketAddr::new(address, u16::from_be_bytes(*port))))
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const LINE_START: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN\r\n`.
const LINE_BYTES_MIN: usize = 15;
const LINE_BYTES_MAX: usize = 107;
const BINARY_START: usize = 16;
/// What fits into one TCP segment for sure (2.2), extensions and all.
const BINARY_BYTES_MAX: usize = 536;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives the reader exactly what it asks for; returns the source and what is left, or None where there is too little.
    fn feed(bytes: &[u8]) -> Result<Option<(Source, &[u8])>, ProxyError> {
        let mut length = 0;
        loop {
            let Some(so_far) = bytes.get(..length) else { return Ok(None) };
            match read(so_far)? {
                Progress::More(count) => {
                    assert!(count > 0 && length + count <= BINARY_BYTES_MAX, "bounded");
                    length += count;
                }
                Progress::Done(source) => return Ok(Some((source, &bytes[length..]))),
            }
        }
    }

    fn peer(text: &str) -> Source {
        Source::Peer(text.parse().unwrap())
    }

    fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    const BLOCK_V4: &[u8] = &[203, 0, 113, 9, 198, 51, 100, 1, 0xdc, 0x04, 0x07, 0x8f];

    #[test]
    fn both_versions_name_the_peer_and_leave_what_follows() {
        let v6 = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let block_v6 = [&v6[..], &[0; 16], &[0, 99, 7, 143]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 1935\r\n".to_vec(), peer("203.0.113.9:56324")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 99 1935\r\n".to_vec(), peer("[2001:db8::7]:99")),
            (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 99 1935\r\n".to_vec(), peer("203.0.113.9:99")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Source::Itself),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), Source::Itself),
            (version_2(0x21, 0x11, BLOCK_V4), peer("203.0.113.9:56324")),
            (version_2(0x21, 0x11, &[BLOCK_V4, &[4; 300]].concat()), peer("203.0.113.9:56324")),
            (version_2(0x21, 0x21, &block_v6), peer("[2001:db8::7]:99")),
            (version_2(0x20, 0x00, &[]), Source::Itself),
            (version_2(0x20, 0x11, BLOCK_V4), Source::Itself),
            (version_2(0x21, 0x00, &[]), Source::Itself),
            (version_2(0x21, 0x31, &[0; 216]), Source::Itself),
        ] {
            // What follows may look like a header again.
            for follows in [&b""[..], b"\x03\r\n", b"\r\n\r\n", b"PROXY "] {
                let bytes = [&header[..], follows].concat();
                assert_eq!(feed(&bytes), Ok(Some((expected, follows))), "{header:?}");
            }
            assert!((0..header.len()).all(|end| feed(&header[..end]) == Ok(None)), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_seen_at_the_first_wrong_byte() {
        for bytes in [&b"\x03"[..], b"\x16\x03\x01", b"GET / HTTP/1.1", b"PROXZ", b"\r\n\r\nX"] {
            assert_eq!(read(bytes), Err(ProxyError::Missing), "{bytes:?}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        for text in [
            "PROXY TCP4 203.0.113.9 198.51.100.1 56324\r\n",
            "PROXY TCP4 203.0.113.9  198.51.100.1 56324 1935\r\n",
            "PROXY TCP4 203.0.113 198.51.100.1 56324 1935\r\n",
            "PROXY TCP4 203.0.113.9 198.51.100.1 +5632 1935\r\n",
            "PROXY TCP4 203.0.113.9 198.51.100.1 99999 1935\r\n",
            "PROXY UDP4 203.0.113.9 198.51.100.1 56324 1935\r\n",
            "PROXY TCP4 \n203.0.113.9",
        ] {
            assert_eq!(feed(text.as_bytes()), Err(ProxyError::Line), "{text}");
        }
        assert_eq!(feed(&[b"PROXY TCP4 ", &[b'1'; 200][..]].concat()), Err(ProxyError::Line));
        for (command, family, block) in [(0x31, 0x11, BLOCK_V4), (0x22, 0x11, BLOCK_V4), (0x21, 0x12, BLOCK_V4)] {
            assert_eq!(feed(&version_2(command, family, block)), Err(ProxyError::Binary));
        }
        assert_eq!(feed(&version_2(0x21, 0x11, &BLOCK_V4[..7])), Err(ProxyError::Binary));
        assert_eq!(feed(&version_2(0x21, 0x11, &[0; 521])), Err(ProxyError::TooLong(537)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, start in 0usize..3) {
            let bytes = [[&b""[..], &SIGNATURE, LINE_START][start], &bytes].concat();
            let _ = feed(&bytes);
            let _ = read(&bytes);
        }

        #[test]
        fn any_split_of_the_bytes_gives_the_same(a: [u8; 4], port: u16, extension in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(1usize..40, 1..20)) {
            let block = [&a[..], &[1, 2, 3, 4], &port.to_be_bytes(), &[7, 143], &extension].concat();
            let text = format!("PROXY TCP4 {} 198.51.100.1 {port} 1935\r\n", Ipv4Addr::from(a));
            for header in [version_2(0x21, 0x11, &block), text.into_bytes()] {
                let (mut length, mut cuts) = (0, cuts.iter().cycle());
                let source = loop {
                    match read(&header[..length]).unwrap() {
                        // A socket gives what is asked for, or less.
                        Progress::More(count) => length += count.min(*cuts.next().unwrap()),
                        Progress::Done(source) => break source,
                    }
                };
                prop_assert_eq!((source, length), (Source::Peer(SocketAddr::from((a, port))), header.len()));
            }
        }
    }
}
