//! PodTopologySpread: pods that belong together are spread evenly over domains of nodes.
//!
//! Owns: constraints of the pod and the system's defaults. Must not know: how pods are counted,
//! which is the cluster's. A newcomer's trap: pods without constraints are spread all the same, over
//! hostnames and zones, if a Service or their owner says which pods belong together.

pub mod filter;
pub mod score;

use kube::core::{Expression, Selector, SelectorExt as _};

use crate::cluster::Cluster;
use crate::node::{HOSTNAME_LABEL, Node, ZONE_LABEL};
use crate::pod::{NO_EXECUTE, NO_SCHEDULE, PodInfo, Spread};

/// Whether the node counts for a constraint.
fn is_eligible(spread: &Spread, pod: &PodInfo, node: &Node) -> bool {
    if spread.honor_affinity && !pod.admits_node(&node.name, &node.labels) {
        return false;
    }
    !spread.honor_taints
        || node
            .taints
            .iter()
            .filter(|taint| [NO_SCHEDULE, NO_EXECUTE].contains(&taint.effect.as_str()))
            .all(|taint| {
                pod.tolerates(&taint.key, taint.value.as_deref().unwrap_or_default(), &taint.effect)
            })
}

/// The system's defaults: soft, hostname 3 and zone 5, for pods that something groups.
fn default_spreads(pod: &PodInfo, cluster: &Cluster) -> Vec<Spread> {
    let selector = grouping_selector(pod, cluster);
    if selector.selects_all() {
        return Vec::new();
    }
    [(HOSTNAME_LABEL, 3), (ZONE_LABEL, 5)]
        .into_iter()
        .map(|(key, max_skew)| Spread {
            max_skew,
            topology_key: key.to_owned(),
            hard: false,
            selector: selector.clone(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        })
        .collect()
}

/// The pods that belong with this one: those of the Services that select it and of its owner.
fn grouping_selector(pod: &PodInfo, cluster: &Cluster) -> Selector {
    let mut labels = std::collections::BTreeMap::new();
    for selector in cluster.services.in_namespace(&pod.key.namespace) {
        if !selector.is_empty()
            && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
        {
            labels.extend(selector.clone());
        }
    }
    let mut selector: Selector = labels.into_iter().collect();
    if let Some((kind, name)) = &pod.owner
        && let Some(owned) = cluster.owners.get(kind, &pod.key.namespace, name)
        && owned.matches(&pod.labels)
    {
        let owned: Vec<Expression> = owned.clone().into_iter().collect();
        selector.extend(owned);
    }
    selector
}
