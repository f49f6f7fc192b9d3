//! Tables for [`super::plan`]: a pod, what runs of it, and the steps that must follow.

use serde_json::json;

use super::*;
use crate::pod::backoff::Backoff;
use crate::pod::{Failure, ProbeState};

fn pod(policy: &str, init: &[(&str, bool)], apps: &[&str]) -> Pod {
    let image = "docker.io/library/x:1";
    let init: Vec<_> = init
        .iter()
        .map(|(name, sidecar)| {
            let mut container = json!({"name": name, "image": image});
            if *sidecar {
                container["restartPolicy"] = json!("Always");
            }
            container
        })
        .collect();
    let apps: Vec<_> = apps.iter().map(|name| json!({"name": name, "image": image})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": init, "containers": apps},
    }))
    .unwrap()
}

/// `s0+` is a ready sandbox, `s0-` one that is down; `web/1=run`, `=exit3`, `=new`, with the
/// sandbox after `@` when it is not the newest.
fn observed(words: &str) -> Observed {
    let mut observed = Observed::default();
    for word in words.split_whitespace() {
        if let Some((name, rest)) = word.split_once('/') {
            let (attempt, rest) = rest.split_once('=').unwrap();
            let (state, sandbox) = rest.split_once('@').unwrap_or((rest, ""));
            let mut container = Container {
                id: format!("{name}{attempt}"),
                name: name.to_owned(),
                attempt: attempt.parse().unwrap(),
                sandbox: sandbox.to_owned(),
                finished_at: 1_000_000_000_000,
                ..Container::default()
            };
            container.state = match state {
                "run" => RunState::Running,
                "new" => RunState::Created,
                "lost" => RunState::Unknown,
                exit => {
                    container.exit_code = exit.strip_prefix("exit").unwrap().parse().unwrap();
                    RunState::Exited
                }
            };
            observed.containers.push(container);
        } else {
            let ready = word.ends_with('+');
            observed.sandboxes.push(Sandbox {
                id: word.trim_end_matches(['+', '-']).to_owned(),
                attempt: word[1..word.len() - 1].parse().unwrap(),
                ready,
                ips: if ready { vec!["172.16.0.2".to_owned()] } else { Vec::new() },
                ..Sandbox::default()
            });
        }
    }
    observed.sort();
    let newest = observed.sandboxes.first().map(|it| it.id.clone()).unwrap_or_default();
    for container in observed.containers.iter_mut().filter(|it| it.sandbox.is_empty()) {
        container.sandbox.clone_from(&newest);
    }
    observed
}

fn text(plan: &Plan) -> String {
    let mut words: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::RunSandbox { attempt } => format!("sandbox {attempt}"),
            Step::StopSandbox { id } => format!("stop {id}"),
            Step::RemoveSandbox { id } => format!("remove {id}"),
            Step::Start { name, attempt, .. } => format!("start {name}/{attempt}"),
            Step::Kill { id, .. } => format!("kill {id}"),
            Step::RemoveContainer { id } => format!("forget {id}"),
        })
        .collect();
    words.extend(plan.held.iter().map(|(name, why)| format!("hold {name} {}", why.reason)));
    if plan.finished {
        words.push("finished".to_owned());
    }
    words.join(", ")
}

/// A second after the exits of [`observed`].
const NOW: Millis = 1_001_000;

fn planned(pod: &Pod, words: &str, local: &Local) -> String {
    text(&plan(View { pod, observed: &observed(words), local, now: NOW }))
}

