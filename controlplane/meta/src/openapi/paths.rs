//! Paths: the operations of every resource, with the parameters that clients look for.
//!
//! Owns: which operations a resource's verbs make. Must not know: definitions' insides. A newcomer's
//! trap: clients decide by the `fieldValidation` and `dryRun` parameters of PATCH whether the server
//! checks fields and can run dry.

use serde_json::{Map, Value, json};

use super::definitions::Definitions;
use super::{Served, ServedSubresource, Style};

const PRODUCES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
type Parameters = &'static [(&'static str, &'static str)];
const WRITE: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

/// Adds the paths of a resource.
pub(super) fn add(paths: &mut Map<String, Value>, served: &Served, definitions: &mut Definitions) {
    let base = if served.group.is_empty() {
        format!("/api/{}", served.version)
    } else {
        format!("/apis/{}/{}", served.group, served.version)
    };
    let plural = &served.plural;
    let collection = if served.namespaced {
        format!("{base}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{base}/{plural}")
    };
    let (object, list) = definitions.resource(served);
    let mut writer = Writer { served, definitions, object, list, subresource: None };
    writer.put(paths, &collection, &["list", "create", "deletecollection"], "");
    writer.put(paths, &format!("{collection}/{{name}}"), &["get", "update", "patch", "delete"], "");
    if served.namespaced {
        writer.put(paths, &format!("{base}/{plural}"), &["list"], "ForAllNamespaces");
    }
    for one in &served.subresources {
        let path = format!("{collection}/{{name}}/{}", one.name);
        writer.subresource = Some(one);
        writer.object = writer.body_of(one);
        writer.put(paths, &path, &["get", "create", "update", "patch", "delete"], "");
    }
}

struct Writer<'a, 'b> {
    served: &'a Served,
    definitions: &'b mut Definitions,
    object: Value,
    list: Value,
    subresource: Option<&'a ServedSubresource>,
}

impl Writer<'_, '_> {
    /// The body of a subresource; text for those that are streams.
    fn body_of(&mut self, one: &ServedSubresource) -> Value {
        let (group, version, kind) = &one.gvk;
        let own = (&self.served.group, &self.served.version, &self.served.kind);
        if (group, version, kind) == own {
            return if one.name == "log" {
                json!({ "type": "string" })
            } else {
                self.definitions.resource(self.served).0
            };
        }
        match crate::schema::type_of_kind(group, version, kind) {
            Some(found) if !kind.ends_with("Options") => self.definitions.known(found),
            _ => json!({ "type": "string" }),
        }
    }

    fn put(&mut self, paths: &mut Map<String, Value>, path: &str, verbs: &[&str], suffix: &str) {
        let offered = self.subresource.map_or(&self.served.verbs, |one| &one.verbs);
        let mut item = Map::new();
        for verb in verbs.iter().filter(|verb| offered.iter().any(|one| one == *verb)) {
            let method = match *verb {
                "list" | "get" => "get",
                "create" => "post",
                "update" => "put",
                "patch" => "patch",
                _ => "delete",
            };
            item.insert(method.into(), self.operation(verb, suffix));
        }
        if item.is_empty() {
            return;
        }
        let mut parameters = Vec::new();
        for name in ["name", "namespace"] {
            if path.contains(&format!("{{{name}}}")) {
                parameters.push(self.parameter(name, "string", "path"));
            }
        }
        parameters.push(self.parameter("pretty", "string", "query"));
        item.insert("parameters".into(), parameters.into());
        paths.insert(path.into(), Value::Object(item));
    }

    fn parameter(&self, name: &str, kind: &str, place: &str) -> Value {
        let mut value = json!({ "name": name, "in": place });
        if place == "path" {
            value["required"] = true.into();
        }
        match self.definitions.style {
            Style::V2 => {
                value["type"] = kind.into();
                value["uniqueItems"] = true.into();
            }
            Style::V3 => value["schema"] = json!({ "type": kind, "uniqueItems": true }),
        }
        value
    }

