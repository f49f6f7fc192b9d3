//! A crash of the whole control plane: state is kept, running containers are adopted.

use std::process::Command;
use std::time::Duration;

use kijabi_tests::cluster::{Cluster, Options};
use kijabi_tests::{poll, process};

#[test]
fn sigkill_of_everything_keeps_state_and_running_containers() {
    let mut cluster = Cluster::start(&Options::default());
    let kubectl = cluster.kubectl("1.36");
    kubectl.until(60, "get nodes --no-headers", |out| out.contains(" Ready "));
    process::succeed(
        Command::new(process::kijabi()).arg("demo-image").arg("--data-dir").arg(cluster.data()),
    );
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/echo-hname.yaml");
    kubectl.ok(&format!("apply -f {example}"));
    let started = "get pods -l app=nginx -o jsonpath={range.items[*]}{.metadata.uid}{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].state.running.startedAt};{end}";
    let before = kubectl.until(90, started, |out| {
        out.matches("containerd://").count() == 3 && out.matches('Z').count() == 3
    });
    kubectl.ok("create configmap kept --from-literal=k=v");

    cluster.program().kill();
    cluster.resume();

    let kubectl = cluster.kubectl("1.36");
    assert_eq!(kubectl.ok("get configmap kept -o jsonpath={.data.k}"), "v");
    kubectl.until(60, "get nodes --no-headers", |out| out.contains(" Ready "));
    // A new configuration reaches the node's pods again, so the agent is back at work …
    kubectl.ok("scale deployment echo-hname --replicas=4");
    kubectl.until(90, started, |out| out.matches("containerd://").count() == 4);
    // … and the containers from before are the same ones, never restarted.
    let after = kubectl.ok(started);
    for pod in before.split(';').filter(|pod| !pod.is_empty()) {
        assert!(after.contains(pod), "{pod} is not in {after}");
    }
}

#[test]
fn sigterm_ends_cleanly_and_a_second_member_on_the_same_folder_is_refused() {
    let mut cluster = Cluster::start(&Options { hollow_nodes: 1, ..Options::default() });
    let refused = process::run(
        Command::new(process::kijabi())
            .args(["up", "--secure-port=0", "--kubelet-port=0", "--hollow=1", "--data-dir"])
            .arg(cluster.data()),
    );
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("locked by another process"), "{text}");
    assert!(cluster.kubectl("1.36").run("get --raw /readyz").success, "the first one goes on");

    cluster.program().signal("TERM");
    assert_eq!(cluster.program().wait(Duration::from_secs(20)), Some(0));
    cluster.resume();
    poll::eventually("the cluster after a restart", Duration::from_secs(30), || {
        let answer = cluster.kubectl("1.36").run("get namespaces default");
        if answer.success { Ok(()) } else { Err(answer.err) }
    });
}
