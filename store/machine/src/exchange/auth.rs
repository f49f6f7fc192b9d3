//! Users, roles and permissions.
//!
//! Owns: their rows on both sides. Must not know: passwords in clear. A newcomer's trap: their
//! records are the same messages on both sides, passwords as bcrypt hashes; only the keys differ.

use bytes::Bytes;
use kijabi_proto::authpb::{Role, User};
use prost::Message as _;

use super::{Bucket, ExchangeError};
use crate::auth::rows::{ENABLED, REVISION, ROLES, USERS};
use crate::state::{StateBatch, Table};

const ETCD_ENABLED: &[u8] = b"authEnabled";
const ETCD_REVISION: &[u8] = b"authRevision";

/// Takes a row of etcd's.
pub(super) fn take(
    bucket: Bucket,
    key: &[u8],
    value: &[u8],
    batch: &mut StateBatch,
) -> Result<(), ExchangeError> {
    let name = || String::from_utf8_lossy(key).into_owned();
    let broken = |error: prost::DecodeError| ExchangeError::row(bucket, error.to_string());
    let own = match bucket {
        Bucket::AuthUsers => {
            let user = User::decode(value).map_err(broken)?;
            check_name(bucket, key, &user.name)?;
            [USERS, key].concat()
        }
        Bucket::AuthRoles => {
            let role = Role::decode(value).map_err(broken)?;
            check_name(bucket, key, &role.name)?;
            [ROLES, key].concat()
        }
        _ if key == ETCD_ENABLED && matches!(value, [0 | 1]) => ENABLED.to_vec(),
        _ if key == ETCD_REVISION && value.len() == size_of::<u64>() => REVISION.to_vec(),
        // Leaving something out here could open the data to everybody.
        _ => return Err(ExchangeError::row(bucket, name())),
    };
    batch.put(Table::Cluster, own, Bytes::copy_from_slice(value));
    Ok(())
}

/// Which row of etcd's a row of ours is, if it is about users and roles.
pub(super) fn give(key: &[u8]) -> Option<(Bucket, Vec<u8>)> {
    if key == ENABLED {
        Some((Bucket::Auth, ETCD_ENABLED.to_vec()))
    } else if key == REVISION {
        Some((Bucket::Auth, ETCD_REVISION.to_vec()))
    } else if let Some(name) = key.strip_prefix(USERS) {
        Some((Bucket::AuthUsers, name.to_vec()))
    } else {
        key.strip_prefix(ROLES).map(|name| (Bucket::AuthRoles, name.to_vec()))
    }
}

fn check_name(bucket: Bucket, key: &[u8], name: &[u8]) -> Result<(), ExchangeError> {
    if key == name {
        return Ok(());
    }
    let key = String::from_utf8_lossy(key);
    Err(ExchangeError::row(bucket, format!("record of {key:?} is another one's")))
}
