//! One API server on a given store, for trying it by hand:
//! `cargo run -p kijabi-apiserver --example apiserver -- <listen> <etcd> <pki folder> [anonymous]`
//!
//! Owns: nothing; the product's binary is the crate `kijabi`. A newcomer's trap: the kubeconfig it
//! writes into the folder names the advertised address, which is the listening one here.

use std::path::PathBuf;

use kijabi_apiserver::{ApiServer, Config, pki};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or_else(|| format!("missing: {what}"));
    let listen = next("address to listen at")?.parse()?;
    let store = next("store, such as http://127.0.0.1:2379")?;
    let folder = PathBuf::from(next("folder")?);
    let anonymous_auth = next("anonymous").is_ok();
    let advertise_address =
        std::env::var("ADVERTISE").ok().map(|address| address.parse()).transpose()?;
    let server = ApiServer::start(Config {
        listen,
        advertise_address,
        etcd_endpoints: vec![store],
        pki_dir: folder.join("pki"),
        anonymous_auth,
        allow_loopback_nodes: true,
        ..Config::default()
    })
    .await?;
    let kubeconfig = server.pki().admin_kubeconfig()?;
    pki::write_private(&folder.join("admin.conf"), kubeconfig.as_bytes())?;
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
