//! The servers of a comparison: processes on free ports, with data of their own.
//!
//! Owns: starting, killing and stopping them. Must not know: the loads. A newcomer's trap: both
//! programs get the same flags, etcd's; a cluster is ready when a linearizable read succeeds.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kijabi_base::clock;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Compare, Storage};
use crate::load::probe::Probe;

/// How long a cluster may take to serve.
const READY: Duration = Duration::from_secs(120);
/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_millis(2);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(30);
/// Larger than the default, so that the largest key spaces fit; the largest store is added.
const QUOTA_BYTES: u64 = 16 << 30;
/// How often a new write is tried while there may be no leader, and how many may wait.
const TRY: Duration = Duration::from_millis(5);
const TRIES_WAITING: usize = 400;

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

    /// The whole program, or the store alone (the example `member` of `kijabi-server`).
    pub(super) fn kijabi(path: PathBuf) -> Self {
        let alone = path.file_name().is_some_and(|name| name == "member");
        Self { name: "kijabi", path, first: if alone { &[] } else { &["store"] } }
    }

    /// The first line of what it says of its version.
    pub(super) fn version(&self) -> String {
        let output = std::process::Command::new(&self.path).arg("--version").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
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
        args: &Compare,
    ) -> anyhow::Result<Self> {
        let folder = match storage {
            Storage::Tmpfs => TempDir::with_prefix_in("kijabi-bench-", "/dev/shm"),
            Storage::Disk => TempDir::with_prefix_in("data-", &args.out),
        };
        let folder = folder.context("a folder for the data")?;
        let urls = free_urls(2 * members)?;
        let (client_urls, peer_urls) = urls.split_at(members);
        let initial: Vec<String> =
            peer_urls.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
        let quota = QUOTA_BYTES + (args.store_gib << 31);
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
                format!("--quota-backend-bytes={quota}"),
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

    /// Kills the leader, returns the seconds until another member has acknowledged a write, and
    /// starts it again.
    pub(super) async fn lose_leader(&mut self) -> anyhow::Result<f64> {
        let leader = self.leader().await?;
        let rest: Vec<String> = (0..self.members.len())
            .filter(|at| *at != leader)
            .map(|at| self.members[at].client_url.clone())
            .collect();
        let (members, probe) = (rest.len(), Probe::new(rest)?);
        self.members[leader].child.kill().await.context("cannot kill the leader")?;
        let started = clock::now();
        let mut writes = FuturesUnordered::new();
        let mut turn = 0;
        let seconds = loop {
            anyhow::ensure!(started.elapsed() < READY, "no write succeeds without the leader");
            if writes.len() < TRIES_WAITING {
                let (probe, member) = (probe.clone(), turn % members);
                writes.push(async move { probe.put(member).await.is_ok() });
                turn += 1;
            }
            tokio::select! {
                Some(true) = writes.next() => break started.elapsed().as_secs_f64(),
                () = tokio::time::sleep(TRY) => {}
            }
        };
        let member = &mut self.members[leader];
        member.child = spawn(&member.path, &member.command)?;
        self.ready().await?;
        Ok(seconds)
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        let probe = Probe::new(self.endpoints())?;
        for member in 0..self.members.len() {
            if probe.leads(member).await? {
                return Ok(member);
            }
        }
        anyhow::bail!("no member leads")
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
    let probe = Probe::new(vec![url.to_owned()])?;
    let asking = async {
        while probe.read(0).await.is_err() {
            tokio::time::sleep(ASK).await;
        }
    };
    tokio::time::timeout(READY, asking).await.with_context(|| format!("{url} does not serve"))
}
