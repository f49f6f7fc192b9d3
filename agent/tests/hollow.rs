//! Simulated pods: the agent's workers on the runtime that only pretends. Needs no privileges.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use kijabi_agent::events::Recorder;
use kijabi_agent::pod::{Known, NodeContext, Shared};
use kijabi_agent::runtime::memory::{Addresses, Memory};
use kijabi_base::tasks::Shutdown;
use serde_json::{Value, json};
use support::{FakeApi, eventually, is_ready};

fn node(api: &Arc<FakeApi>, pods_max: u32, shutdown: &Shutdown) -> tokio::task::JoinHandle<()> {
    let shared = Arc::new(Shared {
        source: api.clone(),
        runtime: Arc::new(Memory::new(Addresses::default())),
        events: Recorder::start(api.clone(), "node", shutdown.clone()),
        node: NodeContext {
            name: "node".to_owned(),
            ip: [100, 64, 0, 1].into(),
            runtime_name: "hollow".to_owned(),
            pods_max,
            allocatable: (32_000, 1 << 38),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            cgroup: String::new(),
        },
        volumes: None,
        pulls: tokio::sync::Semaphore::new(4),
        known: Known::default(),
    });
    kijabi_base::tasks::spawn("node", kijabi_agent::pod::run(shared, shutdown.clone()))
}

fn pod(index: usize) -> Value {
    json!({
        "metadata": {"name": format!("p{index}"), "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "x:1", "readinessProbe": {"exec": {}}}]},
    })
}

#[tokio::test]
async fn a_hundred_pods_become_ready_with_addresses_of_their_own_and_go_away() {
    let (api, shutdown) = (FakeApi::new(), Shutdown::new());
    let running = node(&api, 110, &shutdown);
    let uids: Vec<String> = (0..100).map(|index| api.create(pod(index))).collect();
    eventually("all are ready", || async { api.pods().iter().all(is_ready) }).await;
    let addresses: BTreeSet<String> =
        api.pods().iter().map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses.len(), 100);
    assert!(addresses.iter().all(|ip| ip.starts_with("198.18.") || ip.starts_with("198.19.")));
    for uid in &uids {
        api.delete(uid, 30);
    }
    eventually("all are gone", || async { api.pods().is_empty() }).await;
    shutdown.trigger();
    running.await.unwrap();
}

#[tokio::test]
async fn a_full_node_refuses_what_is_bound_to_it() {
    let (api, shutdown) = (FakeApi::new(), Shutdown::new());
    let running = node(&api, 2, &shutdown);
    let first: Vec<String> = (0..2).map(|index| api.create(pod(index))).collect();
    eventually("two are ready", || async { api.pods().iter().all(is_ready) }).await;
    let third = api.create(pod(3));
    eventually("the third is refused", || async {
        api.pod(&third).unwrap()["status"]["reason"] == "OutOfpods"
    })
    .await;
    assert_eq!(api.pod(&third).unwrap()["status"]["phase"], "Failed");
    // Removing it frees nothing and breaks nothing; removing another makes room.
    api.delete(&third, 0);
    api.delete(&first[0], 0);
    eventually("one is left", || async { api.pods().len() == 1 }).await;
    let fourth = api.create(pod(4));
    eventually("there is room", || async { is_ready(&api.pod(&fourth).unwrap()) }).await;
    shutdown.trigger();
    running.await.unwrap();
}

#[tokio::test]
async fn a_missing_config_map_holds_a_simulated_pod_back_too() {
    let (api, shutdown) = (FakeApi::new(), Shutdown::new());
    let running = node(&api, 110, &shutdown);
    let mut wanting = pod(1);
    wanting["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "conf"}}]);
    let uid = api.create(wanting);
    eventually("it waits", || async {
        let state = &api.pod(&uid).unwrap()["status"]["containerStatuses"][0]["state"];
        state["waiting"]["reason"] == "CreateContainerConfigError"
            && state["waiting"]["message"] == "configmap \"conf\" not found"
    })
    .await;
    api.config_map("conf", &[("a", "b")]);
    eventually("it runs", || async { is_ready(&api.pod(&uid).unwrap()) }).await;
    shutdown.trigger();
    running.await.unwrap();
}
