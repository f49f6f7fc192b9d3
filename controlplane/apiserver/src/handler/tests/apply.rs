//! Server-side apply and managed fields.

use super::*;

const APPLY: &str = "application/apply-patch+yaml";

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": data})
}

async fn apply(api: &Api, query: &str, data: Value) -> Answer {
    api.patch(&format!("{CONFIG_MAPS}/s?{query}"), APPLY, config(data)).await
}

/// Manager and operation of each entry.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    entries.iter().map(|e| format!("{} {}", text(e, "manager"), text(e, "operation"))).collect()
}

#[tokio::test]
async fn appliers_share_an_object_and_conflict_over_a_field() {
    let api = Api::start().await;
    let made = apply(&api, "fieldManager=m1", json!({"a": "1", "b": "1"})).await;
    assert_eq!((made.code, managers(&made.body)), (201, vec!["m1 Apply".to_owned()]));
    let second = apply(&api, "fieldManager=m2", json!({"c": "1"})).await;
    assert_eq!(second.body["data"], json!({"a": "1", "b": "1", "c": "1"}), "{}", second.text);
    let same = apply(&api, "fieldManager=m2", json!({"c": "1"})).await;
    assert_eq!(same.version(), second.version(), "an apply of nothing new writes nothing");
    let conflict = apply(&api, "fieldManager=m2", json!({"c": "1", "a": "2"})).await;
    conflict.expect(409, "Apply failed with 1 conflict: conflict with \"m1\": .data.a");
    assert_eq!(conflict.body["details"]["causes"][0]["field"], ".data.a");
    let forced = apply(&api, "fieldManager=m2&force=true", json!({"c": "1", "a": "2"})).await;
    assert_eq!(forced.body["data"]["a"], "2", "{}", forced.text);
    let dropped = apply(&api, "fieldManager=m1", json!({})).await;
    assert_eq!(dropped.body["data"], json!({"a": "2", "c": "1"}), "{}", dropped.text);
}

#[tokio::test]
async fn other_writes_are_tracked_by_the_user_agent() {
    let api = Api::start().await;
    apply(&api, "fieldManager=m1", json!({"a": "1"})).await;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MERGE));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kubectl/v1.36.0 (linux)"));
    let target = format!("{CONFIG_MAPS}/s");
    let patch = Bytes::from(json!({"data": {"h": "1"}}).to_string());
    api.send(Method::PATCH, &target, headers, patch).await;
    let now = api.get(&target).await;
    assert_eq!(managers(&now.body), ["m1 Apply", "kubectl Update"]);
}

#[tokio::test]
async fn an_apply_needs_a_manager_and_a_type() {
    let api = Api::start().await;
    apply(&api, "", json!({})).await.expect(422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch");
    let bare = json!({"kind": "ConfigMap", "metadata": {"name": "s"}});
    let target = format!("{CONFIG_MAPS}/s?fieldManager=m");
    api.patch(&target, APPLY, bare).await.expect(400, "invalid object type: /, Kind=ConfigMap");
    let mut managed = config(json!({}));
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    api.patch(&target, APPLY, managed).await.expect(400, "metadata.managedFields must be nil");
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/s")).await.code, 404);
}