    fn operation(&mut self, verb: &str, suffix: &str) -> Value {
        let (action, word) = match verb {
            "get" => ("get", "read"),
            "update" => ("put", "replace"),
            "create" => ("post", "create"),
            other => (other, other),
        };
        let collection = verb == "deletecollection";
        let word = if collection { "delete" } else { word };
        let group = camel(&self.served.group);
        let version = capitalized(&self.served.version);
        let middle = if collection { "Collection" } else { "" };
        let scope = if self.served.namespaced && suffix.is_empty() { "Namespaced" } else { "" };
        let below = self.subresource.map(|one| capitalized(&one.name)).unwrap_or_default();
        let kind = &self.served.kind;
        let mut operation = json!({
            "operationId": format!("{word}{group}{version}{middle}{scope}{kind}{below}{suffix}"),
            "tags": [format!("{}_{}", lowered(&group), self.served.version)],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk(),
        });
        let query: Vec<_> = match verb {
            "list" => LIST.to_vec(),
            "create" | "update" => WRITE.to_vec(),
            "patch" => WRITE.iter().copied().chain([("force", "boolean")]).collect(),
            "delete" => DELETE.to_vec(),
            "deletecollection" => DELETE.iter().chain(&LIST[1..9]).copied().collect(),
            _ => Vec::new(),
        };
        let parameters = query.iter().map(|(name, kind)| self.parameter(name, kind, "query"));
        let mut parameters: Vec<Value> = parameters.collect();
        let body = match verb {
            "create" | "update" => Some((self.object.clone(), &["*/*"][..])),
            "patch" => Some((self.definitions.meta("Patch"), &PATCHES[..])),
            "delete" | "deletecollection" => {
                Some((self.definitions.meta("DeleteOptions"), &["*/*"][..]))
            }
            _ => None,
        };
        let required = !matches!(verb, "delete" | "deletecollection");
        match (body, self.definitions.style) {
            (Some((schema, types)), Style::V3) => {
                let content: Map<_, _> = types
                    .iter()
                    .map(|one| ((*one).to_owned(), json!({ "schema": schema })))
                    .collect();
                operation["requestBody"] = json!({ "content": content });
                if required {
                    operation["requestBody"]["required"] = true.into();
                }
            }
            (Some((schema, types)), Style::V2) => {
                parameters.insert(
                    0,
                    json!({ "name": "body", "in": "body", "required": required, "schema": schema }),
                );
                operation["consumes"] = json!(types);
            }
            (None, Style::V2) => operation["consumes"] = json!(["*/*"]),
            (None, Style::V3) => {}
        }
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if self.definitions.style == Style::V2 {
            operation["produces"] = json!(PRODUCES);
            operation["schemes"] = json!(["https"]);
        }
        operation["responses"] = self.responses(verb);
        operation
    }

    fn gvk(&self) -> Value {
        match self.subresource {
            Some(one) => {
                let (group, version, kind) = &one.gvk;
                json!({ "group": group, "version": version, "kind": kind })
            }
            None => self.served.gvk(),
        }
    }

    fn responses(&mut self, verb: &str) -> Value {
        let schema = match verb {
            "list" => self.list.clone(),
            "delete" | "deletecollection" => self.definitions.meta("Status"),
            _ => self.object.clone(),
        };
        let codes: &[(&str, &str)] = match verb {
            "create" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            "update" | "patch" => &[("200", "OK"), ("201", "Created")],
            "delete" => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        let mut responses = Map::new();
        for (code, description) in codes {
            let response = match self.definitions.style {
                Style::V2 => json!({ "description": description, "schema": schema }),
                Style::V3 => {
                    let content: Map<_, _> = PRODUCES
                        .iter()
                        .map(|one| ((*one).to_owned(), json!({ "schema": schema })))
                        .collect();
                    json!({ "description": description, "content": content })
                }
            };
            responses.insert((*code).into(), response);
        }
        responses.insert("401".into(), json!({ "description": "Unauthorized" }));
        Value::Object(responses)
    }
}

/// `rbac.authorization.k8s.io` as `RbacAuthorization`, the core group as `Core`.
fn camel(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    if group.is_empty() {
        return "Core".into();
    }
    group.split(['.', '-']).map(capitalized).collect()
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn lowered(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}
