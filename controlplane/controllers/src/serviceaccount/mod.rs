//! Gives every namespace its ServiceAccount `default`, which pods run as unless they say otherwise.
//!
//! Owns: that one account. Must not know: tokens. A newcomer's trap: a namespace that is being deleted
//! must not get it back, or it could never empty.

mod plan;

pub(crate) use self::plan::is_active;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, PostParams};

use crate::worker::{Error, Reconcile, code_of};
use crate::{Context, worker};

struct ServiceAccounts {
    client: Client,
    namespaces: Arc<Cache<Namespace>>,
    accounts: Arc<Cache<ServiceAccount>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let to = queue.clone();
    caches.namespaces.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let to = queue.clone();
    caches.service_accounts.subscribe(move |change| {
        to.add(Key::new("", Key::of(change.latest().as_ref()).namespace));
    });
    let controller = Arc::new(ServiceAccounts {
        client: context.client.clone(),
        namespaces: caches.namespaces.clone(),
        accounts: caches.service_accounts.clone(),
    });
    worker::spawn(context, controller, queue, 1);
}

impl Reconcile for ServiceAccounts {
    type Key = Key;
    const NAME: &'static str = "serviceaccount";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let namespace = self.namespaces.get(key);
        let account = self.accounts.get(&Key::new(key.name.clone(), plan::DEFAULT));
        let Some(account) = plan::plan(namespace.as_deref(), account.as_deref()) else {
            return Ok(None);
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        match api.create(&PostParams::default(), &account).await {
            // There already, or the namespace began to go.
            Err(error) if !matches!(code_of(&error), 403 | 404 | 409) => Err(error.into()),
            _ => Ok(None),
        }
    }
}
