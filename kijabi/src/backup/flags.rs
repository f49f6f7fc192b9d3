//! The flags of `kijabi backup`, `kijabi import` and `kijabi export`.
//!
//! Owns: names and defaults, which are those of etcdctl and etcdutl. Must not know: what is done
//! with them. A newcomer's trap: a restore raises the revision and compacts what was before unless
//! told not to, while an import keeps revisions as they are.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use kijabi_server::backup::{Endpoint, HashCheck, NewMember};

/// By how much a restore raises the revision: more than any cluster writes between two backups.
const BUMP: u64 = 1_000_000_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Save a snapshot of a running member.
    Save(Save),
    /// Print hash, revision, keys and size of a snapshot.
    Status(Status),
    /// Make a member of a new cluster from a snapshot.
    Restore(Restore),
    /// Print the hash of the keys of a snapshot, or of running members.
    Hash(Hash),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line.
    Simple,
    /// A table.
    Table,
    /// JSON.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Output {
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "simple")]
    pub(crate) write_out: Format,
}

/// Which members to ask, and as whom.
#[derive(Args, Debug)]
pub(crate) struct Connection {
    /// Members, separated by commas: http://host:port, https://host:port or unix:///path.
    #[arg(
        long,
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS",
        default_value = "127.0.0.1:2379"
    )]
    pub(crate) endpoints: Vec<String>,
    /// CA of the members' certificates.
    #[arg(long, env = "ETCDCTL_CACERT")]
    pub(crate) cacert: Option<PathBuf>,
    /// Client certificate.
    #[arg(long, env = "ETCDCTL_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, env = "ETCDCTL_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// User as name or name:password.
    #[arg(long, env = "ETCDCTL_USER")]
    pub(crate) user: Option<String>,
    /// Password of the user.
    #[arg(long, env = "ETCDCTL_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// Seconds that a connection may take to be made.
    #[arg(long, default_value_t = 10)]
    pub(crate) dial_timeout: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Save {
    /// File to write.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Snapshot file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// The member to make.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Name of the new member.
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// All members of the new cluster, as name=url[,name=url…].
    #[arg(long)]
    pub(crate) initial_cluster: Option<String>,
    /// What keeps clusters apart that were made alike.
    #[arg(long, default_value = "etcd-cluster")]
    pub(crate) initial_cluster_token: String,
    /// URLs of the new member for the others.
    #[arg(long, default_value = "http://localhost:2380")]
    pub(crate) initial_advertise_peer_urls: String,
    /// Folder to make it in; must be missing or empty.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Folder of its log, if not in the data folder; must be missing.
    #[arg(long)]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Take a file whose hash is missing or wrong, such as a copied database.
    #[arg(long)]
    pub(crate) skip_hash_check: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// Snapshot file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    /// How much to raise the revision, so that clients never see one twice; 0 keeps it.
    #[arg(long, default_value_t = BUMP)]
    pub(crate) bump_revision: u64,
    /// Compact everything before the raised revision, so that no watch goes on from before;
    /// `--mark-compacted=false` keeps the history. [default: true if the revision is raised]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) mark_compacted: Option<bool>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Hash {
    /// Snapshot file; without it, running members are asked.
    pub(crate) file: Option<PathBuf>,
    /// Revision to hash at; 0 is the current one.
    #[arg(long, default_value_t = 0)]
    pub(crate) rev: i64,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Snapshot file, or data folder of a stopped member of etcd.
    pub(crate) source: PathBuf,
    /// Folder of that member's log, if not in its data folder.
    #[arg(long)]
    pub(crate) source_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// How much to raise the revision.
    #[arg(long, default_value_t = 0)]
    pub(crate) bump_revision: u64,
    /// Compact everything before the raised revision. [default: true if the revision is raised]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) mark_compacted: Option<bool>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// File to write.
    pub(crate) file: PathBuf,
    /// Data folder of a stopped member; without it, a running one is asked.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Folder of its log, if not in the data folder.
    #[arg(long, requires = "data_dir")]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
}

// === impl Connection ===

impl Connection {
    /// The members, each with how to reach it.
    pub(crate) fn endpoints(&self) -> anyhow::Result<Vec<Endpoint>> {
        let user = match (&self.user, &self.password) {
            (None, None) => None,
            (None, Some(_)) => anyhow::bail!("--password needs --user"),
            (Some(name), Some(password)) => Some((name.clone(), password.clone())),
            (Some(both), None) => {
                let (name, password) = both
                    .split_once(':')
                    .context("--user needs a password: name:password, or --password")?;
                Some((name.to_owned(), password.to_owned()))
            }
        };
        let endpoint = |url: &String| Endpoint {
            url: url.clone(),
            cacert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            user: user.clone(),
            dial_timeout: Duration::from_secs(self.dial_timeout),
        };
        Ok(self.endpoints.iter().map(endpoint).collect())
    }

    /// The one member; a snapshot is one member's.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let [endpoint] = <[Endpoint; 1]>::try_from(self.endpoints()?).map_err(|_| {
            let all = self.endpoints.join(" ");
            anyhow::anyhow!("snapshot must be requested to one selected node, not multiple [{all}]")
        })?;
        Ok(endpoint)
    }
}

// === impl Target ===

impl Target {
    /// What is asked of the snapshot's hash.
    pub(crate) fn check(&self) -> HashCheck {
        if self.skip_hash_check { HashCheck::Skipped } else { HashCheck::Required }
    }

    /// The member to make, with the revision raised or not.
    pub(crate) fn member(
        &self,
        bump_revision: u64,
        mark_compacted: Option<bool>,
    ) -> anyhow::Result<NewMember> {
        if bump_revision == 0 && mark_compacted == Some(true) {
            anyhow::bail!("--mark-compacted needs --bump-revision > 0");
        }
        let name = self.name.clone();
        let alone = || format!("{name}={}", self.initial_advertise_peer_urls);
        Ok(NewMember {
            initial_cluster: self.initial_cluster.clone().unwrap_or_else(alone),
            initial_cluster_token: self.initial_cluster_token.clone(),
            initial_advertise_peer_urls: self.initial_advertise_peer_urls.clone(),
            data_dir: self.data_dir.clone().unwrap_or_else(|| format!("{name}.etcd").into()),
            wal_dir: self.wal_dir.clone(),
            bump_revision,
            mark_compacted: mark_compacted.unwrap_or(bump_revision > 0),
            name,
        })
    }
}
