//! Checks of transactions: how many operations, how deep, and that no key is changed twice.
//!
//! Owns: etcd's rules, with their gaps. Must not know: which branch will run; both are checked. A
//! newcomer's trap: a delete range that ends in `"\0"` is read literally by etcd here, as an empty
//! range, so it overlaps nothing; and a nested put is compared with the deletes of nested
//! transactions before it, not with those after it.

use std::collections::BTreeSet;

use kijabi_base::limits::TXN_DEPTH_MAX;
use kijabi_machine::KeyRange;
use kijabi_proto::etcdserverpb::request_op::Request;
use kijabi_proto::etcdserverpb::{RequestOp, TxnRequest};

use super::kv;
use crate::status::EtcdError;
use crate::watch::Coverage;

/// Checks a transaction whose branches may hold `ops_max` operations each.
pub(crate) fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), EtcdError> {
    shape(request, ops_max, TXN_DEPTH_MAX)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

/// Each level takes its share of the operations; the depth is bounded before going down.
///
/// Differs from etcd: transactions nested deeper than [`TXN_DEPTH_MAX`] are refused as too many
/// operations; etcd goes down to 128 levels.
fn shape(request: &TxnRequest, ops_max: usize, depth_max: usize) -> Result<(), EtcdError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let ops_left = ops_max.checked_sub(ops).ok_or(EtcdError::TooManyOps)?;
    let depth_left = depth_max.checked_sub(1).ok_or(EtcdError::TooManyOps)?;
    request.compare.iter().try_for_each(|compare| kv::key(&compare.key))?;
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(range)) => kv::range(range),
        Some(Request::RequestPut(put)) => kv::put(put),
        Some(Request::RequestDeleteRange(delete)) => kv::delete_range(delete),
        Some(Request::RequestTxn(nested)) => shape(nested, ops_left, depth_left),
        None => Err(EtcdError::KeyNotFound),
    })
}

/// The keys a branch changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Coverage,
}

fn changes(ops: &[RequestOp]) -> Result<Changes<'_>, EtcdError> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request
            && delete.range_end[..] != [0]
        {
            all.deletes.add(KeyRange::of(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            // Only one of the two branches runs: they may change the same keys.
            let (then, otherwise) = (changes(&nested.success)?, changes(&nested.failure)?);
            let puts = union(then.puts, otherwise.puts);
            if puts.iter().any(|key| all.deletes.contains(key)) {
                return Err(EtcdError::DuplicateKey);
            }
            all.puts = disjoint_union(std::mem::take(&mut all.puts), puts)?;
            all.deletes.merge(then.deletes);
            all.deletes.merge(otherwise.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request
            && (all.deletes.contains(&put.key) || !all.puts.insert(&put.key))
        {
            return Err(EtcdError::DuplicateKey);
        }
    }
    Ok(all)
}

/// Both sets, in time of the smaller one.
fn union<'a>(a: BTreeSet<&'a [u8]>, b: BTreeSet<&'a [u8]>) -> BTreeSet<&'a [u8]> {
    let (mut large, small) = if a.len() < b.len() { (b, a) } else { (a, b) };
    large.extend(small);
    large
}

/// Both sets, which must have nothing in common.
fn disjoint_union<'a>(
    a: BTreeSet<&'a [u8]>,
    b: BTreeSet<&'a [u8]>,
) -> Result<BTreeSet<&'a [u8]>, EtcdError> {
    let keys = a.len() + b.len();
    let both = union(a, b);
    if both.len() == keys { Ok(both) } else { Err(EtcdError::DuplicateKey) }
}

