//! The commands of the transcripts.

use kijabi_machine::{Error, LeaseId, Outcome};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{LeaseRenewMany, LeaseRevokeMany};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::response_op::Response;
use kijabi_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::{ALL_HISTORY, Store};

pub(crate) struct Script(Store);

impl Script {
    pub(crate) fn new() -> Self {
        Self(Store::new())
    }
}

/// Carries out one command line and writes down the answer.
pub(crate) fn run(script: &mut Script, line: &str) -> String {
    let store = &mut script.0;
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap();
    let rest: Vec<&str> = words.collect();
    let answer = match verb {
        "put" => store.apply(Request::Put(put(&rest))).map(show),
        "delete" => store.apply(Request::DeleteRange(delete(&rest))).map(show),
        "txn" => {
            let txn = txn(&rest.join(" "));
            if kijabi_machine::is_read_only(&txn) {
                let plan = store.machine.txn_read(&txn);
                plan.and_then(|plan| plan.fetch(&*store.state)).map(|response| show_txn(&response))
            } else {
                store.apply(Request::Txn(txn)).map(show)
            }
        }
        "get" => store.range(&range(&rest)).map(|response| show_range(&response)),
        "compact" => {
            let revision = rest[0].parse().unwrap();
            let request = pb::CompactionRequest { revision, physical: false };
            store.apply(Request::Compaction(request)).map(show)
        }
        "steps" => Ok(steps(store)),
        "step" => Ok(step(store, rest[0].parse().unwrap())),
        "grant" => {
            let (id, ttl) = (rest[0].parse().unwrap(), rest[1].parse().unwrap());
            store.apply(Request::LeaseGrant(pb::LeaseGrantRequest { ttl, id })).map(show)
        }
        "revoke" => {
            let id = rest[0].parse().unwrap();
            store.apply(Request::LeaseRevoke(pb::LeaseRevokeRequest { id })).map(show)
        }
        "revoke-expired" => {
            let ids = store.machine.leases_expired(store.now_ms, 1000);
            let ids = ids.into_iter().map(|id| id.0).collect();
            let lease_ms = store.machine.lease_time_ms(store.now_ms);
            store.apply(Request::LeaseRevokeMany(LeaseRevokeMany { ids, lease_ms })).map(show)
        }
        "renew" => renew(store, rest[0].parse().unwrap()),
        "ttl" => ttl(store, &rest),
        "leases" => Ok(join(store.machine.lease_ids().iter().map(|id| id.0.to_string()))),
        "wait" => {
            wait(store, rest[0].parse().unwrap());
            Ok("ok".into())
        }
        "alarm" => alarm(store, &rest),
        "watch" => Ok(watch(store, &rest)),
        "rows" => Ok(rows(store)),
        "reopen" => {
            store.reopen();
            Ok(format!("rev={} keys={}", store.machine.revision(), store.machine.key_count()))
        }
        other => panic!("no command {other:?}"),
    };
    answer.unwrap_or_else(|error: Error| format!("error: {error}"))
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> i64 {
    option(words, name).map_or(0, |value| value.parse().unwrap())
}

fn flag(words: &[&str], name: &str) -> bool {
    words.contains(&name)
}

/// Keys are written as they are; `\0` is a zero byte and `''` is empty.
fn bytes(word: &str) -> bytes::Bytes {
    match word {
        "''" => bytes::Bytes::new(),
        word => word.replace("\\0", "\0").into(),
    }
}

fn end(words: &[&str]) -> bytes::Bytes {
    option(words, "end").map(bytes).unwrap_or_default()
}

fn put(words: &[&str]) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(words[0]),
        value: words
            .get(1)
            .filter(|w| !w.contains('_'))
            .map_or_else(Default::default, |w| bytes(w)),
        lease: number(words, "lease"),
        prev_kv: flag(words, "prev_kv"),
        ignore_value: flag(words, "ignore_value"),
        ignore_lease: flag(words, "ignore_lease"),
    }
}

fn delete(words: &[&str]) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(words[0]),
        range_end: end(words),
        prev_kv: flag(words, "prev_kv"),
    }
}

fn range(words: &[&str]) -> pb::RangeRequest {
    let (target, order) =
        option(words, "sort").map_or((SortTarget::Key, SortOrder::None), |sort| {
            let (target, order) = sort.split_once(':').unwrap();
            (SortTarget::from_str_name(target).unwrap(), SortOrder::from_str_name(order).unwrap())
        });
    pb::RangeRequest {
        key: bytes(words[0]),
        range_end: end(words),
        limit: number(words, "limit"),
        revision: number(words, "rev"),
        sort_order: option(words, "order").map_or(order.into(), |n| n.parse().unwrap()),
        sort_target: target.into(),
        serializable: true,
        keys_only: flag(words, "keys_only"),
        count_only: flag(words, "count_only"),
        min_mod_revision: number(words, "min_mod"),
        max_mod_revision: number(words, "max_mod"),
        min_create_revision: number(words, "min_create"),
        max_create_revision: number(words, "max_create"),
    }
}

