//! Who may come in, and who may try a stream key: what the ports of publishers share of their peers.
//!
//! [`Guard`] is the handle that every port gets a clone of, so that a key cannot be guessed at one port when the other has
//! had enough. What it decides is decided in [`table`], which is pure; here are only the lock and the clock.

mod bucket;
pub mod table;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::AddressLimits;
use table::{Table, TurnedAway};

/// The limits of all peers. Clones share them.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Mutex<Table>>);

/// Leave to have a connection open; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    guard: Guard,
    address: IpAddr,
}

impl Guard {
    /// With nobody known yet.
    #[must_use]
    pub fn new(limits: AddressLimits) -> Self {
        Self(Arc::new(Mutex::new(Table::new(limits))))
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// [`TurnedAway`]: it is to be closed.
    pub fn admit(&self, address: IpAddr) -> Result<Pass, TurnedAway> {
        self.table().admit(address, Instant::now())?;
        Ok(Pass { guard: self.clone(), address })
    }

    /// How long this address may still try no stream key; none where it may. While it may not, the key is not even to be
    /// looked at.
    #[must_use]
    pub fn barred_for(&self, address: IpAddr) -> Option<Duration> {
        self.table().barred_for(address, Instant::now())
    }

    /// Notes that this address tried a stream key that is none. The same one again is an encoder that tries again, not a
    /// guess. Only a digest is kept.
    pub fn wrong_key(&self, address: IpAddr, key: &str) {
        self.table().wrong_key(address, key, Instant::now());
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.guard.table().leave(self.address);
    }
}
