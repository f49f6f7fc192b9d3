//! Which objects a list or watch asks for.
//!
//! Owns: namespace, labels and fields taken together. Must not know: how they were written. A
//! newcomer's trap: on a watch an object is judged before and after each change, because leaving
//! the selection is a deletion to the watcher.

use kijabi_meta::selector::{FieldSelector, LabelSelector};

use super::Entry;

/// A namespace and two selectors.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The namespace, empty for all.
    pub namespace: String,
    /// The labels.
    pub labels: LabelSelector,
    /// The fields.
    pub fields: FieldSelector,
}

impl Selection {
    /// Everything in a namespace, or in all.
    pub fn all_in(namespace: &str) -> Self {
        Self { namespace: namespace.into(), ..Self::default() }
    }

    /// Whether an object is asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || entry.namespace() == self.namespace)
            && self.labels.matches(|key| entry.label(key))
            && self.fields.matches(|field| entry.field(field).to_owned())
    }

    /// Whether all objects of the namespace are asked for.
    pub fn is_unfiltered(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// The one name that is asked for, if the fields say one.
    pub fn name(&self) -> Option<&str> {
        self.fields.required_value("metadata.name")
    }
}
