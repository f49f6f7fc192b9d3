//! The scheduler: gives each new pod a node.
//!
//! Owns: the queue of pods, the picture of the cluster, filters and scores, binding. Must not know:
//! the store; it uses the Kubernetes API as any client would. A newcomer's trap: decisions are made
//! one at a time under one lock and in microseconds; only the requests to the API run side by side.

pub mod cluster;
pub mod framework;
pub mod groups;
pub mod limits;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resources;
mod run;
pub mod schedule;
pub mod selector;
#[cfg(test)]
mod testing;
mod watch;

use kijabi_base::tasks::Shutdown;
use kijabi_client::election::Election;

/// What the scheduler needs to run.
#[derive(Clone)]
pub struct Options {
    /// The client to reach the API with.
    pub client: kube::Client,
    /// Who we are in the leader election: unique among schedulers.
    pub identity: String,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Why the scheduler could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identity is empty, so that leaders could not be told apart.
    #[error("the scheduler needs an identity for its leader election")]
    NoIdentity,
}

/// Runs the scheduler until `shutdown`: waits to be leader, places pods while it is.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    if options.identity.is_empty() {
        return Err(Error::NoIdentity);
    }
    let election = Election {
        client: options.client.clone(),
        namespace: "kube-system",
        name: "kube-scheduler",
        identity: options.identity.clone(),
    };
    election.run(&shutdown, |term| run::run_term(options.clone(), term)).await;
    Ok(())
}
