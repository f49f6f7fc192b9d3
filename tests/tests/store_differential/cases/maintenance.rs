//! Maintenance and the list of members.

use super::*;

pub(super) fn maintenance(script: &mut Script) {
    script.case("status", Call::Status);
    script.case("hash", Call::HashKv(0));
    for revision in [1, 2, 3, 7, 20] {
        script.case(format!("hash at {revision}"), Call::HashKv(revision));
    }
    for revision in [100_000, i64::MAX] {
        script.odd(format!("hash at {revision}"), Call::HashKv(revision));
    }
    script.case("defragment", Call::Defragment);
    script.case("hash after it", Call::HashKv(0));
    script.odd("move the leader to nobody", Call::MoveLeader(0));
    script.odd("move the leader to a stranger", Call::MoveLeader(42));
    script.case("alarms: none", Call::Alarm(0, 0));
    script.case("alarms: no full database", Call::Alarm(0, 1));
    script.odd("alarms: turn off what is not on", Call::Alarm(2, 1));
    script.odd("alarms: turn off none", Call::Alarm(2, 0));
}

pub(super) fn members(script: &mut Script) {
    let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
    script.case("members", Call::Members);
    script.odd("remove a stranger", Call::MemberRemove(42));
    script.odd("remove nobody", Call::MemberRemove(0));
    script.odd("promote a stranger", Call::MemberPromote(42));
    script.odd("promote nobody", Call::MemberPromote(0));
    script.odd("update a stranger", Call::MemberUpdate(42, urls(&["http://127.0.0.1:1"])));
    for bad in ["127.0.0.1:1", "http://", "http://127.0.0.1", "ftp://127.0.0.1:1", "http://a:1/b"] {
        for learner in [false, true] {
            let name = format!("add {bad:?}, learner {learner}");
            script.odd(name, Call::MemberAdd(urls(&[bad]), learner));
        }
    }
    script.odd("add without a URL", Call::MemberAdd(vec![], false));
    script.case("members afterwards", Call::Members);
}

/// What is refused while an alarm is on, and what is not. (3.4 forgets to look into nested
/// transactions when the database is full.)
pub(super) fn alarms(script: &mut Script) {
    for (kind, name) in [(1, "full"), (2, "corrupt")] {
        script.odd(format!("{name}: on"), Call::Alarm(1, kind));
        script.odd(format!("{name}: on again"), Call::Alarm(1, kind));
        script.case(format!("{name}: listed"), Call::Alarm(0, 0));
        script.case(format!("{name}: listed by kind"), Call::Alarm(0, kind));
        script.case(format!("{name}: the other kind"), Call::Alarm(0, 3 - kind));
        script.odd(format!("{name}: status"), Call::Status);
        script.odd(format!("{name}: put"), Call::Put(set("a", "x")));
        script.odd(format!("{name}: delete"), Call::Delete(erase("a", "")));
        script.odd(format!("{name}: txn that puts"), then(vec![p("a", "x")]));
        script.odd(format!("{name}: txn that might put"), {
            Call::Txn(when(vec![], vec![r(get("a"))], vec![p("a", "x")]))
        });
        script.odd(format!("{name}: txn that deletes"), then(vec![d("b", "")]));
        script.odd(format!("{name}: txn that reads"), then(vec![r(get("b"))]));
        script.odd(format!("{name}: grant"), grant(3100 + i64::from(kind), 600));
        script.odd(format!("{name}: revoke"), Call::Revoke(82));
        script.odd(format!("{name}: compact the future"), compact(1_000_000, false));
        script.odd(format!("{name}: hash"), Call::HashKv(0));
        let local = RangeRequest { serializable: true, ..get("b") };
        script.odd(format!("{name}: local read"), Call::Range(local));
        script.case(format!("{name}: off"), Call::Alarm(2, kind));
        script.odd(format!("{name}: off again"), Call::Alarm(2, kind));
        script.case(format!("{name}: put afterwards"), Call::Put(set("a", "y")));
        script.case(format!("{name}: read afterwards"), Call::Range(span("\0", "\0")));
    }
}
