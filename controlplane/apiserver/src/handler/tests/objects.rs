//! Create, read, update, patch and delete, by way of configmaps and deployments.

use serde_json::json;

use super::*;

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let api = Api::start().await;
    let made = api.post(CONFIG_MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(made.body["kind"], "ConfigMap");
    assert_eq!(made.body["metadata"]["namespace"], "g");
    assert!(made.body["metadata"]["uid"].is_string());
    assert!(made.body["metadata"]["creationTimestamp"].is_string());

    let target = format!("{CONFIG_MAPS}/a");
    assert_eq!(api.get(&target).await.body, made.body);
    api.post(CONFIG_MAPS, json!({"metadata": {"name": "a"}}))
        .await
        .expect(409, "configmaps \"a\" already exists");

    let mut wished = made.body.clone();
    wished["data"] = json!({"k": "v2"});
    let put = api.put(&target, wished.clone()).await;
    assert_eq!(put.code, 200, "{}", put.text);
    assert!(put.version() > made.version());
    api.put(&target, wished).await.expect(409, "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again");

    let patched = api.patch(&target, MERGE, json!({"data": {"m": "1", "k": null}})).await;
    assert_eq!(patched.body["data"], json!({"m": "1"}));
    let same = api.patch(&target, MERGE, json!({"data": {"m": "1"}})).await;
    assert_eq!(same.version(), patched.version(), "a change of nothing writes nothing");

    let gone = api.delete(&target).await;
    assert_eq!(gone.body["status"], "Success");
    assert_eq!(gone.body["details"]["uid"], made.body["metadata"]["uid"]);
    api.get(&target).await.expect(404, "configmaps \"a\" not found");
    api.delete(&target).await.expect(404, "configmaps \"a\" not found");
}

