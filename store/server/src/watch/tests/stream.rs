//! A stream with its loop, between two channels.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kijabi_base::limits::WATCH_STREAM_QUEUE_MAX;
use kijabi_base::tasks::{self, Shutdown};
use kijabi_proto::etcdserverpb::{WatchRequest, WatchResponse};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::super::asker::Asker;
use super::super::stream::{Terms, open};
use super::{World, create, messages, progress, put, request};
use crate::store::Standing;

/// A client on a channel instead of a socket.
struct Client {
    requests: mpsc::Sender<Result<WatchRequest, Status>>,
    responses: mpsc::Receiver<Result<WatchResponse, Status>>,
    standing: watch::Sender<Standing>,
    shutdown: Shutdown,
}

fn connect(world: &World, leader_grace: Option<Duration>) -> Client {
    let (requests, incoming) = mpsc::channel(64);
    let (outgoing, responses) = mpsc::channel(1);
    let (standing, follow) = watch::channel(Standing { leader: 1, ..Default::default() });
    let shutdown = Shutdown::new();
    let terms = Terms {
        progress_interval: Duration::from_secs(600),
        leader_grace,
        standing: follow,
        shutdown: shutdown.clone(),
        asker: Asker::member(),
    };
    let mut stream = open(world.source.clone(), terms, ReceiverStream::new(incoming));
    tasks::spawn("client", async move {
        while let Some(frame) = stream.frame().await {
            let frame = frame.unwrap();
            let responses = match frame.into_data() {
                Ok(piece) => messages(&piece).into_iter().map(Ok).collect(),
                Err(end) => {
                    vec![Err(Status::from_header_map(end.trailers_ref().unwrap()).unwrap())]
                }
            };
            for response in responses {
                if outgoing.send(response).await.is_err() {
                    return;
                }
            }
        }
    });
    Client { requests, responses, standing, shutdown }
}

/// E10: a client that never reads costs a bounded amount of memory, and loses nothing.
#[tokio::test]
async fn a_client_that_reads_late_gets_everything_once() {
    const PUTS: i64 = 3000;
    let mut world = World::new();
    let mut client = connect(&world, None);
    client.requests.send(Ok(request(create("a", "", 1)))).await.unwrap();
    assert!(client.responses.recv().await.unwrap().unwrap().created);
    for value in 0..PUTS {
        world.put("a", &value.to_string());
        if value % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = Vec::new();
    while seen.len() < PUTS as usize {
        let response = client.responses.recv().await.unwrap().unwrap();
        seen.extend(response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    assert_eq!(seen, (2..2 + PUTS).collect::<Vec<_>>());
}

/// More responses at once than a stream holds: it goes on when they were taken.
#[tokio::test]
async fn a_stream_that_was_full_goes_on() {
    const WATCHES: usize = WATCH_STREAM_QUEUE_MAX + 70;
    let mut world = World::new();
    let mut client = connect(&world, None);
    for _ in 0..WATCHES {
        client.requests.send(Ok(request(create("a", "", 0)))).await.unwrap();
        assert!(client.responses.recv().await.unwrap().unwrap().created);
    }
    for value in ["1", "2"] {
        world.put("a", value);
        for _ in 0..WATCHES {
            let response = client.responses.recv().await.unwrap().unwrap();
            assert_eq!(response.events.len(), 1);
        }
        client.requests.send(Ok(progress())).await.unwrap();
        assert_eq!(client.responses.recv().await.unwrap().unwrap().watch_id, -1);
    }
}

/// A stream that was up to date reads history when the ring has lost what it missed.
#[tokio::test]
async fn a_stream_that_lives_through_a_snapshot_loses_nothing() {
    let mut world = World::new();
    let mut client = connect(&world, None);
    client.requests.send(Ok(request(create("a", "", 0)))).await.unwrap();
    assert!(client.responses.recv().await.unwrap().unwrap().created);
    world.put("a", "published");
    assert_eq!(client.responses.recv().await.unwrap().unwrap().events.len(), 1);
    world.apply_unpublished(put("a", "in the snapshot"), false);
    world.source.hub.reset(3);
    let response = client.responses.recv().await.unwrap().unwrap();
    assert_eq!(response.events[0].kv.as_ref().unwrap().value, "in the snapshot");
    world.put("a", "published again");
    let response = client.responses.recv().await.unwrap().unwrap();
    assert_eq!(response.events[0].kv.as_ref().unwrap().mod_revision, 4);
}

#[tokio::test]
async fn a_stream_ends_when_the_member_stops_or_its_leader_is_gone() {
    let world = World::new();
    let mut client = connect(&world, None);
    client.shutdown.trigger();
    let status = client.responses.recv().await.unwrap().unwrap_err();
    assert_eq!(status.message(), "etcdserver: server stopped");
    let mut client = connect(&world, Some(Duration::from_millis(1)));
    client.standing.send(Standing::default()).unwrap();
    let status = client.responses.recv().await.unwrap().unwrap_err();
    assert_eq!(status.message(), "etcdserver: no leader");
    assert!(client.responses.recv().await.is_none());
}
