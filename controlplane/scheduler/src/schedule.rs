//! One decision: which node a pod goes to, or why it goes nowhere.
//!
//! Owns: asking the plugins and choosing. Must not know: the queue, the API, time. A newcomer's trap:
//! in large clusters the search ends once enough nodes are found; it then begins elsewhere next time.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, PluginSet, Reason, Refusal, View, texts_of};
use crate::limits;
use crate::plugins::{FILTERS, SCORES};
use crate::pod::PodInfo;

/// Why a pod goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// The text of the event and of the condition, as kube-scheduler words it.
    pub message: String,
    /// Who refused nodes: their events may change things.
    pub plugins: PluginSet,
}

/// Chooses a node for `pod`. `random(n)` draws a number below n, to choose among equals.
pub fn schedule(
    pod: &PodInfo,
    cluster: &mut Cluster,
    random: &mut dyn FnMut(u64) -> u64,
) -> Result<String, Unschedulable> {
    if cluster.order().is_empty() {
        return Err(Unschedulable {
            message: "no nodes available to schedule pods".to_owned(),
            plugins: PluginSet::default(),
        });
    }
    let filters: Vec<Box<dyn Filter>> =
        FILTERS.iter().filter_map(|prepare| prepare(pod, cluster)).collect();
    let (feasible, refusals) = find_feasible(pod, cluster, &filters);
    let chosen = match feasible.as_slice() {
        [] => return Err(diagnose(pod, &refusals)),
        [only] => *only,
        _ => best(pod, cluster, &feasible, random),
    };
    Ok(cluster.node(chosen).name.clone())
}

/// The nodes that pass all filters, until enough are found.
fn find_feasible(
    pod: &PodInfo,
    cluster: &mut Cluster,
    filters: &[Box<dyn Filter>],
) -> (Vec<Slot>, Vec<Refusal>) {
    let all = cluster.order().len();
    let wanted = nodes_to_find(all);
    let start = cluster.next_start % all;
    let mut feasible = Vec::with_capacity(wanted);
    let mut refusals = Vec::new();
    let order = std::mem::take(&mut *cluster.order_mut());
    let view = View { pod, cluster };
    for step in 0..all {
        let slot = order[(start + step) % all];
        match filters.iter().try_for_each(|filter| filter.filter(view, slot)) {
            Ok(()) => feasible.push(slot),
            Err(refusal) => refusals.push(refusal),
        }
        if feasible.len() >= wanted {
            break;
        }
    }
    let looked_at = feasible.len() + refusals.len();
    *cluster.order_mut() = order;
    cluster.next_start = (start + looked_at) % all;
    (feasible, refusals)
}

/// How many feasible nodes are enough: all in small clusters, half and less in larger ones.
fn nodes_to_find(all: usize) -> usize {
    if all < limits::NODES_TO_FIND_MIN {
        return all;
    }
    let percent = 50_usize.saturating_sub(all / 125).max(5);
    (all * percent / 100).max(limits::NODES_TO_FIND_MIN)
}

/// The node of the highest weighted score; one of them at random if several have it.
fn best(
    pod: &PodInfo,
    cluster: &mut Cluster,
    feasible: &[Slot],
    random: &mut dyn FnMut(u64) -> u64,
) -> Slot {
    let scores: Vec<_> =
        SCORES.iter().filter_map(|prepare| prepare(pod, cluster, feasible)).collect();
    let view = View { pod, cluster };
    let mut totals = vec![0_i64; feasible.len()];
    let mut column = vec![0_i64; feasible.len()];
    for plugin in scores {
        for (score, slot) in column.iter_mut().zip(feasible) {
            *score = plugin.score(view, *slot);
        }
        plugin.normalize(&mut column);
        for (total, score) in totals.iter_mut().zip(&column) {
            *total += score * plugin.weight();
        }
    }
    let highest = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<Slot> = feasible
        .iter()
        .zip(&totals)
        .filter(|(_, total)| **total == highest)
        .map(|(slot, _)| *slot)
        .collect();
    winners[random(winners.len() as u64) as usize]
}

