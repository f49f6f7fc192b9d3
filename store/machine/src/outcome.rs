//! What applying and reading give back.
//!
//! Owns: the shapes of answers, events and planned reads. Must not know: how they are sent. A
//! newcomer's trap: headers in outcomes carry only the revision; the service fills ids and term.

use std::sync::Arc;

use kijabi_proto::{etcdserverpb as pb, mvccpb};

use crate::auth::AuthEvent;
use crate::error::Error;
use crate::state::StateBatch;

/// What one log entry changed.
#[derive(Debug, Default)]
pub struct Applied {
    /// One answer per command of the batch, in order.
    pub outcomes: Vec<Result<Outcome, Error>>,
    /// The durable changes, the applied index among them.
    ///
    /// Invariant (APPLY-1): write this batch atomically, while the machine is still locked.
    pub state: StateBatch,
    /// The events by revision, in order. Publish them after the state is written.
    pub events: Vec<Arc<RevisionEvents>>,
    /// What changed for those who have logged in, in order.
    pub auth: Vec<AuthEvent>,
}

/// The events of one revision: delivered whole (WATCH-2).
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionEvents {
    /// The revision all the events happened at.
    pub revision: i64,
    /// The events in the order of their sub revisions, each with its previous value if there was
    /// one and it was not left out.
    pub events: Vec<mvccpb::Event>,
    /// Whether previous values may be missing that can be read: they were too many bytes to be
    /// kept, or were not asked for yet.
    pub previous_left_out: bool,
}

/// The answer to one applied command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// To a put.
    Put(pb::PutResponse),
    /// To a delete.
    DeleteRange(pb::DeleteRangeResponse),
    /// To a transaction.
    Txn(pb::TxnResponse),
    /// To a compaction: scheduled; run [`crate::Machine::compact_step`] until it is done.
    Compaction(pb::CompactionResponse),
    /// To a lease grant.
    LeaseGrant(pb::LeaseGrantResponse),
    /// To a lease revoke.
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// To the revocation of expired leases: how many were still there.
    LeaseRevokeMany(usize),
    /// To renewals: the TTL of each lease, none if there is no such lease.
    LeaseRenewMany(Vec<Option<i64>>),
    /// To a change of alarms.
    Alarm(pb::AlarmResponse),
    /// To a change of users or roles.
    Auth(pb::ResponseHeader),
    /// To a login.
    Login {
        /// With the revision.
        header: pb::ResponseHeader,
        /// The log entry it stands in, which is part of the token.
        log_index: u64,
    },
    /// A member's attributes were recorded.
    MemberAttributes,
    /// The cluster's version or its downgrade was set.
    Version,
}

/// One bounded step of compaction.
#[derive(Debug)]
pub struct CompactStep {
    /// Deletions to write before the machine is unlocked.
    pub state: StateBatch,
    /// Whether everything up to the compacted revision is gone now.
    pub done: bool,
}
