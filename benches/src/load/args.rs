//! The command line of `kijabi bench`.
//!
//! Owns: names, defaults and help. Must not know: how a load is made. A newcomer's trap: flags
//! that all loads share may stand before or after the load's name.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// Make load on an etcd endpoint and measure it.
#[derive(Args, Clone, Debug)]
pub struct Bench {
    #[command(flatten)]
    /// What all loads share.
    pub common: Common,
    /// The load.
    #[command(subcommand)]
    pub workload: Workload,
}

/// What all loads share.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Endpoints, separated by commas; connections are spread over them.
    #[arg(long, global = true, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub endpoints: Vec<String>,
    /// Connections.
    #[arg(long, global = true, default_value_t = 100)]
    pub conns: usize,
    /// Clients that send at the same time; they share the connections.
    #[arg(long, global = true, default_value_t = 100)]
    pub clients: usize,
    /// Bytes of a key.
    #[arg(long, global = true, default_value_t = 8)]
    pub key_size: usize,
    /// Bytes of a value.
    #[arg(long, global = true, default_value_t = 256)]
    pub val_size: usize,
    /// Number of different keys.
    #[arg(long, global = true, default_value_t = 10_000)]
    pub keys: u64,
    /// How long to measure, such as 10s or 2m.
    #[arg(long, global = true, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How long to run before that without measuring.
    #[arg(long, global = true, default_value = "2s", value_parser = duration)]
    pub warm_up: Duration,
    /// Operations a second (open loop): each has its time, and latency counts from it. Without it
    /// each client sends the next when the last is answered (closed loop).
    #[arg(long, global = true)]
    pub rate: Option<f64>,
    /// Seed of keys, values and choices.
    #[arg(long, global = true, default_value_t = 1)]
    pub seed: u64,
    /// Threads of this program; half of the cores if not given. They are taken from a server on
    /// the same machine.
    #[arg(long, global = true)]
    pub threads: Option<usize>,
    /// While it is measured compact, defragment and take a snapshot, one after the other.
    #[arg(long, global = true)]
    pub maintenance: bool,
    /// Certificate authority of https endpoints.
    #[arg(long, global = true)]
    pub cacert: Option<PathBuf>,
    /// Certificate of this client.
    #[arg(long, global = true, requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of that certificate.
    #[arg(long, global = true, requires = "cert")]
    pub key: Option<PathBuf>,
    /// Server processes on this machine to account for; found by their ports if not given.
    #[arg(long, global = true, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Print the report as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress.
    #[arg(long, global = true)]
    pub quiet: bool,
}

impl Common {
    /// Threads that make the load.
    pub(super) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.unwrap_or(cores / 2).max(1)
    }
}

/// The loads.
#[derive(Clone, Debug, Subcommand)]
pub enum Workload {
    /// Put random keys.
    Put,
    /// Read: one key, a page, the list in pages, all of the key space, or only its count.
    Range(RangeArgs),
    /// Compare-and-put as Kubernetes updates an object; each client has keys of its own.
    Txn,
    /// Reads and puts mixed.
    Mixed(MixedArgs),
    /// Put while watchers get each event.
    WatchFanout(WatchArgs),
    /// The same at a low rate: how late an event comes.
    WatchLatency(WatchArgs),
    /// Open watches that nothing happens to: what they cost in memory (no operations).
    WatchIdle(WatchArgs),
    /// Put while watchers catch up with a long history.
    WatchBehind(BehindArgs),
    /// Grant leases.
    LeaseGrant,
    /// Renew leases, one stream a client.
    LeaseKeepAlive,
    /// As many API servers do it: objects of 4 to 20 KB, 90 % of requests update one, 9 % read
    /// one, 1 % read a page of 500; each resource is listed and watched, with previous values.
    Kubernetes(KubernetesArgs),
    /// Run the loads on an etcd and on our store in turns, and write a report.
    Compare(Box<crate::compare::Compare>),
}

impl Workload {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range(_) => "range",
            Self::Txn => "txn",
            Self::Mixed(_) => "mixed",
            Self::WatchFanout(_) => "watch-fanout",
            Self::WatchLatency(_) => "watch-latency",
            Self::WatchIdle(_) => "watch-idle",
            Self::WatchBehind(_) => "watch-behind",
            Self::LeaseGrant => "lease-grant",
            Self::LeaseKeepAlive => "lease-keep-alive",
            Self::Kubernetes(_) => "kubernetes",
            Self::Compare(_) => "compare",
        }
    }
}

/// What is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReadKind {
    /// One random key.
    #[default]
    Key,
    /// `--limit` keys from a random one on.
    Page,
    /// All keys in pages of `--limit`, one after the other; an operation is a page.
    Pages,
    /// All keys at once.
    All,
    /// All keys, as a stream (etcd 3.7's RangeStream).
    Stream,
    /// The number of all keys.
    Count,
}

/// How to read.
#[derive(Args, Clone, Debug)]
pub struct RangeArgs {
    /// What is read.
    #[arg(long, value_enum, default_value_t)]
    pub read: ReadKind,
    /// Answer from the member asked, without asking the others.
    #[arg(long)]
    pub serializable: bool,
    /// Keys of a page.
    #[arg(long, default_value_t = 500)]
    pub limit: i64,
    /// The keys are there from a load before: do not put them.
    #[arg(long)]
    pub filled: bool,
}

/// How to mix.
#[derive(Args, Clone, Debug)]
pub struct MixedArgs {
    /// Per cent of reads (one key, linearizable).
    #[arg(long, default_value_t = 50)]
    pub reads: u32,
}

/// How to watch.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// Watchers of the whole key space.
    #[arg(long, default_value_t = 100)]
    pub watchers: usize,
    /// Watchers that share a stream.
    #[arg(long, default_value_t = 1)]
    pub per_stream: usize,
    /// Ask for previous values, as Kubernetes does.
    #[arg(long)]
    pub prev_kv: bool,
}

/// How late watchers are.
#[derive(Args, Clone, Debug)]
pub struct BehindArgs {
    /// Revisions they have to read.
    #[arg(long, default_value_t = 500_000)]
    pub revisions: u64,
    /// Watchers, each on a stream of its own.
    #[arg(long, default_value_t = 1)]
    pub watchers: usize,
    /// Ask for previous values, as Kubernetes does.
    #[arg(long)]
    pub prev_kv: bool,
}

/// The shape of a cluster.
#[derive(Args, Clone, Debug)]
pub struct KubernetesArgs {
    /// Resources, each with a watch of its own.
    #[arg(long, default_value_t = 10)]
    pub resources: usize,
    /// Smallest object in bytes.
    #[arg(long, default_value_t = 4_096)]
    pub object_min: usize,
    /// Largest object in bytes.
    #[arg(long, default_value_t = 20_480)]
    pub object_max: usize,
}

/// `500ms`, `10s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 10s or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("1.5s", 1_500), ("2m", 120_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms));
        }
        for text in ["", "s", "10x", "-1s", "1e400s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
