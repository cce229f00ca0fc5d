//! Addresses as people write them: sets of an operator, of single ones and of networks in CIDR notation; and peers.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Addresses that something holds for; none where it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network; write it like \"192.0.2.7\", \"10.0.0.0/8\" or \"2001:db8::/32\"")]
pub struct InvalidNetwork(String);

impl Networks {
    /// Adds what `text` names.
    ///
    /// # Errors
    /// [`InvalidNetwork`] where it names nothing.
    pub fn add(&mut self, text: &str) -> Result<(), InvalidNetwork> {
        let single = text.parse().map(|address: IpAddr| IpNet::from(address.to_canonical()));
        let network = single.or_else(|_| text.parse()).map_err(|_| InvalidNetwork(text.to_owned()))?;
        self.0.push(network);
        Ok(())
    }

    /// Whether `address` is among them; an IPv4 address that is written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A peer as people write it: an IPv4 one of a listener for both families comes as IPv6.
#[must_use]
pub fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_of_both_families() {
        let mut networks = Networks::default();
        for text in ["10.0.0.0/8", "192.0.2.7", "::1", "2001:db8::/32"] {
            networks.add(text).unwrap();
        }
        let contains = |text: &str| networks.contains(text.parse().unwrap());
        assert!(["10.1.2.3", "192.0.2.7", "::1", "2001:db8:1::2", "::ffff:10.9.9.9"].into_iter().all(contains));
        assert!(!["11.0.0.1", "192.0.2.8", "::2", "2001:db9::1", "::ffff:11.0.0.1"].into_iter().any(contains));
        for wrong in ["", "10.0.0.0/33", "host", "10.0.0", "::1/129", "10.0.0.1:80"] {
            assert!(networks.add(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_peer_of_either_family_is_written_plainly() {
        let written = |peer: &str| plain(peer.parse().unwrap()).to_string();
        assert_eq!(written("[::ffff:192.0.2.7]:4000"), "192.0.2.7:4000");
        assert_eq!(written("[2001:db8::1]:4000"), "[2001:db8::1]:4000");
    }
}
