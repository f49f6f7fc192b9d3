//! The Auth service: users, roles, logins.
//!
//! Owns: which of its requests go through the log, and hashing passwords before they do. Must not
//! know: who may do what. A newcomer's trap: a password goes no further than this file; what is
//! proposed holds its hash, and of a token only a digest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kijabi_machine::{AuthError, Caller, Error as MachineError, Outcome};
use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::command::{AuthChange, AuthLogin, AuthUserCreate, AuthUserPassword};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::auth_server::Auth;
use tonic::{Request, Response, Status};

use super::guard::{Learner, admit};
use super::{mismatch, stamp};
use crate::access::{self, Rpc};
use crate::error::Error;
use crate::store::Store;

/// How often a login is tried again because users or roles changed while its password was checked.
const LOGIN_ATTEMPTS_MAX: usize = 8;

/// The service.
pub(crate) struct AuthService {
    store: Store,
}

impl AuthService {
    /// The service on `store`.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Lets a change in and says for whom it is.
    async fn change<T>(&self, request: &Request<T>, rpc: Rpc) -> Result<Caller, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        Ok(access::caller(&self.store, request, rpc).await?)
    }

    /// Lets a look in: at what was there when it was asked for, or later.
    async fn look<T>(&self, request: &Request<T>, rpc: Rpc) -> Result<Caller, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        self.store.read_barrier().await?;
        Ok(access::caller(&self.store, request, rpc).await?)
    }

    /// Puts a change through the log.
    async fn propose(
        &self,
        caller: &Caller,
        change: Change,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let change = AuthChange { change: Some(change) };
        match self.store.propose(caller, Command::Auth(change)).await? {
            Outcome::Auth(header) => {
                let mut header = Some(header);
                stamp(&self.store, &mut header);
                Ok(header)
            }
            other => Err(mismatch(&other)),
        }
    }

    /// Looks at users and roles as they are now, with the header of that moment.
    fn read<T>(
        &self,
        look: impl FnOnce(&kijabi_machine::Auth) -> Result<T, AuthError>,
    ) -> Result<(Option<pb::ResponseHeader>, T), Error> {
        let (revision, found) = {
            let machine = self.store.machine().read();
            (machine.revision(), look(machine.auth())?)
        };
        Ok((Some(self.store.header(revision)), found))
    }

    async fn hash(&self, password: String) -> Result<Bytes, Error> {
        let patience = self.store.config().request_timeout();
        self.store.access().passwords().hash(password, patience).await
    }

    /// Checks a password; returns the auth revision at which it was right.
    async fn check(&self, name: &str, password: &str) -> Result<u64, Error> {
        let known = self.store.machine().read().auth().password_hash(name);
        let (hash, auth_revision) = match known {
            Ok(known) => (Some(known.hash), known.auth_revision),
            // As slow as a wrong password.
            Err(AuthError::Failed) => (None, 0),
            Err(error) => return Err(error.into()),
        };
        let patience = self.store.config().request_timeout();
        let passwords = self.store.access().passwords();
        if passwords.check(password.to_owned(), hash, patience).await? {
            return Ok(auth_revision);
        }
        tracing::info!(user = name, "a login failed");
        Err(AuthError::Failed.into())
    }

    async fn log_in(&self, name: &str, password: &str) -> Result<pb::AuthenticateResponse, Error> {
        let access = self.store.access();
        for _ in 0..LOGIN_ATTEMPTS_MAX {
            let auth_revision = self.check(name, password).await?;
            if access.gives_no_tokens() {
                return Err(AuthError::Failed.into());
            }
            if let Some(jwt) = access.jwt() {
                let token = jwt.sign(name, auth_revision).ok_or(Error::VerifyOnly)?;
                return Ok(pb::AuthenticateResponse {
                    header: Some(self.store.header_now()),
                    token,
                });
            }
            let secret = access::new_secret();
            let token_digest = Bytes::copy_from_slice(&access::digest(&secret));
            let login = AuthLogin { name: name.to_owned(), token_digest, auth_revision };
            let change = AuthChange { change: Some(Change::Login(login)) };
            match self.store.propose(&Caller::Anonymous, Command::Auth(change)).await {
                Ok(Outcome::Login { header, log_index }) => {
                    let header = Some(self.store.header(header.revision));
                    let token = format!("{secret}.{log_index}");
                    return Ok(pb::AuthenticateResponse { header, token });
                }
                // The password may have changed, too.
                Err(Error::Machine(MachineError::Auth(AuthError::OldRevision))) => {}
                Ok(_) => return Err(Error::Stopped),
                Err(error) => return Err(error),
            }
        }
        Err(AuthError::OldRevision.into())
    }
}

