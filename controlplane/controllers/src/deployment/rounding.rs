//! The arithmetic of rolling updates: how many more and how many fewer pods there may be.
//!
//! Owns: percentages and Kubernetes' way of rounding them. Must not know: sets. A newcomer's trap:
//! surge rounds up and unavailability down, and if both come to zero, one may be unavailable.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::set::Set;

/// `spec.replicas`, defaulted.
pub(crate) fn replicas_of(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether pods are replaced a few at a time, not all at once.
pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// A number or a share of `of`.
fn resolve(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    match value {
        None => resolve(Some(&IntOrString::String("25%".to_owned())), of, up),
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 =
                text.strip_suffix('%').and_then(|percent| percent.parse().ok()).unwrap_or(0);
            let share = percent.saturating_mul(i64::from(of));
            let whole = if up { (share + 99).div_euclid(100) } else { share.div_euclid(100) };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// (maxSurge, maxUnavailable) in pods.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let replicas = replicas_of(deployment);
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, true);
    let unavailable =
        resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// How many pods beyond `replicas` there may be.
pub(crate) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fenceposts(deployment).0 } else { 0 }
}

/// How many of `replicas` may be unavailable.
pub(crate) fn max_unavailable(deployment: &Deployment) -> i32 {
    let replicas = replicas_of(deployment);
    if !is_rolling(deployment) || replicas == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(replicas)
}

/// By how much one set grows or shrinks when `to_add` pods (negative: to take away) are shared
/// out in proportion to size. `before`: how many there could be before the scaling.
pub(crate) fn proportion(
    set: &Set,
    deployment: &Deployment,
    before: i32,
    to_add: i32,
    added: i32,
) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let allowed = to_add - added;
    let fraction = fraction(set, deployment, before);
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(set: &Set, deployment: &Deployment, before: i32) -> i32 {
    let replicas = replicas_of(deployment);
    if replicas == 0 {
        return -set.replicas;
    }
    if before == 0 {
        return 0;
    }
    let max = f64::from(replicas + max_surge(deployment));
    let size = f64::from(set.replicas) * max / f64::from(before);
    size.round() as i32 - set.replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(replicas: i32, strategy: Value) -> Deployment {
        serde_json::from_value(json!({"spec": {"replicas": replicas, "strategy": strategy,
            "selector": {}, "template": {}}}))
        .unwrap()
    }

    #[test]
    fn surge_rounds_up_and_unavailability_down() {
        let share = json!({"type": "RollingUpdate"});
        for (replicas, surge, unavailable) in [
            (0, 0, 0),
            (1, 1, 0),
            (2, 1, 0),
            (3, 1, 0),
            (4, 1, 1),
            (5, 2, 1),
            (10, 3, 2),
            (100, 25, 25),
        ] {
            let deployment = deployment(replicas, share.clone());
            let posts = (max_surge(&deployment), max_unavailable(&deployment));
            assert_eq!(posts, (surge, unavailable), "{replicas}");
        }
    }

    #[test]
    fn fenceposts_given() {
        let rolling = |surge: Value, unavailable: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        for (replicas, surge, unavailable, expected) in [
            (10, json!(3), json!(2), (3, 2)),
            (10, json!("0%"), json!("0%"), (0, 1)),
            (10, json!(0), json!("5%"), (0, 1)),
            (3, json!("100%"), json!("100%"), (3, 3)),
            (2, json!(1), json!(5), (1, 2)),
            (7, json!("33%"), json!("34%"), (3, 2)),
        ] {
            let deployment = deployment(replicas, rolling(surge.clone(), unavailable.clone()));
            let posts = (max_surge(&deployment), max_unavailable(&deployment));
            assert_eq!(posts, expected, "{replicas} {surge} {unavailable}");
        }
    }

    #[test]
    fn recreate_has_neither() {
        let deployment = deployment(4, json!({"type": "Recreate"}));
        assert_eq!((max_surge(&deployment), max_unavailable(&deployment)), (0, 0));
    }

    #[test]
    fn shares_of_a_scaling() {
        for (replicas, size, before, to_add, added, expected) in [
            (20, 5, 13, 12, 0, 5),
            (20, 5, 13, 12, 10, 2),
            (5, 8, 13, -7, 0, -4),
            (0, 8, 13, -13, 0, -8),
            (20, 0, 13, 12, 0, 0),
        ] {
            let set = Set { replicas: size, ..Set::default() };
            let deployment = deployment(replicas, json!({}));
            let share = proportion(&set, &deployment, before, to_add, added);
            assert_eq!(share, expected, "{replicas} {size}");
        }
    }
}
