//! Tables for [`super::compute`]: what runs, and the phase and states it shows.

use serde_json::json;

use super::*;
use crate::pod::{Local, ProbeState};
use crate::runtime::{Observed, Sandbox};

fn pod(policy: &str, init: usize, apps: usize) -> Pod {
    let list = |prefix: &str, count: usize| -> Vec<_> {
        (0..count).map(|index| json!({"name": format!("{prefix}{index}"), "image": "x"})).collect()
    };
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {"restartPolicy": policy,
                 "initContainers": list("i", init), "containers": list("a", apps)},
    }))
    .unwrap()
}

/// `a0=run a1=exit3`; the sandbox is up unless the words say `down`.
fn observed(words: &str) -> Observed {
    let up = !words.contains("down");
    let mut observed = Observed {
        sandboxes: vec![Sandbox {
            id: "s".to_owned(),
            ready: up,
            ips: if up { vec!["172.16.0.2".to_owned()] } else { Vec::new() },
            ..Sandbox::default()
        }],
        containers: Vec::new(),
    };
    for (name, state) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        let (attempt, state) = state.split_once('/').unwrap_or(("0", state));
        observed.containers.push(Container {
            id: format!("{name}-{attempt}"),
            sandbox: "s".to_owned(),
            name: name.to_owned(),
            attempt: attempt.parse().unwrap(),
            state: if state == "run" { RunState::Running } else { RunState::Exited },
            exit_code: state.strip_prefix("exit").map_or(0, |code| code.parse().unwrap()),
            started_at: 1_000_000_000,
            ..Container::default()
        });
    }
    observed.sort();
    observed
}

fn computed(
    pod: &Pod,
    words: &str,
    waiting: &BTreeMap<String, Waiting>,
    local: &Local,
) -> PodStatus {
    let observed = observed(words);
    let view = View { pod, observed: &observed, local, now: 0 };
    let context = Context {
        node_ip: [10, 0, 0, 1].into(),
        runtime: "containerd",
        waiting,
        messages: &BTreeMap::new(),
        now: Timestamp::from_second(100).unwrap(),
        stopping: false,
    };
    compute(view, context)
}

fn holds(status: &PodStatus, kind: &str) -> String {
    let condition = status.conditions.iter().flatten().find(|it| it.type_ == kind).unwrap();
    match &condition.reason {
        Some(reason) => format!("{} {reason}", condition.status),
        None => condition.status.clone(),
    }
}

#[test]
fn phase_and_conditions_follow_the_containers() {
    let cases = [
        ("Always", 0, 1, "", "Pending", "False ContainersNotReady"),
        ("Always", 0, 1, "a0=run", "Running", "True"),
        ("Always", 0, 2, "a0=run", "Pending", "False ContainersNotReady"),
        ("Always", 0, 2, "a0=run a1=exit1", "Running", "False ContainersNotReady"),
        ("Always", 0, 1, "a0=exit0", "Running", "False ContainersNotReady"),
        ("OnFailure", 0, 1, "a0=exit0", "Succeeded", "False PodCompleted"),
        ("OnFailure", 0, 1, "a0=exit1", "Running", "False ContainersNotReady"),
        ("Never", 0, 2, "a0=exit1 a1=run", "Running", "False ContainersNotReady"),
        ("Never", 0, 2, "a0=exit1 a1=exit0", "Failed", "False PodFailed"),
        ("Never", 0, 2, "a0=exit0 a1=exit0", "Succeeded", "False PodCompleted"),
        ("Always", 1, 1, "i0=run", "Pending", "False ContainersNotReady"),
        ("Always", 1, 1, "i0=exit0", "Pending", "False ContainersNotReady"),
        ("Always", 1, 1, "i0=exit0 a0=run", "Running", "True"),
        ("Never", 1, 1, "i0=exit1", "Failed", "False PodFailed"),
    ];
    for (policy, init, apps, words, phase, ready) in cases {
        let pod = pod(policy, init, apps);
        let status = computed(&pod, words, &BTreeMap::new(), &Local::default());
        assert_eq!(status.phase.as_deref(), Some(phase), "{policy} {words}");
        assert_eq!(holds(&status, "Ready"), ready, "{policy} {words}");
        assert_eq!(status.observed_generation, Some(3));
    }
}

