//! What is wrong with a pod or a pod template.
//!
//! Owns: the order of the checks on a `PodSpec`, and those of its plain fields. Must not know:
//! admission. A newcomer's trap: errors come in Kubernetes' order, volumes and containers first,
//! and a few rules hold for pods but not for templates.

use serde_json::Value;

use super::{container_check, placement_check, resource_check, security_check, volume_check};
use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::{Look, Repeats};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Checks a new pod, `metadata` apart.
pub(crate) fn new_pod(object: &Value) -> Vec<FieldError> {
    let spec = object.get_or_null("spec");
    let mut errors = pod(object);
    if !spec.list("ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", detail));
    }
    errors
}

/// Checks a pod, new or changed, `metadata` apart.
pub(crate) fn pod(object: &Value) -> Vec<FieldError> {
    let spec = object.get_or_null("spec");
    let mut errors = deletion_cost(object.get_or_null("metadata"), "metadata.annotations");
    errors.extend(pod_spec(spec, "spec", true));
    if spec.text("serviceAccountName").is_empty() {
        errors.extend(volume_check::no_tokens(spec));
    }
    for list in ["containers", "initContainers"] {
        for (index, one) in spec.list(list).iter().enumerate() {
            let image = one.text("image");
            if image.trim() != image {
                let detail = "must not have leading or trailing whitespace";
                errors.push(check::invalid(format!("spec.{list}[{index}].image"), image, detail));
            }
        }
    }
    errors
}

/// Checks a pod template.
pub(crate) fn template(template: &Value, path: &str) -> Vec<FieldError> {
    let metadata = template.get_or_null("metadata");
    let mut errors = check::labels(&format!("{path}.labels"), metadata, "labels");
    let annotations = metadata.get_or_null("annotations");
    errors
        .extend(crate::objectmeta::annotation_errors(annotations, &format!("{path}.annotations")));
    errors.extend(deletion_cost(metadata, &format!("{path}.annotations")));
    errors.extend(pod_spec(template.get_or_null("spec"), &format!("{path}.spec"), false));
    if !template.get_or_null("spec").list("ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(format!("{path}.spec.ephemeralContainers"), detail));
    }
    errors
}

fn deletion_cost(metadata: &Value, path: &str) -> Vec<FieldError> {
    let annotations = metadata.get_or_null("annotations");
    let cost = annotations.text(DELETION_COST);
    let plain = !cost.starts_with('+') && (!cost.starts_with('0') || cost == "0");
    if !annotations.has(DELETION_COST) || (plain && cost.parse::<i32>().is_ok()) {
        return Vec::new();
    }
    let path = format!("{path}[{DELETION_COST}]");
    vec![check::invalid(path, cost, "must be a 32bit integer")]
}

