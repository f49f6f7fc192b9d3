//! Rows there and back.

use std::sync::Arc;

use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{AuthChange, AuthUserCreate, Batch, Command};
use kijabi_proto::etcdserverpb as pb;

use super::*;
use crate::state::{MemoryState, StateBatch, StateView as _, Table};
use crate::{Machine, Row, Settings};

fn machine_on(state: &Arc<MemoryState>) -> Machine {
    Machine::open(Arc::clone(state) as _, Settings::default()).unwrap()
}

fn apply(machine: &mut Machine, state: &MemoryState, index: u64, requests: Vec<Request>) {
    let command = |request| Command { request: Some(request), ..Command::default() };
    let batch = Batch { commands: requests.into_iter().map(command).collect(), ..Batch::default() };
    let applied = machine.apply(0, index, 3, &batch).unwrap();
    state.write(&applied.state);
}

fn put(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    })
}

fn alarm() -> Request {
    Request::Alarm(pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate.into(),
        member_id: 7,
        alarm: pb::AlarmType::Nospace.into(),
    })
}

fn filled() -> Arc<MemoryState> {
    let state = Arc::new(MemoryState::default());
    let mut machine = machine_on(&state);
    let mut batch = StateBatch::default();
    let member = kijabi_proto::command::MemberAttributes {
        id: 0xabc,
        name: "a \"b\"".into(),
        peer_urls: vec!["http://a:1".into()],
        ..Default::default()
    };
    machine.set_members(&[member], &mut batch);
    state.write(&batch);
    let lease = Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 60, id: 9 });
    apply(&mut machine, &state, 1, vec![lease, put("a", "1", 9), put("b", "1", 0)]);
    let delete = pb::DeleteRangeRequest { key: b"b".as_slice().into(), ..Default::default() };
    apply(&mut machine, &state, 2, vec![put("a", "2", 9), Request::DeleteRange(delete), alarm()]);
    let compact = pb::CompactionRequest { revision: 3, physical: false };
    let change = |change| Request::Auth(AuthChange { change: Some(change) });
    let user = AuthUserCreate {
        name: "root".into(),
        password_hash: b"$2b$".as_slice().into(),
        no_password: false,
    };
    let role = pb::AuthRoleAddRequest { name: "root".into() };
    let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    let requests = vec![
        Request::Compaction(compact),
        change(Change::UserCreate(user)),
        change(Change::RoleAdd(role)),
        change(Change::UserGrantRole(grant)),
        change(Change::Enable(pb::AuthEnableRequest {})),
    ];
    apply(&mut machine, &state, 3, requests);
    state
}

type Rows = Vec<(Bucket, Vec<u8>, Vec<u8>)>;

fn given(state: &MemoryState) -> Rows {
    let mut giving = Giving::default();
    let mut rows = Rows::new();
    for table in Table::ALL {
        let mut visit = |key: &[u8], value: &[u8]| {
            giving.row(table, key, value).unwrap();
            match table {
                Table::Key => rows.push((Bucket::Key, key.into(), value.into())),
                Table::Lease => rows.push((Bucket::Lease, key.into(), lease_row(value).unwrap())),
                _ => {}
            }
            std::ops::ControlFlow::Continue(())
        };
        state.scan(table, &[], None, &mut visit).unwrap();
    }
    let newest = rows.iter().filter_map(|(_, key, _)| Row::parse(key)).map(|row| row.main).max();
    rows.extend(giving.closing_row(newest.unwrap_or(0)).map(|key| (Bucket::Key, key, Vec::new())));
    for bucket in Bucket::ALL {
        rows.extend(giving.rows(bucket).into_iter().map(|(key, value)| (bucket, key, value)));
    }
    rows
}

fn taken(rows: &Rows) -> Result<(Arc<MemoryState>, Taking), ExchangeError> {
    let mut taking = Taking::default();
    let mut batch = StateBatch::default();
    for (bucket, key, value) in rows {
        taking.row(*bucket, key, value, &mut batch)?;
    }
    taking.finish(&mut batch);
    let state = Arc::new(MemoryState::default());
    state.write(&batch);
    Ok((state, taking))
}

