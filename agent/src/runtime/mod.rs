//! What the agent asks of a container runtime, and what it learns back, in the agent's own words.
//!
//! Two implementations: [`cri`] (a real runtime behind a socket) and [`memory`] (simulated nodes).
//! Must not know: Kubernetes objects. A newcomer's trap: `list` is cheap and knows no addresses and
//! exit codes; `observe` asks for one pod in full.

mod convert;
pub mod cri;
pub mod memory;

use std::collections::BTreeMap;
use std::time::Duration;

/// Label keys under which pods and containers are found again after a restart of the agent.
pub mod label {
    /// The pod's name.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// The pod's namespace.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// The pod's uid.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// The container's name.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
}

/// Why the runtime did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime answered with an error; the text is the one Kubernetes shows.
    #[error("rpc error: code = {code} desc = {message}")]
    Refused {
        /// gRPC's code, as Go spells it.
        code: &'static str,
        /// The runtime's message.
        message: String,
    },
    /// It did not answer in time.
    #[error("rpc error: code = DeadlineExceeded desc = context deadline exceeded")]
    Timeout,
}

impl RuntimeError {
    /// Whether the thing asked for does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: "NotFound", .. })
    }
}

/// A result of the runtime.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// The runtime's name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `containerd`.
    pub name: String,
    /// `1.6.20`.
    pub version: String,
}

/// Whether the runtime can run pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What keeps the runtime from working; none: it works.
    pub runtime: Option<String>,
    /// What keeps the pod network from working; none: it works.
    pub network: Option<String>,
}

/// A pod as the runtime knows it, without what only `observe` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRecord {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its sandboxes and containers.
    pub observed: Observed,
}

/// The sandboxes and containers of one pod, each newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sandboxes: normally one.
    pub sandboxes: Vec<Sandbox>,
    /// Containers, dead ones included.
    pub containers: Vec<Container>,
}

impl Observed {
    /// The newest container of this name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// All containers of this name, newest first.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Container> + 'a {
        self.containers.iter().filter(move |container| container.name == name)
    }

    /// Puts the newest first, which every reader relies on.
    pub fn sort(&mut self) {
        self.sandboxes
            .sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        self.containers.sort_by_key(|it| std::cmp::Reverse((it.attempt, it.created_at)));
    }
}

/// A pod's sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Whether it is up.
    pub ready: bool,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The pod's addresses; empty with host networking, and in lists.
    pub ips: Vec<String>,
}

/// How far a container's life has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime lost track.
    #[default]
    Unknown,
}

/// One run of a container. A restart makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
    /// The sandbox it is in.
    pub sandbox: String,
    /// Its name in the pod.
    pub name: String,
    /// How many runs there were before: the restart count.
    pub attempt: u32,
    /// How far it is.
    pub state: RunState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Nanoseconds since the epoch; 0: not started.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0: not ended.
    pub finished_at: i64,
    /// Its exit code.
    pub exit_code: i32,
    /// The runtime's word for why it ended: `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// The runtime's message, if any.
    pub message: String,
    /// The image as the pod named it.
    pub image: String,
    /// The image's digest reference.
    pub image_id: String,
    /// What the agent noted at creation.
    pub annotations: BTreeMap<String, String>,
}

/// An image in the runtime's store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id (the digest of its configuration).
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// The numeric user it runs as, if it names one.
    pub uid: Option<i64>,
    /// The user name it runs as, if it names one.
    pub user: String,
}

/// Credentials for a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// `user:password`, base64.
    pub auth: String,
    /// The registry.
    pub server: String,
    /// OAuth2 identity token.
    pub identity_token: String,
    /// OAuth2 registry token.
    pub registry_token: String,
}

/// What a command run in a container gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Name resolution in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A container's port made reachable on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// In the pod.
    pub container_port: i32,
    /// On the host.
    pub host_port: i32,
    /// On this address of the host, or all.
    pub host_ip: String,
}

/// What a pod shares with the host, or its containers among each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The host's network.
    pub host_network: bool,
    /// The host's processes.
    pub host_pid: bool,
    /// The host's IPC.
    pub host_ipc: bool,
    /// One process namespace for all containers of the pod.
    pub pod_pid: bool,
}