#[test]
fn a_pods_life_is_planned_move_by_move() {
    let always = pod("Always", &[], &["web", "log"]);
    let on_failure = pod("OnFailure", &[], &["web"]);
    let never = pod("Never", &[], &["web", "log"]);
    let with_init = pod("Always", &[("one", false), ("two", false)], &["web"]);
    let init_never = pod("Never", &[("one", false)], &["web"]);
    let sidecar = pod("OnFailure", &[("proxy", true), ("two", false)], &["web"]);
    let cases: &[(&Pod, &str, &str)] = &[
        (&always, "", "sandbox 0"),
        (&always, "s0+", "start web/0, start log/0"),
        (&always, "s0+ web/0=run", "start log/0"),
        (&always, "s0+ web/0=run log/0=run", ""),
        (&always, "s0+ web/0=exit137 log/0=run", "start web/1"),
        (&always, "s0+ web/0=exit0 log/0=run", "start web/1"),
        (&always, "s0+ web/0=new log/0=run", "forget web0, start web/0"),
        (&always, "s0+ web/0=lost log/0=run", "kill web0"),
        // The sandbox died: what is left of it is stopped, restart counts go on.
        (&always, "s0- web/0=run log/0=run", "stop s0, sandbox 1"),
        (&always, "s0- web/0=exit255 log/0=exit255", "stop s0, sandbox 1"),
        (&always, "s0- s1+ web/0=exit137@s0 log/0=exit1@s0", "start web/1, start log/1"),
        // Older dead runs are forgotten, the newest dead one stays for its logs.
        (&always, "s0+ web/2=run web/1=exit1 web/0=exit1 log/0=run", "forget web0"),
        (&always, "s0- s1+ web/1=run log/1=run", "remove s0"),
        (&on_failure, "s0+ web/0=exit1", "start web/1"),
        (&on_failure, "s0+ web/0=exit0", "stop s0, finished"),
        (&on_failure, "s0- web/0=exit0", "finished"),
        (&never, "s0+ web/0=exit1 log/0=run", ""),
        (&never, "s0+ web/0=exit1 log/0=exit0", "stop s0, finished"),
        (&never, "s0- s1+ web/0=exit1@s0 log/0=run@s0", "start log/1"),
        (&with_init, "s0+", "start one/0"),
        (&with_init, "s0+ one/0=run", ""),
        (&with_init, "s0+ one/0=exit1", "start one/1"),
        (&with_init, "s0+ one/0=exit0", "start two/0"),
        (&with_init, "s0+ one/0=exit0 two/0=exit0", "start web/0"),
        (&with_init, "s0+ one/0=exit0 two/0=exit0 web/0=exit1", "start web/1"),
        // Init containers that were forgotten are not run again beside a started app.
        (&with_init, "s0+ web/0=run", ""),
        (&with_init, "s0- s1+ one/0=exit0@s0 two/0=exit0@s0 web/0=exit1@s0", "start one/1"),
        (&init_never, "s0+ one/0=exit1", "stop s0, finished"),
        (&sidecar, "s0+", "start proxy/0"),
        (&sidecar, "s0+ proxy/0=run", "start two/0"),
        (&sidecar, "s0+ proxy/0=exit0 two/0=exit0 web/0=run", "start proxy/1"),
        (&sidecar, "s0+ proxy/0=run two/0=exit0", "start web/0"),
        (&sidecar, "s0+ proxy/0=run two/0=exit0 web/0=exit0", "kill proxy0, stop s0, finished"),
    ];
    for (pod, words, wanted) in cases {
        assert_eq!(planned(pod, words, &Local::default()), *wanted, "{words}");
    }
}

#[test]
fn a_crashed_container_waits_for_its_back_off() {
    let pod = pod("Always", &[], &["web"]);
    let mut local = Local::default();
    let mut backoff = Backoff::default();
    backoff.tried(990_000, 995_000);
    local.restarts.insert("web".to_owned(), backoff);
    let view = View { pod: &pod, observed: &observed("s0+ web/1=exit1"), local: &local, now: NOW };
    let plan = plan(view);
    assert_eq!(text(&plan), "hold web CrashLoopBackOff");
    assert_eq!(plan.wake, Some(Duration::from_secs(9)));
    assert_eq!(plan.held["web"].message, "back-off 10s restarting failed container=web pod=p_n(u)");
}

#[test]
fn a_failed_start_waits_and_shows_why() {
    let pod = pod("Always", &[], &["web"]);
    let mut local = Local::default();
    let held = Waiting { reason: "ImagePullBackOff".to_owned(), message: "no such tag".to_owned() };
    local.failures.insert("web".to_owned(), Failure { retry_at: NOW + 500, held });
    assert_eq!(planned(&pod, "s0+", &local), "hold web ImagePullBackOff");
    local.failures.get_mut("web").unwrap().retry_at = NOW;
    assert_eq!(planned(&pod, "s0+", &local), "start web/0");
}

#[test]
fn probes_and_a_changed_image_end_a_container() {
    let pod = pod("Always", &[], &["web"]);
    let mut local = Local::default();
    local
        .probes
        .insert("web0".to_owned(), ProbeState { liveness_failed: true, ..ProbeState::default() });
    assert_eq!(planned(&pod, "s0+ web/0=run", &local), "kill web0");

    let mut observed = observed("s0+ web/0=run");
    let local = Local::default();
    let hash = hash_of(&app_containers(&pod)[0]);
    observed.containers[0].annotations.insert(HASH.to_owned(), hash);
    let view = View { pod: &pod, observed: &observed, local: &local, now: NOW };
    assert_eq!(text(&plan(view)), "");
    observed.containers[0].annotations.insert(HASH.to_owned(), "other".to_owned());
    let view = View { pod: &pod, observed: &observed, local: &local, now: NOW };
    assert_eq!(text(&plan(view)), "kill web0");
}

#[test]
fn a_containers_own_restart_rules_go_before_the_pods() {
    let mut pod = pod("Never", &[], &["web", "log"]);
    let web = &mut pod.spec.as_mut().unwrap().containers[0];
    web.restart_policy = Some("Never".to_owned());
    web.restart_policy_rules = serde_json::from_value(json!([
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]))
    .unwrap();
    let local = Local::default();
    assert_eq!(planned(&pod, "s0+ web/0=exit42 log/0=run", &local), "start web/1");
    assert_eq!(planned(&pod, "s0+ web/0=exit1 log/0=run", &local), "");
    assert_eq!(planned(&pod, "s0+ web/0=exit1 log/0=exit0", &local), "stop s0, finished");
}