/// Words the refusals as kube-scheduler 1.36 does.
fn diagnose(pod: &PodInfo, refusals: &[Refusal]) -> Unschedulable {
    let all = refusals.len();
    let mut plugins = PluginSet::default();
    let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    let mut helpless = 0;
    for refusal in refusals {
        plugins.insert(refusal.plugin);
        *reasons.entry(refusal.reason).or_default() += 1;
        helpless += usize::from(!refusal.resolvable);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (reason, count) in reasons {
        for text in texts_of(reason, pod) {
            *counts.entry(text).or_default() += count;
        }
    }
    // Differs from Kubernetes: pods of lower priority are not evicted to make room (no preemption
    // yet), so nodes where that might help are counted as having no victims.
    let preemption = [
        ("No preemption victims found for incoming pod", all - helpless),
        ("Preemption is not helpful for scheduling", helpless),
    ];
    let preemption = preemption.into_iter().filter(|(_, count)| *count > 0);
    let message = format!(
        "0/{all} nodes are available: {}. no new claims to deallocate, \
         preemption: 0/{all} nodes are available: {}.",
        histogram(counts.iter().map(|(text, count)| (text.as_str(), *count))),
        histogram(preemption),
    );
    Unschedulable { message, plugins }
}

/// `<count> <text>`, sorted as text, separated by commas.
fn histogram<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut lines: Vec<String> = counts.map(|(text, count)| format!("{count} {text}")).collect();
    lines.sort();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, node, pod};
    use serde_json::json;

    #[test]
    fn the_whole_message() {
        let tainted = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        let small = || json!({"allocatable": {"cpu": "1", "pods": "9"}});
        let mut world = World::of(&[node("a", tainted), node("b", small()), node("c", small())]);
        for name in ["b", "c"] {
            world
                .cluster
                .place(pod(&format!("on-{name}"), json!({"requests": {"cpu": "1"}})), name);
        }
        assert_eq!(
            world.place(&pod("p", json!({"requests": {"cpu": "1"}}))).unwrap_err(),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             no new claims to deallocate, preemption: 0/3 nodes are available: \
             1 Preemption is not helpful for scheduling, \
             2 No preemption victims found for incoming pod."
        );
    }

    #[test]
    fn no_nodes_at_all() {
        let refused = World::of(&[]).place(&pod("p", json!({}))).unwrap_err();
        assert_eq!(refused, "no nodes available to schedule pods");
    }

    #[test]
    fn how_many_nodes_are_enough() {
        for (all, enough) in
            [(3, 3), (99, 99), (100, 100), (200, 100), (1_000, 420), (5_000, 500), (10_000, 500)]
        {
            assert_eq!(nodes_to_find(all), enough, "{all}");
        }
    }

    #[test]
    fn the_search_begins_where_the_last_one_ended() {
        let nodes: Vec<_> =
            (0..300).map(|number| node(&format!("n{number:03}"), json!({}))).collect();
        let mut world = World::of(&nodes);
        for round in 0..3 {
            world.place(&pod(&format!("p{round}"), json!({}))).unwrap();
        }
        assert_eq!(world.cluster.next_start, 3 * nodes_to_find(300) % 300);
    }

    #[test]
    fn a_cordoned_node_takes_no_new_pods_and_keeps_its_old_ones() {
        let mut world =
            World::of(&[node("w1", json!({})), node("w2", json!({})), node("w3", json!({}))]);
        world.cluster.place(pod("old", json!({})), "w3");
        world.cordon("w3");
        for number in 0..9 {
            let placed = world.place(&pod(&format!("p{number}"), json!({}))).unwrap();
            assert_ne!(placed, "w3");
        }
        assert!(world.cluster.holds("uid-old"));
    }
}
