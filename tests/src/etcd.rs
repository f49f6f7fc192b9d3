//! Members that speak the etcd API, ours and Debian's, and plain gRPC clients for them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::cluster_client::ClusterClient;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::lease_client::LeaseClient;
use kijabi_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use kijabi_proto::etcdserverpb::watch_client::WatchClient;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::poll;
use crate::process::{Program, kijabi, succeed};

/// How long a member may take to serve.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take before a test gives up on it.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Largest answer a client takes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A member that runs alone in a folder of its own until it is dropped.
#[derive(Debug)]
pub struct Member {
    program: Program,
    folder: TempDir,
    port: u16,
}

/// Whose etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The one under test.
    Ours,
    /// Debian's package `etcd-server`; another etcd if `KIJABI_TEST_ETCD` names its program.
    Debians,
}

/// The environment variable with the path of an etcd to compare with instead of Debian's.
const OTHER_ETCD: &str = "KIJABI_TEST_ETCD";

impl Member {
    /// Starts a member with an empty store and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[])
    }

    /// Like [`Member::start`], with further flags.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn start_with(kind: Kind, flags: &[&str]) -> Self {
        Self::start_in(kind, tempfile::tempdir().expect("make a folder"), flags)
    }

    /// Like [`Member::start_with`], in a folder that may hold data of an earlier member, below
    /// `data`.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn start_in(kind: Kind, folder: TempDir, flags: &[&str]) -> Self {
        let (port, peer_port) = (free_port(), free_port());
        let program = launch(kind, folder.path(), port, peer_port, flags);
        poll::eventually("the member serves", START_LIMIT, || {
            let output = program.output();
            let ready = output.contains("ready to serve client requests");
            if ready { Ok(()) } else { Err(output) }
        });
        Self { program, folder, port }
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL and gives its folder away.
    pub fn kill(self) -> TempDir {
        let Self { mut program, folder, .. } = self;
        program.kill();
        folder
    }

    /// The running program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// The folder it keeps everything in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of it.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&self) -> Client {
        let endpoint = Channel::from_shared(self.endpoint()).expect("an endpoint");
        Client(endpoint.connect().await.expect("connect to the member"))
    }
}

fn launch(kind: Kind, folder: &Path, port: u16, peer_port: u16, flags: &[&str]) -> Program {
    let mut command = match kind {
        Kind::Ours => {
            let mut command = Command::new(kijabi());
            command.arg("store");
            command
        }
        Kind::Debians => other_etcd().map_or_else(debians, Command::new),
    };
    let (client, peer) =
        (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    command
        .args(["--name", "m1", "--data-dir"])
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("m1={peer}")])
        .args(flags);
    // A log of its own for each start in a folder.
    Program::start(&mut command, &folder.join(format!("log-{port}")))
}

/// The etcd to compare with instead of Debian's, if there is one: one of 3.6, then.
pub fn other_etcd() -> Option<PathBuf> {
    std::env::var_os(OTHER_ETCD).map(PathBuf::from)
}

fn debians() -> Command {
    let version = succeed(Command::new("etcd").arg("--version"));
    assert!(version.starts_with("etcd Version: 3.4"), "not Debian's etcd: {version}");
    Command::new("etcd")
}

/// A port that was free a moment ago: etcd takes no port 0.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a port");
    listener.local_addr().expect("the port's number").port()
}

/// An open watch stream.
#[derive(Debug)]
pub struct WatchStream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl WatchStream {
    /// Sends a request.
    ///
    /// # Panics
    /// If the stream has ended.
    pub async fn send(&self, request: pb::WatchRequest) {
        self.requests.send(request).await.expect("the stream is open");
    }

    /// Sends a request unless the stream has ended.
    pub async fn offer(&self, request: pb::WatchRequest) -> bool {
        self.requests.send(request).await.is_ok()
    }

    /// The next response.
    pub async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        let next = tokio::time::timeout(ANSWER_LIMIT, self.responses.message());
        match next.await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err(Status::aborted("the stream ended")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::aborted(format!("no response within {ANSWER_LIMIT:?}"))),
        }
    }
}

/// gRPC clients of one member.
#[derive(Clone, Debug)]
pub struct Client(Channel);

impl Client {
    /// Clients that share `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// The connection itself.
    pub fn channel(&self) -> Channel {
        self.0.clone()
    }

    /// The KV service.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.0.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The Cluster service.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.0.clone())
    }

    /// The Maintenance service.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.0.clone())
    }

    /// The Lease service.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.0.clone())
    }

    /// Opens a watch stream with its first requests: etcd answers nothing, not even that the stream
    /// is open, before it has something to say.
    pub async fn watch(&self, first: &[pb::WatchRequest]) -> Result<WatchStream, Status> {
        let (requests, receiver) = mpsc::channel(64);
        for request in first {
            requests.send(request.clone()).await.expect("the receiver is here");
        }
        let client = WatchClient::new(self.0.clone());
        let mut client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
        let opening = client.watch(ReceiverStream::new(receiver));
        match tokio::time::timeout(ANSWER_LIMIT, opening).await {
            Ok(response) => Ok(WatchStream { requests, responses: response?.into_inner() }),
            Err(_) => Err(Status::aborted("the stream did not open")),
        }
    }

    /// Sends one keep-alive and returns its answer.
    pub async fn keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let request = pb::LeaseKeepAliveRequest { id };
        let requests = futures::stream::iter([request]);
        let mut responses = self.lease().lease_keep_alive(requests).await?.into_inner();
        let answer = responses.message().await?;
        answer.ok_or_else(|| Status::aborted("the stream ended"))
    }
}
