//! The only crate that touches data files: the Raft log, RocksDB state, snapshots.
//!
//! Owns: durability and what a crash may leave. Must not know: Raft's rules, or what the state
//! means. A newcomer's trap: RocksDB's own log is off. The Raft log is the log: an entry may only
//! be purged from it once [`state::State::flush`] has made what it did durable.

pub mod bbolt;
pub mod etcd_wal;
pub mod lock;
pub mod small;
pub mod snapshot;
pub mod state;
pub mod vfs;
pub mod wal;
