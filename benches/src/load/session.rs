//! What is asked beside the load: single calls, and clients that have a fixed amount to do.
//!
//! Owns: both. Must not know: loads. A newcomer's trap: each call has a connection of its own, so
//! nothing of it is in a measured one's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kijabi_base::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::args::Common;
use super::dial::Dialer;
use super::driver::Crew;
use super::lane::{Phase, Role, Schedule, Shared};
use super::wire::{Connection, Event, Messages, Method};
use super::workload::Client;

/// How long a single call may take.
const CALL: Duration = Duration::from_secs(300);
/// Connections of clients with a fixed amount to do.
const CONNECTIONS: usize = 8;

/// The way to the servers. Cloning shares.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) dialer: Dialer,
    threads: usize,
    seed: u64,
}

impl Session {
    pub(super) fn new(common: &Common) -> anyhow::Result<Self> {
        let dialer = Dialer::new(common)?;
        Ok(Self { dialer, threads: common.threads(), seed: common.seed })
    }

    /// One call on the endpoint of this number; the last message of its answer.
    pub(super) async fn call<A: prost::Message + Default>(
        &self,
        endpoint: usize,
        method: Method,
        request: &impl prost::Message,
    ) -> anyhow::Result<A> {
        let mut last = Vec::new();
        let calling = self.stream(endpoint, method, request, |message| last = message.to_vec());
        let called = tokio::time::timeout(CALL, calling).await.context("no answer in time");
        called.and_then(|called| called).with_context(|| method.path())?;
        A::decode(&last[..]).context("an answer that cannot be read")
    }

    /// One call, each message of its answer handed on.
    pub(super) async fn stream(
        &self,
        endpoint: usize,
        method: Method,
        request: &impl prost::Message,
        mut each: impl FnMut(&[u8]) + Send,
    ) -> anyhow::Result<()> {
        let endpoint = self.dialer.endpoint(endpoint).clone();
        let mut socket = self.dialer.connect(&endpoint).await?;
        let mut connection = Connection::new(&endpoint.authority, endpoint.tls);
        let mut message = Vec::new();
        Messages::new(&mut message).push(request);
        connection.open(0, method.path(), &message, true);
        let mut ended = None;
        let mut buffer = vec![0; 64 << 10];
        loop {
            socket.write_all(connection.pending()).await?;
            connection.wrote(connection.pending().len());
            if let Some(result) = ended {
                return Result::map_err(result, |why: String| anyhow!(why));
            }
            let read = socket.read(&mut buffer).await?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            let mut sink = |_: usize, event: Event<'_>| match event {
                Event::Message(message) => each(message),
                Event::Ended(result) => ended = Some(result),
            };
            connection.receive(&buffer[..read], &mut sink).map_err(|why| anyhow!(why))?;
        }
    }

    /// Runs clients until none has anything more to do.
    pub(super) async fn finish(&self, clients: Vec<Box<dyn Client>>) -> anyhow::Result<()> {
        let shared = Arc::new(Shared::new());
        let clients = clients.into_iter().map(|client| (Role::Measured, client)).collect();
        let crew = Crew::start(self, clients, CONNECTIONS, self.threads, self.seed, &shared);
        let failure = || {
            let first = shared.first_error.lock().clone();
            first.map_or(Ok(()), |first| Err(anyhow!(first)))
        };
        let now = clock::now();
        let schedule = Schedule { started: now, measure_from: now, until: None, interval: None };
        crew.enter(Phase::Running(schedule));
        let lanes = crew.lanes();
        let finished = || shared.quiet.load(Ordering::Relaxed) == lanes;
        while !finished() && failure().is_ok() {
            // The news may come between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(100), shared.news.notified()).await;
        }
        crew.end().await;
        failure()
    }
}
