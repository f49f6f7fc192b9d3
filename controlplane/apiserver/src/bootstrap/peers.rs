//! Which API servers live: each renews a Lease of its own and looks at the others'.
//!
//! Owns: those leases. Must not know: what the list is used for. A newcomer's trap: clocks of
//! machines differ, so a lease is judged by how long ago, by our own clock, it last changed, never
//! by the time written in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::loopback::{Loopback, Refused};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const ADDRESS: &str = "kijabi.io/apiserver-address";
/// A server that did not renew for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(40);
const LEASE_SECONDS: u64 = 40;

// Differs from Kubernetes: endpoints of the service `kubernetes` follow these Lease objects, not
// keys below /registry/masterleases/.
/// What is known of the servers.
#[derive(Debug)]
pub(super) struct Peers {
    name: String,
    address: IpAddr,
    hostname: String,
    /// Of each lease: the last seen version, and when it was new.
    seen: BTreeMap<String, (String, Instant)>,
}

impl Peers {
    pub(super) fn new(hostname: &str, address: IpAddr, port: u16) -> Self {
        let digest = Sha256::digest(format!("{hostname}/{address}/{port}"));
        let hex: String = digest.iter().take(13).fold(String::new(), |mut hex, byte| {
            use std::fmt::Write as _;
            write!(hex, "{byte:02x}").expect("a String takes all");
            hex
        });
        Self {
            name: format!("apiserver-{hex}"),
            address,
            hostname: hostname.to_owned(),
            seen: BTreeMap::new(),
        }
    }

    /// Renews our own lease, drops those of servers that are gone, and says who lives.
    pub(super) async fn renew(&mut self, client: &Loopback) -> Result<BTreeSet<IpAddr>, Refused> {
        self.renew_own(client).await?;
        let now = clock::now();
        let list = client.get(LEASES).await?.unwrap_or_default();
        let mut alive = BTreeSet::from([self.address]);
        let mut present = BTreeSet::new();
        for lease in list["items"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let meta = &lease["metadata"];
            if meta["labels"][IDENTITY] != "kube-apiserver" {
                continue;
            }
            let (name, version) = (text(&meta["name"]), text(&meta["resourceVersion"]));
            present.insert(name.clone());
            let (last, since) =
                self.seen.entry(name.clone()).or_insert_with(|| (version.clone(), now));
            if *last != version {
                (*last, *since) = (version, now);
            }
            if now.duration_since(*since) > GONE_AFTER && name != self.name {
                client.delete(&format!("{LEASES}/{name}")).await?;
            } else if let Ok(address) = text(&meta["annotations"][ADDRESS]).parse() {
                alive.insert(address);
            }
        }
        self.seen.retain(|name, _| present.contains(name));
        Ok(alive)
    }

    async fn renew_own(&self, client: &Loopback) -> Result<(), Refused> {
        let micros = i64::try_from(clock::wall_ms()).unwrap_or_default();
        let now = jiff::Timestamp::from_millisecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let renewed = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let path = format!("{LEASES}/{}", self.name);
        if let Some(mut lease) = client.get(&path).await? {
            lease["spec"]["renewTime"] = renewed.into();
            return client.update(&path, &lease).await.map(|_| ());
        }
        let lease = json!({
            "metadata": {
                "name": self.name,
                "namespace": "kube-system",
                "labels": {IDENTITY: "kube-apiserver", "kubernetes.io/hostname": self.hostname},
                "annotations": {ADDRESS: self.address.to_string()},
            },
            "spec": {
                "holderIdentity": format!("{}_{}", self.name, self.address),
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": renewed,
            },
        });
        client.ensure(LEASES, &lease).await
    }
}
