//! Clusters of members in this process, for any test of the crate: `mod support;`.
//!
//! Owns: configuring, starting, stopping and restarting members that know each other. Must not
//! know: what is tested. A newcomer's trap: a member starts only once there is a leader, so members
//! of a new cluster are started together.
#![allow(dead_code, reason = "each test uses what it needs")]
#![allow(unreachable_pub, reason = "it is a module of several tests")]
#![allow(clippy::unwrap_used, reason = "a test may")]

pub(crate) mod authority;
pub(crate) mod raw;
pub(crate) mod secure;

use std::net::TcpListener;
use std::time::Duration;

use etcd_client::Client;
use kijabi_base::clock;
use kijabi_server::{Config, Member};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Some members, each of which may be stopped and started again.
pub struct Cluster {
    pub configs: Vec<Config>,
    pub members: Vec<Option<Member>>,
    pub dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts a new cluster.
    pub async fn start(size: usize) -> Self {
        Self::start_with(size, |_| {}).await
    }

    /// Starts a new cluster with settings of its own.
    pub async fn start_with(size: usize, adjust: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self::prepare(size, adjust);
        let starting = cluster.configs.iter().cloned().map(Member::start);
        let started = futures::future::join_all(starting).await;
        cluster.members = started.into_iter().map(|member| Some(member.unwrap())).collect();
        cluster
    }

    /// The configurations of a new cluster, with nobody started.
    pub fn prepare(size: usize, adjust: impl Fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Held until all are known, so that no port is given twice.
        let held: Vec<TcpListener> =
            (0..size).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let urls: Vec<String> =
            held.iter().map(|held| format!("http://{}", held.local_addr().unwrap())).collect();
        drop(held);
        let named: Vec<String> =
            urls.iter().enumerate().map(|(number, url)| format!("m{number}={url}")).collect();
        let config = |(number, url): (usize, &String)| {
            let mut config = Config {
                name: format!("m{number}"),
                data_dir: dir.path().join(format!("m{number}")),
                listen_client_urls: vec!["http://127.0.0.1:0".into()],
                listen_peer_urls: vec![url.clone()],
                initial_advertise_peer_urls: vec![url.clone()],
                initial_cluster: named.join(","),
                ..Config::default()
            };
            adjust(&mut config);
            config
        };
        let configs = urls.iter().enumerate().map(config).collect();
        Self { configs, members: (0..size).map(|_| None).collect(), dir }
    }

    /// A running member.
    pub fn member(&self, number: usize) -> &Member {
        self.members[number].as_ref().unwrap()
    }

    /// A client of one member only.
    pub async fn client(&self, number: usize) -> Client {
        Client::connect(self.member(number).client_urls(), None).await.unwrap()
    }

    /// Stops a member in an orderly way.
    pub async fn stop(&mut self, number: usize) {
        if let Some(member) = self.members[number].take() {
            member.shutdown().await;
        }
    }

    /// Starts a member that was stopped.
    pub async fn restart(&mut self, number: usize) {
        let config = self.configs[number].clone();
        self.members[number] = Some(Member::start(config).await.unwrap());
    }

    /// The numbers of the members that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|number| self.members[*number].is_some()).collect()
    }

    /// The number of the member that the running ones agree leads.
    pub async fn leader(&self) -> usize {
        let deadline = clock::now() + PATIENCE;
        loop {
            let mut ids = Vec::new();
            let mut leaders = Vec::new();
            for number in self.running() {
                let status = self.client(number).await.status().await.unwrap();
                ids.push((status.header().unwrap().member_id(), number));
                leaders.push(status.leader());
            }
            let agreed = leaders.iter().all(|leader| *leader == leaders[0]);
            if agreed && let Some((_, number)) = ids.iter().find(|(id, _)| *id == leaders[0]) {
                return *number;
            }
            assert!(clock::now() < deadline, "no leader: {leaders:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops all that run.
    pub async fn shutdown(mut self) {
        let members = self.members.iter_mut().filter_map(Option::take);
        let stopping = members.map(|member| async move { member.shutdown().await });
        futures::future::join_all(stopping).await;
    }
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = clock::now() + PATIENCE;
    while !condition().await {
        assert!(clock::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
