//! The gRPC services, one file each: decode, check, delegate, map the error, fill the header.
//!
//! Owns: the wire types' last appearance on the way in and their first on the way out. Must not
//! know: how a change is agreed on or stored. A newcomer's trap: headers come from the machine
//! with the revision only; [`stamp`] adds the ids and the term.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod election;
pub(crate) mod guard;
mod hash;
pub(crate) mod health;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
mod range;
pub(crate) use range::{complete, streamed};
pub(crate) mod recipe;
mod snapshot;
pub(crate) mod watch;

pub(crate) use hash::hash_kv;
use kijabi_machine::Outcome;
use kijabi_proto::etcdserverpb::ResponseHeader;
use tonic::Status;

use crate::store::Store;

/// Fills ids and term into a header whose revision is known.
pub(crate) fn stamp(store: &Store, header: &mut Option<ResponseHeader>) {
    let revision = header.as_ref().map_or(0, |header| header.revision);
    *header = Some(store.header(revision));
}

/// An outcome of another kind than the command's: cannot be, but is not worth a panic.
pub(crate) fn mismatch(outcome: &Outcome) -> Status {
    tracing::error!(?outcome, "an outcome does not fit its command");
    Status::internal("etcdserver: outcome does not fit the request")
}