/// `if A, B then X; Y else Z`; a nested transaction stands in `( )`.
fn txn(text: &str) -> pb::TxnRequest {
    let (compares, rest) = split_at_word(text.strip_prefix("if").unwrap(), "then");
    let (success, failure) = split_at_word(rest, "else");
    pb::TxnRequest {
        compare: pieces(compares, ',').into_iter().map(compare).collect(),
        success: pieces(success, ';').into_iter().map(op).collect(),
        failure: pieces(failure, ';').into_iter().map(op).collect(),
    }
}

/// Splits at `word` outside of parentheses.
fn split_at_word<'a>(text: &'a str, word: &str) -> (&'a str, &'a str) {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(word) => {
                return (&text[..at], &text[at + word.len()..]);
            }
            _ => {}
        }
    }
    (text, "")
}

fn pieces(text: &str, by: char) -> Vec<&str> {
    let (mut depth, mut from, mut pieces) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c == by && depth == 0 => {
                pieces.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(text[from..].trim());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn op(text: &str) -> pb::RequestOp {
    let request = if let Some(nested) = text.strip_prefix('(') {
        Some(Op::RequestTxn(txn(nested.strip_suffix(')').unwrap().trim())))
    } else {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[0] {
            "put" => Some(Op::RequestPut(put(&words[1..]))),
            "delete" => Some(Op::RequestDeleteRange(delete(&words[1..]))),
            "get" => Some(Op::RequestRange(range(&words[1..]))),
            "nothing" => None,
            other => panic!("no operation {other:?}"),
        }
    };
    pb::RequestOp { request }
}

/// `mod a = 3 [end=..]`
fn compare(text: &str) -> pb::Compare {
    let words: Vec<&str> = text.split_whitespace().collect();
    let operand = words[3];
    let (target, union) = match words[0] {
        "version" => (CompareTarget::Version, TargetUnion::Version(operand.parse().unwrap())),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(operand.parse().unwrap())),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(operand.parse().unwrap())),
        "value" => (CompareTarget::Value, TargetUnion::Value(bytes(operand))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(operand.parse().unwrap())),
        other => panic!("no target {other:?}"),
    };
    let result = match words[2] {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => panic!("no comparison {other:?}"),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(words[1]),
        range_end: end(&words),
        target_union: Some(union),
    }
}

fn steps(store: &mut Store) -> String {
    let (mut steps, mut dropped) = (0, 0);
    while let Some(step) = store.machine.compact_step(1000) {
        steps += 1;
        dropped += step.state.ops.len();
        store.state.write(&step.state);
    }
    // One operation of the last step records that it is finished.
    format!("finished={} dropped={}", store.machine.compaction_finished(), dropped - steps.min(1))
}

/// One step that drops at most `max` rows.
fn step(store: &mut Store, max: usize) -> String {
    match store.machine.compact_step(max) {
        Some(step) => {
            store.state.write(&step.state);
            format!("done={} finished={}", step.done, store.machine.compaction_finished())
        }
        None => "none due".into(),
    }
}

/// What a leader does.
fn renew(store: &mut Store, id: i64) -> Result<String, Error> {
    store.machine.may_renew_lease(store.now_ms, LeaseId(id))?;
    let lease_ms = store.machine.lease_time_ms(store.now_ms);
    store.apply(Request::LeaseRenewMany(LeaseRenewMany { ids: vec![id], lease_ms })).map(show)
}

/// Time passes under a leader, which tells the log how late it is.
fn wait(store: &mut Store, ms: u64) {
    let until_ms = store.now_ms + ms;
    while store.now_ms < until_ms {
        store.now_ms = until_ms.min(store.now_ms + 100);
        if store.machine.is_lease_stamp_due(store.now_ms) {
            let (ids, lease_ms) = (Vec::new(), store.machine.lease_time_ms(store.now_ms));
            store.apply(Request::LeaseRenewMany(LeaseRenewMany { ids, lease_ms })).unwrap();
        }
    }
}

fn ttl(store: &Store, words: &[&str]) -> Result<String, Error> {
    let id = words[0].parse().unwrap();
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let response = store.machine.lease_time_to_live(store.now_ms, &request)?;
    let keys = join(response.keys.iter().map(|key| text(key)));
    Ok(format!("ttl={} granted={} keys=[{keys}]", response.ttl, response.granted_ttl))
}

