//! The node authorizer: a node agent reads what its own pods need and nothing else.
//!
//! Owns: which objects a node is related to. Must not know: which fields it may change; that is
//! admission's part. A newcomer's trap: a list or watch is only allowed with a selector that can
//! match nothing but the node's own, so the selector is part of the decision.

use serde_json::Value;

use super::Decision;
use crate::admission::{ObjectAt, Objects};
use crate::request::RequestInfo;
use crate::status::ApiError;

pub(super) async fn decide(
    objects: &dyn Objects,
    node: &str,
    info: &RequestInfo,
) -> Result<Decision, ApiError> {
    let is_read = matches!(info.verb, "get" | "list" | "watch");
    let resource = info.full_resource();
    let related = match (info.api_group.as_str(), resource.as_str()) {
        ("", "nodes") if is_read => info.name == node,
        ("", "pods") if info.verb == "get" && !info.name.is_empty() => {
            owns_pod(objects, node, info).await?
        }
        ("", "pods") if is_read => selects_node(info, node),
        ("", what @ ("secrets" | "configmaps")) if is_read => {
            !info.name.is_empty() && uses(objects, node, info, what).await?
        }
        ("", "serviceaccounts/token") if info.verb == "create" => {
            uses(objects, node, info, "serviceaccounts").await?
        }
        ("coordination.k8s.io", "leases") => {
            info.namespace == "kube-node-lease"
                && (info.name == node && matches!(info.verb, "get" | "update" | "patch" | "delete")
                    || info.verb == "create")
        }
        _ => return Ok(Decision::No(String::new())),
    };
    if related {
        return Ok(Decision::Allow);
    }
    Ok(Decision::No(format!("no relationship found between node '{node}' and this object")))
}

async fn owns_pod(objects: &dyn Objects, node: &str, info: &RequestInfo) -> Result<bool, ApiError> {
    let at = ObjectAt { group: "", plural: "pods", namespace: &info.namespace, name: &info.name };
    if objects.get(at).await?.is_some_and(|pod| pod["spec"]["nodeName"] == node) {
        return Ok(true);
    }
    // A pod that is gone is no secret: the agent must learn that it is, to clean up. Only the
    // store can say that it is gone; the cache may not have heard of it yet.
    let live = objects.get_live(at).await?;
    Ok(live.is_none_or(|pod| pod["spec"]["nodeName"] == node))
}

fn selects_node(info: &RequestInfo, node: &str) -> bool {
    let selector = info.query.get("fieldSelector").unwrap_or_default();
    selector
        .split(',')
        .filter_map(|term| term.strip_prefix("spec.nodeName="))
        .any(|value| value.strip_prefix('=').unwrap_or(value) == node)
}

/// Whether a pod of the node in the asked namespace refers to the asked object.
async fn uses(
    objects: &dyn Objects,
    node: &str,
    info: &RequestInfo,
    what: &str,
) -> Result<bool, ApiError> {
    // Without a namespace the request is about all of them; a pod refers to its own only.
    if info.namespace.is_empty() || info.name.is_empty() {
        return Ok(false);
    }
    let pods = objects.pods_on(node, &info.namespace).await?;
    Ok(pods.iter().any(|pod| refers_to(&pod["spec"], what, &info.name)))
}

/// Whether a pod spec refers to the secret, config map or service account `name`.
fn refers_to(spec: &Value, what: &str, name: &str) -> bool {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if what == "serviceaccounts" {
        return spec["serviceAccountName"] == name;
    }
    let is_secret = what == "secrets";
    let by_volume = array(&spec["volumes"]).iter().any(|volume| {
        let projected = array(&volume["projected"]["sources"]);
        let sources = std::iter::once(volume).chain(projected.iter());
        sources.into_iter().any(|source| {
            if is_secret {
                source["secret"]["secretName"] == name || source["secret"]["name"] == name
            } else {
                source["configMap"]["name"] == name
            }
        })
    });
    let by_pull = is_secret && array(&spec["imagePullSecrets"]).iter().any(|s| s["name"] == name);
    let (key_ref, env_from) =
        if is_secret { ("secretKeyRef", "secretRef") } else { ("configMapKeyRef", "configMapRef") };
    let by_env = ["containers", "initContainers", "ephemeralContainers"].iter().any(|list| {
        array(&spec[*list]).iter().any(|container| {
            array(&container["env"]).iter().any(|env| env["valueFrom"][key_ref]["name"] == name)
                || array(&container["envFrom"]).iter().any(|from| from[env_from]["name"] == name)
        })
    });
    by_volume || by_pull || by_env
}

/// What kind of other object a pod spec refers to, if any.
pub(crate) fn names_another_object(spec: &Value) -> Option<&'static str> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Some("a service account");
    }
    if !list(&spec["imagePullSecrets"]).is_empty() {
        return Some("secrets");
    }
    if !list(&spec["resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    for volume in list(&spec["volumes"]) {
        let projected = list(&volume["projected"]["sources"]);
        for source in std::iter::once(&volume).chain(projected.iter()) {
            for (field, what) in [
                ("secret", "secrets"),
                ("configMap", "configmaps"),
                ("persistentVolumeClaim", "persistentvolumeclaims"),
                ("serviceAccountToken", "service account tokens"),
            ] {
                if !source[field].is_null() {
                    return Some(what);
                }
            }
        }
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&spec[field]) {
            let values = list(&container["env"]).into_iter().map(|env| env["valueFrom"].clone());
            for source in values.chain(list(&container["envFrom"])) {
                let is = |keys: [&str; 2]| keys.iter().any(|key| !source[*key].is_null());
                if is(["secretKeyRef", "secretRef"]) {
                    return Some("secrets");
                }
                if is(["configMapKeyRef", "configMapRef"]) {
                    return Some("configmaps");
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use http::Method;
    use serde_json::json;

    use super::*;

    /// A store with one pod that the cache has not heard of yet.
    struct Unheard(Option<Arc<Value>>);

    impl Objects for Unheard {
        fn get<'a>(
            &'a self,
            _at: ObjectAt<'a>,
        ) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>> {
            async { Ok(None) }.boxed()
        }

        fn get_live<'a>(
            &'a self,
            _at: ObjectAt<'a>,
        ) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>> {
            async { Ok(self.0.clone()) }.boxed()
        }

        fn list<'a>(
            &'a self,
            _group: &'a str,
            _plural: &'a str,
        ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn pods_on<'a>(
            &'a self,
            _node: &'a str,
            _namespace: &'a str,
        ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>> {
            async { Ok(Vec::new()) }.boxed()
        }
    }

    #[tokio::test]
    async fn a_pod_the_cache_does_not_know_is_judged_by_the_store() {
        let path = "/api/v1/namespaces/g/pods/p";
        let info = RequestInfo::parse(&Method::GET, path, None).unwrap();
        let on = |node: &str| Some(Arc::new(json!({"spec": {"nodeName": node}})));
        for (there, allowed) in [(on("a"), true), (on("b"), false), (on(""), false), (None, true)] {
            let decision = decide(&Unheard(there.clone()), "a", &info).await.unwrap();
            assert_eq!(matches!(decision, Decision::Allow), allowed, "{there:?}");
        }
    }
}
