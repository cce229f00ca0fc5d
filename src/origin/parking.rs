//! How many requests may wait for what is coming: of a channel, and in all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use crate::source::ChannelName;

/// Where requests wait. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Parking {
    bounds: Bounds,
    parked: Arc<Mutex<Parked>>,
    shown: Gauge,
}

/// The most requests that may wait; a further one is answered 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of all channels.
    pub(super) all_max: usize,
    /// Of one.
    pub(super) channel_max: usize,
}

#[derive(Debug, Default)]
struct Parked {
    all: usize,
    channels: BTreeMap<ChannelName, usize>,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    parking: Parking,
    channel: ChannelName,
}

impl Parking {
    /// `shown` is kept at the number of requests that wait.
    pub(super) fn new(bounds: Bounds, shown: Gauge) -> Self {
        Self { bounds, parked: Arc::default(), shown }
    }

    /// A place for a request for something of `channel`; none where all are taken.
    pub(super) fn enter(&self, channel: &ChannelName) -> Option<Place> {
        let mut parked = self.lock();
        let of_channel = parked.channels.get(channel).copied().unwrap_or(0);
        if parked.all >= self.bounds.all_max || of_channel >= self.bounds.channel_max {
            return None;
        }
        parked.all = parked.all.saturating_add(1);
        parked.channels.insert(channel.clone(), of_channel.saturating_add(1));
        drop(parked);
        self.shown.inc();
        Some(Place { parking: self.clone(), channel: channel.clone() })
    }

    /// Nothing panics while it is held, and the counts are right even then.
    fn lock(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut parked = self.parking.lock();
        parked.all = parked.all.saturating_sub(1);
        if let Entry::Occupied(mut of_channel) = parked.channels.entry(self.channel.clone()) {
            *of_channel.get_mut() = of_channel.get().saturating_sub(1);
            if *of_channel.get() == 0 {
                of_channel.remove();
            }
        }
        self.parking.shown.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let shown = Gauge::default();
        let parking = Parking::new(Bounds { all_max: 3, channel_max: 2 }, shown.clone());
        let [one, two] = ["one", "two"].map(|name| ChannelName::new(name).unwrap());
        let first = parking.enter(&one).unwrap();
        let _second = parking.enter(&one).unwrap();
        assert!(parking.enter(&one).is_none(), "the channel's are taken");
        let third = parking.enter(&two).unwrap();
        assert!(parking.enter(&two).is_none(), "all are taken");
        assert_eq!(shown.get(), 3);
        drop(first);
        let fourth = parking.enter(&one).unwrap();
        drop((third, fourth));
        assert_eq!(shown.get(), 1);
        assert_eq!(parking.lock().channels.len(), 1, "who has none is forgotten");
    }
}
