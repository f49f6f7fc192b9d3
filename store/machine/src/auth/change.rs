//! Changes of users and roles.
//!
//! Owns: what each change does, and when it counts as one. Must not know: who asked, which was
//! decided before. A newcomer's trap: switching auth on does not raise the auth revision, switching
//! it off does, and granting a role twice is no change; other members count the same way.

use bytes::Bytes;
use kijabi_proto::authpb::{Permission, Role, User, UserAddOptions};
use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::{AuthUserCreate, AuthUserPassword};
use kijabi_proto::etcdserverpb as pb;

use super::{Auth, AuthError, ROOT_ROLE, ROOT_USER, rows};
use crate::mvcc::KeyRange;
use crate::state::StateBatch;

/// What a change means for those who have logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthEvent {
    /// From now on callers are asked who they are.
    Enabled,
    /// They are not any more; all logins have ended.
    Disabled,
    /// A user has logged in.
    LoggedIn {
        /// Who.
        user: String,
        /// SHA-256 of the token's secret part.
        token_digest: Bytes,
    },
    /// All logins of one user have ended.
    LoggedOut(String),
}

impl Auth {
    /// Carries out a change.
    pub(crate) fn change(
        &mut self,
        change: &Change,
        batch: &mut StateBatch,
    ) -> Result<Option<AuthEvent>, AuthError> {
        let mut event = None;
        match change {
            Change::Enable(_) => return self.enable(batch),
            Change::Login(login) => {
                self.permit_token(login)?;
                let (user, token_digest) = (login.name.clone(), own(&login.token_digest));
                return Ok(Some(AuthEvent::LoggedIn { user, token_digest }));
            }
            Change::Disable(_) if !self.enabled => return Ok(None),
            Change::Disable(_) => {
                self.enabled = false;
                rows::put_enabled(batch, false);
                event = Some(AuthEvent::Disabled);
            }
            Change::UserCreate(request) => self.create_user(request, batch)?,
            Change::UserDelete(request) => {
                self.delete_user(&request.name, batch)?;
                event = Some(AuthEvent::LoggedOut(request.name.clone()));
            }
            Change::UserPassword(request) => {
                self.set_password(request, batch)?;
                event = Some(AuthEvent::LoggedOut(request.name.clone()));
            }
            Change::UserGrantRole(request) => {
                if !self.grant_role(request, batch)? {
                    return Ok(None);
                }
            }
            Change::UserRevokeRole(request) => self.revoke_role(request, batch)?,
            Change::RoleAdd(request) => self.add_role(&request.name, batch)?,
            Change::RoleDelete(request) => self.delete_role(&request.role, batch)?,
            Change::RoleGrantPermission(request) => self.grant_permission(request, batch)?,
            Change::RoleRevokePermission(request) => self.revoke_permission(request, batch)?,
        }
        self.revision += 1;
        rows::put_revision(batch, self.revision);
        Ok(event)
    }

    fn enable(&mut self, batch: &mut StateBatch) -> Result<Option<AuthEvent>, AuthError> {
        if self.enabled {
            return Ok(None);
        }
        let root = self.users.get(ROOT_USER).ok_or(AuthError::RootUserNotExist)?;
        if !root.root {
            return Err(AuthError::RootRoleNotExist);
        }
        self.enabled = true;
        rows::put_enabled(batch, true);
        Ok(Some(AuthEvent::Enabled))
    }

