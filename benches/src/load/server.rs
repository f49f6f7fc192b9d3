//! What the server uses while it is under load, if it runs on this machine.
//!
//! Owns: reading `/proc` and the servers' own counters. Must not know: the load. A newcomer's
//! trap: CPU time comes in ticks of 10 ms, so a run of less than a second says nothing.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// How often and for how long a server is looked at that should come to rest, and of how many
/// cores it may still use.
const SETTLE_LOOKS: usize = 50;
const SETTLE_EACH: Duration = Duration::from_millis(200);
const SETTLE_CORES: f64 = 0.2;

/// Counters of all servers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Usage {
    /// Seconds of CPU of the servers, user and system; 0 if none is on this machine.
    pub server_cpu_s: f64,
    /// Seconds of CPU of this process.
    pub client_cpu_s: f64,
    /// Resident memory of the servers in bytes, at the end.
    pub rss_bytes: u64,
    /// The most they had so far.
    pub rss_peak_bytes: u64,
    /// Of it, what is not a file's: all of a Go or Rust heap, none of a mapped database.
    pub rss_own_bytes: u64,
    /// Bytes the servers wrote to disk.
    pub written_bytes: u64,
    /// Syncs of the log and, where each of them syncs, commits of the database: the counts of
    /// `etcd_disk_wal_fsync_duration_seconds` and `etcd_disk_backend_commit_duration_seconds` that
    /// each server has under `/metrics`.
    pub fsyncs: u64,
    /// Seconds of CPU of everybody else on this machine.
    pub others_cpu_s: f64,
}

impl Usage {
    /// What was used since `before`.
    pub(super) fn since(self, before: &Self) -> Self {
        Self {
            server_cpu_s: self.server_cpu_s - before.server_cpu_s,
            client_cpu_s: self.client_cpu_s - before.client_cpu_s,
            others_cpu_s: (self.others_cpu_s - before.others_cpu_s).max(0.0),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            fsyncs: self.fsyncs.saturating_sub(before.fsyncs),
            ..self
        }
    }
}

/// Reads the counters.
pub(super) struct Meters {
    pids: Vec<u32>,
    endpoints: Vec<String>,
    http: Client<HttpConnector, Empty<bytes::Bytes>>,
}

impl Meters {
    pub(super) fn new(pids: Vec<u32>, endpoints: Vec<String>) -> Self {
        Self { pids, endpoints, http: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// All counters now. What cannot be read counts as nothing.
    pub(super) async fn read(&self) -> Usage {
        let mut usage = Usage { client_cpu_s: cpu_s(std::process::id()), ..Usage::default() };
        for pid in &self.pids {
            usage.server_cpu_s += cpu_s(*pid);
            usage.rss_bytes += status_kib(*pid, "VmRSS:") * 1_024;
            usage.rss_peak_bytes += status_kib(*pid, "VmHWM:") * 1_024;
            usage.rss_own_bytes += status_kib(*pid, "RssAnon:") * 1_024;
            usage.written_bytes += field(&format!("/proc/{pid}/io"), "write_bytes:");
        }
        usage.others_cpu_s = machine_cpu_s() - usage.server_cpu_s - usage.client_cpu_s;
        for endpoint in &self.endpoints {
            usage.fsyncs += self.fsyncs(endpoint).await.unwrap_or(0);
        }
        usage
    }

    /// Waits until the servers have done what preparing a load has left them to do, but not for
    /// ever: both programs collect and compact for a while after their key space was filled.
    pub(super) async fn settle(&self) {
        let used = || self.pids.iter().map(|pid| cpu_s(*pid)).sum::<f64>();
        let mut before = used();
        for _ in 0..SETTLE_LOOKS {
            if self.pids.is_empty() {
                return;
            }
            tokio::time::sleep(SETTLE_EACH).await;
            let now = used();
            if now - before < SETTLE_EACH.as_secs_f64() * SETTLE_CORES {
                return;
            }
            before = now;
        }
    }

    async fn fsyncs(&self, endpoint: &str) -> Option<u64> {
        let endpoint = endpoint.trim_end_matches('/');
        let scheme = if endpoint.contains("://") { "" } else { "http://" };
        let uri = format!("{scheme}{endpoint}/metrics").parse().ok()?;
        let answer = tokio::time::timeout(Duration::from_secs(2), self.http.get(uri)).await;
        let body = answer.ok()?.ok()?.into_body().collect().await.ok()?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let mut counted = vec!["etcd_disk_wal_fsync_duration_seconds_count "];
        // Each commit of bbolt syncs, too; other backends write their log first and need not.
        if text.contains("etcd_debugging_disk_backend_commit_write_duration_seconds") {
            counted.push("etcd_disk_backend_commit_duration_seconds_count ");
        }
        let counts = text.lines().filter_map(|line| {
            let value = counted.iter().find_map(|name| line.strip_prefix(name))?;
            value.trim().parse::<f64>().ok()
        });
        Some(counts.sum::<f64>() as u64)
    }
}

/// Time of all processes in seconds: all that is neither idle nor waiting for a disk.
fn machine_cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system; idle, iowait; irq, softirq, steal.
    let busy: f64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum();
    busy / rustix::param::clock_ticks_per_second() as f64
}

/// User and system time of a process in seconds.
fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold blanks: count from behind it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

fn status_kib(pid: u32, name: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), name)
}

/// The number behind `name` in a file of `name value` lines.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The processes on this machine that listen on the endpoints' ports.
pub(super) fn local_pids(endpoints: &[String]) -> Vec<u32> {
    let ports: BTreeSet<u16> =
        endpoints.iter().filter_map(|endpoint| local_port(endpoint)).collect();
    let inodes: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|path| listening(path, &ports))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let mut files = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let listens = files.any(|file| {
            let link = fs::read_link(file.path()).unwrap_or_default();
            let name = link.to_string_lossy();
            name.strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.contains(inode))
        });
        if listens {
            pids.push(pid);
        }
    }
    pids
}

fn local_port(endpoint: &str) -> Option<u16> {
    let address = endpoint.rsplit_once("://").map_or(endpoint, |(_, rest)| rest);
    let (host, port) = address.trim_end_matches('/').rsplit_once(':')?;
    let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    if local { port.parse().ok() } else { None }
}

/// The inodes of sockets that listen on one of the ports (`proc(5)`, `/proc/net/tcp`).
fn listening(path: &str, ports: &BTreeSet<u16>) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(path).unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let wanted = ports.contains(&port) && *fields.get(3)? == LISTEN;
        wanted.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    text.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_this_machine_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = local_pids(&[format!("http://127.0.0.1:{port}/")]);
        assert_eq!(found, [std::process::id()]);
        assert!(local_pids(&["http://192.0.2.1:2379".into()]).is_empty());
    }

    #[test]
    fn a_process_that_computes_uses_cpu_and_memory() {
        let pid = std::process::id();
        while cpu_s(pid) <= 0.0 {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
        }
        assert!(status_kib(pid, "VmRSS:") > 0);
        assert!(cpu_s(u32::MAX) <= 0.0, "there is no such process");
    }
}
