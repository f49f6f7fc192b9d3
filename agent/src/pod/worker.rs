//! One pod's worker: look, plan, do, report, and wait for a reason to look again.
//!
//! Owns: the pod's life on this node from its first sight to its end. Must not know: other pods. A
//! newcomer's trap: the worker may be dropped at any await (the agent stops) and must find its way
//! again from what the runtime and the API know; nothing important is kept only here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kijabi_base::clock::Instant;
use tokio::sync::{Notify, watch};

use super::backoff::{Millis, go_duration};
use super::plan::{self, Plan, Step, View};
use super::probe::Probes;
use super::{Local, Shared, Waiting};
use crate::events::Kind;
use crate::limits::RESYNC_EVERY;
use crate::runtime::Observed;
use crate::volume::Places;

/// How often mounted configMaps, secrets and tokens are brought up to date (the kubelet's period).
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// Longest wait between two tries to set volumes up (the kubelet's).
const MOUNT_RETRY_MAX: Duration = Duration::from_secs(122);
/// Wait after something failed: long enough to show why, before the back-off shows itself.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Moves in one go; more means that plan and runtime disagree.
const MOVES_MAX: usize = 50;

/// The newest known state of a pod in the API.
#[derive(Clone, Debug)]
pub(super) struct Update {
    /// The pod.
    pub(super) pod: Arc<Pod>,
    /// It is no longer in the API.
    pub(super) gone: bool,
}

impl Update {
    /// Whether the pod is to be stopped.
    pub(super) fn stops(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// Resolves once the pod is to be stopped.
pub(super) async fn stop_wanted(updates: &mut watch::Receiver<Update>) {
    loop {
        if updates.borrow_and_update().stops() {
            return;
        }
        if updates.changed().await.is_err() {
            // Nobody will ever say so any more.
            return std::future::pending().await;
        }
    }
}

/// The worker of one pod.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) uid: String,
    pub(super) updates: watch::Receiver<Update>,
    pub(super) poke: Arc<Notify>,
    pub(super) local: Local,
    /// Why containers could not be started just now, by name.
    pub(super) errors: BTreeMap<String, Waiting>,
    /// Where the volumes are, once they are set up.
    pub(super) places: Places,
    /// Termination messages, by container id.
    pub(super) messages: BTreeMap<String, String>,
    /// The status as it was last sent.
    pub(super) sent: Option<PodStatus>,
    pub(super) probes: Probes,
    held: BTreeSet<String>,
    prepared_at: Option<Instant>,
    mount_retry: Duration,
}

impl Worker {
    /// A worker that knows nothing yet but where to hear of its pod.
    pub(super) fn new(
        shared: Arc<Shared>,
        uid: String,
        updates: watch::Receiver<Update>,
        poke: Arc<Notify>,
    ) -> Self {
        Self {
            shared,
            uid,
            updates,
            poke,
            local: Local::default(),
            errors: BTreeMap::new(),
            places: Places::new(),
            messages: BTreeMap::new(),
            sent: None,
            probes: Probes::default(),
            held: BTreeSet::new(),
            prepared_at: None,
            mount_retry: Duration::from_millis(500),
        }
    }

