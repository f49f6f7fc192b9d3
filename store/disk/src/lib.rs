//! The only crate that touches data files: the Raft log, RocksDB state, snapshots.
