//! The table row of a pod: what `kubectl get pods` shows.
//!
//! Owns: READY, STATUS and RESTARTS, worked out from container statuses as Kubernetes does it.
//! Must not know: how a status comes about. A newcomer's trap: STATUS is not the phase; the last
//! container that has something to say wins, and init containers speak before all others.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::look::Look;
use crate::kinds::show;

/// What the containers of a pod add up to.
#[derive(Debug)]
struct Tally {
    total: usize,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

/// The cells of a pod's row.
pub(crate) fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (pod.get_or_null("spec"), pod.get_or_null("status"));
    let tally = tally(pod);
    let restarts = match tally.last_restart {
        Some(at) if tally.restarts != 0 => {
            let ago = show::human_duration(now.duration_since(at).as_secs());
            format!("{} ({ago} ago)", tally.restarts)
        }
        _ => tally.restarts.to_string(),
    };
    let ip = match status.list("podIPs").first() {
        Some(first) => first.text("ip"),
        None => status.text("podIP"),
    };
    vec![
        show::name(pod),
        format!("{}/{}", tally.ready, tally.total).into(),
        tally.reason.into(),
        restarts.into(),
        show::age(pod, now),
        show::or(ip, show::NONE).into(),
        show::or(spec.text("nodeName"), show::NONE).into(),
        show::or(status.text("nominatedNodeName"), show::NONE).into(),
        readiness_gates(spec, status).into(),
    ]
}

