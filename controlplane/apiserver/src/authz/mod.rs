//! Authorization: may this user do this?
//!
//! Owns: the decision and the words of a refusal. Must not know: how the user was found. A
//! newcomer's trap: rights are looked up on the requested resource even if no such resource exists,
//! so strangers cannot find out by asking what there is.

mod node;
mod policy;

use std::sync::Arc;

pub(crate) use node::names_another_object;

use serde_json::{Value, json};

use crate::admission::Objects;
use crate::request::RequestInfo;
use crate::status::{ApiError, GroupResource};
use crate::user::{MASTERS, User};

// Differs from Kubernetes: the rules are the bootstrap roles of the components, built in; there
// are no Role and binding objects yet.
/// Decides what users may do.
#[derive(Clone)]
pub struct Authorizer {
    objects: Arc<dyn Objects>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorizer")
    }
}

/// The outcome of one authorizer.
enum Decision {
    Allow,
    /// Not allowed here; the text says why, if there is more to say.
    No(String),
}

impl Authorizer {
    /// An authorizer that finds out through `objects` which pods a node has.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// 403 if `user` may not do this.
    pub async fn authorize(&self, user: &User, info: &RequestInfo) -> Result<(), ApiError> {
        if user.is_in(MASTERS) || policy::allows(user, info) {
            return Ok(());
        }
        let mut why = String::new();
        if let Some(node) = user.node() {
            match node::decide(&*self.objects, node, info).await? {
                Decision::Allow => return Ok(()),
                Decision::No(reason) => why = reason,
            }
        }
        Err(refusal(user, info, &why))
    }
}

