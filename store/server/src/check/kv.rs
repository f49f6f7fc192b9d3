//! Checks of single operations.
//!
//! Owns: keys, sort options and the `ignore_*` flags. Must not know: transactions. A newcomer's
//! trap: the same checks run on operations inside transactions.

use kijabi_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kijabi_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::status::EtcdError;

/// Checks a range.
pub(crate) fn range(request: &RangeRequest) -> Result<(), EtcdError> {
    key(&request.key)?;
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(EtcdError::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
pub(crate) fn put(request: &PutRequest) -> Result<(), EtcdError> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(EtcdError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(EtcdError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
pub(crate) fn delete_range(request: &DeleteRangeRequest) -> Result<(), EtcdError> {
    key(&request.key)
}

/// Checks that there is a key.
pub(super) fn key(key: &[u8]) -> Result<(), EtcdError> {
    if key.is_empty() { Err(EtcdError::EmptyKey) } else { Ok(()) }
}
