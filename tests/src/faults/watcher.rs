//! Watchers that follow the keys, lose their members, and go on elsewhere.
//!
//! Owns: what is watched and from where; every response is written down. Must not know: whether a
//! response is right. A newcomer's trap: a stream that ends is no cancellation; the watcher has
//! promised itself the next revision and asks another member for it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::cluster::connect;
use super::generator;
use super::record::{event, revision_of};
use super::traffic::{Shared, all, key};
use crate::etcd::WatchStream;
use crate::linear::{Range, Seen, Watch, WatchKind};

/// How long a watcher waits for a response before it asks for progress.
const PATIENCE: Duration = Duration::from_millis(150);
const PAUSE: Duration = Duration::from_millis(20);
const OPEN_LIMIT: Duration = Duration::from_millis(1500);
/// How far from now watches begin.
const OFFSET_MAX: i64 = 200;
/// A watcher moves to another member after about as many responses.
const RESPONSES_A_STAY: u32 = 400;

/// Follows until `goal` is known and reached, or the run has waited long enough. `Err` = it never
/// got there.
pub(super) async fn watcher(
    shared: Shared,
    number: u32,
    goal: watch::Receiver<Option<i64>>,
) -> Result<(), String> {
    let mut random = generator(shared.seed, 2000 + u64::from(number));
    let template = template(&mut random, number);
    let mut watches: Vec<Watch> = Vec::new();
    let mut next = i64::from(number == 0);
    let result = loop {
        let last = *goal.borrow();
        if last.is_some_and(|last| next > last) {
            break Ok(());
        }
        if shared.give_up.is_triggered() {
            break Err(format!("watcher {number} stands at {next}, the last is {last:?}"));
        }
        let endpoint = {
            let cluster = shared.cluster.read().await;
            cluster.endpoint(random.random_range(0..cluster.size()))
        };
        let mut watch = Watch { opened: shared.recorder.now(), start: next, ..template.clone() };
        // The first watch of some begins in the past, of others in the future.
        if next == 0 && !number.is_multiple_of(3) && last.is_none() {
            let offset = random.random_range(-OFFSET_MAX..OFFSET_MAX / 4);
            watch.start = (shared.seen.load(Ordering::Relaxed) + offset).max(1);
        }
        let stay = random.random_range(1..2 * RESPONSES_A_STAY);
        if let Some(mut stream) = open(&endpoint, &watch).await {
            follow(&shared, &mut stream, &mut watch, &goal, stay).await;
            next = next.max(following(&watch));
            watches.push(watch);
        }
        tokio::time::sleep(PAUSE).await;
    };
    shared.recorder.add_watches(watches);
    result
}

/// What a watcher asks for, but for the start. The first one sees everything.
fn template(random: &mut StdRng, number: u32) -> Watch {
    let some = random.random_range(0..8);
    let range = match number % 4 {
        0 | 1 => all(),
        2 => Range::one(&key(some)),
        _ => Range::span(&key(some), &key(some + 3)),
    };
    let mut watch = Watch::new(number, range, 0, 0);
    if number > 0 {
        watch.fragment = random.random();
        watch.prev_kv = random.random_range(0..4) > 0;
        watch.no_put = random.random_range(0..8) == 0;
        watch.no_delete = random.random_range(0..8) == 0;
    }
    watch
}

async fn open(endpoint: &str, watch: &Watch) -> Option<WatchStream> {
    let client = connect(endpoint).await?;
    let wire = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let filters = [watch.no_put, watch.no_delete];
    let create = pb::WatchCreateRequest {
        key: wire(&watch.range.key),
        range_end: watch.range.end.as_deref().map(wire).unwrap_or_default(),
        start_revision: watch.start,
        prev_kv: watch.prev_kv,
        fragment: watch.fragment,
        filters: (0..2).filter(|at| filters[*at as usize]).collect(),
        ..Default::default()
    };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let opening = async { client.watch(&[create]).await };
    tokio::time::timeout(OPEN_LIMIT, opening).await.ok()?.ok()
}

/// Writes responses down until the stream ends, `stay` are enough, or the goal is reached.
async fn follow(
    shared: &Shared,
    stream: &mut WatchStream,
    watch: &mut Watch,
    goal: &watch::Receiver<Option<i64>>,
    stay: u32,
) {
    for _ in 0..stay {
        if goal.borrow().is_some_and(|last| following(watch) > last)
            || shared.give_up.is_triggered()
        {
            return;
        }
        match tokio::time::timeout(PATIENCE, stream.next()).await {
            Err(_) => {
                let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                if !stream.offer(pb::WatchRequest { request_union: Some(progress) }).await {
                    return;
                }
            }
            Ok(Err(_)) => return,
            Ok(Ok(response)) => {
                let canceled = response.canceled;
                record(shared, watch, response);
                if watch.watcher == 0 {
                    shared.collected.fetch_max(following(watch) - 1, Ordering::Relaxed);
                }
                if canceled {
                    return;
                }
            }
        }
    }
}

fn record(shared: &Shared, watch: &mut Watch, response: pb::WatchResponse) {
    let (at, revision) = (shared.recorder.now(), revision_of(response.header));
    let mut push = |kind| watch.seen.push(Seen { at, revision, kind });
    if response.created {
        push(WatchKind::Created);
    }
    if response.canceled {
        push(WatchKind::Canceled(response.compact_revision, response.cancel_reason));
    } else if !response.events.is_empty() {
        let events = response.events.into_iter().map(event).collect();
        push(WatchKind::Events(events, response.fragment));
    } else if !response.created {
        push(WatchKind::Progress);
    }
}

/// The first revision that this watch has not shown.
fn following(watch: &Watch) -> i64 {
    let mut next = watch.start;
    for seen in &watch.seen {
        let after = match &seen.kind {
            WatchKind::Created if watch.start == 0 => seen.revision + 1,
            WatchKind::Created => 0,
            // What follows of this revision is asked for again.
            WatchKind::Events(events, true) => events.last().map_or(0, |event| event.revision),
            WatchKind::Events(events, false) => events.last().map_or(0, |event| event.revision + 1),
            WatchKind::Progress => seen.revision + 1,
            WatchKind::Canceled(compacted, _) => *compacted,
        };
        next = next.max(after);
    }
    next
}
