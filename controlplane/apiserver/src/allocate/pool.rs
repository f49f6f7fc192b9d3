//! A pool in the store: one key for each member that is taken, so that servers cannot collide.
//!
//! Owns: claims. Must not know: what is claimed. A newcomer's trap: a claim is given back with the
//! revision it was made at, so giving back late cannot take it from the next holder.
//!
// Differs from Kubernetes: node ports are one key each below /registry/ranges/servicenodeports/,
// not one bitmap; service addresses are keys of the form that IPAddress objects have.

use kijabi_base::{clock, rng};
use serde_json::{Value, json};

use crate::status::ApiError;
use crate::storage::{Cas, Client, Key, KeyRange, Revision, encode};

/// Claims read in one round.
const PAGE: i64 = 1_000;

/// What kind of member a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Address,
    Port,
}

/// A pool of addresses or ports.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    client: Client,
    member: Member,
}

/// The service that holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A member that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) owner: Owner,
    pub(super) revision: Revision,
}

impl Pool {
    pub(super) fn new(client: Client, member: Member) -> Self {
        Self { client, member }
    }

    fn prefix(&self) -> &'static str {
        match self.member {
            Member::Address => "ipaddresses",
            Member::Port => "ranges/servicenodeports",
        }
    }

    fn key(&self, name: &str) -> Result<Key, ApiError> {
        Ok(Key::object(self.prefix(), "", name)?)
    }

    /// Takes `name`; `None` if it is taken.
    pub(super) async fn claim(
        &self,
        name: &str,
        owner: &Owner,
    ) -> Result<Option<Revision>, ApiError> {
        let value = encode(&self.object(name, owner));
        match self.client.create(&self.key(name)?, value, 0).await? {
            Cas::Done(revision) => Ok(Some(revision)),
            Cas::Changed(_) => Ok(None),
        }
    }

    /// Whether `name` is taken.
    pub(super) async fn is_taken(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.client.get(&self.key(name)?).await?.0.is_some())
    }

    /// Gives back a claim made at `revision`. What fails is left to the repair.
    pub(super) async fn release(&self, name: &str, revision: Revision) {
        let Ok(key) = self.key(name) else { return };
        if let Err(error) = self.client.delete(&key, revision).await {
            tracing::warn!(%error, name, "a claim could not be given back yet");
        }
    }

    /// Gives back what `owner` holds under `name`.
    pub(super) async fn release_of(&self, name: &str, owner: &Owner) {
        let Ok(key) = self.key(name) else { return };
        match self.client.get(&key).await {
            Ok((Some(record), _)) => {
                let held = record.object().ok().map(|object| owner_of(&object));
                if held.as_ref() == Some(owner) {
                    self.release(name, record.revision).await;
                }
            }
            Ok((None, _)) => {}
            Err(error) => tracing::warn!(%error, name, "a claim could not be read"),
        }
    }

    /// All claims.
    pub(super) async fn claims(&self) -> Result<Vec<Claim>, ApiError> {
        let range = KeyRange::resource(self.prefix(), "")?;
        let (mut from, mut at, mut all) = (range.start(), None, Vec::new());
        loop {
            let page = self.client.page(&range, from, PAGE, at).await?;
            for record in &page.records {
                let (Some(name), Ok(object)) = (range.rest_of(&record.key), record.object()) else {
                    continue;
                };
                let (name, owner) = (name.to_owned(), owner_of(&object));
                all.push(Claim { name, owner, revision: record.revision });
            }
            let Some(last) = page.records.last().filter(|_| page.has_more()) else {
                return Ok(all);
            };
            at = Some(page.revision);
            from = [last.key.as_ref(), &[0]].concat().into();
        }
    }

    /// The stored form of a claim, an IPAddress object for addresses.
    fn object(&self, name: &str, owner: &Owner) -> Value {
        let mut bytes = [0; 16];
        rng::fill(&mut bytes);
        let uid = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        let seconds = (clock::wall_ms() / 1_000) as i64;
        let created = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let parent = json!({
            "group": "",
            "resource": "services",
            "namespace": owner.namespace,
            "name": owner.name,
        });
        let metadata = json!({
            "name": name,
            "uid": uid,
            "creationTimestamp": created.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        });
        match self.member {
            Member::Address => json!({
                "kind": "IPAddress",
                "apiVersion": "networking.k8s.io/v1",
                "metadata": metadata,
                "spec": {"parentRef": parent},
            }),
            Member::Port => json!({
                "metadata": {"name": name, "uid": uid},
                "spec": {"parentRef": parent},
            }),
        }
    }
}

fn owner_of(object: &Value) -> Owner {
    let parent = &object["spec"]["parentRef"];
    let text = |field: &str| parent[field].as_str().unwrap_or_default().to_owned();
    Owner { namespace: text("namespace"), name: text("name") }
}
