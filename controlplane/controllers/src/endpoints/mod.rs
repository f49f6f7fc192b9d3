//! Endpoints: the addresses behind each Service, in one object.
//!
//! Owns: keeping that object right. Must not know: slices. A newcomer's trap: Endpoints of Services
//! without a selector belong to whoever made them and are left alone.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};

use self::plan::Step;
use crate::worker::{Error, Reconcile, ignore_not_found};
use crate::{Context, limits, service, worker};

struct EndpointsController {
    client: Client,
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    endpoints: Arc<Cache<Endpoints>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let to = queue.clone();
    caches.services.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let to = queue.clone();
    caches.endpoints.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    service::wake_on_pods(&caches.pods, &caches.services, &queue);
    let controller = Arc::new(EndpointsController {
        client: context.client.clone(),
        services: caches.services.clone(),
        pods: caches.pods.clone(),
        endpoints: caches.endpoints.clone(),
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

impl Reconcile for EndpointsController {
    type Key = Key;
    const NAME: &'static str = "endpoints";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let service = self.services.get(key);
        let present = self.endpoints.get(key);
        let mut pods = Vec::new();
        if let Some(service) = &service {
            pods = self.pods.in_namespace(&key.namespace);
            pods.retain(|pod| service::selects(service, pod));
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        match plan::plan(service.as_deref(), &pods, present.as_deref()) {
            None => {}
            Some(Step::Create(endpoints)) => {
                api.create(&PostParams::default(), &endpoints).await?;
            }
            Some(Step::Replace(endpoints)) => {
                api.replace(&key.name, &PostParams::default(), &endpoints).await?;
            }
            Some(Step::Delete) => {
                ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)?;
            }
        }
        Ok(None)
    }
}
