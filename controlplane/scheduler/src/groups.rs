//! Which pods belong together: the selectors of Services and of the owners of pods.
//!
//! Owns: those selectors by key. Must not know: what they are used for (default spreading). A
//! newcomer's trap: a Service without a selector groups nothing.

use std::collections::BTreeMap;

use kijabi_client::Key;
use kube::core::Selector;

use crate::selector::Labels;

/// The selectors of Services.
#[derive(Debug, Default)]
pub struct Services(BTreeMap<Key, Labels>);

/// The selectors of ReplicaSets and the like, by kind.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<(String, Key), Selector>);

// === impl Services ===

impl Services {
    /// Takes over a Service's selector.
    pub fn insert(&mut self, key: Key, selector: Labels) {
        self.0.insert(key, selector);
    }

    /// The Service is gone.
    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// The selectors of one namespace's Services.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Labels> {
        self.0
            .range(Key::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, selector)| selector)
    }
}

// === impl Owners ===

impl Owners {
    /// Takes over an owner's selector.
    pub fn insert(&mut self, kind: &str, key: Key, selector: Selector) {
        self.0.insert((kind.to_owned(), key), selector);
    }

    /// The owner is gone.
    pub fn remove(&mut self, kind: &str, key: &Key) {
        self.0.remove(&(kind.to_owned(), key.clone()));
    }

    /// The selector of an owner.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Selector> {
        self.0.get(&(kind.to_owned(), Key::new(namespace, name)))
    }
}