#[test]
fn initialized_names_what_is_incomplete() {
    let status = computed(&pod("Always", 2, 1), "i0=exit0", &BTreeMap::new(), &Local::default());
    assert_eq!(holds(&status, "Initialized"), "False ContainersNotInitialized");
    let conditions = status.conditions.unwrap();
    let initialized = conditions.iter().find(|it| it.type_ == "Initialized").unwrap();
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i1]"));
    let states = status.container_statuses.unwrap();
    let waiting = states[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn a_crash_loop_shows_the_last_end_and_the_count() {
    let why = Waiting { reason: "CrashLoopBackOff".to_owned(), message: "back-off".to_owned() };
    let waiting = [("a0".to_owned(), why)].into();
    let status =
        computed(&pod("Always", 0, 1), "a0=0/exit1 a0=2/exit3", &waiting, &Local::default());
    let it = &status.container_statuses.unwrap()[0];
    assert_eq!(it.restart_count, 2);
    let state = it.state.clone().unwrap().waiting.unwrap();
    assert_eq!(state.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(it.last_state.clone().unwrap().terminated.unwrap().exit_code, 3);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn a_readiness_probe_decides_once_there_is_one() {
    let mut pod = pod("Always", 0, 1);
    pod.spec.as_mut().unwrap().containers[0].readiness_probe = Some(Default::default());
    let mut local = Local::default();
    let status = computed(&pod, "a0=run", &BTreeMap::new(), &local);
    assert_eq!(holds(&status, "Ready"), "False ContainersNotReady");
    local.probes.insert("a0-0".to_owned(), ProbeState { ready: true, ..ProbeState::default() });
    let status = computed(&pod, "a0=run", &BTreeMap::new(), &local);
    assert_eq!(holds(&status, "Ready"), "True");
}

#[test]
fn an_end_is_never_taken_back() {
    let mut pod = pod("Always", 0, 1);
    pod.status = Some(PodStatus { phase: Some("Failed".to_owned()), ..PodStatus::default() });
    let status = computed(&pod, "a0=run", &BTreeMap::new(), &Local::default());
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_dead_sandbox_keeps_the_address_it_had() {
    let mut pod = pod("Never", 0, 1);
    let before = json!({"podIP": "172.16.0.9", "podIPs": [{"ip": "172.16.0.9"}]});
    pod.status = Some(serde_json::from_value(before).unwrap());
    let status = computed(&pod, "a0=exit0 down", &BTreeMap::new(), &Local::default());
    assert_eq!(status.pod_ip.as_deref(), Some("172.16.0.9"));
}

#[test]
fn a_container_that_its_own_rules_restart_does_not_end_the_pod() {
    let mut pod = pod("Never", 0, 1);
    pod.spec.as_mut().unwrap().containers[0].restart_policy = Some("OnFailure".to_owned());
    let phase = |words| computed(&pod, words, &BTreeMap::new(), &Local::default()).phase.unwrap();
    assert_eq!(phase("a0=exit1"), "Running");
    assert_eq!(phase("a0=exit0"), "Succeeded");
}

#[test]
fn a_pod_ends_when_its_sidecars_have_ended_too() {
    let mut pod = pod("Never", 1, 1);
    let init = pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap();
    init[0].restart_policy = Some("Always".to_owned());
    let phase = |words| computed(&pod, words, &BTreeMap::new(), &Local::default()).phase.unwrap();
    assert_eq!(phase("i0=run a0=exit0"), "Running");
    assert_eq!(phase("i0=exit137 a0=exit0"), "Succeeded");
}
