//! Bodies and what becomes of them: the cases recorded from a real API server.

use serde_json::{Value, json};

use super::*;

const CONFIG_MAP: Expected<'static> = Expected { group: "", version: "v1", kind: "ConfigMap" };
const POD: Expected<'static> = Expected { group: "", version: "v1", kind: "Pod" };

fn strict(body: &str, media: Media, expected: Expected<'_>) -> Result<Value, String> {
    let decoded = decode(body.as_bytes(), media, expected).map_err(|error| error.to_string())?;
    refuse_strict(&decoded, expected).map_err(|error| error.to_string())?;
    Ok(decoded.object)
}

#[test]
fn refusals_in_the_words_of_kubernetes() {
    for (body, message) in [
        (
            "{\"metadata\":",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({\"metadata\":)",
        ),
        (
            "",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
        (
            "[]",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
        ),
        (
            r#"{"metadata":{"name":"z"},"data":{"k":5}}"#,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"z"}}"#,
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion",
        ),
        (
            r#"{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"z"}}"#,
            "ConfigMap in version \"v9\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v9\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            r#"{"metadata":{"name":"u3"},"dat":{}}"#,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\"",
        ),
        (
            r#"{"metadata":{"name":"u4"},"data":{"k":"1","k":"2"}}"#,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.k\"",
        ),
    ] {
        assert_eq!(strict(body, Media::Json, CONFIG_MAP).unwrap_err(), message, "{body}");
    }
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n";
    assert_eq!(
        strict(yaml, Media::Yaml, CONFIG_MAP).unwrap_err(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string"
    );
}

#[test]
fn unknown_and_duplicate_fields_are_told_in_order() {
    let body = br#"{"metadata":{"name":"u5"},"data":{"k":"1","k":"2"},"zz":1}"#;
    let decoded = decode(body, Media::Json, CONFIG_MAP).unwrap();
    assert_eq!(decoded.strict, ["duplicate field \"data.k\"", "unknown field \"zz\""]);
    assert_eq!(decoded.object["data"], json!({"k": "2"}));
    assert_eq!(decoded.object.get("zz"), None);
    let deep = br#"{"spec":{"containers":[{"name":"c","Image":"x","env":[{"nam":"y"}]}]}}"#;
    let decoded = decode(deep, Media::Json, POD).unwrap();
    assert_eq!(
        decoded.strict,
        [
            "unknown field \"spec.containers[0].Image\"",
            "unknown field \"spec.containers[0].env[0].nam\""
        ]
    );
}

#[test]
fn a_body_comes_out_as_go_would_write_it() {
    let body = json!({"metadata": {"name": "p", "creationTimestamp": null, "labels": {}, "annotations": null},
        "spec": {"nodeName": "", "hostNetwork": false, "volumes": [{"name": "e", "emptyDir": {}}], "containers": [{"name": "c", "image": "nginx",
            "resources": {"limits": {"cpu": "1500m", "memory": "1024Mi"}, "requests": {"cpu": 1}}, "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}}}], "terminationGracePeriodSeconds": 0}});
    assert_eq!(
        strict(&body.to_string(), Media::Json, POD).unwrap(),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"volumes": [{"name": "e", "emptyDir": {}}], "containers": [{"name": "c", "image": "nginx",
                "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": "1"}}, "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}}}], "terminationGracePeriodSeconds": 0},
            "status": {}})
    );
    let deployment = Expected { group: "apps", version: "v1", kind: "Deployment" };
    assert_eq!(
        strict("{}", Media::Json, deployment).unwrap(),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "status": {},
            "spec": {"selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}}})
    );
}

#[test]
fn values_that_decode_themselves() {
    let claim = Expected { group: "", version: "v1", kind: "PersistentVolumeClaim" };
    assert_eq!(
        strict(r#"{"spec":{"resources":{"requests":{"storage":"x"}}}}"#, Media::Json, claim)
            .unwrap_err(),
        "PersistentVolumeClaim in version \"v1\" cannot be handled as a PersistentVolumeClaim: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
    let secret = Expected { group: "", version: "v1", kind: "Secret" };
    assert_eq!(
        strict(r#"{"data":{"k":"!"}}"#, Media::Json, secret).unwrap_err(),
        "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 0"
    );
    let replicas = Expected { group: "apps", version: "v1", kind: "Deployment" };
    assert_eq!(
        strict(r#"{"spec":{"replicas":1.5}}"#, Media::Json, replicas).unwrap_err(),
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        strict(r#"{"spec":{"containers":{}}}"#, Media::Json, POD).unwrap_err(),
        "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
    );
}

#[test]
fn custom_objects_keep_their_fields() {
    let widget = Expected { group: "example.com", version: "v1", kind: "Widget" };
    let body = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","junk":1},"spec":{"size":3,"none":null}}"#;
    let decoded = decode(body.as_bytes(), Media::Json, widget).unwrap();
    assert_eq!(decoded.strict, ["unknown field \"metadata.junk\""]);
    assert_eq!(decoded.object["spec"], json!({"size": 3, "none": null}));
}

#[test]
fn options_come_with_any_group() {
    let options = Expected { group: "meta.k8s.io", version: "v1", kind: "DeleteOptions" };
    for body in [
        r#"{"gracePeriodSeconds":0}"#,
        r#"{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0}"#,
        r#"{"apiVersion":"apps/v1","kind":"DeleteOptions","gracePeriodSeconds":0}"#,
    ] {
        assert_eq!(strict(body, Media::Json, options).unwrap()["gracePeriodSeconds"], 0, "{body}");
    }
}