/// The `status` of a SelfSubjectRulesReview: what `user` may do, whichever the namespace.
pub fn rules_status(user: &User) -> Value {
    let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    let (mut resources, mut paths) = policy::rules_of(user);
    if user.is_in(MASTERS) {
        resources.insert(0, all);
        paths.insert(0, json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        // What a node may read depends on its pods; no list says it.
        "incomplete": user.node().is_some(),
    });
    if user.node().is_some() {
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    status
}

/// The 403 for `user` and this request.
pub fn refusal(user: &User, info: &RequestInfo, why: &str) -> ApiError {
    let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
    let who = &user.name;
    if !info.is_resource {
        let (verb, path) = (info.verb, &info.path);
        let text = format!("User {who:?} cannot {verb} path {path:?}{reason}");
        return ApiError::forbidden(GroupResource::new("", ""), "", &text);
    }
    let (verb, resource, group) = (info.verb, info.full_resource(), &info.api_group);
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", info.namespace)
    };
    let text = format!(
        "User {who:?} cannot {verb} resource {resource:?} in API group {group:?} {place}{reason}"
    );
    ApiError::forbidden(GroupResource::new(group, &info.resource), &info.name, &text)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::admission::fixture::Fixture;

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    async fn ask(user: &User, method: Method, target: &str) -> Result<(), ApiError> {
        let pod = json!({"kind": "pods", "metadata": {"namespace": "g", "name": "mine"},
            "spec": {"nodeName": "w1", "serviceAccountName": "app",
                "volumes": [{"secret": {"secretName": "tls"}}, {"projected": {"sources": [
                    {"configMap": {"name": "kube-root-ca.crt"}}]}}],
                "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}]}]}});
        let other = json!({"kind": "pods", "metadata": {"namespace": "g", "name": "other"},
            "spec": {"nodeName": "w2", "volumes": [{"secret": {"secretName": "theirs"}}]}});
        let authorizer = Authorizer::new(Arc::new(Fixture::new(vec![pod, other])));
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let info = RequestInfo::parse(&method, path, query).unwrap();
        authorizer.authorize(user, &info).await
    }

    async fn table(user: &User, rows: &[(&str, &str, bool)]) {
        for (method, target, allowed) in rows {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let got = ask(user, method.clone(), target).await;
            assert_eq!(got.is_ok(), *allowed, "{} {method} {target}: {got:?}", user.name);
        }
    }

    #[tokio::test]
    async fn refusals_read_as_kubernetes_writes_them() {
        let alice = user("alice", &["system:authenticated"]);
        for (method, target, text) in [
            (
                Method::GET,
                "/api/v1/namespaces/g/pods",
                r#"pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "g""#,
            ),
            (
                Method::POST,
                "/apis/rbac.authorization.k8s.io/v1/namespaces/g/roles",
                r#"roles.rbac.authorization.k8s.io is forbidden: User "alice" cannot create resource "roles" in API group "rbac.authorization.k8s.io" in the namespace "g""#,
            ),
            (
                Method::GET,
                "/api/v1/nodes/n1",
                r#"nodes "n1" is forbidden: User "alice" cannot get resource "nodes" in API group "" at the cluster scope"#,
            ),
            (
                Method::GET,
                "/api/v1/namespaces/g/pods/p/log",
                r#"pods "p" is forbidden: User "alice" cannot get resource "pods/log" in API group "" in the namespace "g""#,
            ),
            (Method::GET, "/metrics", r#"forbidden: User "alice" cannot get path "/metrics""#),
        ] {
            let error = ask(&alice, method, target).await.unwrap_err();
            assert_eq!((error.code(), error.to_string().as_str()), (403, text));
        }
    }

    #[tokio::test]
    async fn everyone_may_discover_and_strangers_only_look_at_health() {
        let all = [("/api", true), ("/apis/apps/v1", true), ("/openapi/v3", true), ("/", false)];
        let alice = user("alice", &["system:authenticated"]);
        for (path, allowed) in all {
            table(&alice, &[("GET", path, allowed)]).await;
            table(&User::anonymous(), &[("GET", path, false)]).await;
        }
        table(&User::anonymous(), &[("GET", "/readyz", true), ("GET", "/version", true)]).await;
        table(&user("root", &["system:masters"]), &[("DELETE", "/api/v1/nodes", true)]).await;
    }

    #[tokio::test]
    async fn components_have_their_roles_and_no_more() {
        table(
            &user("system:kube-scheduler", &[]),
            &[
                ("GET", "/api/v1/pods", true),
                ("GET", "/api/v1/nodes?watch=1", true),
                ("POST", "/api/v1/namespaces/g/pods/p/binding", true),
                ("PATCH", "/api/v1/namespaces/g/pods/p/status", true),
                ("POST", "/apis/events.k8s.io/v1/namespaces/g/events", true),
                (
                    "PUT",
                    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler",
                    true,
                ),
                ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/other", false),
                ("POST", "/api/v1/namespaces/g/pods", false),
                ("GET", "/api/v1/namespaces/g/secrets/s", false),
            ],
        )
        .await;
        table(
            &user("system:kube-controller-manager", &[]),
            &[
                ("POST", "/api/v1/namespaces/g/pods", true),
                ("GET", "/apis/apps/v1/deployments?watch=1", true),
                ("PUT", "/api/v1/namespaces/g/finalize", true),
                ("DELETE", "/api/v1/namespaces/g/configmaps", true),
                ("POST", "/api/v1/nodes", false),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_node_sees_itself_its_pods_and_what_they_use() {
        table(
            &user("system:node:w1", &["system:nodes", "system:authenticated"]),
            &[
                ("GET", "/api/v1/nodes/w1", true),
                ("GET", "/api/v1/nodes/w2", false),
                ("GET", "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dw1", true),
                ("GET", "/api/v1/nodes", false),
                ("GET", "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dw1", true),
                ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dw2", false),
                ("GET", "/api/v1/pods", false),
                ("GET", "/api/v1/namespaces/g/pods/mine", true),
                ("GET", "/api/v1/namespaces/g/pods/other", false),
                ("GET", "/api/v1/namespaces/g/secrets/tls", true),
                ("GET", "/api/v1/namespaces/g/secrets/env", true),
                ("GET", "/api/v1/namespaces/g/secrets/theirs", false),
                ("GET", "/api/v1/namespaces/g/secrets", false),
                // A name alone says nothing: other namespaces have secrets of that name too.
                ("GET", "/api/v1/secrets?fieldSelector=metadata.name%3Dtls", false),
                ("GET", "/api/v1/watch/secrets/tls", false),
                ("PUT", "/api/v1/namespaces/g/secrets/tls", false),
                ("GET", "/api/v1/namespaces/g/configmaps/kube-root-ca.crt", true),
                ("POST", "/api/v1/namespaces/g/serviceaccounts/app/token", true),
                ("POST", "/api/v1/namespaces/g/serviceaccounts/default/token", false),
                ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1", true),
                ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w2", false),
                ("DELETE", "/api/v1/nodes/w1", false),
            ],
        )
        .await;
    }
}
