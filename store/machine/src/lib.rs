//! The store's state machine: revisions, ranges, transactions, compaction, leases. Pure.
//!
//! Owns: what a committed command means. Must not know: files, sockets, clocks, Raft. A newcomer's
//! trap: state is read through [`state::StateReader`] but never written directly; a batch's changes
//! come out as a [`state::StateBatch`] that the caller stores together with the applied index
//! (APPLY-1).

mod apply;
mod auth;
mod cluster;
mod digest;
mod error;
pub mod exchange;
mod id;
mod lease;
mod machine;
mod members;
mod meta;
mod mvcc;
mod outcome;
mod quota;
pub mod state;
mod txn;
mod version;

pub use auth::{Auth, AuthError, AuthEvent, Caller, PasswordHash, auth_rows};
pub use error::Error;
pub use id::LeaseId;
pub use machine::{Machine, Settings};
pub use mvcc::{
    History, HistoryLimit, KeyRange, PreviousPlan, RangePlan, Row, is_record_head, read_history,
    record_head,
};
pub use outcome::{Applied, CompactStep, Outcome, RevisionEvents};
pub use quota::quota_cost;
pub use txn::{TxnPlan, is_read_only, needs_read_barrier};
pub use version::Version;
