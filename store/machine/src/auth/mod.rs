//! Users, roles and what they may do.
//!
//! Owns: etcd's auth state and the verdict on each request. Must not know: passwords in clear,
//! tokens, certificates. A newcomer's trap: a verdict is made when a command is applied, with the
//! auth revision its caller saw (AUTH-1); what a service checks before is only a courtesy.

mod caller;
mod change;
mod error;
mod ranges;
pub(crate) mod rows;
mod verdict;

pub use caller::Caller;
pub use change::AuthEvent;
pub use error::AuthError;
pub use rows::auth_rows;

use std::collections::BTreeMap;

use bytes::Bytes;
use kijabi_proto::authpb::permission::Type;
use kijabi_proto::authpb::{Permission, Role, User};

use crate::mvcc::KeyRange;
use crate::state::{StateError, StateReader};
use ranges::Ranges;

/// The user without whom auth cannot be on.
const ROOT_USER: &str = "root";
/// The role that may do everything.
const ROOT_ROLE: &str = "root";

/// Users, roles and whether they count.
#[derive(Debug)]
pub struct Auth {
    enabled: bool,
    /// Grows with each change of users and roles.
    revision: u64,
    users: BTreeMap<String, Account>,
    roles: BTreeMap<String, Role>,
}

/// A user, and what all its roles add up to.
#[derive(Debug)]
struct Account {
    user: User,
    root: bool,
    read: Ranges,
    write: Ranges,
}

/// What a login is checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// The hash.
    pub hash: Bytes,
    /// The auth revision it is of.
    pub auth_revision: u64,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordHash")
            .field("auth_revision", &self.auth_revision)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads auth back. It is there before the first entry is applied (etcd#14571).
    pub(crate) fn open(state: &dyn StateReader) -> Result<Self, StateError> {
        let stored = rows::read(state)?;
        let name = |bytes: &Bytes| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| StateError("the name of a user or a role is not UTF-8".into()))
        };
        let mut auth = Self {
            enabled: stored.enabled,
            revision: stored.revision,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        for role in stored.roles {
            auth.roles.insert(name(&role.name)?, role);
        }
        for user in stored.users {
            let account = auth.account(user);
            auth.users.insert(name(&account.user.name)?, account);
        }
        Ok(auth)
    }

    /// Whether callers are asked who they are.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The auth revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The names of all users, in order.
    pub fn user_names(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    /// The names of all roles, in order.
    pub fn role_names(&self) -> Vec<String> {
        self.roles.keys().cloned().collect()
    }

    /// The roles of a user.
    pub fn user_roles(&self, name: &str) -> Result<Vec<String>, AuthError> {
        let account = self.users.get(name).ok_or(AuthError::UserNotFound)?;
        Ok(account.user.roles.clone())
    }

    /// The permissions of a role.
    pub fn role_permissions(&self, name: &str) -> Result<Vec<Permission>, AuthError> {
        let role = self.roles.get(name).ok_or(AuthError::RoleNotFound)?;
        if name == ROOT_ROLE {
            // The role root has all keys, whatever was granted to it.
            let all = Bytes::from_static(&[0]);
            let perm_type = Type::Readwrite.into();
            return Ok(vec![Permission { perm_type, key: Bytes::new(), range_end: all }]);
        }
        Ok(role.key_permission.clone())
    }

    /// What a user's password is checked against; `Failed` if there is no such user.
    pub fn password_hash(&self, name: &str) -> Result<PasswordHash, AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        let account = self.users.get(name).ok_or(AuthError::Failed)?;
        if account.has_no_password() {
            return Err(AuthError::NoPasswordUser);
        }
        Ok(PasswordHash { hash: account.user.password.clone(), auth_revision: self.revision })
    }

    /// A user, with what its roles add up to now.
    fn account(&self, user: User) -> Account {
        let permissions =
            user.roles.iter().filter_map(|role| self.roles.get(role)).flat_map(|role| {
                role.key_permission.iter().map(|one| {
                    (one.perm_type(), one.perm_type, KeyRange::of(&one.key, &one.range_end))
                })
            });
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for (kind, number, range) in permissions {
            // A kind that is not known grants nothing.
            if Type::try_from(number).is_err() {
                continue;
            }
            if matches!(kind, Type::Read | Type::Readwrite) {
                read.push(range);
            }
            if matches!(kind, Type::Write | Type::Readwrite) {
                write.push(range);
            }
        }
        let (read, write) = (Ranges::union(read), Ranges::union(write));
        let root = user.roles.iter().any(|role| role == ROOT_ROLE);
        Account { user, root, read, write }
    }
}

impl Account {
    fn has_no_password(&self) -> bool {
        self.user.options.is_some_and(|options| options.no_password)
    }
}
