//! Deciding which branches run, and checking everything in them that could fail.
//!
//! Owns: the decisions in the order of execution. Must not know: how a branch is carried out. A
//! newcomer's trap: the order of the checks is part of the interface, because it decides which
//! error a client sees.

use std::collections::VecDeque;

use kijabi_base::limits::TXN_DEPTH_MAX;
use kijabi_proto::etcdserverpb::request_op::Request;
use kijabi_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::compare::all_hold;
use crate::error::Error;
use crate::id::LeaseId;
use crate::lease::Leases;
use crate::mvcc::Mvcc;

/// The decisions of a transaction and of those nested in the branches taken, in the order of
/// execution.
pub(super) type Path = VecDeque<bool>;

/// The operations of the branch taken.
pub(super) fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Decides the branches and checks them.
pub(super) fn decide(mvcc: &Mvcc, leases: &Leases, request: &TxnRequest) -> Result<Path, Error> {
    let mut path = Path::new();
    extend(mvcc, leases, request, TXN_DEPTH_MAX, &mut path)?;
    check(mvcc, leases, request, &mut path.iter(), &mut None)?;
    Ok(path)
}

fn extend(
    mvcc: &Mvcc,
    leases: &Leases,
    request: &TxnRequest,
    depth_left: usize,
    path: &mut Path,
) -> Result<(), Error> {
    let depth_left = depth_left.checked_sub(1).ok_or(Error::TooManyOps)?;
    let succeeded = all_hold(mvcc, leases, &request.compare)?;
    path.push_back(succeeded);
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            extend(mvcc, leases, nested, depth_left, path)?;
        }
    }
    Ok(())
}

/// `deleted_from`: keys from here on are deleted by an earlier operation. The service refuses a put
/// after any other delete of its key, but reads an end of `"\0"` literally, as etcd does.
fn check<'a>(
    mvcc: &Mvcc,
    leases: &Leases,
    request: &'a TxnRequest,
    path: &mut std::collections::vec_deque::Iter<'_, bool>,
    deleted_from: &mut Option<&'a [u8]>,
) -> Result<(), Error> {
    let succeeded = *path.next().expect("one decision was made for each transaction");
    for op in branch(request, succeeded) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(mvcc, range)?,
            Some(Request::RequestPut(put)) => {
                let gone = deleted_from.is_some_and(|from| from <= &put.key[..]);
                if gone && (put.ignore_value || put.ignore_lease) {
                    return Err(Error::KeyNotFound);
                }
                check_put(mvcc, leases, put)?;
            }
            Some(Request::RequestTxn(nested)) => {
                check(mvcc, leases, nested, path, deleted_from)?;
            }
            Some(Request::RequestDeleteRange(delete)) if delete.range_end[..] == [0] => {
                let from = &delete.key[..];
                *deleted_from = Some(deleted_from.map_or(from, |old| old.min(from)));
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

fn check_range(mvcc: &Mvcc, range: &RangeRequest) -> Result<(), Error> {
    if range.revision > mvcc.revision() {
        return Err(Error::FutureRevision);
    }
    if range.revision != 0 && range.revision < mvcc.compacted_revision() {
        return Err(Error::Compacted);
    }
    Ok(())
}

fn check_put(mvcc: &Mvcc, leases: &Leases, put: &PutRequest) -> Result<(), Error> {
    if (put.ignore_value || put.ignore_lease) && !mvcc.contains(&put.key) {
        return Err(Error::KeyNotFound);
    }
    check_lease(leases, LeaseId(put.lease))
}

/// A put may name no lease, or one that is there.
pub(super) fn check_lease(leases: &Leases, id: LeaseId) -> Result<(), Error> {
    if id == LeaseId::NONE || leases.contains(id) { Ok(()) } else { Err(Error::LeaseNotFound) }
}
