//! Real pods: a private containerd in a temporary folder, the agent's own workers, and an API that
//! is a map in this test. Needs root, containerd, runc and the CNI plugins; fails without them.

mod support;

use std::time::Duration;

use serde_json::json;
use support::{World, eventually};

/// A web server and a client in one pod: one address, one localhost, logs, a restart, an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_containers_share_an_address_and_leave_nothing_behind() {
    let world = World::start().await;
    let serve = "mkdir -p /www; hostname > /www/index.html; exec busybox httpd -f -p 8080 -h /www";
    let client = "until busybox wget -qO- http://127.0.0.1:8080/; do busybox sleep 0.1; done; \
                  echo $GREETING from $WHERE; exec busybox sleep 1000";
    let port = support::free_port();
    let uid = world.create(json!({
        "metadata": {"name": "pair", "namespace": "default"},
        "spec": {"restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "web", "image": world.image(), "command": ["busybox", "sh", "-c", serve],
             "ports": [{"containerPort": 8080, "hostPort": port}],
             "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}},
            {"name": "client", "image": world.image(), "command": ["busybox", "sh", "-c", client],
             "env": [{"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                     {"name": "GREETING", "value": "hello $(WHERE)"}]},
        ]},
    }));
    let pod = world.wait(&uid, "running and ready", support::is_ready).await;
    let ip = pod["status"]["podIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("172.29."), "{ip}");
    assert_eq!(support::get(&ip, 8080).await, "pair\n", "the host reaches the pod");
    assert_eq!(support::get("127.0.0.1", port).await, "pair\n", "and its host port");
    eventually("the client's log", || async {
        let log = world.log("default_pair", &uid, "client", 0);
        log.contains("pair\n") && log.contains("hello pair from pair\n")
    })
    .await;

    // Killed from outside: started again in the same sandbox, with the same address.
    let before = support::container_id(&pod, "web");
    world.kill(&before).await;
    let pod = world
        .wait(&uid, "restarted", |pod| support::restarts(pod, "web") == 1 && support::is_ready(pod))
        .await;
    assert_eq!(pod["status"]["podIP"], ip.as_str());
    let web = support::status(&pod, "web");
    assert_eq!(web["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(support::restarts(&pod, "client"), 0, "its neighbour was left alone");

    // A new agent finds the containers and leaves them alone.
    let ids = [support::container_id(&pod, "web"), support::container_id(&pod, "client")];
    let world = world.restart_agent().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pod = world.pod(&uid).unwrap();
    assert_eq!(ids, [support::container_id(&pod, "web"), support::container_id(&pod, "client")]);

    world.delete(&uid, 1);
    eventually("the pod is gone", || async { world.pod(&uid).is_none() }).await;
    let reasons = world.event_reasons();
    for reason in ["Pulled", "Created", "Started", "Killing"] {
        assert!(reasons.contains(reason), "no {reason} among {reasons:?}");
    }
    world.finish().await;
}

/// What a bad image name, a missing image and a crash look like from outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_shown_as_kubernetes_shows_them() {
    let world = World::start().await;
    let pod = |name: &str, container: serde_json::Value| {
        json!({"metadata": {"name": name, "namespace": "default"},
               "spec": {"restartPolicy": "Always", "terminationGracePeriodSeconds": 0,
                        "containers": [container]}})
    };
    let reason = |pod: &serde_json::Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        state["waiting"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    let bad = world.create(pod("bad", json!({"name": "c", "image": "Not A Name"})));
    let absent = world.create(pod(
        "absent",
        json!({"name": "c", "image": "127.0.0.1:9/none:1", "imagePullPolicy": "IfNotPresent"}),
    ));
    let never = world
        .create(pod("never", json!({"name": "c", "image": "none:1", "imagePullPolicy": "Never"})));
    let crash = world.create(pod(
        "crash",
        json!({"name": "c", "image": world.image(),
               "command": ["busybox", "sh", "-c", "echo last words > /dev/termination-log; exit 3"]}),
    ));
    world.wait(&bad, "InvalidImageName", |pod| reason(pod) == "InvalidImageName").await;
    world.wait(&never, "ErrImageNeverPull", |pod| reason(pod) == "ErrImageNeverPull").await;
    let pod =
        world.wait(&absent, "ImagePullBackOff", |pod| reason(pod) == "ImagePullBackOff").await;
    assert_eq!(pod["status"]["phase"], "Pending");
    let pod = world.wait(&crash, "CrashLoopBackOff", |pod| reason(pod) == "CrashLoopBackOff").await;
    assert_eq!(pod["status"]["phase"], "Running");
    let last = &support::status(&pod, "c")["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["message"]), (&json!(3), &json!("last words\n")));
    assert!(support::restarts(&pod, "c") >= 1);
    for uid in [bad, absent, never, crash] {
        world.delete(&uid, 0);
        eventually("gone", || async { world.pod(&uid).is_none() }).await;
    }
    world.finish().await;
}

/// Volumes of every kind, init containers, and a pod that ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_and_init_containers_work_and_a_finished_pod_stays_finished() {
    let world = World::start().await;
    world.config_map("conf", &[("key", "value"), ("other", "x")]);
    let uid = world.create(json!({
        "metadata": {"name": "job", "namespace": "default", "labels": {"app": "job"}},
        "spec": {
            "restartPolicy": "Never",
            "volumes": [
                {"name": "work", "emptyDir": {}},
                {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "conf", "configMap": {"name": "conf"}},
                {"name": "all", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"configMap": {"name": "conf", "items": [{"key": "key", "path": "d/k"}]}},
                    {"downwardAPI": {"items": [{"path": "labels",
                        "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
            ],
            "initContainers": [{"name": "first", "image": world.image(),
                "command": ["busybox", "sh", "-c", "echo made > /work/sub/file"],
                "volumeMounts": [{"name": "work", "mountPath": "/work"},
                                 {"name": "work", "mountPath": "/x", "subPath": "sub"}]}],
            "containers": [{"name": "main", "image": world.image(),
                "command": ["busybox", "sh", "-c",
                    "cat /sub/file /conf/key /all/token /all/d/k /all/labels; echo; \
                     busybox mount | busybox grep -c ' /mem type tmpfs'; \
                     echo ro > /conf/key || echo read-only; cat /etc/hosts | busybox tail -1"],
                "volumeMounts": [
                    {"name": "work", "mountPath": "/sub", "subPath": "sub"},
                    {"name": "mem", "mountPath": "/mem"},
                    {"name": "conf", "mountPath": "/conf", "readOnly": true},
                    {"name": "all", "mountPath": "/all", "readOnly": true}]}],
        },
    }));
    let pod = world.wait(&uid, "finished", |pod| pod["status"]["phase"] == "Succeeded").await;
    let parts =
        ["made\n", "value", "token-of-default", "app=\"job\"", "\n1\n", "read-only\n", "\tjob\n"];
    eventually(&format!("all of {parts:?}"), || async {
        let log = world.log("default_job", &uid, "main", 0);
        parts.iter().all(|part| log.contains(part))
    })
    .await;
    let init = &pod["status"]["initContainerStatuses"][0];
    assert_eq!(
        (&init["ready"], &init["state"]["terminated"]["exitCode"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], false);
    world.delete(&uid, 0);
    eventually("gone", || async { world.pod(&uid).is_none() }).await;

    let missing = world.create(json!({
        "metadata": {"name": "waits", "namespace": "default"},
        "spec": {"volumes": [{"name": "v", "configMap": {"name": "later"}}],
                 "containers": [{"name": "c", "image": world.image(),
                                 "command": ["busybox", "sleep", "1000"],
                                 "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
    }));
    eventually("a FailedMount event", || async {
        world.event_messages().iter().any(|text| {
            text == "MountVolume.SetUp failed for volume \"v\" : configmap \"later\" not found"
        })
    })
    .await;
    world.config_map("later", &[("a", "b")]);
    world.wait(&missing, "running", support::is_ready).await;
    world.delete(&missing, 0);
    eventually("gone", || async { world.pod(&missing).is_none() }).await;
    world.finish().await;
}

/// CVE-2020-8558: a host port makes the bridge route loopback addresses. A pod that sends to the
/// node's 127.0.0.1 is stopped by the agent's rule; without the rule it would get there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_cannot_reach_what_listens_on_the_nodes_loopback() {
    let world = World::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = listener.local_addr().unwrap().port();
    let serving = kijabi_base::tasks::spawn("secret", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.write_all(b"host-secret\n").await;
        }
    });
    let attempt = async |name: &str| {
        let script = format!(
            "for i in eth0 all; do echo 1 > /proc/sys/net/ipv4/conf/$i/route_localnet; done; \
             busybox ip addr del 127.0.0.1/8 dev lo; \
             busybox ip route add 127.0.0.1/32 via {} dev eth0; \
             busybox timeout 2 busybox nc 127.0.0.1 {secret} </dev/null; echo tried",
            world.gateway()
        );
        let uid = world.create(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "c", "image": world.image(), "command": ["busybox", "sh", "-c", script],
                "ports": [{"containerPort": 80, "hostPort": support::free_port()}],
                "securityContext": {"privileged": true}}]},
        }));
        world.wait(&uid, "finished", |pod| pod["status"]["phase"] == "Succeeded").await;
        // The runtime may still be writing the last lines when the container has ended, and what
        // the shell says of the timeout on the other stream may come after them.
        let log = || world.log(&format!("default_{name}"), &uid, "c", 0);
        eventually("its last line", || async { log().contains("tried\n") }).await;
        let log = log();
        world.delete(&uid, 0);
        log.contains("host-secret")
    };
    assert!(!attempt("guarded").await, "the pod reached the node's loopback");
    world.remove_loopback_guard().await;
    assert!(attempt("unguarded").await, "this test would not notice a missing rule");
    serving.abort();
    world.finish().await;
}
