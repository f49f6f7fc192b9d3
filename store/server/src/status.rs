//! etcd's errors as they go over the wire: one table of names, codes and texts.
//!
//! Owns: the table, and which of its rows each of our errors is. Must not know: who answers. A
//! newcomer's trap: clients map errors by their text and decide on retries by the code, so both
//! are byte-exact, and a state that passes is `Unavailable`, never `Internal` or `Unknown`.

use kijabi_machine::{AuthError, Error as MachineError};
use tonic::{Code, Status};

use crate::error::Error;

macro_rules! etcd_errors {
    ($($name:ident, $code:ident, $text:literal;)+) => {
        /// An error of etcd.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the text says it")]
        pub enum EtcdError {
            $($name,)+
        }

        impl EtcdError {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The gRPC code.
            pub fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)+
                }
            }

            /// The text.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

etcd_errors! {
    EmptyKey, InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound, InvalidArgument, "etcdserver: key not found";
    ValueProvided, InvalidArgument, "etcdserver: value is provided";
    LeaseProvided, InvalidArgument, "etcdserver: lease is provided";
    TooManyOps, InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion, InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption, InvalidArgument, "etcdserver: invalid sort option";
    Compacted, OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRev, OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    LeaseNotFound, NotFound, "etcdserver: requested lease not found";
    LeaseExist, FailedPrecondition, "etcdserver: lease already exists";
    LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL";
    WatchCanceled, Cancelled, "etcdserver: watch canceled";
    MemberExist, FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExist, FailedPrecondition, "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted, FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members";
    MemberBadUrls, InvalidArgument, "etcdserver: given member URLs are invalid";
    MemberNotFound, NotFound, "etcdserver: member not found";
    MemberNotLearner, FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady, FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners, FailedPrecondition, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch, FailedPrecondition, "etcdserver: cluster ID mismatch";
    RequestTooLarge, InvalidArgument, "etcdserver: request is too large";
    TooManyRequests, ResourceExhausted, "etcdserver: too many requests";
    RootUserNotExist, FailedPrecondition, "etcdserver: root user does not exist";
    RootRoleNotExist, FailedPrecondition, "etcdserver: root user does not have root role";
    UserAlreadyExist, FailedPrecondition, "etcdserver: user name already exists";
    UserNotFound, FailedPrecondition, "etcdserver: user name not found";
    UserEmpty, InvalidArgument, "etcdserver: user name is empty";
    RoleEmpty, InvalidArgument, "etcdserver: role name is empty";
    RoleAlreadyExist, FailedPrecondition, "etcdserver: role name already exists";
    RoleNotFound, FailedPrecondition, "etcdserver: role name not found";
    AuthFailed, InvalidArgument,
        "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven, InvalidArgument, "etcdserver: permission not given";
    PermissionDenied, PermissionDenied, "etcdserver: permission denied";
    RoleNotGranted, FailedPrecondition, "etcdserver: role is not granted to the user";
    PermissionNotGranted, FailedPrecondition,
        "etcdserver: permission is not granted to the role";
    AuthNotEnabled, FailedPrecondition, "etcdserver: authentication is not enabled";
    InvalidAuthToken, Unauthenticated, "etcdserver: invalid auth token";
    InvalidAuthMgmt, InvalidArgument, "etcdserver: invalid auth management";
    AuthOldRevision, InvalidArgument, "etcdserver: revision of auth store is old";
    // Not in etcd's own map of errors, which is why its text and its code are as they are.
    NoPasswordUser, Unknown,
        "auth: authentication failed, password was given for no password user";
    PasswordTooLong, Unknown, "bcrypt: password length exceeds 72 bytes";
    VerifyOnly, Unknown, "auth: token signing attempted with verify-only key";
    NoLeader, Unavailable, "etcdserver: no leader";
    NotLeader, FailedPrecondition, "etcdserver: not leader";
    LeaderChanged, Unavailable, "etcdserver: leader changed";
    NotCapable, FailedPrecondition, "etcdserver: not capable";
    Stopped, Unavailable, "etcdserver: server stopped";
    Timeout, Unavailable, "etcdserver: request timed out";
    TimeoutDueToLeaderFail, Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost, Unavailable,
        "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex, Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    Unhealthy, Unavailable, "etcdserver: unhealthy cluster";
    Corrupt, DataLoss, "etcdserver: corrupt cluster";
    NotSupportedForLearner, FailedPrecondition, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee, FailedPrecondition, "etcdserver: bad leader transferee";
    TimeoutLeaderTransfer, Unknown,
        "etcdserver: request timed out, leader transfer took too long";
    WrongDowngradeVersionFormat, InvalidArgument,
        "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion, InvalidArgument,
        "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable, FailedPrecondition,
        "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess, FailedPrecondition,
        "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade, FailedPrecondition, "etcdserver: no inflight downgrade job";
    // Differs from etcd: the code there is Unknown, on which clients give up; this state passes.
    NotPrimaryLessor, Unavailable, "not a primary lessor";
}

impl EtcdError {
    /// The text of the whole error as Go's gRPC puts it, where etcd passes one on as a text.
    pub fn go_text(self) -> String {
        let code = match self.code() {
            Code::Cancelled => "Canceled".into(),
            code => format!("{code:?}"),
        };
        format!("rpc error: code = {code} desc = {}", self.text())
    }
}

