//! Sets of field paths, the form in which `fieldsV1` records who owns what.
//!
//! Owns: set algebra and the JSON form. Must not know: schemas. A newcomer's trap: owning a field does
//! not mean owning what is below it: a path is in the set or not, each for itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A step of a path as `fieldsV1` writes it: `f:name`, `k:{"name":"c"}`, `v:"x"` or `i:0`.
pub(super) type Step = String;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    entries: BTreeMap<Step, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    member: bool,
    below: Set,
}

impl Set {
    /// Adds a path; the empty path is nothing.
    pub(super) fn insert(&mut self, path: &[Step]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = self.entries.entry(first.clone()).or_default();
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.below.insert(rest);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.values().all(|one| !one.member && one.below.is_empty())
    }

    pub(super) fn has(&self, path: &[Step]) -> bool {
        match path.split_first() {
            None => false,
            Some((first, rest)) => self
                .entries
                .get(first)
                .is_some_and(|one| if rest.is_empty() { one.member } else { one.below.has(rest) }),
        }
    }

    /// Whether the set holds the single step.
    pub(super) fn has_step(&self, step: &str) -> bool {
        self.entries.get(step).is_some_and(|one| one.member)
    }

    /// What the set holds below a step, if anything.
    pub(super) fn below(&self, step: &str) -> Option<&Set> {
        self.entries.get(step).map(|one| &one.below).filter(|below| !below.is_empty())
    }

    pub(super) fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        for (step, entry) in &other.entries {
            let own = out.entries.entry(step.clone()).or_default();
            own.member |= entry.member;
            own.below = own.below.union(&entry.below);
        }
        out
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        self.combined(other, |mine, theirs| mine && theirs, Set::intersection)
    }

    /// The paths that `other` does not hold; those below a path that it holds stay.
    pub(super) fn difference(&self, other: &Set) -> Set {
        self.combined(other, |mine, theirs| mine && !theirs, Set::difference)
    }

    fn combined(
        &self,
        other: &Set,
        member: fn(bool, bool) -> bool,
        below: fn(&Set, &Set) -> Set,
    ) -> Set {
        let nothing = Entry::default();
        let mut out = Set::default();
        for (step, mine) in &self.entries {
            let theirs = other.entries.get(step).unwrap_or(&nothing);
            let entry = Entry {
                member: member(mine.member, theirs.member),
                below: below(&mine.below, &theirs.below),
            };
            if entry.member || !entry.below.is_empty() {
                out.entries.insert(step.clone(), entry);
            }
        }
        out
    }

    /// Without the paths of `other` and all that is below them.
    pub(super) fn without_trees(&self, other: &Set) -> Set {
        let mut out = Set::default();
        for (step, mine) in &self.entries {
            match other.entries.get(step) {
                Some(theirs) if theirs.member => {}
                Some(theirs) => {
                    let below = mine.below.without_trees(&theirs.below);
                    if mine.member || !below.is_empty() {
                        out.entries.insert(step.clone(), Entry { member: mine.member, below });
                    }
                }
                None => {
                    out.entries.insert(step.clone(), mine.clone());
                }
            }
        }
        out
    }

    /// All paths: first those of this level, then those below.
    pub(super) fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, path: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        for (step, _) in self.entries.iter().filter(|(_, one)| one.member) {
            out.push(path.iter().chain([step]).cloned().collect());
        }
        for (step, entry) in &self.entries {
            path.push(step.clone());
            entry.below.collect(path, out);
            path.pop();
        }
    }

    /// Makes steps members that have something below them and that `named` says yes to. `named`
    /// gives, for a step, whether it is such a step and what to ask for those below it.
    pub(super) fn with_named<P: Copy>(
        &self,
        place: P,
        named: &impl Fn(P, &str) -> (bool, P),
    ) -> Set {
        let mut out = Set::default();
        for (step, entry) in &self.entries {
            let (is_named, inner) = named(place, step);
            let below = entry.below.with_named(inner, named);
            let member = entry.member || (is_named && !below.is_empty());
            out.entries.insert(step.clone(), Entry { member, below });
        }
        out
    }

    /// The `fieldsV1` form.
    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (step, entry) in &self.entries {
            let mut below = entry.below.to_json();
            let is_empty = below.as_object().is_none_or(Map::is_empty);
            if is_empty && !entry.member {
                continue;
            }
            if entry.member && !is_empty {
                below["."] = Value::Object(Map::new());
            }
            map.insert(step.clone(), below);
        }
        Value::Object(map)
    }

    /// Reads the `fieldsV1` form; steps of unknown kinds are skipped.
    pub(super) fn from_json(value: &Value) -> Set {
        let mut out = Set::default();
        for (step, below) in value.as_object().into_iter().flatten() {
            if !["f:", "k:", "v:", "i:"].iter().any(|kind| step.starts_with(kind)) {
                continue;
            }
            let fields = below.as_object();
            let member = fields.is_none_or(|one| one.is_empty() || one.contains_key("."));
            out.entries.insert(step.clone(), Entry { member, below: Set::from_json(below) });
        }
        out
    }
}

/// A path as error texts show it: `.spec.containers[name="c"].image`.
pub(super) fn shown(path: &[Step]) -> String {
    path.iter().map(|step| shown_step(step)).collect()
}

fn shown_step(step: &str) -> String {
    let (kind, rest) = step.split_at(step.len().min(2));
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let key: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let fields: Vec<_> =
                key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", fields.join(","))
        }
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_json_form_survives() {
        let fields = json!({"f:data": {".": {}, "f:k": {}}, "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}, "f:x": {}});
        assert_eq!(Set::from_json(&fields).to_json(), fields);
    }

    #[test]
    fn algebra() {
        let a = Set::from_json(&json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = Set::from_json(&json!({"f:a": {}, "f:d": {}}));
        assert_eq!(a.difference(&b).to_json(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
        assert_eq!(a.intersection(&b).to_json(), json!({"f:a": {}}));
        assert_eq!(a.without_trees(&b).to_json(), json!({"f:c": {}}));
        assert_eq!(
            a.union(&b).to_json(),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}})
        );
        assert!(a.difference(&a).is_empty());
    }

    #[test]
    fn paths_are_shown_as_kubernetes_shows_them() {
        let set = Set::from_json(
            &json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:name": {}}}, "f:f": {"v:\"x\"": {}}}}),
        );
        let paths: Vec<_> = set.paths().iter().map(|one| shown(one)).collect();
        assert_eq!(paths, [".spec.f[=\"x\"]", ".spec.ports[port=80,protocol=\"TCP\"].name"]);
    }
}
