//! Opus: its identification header (RFC 7845, 5.1), and how long a packet lasts (RFC 6716, 3.1).

use bytes::Bytes;

use crate::media::{AudioCodec, AudioFormat};

/// The format that an identification header tells. None where it is cut short or cannot be true.
#[must_use]
pub fn format(header: &[u8]) -> Option<AudioFormat> {
    let body = header.strip_prefix(b"OpusHead")?;
    let [version, channels, ..] = *body.first_chunk::<11>()?;
    let family = *body.get(10)?;
    let table = if family == 0 { 0 } else { 2 + usize::from(channels) };
    let most = if family == 0 { 2 } else { 8 };
    let is_true = version < 16 && (1..=most).contains(&channels) && body.len() >= 11 + table;
    // Decoding is always at 48 kHz; the rate in the header is that of what was encoded.
    is_true.then(|| AudioFormat {
        codec: AudioCodec::Opus,
        config: Bytes::copy_from_slice(header.get(..19 + table).unwrap_or(header)),
        sample_rate: 48_000,
        channels,
    })
}

/// A header for a packet that comes without one: one stream, with as many channels as the packet says.
#[must_use]
pub fn header_of(packet: &[u8]) -> Option<[u8; 19]> {
    let channels = 1 + (packet.first()? >> 2 & 1);
    let mut header = *b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    *header.get_mut(9)? = channels;
    Some(header)
}

/// Samples at 48 kHz. None where it cannot be true: no frame, or more than 120 ms.
#[must_use]
pub fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let configuration = toc >> 3;
    let frame = match configuration {
        0..=11 => *[480, 960, 1920, 2880].get(usize::from(configuration & 3))?,
        12..=15 => 480 << (configuration & 1),
        _ => 120 << (configuration & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frames * frame).filter(|samples| (1..=5760).contains(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_23_every_packet_length_is_read() {
        for (packet, length) in [
            (&[0xe0u8][..], Some(120)),
            (&[0xfc], Some(960)),
            (&[0xf9], Some(1920)),
            (&[3 << 3], Some(2880)),
            (&[13 << 3 | 1], Some(1920)),
            (&[0xe3, 48], Some(5760)),
            (&[0xe3, 49], None),
            (&[0xe3, 0], None),
            (&[0xe3], None),
            (&[], None),
        ] {
            assert_eq!(samples(packet), length, "{packet:?}");
        }
    }

    #[test]
    fn row_23_headers_are_read_and_made() {
        let header = header_of(&[0xfc]).unwrap();
        assert_eq!(format(&header).map(|f| (f.sample_rate, f.channels)), Some((48_000, 2)));
        assert_eq!(format(&header[..18]), None);
        let mut many = header;
        many[9] = 6;
        assert_eq!(format(&many), None, "six channels without a table");
        many[18] = 1;
        assert_eq!(format(&[&many[..], &[4, 2, 0, 4, 1, 2, 3, 5]].concat()).map(|f| f.channels), Some(6));
    }
}
