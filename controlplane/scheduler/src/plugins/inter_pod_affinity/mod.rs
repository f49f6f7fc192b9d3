//! InterPodAffinity: pods that want to be near other pods, or away from them.
//!
//! Owns: the terms of a pod, compiled. Must not know: nodes' own rules. A newcomer's trap: a pod
//! already placed can keep a new one away, though the new one says nothing.

pub mod filter;
pub mod score;

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm, WeightedPodAffinityTerm};
use kube::core::{Expression, Selector, SelectorExt as _};
use std::collections::{BTreeMap, BTreeSet};

use crate::pod::{PodInfo, compile_selector};
use crate::selector::Labels;

/// One term: which pods, and how near.
#[derive(Clone, Debug)]
pub struct Term {
    namespaces: BTreeSet<String>,
    namespace_selector: Option<Selector>,
    selector: Selector,
    /// The node label whose equal values mean near.
    pub topology_key: String,
}

/// All terms of a pod.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    required: Vec<Term>,
    required_anti: Vec<Term>,
    /// Positive to be near, negative to be away.
    preferred: Vec<(i64, Term)>,
}

// === impl Terms ===

impl Terms {
    /// Compiles the terms of a pod in `namespace` with `labels`.
    pub fn compile(affinity: Option<&Affinity>, namespace: &str, labels: &Labels) -> Self {
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let all = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
            terms.into_iter().flatten().map(|term| Term::compile(term, namespace, labels)).collect()
        };
        let weighted = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| {
            let compile = |one: &WeightedPodAffinityTerm| {
                (
                    sign * i64::from(one.weight),
                    Term::compile(&one.pod_affinity_term, namespace, labels),
                )
            };
            terms.into_iter().flatten().map(compile).collect::<Vec<_>>()
        };
        let mut preferred = weighted(
            near.and_then(|near| {
                near.preferred_during_scheduling_ignored_during_execution.as_ref()
            }),
            1,
        );
        preferred.extend(weighted(
            away.and_then(|away| {
                away.preferred_during_scheduling_ignored_during_execution.as_ref()
            }),
            -1,
        ));
        Self {
            required: all(near.and_then(|near| {
                near.required_during_scheduling_ignored_during_execution.as_ref()
            })),
            required_anti: all(away.and_then(|away| {
                away.required_during_scheduling_ignored_during_execution.as_ref()
            })),
            preferred,
        }
    }

    /// Whether the pod insists on keeping others away.
    pub fn has_required_anti(&self) -> bool {
        !self.required_anti.is_empty()
    }

    /// Whether the pod says anything about being near others or not.
    pub fn has_any(&self) -> bool {
        self.has_required_anti() || !self.required.is_empty() || !self.preferred.is_empty()
    }
}

// === impl Term ===

impl Term {
    fn compile(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut selector = compile_selector(term.label_selector.clone());
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.extend([Expression::Equal(key.clone(), value.clone())]);
            }
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.extend([Expression::NotIn(key.clone(), [value.clone()].into())]);
            }
        }
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let namespace_selector =
            term.namespace_selector.clone().map(|selector| compile_selector(Some(selector)));
        Self { namespaces, namespace_selector, selector, topology_key: term.topology_key.clone() }
    }

    /// Whether the term means `pod`.
    fn means(&self, pod: &PodInfo, namespaces: &BTreeMap<String, Labels>) -> bool {
        let in_namespace = self.namespaces.contains(&pod.key.namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                namespaces.get(&pod.key.namespace).is_some_and(|labels| selector.matches(labels))
            });
        in_namespace && self.selector.matches(&pod.labels)
    }
}
