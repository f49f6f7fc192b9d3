//! The node's HTTPS server as its clients see it: who may ask, and logs of a real container.

mod support;

use serde_json::json;
use support::tls::{Authority, Identity, request};
use support::{World, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_clusters_clients_may_ask_and_logs_are_whole() {
    let cluster = Authority::new();
    let stranger = Authority::new();
    let world = World::start_serving(&cluster).await;
    let address = world.server();
    let apiserver = cluster.client("kube-apiserver-kubelet-client", "");
    let admin = cluster.client("someone", "system:masters");
    let user = cluster.client("someone", "developers");
    let get = async |identity: Option<&Identity>, path: &str| {
        request(address, &cluster, identity, path).await
    };

    assert_eq!(get(None, "/pods").await, Ok((401, "Unauthorized\n".to_owned())));
    let forbidden = "Forbidden (user=someone, verb=get, resource=nodes, subresource(s)=[proxy])\n";
    assert_eq!(get(Some(&user), "/pods").await, Ok((403, forbidden.to_owned())));
    let foreign = stranger.client("kube-apiserver-kubelet-client", "system:masters");
    assert!(get(Some(&foreign), "/pods").await.is_err(), "a foreign CA fails in the handshake");
    assert_eq!(get(Some(&admin), "/healthz").await, Ok((200, "ok".to_owned())));

    let talk = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; busybox sleep 1; echo oops >&2; \
                busybox sleep 1; echo end";
    let uid = world.create(json!({
        "metadata": {"name": "talk", "namespace": "default"},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": world.image(), "command": ["busybox", "sh", "-c", talk]}]},
    }));
    world.wait(&uid, "running", support::is_ready).await;
    let log = "/containerLogs/default/talk/c";
    // Followed while it runs: the answer ends when the container does.
    let (code, followed) = get(Some(&apiserver), &format!("{log}?follow=true")).await.unwrap();
    assert_eq!(code, 200);
    assert!(followed.starts_with("line 1\nline 2\n"), "{followed}");
    assert!(followed.contains("oops\n") && followed.ends_with("end\n"), "{followed}");
    assert_eq!(followed.lines().count(), 52);
    let cases = [
        ("?tailLines=1".to_owned(), 200, "end\n"),
        ("?limitBytes=7&tailLines=52".to_owned(), 200, "line 1\n"),
        (
            "?previous=true".to_owned(),
            400,
            "previous terminated container \"c\" in pod \"talk\" not found\n",
        ),
    ];
    for (query, code, text) in cases {
        let wanted = Ok((code, text.to_owned()));
        assert_eq!(get(Some(&apiserver), &format!("{log}{query}")).await, wanted, "{query}");
    }
    let code = async |path: &str| get(Some(&apiserver), path).await.unwrap().0;
    assert_eq!(code("/containerLogs/default/talk/none").await, 404);
    assert_eq!(code("/containerLogs/default/none/c").await, 404);
    assert_eq!(code("/containerLogs/default/../../etc/passwd").await, 404);
    assert_eq!(code(&format!("{log}?tailLines=x")).await, 422);
    assert_eq!(code("/exec/default/talk/c?command=ls").await, 501);
    assert_eq!(code("/debug/pprof/").await, 404);
    let (_, pods) = get(Some(&apiserver), "/pods").await.unwrap();
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "talk");

    world.delete(&uid, 0);
    eventually("gone", || async { world.pod(&uid).is_none() }).await;
    world.finish().await;
}
