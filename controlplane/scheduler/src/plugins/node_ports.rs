//! NodePorts: two pods on one node cannot have the same port of it.
//!
//! Owns: what makes two host ports collide. Must not know: Services' node ports, which are another
//! thing. A newcomer's trap: the address 0.0.0.0 collides with every address.

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, View};
use crate::pod::{HostPort, PodInfo};

struct NodePorts;

/// Concerns pods that want ports of their node.
pub fn prepare(pod: &PodInfo, _: &mut Cluster) -> Option<Box<dyn Filter>> {
    (!pod.host_ports.is_empty()).then(|| Box::new(NodePorts) as Box<dyn Filter>)
}

fn collide(one: &HostPort, other: &HostPort) -> bool {
    let everywhere = |port: &HostPort| port.ip == "0.0.0.0";
    one.port == other.port
        && one.protocol == other.protocol
        && (one.ip == other.ip || everywhere(one) || everywhere(other))
}

impl Filter for NodePorts {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        let taken = &view.node(slot).ports;
        let wanted = &view.pod.host_ports;
        if wanted.iter().any(|one| taken.iter().any(|other| collide(one, other))) {
            Err(Refusal::resolvable(Plugin::NodePorts, Reason::Ports))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_ports_collide() {
        let port = |ip: &str, protocol: &str, port| HostPort {
            ip: ip.to_owned(),
            protocol: protocol.to_owned(),
            port,
        };
        let taken = port("10.0.0.1", "TCP", 80);
        for (wanted, expected) in [
            (port("10.0.0.1", "TCP", 80), true),
            (port("0.0.0.0", "TCP", 80), true),
            (port("10.0.0.2", "TCP", 80), false),
            (port("10.0.0.1", "UDP", 80), false),
            (port("10.0.0.1", "TCP", 81), false),
        ] {
            assert_eq!(collide(&wanted, &taken), expected, "{wanted:?}");
        }
    }
}
