//! Really running S3 servers on loopback: one in this process, and where `GARAGE` names its program those of [`super::garage`].

use std::net::SocketAddr;

use headwater::config::S3Config;
use headwater::store::Credentials;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::garage::Node;

/// The bucket that the servers have.
pub(crate) const BUCKET: &str = "live";

/// A running S3 server with one bucket; stopped when dropped.
#[derive(Debug)]
pub(crate) struct S3Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its region.
    pub(crate) region: &'static str,
    /// The key that it accepts.
    pub(crate) credentials: Credentials,
    /// Where it keeps its data. The in-process server keeps an object as the file `BUCKET/KEY`.
    pub(crate) directory: TempDir,
    pub(crate) running: Running,
}

/// What serves; it is gone when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what happens when it is dropped")]
pub(crate) enum Running {
    No,
    InProcess(JoinSet<()>),
    Garage(Node),
}

impl S3Server {
    /// Starts `s3s-fs` in this process. It checks signatures; anybody may read.
    pub(crate) async fn start() -> Self {
        Self::start_without("").await
    }

    /// The same, but it does not know one operation, such as `DeleteObjects`.
    pub(crate) async fn start_without(operation: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let credentials =
            Credentials { access_key_id: "AKTEST".to_owned(), secret_access_key: "test-secret".to_owned() };
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(
            credentials.access_key_id.clone(),
            credentials.secret_access_key.clone(),
        ));
        builder.set_access(PublicBucket { without: operation });
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, service));
        Self { address, region: "us-east-1", credentials, directory, running: Running::InProcess(tasks) }
    }

    /// The configuration of a store in its bucket.
    pub(crate) fn config(&self) -> S3Config {
        S3Config {
            bucket: BUCKET.to_owned(),
            prefix: String::new(),
            region: Some(self.region.to_owned()),
            endpoint: Some(format!("http://{}", self.address)),
            path_style: true,
        }
    }
}

/// Has the one bucket, which `s3s-fs` would otherwise make when written to, and lets everybody read from it, as players
/// do through a CDN.
struct PublicBucket {
    /// The operation that it does not know.
    without: &'static str,
}

#[async_trait::async_trait]
impl S3Access for PublicBucket {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        if request.s3_path().get_bucket_name() != Some(BUCKET) {
            return Err(s3_error!(NoSuchBucket));
        }
        if request.s3_op().name() == self.without {
            return Err(s3_error!(NotImplemented));
        }
        match (request.credentials(), request.s3_op().name()) {
            (Some(_), _) | (None, "GetObject" | "HeadObject") => Ok(()),
            (None, _) => Err(s3_error!(AccessDenied)),
        }
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.unwrap();
                let service = service.clone();
                connections.spawn(async move {
                    // A client that goes away is no failure of the server.
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(ended) = connections.join_next() => ended.unwrap(),
        }
    }
}
