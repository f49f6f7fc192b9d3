//! Node selectors: the language of node affinity, compiled once per pod.
//!
//! Owns: matching nodes. Must not know: weights and policies. A newcomer's trap: a term without any
//! requirement matches nothing, while an absent selector matches everything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector as ApiNodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
    /// An operator or operand the API does not allow: matches nothing.
    Never,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

/// One term: all of its requirements must hold.
#[derive(Clone, Debug)]
pub struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// Several terms: any of them may hold.
#[derive(Clone, Debug)]
pub struct NodeSelector {
    terms: Vec<Term>,
}

// === impl Requirement ===

impl Requirement {
    fn compile(requirement: &NodeSelectorRequirement) -> Self {
        let values = requirement.values.clone().unwrap_or_default();
        let number = || values.first().and_then(|value| value.parse::<i64>().ok());
        let test = match requirement.operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => number().map_or(Test::Never, Test::GreaterThan),
            "Lt" => number().map_or(Test::Never, Test::LessThan),
            _ => Test::Never,
        };
        Self { key: requirement.key.clone(), test }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Test::NotIn(values) => {
                !value.is_some_and(|value| values.iter().any(|one| one == value))
            }
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Test::LessThan(bound) => number().is_some_and(|number| number < *bound),
            Test::Never => false,
        }
    }
}

// === impl Term ===

impl Term {
    /// Compiles one term.
    pub fn compile(term: &NodeSelectorTerm) -> Self {
        let compile = |requirements: &Option<Vec<NodeSelectorRequirement>>| {
            requirements.iter().flatten().map(Requirement::compile).collect()
        };
        Self { labels: compile(&term.match_expressions), fields: compile(&term.match_fields) }
    }

    /// Whether the node of this name and labels matches.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let label = |key: &str| labels.get(key).map(String::as_str);
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|one| one.holds(label(&one.key)))
            && self.fields.iter().all(|one| {
                // The API knows no other field of a node here.
                one.key == "metadata.name" && one.holds(Some(name))
            })
    }

    /// The only node names this term can match, if it says so by `metadata.name`.
    fn names(&self) -> Option<&[String]> {
        self.fields.iter().find_map(|one| match &one.test {
            Test::In(names) if one.key == "metadata.name" => Some(names.as_slice()),
            _ => None,
        })
    }
}

// === impl NodeSelector ===

impl NodeSelector {
    /// Compiles a selector.
    pub fn compile(selector: &ApiNodeSelector) -> Self {
        Self { terms: selector.node_selector_terms.iter().map(Term::compile).collect() }
    }

    /// Whether the node of this name and labels matches.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.terms.iter().any(|term| term.matches(name, labels))
    }

    /// The only node names this selector can match, if every term names its nodes.
    pub fn names(&self) -> Option<Vec<&str>> {
        let mut all = Vec::new();
        for term in &self.terms {
            all.extend(term.names()?.iter().map(String::as_str));
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requirements() {
        let labels = Labels::from([("disk".into(), "ssd".into()), ("cores".into(), "8".into())]);
        for (key, operator, values, expected) in [
            ("disk", "In", json!(["hdd", "ssd"]), true),
            ("disk", "NotIn", json!(["ssd"]), false),
            ("zone", "NotIn", json!(["a"]), true),
            ("zone", "In", json!(["a"]), false),
            ("disk", "Exists", json!(null), true),
            ("zone", "DoesNotExist", json!(null), true),
            ("cores", "Gt", json!(["7"]), true),
            ("cores", "Lt", json!(["8"]), false),
            ("disk", "Gt", json!(["1"]), false),
            ("cores", "Gt", json!(["many"]), false),
            ("disk", "Like", json!(["ssd"]), false),
        ] {
            let term = serde_json::from_value(json!({
                "matchExpressions": [{"key": key, "operator": operator, "values": values}]
            }))
            .unwrap();
            let matched = Term::compile(&term).matches("n", &labels);
            assert_eq!(matched, expected, "{key} {operator} {values}");
        }
    }

    #[test]
    fn an_empty_term_matches_nothing_and_names_are_found() {
        let selector = |terms: serde_json::Value| {
            let api = serde_json::from_value(json!({ "nodeSelectorTerms": terms })).unwrap();
            NodeSelector::compile(&api)
        };
        assert!(!selector(json!([{}])).matches("n", &Labels::new()));
        let by_name =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]});
        let by_label = json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]});
        assert_eq!(selector(json!([by_name])).names(), Some(vec!["a"]));
        assert!(selector(json!([by_name])).matches("a", &Labels::new()));
        assert_eq!(selector(json!([by_name, by_label])).names(), None);
    }
}
