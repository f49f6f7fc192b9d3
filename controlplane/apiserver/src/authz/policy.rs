//! The built-in rules: the bootstrap roles of Kubernetes' components, for what is served here.
//!
//! Owns: who has which verbs on which resources. Must not know: objects. A newcomer's trap: verbs
//! on a resource do not cover its subresources; `pods` and `pods/status` are two entries.

use serde_json::{Value, json};

use crate::request::RequestInfo;
use crate::user::{AUTHENTICATED, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};

/// What everyone with an identity may ask.
const BASIC: &[Rule] = &[
    rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
    rule(
        &["create"],
        &["authorization.k8s.io"],
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    ),
];

/// For those who let others in by the API server's word.
const DELEGATOR: &[Rule] = &[
    rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
];

/// Verbs on resources of groups; with `names`, on those objects only.
struct Rule {
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    names: &'static [&'static str],
}

const fn rule(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
) -> Rule {
    Rule { verbs, groups, resources, names: &[] }
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch"];
const CORE: &[&str] = &[""];
const APPS: &[&str] = &["apps"];
const EVENTS: Rule = rule(WRITE, &["", "events.k8s.io"], &["events"]);
const LEASES: &[&str] = &["coordination.k8s.io"];

const SCHEDULER: &[Rule] = &[
    EVENTS,
    rule(&["create"], LEASES, &["leases"]),
    Rule {
        verbs: &["get", "list", "watch", "update"],
        groups: LEASES,
        resources: &["leases"],
        names: &["kube-scheduler"],
    },
    rule(READ, CORE, &["nodes", "namespaces", "services", "replicationcontrollers"]),
    rule(&["get", "list", "watch", "delete"], CORE, &["pods"]),
    rule(&["create"], CORE, &["bindings", "pods/binding"]),
    rule(&["patch", "update"], CORE, &["pods/status"]),
    rule(READ, APPS, &["replicasets", "statefulsets"]),
];

// Differs from Kubernetes: the controllers act as one user that holds the union of the roles
// which Kubernetes gives each controller's own service account.
const CONTROLLER_MANAGER: &[Rule] = &[
    EVENTS,
    // The namespace controller and the garbage collector act on whatever there is.
    rule(
        &["get", "list", "watch", "update", "patch", "delete", "deletecollection"],
        &["*"],
        &["*"],
    ),
    rule(&["create"], LEASES, &["leases"]),
    rule(
        &["create"],
        CORE,
        &["pods", "configmaps", "secrets", "serviceaccounts", "endpoints", "serviceaccounts/token"],
    ),
    rule(&["create"], CORE, &["pods/eviction"]),
    rule(&["create"], APPS, &["replicasets", "controllerrevisions"]),
    rule(&["create"], &["discovery.k8s.io"], &["endpointslices"]),
];

const NODE: &[Rule] = &[
    EVENTS,
    rule(READ, CORE, &["services"]),
    rule(WRITE, CORE, &["nodes"]),
    rule(&["update", "patch"], CORE, &["nodes/status", "pods/status"]),
    rule(&["create", "delete"], CORE, &["pods"]),
    rule(&["create"], CORE, &["pods/eviction"]),
];

const PROXY: &[Rule] = &[
    EVENTS,
    rule(READ, CORE, &["nodes"]),
    rule(&["list", "watch"], CORE, &["services", "endpoints"]),
    rule(&["list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
];

/// Kubernetes' controllers by the names of their service accounts in `kube-system`.
const CONTROLLERS: &[(&str, &[Rule])] = &[
    (
        "deployment-controller",
        &[
            EVENTS,
            rule(&["get", "list", "watch", "update"], APPS, &["deployments"]),
            rule(&["update"], APPS, &["deployments/status", "deployments/finalizers"]),
            rule(
                &["create", "delete", "get", "list", "patch", "update", "watch"],
                APPS,
                &["replicasets"],
            ),
            rule(&["get", "list", "update", "watch"], CORE, &["pods"]),
        ],
    ),
    (
        "replicaset-controller",
        &[
            EVENTS,
            rule(&["get", "list", "watch", "update"], APPS, &["replicasets"]),
            rule(&["update"], APPS, &["replicasets/status", "replicasets/finalizers"]),
            rule(&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
        ],
    ),
    (
        "namespace-controller",
        &[
            rule(&["get", "list", "watch", "delete"], CORE, &["namespaces"]),
            rule(&["update"], CORE, &["namespaces/finalize", "namespaces/status"]),
            rule(&["delete", "deletecollection", "get", "list"], &["*"], &["*"]),
        ],
    ),
    (
        "generic-garbage-collector",
        &[EVENTS, rule(&["delete", "get", "list", "patch", "update", "watch"], &["*"], &["*"])],
    ),
    (
        "service-account-controller",
        &[EVENTS, rule(&["create"], CORE, &["serviceaccounts"]), WATCH_NAMESPACES],
    ),
    (
        "root-ca-cert-publisher",
        &[EVENTS, rule(&["create", "update"], CORE, &["configmaps"]), WATCH_NAMESPACES],
    ),
    (
        "endpoint-controller",
        &[
            EVENTS,
            rule(READ, CORE, &["services", "pods"]),
            rule(&["create", "delete", "get", "list", "update"], CORE, &["endpoints"]),
        ],
    ),
    (
        "endpointslice-controller",
        &[
            EVENTS,
            rule(READ, CORE, &["services", "pods", "nodes"]),
            rule(
                &["create", "delete", "get", "list", "update"],
                &["discovery.k8s.io"],
                &["endpointslices"],
            ),
        ],
    ),
    (
        "node-controller",
        &[
            EVENTS,
            rule(&["get", "list", "watch", "delete", "patch", "update"], CORE, &["nodes"]),
            rule(&["patch", "update"], CORE, &["nodes/status", "pods/status"]),
            rule(&["get", "list", "watch", "delete"], CORE, &["pods"]),
            rule(READ, LEASES, &["leases"]),
        ],
    ),
];

const WATCH_NAMESPACES: Rule = rule(&["list", "watch"], CORE, &["namespaces"]);

const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];
const DISCOVERY_PATHS: &[&str] =
    &["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version"];
const ISSUER_PATHS: &[&str] = &["/.well-known/openid-configuration", "/openid/v1/jwks"];

/// Whether the built-in rules let `user` do this.
pub(super) fn allows(user: &User, info: &RequestInfo) -> bool {
    if !info.is_resource {
        return allows_path(user, info);
    }
    roles_of(user).into_iter().flatten().any(|rule| rule.covers(info))
}

/// What `user` may do, as a SelfSubjectRulesReview shows it: resources, then paths.
pub(super) fn rules_of(user: &User) -> (Vec<Value>, Vec<Value>) {
    let resources = roles_of(user).into_iter().flatten().map(|rule| {
        let mut shown = json!({
            "verbs": rule.verbs,
            "apiGroups": rule.groups,
            "resources": rule.resources,
        });
        if !rule.names.is_empty() {
            shown["resourceNames"] = rule.names.into();
        }
        shown
    });
    let paths = paths_of(user).into_iter();
    let paths = paths.map(|list| json!({"verbs": ["get"], "nonResourceURLs": list}));
    (resources.collect(), paths.collect())
}

fn roles_of(user: &User) -> Vec<&'static [Rule]> {
    let mut roles: Vec<&[Rule]> = Vec::new();
    match user.name.as_str() {
        "system:kube-scheduler" => roles.extend([SCHEDULER, DELEGATOR]),
        "system:kube-controller-manager" => roles.extend([CONTROLLER_MANAGER, DELEGATOR]),
        "system:kube-proxy" => roles.push(PROXY),
        _ => {}
    }
    if user.is_in(NODES) && user.node().is_some() {
        roles.extend([NODE, DELEGATOR]);
    }
    if user.is_in(AUTHENTICATED) {
        roles.push(BASIC);
    }
    if let Some(("kube-system", name)) = user.service_account() {
        roles.extend(CONTROLLERS.iter().filter(|(one, _)| *one == name).map(|(_, rules)| rules));
    }
    roles
}

fn paths_of(user: &User) -> Vec<&'static [&'static str]> {
    let mut lists: Vec<&[&str]> = Vec::new();
    if user.is_in(AUTHENTICATED) || user.is_in(UNAUTHENTICATED) {
        lists.push(PUBLIC_PATHS);
    }
    if user.is_in(AUTHENTICATED) {
        lists.push(DISCOVERY_PATHS);
    }
    if user.is_in(SERVICE_ACCOUNTS) {
        lists.push(ISSUER_PATHS);
    }
    lists
}

fn allows_path(user: &User, info: &RequestInfo) -> bool {
    let reads = matches!(info.verb, "get" | "head");
    reads
        && paths_of(user).into_iter().flatten().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => info.path.starts_with(start),
            None => info.path == *pattern,
        })
}

impl Rule {
    fn covers(&self, info: &RequestInfo) -> bool {
        let has = |list: &[&str], what: &str| list.iter().any(|one| *one == "*" || *one == what);
        has(self.verbs, info.verb)
            && has(self.groups, &info.api_group)
            && has(self.resources, &info.full_resource())
            && (self.names.is_empty() || self.names.contains(&info.name.as_str()))
    }
}
