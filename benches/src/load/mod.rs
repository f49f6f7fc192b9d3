//! One load on one endpoint: options, connections, the run, the report.
//!
//! Owns: the order of a run: connect, prepare, warm up, measure, report. Must not know: what one
//! operation does. A newcomer's trap: the warm-up is the same load, only not recorded; operations
//! that began in it are not recorded either.

pub mod args;
mod dial;
mod driver;
mod lane;
mod latency;
mod limits;
pub(crate) mod maintenance;
mod pacer;
pub(crate) mod probe;
mod progress;
pub mod report;
mod server;
mod session;
mod wire;
mod workload;

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;

pub use args::{Bench, Common, Workload};
pub use report::Report;

/// Runs one load and prints its report.
///
/// # Errors
/// If the endpoint cannot be reached, or a request that prepares the load fails.
pub async fn run(bench: Bench) -> anyhow::Result<()> {
    if let Workload::Compare(compare) = bench.workload {
        return crate::compare::run(*compare).await;
    }
    let report = measure(&bench).await?;
    let text = if bench.common.json {
        serde_json::to_string_pretty(&report).context("report as JSON")? + "\n"
    } else {
        report.table()
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// Runs one load and returns what was measured.
///
/// # Errors
/// As [`run`].
pub async fn measure(bench: &Bench) -> anyhow::Result<Report> {
    let common = &bench.common;
    limits::raise(common.conns)?;
    let session = session::Session::new(common)?;
    let workload = workload::of(&bench.workload, common).context("this is no single load")?;
    let pids = if common.server_pid.is_empty() {
        server::local_pids(&common.endpoints)
    } else {
        common.server_pid.clone()
    };
    let meters = server::Meters::new(pids, common.endpoints.clone());
    let before = meters.read().await;
    workload.prepare(&session).await.context("preparing the load")?;
    meters.settle().await;
    let shown = !common.json && !common.quiet && std::io::stderr().is_terminal();
    let outcome = driver::run(common, &session, &workload, &meters, shown).await?;
    let extra = workload.extra(&before, &outcome.usage);
    Ok(Report::new(bench, outcome, extra))
}
