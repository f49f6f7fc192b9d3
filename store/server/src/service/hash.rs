//! etcd's hash of the key space, the same on every member and on etcd itself.
//!
//! Owns: which rows count. Must not know: gRPC. A newcomer's trap: at or below the compacted
//! revision only what was alive at the hashed revision counts, whether the compaction has already
//! removed the rest or not.

use std::ops::ControlFlow;

use kijabi_machine::state::{StateReader, Table};
use kijabi_machine::{Error, Machine, Row};
use kijabi_proto::etcdserverpb as pb;
use parking_lot::RwLock;

/// A hash and what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) hash: u32,
    /// The current revision.
    pub(crate) current: i64,
    /// The compacted revision.
    pub(crate) compacted: i64,
    /// The last revision that counts.
    pub(crate) upto: i64,
}

// Differs from etcd: one that runs keeps the hashes of its last ten compactions, taken before the
// rows went, and answers with them when it is asked for just these revisions.
/// Hashes the key space up to the revision `asked` for; 0 is the current one.
pub(crate) fn hash_kv(
    machine: &RwLock<Machine>,
    state: &dyn StateReader,
    asked: i64,
) -> Result<Hashed, Error> {
    loop {
        let (current, compacted, upto, alive) = plan(&machine.read(), asked)?;
        let hash = hash_rows(state, compacted, upto, &alive)?;
        // A compaction in between may have removed rows that should have counted.
        if machine.read().compacted_revision() == compacted {
            return Ok(Hashed { hash, current, compacted, upto });
        }
    }
}

/// The revisions, and the rows alive at the hashed one among those at or below the compacted one.
fn plan(machine: &Machine, asked: i64) -> Result<(i64, i64, i64, Alive), Error> {
    let (current, compacted) = (machine.revision(), machine.compacted_revision());
    if asked > 0 && asked < compacted {
        return Err(Error::Compacted);
    }
    if asked > current {
        return Err(Error::FutureRevision);
    }
    let upto = if asked == 0 { current } else { asked };
    let everything = pb::RangeRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        revision: upto,
        keys_only: true,
        ..Default::default()
    };
    let plan = machine.range(&everything)?;
    let mut old: Vec<(i64, u32)> = plan
        .rows()
        .iter()
        .filter(|row| row.main <= compacted)
        .map(|row| (row.main, row.sub))
        .collect();
    old.sort_unstable();
    Ok((current, compacted, upto, Alive { old, none: plan.rows().is_empty() }))
}

struct Alive {
    /// In order.
    old: Vec<(i64, u32)>,
    /// Whether no row at all is alive; etcd then skips none.
    none: bool,
}

fn hash_rows(
    state: &dyn StateReader,
    compacted: i64,
    upto: i64,
    alive: &Alive,
) -> Result<u32, Error> {
    let mut crc = crc32c::crc32c(Table::Key.name().as_bytes());
    // Nothing is as old as a negative revision, which etcd takes, too.
    let end = Row::first_key_of(upto.saturating_add(1).max(0));
    state.scan(Table::Key, &[], Some(&end), &mut |key, value| {
        let Some(row) = Row::parse(key) else { return ControlFlow::Continue(()) };
        let due = row.main <= compacted
            && !alive.none
            && alive.old.binary_search(&(row.main, row.sub)).is_err();
        // A tombstone at the compacted revision is kept by some versions of etcd and not by
        // others, so it never counts.
        let is_old_tombstone = row.tombstone && row.main == compacted;
        if !due && !is_old_tombstone {
            crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value);
        }
        ControlFlow::Continue(())
    })?;
    Ok(crc)
}
