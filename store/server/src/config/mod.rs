//! What a member is configured with, whatever it was read from.
//!
//! Owns: the settings and their defaults. Must not know: how they are spelled on a command line
//! (`flags.rs`), in the environment or in a file. A newcomer's trap: `initial_*` settings only
//! count when the data folder is new.

mod flags;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use kijabi_base::limits;

pub use flags::{Parsed, UsageError, parse};

/// The version of etcd whose behaviour is kept, as clients see it.
pub const ETCD_VERSION: &str = "3.6.14";

/// What `--version` prints.
pub const VERSION_TEXT: &str =
    concat!("etcd Version: 3.6.14\nKijabi Version: ", env!("CARGO_PKG_VERSION"), "\n");

/// What `--help` prints.
pub const HELP_TEXT: &str = include_str!("help.txt");

/// A member's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's human-readable name (`--name`).
    pub name: String,
    /// Where the member keeps its data (`--data-dir`).
    pub data_dir: PathBuf,
    /// Where the Raft log lives, if not in the data folder (`--wal-dir`).
    pub wal_dir: Option<PathBuf>,
    /// URLs to listen on for clients: `http://host:port` or `unix:///path`; port 0 picks one.
    pub listen_client_urls: Vec<String>,
    /// URLs given to clients. Empty = the listening ones.
    pub advertise_client_urls: Vec<String>,
    /// URLs to listen on for other members. The command line's default is etcd's; here it is none.
    pub listen_peer_urls: Vec<String>,
    /// URLs given to other members.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The first members as `name=url[,name=url…]`. Empty = this member alone.
    pub initial_cluster: String,
    /// What keeps clusters apart that were started alike (`--initial-cluster-token`).
    pub initial_cluster_token: String,
    /// Whether the member joins a cluster that exists (`--initial-cluster-state existing`).
    pub initial_cluster_existing: bool,
    /// Starts a cluster of this member alone from the data it has (`--force-new-cluster`).
    pub force_new_cluster: bool,
    /// Refuse changes of members that endanger the quorum (`--strict-reconfig-check`).
    pub strict_reconfig_check: bool,
    /// Most learners in the cluster (`--max-learners`).
    pub max_learners: usize,
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
    /// Time between progress notifications of a watch.
    pub watch_progress_interval: Duration,
    /// Pause between two steps of compaction.
    pub compaction_pause: Duration,
    /// The least severe log lines to write: `debug`, `info`, `warn`, `error`.
    pub log_level: String,
    /// `json` (zap's form) or `console`.
    pub log_format: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".into(),
            data_dir: PathBuf::from("default.etcd"),
            wal_dir: None,
            listen_client_urls: vec!["http://localhost:2379".into()],
            advertise_client_urls: Vec::new(),
            listen_peer_urls: Vec::new(),
            initial_advertise_peer_urls: vec![DEFAULT_PEER_URL.into()],
            initial_cluster: String::new(),
            initial_cluster_token: "etcd-cluster".into(),
            initial_cluster_existing: false,
            force_new_cluster: false,
            strict_reconfig_check: true,
            max_learners: 1,
            listen_metrics_urls: Vec::new(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            snapshot_entries: limits::SNAPSHOT_ENTRIES,
            snapshot_catch_up_entries: limits::SNAPSHOT_CATCH_UP_ENTRIES,
            quota_bytes: DEFAULT_QUOTA_BYTES,
            max_request_bytes: limits::REQUEST_BYTES_MAX,
            max_txn_ops: limits::TXN_OPS_MAX,
            max_concurrent_streams: u32::MAX,
            watch_progress_interval: Duration::from_secs(600),
            compaction_pause: Duration::from_millis(10),
            log_level: "info".into(),
            log_format: "json".into(),
        }
    }
}

/// Where etcd listens for other members.
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// etcd's default quota.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

impl Config {
    /// How long a request may take: etcd's 5 s plus two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Whether the settings go together; the texts are etcd's.
    fn check(&self) -> Result<(), String> {
        let (tick, election) =
            (self.heartbeat_interval.as_millis(), self.election_timeout.as_millis());
        if tick == 0 {
            return Err(format!("--heartbeat-interval must be >0 (set to {tick}ms)"));
        }
        if election == 0 {
            return Err(format!("--election-timeout must be >0 (set to {election}ms)"));
        }
        if 5 * tick > election {
            return Err(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{tick}ms]"
            ));
        }
        if election > ELECTION_MS_MAX {
            return Err(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
            ));
        }
        if self.max_request_bytes > REQUEST_BYTES_LIMIT {
            return Err(format!("--max-request-bytes must be at most {REQUEST_BYTES_LIMIT}"));
        }
        if self.listen_client_urls.is_empty() {
            return Err("--listen-client-urls must not be empty".into());
        }
        if self.initial_cluster.split(',').filter(|part| !part.is_empty()).count() > 1 {
            return Err("--initial-cluster with more than one member is not supported yet".into());
        }
        Ok(())
    }
}

const ELECTION_MS_MAX: u128 = 50_000;
/// Half of what a frame of the Raft log may hold: a larger one could be written but not read back.
const REQUEST_BYTES_LIMIT: usize = limits::LOG_FRAME_BYTES_MAX / 2;