    fn create_user(
        &mut self,
        request: &AuthUserCreate,
        batch: &mut StateBatch,
    ) -> Result<(), AuthError> {
        if request.name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(AuthError::UserAlreadyExists);
        }
        let no_password = request.no_password;
        let user = User {
            name: request.name.clone().into(),
            password: if no_password { Bytes::new() } else { own(&request.password_hash) },
            roles: Vec::new(),
            options: Some(UserAddOptions { no_password }),
        };
        self.put_user(user, batch);
        Ok(())
    }

    fn delete_user(&mut self, name: &str, batch: &mut StateBatch) -> Result<(), AuthError> {
        if self.enabled && name == ROOT_USER {
            return Err(AuthError::InvalidManagement);
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        rows::delete_user(batch, name);
        Ok(())
    }

    fn set_password(
        &mut self,
        request: &AuthUserPassword,
        batch: &mut StateBatch,
    ) -> Result<(), AuthError> {
        let account = self.users.get_mut(&request.name).ok_or(AuthError::UserNotFound)?;
        let none = account.has_no_password();
        account.user.password = if none { Bytes::new() } else { own(&request.password_hash) };
        rows::put_user(batch, &account.user);
        Ok(())
    }

    /// Whether something changed.
    fn grant_role(
        &mut self,
        request: &pb::AuthUserGrantRoleRequest,
        batch: &mut StateBatch,
    ) -> Result<bool, AuthError> {
        let mut user = self.user(&request.user)?;
        if request.role != ROOT_ROLE && !self.roles.contains_key(&request.role) {
            return Err(AuthError::RoleNotFound);
        }
        let Err(at) = user.roles.binary_search(&request.role) else { return Ok(false) };
        user.roles.insert(at, request.role.clone());
        self.put_user(user, batch);
        Ok(true)
    }

    fn revoke_role(
        &mut self,
        request: &pb::AuthUserRevokeRoleRequest,
        batch: &mut StateBatch,
    ) -> Result<(), AuthError> {
        if self.enabled && request.name == ROOT_USER && request.role == ROOT_ROLE {
            return Err(AuthError::InvalidManagement);
        }
        let mut user = self.user(&request.name)?;
        let before = user.roles.len();
        user.roles.retain(|role| *role != request.role);
        if user.roles.len() == before {
            return Err(AuthError::RoleNotGranted);
        }
        self.put_user(user, batch);
        Ok(())
    }

    fn add_role(&mut self, name: &str, batch: &mut StateBatch) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleAlreadyExists);
        }
        let name = name.to_owned();
        let role = Role { name: name.clone().into(), key_permission: Vec::new() };
        self.put_role(role, batch);
        Ok(())
    }

    fn delete_role(&mut self, name: &str, batch: &mut StateBatch) -> Result<(), AuthError> {
        if self.enabled && name == ROOT_ROLE {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        rows::delete_role(batch, name);
        for mut user in self.users_with(name) {
            user.roles.retain(|role| role != name);
            self.put_user(user, batch);
        }
        Ok(())
    }

    fn grant_permission(
        &mut self,
        request: &pb::AuthRoleGrantPermissionRequest,
        batch: &mut StateBatch,
    ) -> Result<(), AuthError> {
        let given = request.perm.as_ref().ok_or(AuthError::PermissionNotGiven)?;
        if given.key.is_empty() || KeyRange::of(&given.key, &given.range_end).is_empty() {
            return Err(AuthError::InvalidManagement);
        }
        let mut role = self.role(&request.name)?;
        let same = |one: &&mut Permission| one.key == given.key && one.range_end == given.range_end;
        // Differs from etcd: it looks at the first permission on that key only, so that a grant
        // given a second time, to take away writing, may stand beside the first one.
        if let Some(old) = role.key_permission.iter_mut().find(same) {
            old.perm_type = given.perm_type;
        } else {
            let (key, range_end) = (own(&given.key), own(&given.range_end));
            role.key_permission.push(Permission { perm_type: given.perm_type, key, range_end });
            role.key_permission.sort_by(|a, b| a.key.cmp(&b.key));
        }
        self.put_role(role, batch);
        Ok(())
    }

    fn revoke_permission(
        &mut self,
        request: &pb::AuthRoleRevokePermissionRequest,
        batch: &mut StateBatch,
    ) -> Result<(), AuthError> {
        let mut role = self.role(&request.role)?;
        let before = role.key_permission.len();
        role.key_permission
            .retain(|one| one.key != request.key || one.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.put_role(role, batch);
        Ok(())
    }

    fn user(&self, name: &str) -> Result<User, AuthError> {
        Ok(self.users.get(name).ok_or(AuthError::UserNotFound)?.user.clone())
    }

    fn role(&self, name: &str) -> Result<Role, AuthError> {
        self.roles.get(name).cloned().ok_or(AuthError::RoleNotFound)
    }

    fn users_with(&self, role: &str) -> Vec<User> {
        let has = |user: &&User| user.roles.iter().any(|one| one == role);
        self.users.values().map(|account| &account.user).filter(has).cloned().collect()
    }

    fn put_user(&mut self, user: User, batch: &mut StateBatch) {
        rows::put_user(batch, &user);
        let account = self.account(user);
        self.users.insert(name_of(&account.user.name), account);
    }

    /// Stores a role, and what its users may do from now on.
    fn put_role(&mut self, role: Role, batch: &mut StateBatch) {
        rows::put_role(batch, &role);
        let name = name_of(&role.name);
        let users = self.users_with(&name);
        self.roles.insert(name, role);
        for user in users {
            let account = self.account(user);
            self.users.insert(name_of(&account.user.name), account);
        }
    }
}

/// Names come from strings.
fn name_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A copy that does not keep its request's buffer alive.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
