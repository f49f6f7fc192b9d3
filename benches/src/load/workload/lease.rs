//! Leases: granted, or kept alive.
//!
//! Owns: both loads. Must not know: when they are sent. A newcomer's trap: each client keeps one
//! lease alive on a stream of its own, as client libraries do.

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::lease_client::LeaseClient;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{Client, Load};
use crate::load::target::Target;

/// Seconds a lease lives without being kept alive: longer than any run.
const TTL: i64 = 3_600;

/// Grants.
pub(super) struct Grant;

impl Load for Grant {
    fn prepare<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        let client: Box<dyn Client> = Box::new(Granter(target.lease(number)));
        async { Ok(client) }.boxed()
    }
}

struct Granter(LeaseClient<Channel>);

impl Client for Granter {
    fn once<'a>(&'a mut self, _rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        let request = pb::LeaseGrantRequest { ttl: TTL, id: 0 };
        async move { self.0.lease_grant(request).await.map(drop) }.boxed()
    }
}

/// Renewals.
pub(super) struct KeepAlive;

impl Load for KeepAlive {
    fn prepare<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        async move {
            let mut service = target.lease(number);
            let granted = service.lease_grant(pb::LeaseGrantRequest { ttl: TTL, id: 0 }).await?;
            let id = granted.into_inner().id;
            let (requests, receiver) = mpsc::channel(1);
            // Some servers answer the call with the first message only.
            requests.send(pb::LeaseKeepAliveRequest { id }).await?;
            let answers = service.lease_keep_alive(ReceiverStream::new(receiver)).await?;
            let mut answers = answers.into_inner();
            answers.message().await?.context("the stream ended")?;
            let client: Box<dyn Client> = Box::new(Keeper { id, requests, answers });
            Ok(client)
        }
        .boxed()
    }
}

struct Keeper {
    id: i64,
    requests: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
}

impl Client for Keeper {
    fn once<'a>(&'a mut self, _rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        async move {
            let ended = || Status::unavailable("the keep-alive stream has ended");
            let request = pb::LeaseKeepAliveRequest { id: self.id };
            self.requests.send(request).await.map_err(|_| ended())?;
            match self.answers.message().await? {
                Some(answer) if answer.ttl > 0 => Ok(()),
                Some(_) => Err(Status::not_found("the lease has expired")),
                None => Err(ended()),
            }
        }
        .boxed()
    }
}
