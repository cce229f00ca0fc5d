//! Garage, by the program that `GARAGE` names: a single node, or a cluster that outlives one of its nodes.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use headwater::store::{Credentials, S3Store, Store as _};
use serde_json::{Value, json};

use super::s3::{BUCKET, Running, S3Server};

/// The process of a node; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl S3Server {
    /// Starts a single node of Garage.
    pub(crate) async fn start_garage() -> Self {
        let mut server = configured(1);
        let Credentials { access_key_id, secret_access_key } = &server.credentials;
        let mut command = garage(&server);
        command
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", access_key_id)
            .env("GARAGE_DEFAULT_SECRET_KEY", secret_access_key)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET);
        server.running = run(&mut command);
        until("a node that serves the bucket", async || serves(&server).await).await;
        server
    }
}

/// Three nodes in three zones, each a server of the one bucket with a copy of all that is in it. What two of them have is
/// written, and what two of them say is read.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: [S3Server; 3],
    /// What the nodes call each other: `ID@ADDRESS`.
    names: Vec<String>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let mut nodes = [(); 3].map(|()| configured(3));
        let mut names = Vec::new();
        for node in &mut nodes {
            node.running = run(garage(node).arg("server"));
            until("a node that answers", async || ask(node, "GetClusterHealth", &Value::Null)).await;
            names.push(said(garage(node).args(["node", "id", "--quiet"])).unwrap().trim().to_owned());
        }
        let cluster = Self { nodes, names };
        cluster.join();
        cluster.becomes("healthy").await;
        cluster.make_bucket();
        for node in &cluster.nodes {
            until("a node that serves the bucket", async || serves(node).await).await;
        }
        cluster
    }

    /// Kills a node, and waits until the others have seen it.
    pub(crate) async fn kill(&mut self, node: usize) {
        self.nodes.get_mut(node).unwrap().running = Running::No;
        self.becomes("degraded").await;
    }

    /// Starts a node again that was killed, and waits until all have found each other.
    pub(crate) async fn start_again(&mut self, node: usize) {
        let node = self.nodes.get_mut(node).unwrap();
        node.running = run(garage(node).arg("server"));
        until("a node that answers", async || ask(node, "GetClusterHealth", &Value::Null)).await;
        // By themselves they look for each other every half minute.
        ask(node, "ConnectClusterNodes", &json!(self.names)).unwrap();
        self.becomes("healthy").await;
    }

    /// Makes one cluster of the nodes.
    fn join(&self) {
        self.order("ConnectClusterNodes", &json!(self.names));
        let role = |name: &String| {
            let id = name.split('@').next();
            json!({"id": id, "zone": id, "capacity": 1_u64 << 30, "tags": []})
        };
        self.order("UpdateClusterLayout", &json!({"roles": self.names.iter().map(role).collect::<Vec<_>>()}));
        self.order("ApplyClusterLayout", &json!({"version": 1}));
    }

    fn make_bucket(&self) {
        let Credentials { access_key_id, secret_access_key } = credentials();
        let key = json!({"accessKeyId": access_key_id, "secretAccessKey": secret_access_key, "name": "test"});
        self.order("ImportKey", &key);
        let bucket = self.order("CreateBucket", &json!({"globalAlias": BUCKET}));
        let rights = json!({"read": true, "write": true, "owner": false});
        let grant = json!({"bucketId": bucket.get("id"), "accessKeyId": access_key_id, "permissions": rights});
        self.order("AllowBucketKey", &grant);
    }

    fn order(&self, endpoint: &str, payload: &Value) -> Value {
        let [first, ..] = &self.nodes;
        ask(first, endpoint, payload).unwrap()
    }

    /// Waits until every node that runs says this of the cluster.
    async fn becomes(&self, status: &str) {
        for node in self.nodes.iter().filter(|node| matches!(node.running, Running::Garage(_))) {
            until(status, async || match ask(node, "GetClusterHealth", &Value::Null)? {
                health if health.get("status").is_some_and(|said| said == status) => Ok(()),
                health => Err(health.to_string()),
            })
            .await;
        }
    }
}

/// A node that does not run yet, of a cluster that keeps so many copies.
fn configured(copies: usize) -> S3Server {
    let [address, rpc, admin] = free_addresses();
    let directory = tempfile::tempdir().unwrap();
    let secret = "5a".repeat(32);
    let place = directory.path().display();
    let config = format!(
        r#"
        metadata_dir = "{place}/meta"
        data_dir = "{place}/data"
        db_engine = "lmdb"
        replication_factor = {copies}
        rpc_bind_addr = "{rpc}"
        rpc_public_addr = "{rpc}"
        rpc_secret = "{secret}"
        [s3_api]
        s3_region = "garage"
        api_bind_addr = "{address}"
        [admin]
        api_bind_addr = "{admin}"
        "#
    );
    let server = S3Server { address, region: "garage", credentials: credentials(), directory, running: Running::No };
    std::fs::write(config_file(&server), config).unwrap();
    server
}

fn credentials() -> Credentials {
    Credentials { access_key_id: format!("GK{}", "ab12".repeat(6)), secret_access_key: "0f".repeat(32) }
}

/// Addresses that nobody listens on now.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn config_file(server: &S3Server) -> PathBuf {
    server.directory.path().join("garage.toml")
}

/// The program, as this node or as one who speaks to it.
fn garage(server: &S3Server) -> Command {
    let program = std::env::var_os("GARAGE").expect("GARAGE names a Garage program");
    let mut command = Command::new(program);
    command.arg("-c").arg(config_file(server)).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn run(command: &mut Command) -> Running {
    Running::Garage(Node(command.stdout(Stdio::null()).spawn().unwrap()))
}

/// Asks a node by its API for administrators.
fn ask(server: &S3Server, endpoint: &str, payload: &Value) -> Result<Value, String> {
    let answer = said(garage(server).args(["json-api", endpoint, &payload.to_string()]))?;
    serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

async fn serves(server: &S3Server) -> Result<(), String> {
    let store = S3Store::open(&server.config(), Some(server.credentials.clone())).await.unwrap();
    store.probe().await.map_err(|error| error.to_string())
}

/// A program has no event to wait for but its first good answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut reason = String::new();
    let answer = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => reason = error,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("not {what}: {reason}"),
    }
}

/// For a program on a busy machine: a node that was dead is asked again after half a minute.
const PATIENCE: Duration = Duration::from_secs(60);
