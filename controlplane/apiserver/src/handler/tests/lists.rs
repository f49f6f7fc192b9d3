//! Lists: selectors, versions, pages and forms.

use super::*;

#[tokio::test]
async fn a_list_sees_every_write_that_was_acknowledged() {
    let api = Api::start().await;
    for n in 0..20 {
        let name = format!("c{n:02}");
        api.config_map(&name, json!({})).await;
        let list = api.get(CONFIG_MAPS).await;
        assert_eq!(list.names().len(), n + 1);
        assert_eq!(list.body["kind"], "ConfigMapList");
        assert!(list.body["items"][0].get("kind").is_none(), "items of a list name no kind");
    }
    assert_eq!(api.get("/api/v1/configmaps").await.names().len(), 20);
    assert_eq!(api.get("/api/v1/namespaces/other/configmaps").await.names().len(), 0);
}

#[tokio::test]
async fn selectors_choose() {
    let api = Api::start().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        api.config_map(name, json!({"l": label})).await;
    }
    let names = async |query: &str| {
        let list = api.get(&format!("{CONFIG_MAPS}?{query}")).await;
        list.names().iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("labelSelector=l%3Dx").await, ["a", "c"]);
    assert_eq!(names("labelSelector=l%20notin%20(x)").await, ["b"]);
    assert_eq!(names("labelSelector=!l").await, Vec::<String>::new());
    assert_eq!(names("fieldSelector=metadata.name%3Db").await, ["b"]);
    assert_eq!(names("fieldSelector=metadata.name!%3Db").await, ["a", "c"]);
    api.get(&format!("{CONFIG_MAPS}?labelSelector=%3D%3D"))
        .await
        .expect(400, "found '==', expected: !, identifier, or 'end of string'");
    api.get(&format!("{CONFIG_MAPS}?fieldSelector=data.k%3Dv")).await.expect(
        400,
        "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
    );
    api.get(&format!("{PODS}?fieldSelector=spec.nope%3Dv"))
        .await
        .expect(400, "field label not supported: spec.nope");
}

#[tokio::test]
async fn pages_are_of_one_version_whatever_happens_meanwhile() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.config_map(name, json!({})).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    assert_eq!(first.names(), ["a", "b"]);
    assert_eq!(first.body["metadata"]["remainingItemCount"], 3);
    api.delete(&format!("{CONFIG_MAPS}/c")).await;
    api.config_map("bb", json!({})).await;
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!((second.names(), second.version()), (vec!["c", "d"], first.version()));
    let token = second.body["metadata"]["continue"].as_str().unwrap();
    let third = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!(third.names(), ["e"]);
    assert!(third.body["metadata"].get("continue").is_none());
    let everywhere = api.get("/api/v1/configmaps?limit=4").await;
    let token = everywhere.body["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("/api/v1/configmaps?limit=4&continue={token}")).await;
    assert_eq!((everywhere.names(), rest.names()), (vec!["a", "b", "bb", "d"], vec!["e"]));
}

#[tokio::test]
async fn a_version_may_be_exact_a_minimum_or_too_large() {
    let api = Api::start().await;
    let first = api.config_map("a", json!({})).await;
    let second = api.config_map("b", json!({})).await;
    let list = async |query: String| api.get(&format!("{CONFIG_MAPS}?{query}")).await;
    let exact = list(format!("resourceVersion={first}&resourceVersionMatch=Exact")).await;
    assert_eq!((exact.names(), exact.version()), (vec!["a"], first));
    let newer = list(format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan")).await;
    assert_eq!(newer.names(), ["a", "b"]);
    let any = list("resourceVersion=0".into()).await;
    assert_eq!(any.names(), ["a", "b"]);
    let far = list("resourceVersion=99999999".into()).await;
    assert_eq!(far.code, 504);
    assert!(far.message().starts_with("Timeout: Too large resource version: 99999999, current: "));
    let far = list("resourceVersion=99999999&resourceVersionMatch=Exact".into()).await;
    assert_eq!(far.code, 504, "{}", far.text);
    let alone = list("resourceVersionMatch=Exact".into()).await;
    alone.expect(422, "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided");
}

#[tokio::test]
async fn a_table_has_columns_and_rows_with_metadata() {
    let api = Api::start().await;
    api.config_map("a", json!({"l": "x"})).await;
    let table = api.table(CONFIG_MAPS).await.body;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["labels"]["l"], "x");
    let whole = api.table(&format!("{CONFIG_MAPS}?includeObject=Object")).await.body;
    assert_eq!(whole["rows"][0]["object"]["kind"], "ConfigMap");
    let none = api.table(&format!("{CONFIG_MAPS}?includeObject=None")).await.body;
    assert_eq!(none["rows"][0]["object"], Value::Null);
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = api.ask(Method::GET, CONFIG_MAPS, JSON, metadata, Bytes::new()).await;
    assert_eq!(list.body["kind"], "PartialObjectMetadataList");
    assert_eq!(list.body["items"][0]["kind"], "PartialObjectMetadata");
    let yaml = api.ask(Method::GET, CONFIG_MAPS, JSON, "application/yaml", Bytes::new()).await;
    assert!(yaml.text.starts_with("apiVersion: v1\nitems:\n"), "{}", yaml.text);
}

#[tokio::test]
async fn a_page_whose_version_is_compacted_may_go_on_inconsistently() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d"] {
        api.config_map(name, json!({})).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    let later = api.config_map("e", json!({})).await;
    api.registry.client().compact(crate::storage::Revision(later)).await.unwrap();
    let expired = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!((expired.code, expired.body["reason"].as_str()), (410, Some("Expired")));
    let token = expired.body["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{CONFIG_MAPS}?limit=5&continue={token}")).await;
    assert_eq!(rest.names(), ["c", "d", "e"], "{}", rest.text);
    let exact = format!("{CONFIG_MAPS}?resourceVersion=2&resourceVersionMatch=Exact");
    api.get(&exact).await.expect(410, "The resourceVersion for the provided list is too old.");
}
