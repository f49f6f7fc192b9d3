//! The texts and shapes that clients compare.

use serde_json::json;

use super::*;

fn body(error: &ApiError) -> serde_json::Value {
    serde_json::from_slice(&error.to_json()).unwrap()
}

const PODS: GroupResource<'_> = GroupResource { group: "", resource: "pods" };
const DEPLOYMENTS: GroupResource<'_> = GroupResource { group: "apps", resource: "deployments" };

#[test]
fn the_texts_are_the_ones_clients_compare() {
    let table = [
        (ApiError::not_found(PODS, "x"), 404, "NotFound", r#"pods "x" not found"#),
        (
            ApiError::already_exists(DEPLOYMENTS, "x"),
            409,
            "AlreadyExists",
            r#"deployments.apps "x" already exists"#,
        ),
        (
            ApiError::modified(DEPLOYMENTS, "x"),
            409,
            "Conflict",
            r#"Operation cannot be fulfilled on deployments.apps "x": the object has been modified; please apply your changes to the latest version and try again"#,
        ),
        (ApiError::unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (
            ApiError::unknown_resource(),
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            ApiError::not_acceptable(),
            406,
            "NotAcceptable",
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ),
        (ApiError::forbidden(PODS, "x", "no"), 403, "Forbidden", r#"pods "x" is forbidden: no"#),
    ];
    for (error, code, reason, text) in table {
        assert_eq!(
            (error.code(), error.reason(), error.to_string().as_str()),
            (code, reason, text)
        );
    }
}

#[test]
fn an_error_is_a_whole_status_object() {
    let want = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "pods \"x\" not found", "reason": "NotFound",
        "details": {"name": "x", "kind": "pods"}, "code": 404
    });
    assert_eq!(body(&ApiError::not_found(PODS, "x")), want);
    assert_eq!(body(&ApiError::unknown_resource())["details"], json!({}));
    assert!(body(&ApiError::bad_request("no")).get("details").is_none());
}

#[test]
fn equal_field_errors_stand_once_in_the_text_but_each_in_the_causes() {
    let one = FieldError::forbidden("metadata.finalizers", "no");
    let error = ApiError::invalid("", "ConfigMap", "fin", &[one.clone(), one.clone()]);
    let text = "ConfigMap \"fin\" is invalid: metadata.finalizers: Forbidden: no";
    assert_eq!(error.to_string(), text);
    assert_eq!(body(&error)["details"]["causes"].as_array().unwrap().len(), 2);
    let two = ApiError::invalid("apps", "D", "d", &[one, FieldError::required("spec", "")]);
    let text =
        "D.apps \"d\" is invalid: [metadata.finalizers: Forbidden: no, spec: Required value]";
    assert_eq!(two.to_string(), text);
}

#[test]
fn a_version_too_large_says_so_in_its_cause() {
    let error = ApiError::resource_version_too_large(99, 7);
    let want = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1
    });
    assert_eq!(body(&error)["details"], want);
    assert_eq!(error.to_string(), "Timeout: Too large resource version: 99, current: 7");
}
