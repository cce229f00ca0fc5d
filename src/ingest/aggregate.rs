//! Aggregate messages (7.1.6): several messages in the body of one.

use bytes::{Buf, Bytes};

use super::chunk::Message;

/// The messages of an aggregate that are left.
#[derive(Debug)]
pub(super) struct Aggregate {
    rest: Bytes,
    stream: u32,
    /// The time of the aggregate, and that of its first message: their difference is added to all.
    timestamp: u32,
    first: Option<u32>,
}

/// An aggregate that ends within one of its messages. What stood before is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Aggregate {
    pub(super) fn new(message: Message) -> Self {
        Self { rest: message.payload, stream: message.stream, timestamp: message.timestamp, first: None }
    }

    /// The next message. Bounded by the aggregate's own length, of which each takes 11 bytes at least.
    pub(super) fn next(&mut self) -> Option<Result<Message, Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        let message = self.read().ok_or(Malformed);
        if message.is_err() {
            self.rest.clear();
        }
        Some(message)
    }

    /// An FLV tag: a header of 11 bytes, the body, and the length of both, which nothing needs and some leave out at the end.
    fn read(&mut self) -> Option<Message> {
        let [kind, a, b, c, t2, t1, t0, t3, _, _, _] = *self.rest.first_chunk()?;
        self.rest.advance(11);
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let body = self.rest.get(..length)?;
        // Copied, so that a short message that is kept does not keep the aggregate.
        let payload = Bytes::copy_from_slice(body);
        self.rest.advance(length);
        self.rest.advance(self.rest.len().min(4));
        let time = u32::from_be_bytes([t3, t2, t1, t0]);
        let offset = self.timestamp.wrapping_sub(*self.first.get_or_insert(time));
        Some(Message { timestamp: time.wrapping_add(offset), kind, stream: self.stream, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
        let [t3, time @ ..] = time.to_be_bytes();
        let length = u32::try_from(body.len()).unwrap();
        let header = [&[kind][..], &length.to_be_bytes()[1..], &time, &[t3, 0, 0, 9]].concat();
        [&header[..], body, &(length + 11).to_be_bytes()].concat()
    }

    /// Kind, time and body.
    type Read = (u8, u32, Vec<u8>);

    fn read(timestamp: u32, body: &[u8]) -> Vec<Result<Read, Malformed>> {
        let message = Message { timestamp, kind: 22, stream: 1, payload: Bytes::copy_from_slice(body) };
        let mut aggregate = Aggregate::new(message);
        let mut messages = Vec::new();
        while let Some(message) = aggregate.next() {
            messages.push(message.map(|m| (m.kind, m.timestamp, m.payload.to_vec())));
        }
        messages
    }

    #[test]
    fn times_are_rebased_to_that_of_the_aggregate() {
        let body = [tag(9, 0xffff_fff0, b"a"), tag(8, 0x10, b""), tag(8, 0xffff_ffe0, b"cd")].concat();
        assert_eq!(
            read(1_000, &body),
            [Ok((9, 1_000, b"a".to_vec())), Ok((8, 1_032, vec![])), Ok((8, 984, b"cd".to_vec()))]
        );
        assert_eq!(read(7, &body[..body.len() - 4]).len(), 3, "the last length may be missing");
        assert_eq!(read(7, b""), []);
    }

    #[test]
    fn a_lying_length_ends_it_and_what_stood_before_is_kept() {
        let mut body = [tag(9, 5, b"a"), tag(8, 5, b"bcdefgh")].concat();
        body.truncate(body.len() - 6);
        assert_eq!(read(0, &body), [Ok((9, 0, b"a".to_vec())), Err(Malformed)]);
        assert_eq!(read(0, &[9, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]), [Err(Malformed)]);
        assert_eq!(read(0, &[9; 10]), [Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_ends(body: Vec<u8>) {
            prop_assert!(read(0, &body).len() <= body.len() / 11 + 1);
        }
    }
}
