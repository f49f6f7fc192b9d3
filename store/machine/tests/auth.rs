//! Users, roles and verdicts.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kijabi_machine::{AuthError, Caller, Error, Outcome};
use kijabi_proto::authpb::Permission;
use kijabi_proto::authpb::permission::Type;
use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{AuthChange, AuthLogin, AuthUserCreate, AuthUserPassword, Command};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use support::Store;

fn user_create(name: &str) -> Change {
    let name = name.to_owned();
    Change::UserCreate(AuthUserCreate { name, password_hash: "$2a$".into(), no_password: false })
}

fn role_add(name: &str) -> Change {
    Change::RoleAdd(pb::AuthRoleAddRequest { name: name.into() })
}

fn user_grant(user: &str, role: &str) -> Change {
    Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn user_revoke(name: &str, role: &str) -> Change {
    Change::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: name.into(), role: role.into() })
}

fn role_grant(role: &str, kind: Type, key: &str, range_end: &str) -> Change {
    let perm = Some(Permission {
        perm_type: kind.into(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    });
    Change::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name: role.into(), perm })
}

fn enable() -> Change {
    Change::Enable(pb::AuthEnableRequest {})
}

/// Auth, with requests for whom it likes.
struct World(Store);

impl World {
    fn new() -> Self {
        Self(Store::new())
    }

    /// Auth is on; `alice` has the role `r`.
    fn on(grants: &[(Type, &str, &str)]) -> Self {
        let mut world = Self::new();
        for change in [
            user_create("root"),
            user_grant("root", "root"),
            user_create("alice"),
            role_add("r"),
            user_grant("alice", "r"),
        ] {
            world.change(change).unwrap();
        }
        for (kind, key, end) in grants {
            world.change(role_grant("r", *kind, key, end)).unwrap();
        }
        world.change(enable()).unwrap();
        world
    }

    fn revision(&self) -> u64 {
        self.0.machine.auth().revision()
    }

    fn caller(&self, name: &str) -> Caller {
        Caller::User { name: name.into(), auth_revision: self.revision() }
    }

    fn change(&mut self, change: Change) -> Result<Outcome, Error> {
        self.change_as(&Caller::Member, change)
    }

    fn change_as(&mut self, caller: &Caller, change: Change) -> Result<Outcome, Error> {
        self.apply_as(caller, Request::Auth(AuthChange { change: Some(change) }))
    }

    fn apply_as(&mut self, caller: &Caller, request: Request) -> Result<Outcome, Error> {
        let command = Command { request: Some(request), ..Default::default() };
        self.0.apply_command(caller.clone().mark(command))
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> AuthError {
    match result {
        Err(Error::Auth(error)) => error,
        other => panic!("not refused by auth: {other:?}"),
    }
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), ..Default::default() }
}

fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

fn op(op: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(op) }
}

fn txn(success: Vec<Op>, failure: Vec<Op>) -> pb::TxnRequest {
    let branch = |ops: Vec<Op>| ops.into_iter().map(op).collect();
    pb::TxnRequest { compare: vec![], success: branch(success), failure: branch(failure) }
}

#[test]
fn the_auth_revision_counts_as_etcd_counts() {
    let mut world = World::new();
    assert_eq!(world.revision(), 1);
    let refused = AuthError::RootUserNotExist;
    assert_eq!(refusal(world.change(enable())), refused);
    let steps = [
        (user_create("root"), 2),
        (role_add("root"), 3),
        (user_grant("root", "root"), 4),
        // A role twice is no change.
        (user_grant("root", "root"), 4),
        (role_add("r"), 5),
        (role_grant("r", Type::Read, "a", ""), 6),
        (role_grant("r", Type::Read, "a", ""), 7),
        (user_create("alice"), 8),
        (user_grant("alice", "r"), 9),
        // Switching on does not count, switching off does, and only once.
        (enable(), 9),
        (enable(), 9),
        (Change::Disable(pb::AuthDisableRequest {}), 10),
        (Change::Disable(pb::AuthDisableRequest {}), 10),
        (Change::RoleDelete(pb::AuthRoleDeleteRequest { role: "r".into() }), 11),
        (Change::UserDelete(pb::AuthUserDeleteRequest { name: "alice".into() }), 12),
    ];
    for (at, (change, revision)) in steps.into_iter().enumerate() {
        world.change(change).unwrap();
        assert_eq!(world.revision(), revision, "step {at}");
    }
    world.0.reopen();
    assert_eq!(world.revision(), 12);
    assert_eq!(world.0.machine.auth().user_names(), ["root"]);
}