/// A sandbox to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxSpec {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// How many sandboxes it had before.
    pub attempt: u32,
    /// Hostname in the pod.
    pub hostname: String,
    /// Folder of the pod's logs.
    pub log_dir: String,
    /// resolv.conf.
    pub dns: Option<Dns>,
    /// Host ports.
    pub ports: Vec<PortMapping>,
    /// Labels, on the sandbox.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The pod's cgroup.
    pub cgroup: String,
    /// Namespaces.
    pub sharing: Sharing,
    /// User of the sandbox process.
    pub run_as_user: Option<i64>,
    /// Group of the sandbox process.
    pub run_as_group: Option<i64>,
    /// Supplemental groups.
    pub groups: Vec<i64>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Whether a privileged container may follow.
    pub privileged: bool,
}

/// How a mount passes mounts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A path of the host seen in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container.
    pub container: String,
    /// Which path of the host.
    pub host: String,
    /// Not writable.
    pub readonly: bool,
    /// Propagation of mounts below it.
    pub propagation: Propagation,
}

/// The kernel's limits for a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CFS weight.
    pub cpu_shares: i64,
    /// CFS quota in µs per period; 0: none.
    pub cpu_quota: i64,
    /// CFS period in µs.
    pub cpu_period: i64,
    /// Bytes; 0: no limit.
    pub memory_bytes: i64,
    /// Who goes first when memory is short.
    pub oom_score_adj: i64,
}

/// System-call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's.
    RuntimeDefault,
    /// A file of the node.
    Localhost(String),
}

/// A container's privileges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// All of the host's devices and capabilities.
    pub privileged: bool,
    /// User.
    pub run_as_user: Option<i64>,
    /// Group.
    pub run_as_group: Option<i64>,
    /// Supplemental groups.
    pub groups: Vec<i64>,
    /// Capabilities added.
    pub caps_add: Vec<String>,
    /// Capabilities taken away.
    pub caps_drop: Vec<String>,
    /// Root file system not writable.
    pub readonly_rootfs: bool,
    /// No way to gain privileges.
    pub no_new_privs: bool,
    /// System-call filter.
    pub seccomp: Seccomp,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSpec {
    /// Name in the pod.
    pub name: String,
    /// How many runs there were before.
    pub attempt: u32,
    /// The image's id in the runtime's store.
    pub image: String,
    /// The image as the pod names it.
    pub user_image: String,
    /// Replaces the image's entrypoint, unless empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments, unless empty.
    pub args: Vec<String>,
    /// Working folder; empty: the image's.
    pub working_dir: String,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's log folder.
    pub log_path: String,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it after the first attach.
    pub stdin_once: bool,
    /// A terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Privileges.
    pub security: Security,
    /// Namespaces, the sandbox's.
    pub sharing: Sharing,
}

/// A container runtime.
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version.
    async fn version(&self) -> Result<Version>;
    /// Whether it can run pods.
    async fn health(&self) -> Result<Health>;
    /// All pods it knows, by uid, without details.
    async fn list(&self) -> Result<BTreeMap<String, PodRecord>>;
    /// One pod in full.
    async fn observe(&self, uid: &str) -> Result<Observed>;
    /// Makes and starts a sandbox.
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String>;
    /// Ends all containers of a sandbox and gives its address back.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Forgets a stopped sandbox and its containers.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    /// Makes a container, not started.
    async fn create_container(
        &self,
        sandbox: &str,
        spec: &ContainerSpec,
        sandbox_spec: &SandboxSpec,
    ) -> Result<String>;
    /// Starts it.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Asks it to end, and kills it after `grace`.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// Forgets an ended container.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// Runs a command in a container and waits for it.
    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput>;
    /// Tells the runtime that a container's log was moved away.
    async fn reopen_log(&self, id: &str) -> Result<()>;
    /// An image in the store, by name or id.
    async fn image(&self, name: &str) -> Result<Option<Image>>;
    /// All images in the store.
    async fn images(&self) -> Result<Vec<Image>>;
    /// Fetches an image; gives its id.
    async fn pull(&self, name: &str, auth: Option<&Auth>) -> Result<String>;
}
