//! Ownership as a real API server records it.

use serde_json::{Value, json};

use super::*;
use crate::codec;
use crate::schema;

fn config_map() -> Rules<'static> {
    Rules::Known(schema::type_of_kind("", "v1", "ConfigMap").unwrap())
}

fn write(manager: &str) -> Write<'_> {
    Write {
        manager,
        api_version: "v1",
        subresource: "",
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        reset: &[],
    }
}

/// The entries without what is the same in all of them.
fn owners(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|one| json!([one["manager"], one["operation"], one["fieldsV1"]])).collect()
}

fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = "u".into();
    object
}

/// Applies data to the config map `s`, as a manager.
fn applied(live: &Value, manager: &str, data: Value, force: bool) -> Result<Value, ApplyError> {
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": data});
    apply(config_map(), live, &config, "ConfigMap", &write(manager), force).map(stored)
}

#[test]
fn a_creation_is_tracked() {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "g", "labels": {"app": "x", "tier": "1"}}, "data": {"k": "v"}});
    let empty = json!({"metadata": {}});
    track_update(config_map(), &empty, &mut object, &write(""));
    assert_eq!(
        owners(&object),
        json!([["unknown", "Update", {"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:tier": {}}}}]])
    );
    let mut bare = json!({"metadata": {"name": "a"}});
    track_update(config_map(), &empty, &mut bare, &write(""));
    assert_eq!(bare, json!({"metadata": {"name": "a"}}), "a name alone is nobody's");
}

#[test]
fn an_update_takes_what_it_changes() {
    let mut live = json!({"metadata": {"name": "a"}, "data": {"k": "v", "l": "w"}});
    track_update(config_map(), &json!({"metadata": {}}), &mut live, &write("one"));
    let live = stored(live);
    let mut object = live.clone();
    object["data"] = json!({"k": "changed", "new": "1"});
    track_update(config_map(), &live, &mut object, &write("two"));
    assert_eq!(
        owners(&object),
        json!([["one", "Update", {"f:data": {}}], ["two", "Update", {"f:data": {"f:k": {}, "f:new": {}}}]])
    );
    // Whoever was not tracked at creation is not tracked later.
    let untracked = json!({"metadata": {"name": "a", "uid": "u"}});
    let mut object = json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": "v"}});
    track_update(config_map(), &untracked, &mut object, &write("two"));
    assert_eq!(owners(&object), json!([]));
}

#[test]
fn applies_as_recorded() {
    let one = applied(&json!({"metadata": {}}), "m1", json!({"a": "1", "b": "1"}), false).unwrap();
    assert_eq!(owners(&one), json!([["m1", "Apply", {"f:data": {"f:a": {}, "f:b": {}}}]]));

    let two = applied(&one, "m2", json!({"c": "1"}), false).unwrap();
    assert_eq!(two["data"], json!({"a": "1", "b": "1", "c": "1"}));

    assert_eq!(
        applied(&two, "m2", json!({"c": "1", "a": "2"}), false).unwrap_err(),
        ApplyError::Conflict {
            message: "Apply failed with 1 conflict: conflict with \"m1\": .data.a".into(),
            causes: vec![(".data.a".into(), "conflict with \"m1\"".into())],
        }
    );
    let three = applied(&two, "m2", json!({"c": "1", "a": "1"}), false).unwrap();
    assert_eq!(
        owners(&three),
        json!([["m1", "Apply", {"f:data": {"f:a": {}, "f:b": {}}}], ["m2", "Apply", {"f:data": {"f:a": {}, "f:c": {}}}]])
    );
    let four = applied(&three, "m2", json!({"c": "1", "a": "2"}), true).unwrap();
    assert_eq!(
        owners(&four),
        json!([["m1", "Apply", {"f:data": {"f:b": {}}}], ["m2", "Apply", {"f:data": {"f:a": {}, "f:c": {}}}]])
    );
    let five = applied(&four, "m1", json!({"a": "2"}), false).unwrap();
    assert_eq!(five["data"], json!({"a": "2", "c": "1"}), "m1 dropped b");

    let mut six = five.clone();
    six["data"]["h"] = "1".into();
    track_update(config_map(), &five, &mut six, &write("hand"));
    assert_eq!(
        owners(&six),
        json!([["m1", "Apply", {"f:data": {"f:a": {}}}], ["m2", "Apply", {"f:data": {"f:a": {}, "f:c": {}}}], ["hand", "Update", {"f:data": {"f:h": {}}}]])
    );
}

#[test]
fn applies_that_are_refused() {
    let live = json!({"metadata": {}});
    let refused = |config: Value| {
        apply(config_map(), &live, &config, "ConfigMap", &write("m"), false)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(json!({"kind": "ConfigMap", "metadata": {"name": "s"}})),
        "invalid object type: /, Kind=ConfigMap"
    );
    assert_eq!(
        refused(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": [{"manager": "x"}]}})
        ),
        "metadata.managedFields must be nil"
    );
    assert_eq!(
        refused(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s", "namespace": "g"}, "dat": {}})
        ),
        "failed to create typed patch object (g/s; /v1, Kind=ConfigMap): .dat: field not declared in schema"
    );
}

