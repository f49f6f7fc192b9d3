//! Fetching records by their rows: those that lie side by side in one go, the others each by its key.
//!
//! Owns: which of the two. Must not know: what a record is wanted for. A newcomer's trap: rows come
//! in the order of the keys that clients gave, records lie in the order of revisions. Keys that were
//! written one after the other lie side by side, and a walk past them costs less than their searches.

use std::ops::{ControlFlow, Range};

use super::row::Row;
use crate::state::{StateError, StateView, Table, Wanted};

/// Fewer rows are not worth a walk of their own.
const RUN_ROWS_MIN: usize = 16;
/// Revisions from one wanted row to the next one in a run.
const RUN_GAP_MAX: i64 = 4;
/// A walk gives up when it has passed so many bytes more than twice those it was for.
const PASSED_BYTES_MAX: usize = 64 << 10;
/// What it takes to pass a row, however short.
const ROW_BYTES: usize = 128;
/// Bytes of records that are copied to bring them in order.
const COPIED_BYTES_MAX: usize = 1 << 20;

/// Visits the records of `rows`, in their order; `None` for one that is not there.
pub(super) fn visit_records(
    view: &dyn StateView,
    rows: &[Row],
    visit: &mut dyn FnMut(Option<&[u8]>),
) -> Result<(), StateError> {
    if rows.len() < RUN_ROWS_MIN {
        return search(view, rows, visit);
    }
    if rows.is_sorted() && rows.windows(2).all(is_run) {
        let (mut done, mut failed) = (0, None);
        walk(view, rows, &mut |at, record| {
            if let Err(error) = search(view, &rows[done..at], visit) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            visit(Some(record));
            done = at + 1;
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)?;
        return search(view, &rows[done..], visit);
    }
    let copies = Copies::of_runs(view, rows)?;
    copies.visit(view, rows, visit)
}

fn is_run(pair: &[Row]) -> bool {
    pair[1].main - pair[0].main <= RUN_GAP_MAX
}

/// Looks each record up.
fn search(
    view: &dyn StateView,
    rows: &[Row],
    visit: &mut dyn FnMut(Option<&[u8]>),
) -> Result<(), StateError> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys: Vec<(Vec<u8>, bool)> = rows.iter().map(|row| (row.key(), row.large.0)).collect();
    view.visit_records(&keys, visit)
}

