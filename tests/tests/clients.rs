//! Stock clients beyond the walk-through: explain, server-side apply, dry runs, waiting, helm.

use std::process::Command;

use kijabi_tests::cluster::{Cluster, Options};
use kijabi_tests::kubectl::{Kubectl, VERSIONS, helm};
use kijabi_tests::process;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/echo-hname.yaml");

#[test]
fn kubectl_reads_the_schema_applies_and_waits() {
    let cluster = Cluster::start(&Options { hollow_nodes: 2, ..Options::default() });
    for version in VERSIONS {
        let kubectl = cluster.kubectl(version);
        explain(&kubectl);
        apply_and_wait(&kubectl, version);
    }
}

fn explain(kubectl: &Kubectl) {
    let strategy = kubectl.ok("explain deployment.spec.strategy");
    assert!(strategy.contains("rollingUpdate"), "{strategy}");
    let image = kubectl.ok("explain pod.spec.containers.image");
    assert!(image.contains("image") && image.contains("string"), "{image}");
    assert!(kubectl.fails("explain pod.spec.nonsense").contains("nonsense"));
    let resources = kubectl.ok("api-resources --no-headers");
    for resource in ["pods", "deployments", "endpointslices", "leases"] {
        assert!(
            resources.lines().any(|line| line.starts_with(resource)),
            "{resource} in {resources}"
        );
    }
}

fn apply_and_wait(kubectl: &Kubectl, version: &str) {
    let dry = kubectl.ok(&format!("apply --dry-run=server -f {EXAMPLE}"));
    assert_eq!(dry, "deployment.apps/echo-hname created (server dry run)\n");
    assert!(kubectl.ok("get deployments").is_empty(), "a dry run leaves nothing");
    if version == "1.20" {
        kubectl.ok(&format!("apply -f {EXAMPLE}"));
    } else {
        let applied = kubectl.ok(&format!("apply --server-side -f {EXAMPLE}"));
        assert_eq!(applied, "deployment.apps/echo-hname serverside-applied\n");
        let conflict = kubectl.run_arguments(&[
            "patch",
            "deployment",
            "echo-hname",
            "--field-manager=other",
            "-p",
            r#"{"spec":{"replicas":2}}"#,
        ]);
        assert!(conflict.success, "{}", conflict.err);
        let refused = kubectl.fails(&format!("apply --server-side -f {EXAMPLE}"));
        assert!(
            refused.contains("conflict with \"other\"") && refused.contains(".spec.replicas"),
            "{refused}"
        );
        kubectl.ok(&format!("apply --server-side --force-conflicts -f {EXAMPLE}"));
    }
    let waited = kubectl.ok("wait --for=condition=Available deployment/echo-hname --timeout=60s");
    assert_eq!(waited, "deployment.apps/echo-hname condition met\n");
    kubectl
        .until(30, "get pods -l app=nginx --no-headers", |out| out.matches("Running").count() == 3);
    kubectl.ok("label pods -l app=nginx seen=yes");
    assert_eq!(kubectl.ok("get pods -l seen=yes,app=nginx -o name").lines().count(), 3);
    kubectl.ok("annotate deployment echo-hname note=kept --overwrite");
    let chunks = kubectl.ok("get pods -o name --chunk-size=1");
    assert_eq!(chunks.lines().count(), 3, "{chunks}");
    kubectl.ok("create namespace short-lived");
    kubectl.ok("-n short-lived create secret generic s --from-literal=k=v");
    kubectl.ok("-n short-lived create deployment d --image=nginx");
    kubectl.ok("delete namespace short-lived --timeout=60s");
    assert!(
        kubectl.fails("get namespace short-lived").contains("namespaces \"short-lived\" not found")
    );
    orphans(kubectl);
}

/// Deleting an owner with `orphan` leaves what it owned.
fn orphans(kubectl: &Kubectl) {
    let orphan = if kubectl.run("delete --help").out.contains("--cascade='background'") {
        "--cascade=orphan"
    } else {
        "--cascade=false"
    };
    kubectl.ok(&format!("delete deployment echo-hname {orphan}"));
    kubectl.until(
        30,
        "get replicasets -l app=nginx -o jsonpath={.items[*].metadata.ownerReferences}",
        str::is_empty,
    );
    assert_eq!(kubectl.ok("get replicasets -l app=nginx -o name").lines().count(), 1);
    kubectl.ok("delete replicasets -l app=nginx");
    kubectl.until(60, "get pods --no-headers", |out| !out.contains("echo-hname"));
}

#[test]
fn helm_4_installs_upgrades_rolls_back_and_uninstalls() {
    let cluster = Cluster::start(&Options { hollow_nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl("1.36");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(helm());
        command
            .args(arguments)
            .env("HOME", cluster.scratch())
            .env("KUBECONFIG", cluster.kubeconfig());
        process::succeed(command.current_dir(cluster.scratch()))
    };
    run(&["create", "web"]);
    run(&["install", "demo", "./web", "--wait", "--timeout=60s"]);
    assert!(run(&["list"]).contains("deployed"));
    kubectl.until(30, "get deployment demo-web --no-headers", |out| out.contains("1/1"));
    run(&["upgrade", "demo", "./web", "--set", "replicaCount=2", "--wait", "--timeout=60s"]);
    kubectl.until(30, "get deployment demo-web --no-headers", |out| out.contains("2/2"));
    run(&["rollback", "demo", "1", "--wait", "--timeout=60s"]);
    kubectl.until(30, "get deployment demo-web --no-headers", |out| out.contains("1/1"));
    assert_eq!(run(&["history", "demo"]).lines().count(), 4);
    run(&["uninstall", "demo", "--wait", "--timeout=60s"]);
    assert!(kubectl.fails("get deployment demo-web").contains("not found"));
}
