//! A real etcd for this crate's tests: started on a free port with a folder of its own.
//!
//! Owns: its life and end. Must not know: what is tested. A newcomer's trap: a test that needs it
//! fails where there is no etcd, it is never skipped.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kijabi_base::tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::storage::Client;

/// A running etcd; dropping it ends it and removes its folder.
pub(crate) struct Etcd {
    process: Child,
    endpoint: String,
    peer_url: String,
    folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            |socket: &std::net::TcpListener| format!("http://{}", socket.local_addr().unwrap());
        let (client, peer) = (listener(), listener());
        let (endpoint, peer_url) = (url(&client), url(&peer));
        drop((client, peer));
        let process = spawn(&endpoint, &peer_url, folder.path());
        let etcd = Self { process, endpoint, peer_url, folder };
        etcd.wait_until_it_answers().await;
        etcd
    }

    /// Kills it and starts it again on what it had written.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        self.process = spawn(&self.endpoint, &self.peer_url, self.folder.path());
        self.wait_until_it_answers().await;
    }

    async fn wait_until_it_answers(&self) {
        let client = self.client();
        for _ in 0..300 {
            if client.check_health().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd did not answer within 15 s");
    }

    /// Where it answers.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(std::slice::from_ref(&self.endpoint)).unwrap()
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(endpoint: &str, peer_url: &str, folder: &Path) -> Child {
    Command::new("etcd")
        .arg("--data-dir")
        .arg(folder)
        .args(["--listen-client-urls", endpoint, "--advertise-client-urls", endpoint])
        .args(["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .args(["--unsafe-no-fsync", "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need etcd (Debian: etcd-server)")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A TCP proxy that can be shut: then open connections break and new ones are refused.
pub(crate) struct Gate {
    address: String,
    open: watch::Sender<bool>,
}

impl Gate {
    /// An open gate to `endpoint`.
    pub(crate) async fn start(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let to = endpoint.trim_start_matches("http://").to_owned();
        let (open, is_open) = watch::channel(true);
        tasks::spawn("gate", async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (to, mut is_open) = (to.clone(), is_open.clone());
                if !*is_open.borrow() {
                    continue;
                }
                tasks::spawn("gate-connection", async move {
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    /// A client through the gate.
    pub(crate) fn client(&self) -> Client {
        Client::connect(std::slice::from_ref(&self.address)).unwrap()
    }

    /// Opens or shuts it.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}
