//! Why something about auth was refused.
//!
//! Owns: the decisions a caller can take. Must not know: gRPC codes or texts. A newcomer's trap:
//! an unknown user is `UserNotFound` to an administrator, but `Failed` to who tries to log in, so
//! that nobody can find out which users there are.

/// Why something about auth was refused; each variant is one of etcd's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Auth cannot be enabled without the user root.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// Auth cannot be enabled while the user root lacks the role root.
    #[error("root user does not have root role")]
    RootRoleNotExist,
    /// The user's name is taken.
    #[error("user name already exists")]
    UserAlreadyExists,
    /// A name is needed, or a caller.
    #[error("user name is empty")]
    UserEmpty,
    /// No such user.
    #[error("user name not found")]
    UserNotFound,
    /// The role's name is taken.
    #[error("role name already exists")]
    RoleAlreadyExists,
    /// No such role.
    #[error("role name not found")]
    RoleNotFound,
    /// A role's name is needed.
    #[error("role name is empty")]
    RoleEmpty,
    /// Unknown user or wrong password.
    #[error("authentication failed, invalid user ID or password")]
    Failed,
    /// The user has no password at all.
    #[error("authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// A grant without a permission.
    #[error("permission not given")]
    PermissionNotGiven,
    /// The caller may not do that.
    #[error("permission denied")]
    PermissionDenied,
    /// The user does not have that role.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have that permission.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// Nobody can log in while auth is off.
    #[error("authentication is not enabled")]
    NotEnabled,
    /// A change that would lock everybody out, or a permission on no keys.
    #[error("invalid auth management")]
    InvalidManagement,
    /// The users or roles have changed since the caller's name was proven.
    #[error("revision of auth store is old")]
    OldRevision,
}
