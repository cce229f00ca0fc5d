//! The origin over TLS, with the real binary: HTTP/2 by ALPN, and a certificate that is exchanged under open connections.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::PATIENCE;
use crate::support::certificate;
use crate::support::server::Builder;

/// A connection that speaks HTTP/2 above TLS, of a client that trusts `certificate` alone.
async fn connect(
    address: SocketAddr,
    certificate: &str,
    driver: &mut JoinSet<()>,
) -> std::io::Result<SendRequest<Empty<Bytes>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
    driver.spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn status(sender: &mut SendRequest<Empty<Bytes>>) -> u16 {
    let request = Request::get("https://localhost/healthz").body(Empty::new()).unwrap();
    sender.send_request(request).await.unwrap().status().as_u16()
}

#[test]
fn http_2_over_tls_goes_on_while_the_certificate_is_exchanged() {
    let directory = tempfile::tempdir().unwrap();
    let old = certificate::make(directory.path());
    let server = Builder::new().settings(&certificate::origin_settings(directory.path())).start();
    let address = server.origin_tls.as_deref().unwrap().trim_start_matches("https://").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut driver = JoinSet::new();
        let mut first = connect(address, &old, &mut driver).await.unwrap();
        assert_eq!(status(&mut first).await, 200);

        let new = certificate::make(directory.path());
        server.signal("-HUP");
        server.wait_for_log("the certificate of [origin_tls] was exchanged for the new one", PATIENCE);
        assert_eq!(status(&mut first).await, 200, "the connection stays");
        let mut second = connect(address, &new, &mut driver).await.unwrap();
        assert_eq!(status(&mut second).await, 200);
        assert!(connect(address, &old, &mut driver).await.is_err(), "the old certificate is offered no more");
    });
    assert_eq!(
        crate::support::http::get(&format!("{}/healthz", server.origin)).unwrap().status,
        200,
        "without TLS too"
    );
}
