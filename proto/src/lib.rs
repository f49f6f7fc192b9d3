//! Generated wire types and services; nothing hand-written but these modules.
//!
//! Owns: the etcd v3 API (`etcdserverpb` and its neighbours), gRPC health checking, the
//! format of the store's own Raft log payload, and what its members say to each other. Knows
//! nothing of what the messages mean. A newcomer's trap: `bytes` fields are [`bytes::Bytes`], slices of the request's own buffer, so
//! keeping one small key alive keeps its whole request alive; copy what is kept for long.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod authpb {
    tonic::include_proto!("authpb");
}
pub mod etcdstorage {
    tonic::include_proto!("etcdstorage");
}
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
pub mod kijabi {
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("kijabi.store.v1");
        }
    }
    pub mod peer {
        pub mod v1 {
            tonic::include_proto!("kijabi.peer.v1");
        }
    }
}
pub use kijabi::peer::v1 as peer;
pub use kijabi::store::v1 as command;

mod secret;

/// All files as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
