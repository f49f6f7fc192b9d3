//! The machine against a naive model that keeps every version of every key.
//!
//! Random commands run on both; after each, ranges at random revisions, the answers and the whole
//! watch history must agree, through compactions, their steps and restarts.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use kijabi_machine::{Error, KeyRange, Outcome};
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::mvccpb::{Event, KeyValue, event::EventType};
use proptest::prelude::*;
use support::{ALL_HISTORY, Store};

/// Every version of every key; `None` where it was deleted.
#[derive(Default)]
struct Model {
    revision: i64,
    compacted: i64,
    versions: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
}

impl Model {
    fn new() -> Self {
        Self { revision: 1, compacted: -1, ..Default::default() }
    }

    fn at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let versions = self.versions.get(key)?;
        versions.iter().rev().find(|(at, _)| *at <= revision)?.1.clone()
    }

    fn range(&self, range: KeyRange<'_>, revision: i64) -> Vec<KeyValue> {
        let keys = self.versions.keys().filter(|key| range.contains(key));
        keys.filter_map(|key| self.at(key, revision)).collect()
    }

    fn set(&mut self, key: &Bytes, revision: i64, kv: Option<KeyValue>) {
        self.versions.entry(key.clone()).or_default().push((revision, kv));
    }

    fn put(&mut self, revision: i64, put: &pb::PutRequest) {
        let old = self.at(&put.key, revision);
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        self.set(&put.key, revision, Some(kv));
    }

    fn delete(&mut self, revision: i64, delete: &pb::DeleteRangeRequest) -> usize {
        let keys = self.range(KeyRange::of(&delete.key, &delete.range_end), revision);
        for kv in &keys {
            self.set(&kv.key, revision, None);
        }
        keys.len()
    }

    /// Carries out a transaction without nesting; returns whether it succeeded.
    fn txn(&mut self, txn: &pb::TxnRequest) -> bool {
        let succeeded = txn.compare.iter().all(|compare| {
            let Some(TargetUnion::ModRevision(wanted)) = compare.target_union else {
                panic!("only mod revisions are compared here")
            };
            let current = self.at(&compare.key, self.revision);
            current.map_or(0, |kv| kv.mod_revision) == wanted
        });
        let next = self.revision + 1;
        let mut changes = 0;
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op.request.as_ref().unwrap() {
                Op::RequestPut(put) => {
                    self.put(next, put);
                    changes += 1;
                }
                Op::RequestDeleteRange(delete) => changes += self.delete(next, delete),
                Op::RequestRange(_) | Op::RequestTxn(_) => {}
            }
        }
        self.revision += i64::from(changes > 0);
        succeeded
    }

    /// The events of `range` from a revision on, by revision and sorted by key.
    fn events(&self, range: KeyRange<'_>, from: i64) -> BTreeMap<i64, Vec<Event>> {
        let mut events: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for (key, versions) in self.versions.iter().filter(|(key, _)| range.contains(key)) {
            for (revision, kv) in versions.iter().filter(|(revision, _)| *revision >= from) {
                let readable = *revision > self.compacted;
                let prev_kv = self.at(key, revision - 1).filter(|_| readable);
                let event = match kv {
                    Some(kv) => Event {
                        r#type: EventType::Put.into(),
                        prev_kv: prev_kv.filter(|_| kv.version > 1),
                        kv: Some(kv.clone()),
                    },
                    None => Event {
                        r#type: EventType::Delete.into(),
                        kv: Some(KeyValue {
                            key: key.clone(),
                            mod_revision: *revision,
                            ..Default::default()
                        }),
                        prev_kv,
                    },
                };
                events.entry(*revision).or_default().push(event);
            }
        }
        events
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    /// Compacts this many revisions before the current one.
    Compact(i64),
    RemoveCompacted,
    Reopen,
}

/// A few short keys, so that they meet often.
fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "aa", "b", "c", "d"]).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "\0", "b", "c", "z"]).prop_map(Bytes::from)
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    (key(), "[a-c]{0,2}").prop_map(|(key, value)| pb::PutRequest {
        key,
        value: value.into(),
        ..Default::default()
    })
}

fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), range_end(), any::<bool>())
        .prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest { key, range_end, prev_kv })
}

/// A branch without two changes of one key: the server refuses such before the machine sees them.
fn branch() -> impl Strategy<Value = Vec<pb::RequestOp>> {
    let puts = prop::collection::btree_map(key(), "[a-c]{0,2}", 0..3);
    (puts, prop::option::of(delete())).prop_map(|(puts, delete)| {
        let mut ops: Vec<Op> = Vec::new();
        for (key, value) in puts {
            let deleted =
                |d: &pb::DeleteRangeRequest| KeyRange::of(&d.key, &d.range_end).contains(&key);
            if !delete.as_ref().is_some_and(deleted) {
                let put = pb::PutRequest { key, value: value.into(), ..Default::default() };
                ops.push(Op::RequestPut(put));
            }
        }
        ops.extend(delete.map(Op::RequestDeleteRange));
        ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect()
    })
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let compare = (key(), 0..6i64).prop_map(|(key, revision)| pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    });
    (prop::collection::vec(compare, 0..2), branch(), branch())
        .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => put().prop_map(Step::Put),
        2 => delete().prop_map(Step::Delete),
        3 => txn().prop_map(Step::Txn),
        1 => (-1..4i64).prop_map(Step::Compact),
        1 => Just(Step::RemoveCompacted),
        1 => Just(Step::Reopen),
    ]
}

fn carry_out(store: &mut Store, model: &mut Model, step: Step) {
    match step {
        Step::Put(put) => {
            model.put(model.revision + 1, &put);
            model.revision += 1;
            let Outcome::Put(response) = store.apply(Request::Put(put)).unwrap() else { panic!() };
            assert_eq!(response.header.unwrap().revision, model.revision);
        }
        Step::Delete(delete) => {
            let range = KeyRange::of(&delete.key, &delete.range_end);
            let previous = model.range(range, model.revision);
            let deleted = model.delete(model.revision + 1, &delete);
            model.revision += i64::from(deleted > 0);
            let prev_kv = delete.prev_kv;
            let outcome = store.apply(Request::DeleteRange(delete)).unwrap();
            let Outcome::DeleteRange(response) = outcome else { panic!() };
            assert_eq!(response.deleted as usize, deleted);
            assert_eq!(response.header.unwrap().revision, model.revision);
            assert_eq!(response.prev_kvs, if prev_kv { previous } else { Vec::new() });
        }
        Step::Txn(txn) => {
            let succeeded = model.txn(&txn);
            let response = if kijabi_machine::is_read_only(&txn) {
                store.machine.txn_read(&txn).unwrap().fetch(&*store.state).unwrap()
            } else {
                let Outcome::Txn(response) = store.apply(Request::Txn(txn)).unwrap() else {
                    panic!()
                };
                response
            };
            assert_eq!(response.succeeded, succeeded);
            assert_eq!(response.header.unwrap().revision, model.revision);
        }
        Step::Compact(back) => {
            let revision = model.revision - back;
            let request = pb::CompactionRequest { revision, physical: false };
            let outcome = store.apply(Request::Compaction(request));
            if revision <= model.compacted {
                assert!(matches!(outcome, Err(Error::Compacted)), "{outcome:?}");
            } else if revision > model.revision {
                assert!(matches!(outcome, Err(Error::FutureRevision)), "{outcome:?}");
            } else {
                outcome.unwrap();
                model.compacted = revision;
            }
        }
        Step::RemoveCompacted => {
            if let Some(step) = store.machine.compact_step(1000) {
                store.state.write(&step.state);
            }
        }
        Step::Reopen => store.reopen(),
    }
}

