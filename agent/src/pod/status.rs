//! A pod's status, computed. PURE: the pod, the runtime's view, the worker's memory, the time.
//!
//! Must not know: how a status is sent. A newcomer's trap: phase Pending is kept while any
//! container has never run (a bad image tag), even if others run.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container as Wanted, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::jiff::Timestamp;

use super::plan::{Policy, View, app_containers, current_sandbox, init_containers, is_sidecar};
use super::{Waiting, resources};
use crate::runtime::{Container, RunState};
use crate::time::{from_nanos, time};

/// What a status needs beside the plan's view.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The node's address.
    pub node_ip: IpAddr,
    /// The runtime's name.
    pub runtime: &'a str,
    /// Containers that wait, with the reason.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Termination messages read from files, by container id.
    pub messages: &'a BTreeMap<String, String>,
    /// Now.
    pub now: Timestamp,
    /// The pod is being stopped: nothing is started again.
    pub stopping: bool,
}

/// The pod's status as it is now.
pub fn compute(view: View<'_>, context: Context<'_>) -> PodStatus {
    let before = view.pod.status.clone().unwrap_or_default();
    let init =
        statuses(view, context, init_containers(view.pod), before.init_container_statuses.as_ref());
    let apps =
        statuses(view, context, app_containers(view.pod), before.container_statuses.as_ref());
    let phase = phase(view, &init, &apps, before.phase.as_deref());
    let host_network =
        view.pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default();
    let ips: Vec<String> = match current_sandbox(view) {
        Some(_) if host_network => vec![context.node_ip.to_string()],
        Some(sandbox) => sandbox.ips.clone(),
        // A finished pod keeps showing the address it had.
        None => before.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect(),
    };
    let generation = view.pod.metadata.generation;
    PodStatus {
        conditions: Some(conditions(view, context, &phase, &init, &apps)),
        container_statuses: Some(apps),
        init_container_statuses: (!init.is_empty()).then_some(init),
        host_ip: Some(context.node_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: context.node_ip.to_string() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        observed_generation: generation,
        phase: Some(phase),
        qos_class: before.qos_class.or_else(|| Some(resources::qos_class(view.pod).to_owned())),
        start_time: before.start_time.or_else(|| Some(time(context.now))),
        ..PodStatus::default()
    }
}

/// The status of a pod that this node does not take.
pub fn rejected(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        start_time: before.start_time.or_else(|| Some(time(now))),
        qos_class: before.qos_class,
        conditions: before.conditions,
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn statuses(
    view: View<'_>,
    context: Context<'_>,
    wanted: &[Wanted],
    before: Option<&Vec<ContainerStatus>>,
) -> Vec<ContainerStatus> {
    wanted
        .iter()
        .map(|wanted| {
            let before = before.into_iter().flatten().find(|it| it.name == wanted.name);
            container(view, context, wanted, before)
        })
        .collect()
}

fn container(
    view: View<'_>,
    context: Context<'_>,
    wanted: &Wanted,
    before: Option<&ContainerStatus>,
) -> ContainerStatus {
    let latest = view.observed.latest(&wanted.name);
    let earlier = view
        .observed
        .all(&wanted.name)
        .skip(1)
        .find(|it| it.state == RunState::Exited)
        .map(|it| terminated(it, context));
    let mut status = ContainerStatus {
        name: wanted.name.clone(),
        image: wanted.image.clone().unwrap_or_default(),
        last_state: Some(earlier.clone().unwrap_or_default()),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let Some(latest) = latest else {
        // Removed already by a stop that the status does not show yet: it stays as it was.
        if let Some(before) = before.filter(|_| context.stopping) {
            return ended_unseen(before);
        }
        status.state = Some(waiting(default_waiting(view, context, wanted)));
        return status;
    };
    status.restart_count = latest.attempt as i32;
    status.container_id = Some(format!("{}://{}", context.runtime, latest.id));
    status.image_id.clone_from(&latest.image_id);
    match latest.state {
        RunState::Running => {
            status.started = Some(view.local.is_started(wanted, &latest.id));
            status.ready = view.local.is_ready(wanted, &latest.id);
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: from_nanos(latest.started_at).map(time),
                }),
                ..ContainerState::default()
            });
        }
        RunState::Exited => {
            let state = terminated(latest, context);
            // An init container that did its work counts as ready.
            status.ready = latest.exit_code == 0
                && init_containers(view.pod)
                    .iter()
                    .any(|it| it.name == wanted.name && !is_sidecar(it));
            match context.waiting.get(&wanted.name).filter(|_| !context.stopping) {
                Some(why) => {
                    status.last_state = Some(state);
                    status.state = Some(waiting(why.clone()));
                }
                None => status.state = Some(state),
            }
        }
        RunState::Created | RunState::Unknown => {
            status.state = Some(waiting(default_waiting(view, context, wanted)));
        }
    }
    status
}

