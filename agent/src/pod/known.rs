//! The pods of this node as they were last seen and reported, for the node server.
//!
//! Must not know: who asks. A newcomer's trap: it is a copy for readers; workers never read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

/// Pods by uid.
#[derive(Debug, Default)]
pub struct Known(Mutex<BTreeMap<String, Arc<Pod>>>);

impl Known {
    /// Notes a pod's newest state.
    pub(super) fn note(&self, uid: &str, pod: Arc<Pod>) {
        self.0.lock().insert(uid.to_owned(), pod);
    }

    /// Forgets a pod.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// All pods.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.0.lock().values().cloned().collect()
    }

    /// The newest pod of this name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let pods = self.0.lock();
        pods.values()
            .filter(|pod| {
                pod.metadata.namespace.as_deref() == Some(namespace)
                    && pod.metadata.name.as_deref() == Some(name)
            })
            .max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|it| it.0))
            .cloned()
    }
}
