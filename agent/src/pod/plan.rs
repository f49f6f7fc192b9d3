//! What to do next for a pod. PURE: all the thinking of a pod worker is here.
//!
//! In: the pod, what the runtime runs of it, what the worker remembers, the time. Out: steps in
//! order. A newcomer's trap: a plan is one short move, not the whole way. After its steps are done
//! the worker looks again and plans again, so a step never relies on the result of another.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Wanted, Pod};

use super::backoff::{Millis, go_duration};
use super::{Local, Waiting};
use crate::runtime::{Container, Observed, RunState, Sandbox};

/// The annotation that tells whether a container still is what the pod asks for.
pub const HASH: &str = "io.kubernetes.container.hash";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a sandbox.
    RunSandbox {
        /// Its number, from 0.
        attempt: u32,
    },
    /// End a sandbox with all containers in it.
    StopSandbox {
        /// Which.
        id: String,
    },
    /// Forget an ended sandbox.
    RemoveSandbox {
        /// Which.
        id: String,
    },
    /// Make and start a container.
    Start {
        /// Its name in the pod.
        name: String,
        /// Its restart count.
        attempt: u32,
        /// When the run before ended, if there was one: the start counts against the back-off.
        after: Option<Millis>,
    },
    /// End a container.
    Kill {
        /// Which.
        id: String,
        /// Its name in the pod.
        name: String,
        /// The event's text.
        message: String,
    },
    /// Forget an ended container.
    RemoveContainer {
        /// Which.
        id: String,
    },
}

/// What to do now, and when to look again at the latest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; the first that fails ends the round.
    pub steps: Vec<Step>,
    /// Containers that wait for their back-off, with what their status shows.
    pub held: BTreeMap<String, Waiting>,
    /// The earliest end of a back-off.
    pub wake: Option<Duration>,
    /// The pod has come to its end by itself (Succeeded or Failed).
    pub finished: bool,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// What the runtime has of it.
    pub observed: &'a Observed,
    /// What the worker remembers.
    pub local: &'a Local,
    /// Now.
    pub now: Millis,
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Always.
    Always,
    /// If it failed.
    OnFailure,
    /// Never.
    Never,
}

impl Policy {
    /// The pod's policy.
    pub fn of(pod: &Pod) -> Self {
        let name = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        Self::named(name.unwrap_or_default())
    }

