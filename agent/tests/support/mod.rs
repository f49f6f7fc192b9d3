//! A node for tests: a private containerd, the agent's pod workers, and an API that is a map.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod api;
pub(crate) mod tls;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kijabi_agent::containerd::{self, Paths, network};
use kijabi_agent::events::Recorder;
use kijabi_agent::image::{import, pause};
use kijabi_agent::pod::{Known, NodeContext, Shared};
use kijabi_agent::runtime::Runtime;
use kijabi_agent::runtime::cri::Cri;
use kijabi_agent::volume::Volumes;
use kijabi_base::tasks::Shutdown;
use serde_json::Value;

pub(crate) use api::FakeApi;

/// Long enough for a busy machine, short enough to see a hang.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A node's folder. A test that fails leaves no containers behind either.
struct Folder(tempfile::TempDir, u8);

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.path().to_owned();
        let ended = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(kijabi_agent::teardown(&folder)).unwrap();
        });
        let _ = ended.join();
    }
}

/// A node with its API.
pub(crate) struct World {
    folder: Folder,
    paths: Paths,
    api: Arc<FakeApi>,
    runtime: Arc<Cri>,
    shutdown: Shutdown,
    agent: tokio::task::JoinHandle<()>,
    shared: Arc<Shared>,
    server: Option<std::net::SocketAddr>,
}

impl World {
    /// Starts a private containerd and the agent's workers on it.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("kijabi-agent-").tempdir().unwrap();
        Self::with(Folder(folder, free_range()), FakeApi::new()).await
    }

    /// The same with a node server whose clients' certificates `authority` signs.
    pub(crate) async fn start_serving(authority: &tls::Authority) -> Self {
        let mut world = Self::start().await;
        let config = authority.server(world.folder.0.path());
        let bound = kijabi_agent::server::Bound::bind(&config).await.unwrap();
        world.server = Some(bound.address());
        let serving = bound.serve(world.shared.clone(), world.shutdown.clone());
        kijabi_base::tasks::spawn("server", serving);
        world
    }

    /// Where the node server listens.
    pub(crate) fn server(&self) -> std::net::SocketAddr {
        self.server.expect("start_serving was called")
    }

    async fn with(folder: Folder, api: Arc<FakeApi>) -> Self {
        let paths = Paths::new(folder.0.path());
        containerd::ensure(&paths).await.expect("a containerd of its own needs root");
        let runtime = Arc::new(Cri::connect(&paths.socket));
        if runtime.image(pause::NAME).await.unwrap().is_none() {
            import::import(&paths.socket, &pause::build().unwrap()).await.unwrap();
            let tools = image();
            import::import(&paths.socket, &tools).await.unwrap();
        }
        let cidr = format!("172.29.{}.0/24", folder.1).parse().unwrap();
        network::configure(&paths, cidr, None).await.unwrap();
        eventually("the pod network", || async {
            runtime.health().await.is_ok_and(|health| health.network.is_none())
        })
        .await;
        let shutdown = Shutdown::new();
        let shared = Arc::new(Shared {
            source: api.clone(),
            runtime: runtime.clone(),
            events: Recorder::start(api.clone(), "node", shutdown.clone()),
            node: NodeContext {
                name: "node".to_owned(),
                ip: [127, 0, 0, 1].into(),
                runtime_name: "containerd".to_owned(),
                pods_max: 110,
                allocatable: (2_000, 1 << 30),
                cluster_dns: Vec::new(),
                cluster_domain: "cluster.local".to_owned(),
                cgroup: paths.cgroup(),
            },
            volumes: Some(Volumes::new(&paths)),
            pulls: tokio::sync::Semaphore::new(2),
            known: Known::default(),
        });
        let run = kijabi_agent::pod::run(shared.clone(), shutdown.clone());
        let agent = kijabi_base::tasks::spawn("agent", run);
        Self { folder, paths, api, runtime, shutdown, agent, shared, server: None }
    }

    /// Stops the agent, not its containers, and starts another on the same folder.
    pub(crate) async fn restart_agent(self) -> Self {
        self.shutdown.trigger();
        self.agent.await.unwrap();
        Self::with(self.folder, self.api).await
    }

    /// The name of the image with busybox that every node of these tests has.
    #[allow(clippy::unused_self, reason = "reads like a property of the node")]
    pub(crate) fn image(&self) -> &'static str {
        IMAGE
    }

    /// Creates a pod bound to the node.
    pub(crate) fn create(&self, pod: Value) -> String {
        self.api.create(pod)
    }

    /// Creates a ConfigMap.
    pub(crate) fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        self.api.config_map(name, data);
    }

    /// Marks a pod for deletion.
    pub(crate) fn delete(&self, uid: &str, grace: i64) {
        self.api.delete(uid, grace);
    }

    /// The pod as the API has it.
    pub(crate) fn pod(&self, uid: &str) -> Option<Value> {
        self.api.pod(uid)
    }

    /// Pushes the nodes' image to a registry under another name, and forgets that name here.
    pub(crate) async fn push(&self, name: &str) {
        let ctr = async |args: &[&str]| {
            let output = tokio::process::Command::new("ctr")
                .arg("--address")
                .arg(&self.paths.socket)
                .args(["--namespace", "k8s.io", "images"])
                .args(args)
                .output()
                .await
                .unwrap();
            assert!(output.status.success(), "{args:?}: {output:?}");
        };
        ctr(&["tag", IMAGE, name]).await;
        ctr(&["push", "--plain-http", name]).await;
        ctr(&["rm", name]).await;
    }

    /// The node's own address in the range of its pods.
    pub(crate) fn gateway(&self) -> String {
        format!("172.29.{}.1", self.folder.1)
    }

    /// Takes away the rule that protects the node's loopback addresses.
    pub(crate) async fn remove_loopback_guard(&self) {
        let table = self.paths.nft_table();
        let mut nft = tokio::process::Command::new("nft");
        let status = nft.args(["delete", "chain", "ip", &table, "loopback"]).status().await;
        assert!(status.unwrap().success());
    }

    /// Sends pulls of one registry to another, as a user would.
    pub(crate) fn mirror(&self, registry: &str, url: &str) {
        let folder = self.paths.certs.join(registry);
        std::fs::create_dir_all(&folder).unwrap();
        // Without `server` a tag the mirror lacks would be asked for at the real registry.
        let text = format!(
            "server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::write(folder.join("hosts.toml"), text).unwrap();
    }

    /// Waits until a pod is as it should be.
    pub(crate) async fn wait(
        &self,
        uid: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pod = self.pod(uid).unwrap();
            if holds(&pod) {
                return pod;
            }
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "in vain waited for {what}: {pod:#}\n{:#?}", self.event_messages());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The reasons of all events so far.
    pub(crate) fn event_reasons(&self) -> BTreeSet<String> {
        self.api.events().into_iter().filter_map(|it| it.reason).collect()
    }

    /// The messages of all events so far.
    pub(crate) fn event_messages(&self) -> Vec<String> {
        self.api.events().into_iter().filter_map(|it| it.message).collect()
    }

    /// A container's log file without its times.
    pub(crate) fn log(&self, pod: &str, uid: &str, container: &str, attempt: u32) -> String {
        let file = format!("{pod}_{uid}/{container}/{attempt}.log");
        let raw = std::fs::read_to_string(self.paths.logs.join(file)).unwrap_or_default();
        raw.lines().map(|line| line.splitn(4, ' ').last().unwrap().to_owned() + "\n").collect()
    }

    /// Kills a container behind the agent's back.
    pub(crate) async fn kill(&self, id: &str) {
        let id = id.trim_start_matches("containerd://");
        self.runtime.stop_container(id, Duration::ZERO).await.unwrap();
    }

    /// Takes everything down, and checks that nothing is left on the machine.
    pub(crate) async fn finish(self) {
        self.shutdown.trigger();
        self.agent.await.unwrap();
        let folder = self.folder.0.path().to_owned();
        kijabi_agent::teardown(&folder).await.unwrap();
        kijabi_agent::teardown(&folder).await.expect("a second time is fine");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder.to_str().unwrap()), "mounts are left: {mounts}");
        assert!(!Path::new("/sys/class/net").join(self.paths.bridge()).exists(), "the bridge");
        let group = format!("/sys/fs/cgroup/memory{}", self.paths.cgroup());
        assert!(!Path::new(&group).exists(), "the cgroup {group}");
        assert!(!folder.join("containerd").exists(), "files");
        let rules = tokio::process::Command::new("iptables-save").output().await.unwrap();
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        assert!(!rules.contains(&self.paths.id), "rules are left: {rules}");
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            assert!(!command.contains(folder.to_str().unwrap()), "still runs: {command}");
        }
    }
}

