//! The whole chain on single objects: what is filled in, what is refused, and in which words.

use kijabi_meta::kind;
use serde_json::json;

use super::fixture::Fixture;
use super::*;

fn chain() -> Chain {
    let namespace = |name: &str, phase: &str| json!({"kind": "namespaces", "metadata": {"name": name}, "status": {"phase": phase}});
    let objects = vec![
        namespace("g", "Active"),
        namespace("going", "Terminating"),
        json!({"kind": "serviceaccounts", "metadata": {"namespace": "g", "name": "default"},
            "imagePullSecrets": [{"name": "reg"}]}),
        json!({"kind": "pods", "metadata": {"namespace": "g", "name": "mine"},
            "spec": {"nodeName": "w1"}}),
        json!({"kind": "pods", "metadata": {"namespace": "g", "name": "theirs"},
            "spec": {"nodeName": "w2"}}),
        json!({"kind": "serviceaccounts", "metadata": {"namespace": "g", "name": "quiet"},
            "automountServiceAccountToken": false}),
    ];
    let objects: Arc<dyn Objects> = Arc::new(Fixture::new(objects));
    Chain::standard(&objects, Vec::new())
}

fn user(name: &str) -> User {
    let groups =
        if name.starts_with("system:node:") { vec!["system:nodes".to_owned()] } else { vec![] };
    User { name: name.into(), groups, ..User::default() }
}

struct Asked<'a> {
    user: &'a str,
    operation: Operation,
    place: (&'a str, &'a str, &'a str),
    at: (&'a str, &'a str),
    old: Option<&'a Value>,
}

const POD: (&str, &str, &str) = ("", "pods", "");

async fn admit(asked: Asked<'_>, mut object: Value) -> Result<Value, String> {
    let user = user(asked.user);
    let (group, plural, subresource) = asked.place;
    let attributes = Attributes {
        user: &user,
        operation: asked.operation,
        kind: kind::lookup(group, "v1", plural).unwrap(),
        subresource,
        namespace: asked.at.0,
        name: asked.at.1,
        old: asked.old,
        dry_run: false,
    };
    let chain = chain();
    let text = |error: ApiError| error.to_string();
    if asked.operation != Operation::Delete {
        chain.admit(&attributes, &mut object).await.map_err(text)?;
    }
    chain.validate(&attributes, Some(&object)).await.map_err(text)?;
    Ok(object)
}

async fn create_pod(namespace: &str, spec: Value) -> Result<Value, String> {
    let asked = Asked {
        user: "admin",
        operation: Operation::Create,
        place: POD,
        at: (namespace, "p"),
        old: None,
    };
    admit(asked, json!({"metadata": {"name": "p"}, "spec": spec})).await
}

#[tokio::test]
async fn a_plain_pod_gets_account_token_priority_and_tolerations() {
    let pod = create_pod("g", json!({"containers": [{"name": "c"}]})).await.unwrap();
    let spec = &pod["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "reg"}]));
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(mount["name"], spec["volumes"][0]["name"]);
    assert_eq!(spec["volumes"][0]["projected"]["defaultMode"], 420);
    assert!(spec.get("initContainers").is_none(), "{spec}");
}

#[tokio::test]
async fn what_a_pod_says_itself_stays() {
    let pod = create_pod(
        "g",
        json!({
            "serviceAccountName": "quiet",
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "system-node-critical",
            "containers": [{"name": "c"}],
        }),
    )
    .await
    .unwrap();
    let spec = &pod["spec"];
    assert!(spec.get("volumes").is_none(), "{spec}");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 1);
    assert_eq!(spec["priority"], 2_000_001_000);
}

