//! Certificates of the tests' own.

use std::path::Path;

/// Writes a self-signed certificate for `localhost` (`chain.pem`) and its key (`key.pem`); gives the certificate.
pub(crate) fn make(directory: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

/// Settings that let the origin speak TLS with it.
pub(crate) fn origin_settings(directory: &Path) -> String {
    let path = directory.display();
    format!("[origin_tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{path}/chain.pem\"\nkey = \"{path}/key.pem\"\n")
}
