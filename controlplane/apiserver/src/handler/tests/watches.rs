//! Watches: where they begin, what they tell, how they end.

use super::*;

#[tokio::test]
async fn a_watch_tells_what_is_there_and_then_every_change_in_order() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    assert_eq!(watch.told().await, "ADDED a");
    api.config_map("b", json!({})).await;
    api.patch(&format!("{CONFIG_MAPS}/a"), MERGE, json!({"data": {"k": "v"}})).await;
    api.delete(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!(watch.told().await, "ADDED b");
    assert_eq!(watch.told().await, "MODIFIED a");
    let deleted = watch.next().await.unwrap();
    assert_eq!(
        (&deleted["type"], &deleted["object"]["data"]["k"]),
        (&json!("DELETED"), &json!("v"))
    );
    assert_eq!(deleted["object"]["kind"], "ConfigMap");
}

#[tokio::test]
async fn a_watch_from_a_version_tells_what_came_after_it() {
    let api = Api::start().await;
    let first = api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={first}")).await;
    assert_eq!(watch.told().await, "ADDED b");
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=1")).await;
    assert_eq!((watch.told().await, watch.told().await), ("ADDED a".into(), "ADDED b".into()));
}

#[tokio::test]
async fn a_watch_of_one_name_by_its_old_path_tells_of_that_one_alone() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    let path = CONFIG_MAPS.replacen("/api/v1/", "/api/v1/watch/", 1);
    let mut watch = api.watch(&format!("{path}/b")).await;
    assert_eq!(watch.told().await, "ADDED b");
    api.delete(&format!("{CONFIG_MAPS}/a")).await;
    api.delete(&format!("{CONFIG_MAPS}/b")).await;
    assert_eq!(watch.told().await, "DELETED b");
}

#[tokio::test]
async fn leaving_the_selection_is_a_deletion() {
    let api = Api::start().await;
    api.config_map("a", json!({"l": "x"})).await;
    api.config_map("other", json!({"l": "y"})).await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&labelSelector=l%3Dx")).await;
    assert_eq!(watch.told().await, "ADDED a");
    let target = format!("{CONFIG_MAPS}/a");
    let left = api.patch(&target, MERGE, json!({"metadata": {"labels": {"l": "y"}}})).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["l"], "x");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left.version().to_string());
    api.patch(&target, MERGE, json!({"metadata": {"labels": {"l": "x"}}})).await;
    assert_eq!(watch.told().await, "ADDED a");
}

#[tokio::test]
async fn a_watch_list_marks_the_end_of_what_is_there() {
    let api = Api::start().await;
    let version = api.config_map("a", json!({})).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let target = format!("{CONFIG_MAPS}?{query}&resourceVersion={version}");
    let mut watch = api.watch(&target).await;
    assert_eq!(watch.told().await, "ADDED a");
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let at: i64 = mark["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(at >= version);
    api.config_map("b", json!({})).await;
    assert_eq!(watch.told().await, "ADDED b");
    let refused = api.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    refused.expect(422, "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
}

#[tokio::test]
async fn a_watch_ends_at_its_time_with_a_bookmark_before() {
    let api = Api::start().await;
    let target = format!(
        "{CONFIG_MAPS}?watch=1&timeoutSeconds=3&allowWatchBookmarks=true&resourceVersion=0"
    );
    let mut watch = api.watch(&target).await;
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_version_that_is_no_longer_known_is_an_error_event() {
    let api = Api::start().await;
    let most = crate::limits::CACHE_WINDOW_EVENTS_MAX;
    let first = api.config_map("a", json!({})).await;
    // More changes than the window holds, written straight to the store.
    let client = api.registry.client();
    let key = crate::storage::Key::object("configmaps", "g", "b").unwrap();
    let mut revision = crate::storage::Revision(0);
    let value =
        br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b","namespace":"g"}}"#;
    for _ in 0..=most {
        match client.replace(&key, revision, value.to_vec(), 0).await.unwrap() {
            crate::storage::Cas::Done(done) => revision = done,
            crate::storage::Cas::Changed(_) => panic!("nobody else writes"),
        }
    }
    let cache = api.registry.cache(Registry::kind("", "v1", "configmaps").unwrap()).unwrap();
    cache.wait_fresh(revision).await.unwrap();
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={first}")).await;
    let error = watch.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    let text = error["object"]["message"].as_str().unwrap();
    assert!(text.starts_with(&format!("too old resource version: {first} (")), "{text}");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_may_be_a_table() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static(TABLE));
    let target = format!("{CONFIG_MAPS}?watch=1");
    let (response, _) = api.send(Method::GET, &target, headers, Bytes::new()).await;
    let mut watch = Watch { body: response.into_body(), lines: Vec::new() };
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    api.config_map("b", json!({})).await;
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], Value::Null, "headers come once");
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn a_watch_goes_on_over_a_restart_of_the_store() {
    let mut api = Api::start().await;
    api.config_map("a", json!({})).await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    assert_eq!(watch.told().await, "ADDED a");
    api.etcd.restart().await;
    api.config_map("b", json!({})).await;
    api.delete(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!((watch.told().await, watch.told().await), ("ADDED b".into(), "DELETED a".into()));
    assert_eq!(api.get(CONFIG_MAPS).await.names(), ["b"]);
}

#[tokio::test]
async fn every_watcher_sees_the_same_order() {
    let api = Api::start().await;
    let target = format!("{CONFIG_MAPS}?watch=1&resourceVersion=1");
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(api.watch(&target).await);
    }
    for n in 0..10 {
        api.config_map(&format!("c{n}"), json!({})).await;
    }
    for watch in &mut watches {
        let mut last = 0;
        for n in 0..10 {
            let event = watch.next().await.unwrap();
            let metadata = &event["object"]["metadata"];
            let version = metadata["resourceVersion"].as_str().unwrap().parse::<i64>().unwrap();
            assert_eq!(metadata["name"], format!("c{n}"));
            assert!(version > last);
            last = version;
        }
    }
}