#[test]
fn changes_that_make_no_sense_are_refused_and_count_nothing() {
    let mut world = World::on(&[(Type::Read, "a", "")]);
    let before = world.revision();
    let name = |name: &str| name.to_owned();
    let delete_user = |name: String| Change::UserDelete(pb::AuthUserDeleteRequest { name });
    let delete_role = |role: String| Change::RoleDelete(pb::AuthRoleDeleteRequest { role });
    let revoke = |role: &str, key: &str| {
        let (role, key) = (name(role), name(key).into());
        let range_end = Default::default();
        Change::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest { role, key, range_end })
    };
    let password = |user: &str| {
        Change::UserPassword(AuthUserPassword { name: name(user), ..Default::default() })
    };
    let no_permission = pb::AuthRoleGrantPermissionRequest { name: name("r"), perm: None };
    let cases = [
        (user_create(""), AuthError::UserEmpty),
        (user_create("alice"), AuthError::UserAlreadyExists),
        (delete_user(name("ghost")), AuthError::UserNotFound),
        (delete_user(name("root")), AuthError::InvalidManagement),
        (password("ghost"), AuthError::UserNotFound),
        (user_grant("ghost", "r"), AuthError::UserNotFound),
        (user_grant("alice", "ghost"), AuthError::RoleNotFound),
        (user_revoke("ghost", "r"), AuthError::UserNotFound),
        (user_revoke("alice", "root"), AuthError::RoleNotGranted),
        (user_revoke("root", "root"), AuthError::InvalidManagement),
        (role_add(""), AuthError::RoleEmpty),
        (role_add("r"), AuthError::RoleAlreadyExists),
        (delete_role(name("ghost")), AuthError::RoleNotFound),
        (delete_role(name("root")), AuthError::InvalidManagement),
        (Change::RoleGrantPermission(no_permission), AuthError::PermissionNotGiven),
        (role_grant("ghost", Type::Read, "a", ""), AuthError::RoleNotFound),
        (role_grant("r", Type::Read, "", ""), AuthError::InvalidManagement),
        (role_grant("r", Type::Read, "b", "a"), AuthError::InvalidManagement),
        (role_grant("r", Type::Read, "a", "a"), AuthError::InvalidManagement),
        (revoke("ghost", "a"), AuthError::RoleNotFound),
        (revoke("r", "b"), AuthError::PermissionNotGranted),
    ];
    for (change, expected) in cases {
        assert_eq!(refusal(world.change(change.clone())), expected, "{change:?}");
    }
    assert_eq!(world.revision(), before);
}

#[test]
fn a_permission_granted_again_replaces_the_one_before_also_among_others_on_its_key() {
    let mut world = World::on(&[
        (Type::Readwrite, "a", "b"),
        (Type::Readwrite, "a", "c"),
        (Type::Read, "a", "c"),
    ]);
    let permissions = world.0.machine.auth().role_permissions("r").unwrap();
    let kinds: Vec<_> = permissions.iter().map(Permission::perm_type).collect();
    assert_eq!(kinds, [Type::Readwrite, Type::Read]);
    let alice = world.caller("alice");
    let refused = world.apply_as(&alice, Request::Put(put("b")));
    assert_eq!(refusal(refused), AuthError::PermissionDenied);
}

/// E14: what was allowed when it was asked for is decided again when it is applied, and every
/// member decides the same (AUTH-1).
#[test]
fn a_committed_command_of_a_caller_whose_rights_have_changed_is_refused() {
    let mut world = World::on(&[(Type::Readwrite, "a", "")]);
    let alice = world.caller("alice");
    world.apply_as(&alice, Request::Put(put("a"))).unwrap();
    // Between the check and the log, the role is taken away.
    world.change(user_revoke("alice", "r")).unwrap();
    let late = world.apply_as(&alice, Request::Put(put("a")));
    assert_eq!(refusal(late), AuthError::OldRevision);
    let renewed = world.caller("alice");
    let denied = world.apply_as(&renewed, Request::Put(put("a")));
    assert_eq!(refusal(denied), AuthError::PermissionDenied);
    // A user that is gone altogether.
    world.change(Change::UserDelete(pb::AuthUserDeleteRequest { name: "alice".into() })).unwrap();
    let gone = world.caller("alice");
    let denied = world.apply_as(&gone, Request::Put(put("a")));
    assert_eq!(refusal(denied), AuthError::PermissionDenied);
    let denied = world.change_as(&gone, role_add("x"));
    assert_eq!(refusal(denied), AuthError::UserNotFound);
    // A request that was let in while auth was off.
    let nobody = world.apply_as(&Caller::Anonymous, Request::Put(put("a")));
    assert_eq!(refusal(nobody), AuthError::UserEmpty);
    assert_eq!(world.0.machine.revision(), 2);
}

