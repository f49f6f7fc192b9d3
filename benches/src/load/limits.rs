//! Bounds of a run.
//!
//! Owns: how many files this process may have open. Must not know: what for. A newcomer's trap:
//! the soft limit is often 1,024 although the hard one allows far more.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside connections: a timer each, and what any process has.
const FILES_EACH: u64 = 2;
const FILES_BESIDE: u64 = 128;

/// Allows as many files as so many connections need.
pub(super) fn raise(conns: usize) -> anyhow::Result<()> {
    let wanted = conns as u64 * FILES_EACH + FILES_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(
        maximum >= wanted,
        "{conns} connections need {wanted} open files; the limit is {maximum} (ulimit -Hn)"
    );
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}