/// Compares a range at every revision there is, and the history from every revision there is.
fn compare(store: &Store, model: &Model, key: &Bytes, range_end: &Bytes) {
    let range = KeyRange::of(key, range_end);
    assert_eq!(store.machine.revision(), model.revision, "REV-1");
    for revision in 1..=model.revision + 1 {
        let request = pb::RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            revision,
            ..Default::default()
        };
        match store.range(&request) {
            Err(Error::FutureRevision) => assert!(revision > model.revision),
            Err(Error::Compacted) => assert!(revision < model.compacted),
            Err(other) => panic!("{other}"),
            Ok(response) => {
                assert_eq!(response.kvs, model.range(range, revision), "at {revision}");
                assert_eq!(response.count as usize, response.kvs.len());
                assert_eq!(response.header.unwrap().revision, model.revision);
            }
        }
        match store.watch(key, range_end, revision, ALL_HISTORY) {
            None => assert!(revision < model.compacted),
            Some(revisions) => {
                let seen: BTreeMap<i64, Vec<Event>> = revisions
                    .into_iter()
                    .map(|mut r| {
                        r.events.sort_by(|a, b| {
                            a.kv.as_ref().unwrap().key.cmp(&b.kv.as_ref().unwrap().key)
                        });
                        (r.revision, r.events)
                    })
                    .collect();
                assert_eq!(seen, model.events(range, revision), "watch from {revision}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_agrees_with_a_store_that_forgets_nothing(
        steps in prop::collection::vec((step(), key(), range_end()), 1..40),
    ) {
        let (mut store, mut model) = (Store::new(), Model::new());
        for (step, key, range_end) in steps {
            carry_out(&mut store, &mut model, step);
            compare(&store, &model, &key, &range_end);
        }
        // WATCH-1: what was published live is every revision once, in order.
        let published: Vec<i64> = store.published.iter().map(|r| r.revision).collect();
        prop_assert_eq!(published, (2..=model.revision).collect::<Vec<_>>());
    }

    #[test]
    fn sort_filter_and_limit_agree_with_doing_it_by_hand(
        puts in prop::collection::vec(put(), 1..12),
        (order, target) in (0..3i32, 0..5i32),
        limit in 0..4i64,
        bounds in prop_oneof![Just([0; 4]), [0..6i64, 0..12, 0..6, 0..12]],
        keys_only in any::<bool>(),
    ) {
        let (mut store, mut model) = (Store::new(), Model::new());
        for put in puts {
            carry_out(&mut store, &mut model, Step::Put(put));
        }
        let request = pb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            limit,
            sort_order: order,
            sort_target: target,
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
            keys_only,
            ..Default::default()
        };
        let response = store.range(&request).unwrap();
        let all = model.range(KeyRange::of(b"\0", b"\0"), model.revision);
        let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
        let mut kvs: Vec<KeyValue> = all.clone();
        if order == 0 && bounds == [0; 4] && limit > 0 {
            // Without an order, only so many keys are read before they are sorted.
            kvs.truncate(limit as usize + 1);
        }
        kvs.retain(|kv| {
            within(kv.mod_revision, bounds[0], bounds[1])
                && within(kv.create_revision, bounds[2], bounds[3])
        });
        let rank = |kv: &KeyValue| match target {
            1 => (kv.version, Bytes::new()),
            2 => (kv.create_revision, Bytes::new()),
            3 => (kv.mod_revision, Bytes::new()),
            4 => (0, kv.value.clone()),
            _ => (0, kv.key.clone()),
        };
        kvs.sort_by_key(rank);
        if order == 2 {
            kvs.sort_by_key(|kv| std::cmp::Reverse(rank(kv)));
        }
        let more = limit > 0 && kvs.len() > limit as usize;
        if more {
            kvs.truncate(limit as usize);
        }
        // Ties have no defined order: compare what is defined.
        let ranks = |kvs: &[KeyValue]| kvs.iter().map(rank).collect::<Vec<_>>();
        if !(keys_only && target == 4) {
            prop_assert_eq!(ranks(&response.kvs), ranks(&kvs));
        }
        prop_assert_eq!(response.kvs.len(), kvs.len());
        prop_assert!(!keys_only || response.kvs.iter().all(|kv| kv.value.is_empty()));
        prop_assert_eq!((response.more, response.count as usize), (more, all.len()));
    }
}
