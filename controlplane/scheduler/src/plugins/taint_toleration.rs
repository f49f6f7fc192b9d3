//! TaintToleration: keeps pods off nodes whose taints they do not tolerate.
//!
//! Owns: the three effects at scheduling time. Must not know: eviction, which is a controller's. A
//! newcomer's trap: `PreferNoSchedule` never refuses, it only counts against a node.

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, Score, View, normalize_to_highest};
use crate::pod::{NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE, PodInfo};

struct TaintToleration;

/// Concerns every pod.
pub fn prepare(_: &PodInfo, _: &mut Cluster) -> Option<Box<dyn Filter>> {
    Some(Box::new(TaintToleration))
}

/// Concerns every pod.
pub fn prepare_score(_: &PodInfo, _: &mut Cluster, _: &[Slot]) -> Option<Box<dyn Score>> {
    Some(Box::new(TaintToleration))
}

fn untolerated(view: View<'_>, slot: Slot, effects: &[&str]) -> usize {
    view.node(slot)
        .taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .filter(|taint| {
            let value = taint.value.as_deref().unwrap_or_default();
            !view.pod.tolerates(&taint.key, value, &taint.effect)
        })
        .count()
}

impl Filter for TaintToleration {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        if untolerated(view, slot, &[NO_SCHEDULE, NO_EXECUTE]) > 0 {
            Err(Refusal::final_(Plugin::TaintToleration, Reason::Taint))
        } else {
            Ok(())
        }
    }
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }

    fn score(&self, view: View<'_>, slot: Slot) -> i64 {
        untolerated(view, slot, &[PREFER_NO_SCHEDULE]) as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_highest(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::json;

    #[test]
    fn which_toleration_covers_which_taint() {
        let taint =
            |effect: &str| json!({"taints": [{"key": "k", "value": "v", "effect": effect}]});
        for (effect, toleration, fits) in [
            ("NoSchedule", json!([]), false),
            ("NoExecute", json!([]), false),
            ("PreferNoSchedule", json!([]), true),
            ("NoSchedule", json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]), true),
            ("NoSchedule", json!([{"key": "k", "value": "other"}]), false),
            ("NoSchedule", json!([{"key": "k", "operator": "Exists"}]), true),
            (
                "NoExecute",
                json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
                false,
            ),
            ("NoExecute", json!([{"operator": "Exists"}]), true),
        ] {
            let mut world = World::of(&[node("n", taint(effect))]);
            let placed = world.place(&pod("p", json!({"tolerations": toleration.clone()})));
            assert_eq!(placed.is_ok(), fits, "{effect} {toleration}");
        }
    }

    #[test]
    fn a_node_to_be_avoided_is_taken_last() {
        let avoided = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
        let mut world = World::of(&[node("avoided", avoided), node("plain", json!({}))]);
        assert_eq!(world.place(&pod("p", json!({}))).unwrap(), "plain");
    }
}
