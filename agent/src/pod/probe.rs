//! Startup, readiness and liveness probes: one task a probe, findings to the pod's worker.
//!
//! Owns: thresholds and periods. Must not know: what a finding leads to. A newcomer's trap: until
//! the startup probe has succeeded the other two do not run, and a readiness probe that has not
//! run yet means "not ready".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Wanted, Pod, Probe};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::plan::{app_containers, init_containers, is_sidecar};
use super::worker::Worker;
use super::{Local, Shared, http};
use crate::events::Kind as EventKind;
use crate::runtime::{Observed, RunState, Runtime};

/// Findings waiting for the worker.
const FINDINGS_MAX: usize = 64;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Has it come up?
    Startup,
    /// Does it serve?
    Readiness,
    /// Is it still sound?
    Liveness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What a probe has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    container: String,
    name: String,
    kind: Kind,
    /// The verdict, once its threshold is reached.
    verdict: Option<bool>,
    /// What a failed try said.
    failure: Option<String>,
}

/// The probes of one pod.
pub(super) struct Probes {
    tasks: BTreeMap<(String, Kind), JoinHandle<()>>,
    sender: mpsc::Sender<Finding>,
    findings: mpsc::Receiver<Finding>,
}

impl Default for Probes {
    fn default() -> Self {
        let (sender, findings) = mpsc::channel(FINDINGS_MAX);
        Self { tasks: BTreeMap::new(), sender, findings }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Probes {
    /// Ends all probes.
    pub(super) fn stop(&mut self) {
        for task in std::mem::take(&mut self.tasks).into_values() {
            task.abort();
        }
    }

    /// The next finding.
    pub(super) async fn next(&mut self) -> Finding {
        match self.findings.recv().await {
            Some(finding) => finding,
            None => std::future::pending().await,
        }
    }

    /// Starts the probes that are due and ends those whose container is no more.
    pub(super) fn follow(
        &mut self,
        shared: &Arc<Shared>,
        pod: &Pod,
        observed: &Observed,
        local: &Local,
    ) {
        let is_running = |id: &str| {
            observed.containers.iter().any(|it| it.id == id && it.state == RunState::Running)
        };
        self.tasks.retain(|(id, _), task| {
            let keep = is_running(id);
            if !keep {
                task.abort();
            }
            keep
        });
        let sidecars = init_containers(pod).iter().filter(|it| is_sidecar(it));
        for wanted in app_containers(pod).iter().chain(sidecars) {
            let Some(run) = observed.latest(&wanted.name) else { continue };
            if run.state != RunState::Running {
                continue;
            }
            let started = local.is_started(wanted, &run.id);
            let due = [
                (Kind::Startup, wanted.startup_probe.as_ref().filter(|_| !started)),
                (Kind::Readiness, wanted.readiness_probe.as_ref().filter(|_| started)),
                (Kind::Liveness, wanted.liveness_probe.as_ref().filter(|_| started)),
            ];
            for (kind, probe) in due {
                let Some(probe) = probe else { continue };
                let key = (run.id.clone(), kind);
                if self.tasks.contains_key(&key) {
                    continue;
                }
                let host_network =
                    pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or_default();
                let ip = match observed.sandboxes.first() {
                    Some(sandbox) if !host_network => {
                        sandbox.ips.first().cloned().unwrap_or_default()
                    }
                    _ => shared.node.ip.to_string(),
                };
                let prober = Prober {
                    runtime: shared.runtime.clone(),
                    sender: self.sender.clone(),
                    container: run.id.clone(),
                    wanted: wanted.clone(),
                    kind,
                    probe: probe.clone(),
                    ip,
                    simulated: shared.volumes.is_none(),
                };
                let age = shared_age(run.started_at);
                self.tasks.insert(key, kijabi_base::tasks::spawn("probe", prober.run(age)));
            }
        }
    }
}

/// How long a container has been running.
fn shared_age(started_at: i64) -> Duration {
    let now = kijabi_base::clock::wall_ms() as i64;
    Duration::from_millis((now - started_at / 1_000_000).max(0) as u64)
}

impl Worker {
    /// Takes a finding in.
    pub(super) fn note(&mut self, pod: &Pod, finding: &Finding) {
        if let Some(failure) = &finding.failure {
            let text = format!("{} probe failed: {failure}", finding.kind.name());
            self.shared.events.container(pod, &finding.name, EventKind::Warning, "Unhealthy", text);
        }
        let Some(verdict) = finding.verdict else { return };
        let state = self.local.probes.entry(finding.container.clone()).or_default();
        match (finding.kind, verdict) {
            (Kind::Startup, good) => {
                state.started = good;
                state.startup_failed = !good;
            }
            (Kind::Readiness, good) => state.ready = good,
            (Kind::Liveness, good) => state.liveness_failed = !good,
        }
    }
}

struct Prober {
    runtime: Arc<dyn Runtime>,
    sender: mpsc::Sender<Finding>,
    container: String,
    wanted: Wanted,
    kind: Kind,
    probe: Probe,
    ip: String,
    simulated: bool,
}

impl Prober {
    async fn run(self, age: Duration) {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.filter(|it| *it > 0).map_or(default, |it| it as u64))
        };
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        let period = seconds(self.probe.period_seconds, 10);
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let wanted_runs = |good: bool| {
            let (value, default) = if good {
                (self.probe.success_threshold, 1)
            } else {
                (self.probe.failure_threshold, 3)
            };
            value.filter(|it| *it > 0).unwrap_or(default)
        };
        tokio::time::sleep(delay.saturating_sub(age)).await;
        let mut verdict: Option<bool> = None;
        let mut run: (bool, i32) = (true, 0);
        loop {
            let begun = kijabi_base::clock::now();
            let result = self.probe_once(timeout).await;
            let good = result.is_ok();
            run = if run.0 == good { (good, run.1 + 1) } else { (good, 1) };
            // A first failure of a readiness probe changes nothing: not ready is how it begins.
            let reached = run.1 >= wanted_runs(good) && verdict != Some(good);
            if reached {
                verdict = Some(good);
            }
            if reached || !good {
                let finding = Finding {
                    container: self.container.clone(),
                    name: self.wanted.name.clone(),
                    kind: self.kind,
                    verdict: reached.then_some(good),
                    failure: result.err(),
                };
                if self.sender.send(finding).await.is_err() {
                    return;
                }
            }
            // A startup probe has one verdict; so has a liveness probe that failed.
            if reached && (self.kind == Kind::Startup || (self.kind == Kind::Liveness && !good)) {
                return;
            }
            tokio::time::sleep(period.saturating_sub(begun.elapsed())).await;
        }
    }