fn alarm(store: &mut Store, words: &[&str]) -> Result<String, Error> {
    use pb::alarm_request::AlarmAction;
    let request = pb::AlarmRequest {
        action: AlarmAction::from_str_name(words[0]).unwrap().into(),
        alarm: pb::AlarmType::from_str_name(words[1]).unwrap().into(),
        member_id: words[2].parse().unwrap(),
    };
    store.apply(Request::Alarm(request)).map(show)
}

fn watch(store: &Store, words: &[&str]) -> String {
    match store.watch(&bytes(words[0]), &end(words), number(words, "from"), ALL_HISTORY) {
        None => "compacted".into(),
        Some(revisions) => revisions
            .iter()
            .map(|r| format!("rev={} {}", r.revision, join(r.events.iter().map(show_event))))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn rows(store: &Store) -> String {
    use kijabi_machine::state::{StateView as _, Table};
    let mut rows = Vec::new();
    store
        .state
        .scan(Table::Key, &[], None, &mut |key, _| {
            let row = kijabi_machine::Row::parse(key).unwrap();
            let mark = if row.tombstone { "t" } else { "" };
            rows.push(format!("{}.{}{mark}", row.main, row.sub));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    rows.join(" ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

fn show(outcome: Outcome) -> String {
    match outcome {
        Outcome::Put(response) => show_put(&response),
        Outcome::DeleteRange(response) => show_delete(&response),
        Outcome::Txn(response) => show_txn(&response),
        Outcome::Compaction(response) => format!("rev={}", revision(response.header.as_ref())),
        Outcome::LeaseGrant(response) => format!("id={} ttl={}", response.id, response.ttl),
        Outcome::LeaseRevoke(response) => format!("rev={}", revision(response.header.as_ref())),
        Outcome::LeaseRevokeMany(count) => format!("revoked={count}"),
        Outcome::LeaseRenewMany(ttls) => {
            join(ttls.iter().map(|ttl| ttl.map_or("gone".into(), |ttl| format!("ttl={ttl}"))))
        }
        Outcome::Alarm(response) => {
            let alarms = response.alarms.iter();
            join(alarms.map(|a| format!("{}:{}", a.member_id, a.alarm().as_str_name())))
        }
        Outcome::MemberAttributes | Outcome::Version => "ok".into(),
        Outcome::Auth(header) => format!("rev={}", header.revision),
        Outcome::Login { log_index, .. } => format!("login at {log_index}"),
    }
}

fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.unwrap().revision
}

fn show_kv(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease={}", kv.lease) };
    let (c, m, v) = (kv.create_revision, kv.mod_revision, kv.version);
    format!("{}={}@c{c}m{m}v{v}{lease}", text(&kv.key), text(&kv.value))
}

fn show_put(response: &pb::PutResponse) -> String {
    let previous = response.prev_kv.as_ref().map(|kv| format!(" prev={}", show_kv(kv)));
    format!("rev={}{}", revision(response.header.as_ref()), previous.unwrap_or_default())
}

fn show_delete(response: &pb::DeleteRangeResponse) -> String {
    let mut parts =
        vec![format!("rev={} deleted={}", revision(response.header.as_ref()), response.deleted)];
    parts.extend(response.prev_kvs.iter().map(|kv| format!("prev={}", show_kv(kv))));
    parts.join(" ")
}

fn show_range(response: &pb::RangeResponse) -> String {
    let mut parts =
        vec![format!("rev={} count={}", revision(response.header.as_ref()), response.count)];
    if response.more {
        parts.push("more".into());
    }
    parts.extend(response.kvs.iter().map(show_kv));
    parts.join(" ")
}

fn show_txn(response: &pb::TxnResponse) -> String {
    let mut lines =
        vec![format!("rev={} {}", revision(response.header.as_ref()), response.succeeded)];
    for op in &response.responses {
        let line = match op.response.as_ref() {
            Some(Response::ResponseRange(response)) => show_range(response),
            Some(Response::ResponsePut(response)) => show_put(response),
            Some(Response::ResponseDeleteRange(response)) => show_delete(response),
            Some(Response::ResponseTxn(response)) => show_txn(response),
            None => "nothing".into(),
        };
        lines.extend(line.lines().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

fn show_event(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let previous = event.prev_kv.as_ref().map(|kv| format!(" (was {})", show_kv(kv)));
    let previous = previous.unwrap_or_default();
    match event.r#type() {
        EventType::Put => format!("PUT {}{previous}", show_kv(kv)),
        EventType::Delete => format!("DELETE {}@m{}{previous}", text(&kv.key), kv.mod_revision),
    }
}
