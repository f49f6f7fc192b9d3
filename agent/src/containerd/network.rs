//! The pod network of one node: a CNI configuration, one masquerading rule, one that protects
//! the node's loopback.
//!
//! Owns: the bridge's name, the nft table. Must not know: single pods; CNI plugins, called by
//! containerd, give and take their addresses. A newcomer's trap: containerd reports NetworkReady
//! only once a CNI file exists, and it sees a new one by itself.

use std::net::Ipv4Addr;

use serde_json::json;

use super::Paths;
use crate::Error;

/// An IPv4 range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub network: Ipv4Addr,
    /// The length of its prefix.
    pub prefix: u8,
}

impl std::str::FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Config(format!("{text:?} is not an IPv4 range such as 172.16.0.0/24"));
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().ok().filter(|bits| *bits <= 32).ok_or_else(bad)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self { network: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Writes the CNI configuration for the pod range and installs the masquerading rule.
pub async fn configure(paths: &Paths, pods: Cidr, cluster: Option<Cidr>) -> Result<(), Error> {
    if pods.prefix > 30 {
        return Err(Error::Config(format!("the pod range {pods} has no room for a pod")));
    }
    let file = paths.cni_conf.join("10-kijabi.conflist");
    let wanted = serde_json::to_string_pretty(&conflist(paths, pods)).unwrap_or_default();
    if std::fs::read_to_string(&file).is_ok_and(|old| old == wanted) {
        return masquerade(paths, pods, cluster).await;
    }
    // Renamed into place: containerd watches the folder and must not read half a file.
    let part = paths.cni_conf.join(".10-kijabi.part");
    std::fs::write(&part, wanted).map_err(Error::file(&part))?;
    std::fs::rename(&part, &file).map_err(Error::file(&file))?;
    masquerade(paths, pods, cluster).await
}

fn conflist(paths: &Paths, pods: Cidr) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": format!("kijabi-{}", paths.id),
        "plugins": [
            {
                "type": "bridge",
                "bridge": paths.bridge(),
                "isGateway": true,
                "hairpinMode": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": paths.cni_ipam,
                    "ranges": [[{"subnet": pods.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// One rule for the whole node, instead of one iptables chain a pod as the plugin's `ipMasq` makes.
async fn masquerade(paths: &Paths, pods: Cidr, cluster: Option<Cidr>) -> Result<(), Error> {
    let table = paths.nft_table();
    let inside = cluster.unwrap_or(pods);
    let bridge = paths.bridge();
    // The port mapping plugin lets the bridge route loopback addresses, so that a host port also
    // answers on 127.0.0.1. Without the second chain a pod could then reach every service of the
    // node that listens on loopback only (CVE-2020-8558).
    let rules = format!(
        "add table ip {table}\nflush table ip {table}\ntable ip {table} {{\n\
           chain postrouting {{\n\
             type nat hook postrouting priority 100; policy accept;\n\
             ip saddr {pods} ip daddr != {inside} ip daddr != 224.0.0.0/4 masquerade\n\
           }}\n\
           chain loopback {{\n\
             type filter hook prerouting priority -300; policy accept;\n\
             iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop\n\
           }}\n\
         }}\n"
    );
    nft(&rules).await
}

/// Removes the table; one that is not there is fine.
pub(super) async fn remove_masquerade(paths: &Paths) -> Result<(), Error> {
    let table = paths.nft_table();
    // Adding first makes the deletion succeed whether or not the table was there.
    nft(&format!("add table ip {table}\ndelete table ip {table}\n")).await
}

async fn nft(rules: &str) -> Result<(), Error> {
    use tokio::io::AsyncWriteExt as _;

    let mut child = crate::command::command("nft")
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| Error::Missing { program: "nft", hint: "apt-get install nftables" })?;
    let mut stdin = child.stdin.take().expect("stdin was asked for above");
    let _ = stdin.write_all(rules.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(Error::file("nft"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: "nft -f -".to_owned(),
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_cut_to_their_prefix() {
        let cases = [
            ("172.16.3.7/24", Some("172.16.3.0/24")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("1.2.3.4/0", Some("0.0.0.0/0")),
            ("1.2.3.4/32", Some("1.2.3.4/32")),
            ("1.2.3.4/33", None),
            ("1.2.3.4", None),
            ("fd00::/64", None),
        ];
        for (text, wanted) in cases {
            let read = text.parse::<Cidr>().ok().map(|cidr| cidr.to_string());
            assert_eq!(read.as_deref(), wanted, "{text}");
        }
    }
}