    /// Keeps the pod as it should be until it is gone.
    pub(super) async fn run(mut self) {
        loop {
            let update = self.updates.borrow_and_update().clone();
            if update.stops() {
                self.terminate().await;
                return self.shared.known.forget(&self.uid);
            }
            self.shared.known.note(&self.uid, self.shown(&update.pod));
            let wait = self.sync(&update.pod).await;
            tokio::select! {
                changed = self.updates.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.poke.notified() => {}
                finding = self.probes.next() => self.note(&update.pod, &finding),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The wall clock, in milliseconds.
    #[allow(clippy::unused_self, reason = "reads like a property of the worker's world")]
    pub(super) fn now(&self) -> Millis {
        kijabi_base::clock::wall_ms() as Millis
    }

    /// Brings the pod as far as it can be brought now. Gives the longest time to the next look.
    async fn sync(&mut self, pod: &Pod) -> Duration {
        for _ in 0..MOVES_MAX {
            let observed = match self.shared.runtime.observe(&self.uid).await {
                Ok(observed) => observed,
                Err(error) => {
                    tracing::warn!(pod = %self.uid, %error, "the runtime does not tell of the pod");
                    return AFTER_FAILURE;
                }
            };
            let ended = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            if matches!(ended, Some("Succeeded" | "Failed")) {
                self.probes.stop();
                return self.stay_ended(pod, &observed).await;
            }
            if let Some(left) = self.deadline(pod) {
                if left.is_zero() {
                    return self.end_over_deadline(pod).await;
                }
                tracing::trace!(pod = %self.uid, ?left, "the pod has a deadline");
            }
            self.probes.follow(&self.shared, pod, &observed, &self.local);
            let plan =
                plan::plan(View { pod, observed: &observed, local: &self.local, now: self.now() });
            self.announce_held(pod, &plan);
            if (needs_volumes(&plan) || self.refresh_is_due())
                && let Err(wait) = self.prepare(pod, &observed, needs_volumes(&plan)).await
            {
                self.report(pod, &observed, &plan.held, false).await;
                return wait;
            }
            let reported = self.report(pod, &observed, &plan.held, false).await;
            if plan.steps.is_empty() {
                if plan.finished && reported {
                    self.give_back_volumes().await;
                }
                let wait = plan.wake.unwrap_or(RESYNC_EVERY).min(RESYNC_EVERY);
                let wait = self.deadline(pod).map_or(wait, |left| left.min(wait));
                return if reported { wait } else { AFTER_FAILURE };
            }
            let outcome = self.execute(pod, &observed, &plan.steps).await;
            if outcome.failed {
                if let Ok(observed) = self.shared.runtime.observe(&self.uid).await {
                    self.report(pod, &observed, &plan.held, false).await;
                }
                return AFTER_FAILURE;
            }
            if self.updates.borrow().stops() {
                return Duration::ZERO;
            }
        }
        tracing::warn!(pod = %self.uid, "the pod does not come to rest");
        AFTER_FAILURE
    }

    /// A pod that is Succeeded or Failed in the API is never run again, whatever the runtime has.
    async fn stay_ended(&mut self, pod: &Pod, observed: &Observed) -> Duration {
        let mut steps = Vec::new();
        for it in &observed.containers {
            if it.state == crate::runtime::RunState::Running {
                steps.push(Step::Kill {
                    id: it.id.clone(),
                    name: it.name.clone(),
                    message: format!("Stopping container {}", it.name),
                });
            }
        }
        for sandbox in observed.sandboxes.iter().filter(|it| it.ready) {
            steps.push(Step::StopSandbox { id: sandbox.id.clone() });
        }
        let outcome = self.execute(pod, observed, &steps).await;
        self.give_back_volumes().await;
        if outcome.failed { AFTER_FAILURE } else { RESYNC_EVERY }
    }

    async fn give_back_volumes(&mut self) {
        if let Some(volumes) = &self.shared.volumes
            && let Err(error) = volumes.tear_down(&self.uid).await
        {
            tracing::warn!(pod = %self.uid, %error, "the pod's volumes could not be removed");
        }
        self.places.clear();
    }

    /// What is left of `activeDeadlineSeconds`; none: the pod has no deadline.
    fn deadline(&self, pod: &Pod) -> Option<Duration> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let started = pod.status.as_ref()?.start_time.as_ref()?.0.as_millisecond();
        let left = started + seconds * 1_000 - self.now();
        Some(Duration::from_millis(left.max(0) as u64))
    }

    /// Says once that a container waits for its back-off.
    fn announce_held(&mut self, pod: &Pod, plan: &Plan) {
        self.held.retain(|name| plan.held.contains_key(name));
        for (name, why) in &plan.held {
            if !self.held.insert(name.clone()) {
                continue;
            }
            let event = |kind, reason: &str, text: String| {
                self.shared.events.container(pod, name, kind, reason, text);
            };
            match why.reason.as_str() {
                "CrashLoopBackOff" => {
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}",
                        plan::pod_id(pod)
                    );
                    event(Kind::Warning, "BackOff", text);
                    let wait = self.local.restarts.get(name).map(|it| go_duration(it.wait()));
                    tracing::debug!(pod = %self.uid, name, ?wait, "crash loop");
                }
                "ImagePullBackOff" => {
                    let image = plan::app_containers(pod)
                        .iter()
                        .chain(plan::init_containers(pod))
                        .find(|it| it.name == *name)
                        .and_then(|it| it.image.clone())
                        .unwrap_or_default();
                    event(Kind::Normal, "BackOff", format!("Back-off pulling image {image:?}"));
                    event(Kind::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
                }
                _ => {}
            }
        }
    }

    fn refresh_is_due(&self) -> bool {
        let has_volumes = self.shared.volumes.is_some();
        has_volumes && self.prepared_at.is_some_and(|at| at.elapsed() >= REFRESH_EVERY)
    }

    /// Sets the volumes up, or brings them up to date. The error is how long to wait.
    async fn prepare(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        needed: bool,
    ) -> Result<(), Duration> {
        let Some(volumes) = self.shared.volumes.clone() else { return Ok(()) };
        if needed && self.prepared_at.is_some() && !self.places.is_empty() && !self.refresh_is_due()
        {
            return Ok(());
        }
        let around = self.around(pod, observed);
        match volumes.set_up(pod, &around, self.shared.source.as_ref()).await {
            Ok(places) => {
                self.places = places;
                self.prepared_at = Some(kijabi_base::clock::now());
                self.mount_retry = Duration::from_millis(500);
                Ok(())
            }
            Err(error) if needed => {
                let text = error.to_string();
                self.shared.events.pod(pod, Kind::Warning, "FailedMount", text);
                let wait = self.mount_retry;
                self.mount_retry = (wait * 2).min(MOUNT_RETRY_MAX);
                Err(wait)
            }
            Err(error) => {
                // A running container keeps what it has; the next refresh may do better.
                tracing::warn!(pod = %self.uid, %error, "volumes were not brought up to date");
                self.prepared_at = Some(kijabi_base::clock::now());
                Ok(())
            }
        }
    }
}

/// Whether a plan makes something that volumes must be there for.
fn needs_volumes(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::RunSandbox { .. } | Step::Start { .. }))
}