    /// Whether a container's run that ended with this code is followed by another: by the
    /// container's own rules, then its own policy, then the pod's.
    pub fn restarts_container(self, wanted: &Wanted, exit_code: i32) -> bool {
        let rules = wanted.restart_policy_rules.iter().flatten();
        let applies = rules.filter(|rule| rule.action == "Restart").any(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
                listed == (codes.operator == "In")
            })
        });
        let own = wanted.restart_policy.as_deref().map(Self::named);
        applies || own.unwrap_or(self).restarts(exit_code)
    }

    fn named(name: &str) -> Self {
        match name {
            "Never" => Self::Never,
            "OnFailure" => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a run that ended with this code is followed by another.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// Whether an init container stays up beside the others ("sidecar").
pub fn is_sidecar(container: &Wanted) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's init containers.
pub fn init_containers(pod: &Pod) -> &[Wanted] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

/// The pod's containers.
pub fn app_containers(pod: &Pod) -> &[Wanted] {
    pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

/// The plan for a pod that shall run.
pub fn plan(view: View<'_>) -> Plan {
    let mut plan = Plan::default();
    if finished(view) {
        plan.finished = true;
        stop_all(view, &mut plan);
        return plan;
    }
    match current_sandbox(view) {
        Some(sandbox) => containers(view, sandbox, &mut plan),
        None => new_sandbox(view, &mut plan),
    }
    collect_garbage(view, &mut plan);
    plan
}

/// The sandbox the pod runs in, if it is up and has an address.
pub fn current_sandbox(view: View<'_>) -> Option<&Sandbox> {
    let host_network =
        view.pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default();
    let newest = view.observed.sandboxes.first()?;
    (newest.ready && (host_network || !newest.ips.is_empty())).then_some(newest)
}

/// Whether nothing of the pod will run (again): all containers ended for good, or an init
/// container failed for good.
pub fn finished(view: View<'_>) -> bool {
    let policy = Policy::of(view.pod);
    let ended_for_good = |container: &Wanted| {
        let latest = view.observed.latest(&container.name);
        latest.is_some_and(|it| {
            it.state == RunState::Exited && !policy.restarts_container(container, it.exit_code)
        })
    };
    let init_failed = policy == Policy::Never
        && init_containers(view.pod).iter().filter(|it| !is_sidecar(it)).any(|it| {
            let latest = view.observed.latest(&it.name);
            latest.is_some_and(|run| run.state == RunState::Exited && run.exit_code != 0)
        });
    init_failed || app_containers(view.pod).iter().all(ended_for_good)
}

/// A finished pod keeps its dead containers, for their logs; the rest is stopped.
fn stop_all(view: View<'_>, plan: &mut Plan) {
    for container in view.observed.containers.iter().filter(|it| it.state == RunState::Running) {
        plan.steps.push(Step::Kill {
            id: container.id.clone(),
            name: container.name.clone(),
            message: format!("Stopping container {}", container.name),
        });
    }
    for sandbox in view.observed.sandboxes.iter().filter(|it| it.ready) {
        plan.steps.push(Step::StopSandbox { id: sandbox.id.clone() });
    }
}

fn new_sandbox(view: View<'_>, plan: &mut Plan) {
    // What is left of the old sandbox goes first: two sandboxes of a pod must not run together.
    // Also one that is down: after a reboot only a stop gives its address back.
    for (index, sandbox) in view.observed.sandboxes.iter().enumerate() {
        if index == 0 || sandbox.ready {
            plan.steps.push(Step::StopSandbox { id: sandbox.id.clone() });
        }
    }
    if view.local.sandbox_retry_at > view.now {
        plan.wake = Some(millis(view.local.sandbox_retry_at - view.now));
        return;
    }
    let attempt = view.observed.sandboxes.first().map_or(0, |newest| newest.attempt + 1);
    plan.steps.push(Step::RunSandbox { attempt });
}

fn containers(view: View<'_>, sandbox: &Sandbox, plan: &mut Plan) {
    if !init(view, sandbox, plan) {
        return;
    }
    for wanted in app_containers(view.pod) {
        app(view, sandbox, wanted, Policy::of(view.pod), plan);
    }
}

/// Brings the init containers forward. True once the app containers may run.
fn init(view: View<'_>, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    // An app container in this sandbox proves that the init containers were done, even if they
    // have been removed since.
    let initialized = app_containers(view.pod)
        .iter()
        .any(|app| view.observed.all(&app.name).any(|it| it.sandbox == sandbox.id));
    for wanted in init_containers(view.pod) {
        if is_sidecar(wanted) {
            app(view, sandbox, wanted, Policy::Always, plan);
            let latest = view.observed.latest(&wanted.name).filter(|it| it.sandbox == sandbox.id);
            let started = latest.is_some_and(|it| {
                it.state == RunState::Running && view.local.is_started(wanted, &it.id)
            });
            if !started && !initialized {
                return false;
            }
            continue;
        }
        if initialized {
            continue;
        }
        let latest = view.observed.latest(&wanted.name).filter(|it| it.sandbox == sandbox.id);
        match latest {
            Some(it) if it.state == RunState::Exited && it.exit_code == 0 => {}
            Some(it) if it.state == RunState::Running => return false,
            _ => {
                // A failed init container of a policy that forbids a restart has finished the pod.
                app(view, sandbox, wanted, Policy::OnFailure, plan);
                return false;
            }
        }
    }
    true
}

/// Brings one container to where it should be.
fn app(view: View<'_>, sandbox: &Sandbox, wanted: &Wanted, policy: Policy, plan: &mut Plan) {
    let name = &wanted.name;
    let Some(latest) = view.observed.latest(name) else {
        return start(view, wanted, 0, None, plan);
    };
    if latest.sandbox != sandbox.id {
        // It ran in a sandbox that is no more. An init container runs anew; others as their
        // policy has it.
        let is_init = init_containers(view.pod).iter().any(|it| it.name == *name);
        if is_init
            || latest.state != RunState::Exited
            || policy.restarts_container(wanted, latest.exit_code)
        {
            start(view, wanted, latest.attempt + 1, None, plan);
        }
        return;
    }
    match latest.state {
        RunState::Running => {
            if let Some(message) = reason_to_kill(view, wanted, latest) {
                plan.steps.push(Step::Kill { id: latest.id.clone(), name: name.clone(), message });
            }
        }
        RunState::Exited => {
            if policy.restarts_container(wanted, latest.exit_code) {
                let ended = latest.finished_at / 1_000_000;
                start(view, wanted, latest.attempt + 1, Some(ended), plan);
            }
        }
        // Made but never started: the agent stopped in between. It is made again.
        RunState::Created => {
            plan.steps.push(Step::RemoveContainer { id: latest.id.clone() });
            start(view, wanted, latest.attempt, None, plan);
        }
        RunState::Unknown => plan.steps.push(Step::Kill {
            id: latest.id.clone(),
            name: name.clone(),
            message: format!("Container {name} is in unknown state, try killing it before restart"),
        }),
    }
}

fn reason_to_kill(view: View<'_>, wanted: &Wanted, latest: &Container) -> Option<String> {
    let name = &wanted.name;
    let noted = latest.annotations.get(HASH);
    if noted.is_some_and(|hash| *hash != hash_of(wanted)) {
        return Some(format!("Container {name} definition changed, will be restarted"));
    }
    let probes = view.local.probes.get(&latest.id)?;
    if probes.startup_failed {
        return Some(format!("Container {name} failed startup probe, will be restarted"));
    }
    probes
        .liveness_failed
        .then(|| format!("Container {name} failed liveness probe, will be restarted"))
}

/// What of a container, when changed, makes a new one necessary: its image, all that may change.
pub fn hash_of(wanted: &Wanted) -> String {
    let image = wanted.image.as_deref().unwrap_or_default();
    crate::image::hex_sha256(format!("{}\0{image}", wanted.name).as_bytes())[..16].to_owned()
}

/// Starts a container, unless its back-off, or an earlier failure to start it, says to wait.
fn start(view: View<'_>, wanted: &Wanted, attempt: u32, ended: Option<Millis>, plan: &mut Plan) {
    let name = wanted.name.clone();
    let wait = |plan: &mut Plan, left: Duration| {
        plan.wake = Some(plan.wake.map_or(left, |before| before.min(left)));
    };
    if let Some(ended) = ended
        && let Some(backoff) = view.local.restarts.get(&name)
        && let Some(left) = backoff.remaining(ended, view.now)
    {
        plan.held.insert(
            name.clone(),
            Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: format!(
                    "back-off {} restarting failed container={name} pod={}",
                    go_duration(backoff.wait()),
                    pod_id(view.pod)
                ),
            },
        );
        return wait(plan, left);
    }
    if let Some(failure) = view.local.failures.get(&name)
        && failure.retry_at > view.now
    {
        plan.held.insert(name, failure.held.clone());
        return wait(plan, millis(failure.retry_at - view.now));
    }
    plan.steps.push(Step::Start { name, attempt, after: ended });
}

fn millis(left: Millis) -> Duration {
    Duration::from_millis(left.max(0) as u64)
}

/// `name_namespace(uid)`, the kubelet's way to name a pod in messages.
pub fn pod_id(pod: &Pod) -> String {
    format!(
        "{}_{}({})",
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.uid.as_deref().unwrap_or_default()
    )
}

/// Dead containers beyond the newest of each name, and empty old sandboxes, are forgotten.
fn collect_garbage(view: View<'_>, plan: &mut Plan) {
    let mut kept = Vec::new();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for container in &view.observed.containers {
        let dead = container.state == RunState::Exited;
        let earlier = seen.entry(&container.name).or_default();
        if dead && *earlier >= 1 {
            plan.steps.push(Step::RemoveContainer { id: container.id.clone() });
        } else {
            kept.push(&container.sandbox);
        }
        *earlier += u32::from(dead);
    }
    for sandbox in view.observed.sandboxes.iter().skip(1) {
        if !sandbox.ready && !kept.contains(&&sandbox.id) {
            plan.steps.push(Step::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
