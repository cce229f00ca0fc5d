//! What is known of each address: a state machine that is given the time.
//!
//! IPv6 is counted by /64, which is what one customer has at the least. The table is bounded: when it is full, the half of
//! the idle addresses that was seen longest ago is forgotten, so a flood of addresses cannot make it grow.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::{Bucket, Rate};
use crate::config::AddressLimits;

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// The address has as many open as it may.
    #[error("its address has {0} connections already (rtmp.address_connections_max)")]
    Connections(usize),
    /// The address comes too often.
    #[error("its address connects too often (rtmp.address_connects_per_second)")]
    Connects,
    /// All together come too often.
    #[error("too many connect at once (rtmp.handshakes_per_second)")]
    Handshakes,
}

impl TurnedAway {
    /// The word for the metric's label.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Connections(_) => "address_connections",
            Self::Connects => "address_connects",
            Self::Handshakes => "handshakes",
        }
    }
}

/// All addresses.
#[derive(Debug)]
pub struct Table {
    limits: AddressLimits,
    addresses: HashMap<IpAddr, Address>,
    handshakes: Bucket,
    /// Digests keys, with a secret of its own.
    digest: RandomState,
}

#[derive(Debug)]
struct Address {
    open: usize,
    connects: Bucket,
    wrong_keys: Bucket,
    /// Digests of the last different wrong keys.
    tried: [Option<u64>; TRIED_KEYS],
    barred: Option<Barred>,
    seen: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Barred {
    until: Instant,
    length: Duration,
}

impl Table {
    /// With nobody in it.
    #[must_use]
    pub fn new(limits: AddressLimits) -> Self {
        Self { limits, addresses: HashMap::new(), handshakes: Bucket::default(), digest: RandomState::new() }
    }

    /// Lets a connection in, and counts it until [`Table::leave`].
    ///
    /// # Errors
    /// [`TurnedAway`]; it is not counted.
    pub fn admit(&mut self, address: IpAddr, now: Instant) -> Result<(), TurnedAway> {
        if self.limits.exempt.contains(address) {
            return Ok(());
        }
        let open_max = self.limits.connections_max;
        let per_second = Duration::from_secs(1);
        let connects = Rate {
            burst: u32::try_from(open_max).unwrap_or(u32::MAX),
            interval: per_second / self.limits.connects_per_second.max(1),
        };
        let handshakes = Rate {
            burst: self.limits.handshakes_per_second.saturating_mul(2),
            interval: per_second / self.limits.handshakes_per_second.max(1),
        };
        let known = self.address(address, now);
        if known.open >= open_max {
            return Err(TurnedAway::Connections(open_max));
        }
        // What one address may not do takes nothing from the others.
        if !known.connects.take(connects, now) {
            return Err(TurnedAway::Connects);
        }
        if !self.handshakes.take(handshakes, now) {
            return Err(TurnedAway::Handshakes);
        }
        self.address(address, now).open += 1;
        Ok(())
    }

    /// A connection that was let in has ended.
    pub fn leave(&mut self, address: IpAddr) {
        if let Some(known) = self.addresses.get_mut(&network(address)) {
            known.open = known.open.saturating_sub(1);
        }
    }

