//! Tables for [`super::build`] and [`super::expand`].

use serde_json::json;

use super::*;

#[test]
fn dollar_parentheses_are_expanded_as_kubernetes_expands_them() {
    let lookup = |name: &str| match name {
        "A" => Some("1".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let cases = [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(EMPTY)", ""),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("a$", "a$"),
        ("$()", "$()"),
        ("", ""),
    ];
    for (text, wanted) in cases {
        assert_eq!(expand(text, lookup), wanted, "{text:?}");
    }
}

fn around() -> Around {
    Around {
        pod_ips: vec!["172.16.0.2".to_owned()],
        host_ip: [10, 0, 0, 1].into(),
        allocatable: (1_000, 1),
    }
}

fn built(container: serde_json::Value, objects: &Objects) -> Result<Vec<String>, PodError> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [container]},
    }))
    .unwrap();
    let wanted = &pod.spec.as_ref().unwrap().containers[0];
    let env = build(&pod, wanted, &around(), objects)?;
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn objects() -> Objects {
    let map = serde_json::from_value(json!({"data": {"key": "v", "other": "w"}})).unwrap();
    let secret = serde_json::from_value(json!({"data": {"pw": "aHVudGVy"}})).unwrap();
    let service = serde_json::from_value(json!({
        "metadata": {"name": "my-db"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]},
    }))
    .unwrap();
    let headless = serde_json::from_value(json!({
        "metadata": {"name": "quiet"},
        "spec": {"clusterIP": "None", "ports": [{"port": 1}]},
    }))
    .unwrap();
    Objects {
        config_maps: [("cm".to_owned(), Some(map)), ("gone".to_owned(), None)].into(),
        secrets: [("s".to_owned(), Some(secret))].into(),
        services: vec![Arc::new(service), Arc::new(headless)],
    }
}

#[test]
fn later_declarations_see_and_replace_earlier_ones() {
    let container = json!({"name": "c",
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(P_key)$(LATER)"},
        {"name": "LATER", "value": "x"},
        {"name": "P_key", "value": "own"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
        {"name": "NO", "valueFrom": {"configMapKeyRef":
            {"name": "cm", "key": "missing", "optional": true}}},
    ]});
    let mut objects = objects();
    objects.services.clear();
    assert_eq!(
        built(container, &objects).unwrap(),
        ["P_key=own", "P_other=w", "A=1", "B=1v$(LATER)", "LATER=x", "IP=172.16.0.2", "PW=hunter"]
    );
}

#[test]
fn services_are_announced_by_variables() {
    assert_eq!(
        built(json!({"name": "c"}), &objects()).unwrap(),
        [
            "MY_DB_SERVICE_HOST=10.96.0.9",
            "MY_DB_SERVICE_PORT=5432",
            "MY_DB_SERVICE_PORT_SQL=5432",
            "MY_DB_PORT=tcp://10.96.0.9:5432",
            "MY_DB_PORT_5432_TCP=tcp://10.96.0.9:5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_ADDR=10.96.0.9",
        ]
    );
}

#[test]
fn what_is_missing_is_named() {
    let cases = [
        (json!({"configMapKeyRef": {"name": "gone", "key": "k"}}), "configmap \"gone\" not found"),
        (
            json!({"configMapKeyRef": {"name": "cm", "key": "k"}}),
            "couldn't find key k in ConfigMap n/cm",
        ),
        (json!({"secretKeyRef": {"name": "s", "key": "k"}}), "couldn't find key k in Secret n/s"),
        (json!({"fieldRef": {"fieldPath": "spec.x"}}), "unsupported fieldPath: spec.x"),
    ];
    for (source, message) in cases {
        let container = json!({"name": "c", "env": [{"name": "A", "valueFrom": source}]});
        let error = built(container, &objects()).unwrap_err();
        assert_eq!((error.reason, error.message.as_str()), (CONFIG_ERROR, message));
    }
}
