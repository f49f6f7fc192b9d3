//! A member with auth on, and its users.

use kijabi_proto::authpb::Permission;
use kijabi_proto::etcdserverpb as pb;
use kijabi_server::{Config, Member};

use crate::wire::Wire;

/// A member on which `root` and `alice` can log in; `alice` may read and write what begins with `k/`.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) member: Member,
    pub(crate) wire: Wire,
}

pub(crate) const AUTH: &str = "/etcdserverpb.Auth";

/// Every user's password begins like this, and ends with its name.
pub(crate) const PASSWORD: &str = "correct-horse-battery-";

pub(crate) fn config(dir: &std::path::Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        bcrypt_cost: 4,
        ..Config::default()
    }
}

impl World {
    pub(crate) async fn start(adjust: impl FnOnce(&mut Config, &std::path::Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        adjust(&mut config, dir.path());
        let member = Member::start(config).await.unwrap();
        let wire = Wire::connect(&format!("http://{}", member.client_addrs()[0])).await;
        set_up(&wire).await;
        Self { dir, member, wire }
    }
}

/// Makes the users and switches auth on.
pub(crate) async fn set_up(wire: &Wire) {
    for user in ["root", "alice", "bob", "carol", "dave"] {
        add_user(wire, user, None).await;
    }
    let role = pb::AuthRoleAddRequest { name: "keys".into() };
    let _: pb::AuthRoleAddResponse = wire.done(&format!("{AUTH}/RoleAdd"), &role, None).await;
    let perm = Permission { perm_type: 2, key: "k/".into(), range_end: "k0".into() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "keys".into(), perm: Some(perm) };
    let path = format!("{AUTH}/RoleGrantPermission");
    let _: pb::AuthRoleGrantPermissionResponse = wire.done(&path, &grant, None).await;
    for (user, role) in [("root", "root"), ("alice", "keys"), ("carol", "keys"), ("dave", "keys")] {
        grant_role(wire, user, role).await;
    }
    let enable = pb::AuthEnableRequest {};
    let _: pb::AuthEnableResponse = wire.done(&format!("{AUTH}/AuthEnable"), &enable, None).await;
}

async fn add_user(wire: &Wire, name: &str, token: Option<&str>) {
    let password = format!("{PASSWORD}{name}");
    let user = pb::AuthUserAddRequest { name: name.into(), password, ..Default::default() };
    let _: pb::AuthUserAddResponse = wire.done(&format!("{AUTH}/UserAdd"), &user, token).await;
}

async fn grant_role(wire: &Wire, user: &str, role: &str) {
    let grant = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
    let path = format!("{AUTH}/UserGrantRole");
    let _: pb::AuthUserGrantRoleResponse = wire.done(&path, &grant, None).await;
}

/// Takes a user's role away.
pub(crate) async fn revoke_role(wire: &Wire, name: &str, root: &str) {
    let revoke = pb::AuthUserRevokeRoleRequest { name: name.into(), role: "keys".into() };
    let path = format!("{AUTH}/UserRevokeRole");
    let _: pb::AuthUserRevokeRoleResponse = wire.done(&path, &revoke, Some(root)).await;
}

/// A new token of a user.
pub(crate) async fn log_in(wire: &Wire, name: &str) -> String {
    let password = format!("{PASSWORD}{name}");
    let request = pb::AuthenticateRequest { name: name.into(), password };
    let path = format!("{AUTH}/Authenticate");
    let answer: pb::AuthenticateResponse = wire.done(&path, &request, None).await;
    answer.token
}

/// A new lease with a key under `k/` on it.
pub(crate) async fn lease(wire: &Wire, root: &str) -> i64 {
    let grant = pb::LeaseGrantRequest { id: 0, ttl: 600 };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let granted: pb::LeaseGrantResponse = wire.done(path, &grant, Some(root)).await;
    let key = format!("k/lease/{}", granted.id).into();
    let put = pb::PutRequest { key, lease: granted.id, ..Default::default() };
    let _: pb::PutResponse = wire.done("/etcdserverpb.KV/Put", &put, Some(root)).await;
    granted.id
}
