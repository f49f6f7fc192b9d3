//! The few things the pod workers ask of the Kubernetes API, behind a trait.
//!
//! [`Kube`] is the real API; tests put their own objects behind [`ObjectSource`]. Must not know:
//! what a worker does with an object. A newcomer's trap: `None` means "does not exist", which an
//! optional reference accepts; an error means "not known", which nobody may take for "no".

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, Service, ServiceAccount};
use kijabi_base::tasks::Shutdown;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use serde_json::Value;

use crate::node::is_reason;

/// Why the API did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The object does not exist (any more).
    #[error("{0}")]
    NotFound(String),
    /// It is another object by now (uid or version).
    #[error("{0}")]
    Conflict(String),
    /// Anything else; trying again may help.
    #[error("{0}")]
    Other(String),
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.reason == "NotFound" => {
                Self::NotFound(status.message.clone())
            }
            kube::Error::Api(status) if status.reason == "Conflict" => {
                Self::Conflict(status.message.clone())
            }
            kube::Error::Api(status) => Self::Other(status.message.clone()),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// A change of the pods bound to a node.
#[derive(Clone, Debug)]
pub enum PodChange {
    /// All there are; what is not among them is gone.
    Listed(Vec<Pod>),
    /// New or changed.
    Applied(Box<Pod>),
    /// Gone.
    Deleted(Box<Pod>),
}

/// Objects of the Kubernetes API.
#[async_trait::async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    /// The pods bound to a node, for ever.
    fn pods(&self, node: &str) -> BoxStream<'static, PodChange>;
    /// A ConfigMap.
    async fn config_map(&self, ns: &str, name: &str) -> Result<Option<ConfigMap>, ApiError>;
    /// A Secret.
    async fn secret(&self, ns: &str, name: &str) -> Result<Option<Secret>, ApiError>;
    /// All services of a namespace.
    async fn services(&self, ns: &str) -> Result<Vec<Arc<Service>>, ApiError>;
    /// A token for a service account.
    async fn token(
        &self,
        ns: &str,
        account: &str,
        request: &TokenRequest,
    ) -> Result<TokenRequestStatus, ApiError>;
    /// Changes a pod's status (strategic merge patch).
    async fn patch_pod_status(&self, ns: &str, name: &str, patch: &Value) -> Result<Pod, ApiError>;
    /// Removes a pod at once, if it still has this uid.
    async fn delete_pod(&self, ns: &str, name: &str, uid: &str) -> Result<(), ApiError>;
    /// Records an event.
    async fn create_event(&self, event: &Event) -> Result<(), ApiError>;
    /// Counts an event again.
    async fn patch_event(&self, ns: &str, name: &str, patch: &Value) -> Result<(), ApiError>;
}

/// The real API. Clones share the cache of services.
#[derive(Clone)]
pub struct Kube {
    client: kube::Client,
    services: kube::runtime::reflector::Store<Service>,
}

impl Kube {
    /// Starts watching services; everything else is asked for when it is needed.
    pub fn new(client: kube::Client, shutdown: Shutdown) -> Self {
        let (services, writer) = kube::runtime::reflector::store();
        let stream =
            watcher::watcher(Api::<Service>::all(client.clone()), watcher::Config::default());
        kijabi_base::tasks::spawn_until("service-cache", shutdown, async move {
            let mut stream = std::pin::pin!(kube::runtime::reflector(writer, retrying(stream)));
            while stream.next().await.is_some() {}
        });
        Self { client, services }
    }
}

/// Waits a little after an error, so that an API that is down is not asked without pause.
fn retrying<S, T>(stream: S) -> impl futures::Stream<Item = Result<T, watcher::Error>> + Send
where
    S: futures::Stream<Item = Result<T, watcher::Error>> + Send,
    T: Send,
{
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
    stream.then(|item| async {
        if let Err(error) = &item {
            tracing::debug!(%error, "a watch ended; it is opened again");
            tokio::time::sleep(PAUSE).await;
        }
        item
    })
}

#[async_trait::async_trait]
impl ObjectSource for Kube {
    fn pods(&self, node: &str) -> BoxStream<'static, PodChange> {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let stream = retrying(watcher::watcher(Api::<Pod>::all(self.client.clone()), config));
        // A list arrives pod by pod between Init and InitDone; it is one change for us.
        let listed: Option<Vec<Pod>> = None;
        let changes = stream.scan(listed, |listed, item| {
            let change = match item {
                Ok(watcher::Event::Init) => {
                    *listed = Some(Vec::new());
                    None
                }
                Ok(watcher::Event::InitApply(pod)) => {
                    listed.get_or_insert_default().push(pod);
                    None
                }
                Ok(watcher::Event::InitDone) => listed.take().map(PodChange::Listed),
                Ok(watcher::Event::Apply(pod)) => Some(PodChange::Applied(Box::new(pod))),
                Ok(watcher::Event::Delete(pod)) => Some(PodChange::Deleted(Box::new(pod))),
                Err(_) => None,
            };
            futures::future::ready(Some(change))
        });
        changes.filter_map(futures::future::ready).boxed()
    }

    async fn config_map(&self, ns: &str, name: &str) -> Result<Option<ConfigMap>, ApiError> {
        Ok(Api::<ConfigMap>::namespaced(self.client.clone(), ns).get_opt(name).await?)
    }

    async fn secret(&self, ns: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        Ok(Api::<Secret>::namespaced(self.client.clone(), ns).get_opt(name).await?)
    }

    async fn services(&self, ns: &str) -> Result<Vec<Arc<Service>>, ApiError> {
        self.services
            .wait_until_ready()
            .await
            .map_err(|error| ApiError::Other(error.to_string()))?;
        let of_namespace =
            |service: &Arc<Service>| service.metadata.namespace.as_deref() == Some(ns);
        Ok(self.services.state().into_iter().filter(of_namespace).collect())
    }

    async fn token(
        &self,
        ns: &str,
        account: &str,
        request: &TokenRequest,
    ) -> Result<TokenRequestStatus, ApiError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), ns);
        let answer =
            accounts.create_token_request(account, &PostParams::default(), request).await?;
        answer.status.ok_or_else(|| ApiError::Other("the token request has no status".to_owned()))
    }

    async fn patch_pod_status(&self, ns: &str, name: &str, patch: &Value) -> Result<Pod, ApiError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), ns);
        Ok(pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?)
    }

    async fn delete_pod(&self, ns: &str, name: &str, uid: &str) -> Result<(), ApiError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), ns);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        pods.delete(name, &params).await?;
        Ok(())
    }

    async fn create_event(&self, event: &Event) -> Result<(), ApiError> {
        let ns = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &ns);
        match events.create(&PostParams::default(), event).await {
            // A namespace that is being deleted takes no events; nobody would read them.
            Err(error) if is_reason(&error, "Forbidden") => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    async fn patch_event(&self, ns: &str, name: &str, patch: &Value) -> Result<(), ApiError> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), ns);
        events.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        Ok(())
    }
}
