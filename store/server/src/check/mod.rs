//! Shape checks: what is wrong with a request whatever the store holds.
//!
//! Owns: etcd's checks in etcd's order, because the first one that fails names the error. Must not
//! know: the store's state. A newcomer's trap: a check runs on hostile input before anything else
//! does, so it must be bounded in depth and n·log n in time.

mod kv;
mod txn;

pub(crate) use kv::{delete_range, put, range};
pub(crate) use txn::txn;
