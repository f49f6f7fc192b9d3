//! Gives every namespace the cluster's CA certificate, as the ConfigMap `kube-root-ca.crt`.
//!
//! Owns: that one ConfigMap. Must not know: who made the CA. A newcomer's trap: it is brought back
//! when someone changes or deletes it.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, PostParams};

use self::plan::Step;
use crate::worker::{Error, Reconcile, code_of};
use crate::{Context, worker};

struct RootCa {
    client: Client,
    pem: String,
    namespaces: Arc<Cache<Namespace>>,
    config_maps: Arc<Cache<ConfigMap>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, pem: &str) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let to = queue.clone();
    caches.namespaces.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let to = queue.clone();
    caches.root_ca_maps.subscribe(move |change| {
        to.add(Key::new("", Key::of(change.latest().as_ref()).namespace));
    });
    let controller = Arc::new(RootCa {
        client: context.client.clone(),
        pem: pem.to_owned(),
        namespaces: caches.namespaces.clone(),
        config_maps: caches.root_ca_maps.clone(),
    });
    worker::spawn(context, controller, queue, 1);
}

impl Reconcile for RootCa {
    type Key = Key;
    const NAME: &'static str = "root-ca-certificate-publisher";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let namespace = self.namespaces.get(key);
        let present = self.config_maps.get(&Key::new(key.name.clone(), plan::NAME));
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let written = match plan::plan(namespace.as_deref(), present.as_deref(), &self.pem) {
            None => return Ok(None),
            Some(Step::Create(map)) => api.create(&PostParams::default(), &map).await,
            Some(Step::Replace(map)) => api.replace(plan::NAME, &PostParams::default(), &map).await,
        };
        match written {
            Err(error) if !matches!(code_of(&error), 403 | 404 | 409) => Err(error.into()),
            // Changed meanwhile: the watch will bring us back.
            _ => Ok(None),
        }
    }
}
