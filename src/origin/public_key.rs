//! A public key that tokens are signed with, out of its file.

use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What is wrong with a key of `[[playback.keys]]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    /// The file cannot be read.
    #[error("playback.keys.public_key: cannot read {}: {error}", path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// It holds no key of a kind that is known.
    #[error(
        "playback.keys.public_key: {} holds no public key of RSA (2048 bits or more), P-256 or Ed25519 in PEM form \
         (-----BEGIN PUBLIC KEY-----); make it from the private one with: openssl pkey -in private.pem -pubout",
        .0.display()
    )]
    Unknown(PathBuf),
}

/// Reads a key. The file is small: it blocks for moments only.
pub(super) fn read(path: &Path) -> Result<(Algorithm, DecodingKey), TokenKeyError> {
    let unreadable =
        |error: std::io::Error| TokenKeyError::Unreadable { path: path.to_owned(), error: error.to_string() };
    let pem = std::fs::read(path).map_err(unreadable)?;
    parse(&pem).ok_or_else(|| TokenKeyError::Unknown(path.to_owned()))
}

fn parse(pem: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&der).ok()?;
    let bits = info.subject_public_key.data.as_ref();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_BITS_MIN => {
            Some((Algorithm::RS256, DecodingKey::from_rsa_der(bits)))
        }
        Ok(PublicKey::EC(_)) if names_p256(&info) => Some((Algorithm::ES256, DecodingKey::from_ec_der(bits))),
        _ if info.algorithm.algorithm.to_id_string() == ED25519 => {
            Some((Algorithm::EdDSA, DecodingKey::from_ed_der(bits)))
        }
        _ => None,
    }
}

fn names_p256(info: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    curve.is_some_and(|curve| curve.to_id_string() == P256)
}

/// The least that the library takes, and that RFC 7518 (3.3) allows.
const RSA_BITS_MIN: usize = 2048;
/// RFC 8410, 3.
const ED25519: &str = "1.3.101.112";
/// RFC 5480, 2.1.1.1.
const P256: &str = "1.2.840.10045.3.1.7";
