//! Who may watch: which channels need a token, and whether the one that was shown is good for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::caching::Reach;
use crate::config::PlaybackConfig;
use crate::origin::public_key::TokenKeyError;
use crate::origin::ticket::{Place, Ticket};
use crate::origin::token::{Grant, TokenFault, TokenKeys};
use crate::origin::verified::Verified;
use crate::source::ChannelName;

/// The door to the channels. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Playback(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    /// Of channels that are not among `channels`.
    required: bool,
    channels: BTreeMap<ChannelName, bool>,
    leeway: Duration,
    keys: TokenKeys,
    verified: Mutex<Verified>,
}

impl Playback {
    /// Reads the keys that are in files.
    ///
    /// # Errors
    /// [`TokenKeyError`], for the operator.
    pub fn read(config: &PlaybackConfig) -> Result<Self, TokenKeyError> {
        Ok(Self(Arc::new(Rules {
            required: config.required,
            channels: config.channels.clone(),
            leeway: config.leeway,
            keys: TokenKeys::read(config)?,
            verified: Mutex::default(),
        })))
    }

    /// Whether a request with `ticket` gets anything of `channel` at `now`, and for whom and how long the answer may be kept
    /// where that depends on the token.
    ///
    /// A token in the path is looked at also where none is needed: a URL that anybody can make up would else be another name
    /// of the same bytes, and push others out of caches.
    pub(super) fn admit(
        &self,
        channel: &ChannelName,
        ticket: Option<Ticket<'_>>,
        now: SystemTime,
    ) -> Result<Option<Reach>, TokenFault> {
        let Rules { required, channels, leeway, .. } = &*self.0;
        let needed = *channels.get(channel).unwrap_or(required);
        let Some(ticket) = ticket.filter(|ticket| needed || ticket.place == Place::Path) else {
            return if needed { Err(TokenFault::Missing) } else { Ok(None) };
        };
        let left = self.grant(ticket.token)?.allows(channel, now, *leeway)?;
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        Ok(Some(Reach { seconds, shared: ticket.place == Place::Path }))
    }

    /// Signatures with public keys cost more than the rest of a request, and a player shows the same token each time.
    fn grant(&self, token: &str) -> Result<Arc<Grant>, TokenFault> {
        let digest = Verified::digest(token);
        let verified = || self.0.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = verified().find(&digest) {
            return Ok(grant);
        }
        let grant = Arc::new(self.0.keys.verify(token)?);
        verified().keep(digest, Arc::clone(&grant));
        Ok(grant)
    }
}