#[tokio::test]
async fn pods_are_refused_in_kubernetes_words() {
    let containers = json!([{"name": "c"}]);
    for (namespace, spec, text) in [
        (
            "g",
            json!({"serviceAccountName": "ghost", "containers": containers}),
            r#"pods "p" is forbidden: error looking up service account g/ghost: serviceaccount "ghost" not found"#,
        ),
        ("ghost", json!({"containers": containers}), r#"namespaces "ghost" not found"#),
        (
            "going",
            json!({"containers": containers}),
            r#"pods "p" is forbidden: unable to create new content in namespace going because it is being terminated"#,
        ),
        (
            "g",
            json!({"priorityClassName": "high", "containers": containers}),
            r#"pods "p" is forbidden: no PriorityClass with name high was found"#,
        ),
        (
            "g",
            json!({"priority": 7, "containers": containers}),
            r#"pods "p" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"#,
        ),
    ] {
        assert_eq!(create_pod(namespace, spec).await.unwrap_err(), text);
    }
}

#[tokio::test]
async fn system_namespaces_stay() {
    let delete = |name: &'static str| Asked {
        user: "admin",
        operation: Operation::Delete,
        place: ("", "namespaces", ""),
        at: ("", name),
        old: None,
    };
    assert_eq!(
        admit(delete("kube-system"), json!({})).await.unwrap_err(),
        r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#
    );
    assert!(admit(delete("g"), json!({})).await.is_ok());
}

#[tokio::test]
async fn a_new_node_is_tainted_until_it_is_ready() {
    let asked = Asked {
        user: "admin",
        operation: Operation::Create,
        place: ("", "nodes", ""),
        at: ("", "n1"),
        old: None,
    };
    let node = admit(asked, json!({"metadata": {"name": "n1"}})).await.unwrap();
    let taint = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    assert_eq!(node["spec"]["taints"], taint);
}

#[tokio::test]
async fn a_node_changes_only_what_is_its_own() {
    let mine =
        json!({"metadata": {"name": "w1", "labels": {"kubernetes.io/hostname": "w1"}}, "spec": {}});
    let my_pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "w1"}});
    let their_pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "w2"}});
    let with = |pointer: &str, value: Value| {
        let mut node = mine.clone();
        *node.pointer_mut(pointer).unwrap() = value;
        node
    };
    let node = ("", "nodes", "");
    let status = ("", "pods", "status");
    let eviction = ("", "pods", "eviction");
    let lease = ("coordination.k8s.io", "leases", "");
    let update = Operation::Update;
    for (place, operation, at, old, new, allowed) in [
        (node, update, ("", "w1"), &mine, mine.clone(), true),
        (node, update, ("", "w2"), &mine, mine.clone(), false),
        (node, update, ("", "w1"), &mine, with("/spec", json!({"taints": [{"key": "x"}]})), false),
        (
            node,
            update,
            ("", "w1"),
            &mine,
            with("/metadata/labels", json!({"node-restriction.kubernetes.io/x": "1"})),
            false,
        ),
        (
            node,
            update,
            ("", "w1"),
            &mine,
            with("/metadata/labels", json!({"node-role.kubernetes.io/control-plane": ""})),
            false,
        ),
        (
            node,
            update,
            ("", "w1"),
            &mine,
            with("/metadata/labels", json!({"kubernetes.io/hostname": "w1", "role": "x"})),
            true,
        ),
        (status, update, ("g", "p"), &my_pod, my_pod.clone(), true),
        (status, update, ("g", "p"), &their_pod, their_pod.clone(), false),
        (POD, Operation::Delete, ("g", "p"), &my_pod, my_pod.clone(), true),
        (POD, Operation::Delete, ("g", "p"), &their_pod, their_pod.clone(), false),
        (POD, Operation::Create, ("g", "p"), &my_pod, my_pod.clone(), false),
        (eviction, Operation::Create, ("g", "mine"), &my_pod, json!({}), true),
        (eviction, Operation::Create, ("g", "theirs"), &my_pod, json!({}), false),
        (lease, update, ("kube-node-lease", "w1"), &mine, mine.clone(), true),
        (lease, update, ("kube-node-lease", "w2"), &mine, mine.clone(), false),
        (lease, update, ("g", "w1"), &mine, mine.clone(), false),
    ] {
        let asked = Asked { user: "system:node:w1", operation, place, at, old: Some(old) };
        let got = admit(asked, new.clone()).await;
        let wanted_in_kube_node_lease = at.0 == "kube-node-lease";
        if wanted_in_kube_node_lease && allowed {
            // That namespace is not in the fixture; only the node's own rule is looked at.
            assert!(got.unwrap_err().contains("namespaces"), "{place:?} {at:?}");
            continue;
        }
        assert_eq!(got.is_ok(), allowed, "{place:?} {at:?} {new}: {got:?}");
    }
}