/// The conditions of a pod's row: that it ran to its end.
pub(crate) fn row_conditions(pod: &Value) -> Vec<Value> {
    let message = match pod.get_or_null("status").text("phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    let reason = pod.get_or_null("status").text("phase");
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

fn readiness_gates(spec: &Value, status: &Value) -> String {
    let gates = spec.list("readinessGates");
    if gates.is_empty() {
        return show::NONE.into();
    }
    let met = gates.iter().filter(|gate| is_true(status, gate.text("conditionType"))).count();
    format!("{met}/{}", gates.len())
}

fn is_true(status: &Value, condition: &str) -> bool {
    status
        .list("conditions")
        .iter()
        .any(|one| one.text("type") == condition && one.text("status") == "True")
}

/// Whether an init container runs on beside the others.
fn runs_on(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

fn tally(pod: &Value) -> Tally {
    let (spec, status) = (pod.get_or_null("spec"), pod.get_or_null("status"));
    let inits = spec.list("initContainers");
    let mut tally = Tally {
        total: spec.list("containers").len() + inits.iter().filter(|one| runs_on(one)).count(),
        ready: 0,
        restarts: 0,
        last_restart: None,
        reason: show::or(status.text("reason"), status.text("phase")).into(),
    };
    let gated =
        |one: &Value| one.text("type") == "PodScheduled" && one.text("reason") == "SchedulingGated";
    if status.list("conditions").iter().any(gated) {
        tally.reason = "SchedulingGated".into();
    }
    let beside = add_init_containers(&mut tally, inits, status);
    if let Some((restarts, last_restart)) = beside {
        tally.restarts = restarts;
        tally.last_restart = last_restart;
        add_containers(&mut tally, status);
    }
    let ended = matches!(status.text("phase"), "Succeeded" | "Failed");
    if pod.get_or_null("metadata").has("deletionTimestamp") {
        if status.text("reason") == "NodeLost" {
            tally.reason = "Unknown".into();
        } else if !ended {
            tally.reason = "Terminating".into();
        }
    }
    tally
}

/// Counts the init containers. Answers with the restarts of those that run on when the pod is
/// past initializing, and with nothing when an init container has the word.
fn add_init_containers(
    tally: &mut Tally,
    inits: &[Value],
    status: &Value,
) -> Option<(i64, Option<Timestamp>)> {
    let beside: BTreeSet<&str> =
        inits.iter().filter(|one| runs_on(one)).map(|one| one.text("name")).collect();
    let (mut restarts_beside, mut last_beside) = (0, None);
    let mut initializing = false;
    for (index, one) in status.list("initContainerStatuses").iter().enumerate() {
        let runs_on = beside.contains(one.text("name"));
        tally.restarts += one.int("restartCount");
        tally.last_restart = tally.last_restart.max(last_end(one));
        if runs_on {
            restarts_beside += one.int("restartCount");
            last_beside = last_beside.max(last_end(one));
        }
        let state = one.get_or_null("state");
        let (ended, waiting) = (state.get_or_null("terminated"), state.get_or_null("waiting"));
        if ended.is_object() && ended.int("exitCode") == 0 {
            continue;
        }
        if runs_on && one.flag("started") {
            tally.ready += usize::from(one.flag("ready"));
            continue;
        }
        tally.reason = if ended.is_object() {
            format!("Init:{}", end_reason(ended))
        } else if !matches!(waiting.text("reason"), "" | "PodInitializing") {
            format!("Init:{}", waiting.text("reason"))
        } else {
            format!("Init:{index}/{}", inits.len())
        };
        initializing = true;
        break;
    }
    (!initializing || is_true(status, "Initialized")).then_some((restarts_beside, last_beside))
}

fn add_containers(tally: &mut Tally, status: &Value) {
    let mut running = false;
    for one in status.list("containerStatuses").iter().rev() {
        tally.restarts += one.int("restartCount");
        tally.last_restart = tally.last_restart.max(last_end(one));
        let state = one.get_or_null("state");
        let (ended, waiting) = (state.get_or_null("terminated"), state.get_or_null("waiting"));
        if !waiting.text("reason").is_empty() {
            tally.reason = waiting.text("reason").into();
        } else if ended.is_object() {
            tally.reason = end_reason(ended);
        } else if one.flag("ready") && state.has("running") {
            running = true;
            tally.ready += 1;
        }
    }
    if tally.reason == "Completed" && running {
        tally.reason = if is_true(status, "Ready") { "Running" } else { "NotReady" }.into();
    }
}

/// When the container's run before this one ended.
fn last_end(status: &Value) -> Option<Timestamp> {
    let ended = status.get_or_null("lastState").get_or_null("terminated");
    show::parse_time(ended.get_or_null("finishedAt"))
}

fn end_reason(ended: &Value) -> String {
    match (ended.text("reason"), ended.int("signal")) {
        ("", 0) => format!("ExitCode:{}", ended.int("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(pod: Value) -> (String, String, String) {
        let row = row(&pod, "2026-01-01T01:00:00Z".parse().unwrap());
        let cell = |index: usize| row[index].as_str().unwrap().to_owned();
        (cell(1), cell(2), cell(3))
    }

    fn pod(inits: Value, containers: Value, status: Value) -> Value {
        json!({"metadata": {"name": "p"},
            "spec": {"initContainers": inits, "containers": containers}, "status": status})
    }

    #[test]
    fn status_is_what_the_containers_say() {
        let two = json!([{"name": "a"}, {"name": "b"}]);
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let completed = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let cases = [
            ("pending", json!({"phase": "Pending"}), ("0/2", "Pending", "0")),
            ("evicted", json!({"phase": "Failed", "reason": "Evicted"}), ("0/2", "Evicted", "0")),
            (
                "gated",
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                    "reason": "SchedulingGated"}]}),
                ("0/2", "SchedulingGated", "0"),
            ),
            (
                "waiting",
                json!({"phase": "Pending", "containerStatuses": [
                    {"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}},
                    {"name": "b", "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
                ("0/2", "ContainerCreating", "0"),
            ),
            (
                "crashing",
                json!({"phase": "Running", "containerStatuses": [
                    {"name": "a", "ready": true, "state": running},
                    {"name": "b", "restartCount": 3,
                     "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                     "lastState": {"terminated": {"exitCode": 1,
                        "finishedAt": "2026-01-01T00:55:00Z"}}}]}),
                ("1/2", "CrashLoopBackOff", "3 (5m ago)"),
            ),
            (
                "one ran to its end, not ready",
                json!({"phase": "Running", "containerStatuses": [
                    {"name": "a", "ready": false, "state": completed},
                    {"name": "b", "ready": true, "state": running}]}),
                ("1/2", "NotReady", "0"),
            ),
            (
                "one ran to its end, ready",
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"name": "a", "state": completed},
                    {"name": "b", "ready": true, "state": running}]}),
                ("1/2", "Running", "0"),
            ),
            (
                "killed",
                json!({"phase": "Failed", "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
                ("0/2", "Signal:9", "0"),
            ),
            (
                "exit code",
                json!({"phase": "Failed", "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
                ("0/2", "ExitCode:3", "0"),
            ),
        ];
        for (what, status, (ready, reason, restarts)) in cases {
            let got = cells(pod(json!([]), two.clone(), status));
            assert_eq!(got, (ready.into(), reason.into(), restarts.into()), "{what}");
        }
    }

    #[test]
    fn init_containers_speak_first() {
        let inits = json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]);
        let one = json!([{"name": "a"}]);
        let done =
            json!({"name": "i", "state": {"terminated": {"exitCode": 0}}, "restartCount": 2});
        let cases = [
            (json!([{"name": "i", "state": {"running": {}}}]), ("0/2", "Init:0/2", "0")),
            (
                json!([{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]),
                ("0/2", "Init:0/2", "0"),
            ),
            (
                json!([{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]),
                ("0/2", "Init:ErrImagePull", "0"),
            ),
            (
                json!([{"name": "i", "restartCount": 4, "state": {"terminated": {"exitCode": 1,
                    "reason": "Error"}}}]),
                ("0/2", "Init:Error", "4"),
            ),
            (
                json!([{"name": "i", "state": {"terminated": {"exitCode": 1}}}]),
                ("0/2", "Init:ExitCode:1", "0"),
            ),
            (json!([done, {"name": "s", "state": {"running": {}}}]), ("0/2", "Init:1/2", "2")),
            (
                json!([done, {"name": "s", "started": true, "ready": true, "restartCount": 5,
                    "state": {"running": {}}}]),
                ("1/2", "Pending", "5"),
            ),
        ];
        for (statuses, (ready, reason, restarts)) in cases {
            let status = json!({"phase": "Pending", "initContainerStatuses": statuses});
            let got = cells(pod(inits.clone(), one.clone(), status.clone()));
            assert_eq!(got, (ready.into(), reason.into(), restarts.into()), "{status}");
        }
    }

    #[test]
    fn a_pod_being_deleted_is_terminating_unless_its_node_is_lost() {
        let mut going = pod(json!([]), json!([{"name": "a"}]), json!({"phase": "Running"}));
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(cells(going.clone()).1, "Terminating");
        going["status"]["reason"] = "NodeLost".into();
        assert_eq!(cells(going.clone()).1, "Unknown");
        going["status"] = json!({"phase": "Succeeded"});
        assert_eq!(cells(going).1, "Succeeded");
    }
}
