//! What a member is configured with, whatever it was read from.
//!
//! Owns: the settings and their defaults. Must not know: how they are spelled on a command line
//! (`table/`), in the environment or in a file. A newcomer's trap: `initial_*` settings only
//! count when the data folder is new.

mod bootstrap;
mod check;
mod environment;
mod file;
mod flags;
mod gates;
mod help;
mod settings;
pub(crate) mod suites;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use kijabi_base::limits;

pub use flags::{Parsed, UsageError, parse};
pub use gates::FeatureGates;
pub use help::help_text;
pub use settings::{
    AutoCompaction, KeepAlive, LogSettings, Notice, Rotation, SocketOptions, TlsFiles, TlsLimits,
    TlsVersion,
};
pub(crate) use values::parse_duration;

/// The version of etcd whose behaviour is kept, as clients see it.
pub const ETCD_VERSION: &str = "3.6.14";

/// What `--version` prints.
pub const VERSION_TEXT: &str =
    concat!("etcd Version: 3.6.14\nKijabi Version: ", env!("CARGO_PKG_VERSION"), "\n");

/// A member's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's human-readable name (`--name`).
    pub name: String,
    /// Where the member keeps its data (`--data-dir`).
    pub data_dir: PathBuf,
    /// Where the Raft log lives, if not in the data folder (`--wal-dir`).
    pub wal_dir: Option<PathBuf>,
    /// URLs to listen on for clients: `http[s]://host:port` or `unix[s]:///path`; port 0 picks one.
    pub listen_client_urls: Vec<String>,
    /// URLs for HTTP clients alone. If there are any, [`Config::listen_client_urls`] only take gRPC.
    pub listen_client_http_urls: Vec<String>,
    /// URLs given to clients. Empty = the listening ones.
    pub advertise_client_urls: Vec<String>,
    /// URLs to listen on for other members. The command line's default is etcd's; here it is none.
    pub listen_peer_urls: Vec<String>,
    /// URLs given to other members.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The first members as `name=url[,name=url…]`. Empty = this member alone.
    pub initial_cluster: String,
    /// Whether the member joins a cluster that exists (`--initial-cluster-state existing`).
    pub initial_cluster_existing: bool,
    /// What keeps clusters apart that were started alike (`--initial-cluster-token`).
    pub initial_cluster_token: String,
    /// Extra URLs that answer `/metrics` and the health paths.
    pub listen_metrics_urls: Vec<String>,
    /// Time between a leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// Time without a leader before an election.
    pub election_timeout: Duration,
    /// Committed entries between two snapshots (`--snapshot-count`).
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot (`--snapshot-catchup-entries`).
    pub snapshot_catch_up_entries: u64,
    /// Bytes the database may grow to; 0 = no limit.
    pub quota_bytes: u64,
    /// Largest client request in bytes.
    pub max_request_bytes: usize,
    /// Most operations in one branch of a transaction.
    pub max_txn_ops: usize,
    /// Most concurrent streams on one client connection.
    pub max_concurrent_streams: u32,
    /// How idle client connections are kept and watched.
    pub keep_alive: KeepAlive,
    /// How listening sockets are bound.
    pub socket: SocketOptions,
    /// Whether `/v3/…` answers JSON.
    pub enable_grpc_gateway: bool,
    /// Time without a byte after which a connection from another member is given up.
    pub raft_read_timeout: Duration,
    /// Time for a write to another member.
    pub raft_write_timeout: Duration,
    /// Features on trial.
    pub feature_gates: FeatureGates,
    /// Whether a change of membership that endangers the quorum is refused.
    pub strict_reconfig_check: bool,
    /// Whether an election is preceded by a trial that disturbs nobody.
    pub pre_vote: bool,
    /// When old revisions are compacted without being asked.
    pub auto_compaction: AutoCompaction,
    /// Certificates of the client listeners.
    pub client_tls: TlsFiles,
    /// Certificates of the peer listeners and of connections to other members.
    pub peer_tls: TlsFiles,
    /// What both may negotiate.
    pub tls: TlsLimits,
    /// Origins whose pages may call the HTTP endpoints; `*` = all.
    pub cors: Vec<String>,
    /// Host names that HTTP requests without TLS may be sent to; `*` or none = all.
    pub host_whitelist: Vec<String>,
    /// The token provider and its options (`--auth-token`), such as `simple` or `jwt,…`.
    pub auth_token: String,
    /// How long a simple token lives after its last use.
    pub auth_token_ttl: Duration,
    /// Cost of hashing passwords.
    pub bcrypt_cost: u32,
    /// Whether the histograms of RPC latencies are exported (`--metrics=extensive`).
    pub extensive_metrics: bool,
    /// Where log lines go and how they look.
    pub log: LogSettings,
    /// A unary request slower than this is logged.
    pub warning_unary_request: Duration,
    /// A command that takes longer than this to apply is logged.
    pub warning_apply: Duration,
    /// Time between progress notifications of a watch.
    pub watch_progress_interval: Duration,
    /// Pause between two steps of compaction.
    pub compaction_pause: Duration,
    /// Most revisions in one step of compaction.
    pub compaction_batch_limit: usize,
    /// Time between two comparisons of the members' data; zero = never.
    pub corrupt_check_interval: Duration,
    /// Time between two comparisons of the members' compaction hashes.
    pub compact_hash_check_interval: Duration,
    /// Most learners at a time.
    pub max_learners: usize,
    /// Whether the process's memory is kept from being swapped out.
    pub memory_lock: bool,
    /// Whether the member begins a new cluster of itself alone with the data it has.
    pub force_new_cluster: bool,
    /// What was noticed while the settings were read: logged once logging runs.
    pub notices: Vec<Notice>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.into(),
            data_dir: PathBuf::from("default.etcd"),
            wal_dir: None,
            listen_client_urls: vec![DEFAULT_CLIENT_URL.into()],
            listen_client_http_urls: Vec::new(),
            advertise_client_urls: Vec::new(),
            listen_peer_urls: Vec::new(),
            initial_advertise_peer_urls: vec![DEFAULT_PEER_URL.into()],
            initial_cluster: String::new(),
            initial_cluster_existing: false,
            initial_cluster_token: "etcd-cluster".into(),
            listen_metrics_urls: Vec::new(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            snapshot_entries: limits::SNAPSHOT_ENTRIES,
            snapshot_catch_up_entries: limits::SNAPSHOT_CATCH_UP_ENTRIES,
            quota_bytes: DEFAULT_QUOTA_BYTES,
            max_request_bytes: limits::REQUEST_BYTES_MAX,
            max_txn_ops: limits::TXN_OPS_MAX,
            max_concurrent_streams: u32::MAX,
            keep_alive: KeepAlive::default(),
            socket: SocketOptions::default(),
            enable_grpc_gateway: true,
            raft_read_timeout: Duration::from_secs(5),
            raft_write_timeout: Duration::from_secs(5),
            feature_gates: FeatureGates::default(),
            strict_reconfig_check: true,
            pre_vote: true,
            auto_compaction: AutoCompaction::Off,
            client_tls: TlsFiles::default(),
            peer_tls: TlsFiles::default(),
            tls: TlsLimits::default(),
            cors: vec!["*".into()],
            host_whitelist: vec!["*".into()],
            auth_token: "simple".into(),
            auth_token_ttl: Duration::from_secs(300),
            bcrypt_cost: 10,
            extensive_metrics: false,
            log: LogSettings::default(),
            warning_unary_request: Duration::from_millis(300),
            warning_apply: Duration::from_millis(100),
            watch_progress_interval: Duration::from_secs(600),
            compaction_pause: Duration::from_millis(10),
            compaction_batch_limit: limits::COMPACTION_BATCH_REVISIONS,
            corrupt_check_interval: Duration::ZERO,
            compact_hash_check_interval: Duration::from_secs(60),
            max_learners: 1,
            memory_lock: false,
            force_new_cluster: false,
            notices: Vec::new(),
        }
    }
}

/// etcd's name for a member that was given none.
const DEFAULT_NAME: &str = "default";
/// Where etcd listens for clients.
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
/// Where etcd listens for other members.
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// etcd's default quota.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

impl Config {
    /// How long a request may take: etcd's 5 s plus two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The first members by name with their peer URLs; this member alone if nothing was said.
    pub fn initial_members(&self) -> std::collections::BTreeMap<String, Vec<String>> {
        bootstrap::initial_members(self)
    }

    /// What etcd checks when the data folder is new: whether this member is among the first ones,
    /// by the URLs it advertises, and no URL stands twice.
    pub fn check_bootstrap(&self) -> Result<(), String> {
        bootstrap::check(self)
    }
}
