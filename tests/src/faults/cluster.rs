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

impl Slot {
    /// Its data folder's name.
    fn data(&self) -> String {
        format!("{}-{}", self.name, self.generation)
    }

    /// What it always runs with.
    fn flags(&self, data: &Path) -> [String; 4] {
        let client = format!("http://127.0.0.1:{}", self.client_port);
        [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{}", self.peer_port),
        ]
    }
}

impl Cluster {
    /// Starts `members` members and waits until all serve.
    pub async fn start(program: Program, members: usize, flags: &[&str]) -> Self {
        let links = Links::new(members);
        let mut slots = Vec::new();
        for at in 0..members {
            let (peer_port, proxy) = (quiet_port(), quiet_port());
            let listening = proxy::listen(at, proxy, peer_port, Arc::clone(&links)).await;
            listening.expect("a proxy");
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
        let data = self.folder.path().join(slot.data());
        command.args(slot.flags(&data)).args(&self.flags);
        command
            .args(["--name", &slot.name])
            .args(["--initial-advertise-peer-urls", &slot.advertised])
            .args(["--initial-cluster", &everyone.join(",")])
            .args(["--initial-cluster-state", if slot.existing { "existing" } else { "new" }]);
        self.run(member, &mut command);
    }

    /// Starts a member whose disk was wiped by `kijabi store member replace`, which asks the members
    /// `through`. Returns what it says if it ends at once, which means that it refused.
    pub fn replace(&mut self, member: usize, through: &[usize]) -> String {
        let endpoints: Vec<String> = through.iter().map(|other| self.endpoint(*other)).collect();
        let slot = &self.slots[member];
        let data = self.folder.path().join(slot.data());
        let mut command = Command::new(kijabi());
        command.args(["store", "member", "replace", &slot.name]);
        command.args(["--endpoints", &endpoints.join(","), "--"]);
        command.args(slot.flags(&data)).args(&self.flags);
        if slot.process.is_some() {
            let output = process::run(&mut command);
            return String::from_utf8_lossy(&output.stderr).into_owned();
        }
        self.run(member, &mut command);
        String::new()
    }

    fn run(&mut self, member: usize, command: &mut Command) {
        let slot = &mut self.slots[member];
        slot.lives += 1;
        slot.paused = false;
        let log = self.folder.path().join(format!("{}.log", slot.name));
        let started = process::Program::start(command, &log);
        self.links.set_pid(member, started.pid());
        self.links.set_ended(member, false);
        slot.process = Some(started);
    }

    /// Ends a member as a crash would.
    pub fn kill(&mut self, member: usize) {
        self.note_crash(member);
        self.slots[member].process = None;
        self.links.set_ended(member, true);
    }

    /// Ends a member as a crash would, but its port accepts connections, and drops them, until
    /// others have tried it `looks` times: as while the kernel still takes the process apart.
    pub async fn kill_slowly(&mut self, member: usize, looks: u64) {
        let mut accepted = self.links.accepted(member);
        let enough = *accepted.borrow() + looks;
        self.note_crash(member);
        self.slots[member].process = None;
        // The sender is in the links.
        let _ = accepted.wait_for(|count| *count >= enough).await;
        self.links.set_ended(member, true);
    }

    /// Asks a member to end and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub fn end(&mut self, member: usize) {
        if let Some(mut process) = self.slots[member].process.take() {
            process.wait(START_LIMIT);
        }
        self.links.set_ended(member, true);
    }

    /// Sends a member a signal.
    pub fn signal(&self, member: usize, name: &str) {
        if let Some(process) = &self.slots[member].process {
            process.signal(name);
        }
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
        self.links.set_ended(member, true);
        // It may never have written anything.
        let _ = fs::remove_dir_all(self.folder.path().join(slot.data()));
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
