//! Keeps this node's Node and Lease objects true.
//!
//! Owns: registration, the status loop, the lease loop. Must not know: pods. A newcomer's trap:
//! the Lease is what keeps a node alive in the cluster's eyes; the status is sent only when it
//! changed, or every five minutes.

pub mod machine;
pub mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kijabi_base::tasks::Shutdown;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use self::machine::Pressure;
use self::status::Facts;
use crate::api::ApiError;
use crate::limits::{LEASE_SECONDS, NODE_REPORT_EVERY, NODE_STATUS_EVERY};
use crate::runtime::Runtime;
use crate::time;

/// How long to wait after a failed call before the next try.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// One node's heartbeat.
pub struct Heartbeat {
    /// The API.
    pub client: kube::Client,
    /// What the Node says.
    pub facts: Facts,
    /// The runtime whose health decides whether the node is ready.
    pub runtime: Arc<dyn Runtime>,
    /// The folder whose file system is watched for space; none for a simulated node.
    pub data: Option<PathBuf>,
}

impl Heartbeat {
    /// Registers the Node, or takes over the one of this name. Tries until it works.
    pub async fn register(&self) -> Node {
        loop {
            match self.try_register().await {
                Ok(node) => return node,
                Err(error) => {
                    let error = ApiError::from(error);
                    tracing::warn!(node = self.facts.name, %error, "the node could not be registered");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
            }
        }
    }

    async fn try_register(&self) -> kube::Result<Node> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let wanted = status::registration(&self.facts);
        match nodes.create(&PostParams::default(), &wanted).await {
            Err(error) if is_reason(&error, "AlreadyExists") => {}
            other => return other,
        }
        let node = nodes.get(&self.facts.name).await?;
        let mut patch = json!({"metadata": {"labels": status::labels(&self.facts)}});
        let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref());
        if let (None, Some(cidr)) = (cidr, &self.facts.pod_cidr) {
            patch["spec"] = json!({"podCIDR": cidr, "podCIDRs": [cidr]});
        }
        nodes.patch(&self.facts.name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Keeps status and Lease until `shutdown`.
    pub async fn run(&self, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.wait() => {}
            () = self.keep_status() => {}
            () = self.keep_lease() => {}
        }
    }

    async fn keep_status(&self) {
        let mut last: Option<(NodeStatus, kijabi_base::clock::Instant)> = None;
        loop {
            let wait = match self.report(last.as_ref()).await {
                Ok(sent) => {
                    last = sent.or(last);
                    NODE_STATUS_EVERY
                }
                Err(error) => {
                    let error = ApiError::from(error);
                    tracing::warn!(node = self.facts.name, %error, "the node's status was not sent");
                    last = None;
                    RETRY_EVERY
                }
            };
            // A node that is not ready is looked at often: its pods wait for it.
            let ready = last.as_ref().is_some_and(|(status, _)| is_ready(status));
            tokio::time::sleep(jittered(if ready { wait } else { RETRY_EVERY })).await;
        }
    }

    /// Sends the status if it changed or is due. Gives back what was sent.
    async fn report(
        &self,
        last: Option<&(NodeStatus, kijabi_base::clock::Instant)>,
    ) -> kube::Result<Option<(NodeStatus, kijabi_base::clock::Instant)>> {
        let health = self.runtime.health().await.map_err(|error| error.to_string());
        let images = self.runtime.images().await.unwrap_or_default();
        let pressure = self.data.as_deref().map(Pressure::read).unwrap_or_default();
        let nodes: Api<Node> = Api::all(self.client.clone());
        // As with the kubelet, a Node that somebody deleted is registered again only when the
        // agent starts anew.
        let Some(node) = nodes.get_opt(&self.facts.name).await? else {
            tracing::warn!(node = self.facts.name, "the node was deleted");
            return Ok(None);
        };
        let before = node.status.and_then(|it| it.conditions).unwrap_or_default();
        let now = time::now();
        let status = status::status(&self.facts, &health, pressure, &images, &before, now);
        let clock = kijabi_base::clock::now();
        if let Some((old, sent)) = last
            && !status::differs(old, &status)
            && !status::contradicts(&before, &status)
            && clock.duration_since(*sent) < NODE_REPORT_EVERY
        {
            return Ok(None);
        }
        let patch = Patch::Strategic(json!({"status": status}));
        nodes.patch_status(&self.facts.name, &PatchParams::default(), &patch).await?;
        for short_of in status::new_pressures(&before, &status) {
            tracing::warn!(node = self.facts.name, "{short_of}: no more pods are placed here");
        }
        Ok(Some((status, clock)))
    }

    async fn keep_lease(&self) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let period = Duration::from_secs(LEASE_SECONDS as u64 / 4);
        loop {
            let wait = match self.renew(&leases).await {
                Ok(()) => period,
                Err(error) => {
                    let error = ApiError::from(error);
                    tracing::warn!(node = self.facts.name, %error, "the node's lease was not renewed");
                    RETRY_EVERY
                }
            };
            tokio::time::sleep(jittered(wait)).await;
        }
    }

    /// The Node as owner of the Lease, so that the Lease goes with it.
    async fn owner(&self) -> Option<OwnerReference> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get_opt(&self.facts.name).await.ok()??;
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.facts.name.clone(),
            uid: node.metadata.uid?,
            ..OwnerReference::default()
        })
    }

    async fn renew(&self, leases: &Api<Lease>) -> kube::Result<()> {
        let renewed = MicroTime(time::now());
        let patch = json!({
            "spec": {
                "holderIdentity": self.facts.name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": renewed,
            },
        });
        let name = &self.facts.name;
        match leases.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if is_reason(&error, "NotFound") => {}
            other => return other.map(drop),
        }
        // A Lease without its Node would never go away, so there is none without.
        let Some(owner) = self.owner().await else { return Ok(()) };
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some("kube-node-lease".to_owned()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(renewed),
                ..LeaseSpec::default()
            }),
        };
        leases.create(&PostParams::default(), &lease).await.map(drop)
    }
}

/// A little shorter or longer, so that many nodes started together do not stay in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.96 + 0.08 * kijabi_base::rng::unit())
}

fn is_ready(status: &NodeStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

/// Whether the API refused for this reason.
pub(crate) fn is_reason(error: &kube::Error, reason: &str) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == reason)
}
