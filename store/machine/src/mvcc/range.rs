//! Range reads: which rows answer a request, then their values.
//!
//! Owns: revisions asked for, limits, counts, filters and sorting. Must not know: how the answer
//! is sent. A newcomer's trap: `count` is the number of keys in the range at that revision,
//! whatever limit and filters say; the header's revision is the current one even for a read of
//! the past.

use std::cmp::{Ordering, Reverse};
use std::ops::ControlFlow;

use bytes::Bytes;
use kijabi_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kijabi_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use kijabi_proto::mvccpb::KeyValue;
use prost::Message as _;
use prost::encoding::encoded_len_varint;

use super::fetch::visit_records;
use super::key_range::KeyRange;
use super::row::Row;
use super::store::{Mvcc, Rows, decode};
use crate::error::Error;
use crate::state::StateView;

/// Rows fetched at once.
const FETCH_ROWS: usize = 256;

/// A range read whose keys are known and whose values are still to be fetched.
///
/// The plan is made under the machine's read lock; [`RangePlan::fetch`] needs no lock.
#[derive(Debug)]
pub struct RangePlan {
    rows: Vec<Row>,
    /// Bytes of the records of all rows visited.
    bytes: u64,
    /// Bytes that the rows of the answer take in it, each as a field of its own, if the answer holds
    /// them in their order and that is known.
    wire_bytes: Option<u64>,
    count: i64,
    revision: i64,
    limit: usize,
    keys_only: bool,
    sort: Option<(SortTarget, SortOrder)>,
    filter: Filter,
}

/// Bounds on mod and create revisions; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Filter {
    mod_min: i64,
    mod_max: i64,
    create_min: i64,
    create_max: i64,
}

impl Filter {
    fn of(request: &RangeRequest) -> Self {
        Self {
            mod_min: request.min_mod_revision,
            mod_max: request.max_mod_revision,
            create_min: request.min_create_revision,
            create_max: request.max_create_revision,
        }
    }

    fn is_off(&self) -> bool {
        [self.mod_min, self.mod_max, self.create_min, self.create_max] == [0; 4]
    }

    fn passes(&self, kv: &KeyValue) -> bool {
        (self.mod_max == 0 || kv.mod_revision <= self.mod_max)
            && (self.mod_min == 0 || kv.mod_revision >= self.mod_min)
            && (self.create_max == 0 || kv.create_revision <= self.create_max)
            && (self.create_min == 0 || kv.create_revision >= self.create_min)
    }
}

