//! The conditions of a transaction.
//!
//! Owns: what a comparison means. Must not know: what follows from it. A newcomer's trap: a key
//! that is not there compares as 0, except by value, where every comparison with it fails.

use std::cmp::Ordering;

use kijabi_proto::etcdserverpb::Compare;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::lease::Leases;
use crate::mvcc::{KeyRange, Mvcc};
use crate::state::StateError;

/// Whether all of `compares` hold now.
pub(super) fn all_hold(
    mvcc: &Mvcc,
    leases: &Leases,
    compares: &[Compare],
) -> Result<bool, StateError> {
    for compare in compares {
        if !holds(mvcc, leases, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(mvcc: &Mvcc, leases: &Leases, compare: &Compare) -> Result<bool, StateError> {
    let range = KeyRange::of(&compare.key, &compare.range_end);
    let Ok(target) = CompareTarget::try_from(compare.target) else {
        // etcd compares nothing for a target it does not know: the two sides are equal.
        return Ok(satisfies(Ordering::Equal, compare));
    };
    if target == CompareTarget::Value {
        return values_hold(mvcc, range, compare);
    }
    let operand = number(compare, target);
    let (mut found, mut all) = (false, true);
    mvcc.visit_current(range, |key, current| {
        found = true;
        let number = match target {
            CompareTarget::Version => current.version,
            CompareTarget::Create => current.created,
            CompareTarget::Mod => current.row.main,
            CompareTarget::Lease => leases.of_key(key).0,
            CompareTarget::Value => unreachable!("decided above"),
        };
        all &= satisfies(number.cmp(&operand), compare);
    });
    Ok(if found { all } else { satisfies(0.cmp(&operand), compare) })
}

fn values_hold(mvcc: &Mvcc, range: KeyRange<'_>, compare: &Compare) -> Result<bool, StateError> {
    let operand: &[u8] = match &compare.target_union {
        Some(TargetUnion::Value(value)) => value,
        _ => &[],
    };
    let mut rows = Vec::new();
    mvcc.visit_current(range, |_, current| rows.push(current.row));
    if rows.is_empty() {
        return Ok(false);
    }
    for row in rows {
        if !satisfies(mvcc.record(row)?.value[..].cmp(operand), compare) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The operand; 0 if none, or one of another target, was given.
fn number(compare: &Compare, target: CompareTarget) -> i64 {
    match (target, &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(number)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(number)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(number)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}

fn satisfies(ordering: Ordering, compare: &Compare) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        // A result that etcd does not know always holds there.
        Err(_) => true,
    }
}
