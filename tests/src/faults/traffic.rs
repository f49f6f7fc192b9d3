//! Clients that read and write until they are told to stop.
//!
//! Owns: what is asked for, and where. Must not know: which faults there are. A newcomer's trap: no
//! request is ever sent twice; a client whose request has an unknown fate goes on with another.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kijabi_base::tasks::Shutdown;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::RwLock;

use super::cluster::{Cluster, connect};
use super::generator;
use super::record::{Recorder, ask};
use crate::etcd::Client;
use crate::linear::{Answer, Condition, Field, Op, Range, Request};

/// Keys there are.
const KEYS: u64 = 10;
/// How long a client waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(1500);
/// How long it waits before it looks for another member.
const PAUSE: Duration = Duration::from_millis(20);
/// How far reads of the past go.
const PAST_MAX: i64 = 400;

/// What everybody shares.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) cluster: Arc<RwLock<Cluster>>,
    pub(super) recorder: Recorder,
    /// The highest revision that anybody has seen.
    pub(super) seen: Arc<AtomicI64>,
    /// The revision up to which one watcher has seen everything. Nothing after it is compacted:
    /// without that watcher nobody could tell which request of unknown fate did what.
    pub(super) collected: Arc<AtomicI64>,
    /// Clients and faults end.
    pub(super) stop: Shutdown,
    /// Watchers end, whether or not they have seen everything.
    pub(super) give_up: Shutdown,
    pub(super) seed: u64,
}

/// A key by number.
pub(super) fn key(number: u64) -> String {
    format!("k{number:02}")
}

/// All keys.
pub(super) fn all() -> Range {
    Range::span("k", "l")
}

/// One client: asks until the run stops.
pub(super) async fn client(shared: Shared, number: u32) {
    let mut random = generator(shared.seed, 1000 + u64::from(number));
    let mut member = number as usize;
    let mut values = 0;
    // What this client last knew of each key's revision: its compare-and-set sometimes succeeds.
    let mut known = [0_i64; KEYS as usize];
    while !shared.stop.is_triggered() {
        let (endpoint, session) = {
            let cluster = shared.cluster.read().await;
            member = (member + 1) % cluster.size();
            (cluster.endpoint(member), cluster.session(member))
        };
        let Some(client) = connect(&endpoint).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while !shared.stop.is_triggered() {
            values += 1;
            let request = draw(&mut random, &shared, &known, format!("{number}.{values}"));
            let request_copy = request.clone();
            let who = (number, session);
            match ask(&client, &shared.recorder, who, request, ANSWER_LIMIT).await {
                Ok(answer) => learn(&shared, &mut known, &request_copy, &answer),
                Err(()) => break,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn draw(random: &mut StdRng, shared: &Shared, known: &[i64], value: String) -> Request {
    let number = random.random_range(0..KEYS);
    let one = Range::one(&key(number));
    let put = || Op::Put(key(number).into(), value.as_str().into());
    let read = |range, revision, serializable| Request::Range { range, revision, serializable };
    let seen = shared.seen.load(Ordering::Relaxed);
    match random.random_range(0..100) {
        0..28 => read(one, 0, false),
        28..34 => read(all(), 0, false),
        34..42 => read(one, 0, true),
        42..45 => read(all(), 0, true),
        45..51 => {
            let revision = seen - random.random_range(-2..PAST_MAX);
            read(if random.random() { one } else { all() }, revision.max(1), random.random())
        }
        51..76 => Request::Txn(vec![], vec![put()], vec![]),
        76..83 => Request::Txn(vec![], vec![Op::Delete(one)], vec![]),
        83..95 => {
            let number = known[number as usize];
            let condition = Condition { key: one.key.clone(), field: Field::Modified, number };
            Request::Txn(vec![condition], vec![put()], vec![Op::Get(one)])
        }
        95..99 => {
            let other = key((number + 1) % KEYS);
            let third = Range::one(&key((number + 2) % KEYS));
            let ops = vec![put(), Op::Put(other.into(), value.as_str().into()), Op::Delete(third)];
            Request::Txn(vec![], ops, vec![])
        }
        _ => {
            let end = key((number + 2).min(KEYS));
            Request::Txn(vec![], vec![Op::Delete(Range::span(&one.key, &end))], vec![])
        }
    }
}

fn learn(shared: &Shared, known: &mut [i64], request: &Request, answer: &Answer) {
    let revision = match answer {
        Answer::Range(revision, kvs) => {
            for kv in kvs {
                let number = kv.key[1..].parse().unwrap_or(0_usize);
                known[number] = known[number].max(kv.modified);
            }
            *revision
        }
        Answer::Txn(revision, holds, _) => {
            if let (true, Request::Txn(_, then, _)) = (holds, request)
                && let [Op::Put(key, _), ..] = then.as_slice()
            {
                known[key[1..].parse().unwrap_or(0_usize)] = *revision;
            }
            *revision
        }
        Answer::Compact(_) | Answer::Refused(_) => 0,
    };
    shared.seen.fetch_max(revision, Ordering::Relaxed);
}

/// Reads everything once, linearizably, at `member`: this request has a place in the history like
/// any other. Returns the revision, `None` if the member did not answer.
pub(super) async fn read_all(shared: &Shared, member: usize) -> Option<i64> {
    let (endpoint, session) = {
        let cluster = shared.cluster.read().await;
        (cluster.endpoint(member), cluster.session(member))
    };
    let client: Client = connect(&endpoint).await?;
    let request = Request::Range { range: all(), revision: 0, serializable: false };
    let who = (u32::MAX - member as u32, session);
    match ask(&client, &shared.recorder, who, request, ANSWER_LIMIT * 4).await {
        Ok(Answer::Range(revision, _)) => Some(revision),
        _ => None,
    }
}
