//! Pod templates: whether two are the same, and the hash that names a ReplicaSet.
//!
//! Owns: comparing and hashing. Must not know: rollouts. A newcomer's trap: the hash only names; which
//! ReplicaSet belongs to a template is decided by comparing the templates, never the hashes.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// The label that tells the pods of one ReplicaSet from those of another.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// Letters and digits that form no words (vowels and 0, 1, 3 left out), as in all generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates make the same pods. The hash label does not count, nor does the
/// difference between an empty list or map and none.
pub(crate) fn equal_ignoring_hash(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    let (one, other) = (without_hash(one), without_hash(other));
    one == other || pruned(&one) == pruned(&other)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

/// The template as JSON, without what is empty.
fn pruned(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or(Value::Null);
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !is_empty(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The hash of a template: FNV-1a over its JSON and the collision count, in letters of the alphabet.
///
/// Differs from Kubernetes: the hash is of the template's JSON, not of Go's dump of it, so the
/// hashes of equal templates differ from kube-controller-manager's. Nothing compares them.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut state: u32 = 0x811c_9dc5;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            state ^= u32::from(*byte);
            state = state.wrapping_mul(0x0100_0193);
        }
    };
    eat(pruned(&without_hash(template)).to_string().as_bytes());
    if let Some(collisions) = collisions {
        eat(&collisions.to_le_bytes());
    }
    // Nine digits at least, so that names keep one shape.
    let digits = format!("{state:09}");
    digits.bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    fn web(image: &str) -> PodTemplateSpec {
        template(json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image}]}}))
    }

    #[test]
    fn which_templates_are_the_same() {
        let hashed = template(json!({
            "metadata": {"labels": {"app": "web", HASH_LABEL: "bcdfg"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]}}));
        let with_empty = template(json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {}},
            "spec": {"containers": [{"name": "web", "image": "web:1", "env": []}], "volumes": []}}));
        assert!(equal_ignoring_hash(&web("web:1"), &hashed));
        assert!(equal_ignoring_hash(&web("web:1"), &with_empty));
        assert!(!equal_ignoring_hash(&web("web:1"), &web("web:2")));
    }

    #[test]
    fn hashes_have_the_known_shape_and_tell_templates_and_collisions_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..500 {
            let hash = hash(&web(&format!("web:{number}")), None);
            assert!((9..=10).contains(&hash.len()), "{hash}");
            assert!(hash.bytes().all(|letter| ALPHABET.contains(&letter)), "{hash}");
            seen.insert(hash);
        }
        assert_eq!(seen.len(), 500);
        assert_ne!(hash(&web("web:1"), None), hash(&web("web:1"), Some(1)));
    }
}
