//! `kijabi down`: removes what a stopped or killed `kijabi up` left on the machine.
//!
//! Owns: stopping a cluster that still runs, then the agent's teardown. Must not know: what the
//! agent made. A newcomer's trap: the data itself (store, certificates) stays; `make down` removes
//! the folder afterwards.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kijabi_base::clock;
use rustix::process::{Pid, Signal};

use crate::{cli, up};

/// How long a running cluster may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Stops the cluster of this folder if it runs, and removes what it made outside its folder.
pub(crate) async fn down(args: cli::Down) -> anyhow::Result<()> {
    let data = &args.data.data_dir;
    if let Some(pid) = running(data) {
        stop(data, pid).await?;
    }
    let agent = data.join(up::AGENT_FOLDER);
    if agent.exists() {
        kijabi_agent::teardown(&agent).await.context("cannot remove the node's pods")?;
    }
    Ok(())
}

/// The process that runs this folder's cluster. The pid file alone does not tell: the number may
/// have passed to another program, so what it was started as must be a `kijabi up`.
fn running(data: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(data.join(up::PID_FILE)).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0);
    let is_kijabi = arguments.next()?.ends_with(b"kijabi");
    let is_up = arguments.any(|argument| argument == b"up");
    (is_kijabi && is_up).then(|| Pid::from_raw(pid)).flatten()
}

async fn stop(data: &Path, pid: Pid) -> anyhow::Result<()> {
    let _ = rustix::process::kill_process(pid, Signal::TERM);
    let deadline = clock::now() + STOP_MAX;
    while running(data) == Some(pid) && rustix::process::test_kill_process(pid).is_ok() {
        if clock::now() >= deadline {
            tracing::warn!("the cluster did not stop in time and is killed");
            rustix::process::kill_process(pid, Signal::KILL).context("cannot kill the cluster")?;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
