//! What is wrong with environment variables and with references to an object's own fields.
//!
//! Owns: the checks on `env`, `envFrom`, `fieldRef` and `resourceFieldRef`. Must not know: the
//! values behind them. A newcomer's trap: which fields may be named differs between the
//! environment and files.

use serde_json::Value;

use super::resources::amount;
use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::Look;

/// Fields that an environment variable may show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file may show.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields that exist, but may not be shown everywhere.
const OTHER_FIELDS: &[&str] =
    &["spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const ONE_OF: &str = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
const TOO_MANY: &str = "may not have more than one field specified at a time";

/// The `env` of a container.
pub(super) fn env(container: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, variable) in container.list("env").iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = variable.text("name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else {
            let texts = crate::name::env_var_name(name);
            errors.extend(check::texts(&format!("{path}.name"), name, texts));
        }
        if variable.has("valueFrom") {
            errors.extend(value_from(variable, &format!("{path}.valueFrom")));
        }
    }
    errors
}

fn value_from(variable: &Value, path: &str) -> Vec<FieldError> {
    let from = variable.get_or_null("valueFrom");
    let mut errors = Vec::new();
    let mut sources = 0;
    if from.has("fieldRef") {
        sources += 1;
        let of = from.get_or_null("fieldRef");
        errors.extend(field_ref(of, ENV_FIELDS, &format!("{path}.fieldRef")));
    }
    if from.has("resourceFieldRef") {
        sources += 1;
        let of = from.get_or_null("resourceFieldRef");
        errors.extend(resource_ref(of, false, &format!("{path}.resourceFieldRef")));
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if from.has(kind) {
            sources += 1;
            errors.extend(key_ref(from.get_or_null(kind), &format!("{path}.{kind}")));
        }
    }
    if from.has("fileKeyRef") {
        sources += 1;
        let of = from.get_or_null("fileKeyRef");
        for field in ["volumeName", "path", "key"] {
            if of.text(field).is_empty() {
                errors.push(FieldError::required(format!("{path}.fileKeyRef.{field}"), ""));
            }
        }
    }
    if sources == 0 {
        errors.push(check::invalid(path, "", ONE_OF));
    } else if !variable.text("value").is_empty() {
        let detail = "may not be specified when `value` is not empty";
        errors.push(check::invalid(path, "", detail));
    } else if sources > 1 {
        errors.push(check::invalid(path, "", TOO_MANY));
    }
    errors
}

fn key_ref(of: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if of.text("name").is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    match of.text("key") {
        "" => errors.push(FieldError::required(format!("{path}.key"), "")),
        key => errors.extend(check::config_key(&format!("{path}.key"), key)),
    }
    errors
}

/// The `envFrom` of a container.
pub(super) fn env_from(container: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, from) in container.list("envFrom").iter().enumerate() {
        let whole = path;
        let path = format!("{path}[{index}]");
        let prefix = from.text("prefix");
        if !prefix.is_empty() {
            let texts = crate::name::env_var_name(prefix);
            errors.extend(check::texts(&format!("{path}.prefix"), prefix, texts));
        }
        let kinds = ["configMapRef", "secretRef"];
        let given: Vec<_> = kinds.iter().filter(|kind| from.has(kind)).collect();
        for kind in &given {
            if from.get_or_null(kind).text("name").is_empty() {
                errors.push(FieldError::required(format!("{path}.{kind}.name"), ""));
            }
        }
        // Kubernetes leaves the index out of these two.
        if given.is_empty() {
            let detail = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(check::invalid(whole, "", detail));
        } else if given.len() > 1 {
            errors.push(check::invalid(whole, "", TOO_MANY));
        }
    }
    errors
}

/// `metadata.labels['a']` in its parts.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (head, rest) = path.split_once("['")?;
    Some((head, rest.strip_suffix("']")?)).filter(|(head, _)| !head.is_empty())
}