#[cfg(test)]
mod tests {
    use kijabi_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest};

    use super::*;

    const MAX: usize = 128;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put(key: &str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.to_owned().into(), ..Default::default() }))
    }

    fn delete(key: &str, end: &str) -> RequestOp {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
    }

    fn then(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { success, ..Default::default() }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest { success, failure, ..Default::default() }))
    }

    fn deep(levels: usize) -> TxnRequest {
        (1..levels).fold(then(Vec::new()), |txn, _| then(vec![op(Request::RequestTxn(txn))]))
    }

    #[test]
    fn no_key_is_changed_twice() {
        let duplicate = Err(EtcdError::DuplicateKey);
        let cases = [
            (vec![put("a"), put("b")], Ok(())),
            (vec![put("a"), put("a")], duplicate),
            (vec![put("b"), delete("a", "c")], duplicate),
            (vec![delete("a", "c"), put("c")], Ok(())),
            (vec![delete("a", "c"), delete("b", "d")], Ok(())),
            (vec![delete("a", ""), put("a")], duplicate),
            // etcd reads this end literally here.
            (vec![delete("a", "\0"), put("b")], Ok(())),
            (vec![nested(vec![put("a")], vec![put("a")])], Ok(())),
            (vec![nested(vec![put("a")], vec![]), put("a")], duplicate),
            (vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])], duplicate),
            (vec![nested(vec![delete("a", "")], vec![]), put("a")], duplicate),
            (
                vec![nested(vec![delete("a", "")], vec![]), nested(vec![put("a")], vec![])],
                duplicate,
            ),
            (vec![nested(vec![put("a")], vec![]), nested(vec![delete("a", "")], vec![])], Ok(())),
            (vec![nested(vec![put("a")], vec![delete("a", "")])], Ok(())),
        ];
        for (at, (ops, expected)) in cases.into_iter().enumerate() {
            assert_eq!(txn(&then(ops.clone()), MAX), expected, "case {at}");
            let otherwise = TxnRequest { failure: ops, ..Default::default() };
            assert_eq!(txn(&otherwise, MAX), expected, "case {at} in the other branch");
        }
    }

    #[test]
    fn operations_and_depth_are_bounded() {
        let many = |count: usize| -> Vec<RequestOp> {
            (0..count).map(|at| put(&format!("k{at}"))).collect()
        };
        assert_eq!(txn(&then(many(128)), MAX), Ok(()));
        assert_eq!(txn(&then(many(129)), MAX), Err(EtcdError::TooManyOps));
        let mut inner = many(64);
        inner.push(nested(vec![put("x"); 64], vec![]));
        assert_eq!(txn(&then(inner), MAX), Err(EtcdError::TooManyOps), "65 and 64 are too many");
        assert_eq!(txn(&deep(TXN_DEPTH_MAX), MAX), Ok(()));
        assert_eq!(txn(&deep(TXN_DEPTH_MAX + 1), MAX), Err(EtcdError::TooManyOps));
        assert_eq!(txn(&deep(5000), MAX), Err(EtcdError::TooManyOps));
    }

    #[test]
    fn operations_are_checked_like_requests_of_their_own() {
        let range = |sort_order, key: &str| {
            op(Request::RequestRange(RangeRequest {
                key: key.to_owned().into(),
                sort_order,
                ..Default::default()
            }))
        };
        assert_eq!(txn(&then(vec![range(3, "a")]), MAX), Err(EtcdError::InvalidSortOption));
        assert_eq!(txn(&then(vec![range(0, "")]), MAX), Err(EtcdError::EmptyKey));
        assert_eq!(txn(&then(vec![put("")]), MAX), Err(EtcdError::EmptyKey));
        let nothing = RequestOp { request: None };
        assert_eq!(txn(&then(vec![nothing]), MAX), Err(EtcdError::KeyNotFound));
        let compare = TxnRequest { compare: vec![Compare::default()], ..Default::default() };
        assert_eq!(txn(&compare, MAX), Err(EtcdError::EmptyKey));
    }

    /// E3 of the hostile inputs: many operations spread over nested transactions.
    #[test]
    fn a_hundred_thousand_changes_are_compared_without_quadratic_work() {
        let leaf = |from: usize| -> Vec<RequestOp> {
            (from..from + 60).map(|at| put(&format!("{at:08}"))).collect()
        };
        let wide = |from: usize| -> Vec<RequestOp> {
            (0..40).map(|at| nested(leaf(from + at * 60), leaf(from + at * 60))).collect()
        };
        let all: Vec<RequestOp> = (0..20).map(|at| nested(wide(at * 2400), vec![])).collect();
        assert_eq!(txn(&then(all), MAX), Ok(()));
    }
}
