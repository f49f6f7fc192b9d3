//! The controllers: each watches some kinds and brings the cluster nearer to what they ask for.
//!
//! Owns: one folder a controller; `plan.rs` thinks, `reconcile.rs` acts. Must not know: the store; all
//! goes through the Kubernetes API, as with any client. A newcomer's trap: caches are shared and lag
//! behind; no controller may take what it reads there for the present state.

mod caches;
mod deployment;
mod endpoints;
mod endpointslice;
mod expectations;
mod gc;
mod limits;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod owner;
mod podgc;
mod pods;
mod replicaset;
mod rootca;
mod service;
mod serviceaccount;
mod tainteviction;
#[cfg(test)]
mod testing;
mod worker;

use std::sync::Arc;

use kijabi_base::tasks::Shutdown;
use kijabi_client::election::Election;
use kijabi_client::events::{EventApi, Recorder};
use tokio::sync::watch;

use self::caches::Caches;

/// What the controllers need to run.
#[derive(Clone)]
pub struct Options {
    /// The client to reach the API with.
    pub client: kube::Client,
    /// The cluster's CA certificate, given to every namespace as `kube-root-ca.crt`.
    pub root_ca_pem: String,
    /// The range pods' addresses come from, such as `172.16.0.0/16`; each node gets a /24 of it.
    pub cluster_cidr: String,
    /// Who we are in the leader election: unique among controller managers.
    pub identity: String,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("cluster_cidr", &self.cluster_cidr)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Why the controllers could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identity is empty, so that leaders could not be told apart.
    #[error("the controllers need an identity for their leader election")]
    NoIdentity,
    /// The range for pods is not one.
    #[error(
        "invalid cluster CIDR {0:?}: want an IPv4 range of /24 or larger, such as 172.16.0.0/16"
    )]
    ClusterCidr(String),
}

/// What every controller is started with.
struct Context {
    client: kube::Client,
    caches: Caches,
    term: Shutdown,
    identity: String,
    /// True once all caches have listed.
    ready: watch::Receiver<bool>,
}

impl Context {
    /// A recorder under the name users know the controller by.
    fn recorder(&self, component: &'static str) -> Recorder {
        let (client, identity) = (self.client.clone(), self.identity.clone());
        Recorder::spawn(client, component, identity, EventApi::Core, self.term.clone())
    }
}

/// Runs the controllers until `shutdown`: waits to be leader, works while it is.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    if options.identity.is_empty() {
        return Err(Error::NoIdentity);
    }
    let range = nodeipam::Range::parse(&options.cluster_cidr)
        .ok_or_else(|| Error::ClusterCidr(options.cluster_cidr.clone()))?;
    let options = Arc::new(options);
    let election = Election {
        client: options.client.clone(),
        namespace: "kube-system",
        name: "kube-controller-manager",
        identity: options.identity.clone(),
    };
    election.run(&shutdown, |term| run_term(options.clone(), range, term)).await;
    Ok(())
}

/// One term of leadership: fresh caches, all controllers, until it ends.
async fn run_term(options: Arc<Options>, range: nodeipam::Range, term: Shutdown) {
    let (all_listed, ready) = watch::channel(false);
    let context = Context {
        client: options.client.clone(),
        caches: Caches::new(),
        term: term.clone(),
        identity: options.identity.clone(),
        ready,
    };
    // Subscribed before the watches start, so that no change is missed.
    serviceaccount::start(&context);
    rootca::start(&context, &options.root_ca_pem);
    nodeipam::start(&context, range);
    nodelifecycle::start(&context);
    tainteviction::start(&context);
    deployment::start(&context);
    replicaset::start(&context);
    endpoints::start(&context);
    endpointslice::start(&context);
    namespace::start(&context);
    podgc::start(&context);
    gc::start(&context);
    context.caches.watch(&context.client, &term);
    tokio::select! {
        () = term.wait() => return,
        () = context.caches.wait_synced() => {}
    }
    all_listed.send_replace(true);
    term.wait().await;
}
