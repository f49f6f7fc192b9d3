//! One request of each RPC, and what it needs.

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_proto::{v3electionpb, v3lockpb};
use prost::Message as _;

/// What a request needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Open,
    Any,
    Login,
    Keys,
    Own,
    Admin,
}

/// A request: its path, what it needs, and the message.
pub(crate) struct Row {
    pub(crate) path: String,
    pub(crate) need: Need,
    pub(crate) message: Vec<u8>,
}

fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

/// One row for each RPC. `lease` is there, with a key under `k/` on it.
pub(crate) fn rows(lease: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |path: &str, need, message: Vec<u8>| {
        rows.push(Row { path: format!("/{path}"), need, message });
    };
    let name = |text: &str| text.to_owned();
    let range = pb::RangeRequest { key: bytes("k/a"), ..Default::default() };
    let put = pb::PutRequest { key: bytes("k/a"), prev_kv: true, ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: bytes("k/x"), ..Default::default() };
    let op = pb::request_op::Request::RequestPut(put.clone());
    let success = vec![pb::RequestOp { request: Some(op) }];
    let txn = pb::TxnRequest { success, ..Default::default() };
    row("etcdserverpb.KV/Range", Need::Keys, range.encode_to_vec());
    row("etcdserverpb.KV/RangeStream", Need::Keys, range.encode_to_vec());
    row("etcdserverpb.KV/Put", Need::Keys, put.encode_to_vec());
    row("etcdserverpb.KV/DeleteRange", Need::Keys, delete.encode_to_vec());
    row("etcdserverpb.KV/Txn", Need::Keys, txn.encode_to_vec());
    let compaction = pb::CompactionRequest { revision: 1, physical: false };
    row("etcdserverpb.KV/Compact", Need::Admin, compaction.encode_to_vec());

    let create = pb::WatchCreateRequest { key: bytes("k/a"), ..Default::default() };
    let watch = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    row("etcdserverpb.Watch/Watch", Need::Keys, watch.encode_to_vec());

    let grant = pb::LeaseGrantRequest { id: 0, ttl: 600 };
    row("etcdserverpb.Lease/LeaseGrant", Need::Login, grant.encode_to_vec());
    let alive = pb::LeaseKeepAliveRequest { id: lease };
    row("etcdserverpb.Lease/LeaseKeepAlive", Need::Keys, alive.encode_to_vec());
    let ttl = pb::LeaseTimeToLiveRequest { id: lease, keys: true };
    row("etcdserverpb.Lease/LeaseTimeToLive", Need::Keys, ttl.encode_to_vec());
    row("etcdserverpb.Lease/LeaseLeases", Need::Keys, Vec::new());
    let revoke = pb::LeaseRevokeRequest { id: lease };
    row("etcdserverpb.Lease/LeaseRevoke", Need::Keys, revoke.encode_to_vec());

    let add = pb::MemberAddRequest { peer_ur_ls: vec![name("junk")], is_learner: false };
    row("etcdserverpb.Cluster/MemberAdd", Need::Admin, add.encode_to_vec());
    let remove = pb::MemberRemoveRequest { id: 1 };
    row("etcdserverpb.Cluster/MemberRemove", Need::Admin, remove.encode_to_vec());
    let update = pb::MemberUpdateRequest { id: 1, peer_ur_ls: vec![name("junk")] };
    row("etcdserverpb.Cluster/MemberUpdate", Need::Admin, update.encode_to_vec());
    row("etcdserverpb.Cluster/MemberList", Need::Login, Vec::new());
    let promote = pb::MemberPromoteRequest { id: 1 };
    row("etcdserverpb.Cluster/MemberPromote", Need::Admin, promote.encode_to_vec());

    row("etcdserverpb.Maintenance/Alarm", Need::Login, Vec::new());
    let alarm = pb::AlarmRequest { action: 2, member_id: 1, alarm: 1 };
    row("etcdserverpb.Maintenance/Alarm", Need::Admin, alarm.encode_to_vec());
    row("etcdserverpb.Maintenance/Status", Need::Login, Vec::new());
    for method in ["Defragment", "Hash", "HashKV", "Snapshot"] {
        row(&format!("etcdserverpb.Maintenance/{method}"), Need::Admin, Vec::new());
    }
    let target = pb::MoveLeaderRequest { target_id: 1 };
    row("etcdserverpb.Maintenance/MoveLeader", Need::Admin, target.encode_to_vec());
    let downgrade = pb::DowngradeRequest { action: 2, version: String::new() };
    row("etcdserverpb.Maintenance/Downgrade", Need::Admin, downgrade.encode_to_vec());
    auth(&mut row);
    recipes(&mut row);
    rows
}

