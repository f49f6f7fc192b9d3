//! Which RPC needs what of its caller: the one table.
//!
//! Owns: a row for each RPC that is served. Must not know: callers. A newcomer's trap: a new RPC
//! without a row here fails a test; a row alone protects nothing, the RPC's handler asks for it.

/// What an RPC needs of its caller while auth is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing; credentials are not even looked at.
    Open,
    /// Nothing, but credentials that are given must be right.
    Any,
    /// A user, whoever it is.
    Login,
    /// Grants on the keys that the request names: decided together with the request itself.
    Keys,
    /// The role root, or that the request is about the caller itself.
    Own,
    /// The role root.
    Admin,
}

macro_rules! rpcs {
    ($($service:literal { $($name:ident $need:ident;)+ })+) => {
        /// An RPC.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(dead_code, reason = "rows are written before their handlers")]
        pub(crate) enum Rpc {
            $($($name,)+)+
        }

        impl Rpc {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$($(Self::$name,)+)+];

            /// What it needs.
            pub(crate) const fn need(self) -> Need {
                match self {
                    $($(Self::$name => Need::$need,)+)+
                }
            }

            /// The service it belongs to, and its name there.
            #[cfg(test)]
            pub(crate) const fn path(self) -> (&'static str, &'static str) {
                match self {
                    $($(Self::$name => ($service, stringify!($name)),)+)+
                }
            }
        }
    };
}

rpcs! {
    "etcdserverpb.KV" {
        Range Keys;
        RangeStream Keys;
        Put Keys;
        DeleteRange Keys;
        Txn Keys;
        Compact Admin;
    }
    "etcdserverpb.Watch" {
        Watch Keys;
    }
    "etcdserverpb.Lease" {
        LeaseGrant Login;
        LeaseRevoke Keys;
        LeaseKeepAlive Keys;
        // The keys are decided on when they are known.
        LeaseTimeToLive Login;
        LeaseLeases Keys;
    }
    "etcdserverpb.Cluster" {
        MemberAdd Admin;
        MemberRemove Admin;
        MemberUpdate Admin;
        MemberList Login;
        MemberPromote Admin;
    }
    "etcdserverpb.Maintenance" {
        // To look at; a change needs the role root, which is decided when it is applied.
        Alarm Login;
        Status Login;
        Defragment Admin;
        Hash Admin;
        HashKV Admin;
        Snapshot Admin;
        MoveLeader Admin;
        Downgrade Admin;
    }
    "etcdserverpb.Auth" {
        AuthEnable Admin;
        AuthDisable Admin;
        // Differs from etcd: 3.6 wants the role root, 3.7 asks for nothing.
        AuthStatus Any;
        Authenticate Open;
        UserAdd Admin;
        UserGet Own;
        UserList Admin;
        UserDelete Admin;
        UserChangePassword Admin;
        UserGrantRole Admin;
        UserRevokeRole Admin;
        RoleAdd Admin;
        RoleGet Own;
        RoleList Admin;
        RoleDelete Admin;
        RoleGrantPermission Admin;
        RoleRevokePermission Admin;
    }
    "v3lockpb.Lock" {
        Lock Keys;
        Unlock Keys;
    }
    "v3electionpb.Election" {
        Campaign Keys;
        Proclaim Keys;
        Leader Keys;
        Observe Keys;
        Resign Keys;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_rpc_of_the_protocol_has_a_row() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        let files = ["etcd/rpc.proto", "etcd/lock.proto", "etcd/election.proto"];
        let compiled = protox::compile(files, [root]).unwrap();
        let mut served = BTreeSet::new();
        for file in &compiled.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let methods = service.method.iter().map(|method| method.name().to_owned());
                served.extend(methods.map(|method| (name.clone(), method)));
            }
        }
        let rows: BTreeSet<_> =
            Rpc::ALL.iter().map(|rpc| (rpc.path().0.to_owned(), rpc.path().1.to_owned())).collect();
        assert_eq!(rows, served);
    }
}
