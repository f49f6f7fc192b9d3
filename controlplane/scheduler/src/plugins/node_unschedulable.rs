//! NodeUnschedulable: cordoned nodes take no new pods.
//!
//! Owns: `spec.unschedulable`. Must not know: taints in general. A newcomer's trap: a pod that
//! tolerates the taint `node.kubernetes.io/unschedulable` may still go there, as daemons do.

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, View};
use crate::pod::{NO_SCHEDULE, PodInfo};

const TAINT: &str = "node.kubernetes.io/unschedulable";

struct NodeUnschedulable;

/// Concerns pods that do not tolerate cordoned nodes.
pub fn prepare(pod: &PodInfo, _: &mut Cluster) -> Option<Box<dyn Filter>> {
    (!pod.tolerates(TAINT, "", NO_SCHEDULE)).then(|| Box::new(NodeUnschedulable) as Box<dyn Filter>)
}

impl Filter for NodeUnschedulable {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        if view.node(slot).unschedulable {
            Err(Refusal::final_(Plugin::NodeUnschedulable, Reason::Unschedulable))
        } else {
            Ok(())
        }
    }
}