impl From<EtcdError> for Status {
    fn from(error: EtcdError) -> Self {
        Self::new(error.code(), error.text())
    }
}

impl From<&MachineError> for EtcdError {
    fn from(error: &MachineError) -> Self {
        match error {
            MachineError::EmptyKey => Self::EmptyKey,
            MachineError::KeyNotFound => Self::KeyNotFound,
            MachineError::ValueProvided => Self::ValueProvided,
            MachineError::LeaseProvided => Self::LeaseProvided,
            MachineError::TooManyOps => Self::TooManyOps,
            MachineError::DuplicateKey => Self::DuplicateKey,
            MachineError::InvalidSortOption => Self::InvalidSortOption,
            MachineError::Compacted => Self::Compacted,
            MachineError::FutureRevision => Self::FutureRev,
            MachineError::NoSpace => Self::NoSpace,
            MachineError::Corrupt => Self::Corrupt,
            MachineError::LeaseNotFound => Self::LeaseNotFound,
            MachineError::LeaseExists => Self::LeaseExist,
            MachineError::LeaseTtlTooLarge => Self::LeaseTtlTooLarge,
            MachineError::NotPrimaryLessor => Self::NotPrimaryLessor,
            MachineError::AnswerTooLarge => Self::RequestTooLarge,
            MachineError::Auth(error) => error.into(),
            MachineError::UnknownCommand => Self::NotCapable,
            // The member is about to stop: a client must go elsewhere.
            MachineError::State(_) => Self::Stopped,
        }
    }
}

impl From<&AuthError> for EtcdError {
    fn from(error: &AuthError) -> Self {
        match error {
            AuthError::RootUserNotExist => Self::RootUserNotExist,
            AuthError::RootRoleNotExist => Self::RootRoleNotExist,
            AuthError::UserAlreadyExists => Self::UserAlreadyExist,
            AuthError::UserEmpty => Self::UserEmpty,
            AuthError::UserNotFound => Self::UserNotFound,
            AuthError::RoleAlreadyExists => Self::RoleAlreadyExist,
            AuthError::RoleNotFound => Self::RoleNotFound,
            AuthError::RoleEmpty => Self::RoleEmpty,
            AuthError::Failed => Self::AuthFailed,
            AuthError::NoPasswordUser => Self::NoPasswordUser,
            AuthError::PermissionNotGiven => Self::PermissionNotGiven,
            AuthError::PermissionDenied => Self::PermissionDenied,
            AuthError::RoleNotGranted => Self::RoleNotGranted,
            AuthError::PermissionNotGranted => Self::PermissionNotGranted,
            AuthError::NotEnabled => Self::AuthNotEnabled,
            AuthError::InvalidManagement => Self::InvalidAuthMgmt,
            AuthError::OldRevision => Self::AuthOldRevision,
        }
    }
}

impl From<&Error> for EtcdError {
    fn from(error: &Error) -> Self {
        match error {
            Error::Machine(error) => error.into(),
            Error::RequestTooLarge => Self::RequestTooLarge,
            Error::TooManyRequests => Self::TooManyRequests,
            Error::NotLeader => Self::NotLeader,
            Error::LeaderChanged => Self::LeaderChanged,
            Error::Timeout => Self::Timeout,
            Error::InvalidAuthToken => Self::InvalidAuthToken,
            Error::PasswordTooLong => Self::PasswordTooLong,
            Error::VerifyOnly => Self::VerifyOnly,
            Error::LeaderFailed => Self::TimeoutDueToLeaderFail,
            Error::ConnectionLost => Self::TimeoutDueToConnectionLost,
            Error::BadLeaderTransferee => Self::BadLeaderTransferee,
            Error::TransferTimeout => Self::TimeoutLeaderTransfer,
            Error::Stopped => Self::Stopped,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        EtcdError::from(&error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique_because_clients_tell_errors_by_them() {
        let mut texts: Vec<&str> = EtcdError::ALL.iter().map(|error| error.text()).collect();
        texts.sort_unstable();
        let all = texts.len();
        texts.dedup();
        assert_eq!(texts.len(), all);
    }

    #[test]
    fn refusals_of_the_machine_get_etcds_codes_and_texts() {
        let cases = [
            (MachineError::Compacted, 11, "etcdserver: mvcc: required revision has been compacted"),
            (
                MachineError::FutureRevision,
                11,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (MachineError::LeaseNotFound, 5, "etcdserver: requested lease not found"),
            (MachineError::LeaseExists, 9, "etcdserver: lease already exists"),
            (MachineError::NoSpace, 8, "etcdserver: mvcc: database space exceeded"),
            (MachineError::Corrupt, 15, "etcdserver: corrupt cluster"),
            (MachineError::DuplicateKey, 3, "etcdserver: duplicate key given in txn request"),
        ];
        for (error, code, text) in cases {
            let status = Status::from(Error::from(error));
            assert_eq!((status.code() as i32, status.message()), (code, text));
        }
    }

    /// clientv3 gives up on anything but `Unavailable` where it could have tried another member.
    #[test]
    fn states_that_pass_are_unavailable() {
        let lost = [Error::LeaderChanged, Error::LeaderFailed, Error::ConnectionLost];
        for error in lost.into_iter().chain([Error::Timeout, Error::Stopped]) {
            assert_eq!(Status::from(error).code(), Code::Unavailable);
        }
    }
}
