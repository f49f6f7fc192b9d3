//! The Auth service: it is off, and says so.
//!
//! Owns: the answers of a store without authentication. Must not know: users. A newcomer's trap:
//! a client with a user name logs in first, and etcd's answer to that while auth is off is an
//! error that clients understand.

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::auth_server::Auth;
use tonic::{Request, Response, Status};

use super::guard::{Learner, admit};
use crate::status::EtcdError;
use crate::store::Store;

/// The service.
pub(crate) struct AuthService {
    store: Store,
}

impl AuthService {
    /// The service on `store`.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

/// The revision of etcd's auth store before anything is in it.
const AUTH_REVISION: u64 = 1;

macro_rules! not_yet {
    ($($name:ident: $request:ident => $response:ident;)+) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            async fn auth_status(
                &self,
                request: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                admit(&self.store, request.metadata(), Learner::Refuses)?;
                let header = Some(self.store.header_now());
                let auth_revision = AUTH_REVISION;
                Ok(Response::new(pb::AuthStatusResponse { header, enabled: false, auth_revision }))
            }

            async fn authenticate(
                &self,
                request: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                admit(&self.store, request.metadata(), Learner::Refuses)?;
                Err(EtcdError::AuthNotEnabled.into())
            }

            $(async fn $name(
                &self,
                _request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("etcdserver: authentication is not supported yet"))
            })+
        }
    };
}

not_yet! {
    auth_enable: AuthEnableRequest => AuthEnableResponse;
    auth_disable: AuthDisableRequest => AuthDisableResponse;
    user_add: AuthUserAddRequest => AuthUserAddResponse;
    user_get: AuthUserGetRequest => AuthUserGetResponse;
    user_list: AuthUserListRequest => AuthUserListResponse;
    user_delete: AuthUserDeleteRequest => AuthUserDeleteResponse;
    user_change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
    user_grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
    user_revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
    role_add: AuthRoleAddRequest => AuthRoleAddResponse;
    role_get: AuthRoleGetRequest => AuthRoleGetResponse;
    role_list: AuthRoleListRequest => AuthRoleListResponse;
    role_delete: AuthRoleDeleteRequest => AuthRoleDeleteResponse;
    role_grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
    role_revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
}
