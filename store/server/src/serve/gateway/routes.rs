//! Which path is which RPC.
//!
//! Owns: the table, read against the protocol's descriptors. Must not know: HTTP. A newcomer's trap:
//! `RangeStream` has no path, on purpose: etcd gives it none.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::metrics::rpc::Rpc;

/// Paths below `/v3/` and the RPC of each.
const ROUTES: &[(&str, &str)] = &[
    ("kv/range", "etcdserverpb.KV/Range"),
    ("kv/put", "etcdserverpb.KV/Put"),
    ("kv/deleterange", "etcdserverpb.KV/DeleteRange"),
    ("kv/txn", "etcdserverpb.KV/Txn"),
    ("kv/compaction", "etcdserverpb.KV/Compact"),
    ("watch", "etcdserverpb.Watch/Watch"),
    ("lease/grant", "etcdserverpb.Lease/LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("kv/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster/MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster/MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster/MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster/MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance/Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance/Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance/Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance/Hash"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance/Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance/MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance/Downgrade"),
    ("auth/enable", "etcdserverpb.Auth/AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth/AuthDisable"),
    ("auth/status", "etcdserverpb.Auth/AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth/Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth/UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth/UserGet"),
    ("auth/user/list", "etcdserverpb.Auth/UserList"),
    ("auth/user/delete", "etcdserverpb.Auth/UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth/UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth/UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth/RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth/RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth/RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth/RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth/RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock/Lock"),
    ("lock/unlock", "v3lockpb.Lock/Unlock"),
    ("election/campaign", "v3electionpb.Election/Campaign"),
    ("election/proclaim", "v3electionpb.Election/Proclaim"),
    ("election/leader", "v3electionpb.Election/Leader"),
    ("election/observe", "v3electionpb.Election/Observe"),
    ("election/resign", "v3electionpb.Election/Resign"),
];

/// The packages whose services clients are offered.
const PACKAGES: &[&str] = &["etcdserverpb", "v3lockpb", "v3electionpb"];
/// And who is only asked by gRPC.
const HEALTH_PACKAGE: &str = "grpc.health.v1";

/// All RPCs that clients are offered, to be counted.
pub(crate) fn rpcs() -> Vec<Rpc> {
    let offered = |package: &str| PACKAGES.contains(&package) || package == HEALTH_PACKAGE;
    let services = pool().services().filter(|service| offered(service.package_name()));
    let rpc = |method: MethodDescriptor| Rpc {
        service: method.parent_service().full_name().to_owned(),
        method: method.name().to_owned(),
        client_streaming: method.is_client_streaming(),
        server_streaming: method.is_server_streaming(),
    };
    services.flat_map(|service| service.methods().map(rpc).collect::<Vec<_>>()).collect()
}

/// What the protocol describes of itself.
pub(crate) fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(kijabi_proto::DESCRIPTORS).expect("the build has written them")
    })
}

/// The RPC of a path below `/v3/`.
pub(super) fn find(path: &str) -> Option<&'static MethodDescriptor> {
    static TABLE: OnceLock<BTreeMap<&'static str, MethodDescriptor>> = OnceLock::new();
    let read = || {
        let entry = |(path, rpc): &(&'static str, &'static str)| (*path, method(rpc));
        ROUTES.iter().map(entry).collect()
    };
    TABLE.get_or_init(read).get(path)
}

fn method(rpc: &str) -> MethodDescriptor {
    let (service, name) = rpc.split_once('/').expect("the table is written so");
    let service = pool().get_service_by_name(service).expect("the table names services");
    service.methods().find(|method| method.name() == name).expect("the table names RPCs")
}

#[cfg(test)]
mod tests {
    use prost_reflect::{Kind, MessageDescriptor};

    use super::*;

    fn services() -> impl Iterator<Item = prost_reflect::ServiceDescriptor> {
        pool().services().filter(|service| PACKAGES.contains(&service.package_name()))
    }

    #[test]
    fn every_rpc_has_a_path() {
        let routed: Vec<&str> = ROUTES.iter().map(|(_, rpc)| *rpc).collect();
        for service in services() {
            for method in service.methods() {
                let rpc = format!("{}/{}", service.full_name(), method.name());
                let expected = rpc != "etcdserverpb.KV/RangeStream";
                assert_eq!(routed.contains(&rpc.as_str()), expected, "{rpc}");
            }
        }
        assert!(ROUTES.iter().all(|(path, _)| find(path).is_some()));
    }

    /// The codec knows no others.
    #[test]
    fn messages_have_only_kinds_that_can_be_written() {
        fn look(message: &MessageDescriptor, seen: &mut Vec<String>) {
            if seen.contains(&message.full_name().to_owned()) {
                return;
            }
            seen.push(message.full_name().to_owned());
            for field in message.fields() {
                assert!(!field.is_map(), "{}", field.full_name());
                match field.kind() {
                    Kind::Message(inner) => look(&inner, seen),
                    Kind::Bool
                    | Kind::Int32
                    | Kind::Int64
                    | Kind::Uint32
                    | Kind::Uint64
                    | Kind::String
                    | Kind::Bytes
                    | Kind::Enum(_) => {}
                    other => panic!("{}: {other:?}", field.full_name()),
                }
            }
        }
        let mut seen = Vec::new();
        for method in services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            look(&method.input(), &mut seen);
            look(&method.output(), &mut seen);
        }
    }
}