/// The last known status of a container the runtime no longer knows.
fn ended_unseen(before: &ContainerStatus) -> ContainerStatus {
    let mut status = before.clone();
    status.ready = false;
    status.started = Some(false);
    let terminated = status.state.as_ref().is_some_and(|it| it.terminated.is_some());
    let never_ran = status.container_id.is_none();
    if !terminated && !never_ran {
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some(
                    "The container could not be located when the pod was terminated".to_owned(),
                ),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
    }
    status
}

fn default_waiting(view: View<'_>, context: Context<'_>, wanted: &Wanted) -> Waiting {
    if let Some(why) = context.waiting.get(&wanted.name) {
        return why.clone();
    }
    let is_app = app_containers(view.pod).iter().any(|it| it.name == wanted.name);
    let reason = if is_app && init_containers(view.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    Waiting { reason: reason.to_owned(), message: String::new() }
}

fn waiting(why: Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(why.reason),
            message: (!why.message.is_empty()).then_some(why.message),
        }),
        ..ContainerState::default()
    }
}

fn terminated(container: &Container, context: Context<'_>) -> ContainerState {
    let message = context.messages.get(&container.id).or(Some(&container.message));
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{}://{}", context.runtime, container.id)),
            exit_code: container.exit_code,
            reason: Some(container.reason.clone()).filter(|it| !it.is_empty()),
            message: message.filter(|it| !it.is_empty()).cloned(),
            started_at: from_nanos(container.started_at).map(time),
            finished_at: from_nanos(container.finished_at).map(time),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// The exit code of a container's end; for one that waits to be restarted, of its last end.
fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let ended = |state: &Option<ContainerState>| {
        state.as_ref().and_then(|it| it.terminated.as_ref()).map(|it| it.exit_code)
    };
    ended(&status.state).or_else(|| ended(&status.last_state))
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|it| it.running.is_some())
}

fn phase(
    view: View<'_>,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
    before: Option<&str>,
) -> String {
    // An end is an end: nothing leads back from it.
    if let Some(end @ ("Succeeded" | "Failed")) = before {
        return end.to_owned();
    }
    let policy = Policy::of(view.pod);
    let mut waits_for_init = false;
    for (wanted, status) in init_containers(view.pod).iter().zip(init) {
        let done = if is_sidecar(wanted) {
            status.started == Some(true) || exit_code(status).is_some()
        } else {
            !is_running(status) && exit_code(status) == Some(0)
        };
        if !is_sidecar(wanted)
            && policy == Policy::Never
            && !is_running(status)
            && exit_code(status).is_some_and(|code| code != 0)
        {
            return "Failed".to_owned();
        }
        waits_for_init |= !done;
    }
    let running = apps.iter().filter(|it| is_running(it)).count();
    let never_ran = apps.iter().filter(|it| !is_running(it) && exit_code(it).is_none()).count();
    let ended: Vec<i32> = apps.iter().filter(|it| !is_running(it)).filter_map(exit_code).collect();
    let some_app_ran = running > 0 || !ended.is_empty();
    if (waits_for_init && !some_app_ran) || never_ran > 0 {
        return "Pending".to_owned();
    }
    let restarts = app_containers(view.pod).iter().zip(apps).any(|(wanted, status)| {
        exit_code(status).is_some_and(|code| policy.restarts_container(wanted, code))
    });
    // While anything still runs (a sidecar being stopped), the pod has not come to its end.
    let lingers = view.observed.containers.iter().any(|it| it.state == RunState::Running);
    let phase = if running > 0 || restarts || (lingers && !ended.is_empty()) {
        "Running"
    } else if ended.is_empty() {
        "Pending"
    } else if ended.iter().all(|code| *code == 0) {
        "Succeeded"
    } else {
        "Failed"
    };
    phase.to_owned()
}