/// The third byte of a node's pod range: nodes of these tests run at the same time, and two with
/// one range would take each other's packets.
fn free_range() -> u8 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    (std::process::id().wrapping_mul(8).wrapping_add(count) % 256) as u8
}

const IMAGE: &str = "docker.io/kijabi-test/tools:1";

/// busybox as `sh`, `cat` and all else.
fn image() -> Vec<u8> {
    use kijabi_agent::image::{File, Spec, build};

    let busybox = std::fs::read(pause::busybox().unwrap()).unwrap();
    let mut files = vec![
        File::folder("bin", 0o755),
        File::new("bin/busybox", 0o755, busybox),
        File::folder("tmp", 0o1777),
    ];
    files.extend(
        ["sh", "cat", "mkdir", "hostname", "echo"]
            .map(|name| File::link(format!("bin/{name}"), "busybox")),
    );
    build(&Spec {
        name: IMAGE.to_owned(),
        files,
        entrypoint: vec!["/bin/sh".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        ..Spec::default()
    })
    .unwrap()
}

/// Whether all containers are ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// A container's status.
pub(crate) fn status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    statuses.iter().find(|it| it["name"] == name).unwrap()
}

/// A container's id.
pub(crate) fn container_id(pod: &Value, name: &str) -> String {
    status(pod, name)["containerID"].as_str().unwrap().to_owned()
}

/// A container's restart count.
pub(crate) fn restarts(pod: &Value, name: &str) -> i64 {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let mut statuses = statuses.into_iter().flatten();
    statuses.find(|it| it["name"] == name).map_or(0, |it| it["restartCount"].as_i64().unwrap())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The body of `GET http://<ip>:<port>/`. A container runs a moment before its server listens.
pub(crate) async fn get(ip: &str, port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let deadline = kijabi_base::clock::now() + std::time::Duration::from_secs(20);
    let mut stream = loop {
        match tokio::net::TcpStream::connect((ip, port)).await {
            Ok(stream) => break stream,
            Err(error) if kijabi_base::clock::now() >= deadline => panic!("{ip}:{port}: {error}"),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