fn auth(row: &mut impl FnMut(&str, Need, Vec<u8>)) {
    let name = |text: &str| text.to_owned();
    row("etcdserverpb.Auth/AuthStatus", Need::Any, Vec::new());
    let login = pb::AuthenticateRequest { name: name("root"), password: name("pw") };
    row("etcdserverpb.Auth/Authenticate", Need::Open, login.encode_to_vec());
    row("etcdserverpb.Auth/AuthEnable", Need::Admin, Vec::new());
    let user = pb::AuthUserAddRequest { name: name("root"), ..Default::default() };
    row("etcdserverpb.Auth/UserAdd", Need::Admin, user.encode_to_vec());
    let user = pb::AuthUserGetRequest { name: name("root") };
    row("etcdserverpb.Auth/UserGet", Need::Own, user.encode_to_vec());
    row("etcdserverpb.Auth/UserList", Need::Admin, Vec::new());
    let user = pb::AuthUserDeleteRequest { name: name("ghost") };
    row("etcdserverpb.Auth/UserDelete", Need::Admin, user.encode_to_vec());
    let user = pb::AuthUserChangePasswordRequest { name: name("ghost"), ..Default::default() };
    row("etcdserverpb.Auth/UserChangePassword", Need::Admin, user.encode_to_vec());
    let user = pb::AuthUserGrantRoleRequest { user: name("ghost"), role: name("root") };
    row("etcdserverpb.Auth/UserGrantRole", Need::Admin, user.encode_to_vec());
    let user = pb::AuthUserRevokeRoleRequest { name: name("ghost"), role: name("root") };
    row("etcdserverpb.Auth/UserRevokeRole", Need::Admin, user.encode_to_vec());
    let role = pb::AuthRoleAddRequest { name: name("keys") };
    row("etcdserverpb.Auth/RoleAdd", Need::Admin, role.encode_to_vec());
    let role = pb::AuthRoleGetRequest { role: name("root") };
    row("etcdserverpb.Auth/RoleGet", Need::Own, role.encode_to_vec());
    row("etcdserverpb.Auth/RoleList", Need::Admin, Vec::new());
    let role = pb::AuthRoleDeleteRequest { role: name("ghost") };
    row("etcdserverpb.Auth/RoleDelete", Need::Admin, role.encode_to_vec());
    let role = pb::AuthRoleGrantPermissionRequest { name: name("ghost"), perm: None };
    row("etcdserverpb.Auth/RoleGrantPermission", Need::Admin, role.encode_to_vec());
    let role = pb::AuthRoleRevokePermissionRequest { role: name("ghost"), ..Default::default() };
    row("etcdserverpb.Auth/RoleRevokePermission", Need::Admin, role.encode_to_vec());
    // Ends all logins, so it comes last of these.
    row("etcdserverpb.Auth/AuthDisable", Need::Admin, Vec::new());
}

fn recipes(row: &mut impl FnMut(&str, Need, Vec<u8>)) {
    let lock = v3lockpb::LockRequest { name: bytes("k/lock"), lease: 0 };
    row("v3lockpb.Lock/Lock", Need::Keys, lock.encode_to_vec());
    let unlock = v3lockpb::UnlockRequest { key: bytes("k/lock/1") };
    row("v3lockpb.Lock/Unlock", Need::Keys, unlock.encode_to_vec());
    let election = || bytes("k/election");
    let campaign = v3electionpb::CampaignRequest { name: election(), lease: 0, value: bytes("v") };
    row("v3electionpb.Election/Campaign", Need::Keys, campaign.encode_to_vec());
    let leader =
        v3electionpb::LeaderKey { name: election(), key: bytes("k/election/1"), rev: 1, lease: 1 };
    let leader = Some(leader);
    let proclaim = v3electionpb::ProclaimRequest { leader: leader.clone(), value: bytes("v") };
    row("v3electionpb.Election/Proclaim", Need::Keys, proclaim.encode_to_vec());
    let asked = v3electionpb::LeaderRequest { name: election() };
    row("v3electionpb.Election/Leader", Need::Keys, asked.encode_to_vec());
    row("v3electionpb.Election/Observe", Need::Keys, asked.encode_to_vec());
    let resign = v3electionpb::ResignRequest { leader };
    row("v3electionpb.Election/Resign", Need::Keys, resign.encode_to_vec());
}
