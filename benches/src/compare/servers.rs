//! The servers of a comparison: processes on free ports, with data of their own.
//!
//! Owns: starting, killing and stopping them. Must not know: the loads. A newcomer's trap: both
//! programs get the same flags, etcd's; a cluster is ready when a linearizable read succeeds.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use kijabi_base::clock;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;

use super::Storage;

/// How long a cluster may take to serve.
const READY: Duration = Duration::from_secs(120);
/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_millis(2);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(30);
/// Larger than the default, so that the largest key spaces fit.
const QUOTA_BYTES: u64 = 8 << 30;

/// A program that speaks etcd's protocol and takes its flags.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    path: PathBuf,
    first: &'static [&'static str],
}

impl Program {
    pub(super) fn etcd(path: PathBuf) -> Self {
        Self { name: "etcd", path, first: &[] }
    }

    pub(super) fn kijabi(path: PathBuf) -> Self {
        Self { name: "kijabi", path, first: &["store"] }
    }
}

/// A running cluster.
pub(super) struct Cluster {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    command: Vec<String>,
    path: PathBuf,
    client_url: String,
    child: Child,
}

impl Cluster {
    pub(super) async fn start(
        program: &Program,
        storage: Storage,
        members: usize,
        out: &Path,
    ) -> anyhow::Result<Self> {
        let folder = match storage {
            Storage::Tmpfs => TempDir::with_prefix_in("kijabi-bench-", "/dev/shm"),
            Storage::Disk => TempDir::with_prefix_in("data-", out),
        };
        let folder = folder.context("a folder for the data")?;
        let urls = free_urls(2 * members)?;
        let (client_urls, peer_urls) = urls.split_at(members);
        let initial: Vec<String> =
            peer_urls.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
        let mut running = Vec::new();
        for number in 0..members {
            let mut command: Vec<String> =
                program.first.iter().map(|arg| (*arg).to_owned()).collect();
            command.extend([
                format!("--name=m{number}"),
                format!("--data-dir={}", folder.path().join(format!("m{number}")).display()),
                format!("--listen-client-urls={}", client_urls[number]),
                format!("--advertise-client-urls={}", client_urls[number]),
                format!("--listen-peer-urls={}", peer_urls[number]),
                format!("--initial-advertise-peer-urls={}", peer_urls[number]),
                format!("--initial-cluster={}", initial.join(",")),
                format!("--quota-backend-bytes={QUOTA_BYTES}"),
                "--log-level=error".to_owned(),
            ]);
            let child = spawn(&program.path, &command)?;
            let client_url = client_urls[number].clone();
            running.push(Member { command, path: program.path.clone(), client_url, child });
        }
        let cluster = Self { members: running, _folder: folder };
        cluster.ready().await?;
        Ok(cluster)
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_url.clone()).collect()
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.id()).collect()
    }

    /// Kills the first member as a power cut would end it for the program, starts it again, and
    /// returns the seconds until it answers a linearizable read.
    pub(super) async fn kill_and_recover(&mut self) -> anyhow::Result<f64> {
        let member = &mut self.members[0];
        member.child.kill().await.context("cannot kill a member")?;
        let started = clock::now();
        member.child = spawn(&member.path, &member.command)?;
        let url = member.client_url.clone();
        until_ready(&url).await?;
        Ok(started.elapsed().as_secs_f64())
    }

    async fn ready(&self) -> anyhow::Result<()> {
        for member in &self.members {
            until_ready(&member.client_url).await?;
        }
        Ok(())
    }

    /// Ends all members; their data goes with them.
    pub(super) async fn stop(mut self) {
        for member in &mut self.members {
            // Killed: nothing of it is needed any more.
            let _ = member.child.start_kill();
        }
        for member in &mut self.members {
            let _ = tokio::time::timeout(STOP, member.child.wait()).await;
        }
    }
}

fn spawn(path: &Path, command: &[String]) -> anyhow::Result<Child> {
    Command::new(path)
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", path.display()))
}

/// URLs whose ports were free a moment ago.
fn free_urls(count: usize) -> anyhow::Result<Vec<String>> {
    let listeners: Result<Vec<_>, _> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let listeners = listeners.context("free ports")?;
    let addresses: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    Ok(addresses?.iter().map(|address| format!("http://{address}")).collect())
}

async fn until_ready(url: &str) -> anyhow::Result<()> {
    let asking = async {
        loop {
            let endpoint = Endpoint::from_shared(url.to_owned())?;
            if let Ok(channel) = endpoint.connect().await {
                let read = pb::RangeRequest { key: b"ready"[..].into(), ..Default::default() };
                if KvClient::new(channel).range(read).await.is_ok() {
                    return Ok::<_, anyhow::Error>(());
                }
            }
            tokio::time::sleep(ASK).await;
        }
    };
    tokio::time::timeout(READY, asking).await.with_context(|| format!("{url} does not serve"))?
}