    /// How long the address may still try no key; none where it may.
    #[must_use]
    pub fn barred_for(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let barred = self.addresses.get(&network(address))?.barred?;
        Some(barred.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Notes a wrong key.
    pub fn wrong_key(&mut self, address: IpAddr, key: &str, now: Instant) {
        if self.limits.exempt.contains(address) {
            return;
        }
        let digest = Some(self.digest.hash_one(key));
        let per_minute = self.limits.wrong_keys_per_minute.max(1);
        let rate = Rate { burst: per_minute, interval: Duration::from_secs(60) / per_minute };
        let known = self.address(address, now);
        if known.tried.contains(&digest) {
            return;
        }
        known.tried.rotate_right(1);
        if let Some(oldest) = known.tried.first_mut() {
            *oldest = digest;
        }
        if !known.wrong_keys.take(rate, now) {
            known.bar(now);
        }
    }

    fn address(&mut self, address: IpAddr, now: Instant) -> &mut Address {
        let network = network(address);
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&network) {
            self.forget_idle();
        }
        let known = self.addresses.entry(network).or_insert_with(|| Address::new(now));
        known.seen = now;
        known
    }

    /// Those with open connections stay; there are not more of them than the port takes connections.
    fn forget_idle(&mut self) {
        let mut seen: Vec<_> =
            self.addresses.values().filter(|known| known.open == 0).map(|known| known.seen).collect();
        let middle = seen.len() / 2;
        if let Some((_, median, _)) = (!seen.is_empty()).then(|| seen.select_nth_unstable(middle)) {
            let median = *median;
            self.addresses.retain(|_, known| known.open > 0 || known.seen > median);
        }
    }
}

impl Address {
    fn new(now: Instant) -> Self {
        Self {
            open: 0,
            connects: Bucket::default(),
            wrong_keys: Bucket::default(),
            tried: [None; TRIED_KEYS],
            barred: None,
            seen: now,
        }
    }

    /// Each time twice as long as the last, unless that is long ago.
    fn bar(&mut self, now: Instant) {
        let before = self.barred.filter(|barred| now.saturating_duration_since(barred.until) < BARRED_MAX);
        let length = before.map_or(BARRED_MIN, |barred| (barred.length * 2).min(BARRED_MAX));
        self.barred = Some(Barred { until: now + length, length });
        self.wrong_keys = Bucket::default();
    }
}

/// What is counted as one: an IPv4 address, a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// About 4 MB.
const ADDRESSES_MAX: usize = 16_384;
/// How many encoders with a false key behind one address are told apart from somebody who guesses.
const TRIED_KEYS: usize = 8;
/// How long nothing may be tried at first, and at most.
const BARRED_MIN: Duration = Duration::from_secs(60);
const BARRED_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Networks;
    use proptest::prelude::*;

