//! Pods: binding, eviction, grace.

use super::*;

async fn pod(api: &Api, name: &str) {
    let spec = json!({"containers": [{"name": "c", "image": "nginx"}]});
    let made = api.post(PODS, json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(made.code, 201, "{}", made.text);
}

fn binding(name: &str) -> Value {
    json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}})
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let api = Api::start().await;
    pod(&api, "p").await;
    let target = format!("{PODS}/p/binding");
    let bound = api.post(&target, binding("p")).await;
    assert_eq!((bound.code, bound.body["status"].as_str()), (201, Some("Success")));
    let now = api.get(&format!("{PODS}/p")).await.body;
    assert_eq!(now["spec"]["nodeName"], "n1");
    assert_eq!(now["status"]["conditions"][0]["type"], "PodScheduled");
    api.post(&target, binding("p")).await.expect(409, "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\"");
    let none = format!("{PODS}/none/binding");
    api.post(&none, binding("none")).await.expect(404, "pods \"none\" not found");
    api.post(&target, json!({"metadata": {"name": "p"}}))
        .await
        .expect(500, "target.name: Required value");
    pod(&api, "q").await;
    let by_collection = api.post("/api/v1/namespaces/g/bindings", binding("q")).await;
    assert_eq!(by_collection.code, 201, "{}", by_collection.text);
    let of_node = api.get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dn1")).await;
    assert_eq!(of_node.names(), ["p", "q"]);
}

#[tokio::test]
async fn grace_is_given_shortened_and_forced() {
    let api = Api::start().await;
    for name in ["p", "free"] {
        pod(&api, name).await;
    }
    api.post(&format!("{PODS}/p/binding"), binding("p")).await;
    let unbound = api.delete(&format!("{PODS}/free")).await;
    assert_eq!(unbound.body["metadata"]["deletionGracePeriodSeconds"], 0, "{}", unbound.text);
    assert_eq!(api.get(&format!("{PODS}/free")).await.code, 404);

    let target = format!("{PODS}/p");
    let marked = api.delete(&target).await.body;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(marked["metadata"]["generation"], 2);
    let longer = api.delete_with(&target, json!({"gracePeriodSeconds": 60})).await.body;
    assert_eq!(longer["metadata"], marked["metadata"], "a second deletion may not lengthen it");
    let shorter = api.delete_with(&target, json!({"gracePeriodSeconds": 5})).await.body;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(
        shorter["metadata"]["deletionTimestamp"].as_str()
            < marked["metadata"]["deletionTimestamp"].as_str()
    );
    let forced = api.delete(&format!("{target}?gracePeriodSeconds=0")).await;
    assert_eq!(forced.code, 200, "{}", forced.text);
    assert_eq!(api.get(&target).await.code, 404);
}

#[tokio::test]
async fn an_eviction_deletes() {
    let api = Api::start().await;
    pod(&api, "p").await;
    let target = format!("{PODS}/p/eviction");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let mut dry = eviction.clone();
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    assert_eq!(api.post(&target, dry).await.code, 201);
    assert_eq!(api.get(&format!("{PODS}/p")).await.code, 200);
    assert_eq!(api.post(&target, eviction.clone()).await.code, 201);
    assert_eq!(api.get(&format!("{PODS}/p")).await.code, 404);
    api.post(&target, eviction).await.expect(404, "pods \"p\" not found");
}
