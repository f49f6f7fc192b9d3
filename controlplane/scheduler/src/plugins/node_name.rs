//! NodeName: a pod that names its node goes nowhere else.
//!
//! Owns: that comparison. Must not know: anything else. A newcomer's trap: pods that name a node
//! rarely reach the scheduler at all; they are bound already.

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, View};
use crate::pod::PodInfo;

struct NodeName;

/// Concerns pods that name a node.
pub fn prepare(pod: &PodInfo, _: &mut Cluster) -> Option<Box<dyn Filter>> {
    pod.node_name.as_ref().map(|_| Box::new(NodeName) as Box<dyn Filter>)
}

impl Filter for NodeName {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        if view.pod.node_name.as_deref() == Some(view.node(slot).name.as_str()) {
            Ok(())
        } else {
            Err(Refusal::final_(Plugin::NodeName, Reason::NodeName))
        }
    }
}