    fn table() -> Table {
        let mut exempt = Networks::default();
        exempt.add("127.0.0.0/8").unwrap();
        Table::new(AddressLimits {
            connections_max: 4,
            connects_per_second: 2,
            wrong_keys_per_minute: 5,
            handshakes_per_second: 10,
            exempt,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn row_4_one_address_has_so_many_connections_and_another_as_many() {
        let (mut table, now) = (table(), Instant::now());
        for _ in 0..4 {
            assert_eq!(table.admit(ip("192.0.2.1"), now), Ok(()));
        }
        assert_eq!(table.admit(ip("192.0.2.1"), now), Err(TurnedAway::Connections(4)));
        assert_eq!(table.admit(ip("192.0.2.2"), now), Ok(()));
        table.leave(ip("192.0.2.1"));
        assert_eq!(table.admit(ip("192.0.2.1"), now), Err(TurnedAway::Connects), "too soon");
        assert_eq!(table.admit(ip("192.0.2.1"), now + seconds(1)), Ok(()));
    }

    #[test]
    fn row_4_one_address_cannot_use_up_what_all_share() {
        let (mut table, now) = (table(), Instant::now());
        for _ in 0..1_000 {
            if table.admit(ip("192.0.2.1"), now).is_ok() {
                table.leave(ip("192.0.2.1"));
            }
        }
        assert_eq!(table.admit(ip("192.0.2.2"), now), Ok(()));
        let many = (0..200u8).filter(|n| table.admit(IpAddr::from([10, 0, 0, *n]), now).is_ok()).count();
        assert_eq!(many, 20 - 4 - 1, "twice the rate at once");
    }

    #[test]
    fn ipv6_is_counted_by_64_and_mapped_ipv4_as_itself() {
        let (mut table, now) = (table(), Instant::now());
        for host in ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::", "2001:db8:0:1::"] {
            assert_eq!(table.admit(ip(host), now), Ok(()));
        }
        assert!(table.admit(ip("2001:db8:0:1::5"), now).is_err());
        assert_eq!(table.admit(ip("2001:db8:0:2::1"), now), Ok(()));
        for guess in ["a", "b", "c", "d", "e", "f"] {
            table.wrong_key(ip("::ffff:192.0.2.9"), guess, now);
        }
        assert!(table.barred_for(ip("192.0.2.9"), now).is_some());
    }

    #[test]
    fn row_4_guessing_is_barred_for_a_growing_time_and_forgiven_at_last() {
        let (mut table, mut now) = (table(), Instant::now());
        let guesser = ip("192.0.2.1");
        let mut lengths = Vec::new();
        for round in 0..8 {
            let mut guesses = 0;
            while table.barred_for(guesser, now).is_none() {
                table.wrong_key(guesser, &format!("guess {round} {guesses}"), now);
                guesses += 1;
            }
            assert_eq!(guesses, 6, "five a minute");
            let length = table.barred_for(guesser, now).unwrap();
            lengths.push(length.as_secs() / 60);
            now += length;
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);
        now += BARRED_MAX;
        for guess in 0..6 {
            table.wrong_key(guesser, &format!("later {guess}"), now);
        }
        assert_eq!(table.barred_for(guesser, now), Some(BARRED_MIN));
        assert_eq!(table.barred_for(ip("192.0.2.2"), now), None);
    }

    #[test]
    fn an_encoder_that_tries_its_wrong_key_again_and_again_is_not_barred() {
        let (mut table, mut now) = (table(), Instant::now());
        for _ in 0..1_000 {
            for key in ["yesterday's", "my cat's", "third"] {
                table.wrong_key(ip("192.0.2.1"), key, now);
            }
            now += seconds(2);
        }
        assert_eq!(table.barred_for(ip("192.0.2.1"), now), None);
    }

    #[test]
    fn who_is_exempt_is_not_limited() {
        let (mut table, now) = (table(), Instant::now());
        for guess in 0..1_000 {
            assert_eq!(table.admit(ip("127.0.0.1"), now), Ok(()));
            table.wrong_key(ip("127.0.0.1"), &format!("guess {guess}"), now);
        }
        assert_eq!(table.barred_for(ip("127.0.0.1"), now), None);
        assert!(table.addresses.is_empty());
    }

    #[test]
    fn row_41_a_flood_of_addresses_does_not_grow_the_table_and_who_is_here_stays_known() {
        let (mut table, mut now) = (table(), Instant::now());
        for _ in 0..4 {
            table.admit(ip("192.0.2.1"), now).unwrap();
        }
        for n in 0..200_000u32 {
            now += Duration::from_millis(1);
            let address = IpAddr::from(n.to_be_bytes());
            if table.admit(address, now).is_ok() {
                table.leave(address);
            }
            assert!(table.addresses.len() <= ADDRESSES_MAX);
        }
        assert_eq!(table.admit(ip("192.0.2.1"), now), Err(TurnedAway::Connections(4)));
    }

    proptest! {
        #[test]
        fn what_is_open_is_never_more_than_allowed(steps in prop::collection::vec((0u8..3, any::<bool>(), 0u64..2_000), 0..200)) {
            let (mut table, mut now, mut open) = (table(), Instant::now(), [0usize; 3]);
            for (host, comes, millis) in steps {
                now += Duration::from_millis(millis);
                let address = IpAddr::from([10, 0, 0, host]);
                let count = &mut open[usize::from(host)];
                if comes {
                    *count += usize::from(table.admit(address, now).is_ok());
                } else if *count > 0 {
                    table.leave(address);
                    *count -= 1;
                }
                prop_assert!(open.iter().all(|open| *open <= 4));
            }
        }
    }
}
