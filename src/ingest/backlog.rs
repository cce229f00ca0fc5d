//! How many bytes wait in a channel's queue. Pure: the driver says how many events do.
//!
//! The queue's bound counts events, and an event may be a picture of 8 MiB; this bounds its bytes beside it.

use std::collections::VecDeque;

/// The sizes of the events that were sent last, newest at the back.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Backlog {
    /// Of the `waiting` events in the queue, how many must be taken before one of `size` bytes may follow. 0 where there is
    /// room; an empty queue takes anything.
    pub(super) fn excess(&mut self, waiting: usize, size: usize) -> usize {
        while self.sizes.len() > waiting {
            self.bytes = self.bytes.saturating_sub(self.sizes.pop_front().unwrap_or(0));
        }
        let mut bytes = self.bytes.saturating_add(size);
        let leaves = |known: &&usize| {
            let over = bytes > BYTES_MAX;
            bytes = bytes.saturating_sub(**known);
            over
        };
        self.sizes.iter().take_while(leaves).count()
    }

    /// An event of `size` bytes went into the queue.
    pub(super) fn push(&mut self, size: usize) {
        self.sizes.push_back(size);
        self.bytes = self.bytes.saturating_add(size);
    }
}

/// Twice the largest message; 2.7 s at 50 Mbit/s.
pub(super) const BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn large_pictures_wait_until_earlier_ones_are_taken() {
        const PICTURE: usize = 6 << 20;
        let mut backlog = Backlog::default();
        for waiting in 0..2 {
            assert_eq!(backlog.excess(waiting, PICTURE), 0);
            backlog.push(PICTURE);
        }
        assert_eq!(backlog.excess(2, PICTURE), 1);
        assert_eq!(backlog.excess(2, BYTES_MAX), 2);
        assert_eq!(backlog.excess(1, PICTURE), 0);
        assert_eq!(backlog.excess(0, BYTES_MAX * 2), 0, "an empty queue takes anything");
    }

    proptest! {
        #[test]
        fn no_more_waits_than_allowed(sizes in prop::collection::vec(0usize..9 << 20, 0..200), takes in prop::collection::vec(0usize..4, 200)) {
            let (mut backlog, mut queue) = (Backlog::default(), VecDeque::new());
            for (size, take) in sizes.into_iter().zip(takes) {
                queue.drain(..take.min(queue.len()));
                let excess = backlog.excess(queue.len(), size);
                prop_assert!(excess <= queue.len());
                queue.drain(..excess);
                prop_assert_eq!(backlog.excess(queue.len(), size), 0);
                backlog.push(size);
                queue.push_back(size);
                prop_assert!(queue.len() == 1 || queue.iter().sum::<usize>() <= BYTES_MAX);
            }
        }
    }
}