/// The phase of a pod whose containers were all stopped because it is deleted or over its
/// deadline.
pub fn final_phase(status: &PodStatus) -> &'static str {
    let mut apps = status.container_statuses.iter().flatten();
    if apps.all(|it| exit_code(it) == Some(0)) { "Succeeded" } else { "Failed" }
}

fn conditions(
    view: View<'_>,
    context: Context<'_>,
    phase: &str,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
) -> Vec<PodCondition> {
    let before = view.pod.status.as_ref().and_then(|it| it.conditions.as_ref());
    let find = |kind: &str| before.into_iter().flatten().find(|it| it.type_ == kind);
    let condition = |kind: &str, verdict: Verdict| {
        let status = if verdict.is_none() { "True" } else { "False" };
        let since = find(kind)
            .filter(|old| old.status == status)
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or_else(|| time(context.now));
        let (reason, message) = verdict.unwrap_or_default();
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: (!reason.is_empty()).then_some(reason),
            message: (!message.is_empty()).then_some(message),
            last_transition_time: Some(since),
            observed_generation: view.pod.metadata.generation,
            ..PodCondition::default()
        }
    };
    let containers_ready = unready(phase, apps, view);
    let ready = containers_ready.clone().or_else(|| gates(view.pod));
    let sandbox = current_sandbox(view).is_none().then(|| (String::new(), String::new()));
    let mut list = vec![
        condition("PodReadyToStartContainers", sandbox),
        condition("Initialized", uninitialized(view, phase, init, apps)),
        condition("Ready", ready),
        condition("ContainersReady", containers_ready),
    ];
    if list[1].reason.is_none() && phase == "Succeeded" && !init.is_empty() {
        list[1].reason = Some("PodCompleted".to_owned());
    }
    list.push(find("PodScheduled").cloned().unwrap_or_else(|| condition("PodScheduled", None)));
    list
}

/// None: the condition holds. Else why it does not.
type Verdict = Option<(String, String)>;

fn unready(phase: &str, apps: &[ContainerStatus], view: View<'_>) -> Verdict {
    match phase {
        "Succeeded" => return Some(("PodCompleted".to_owned(), String::new())),
        "Failed" => return Some(("PodFailed".to_owned(), String::new())),
        _ => {}
    }
    let sidecars_ready = init_containers(view.pod).iter().filter(|it| is_sidecar(it)).all(|it| {
        let latest = view.observed.latest(&it.name);
        latest.is_some_and(|run| run.state == RunState::Running && view.local.is_ready(it, &run.id))
    });
    let unready: Vec<&str> =
        apps.iter().filter(|it| !it.ready).map(|it| it.name.as_str()).collect();
    (!unready.is_empty() || !sidecars_ready).then(|| {
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        ("ContainersNotReady".to_owned(), message)
    })
}

/// `readinessGates`: conditions others set, which must hold, too.
fn gates(pod: &Pod) -> Verdict {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let problems: Vec<String> = gates
        .into_iter()
        .flatten()
        .filter_map(|gate| {
            let found = conditions.into_iter().flatten().find(|it| it.type_ == gate.condition_type);
            match found {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {:?} does not exist.",
                    gate.condition_type
                )),
                Some(it) if it.status != "True" => Some(format!(
                    "the status of pod readiness gate {:?} is not \"True\", but {}",
                    gate.condition_type, it.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    (!problems.is_empty()).then(|| ("ReadinessGatesNotReady".to_owned(), problems.join(", ")))
}

fn uninitialized(
    view: View<'_>,
    phase: &str,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
) -> Verdict {
    if phase == "Succeeded" || apps.iter().any(|it| it.container_id.is_some()) {
        return None;
    }
    let incomplete: Vec<&str> = init_containers(view.pod)
        .iter()
        .zip(init)
        .filter(
            |(wanted, status)| {
                if is_sidecar(wanted) { status.started != Some(true) } else { !status.ready }
            },
        )
        .map(|(wanted, _)| wanted.name.as_str())
        .collect();
    (!incomplete.is_empty()).then(|| {
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        ("ContainersNotInitialized".to_owned(), message)
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
