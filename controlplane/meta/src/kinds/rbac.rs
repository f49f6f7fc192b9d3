//! Roles and their bindings.
//!
//! Owns: the rules of the four kinds of rbac.authorization.k8s.io/v1. Must not know: who may do
//! what. A newcomer's trap: a binding's `roleRef` never changes; it is made anew instead.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::golang;
use super::look::{Change, Look, same};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of Roles, and with `cluster` of ClusterRoles.
#[derive(Debug)]
pub struct Role {
    /// Whether the role holds in the whole cluster.
    pub cluster: bool,
}

/// The rules of RoleBindings, and with `cluster` of ClusterRoleBindings.
#[derive(Debug)]
pub struct Binding {
    /// Whether the binding holds in the whole cluster.
    pub cluster: bool,
}

impl Strategy for Role {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, rule) in object.list("rules").iter().enumerate() {
            errors.extend(policy_rule(rule, !self.cluster, &format!("rules[{index}]")));
        }
        if self.cluster && object.has("aggregationRule") {
            let path = "aggregationRule.clusterRoleSelectors";
            let selectors = object.get_or_null("aggregationRule").list("clusterRoleSelectors");
            if selectors.is_empty() {
                let detail =
                    "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(path, detail));
            }
            for (index, selector) in selectors.iter().enumerate() {
                errors.extend(check::label_selector(&format!("{path}[{index}]"), selector));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::path_segment_name(name, prefix)
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let made = object.get_or_null("metadata").get_or_null("creationTimestamp");
        vec![show::name(object), made.clone()]
    }
}

fn policy_rule(rule: &Value, in_namespace: bool, path: &str) -> Vec<FieldError> {
    let none = |field: &str| rule.list(field).is_empty();
    let mut errors = Vec::new();
    if none("verbs") {
        let detail = "verbs must contain at least one value";
        errors.push(FieldError::required(format!("{path}.verbs"), detail));
    }
    if !none("nonResourceURLs") {
        let path = format!("{path}.nonResourceURLs");
        let shown = rule.get_or_null("nonResourceURLs");
        if in_namespace {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(path.clone(), shown, detail));
        }
        if !none("apiGroups") || !none("resources") || !none("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(path, shown, detail));
        }
        return errors;
    }
    if none("apiGroups") {
        let detail = "resource rules must supply at least one api group";
        errors.push(FieldError::required(format!("{path}.apiGroups"), detail));
    }
    if none("resources") {
        let detail = "resource rules must supply at least one resource";
        errors.push(FieldError::required(format!("{path}.resources"), detail));
    }
    errors
}

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        object.child("roleRef").default_text("apiGroup", GROUP);
        for subject in object.items_mut("subjects") {
            if matches!(subject.text("kind"), "User" | "Group") {
                subject.default_text("apiGroup", GROUP);
            }
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let role = object.get_or_null("roleRef");
        let mut errors = check::one_of("roleRef.apiGroup", role.text("apiGroup"), &[GROUP]);
        let kinds: &[&str] = if self.cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
        errors.extend(check::one_of("roleRef.kind", role.text("kind"), kinds));
        match role.text("name") {
            "" => errors.push(FieldError::required("roleRef.name", "")),
            name => {
                let texts = check::path_segment_name(name, false);
                errors.extend(check::texts("roleRef.name", name, texts));
            }
        }
        for (index, one) in object.list("subjects").iter().enumerate() {
            errors.extend(subject(one, self.cluster, &format!("subjects[{index}]")));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        let role = object.get_or_null("roleRef");
        if !same(role, old.get_or_null("roleRef")) {
            let shown = golang::compact("RoleRef", role);
            errors.push(FieldError::invalid_text("roleRef", &shown, "cannot change roleRef"));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::path_segment_name(name, prefix)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let role = object.get_or_null("roleRef");
        let subjects = |kind: &str| -> Value {
            let all: Vec<String> = object
                .list("subjects")
                .iter()
                .filter(|one| one.text("kind") == kind)
                .map(|one| match (kind, one.text("namespace")) {
                    ("ServiceAccount", namespace) if !namespace.is_empty() => {
                        format!("{namespace}/{}", one.text("name"))
                    }
                    _ => one.text("name").to_owned(),
                })
                .collect();
            all.join(", ").into()
        };
        vec![
            show::name(object),
            format!("{}/{}", role.text("kind"), role.text("name")).into(),
            show::age(object, now),
            subjects("User"),
            subjects("Group"),
            subjects("ServiceAccount"),
        ]
    }
}

fn subject(one: &Value, cluster: bool, path: &str) -> Vec<FieldError> {
    let name = one.text("name");
    let group = |wanted: &'static str| {
        check::one_of(&format!("{path}.apiGroup"), one.text("apiGroup"), &[wanted])
    };
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    match one.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(check::dns_subdomain(&format!("{path}.name"), name));
            }
            errors.extend(group(""));
            if cluster && one.text("namespace").is_empty() {
                errors.push(FieldError::required(format!("{path}.namespace"), ""));
            }
        }
        "User" | "Group" => errors.extend(group(GROUP)),
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.extend(check::one_of(&format!("{path}.kind"), other, &kinds));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_about_resources_or_urls() {
        let role =
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "apiGroups": [""]}]});
        let both = "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs";
        assert_eq!(shown(&Role { cluster: true }.validate_create(&role)), [both]);
        assert_eq!(
            shown(&Role { cluster: false }.validate_create(&role)),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                both
            ]
        );
        let empty = json!({"aggregationRule": {}});
        assert_eq!(
            shown(&Role { cluster: true }.validate_create(&empty)),
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ]
        );
    }

    #[test]
    fn bindings_name_a_role_and_subjects() {
        let mut binding = json!({"roleRef": {"kind": "Group", "name": "a/b"},
            "subjects": [{"kind": "User"}, {"kind": "ServiceAccount", "name": "s"}, {"kind": "Dog", "name": "d"}]});
        let strategy = Binding { cluster: true };
        strategy.default(&mut binding);
        assert_eq!(
            shown(&strategy.validate_create(&binding)),
            [
                "roleRef.kind: Unsupported value: \"Group\": supported values: \"ClusterRole\"",
                "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
                "subjects[0].name: Required value",
                "subjects[1].namespace: Required value",
                "subjects[2].kind: Unsupported value: \"Dog\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ]
        );
    }
}
