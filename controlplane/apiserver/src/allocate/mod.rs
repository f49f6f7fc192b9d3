//! Service addresses and node ports: taken when a service is stored, given back when it goes.
//!
//! Owns: which are taken for which service, and the words of a refusal. Must not know: how they
//! come to work on nodes. A newcomer's trap: a member is taken before the service is stored and
//! freed after it is gone, so a crash in between leaves one taken too many, never two holders.

mod pool;
mod repair;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use futures::future::BoxFuture;
use kijabi_base::rng;
use kijabi_meta::field::FieldError;
use kijabi_meta::kinds::service::{needs_cluster_ip, needs_health_check_port, needs_node_ports};
use serde_json::{Value, json};

use crate::admission::{Allocator, Attributes, Operation, Reservation};
use crate::config::Ipv4Cidr;
use crate::status::ApiError;
use crate::storage::Client;
use pool::{Member, Owner, Pool};

pub use repair::Repair;

/// Guesses before all claims are read to find a free member.
const GUESSES: usize = 8;
/// Rounds of reading all claims, each of which may lose its find to another server.
const ROUNDS: usize = 8;

/// The allocator of services.
#[derive(Clone, Debug)]
pub struct Services {
    addresses: Pool,
    ports: Pool,
    range: Ipv4Cidr,
    port_range: (u16, u16),
}

impl Services {
    /// An allocator of the given ranges in a store.
    pub fn new(client: Client, range: Ipv4Cidr, port_range: (u16, u16)) -> Self {
        let addresses = Pool::new(client.clone(), Member::Address);
        Self { addresses, ports: Pool::new(client, Member::Port), range, port_range }
    }

    async fn reserve_all(
        &self,
        attributes: &Attributes<'_>,
        service: &mut Value,
    ) -> Result<Reservation, ApiError> {
        let mut taking = Taking {
            services: self,
            owner: owner(attributes, service),
            dry_run: attributes.dry_run,
            taken: Reservation::none(),
            errors: Vec::new(),
        };
        let old = attributes.old.map_or(Value::Null, |old| old["spec"].clone());
        let outcome = taking.take(service, &old).await;
        let Taking { owner, taken, errors, .. } = taking;
        let failed = match outcome {
            Err(error) => Some(error),
            Ok(()) if errors.is_empty() => None,
            Ok(()) => Some(ApiError::invalid("", "Service", &owner.name, &errors)),
        };
        match failed {
            Some(error) => {
                taken.abort().await;
                Err(error)
            }
            None => Ok(self.freeing(taken, &old, &service["spec"], &owner, attributes.dry_run)),
        }
    }

    /// Adds to `taken` what the old form held and the new does not need, to be freed at commit.
    fn freeing(
        &self,
        mut taken: Reservation,
        old: &Value,
        new: &Value,
        owner: &Owner,
        dry_run: bool,
    ) -> Reservation {
        if dry_run {
            return taken;
        }
        let kept = addresses_of(new);
        for address in addresses_of(old).difference(&kept) {
            let (pool, address, owner) = (self.addresses.clone(), address.clone(), owner.clone());
            taken.on_commit(Box::pin(async move { pool.release_of(&address, &owner).await }));
        }
        let kept = ports_of(new);
        for port in ports_of(old).difference(&kept) {
            let (pool, port, owner) = (self.ports.clone(), port.to_string(), owner.clone());
            taken.on_commit(Box::pin(async move { pool.release_of(&port, &owner).await }));
        }
        taken
    }

    fn port_offset(&self, port: i64) -> Option<u32> {
        let (first, last) = (i64::from(self.port_range.0), i64::from(self.port_range.1));
        (first..=last).contains(&port).then(|| (port - first) as u32)
    }

    fn port_at(&self, offset: u32) -> String {
        (u32::from(self.port_range.0) + offset).to_string()
    }

    fn port_count(&self) -> u32 {
        u32::from(self.port_range.1 - self.port_range.0) + 1
    }

    /// Addresses below this offset are for those who ask for one, while there are others.
    fn static_addresses(&self) -> u32 {
        (self.range.size() / 16).clamp(16, 256).min(self.range.size() / 2)
    }
}