/// Visits the records of sorted rows, by their places, on one way past all that lie between them.
/// It may give up before the end.
fn walk(
    view: &dyn StateView,
    rows: &[Row],
    visit: &mut dyn FnMut(usize, &[u8]) -> ControlFlow<()>,
) -> Result<(), StateError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let (from, mut to) = (first.key(), last.key());
    // The least key beyond the last one.
    to.push(0);
    let (mut at, mut failed) = (0, None);
    let (mut taken, mut passed) = (0, 0);
    let mut pass = |key: &[u8], record: &[u8]| {
        let Some(found) = Row::parse(key) else {
            failed = Some(StateError(format!("not a row's key: {key:?}")));
            return ControlFlow::Break(());
        };
        while rows.get(at).is_some_and(|wanted| *wanted < found) {
            at += 1;
        }
        let bytes = record.len() + ROW_BYTES;
        if rows.get(at) == Some(&found) {
            taken += bytes;
            return visit(at, record);
        }
        passed += bytes;
        if passed > 2 * taken + PASSED_BYTES_MAX {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    if rows.iter().all(|row| row.large.0) {
        view.scan_rows(Wanted::Large, &from, Some(&to), &mut pass)?;
    } else {
        view.scan(Table::Key, &from, Some(&to), &mut pass)?;
    }
    failed.map_or(Ok(()), Err)
}

/// Copies of the records of some rows, by the rows' places.
struct Copies {
    bytes: Vec<u8>,
    places: Vec<Option<Range<usize>>>,
}

impl Copies {
    /// Copies the records that lie in runs, as long as there is room.
    fn of_runs(view: &dyn StateView, rows: &[Row]) -> Result<Self, StateError> {
        let mut sorted: Vec<(Row, usize)> = rows.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let mut copies = Self { bytes: Vec::new(), places: vec![None; rows.len()] };
        for run in sorted.chunk_by(|before, after| is_run(&[before.0, after.0])) {
            if run.len() < RUN_ROWS_MIN {
                continue;
            }
            let run_rows: Vec<Row> = run.iter().map(|(row, _)| *row).collect();
            walk(view, &run_rows, &mut |at, record| {
                let left = COPIED_BYTES_MAX - copies.bytes.len();
                if record.len() > left {
                    return ControlFlow::Break(());
                }
                if record.len() > copies.bytes.capacity() - copies.bytes.len() {
                    // The others are about as long as this one.
                    copies.bytes.reserve_exact(left.min(record.len() * (run.len() - at)));
                }
                let begin = copies.bytes.len();
                copies.bytes.extend_from_slice(record);
                copies.places[run[at].1] = Some(begin..copies.bytes.len());
                ControlFlow::Continue(())
            })?;
        }
        Ok(copies)
    }

    /// Visits the records of all rows: the copies, and between them what has to be looked up.
    fn visit(
        &self,
        view: &dyn StateView,
        rows: &[Row],
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Result<(), StateError> {
        let missing = rows.iter().zip(&self.places).filter(|(_, place)| place.is_none());
        let missing: Vec<Row> = missing.map(|(row, _)| *row).collect();
        let mut places = self.places.iter();
        search(view, &missing, &mut |record| {
            for place in places.by_ref() {
                let Some(copy) = place else { break };
                visit(Some(&self.bytes[copy.clone()]));
            }
            visit(record);
        })?;
        for copy in places.flatten() {
            visit(Some(&self.bytes[copy.clone()]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;

    use super::*;
    use crate::state::{MemoryState, StateBatch, VisitPair};

    /// Counts how records are read.
    #[derive(Default)]
    struct Counting {
        state: MemoryState,
        searched: Cell<usize>,
        walked: Cell<usize>,
    }

    impl StateView for Counting {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
            self.searched.set(self.searched.get() + 1);
            self.state.get(table, key)
        }

        fn scan(
            &self,
            table: Table,
            from: &[u8],
            to: Option<&[u8]>,
            visit: &mut VisitPair<'_>,
        ) -> Result<(), StateError> {
            self.state.scan(table, from, to, &mut |key, record| {
                self.walked.set(self.walked.get() + 1);
                visit(key, record)
            })
        }
    }

    impl Counting {
        fn holding(rows: impl Iterator<Item = Row>, record: impl Fn(Row) -> Vec<u8>) -> Self {
            let this = Self::default();
            let mut batch = StateBatch::default();
            rows.for_each(|row| batch.put(Table::Key, row.key(), record(row)));
            this.state.write(&batch);
            this
        }

        /// The visited records, how many were searched and how many were walked past.
        fn fetch(&self, rows: &[Row]) -> (Vec<Option<Vec<u8>>>, usize, usize) {
            let mut records = Vec::new();
            visit_records(self, rows, &mut |record| records.push(record.map(<[u8]>::to_vec)))
                .unwrap();
            (records, self.searched.take(), self.walked.take())
        }
    }

    fn row(main: i64, sub: u32) -> Row {
        Row::new(main, sub, false)
    }

    fn named(row: Row) -> Vec<u8> {
        format!("{}.{}", row.main, row.sub).into_bytes()
    }

    fn expected(rows: &[Row]) -> Vec<Option<Vec<u8>>> {
        rows.iter().map(|row| Some(named(*row))).collect()
    }

    #[test]
    fn rows_side_by_side_are_read_on_one_way() {
        let state = Counting::holding((1..=200).map(|main| row(main, 0)), named);
        let rows: Vec<Row> = (20..120).filter(|main| main % 3 > 0).map(|at| row(at, 0)).collect();
        assert_eq!(state.fetch(&rows), (expected(&rows), 0, 100));
        let mixed: Vec<Row> = (0..100).map(|at| row(1 + at * 37 % 100, 0)).collect();
        assert_eq!(state.fetch(&mixed), (expected(&mixed), 0, 100));
    }

    #[test]
    fn rows_far_from_each_other_and_few_rows_are_looked_up() {
        let state = Counting::holding((1..=900).map(|main| row(main, 0)), named);
        let far: Vec<Row> = (0..100).map(|at| row(1 + at * 9, 0)).collect();
        assert_eq!(state.fetch(&far), (expected(&far), 100, 0));
        let few: Vec<Row> = (0..15).map(|at| row(1 + at, 0)).collect();
        assert_eq!(state.fetch(&few), (expected(&few), 15, 0));
        let both: Vec<Row> = far[50..].iter().chain(&few).chain(&[row(16, 0)]).copied().collect();
        assert_eq!(state.fetch(&both), (expected(&both), 50, 16));
        assert_eq!(state.fetch(&[]), (vec![], 0, 0));
    }

    #[test]
    fn what_is_not_there_is_told_at_its_place() {
        let state = Counting::holding((1..=50).map(|main| row(main * 2, 0)), named);
        let rows: Vec<Row> = (0..=102).map(|main| row(main, 0)).collect();
        let there = |row: &Row| row.main > 0 && row.main <= 100 && row.main % 2 == 0;
        let expected: Vec<_> = rows.iter().map(|row| there(row).then(|| named(*row))).collect();
        assert_eq!(state.fetch(&rows).0, expected);
        let reversed: Vec<Row> = rows.iter().rev().copied().collect();
        let expected: Vec<_> = expected.into_iter().rev().collect();
        assert_eq!(state.fetch(&reversed).0, expected);
    }

    /// In either order, what is not reached within so many rows is looked up.
    #[track_caller]
    fn gives_up(state: &Counting, rows: &[Row], expected: &[Option<Vec<u8>>], walked_max: usize) {
        let reversed: Vec<Row> = rows.iter().rev().copied().collect();
        let expected_reversed: Vec<_> = expected.iter().rev().cloned().collect();
        for (rows, expected) in [(rows, expected), (&reversed, &expected_reversed)] {
            let (records, searched, walked) = state.fetch(rows);
            assert!(records == expected, "the records of the rows, in their order");
            assert!(searched > 0 && walked < walked_max, "{searched} searched, {walked} walked");
        }
    }

    #[test]
    fn a_walk_past_too_many_rows_gives_up() {
        // Transactions of a thousand changes each, one of which is wanted.
        let all = (1..=20).flat_map(|main| (0..1000).map(move |sub| row(main, sub)));
        let state = Counting::holding(all, named);
        let rows: Vec<Row> = (1..=20).map(|main| row(main, 500)).collect();
        gives_up(&state, &rows, &expected(&rows), 600);
    }

    #[test]
    fn a_walk_past_too_many_bytes_gives_up() {
        let record = |row: Row| if row.main % 4 == 0 { named(row) } else { vec![0; 40_000] };
        let state = Counting::holding((1..=400).map(|main| row(main, 0)), record);
        let rows: Vec<Row> = (1..=100).map(|at| row(at * 4, 0)).collect();
        gives_up(&state, &rows, &expected(&rows), 5);
    }

    #[test]
    fn records_that_have_no_room_are_looked_up() {
        let large = |row: Row| vec![row.main as u8; COPIED_BYTES_MAX / 10];
        let state = Counting::holding((1..=40).map(|main| row(main, 0)), large);
        let rows: Vec<Row> = (1..=40).rev().map(|main| row(main, 0)).collect();
        let (records, searched, _) = state.fetch(&rows);
        let expected: Vec<_> = rows.iter().map(|row| Some(large(*row))).collect();
        assert!(records == expected, "the records of the rows, in their order");
        assert_eq!(searched, 30);
    }
}