#[tokio::test]
async fn refusals_say_what_kubernetes_says() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let target = format!("{CONFIG_MAPS}/a");
    for (body, code, message) in [
        (
            json!({"metadata": {"name": "z", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"metadata": {}}),
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            json!({"metadata": {"name": "z", "resourceVersion": "5"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
    ] {
        api.post(CONFIG_MAPS, body).await.expect(code, message);
    }
    for (body, code, message) in [
        (
            json!({"metadata": {"name": "b"}}),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            json!({"metadata": {"name": "a", "resourceVersion": "x"}}),
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
    ] {
        api.put(&target, body).await.expect(code, message);
    }
    let wrong_uid = json!({"metadata": {"name": "a", "uid": "1"}});
    let answer = api.put(&target, wrong_uid).await;
    assert_eq!((answer.code, answer.body["reason"].as_str()), (409, Some("Conflict")));
    assert!(answer.message().contains("Precondition failed: UID in precondition: 1"));
    let json_patch = "application/json-patch+json";
    let test = json!([{"op": "test", "path": "/data/m", "value": "no"}]);
    api.patch(&target, json_patch, test)
        .await
        .expect(422, "the server rejected our request due to an error in our request");
    api.patch(&target, JSON, json!({})).await.expect(415, "415: Unsupported Media Type");
    let version = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}});
    assert_eq!(api.patch(&target, MERGE, version).await.code, 409);
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let api = Api::start().await;
    let made =
        api.post(&format!("{CONFIG_MAPS}?dryRun=All"), json!({"metadata": {"name": "d"}})).await;
    assert_eq!(made.code, 201);
    assert!(made.body["metadata"].get("resourceVersion").is_none());
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/d")).await.code, 404);
    let version = api.config_map("d", json!({})).await;
    let target = format!("{CONFIG_MAPS}/d?dryRun=All");
    assert_eq!(api.patch(&target, MERGE, json!({"data": {"a": "b"}})).await.code, 200);
    assert_eq!(api.delete(&target).await.code, 200);
    let present = api.get(&format!("{CONFIG_MAPS}/d")).await;
    assert_eq!((present.version(), present.body.get("data")), (version, None));
    api.post(&format!("{CONFIG_MAPS}?dryRun=All"), json!({"metadata": {"name": "d"}}))
        .await
        .expect(409, "configmaps \"d\" already exists");
}

#[tokio::test]
async fn generated_names_differ() {
    let api = Api::start().await;
    let make = async || {
        let made = api.post(CONFIG_MAPS, json!({"metadata": {"generateName": "gen-"}})).await;
        made.body["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let (a, b) = (make().await, make().await);
    assert!(a.starts_with("gen-") && a.len() == 9 && a != b, "{a} {b}");
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_removed() {
    let api = Api::start().await;
    let finalizers = json!({"metadata": {"name": "fin", "finalizers": ["example.com/x"]}});
    api.post(CONFIG_MAPS, finalizers).await;
    let target = format!("{CONFIG_MAPS}/fin");
    let marked = api.delete(&target).await;
    assert_eq!(marked.body["kind"], "ConfigMap");
    assert_eq!(marked.body["metadata"]["deletionGracePeriodSeconds"], 0);
    api.post(CONFIG_MAPS, json!({"metadata": {"name": "fin"}}))
        .await
        .expect(409, "object is being deleted: configmaps \"fin\" already exists");
    let removed = api.patch(&target, MERGE, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(removed.code, 200, "{}", removed.text);
    assert_eq!(api.get(&target).await.code, 404);
}

#[tokio::test]
async fn a_deletion_checks_its_preconditions_and_its_policy() {
    let api = Api::start().await;
    let version = api.config_map("a", json!({})).await;
    let target = format!("{CONFIG_MAPS}/a");
    let wrong = api.delete_with(&target, json!({"preconditions": {"uid": "1"}})).await;
    assert_eq!(wrong.code, 409);
    assert!(wrong.message().starts_with("Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (1) does not match"), "{}", wrong.text);
    let old = json!({"preconditions": {"resourceVersion": "1"}});
    assert_eq!(api.delete_with(&target, old).await.code, 409);
    let orphaned = api.delete_with(&target, json!({"propagationPolicy": "Orphan"})).await;
    assert_eq!(orphaned.body["metadata"]["finalizers"], json!(["orphan"]));
    assert!(orphaned.version() > version);
    let other = json!({"metadata": {"name": "b"}});
    api.post(CONFIG_MAPS, other).await;
    let policy = format!("{CONFIG_MAPS}/b?propagationPolicy=Foreground");
    let foreground = api.delete(&policy).await;
    assert_eq!(foreground.body["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = Api::start().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        api.config_map(name, json!({"l": label})).await;
    }
    let deleted = api.delete(&format!("{CONFIG_MAPS}?labelSelector=l%3Dx")).await;
    assert_eq!((deleted.code, deleted.names()), (200, vec!["a", "c"]));
    assert_eq!(api.get(CONFIG_MAPS).await.names(), ["b"]);
}

#[tokio::test]
async fn status_and_scale_change_only_their_part() {
    let api = Api::start().await;
    let template = json!({"metadata": {"labels": {"app": "w"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let spec = json!({"selector": {"matchLabels": {"app": "w"}}, "template": template});
    let made = api.post(DEPLOYMENTS, json!({"metadata": {"name": "d"}, "spec": spec})).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(made.body["spec"]["replicas"], 1);
    let scale = format!("{DEPLOYMENTS}/d/scale");
    let read = api.get(&scale).await.body;
    assert_eq!(
        (&read["kind"], &read["spec"], &read["status"]["selector"]),
        (&json!("Scale"), &json!({"replicas": 1}), &json!("app=w"))
    );
    let scaled = api.patch(&scale, MERGE, json!({"spec": {"replicas": 4}})).await;
    assert_eq!(scaled.body["spec"]["replicas"], 4, "{}", scaled.text);
    api.patch(&scale, MERGE, json!({"spec": {"replicas": -2}})).await.expect(422, "Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -2: must be greater than or equal to 0");
    let mut put = scaled.body.clone();
    put["spec"]["replicas"] = 2.into();
    assert_eq!(api.put(&scale, put.clone()).await.code, 200);
    assert_eq!(api.put(&scale, put).await.code, 409, "the Scale's version is the object's");
    let status = format!("{DEPLOYMENTS}/d/status");
    let wish = json!({"status": {"replicas": 3}, "spec": {"replicas": 99}});
    let changed = api.patch(&status, MERGE, wish).await.body;
    assert_eq!(
        (&changed["spec"]["replicas"], &changed["status"]["replicas"]),
        (&json!(2), &json!(3))
    );
    let wish = json!({"status": {"replicas": 7}, "spec": {"replicas": 5}});
    let changed = api.patch(&format!("{DEPLOYMENTS}/d"), MERGE, wish).await.body;
    assert_eq!(
        (&changed["spec"]["replicas"], &changed["status"]["replicas"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(changed["metadata"]["generation"], 4);
    assert_eq!(api.get(&format!("{PODS}/x/scale")).await.code, 404);
}

#[tokio::test]
async fn writers_that_race_lose_nothing() {
    let api = Arc::new(Api::start().await);
    api.config_map("a", json!({})).await;
    let target = format!("{CONFIG_MAPS}/a");
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let (api, target) = (api.clone(), target.clone());
            kijabi_base::tasks::spawn("writer", async move {
                let patch = json!({"data": {format!("k{n}"): "v"}});
                assert_eq!(api.patch(&target, MERGE, patch).await.code, 200);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let data = &api.get(&target).await.body["data"];
    assert_eq!(data.as_object().unwrap().len(), 8, "{data}");
}

#[tokio::test]
async fn a_namespace_goes_when_its_finalizer_does() {
    let api = Api::start().await;
    let namespaces = "/api/v1/namespaces";
    let made = api.post(namespaces, json!({"metadata": {"name": "n"}})).await;
    assert_eq!(made.body["spec"]["finalizers"], json!(["kubernetes"]), "{}", made.text);
    let target = format!("{namespaces}/n");
    let marked = api.delete(&target).await;
    assert_eq!(marked.body["status"]["phase"], "Terminating");
    let again = api.delete(&target).await;
    assert_eq!((again.code, again.version()), (200, marked.version()));
    let mut finalized = marked.body.clone();
    finalized["spec"]["finalizers"] = json!(["mine"]);
    let refused = api.put(&format!("{target}/finalize"), finalized.clone()).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    assert_eq!(
        refused.body["message"],
        "Namespace \"n\" is invalid: spec.finalizers[0]: Invalid value: \"mine\": name is neither a \
         standard finalizer name nor is it fully qualified"
    );
    finalized["spec"] = json!({});
    let done = api.put(&format!("{target}/finalize"), finalized).await;
    assert_eq!(done.code, 200, "{}", done.text);
    assert_eq!(api.get(&target).await.code, 404);
}

#[tokio::test]
async fn an_event_is_one_object_in_two_groups() {
    let api = Api::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "reason": "Started", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "g"}
    });
    let made = api.post("/api/v1/namespaces/g/events", event).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let other = api.get("/apis/events.k8s.io/v1/namespaces/g/events/e").await;
    assert_eq!(other.body["apiVersion"], "events.k8s.io/v1", "{}", other.text);
    assert_eq!(other.body["regarding"]["name"], "p");
    let selected = "/api/v1/namespaces/g/events?fieldSelector=involvedObject.name%3Dp";
    assert_eq!(api.get(selected).await.names(), ["e"]);
    let regarding = "/apis/events.k8s.io/v1/namespaces/g/events?fieldSelector=regarding.name%3Dp";
    assert_eq!(api.get(regarding).await.names(), ["e"]);
    let key = crate::storage::Key::object("events", "g", "e").unwrap();
    let (record, _) = api.registry.client().get(&key).await.unwrap();
    assert_ne!(record.unwrap().lease, 0, "events expire");
}
