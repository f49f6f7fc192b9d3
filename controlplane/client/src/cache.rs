//! A set of API objects kept up to date by a watch, with indexes, and subscribers told of changes.
//!
//! Owns: the local copy. Must not know: why anyone wants it. A newcomer's trap: subscribers run on
//! the watch's own task, in order, after the copy changed; they must only note keys, never wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kijabi_base::tasks::{self, Shutdown};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::limits;

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace, or empty.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object appeared (`old` is none), changed, or went (`new` is none).
#[derive(Debug)]
pub struct Change<K> {
    /// As it was known before.
    pub old: Option<Arc<K>>,
    /// As it is now.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest form there is of the object.
    pub fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has a before or an after")
    }
}

/// Which index entries an object belongs to.
pub type IndexFn<K> = fn(&K) -> Vec<String>;

type Subscriber<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Index<K> {
    name: &'static str,
    values_of: IndexFn<K>,
    entries: BTreeMap<String, BTreeSet<Key>>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    indexes: Vec<Index<K>>,
}

/// The local copy of all objects of one kind that a watch selects.
pub struct Cache<K> {
    inner: RwLock<Inner<K>>,
    subscribers: RwLock<Vec<Subscriber<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("objects", &self.inner.read().objects.len())
            .finish_non_exhaustive()
    }
}

// === impl Cache ===