#[test]
fn what_is_not_about_keys_needs_the_role_root_and_what_members_do_needs_nothing() {
    let mut world = World::on(&[(Type::Readwrite, "\0", "\0")]);
    let alice = world.caller("alice");
    let alarm = |action: pb::alarm_request::AlarmAction| {
        let alarm = pb::AlarmType::Nospace.into();
        Request::Alarm(pb::AlarmRequest { action: action.into(), member_id: 1, alarm })
    };
    let compaction = || Request::Compaction(pb::CompactionRequest { revision: 1, physical: false });
    let change = || Request::Auth(AuthChange { change: Some(role_add("x")) });
    let activate = || alarm(pb::alarm_request::AlarmAction::Activate);
    for request in
        [compaction(), activate(), change(), Request::LeaseRevokeMany(Default::default())]
    {
        let refused = refusal(world.apply_as(&alice, request.clone()));
        assert_eq!(refused, AuthError::PermissionDenied, "{request:?}");
        let refused = refusal(world.apply_as(&Caller::Anonymous, request.clone()));
        assert_eq!(refused, AuthError::UserEmpty, "{request:?}");
    }
    world.apply_as(&alice, alarm(pb::alarm_request::AlarmAction::Get)).unwrap();
    world.apply_as(&Caller::Member, compaction()).unwrap();
    let root = world.caller("root");
    world.apply_as(&root, change()).unwrap();
}

#[test]
fn a_lease_belongs_to_those_who_may_write_all_its_keys() {
    let mut world = World::on(&[(Type::Readwrite, "a", "b")]);
    let (alice, root) = (world.caller("alice"), world.caller("root"));
    let grant = |id| Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 100 });
    let revoke = |id| Request::LeaseRevoke(pb::LeaseRevokeRequest { id });
    let put = |key: &str, lease| Request::Put(pb::PutRequest { lease, ..put(key) });
    let nobody = world.apply_as(&Caller::Anonymous, grant(7));
    assert_eq!(refusal(nobody), AuthError::UserEmpty);
    for id in [7, 8] {
        world.apply_as(&alice, grant(id)).unwrap();
    }
    world.apply_as(&alice, put("a", 7)).unwrap();
    world.apply_as(&root, put("z", 8)).unwrap();
    // Alone, or in a transaction (GHSA-33343): another's lease is none of hers.
    let denied = world.apply_as(&alice, put("a", 8));
    assert_eq!(refusal(denied), AuthError::PermissionDenied);
    let Request::Put(inner) = put("a", 8) else { unreachable!() };
    let denied = world.apply_as(&alice, Request::Txn(txn(vec![Op::RequestPut(inner)], vec![])));
    assert_eq!(refusal(denied), AuthError::PermissionDenied);
    assert_eq!(refusal(world.apply_as(&alice, revoke(8))), AuthError::PermissionDenied);
    let machine = &world.0.machine;
    let id = kijabi_machine::LeaseId;
    assert!(machine.permit_lease_renew(&alice, id(7)).is_ok());
    assert!(machine.permit_lease_renew(&alice, id(8)).is_err());
    let auth = machine.auth();
    assert!(auth.permit_keys(&alice, [&b"a"[..]]).is_ok());
    assert!(auth.permit_keys(&alice, [&b"a"[..], b"z"]).is_err());
    assert!(auth.permit_keys(&root, [&b"a"[..], b"z"]).is_ok());
    assert!(machine.permit_lease_ids(&alice).is_err());
    assert!(machine.permit_lease_ids(&root).is_ok());
    world.apply_as(&alice, revoke(7)).unwrap();
    // One that is not there is nobody's.
    assert!(matches!(world.apply_as(&alice, revoke(9)), Err(Error::LeaseNotFound)));
}

#[test]
fn a_value_that_comes_back_must_be_readable() {
    let mut world = World::on(&[(Type::Write, "w", ""), (Type::Readwrite, "b", "")]);
    let alice = world.caller("alice");
    let put = |key: &str, prev_kv| pb::PutRequest { prev_kv, ..put(key) };
    let delete = |key: &str, prev_kv| pb::DeleteRangeRequest { prev_kv, ..delete(key, "") };
    for (key, prev_kv, allowed) in
        [("w", false, true), ("w", true, false), ("b", true, true), ("x", false, false)]
    {
        for request in [
            Request::Put(put(key, prev_kv)),
            Request::DeleteRange(delete(key, prev_kv)),
            Request::Txn(txn(vec![Op::RequestPut(put(key, prev_kv))], vec![])),
            Request::Txn(txn(vec![], vec![Op::RequestDeleteRange(delete(key, prev_kv))])),
        ] {
            let answer = world.apply_as(&alice, request.clone());
            assert_eq!(answer.is_ok(), allowed, "{request:?}");
        }
    }
}

