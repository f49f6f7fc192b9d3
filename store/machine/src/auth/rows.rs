//! Auth in the durable state.
//!
//! Owns: the rows' keys and forms. Must not know: what changes them. A newcomer's trap: a user's
//! row holds the hash of a password and so is a secret; [`User`]'s Debug output leaves it out.

use std::ops::ControlFlow;

use kijabi_proto::authpb::{Role, User};
use prost::Message as _;

use crate::state::{StateBatch, StateError, StateReader, Table};

pub(crate) const ENABLED: &[u8] = b"auth/enabled";
pub(crate) const REVISION: &[u8] = b"auth/revision";
pub(crate) const USERS: &[u8] = b"user/";
const USERS_END: &[u8] = b"user0";
pub(crate) const ROLES: &[u8] = b"role/";
const ROLES_END: &[u8] = b"role0";

/// The auth revision of a store in which nothing about auth was ever changed.
pub(super) const FIRST_REVISION: u64 = 1;

/// Everything about auth that is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) users: Vec<User>,
    pub(super) roles: Vec<Role>,
}

/// Reads it back.
pub(super) fn read(state: &dyn StateReader) -> Result<Stored, StateError> {
    let enabled = state.get(Table::Cluster, ENABLED)?.is_some_and(|value| value[..] == [1]);
    let revision = match state.get(Table::Cluster, REVISION)? {
        Some(value) => <[u8; 8]>::try_from(&value[..])
            .map(u64::from_be_bytes)
            .map_err(|_| StateError("auth revision: not a number".into()))?,
        None => FIRST_REVISION,
    };
    let users = records(state, USERS, USERS_END)?;
    let roles = records(state, ROLES, ROLES_END)?;
    Ok(Stored { enabled, revision, users, roles })
}

pub(super) fn put_enabled(batch: &mut StateBatch, enabled: bool) {
    batch.put(Table::Cluster, ENABLED, vec![u8::from(enabled)]);
}

pub(super) fn put_revision(batch: &mut StateBatch, revision: u64) {
    batch.put(Table::Cluster, REVISION, revision.to_be_bytes().to_vec());
}

pub(super) fn put_user(batch: &mut StateBatch, user: &User) {
    batch.put(Table::Cluster, [USERS, &user.name].concat(), user.encode_to_vec());
}

pub(super) fn delete_user(batch: &mut StateBatch, name: &str) {
    batch.delete(Table::Cluster, [USERS, name.as_bytes()].concat());
}

pub(super) fn put_role(batch: &mut StateBatch, role: &Role) {
    batch.put(Table::Cluster, [ROLES, &role.name].concat(), role.encode_to_vec());
}

pub(super) fn delete_role(batch: &mut StateBatch, name: &str) {
    batch.delete(Table::Cluster, [ROLES, name.as_bytes()].concat());
}

fn records<M: prost::Message + Default>(
    state: &dyn StateReader,
    from: &[u8],
    to: &[u8],
) -> Result<Vec<M>, StateError> {
    let mut records = Vec::new();
    let mut failed = None;
    state.scan(Table::Cluster, from, Some(to), &mut |key, value| {
        // A copy: what is decoded from a borrowed slice owns its bytes.
        match M::decode(value) {
            Ok(record) => {
                records.push(record);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(StateError(format!("{}: {error}", String::from_utf8_lossy(key))));
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(records), Err)
}

/// Everything about auth, as a batch of a new store's rows: for a restore.
pub fn auth_rows(enabled: bool, revision: u64, users: &[User], roles: &[Role]) -> StateBatch {
    let mut batch = StateBatch::default();
    put_enabled(&mut batch, enabled);
    put_revision(&mut batch, revision.max(FIRST_REVISION));
    for user in users {
        put_user(&mut batch, user);
    }
    for role in roles {
        put_role(&mut batch, role);
    }
    batch
}
