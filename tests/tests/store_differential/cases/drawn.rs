//! Requests drawn at random, always the same ones: combinations nobody thinks of.
//!
//! A newcomer's trap: what sorts alike has no order in etcd beyond a dozen keys, so the keys are few.

use kijabi_proto::etcdserverpb::compare::TargetUnion;

use super::*;

const REQUESTS: usize = 260;
/// Leases that keys may be put on; the last one is never granted.
const LEASES: [i64; 3] = [1001, 1002, 1999];

/// A small generator: both members get the same requests on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn rarely(&mut self) -> bool {
        self.below(8) == 0
    }

    fn key(&mut self) -> &'static str {
        self.one(&["x1", "x2", "x3", "x4", "x5", "x1\0", "y", ""])
    }

    fn end(&mut self) -> &'static str {
        self.one(&["", "", "", "x3", "x9", "y", "\0", "x1\0"])
    }

    fn range(&mut self) -> RangeRequest {
        let mut range = span(self.key(), self.end());
        if range.key.is_empty() && !self.rarely() {
            range.key = text("x");
            range.range_end = text("z");
        }
        range.limit = self.one(&[0, 0, 0, 1, 2, 3, -1]);
        range.revision = self.one(&[0, 0, 0, 0, 1, -7, 1_000_000]);
        range.serializable = self.rarely();
        range.keys_only = self.rarely();
        range.count_only = self.rarely();
        if self.below(3) == 0 {
            range.sort_order = self.below(3) as i32;
            range.sort_target = self.below(5) as i32;
        }
        if self.rarely() {
            range.min_mod_revision = self.below(400) as i64;
            range.max_create_revision = self.below(800) as i64 - 1;
        }
        range
    }

    fn put(&mut self) -> PutRequest {
        let value = self.one(&["1", "2", "3", ""]);
        let mut put = PutRequest { prev_kv: self.below(2) == 0, ..set(self.key(), value) };
        if self.below(3) == 0 {
            put.lease = self.one(&LEASES);
        }
        put.ignore_value = self.rarely();
        put.ignore_lease = self.rarely();
        if put.ignore_value && self.below(2) == 0 {
            put.value = text("");
        }
        if put.ignore_lease && self.below(2) == 0 {
            put.lease = 0;
        }
        put
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let prev_kv = self.below(2) == 0;
        DeleteRangeRequest { prev_kv, ..erase(self.key(), self.end()) }
    }

    fn condition(&mut self) -> Compare {
        let target = self.below(5) as i32;
        let number = self.one(&[0, 1, 2, 3, 300, -1]);
        let union = match target {
            0 => TargetUnion::Version(number),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(text(self.one(&["1", "2", ""]))),
            _ => TargetUnion::Lease(self.one(&LEASES)),
        };
        let condition = compare(target, self.below(4) as i32, self.key(), union);
        let range_end = if self.rarely() { text(self.end()) } else { Bytes::new() };
        Compare { range_end, ..condition }
    }

    fn ops(&mut self, depth: u64) -> Vec<RequestOp> {
        (0..self.below(4)).map(|_| self.op(depth)).collect()
    }

    fn op(&mut self, depth: u64) -> RequestOp {
        let request = match self.below(if depth > 0 { 8 } else { 7 }) {
            0..3 => Op::RequestRange(RangeRequest { revision: 0, ..self.range() }),
            3..5 => Op::RequestPut(self.put()),
            5..7 => Op::RequestDeleteRange(self.delete()),
            _ => Op::RequestTxn(self.txn(depth - 1)),
        };
        RequestOp { request: Some(request) }
    }

    fn txn(&mut self, depth: u64) -> TxnRequest {
        let conditions = (0..self.below(3)).map(|_| self.condition()).collect();
        when(conditions, self.ops(depth), self.ops(depth))
    }
}

/// All of them, and `times` as many. They count as odd, since most have at least one odd field.
pub(super) fn requests(script: &mut Script, times: usize) {
    for id in &LEASES[..2] {
        script.case(format!("drawn: lease {id}"), grant(*id, 600));
    }
    let mut numbers = Numbers(0x5851_f42d_4c95_7f2d);
    for at in 0..REQUESTS * times {
        let (name, call) = match numbers.below(12) {
            0..3 => ("range", Call::Range(numbers.range())),
            3..6 => ("put", Call::Put(numbers.put())),
            6..8 => ("delete", Call::Delete(numbers.delete())),
            8..11 => ("txn", Call::Txn(numbers.txn(2))),
            _ => match numbers.below(4) {
                0 => ("revoke", Call::Revoke(numbers.one(&LEASES))),
                1 => ("grant", grant(numbers.one(&LEASES[..2]), 600)),
                2 => ("keys of a lease", Call::TimeToLive(numbers.one(&LEASES), true)),
                _ => ("hash", Call::HashKv(0)),
            },
        };
        script.odd(format!("drawn {at}: {name}: {call:?}"), call);
        if at % 20 == 19 {
            script.case(format!("drawn {at}: everything"), Call::Range(span("x", "z")));
        }
    }
    let everything = create(WatchCreateRequest { prev_kv: true, ..watch("x", "z", 0) });
    let end = vec![everything, WatchStep::Receive, WatchStep::Do(Call::Put(set("x1", "end")))];
    script.case("drawn: a watch afterwards", Call::Watch([end, vec![WatchStep::Receive]].concat()));
    script.case("drawn: the hash afterwards", Call::HashKv(0));
}
