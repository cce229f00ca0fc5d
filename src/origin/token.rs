//! Playback tokens: JSON Web Tokens (RFC 7519), signed (RFC 7515) by whoever sells or gives away the seats.
//!
//! Which key, whether the signature is right, and what the token allows. Whether it still does, and of what, is asked
//! later, with a time: so what was found here can be remembered. Pure, but for the reading of key files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Deserializer};

use crate::config::{PlaybackConfig, TokenKey, TokenKeyConfig};
use crate::origin::public_key::{self, TokenKeyError};
use crate::source::ChannelName;

/// Why a request is not let through. Each is a line that the player's developer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenFault {
    #[error("a playback token is needed")]
    Missing,
    #[error("the playback token is too long")]
    TooLong,
    #[error("the playback token cannot be read")]
    Malformed,
    #[error("the playback token names no key that is known here")]
    UnknownKey,
    #[error("the playback token is not signed with its key")]
    WrongSignature,
    #[error("the playback token is for another audience")]
    OtherAudience,
    #[error("the playback token has no end (exp)")]
    Endless,
    #[error("the playback token has expired")]
    Expired,
    #[error("the playback token is not valid yet")]
    TooEarly,
    #[error("the playback token is not for this channel")]
    OtherChannel,
}

/// What a token whose signature is right allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    channels: Channels,
    /// Since the epoch.
    not_before: Duration,
    /// Since the epoch.
    expires: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Channels {
    All,
    These(Vec<String>),
}

impl Grant {
    /// Whether `channel` may be watched at `now`, by a clock that is at most `leeway` beside that of who signed it. Tells
    /// how much of its time is left.
    pub(super) fn allows(
        &self,
        channel: &ChannelName,
        now: SystemTime,
        leeway: Duration,
    ) -> Result<Duration, TokenFault> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.expires.saturating_add(leeway) <= now {
            return Err(TokenFault::Expired);
        }
        if now.saturating_add(leeway) < self.not_before {
            return Err(TokenFault::TooEarly);
        }
        match &self.channels {
            Channels::These(names) if !names.iter().any(|name| name == channel.as_str()) => {
                Err(TokenFault::OtherChannel)
            }
            Channels::These(_) | Channels::All => Ok(self.expires.saturating_sub(now)),
        }
    }
}

/// What tokens may be signed with.
#[derive(Debug)]
pub(super) struct TokenKeys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

impl TokenKeys {
    /// Reads the keys that are in files.
    pub(super) fn read(config: &PlaybackConfig) -> Result<Self, TokenKeyError> {
        config.keys.iter().map(|key| Key::read(key, config.audience.as_deref())).collect::<Result<_, _>>().map(Self)
    }

    /// Checks a token's signature and reads what it allows.
    pub(super) fn verify(&self, token: &str) -> Result<Grant, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenFault::Malformed)?;
        // What is critical and not understood must be refused (RFC 7515, 4.1.11), and no extension is understood.
        if header.crit.is_some() {
            return Err(TokenFault::Malformed);
        }
        let key = self.0.iter().find(|key| key.id == header.kid).ok_or(TokenFault::UnknownKey)?;
        let claims = decode::<Claims>(token, &key.key, &key.validation).map_err(|error| fault(error.kind()))?.claims;
        claims.grant()
    }
}

fn fault(kind: &ErrorKind) -> TokenFault {
    match kind {
        // The algorithm is the key's, never the token's: a public key must not be taken for a secret.
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenFault::WrongSignature,
        ErrorKind::InvalidAudience => TokenFault::OtherAudience,
        _ => TokenFault::Malformed,
    }
}

impl Key {
    fn read(config: &TokenKeyConfig, audience: Option<&str>) -> Result<Self, TokenKeyError> {
        let (algorithm, key) = match &config.key {
            TokenKey::Secret(secret) => (Algorithm::HS256, DecodingKey::from_secret(secret.as_str().as_bytes())),
            TokenKey::Public(path) => public_key::read(path)?,
        };
        let mut validation = Validation::new(algorithm);
        // Times are looked at here, against a clock that is handed in.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
        }
        Ok(Self { id: config.id.clone(), key, validation })
    }
}

/// The claims that count here: `sub` is the channel or `*`, as it is the asset at Cloudflare Stream, Mux and Livepeer;
/// `channels` a list of them, which `sub` cannot hold (RFC 7519, 4.1.2).
#[derive(Clone, Deserialize)]
struct Claims {
    #[serde(default, deserialize_with = "numeric_date")]
    exp: Option<Duration>,
    #[serde(default, deserialize_with = "numeric_date")]
    nbf: Option<Duration>,
    sub: Option<String>,
    channels: Option<Vec<String>>,
}

impl Claims {
    fn grant(self) -> Result<Grant, TokenFault> {
        let expires = self.exp.ok_or(TokenFault::Endless)?;
        let mut names = self.channels.unwrap_or_default();
        names.extend(self.sub);
        let all = names.iter().any(|name| name == ALL);
        let channels = if all { Channels::All } else { Channels::These(names) };
        Ok(Grant { channels, not_before: self.nbf.unwrap_or_default(), expires })
    }
}

/// Seconds since the epoch, which may have a fraction (RFC 7519, 2).
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map(Some).map_err(serde::de::Error::custom)
}

/// Room for a signature by RSA with 4096 bits and a list of some fifty channels.
const TOKEN_BYTES_MAX: usize = 2048;
/// In place of a channel's name: every channel.
const ALL: &str = "*";

#[cfg(test)]
pub(super) mod tests;
