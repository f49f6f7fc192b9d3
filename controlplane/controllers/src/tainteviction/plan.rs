//! What NoExecute taints mean for one pod. Pure.
//!
//! Owns: matching tolerations and the shortest stay. Must not know: the API. A newcomer's trap: a pod
//! that tolerates one taint for five minutes and another not at all goes at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::millis_between;

/// What becomes of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    StaysFor(Duration),
    Goes,
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
            _ => false,
        }
}

/// `seen`: when the pod was first seen under these taints, for taints that do not say when they came.
///
/// Differs from Kubernetes: a stay is counted from the taint's `timeAdded`, so that it is not begun
/// anew when the controller restarts; there it is counted from when the controller saw the taint.
pub(crate) fn plan(
    tolerations: &[Toleration],
    taints: &[Taint],
    seen: Timestamp,
    now: Timestamp,
) -> Fate {
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let matching: Vec<&Toleration> =
            tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Fate::Goes;
        }
        let Some(seconds) = matching.iter().filter_map(|one| one.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(seen, |at| at.0);
        let left = seconds.max(0).saturating_mul(1_000) - millis_between(since, now);
        shortest = Some(shortest.map_or(left, |shortest| shortest.min(left)));
    }
    match shortest {
        None => Fate::Stays,
        Some(left) if left <= 0 => Fate::Goes,
        Some(left) => Fate::StaysFor(Duration::from_millis(left as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, time};
    use serde_json::{Value, json};

    #[test]
    fn fates() {
        let unreachable = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": time(100)});
        let other = json!({"key": "other", "value": "x", "effect": "NoExecute"});
        let five_minutes = json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 300});
        let for_ever = json!({"operator": "Exists"});
        for (tolerations, taints, second, fate) in [
            (json!([]), json!([unreachable]), 100, Fate::Goes),
            (
                json!([five_minutes]),
                json!([unreachable]),
                100,
                Fate::StaysFor(Duration::from_secs(300)),
            ),
            (
                json!([five_minutes]),
                json!([unreachable]),
                399,
                Fate::StaysFor(Duration::from_secs(1)),
            ),
            (json!([five_minutes]), json!([unreachable]), 400, Fate::Goes),
            (json!([five_minutes]), json!([unreachable, other]), 100, Fate::Goes),
            (json!([for_ever]), json!([unreachable, other]), 9_999, Fate::Stays),
            (json!([{"key": "other", "value": "y"}]), json!([other]), 100, Fate::Goes),
            (
                json!([{"key": "other", "value": "x", "tolerationSeconds": 10}]),
                json!([other]),
                105,
                Fate::StaysFor(Duration::from_secs(5)),
            ),
        ] {
            let parse = |value: Value| serde_json::from_value(value).unwrap();
            let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
            let taints: Vec<Taint> = parse(taints);
            assert_eq!(
                plan(&tolerations, &taints, at(100), at(second)),
                fate,
                "{tolerations:?} {taints:?}"
            );
        }
    }
}
