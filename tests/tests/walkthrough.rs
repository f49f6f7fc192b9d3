//! The walk-through with stock kubectl on real containers: what a user types, what comes back.
//!
//! Row names (C2, C3, …) are those of the acceptance table. One cluster per kubectl version; the
//! rows run in the order a user would type them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kijabi_tests::cluster::{Cluster, Options};
use kijabi_tests::kubectl::Kubectl;
use kijabi_tests::registry::Registry;
use kijabi_tests::{poll, process};

/// A web server image whose `Server:` header names its version.
fn push_web_server(registry: &Registry, folder: &Path, repository: &str, tag: &str, server: &str) {
    let tar: PathBuf = folder.join(format!("{}-{tag}.tar", repository.replace('/', "-")));
    let name = format!("docker.io/{repository}:{tag}");
    process::succeed(
        Command::new(process::kijabi())
            .args(["demo-image", "--name", &name, "--server", server, "--output"])
            .arg(&tar),
    );
    registry.push(&tar, repository, tag);
}

fn manifest(name: &str, image: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  labels:\n    app: nginx\nspec:\n  replicas: {replicas}\n  selector:\n    matchLabels:\n      app: {name}\n  template:\n    metadata:\n      labels:\n        app: {name}\n    spec:\n      terminationGracePeriodSeconds: 2\n      containers:\n      - name: nginx\n        image: {image}\n"
    )
}

struct Walk {
    kubectl: Kubectl,
    folder: PathBuf,
}

impl Walk {
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("write a manifest");
        path.display().to_string()
    }

    /// Lines of `get pods` whose name starts with `prefix`.
    fn pods(&self, prefix: &str) -> Vec<Vec<String>> {
        let out = self.kubectl.ok("get pods --no-headers");
        out.lines()
            .filter(|line| line.starts_with(prefix))
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    }

    fn wait_for_running(&self, prefix: &str, count: usize) -> Vec<Vec<String>> {
        poll::eventually(
            &format!("{count} running pods {prefix}*"),
            Duration::from_secs(90),
            || {
                let pods = self.pods(prefix);
                let ready =
                    pods.iter().filter(|row| row[1] == "1/1" && row[2] == "Running").count();
                if ready == count && pods.len() == count {
                    Ok(pods)
                } else {
                    Err(format!("{pods:?}"))
                }
            },
        )
    }

    fn ip(&self, pod: &str) -> String {
        self.kubectl.ok(&format!("get pod {pod} -o jsonpath={{.status.podIP}}"))
    }
}