#[test]
fn lists_are_merged_by_their_keys() {
    let target = schema::type_of_kind("apps", "v1", "Deployment").unwrap();
    let rules = Rules::Known(target);
    let write = |manager| Write { api_version: "apps/v1", ..write(manager) };
    let config = |containers: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": containers}}}});
    let empty = codec::normalized(json!({}), target);
    let run = |live: &Value, manager, containers| {
        let object = apply(rules, live, &config(containers), "Deployment", &write(manager), false);
        stored(codec::normalized(object.unwrap(), target))
    };
    let one =
        run(&empty, "a", json!([{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]));
    let ports = "k:{\"containerPort\":80,\"protocol\":\"TCP\"}";
    assert_eq!(
        owners(&one)[0][2]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"],
        json!({".": {}, "f:image": {}, "f:name": {}, "f:ports": {ports: {".": {}, "f:containerPort": {}}}})
    );
    let two = run(&one, "b", json!([{"name": "d", "image": "y"}, {"name": "c"}]));
    let names: Vec<_> = two["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["d", "c"], "the applied order wins");
    let three = run(&two, "b", json!([{"name": "c"}]));
    let containers = three["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!((containers.len(), &containers[0]["image"]), (1, &json!("x")), "b dropped d");
}

#[test]
fn long_lists_are_applied_in_good_time() {
    let target = schema::type_of_kind("", "v1", "Pod").unwrap();
    let config = |from: usize| {
        let env: Value = (from..from + 4_000).map(|at| json!({"name": format!("n{at}")})).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "env": env}]}})
    };
    let run = |live: &Value, from, manager| {
        let object =
            apply(Rules::Known(target), live, &config(from), "Pod", &write(manager), false);
        stored(codec::normalized(object.unwrap(), target))
    };
    let one = run(&codec::normalized(json!({}), target), 0, "a");
    let two = run(&one, 2_000, "b");
    assert_eq!(two["spec"]["containers"][0]["env"].as_array().unwrap().len(), 6_000);
    let three = run(&two, 2_000, "a");
    assert_eq!(three["spec"]["containers"][0]["env"].as_array().unwrap().len(), 4_000);
}

#[test]
fn client_side_apply_hands_over_to_server_side_apply() {
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"a": "1"}});
    let mut live = json!({"metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last.to_string()}}, "data": {"a": "1"}});
    track_update(
        config_map(),
        &json!({"metadata": {}}),
        &mut live,
        &write("kubectl-client-side-apply"),
    );
    let live = stored(live);
    let object = applied(&live, "kubectl", json!({"a": "2"}), false).unwrap();
    assert_eq!(object["data"], json!({"a": "2"}));
    let annotation =
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
            .as_str()
            .unwrap();
    assert!(annotation.contains("\"a\":\"2\""));
    assert!(applied(&live, "other", json!({"a": "2"}), false).is_err());
}

#[test]
fn custom_resources_follow_their_schema() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}, "mode": {"type": "string"}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"size": 3, "mode": "a", "free": {"x": 1}}});
    track_update(
        Rules::Custom(&schema),
        &json!({}),
        &mut object,
        &Write { api_version: "example.com/v1", ..write("") },
    );
    assert_eq!(
        owners(&object),
        json!([["unknown", "Update", {"f:spec": {".": {}, "f:free": {".": {}, "f:x": {}}, "f:mode": {}, "f:size": {}}}]])
    );
}

#[test]
fn many_updaters_are_merged() {
    let mut live = json!({"metadata": {"name": "a"}, "data": {}});
    for at in 0..15 {
        let mut object = live.clone();
        object["data"][format!("k{at}")] = "v".into();
        track_update(config_map(), &live, &mut object, &write(&format!("m{at:02}")));
        live = stored(object);
    }
    let names: Vec<_> = live["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["manager"].clone())
        .collect();
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "ancient-changes");
}

#[test]
fn hostile_managed_fields_are_harmless() {
    let live =
        json!({"metadata": {"uid": "u", "managedFields": [{"manager": "x", "operation": "Fly"}]}});
    let mut object = json!({"metadata": {"uid": "u"}, "data": {"k": "v"}});
    track_update(config_map(), &live, &mut object, &write(""));
    let mut object = json!({"metadata": {"uid": "u", "managedFields": [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": 5, "k:{{{": {"f:": []}, "zz": {}}}]}});
    track_update(config_map(), &live, &mut object, &write(""));
    assert_eq!(manager_of_agent("kubectl/v1.36 (linux)"), "kubectl");
}
