//! Compiles the `.proto` files without `protoc`.

use std::path::PathBuf;

use prost::Message as _;

/// Messages with passwords, hashes of them, or tokens: what their Debug output says is in
/// `src/secret.rs`.
const SECRET: [&str; 8] = [
    ".authpb.User",
    ".etcdserverpb.AuthenticateRequest",
    ".etcdserverpb.AuthenticateResponse",
    ".etcdserverpb.AuthUserAddRequest",
    ".etcdserverpb.AuthUserChangePasswordRequest",
    ".kijabi.store.v1.AuthLogin",
    ".kijabi.store.v1.AuthUserCreate",
    ".kijabi.store.v1.AuthUserPassword",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read when it runs: a build folder that several checkouts share may hand one's build script
    // to another.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let files = [
        "etcd/kv.proto",
        "etcd/auth.proto",
        "etcd/rpc.proto",
        "etcd/lock.proto",
        "etcd/election.proto",
        "etcd/storage.proto",
        "health/health.proto",
        "kijabi/command.proto",
        "kijabi/membership.proto",
        "kijabi/peer.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(files, [&root])?;
    // For those who treat messages generically: the JSON gateway, the list of all RPCs.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").skip_debug(SECRET).compile_fds(descriptors)?;
    Ok(())
}
