//! Members as processes, each behind a proxy, on ports that survive their restarts.
//!
//! Owns: starting, killing, pausing, replacing. Must not know: why. A newcomer's trap: ports lie
//! below those the kernel hands out, else a client's connection may sit on a dead member's port.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::{clock, rng};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::proxy::{self, Links};
use crate::etcd::Client;
use crate::process::{self, kijabi};

/// Where ports are looked for: below the range for outgoing connections.
const PORTS: (u64, u64) = (12_000, 30_000);
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
const START_LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(50);

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The one under test.
    Kijabi,
    /// Debian's etcd.
    Etcd,
}

#[derive(Debug)]
struct Slot {
    name: String,
    client_port: u16,
    peer_port: u16,
    /// What the others dial.
    advertised: String,
    process: Option<process::Program>,
    paused: bool,
    /// How often it was started.
    lives: u64,
    /// Which data folder it uses: a member that was replaced gets another.
    generation: u64,
    existing: bool,
}

/// A cluster on this machine.
#[derive(Debug)]
pub struct Cluster {
    program: Program,
    folder: TempDir,
    flags: Vec<String>,
    slots: Vec<Slot>,
    links: Arc<Links>,
    /// Members that ended although nobody had ended them.
    crashes: Vec<String>,
}

/// A port that nobody uses and the kernel gives to nobody.
fn quiet_port() -> u16 {
    loop {
        let port = (PORTS.0 + rng::below(PORTS.1 - PORTS.0)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    /// Starts `members` members and waits until all serve.
    pub async fn start(program: Program, members: usize, flags: &[&str]) -> Self {
        let links = Links::new(members);
        let mut slots = Vec::new();
        for at in 0..members {
            let peer_port = quiet_port();
            let proxy = proxy::listen(at, peer_port, Arc::clone(&links)).await.expect("a proxy");
            slots.push(Slot {
                name: format!("m{at}"),
                client_port: quiet_port(),
                peer_port,
                advertised: format!("http://127.0.0.1:{proxy}"),
                process: None,
                paused: false,
                lives: 0,
                generation: 0,
                existing: false,
            });
        }
        let folder = tempfile::tempdir().expect("make a folder");
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut cluster = Self { program, folder, flags, slots, links, crashes: Vec::new() };
        for member in 0..members {
            cluster.launch(member);
        }
        cluster.wait_until_served().await;
        cluster
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// Where clients connect to `member`.
    pub fn endpoint(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.slots[member].client_port)
    }

    /// What the other members dial.
    pub fn peer_url(&self, member: usize) -> String {
        self.slots[member].advertised.clone()
    }

    /// A number that no other life of any member has.
    pub fn session(&self, member: usize) -> u64 {
        (self.slots[member].lives << 8) | member as u64
    }

    /// Where its members keep everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder behind, for whoever looks into a failure.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// Cuts or mends every link of `member`.
    pub fn isolate(&self, member: usize, cut: bool) {
        for other in (0..self.size()).filter(|other| *other != member) {
            self.links.set(member, other, cut);
            self.links.set(other, member, cut);
        }
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Starts a member that does not run.
    pub fn launch(&mut self, member: usize) {
        let everyone: Vec<String> =
            self.slots.iter().map(|slot| format!("{}={}", slot.name, slot.advertised)).collect();
        let slot = &mut self.slots[member];
        if slot.process.as_mut().is_some_and(process::Program::runs) {
            return;
        }
        self.note_crash(member);
        let slot = &mut self.slots[member];
        let mut command = match self.program {
            Program::Kijabi => {
                let mut command = Command::new(kijabi());
                command.arg("store");
                command
            }
            Program::Etcd => Command::new("etcd"),
        };
        let client = format!("http://127.0.0.1:{}", slot.client_port);
        let peer = format!("http://127.0.0.1:{}", slot.peer_port);
        command
            .args(["--name", &slot.name, "--data-dir"])
            .arg(self.folder.path().join(format!("{}-{}", slot.name, slot.generation)))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &slot.advertised])
            .args(["--initial-cluster", &everyone.join(",")])
            .args(["--initial-cluster-state", if slot.existing { "existing" } else { "new" }])
            .args(&self.flags);
        slot.lives += 1;
        slot.paused = false;
        let log = self.folder.path().join(format!("{}.log", slot.name));
        let started = process::Program::start(&mut command, &log);
        self.links.set_pid(member, started.pid());
        slot.process = Some(started);
    }

    /// Ends a member as a crash would.
    pub fn kill(&mut self, member: usize) {
        self.note_crash(member);
        self.slots[member].process = None;
    }

    /// What members printed that ended although nobody had ended them.
    pub fn crashes(&self) -> &[String] {
        &self.crashes
    }

    fn note_crash(&mut self, member: usize) {
        if self.slots[member].process.as_mut().is_some_and(|process| !process.runs()) {
            let text = format!("member {member} has ended: {}", self.output(member));
            self.crashes.push(text);
        }
    }

    /// Stops a member where it is, or lets it go on.
    pub fn pause(&mut self, member: usize, pause: bool) {
        let slot = &mut self.slots[member];
        if let Some(process) = &slot.process
            && slot.paused != pause
        {
            process.signal(if pause { "STOP" } else { "CONT" });
            slot.paused = pause;
        }
    }

    /// Forgets a member's data: the next start is a new member of the existing cluster.
    pub fn wipe(&mut self, member: usize) {
        let slot = &mut self.slots[member];
        // A member that was removed may have ended by itself: it should.
        slot.process = None;
        // It may never have written anything.
        let _ = fs::remove_dir_all(
            self.folder.path().join(format!("{}-{}", slot.name, slot.generation)),
        );
        slot.generation += 1;
        slot.existing = true;
    }

    /// A connection to `member`, `None` if nobody listens.
    pub async fn connect(&self, member: usize) -> Option<Client> {
        connect(&self.endpoint(member)).await
    }

    /// Waits until a linearizable read succeeds at each member.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn wait_until_served(&self) {
        let deadline = clock::now() + START_LIMIT;
        for member in 0..self.size() {
            while !self.serves(member).await {
                let log = || self.output(member);
                assert!(clock::now() < deadline, "member {member} does not serve: {}", log());
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }

    /// Whether a linearizable read succeeds at `member`.
    pub async fn serves(&self, member: usize) -> bool {
        let Some(client) = self.connect(member).await else { return false };
        let read = kijabi_proto::etcdserverpb::RangeRequest {
            key: bytes::Bytes::from_static(b"health"),
            ..Default::default()
        };
        let mut kv = client.kv();
        matches!(tokio::time::timeout(CONNECT_LIMIT * 4, kv.range(read)).await, Ok(Ok(_)))
    }

    /// The end of what a member has printed.
    pub fn output(&self, member: usize) -> String {
        const SHOWN: usize = 3000;
        let log = self.folder.path().join(format!("{}.log", self.slots[member].name));
        let text = fs::read_to_string(log).unwrap_or_default();
        let skip = text.chars().count().saturating_sub(SHOWN);
        text.chars().skip(skip).collect()
    }

    /// Which member leads, as far as anybody knows.
    pub async fn leader(&self) -> Option<usize> {
        for member in 0..self.size() {
            let Some(status) = self.status(member).await else { continue };
            let own = status.header.map_or(0, |header| header.member_id);
            if status.leader != 0 && status.leader == own {
                return Some(member);
            }
        }
        None
    }

    /// A member's status.
    pub async fn status(
        &self,
        member: usize,
    ) -> Option<kijabi_proto::etcdserverpb::StatusResponse> {
        let client = self.connect(member).await?;
        let mut maintenance = client.maintenance();
        let ask = maintenance.status(kijabi_proto::etcdserverpb::StatusRequest {});
        Some(tokio::time::timeout(CONNECT_LIMIT, ask).await.ok()?.ok()?.into_inner())
    }
}

/// A connection of its own to `endpoint`, `None` if nobody listens.
pub(super) async fn connect(endpoint: &str) -> Option<Client> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).ok()?.connect_timeout(CONNECT_LIMIT);
    let channel: Channel = endpoint.connect().await.ok()?;
    Some(Client::new(channel))
}
