//! Changes of users and roles in an etcd member's log.
//!
//! Owns: which of etcd's requests is which change. Must not know: how a change is applied. A
//! newcomer's trap: since 3.5 the log holds the password's hash, in base64; before, the password
//! itself, which each member hashed when it applied the entry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::{AuthUserCreate, AuthUserPassword};
use kijabi_proto::etcdstorage::InternalRequest;

use sha2::{Digest as _, Sha256};

use super::BackupError;

/// The change that a request asks for, if it is one.
pub(super) fn change(
    request: &mut InternalRequest,
    index: u64,
) -> Result<Option<Change>, BackupError> {
    let changes = None
        .or(request.auth_enable.take().map(Change::Enable))
        .or(request.auth_disable.take().map(Change::Disable))
        .or(request.auth_user_delete.take().map(Change::UserDelete))
        .or(request.auth_user_grant_role.take().map(Change::UserGrantRole))
        .or(request.auth_user_revoke_role.take().map(Change::UserRevokeRole))
        .or(request.auth_role_add.take().map(Change::RoleAdd))
        .or(request.auth_role_delete.take().map(Change::RoleDelete))
        .or(request.auth_role_grant_permission.take().map(Change::RoleGrantPermission))
        .or(request.auth_role_revoke_permission.take().map(Change::RoleRevokePermission));
    if let Some(user) = request.auth_user_add.take() {
        let no_password = user.options.is_some_and(|options| options.no_password);
        let password_hash = if no_password {
            Bytes::new()
        } else {
            hash_of(&user.name, &user.password, &user.hashed_password, index)?
        };
        return Ok(Some(Change::UserCreate(AuthUserCreate {
            name: user.name,
            password_hash,
            no_password,
        })));
    }
    if let Some(user) = request.auth_user_change_password.take() {
        let password_hash = hash_of(&user.name, &user.password, &user.hashed_password, index)?;
        return Ok(Some(Change::UserPassword(AuthUserPassword { name: user.name, password_hash })));
    }
    Ok(changes)
}

fn hash_of(user: &str, password: &str, hashed: &str, index: u64) -> Result<Bytes, BackupError> {
    let failed = |error: &dyn std::fmt::Display| {
        BackupError::Settings(format!("the password of user {user:?}: {error}"))
    };
    if !hashed.is_empty() {
        return STANDARD.decode(hashed).map(Bytes::from).map_err(|error| failed(&error));
    }
    // Every member of the new cluster must come to the same hash; the salt only has to be another
    // one for each user and each change.
    let digest = Sha256::new().chain_update(index.to_le_bytes()).chain_update(user).finalize();
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    let parts = bcrypt::hash_with_salt(password, COST, salt).map_err(|error| failed(&error))?;
    Ok(parts.to_string().into())
}

/// etcd's default.
const COST: u32 = 10;