impl Allocator for Services {
    fn reserve<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Reservation, ApiError>> {
        if !attributes.is_object("", "services") || attributes.operation == Operation::Delete {
            return Box::pin(std::future::ready(Ok(Reservation::none())));
        }
        Box::pin(self.reserve_all(attributes, object))
    }

    fn release<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a Value,
    ) -> BoxFuture<'a, ()> {
        if !attributes.kind.group.is_empty() || attributes.kind.plural != "services" {
            return Box::pin(std::future::ready(()));
        }
        Box::pin(async move {
            let owner = owner(attributes, object);
            for address in addresses_of(&object["spec"]) {
                self.addresses.release_of(&address, &owner).await;
            }
            for port in ports_of(&object["spec"]) {
                self.ports.release_of(&port.to_string(), &owner).await;
            }
        })
    }
}

/// The taking for one service.
struct Taking<'a> {
    services: &'a Services,
    owner: Owner,
    dry_run: bool,
    taken: Reservation,
    errors: Vec<FieldError>,
}

impl Taking<'_> {
    async fn take(&mut self, service: &mut Value, old: &Value) -> Result<(), ApiError> {
        if needs_cluster_ip(&service["spec"]) {
            self.take_address(&mut service["spec"], old).await?;
        }
        if !self.errors.is_empty() {
            return Ok(());
        }
        // A balancer that draws no node ports may still name some.
        let spec = &service["spec"];
        if needs_node_ports(spec) || spec["type"] == "LoadBalancer" {
            self.take_ports(&mut service["spec"], old).await?;
        }
        if self.errors.is_empty() && needs_health_check_port(&service["spec"]) {
            self.take_health_check_port(&mut service["spec"], old).await?;
        }
        Ok(())
    }

    async fn take_address(&mut self, spec: &mut Value, old: &Value) -> Result<(), ApiError> {
        let asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        if asked == "None" || (!asked.is_empty() && addresses_of(old).contains(&asked)) {
            return Ok(());
        }
        if asked.is_empty() {
            let Some(address) = self.next_address().await? else {
                let why = "failed to allocate a serviceIP: range is full";
                return Err(ApiError::internal(why));
            };
            spec["clusterIP"] = address.as_str().into();
            spec["clusterIPs"] = json!([address]);
            return Ok(());
        }
        if let Some(why) = self.refusal_of_address(&asked).await? {
            let detail = format!("failed to allocate IP {asked}: {why}");
            let value = json!([asked]);
            self.errors.push(FieldError::invalid("spec.clusterIPs", &value, &detail));
        }
        Ok(())
    }

    /// Takes the asked address, or says why not.
    async fn refusal_of_address(&mut self, asked: &str) -> Result<Option<String>, ApiError> {
        let range = self.services.range;
        let Ok(address) = asked.parse::<Ipv4Addr>() else {
            return Ok(Some("the provided network does not match the current range".into()));
        };
        let Some(offset) = range.offset_of(address) else {
            return Ok(Some("the provided network does not match the current range".into()));
        };
        if offset == 0 || offset == range.size() - 1 {
            return Ok(Some(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            )));
        }
        let taken = self.claim(Member::Address, asked).await?;
        Ok((!taken).then(|| "provided IP is already allocated".into()))
    }

    async fn next_address(&mut self) -> Result<Option<String>, ApiError> {
        let (range, reserved) = (self.services.range, self.services.static_addresses());
        let name = move |offset: u32| range.nth(offset).map(|a| a.to_string()).unwrap_or_default();
        // The last address of a range is its broadcast address, the first its network's.
        let last = range.size() - 1;
        if let Some(found) = self.next(Member::Address, reserved..last, name).await? {
            return Ok(Some(found));
        }
        self.next(Member::Address, 1..reserved, name).await
    }

    async fn take_ports(&mut self, spec: &mut Value, old: &Value) -> Result<(), ApiError> {
        let held = ports_of(old);
        let may_draw = needs_node_ports(spec);
        let count = spec["ports"].as_array().map_or(0, Vec::len);
        let mut own: BTreeSet<(i64, String)> = BTreeSet::new();
        for at in 0..count {
            let port = &spec["ports"][at];
            let asked = port["nodePort"].as_i64().unwrap_or(0);
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            if asked == 0 {
                if may_draw {
                    let drawn = self.next_port().await?;
                    own.insert((drawn, protocol));
                    spec["ports"][at]["nodePort"] = drawn.into();
                }
                continue;
            }
            // The same number for TCP and UDP of one service is one claim.
            let shared = own.iter().any(|(one, of)| *one == asked && *of != protocol);
            if !shared && !held.contains(&asked) {
                let field = format!("spec.ports[{at}].nodePort");
                self.take_port(asked, field).await?;
            }
            own.insert((asked, protocol));
        }
        Ok(())
    }

    async fn take_health_check_port(
        &mut self,
        spec: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        let asked = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
        if asked == 0 {
            spec["healthCheckNodePort"] = self.next_port().await?.into();
        } else if old["healthCheckNodePort"].as_i64() != Some(asked) {
            self.take_port(asked, "spec.healthCheckNodePort".into()).await?;
        }
        Ok(())
    }

    async fn take_port(&mut self, asked: i64, field: String) -> Result<(), ApiError> {
        let (first, last) = self.services.port_range;
        if self.services.port_offset(asked).is_none() {
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            self.errors.push(FieldError::invalid(field, &asked.into(), &detail));
        } else if !self.claim(Member::Port, &asked.to_string()).await? {
            let detail = "provided port is already allocated";
            self.errors.push(FieldError::invalid(field, &asked.into(), detail));
        }
        Ok(())
    }

    async fn next_port(&mut self) -> Result<i64, ApiError> {
        let services = self.services;
        let name = |offset: u32| services.port_at(offset);
        let found = self.next(Member::Port, 0..services.port_count(), name).await?;
        let port = found.and_then(|port| port.parse().ok());
        port.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))
    }

    /// Takes any free member whose offset is in `offsets`.
    async fn next(
        &mut self,
        member: Member,
        offsets: std::ops::Range<u32>,
        name: impl Fn(u32) -> String,
    ) -> Result<Option<String>, ApiError> {
        let count = offsets.end.saturating_sub(offsets.start);
        if count == 0 {
            return Ok(None);
        }
        let any = || offsets.start + rng::below(u64::from(count)) as u32;
        for _ in 0..GUESSES {
            let guess = name(any());
            if self.claim(member, &guess).await? {
                return Ok(Some(guess));
            }
        }
        for _ in 0..ROUNDS {
            let claims = self.pool(member).claims().await?;
            let used: BTreeSet<String> = claims.into_iter().map(|claim| claim.name).collect();
            let start = any();
            let mut candidates = (start..offsets.end).chain(offsets.start..start).map(&name);
            let Some(free) = candidates.find(|one| !used.contains(one)) else { return Ok(None) };
            if self.claim(member, &free).await? {
                return Ok(Some(free));
            }
        }
        Ok(None)
    }

    /// Takes one member; it is given back if the service is not stored.
    async fn claim(&mut self, member: Member, name: &str) -> Result<bool, ApiError> {
        let pool = self.pool(member).clone();
        if self.dry_run {
            return Ok(!pool.is_taken(name).await?);
        }
        let Some(revision) = pool.claim(name, &self.owner).await? else { return Ok(false) };
        let name = name.to_owned();
        self.taken.on_abort(Box::pin(async move { pool.release(&name, revision).await }));
        Ok(true)
    }

    fn pool(&self, member: Member) -> &Pool {
        match member {
            Member::Address => &self.services.addresses,
            Member::Port => &self.services.ports,
        }
    }
}

fn owner(attributes: &Attributes<'_>, service: &Value) -> Owner {
    let name = match attributes.name {
        "" => service["metadata"]["name"].as_str().unwrap_or_default(),
        name => name,
    };
    Owner { namespace: attributes.namespace.to_owned(), name: name.to_owned() }
}

/// The addresses a service holds.
fn addresses_of(spec: &Value) -> BTreeSet<String> {
    let first = spec["clusterIP"].as_str().into_iter();
    let all = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    first.chain(all).filter(|ip| !ip.is_empty() && *ip != "None").map(str::to_owned).collect()
}

/// The node ports a service holds.
fn ports_of(spec: &Value) -> BTreeSet<i64> {
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let all = ports.chain(std::iter::once(&spec["healthCheckNodePort"]));
    all.filter_map(Value::as_i64).filter(|port| *port != 0).collect()
}
