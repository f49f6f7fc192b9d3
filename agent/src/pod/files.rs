//! The texts of a pod's /etc/hosts and resolv.conf, and its names. Pure.
//!
//! A newcomer's trap: dnsPolicy `ClusterFirst` without a cluster DNS falls back to the node's
//! resolv.conf, and so does every pod on the host's network unless it says otherwise.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::NodeContext;
use crate::runtime::Dns;

/// Longest hostname Linux takes.
const HOSTNAME_MAX: usize = 63;

/// The name the kernel shows in the pod: its hostname, or its full DNS name if it asks for that.
pub(super) fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> String {
    let full = pod.spec.as_ref().and_then(|it| it.set_hostname_as_fqdn).unwrap_or_default();
    let host = hostname(pod);
    match domain(pod, cluster_domain).filter(|_| full) {
        Some(domain) => format!("{host}.{domain}"),
        None => host,
    }
}

/// The pod's hostname: its own wish, or its name cut to what Linux takes.
pub(super) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let name = spec
        .and_then(|it| it.hostname_override.clone().or_else(|| it.hostname.clone()))
        .filter(|it| !it.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The pod's name in the cluster's DNS, if it asked for one with `subdomain`.
fn domain(pod: &Pod, cluster: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_ref().filter(|it| !it.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{subdomain}.{namespace}.svc.{cluster}"))
}

/// /etc/hosts of a pod.
pub(super) fn hosts(pod: &Pod, ip: Option<&str>, node: &NodeContext) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         fe00::\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let host = hostname(pod);
    if let Some(ip) = ip {
        let line = match domain(pod, &node.cluster_domain) {
            Some(domain) => format!("{ip}\t{host}.{domain}\t{host}\n"),
            None => format!("{ip}\t{host}\n"),
        };
        text.push_str(&line);
    }
    aliases(pod, &mut text);
    text
}

/// /etc/hosts of a pod on the host's network: the node's own, and the pod's aliases.
pub(super) fn host_network_hosts(pod: &Pod, node_hosts: &str) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{node_hosts}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    aliases(pod, &mut text);
    text
}

fn aliases(pod: &Pod, text: &mut String) {
    let aliases = pod.spec.as_ref().and_then(|it| it.host_aliases.as_ref());
    let Some(aliases) = aliases.filter(|it| !it.is_empty()) else { return };
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.extend([&alias.ip, "\t", &names, "\n"]);
    }
}

/// Name resolution of a pod by its dnsPolicy. `node` is the node's own resolv.conf.
pub(super) fn dns(pod: &Pod, context: &NodeContext, node: &str) -> Dns {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let host_network = spec.host_network.unwrap_or_default();
    let of_cluster = !context.cluster_dns.is_empty()
        && match spec.dns_policy.as_deref() {
            Some("ClusterFirstWithHostNet") => true,
            Some("Default" | "None") => false,
            _ => !host_network,
        };
    let mut dns = match spec.dns_policy.as_deref() {
        Some("None") => Dns::default(),
        _ if of_cluster => cluster_dns(pod, context, node),
        _ => parse(node),
    };
    if let Some(wish) = &spec.dns_config {
        let add = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
            for it in
                more.iter().flatten().filter(|it| !list.contains(it)).cloned().collect::<Vec<_>>()
            {
                list.push(it);
            }
        };
        add(&mut dns.servers, &wish.nameservers);
        add(&mut dns.searches, &wish.searches);
        for option in wish.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            let text = match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            };
            dns.options.retain(|known| known.split(':').next() != Some(name));
            dns.options.push(text);
        }
    }
    dns
}

fn cluster_dns(pod: &Pod, context: &NodeContext, node: &str) -> Dns {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &context.cluster_domain;
    let mut searches =
        vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    searches.extend(parse(node).searches);
    Dns {
        servers: context.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn parse(resolv_conf: &str) -> Dns {
    let mut dns = Dns::default();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        let list = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search") => dns.searches = list(words),
            Some("options") => dns.options = list(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(dns: &[[u8; 4]]) -> NodeContext {
        NodeContext {
            name: "w1".to_owned(),
            ip: [10, 0, 0, 1].into(),
            runtime_name: "containerd".to_owned(),
            pods_max: 110,
            allocatable: (1, 1),
            cluster_dns: dns.iter().map(|ip| (*ip).into()).collect(),
            cluster_domain: "cluster.local".to_owned(),
            cgroup: "/k".to_owned(),
        }
    }

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))
            .unwrap()
    }

    const NODE: &str = "nameserver 8.8.8.8\nsearch corp\noptions rotate\n# x\n";

    #[test]
    fn resolv_conf_follows_the_dns_policy() {
        let cases = [
            (
                json!({"dnsPolicy": "ClusterFirst"}),
                "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp | ndots:5",
            ),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), "8.8.8.8 | corp | rotate"),
            (
                json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true, "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
                "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp | ndots:2",
            ),
            (json!({"dnsPolicy": "Default"}), "8.8.8.8 | corp | rotate"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"]}}),
                "1.1.1.1 | a | ",
            ),
        ];
        for (spec, wanted) in cases {
            let dns = dns(&pod(spec.clone()), &context(&[[10, 96, 0, 10]]), NODE);
            let text = [dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" ")];
            assert_eq!(text.join(" | "), wanted, "{spec}");
        }
        let without = dns(&pod(json!({"dnsPolicy": "ClusterFirst"})), &context(&[]), NODE);
        assert_eq!(without.servers, ["8.8.8.8"], "no cluster DNS: the node's");
    }

    #[test]
    fn hosts_has_the_pods_names_and_aliases() {
        let pod = pod(json!({"hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let hosts = hosts(&pod, Some("172.16.0.9"), &context(&[]));
        assert!(hosts.contains("172.16.0.9\th.s.n.svc.cluster.local\th\n"), "{hosts}");
        assert!(hosts.ends_with("1.2.3.4\ta\tb\n"), "{hosts}");
    }

    #[test]
    fn a_long_name_is_cut_to_a_hostname() {
        let mut pod = pod(json!({}));
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(9)));
        assert_eq!(hostname(&pod), "a".repeat(62));
    }
}