fn pod_spec(spec: &Value, path: &str, is_pod: bool) -> Vec<FieldError> {
    let at = |field: &str| format!("{path}.{field}");
    let (volumes, mut errors) = volume_check::volumes(spec, &at("volumes"));
    errors.extend(resource_claims(spec, &at("resourceClaims")));
    errors.extend(container_check::containers(spec, &volumes, path));
    errors.extend(resource_check::pod_level(spec, &at("resources")));
    errors.extend(required_word(
        &at("restartPolicy"),
        spec.text("restartPolicy"),
        &["Always", "OnFailure", "Never"],
    ));
    errors.extend(required_word(
        &at("dnsPolicy"),
        spec.text("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    ));
    errors.extend(check::labels(&at("nodeSelector"), spec, "nodeSelector"));
    errors.extend(security_check::pod(spec, path, is_pod));
    errors.extend(placement_check::affinity(spec.get_or_null("affinity"), &at("affinity")));
    errors.extend(dns_config(spec, &at("dnsConfig")));
    for (index, gate) in spec.list("readinessGates").iter().enumerate() {
        let path = format!("{path}.readinessGates[{index}].conditionType");
        errors.extend(check::qualified_name(&path, gate.text("conditionType")));
    }
    errors.extend(placement_check::scheduling_gates(spec, &at("schedulingGates")));
    errors.extend(placement_check::spread(spec, &at("topologySpreadConstraints")));
    errors.extend(security_check::host_users(spec, path));
    for field in ["serviceAccountName", "nodeName"] {
        if !spec.text(field).is_empty() {
            errors.extend(check::dns_subdomain(&at(field), spec.text(field)));
        }
    }
    if let Some(seconds) = spec.int_opt("activeDeadlineSeconds") {
        let path = at("activeDeadlineSeconds");
        errors.extend(check::within(&path, seconds, 1, i64::from(i32::MAX)));
    }
    for field in ["hostname", "subdomain"] {
        if !spec.text(field).is_empty() {
            errors.extend(check::dns_label(&at(field), spec.text(field)));
        }
    }
    errors.extend(placement_check::tolerations(spec, &at("tolerations")));
    errors.extend(host_aliases(spec, &at("hostAliases")));
    if !spec.text("priorityClassName").is_empty() {
        errors
            .extend(check::dns_subdomain(&at("priorityClassName"), spec.text("priorityClassName")));
    }
    if spec.has("runtimeClassName") {
        errors.extend(check::dns_subdomain(&at("runtimeClassName"), spec.text("runtimeClassName")));
    }
    if spec.has("preemptionPolicy") {
        let policies = ["PreemptLowerPriority", "Never"];
        let policy = spec.text("preemptionPolicy");
        errors.extend(required_word(&at("preemptionPolicy"), policy, &policies));
    }
    if spec.has("overhead") {
        errors.extend(resource_check::overhead(spec, &at("overhead")));
    }
    if spec.has("os") {
        errors.extend(os(spec.get_or_null("os"), &at("os.name")));
    }
    errors
}

/// A word that must be there and be one of several.
pub(crate) fn required_word(path: &str, word: &str, words: &[&str]) -> Vec<FieldError> {
    if word.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    check::one_of(path, word, words)
}

fn os(os: &Value, path: &str) -> Vec<FieldError> {
    match os.text("name") {
        "" => vec![FieldError::required(path, "cannot be empty")],
        name => check::one_of(path, name, &["linux", "windows"]),
    }
}

fn resource_claims(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let claims = spec.list("resourceClaims");
    let repeats = Repeats::by(claims, "name");
    for (index, claim) in claims.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = claim.text("name");
        if repeats.at(index) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        } else if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else {
            errors.extend(check::dns_label(&format!("{path}.name"), name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let given: Vec<_> = sources.iter().filter(|source| claim.has(source)).collect();
        if given.len() != 1 {
            let shown = crate::kinds::golang::compact("PodResourceClaim", claim);
            let detail = if given.is_empty() {
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            } else {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            };
            errors.push(FieldError::invalid_text(path.clone(), &shown, detail));
        }
        for source in given {
            errors.extend(check::dns_subdomain(&format!("{path}.{source}"), claim.text(source)));
        }
    }
    errors
}

fn dns_config(spec: &Value, path: &str) -> Vec<FieldError> {
    const NAMESERVERS_MAX: usize = 3;
    const SEARCHES_MAX: usize = 32;
    const SEARCH_BYTES_MAX: usize = 2048;
    let config = spec.get_or_null("dnsConfig");
    let servers = config.list("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if !config.is_object() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            return vec![FieldError::required(path, detail)];
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return vec![FieldError::required(format!("{path}.nameservers"), detail)];
        }
    }
    let mut errors = Vec::new();
    if servers.len() > NAMESERVERS_MAX {
        let detail = "must not have more than 3 nameservers";
        let shown = config.get_or_null("nameservers");
        errors.push(FieldError::invalid(format!("{path}.nameservers"), shown, detail));
    }
    for (index, server) in servers.iter().enumerate() {
        let path = format!("{path}.nameservers[{index}]");
        errors.extend(check::ip(&path, server.as_str().unwrap_or("")));
    }
    let searches: Vec<_> = config.list("searches").iter().filter_map(Value::as_str).collect();
    let shown = config.get_or_null("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = "must not have more than 32 search paths";
        errors.push(FieldError::invalid(format!("{path}.searches"), shown, detail));
    }
    if searches.join(" ").len() > SEARCH_BYTES_MAX {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(FieldError::invalid(format!("{path}.searches"), shown, detail));
    }
    for (index, search) in searches.iter().enumerate() {
        if *search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            let path = format!("{path}.searches[{index}]");
            errors.extend(check::texts(&path, search, subdomain_with_underscore(search)));
        }
    }
    for (index, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            let path = format!("{path}.options[{index}]");
            errors.push(FieldError::required(path, "must not be empty"));
        }
    }
    errors
}

/// A DNS subdomain whose labels may start with an underscore and have some inside.
fn subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > crate::name::SUBDOMAIN_LENGTH_MAX {
        wrong.push(crate::name::too_long(crate::name::SUBDOMAIN_LENGTH_MAX));
    }
    let label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label).replace('_', "-");
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !text.split('.').all(label) {
        let format = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let whole = format!("{format}(\\.{format})*");
        wrong.push(crate::name::not_matching(message, &whole, &["example.com"]));
    }
    wrong
}

fn host_aliases(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, alias) in spec.list("hostAliases").iter().enumerate() {
        errors.extend(check::ip(&format!("{path}[{index}].ip"), alias.text("ip")));
        for (at, name) in alias.list("hostnames").iter().enumerate() {
            let path = format!("{path}[{index}].hostnames[{at}]");
            errors.extend(check::dns_subdomain(&path, name.as_str().unwrap_or("")));
        }
    }
    errors
}