impl Mvcc {
    /// Plans a read; `current` is the revision the reader sees as the current one, which inside a
    /// transaction that has written already is one ahead.
    pub(crate) fn plan_range(
        &self,
        request: &RangeRequest,
        current: i64,
    ) -> Result<RangePlan, Error> {
        let order =
            SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
        let target =
            SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
        if request.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if request.revision <= 0 { current } else { request.revision };
        if at < self.compacted_revision() {
            return Err(Error::Compacted);
        }
        let range = KeyRange::of(&request.key, &request.range_end);
        let filter = Filter::of(request);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        // With an order or a filter everything is fetched, and truncated at the end. Without an
        // order only the first keys are, even if they are then sorted by something else: etcd's way.
        let as_visited =
            order == SortOrder::None || (target, order) == (SortTarget::Key, SortOrder::Ascend);
        let natural = as_visited && filter.is_off();
        let rows_max = match (request.count_only, natural && limit > 0) {
            (true, _) => 0,
            (false, true) => limit.saturating_add(1),
            (false, false) => usize::MAX,
        };
        // One key is looked up once. Rows get a list of their size: growing one of a million copies
        // it many times.
        let known = match range {
            KeyRange::One(_) if rows_max > 0 => 1,
            _ => self.index.count_at(range, at),
        };
        let (mut rows, mut bytes, mut wire_bytes) = (Vec::with_capacity(known.min(rows_max)), 0, 0);
        if rows_max > 0 {
            self.index.visit_at(range, at, |row, record_bytes| {
                rows.push(row);
                bytes += record_bytes;
                // The one row beyond the limit only tells that there is more.
                if limit == 0 || rows.len() <= limit {
                    wire_bytes += field_bytes(record_bytes);
                }
                if rows.len() < rows_max {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
        }
        // Whoever did not stop early has seen them all.
        let seen_all = rows.len() < rows_max;
        let count = if seen_all { rows.len() } else { known } as i64;
        if target == SortTarget::Key && order == SortOrder::Descend {
            rows.reverse();
        }
        if target == SortTarget::Key && limit > 0 && filter.is_off() {
            rows.truncate(limit.saturating_add(1));
        }
        let sort = (target != SortTarget::Key).then_some((target, order));
        let keys_only = request.keys_only;
        let revision = current;
        // Counted in the order of the keys, so it only tells of the first ones.
        let plain = sort.is_none() && filter.is_off() && !keys_only;
        let wire_bytes = (plain && (natural || limit == 0)).then_some(wire_bytes);
        Ok(RangePlan { rows, bytes, wire_bytes, count, revision, limit, keys_only, sort, filter })
    }
}

impl Mvcc {
    /// How many keys there are now in a range, and the bytes of their records.
    pub(crate) fn range_size(&self, range: KeyRange<'_>) -> (usize, u64) {
        let (mut rows, mut bytes) = (0, 0);
        self.index.visit_at(range, i64::MAX, |_, record_bytes| {
            rows += 1;
            bytes += record_bytes;
            ControlFlow::Continue(())
        });
        (rows, bytes)
    }

    /// How many rows a plan for this request would list, at most.
    pub(crate) fn range_count(&self, request: &RangeRequest) -> usize {
        if request.count_only {
            return 0;
        }
        let at = if request.revision <= 0 { self.revision() } else { request.revision };
        let keys = self.index.count_at(KeyRange::of(&request.key, &request.range_end), at);
        let limited = request.limit > 0
            && request.sort_order == i32::from(SortOrder::None)
            && Filter::of(request).is_off();
        if limited { keys.min(usize::try_from(request.limit).unwrap_or(usize::MAX)) } else { keys }
    }
}

impl RangePlan {
    /// Reads the values. `Err(Compacted)` means that a compaction overtook the plan: plan again.
    pub fn fetch(self, state: &dyn StateView) -> Result<RangeResponse, Error> {
        self.fetch_from(&state)
    }

    /// The rows that will be fetched at most.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many rows will be fetched at most.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the records that will be read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys the range holds.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// The current revision, which the answer's header has.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The most keys that the answer may have; `None` for all.
    pub fn limit(&self) -> Option<usize> {
        (self.limit > 0).then_some(self.limit)
    }

    /// Bytes that the keys of the answer take in it, each as a field of its own; `None` until that
    /// is known, see [`RangePlan::resolve`].
    pub fn wire_bytes(&self) -> Option<u64> {
        self.wire_bytes
    }

    /// Whether only the values tell the order, so that they must all be held to answer.
    pub fn needs_all_values(&self) -> bool {
        matches!(self.sort, Some((SortTarget::Value, _)))
    }

    /// Reads everything once to learn which rows the answer holds, in which order and how long it
    /// is, and keeps nothing else: it can be made in parts then, though it is filtered, sorted by
    /// a number, or has no values.
    pub fn resolve(&mut self, view: &dyn StateView) -> Result<(), Error> {
        if self.wire_bytes.is_some() || self.needs_all_values() {
            return Ok(());
        }
        let mut found = Vec::with_capacity(self.rows.len());
        for rows in self.rows.chunks(FETCH_ROWS) {
            for (row, record) in rows.iter().zip((&view).records(rows)?) {
                let record = record.ok_or(Error::Compacted)?;
                let mut bytes = record.len();
                let mut kv = decode(record)?;
                if !self.filter.passes(&kv) {
                    continue;
                }
                if self.keys_only {
                    kv.value.clear();
                    bytes = kv.encoded_len();
                }
                let by = self.sort.map_or(0, |(target, _)| number(target, &kv));
                found.push(Found { row: *row, by, bytes: bytes as u64 });
            }
        }
        match self.sort {
            Some((_, SortOrder::Descend)) => found.sort_by_key(|found| Reverse(found.by)),
            Some(_) => found.sort_by_key(|found| found.by),
            None => {}
        }
        let limit = self.limit().unwrap_or(usize::MAX);
        found.truncate(limit.saturating_add(1));
        self.rows.clear();
        self.rows.extend(found.iter().map(|found| found.row));
        let answer = found.iter().take(limit);
        self.wire_bytes = Some(answer.map(|found| field_bytes(found.bytes)).sum());
        self.bytes = found.iter().map(|found| found.bytes).sum();
        self.sort = None;
        self.filter = Filter::default();
        Ok(())
    }

    /// Whether the answer's keys come in the order of the rows, so that it can be made in parts.
    pub fn is_ordered(&self) -> bool {
        self.sort.is_none()
    }

    /// Reads the part of an ordered answer that the rows `part` give.
    pub fn fetch_part(
        &self,
        part: std::ops::Range<usize>,
        view: &dyn StateView,
    ) -> Result<Vec<KeyValue>, Error> {
        let mut kvs = Vec::new();
        let rows = self.rows.get(part).unwrap_or_default();
        self.read(rows, &view, |kv| kvs.push(kv))?;
        Ok(kvs)
    }

    /// Visits the encoded key-value pairs of the rows `part`, if the bytes they take are known.
    pub fn visit_part(
        &self,
        part: std::ops::Range<usize>,
        view: &dyn StateView,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let rows = self.rows.get(part).unwrap_or_default();
        let mut done = Ok(());
        visit_records(view, rows, &mut |record| {
            let visited = match record {
                None => Err(Error::Compacted),
                Some(record) if !self.keys_only => {
                    visit(record);
                    Ok(())
                }
                Some(record) => without_value(record).map(|record| visit(&record)),
            };
            if done.is_ok() {
                done = visited;
            }
        })?;
        done
    }

    /// Visits the encoded key-value pairs of the answer, if the bytes they take are known.
    pub fn visit(&self, view: &dyn StateView, mut visit: impl FnMut(&[u8])) -> Result<(), Error> {
        let rows = self.rows.len().min(self.limit().unwrap_or(usize::MAX));
        for from in (0..rows).step_by(FETCH_ROWS) {
            self.visit_part(from..rows.min(from + FETCH_ROWS), view, &mut visit)?;
        }
        Ok(())
    }

    fn read(
        &self,
        rows: &[Row],
        source: &impl Rows,
        mut take: impl FnMut(KeyValue),
    ) -> Result<(), Error> {
        for record in source.records(rows)? {
            let mut kv = decode(record.ok_or(Error::Compacted)?)?;
            if !self.filter.passes(&kv) {
                continue;
            }
            if self.keys_only && self.sort.is_none() {
                kv.value.clear();
                // The key is a slice of the whole record, which must not stay with it.
                kv.key = Bytes::copy_from_slice(&kv.key);
            }
            take(kv);
        }
        Ok(())
    }

    pub(crate) fn fetch_from(self, source: &impl Rows) -> Result<RangeResponse, Error> {
        let mut kvs = Vec::with_capacity(self.rows.len().min(FETCH_ROWS));
        for chunk in self.rows.chunks(FETCH_ROWS) {
            self.read(chunk, source, |kv| kvs.push(kv))?;
        }
        if let Some((target, order)) = self.sort {
            kvs.sort_by(|a, b| match order {
                SortOrder::Descend => compare(target, b, a),
                SortOrder::None | SortOrder::Ascend => compare(target, a, b),
            });
        }
        let more = self.limit > 0 && kvs.len() > self.limit;
        if more {
            kvs.truncate(self.limit);
        }
        if self.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        let header = Some(ResponseHeader { revision: self.revision, ..Default::default() });
        Ok(RangeResponse { header, kvs, more, count: self.count })
    }
}

/// A row of the answer, with what it is sorted by and the bytes of its key-value pair.
struct Found {
    row: Row,
    by: i64,
    bytes: u64,
}

/// An encoded key-value pair with no value.
fn without_value(record: &[u8]) -> Result<Vec<u8>, Error> {
    let mut kv = decode(Bytes::copy_from_slice(record))?;
    kv.value.clear();
    Ok(kv.encode_to_vec())
}

/// Bytes of a field of that length in the answer.
fn field_bytes(length: u64) -> u64 {
    1 + encoded_len_varint(length) as u64 + length
}

/// What a key is sorted by, if that is a number.
fn number(target: SortTarget, kv: &KeyValue) -> i64 {
    match target {
        SortTarget::Version => kv.version,
        SortTarget::Create => kv.create_revision,
        SortTarget::Mod => kv.mod_revision,
        SortTarget::Key | SortTarget::Value => 0,
    }
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