    /// One try. The error is what the event tells.
    async fn probe_once(&self, timeout: Duration) -> Result<(), String> {
        // Nothing listens behind a simulated container; its probes succeed as its containers run.
        if self.simulated {
            return Ok(());
        }
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let exec = self.runtime.exec(&self.container, &command, timeout);
            let output = tokio::time::timeout(timeout, exec).await;
            let output = output
                .map_err(|_| format!("command timed out: {command:?} timed out after {timeout:?}"))?
                .map_err(|error| error.to_string())?;
            let text = [output.stdout, output.stderr].concat();
            return match output.code {
                0 => Ok(()),
                _ => Err(String::from_utf8_lossy(&text).into_owned()),
            };
        }
        if let Some(get) = &self.probe.http_get {
            let request = http::Request::new(get, &self.wanted, &self.ip)?;
            let answer = http::get(&request, timeout).await?;
            return match answer.status {
                200..400 => Ok(()),
                status => {
                    tracing::trace!(status, body = answer.body, "a probe failed");
                    Err(format!("HTTP probe failed with statuscode: {status}"))
                }
            };
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let port = http::port(&tcp.port, &self.wanted)?;
            let host = tcp.host.clone().filter(|it| !it.is_empty()).unwrap_or(self.ip.clone());
            let connect = tokio::net::TcpStream::connect((host.as_str(), port));
            return match tokio::time::timeout(timeout, connect).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => {
                    let what = http::go_errno(&error);
                    Err(format!("dial tcp {host}:{port}: connect: {what}"))
                }
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            };
        }
        if let Some(grpc) = &self.probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            return super::grpc::check(&self.ip, grpc.port, service, timeout).await;
        }
        Err("missing probe handler".to_owned())
    }
}
