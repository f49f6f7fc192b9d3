//! The unaggregated documents, one a path.
//!
//! Owns: their form. Must not know: Accept. A newcomer's trap: `/api` has no `apiVersion`, the
//! others have; old clients of the core group expect it that way.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kijabi_meta::kind::{Kind, Subresource, groups};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub(super) fn documents(kinds: &'static [Kind], server_address: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut listed = Vec::new();
    for (group, versions) in groups() {
        for version in &versions {
            let of_version = |k: &&Kind| k.group == group && k.version == *version;
            let resources: Vec<Value> = kinds.iter().filter(of_version).flat_map(entries).collect();
            let path = if group.is_empty() {
                format!("/api/{version}")
            } else {
                format!("/apis/{group}/{version}")
            };
            all.insert(path, resource_list(group, version, resources));
        }
        if !group.is_empty() {
            let document = group_document(group, &versions);
            all.insert(format!("/apis/{group}"), with_kind(&document));
            listed.push(document);
        }
    }
    all.insert(
        "/apis".into(),
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}),
    );
    all.insert("/api".into(), core_versions(server_address));
    all
}

fn core_versions(server_address: &str) -> Value {
    let versions: Vec<_> =
        groups().into_iter().filter(|(g, _)| g.is_empty()).flat_map(|(_, v)| v).collect();
    json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
        ],
    })
}

fn group_document(group: &str, versions: &[&str]) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": all, "preferredVersion": all[0]})
}

fn with_kind(group: &Value) -> Value {
    let mut document = group.clone();
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    document
}

fn resource_list(group: &str, version: &str, mut resources: Vec<Value>) -> Value {
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    if group.is_empty() {
        return json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources});
    }
    let group_version = format!("{group}/{version}");
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    })
}

fn entries(kind: &Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        main["shortNames"] = kind.short_names.into();
    }
    if !kind.categories.is_empty() {
        main["categories"] = kind.categories.into();
    }
    if !kind.storage_prefix.is_empty() {
        main["storageVersionHash"] = storage_version_hash(kind).into();
    }
    let mut all = vec![main];
    all.extend(kind.subresources.iter().map(|sub| subresource_entry(kind, sub)));
    all
}

fn subresource_entry(kind: &Kind, subresource: &Subresource) -> Value {
    let (group, version, name) = subresource.gvk;
    let mut entry = Map::new();
    entry.insert("name".into(), format!("{}/{}", kind.plural, subresource.name).into());
    entry.insert("singularName".into(), "".into());
    entry.insert("namespaced".into(), kind.namespaced.into());
    if !group.is_empty() {
        entry.insert("group".into(), group.into());
    }
    if !version.is_empty() {
        entry.insert("version".into(), version.into());
    }
    entry.insert("kind".into(), name.into());
    entry.insert("verbs".into(), subresource.verbs.into());
    Value::Object(entry)
}

/// Tells clients whether two API servers store a resource in the same form.
fn storage_version_hash(kind: &Kind) -> String {
    let name = format!("{}/{}/{}", kind.group, kind.version, kind.kind);
    STANDARD.encode(&Sha256::digest(name)[..8])
}
