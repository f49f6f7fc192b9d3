//! EndpointSlices: the addresses behind each Service, at most 100 to an object.
//!
//! Owns: keeping the slices right. Must not know: Endpoints. A newcomer's trap: slices have random
//! names, so a slice just made and not yet in the cache would be made again; expectations prevent it.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};

use self::plan::Step;
use crate::expectations::Expectations;
use crate::worker::{Error, Reconcile, ignore_not_found};
use crate::{Context, limits, service, worker};

pub(crate) use self::plan::service_index;

struct EndpointSlices {
    client: Client,
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    slices: Arc<Cache<EndpointSlice>>,
    expectations: Arc<Expectations>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let expectations = Arc::new(Expectations::default());
    let caches = &context.caches;
    let to = queue.clone();
    caches.services.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let to = queue.clone();
    let expected = expectations.clone();
    caches.slices.subscribe(move |change| {
        let Some(service) = plan::owner_of(change.latest()) else { return };
        let key = Key::new(Key::of(change.latest().as_ref()).namespace, service);
        if change.old.is_none() {
            expected.created(&key);
        }
        if change.new.is_none() {
            let uid = change.latest().metadata.uid.clone().unwrap_or_default();
            expected.deleted(&key, &uid);
        }
        to.add(key);
    });
    service::wake_on_pods(&caches.pods, &caches.services, &queue);
    let controller = Arc::new(EndpointSlices {
        client: context.client.clone(),
        services: caches.services.clone(),
        pods: caches.pods.clone(),
        nodes: caches.nodes.clone(),
        slices: caches.slices.clone(),
        expectations,
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

impl Reconcile for EndpointSlices {
    type Key = Key;
    const NAME: &'static str = "endpointslice";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        if !self.expectations.are_met(key) {
            return Ok(None);
        }
        // Slices of a Service that is gone are the garbage collector's.
        let Some(service) = self.services.get(key) else { return Ok(None) };
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| service::selects(&service, pod));
        let present = self.slices.indexed("service", &key.to_string());
        let zone_of = |node: &str| {
            let node = self.nodes.get(&Key::new("", node))?;
            node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
        };
        for step in plan::plan(&service, &pods, &present, zone_of) {
            self.carry_out(step, key).await?;
        }
        Ok(None)
    }
}

impl EndpointSlices {
    async fn carry_out(&self, step: Step, key: &Key) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        match step {
            Step::Create(slice) => {
                self.expectations.expect_creations(key, 1);
                if let Err(error) = api.create(&PostParams::default(), &slice).await {
                    self.expectations.created(key);
                    return Err(error.into());
                }
            }
            Step::Replace(slice) => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                api.replace(name, &PostParams::default(), &slice).await?;
            }
            Step::Delete { name, uid } => {
                let same = Preconditions { uid: Some(uid), resource_version: None };
                let params = DeleteParams::default().preconditions(same);
                ignore_not_found(api.delete(&name, &params).await)?;
            }
        }
        Ok(())
    }
}
