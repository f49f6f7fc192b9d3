//! What a run comes to, as a table and as JSON.
//!
//! Owns: the derived figures. Must not know: how they were measured. A newcomer's trap: CPU an
//! operation is the figure that a noisy machine changes least.

use std::fmt::Write as _;

use super::args::Bench;
use super::driver::Outcome;
pub use super::latency::Percentiles;
pub use super::maintenance::Chore;
pub use super::server::Usage;

/// What was measured beside the operations: the events watchers got.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Extra {
    /// What is counted.
    pub name: String,
    /// How many.
    pub count: u64,
    /// How many a second.
    pub per_second: f64,
    /// How long each took, in microseconds.
    pub latency: Percentiles,
    /// Bytes of server memory that each of them takes.
    pub bytes_each: Option<f64>,
}

/// The result of one run.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The load's name.
    pub workload: String,
    /// Endpoints it was made on.
    pub endpoints: Vec<String>,
    /// Connections.
    pub conns: usize,
    /// Clients.
    pub clients: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed.
    pub errors: u64,
    /// The first failure.
    pub first_error: Option<String>,
    /// Operations a second.
    pub per_second: f64,
    /// Latency in microseconds.
    pub latency: Percentiles,
    /// Microseconds of server CPU an operation.
    pub server_cpu_us: f64,
    /// Microseconds of this program's CPU an operation.
    pub client_cpu_us: f64,
    /// Syncs an operation.
    pub fsyncs_per_operation: f64,
    /// Bytes the server wrote to disk an operation.
    pub written_per_operation: f64,
    /// Share of its threads' time that this program used: near 1 it is what limits.
    pub client_busy: f64,
    /// Cores that others on this machine used meanwhile.
    pub others_cores: f64,
    /// Counters of the servers.
    pub usage: Usage,
    /// What was done to the server meanwhile.
    pub maintenance: Vec<Chore>,
    /// What was measured beside.
    pub extra: Option<Extra>,
}

impl Report {
    pub(super) fn new(bench: &Bench, outcome: Outcome, extra: Option<Extra>) -> Self {
        let (common, usage) = (&bench.common, outcome.usage);
        let seconds = outcome.elapsed.as_secs_f64();
        let each = |total: f64| total / outcome.operations.max(1) as f64;
        Self {
            workload: bench.workload.name().into(),
            endpoints: common.endpoints.clone(),
            conns: common.conns,
            clients: common.clients,
            seconds,
            operations: outcome.operations,
            errors: outcome.errors,
            first_error: outcome.first_error,
            per_second: outcome.operations as f64 / seconds,
            latency: outcome.latency,
            server_cpu_us: each(usage.server_cpu_s * 1e6),
            client_cpu_us: each(usage.client_cpu_s * 1e6),
            fsyncs_per_operation: each(usage.fsyncs as f64),
            written_per_operation: each(usage.written_bytes as f64),
            client_busy: usage.client_cpu_s / seconds / common.threads() as f64,
            others_cores: usage.others_cpu_s / seconds,
            usage,
            maintenance: outcome.chores,
            extra,
        }
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<24} {value}");
        };
        row(
            "load",
            format!("{}, {} clients, {} connections", self.workload, self.clients, self.conns),
        );
        row(
            "operations",
            format!("{} in {:.1} s, {:.0}/s", self.operations, self.seconds, self.per_second),
        );
        row("latency", percentiles(&self.latency));
        if let Some(extra) = &self.extra {
            row(&extra.name, format!("{}, {:.0}/s", extra.count, extra.per_second));
            if let Some(bytes) = extra.bytes_each {
                row("  server memory", format!("{:.1} KB each", bytes / 1e3));
            }
            if extra.latency.max > 0 {
                row("  their latency", percentiles(&extra.latency));
            }
        }
        if self.usage.rss_bytes > 0 {
            row("server CPU", format!("{:.1} µs an operation", self.server_cpu_us));
            row(
                "server memory",
                format!(
                    "{:.1} MB, at most {:.1} MB",
                    self.usage.rss_bytes as f64 / 1e6,
                    self.usage.rss_peak_bytes as f64 / 1e6
                ),
            );
            row("server writes", format!("{:.0} bytes an operation", self.written_per_operation));
        }
        row("fsyncs (by /metrics)", format!("{:.4} an operation", self.fsyncs_per_operation));
        for chore in &self.maintenance {
            row(&chore.name, format!("{:.2} s, {} bytes", chore.seconds, chore.bytes));
        }
        row(
            "this program's CPU",
            format!(
                "{:.1} µs an operation, {:.0} % of its threads",
                self.client_cpu_us,
                self.client_busy * 100.0
            ),
        );
        row("others' CPU", format!("{:.2} cores", self.others_cores));
        if self.errors > 0 {
            let first = self.first_error.as_deref().unwrap_or_default();
            row("errors", format!("{}, the first: {first}", self.errors));
        }
        text
    }
}

fn percentiles(of: &Percentiles) -> String {
    let ms = |micros: u64| micros as f64 / 1_000.0;
    format!(
        "p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
        ms(of.p50),
        ms(of.p90),
        ms(of.p99),
        ms(of.p999),
        ms(of.max)
    )
}