#[test]
fn a_login_holds_at_the_revision_its_password_was_right_at() {
    let mut world = World::on(&[]);
    let login = |auth_revision| {
        let name = "alice".to_owned();
        Change::Login(AuthLogin { name, token_digest: vec![7; 32].into(), auth_revision })
    };
    let revision = world.revision();
    let Outcome::Login { .. } = world.change_as(&Caller::Anonymous, login(revision)).unwrap()
    else {
        panic!("a login answers with its place in the log");
    };
    let password = AuthUserPassword { name: "alice".into(), password_hash: "$2b$".into() };
    world.change(Change::UserPassword(password)).unwrap();
    let stale = world.change_as(&Caller::Anonymous, login(revision));
    assert_eq!(refusal(stale), AuthError::OldRevision);
    world.change(Change::Disable(pb::AuthDisableRequest {})).unwrap();
    let revision = world.revision();
    let off = world.change_as(&Caller::Anonymous, login(revision));
    assert_eq!(refusal(off), AuthError::NotEnabled);
}

mod issues {
    use super::*;

    /// A member that restarted applied entries before it had read auth back, allowed what the
    /// others refused, and from then on its data differed.
    #[test]
    fn etcd_14571_auth_is_there_before_the_first_entry_after_a_restart() {
        let mut worlds = [World::on(&[(Type::Readwrite, "a", "")]), World::on(&[])];
        worlds[1] = World::on(&[(Type::Readwrite, "a", "")]);
        // The second one restarts; both apply the same entries.
        worlds[1].0.reopen();
        let alice = worlds[0].caller("alice");
        let root = worlds[0].caller("root");
        let outcomes = worlds.each_mut().map(|world| {
            let answers = [
                world.apply_as(&alice, Request::Put(put("a"))),
                world.apply_as(&alice, Request::Put(put("b"))),
                world.change_as(&root, user_revoke("alice", "r")),
                world.apply_as(&alice, Request::Put(put("a"))),
                world.apply_as(&Caller::Anonymous, Request::Put(put("a"))),
            ];
            format!("{answers:?}")
        });
        assert_eq!(outcomes[0], outcomes[1]);
        let [first, second] = &worlds;
        assert_eq!(first.0.machine.revision(), second.0.machine.revision());
        assert_eq!(first.revision(), second.revision());
    }
}

mod properties {
    use std::collections::BTreeSet;

    use kijabi_machine::KeyRange;
    use proptest::prelude::*;

    use super::*;

    /// Few enough to ask about each.
    fn key() -> impl Strategy<Value = String> {
        prop_oneof![Just("\0".to_owned()), "[ab]{1,2}", "[ab]\0", "[a-c]"]
    }