/// A reference to a field of the pod itself.
pub(super) fn field_ref(of: &Value, fields: &[&str], path: &str) -> Vec<FieldError> {
    let (version, field) = (of.text("apiVersion"), of.text("fieldPath"));
    if version.is_empty() {
        return vec![FieldError::required(format!("{path}.apiVersion"), "")];
    }
    if field.is_empty() {
        return vec![FieldError::required(format!("{path}.fieldPath"), "")];
    }
    let unknown = |why: String| {
        let detail = format!("error converting fieldPath: {why}");
        vec![check::invalid(format!("{path}.fieldPath"), field, &detail)]
    };
    if version != "v1" {
        return unknown(format!("unsupported pod version: {version}"));
    }
    if let Some((head, key)) = subscripted(field) {
        return match head {
            "metadata.annotations" => {
                check::texts(path, key, crate::name::label_key(&key.to_lowercase()))
            }
            "metadata.labels" => check::qualified_name(path, key),
            _ => unknown(format!("field label does not support subscript: {field}")),
        };
    }
    if ![ENV_FIELDS, FILE_FIELDS, OTHER_FIELDS].iter().any(|all| all.contains(&field)) {
        return unknown(format!("field label not supported: {field}"));
    }
    let field = if field == "spec.host" { "spec.nodeName" } else { field };
    check::one_of(&format!("{path}.fieldPath"), field, fields)
}

/// A reference to a container's limits or requests.
pub(super) fn resource_ref(of: &Value, in_file: bool, path: &str) -> Vec<FieldError> {
    let resource = of.text("resource");
    let mut errors = Vec::new();
    let huge = ["limits.hugepages-", "requests.hugepages-"];
    if in_file && of.text("containerName").is_empty() {
        errors.push(FieldError::required(format!("{path}.containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(format!("{path}.resource"), ""));
    } else if !huge.iter().any(|prefix| resource.starts_with(prefix)) {
        errors.extend(check::one_of(&format!("{path}.resource"), resource, RESOURCES));
    }
    errors.extend(divisor(resource, of.get_or_null("divisor"), path));
    errors
}

fn divisor(resource: &str, divisor: &Value, path: &str) -> Vec<FieldError> {
    const SIZES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let Some(given) = amount(divisor).filter(|given| !given.is_zero()) else { return Vec::new() };
    let (sizes, what): (&[&str], _) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "cpu resource"),
        "memory" => (SIZES, "memory resource"),
        "ephemeral-storage" => (SIZES, "local ephemeral storage resource"),
        name if name.starts_with("hugepages-") => (SIZES, "hugepages resource"),
        _ => return Vec::new(),
    };
    if sizes.iter().any(|size| amount(&Value::from(*size)) == Some(given)) {
        return Vec::new();
    }
    let listed = if sizes.len() == 2 { "1m and 1".to_owned() } else { sizes.join(", ") };
    let detail = format!("only divisor's values {listed} are supported with the {what}");
    vec![check::invalid(format!("{path}.divisor"), resource, &detail)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bad_variables() {
        for (variable, wanted) in [
            (json!({"name": "A", "value": "b"}), vec![]),
            (json!({"name": "1.a-b_"}), vec![]),
            (
                json!({"name": "A=B"}),
                vec![
                    "e[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
            (
                json!({"name": "A", "valueFrom": {}}),
                vec![
                    "e[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                ],
            ),
            (
                json!({"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
                vec![
                    "e[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                ],
            ),
            (
                json!({"name": "A", "valueFrom": {"secretKeyRef": {}}}),
                vec![
                    "e[0].valueFrom.secretKeyRef.name: Required value",
                    "e[0].valueFrom.secretKeyRef.key: Required value",
                ],
            ),
            (
                json!({"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.x"}}}),
                vec![
                    "e[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
                ],
            ),
            (
                json!({"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a']"}}}),
                vec![],
            ),
            (
                json!({"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.phase"}}}),
                vec![
                    "e[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
                ],
            ),
            (
                json!({"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}),
                vec![
                    "e[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
                ],
            ),
        ] {
            let container = json!({"env": [variable]});
            let got: Vec<_> = env(&container, "e").iter().map(ToString::to_string).collect();
            assert_eq!(got, wanted, "{variable}");
        }
    }
}
