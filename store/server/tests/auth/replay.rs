//! A log that was written with auth on, applied again by a member whose state is behind it.

use std::fmt::Write as _;
use std::path::Path;

use kijabi_proto::etcdserverpb as pb;
use kijabi_server::Member;

use crate::wire::Wire;
use crate::world::{self, AUTH, PASSWORD, World, log_in, revoke_role};
use crate::{BAD_TOKEN, DENIED};

/// Copies a folder as it is at this moment.
fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn put(wire: &Wire, key: &str, token: &str) -> Result<(), (tonic::Code, String)> {
    let put =
        pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
    let message = prost::Message::encode_to_vec(&put);
    let answer = wire.ask("/etcdserverpb.KV/Put", &message, Some(token)).await;
    answer.map(drop).map_err(|status| (status.code(), status.message().to_owned()))
}

/// What can be seen of keys, users and roles.
async fn seen(wire: &Wire, root: &str) -> String {
    let hash = pb::HashKvRequest::default();
    let path = "/etcdserverpb.Maintenance/HashKV";
    let hash: pb::HashKvResponse = wire.done(path, &hash, Some(root)).await;
    let mut seen = format!("{} at {}", hash.hash, hash.hash_revision);
    let list = pb::AuthUserListRequest::default();
    let users: pb::AuthUserListResponse =
        wire.done(&format!("{AUTH}/UserList"), &list, Some(root)).await;
    for name in users.users {
        let get = pb::AuthUserGetRequest { name: name.clone() };
        let user: pb::AuthUserGetResponse =
            wire.done(&format!("{AUTH}/UserGet"), &get, Some(root)).await;
        write!(seen, "; {name}: {:?}", user.roles).unwrap();
    }
    let get = pb::AuthRoleGetRequest { role: "keys".into() };
    let role: pb::AuthRoleGetResponse =
        wire.done(&format!("{AUTH}/RoleGet"), &get, Some(root)).await;
    let status = pb::AuthStatusRequest {};
    let status: pb::AuthStatusResponse =
        wire.done(&format!("{AUTH}/AuthStatus"), &status, Some(root)).await;
    format!("{seen}; {:?}; {} at {}", role.perm, status.enabled, status.auth_revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_auth_comes_to_the_same_when_it_is_applied_again() {
    let world = World::start(|_, _| {}).await;
    let wire = &world.wire;
    let denied = || Err((DENIED.0, DENIED.1.to_owned()));
    let root = log_in(wire, "root").await;
    let (alice, carol) = (log_in(wire, "alice").await, log_in(wire, "carol").await);
    // Allowed, refused when it is applied, and allowed until the role is taken away.
    assert_eq!(put(wire, "k/alice", &alice).await, Ok(()));
    assert_eq!(put(wire, "other", &alice).await, denied());
    assert_eq!(put(wire, "k/carol", &carol).await, Ok(()));
    revoke_role(wire, "carol", &root).await;
    assert_eq!(put(wire, "k/carol/late", &carol).await, denied());
    let delete = pb::AuthUserDeleteRequest { name: "dave".into() };
    let _: pb::AuthUserDeleteResponse =
        wire.done(&format!("{AUTH}/UserDelete"), &delete, Some(&root)).await;
    let change = pb::AuthUserChangePasswordRequest {
        name: "bob".into(),
        password: format!("{PASSWORD}new"),
        ..Default::default()
    };
    let _: pb::AuthUserChangePasswordResponse =
        wire.done(&format!("{AUTH}/UserChangePassword"), &change, Some(&root)).await;
    let before = seen(wire, &root).await;

    // What a crash would leave: the log is on the disk, the state is as it was at the start.
    let copied = tempfile::tempdir().unwrap();
    copy(&world.dir.path().join("data"), &copied.path().join("data"));
    world.member.shutdown().await;
    let member = Member::start(world::config(copied.path())).await.unwrap();
    let wire = Wire::connect(&format!("http://{}", member.client_addrs()[0])).await;
    let again = log_in(&wire, "root").await;
    assert_eq!(seen(&wire, &again).await, before);
    let alice = log_in(&wire, "alice").await;
    assert_eq!(put(&wire, "k/alice", &alice).await, Ok(()));
    assert_eq!(put(&wire, "other", &alice).await, denied());
    let carol = log_in(&wire, "carol").await;
    assert_eq!(put(&wire, "k/carol", &carol).await, denied());
    for (name, password) in [("dave", "dave"), ("bob", "bob")] {
        let password = format!("{PASSWORD}{password}");
        let request = pb::AuthenticateRequest { name: name.into(), password };
        let message = prost::Message::encode_to_vec(&request);
        let refused = wire.ask(&format!("{AUTH}/Authenticate"), &message, None).await.unwrap_err();
        let text = "etcdserver: authentication failed, invalid user ID or password";
        assert_eq!(refused.message(), text, "{name}");
    }
    let made_up = put(&wire, "k/x", "abcdefghijklmnop.7").await;
    assert_eq!(made_up, Err((BAD_TOKEN.0, BAD_TOKEN.1.to_owned())));
    member.shutdown().await;
}
