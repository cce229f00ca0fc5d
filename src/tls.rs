//! Ports that speak TLS: the certificate, and its exchange for a newer one while connections stay open.
//!
//! A connection keeps the certificate that it began with; a new one is offered to those that come after. What is spoken
//! beneath, and on which port, is the caller's.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};
use tracing::{error, info, warn};

use crate::config::TlsConfig;
use crate::hangup::Hangup;

pub use tokio_rustls::server::TlsStream;

/// What is wrong with a port's files. Each names the key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{section}.{key}: cannot read {}: {error}", path.display())]
    Unreadable {
        /// The port's section of the config.
        section: &'static str,
        /// The key that names it.
        key: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// There is no certificate in the file.
    #[error("{section}.certificate: {} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", path.display())]
    NoCertificate {
        /// The port's section of the config.
        section: &'static str,
        /// The certificate's file.
        path: PathBuf,
    },
    /// There is no key in the file.
    #[error("{section}.key: {} holds no private key in PEM form without a password (-----BEGIN PRIVATE KEY-----)", path.display())]
    NoKey {
        /// The port's section of the config.
        section: &'static str,
        /// The key's file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("{section}.key: {} is not the key of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The port's section of the config.
        section: &'static str,
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// TLS cannot be spoken with them.
    #[error("{section}.certificate: {} cannot be used: {error}", path.display())]
    Unusable {
        /// The port's section of the config.
        section: &'static str,
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// How a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What came is no TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The two sides did not agree.
    #[error(transparent)]
    Refused(rustls::Error),
    /// The peer left.
    #[error("it left before the handshake was done")]
    Left,
    /// The connection was lost.
    #[error(transparent)]
    Lost(io::Error),
}

/// A port that speaks TLS, bound by the caller.
#[derive(Debug)]
pub struct TlsPort {
    listener: TcpListener,
    config: TlsConfig,
    first: Certificate,
    /// What is offered to who connects now.
    offered: watch::Sender<Arc<ServerConfig>>,
    /// ALPN, the best first.
    protocols: &'static [&'static [u8]],
}

/// A connection's TLS: what was offered when it was accepted.
#[derive(Clone, Debug)]
pub struct Offer(Arc<ServerConfig>);

impl TlsPort {
    /// A port with the certificate that it begins with, which speaks `protocols` (RFC 7301) above TLS.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        config: TlsConfig,
        first: Certificate,
        protocols: &'static [&'static [u8]],
    ) -> Self {
        let (offered, _) = watch::channel(first.speaking(protocols));
        Self { listener, config, first, offered, protocols }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// The listener's.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Offer)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((stream, peer, Offer(Arc::clone(&self.offered.borrow()))))
    }

    /// Keeps what is offered to new connections the same as what is in the files. Never ends.
    pub async fn follow(&self) {
        let section = self.config.section;
        warn_of(&self.first);
        let mut renewal = Renewal { used: self.first.fingerprint, doubted: None, told: None };
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = Hangup::listen();
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => false,
                () = hangup.heard() => true,
            };
            let certificate = readable(
                section,
                "certificate",
                &self.config.certificate,
                tokio::fs::read(&self.config.certificate).await,
            );
            let key = readable(section, "key", &self.config.key, tokio::fs::read(&self.config.key).await);
            let files = certificate.and_then(|certificate| Ok((certificate, key?)));
            match renewal.look(&self.config, files, asked) {
                Some(Ok(certificate)) => {
                    info!("the certificate of [{section}] was exchanged for the new one");
                    self.offered.send_replace(certificate.speaking(self.protocols));
                    warn_of(&certificate);
                }
                Some(Err(problem)) => {
                    error!("the new certificate of [{section}] is not used, the old one stays: {problem}");
                }
                None => {}
            }
        }
    }
}

impl Offer {
    /// Shakes hands. It is for the caller to bound its time.
    ///
    /// # Errors
    /// [`HandshakeError`]: the connection is of no use.
    pub async fn shake_hands<S>(self, stream: S) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0).accept(stream).await.map_err(handshake_error)
    }
}

fn handshake_error(error: io::Error) -> HandshakeError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => HandshakeError::NotTls,
        Some(error) => HandshakeError::Refused(error.clone()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => HandshakeError::Left,
        None => HandshakeError::Lost(error),
    }
}