#[test]
fn a_state_given_and_taken_is_the_same_but_for_its_members() {
    let state = filled();
    let rows = given(&state);
    let member = rows.iter().find(|(bucket, _, _)| *bucket == Bucket::Members).unwrap();
    let json = r#"{"id":2748,"peerURLs":["http://a:1"],"name":"a \"b\""}"#;
    assert_eq!((&*member.1, &*member.2), (&b"abc"[..], json.as_bytes()));
    let (copy, taking) = taken(&rows).unwrap();
    assert_eq!((taking.consistent_index, taking.term, taking.rows), (3, 3, 4));
    for table in [Table::Key, Table::Lease] {
        let all = |state: &MemoryState| {
            let mut rows = Vec::new();
            let mut visit = |key: &[u8], value: &[u8]| {
                rows.push((key.to_vec(), value.to_vec()));
                std::ops::ControlFlow::Continue(())
            };
            state.scan(table, &[], None, &mut visit).unwrap();
            rows
        };
        assert_eq!(all(&state), all(&copy));
    }
    let (before, after) = (machine_on(&state), machine_on(&copy));
    assert_eq!(before.revision(), after.revision());
    assert_eq!(before.compacted_revision(), after.compacted_revision());
    assert_eq!(before.alarms(), after.alarms());
    assert_eq!(before.lease_ids(), after.lease_ids());
    assert!(after.members().is_empty());
    assert!(after.auth().enabled());
    assert_eq!(before.auth().revision(), after.auth().revision());
    assert_eq!(before.auth().user_roles("root"), after.auth().user_roles("root"));
}

#[test]
fn a_seed_raises_the_revision_and_compacts_what_was_before() {
    for mark_compacted in [true, false] {
        let (state, taking) = taken(&given(&filled())).unwrap();
        let mut machine = machine_on(&state);
        let members =
            [FirstMember { id: 1, name: "m1".into(), peer_urls: vec!["http://b:1".into()] }];
        let seed = Seed {
            members: &members,
            log_index: 1,
            log_term: 1,
            bump_revision: 1000,
            mark_compacted,
        };
        let mut batch = StateBatch::default();
        let revision = seed.plant(&mut machine, &mut batch);
        assert_eq!(revision, Some(taking.revision() + 1000));
        state.write(&batch);
        let machine = machine_on(&state);
        assert_eq!((machine.applied_index(), machine.applied_term()), (1, 1));
        assert_eq!(machine.members()[0].name, "m1");
        let compacted = if mark_compacted { machine.revision() } else { 3 };
        assert_eq!(machine.compacted_revision(), compacted);
        // etcd knows the revision from its last row, or from the compaction.
        let rows = given(&state);
        let (copy, _) = taken(&rows).unwrap();
        assert_eq!(machine_on(&copy).revision(), machine.revision());
        let closing =
            rows.iter().any(|(bucket, _, value)| *bucket == Bucket::Key && value.is_empty());
        assert_eq!(closing, !mark_compacted);
    }
}

#[test]
fn rows_that_are_not_etcds_are_refused() {
    let key = Row::first_key_of(2);
    let cases: Vec<(Bucket, &[u8], &[u8], &str)> = vec![
        (Bucket::Key, b"12", b"", "is no revision"),
        (Bucket::Key, &key, b"\xff\xff", "record of revision 2: "),
        (Bucket::Key, &key, b"\x0a\x01a", "record of revision 2 is another one's"),
        (Bucket::Lease, b"12345678", b"\x08\x01", "record of lease 1 is another one's"),
        (Bucket::Meta, b"consistent_index", b"1", "bucket \"meta\": consistent_index"),
        (Bucket::Meta, b"storageVersion", b"4.0.0", "the database is of version 4.0.0"),
        (Bucket::Meta, b"storageVersion", b"3.8.0", "the database is of version 3.8.0"),
        (Bucket::Alarm, b"\xff", b"", "bucket \"alarm\": "),
        (Bucket::AuthUsers, b"a", b"\x0a\x01b", "record of \"a\" is another one's"),
        (Bucket::AuthRoles, b"a", b"\xff", "bucket \"authRoles\": "),
        (Bucket::Auth, b"authEnabled", b"2", "bucket \"auth\": authEnabled"),
    ];
    for (bucket, key, value, expected) in cases {
        let rows = vec![(bucket, key.to_vec(), value.to_vec())];
        let error = taken(&rows).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(Bucket::of_name(b"photos"), None);
}
