use std::path::Path;

use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Secret;

/// What any token may be found to allow.
pub(crate) fn grant() -> Grant {
    Grant { channels: Channels::All, not_before: Duration::ZERO, expires: Duration::MAX }
}

/// A secret of 32 bytes.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A setting of one secret without an identity.
pub(crate) fn config() -> PlaybackConfig {
    let key = TokenKeyConfig { id: None, key: TokenKey::Secret(Secret::new(SECRET.to_owned())) };
    PlaybackConfig { required: true, leeway: Duration::from_secs(5), keys: vec![key], ..PlaybackConfig::default() }
}

/// A token with these claims, signed with [`SECRET`].
pub(crate) fn signed(claims: &Value) -> String {
    signed_as(&Header::default(), claims, SECRET)
}

fn signed_as(header: &Header, claims: &Value, secret: &str) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn verify(token: &str) -> Result<Grant, TokenFault> {
    TokenKeys::read(&config()).unwrap().verify(token)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn allowed(claims: &Value, channel: &str, seconds: u64) -> Result<u64, TokenFault> {
    let channel = ChannelName::new(channel).unwrap();
    let left = verify(&signed(claims))?.allows(&channel, at(seconds), Duration::from_secs(5))?;
    Ok(left.as_secs())
}

#[test]
fn a_token_opens_its_channels_for_its_time() {
    let one = json!({"sub": "demo", "exp": 1000, "nbf": 500});
    assert_eq!(allowed(&one, "demo", 600), Ok(400));
    assert_eq!(allowed(&one, "demo", 495), Ok(505), "the clocks may differ a little");
    assert_eq!(allowed(&one, "demo", 494), Err(TokenFault::TooEarly));
    assert_eq!(allowed(&one, "demo", 1004), Ok(0));
    assert_eq!(allowed(&one, "demo", 1005), Err(TokenFault::Expired));
    assert_eq!(allowed(&one, "other", 600), Err(TokenFault::OtherChannel));
    let several = json!({"channels": ["a", "b"], "exp": 1000.5});
    assert_eq!(allowed(&several, "a", 600), Ok(400));
    assert_eq!(allowed(&several, "c", 600), Err(TokenFault::OtherChannel));
    assert_eq!(allowed(&json!({"sub": "*", "exp": 1000}), "any", 600), Ok(400));
    assert_eq!(allowed(&json!({"exp": 1000}), "demo", 600), Err(TokenFault::OtherChannel), "it names none");
}

#[test]
fn claims_that_cannot_be_meant_are_refused() {
    for (claims, fault) in [
        (json!({"sub": "demo"}), TokenFault::Endless),
        (json!({"sub": "demo", "exp": "1000"}), TokenFault::Malformed),
        (json!({"sub": "demo", "exp": -1}), TokenFault::Malformed),
        (json!({"sub": "demo", "exp": 1e300}), TokenFault::Malformed),
        (json!({"sub": ["demo"], "exp": 1000}), TokenFault::Malformed),
        (json!({"channels": "demo", "exp": 1000}), TokenFault::Malformed),
        (json!(["demo", 1000]), TokenFault::Malformed),
        (json!({"sub": "demo", "exp": 1000, "aud": "somebody else"}), TokenFault::OtherAudience),
    ] {
        assert_eq!(verify(&signed(&claims)), Err(fault), "{claims}");
    }
}

#[test]
fn an_audience_is_compared_where_there_is_one() {
    let keys = TokenKeys::read(&PlaybackConfig { audience: Some("us".to_owned()), ..config() }).unwrap();
    let verify =
        |audience: Value| keys.verify(&signed(&json!({"sub": "demo", "exp": 1000, "aud": audience}))).map(drop);
    assert_eq!(verify(json!("us")), Ok(()));
    assert_eq!(verify(json!(["them", "us"])), Ok(()));
    assert_eq!(verify(json!("them")), Err(TokenFault::OtherAudience));
    assert!(keys.verify(&signed(&json!({"sub": "demo", "exp": 1000}))).is_ok());
}

#[test]
fn only_the_right_signature_will_do() {
    let claims = json!({"sub": "demo", "exp": 1000});
    let token = signed(&claims);
    assert!(verify(&token).is_ok());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = signed(&json!({"sub": "other", "exp": 1000}));
    let (other_message, _) = other.rsplit_once('.').unwrap();
    for wrong in [
        format!("{other_message}.{signature}"),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 3]),
        signed_as(&Header::default(), &claims, "another secret of thirty-two byte"),
        signed_as(&Header::new(Algorithm::HS512), &claims, SECRET),
    ] {
        assert_eq!(verify(&wrong), Err(TokenFault::WrongSignature), "{wrong}");
    }
    // {"alg":"none"}
    assert_eq!(
        verify(&format!("eyJhbGciOiJub25lIn0.{}.", message.split_once('.').unwrap().1)),
        Err(TokenFault::Malformed)
    );
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..Header::default() };
    assert_eq!(verify(&signed_as(&critical, &claims, SECRET)), Err(TokenFault::Malformed));
    assert_eq!(verify(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(TokenFault::TooLong));
    assert_eq!(verify(""), Err(TokenFault::Malformed));
}