/// The `Server:` header that a pod's web server answers with.
fn server_header(ip: &str) -> String {
    poll::eventually("the pod's web server", Duration::from_secs(20), || {
        let url = format!("http://{ip}/");
        let output =
            process::run(Command::new("curl").args(["-I", "--silent", "--max-time", "3", &url]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .find_map(|line| line.strip_prefix("Server: "))
            .map(|server| server.trim().to_owned())
            .ok_or(text)
    })
}

fn walk(version: &str) {
    let images = tempfile::tempdir().expect("a temporary folder");
    let registry = Registry::start(images.path());
    for (tag, server) in
        [("latest", "nginx/1.17.0"), ("1.15.12", "nginx/1.15.12"), ("1.16.0", "nginx/1.16.0")]
    {
        push_web_server(&registry, images.path(), "library/nginx", tag, server);
    }
    push_web_server(&registry, images.path(), "sysnet4admin/echo-hname", "latest", "echo/1");
    let cluster = Cluster::start(&Options::default());
    registry.mirror_docker_hub(&cluster.data().join("agent/certs.d"));
    let kubectl = cluster.kubectl(version);
    kubectl.until(60, "get nodes --no-headers", |out| out.contains(" Ready "));
    let walk = Walk { kubectl, folder: cluster.scratch().to_owned() };
    bare_pod_and_deployment(&walk);
    create_and_apply(&walk);
    rollouts(&walk);
    logs(&walk);
}

/// C2 to C7, C9, C14, C16, C19.
fn bare_pod_and_deployment(walk: &Walk) {
    let kubectl = &walk.kubectl;
    assert_eq!(
        kubectl.ok("run nginx-pod --image=nginx --restart=Always"),
        "pod/nginx-pod created\n"
    );
    let created = kubectl.ok("create deployment dpy-nginx --image=nginx");
    assert_eq!(created, "deployment.apps/dpy-nginx created\n");
    let dpy = walk.wait_for_running("dpy-nginx-", 1);
    walk.wait_for_running("nginx-pod", 1);
    let parts: Vec<_> = dpy[0][0].split('-').collect();
    let alphabet = |text: &str| text.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c));
    assert!(
        matches!(parts[2].len(), 8..=10) && alphabet(parts[2]),
        "template hash in {}",
        dpy[0][0]
    );
    assert!(parts[3].len() == 5 && alphabet(parts[3]), "random suffix in {}", dpy[0][0]);

    for noun in ["pods", "pod", "po"] {
        let table = kubectl.ok(&format!("get {noun}"));
        let header: Vec<_> = table.lines().next().expect("a header").split_whitespace().collect();
        assert_eq!(header, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"], "get {noun}");
    }
    let wide = kubectl.ok("get pods -o wide");
    let row = wide.lines().find(|line| line.starts_with("nginx-pod")).expect("the pod's row");
    assert!(row.contains(" 172.16."), "a pod's address is of the pod network: {row}");

    let ip = walk.ip("nginx-pod");
    assert_eq!(server_header(&ip), "nginx/1.17.0");
    assert_eq!(
        kubectl.fails("scale pod nginx-pod --replicas=3").trim(),
        "Error from server (NotFound): the server could not find the requested resource"
    );
    let versions = kubectl.ok("api-versions");
    for group_version in
        ["v1", "apps/v1", "coordination.k8s.io/v1", "discovery.k8s.io/v1", "events.k8s.io/v1"]
    {
        assert!(
            versions.lines().any(|line| line == group_version),
            "{group_version} in {versions}"
        );
    }
    let columns = "NAME:.metadata.name,IP:.status.podIP,STATUS:.status.phase,NODE:.spec.nodeName";
    let custom = kubectl.ok(&format!("get pods -o=custom-columns={columns}"));
    assert_eq!(custom.lines().next().expect("a header").split_whitespace().count(), 4);
    assert!(custom.contains(&ip) && custom.contains("Running"), "{custom}");
    let yaml = kubectl.ok("get pod nginx-pod -o yaml");
    assert!(
        yaml.starts_with("apiVersion: v1\nkind: Pod\n") || yaml.contains("\nkind: Pod\n"),
        "{yaml}"
    );

    let deleted = kubectl.ok("delete pods nginx-pod --grace-period=1");
    assert!(deleted.starts_with("pod \"nginx-pod\" deleted"), "{deleted}");
    assert!(kubectl.fails("get pod nginx-pod").contains("pods \"nginx-pod\" not found"));
    let old = &dpy[0][0];
    kubectl.ok(&format!("delete pods {old} --grace-period=1"));
    let replaced = walk.wait_for_running("dpy-nginx-", 1);
    assert_ne!(&replaced[0][0], old, "the replica set makes a new pod");
    assert!(walk.pods("nginx-pod").is_empty(), "nothing makes a bare pod again");
    kubectl.ok("delete deployment dpy-nginx");
    kubectl.until(60, "get pods --no-headers", |out| !out.contains("dpy-nginx"));
}

/// C10, C11, C14, C15.
fn create_and_apply(walk: &Walk) {
    let kubectl = &walk.kubectl;
    let file = walk.file("echo-hname.yaml", &manifest("echo-hname", "sysnet4admin/echo-hname", 3));
    assert_eq!(kubectl.ok(&format!("create -f {file}")), "deployment.apps/echo-hname created\n");
    let again = kubectl.fails(&format!("create -f {file}"));
    assert_eq!(
        again.trim(),
        format!(
            "Error from server (AlreadyExists): error when creating \"{file}\": deployments.apps \"echo-hname\" already exists"
        )
    );
    let pods = walk.wait_for_running("echo-hname-", 3);
    let answer = process::succeed(Command::new("curl").args([
        "--silent",
        "--max-time",
        "3",
        &format!("http://{}/", walk.ip(&pods[0][0])),
    ]));
    assert_eq!(answer.trim(), pods[0][0], "a pod's host name is its name");
    walk.file("echo-hname.yaml", &manifest("echo-hname", "sysnet4admin/echo-hname", 6));
    let applied = kubectl.run(&format!("apply -f {file}"));
    assert!(applied.success, "{}", applied.err);
    assert_eq!(applied.out, "deployment.apps/echo-hname configured\n");
    // The words changed with the versions of kubectl.
    let warned = applied.err.contains("kubectl apply should be used on resource")
        || applied.err.contains("kubectl apply should only be used on resources created");
    assert!(warned, "{}", applied.err);
    walk.wait_for_running("echo-hname-", 6);
    assert_eq!(
        kubectl.ok("delete deployment echo-hname"),
        "deployment.apps \"echo-hname\" deleted\n".replace(" deleted\n", &deleted_suffix(kubectl))
    );
    kubectl.until(60, "get replicasets,pods --no-headers --ignore-not-found", |out| {
        !out.contains("echo-hname")
    });
    assert_eq!(kubectl.ok(&format!("apply -f {file}")), "deployment.apps/echo-hname created\n");
    kubectl.ok("delete deployment echo-hname");
}

/// kubectl 1.33 and newer say which namespace an object was deleted from.
fn deleted_suffix(kubectl: &Kubectl) -> String {
    let newer = kubectl.run("delete --help").success
        && kubectl.ok("version --client -o json").contains("\"minor\": \"36\"");
    if newer { " deleted from default namespace\n".into() } else { " deleted\n".into() }
}

/// C23 to C26, C28 to C30.
fn rollouts(walk: &Walk) {
    let kubectl = &walk.kubectl;
    let file = walk.file("rollout-nginx.yaml", &manifest("rollout-nginx", "nginx:1.15.12", 3));
    let applied = kubectl.ok(&format!("apply -f {file} --record"));
    assert_eq!(applied, "deployment.apps/rollout-nginx created\n");
    let first = walk.wait_for_running("rollout-nginx-", 3);
    let history = kubectl.ok("rollout history deployment rollout-nginx");
    assert!(history.contains("REVISION  CHANGE-CAUSE"), "{history}");
    let cause = history.lines().find(|line| line.starts_with('1')).expect("revision 1");
    assert!(cause.contains("apply") && cause.contains("--record=true"), "{cause}");

    let set = kubectl.ok("set image deployment rollout-nginx nginx=nginx:1.16.0 --record");
    assert_eq!(set, "deployment.apps/rollout-nginx image updated\n");
    kubectl.ok("rollout status deployment rollout-nginx --timeout=120s");
    let second = walk.wait_for_running("rollout-nginx-", 3);
    for row in &second {
        assert!(first.iter().all(|old| old[0] != row[0]), "{} is of the first rollout", row[0]);
    }
    assert_eq!(server_header(&walk.ip(&second[0][0])), "nginx/1.16.0");

    kubectl.ok("set image deployment rollout-nginx nginx=nginx:1.17.23 --record");
    poll::eventually("an image that cannot be pulled", Duration::from_secs(60), || {
        let pods = walk.pods("rollout-nginx-");
        let running = pods.iter().filter(|row| row[2] == "Running").count();
        let failing = pods
            .iter()
            .filter(|row| row[2] == "ImagePullBackOff" || row[2] == "ErrImagePull")
            .count();
        if running == 3 && failing == 1 { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    let phases = kubectl.ok("get pods -l app=rollout-nginx -o jsonpath={.items[*].status.phase}");
    assert_eq!(
        phases.split_whitespace().filter(|phase| *phase == "Pending").count(),
        1,
        "{phases}"
    );
    let described = kubectl.ok("describe deployment rollout-nginx");
    let section =
        |name: &str| described.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
    assert!(section("OldReplicaSets:").contains("(3/3 replicas created)"), "{described}");
    assert!(section("NewReplicaSet:").contains("(1/1 replicas created)"), "{described}");
    assert!(described.contains("ScalingReplicaSet"), "{described}");

    let undone = kubectl.ok("rollout undo deployment rollout-nginx");
    assert_eq!(undone, "deployment.apps/rollout-nginx rolled back\n");
    kubectl.ok("rollout status deployment rollout-nginx --timeout=60s");
    let history =
        kubectl.until(20, "rollout history deployment rollout-nginx", |out| out.contains("\n4"));
    let revisions: Vec<_> = history
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect::<Vec<u32>>();
    assert_eq!(revisions, [1, 3, 4], "{history}");
    let restored = walk.wait_for_running("rollout-nginx-", 3);
    for row in &restored {
        assert!(second.iter().any(|pod| pod[0] == row[0]), "{} was not kept", row[0]);
    }
    kubectl.ok("rollout undo deployment rollout-nginx --to-revision=1");
    kubectl.ok("rollout status deployment rollout-nginx --timeout=120s");
    let last = walk.wait_for_running("rollout-nginx-", 3);
    assert_eq!(server_header(&walk.ip(&last[0][0])), "nginx/1.15.12");
}

/// `kubectl logs`, plain and following.
fn logs(walk: &Walk) {
    let kubectl = &walk.kubectl;
    let script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done";
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: talker\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: nginx\n    command: [\"/bin/busybox\", \"sh\", \"-c\", \"{script}\"]\n"
    );
    let file = walk.file("talker.yaml", &pod);
    kubectl.ok(&format!("create -f {file}"));
    walk.wait_for_running("talker", 1);
    let out = kubectl.until(20, "logs talker", |out| out.contains("line 3\n"));
    assert!(out.starts_with("line 1\nline 2\n"), "{out}");
    assert_eq!(kubectl.ok("logs talker --tail=1").lines().count(), 1);
    let log = walk.folder.join("follow.log");
    let mut follow = kubectl.command();
    let mut program =
        process::Program::start(follow.args(["logs", "-f", "talker", "--tail=1"]), &log);
    poll::eventually("kubectl logs -f", Duration::from_secs(20), || {
        let text = program.output();
        if text.lines().count() >= 5 { Ok(()) } else { Err(text) }
    });
    program.kill();
    kubectl.ok("delete pod talker");
}

#[test]
fn kubectl_1_20_walks() {
    walk("1.20");
}

#[test]
fn kubectl_1_31_walks() {
    walk("1.31");
}

#[test]
fn kubectl_1_36_walks() {
    walk("1.36");
}