impl<K: Resource + 'static> Cache<K> {
    /// An empty cache with these indexes.
    pub fn new(indexes: &[(&'static str, IndexFn<K>)]) -> Arc<Self> {
        let indexes = indexes
            .iter()
            .map(|&(name, values_of)| Index { name, values_of, entries: BTreeMap::new() })
            .collect();
        Arc::new(Self {
            inner: RwLock::new(Inner { objects: BTreeMap::new(), indexes }),
            subscribers: RwLock::default(),
            synced: watch::Sender::new(false),
        })
    }

    /// Calls `subscriber` for every change from now on. It runs on the watch's task: never wait.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.subscribers.write().push(Box::new(subscriber));
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// All objects, ordered by key.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner
            .read()
            .objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects under `value` of the index `name`, ordered by key.
    pub fn indexed(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let Some(index) = inner.indexes.iter().find(|index| index.name == name) else {
            return Vec::new();
        };
        let Some(keys) = index.entries.get(value) else { return Vec::new() };
        keys.iter().filter_map(|key| inner.objects.get(key).cloned()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first list is in.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Resolves when the first list is in.
    pub async fn wait_synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in self, so it cannot have been dropped.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Puts `object` in, in place of what was there.
    pub fn upsert(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let key = Key::of(&object);
        let new = Arc::new(object);
        let old = self.inner.write().insert(key, new.clone());
        match old {
            Some(old) if old.meta().resource_version == new.meta().resource_version => {}
            // The same name with another identity: the old object was deleted unseen.
            Some(old) if old.meta().uid != new.meta().uid => {
                self.tell(&Change { old: Some(old), new: None });
                self.tell(&Change { old: None, new: Some(new) });
            }
            old => self.tell(&Change { old, new: Some(new) }),
        }
    }

    /// Takes the object at `key` out.
    pub fn remove(&self, key: &Key) {
        let old = self.inner.write().remove(key);
        if let Some(old) = old {
            self.tell(&Change { old: Some(old), new: None });
        }
    }

    /// Makes the cache hold exactly `objects`, as after a fresh list.
    pub fn replace(&self, objects: Vec<K>) {
        let listed: BTreeSet<Key> = objects.iter().map(Key::of).collect();
        let gone: Vec<Key> = self
            .inner
            .read()
            .objects
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        for key in &gone {
            self.remove(key);
        }
        for object in objects {
            self.upsert(object);
        }
        self.synced.send_replace(true);
    }

    fn tell(&self, change: &Change<K>) {
        for subscriber in self.subscribers.read().iter() {
            subscriber(change);
        }
    }
}

impl<K> Inner<K> {
    fn insert(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.objects.insert(key.clone(), object.clone());
        for index in &mut self.indexes {
            let before = old.as_ref().map(|old| (index.values_of)(old)).unwrap_or_default();
            let after = (index.values_of)(&object);
            index.leave(&key, before.iter().filter(|value| !after.contains(value)));
            for value in after {
                index.entries.entry(value).or_default().insert(key.clone());
            }
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        for index in &mut self.indexes {
            let values = (index.values_of)(&old);
            index.leave(key, values.iter());
        }
        Some(old)
    }
}

impl<K> Index<K> {
    fn leave<'a>(&mut self, key: &Key, values: impl Iterator<Item = &'a String>) {
        for value in values {
            if let Some(keys) = self.entries.get_mut(value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.entries.remove(value);
                }
            }
        }
    }
}

/// Keeps `cache` up to date from `api` until `shutdown`.
pub fn spawn_watch<K>(
    name: &'static str,
    api: Api<K>,
    config: watcher::Config,
    cache: Arc<Cache<K>>,
    shutdown: Shutdown,
) -> tokio::task::JoinHandle<()>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
{
    let events = watcher::watcher(api, config.page_size(limits::LIST_PAGE_OBJECTS));
    tasks::spawn_until(name, shutdown, follow(name, events, cache))
}

/// The failure of a watch in a row that is worth a line in the log.
const FAILURES_TO_TELL: u32 = 4;

/// Feeds a watcher's events into `cache`. A whole relist is put in at once.
pub async fn follow<K, S>(name: &'static str, events: S, cache: Arc<Cache<K>>)
where
    K: Resource + 'static,
    S: futures::Stream<Item = Result<Event<K>, watcher::Error>>,
{
    pin_mut!(events);
    let mut listed = Vec::new();
    let mut failures = 0_u32;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.push(object),
            Ok(Event::InitDone) => {
                failures = 0;
                cache.replace(std::mem::take(&mut listed));
            }
            Ok(Event::Apply(object)) => {
                failures = 0;
                cache.upsert(object);
            }
            Ok(Event::Delete(object)) => cache.remove(&Key::of(&object)),
            Err(error) => {
                let wait = watch_backoff(failures);
                failures = failures.saturating_add(1);
                // Once for each outage, and not for a connection that was merely renewed.
                if failures == FAILURES_TO_TELL {
                    tracing::warn!(watch = name, %error, "watch fails, trying on");
                } else {
                    tracing::debug!(watch = name, %error, ?wait, "watch failed, trying again");
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// The wait before attempt `failures + 1`: doubling, and spread so that clients do not march in step.
fn watch_backoff(failures: u32) -> Duration {
    let doubled = limits::WATCH_BACKOFF_MIN.saturating_mul(1 << failures.min(10));
    let capped = doubled.min(limits::WATCH_BACKOFF_MAX);
    capped.mul_f64(0.75 + 0.5 * kijabi_base::rng::unit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use parking_lot::Mutex;

    fn pod(name: &str, uid: &str, version: u32, node: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "a", "name": name, "uid": uid, "resourceVersion": version.to_string()},
            "spec": {"nodeName": node, "containers": []},
        }))
        .unwrap()
    }

    fn watched() -> (Arc<Cache<Pod>>, Arc<Mutex<Vec<String>>>) {
        let cache = Cache::<Pod>::new(&[("node", |pod| {
            pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
        })]);
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        cache.subscribe(move |change| {
            let version = |pod: &Option<Arc<Pod>>| {
                pod.as_ref()
                    .map_or("-".to_owned(), |pod| pod.metadata.resource_version.clone().unwrap())
            };
            sink.lock().push(format!(
                "{} {}>{}",
                change.latest().metadata.name.as_ref().unwrap(),
                version(&change.old),
                version(&change.new)
            ));
        });
        (cache, log)
    }

    #[test]
    fn a_relist_reports_only_what_differs() {
        let (cache, log) = watched();
        cache.replace(vec![pod("p", "1", 1, "n"), pod("q", "2", 2, "n")]);
        cache.replace(vec![pod("q", "2", 2, "n"), pod("r", "3", 5, "m")]);
        assert_eq!(*log.lock(), ["p ->1", "q ->2", "p 1>-", "r ->5"]);
        assert!(cache.is_synced());
    }

    #[test]
    fn a_reused_name_is_a_deletion_and_a_creation() {
        let (cache, log) = watched();
        cache.upsert(pod("p", "1", 1, "n"));
        cache.upsert(pod("p", "9", 7, "n"));
        assert_eq!(*log.lock(), ["p ->1", "p 1>-", "p ->7"]);
    }

    #[test]
    fn indexes_follow_moves_and_removals() {
        let (cache, _) = watched();
        cache.upsert(pod("p", "1", 1, "n"));
        cache.upsert(pod("p", "1", 2, "m"));
        assert!(cache.indexed("node", "n").is_empty());
        assert_eq!(cache.indexed("node", "m").len(), 1);
        cache.remove(&Key::new("a", "p"));
        assert!(cache.indexed("node", "m").is_empty() && cache.is_empty());
    }
}