#[test]
fn the_key_is_the_one_that_the_token_names() {
    let key = |id: &str, secret: &str| TokenKeyConfig {
        id: Some(id.to_owned()),
        key: TokenKey::Secret(Secret::new(secret.to_owned())),
    };
    let (old, new) = ("old old old old old old old old o", "new new new new new new new new n");
    let keys = TokenKeys::read(&PlaybackConfig { keys: vec![key("1", old), key("2", new)], ..config() }).unwrap();
    let verify = |kid: Option<&str>, secret| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::default() };
        keys.verify(&signed_as(&header, &json!({"sub": "demo", "exp": 1000}), secret)).map(drop)
    };
    assert_eq!((verify(Some("1"), old), verify(Some("2"), new)), (Ok(()), Ok(())));
    assert_eq!(verify(Some("1"), new), Err(TokenFault::WrongSignature));
    assert_eq!((verify(Some("3"), new), verify(None, new)), (Err(TokenFault::UnknownKey), Err(TokenFault::UnknownKey)));
}

/// A key pair of a kind: the private key for this side, and the file with the public one.
fn pair(directory: &Path, kind: &'static rcgen::SignatureAlgorithm) -> (Vec<u8>, TokenKeyConfig) {
    let made = rcgen::KeyPair::generate_for(kind).unwrap();
    let path = directory.join("public.pem");
    std::fs::write(&path, made.public_key_pem()).unwrap();
    (made.serialize_der(), TokenKeyConfig { id: None, key: TokenKey::Public(path) })
}

#[test]
fn public_keys_of_each_kind_check_what_their_private_ones_sign() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, algorithm) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
        (&rcgen::PKCS_RSA_SHA256, Algorithm::RS256),
    ] {
        let (private, public) = pair(directory.path(), kind);
        let keys = TokenKeys::read(&PlaybackConfig { keys: vec![public], ..config() }).unwrap();
        let claims = json!({"sub": "demo", "exp": 1000});
        let private = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&private),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&private),
            // PKCS #1, which PKCS #8 puts 26 bytes before.
            _ => EncodingKey::from_rsa_der(&private[26..]),
        };
        let token = encode(&Header::new(algorithm), &claims, &private).unwrap();
        assert!(keys.verify(&token).is_ok(), "{algorithm:?}");
        // Who knows the public key must not be able to sign with it as with a secret.
        let pem = std::fs::read_to_string(directory.path().join("public.pem")).unwrap();
        assert_eq!(keys.verify(&signed_as(&Header::default(), &claims, &pem)), Err(TokenFault::WrongSignature));
    }
}

#[test]
fn what_is_no_public_key_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let read = || {
        let key = TokenKeyConfig { id: None, key: TokenKey::Public(path.clone()) };
        TokenKeys::read(&PlaybackConfig { keys: vec![key], ..config() }).map(drop).unwrap_err().to_string()
    };
    assert!(read().starts_with("playback.keys.public_key: cannot read "), "{}", read());
    let other_curve = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for text in ["no key".to_owned(), other_curve.serialize_pem(), other_curve.public_key_pem()] {
        std::fs::write(&path, text).unwrap();
        assert!(read().contains("holds no public key of RSA"), "{}", read());
    }
}

proptest! {
    #[test]
    fn nothing_panics(token in "[A-Za-z0-9_.=-]{0,60}", middle in "\\PC{0,40}") {
        let _ = verify(&token);
        let _ = verify(&middle);
        let token = signed(&json!({"exp": 1}));
        let header = token.split('.').next().unwrap();
        let forged = format!("{header}.{middle}.{middle}");
        prop_assert!(verify(&forged).is_err());
    }
}
