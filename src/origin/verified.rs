//! Tokens whose signatures were found right, so that they need not be checked with each segment.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::origin::token::Grant;

/// What the tokens of late allow, by their digests: a token that is guessed at cannot be found by how long the search takes.
///
/// Two generations: what is used moves to the young one, and when that is full, the old one is forgotten and checked again
/// when it comes. So it holds at most twice [`GENERATION`] tokens, some 30 MB if each lists as many channels as it can.
#[derive(Debug, Default)]
pub(super) struct Verified {
    young: HashMap<TokenDigest, Arc<Grant>>,
    old: HashMap<TokenDigest, Arc<Grant>>,
}

/// Tells tokens apart.
pub(super) type TokenDigest = [u8; 32];

impl Verified {
    pub(super) fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token).into()
    }

    pub(super) fn find(&mut self, digest: &TokenDigest) -> Option<Arc<Grant>> {
        if let Some(grant) = self.young.get(digest) {
            return Some(Arc::clone(grant));
        }
        let grant = self.old.remove(digest)?;
        self.keep(*digest, Arc::clone(&grant));
        Some(grant)
    }

    pub(super) fn keep(&mut self, digest: TokenDigest, grant: Arc<Grant>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, grant);
    }
}

const GENERATION: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::token::tests::grant;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut verified = Verified::default();
        let digest = |number: usize| Verified::digest(&number.to_string());
        for number in 0..5 * GENERATION {
            verified.keep(digest(number), Arc::new(grant()));
            assert!(verified.find(&digest(0)).is_some(), "at {number}");
            assert!(verified.young.len() + verified.old.len() <= 2 * GENERATION);
        }
        assert!(verified.find(&digest(1)).is_none());
        assert!(verified.find(&digest(5 * GENERATION - 1)).is_some());
    }
}