/// The whole service: the changes that go into the log as they are, and the rest spelled out.
macro_rules! service {
    (
        $($name:ident($request:ident) -> $response:ident = $rpc:ident, $change:ident;)+
        { $($rest:tt)+ }
    ) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            $(async fn $name(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                let caller = self.change(&request, Rpc::$rpc).await?;
                let header = self.propose(&caller, Change::$change(request.into_inner())).await?;
                Ok(Response::new(pb::$response { header }))
            })+
            $($rest)+
        }
    };
}

service! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse = AuthEnable, Enable;
    auth_disable(AuthDisableRequest) -> AuthDisableResponse = AuthDisable, Disable;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse = UserDelete, UserDelete;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse
        = UserGrantRole, UserGrantRole;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse
        = UserRevokeRole, UserRevokeRole;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse = RoleAdd, RoleAdd;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse = RoleDelete, RoleDelete;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse
        = RoleGrantPermission, RoleGrantPermission;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse
        = RoleRevokePermission, RoleRevokePermission;
    {
        async fn auth_status(
            &self,
            request: Request<pb::AuthStatusRequest>,
        ) -> Result<Response<pb::AuthStatusResponse>, Status> {
            self.look(&request, Rpc::AuthStatus).await?;
            let (revision, enabled, auth_revision) = {
                let machine = self.store.machine().read();
                (machine.revision(), machine.auth().enabled(), machine.auth().revision())
            };
            let header = Some(self.store.header(revision));
            Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
        }

        async fn authenticate(
            &self,
            request: Request<pb::AuthenticateRequest>,
        ) -> Result<Response<pb::AuthenticateResponse>, Status> {
            admit(&self.store, request.metadata(), Learner::Refuses)?;
            self.store.read_barrier().await?;
            let request = request.into_inner();
            Ok(Response::new(self.log_in(&request.name, &request.password).await?))
        }

        async fn user_add(
            &self,
            request: Request<pb::AuthUserAddRequest>,
        ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
            let caller = self.change(&request, Rpc::UserAdd).await?;
            let pb::AuthUserAddRequest { name, password, options, .. } = request.into_inner();
            let no_password = options.is_some_and(|options| options.no_password);
            let password_hash =
                if no_password { Bytes::new() } else { self.hash(password).await? };
            let user = AuthUserCreate { name, password_hash, no_password };
            let header = self.propose(&caller, Change::UserCreate(user)).await?;
            Ok(Response::new(pb::AuthUserAddResponse { header }))
        }

        async fn user_change_password(
            &self,
            request: Request<pb::AuthUserChangePasswordRequest>,
        ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
            let caller = self.change(&request, Rpc::UserChangePassword).await?;
            let request = request.into_inner();
            let password_hash = if request.password.is_empty() {
                // A client may have hashed it; without either, nobody can log in any more.
                let hash = STANDARD.decode(&request.hashed_password);
                hash.map_err(|_| Error::from(AuthError::NoPasswordUser))?.into()
            } else {
                self.hash(request.password).await?
            };
            let user = AuthUserPassword { name: request.name, password_hash };
            let header = self.propose(&caller, Change::UserPassword(user)).await?;
            Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
        }

        async fn user_get(
            &self,
            request: Request<pb::AuthUserGetRequest>,
        ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
            let caller = self.look(&request, Rpc::UserGet).await?;
            let name = request.into_inner().name;
            let looked = self.read(|auth| {
                auth.permit_user_get(&caller, &name)?;
                auth.user_roles(&name)
            });
            let (header, roles) = looked?;
            Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
        }

        async fn user_list(
            &self,
            request: Request<pb::AuthUserListRequest>,
        ) -> Result<Response<pb::AuthUserListResponse>, Status> {
            let caller = self.look(&request, Rpc::UserList).await?;
            let looked = self.read(|auth| {
                auth.permit_admin(&caller)?;
                Ok(auth.user_names())
            });
            let (header, users) = looked?;
            Ok(Response::new(pb::AuthUserListResponse { header, users }))
        }

        async fn role_get(
            &self,
            request: Request<pb::AuthRoleGetRequest>,
        ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
            let caller = self.look(&request, Rpc::RoleGet).await?;
            let role = request.into_inner().role;
            let looked = self.read(|auth| {
                auth.permit_role_get(&caller, &role)?;
                auth.role_permissions(&role)
            });
            let (header, perm) = looked?;
            Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
        }

        async fn role_list(
            &self,
            request: Request<pb::AuthRoleListRequest>,
        ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
            let caller = self.look(&request, Rpc::RoleList).await?;
            let looked = self.read(|auth| {
                auth.permit_admin(&caller)?;
                Ok(auth.role_names())
            });
            let (header, roles) = looked?;
            Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
        }
    }
}
