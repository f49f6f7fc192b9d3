//! The aggregated documents: all groups, versions, resources and subresources in one.
//!
//! Owns: their form. Must not know: Accept. A newcomer's trap: a `responseKind` leaves group and
//! version empty when they are the resource's own.

use kijabi_meta::kind::{Kind, Subresource, groups as all_groups};
use serde_json::{Value, json};

use super::Form;

/// The document at `/api`: the core group, which has no name.
pub(super) fn core(kinds: &'static [Kind], form: Form) -> Value {
    list(kinds, form, true)
}

/// The document at `/apis`: the other groups, by name.
pub(super) fn groups(kinds: &'static [Kind], form: Form) -> Value {
    list(kinds, form, false)
}

fn list(kinds: &'static [Kind], form: Form, core: bool) -> Value {
    let mut chosen: Vec<_> =
        all_groups().into_iter().filter(|(group, _)| group.is_empty() == core).collect();
    chosen.sort_by_key(|(group, _)| *group);
    let items: Vec<Value> = chosen
        .into_iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> =
                versions.into_iter().map(|v| version_item(kinds, group, v)).collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": form.api_version(),
        "metadata": {},
        "items": items,
    })
}

fn version_item(kinds: &'static [Kind], group: &str, version: &str) -> Value {
    let mut own: Vec<&Kind> =
        kinds.iter().filter(|k| k.group == group && k.version == version).collect();
    own.sort_by_key(|kind| kind.plural);
    let resources: Vec<Value> = own.into_iter().map(resource).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn resource(kind: &Kind) -> Value {
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": response_kind("", "", kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = kind.short_names.into();
    }
    if !kind.categories.is_empty() {
        entry["categories"] = kind.categories.into();
    }
    if !kind.subresources.is_empty() {
        let mut own: Vec<&Subresource> = kind.subresources.iter().collect();
        own.sort_by_key(|one| one.name);
        entry["subresources"] = own
            .into_iter()
            .map(|one| {
                let (group, version, name) = one.gvk;
                json!({
                    "subresource": one.name,
                    "responseKind": response_kind(group, version, name),
                    "verbs": one.verbs,
                })
            })
            .collect();
    }
    entry
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}
