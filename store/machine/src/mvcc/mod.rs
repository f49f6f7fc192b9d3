//! Multi-version storage: every change of a key is a revision that can be read back.
//!
//! Owns: revisions, the index over them, reads, writes, compaction and history. Must not know:
//! leases' time, transactions' conditions. A newcomer's trap: the index is changed at once, the
//! rows only when the caller writes the state batch; until then they are in the overlay.

mod compact;
mod entry;
mod fetch;
mod head;
mod history;
mod index;
mod key_range;
mod load;
mod open;
mod range;
mod row;
mod store;
mod tree;
mod write;

pub use head::{is_record_head, record_head};
pub use history::{History, HistoryLimit, PreviousPlan, read_history};
pub use key_range::KeyRange;
pub use range::RangePlan;
pub use row::Row;
pub(crate) use store::Mvcc;
pub(crate) use write::Write;
