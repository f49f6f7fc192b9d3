//! The store's state machine: revisions, ranges, transactions, compaction, leases. Pure.
//!
//! Owns: what a committed command means. Must not know: files, sockets, clocks, Raft. A newcomer's
//! trap: state is read through [`state::StateReader`] but never written directly; a batch's changes
//! come out as a [`state::StateBatch`] that the caller stores together with the applied index
//! (APPLY-1).

pub mod state;