/// A certificate and its key, ready for use.
#[derive(Clone, Debug)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// Of the config, for whom it is.
    section: &'static str,
    /// From when until when, in seconds of Unix time.
    valid: Option<(i64, i64)>,
    fingerprint: Fingerprint,
}

/// Tells contents of files apart, without keeping a key in memory twice.
type Fingerprint = [u8; 32];

impl Certificate {
    /// Reads the files. They are small: it blocks for moments only.
    ///
    /// # Errors
    /// [`CertificateError`], for the operator.
    pub fn read(config: &TlsConfig) -> Result<Self, CertificateError> {
        let certificate =
            readable(config.section, "certificate", &config.certificate, std::fs::read(&config.certificate))?;
        let key = readable(config.section, "key", &config.key, std::fs::read(&config.key))?;
        Self::from_pem(config, &certificate, &key)
    }

    fn from_pem(config: &TlsConfig, certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let fingerprint = fingerprint(certificate, key);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let section = config.section;
        let no_certificate = || CertificateError::NoCertificate { section, path: config.certificate.clone() };
        let chain = chain.ok_or_else(no_certificate)?;
        let no_key = |_| CertificateError::NoKey { section, path: config.key.clone() };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(no_key)?;
        let valid = chain.first().and_then(validity);
        let config = server_config(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateError::Mismatch { section, key: config.key.clone(), certificate: config.certificate.clone() }
            }
            error => CertificateError::Unusable { section, path: config.certificate.clone(), error },
        })?;
        Ok(Self { config: Arc::new(config), section, valid, fingerprint })
    }

    /// What an operator should know though it can be used: clients will refuse it, or soon.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok())?;
        let (from, until) = self.valid?;
        let problem = match until.saturating_sub(now) {
            _ if now < from => "is not valid yet; clients that check certificates will refuse it".to_owned(),
            left if left <= 0 => "has expired; clients that check certificates will refuse it".to_owned(),
            left if left < EXPIRY_NEAR_SECS => format!("expires in {} days; renew it", left / 86_400),
            _ => return None,
        };
        Some(format!("{}.certificate: {problem}", self.section))
    }

    /// What TLS offers with it, where `protocols` are spoken above.
    fn speaking(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

fn readable<T>(
    section: &'static str,
    key: &'static str,
    path: &Path,
    read: io::Result<T>,
) -> Result<T, CertificateError> {
    read.map_err(|error| CertificateError::Unreadable { section, key, path: path.to_owned(), error: error.to_string() })
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // Named, because the process' default would depend on what other crates are built with.
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn fingerprint(certificate: &[u8], key: &[u8]) -> Fingerprint {
    Sha256::new().chain_update(Sha256::digest(certificate)).chain_update(Sha256::digest(key)).finalize().into()
}

/// Logs what there is to say of a certificate that is used.
#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn warn_of(certificate: &Certificate) {
    if let Some(warning) = certificate.warning(SystemTime::now()) {
        warn!("{warning}");
    }
}

/// What became of the files since they were last used. Pure.
struct Renewal {
    used: Fingerprint,
    /// A fault seen once: whoever writes two files is not done after the first.
    doubted: Option<CertificateError>,
    told: Option<CertificateError>,
}

impl Renewal {
    /// Takes in what the files are now; tells of a new certificate, and of a fault once, when it lasts. Where somebody `asked`
    /// for it, a fault is told at once.
    fn look(
        &mut self,
        config: &TlsConfig,
        files: Result<(Vec<u8>, Vec<u8>), CertificateError>,
        asked: bool,
    ) -> Option<Result<Certificate, CertificateError>> {
        let read = files.and_then(|(certificate, key)| match fingerprint(&certificate, &key) == self.used {
            true => Ok(None),
            false => Certificate::from_pem(config, &certificate, &key).map(Some),
        });
        match read {
            Ok(new) => {
                (self.doubted, self.told) = (None, None);
                self.used = new.as_ref().map_or(self.used, |certificate| certificate.fingerprint);
                new.map(Ok)
            }
            Err(problem) if asked || self.doubted.as_ref() == Some(&problem) => {
                let again = !asked && self.told.as_ref() == Some(&problem);
                self.told = Some(problem.clone());
                (!again).then_some(Err(problem))
            }
            Err(problem) => {
                self.doubted = Some(problem);
                None
            }
        }
    }
}

/// How soon a new certificate is seen.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Certificates that renew themselves do so earlier.
const EXPIRY_NEAR_SECS: i64 = 7 * 86_400;

#[cfg(test)]
pub(crate) mod tests {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    /// A client's end of a TLS connection.
    pub(crate) type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

    /// Shakes hands as a client that trusts `certificate` (PEM) alone, and offers `protocols` by ALPN.
    pub(crate) async fn connect(stream: TcpStream, certificate: &str, protocols: &[&[u8]]) -> io::Result<ClientStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// What both sides chose by ALPN.
    pub(crate) fn chosen(stream: &ClientStream) -> Option<&[u8]> {
        stream.get_ref().1.alpn_protocol()
    }

    /// A port of this machine with a certificate of its own, and that certificate.
    pub(crate) async fn port(protocols: &'static [&'static [u8]]) -> (TlsPort, String) {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = self_signed();
        let (path, key_path) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
        std::fs::write(&path, &certificate).unwrap();
        std::fs::write(&key_path, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let config = TlsConfig { section: "test_tls", listen, certificate: path, key: key_path };
        let first = Certificate::read(&config).unwrap();
        (TlsPort::new(listener, config, first, protocols), certificate)
    }

    /// A self-signed certificate for `localhost` and its key, PEM.
    pub(crate) fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn config() -> TlsConfig {
        TlsConfig {
            section: "rtmps",
            listen: ([127, 0, 0, 1], 0).into(),
            certificate: "/none/chain.pem".into(),
            key: "/none/key.pem".into(),
        }
    }

    fn files((certificate, key): (&str, &str)) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
        Ok((certificate.into(), key.into()))
    }

    fn problem(certificate: &str, key: &str) -> String {
        Certificate::from_pem(&config(), certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_the_files_is_named() {
        let ((certificate, key), (_, other_key)) = (self_signed(), self_signed());
        assert!(Certificate::from_pem(&config(), certificate.as_bytes(), key.as_bytes()).is_ok());
        let missing = Certificate::read(&config()).unwrap_err().to_string();
        assert!(missing.starts_with("rtmps.certificate: cannot read /none/chain.pem: No such file"), "{missing}");
        assert!(problem("not PEM", &key).starts_with("rtmps.certificate: /none/chain.pem holds no certificate"));
        assert!(problem(&key, &key).contains("holds no certificate"));
        assert!(problem(&certificate, &certificate).starts_with("rtmps.key: /none/key.pem holds no private key"));
        assert_eq!(
            problem(&certificate, &other_key),
            "rtmps.key: /none/key.pem is not the key of the certificate in /none/chain.pem"
        );
    }

    #[test]
    fn expiry_is_a_warning() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let certificate = Certificate::from_pem(&config(), pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let warning = |day: u64| certificate.warning(UNIX_EPOCH + Duration::from_secs((20_453 + day) * 86_400));
        assert!(warning(0).unwrap().contains("not valid yet"));
        assert_eq!(warning(1), None);
        assert!(warning(28).unwrap().contains("expires in 4 days"));
        assert!(warning(32).unwrap().contains("has expired"));
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_broken_one_told_of_once() {
        let (old, new) = (self_signed(), self_signed());
        let (old, new) = ((old.0.as_str(), old.1.as_str()), (new.0.as_str(), new.1.as_str()));
        let first = Certificate::from_pem(&config(), old.0.as_bytes(), old.1.as_bytes()).unwrap();
        let mut renewal = Renewal { used: first.fingerprint, doubted: None, told: None };
        let mut look = |files, asked| renewal.look(&config(), files, asked);
        assert!(look(files(old), false).is_none(), "the same");
        let half = (new.0, old.1);
        assert!(look(files(half), false).is_none(), "it may be being written");
        assert!(look(files(new), false).is_some_and(|result| result.is_ok()));
        assert!(look(files(new), false).is_none());

        assert!(look(files(half), false).is_none() && look(files(old), false).is_some_and(|result| result.is_ok()));
        assert!(look(files(half), false).is_none());
        assert!(look(files(half), false).is_some_and(|result| result.is_err()), "it stays broken");
        assert!((0..10).all(|_| look(files(half), false).is_none()), "told once");
        assert!(look(files(half), true).is_some_and(|result| result.is_err()), "who asks is told again");
        assert!(look(files(new), true).is_some_and(|result| result.is_ok()));
    }
}
