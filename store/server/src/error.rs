//! Why a request was not answered: the machine's refusals and the member's own.
//!
//! Owns: the decisions a service can meet. Must not know: gRPC codes and texts (`status.rs`). A
//! newcomer's trap: [`Error::Timeout`] means the outcome is unknown, not that nothing happened.

impl From<kijabi_machine::AuthError> for Error {
    fn from(error: kijabi_machine::AuthError) -> Self {
        Self::Machine(error.into())
    }
}

/// Why a request failed. `status.rs` maps each variant to etcd's code and text.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The machine's answer: the request was applied, or read, and refused.
    #[error(transparent)]
    Machine(#[from] kijabi_machine::Error),
    /// The encoded request is larger than `--max-request-bytes`.
    #[error("request is too large")]
    RequestTooLarge,
    /// The proposal queue is full, or applying is too far behind.
    #[error("too many requests")]
    TooManyRequests,
    /// The request is only answered by the leader, and this member is not.
    #[error("not leader")]
    NotLeader,
    /// The leader changed while the request waited.
    #[error("leader changed")]
    LeaderChanged,
    /// No answer in time: the outcome is unknown.
    #[error("request timed out")]
    Timeout,
    /// A token that is not good, or not any more.
    #[error("invalid auth token")]
    InvalidAuthToken,
    /// A new password is longer than bcrypt looks at.
    #[error("password is too long")]
    PasswordTooLong,
    /// Nobody can log in here: there is no key to sign a token with.
    #[error("tokens are only checked here")]
    VerifyOnly,
    /// No answer in time, and there was a change of leader meanwhile: the outcome is unknown.
    #[error("request timed out, possibly due to previous leader failure")]
    LeaderFailed,
    /// No answer in time, and the connection to the leader was lost meanwhile, or the leader's to
    /// most members: the outcome is unknown.
    #[error("request timed out, possibly due to connection lost")]
    ConnectionLost,
    /// The member that is to lead is no voter.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// The other member does not lead in time.
    #[error("request timed out, leader transfer took too long")]
    TransferTimeout,
    /// The member is stopping or has stopped.
    #[error("server stopped")]
    Stopped,
}
