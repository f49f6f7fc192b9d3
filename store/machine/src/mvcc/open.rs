//! Reading the rows of the state when a member starts, several parts of them at once.
//!
//! Owns: which thread reads which revisions, and which joins which keys. Must not know: how an index is built. A newcomer's
//! trap: a part knows nothing of the others, so nothing may depend on what happened before it.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::head::change;
use super::index::Index;
use super::load::{Leases, Loaded, Loading, Piece};
use super::row::Row;
use crate::state::{StateError, StateReader};

/// More threads would read the same disk.
const THREADS_MAX: usize = 8;
/// Parts for each thread: they take as long as each other only about.
const PARTS_PER_THREAD: i64 = 4;
/// Fewer revisions are not worth another part; each may have thousands of rows.
const PART_REVISIONS_MIN: i64 = 100;

/// The index of a state.
pub(super) struct Opened {
    pub(super) index: Index,
    /// Which keys hold a lease now.
    pub(super) leases: Leases,
    /// The last revision there is; 0 if there is none.
    pub(super) newest: i64,
}

/// What a part was found to have, and its last revision.
type Part = (Loaded, i64);

/// Builds the index from all rows of the state, whose last revision is about `last`.
pub(super) fn open(state: &dyn StateReader, last: i64) -> Result<Opened, StateError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let (loaded, newest) = load(state, last, threads)?;
    let join = |range: Loaded| move || range.join();
    let pieces = at_once(loaded.by_ranges(threads).into_iter().map(join))?;
    let (index, leases) = Piece::index(pieces);
    Ok(Opened { index, leases, newest })
}

/// Reads all rows.
fn load(state: &dyn StateReader, last: i64, threads: usize) -> Result<Part, StateError> {
    let parts = (threads as i64 * PARTS_PER_THREAD).min(last / PART_REVISIONS_MIN).max(1);
    let bytes_before = |revision: i64| {
        let (from, to) = (Row::first_key_of(0), Row::first_key_of(revision));
        state.estimated_bytes(&from, &to)
    };
    let begins = begins(last, parts, bytes_before);
    let next = AtomicUsize::new(0);
    // One after the other, whoever is free.
    let read = || {
        let (mut loading, mut loaded) = (Loading::default(), Vec::new());
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            let Some(&begin) = begins.get(part) else { return Ok(loaded) };
            let end = begins.get(part + 1).copied();
            loaded.push((part, load_part(state, begin, end, &mut loading)?));
        }
    };
    let loaded = at_once((0..threads.min(begins.len())).map(|_| read))?;
    let loaded: Vec<Vec<(usize, Part)>> = loaded.into_iter().collect::<Result<_, StateError>>()?;
    let mut parts: Vec<(usize, Part)> = loaded.into_iter().flatten().collect();
    parts.sort_unstable_by_key(|(part, _)| *part);
    let (mut all, mut newest) = (Loaded::default(), 0);
    for (_, (part, last)) in parts {
        all.append(part);
        newest = newest.max(last);
    }
    Ok((all, newest))
}

/// Runs each on a thread of its own.
fn at_once<T: Send>(
    jobs: impl Iterator<Item = impl FnOnce() -> T + Send>,
) -> Result<Vec<T>, StateError> {
    thread::scope(|scope| {
        let start = |job| {
            let started = thread::Builder::new().name("load".into()).spawn_scoped(scope, job);
            started.map_err(|error| StateError(format!("no thread to read the state: {error}")))
        };
        let threads: Vec<_> = jobs.map(start).collect::<Result<_, _>>()?;
        let panicked = |_| StateError("a thread that reads the state panicked".into());
        threads.into_iter().map(|thread| thread.join().map_err(panicked)).collect()
    })
}

/// The first revisions of parts that have about as many bytes as each other. Revisions tell little:
/// one may have thousands of rows, and the next a thousand one.
///
/// What `bytes_before` says of a revision is an estimate that may change from one call to the next,
/// as files are merged meanwhile. So each boundary is looked for once, and lies after those before.
fn begins(last: i64, parts: i64, bytes_before: impl Fn(i64) -> u64) -> Vec<i64> {
    let all = bytes_before(i64::MAX);
    let mut begins = vec![0];
    let mut previous = 0;
    for part in 1..parts {
        let wanted = all / parts.unsigned_abs() * part.unsigned_abs();
        let (mut from, mut to) = (previous, last);
        if wanted == 0 {
            from = last / parts * part;
            to = from;
        }
        while from < to {
            let middle = from.midpoint(to);
            if bytes_before(middle) < wanted {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        previous = from;
        begins.push(from);
    }
    begins
}

/// The rows of the revisions from `from` on, before `to`.
fn load_part(
    state: &dyn StateReader,
    from: i64,
    to: Option<i64>,
    loading: &mut Loading,
) -> Result<Part, StateError> {
    let (mut newest, mut failed) = (0, None);
    let (from, to) = (Row::first_key_of(from), to.map(Row::first_key_of));
    state.scan_through(&from, to.as_deref(), &mut |key, record| {
        let change = Row::parse(key).and_then(|row| change(row, record));
        let Some(change) = change else {
            failed = Some(StateError(format!("the row {key:?} cannot be read")));
            return ControlFlow::Break(());
        };
        newest = change.row.main;
        loading.record(&change);
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok((loading.finish(), newest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_as_many_bytes_as_each_other() {
        // A few large revisions at the begin, and many small ones.
        let sizes = [vec![1000; 10], vec![1; 990]].concat();
        let before = |revision: i64| sizes.iter().take(revision as usize).sum();
        assert_eq!(begins(1000, 4, before), [0, 3, 6, 9]);
        // Nobody knows.
        assert_eq!(begins(1000, 4, |_| 0), [0, 250, 500, 750]);
    }

    /// Whatever the estimates are, no revision is in two parts, and none in no part.
    #[test]
    fn parts_follow_each_other_while_the_estimates_change() {
        let calls = std::cell::Cell::new(0_u64);
        let erratic = |revision: i64| {
            calls.set(calls.get() + 1);
            revision.unsigned_abs().wrapping_mul(calls.get().wrapping_mul(0x9e37_79b9)) >> 16
        };
        for _ in 0..100 {
            let begins = begins(1000, 8, erratic);
            assert_eq!((begins.len(), begins.first()), (8, Some(&0)));
            assert!(begins.is_sorted(), "{begins:?}");
        }
    }
}