    fn range_end() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), Just("\0".to_owned()), "[a-c]{1,2}", "[ab]\0"]
    }

    fn kind() -> impl Strategy<Value = Type> {
        prop_oneof![Just(Type::Read), Just(Type::Write), Just(Type::Readwrite)]
    }

    type Grant = (Type, String, String);

    fn grants() -> impl Strategy<Value = Vec<Grant>> {
        // One permission for each pair of keys: the last one would replace the others.
        prop::collection::btree_map((key(), range_end()), kind(), 0..5).prop_map(|grants| {
            grants.into_iter().map(|((key, end), kind)| (kind, key, end)).collect()
        })
    }

    fn world(grants: &[Grant]) -> World {
        let valid =
            |(_, key, end): &&Grant| !KeyRange::of(key.as_bytes(), end.as_bytes()).is_empty();
        let grants: Vec<(Type, &str, &str)> = grants
            .iter()
            .filter(valid)
            .map(|(kind, key, end)| (*kind, key.as_str(), end.as_str()))
            .collect();
        World::on(&grants)
    }

    /// All keys of up to three bytes over the alphabet that requests and grants are made of.
    fn universe() -> BTreeSet<Vec<u8>> {
        let bytes = [0, b'a', b'b', b'c', b'd'];
        let mut keys = BTreeSet::new();
        for first in bytes {
            keys.insert(vec![first]);
            for second in bytes {
                keys.insert(vec![first, second]);
                keys.extend(bytes.map(|third| vec![first, second, third]));
            }
        }
        keys
    }

    fn leaf() -> impl Strategy<Value = Op> {
        let range = (key(), range_end()).prop_map(|(key, end)| {
            let (key, range_end) = (key.into(), end.into());
            Op::RequestRange(pb::RangeRequest { key, range_end, ..Default::default() })
        });
        let put = (key(), any::<bool>())
            .prop_map(|(key, prev_kv)| Op::RequestPut(pb::PutRequest { prev_kv, ..put(&key) }));
        let delete = (key(), range_end(), any::<bool>()).prop_map(|(key, end, prev_kv)| {
            Op::RequestDeleteRange(pb::DeleteRangeRequest { prev_kv, ..delete(&key, &end) })
        });
        prop_oneof![range, put, delete]
    }

    fn compare() -> impl Strategy<Value = pb::Compare> {
        (key(), range_end()).prop_map(|(key, end)| pb::Compare {
            key: key.into(),
            range_end: end.into(),
            ..Default::default()
        })
    }

    fn any_op() -> impl Strategy<Value = Op> {
        leaf().prop_recursive(3, 12, 3, |inner| {
            let branch = || prop::collection::vec(inner.clone(), 0..3);
            let compares = prop::collection::vec(compare(), 0..2);
            (compares, branch(), branch()).prop_map(|(compare, success, failure)| {
                Op::RequestTxn(pb::TxnRequest { compare, ..txn(success, failure) })
            })
        })
    }

    /// The same comparisons and operations, all in one transaction without nesting.
    fn flatten(nested: &pb::TxnRequest, flat: &mut pb::TxnRequest) {
        flat.compare.extend(nested.compare.iter().cloned());
        for one in nested.success.iter().chain(&nested.failure) {
            match &one.request {
                Some(Op::RequestTxn(inner)) => flatten(inner, flat),
                _ => flat.success.push(one.clone()),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// E11: what is permitted, as it was sent, covers everything that can be delivered.
        #[test]
        fn whoever_may_read_a_range_may_read_each_of_its_keys(
            grants in grants(), key in key(), end in range_end(),
        ) {
            let world = world(&grants);
            let (auth, alice) = (world.0.machine.auth(), world.caller("alice"));
            let permitted = auth.permit_range(&alice, key.as_bytes(), end.as_bytes()).is_ok();
            let asked = KeyRange::of(key.as_bytes(), end.as_bytes());
            let granted = |probe: &[u8]| grants.iter().any(|(kind, key, end)| {
                *kind != Type::Write
                    && KeyRange::of(key.as_bytes(), end.as_bytes()).contains(probe)
            });
            let all = universe();
            let mut delivered = all.iter().filter(|probe| asked.contains(probe));
            if permitted {
                prop_assert!(delivered.all(|probe| granted(probe)), "too much for {asked:?}");
            } else {
                // And nothing is refused without need: the first key that is not granted is the
                // first one asked for, or the end of a grant.
                let ends = grants.iter().map(|(_, key, end)| match end.as_str() {
                    "" => format!("{key}\0").into_bytes(),
                    end => end.as_bytes().to_vec(),
                });
                let mut probes = ends.chain([key.as_bytes().to_vec()]);
                let missing = probes.any(|probe| asked.contains(&probe) && !granted(&probe));
                prop_assert!(end == "\0" || missing || asked.is_empty(), "too little: {asked:?}");
            }
        }

        /// E12: nesting hides nothing.
        #[test]
        fn flattening_a_transaction_never_changes_the_verdict(
            grants in grants(), ops in prop::collection::vec(any_op(), 0..4),
        ) {
            let world = world(&grants);
            let nested = txn(ops, vec![]);
            let mut flat = pb::TxnRequest::default();
            flatten(&nested, &mut flat);
            for caller in [
                world.caller("alice"),
                world.caller("root"),
                world.caller("ghost"),
                Caller::Anonymous,
                Caller::User { name: "alice".into(), auth_revision: 1 },
            ] {
                let verdict = |txn| world.0.machine.permit_txn(&caller, txn).map_err(|e| e.to_string());
                prop_assert_eq!(verdict(&nested), verdict(&flat), "{:?}", caller);
            }
        }

        /// A transaction is as permitted as its parts.
        #[test]
        fn a_transaction_is_permitted_exactly_if_each_part_is(
            grants in grants(), ops in prop::collection::vec(leaf(), 1..4),
        ) {
            let world = world(&grants);
            let alice = world.caller("alice");
            let permitted = |ops: Vec<Op>| world.0.machine.permit_txn(&alice, &txn(vec![], ops)).is_ok();
            let each = ops.iter().all(|one| permitted(vec![one.clone()]));
            prop_assert_eq!(permitted(ops), each);
        }
    }
}
