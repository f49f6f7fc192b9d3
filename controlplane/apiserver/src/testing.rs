//! A real etcd for this crate's tests: started on a free port with a folder of its own.
//!
//! Owns: its life and end. Must not know: what is tested. A newcomer's trap: a test that needs it
//! fails where there is no etcd, it is never skipped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::storage::Client;

/// A running etcd; dropping it ends it and removes its folder.
pub(crate) struct Etcd {
    process: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = |name: &str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            (listener, format!("http://127.0.0.1:{port}"), name.to_owned())
        };
        let (client, peer) = (socket("client"), socket("peer"));
        let (endpoint, peer_url) = (client.1.clone(), peer.1.clone());
        drop((client, peer));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need etcd (Debian: etcd-server)");
        let etcd = Self { process, endpoint, _folder: folder };
        let client = etcd.client();
        for _ in 0..300 {
            if client.check_health().await.is_ok() {
                return etcd;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd did not answer within 15 s");
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(std::slice::from_ref(&self.endpoint)).unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
