//! What the server itself puts into an empty cluster and keeps there.
//!
//! Owns: the system namespaces, and the service `kubernetes` with its endpoints. Must not know: how
//! objects are stored. A newcomer's trap: several servers do this at the same time; each step must
//! be fine with another having done it first.

mod peers;
mod service;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kijabi_base::tasks::Shutdown;
use serde_json::json;

use crate::loopback::{Loopback, Refused};

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];
const RETRY: Duration = Duration::from_millis(500);
/// How often the endpoints are looked after.
const PERIOD: Duration = Duration::from_secs(10);

/// What is put there.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The way in.
    pub client: Loopback,
    /// This server's address for others.
    pub address: IpAddr,
    /// This server's port.
    pub port: u16,
    /// The service's address.
    pub service_address: IpAddr,
    /// Whose lease says that this server lives.
    pub hostname: String,
    /// Set once everything was there.
    pub done: Arc<AtomicBool>,
}

impl Bootstrap {
    /// Puts everything there and keeps it until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut peers = peers::Peers::new(&self.hostname, self.address, self.port);
        loop {
            let outcome = self.once(&mut peers).await;
            let pause = match outcome {
                Ok(()) => {
                    self.done.store(true, Ordering::Relaxed);
                    PERIOD
                }
                Err(error) => {
                    tracing::warn!(%error, "the cluster's own objects are not in place yet");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.wait() => break,
            }
        }
    }

    async fn once(&self, peers: &mut peers::Peers) -> Result<(), Refused> {
        for name in NAMESPACES {
            let path = format!("/api/v1/namespaces/{name}");
            if self.client.get(&path).await?.is_none() {
                let namespace = json!({"metadata": {"name": name}});
                self.client.ensure("/api/v1/namespaces", &namespace).await?;
            }
        }
        service::ensure(&self.client, self.service_address, self.port).await?;
        let alive = peers.renew(&self.client).await?;
        service::reconcile_endpoints(&self.client, &alive, self.port).await
    }
}
