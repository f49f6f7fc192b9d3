//! The end of a pod: hooks, signals, the last status, and nothing left behind.
//!
//! Must not know: why the pod ends. A newcomer's trap: the grace period may be shortened while we
//! wait (`kubectl delete --now`); then the wait starts again with what is asked for now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::plan::{app_containers, init_containers, is_sidecar};
use super::resources;
use super::status::final_phase;
use super::worker::{Update, Worker};
use crate::api::ApiError;
use crate::events::Kind;
use crate::runtime::{Container, Observed, RunState};

/// Wait before a step of the end that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Least time a container has after its hook used the grace period up (the kubelet's).
const GRACE_MIN: Duration = Duration::from_secs(2);

impl Worker {
    /// Stops the pod, reports its end, removes what it had, and deletes it from the API.
    pub(super) async fn terminate(&mut self) {
        self.probes.stop();
        loop {
            let update = self.updates.borrow_and_update().clone();
            match self.stop_all(&update).await {
                Ok(true) => break,
                // The grace period was shortened.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(pod = %self.uid, error, "the pod could not be stopped yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        let update = self.updates.borrow_and_update().clone();
        self.report_end(&update.pod).await;
        self.remove_all(&update.pod).await;
        self.delete(update).await;
    }

    /// Ends a pod that ran longer than its `activeDeadlineSeconds`. It stays in the API.
    pub(super) async fn end_over_deadline(&mut self, pod: &Pod) -> Duration {
        let text = "Pod was active on the node longer than the specified deadline";
        self.probes.stop();
        self.shared.events.pod(pod, Kind::Normal, "DeadlineExceeded", text);
        let update = Update { pod: Arc::new(pod.clone()), gone: false };
        if !matches!(self.stop_all(&update).await, Ok(true)) {
            return RETRY;
        }
        let Ok(observed) = self.shared.runtime.observe(&self.uid).await else { return RETRY };
        let mut status = self.status(pod, &observed, &BTreeMap::new(), true);
        status.phase = Some("Failed".to_owned());
        status.reason = Some("DeadlineExceeded".to_owned());
        status.message = Some(text.to_owned());
        unready(&mut status);
        if self.send(pod, status).await { crate::limits::RESYNC_EVERY } else { RETRY }
    }

    /// Stops containers, then sandboxes. False: something newer is wanted.
    async fn stop_all(&mut self, update: &Update) -> Result<bool, String> {
        let grace = grace(update);
        let observed = self.observe().await?;
        let pod = &update.pod;
        let is_side = |it: &Container| {
            init_containers(pod).iter().any(|wanted| wanted.name == it.name && is_sidecar(wanted))
        };
        let running = |it: &&Container| matches!(it.state, RunState::Running | RunState::Unknown);
        let (sidecars, apps): (Vec<_>, Vec<_>) =
            observed.containers.iter().filter(running).partition(|it| is_side(it));
        let begun = kijabi_base::clock::now();
        let mut updates = self.updates.clone();
        updates.borrow_and_update();
        let stopping = async {
            let mut stops: FuturesUnordered<_> =
                apps.iter().map(|it| self.stop_announced(pod, it, grace)).collect();
            while let Some(stopped) = stops.next().await {
                stopped?;
            }
            // Sidecars serve the others to the end, so they go last, in reverse order.
            for wanted in init_containers(pod).iter().rev() {
                for it in sidecars.iter().filter(|it| it.name == wanted.name) {
                    let left = grace.saturating_sub(begun.elapsed());
                    self.stop_announced(pod, it, left.max(grace.min(GRACE_MIN))).await?;
                }
            }
            Ok::<(), String>(())
        };
        tokio::select! {
            stopped = stopping => stopped?,
            () = shortened(&mut updates, grace) => return Ok(false),
        }
        for sandbox in observed.sandboxes.iter().filter(|it| it.ready) {
            self.shared.runtime.stop_sandbox(&sandbox.id).await.map_err(|it| it.to_string())?;
        }
        Ok(true)
    }

    async fn observe(&self) -> Result<Observed, String> {
        self.shared.runtime.observe(&self.uid).await.map_err(|error| error.to_string())
    }

    async fn stop_announced(
        &self,
        pod: &Pod,
        container: &Container,
        grace: Duration,
    ) -> Result<(), String> {
        let name = &container.name;
        let text = format!("Stopping container {name}");
        self.shared.events.container(pod, name, Kind::Normal, "Killing", text);
        self.stop_container(pod, &container.id, name, grace).await.map_err(|it| it.to_string())
    }

    /// Runs the preStop hook, then stops the container with what is left of the grace period.
    pub(super) async fn stop_container(
        &self,
        pod: &Pod,
        id: &str,
        name: &str,
        grace: Duration,
    ) -> Result<(), crate::runtime::RuntimeError> {
        let begun = kijabi_base::clock::now();
        let containers = app_containers(pod).iter().chain(init_containers(pod));
        let wanted = containers.clone().find(|it| it.name == name);
        if let Some(wanted) = wanted
            && !grace.is_zero()
        {
            self.pre_stop(pod, wanted, id, grace).await;
        }
        let left = grace.saturating_sub(begun.elapsed()).max(grace.min(GRACE_MIN));
        self.shared.runtime.stop_container(id, left).await
    }

    async fn report_end(&mut self, pod: &Pod) {
        let ended = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        if matches!(ended, Some("Succeeded" | "Failed")) {
            return;
        }
        let Ok(observed) = self.observe().await else { return };
        let mut status = self.status(pod, &observed, &BTreeMap::new(), true);
        if !observed.containers.is_empty() {
            status.phase = Some(final_phase(&status).to_owned());
        }
        unready(&mut status);
        self.send(pod, status).await;
    }

    /// Removes sandboxes, containers, volumes, logs and cgroups of the pod.
    async fn remove_all(&mut self, pod: &Pod) {
        loop {
            match self.try_remove(pod).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(pod = %self.uid, error, "the pod could not be removed yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_remove(&self, pod: &Pod) -> Result<(), String> {
        let observed = self.observe().await?;
        for sandbox in &observed.sandboxes {
            // Also when it is down already: only a stop gives its address back for sure.
            self.shared.runtime.stop_sandbox(&sandbox.id).await.map_err(|it| it.to_string())?;
            self.shared.runtime.remove_sandbox(&sandbox.id).await.map_err(|it| it.to_string())?;
        }
        let Some(volumes) = &self.shared.volumes else { return Ok(()) };
        volumes.tear_down(&self.uid).await?;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let meta = &pod.metadata;
        volumes.remove_logs(&text(&meta.namespace), &text(&meta.name), &self.uid);
        let groups: Vec<String> = match pod.spec {
            Some(_) => vec![resources::cgroup(&self.shared.node.cgroup, pod)],
            // A pod known from the runtime only: its class is unknown.
            None => ["", "/burstable", "/besteffort"]
                .map(|class| format!("{}{class}/pod{}", self.shared.node.cgroup, self.uid))
                .to_vec(),
        };
        let removed = kijabi_base::tasks::blocking(move || {
            for group in groups {
                crate::containerd::teardown::remove_cgroups(&group);
            }
        });
        let _ = removed.await;
        Ok(())
    }

    async fn delete(&mut self, mut update: Update) {
        let meta = &update.pod.metadata;
        let ns = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        while !update.gone {
            match self.shared.source.delete_pod(&ns, &name, &self.uid).await {
                Ok(()) | Err(ApiError::NotFound(_) | ApiError::Conflict(_)) => return,
                Err(ApiError::Other(error)) => {
                    tracing::warn!(pod = %self.uid, %error, "the pod could not be deleted yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
            update = self.updates.borrow_and_update().clone();
        }
    }
}

fn unready(status: &mut PodStatus) {
    for it in status.container_statuses.iter_mut().flatten() {
        it.ready = false;
        it.started = Some(false);
    }
    let phase = status.phase.clone().unwrap_or_default();
    let reason = match phase.as_str() {
        "Succeeded" => "PodCompleted",
        "Failed" => "PodFailed",
        _ => return,
    };
    for it in status.conditions.iter_mut().flatten() {
        if matches!(it.type_.as_str(), "Ready" | "ContainersReady") {
            if it.status != "False" {
                it.last_transition_time = Some(crate::time::time(crate::time::now()));
            }
            "False".clone_into(&mut it.status);
            it.reason = Some(reason.to_owned());
            it.message = None;
        }
    }
}

/// How long containers have to end by themselves.
fn grace(update: &Update) -> Duration {
    let deletion = update.pod.metadata.deletion_grace_period_seconds;
    let spec = update.pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds);
    let seconds = deletion.or(spec).unwrap_or(if update.pod.spec.is_some() { 30 } else { 1 });
    Duration::from_secs(seconds.max(0) as u64)
}

/// Resolves once a shorter grace period than this is asked for.
async fn shortened(updates: &mut tokio::sync::watch::Receiver<Update>, current: Duration) {
    loop {
        if updates.changed().await.is_err() {
            return std::future::pending().await;
        }
        if grace(&updates.borrow_and_update()) < current {
            return;
        }
    }
}
