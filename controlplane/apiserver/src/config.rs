//! What an API server is started with.
//!
//! Owns: the settings and their defaults, which are kube-apiserver's. Must not know: command
//! lines. A newcomer's trap: `listen` is where the socket is bound, `advertise_address` what the
//! service `kubernetes` and certificates tell others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The settings of one API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address others reach this server at; `listen`'s, if that is not unspecified.
    pub advertise_address: Option<IpAddr>,
    /// The store, such as `http://127.0.0.1:2379`.
    pub etcd_endpoints: Vec<String>,
    /// The folder of certificates and keys; created at the first start.
    pub pki_dir: PathBuf,
    /// The addresses of services.
    pub service_cidr: Ipv4Cidr,
    /// The ports of services of type NodePort: first and last.
    pub node_ports: (u16, u16),
    /// Whether a request without credentials is taken as `system:anonymous` (and then mostly
    /// answered 403); if not, it is answered 401. Health and version are open either way.
    pub anonymous_auth: bool,
    /// The issuer of service-account tokens and their default audience.
    pub service_account_issuer: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// More names or addresses for the serving certificate.
    pub extra_names: Vec<String>,
    /// This machine's host name.
    pub hostname: String,
    /// Whether node agents may be reached at loopback addresses: simulated and one-machine
    /// clusters only.
    pub allow_loopback_nodes: bool,
    /// Most read-only requests at a time.
    pub read_only_in_flight_max: usize,
    /// Most mutating requests at a time.
    pub mutating_in_flight_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6443)),
            advertise_address: None,
            etcd_endpoints: vec!["http://127.0.0.1:2379".into()],
            pki_dir: PathBuf::from("/etc/kubernetes/pki"),
            service_cidr: Ipv4Cidr { address: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 },
            node_ports: (30_000, 32_767),
            anonymous_auth: false,
            service_account_issuer: "https://kubernetes.default.svc".into(),
            cluster_domain: "cluster.local".into(),
            extra_names: Vec::new(),
            hostname: "localhost".into(),
            allow_loopback_nodes: false,
            read_only_in_flight_max: 400,
            mutating_in_flight_max: 200,
        }
    }
}

impl Config {
    /// The address others reach this server at.
    pub fn advertised(&self) -> IpAddr {
        let listen = self.listen.ip();
        self.advertise_address.unwrap_or(if listen.is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            listen
        })
    }
}

/// A range of IPv4 addresses, such as `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Cidr {
    /// The first address.
    pub address: Ipv4Addr,
    /// How many bits are the network's.
    pub prefix: u8,
}

impl Ipv4Cidr {
    /// How many addresses the range has.
    pub fn size(self) -> u32 {
        1_u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(u32::MAX)
    }

    /// The address at `offset`, if it is in the range.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        (offset < self.size()).then(|| Ipv4Addr::from(u32::from(self.address) + offset))
    }

    /// Where `address` stands in the range, if it does.
    pub fn offset_of(self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(u32::from(self.address))?;
        (offset < self.size()).then_some(offset)
    }
}

impl std::str::FromStr for Ipv4Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a range of IPv4 addresses such as 10.96.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        // Between 16 million and 4 addresses: less cannot hold the service `kubernetes`.
        if !(8..=30).contains(&prefix) {
            return Err(bad());
        }
        let mask = u32::MAX << (32 - u32::from(prefix));
        Ok(Self { address: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }
}

impl std::fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_from_its_first_address() {
        let range: Ipv4Cidr = "10.96.3.7/16".parse().unwrap();
        assert_eq!(range.to_string(), "10.96.0.0/16");
        assert_eq!((range.size(), range.nth(1)), (65_536, Some(Ipv4Addr::new(10, 96, 0, 1))));
        assert_eq!(range.nth(65_536), None);
        assert_eq!(range.offset_of(Ipv4Addr::new(10, 96, 1, 0)), Some(256));
        assert_eq!(range.offset_of(Ipv4Addr::new(10, 95, 255, 255)), None);
        for bad in ["10.96.0.0", "10.96.0.0/33", "10.96.0.0/31", "x/16", "fd00::/64"] {
            assert!(bad.parse::<Ipv4Cidr>().is_err(), "{bad}");
        }
    }
}
