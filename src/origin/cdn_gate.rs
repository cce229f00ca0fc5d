//! Lets in only what comes by way of the CDN: a header field that it alone knows.

use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::CdnSecret;

/// What a request must show.
#[derive(Debug)]
pub(super) struct CdnGate {
    header: HeaderName,
    /// Digests, so that values of all lengths take the same time to compare.
    values: Vec<[u8; 32]>,
}

impl CdnGate {
    pub(super) fn new(secret: &CdnSecret) -> Self {
        let values = secret.values.iter().map(|value| Sha256::digest(value.as_str()).into()).collect();
        Self { header: secret.header.clone(), values }
    }

    /// Whether a request with these fields comes from who knows a value. It takes as long for a value that is nearly right,
    /// and for either of two.
    pub(super) fn lets_in(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(&self.header).iter();
        // Whoever stands between must not be able to add one of its own.
        let (Some(value), None) = (shown.next(), shown.next()) else { return false };
        let shown: [u8; 32] = Sha256::digest(value.as_bytes()).into();
        self.values.iter().fold(Choice::from(0), |right, value| right | value.ct_eq(&shown)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use http::HeaderValue;

    #[test]
    fn either_value_opens_and_nothing_else() {
        let header = HeaderName::from_static("x-origin-secret");
        let values = ["the new value 0001", "the old value 0001"].map(|value| Secret::new(value.to_owned()));
        let gate = CdnGate::new(&CdnSecret { header: header.clone(), values: values.to_vec() });
        let lets_in = |values: &[&'static str]| {
            gate.lets_in(&values.iter().map(|value| (header.clone(), HeaderValue::from_static(value))).collect())
        };
        assert!(lets_in(&["the new value 0001"]));
        assert!(lets_in(&["the old value 0001"]));
        for wrong in [&[][..], &[""], &["the new value 0002"], &["the new value 000"], &["the new value 00011"]] {
            assert!(!lets_in(wrong), "{wrong:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(&header, HeaderValue::from_static("the new value 0001"));
        twice.append(&header, HeaderValue::from_static("wrong"));
        assert!(!gate.lets_in(&twice));
    }
}
