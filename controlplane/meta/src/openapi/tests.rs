//! What clients look for in the documents.

use serde_json::{Value, json};

use super::*;
use crate::kind::KINDS;

fn served(group: &str, version: &str) -> Vec<Served> {
    let of_group = KINDS.iter().filter(|one| one.group == group && one.version == version);
    of_group.map(Served::from).collect()
}

/// Every reference leads to a definition.
fn check_references(document: &Value, at: &Value) {
    match at {
        Value::Object(fields) => {
            if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                let found = document.pointer(path.trim_start_matches('#'));
                assert!(found.is_some(), "{path} leads nowhere");
            }
            fields.values().for_each(|one| check_references(document, one));
        }
        Value::Array(items) => items.iter().for_each(|one| check_references(document, one)),
        _ => {}
    }
}

#[test]
fn documents_are_closed() {
    let all: Vec<_> = KINDS.iter().map(Served::from).collect();
    let v2 = v2_document(&all);
    check_references(&v2, &v2);
    for one in KINDS {
        let v3 = v3_document(&served(one.group, one.version));
        check_references(&v3, &v3);
    }
}

#[test]
fn patch_says_that_fields_are_checked() {
    let v3 = v3_document(&served("apps", "v1"));
    let patch = &v3["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
}

#[test]
fn merge_keys_and_kinds_are_marked() {
    let v3 = v3_document(&served("", "v1"));
    let schemas = &v3["components"]["schemas"];
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(
        schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
}

#[test]
fn custom_resources_are_shown() {
    let widget = Served {
        group: "example.com".into(),
        version: "v1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
        namespaced: true,
        verbs: ["get", "list", "create", "patch"].map(str::to_owned).to_vec(),
        subresources: Vec::new(),
        definition: Definition::Custom(
            custom_name("example.com", "v1", "Widget"),
            json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}),
        ),
    };
    let v3 = v3_document(std::slice::from_ref(&widget));
    check_references(&v3, &v3);
    assert!(
        v3["components"]["schemas"]["com.example.v1.Widget"]["properties"]["metadata"].is_object()
    );
    let v2 = v2_document(&[widget]);
    check_references(&v2, &v2);
    assert!(v2_protobuf(&v2).len() > 1000);
}

#[test]
fn the_index_names_every_document() {
    let index = v3_index([("apis/apps/v1", "ABC")].into_iter());
    assert_eq!(
        index,
        json!({"paths": {"apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=ABC"}}})
    );
    assert_eq!(hash(b"").len(), 128);
}
