//! Bodies that are broken, hostile or meant for something else.

use super::*;

#[tokio::test]
async fn each_bad_body_has_its_own_answer() {
    let api = Api::start().await;
    let long = "a".repeat(3 << 20);
    let rows: &[(&str, &str, String, u16, &str)] = &[
        (
            "malformed JSON",
            JSON,
            "{\"metadata\":".into(),
            400,
            "json parse error: unexpected end of JSON input",
        ),
        (
            "malformed YAML",
            "application/yaml",
            "a: [b".into(),
            400,
            "the object provided is unrecognized (must be of type ConfigMap)",
        ),
        ("empty", JSON, String::new(), 400, "(<empty>)"),
        ("an array", JSON, "[]".into(), 400, "cannot unmarshal array"),
        (
            "another kind",
            JSON,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"z"}}"#.into(),
            400,
            "Secret in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (
            "an unknown kind",
            JSON,
            r#"{"apiVersion":"v1","kind":"Nope","metadata":{"name":"z"}}"#.into(),
            400,
            "no kind \"Nope\" is registered",
        ),
        (
            "another version",
            JSON,
            r#"{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"z"}}"#.into(),
            400,
            "no kind \"ConfigMap\" is registered for version \"v9\"",
        ),
        (
            "a wrong type",
            JSON,
            r#"{"metadata":{"name":"z"},"data":{"k":5}}"#.into(),
            400,
            "cannot unmarshal number",
        ),
        (
            "a bad name",
            JSON,
            r#"{"metadata":{"name":"UPPER"}}"#.into(),
            422,
            "a lowercase RFC 1123 subdomain",
        ),
        (
            "a name that is a path",
            JSON,
            r#"{"metadata":{"name":"../x"}}"#.into(),
            422,
            "Invalid value: \"../x\"",
        ),
        (
            "an unknown media type",
            "text/plain",
            "x".into(),
            415,
            "the body of the request was in an unknown format",
        ),
        (
            "10,000 levels",
            JSON,
            format!("{{\"metadata\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000)),
            400,
            "exceeded max depth",
        ),
        (
            "10,000 levels of YAML",
            "application/yaml",
            format!("metadata: {}1{}", "[".repeat(10_000), "]".repeat(10_000)),
            400,
            "must be of type ConfigMap",
        ),
        (
            "over 3 MiB",
            JSON,
            format!(r#"{{"metadata":{{"name":"z"}},"data":{{"k":"{long}"}}}}"#),
            413,
            "Request entity too large: limit is 3145728",
        ),
    ];
    for (what, content_type, body, code, message) in rows {
        let answer = api.ask(Method::POST, CONFIG_MAPS, content_type, JSON, body.clone()).await;
        assert_eq!(answer.code, *code, "{what}: {:.300}", answer.text);
        assert!(answer.message().contains(message), "{what}: {:.300}", answer.text);
        assert_eq!(answer.body["kind"], "Status", "{what}");
    }
    assert_eq!(api.get(CONFIG_MAPS).await.names(), Vec::<&str>::new());
    // Within this server's limit but over the store's.
    let container = json!({"name": "c", "image": "i", "args": [&long[..1_600_000]]});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    let answer = api.post(PODS, pod).await;
    assert_eq!(answer.code, 413, "{:.300}", answer.text);
}

#[tokio::test]
async fn a_deployment_without_a_selector_is_refused_with_causes() {
    let api = Api::start().await;
    let answer = api.post(DEPLOYMENTS, json!({"metadata": {"name": "d"}, "spec": {}})).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    let causes = answer.body["details"]["causes"].as_array().unwrap();
    assert!(causes.iter().any(|cause| cause["field"] == "spec.selector"), "{}", answer.text);
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_ignored_as_asked() {
    let api = Api::start().await;
    let body = |name: &str| json!({"metadata": {"name": name}, "dat": {}});
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    api.post(&strict, body("a")).await.expect(400, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\"");
    let told = api.post(&format!("{CONFIG_MAPS}?fieldValidation=Warn"), body("b")).await;
    assert_eq!((told.code, told.warnings), (201, vec!["unknown field \"dat\"".to_owned()]));
    let ignored = api.post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), body("c")).await;
    assert_eq!((ignored.code, ignored.warnings.len()), (201, 0));
    api.post(&format!("{CONFIG_MAPS}?fieldValidation=Maybe"), body("d")).await.expect(422, "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"");
}

#[tokio::test]
async fn paths_that_are_not_there_and_methods_they_do_not_have() {
    let api = Api::start().await;
    let unknown = "the server could not find the requested resource";
    for target in [
        "/api/v1/nopes",
        "/apis/apps/v9/deployments",
        "/api/v1/pods/x",
        "/api/v1/namespaces/g/nodes/n",
        "/api/v1/namespaces/g/namespaces",
        "/api/v1/namespaces/g/configmaps/a/scale",
    ] {
        api.get(target).await.expect(404, unknown);
    }
    let method = "the server does not allow this method on the requested resource";
    api.post("/api/v1/pods", json!({})).await.expect(405, method);
    api.delete("/api/v1/pods").await.expect(405, method);
    api.delete("/api/v1/namespaces").await.expect(405, method);
    let html = api.ask(Method::GET, CONFIG_MAPS, JSON, "text/html", Bytes::new()).await;
    assert_eq!(html.code, 406);
}
